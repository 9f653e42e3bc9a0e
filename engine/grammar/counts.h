/* SPDX-License-Identifier: Apache-2.0
 *
 * Masks of expressions that differ only in how often something may still come: a text of which 20
 * characters are left, or 19. One walk of the vocabulary finds for each token how many rounds it
 * takes; what fits any bounds is put together from that. */
#ifndef COUNTS_H
#define COUNTS_H

#include "expr.h"
#include "tokens.h"

enum {
	COUNTS_MOST = 2, /* repeats that are counted at once: of a pattern, and of a length */
	COUNTS_NO_MAX = INT32_MAX,
};

/* Rounds that must and may still come. */
struct count_bounds {
	int n;
	struct count_bound {
		uint32_t body; /* of the repeat */
		int32_t min, max;
	} all[COUNTS_MOST];
};

/* Tokens that come to states which live or die together. */
struct count_part {
	uint32_t expr;       /* with marks instead of bounds */
	uint8_t inside;      /* bit i: repeat i goes on there, else it is over */
	bool asks;           /* whether expr has any text, or may be over, depends on the bounds */
	int32_t rounds[COUNTS_MOST]; /* that a token takes of each repeat */
	uint32_t *bits;      /* [n_words]; NULL: few, and in ids */
	int32_t *ids;        /* [n_ids] */
	uint32_t *crossings; /* [n_crossings] nodes with more below where the text may be over */
	uint32_t n_ids, n_crossings;
};

struct count_family {
	struct count_part *parts; /* [n] */
	uint32_t n;
	int32_t reach[COUNTS_MOST]; /* tokens that take more rounds were left out */
	size_t bytes;
	bool asks;           /* one of the parts does: then it is of use in its own grammar alone */
	bool is_stored;      /* parts belong to the store */
};

/* The expression with marks instead of the bounds of the repeats that it goes on with, which are
 * put into *out; EXPR_NONE: it has none, or too many, or trouble. */
uint32_t counts_mark(struct exprs *x, uint32_t expr, struct count_bounds *out);
/* The expression that a marked one stands for. */
uint32_t counts_unmark(struct exprs *x, uint32_t marked, const struct count_bounds *bounds);
/* Walks the vocabulary. *is_one false, where how many rounds a token takes depends on how it is
 * read, or there are too many states; nothing is kept then. stack: [tree's max_depth + 1] of
 * scratch. False: trouble, in x. */
bool counts_create(struct count_family *f, struct exprs *x, const struct token_tree *tree,
	uint32_t marked, const struct count_bounds *bounds, uint32_t *stack, bool *is_one);
void counts_destroy(struct count_family *f); /* what it holds; zeroed is fine */
/* How many rounds a family for these bounds knows of. */
int32_t counts_reach_of(int32_t max);
/* Does it know of all tokens that fit these bounds? */
bool counts_reach(const struct count_family *f, const struct count_bounds *bounds);
/* Is the part of tokens that fit these bounds? *may_end: at its crossings the text may be over. */
bool counts_part_fits(struct exprs *x, const struct count_part *p,
	const struct count_bounds *bounds, bool *may_end);

#endif
