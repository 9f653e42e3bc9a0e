/* SPDX-License-Identifier: Apache-2.0
 *
 * Walks of the vocabulary's trie along one expression. */
#include "heads.h"

#include <string.h>

enum {
	NARROW = 400,            /* nodes; so many are walked anew each time */
	SMALL = 100,             /* of so many nodes one is walked before anything else is tried */
	NOT_ONE = UINT32_MAX,    /* instead of a family: there is none */
	MAX_BYTES = 64 << 20,
	MAX_HEADS = 1 << 16,
};

bool heads_init(struct heads *h, struct exprs *x, const struct token_tree *tree,
	struct store *store, struct bb_error *err) {
	memset(h, 0, sizeof(*h));
	h->x = x;
	h->tree = tree;
	h->store = store;
	h->stack = base_alloc((size_t)tree->max_depth + 1, sizeof(*h->stack));
	h->bits = base_alloc((size_t)tree->n_words, sizeof(*h->bits));
	return (h->stack != NULL && h->bits != NULL) ||
		base_no_memory(err, "grammar", (size_t)tree->n_words * sizeof(*h->bits));
}

void heads_finish(struct heads *h) {
	for (uint32_t i = 0; i < h->n; i++) {
		if (!h->all[i].is_stored) {
			base_free(h->all[i].bits);
			base_free(h->all[i].ids);
			base_free(h->all[i].crossings);
		}
	}
	for (uint32_t i = 0; i < h->n_families; i++) {
		counts_destroy(&h->families[i]);
	}
	base_free(h->all);
	base_free(h->families);
	base_free(h->stack);
	base_free(h->bits);
	base_free(h->crossings);
	memset(h, 0, sizeof(*h));
}

size_t heads_bytes(const struct heads *h) {
	return h->bytes + h->cap * sizeof(*h->all) + h->cap_families * sizeof(*h->families) +
		h->cap_crossings * sizeof(*h->crossings) +
		(h->tree != NULL ? (size_t)h->tree->n_words * sizeof(*h->bits) : 0);
}

