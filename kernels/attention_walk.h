/* SPDX-License-Identifier: Apache-2.0
 *
 * Inside kernels/ only: what a fast attention variant supplies (struct attn_ops) and the walk that
 * calls it. A variant's arithmetic is in its ops; the walk decides who computes what, and when. */
#ifndef ATTENTION_WALK_H
#define ATTENTION_WALK_H

#include "kv_slab.h"

#include <math.h>

enum {
	TILE_ROWS = 6,
	SPLIT_PAGES = BB_SPLIT / BB_PAGE,
};

/* Scores are multiplied by it, and p is 2^(score - m). */
#define LOG2_E 1.44269504f

/* Geometry of a head, see kv_slab.h. */
struct attn_dims {
	int head_dim, kd, vd;
	int group, n_groups; /* channels per int8 scale, and scales per token */
};

/* Up to 6 rows against one split. A row is a query head of a token; all belong to one kv head. */
struct attn_tile {
	struct attn_dims dims;
	int n_rows;
	const uint8_t *q;  /* [n_rows, q_stride] as prep_q leaves it */
	size_t q_stride;
	/* Planes of the split's pages, as they are or staged; NULL when no row sees the page. */
	const void *k[SPLIT_PAGES], *v[SPLIT_PAGES];
	/* What to prefetch meanwhile: while plane i is read (K of the pages, then V), the lines that
	 * far away (0: nothing better to do); during the softmax, a plane. */
	ptrdiff_t ahead[2 * SPLIT_PAGES];
	const uint8_t *softmax_ahead;
	size_t softmax_ahead_bytes;
	/* Tokens of the split that a row sees, 0 <= begin < end <= 256; neither falls from row to
	 * row. */
	int begin[TILE_ROWS], end[TILE_ROWS];
	float *scores;     /* [TILE_ROWS, 256] work space */
	float *p;          /* [TILE_ROWS, 256] work space */
	float *m, *l;      /* out: [n_rows]; m, as scores, is an exponent of 2 */
	float softcap;     /* of scores in these units; 0: none */
	float *o;          /* out: [n_rows, vd] */
};

struct attn_ops {
	enum bb_kv_dtype type;
	/* Converting a split's planes before they are used, worth it when many rows use them: bytes of
	 * an element, and dst[n] = the n elements of a plane, n a multiple of 64. 0, NULL: never. */
	size_t staged_elem_bytes;
	void (*stage)(void *dst, const void *plane, size_t n);
	void (*tile)(const struct attn_tile *t);        /* on staged planes */
	void (*tile_direct)(const struct attn_tile *t); /* on the slabs' planes; the same bits */
	/* dst[kd * 4 + 64 bytes] = q[head_dim] as the tiles want it, times scale where that is free. */
	void (*prep_q)(void *dst, const float *q, const struct attn_dims *dims, float scale);
	/* big (m, l, o[vd]) joined with part, see bb_attention. */
	void (*join)(float *big_m, float *big_l, float *big_o, const float *m, const float *l,
		const float *o, int vd);
	/* out[head_dim] = o / l */
	void (*finish)(float *out, const float *o, float l, int head_dim);
};

/* Adds a page's p v to o: the tokens that all rows see together, those at the ragged ends (at most
 * the tile's tokens but one, or a short window) row by row, so that what a row doesn't see can't
 * touch it: 0 * NaN is a NaN. Tokens are of the page. `unit`: how many are summed at once; what
 * several rows do together begins and ends at a multiple of it. */
typedef void attn_values_fn(const struct attn_tile *t, int page, int row, int n_rows, int from,
	int to);

static inline void attn_values(const struct attn_tile *t, int page, int unit,
	attn_values_fn *values) {
	const int first = page * BB_PAGE, last_row = t->n_rows - 1;
	int from = t->begin[last_row] - first, to = t->end[0] - first;
	from = from > 0 ? (from + unit - 1) / unit * unit : 0;
	to = to < BB_PAGE ? (to > 0 ? to / unit * unit : 0) : BB_PAGE;
	if (from >= to) {
		from = to = BB_PAGE; /* nothing in common */
	}
	for (int r = 0; r < t->n_rows; r++) {
		const int begin = t->begin[r] > first ? t->begin[r] - first : 0;
		const int end = t->end[r] - first < from ? t->end[r] - first : from;
		if (begin < end) {
			values(t, page, r, 1, begin, end);
		}
	}
	if (from < to) {
		values(t, page, 0, t->n_rows, from, to);
	}
	for (int r = 0; r < t->n_rows; r++) {
		const int end = t->end[r] - first < BB_PAGE ? t->end[r] - first : BB_PAGE;
		if (to < end) {
			values(t, page, r, 1, to, end);
		}
	}
}

/* Before row r's softmax: its share of the plane to prefetch. Into L2: L1 has too few miss buffers
 * to keep memory busy. */
static inline void attn_prefetch(const struct attn_tile *t, int r) {
	const size_t share = t->softmax_ahead_bytes / (size_t)t->n_rows & ~(size_t)63;
	const size_t from = (size_t)r * share;
	const size_t to = r + 1 < t->n_rows ? from + share : t->softmax_ahead_bytes;
	for (size_t i = from; i < to; i += 64) {
		__builtin_prefetch(t->softmax_ahead + i, 0, 2);
	}
}

/* For the few models that have it: no ISA level has its own. */
static inline void attn_cap(const struct attn_tile *t) {
	for (int r = 0; r < t->n_rows; r++) {
		float *scores = t->scores + (size_t)r * BB_SPLIT;
		for (int i = t->begin[r]; i < t->end[r]; i++) {
			scores[i] = t->softcap * tanhf(scores[i] / t->softcap);
		}
	}
}

/* The first part of a tile: scores page by page, m of all rows, p and l row by row; o starts at
 * zero. */
static inline void attn_weigh(const struct attn_tile *t,
	void (*scores)(const struct attn_tile *t, int page),
	void (*largest_scores)(const struct attn_tile *t),
	void (*softmax_row)(const struct attn_tile *t, int row)) {
	for (int page = 0; page < SPLIT_PAGES; page++) {
		if (t->k[page] != NULL) {
			scores(t, page);
		}
	}
	if (t->softcap > 0) {
		attn_cap(t);
	}
	largest_scores(t);
	for (int r = 0; r < t->n_rows; r++) {
		attn_prefetch(t, r);
		softmax_row(t, r);
	}
	for (int i = 0; i < t->n_rows * t->dims.vd; i++) {
		t->o[i] = 0;
	}
}

/* A whole tile, with the values page by page. */
static inline void attn_tile(const struct attn_tile *t, int unit,
	void (*scores)(const struct attn_tile *t, int page),
	void (*largest_scores)(const struct attn_tile *t),
	void (*softmax_row)(const struct attn_tile *t, int row), attn_values_fn *values) {
	attn_weigh(t, scores, largest_scores, softmax_row);
	for (int page = 0; page < SPLIT_PAGES; page++) {
		if (t->v[page] != NULL) {
			attn_values(t, page, unit, values);
		}
	}
}

void attention_walk(bb_queue *q, const struct bb_attention *a, const struct attn_ops *ops);

#endif
