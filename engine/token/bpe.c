/* SPDX-License-Identifier: Apache-2.0
 *
 * Byte-level BPE: words from the pre-tokenizer, bytes as symbols, pairs joined by the rank of their
 * merge (Sennrich et al., arXiv:1508.07909; bytes as in GPT-2). */
#include "merge.h"
#include "pretoken.h"

#include <string.h>

static uint64_t pair_key(int32_t left, int32_t right) {
	return (uint64_t)(uint32_t)(left + 1) << 32 | (uint32_t)(right + 1);
}

/* The slot of the pair, or the free one where it belongs. */
static struct merge_slot *find_merge(const struct merge_map *m, uint64_t pair) {
	for (size_t i = vocab_mix(pair, m->secret) >> m->shift;; i = (i + 1) & m->mask) {
		struct merge_slot *slot = &m->slots[i];
		if (slot->pair == 0 || slot->pair == pair) {
			return slot;
		}
	}
}

/* A merge's two halves as byte strings, one after the other in buf[s->bytes]. */
static bool split_merge(const struct gguf_string *s, char *buf, size_t *left, size_t *right) {
	const char *space = s->bytes > 2 ? memchr(s->data + 1, ' ', s->bytes - 1) : NULL;
	if (space == NULL) {
		return false;
	}
	const size_t l = (size_t)(space - s->data);
	const long n_left = vocab_decode_symbols(s->data, l, buf);
	if (n_left <= 0) {
		return false;
	}
	const long n_right = vocab_decode_symbols(space + 1, s->bytes - l - 1, buf + n_left);
	*left = (size_t)n_left;
	*right = n_right > 0 ? (size_t)n_right : 0;
	return n_right > 0;
}

static bool add_merge(struct tokenizer *t, uint32_t rank, const struct gguf_string *s, char *buf,
	struct bb_error *err) {
	char shown[BASE_SHOWN];
	size_t l, r;
	if (!split_merge(s, buf, &l, &r)) {
		return base_fail(err, BB_ERR_FORMAT, "tokenizer.ggml.merges: expected two pieces and a "
			"space between them for merge %u, has \"%s\"", rank,
			base_show(s->data, s->bytes, shown, sizeof(shown)));
	}
	const int32_t left = vocab_find(t, buf, l), right = vocab_find(t, buf + l, r);
	const int32_t both = vocab_find(t, buf, l + r);
	if (left < 0 || right < 0 || both < 0) {
		return base_fail(err, BB_ERR_FORMAT, "tokenizer.ggml.merges: expected pieces of the "
			"vocabulary that join to another for merge %u, has \"%s\"", rank,
			base_show(s->data, s->bytes, shown, sizeof(shown)));
	}
	struct merge_slot *slot = find_merge(&t->merges, pair_key(left, right));
	if (slot->pair == 0) { /* of equal merges the first counts */
		*slot = (struct merge_slot){ pair_key(left, right), rank, both };
	}
	return true;
}

bool bpe_load(struct tokenizer *t, const struct gguf *g, struct bb_error *err) {
	const struct gguf_kv *kv = gguf_find(g, "tokenizer.ggml.merges");
	if (kv == NULL || kv->type != GGUF_ARRAY || kv->elem != GGUF_STRING || kv->n >= UINT32_MAX) {
		return base_fail(err, BB_ERR_FORMAT,
			"tokenizer.ggml.merges: expected an array of strings with model \"gpt2\"");
	}
	size_t n_slots = 16, longest = 1;
	for (uint64_t i = 0; i < kv->n; i++) {
		longest = kv->strings[i].bytes > longest ? kv->strings[i].bytes : longest;
	}
	while (n_slots < 2 * kv->n) {
		n_slots *= 2;
	}
	t->merges.slots = base_alloc(n_slots, sizeof(*t->merges.slots));
	t->merges.mask = n_slots - 1;
	t->merges.shift = __builtin_clzll(n_slots) + 1;
	t->merges.secret = t->secret;
	char *buf = base_alloc(longest, 1);
	bool ok = t->merges.slots != NULL && buf != NULL;
	if (!ok) {
		base_no_memory(err, "merges", n_slots * sizeof(*t->merges.slots));
	}
	for (uint64_t i = 0; ok && i < kv->n; i++) {
		ok = add_merge(t, (uint32_t)i, &kv->strings[i], buf, err);
	}
	for (int i = 0; ok && i < 256; i++) {
		const char byte = (char)i;
		t->byte_id[i] = vocab_find(t, &byte, 1);
	}
	base_free(buf);
	return ok;
}

static inline bool pair(const struct tokenizer *t, const char *text, const struct merge_symbol *l,
	const struct merge_symbol *r, uint32_t *rank, int32_t *id) {
	const uint64_t key = pair_key(l->id, r->id);
	const struct merge_slot *slot = find_merge(&t->merges, key);
	*rank = slot->rank;
	*id = slot->id;
	return slot->pair == key && l->id >= 0 && r->id >= 0;
}

/* Bytes without a symbol in the vocabulary keep their neighbours apart and are left out. */
static bool encode_word(const struct tokenizer *t, const char *word, size_t bytes,
	struct merge_work *w, struct bb_tokens *out, struct bb_error *err) {
	if (bytes == 1 || pretoken_ignores_merges(t->pretoken)) {
		const int32_t whole = bytes == 1 ? t->byte_id[(uint8_t)*word] : vocab_find(t, word, bytes);
		if (whole >= 0 || bytes == 1) {
			out->n_lost += whole < 0;
			return whole < 0 || bb_tokens_push(out, whole, err);
		}
	}
	if (!merge_reserve(w, bytes, err)) {
		return false;
	}
	for (size_t i = 0; i < bytes; i++) {
		merge_add(w, (uint32_t)i, 1, t->byte_id[(uint8_t)word[i]]);
	}
	merge_run(w, t, word, pair);
	for (int32_t i = 0; i >= 0; i = w->symbols[i].next) {
		const int32_t id = w->symbols[i].id;
		out->n_lost += id < 0 ? w->symbols[i].bytes : 0;
		if (id >= 0 && !bb_tokens_push(out, id, err)) {
			return false;
		}
	}
	return true;
}

bool bpe_encode(const struct tokenizer *t, const char *text, size_t bytes, struct merge_work *w,
	struct bb_tokens *out, struct bb_error *err) {
	struct pretoken_scan scan;
	bool ok = pretoken_start(&scan, t->pretoken, text, bytes, err);
	while (ok && scan.at < bytes) {
		const size_t start = scan.at;
		size_t end;
		ok = pretoken_next(&scan, &end, err)
			&& encode_word(t, text + start, end - start, w, out, err);
	}
	pretoken_stop(&scan);
	return ok;
}