static bool add_crossing(struct heads *h, uint32_t node) {
	if (h->n_crossings == h->cap_crossings && !exprs_room(h->x, (void **)&h->crossings,
		h->n_crossings, &h->cap_crossings, sizeof(*h->crossings))) {
		return false;
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

/* Fills bits and crossings; how many nodes were reached, and whether that was all and no more than
 * max_reached. False: trouble. */
static bool walk(struct heads *h, uint32_t expr, int max_depth, uint32_t max_reached,
	uint32_t *n_reached, bool *is_whole) {
	const struct token_tree *const t = h->tree;
	struct exprs *const x = h->x;
	memset(h->bits, 0, (size_t)t->n_words * sizeof(*h->bits));
	h->n_crossings = *n_reached = 0;
	h->stack[0] = expr;
	*is_whole = true;
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
		if (++*n_reached > max_reached) {
			*is_whole = false;
			break;
		}
		if ((*n_reached % 8 == 0 && !exprs_work(x, 1)) ||
			(expr_is_nullable(x, next) && t->end[i] > i + 1 && !add_crossing(h, i))) {
			return false;
		}
		h->stack[depth] = next;
		i++;
	}
	return x->trouble.code == BB_OK;
}

/* A copy of bits and crossings; the bytes that it takes. 0: no memory. */
static size_t keep(struct heads *h, struct head *out) {
	const size_t words = (size_t)h->tree->n_words;
	size_t n_tokens = 0;
	for (size_t i = 0; i < words; i++) {
		n_tokens += (size_t)__builtin_popcount(h->bits[i]);
	}
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
		base_no_memory(&h->x->trouble, "grammar", words * sizeof(*out->bits));
		return 0;
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
	return sizeof(*out) + h->n_crossings * sizeof(*out->crossings) +
		(out->bits != NULL ? words : n_tokens) * sizeof(*out->bits);
}

/* ---- families ---- */

static size_t own_bytes(const struct count_family *f) {
	return f->is_stored ? 0 : f->bytes;
}

/* Another grammar's, or by a walk. With one mark: of two, which comes first is each grammar's own
 * affair. */
static bool make_family(struct heads *h, uint32_t marked, const struct count_bounds *bounds,
	struct count_family *out, bool *is_one) {
	struct fingerprint key;
	const bool is_common = h->store != NULL && bounds->n == 1 && store_fingerprint(h->store, h->x,
		marked, (uint64_t)counts_reach_of(bounds->all[0].max), &key);
	*is_one = true;
	if (is_common && store_find_family(h->store, key, out)) {
		return true;
	}
	if (!counts_create(out, h->x, h->tree, marked, bounds, h->stack, is_one)) {
		return false;
	}
	if (is_common && *is_one && !out->asks) {
		store_add_family(h->store, key, out);
	}
	return true;
}

/* The one of a marked expression that knows of all tokens within these bounds, if there is one; as
 * it is, or after a walk. *out NULL: not known without a walk, or none. */
static bool find_family(struct heads *h, uint32_t marked, const struct count_bounds *bounds,
	bool may_walk, const struct count_family **out) {
	const uint32_t known = h->x->all[marked].heads[1];
	*out = NULL;
	if (known == NOT_ONE) {
		return true;
	}
	if (known != 0 && counts_reach(&h->families[known - 1], bounds)) {
		*out = &h->families[known - 1];
		return true;
	}
	if (!may_walk || h->bytes >= MAX_BYTES) {
		return true;
	}
	struct count_family found;
	bool is_one;
	if (!make_family(h, marked, bounds, &found, &is_one)) {
		return false;
	}
	if (!is_one) {
		h->x->all[marked].heads[1] = NOT_ONE;
		return true;
	}
	if (known == 0 && !exprs_room(h->x, (void **)&h->families, h->n_families, &h->cap_families,
		sizeof(*h->families))) {
		counts_destroy(&found);
		return false;
	}
	const uint32_t at = known != 0 ? known - 1 : h->n_families++;
	if (known != 0) {
		h->bytes -= own_bytes(&h->families[at]);
		counts_destroy(&h->families[at]);
	}
	h->families[at] = found;
	h->bytes += own_bytes(&found);
	h->x->all[marked].heads[1] = at + 1;
	*out = &h->families[at];
	return true;
}

/* Fills bits and crossings with those parts of a family that fit. */
static bool put_together(struct heads *h, const struct count_family *f,
	const struct count_bounds *bounds) {
	const size_t words = (size_t)h->tree->n_words;
	memset(h->bits, 0, words * sizeof(*h->bits));
	h->n_crossings = 0;
	for (uint32_t i = 0; i < f->n; i++) {
		const struct count_part *const p = &f->parts[i];
		bool may_end;
		if (!exprs_work(h->x, 1 + p->n_ids / 32 + (p->bits != NULL ? words / 32 : 0))) {
			return false;
		}
		if (!counts_part_fits(h->x, p, bounds, &may_end)) {
			continue;
		}
		for (size_t j = 0; p->bits != NULL && j < words; j++) {
			h->bits[j] |= p->bits[j];
		}
		for (uint32_t j = 0; j < p->n_ids; j++) {
			h->bits[p->ids[j] >> 5] |= 1u << (p->ids[j] & 31);
		}
		for (uint32_t j = 0; may_end && j < p->n_crossings; j++) {
			if (!add_crossing(h, p->crossings[j])) {
				return false;
			}
		}
	}
	return h->x->trouble.code == BB_OK;
}

/* ---- masks ---- */

/* The mask of an expression, exact or clipped, from now on. */
static const struct head *add_head(struct heads *h, uint32_t expr, bool is_clipped,
	const struct head *found) {
	h->all[h->n++] = *found;
	h->x->all[expr].heads[is_clipped] = h->n;
	return &h->all[h->n - 1];
}

/* What bits and crossings have. key: what others may find it by, or NULL. */
static const struct head *remember(struct heads *h, uint32_t expr, bool is_clipped,
	bool is_narrow, const struct fingerprint *key) {
	struct head found = { .is_narrow = is_narrow };
	if (h->n >= MAX_HEADS || (!is_narrow && h->bytes >= MAX_BYTES)) {
		h->last = is_narrow ? found : (struct head){ .bits = h->bits, .crossings = h->crossings,
			.n_crossings = h->n_crossings };
		return &h->last;
	}
	if (!exprs_room(h->x, (void **)&h->all, h->n, &h->cap, sizeof(*h->all))) {
		return NULL;
	}
	if (!is_narrow) {
		const size_t bytes = keep(h, &found);
		if (bytes == 0) {
			return NULL;
		}
		if (key != NULL) {
			store_add_head(h->store, *key, &found, bytes);
		}
		h->bytes += found.is_stored ? 0 : bytes;
	}
	return add_head(h, expr, is_clipped, &found);
}

/* Another grammar's mask of an expression, or by a walk through the whole vocabulary. */
static const struct head *find_whole(struct heads *h, uint32_t expr, bool is_clipped) {
	struct fingerprint key;
	struct head found;
	uint32_t n_reached;
	bool is_whole;
	const bool is_common = h->store != NULL &&
		store_fingerprint(h->store, h->x, expr, is_clipped, &key);
	if (is_common && h->n < MAX_HEADS && store_find_head(h->store, key, &found)) {
		return exprs_room(h->x, (void **)&h->all, h->n, &h->cap, sizeof(*h->all))
			? add_head(h, expr, is_clipped, &found) : NULL;
	}
	return walk(h, expr, is_clipped ? EXPR_HORIZON : UINT16_MAX, UINT32_MAX, &n_reached, &is_whole)
		? remember(h, expr, is_clipped, n_reached <= NARROW, is_common ? &key : NULL) : NULL;
}

/* A round that may be left out, or one before any number: these are one or two states, not worth a
 * family of their own. */
static bool has_few_states(const struct count_bounds *bounds) {
	for (int i = 0; i < bounds->n; i++) {
		const struct count_bound b = bounds->all[i];
		if (b.min > 1 || (b.max > 1 && b.max != COUNTS_NO_MAX)) {
			return false;
		}
	}
	return true;
}

/* Where only lower bounds were left, the state without any comes in the end, and doesn't look like
 * one of the family: here is its mask. */
static bool add_free(struct heads *h, const struct count_family *f, uint32_t marked,
	const struct count_bounds *bounds) {
	struct count_bounds none = *bounds;
	for (int i = 0; i < none.n; i++) {
		if (none.all[i].max != COUNTS_NO_MAX) {
			return true;
		}
		none.all[i].min = 0;
	}
	const uint32_t expr = counts_unmark(h->x, marked, &none);
	return expr == EXPR_NONE || h->x->all[expr].heads[0] != 0 ||
		(put_together(h, f, &none) && remember(h, expr, false, false, NULL) != NULL);
}

/* With a bounded repeat: by a short walk, or from a family. *out NULL: neither. False: trouble. */
static bool find_counted(struct heads *h, uint32_t expr, const struct head **out) {
	struct count_bounds bounds;
	const struct count_family *family = NULL;
	const uint32_t marked = counts_mark(h->x, expr, &bounds);
	uint32_t n_reached;
	bool is_whole;
	*out = NULL;
	if (marked != EXPR_NONE && !find_family(h, marked, &bounds, false, &family)) {
		return false;
	}
	if (family == NULL && !has_few_states(&bounds)) {
		if (!walk(h, expr, UINT16_MAX, h->tree->n_nodes / SMALL, &n_reached, &is_whole)) {
			return false;
		}
		if (is_whole) {
			*out = remember(h, expr, false, n_reached <= NARROW, NULL);
			return *out != NULL;
		}
		if (marked != EXPR_NONE && !find_family(h, marked, &bounds, true, &family)) {
			return false;
		}
	}
	if (family != NULL) {
		*out = add_free(h, family, marked, &bounds) && put_together(h, family, &bounds)
			? remember(h, expr, false, false, NULL) : NULL;
		return *out != NULL;
	}
	return h->x->trouble.code == BB_OK;
}

const struct head *heads_find(struct heads *h, uint32_t expr) {
	struct exprs *const x = h->x;
	const uint32_t exact = x->all[expr].heads[0];
	const struct head *found = NULL;
	if (exact != 0) {
		return &h->all[exact - 1];
	}
	/* where no more are kept, whoever asks twice must hear the same: a family may come between */
	if ((x->all[expr].flags & EXPR_BOUNDED) != 0 && h->n < MAX_HEADS &&
		(!find_counted(h, expr, &found) || found != NULL)) {
		return found;
	}
	const uint32_t clipped = expr_clip(x, expr);
	const bool is_clipped = clipped != expr;
	const uint32_t known = x->all[clipped].heads[is_clipped];
	if (known != 0) {
		return &h->all[known - 1];
	}
	return find_whole(h, clipped, is_clipped);
}
