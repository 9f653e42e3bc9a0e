/* SPDX-License-Identifier: Apache-2.0
 *
 * The product of each head with a matrix of its own. A block has 32 columns of a head in some rows.
 * Its warps share the head's columns that are summed over, four at a time, a stretch each, so that
 * a single row has enough reads on their way; their sums are joined in order, behind the bias. */
#include "math.cuh"
#include "module.h"

enum { HEADS_WARPS = 4, HEADS_THREADS = WARP * HEADS_WARPS, HEADS_ROWS = 8 };

struct heads_args {
	float *y;              /* [n_rows, ld_y] */
	const float *x;        /* [n_rows, ld_x] */
	const float *w, *bias; /* [n_heads, dim, dim], [n_heads, dim] or NULL */
	int ld_y, ld_x, n_rows, dim;
	bool wide;             /* x can be read four at a time */
};

__global__ void __launch_bounds__(HEADS_THREADS) heads_matmul_kernel(heads_args a) {
	SHARED(float, sums, [HEADS_WARPS][HEADS_ROWS][WARP]);
	const int warp = (int)threadIdx.x / WARP, lane = (int)threadIdx.x % WARP;
	const int n_tiles = (a.dim + WARP - 1) / WARP;
	const int h = (int)blockIdx.x / n_tiles, j = (int)blockIdx.x % n_tiles * WARP + lane;
	const int row0 = (int)blockIdx.y * HEADS_ROWS, n_rows = min((int)HEADS_ROWS, a.n_rows - row0);
	const int stretch = (a.dim + 4 * HEADS_WARPS - 1) / (4 * HEADS_WARPS) * 4;
	const int begin = warp * stretch, end = min(a.dim, begin + stretch);
	const float *w = a.w + (size_t)h * a.dim * a.dim + j;
	const float *x = a.x + (size_t)row0 * a.ld_x + (size_t)h * a.dim;
	float sum[HEADS_ROWS];
	UNROLL
	for (int r = 0; r < HEADS_ROWS; r++) {
		sum[r] = 0.0f;
	}
	UNROLL_BY(2)
	for (int i = begin; i < end; i += 4) {
		float c[4];
		UNROLL
		for (int k = 0; k < 4; k++) {
			c[k] = i + k < end && j < a.dim ? w[(size_t)(i + k) * a.dim] : 0.0f;
		}
		UNROLL
		for (int r = 0; r < HEADS_ROWS; r++) {
			if (r < n_rows) {
				const float4 v = load4(x + (size_t)r * a.ld_x + i, end - i, a.wide);
				sum[r] = fmaf(v.w, c[3], fmaf(v.z, c[2], fmaf(v.y, c[1], fmaf(v.x, c[0], sum[r]))));
			}
		}
	}
	UNROLL
	for (int r = 0; r < HEADS_ROWS; r++) {
		if (r < n_rows) {
			sums[warp][r][lane] = sum[r];
		}
	}
	__syncthreads();
	const size_t at = (size_t)h * a.dim + j;
	for (int r = warp; r < n_rows && j < a.dim; r += HEADS_WARPS) {
		float y = a.bias != NULL ? a.bias[at] : 0.0f;
		for (int i = 0; i < HEADS_WARPS; i++) {
			y += sums[i][r][lane];
		}
		a.y[(size_t)(row0 + r) * a.ld_y + at] = y;
	}
}

/* Rows are the grid's second dimension, which ends at 65535. */
enum { MAX_GRID_ROWS = 65535 * HEADS_ROWS };

extern "C" void heads_matmul_sm80(bb_queue *q, float *y, int ld_y, const float *x, int ld_x,
	const float *w, const float *bias, int n_rows, int n_heads, int dim) {
	for (int row = 0; row < n_rows; row += MAX_GRID_ROWS) {
		const int n = n_rows - row < MAX_GRID_ROWS ? n_rows - row : MAX_GRID_ROWS;
		const heads_args a = { y + (size_t)row * ld_y, x + (size_t)row * ld_x, w, bias, ld_y, ld_x,
			n, dim, is_wide(x, ld_x) && dim % 4 == 0 };
		LAUNCH(heads_matmul_kernel, dim3(blocks_for(dim, WARP) * (unsigned)n_heads,
			blocks_for(n, HEADS_ROWS)), HEADS_THREADS, 0, q->stream, a);
		queue_launched(q, "heads_matmul");
	}
}
