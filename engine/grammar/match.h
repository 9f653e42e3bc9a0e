/* SPDX-License-Identifier: Apache-2.0
 *
 * Where one text stands in a grammar: a set of stacks, each a state of an expression and what must
 * follow it. Sets are numbered, and where a byte leads is remembered: a pushdown automaton made
 * deterministic as far as somebody goes. */
#ifndef MATCH_H
#define MATCH_H

#include "heads.h"
#include "rules.h"

/* What must follow: a node, then the cell `next`; cell 0 is the end of the text. */
struct match_cell {
	uint32_t node, next;
	int32_t count;  /* of a REPEAT: rounds begun */
	int32_t depth;  /* cells below */
	uint32_t stamp; /* of the last closure that saw it */
	uint32_t start; /* 1 + the set of stacks that begin with it, 0: not asked yet */
};

/* One stack: expr EXPR_EMPTY with cell 0 says that the text may end. */
struct match_stack {
	uint32_t expr, cell;
};

struct match_set {
	uint32_t first, n; /* of stacks */
};

struct matcher {
	struct rules *rules;
	struct heads *heads;        /* NULL: no vocabulary, texts are only followed */
	struct match_cell *cells;   /* [n_cells] */
	uint32_t *cell_slots;       /* [cell_mask + 1]: cells, 0: free */
	struct match_stack *stacks; /* [n_stacks] of all sets */
	struct match_set *sets;     /* [n_sets]; set 0 has no stacks */
	uint32_t *set_slots;        /* [set_mask + 1]: sets, 0: free */
	uint32_t *rows;             /* [cap_sets, n_classes]: 1 + the set behind a byte, 0: not asked */
	struct match_stack *found;  /* [n_found]: the stacks of a set in the making */
	uint32_t *left;             /* [n_left]: cells of a closure to look at */
	uint32_t *path;             /* [max_depth + 1] sets along a token */
	uint32_t n_cells, cap_cells, cell_mask, n_stacks, cap_stacks, n_sets, cap_sets, set_mask;
	uint32_t n_found, cap_found, n_left, cap_left, stamp;
	uint32_t now;               /* the set */
	bool was_too_deep;          /* a stack was left out */
};

/* At the beginning of a text. rules and heads are those of one grammar, which one thread at a time
 * uses. */
bool matcher_init(struct matcher *m, struct rules *rules, struct heads *heads,
	struct bb_error *err);
void matcher_finish(struct matcher *m); /* zeroed is fine */

/* The text goes on by these bytes; *fits: it may. After an error or where it doesn't fit, it stands
 * where it stood. */
bool matcher_accept(struct matcher *m, const char *text, size_t bytes, bool *fits,
	struct bb_error *err);
bool matcher_may_end(const struct matcher *m);
/* Bytes that must come next, for no other can: as many as there are, at most `most`. */
size_t matcher_forced(struct matcher *m, char *out, size_t most);
/* Bits [n_words] of the tokens that may come next; end tokens where the text may end. */
bool matcher_mask(struct matcher *m, uint32_t *bits, struct bb_error *err);

#endif
