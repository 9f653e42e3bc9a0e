/* SPDX-License-Identifier: Apache-2.0
 *
 * SentencePiece's BPE with byte fallback: characters as symbols, the pair whose join has the
 * highest score first, the leftmost among equals. Spaces are U+2581 in the file, spaces here. */
#include "merge.h"

#include <string.h>

static int joint_bit(const char *p, size_t at) {
	return (uint8_t)p[at - 1] << 8 | (uint8_t)p[at];
}

void spm_load(struct tokenizer *t) {
	for (int32_t id = 0; id < t->n_vocab; id++) {
		const struct gguf_string s = vocab_piece(t, id);
		if (s.bytes < 2 || vocab_find(t, s.data, s.bytes) != id) {
			continue;
		}
		for (size_t i = vocab_step(s.data, s.bytes); i < s.bytes;
			i += vocab_step(s.data + i, s.bytes - i)) {
			const int bit = joint_bit(s.data, i);
			t->joints[bit >> 3] |= (uint8_t)(1 << (bit & 7));
		}
	}
}

/* Higher scores first: floats as integers that order the other way round. */
static uint32_t rank_of_score(float score) {
	uint32_t bits;
	memcpy(&bits, &score, sizeof(bits));
	return (bits & 0x80000000u) != 0 ? bits : ~bits & 0x7FFFFFFFu;
}

static inline bool pair(const struct tokenizer *t, const char *text, const struct merge_symbol *l,
	const struct merge_symbol *r, uint32_t *rank, int32_t *id) {
	*id = vocab_find(t, text + l->start, l->bytes + r->bytes);
	if (*id < 0) {
		return false;
	}
	*rank = rank_of_score(t->score[*id]);
	return true;
}

/* A character that is no token: its bytes, or where one has no token either, the unknown token. */
static bool push_bytes(const struct tokenizer *t, const char *p, size_t bytes,
	struct bb_tokens *out, struct bb_error *err) {
	bool has_all = true;
	for (size_t i = 0; i < bytes; i++) {
		has_all = has_all && t->byte_id[(uint8_t)p[i]] >= 0;
	}
	if (!has_all) {
		out->n_lost += t->unknown < 0 ? bytes : 0;
		return t->unknown < 0 || bb_tokens_push(out, t->unknown, err);
	}
	for (size_t i = 0; i < bytes; i++) {
		if (!bb_tokens_push(out, t->byte_id[(uint8_t)p[i]], err)) {
			return false;
		}
	}
	return true;
}

/* A stretch that no merge leaves. */
static bool encode_stretch(const struct tokenizer *t, const char *p, size_t bytes,
	struct merge_work *w, struct bb_tokens *out, struct bb_error *err) {
	if (!merge_reserve(w, bytes, err)) {
		return false;
	}
	for (size_t i = 0; i < bytes;) {
		const size_t step = vocab_step(p + i, bytes - i);
		merge_add(w, (uint32_t)i, (uint32_t)step, -1);
		i += step;
	}
	merge_run(w, t, p, pair);
	for (int32_t i = 0; i >= 0; i = w->symbols[i].next) {
		const struct merge_symbol *s = &w->symbols[i];
		const int32_t id = s->id >= 0 ? s->id : vocab_find(t, p + s->start, s->bytes);
		if (id >= 0 ? !bb_tokens_push(out, id, err)
			: !push_bytes(t, p + s->start, s->bytes, out, err)) {
			return false;
		}
	}
	return true;
}

static bool encode_plain(const struct tokenizer *t, const char *p, size_t bytes,
	struct merge_work *w, struct bb_tokens *out, struct bb_error *err) {
	size_t start = 0;
	for (size_t i = 0; i < bytes;) {
		i += vocab_step(p + i, bytes - i);
		const int bit = i < bytes ? joint_bit(p, i) : 0;
		if (i == bytes || (t->joints[bit >> 3] >> (bit & 7) & 1) == 0) {
			if (!encode_stretch(t, p + start, i - start, w, out, err)) {
				return false;
			}
			start = i;
		}
	}
	return true;
}

bool spm_encode(const struct tokenizer *t, const char *text, size_t bytes, bool prefix_space,
	struct merge_work *w, struct bb_tokens *out, struct bb_error *err) {
	if (!prefix_space && memmem(text, bytes, "\xE2\x96\x81", 3) == NULL) {
		return encode_plain(t, text, bytes, w, out, err);
	}
	struct bb_text copy = { 0 };
	bool ok = !prefix_space || base_append(&copy, " ", 1, err);
	for (size_t i = 0; ok && i < bytes;) {
		const char *at = memmem(text + i, bytes - i, "\xE2\x96\x81", 3);
		const size_t end = at == NULL ? bytes : (size_t)(at - text);
		ok = base_append(&copy, text + i, end - i, err)
			&& (at == NULL || base_append(&copy, " ", 1, err));
		i = at == NULL ? bytes : end + 3;
	}
	ok = ok && encode_plain(t, copy.data, copy.bytes, w, out, err);
	bb_text_finish(&copy);
	return ok;
}
