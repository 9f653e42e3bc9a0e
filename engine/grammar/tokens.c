/* SPDX-License-Identifier: Apache-2.0
 *
 * The trie is read off the sorted texts: a text shares with the one before it what both begin
 * with. */
#include "tokens.h"

#include <stdlib.h>
#include <string.h>

struct text {
	const char *data;
	uint32_t bytes;
	int32_t id;
};

struct gguf_string token_tree_text(const struct tokenizer *t, int32_t id, bool *is_mark) {
	struct gguf_string piece = tokenizer_piece(t, id, false);
	*is_mark = piece.bytes == 0 && tokenizer_is_control(t, id);
	return *is_mark ? tokenizer_piece(t, id, true) : piece;
}

static int by_bytes(const void *a, const void *b) {
	const struct text *s = a, *t = b;
	const int order = memcmp(s->data, t->data, s->bytes < t->bytes ? s->bytes : t->bytes);
	return order != 0 ? order : s->bytes != t->bytes ? (s->bytes > t->bytes ? 1 : -1)
		: (s->id > t->id) - (s->id < t->id);
}

static uint32_t common(const struct text *s, const struct text *t) {
	uint32_t n = 0;
	while (n < s->bytes && n < t->bytes && s->data[n] == t->data[n]) {
		n++;
	}
	return n;
}

/* Texts of tokens that can stand in a text, sorted; end tokens aside. marks: where the texts of
 * control tokens are put together, the caller's. */
static bool list_texts(const struct tokenizer *tok, struct token_tree *t, struct text *texts,
	struct bb_text *marks, struct bb_error *err) {
	const int32_t n_known = tokenizer_n_vocab(tok);
	bool is_mark;
	for (int32_t id = 0; id < n_known && id < t->n_vocab; id++) {
		const struct gguf_string piece = token_tree_text(tok, id, &is_mark);
		if (is_mark && (!base_append(marks, TOKENS_MARK, 1, err) ||
			!base_append(marks, piece.data, piece.bytes, err))) {
			return false;
		}
	}
	size_t at = 0; /* in marks, which don't move any more */
	for (int32_t id = 0; id < n_known && id < t->n_vocab; id++) {
		const struct gguf_string piece = token_tree_text(tok, id, &is_mark);
		const size_t bytes = piece.bytes + is_mark;
		if (tokenizer_is_eog(tok, id)) {
			t->ends[t->n_ends++] = id;
		} else if (piece.bytes > 0 && bytes < UINT16_MAX) {
			texts[t->n_ids++] = (struct text){ is_mark ? marks->data + at : piece.data,
				(uint32_t)bytes, id };
		}
		at += is_mark ? bytes : 0;
	}
	qsort(texts, t->n_ids, sizeof(*texts), by_bytes);
	return true;
}

static bool alloc_nodes(struct token_tree *t, size_t n, struct bb_error *err) {
	t->byte = base_alloc(n, sizeof(*t->byte));
	t->depth = base_alloc(n, sizeof(*t->depth));
	t->end = base_alloc(n, sizeof(*t->end));
	t->first = base_alloc(n + 1, sizeof(*t->first));
	t->ids = base_alloc(t->n_ids, sizeof(*t->ids));
	return (t->byte != NULL && t->depth != NULL && t->end != NULL && t->first != NULL &&
		t->ids != NULL) || base_no_memory(err, "vocabulary's trie", n * sizeof(*t->end));
}

/* Nodes in preorder; open[d]: the node at depth d that is not closed yet. */
static void build(struct token_tree *t, const struct text *texts, uint32_t *open) {
	uint32_t depth = 0, n = 1;
	open[0] = 0;
	for (uint32_t i = 0; i < t->n_ids; i++) {
		const uint32_t shared = i > 0 ? common(&texts[i - 1], &texts[i]) : 0;
		for (; depth > shared; depth--) {
			t->end[open[depth]] = n;
		}
		while (depth < texts[i].bytes) {
			t->byte[n] = (uint8_t)texts[i].data[depth++];
			t->depth[n] = (uint16_t)depth;
			t->first[n] = i;
			open[depth] = n++;
		}
		t->ids[i] = texts[i].id;
	}
	for (;; depth--) {
		t->end[open[depth]] = n;
		if (depth == 0) {
			break;
		}
	}
	t->first[n] = t->n_ids;
}

bool token_tree_create(struct token_tree **out, const struct tokenizer *tok, int n_vocab,
	struct bb_error *err) {
	struct token_tree *t = base_alloc(1, sizeof(*t));
	struct text *texts = base_alloc((size_t)n_vocab, sizeof(*texts));
	uint32_t *open = base_alloc(UINT16_MAX + 1, sizeof(*open));
	struct bb_text marks = { 0 };
	bool ok = false;
	*out = t;
	if (t != NULL) {
		t->n_vocab = n_vocab;
		t->n_words = (n_vocab + 31) / 32;
		t->ends = base_alloc((size_t)n_vocab, sizeof(*t->ends));
	}
	if (t == NULL || texts == NULL || open == NULL || t->ends == NULL) {
		base_no_memory(err, "vocabulary's trie", (size_t)n_vocab * sizeof(*texts));
		goto done;
	}
	if (!list_texts(tok, t, texts, &marks, err)) {
		goto done;
	}
	size_t n = 1;
	for (uint32_t i = 0; i < t->n_ids; i++) {
		const uint32_t shared = i > 0 ? common(&texts[i - 1], &texts[i]) : 0;
		n += texts[i].bytes - shared;
		t->max_depth = (int)texts[i].bytes > t->max_depth ? (int)texts[i].bytes : t->max_depth;
	}
	t->n_nodes = (uint32_t)n;
	ok = alloc_nodes(t, n, err);
	if (ok) {
		build(t, texts, open);
	}
done:
	bb_text_finish(&marks);
	base_free(texts);
	base_free(open);
	if (!ok) {
		token_tree_destroy(t);
		*out = NULL;
	}
	return ok;
}

void token_tree_destroy(struct token_tree *t) {
	if (t != NULL) {
		base_free(t->byte);
		base_free(t->depth);
		base_free(t->end);
		base_free(t->first);
		base_free(t->ids);
		base_free(t->ends);
		base_free(t);
	}
}
