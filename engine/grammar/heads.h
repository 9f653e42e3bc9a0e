/* SPDX-License-Identifier: Apache-2.0
 *
 * Which tokens fit a regular expression whatever follows it, kept for each state whose walk through
 * the vocabulary is long. What reaches the expression's end and goes on is not decided here: only
 * where that happens (XGrammar, arXiv:2411.15100, has the split into tokens that don't and do
 * depend on context). */
#ifndef HEADS_H
#define HEADS_H

#include "store.h"

struct heads {
	struct exprs *x;
	const struct token_tree *tree;
	struct store *store; /* of the tree; NULL: nothing is shared */
	struct head *all;    /* [n] */
	uint32_t n, cap;
	struct count_family *families; /* [n_families] */
	uint32_t n_families, cap_families;
	size_t bytes;        /* of what is kept */
	uint32_t *stack;     /* [max_depth + 1] */
	uint32_t *bits;      /* [n_words] */
	uint32_t *crossings; /* [n_crossings] */
	uint32_t n_crossings, cap_crossings;
	struct head last;    /* one that isn't kept, as there are too many: until the next call */
};

bool heads_init(struct heads *h, struct exprs *x, const struct token_tree *tree,
	struct store *store, struct bb_error *err);
void heads_finish(struct heads *h);
size_t heads_bytes(const struct heads *h); /* that it takes */
/* NULL after trouble, which is in h->x. */
const struct head *heads_find(struct heads *h, uint32_t expr);

#endif
