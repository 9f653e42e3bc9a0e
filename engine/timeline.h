/* SPDX-License-Identifier: Apache-2.0
 *
 * The token ids of a context and where its segments begin, in arrays. Forks share the arrays until
 * they go different ways. */
#ifndef TIMELINE_H
#define TIMELINE_H

#include "vectors.h"

/* One context's view of an array; zeroed = empty. Items are only ever appended: what one context
 * writes behind its own, no other reads. `end` says who may: room is taken at the array's end, so
 * of several contexts that end there the first takes it, and the others copy when they go on. */
struct timeline_view {
	struct timeline_array *array; /* NULL while nothing was reserved */
	int n;                        /* items */
	int end;                      /* [n, end) of the array are room of this context alone */
};

struct timeline { /* zeroed = empty */
	struct vectors *vectors;       /* to which ids of vectors refer; NULL: there are none */
	struct timeline_view ids;      /* int32_t: the tokens, and vectors in their places */
	struct timeline_view segments; /* struct segment: those that were begun, in order */
};
void timeline_finish(struct timeline *t);
/* Makes room for n_new more tokens; on failure nothing has changed. */
bool timeline_reserve(struct timeline *t, int n_new, struct bb_error *err);
/* Room to refer to the vectors among these ids, which are about to be appended and have room as
 * tokens. Nothing to do where there are none. */
bool timeline_reserve_vectors(struct timeline *t, const int32_t *ids, int n, struct bb_error *err);
/* Appends n tokens, for which there is room. */
void timeline_append(struct timeline *t, const int32_t *ids, int n);
/* Forgets the tokens from index n on. A segment that begins there stays, empty. */
void timeline_truncate(struct timeline *t, int n);
/* dst (zeroed) gets the same tokens and segments; none is copied. The room stays with src. */
void timeline_fork(struct timeline *dst, const struct timeline *src);
const int32_t *timeline_ids(const struct timeline *t); /* [n], NULL while nothing was reserved */

/* As bb_context_begin_segment; on failure nothing has changed. */
bool timeline_begin(struct timeline *t, int first, enum bb_role role, struct bb_error *err);
/* Forgets the last segment if it is empty. */
void timeline_drop_empty(struct timeline *t);
/* Tokens before the first segment that was begun are one too, of no role. */
int timeline_n_segments(const struct timeline *t);
struct bb_segment timeline_segment(const struct timeline *t, int i);

#endif
