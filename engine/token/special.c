/* SPDX-License-Identifier: Apache-2.0
 *
 * Added tokens (control, unknown, user-defined) in running text: a trie finds where one may start,
 * and the longest wins wherever they overlap, whichever comes first. */
#include "merge.h"

#include <string.h>

static bool is_special(uint8_t type) {
	return type == VOCAB_CONTROL || type == VOCAB_UNKNOWN || type == VOCAB_USER_DEFINED;
}

bool special_build(struct tokenizer *t, const struct gguf_kv *tokens, struct bb_error *err) {
	struct trie *s = &t->special;
	size_t bytes = 0;
	for (int32_t i = 0; i < t->n_vocab; i++) {
		bytes += is_special(t->type[i]) ? tokens->strings[i].bytes : 0;
	}
	if (!trie_create(s, bytes, t->secret, "added tokens", err)) {
		return false;
	}
	for (int32_t i = 0; i < t->n_vocab; i++) {
		if (is_special(t->type[i]) && tokens->strings[i].bytes > 0
			&& !trie_insert(s, &tokens->strings[i], i, err)) {
			return false;
		}
	}
	return true;
}

/* Bytes of the longest added token at p that fits in p[bytes]; 0: none. */
static size_t longest_at(const struct tokenizer *t, const char *p, size_t bytes,
	bool parse_special) {
	const struct trie *s = &t->special;
	size_t longest = 0;
	uint32_t node = 0;
	for (size_t i = 0; i < bytes; i++) {
		node = trie_child(s, node, (uint8_t)p[i]);
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

static bool may_start(const struct trie *s, const char *p, size_t bytes) {
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
