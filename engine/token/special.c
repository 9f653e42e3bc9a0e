/* SPDX-License-Identifier: Apache-2.0
 *
 * Added tokens (control, unknown, user-defined) in running text: a trie finds where one may start,
 * and the longest wins wherever they overlap, whichever comes first. */
#include "merge.h"

#include <string.h>

enum { MAX_NODES = 1 << 24 };

static bool is_special(uint8_t type) {
	return type == VOCAB_CONTROL || type == VOCAB_UNKNOWN || type == VOCAB_USER_DEFINED;
}

/* The slot of the edge, or the free one where it belongs. */
static uint64_t *find_edge(const struct special_trie *s, uint32_t node, uint8_t byte) {
	const uint64_t key = (uint64_t)node << 8 | byte;
	for (size_t i = vocab_mix(key, s->secret) >> s->shift;; i = (i + 1) & s->mask) {
		uint64_t *slot = &s->edges[i];
		if (*slot == 0 || *slot >> 32 == key) {
			return slot;
		}
	}
}

uint32_t special_trie_child(const struct special_trie *s, uint32_t node, uint8_t byte) {
	return (uint32_t)*find_edge(s, node, byte);
}

bool special_trie_insert(struct special_trie *s, const struct gguf_string *text, int32_t id,
	struct bb_error *err) {
	const uint8_t *u = (const uint8_t *)text->data;
	uint32_t node = 0;
	for (size_t i = 0; i < text->bytes; i++) {
		uint64_t *edge = find_edge(s, node, u[i]);
		if (*edge == 0) {
			s->token[s->n_nodes] = -1;
			*edge = ((uint64_t)node << 8 | u[i]) << 32 | s->n_nodes++;
		}
		node = (uint32_t)*edge;
	}
	if (s->token[node] >= 0) {
		return base_fail(err, BB_ERR_FORMAT,
			"tokenizer.ggml.tokens: expected different texts, tokens %d and %d have the same",
			s->token[node], id);
	}
	s->token[node] = id;
	s->starts[u[0]] = 1;
	for (int next = 0; next < 256; next++) {
		if (text->bytes == 1 || u[1] == next) {
			const int pair = u[0] << 8 | next;
			s->pairs[pair >> 3] |= (uint8_t)(1 << (pair & 7));
		}
	}
	return true;
}

bool special_trie_create(struct special_trie *s, size_t bytes, uint64_t secret, const char *what,
	struct bb_error *err) {
	size_t n_slots = 16;
	if (bytes >= MAX_NODES) {
		return base_fail(err, BB_ERR_UNSUPPORTED, "tokenizer.ggml.tokens: expected %s of less than "
			"%d bytes together, has %zu", what, MAX_NODES, bytes);
	}
	while (n_slots < 2 * bytes) {
		n_slots *= 2;
	}
	s->edges = base_alloc(n_slots, sizeof(*s->edges));
	s->token = base_alloc(bytes + 1, sizeof(*s->token));
	if (s->edges == NULL || s->token == NULL) {
		return base_no_memory(err, what, n_slots * sizeof(*s->edges));
	}
	s->mask = n_slots - 1;
	s->shift = __builtin_clzll(n_slots) + 1;
	s->secret = secret;
	s->token[0] = -1;
	s->n_nodes = 1;
	return true;
}

bool special_build(struct tokenizer *t, const struct gguf_kv *tokens, struct bb_error *err) {
	struct special_trie *s = &t->special;
	size_t bytes = 0;
	for (int32_t i = 0; i < t->n_vocab; i++) {
		bytes += is_special(t->type[i]) ? tokens->strings[i].bytes : 0;
	}
	if (!special_trie_create(s, bytes, t->secret, "added tokens", err)) {
		return false;
	}
	for (int32_t i = 0; i < t->n_vocab; i++) {
		if (is_special(t->type[i]) && tokens->strings[i].bytes > 0
			&& !special_trie_insert(s, &tokens->strings[i], i, err)) {
			return false;
		}
	}
	return true;
}

