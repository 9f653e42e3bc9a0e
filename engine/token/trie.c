/* SPDX-License-Identifier: Apache-2.0
 *
 * Tries over tokens' texts. */
#include "vocab.h"

enum { MAX_NODES = 1 << 24 };

/* The slot of the edge, or the free one where it belongs. */
static uint64_t *find_edge(const struct trie *s, uint32_t node, uint8_t byte) {
	const uint64_t key = (uint64_t)node << 8 | byte;
	for (size_t i = vocab_mix(key, s->secret) >> s->shift;; i = (i + 1) & s->mask) {
		uint64_t *slot = &s->edges[i];
		if (*slot == 0 || *slot >> 32 == key) {
			return slot;
		}
	}
}

uint32_t trie_child(const struct trie *s, uint32_t node, uint8_t byte) {
	return (uint32_t)*find_edge(s, node, byte);
}

bool trie_insert(struct trie *s, const struct gguf_string *text, int32_t id,
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

bool trie_create(struct trie *s, size_t bytes, uint64_t secret, const char *what,
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

void trie_finish(struct trie *s) {
	base_free(s->edges);
	base_free(s->token);
	s->edges = NULL;
	s->token = NULL;
}

int32_t trie_find(const struct trie *s, const char *p, size_t bytes) {
	uint32_t node = 0;
	for (size_t i = 0; i < bytes; i++) {
		node = trie_child(s, node, (uint8_t)p[i]);
		if (node == 0) {
			return -1;
		}
	}
	return s->token[node];
}
