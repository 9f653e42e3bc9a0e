/* SPDX-License-Identifier: Apache-2.0
 *
 * The matrix products of block types: which kernel and which tile for how many rows. The choice
 * changes no bit of a result. */
#include "matmul_gemm.cuh"
#include "matmul_gemv.cuh"

#include <assert.h>

enum {
	/* From this many panels on, a block takes two of them: x is read half as often, and there are
	 * still more blocks than the largest device has processors. */
	TWO_PANELS_FROM = 512,
};

/* A block for each group of panels, or as many as fit the device at once. */
template <class shape, class args>
static void launch_gemv(bb_queue *q, const args &p, unsigned n_groups, const char *name) {
	const int bytes = shape::smem_bytes(p.k);
	const unsigned n_fit = (unsigned)queue_blocks(q, bytes, shape::blocks);
	const dim3 grid(n_groups < n_fit ? n_groups : n_fit,
		blocks_for((size_t)p.n_rows, shape::rows));
	if (bytes > PLAIN_SMEM) {
		queue_note(q, ALLOW_SMEM((matmul_gemv<shape, args>), bytes), name);
	}
	LAUNCH_EARLY((matmul_gemv<shape, args>), grid, shape::threads, bytes, q->stream, p);
	queue_launched(q, name);
}

template <int type, int rows, int panels, class args>
static void launch_gemv(bb_queue *q, const args &p, const char *name) {
	launch_gemv<gemv_shape<type, rows, panels, args::has_own_x>>(q, p,
		blocks_for(n_panels(p.n), panels), name);
}

template <class shape>
static void launch_gemm(bb_queue *q, const matmul_args &p, const char *name) {
	const dim3 grid(blocks_for((size_t)p.n_rows, shape::rows),
		(unsigned)((n_panels(p.n) + shape::panels - 1) / shape::panels));
	if (shape::smem_bytes > PLAIN_SMEM) {
		queue_note(q, ALLOW_SMEM(matmul_gemm<shape>, shape::smem_bytes), name);
	}
	LAUNCH(matmul_gemm<shape>, grid, shape::threads, shape::smem_bytes, q->stream, p);
	queue_launched(q, name);
}

/* About how long a product takes, in the time of a multiply-add: the processor that has the most
 * tiles computes them and loads their rows and columns, each of which takes it as long as 36
 * multiply-adds. One tile alone doesn't keep it busy. */
template <class shape> static double gemm_cost(const bb_queue *q, const matmul_args &p) {
	const unsigned n_processors = (unsigned)queue_processors(q);
	const unsigned tiles = blocks_for((size_t)p.n_rows, shape::rows)
		* blocks_for((size_t)p.n, shape::cols);
	const unsigned most = (tiles + n_processors - 1) / n_processors;
	return (most == 1 ? 1.3 : most) * (shape::rows * shape::cols
		+ 36 * (shape::rows + shape::cols));
}

template <int type> static void launch_best_gemm(bb_queue *q, const matmul_args &p,
	const char *name) {
	const double costs[] = { gemm_cost<gemm_128_by_128<type>>(q, p),
		gemm_cost<gemm_64_by_128<type>>(q, p), gemm_cost<gemm_64_by_64<type>>(q, p),
		gemm_cost<gemm_64_by_32<type>>(q, p) };
	int best = 0;
	for (int i = 1; i < 4; i++) {
		best = costs[i] < costs[best] ? i : best;
	}
	if (best == 0) {
		launch_gemm<gemm_128_by_128<type>>(q, p, name);
	} else if (best == 1) {
		launch_gemm<gemm_64_by_128<type>>(q, p, name);
	} else if (best == 2) {
		launch_gemm<gemm_64_by_64<type>>(q, p, name);
	} else {
		launch_gemm<gemm_64_by_32<type>>(q, p, name);
	}
}

template <int type> static void matmul_quant(bb_queue *q, const matmul_args &p, const char *name) {
	if (p.n_rows == 1 && n_panels(p.n) >= TWO_PANELS_FROM) {
		launch_gemv<type, 1, 2>(q, p, name);
	} else if (p.n_rows == 1) {
		launch_gemv<type, 1, 1>(q, p, name);
	} else if (p.n_rows == 2) {
		launch_gemv<type, 2, 1>(q, p, name);
	} else if (p.n_rows <= 16) {
		launch_gemm<gemm_rows_16<type>>(q, p, name);
	} else if (p.n_rows <= 32) {
		launch_gemm<gemm_rows_32<type>>(q, p, name);
	} else {
		launch_best_gemm<type>(q, p, name);
	}
}

