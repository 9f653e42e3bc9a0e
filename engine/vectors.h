/* SPDX-License-Identifier: Apache-2.0
 *
 * Vectors that stand in timelines where tokens would: rows of floats, each known by an id below -1.
 * Rows of the same bytes are one, so that equal ids mean equal rows as they do of tokens: what
 * compares timelines need not know which of them an id is. */
#ifndef VECTORS_H
#define VECTORS_H

#include "base.h"

/* -1 is no token, in many places. */
static inline bool vectors_is(int32_t id) {
	return id < -1;
}

/* A row lives while somebody refers to it: bb_vectors, a request, the timeline of a context. May be
 * used on any thread. */
struct vectors;
bool vectors_create(struct vectors **out, int width, struct bb_error *err);
void vectors_destroy(struct vectors *v); /* NULL is fine; nobody refers to a row any more */
/* The ids [n] of rows [n, width], each with a reference more. On a failure nothing has changed. */
bool vectors_take(struct vectors *v, const float *rows, int n, int32_t *ids, struct bb_error *err);
/* One reference more or less for each vector among these ids; tokens are passed over. */
void vectors_ref(struct vectors *v, const int32_t *ids, size_t n);
void vectors_unref(struct vectors *v, const int32_t *ids, size_t n);
size_t vectors_count(const int32_t *ids, size_t n);
bool vectors_has(struct vectors *v, int32_t id);
/* Rows [n, width] of ids, all of them vectors that are there. */
void vectors_read(struct vectors *v, const int32_t *ids, size_t n, float *rows);

#endif