void special_finish(struct special_trie *s) {
	base_free(s->edges);
	base_free(s->token);
	s->edges = NULL;
	s->token = NULL;
}

int32_t special_find(const struct special_trie *s, const char *p, size_t bytes) {
	uint32_t node = 0;
	for (size_t i = 0; i < bytes; i++) {
		node = special_trie_child(s, node, (uint8_t)p[i]);
		if (node == 0) {
			return -1;
		}
	}
	return s->token[node];
}

/* Bytes of the longest added token at p that fits in p[bytes]; 0: none. */
static size_t longest_at(const struct tokenizer *t, const char *p, size_t bytes,
	bool parse_special) {
	const struct special_trie *s = &t->special;
	size_t longest = 0;
	uint32_t node = 0;
	for (size_t i = 0; i < bytes; i++) {
		node = special_trie_child(s, node, (uint8_t)p[i]);
		if (node == 0) {
			break;
		}
		const int32_t id = s->token[node];
		if (id >= 0 && (parse_special || t->type[id] == VOCAB_USER_DEFINED)) {
			longest = i + 1;
		}
	}
	return longest;
}

static bool may_start(const struct special_trie *s, const char *p, size_t bytes) {
	const uint8_t first = (uint8_t)p[0];
	if (!s->starts[first]) {
		return false;
	}
	const int pair = first << 8 | (bytes > 1 ? (uint8_t)p[1] : 0);
	return bytes == 1 || (s->pairs[pair >> 3] >> (pair & 7) & 1) != 0;
}

/* Longest first, then leftmost. */
static struct merge_entry candidate(size_t at, size_t bytes) {
	return (struct merge_entry){ (uint64_t)(UINT32_MAX - (uint32_t)bytes) << 32 | (uint32_t)at,
		(uint32_t)bytes, 0 };
}

static bool find_candidates(const struct tokenizer *t, const char *text, size_t bytes,
	bool parse_special, struct merge_heap *found, struct bb_error *err) {
	for (size_t i = 0; i < bytes; i++) {
		if (!may_start(&t->special, text + i, bytes - i)) {
			continue;
		}
		const size_t longest = longest_at(t, text + i, bytes - i, parse_special);
		if (longest > 0) {
			if (!merge_heap_reserve(found, found->n + 1, err)) {
				return false;
			}
			merge_push(found, candidate(i, longest));
		}
	}
	return true;
}

/* A token taken earlier is at least as long as this one, so that an overlap with it covers one of
 * the two ends. Where only the far end is taken, a shorter token may still fit. */
static void resolve(const struct tokenizer *t, const char *text, bool parse_special,
	struct merge_heap *found, uint8_t *mark) {
	while (found->n > 0) {
		const struct merge_entry e = merge_pop(found);
		const size_t at = (uint32_t)e.key, bytes = e.bytes;
		if (mark[at] != 0) {
			continue;
		}
		if (mark[at + bytes - 1] == 0) {
			memset(mark + at, 1, bytes);
			mark[at] = 2;
			continue;
		}
		const size_t shorter = longest_at(t, text + at, bytes - 1, parse_special);
		if (shorter > 0) {
			merge_push(found, candidate(at, shorter));
		}
	}
}

bool special_mark(const struct tokenizer *t, const char *text, size_t bytes, bool parse_special,
	uint8_t **mark, struct bb_error *err) {
	*mark = NULL;
	if (t->special.n_nodes <= 1) {
		return true;
	}
	struct merge_heap found = { 0 };
	bool ok = find_candidates(t, text, bytes, parse_special, &found, err);
	if (ok && found.n > 0) {
		*mark = base_alloc(bytes, 1);
		ok = *mark != NULL || base_no_memory(err, "tokenizer", bytes);
		if (ok) {
			resolve(t, text, parse_special, &found, *mark);
		}
	}
	base_free(found.entries);
	return ok;
}
