/* SPDX-License-Identifier: Apache-2.0
 *
 * Walks of the vocabulary's trie along one expression. */
#include "heads.h"

#include <string.h>

enum {
	NARROW = 400,            /* nodes; so many are walked anew each time */
	MAX_BYTES = 64 << 20,
	MAX_HEADS = 1 << 16,
};

bool heads_init(struct heads *h, struct exprs *x, const struct token_tree *tree,
	struct bb_error *err) {
	memset(h, 0, sizeof(*h));
	h->x = x;
	h->tree = tree;
	h->stack = base_alloc((size_t)tree->max_depth + 1, sizeof(*h->stack));
	h->bits = base_alloc((size_t)tree->n_words, sizeof(*h->bits));
	return (h->stack != NULL && h->bits != NULL) ||
		base_no_memory(err, "grammar", (size_t)tree->n_words * sizeof(*h->bits));
}

void heads_finish(struct heads *h) {
	for (uint32_t i = 0; i < h->n; i++) {
		base_free(h->all[i].bits);
		base_free(h->all[i].ids);
		base_free(h->all[i].crossings);
	}
	base_free(h->all);
	base_free(h->stack);
	base_free(h->bits);
	base_free(h->crossings);
	memset(h, 0, sizeof(*h));
}

static bool no_memory(struct heads *h, size_t bytes) {
	return base_no_memory(&h->x->trouble, "grammar", bytes);
}

static bool add_crossing(struct heads *h, uint32_t node) {
	if (h->n_crossings == h->cap_crossings) {
		const uint32_t cap = 2 * h->cap_crossings + 256;
		uint32_t *grown = base_realloc(h->crossings, cap, sizeof(*grown));
		if (grown == NULL) {
			return no_memory(h, cap * sizeof(*grown));
		}
		h->crossings = grown;
		h->cap_crossings = cap;
	}
	h->crossings[h->n_crossings++] = node;
	return true;
}

/* What expr_step says, without a call where it is known and no search has to tell. */
static inline uint32_t step(struct exprs *x, uint32_t expr, int class) {
	const uint32_t row = x->all[expr].row;
	const uint32_t known = row != 0
		? x->rows[(size_t)(row - 1) * (size_t)x->n_classes + (size_t)class] : 0;
	return known != 0 && (x->all[known - 1].flags & (EXPR_TRICKY | EXPR_LIVE)) != EXPR_TRICKY
		? known - 1 : expr_step(x, expr, class);
}

/* Fills bits and crossings; how many nodes were reached and tokens found. */
static bool walk(struct heads *h, uint32_t expr, int max_depth, uint32_t *n_reached,
	uint32_t *n_tokens) {
	const struct token_tree *const t = h->tree;
	struct exprs *const x = h->x;
	memset(h->bits, 0, (size_t)t->n_words * sizeof(*h->bits));
	h->n_crossings = *n_reached = *n_tokens = 0;
	h->stack[0] = expr;
	for (uint32_t i = 1; i < t->n_nodes;) {
		const int depth = t->depth[i];
		const uint32_t next = depth > max_depth ? EXPR_NONE
			: step(x, h->stack[depth - 1], x->class_of[t->byte[i]]);
		if (next == EXPR_NONE) {
			i = t->end[i];
			continue;
		}
		const uint32_t begin = t->first[i], end = t->first[i + 1];
		for (uint32_t j = begin; j < end; j++) {
			h->bits[t->ids[j] >> 5] |= 1u << (t->ids[j] & 31);
		}
		*n_tokens += end - begin;
		++*n_reached;
		if (!exprs_work(x, 1) ||
			(expr_is_nullable(x, next) && t->end[i] > i + 1 && !add_crossing(h, i))) {
			return false;
		}
		h->stack[depth] = next;
		i++;
	}
	h->n_visits += *n_reached;
	return x->trouble.code == BB_OK;
}

/* A copy of what walk found. */
static bool keep(struct heads *h, struct head *out, uint32_t n_tokens) {
	const size_t words = (size_t)h->tree->n_words;
	*out = (struct head){ .n_crossings = h->n_crossings };
	out->crossings = base_alloc(h->n_crossings, sizeof(*out->crossings));
	if (n_tokens < words) {
		out->ids = base_alloc(n_tokens, sizeof(*out->ids));
	} else {
		out->bits = base_alloc(words, sizeof(*out->bits));
	}
	if (out->crossings == NULL || (out->ids == NULL && out->bits == NULL)) {
		base_free(out->crossings);
		base_free(out->ids);
		base_free(out->bits);
		return no_memory(h, words * sizeof(*out->bits));
	}
	if (h->n_crossings > 0) {
		memcpy(out->crossings, h->crossings, h->n_crossings * sizeof(*out->crossings));
	}
	if (out->bits != NULL) {
		memcpy(out->bits, h->bits, words * sizeof(*out->bits));
	}
	for (size_t i = 0; out->ids != NULL && i < words; i++) {
		for (uint32_t left = h->bits[i]; left != 0; left &= left - 1) {
			out->ids[out->n_ids++] = (int32_t)(32 * i) + __builtin_ctz(left);
		}
	}
	h->bytes += h->n_crossings * sizeof(*out->crossings) +
		(out->bits != NULL ? words : n_tokens) * sizeof(*out->bits);
	return true;
}

static bool make_room(struct heads *h) {
	if (h->n < h->cap) {
		return true;
	}
	const uint32_t cap = 2 * h->cap + 64;
	struct head *all = base_realloc(h->all, cap, sizeof(*all));
	if (all == NULL) {
		return no_memory(h, cap * sizeof(*all));
	}
	h->all = all;
	h->cap = cap;
	return true;
}

const struct head *heads_find(struct heads *h, uint32_t expr) {
	struct exprs *const x = h->x;
	const uint32_t clipped = expr_clip(x, expr);
	const bool is_clipped = clipped != expr;
	const uint32_t known = x->all[clipped].heads[is_clipped];
	uint32_t n_reached, n_tokens;
	if (known != 0) {
		return &h->all[known - 1];
	}
	if (!walk(h, clipped, is_clipped ? EXPR_HORIZON : UINT16_MAX, &n_reached, &n_tokens)) {
		return NULL;
	}
	struct head found = { .is_narrow = n_reached <= NARROW };
	if (!found.is_narrow && (h->bytes >= MAX_BYTES || h->n >= MAX_HEADS)) {
		h->last = (struct head){ .bits = h->bits, .crossings = h->crossings,
			.n_crossings = h->n_crossings };
		return &h->last;
	}
	if (h->n >= MAX_HEADS) {
		h->last = found;
		return &h->last;
	}
	if (!make_room(h) || (!found.is_narrow && !keep(h, &found, n_tokens))) {
		return NULL;
	}
	h->all[h->n++] = found;
	x->all[clipped].heads[is_clipped] = h->n;
	return &h->all[h->n - 1];
}
