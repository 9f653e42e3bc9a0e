/* SPDX-License-Identifier: Apache-2.0
 *
 * Vocabularies for tests; see vocab_builder.h. */
#include "vocab_builder.h"

#include <assert.h>
#include <string.h>

struct vocab_builder vocab;

int vocab_add(const char *text, enum vocab_type type) {
	assert(vocab.n_texts < VOCAB_MAX && strlen(text) < sizeof(vocab.texts[0]));
	strcpy(vocab.texts[vocab.n_texts], text);
	vocab.types[vocab.n_texts] = (int32_t)type;
	vocab.scores[vocab.n_texts] = 0;
	return (int)vocab.n_texts++;
}

int vocab_add_scored(const char *text, float score) {
	const int id = vocab_add(text, VOCAB_NORMAL);
	vocab.scores[id] = score;
	return id;
}

const char *vocab_symbol(int byte) {
	static char utf8[256][3];
	int n_others = 0;
	for (int i = 0; i < 256; i++) {
		const bool prints = (i >= 33 && i <= 126) || (i >= 161 && i <= 172) || i >= 174;
		const int c = prints ? i : 256 + n_others++;
		snprintf(utf8[i], 3, c < 128 ? "%c" : "%c%c", c < 128 ? c : 0xC0 | c >> 6, 0x80 | (c & 63));
	}
	return utf8[byte];
}

void vocab_add_bytes(void) {
	for (int i = 0; i < 256; i++) {
		vocab_add(vocab_symbol(i), VOCAB_NORMAL);
	}
}

int vocab_add_merge(const char *left, const char *right) {
	char both[32];
	snprintf(vocab.merges[vocab.n_merges++], sizeof(vocab.merges[0]), "%s %s", left, right);
	snprintf(both, sizeof(both), "%s%s", left, right);
	return vocab_add(both, VOCAB_NORMAL);
}

void vocab_begin(const char *model, const char *pre) {
	gguf_builder_init(&vocab.gguf);
	gguf_builder_str(&vocab.gguf, "tokenizer.ggml.model", model);
	if (pre != NULL) {
		gguf_builder_str(&vocab.gguf, "tokenizer.ggml.pre", pre);
	}
	vocab.n_texts = vocab.n_merges = 0;
}

static void put_strings(const char *key, size_t n, const void *rows, size_t row_bytes) {
	static struct gguf_string views[VOCAB_MAX];
	for (size_t i = 0; i < n; i++) {
		const char *text = (const char *)rows + i * row_bytes;
		views[i] = (struct gguf_string){ text, strlen(text) };
	}
	gguf_builder_views(&vocab.gguf, key, n, views);
}

void vocab_put(void) {
	put_strings("tokenizer.ggml.tokens", vocab.n_texts, vocab.texts, sizeof(vocab.texts[0]));
	put_strings("tokenizer.ggml.merges", vocab.n_merges, vocab.merges, sizeof(vocab.merges[0]));
	gguf_builder_array(&vocab.gguf, "tokenizer.ggml.token_type", GGUF_I32, vocab.n_texts,
		vocab.types);
	gguf_builder_array(&vocab.gguf, "tokenizer.ggml.scores", GGUF_F32, vocab.n_texts,
		vocab.scores);
}

bool vocab_try(struct tokenizer **t, struct bb_error *err) {
	size_t bytes;
	const uint8_t *image = gguf_builder_end(&vocab.gguf, &bytes);
	struct gguf g;
	*t = NULL;
	if (!gguf_open_memory(&g, image, bytes, err)) {
		return false;
	}
	const bool ok = tokenizer_create(t, &g, err);
	gguf_finish(&g);
	return ok;
}

struct tokenizer *vocab_create(void) {
	struct bb_error err = { .code = BB_OK };
	struct tokenizer *t;
	if (!vocab_try(&t, &err)) {
		fprintf(stderr, "%s\n", err.text);
	}
	assert(t != NULL);
	gguf_builder_finish(&vocab.gguf);
	return t;
}

struct tokenizer *vocab_end(void) {
	vocab_put();
	return vocab_create();
}

/* ---- what comes out, as text ---- */

const char *vocab_print(const struct bb_tokens *ids) {
	static char shown[1 << 16];
	size_t n = 0;
	shown[0] = '\0';
	for (size_t i = 0; i < ids->n && n < sizeof(shown) - 16; i++) {
		n += (size_t)snprintf(shown + n, 16, i == 0 ? "%d" : " %d", ids->ids[i]);
	}
	return shown;
}

struct bb_tokens vocab_encode(const struct tokenizer *t, const void *text, size_t bytes, int how) {
	struct bb_tokens ids = { 0 };
	struct bb_error err = { .code = BB_OK };
	const bool ok = tokenizer_encode(t, text, bytes, (how & VOCAB_ADD) != 0,
		(how & VOCAB_PARSE) != 0, &ids, &err);
	if (!ok) {
		fprintf(stderr, "%s\n", err.text);
	}
	assert(ok);
	return ids;
}

const char *vocab_ids(const struct tokenizer *t, const char *text, int how) {
	struct bb_tokens ids = vocab_encode(t, text, strlen(text), how);
	const char *shown = vocab_print(&ids);
	bb_tokens_finish(&ids);
	return shown;
}

size_t vocab_lost(const struct tokenizer *t, const char *text) {
	struct bb_tokens ids = vocab_encode(t, text, strlen(text), 0);
	const size_t n_lost = ids.n_lost;
	bb_tokens_finish(&ids);
	return n_lost;
}

struct bb_text vocab_bytes(const struct tokenizer *t, const struct bb_tokens *ids) {
	struct bb_text text = { 0 };
	for (size_t i = 0; i < ids->n; i++) {
		const struct gguf_string s = tokenizer_piece(t, ids->ids[i], true);
		assert(base_append(&text, s.data, s.bytes, NULL));
	}
	return text;
}

void vocab_round_trip(const struct tokenizer *t, const void *text, size_t bytes) {
	struct bb_tokens ids = vocab_encode(t, text, bytes, 0);
	struct bb_text back = vocab_bytes(t, &ids);
	assert(back.bytes == bytes);
	assert(bytes == 0 || memcmp(back.data, text, bytes) == 0);
	bb_text_finish(&back);
	bb_tokens_finish(&ids);
}

static uint64_t seed = 1;
uint32_t vocab_draw(uint32_t below) {
	seed = seed * 6364136223846793005u + 1442695040888963407u;
	return (uint32_t)(seed >> 33) % below;
}


bool vocab_has(const char *text) {
	for (size_t i = 0; i < vocab.n_texts; i++) {
		if (strcmp(vocab.texts[i], text) == 0) {
			return true;
		}
	}
	return false;
}

int vocab_add_byte_tokens(void) {
	const int first = (int)vocab.n_texts;
	for (int i = 0; i < 256; i++) {
		char text[8];
		snprintf(text, sizeof(text), "<0x%02X>", i);
		vocab_add(text, VOCAB_BYTE);
	}
	return first;
}
