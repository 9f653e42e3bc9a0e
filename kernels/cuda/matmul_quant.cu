/* SPDX-License-Identifier: Apache-2.0
 *
 * The matrix products of block types: which kernel and which tile for how many rows. The choice
 * changes no bit of a result. */
#include "matmul_gemm.cuh"
#include "matmul_gemv.cuh"

/* From this many panels on, a block takes two of them: x is read half as often, and there are still
 * more blocks than the largest device has processors. */
enum { TWO_PANELS_FROM = 512 };

template <int type, int rows, int panels>
static void launch_gemv(bb_queue *q, const matmul_args &p, const char *name) {
	typedef gemv_shape<type, rows, panels> shape;
	const dim3 grid((unsigned)((n_panels(p.n) + panels - 1) / panels),
		blocks_for((size_t)p.n_rows, rows));
	if (shape::smem_bytes > 48 * 1024) {
		queue_note(q, ALLOW_SMEM((matmul_gemv<type, rows, panels>), shape::smem_bytes), name);
	}
	LAUNCH((matmul_gemv<type, rows, panels>), grid, GEMV_THREADS, shape::smem_bytes, q->stream, p);
	queue_launched(q, name);
}

template <class shape>
static void launch_gemm(bb_queue *q, const matmul_args &p, const char *name) {
	const dim3 grid(blocks_for((size_t)p.n_rows, shape::rows),
		(unsigned)((n_panels(p.n) + shape::panels - 1) / shape::panels));
	if (shape::smem_bytes > 48 * 1024) {
		queue_note(q, ALLOW_SMEM(matmul_gemm<shape>, shape::smem_bytes), name);
	}
	LAUNCH(matmul_gemm<shape>, grid, GEMM_THREADS, shape::smem_bytes, q->stream, p);
	queue_launched(q, name);
}

template <int type> static void matmul_quant(bb_queue *q, const matmul_args &p, const char *name) {
	if (p.n_rows == 1 && n_panels(p.n) >= TWO_PANELS_FROM) {
		launch_gemv<type, 1, 2>(q, p, name);
	} else if (p.n_rows == 1) {
		launch_gemv<type, 1, 1>(q, p, name);
	} else if (p.n_rows == 2) {
		launch_gemv<type, 2, 1>(q, p, name);
	} else if (p.n_rows <= 4) {
		launch_gemv<type, 4, 1>(q, p, name);
	} else if (p.n_rows <= GEMV_ROWS) {
		launch_gemv<type, 8, 1>(q, p, name);
	} else if (p.n_rows <= 16) {
		launch_gemm<gemm_shape<type, 1, 1, 1>>(q, p, name);
	} else if (p.n_rows <= 32) {
		launch_gemm<gemm_shape<type, 2, 1, 1>>(q, p, name);
	} else {
		launch_gemm<gemm_shape<type, 2, 4, 2>>(q, p, name);
	}
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
MATMUL(q8_0, BB_Q8_0)
MATMUL(q4_0, BB_Q4_0)
MATMUL(q4_1, BB_Q4_1)
MATMUL(q5_0, BB_Q5_0)
MATMUL(q5_1, BB_Q5_1)
MATMUL(q4_k, BB_Q4_K)
MATMUL(q5_k, BB_Q5_K)
MATMUL(q6_k, BB_Q6_K)
#undef MATMUL
