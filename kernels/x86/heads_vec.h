/* SPDX-License-Identifier: Apache-2.0
 *
 * The product of each head with a matrix of its own: sums go from the bias over the head's columns
 * in order, by fma. */
#include "../kernels.h"
#include "vec_math.h"

/* Columns and rows of a tile, whose sums lie in registers; every weight is read once a tile. */
enum { COLUMNS = 4, ROWS = 2 };

struct heads_job {
	float *y;              /* [n_rows, ld_y] */
	const float *x;        /* [n_rows, ld_x] */
	const float *w, *bias; /* [n_heads, dim, dim], [n_heads, dim] or NULL */
	int ld_y, ld_x, n_rows, n_heads, dim;
};

/* Rows r to r + n_rows of head h, columns [j, j + n): n <= COLUMNS VEC. */
static void heads_tile(const struct heads_job *a, int r, int n_rows, int h, int j, int n) {
	const float *w = a->w + (size_t)h * a->dim * a->dim + j;
	const size_t at = (size_t)h * a->dim;
	const float *x[ROWS];
	vec sum[ROWS][COLUMNS];
	int part[COLUMNS];
	for (int v = 0; v < COLUMNS; v++) {
		part[v] = n - v * VEC < 0 ? 0 : n - v * VEC;
	}
	for (int t = 0; t < ROWS; t++) { /* a row too many is the last one again */
		x[t] = a->x + (size_t)(t < n_rows ? r + t : r) * a->ld_x + at;
		for (int v = 0; v < COLUMNS; v++) {
			sum[t][v] = a->bias != NULL ? load_n(a->bias + at + j + v * VEC, part[v]) : vec_set(0);
		}
	}
	for (int i = 0; i < a->dim; i++) {
		for (int v = 0; v < COLUMNS; v++) {
			const vec c = load_n(w + (size_t)i * a->dim + v * VEC, part[v]);
			for (int t = 0; t < ROWS; t++) {
				sum[t][v] = vec_fma(vec_set(x[t][i]), c, sum[t][v]);
			}
		}
	}
	for (int t = 0; t < n_rows; t++) {
		for (int v = 0; v < COLUMNS; v++) {
			store_n(a->y + (size_t)(r + t) * a->ld_y + at + j + v * VEC, sum[t][v], part[v]);
		}
	}
}

/* A unit is a head's columns of a tile, in all rows. */
static void heads_units(const void *arg, int begin, int end) {
	const struct heads_job *a = arg;
	const int per_head = (a->dim + COLUMNS * VEC - 1) / (COLUMNS * VEC);
	for (int u = begin; u < end; u++) {
		const int j = u % per_head * COLUMNS * VEC, left = a->dim - j;
		for (int r = 0; r < a->n_rows; r += ROWS) {
			heads_tile(a, r, a->n_rows - r < ROWS ? a->n_rows - r : ROWS, u / per_head, j,
				left < COLUMNS * VEC ? left : COLUMNS * VEC);
		}
	}
}

void TAG(heads_matmul)(bb_queue *q, float *y, int ld_y, const float *x, int ld_x, const float *w,
	const float *bias, int n_rows, int n_heads, int dim) {
	const struct heads_job job = { y, x, w, bias, ld_y, ld_x, n_rows, n_heads, dim };
	const int per_head = (dim + COLUMNS * VEC - 1) / (COLUMNS * VEC);
	queue_run(q, heads_units, &job, n_heads * per_head,
		vec_grain((size_t)n_rows * (size_t)dim * COLUMNS * VEC / 4));
}
