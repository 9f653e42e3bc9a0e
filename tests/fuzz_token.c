/* SPDX-License-Identifier: Apache-2.0
 *
 * libFuzzer target for the tokenizers. The first byte picks what the others are: a text for one of
 * seven small vocabularies, which must come back from its ids, or a GGUF file whose vocabulary is
 * refused with one sentence or encodes anything. Allocations fail too. Run by tests/fuzz. */
#include "vocab_builder.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerInitialize(int *n_args, char ***args);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes);

#define SPACE "\xE2\x96\x81" /* U+2581 */

enum { N_BPE = 4, N_SPM = 2, WORLD = N_BPE + N_SPM, N_TEXTS, FILES = 7 };
static struct tokenizer *tokenizers[N_TEXTS];

static void begin(int kind) {
	static const char *const pres[] = { "gpt-2", "smollm", "qwen2", "llama3" };
	if (kind < N_BPE) {
		vocab_begin("gpt2", pres[kind]);
		vocab_add_bytes();
		vocab_add_merge("a", "b");
		vocab_add_merge("ab", "a");
		vocab_add_merge("b", "b");
		vocab_add_merge("\xC4\xA0", "a"); /* a space and "a" */
		vocab_add_merge("\xC3\xA3", "\xC4\xA3"); /* bytes E3 and 81 */
	} else if (kind == WORLD) {
		vocab_begin("rwkv", NULL);
		for (int i = 0; i < 256; i++) {
			char text[8];
			snprintf(text, sizeof(text), "\\x%02x", i);
			vocab_add(text, VOCAB_NORMAL);
		}
		static const char *const pieces[] = { "ab", "aba", "abab", "  ", " a", "\\xe3\\x81\\x82",
			"a\\n" };
		for (size_t i = 0; i < COUNT(pieces); i++) {
			vocab_add(pieces[i], VOCAB_NORMAL);
		}
	} else {
		vocab_begin("llama", NULL);
		gguf_builder_bool(&vocab.gguf, "tokenizer.ggml.add_space_prefix", kind == N_BPE);
		vocab_add("<unk>", VOCAB_UNKNOWN);
		vocab_add_byte_tokens();
		static const char *const pieces[] = { "a", "b", "ab", "aba", "bb", SPACE, (SPACE "a"),
			"\xE3\x81\x82", "a\xE3\x81\x82" };
		for (size_t i = 0; i < COUNT(pieces); i++) {
			vocab_add_scored(pieces[i], (float)(i * 7 % 5));
		}
	}
	vocab_add("<a>", VOCAB_CONTROL);
	vocab_add("<a>b<", VOCAB_CONTROL);
	vocab_add("ba", VOCAB_USER_DEFINED);
	vocab_add("\n\n", VOCAB_USER_DEFINED);
	vocab_put();
}

int LLVMFuzzerInitialize(int *n_args, char ***args) {
	const char *folder = NULL;
	for (int i = 1; i < *n_args && folder == NULL; i++) {
		folder = (*args)[i][0] != '-' ? (*args)[i] : NULL;
	}
	for (int kind = 0; kind < N_TEXTS; kind++) {
		begin(kind);
		size_t bytes;
		const uint8_t *image = gguf_builder_end(&vocab.gguf, &bytes);
		char path[4096];
		snprintf(path, sizeof(path), "%s/seed-%d", folder == NULL ? "." : folder, kind);
		FILE *f = folder == NULL ? NULL : fopen(path, "wb");
		if (f != NULL) {
			fputc(FILES, f);
			fwrite(image, 1, bytes, f);
			fclose(f);
		}
		tokenizers[kind] = vocab_create();
	}
	return 0;
}

/* What SPM makes of a text: U+2581 is a space. */
static void normalize(struct bb_text *t) {
	size_t n = 0;
	for (size_t i = 0; i < t->bytes; n++) {
		const bool is_space = t->bytes - i >= 3 && memcmp(t->data + i, "\xE2\x96\x81", 3) == 0;
		t->data[n] = is_space ? ' ' : t->data[i];
		i += is_space ? 3 : 1;
	}
	t->bytes = n;
}

