/* SPDX-License-Identifier: Apache-2.0
 *
 * Grouped products: preparing x, and which kernel and which tile for how many rows. The choice
 * changes no bit of a result; it is made from what the host knows, which the routing isn't. */
#include "matmul_gemm.cuh"
#include "matmul_gemv.cuh"
#include "matmul_grouped.cuh"

#include <assert.h>

template <int type> using row_shape = gemv_shape<type, 1, 1, false>;
/* Of a few rows for each expert: all by the same warps. */
template <int type, int rows> using few_shape = gemv_shape<type, rows, 1, false, false>;

/* One row for each expert. Grid: panels by tiles. */
template <int type>
__global__ void __launch_bounds__(row_shape<type>::threads) matmul_grouped_row(group_args g) {
	SHARED(int, x_rows, [1]);
	group_tile t;
	if (find_tile<1>(&t, g, (int)blockIdx.y, x_rows)) {
		gemv_tile<row_shape<type>>(t);
	}
}

/* The same for up to 8 rows: the code for 1, 2, 4 or 8 as there are. */
template <int type>
__global__ void __launch_bounds__(GEMV_THREADS, 2) matmul_grouped_gemv(group_args g) {
	SHARED(int, x_rows, [GEMV_ROWS]);
	group_tile t;
	if (!find_tile<GEMV_ROWS>(&t, g, (int)blockIdx.y, x_rows)) {
		return;
	}
	const int left = t.n_rows - t.row0;
	if (left == 1) {
		gemv_tile<few_shape<type, 1>>(t);
	} else if (left == 2) {
		gemv_tile<few_shape<type, 2>>(t);
	} else if (left <= 4) {
		gemv_tile<few_shape<type, 4>>(t);
	} else {
		gemv_tile<few_shape<type, 8>>(t);
	}
}

/* Grid: tiles of rows, tiles of columns. */
template <class shape>
__global__ void __launch_bounds__(shape::threads, shape::blocks) matmul_grouped_gemm(
	group_args g) {
	SHARED(int, x_rows, [shape::rows]);
	group_tile t;
	if (find_tile<shape::rows>(&t, g, (int)blockIdx.x, x_rows)) {
		gemm_tile<shape>(t, t.row0);
	}
}

template <int type, int rows> static int gemv_bytes(const group_args &g) {
	return few_shape<type, rows>::smem_bytes(g.p.k);
}

template <int type> static void launch_gemv(bb_queue *q, const group_args &g) {
	const int one = gemv_bytes<type, 1>(g), two = gemv_bytes<type, 2>(g);
	const int four = gemv_bytes<type, 4>(g), eight = gemv_bytes<type, 8>(g);
	const int bytes = max(max(one, two), max(four, eight));
	const dim3 grid((unsigned)n_panels(g.p.n), most_tiles(g, GEMV_ROWS));
	if (bytes > PLAIN_SMEM) {
		queue_note(q, ALLOW_SMEM(matmul_grouped_gemv<type>, bytes), "matmul_grouped");
	}
	LAUNCH(matmul_grouped_gemv<type>, grid, GEMV_THREADS, bytes, q->stream, g);
}

template <int type> static void launch_row(bb_queue *q, const group_args &g) {
	const int bytes = row_shape<type>::smem_bytes(g.p.k);
	const dim3 grid((unsigned)n_panels(g.p.n), most_tiles(g, 1));
	if (bytes > PLAIN_SMEM) {
		queue_note(q, ALLOW_SMEM(matmul_grouped_row<type>, bytes), "matmul_grouped");
	}
	LAUNCH(matmul_grouped_row<type>, grid, row_shape<type>::threads, bytes, q->stream, g);
}

template <class shape> static void launch_gemm(bb_queue *q, const group_args &g) {
	const dim3 grid(most_tiles(g, shape::rows),
		(unsigned)((n_panels(g.p.n) + shape::panels - 1) / shape::panels));
	if (shape::smem_bytes > PLAIN_SMEM) {
		queue_note(q, ALLOW_SMEM(matmul_grouped_gemm<shape>, shape::smem_bytes), "matmul_grouped");
	}
	LAUNCH(matmul_grouped_gemm<shape>, grid, shape::threads, shape::smem_bytes, q->stream, g);
}

/* With up to 8 rows an expert's weights are read once, however they are dealt out. */
template <int type> static void grouped_quant(bb_queue *q, const group_args &g) {
	const size_t mean = mean_rows_by_16(g);
	if (g.n_rows == 1) {
		launch_row<type>(q, g);
	} else if (g.n_rows <= GEMV_ROWS || mean <= 6 * 16) {
		launch_gemv<type>(q, g);
	} else if (mean <= 12 * 16) {
		launch_gemm<gemm_rows_16<type>>(q, g);
	} else if (mean <= 24 * 16) {
		launch_gemm<gemm_rows_32<type>>(q, g);
	} else {
		launch_gemm<gemm_64_by_64<type>>(q, g);
	}
}

static void multiply(bb_queue *q, enum bb_dtype type, const group_args &g) {
	switch (type) {
#define CASE(suffix, t) \
	case t: \
		grouped_quant<t>(q, g); \
		break;
	QUANT_TYPES(CASE)
#undef CASE
	default: grouped_float(q, type, g); break;
	}
	queue_launched(q, "matmul_grouped");
}

extern "C" void matmul_grouped_sm80(bb_queue *q, const struct bb_grouped *a) {
	const size_t expert_bytes = (size_t)n_panels(a->n) * panel_bytes(a->type, a->k);
	const int n_x = a->has_x_of_pairs ? a->n_rows * a->n_used : a->n_rows;
	const void *x = a->prepared;
	assert(a->n_experts <= BB_MOE_EXPERTS && a->n_used <= BB_MOE_USED);
	if (a->n_rows == 0) {
		return;
	}
	if (x == NULL) {
		panels_prep(q, a->scratch, a->type, a->x, a->ld_x, n_x, a->k);
		x = a->scratch;
	}
	const group_args g = { { a->y, (const uint8_t *)a->w, (const uint8_t *)x, a->bias, a->ld_y,
		a->n_rows * a->n_used, a->n, a->k, false }, expert_bytes, a->experts, a->pairs, a->offsets,
		a->n_rows, a->n_used, a->n_experts, a->has_x_of_pairs ? 1 : a->n_used };
	multiply(q, a->type, g);
}