/* Up to FUSED_ROWS rows: one launch. */
template <int type> static void fused_quant(bb_queue *q, const fused_args &p, const char *name) {
	if (p.gated != NULL && p.n_rows == 1) {
		launch_gemv<type, 1, 2>(q, p, name);
	} else if (p.gated != NULL) {
		launch_gemv<type, 2, 2>(q, p, name);
	} else if (p.n_rows == 1 && n_panels(p.n) >= TWO_PANELS_FROM) {
		launch_gemv<type, 1, 2>(q, p, name);
	} else if (p.n_rows == 1) {
		launch_gemv<type, 1, 1>(q, p, name);
	} else {
		launch_gemv<type, 2, 1>(q, p, name);
	}
}

/* Whether these kernels have room for n_rows rows of x: the same for all types, so that products
 * that share x agree. */
static bool has_room(const bb_queue *q, int n_rows, int k) {
	const int arrays = 512; /* SHARED, at most */
	return GEMV_ROOM + n_rows * (int)panel_x_row_bytes(BB_Q8_0, k) + arrays <= queue_block_bytes(q);
}

#define MATMUL(suffix, type) \
	extern "C" void matmul_##suffix##_sm80(bb_queue *q, float *y, int ld_y, const void *w, \
		const void *x, const float *bias, int n_rows, int n, int k, bool accumulate) { \
		const matmul_args p = { y, (const uint8_t *)w, (const uint8_t *)x, bias, ld_y, n_rows, n, \
			k, accumulate }; \
		if (n_rows > 0) { \
			matmul_quant<type>(q, p, "matmul_" #suffix); \
		} \
	}
QUANT_TYPES(MATMUL)
#undef MATMUL

/* What of a type's kernels a fused product needs. */
struct quant_kernels {
	void (*plain)(bb_queue *q, const matmul_args &p, const char *name);
	void (*fused)(bb_queue *q, const fused_args &p, const char *name);
	const char *name;
};

static struct quant_kernels quant_kernels_of(enum bb_dtype type) {
	switch (type) {
#define CASE(suffix, t) \
	case t: \
		return { matmul_quant<t>, fused_quant<t>, "matmul_" #suffix };
	QUANT_TYPES(CASE)
#undef CASE
	default:
		assert(!"not a block type");
		return {};
	}
}

extern "C" void panels_product(bb_queue *q, const struct bb_fused_product *p) {
	const struct quant_kernels kernels = quant_kernels_of(p->type);
	const int half = p->n / 2;
	fused_args args = {};
	(matmul_args &)args = { p->y, (const uint8_t *)p->w, (const uint8_t *)p->prepared, p->bias,
		p->ld_y, p->n_rows, p->n, p->k, p->accumulate };
	assert(p->x.kind == BB_FUSE_RMSNORM);
	assert(p->gated == NULL || (!p->accumulate && p->n % (2 * PANEL) == 0));
	if (p->n_rows > 0 && p->n_rows <= FUSED_ROWS && has_room(q, p->n_rows, p->k)) {
		args.from = p->x.x;
		args.norm = p->x.w;
		args.eps = p->x.eps;
		args.ld = p->x.ld;
		args.wide = is_wide(p->x.x, p->x.ld) && is_wide(p->x.w) && p->k % 4 == 0;
		args.gated = (uint8_t *)p->gated;
		args.gated_bytes = panel_x_row_bytes(p->type, half);
		args.is_gelu = p->gate == BB_FUSE_GELU_MUL;
		kernels.fused(q, args, kernels.name);
	} else if (p->n_rows > 0) {
		if (!p->is_prepared) {
			panels_prep_fused(q, p->prepared, p->type, &p->x, p->n_rows, p->k);
		}
		kernels.plain(q, args, kernels.name);
		if (p->gated != NULL) {
			const struct bb_fused_x x = { p->gate, p->y, p->y + half, p->ld_y, NULL, 0 };
			panels_prep_fused(q, p->gated, p->type, &x, p->n_rows, half);
		}
	}
}
