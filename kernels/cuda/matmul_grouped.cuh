/* SPDX-License-Identifier: Apache-2.0
 *
 * Products in which each row meets the matrices of its experts: how a block finds its expert and
 * its rows in the lists of a routing. What is computed is the plain product's code, which asks
 * x_of and y_of where a row is. The grid is as large as any routing may want, for it is captured
 * with the launch; blocks that have no tile end at once, and experts without rows aren't read. */
#pragma once

#include "matmul_args.cuh"

struct group_args {
	matmul_args p;         /* of expert 0, and of all rows */
	size_t expert_bytes;   /* from the weights of one expert to the next one's */
	const int32_t *experts, *pairs, *offsets; /* as in bb_moe_route */
	int n_rows, n_used, n_experts;
	int per_x;             /* pairs that share a row of x */
};

/* The product of one expert: row i is pair pairs[i]. */
struct group_tile : matmul_args {
	const int32_t *pairs;
	const int *x_rows;     /* of the rows from row0 on, in shared memory */
	int row0;
};

DEVICE const uint8_t *x_of(const group_tile &t, int row, size_t row_bytes) {
	return t.x + (size_t)t.x_rows[row - t.row0] * row_bytes;
}

/* As matmul_gemm.cuh asks for it. */
DEVICE unsigned x_row_of(const group_tile &t, int row) {
	return (unsigned)t.x_rows[row - t.row0];
}

DEVICE float *y_of(const group_tile &t, int row) {
	return t.y + (size_t)t.pairs[row] * t.ld_y;
}

/* As matmul_gemv.cuh asks for it. */
template <class shape> DEVICE int first_row(const group_tile &t) {
	return t.row0;
}

/* Where tile i begins, counting tiles of `rows` rows through the experts; false when there are
 * fewer. All lanes of a warp call it together. Each counts the tiles of some neighbouring experts,
 * so that all offsets are asked for at once. */
DEVICE bool find_expert(const group_args &g, int rows, int i, int *expert, int *row0) {
	const int lane = (int)threadIdx.x % WARP, per = (g.n_experts + WARP - 1) / WARP;
	const int e0 = min(lane * per, g.n_experts), e1 = min(e0 + per, g.n_experts);
	int n = 0, begin = g.offsets[e0];
	for (int e = e0; e < e1; e++) {
		const int end = g.offsets[e + 1];
		n += (end - begin + rows - 1) / rows;
		begin = end;
	}
	int sum = n;
	for (int d = 1; d < WARP; d *= 2) {
		const int below = __shfl_up_sync(ALL_LANES, sum, d);
		sum += lane >= d ? below : 0;
	}
	const unsigned beyond = __ballot_sync(ALL_LANES, sum > i);
	if (beyond == 0) {
		return false;
	}
	const int who = __ffs(beyond) - 1;
	int before = __shfl_sync(ALL_LANES, sum - n, who), e = who * per;
	for (;; e++) {
		const int tiles = (g.offsets[e + 1] - g.offsets[e] + rows - 1) / rows;
		if (i < before + tiles) {
			*expert = e;
			*row0 = (i - before) * rows;
			return true;
		}
		before += tiles;
	}
}

/* Tile i, of up to `rows` rows; false, in all threads, when there are fewer. x_rows: room for
 * `rows` numbers in shared memory. Ends behind a barrier. */
template <int rows>
DEVICE bool find_tile(group_tile *t, const group_args &g, int i, int *x_rows) {
	int expert, row0 = 0, begin, n_rows = 1;
	if (g.n_rows == 1) { /* no expert has more than one pair, so a tile is a pair */
		expert = g.experts[g.pairs[i]];
		begin = i;
	} else {
		if (!find_expert(g, rows, i, &expert, &row0)) {
			return false;
		}
		begin = g.offsets[expert];
		n_rows = g.offsets[expert + 1] - begin;
	}
	*(matmul_args *)t = g.p;
	t->w += expert * g.expert_bytes;
	t->bias = g.p.bias != NULL ? g.p.bias + (size_t)expert * g.p.n : NULL;
	t->n_rows = n_rows;
	t->pairs = g.pairs + begin;
	t->x_rows = x_rows;
	t->row0 = row0;
	if ((int)threadIdx.x < rows) {
		const int row = min(row0 + (int)threadIdx.x, n_rows - 1);
		x_rows[threadIdx.x] = t->pairs[row] / g.per_x;
	}
	__syncthreads();
	return true;
}

/* As many tiles as any routing can make: every expert that is used has at most one that isn't
 * full. */
static inline unsigned most_tiles(const group_args &g, int rows) {
	const size_t pairs = (size_t)g.n_rows * g.n_used;
	const size_t used = pairs < (size_t)g.n_experts ? pairs : (size_t)g.n_experts;
	return (unsigned)(g.n_rows == 1 ? pairs : (pairs + used * (rows - 1)) / rows);
}

/* Rows of an expert where all have the same number, times 16. */
static inline size_t mean_rows_by_16(const group_args &g) {
	return (size_t)g.n_rows * g.n_used * 16 / g.n_experts;
}

/* Those of float types, in matmul_float.cu. */
void grouped_float(bb_queue *q, enum bb_dtype type, const group_args &g);
