/* SPDX-License-Identifier: Apache-2.0
 *
 * What the x86 matrix products share: their arguments, how outputs are written, and how many
 * panels a thread takes at once. */
#ifndef MATMUL_PRODUCT_H
#define MATMUL_PRODUCT_H

#include "p16.h"

#include <string.h>

struct product {
	float *y;
	int ld_y;
	const uint8_t *w, *x;
	const float *bias;
	int n_rows, n, k;
	bool accumulate;
	size_t panel_bytes, x_row_bytes;
};

/* Asks for the cache lines of y that a unit will write, before it computes: each is a miss of its
 * own. */
ALWAYS_INLINE void prefetch_outputs(const struct product *p, int i_panel, int row0, int n_rows) {
	const float *y = p->y + (size_t)row0 * p->ld_y + i_panel * P16_ROWS;
	for (int r = 0; r < n_rows; r++, y += p->ld_y) {
		__builtin_prefetch(y, 1, 3);
	}
}

/* The last panel of a matrix whose n is no multiple of 16. */
static void finish_part(const struct product *p, float *y, int n_cols, int n_rows,
	const float *acc) {
	for (int r = 0; r < n_rows; r++, y += p->ld_y, acc += P16_ROWS) {
		for (int i = 0; i < n_cols; i++) {
			y[i] = p->accumulate ? y[i] + acc[i] : acc[i];
		}
	}
}

/* Writes acc[n_rows][16] (+ bias) to the columns of a panel, or adds it to what is there. */
static inline void finish_rows(const struct product *p, int i_panel, int row0, int n_rows,
	float *acc) {
	const int col0 = i_panel * P16_ROWS, left = p->n - col0;
	const int n_cols = left < P16_ROWS ? left : P16_ROWS;
	if (p->bias != NULL) {
		float bias[P16_ROWS] = { 0 };
		memcpy(bias, p->bias + col0, (size_t)n_cols * sizeof(float));
		const vf b = load_f32(bias);
		for (int r = 0; r < n_rows; r++) {
			store_f32(acc + r * P16_ROWS, vf_add(load_f32(acc + r * P16_ROWS), b));
		}
	}
	float *y = p->y + (size_t)row0 * p->ld_y + col0;
	const size_t ld = (size_t)p->ld_y;
	if (n_cols < P16_ROWS) {
		finish_part(p, y, n_cols, n_rows, acc);
	} else if (p->accumulate) {
		for (int r = 0; r < n_rows; r++, y += ld, acc += P16_ROWS) {
			store_f32(y, vf_add(load_f32(y), load_f32(acc)));
		}
	} else {
		for (int r = 0; r < n_rows; r++, y += ld, acc += P16_ROWS) {
			store_f32(y, load_f32(acc));
		}
	}
}

/* Units a thread takes at once. One row is bound by memory: each thread then streams one run of
 * panels of its own, because short pieces make the prefetchers of both threads fetch the other's
 * weights. */
static inline int product_grain(bb_queue *q, const struct product *p, int n_panels) {
	const int n_threads = q != NULL ? queue_threads(q) : 1;
	return p->n_rows > 1 ? 1 : (n_panels + n_threads - 1) / n_threads;
}

#endif
