/* SPDX-License-Identifier: Apache-2.0
 *
 * RWKV's World tokenizer: from the text's beginning on the longest token that fits, each time. A
 * GGUF file holds its tokens, which are any bytes, as Python writes them between quotes. */
#include "vocab.h"

#include <string.h>

/* ---- escapes ---- */

static int hex_digit(char c) {
	return c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* The byte of the escape at p[bytes], which begins behind the backslash, or -1; *n: how long. */
static int escaped_byte(const char *p, size_t bytes, size_t *n) {
	static const char names[] = "tnr\\'\"", meant[] = "\t\n\r\\'\"";
	*n = 1;
	if (bytes >= 3 && p[0] == 'x') {
		const int high = hex_digit(p[1]), low = hex_digit(p[2]);
		*n = 3;
		return high < 0 || low < 0 ? -1 : high << 4 | low;
	}
	const char *name = bytes > 0 && p[0] != '\0' ? strchr(names, p[0]) : NULL;
	return name != NULL ? meant[name - names] : -1;
}

long world_unescape(const char *p, size_t bytes, char *dst) {
	long n = 0;
	for (size_t i = 0; i < bytes;) {
		size_t step = 1;
		int byte = (uint8_t)p[i++];
		if (byte == '\\') {
			byte = escaped_byte(p + i, bytes - i, &step);
			if (byte < 0) {
				return -1;
			}
			i += step;
		}
		dst[n++] = (char)byte;
	}
	return n;
}

/* ---- tokens ---- */

/* Padding has no text that could be met; added tokens are found before. */
static bool is_word(const struct tokenizer *t, int32_t id) {
	return t->type[id] == VOCAB_NORMAL || t->type[id] == VOCAB_BYTE ||
		t->type[id] == VOCAB_UNDEFINED;
}

bool world_load(struct tokenizer *t, struct bb_error *err) {
	size_t bytes = 0;
	for (int32_t id = 0; id < t->n_vocab; id++) {
		const struct gguf_string s = vocab_piece(t, id);
		bytes += is_word(t, id) ? s.bytes : 0;
		if (is_word(t, id) && s.bytes > WORLD_MAX) {
			return base_fail(err, BB_ERR_UNSUPPORTED, "tokenizer.ggml.tokens: expected tokens of "
				"at most %d bytes, token %d has %zu", (int)WORLD_MAX, id, s.bytes);
		}
	}
	if (!trie_create(&t->words, bytes, t->secret, "tokens", err)) {
		return false;
	}
	for (int32_t id = 0; id < t->n_vocab; id++) {
		const struct gguf_string s = vocab_piece(t, id);
		if (is_word(t, id) && s.bytes > 0 && !trie_insert(&t->words, &s, id, err)) {
			return false;
		}
	}
	return true;
}

bool world_encode(const struct tokenizer *t, const char *text, size_t bytes, struct bb_tokens *out,
	struct bb_error *err) {
	for (size_t i = 0; i < bytes;) {
		int32_t id = t->unknown;
		size_t longest = 1;
		uint32_t node = 0;
		for (size_t n = 1; i + n <= bytes; n++) {
			node = trie_child(&t->words, node, (uint8_t)text[i + n - 1]);
			if (node == 0) {
				break;
			}
			if (t->words.token[node] >= 0) {
				id = t->words.token[node];
				longest = n;
			}
		}
		out->n_lost += id < 0;
		if (id >= 0 && !bb_tokens_push(out, id, err)) {
			return false;
		}
		i += longest;
	}
	return true;
}