static void stream_back(const struct tokenizer *t, const struct bb_tokens *ids,
	const struct bb_text *want) {
	struct token_stream s = { .started = true };
	struct bb_text out = { 0 };
	for (size_t i = 0; i < ids->n; i++) {
		const size_t before = out.bytes;
		assert(token_stream_push(&s, t, ids->ids[i], true, &out, NULL));
		for (size_t k = before; k < out.bytes;) { /* whole characters each time */
			const int step = base_char(out.data + k, out.bytes - k);
			assert(step > 0);
			k += (size_t)step;
		}
	}
	assert(token_stream_flush(&s, &out, NULL));
	bool is_valid = true;
	for (size_t i = 0; i < want->bytes; i += vocab_step(want->data + i, want->bytes - i)) {
		is_valid = is_valid && base_char(want->data + i, want->bytes - i) > 0;
	}
	assert(!is_valid || (out.bytes == want->bytes
		&& (out.bytes == 0 || memcmp(out.data, want->data, out.bytes) == 0)));
	bb_text_finish(&out);
}

static void encode(const struct tokenizer *t, const char *text, size_t bytes, int how,
	bool comes_back) {
	struct bb_tokens ids = vocab_encode(t, text, bytes, how);
	for (size_t i = 0; i < ids.n; i++) {
		assert(ids.ids[i] >= 0 && ids.ids[i] < tokenizer_n_vocab(t));
	}
	if (comes_back) {
		struct bb_text back = vocab_bytes(t, &ids), want = { 0 };
		assert(base_append(&want, text, bytes, NULL));
		if (strcmp(tokenizer_model_name(t), "llama") == 0) {
			normalize(&want);
		}
		stream_back(t, &ids, &back);
		assert(back.bytes == want.bytes);
		assert(want.bytes == 0 || memcmp(back.data, want.data, want.bytes) == 0);
		bb_text_finish(&want);
		bb_text_finish(&back);
	}
	bb_tokens_finish(&ids);
}

static void fail_encode(const struct tokenizer *t, const char *text, size_t bytes, long at) {
	struct bb_tokens ids = { 0 };
	struct bb_error err = { .code = BB_OK };
	base_fail_alloc_at(at);
	const bool ok = tokenizer_encode(t, text, bytes, true, true, &ids, &err);
	base_fail_alloc_at(0);
	assert(ok || (err.code == BB_ERR_MEMORY && ids.n == 0));
	bb_tokens_finish(&ids);
}

static void read_file(const uint8_t *data, size_t bytes, bool fails) {
	struct gguf g;
	struct tokenizer *t = NULL;
	struct bb_error err = { .code = BB_OK };
	if (!gguf_open_memory(&g, data, bytes, &err)) {
		return;
	}
	base_fail_alloc_at(fails ? 1 + data[bytes - 1] % 24 : 0);
	const bool ok = tokenizer_create(&t, &g, &err);
	base_fail_alloc_at(0);
	gguf_finish(&g);
	assert(ok == (t != NULL) && ok == (err.code == BB_OK));
	assert(ok || (err.text[0] != '\0' && strchr(err.text, '\n') == NULL));
	if (ok && !tokenizer_is_vocabless(t)) {
		encode(t, (const char *)data, bytes, VOCAB_PARSE | VOCAB_ADD, false);
		encode(t, "<a>ab bb\n\n\xE3\x81\x82\xFF", 14, VOCAB_PARSE, false);
	}
	tokenizer_destroy(t);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes) {
	if (bytes < 2) {
		return 0;
	}
	const int kind = data[0] % 8, how = data[0] >> 3 & 1 ? VOCAB_PARSE : 0;
	if (kind >= N_TEXTS) {
		read_file(data + 1, bytes - 1, false);
		read_file(data + 1, bytes - 1, true);
		return 0;
	}
	const struct tokenizer *t = tokenizers[kind];
	encode(t, (const char *)data + 1, bytes - 1, how, kind != N_BPE);
	fail_encode(t, (const char *)data + 1, bytes - 1, 1 + data[bytes - 1] % 12);
	return 0;
}
