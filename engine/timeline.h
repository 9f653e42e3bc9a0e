/* SPDX-License-Identifier: Apache-2.0
 *
 * The token ids of a context, in one array. Forks share the array until they go different ways. */
#ifndef TIMELINE_H
#define TIMELINE_H

#include "base.h"

/* One context's view of an array; zeroed = empty. Ids are only ever appended: what one context
 * writes behind its own tokens, no other reads. `end` says who may: room is taken at the array's
 * end, so of several contexts that end there the first takes it, and the others copy when they
 * go on. */
struct timeline {
	struct timeline_array *array; /* NULL while nothing was reserved */
	int n;                        /* tokens */
	int end;                      /* ids [n, end) of the array are room of this context alone */
};
void timeline_finish(struct timeline *t);
/* Makes room for n_new more tokens; on failure nothing has changed. */
bool timeline_reserve(struct timeline *t, int n_new, struct bb_error *err);
/* Appends n tokens, for which there is room. */
void timeline_append(struct timeline *t, const int32_t *ids, int n);
void timeline_truncate(struct timeline *t, int n);
/* dst (zeroed) gets the same tokens; none is copied. The room stays with src. */
void timeline_fork(struct timeline *dst, const struct timeline *src);
const int32_t *timeline_ids(const struct timeline *t); /* [n], NULL while nothing was reserved */

#endif
