/* SPDX-License-Identifier: Apache-2.0
 *
 * Preparing x for products in the layout `panels`; for block types also while a normalisation or a
 * gated activation computes it, with the bits of the two one after the other. */
#include "fused.cuh"
#include "matmul_panel.h"
#include "module.h"
#include "quantise.cuh"

#include <assert.h>

enum { THREADS = 256, WARPS = THREADS / WARP };

struct prep_args {
	uint8_t *dst;
	const float *x;
	size_t row_bytes; /* of dst */
	int ld_x, k;
	/* of what is computed on the way */
	const float *up, *w;
	float eps;
	bool wide;
};

/* A warp takes a block of 32. */
__global__ void __launch_bounds__(THREADS) prep_quant(prep_args p) {
	const int lane = threadIdx.x % WARP, b = blockIdx.y * WARPS + threadIdx.x / WARP;
	uint8_t *row = p.dst + blockIdx.x * p.row_bytes;
	if (b < p.k / 32) {
		put_block(row, p.k, b, p.x[(size_t)blockIdx.x * p.ld_x + b * 32 + lane]);
	} else if (b == p.k / 32 && lane == 0) {
		put_end(row, p.k);
	}
}

/* The same of the gated activation of x and p.up. */
template <int kind> __global__ void __launch_bounds__(THREADS) prep_gated(prep_args p) {
	const int lane = threadIdx.x % WARP, b = blockIdx.y * WARPS + threadIdx.x / WARP;
	const size_t at = (size_t)blockIdx.x * p.ld_x + b * 32 + lane;
	uint8_t *row = p.dst + blockIdx.x * p.row_bytes;
	if (b < p.k / 32) {
		put_block(row, p.k, b, gated<kind>(p.x[at], p.up[at]));
	} else if (b == p.k / 32 && lane == 0) {
		put_end(row, p.k);
	}
}

/* The same of the normalised x; a block of n_warps takes a row. */
template <int n_warps> __global__ void __launch_bounds__(WARP * n_warps) prep_norm(prep_args p) {
	const int lane = threadIdx.x % WARP, warp = threadIdx.x / WARP;
	SHARED(float, sums, [n_warps]);
	const float *x = p.x + (size_t)blockIdx.x * p.ld_x;
	uint8_t *row = p.dst + blockIdx.x * p.row_bytes;
	const float inverse = rms_inverse<n_warps>(x, p.k, p.eps, p.wide, (int)threadIdx.x, sums);
	for (int b = warp; b < p.k / 32; b += n_warps) {
		const int i = b * 32 + lane;
		const float v = x[i] * inverse;
		put_block(row, p.k, b, p.w != NULL ? v * p.w[i] : v);
	}
	if (threadIdx.x == 0) {
		put_end(row, p.k);
	}
}

/* f32 and bf16: a thread per element, and per element of zeros behind the row. */
template <bool to_bf16> __global__ void __launch_bounds__(THREADS) prep_float(prep_args p) {
	const int i = blockIdx.y * THREADS + threadIdx.x;
	if ((size_t)i * (to_bf16 ? 2 : 4) >= p.row_bytes) {
		return;
	}
	uint8_t *row = p.dst + blockIdx.x * p.row_bytes;
	const float x = i < p.k ? p.x[(size_t)blockIdx.x * p.ld_x + i] : 0.0f;
	if (to_bf16) {
		((uint16_t *)row)[i] = bf16_of(x);
	} else {
		((float *)row)[i] = x;
	}
}

/* bf16 in the order of steps. */
__global__ void __launch_bounds__(THREADS) prep_bf16_steps(prep_args p) {
	const int i = blockIdx.y * THREADS + threadIdx.x;
	if (i < panel_x_elems(p.k)) {
		((uint16_t *)(p.dst + blockIdx.x * p.row_bytes))[panel_place_in_steps(i)] =
			bf16_of(i < p.k ? p.x[(size_t)blockIdx.x * p.ld_x + i] : 0.0f);
	}
}

/* f16: a block per row. */
template <bool in_steps> DEVICE void put_f16(const prep_args &p) {
	SHARED(uint32_t, largest, [WARPS]);
	const float *x = p.x + (size_t)blockIdx.x * p.ld_x;
	const int tid = threadIdx.x, n = panel_x_elems(p.k);
	uint32_t max = 0;
	for (int i = tid; i < p.k; i += THREADS) {
		const uint32_t u = __float_as_uint(x[i]) & 0x7fffffffu;
		max = u > max ? u : max;
	}
	max = __reduce_max_sync(ALL_LANES, max);
	if (tid % WARP == 0) {
		largest[tid / WARP] = max;
	}
	__syncthreads();
	for (int i = 0; i < WARPS; i++) {
		max = largest[i] > max ? largest[i] : max;
	}
	/* 2^(e - 14) and its inverse by their bits, e the exponent of the largest; both normal. */
	int e = (int)(max >> 23) - 14;
	e = e < 1 ? 1 : e > 240 ? 240 : e;
	const float scale = __uint_as_float((uint32_t)e << 23);
	const float inverse = __uint_as_float((uint32_t)(254 - e) << 23);
	uint8_t *row = p.dst + blockIdx.x * p.row_bytes;
	uint16_t *high = (uint16_t *)row, *low = high + n;
	for (int i = tid; i < n; i += THREADS) {
		const float v = i < p.k ? x[i] * inverse : 0.0f;
		const uint16_t h = f16_of(v);
		const int at = in_steps ? panel_place_in_steps(i) : i;
		high[at] = h;
		low[at] = f16_of(v - f32_of_f16(h));
	}
	if (tid == 0) {
		st_vec((float4 *)(low + n), make_float4(scale, 0.0f, 0.0f, 0.0f));
	}
}

__global__ void __launch_bounds__(THREADS) prep_f16(prep_args p) {
	put_f16<false>(p);
}

__global__ void __launch_bounds__(THREADS) prep_f16_steps(prep_args p) {
	put_f16<true>(p);
}

extern "C" void panels_prep(bb_queue *q, void *dst, enum bb_dtype type, const float *x, int ld_x,
	int n_rows, int k) {
	const prep_args p = { (uint8_t *)dst, x, panel_x_row_bytes(type, k), ld_x, k, NULL, NULL, 0,
		false };
	if (n_rows == 0) {
		return;
	}
	if (!panel_is_float(type)) {
		assert(k % 32 == 0);
		LAUNCH(prep_quant, dim3(n_rows, blocks_for(k / 32 + 1, WARPS)), THREADS, 0, q->stream, p);
	} else if (type == BB_F16) {
		LAUNCH(prep_f16, n_rows, THREADS, 0, q->stream, p);
	} else if (type == BB_BF16) {
		LAUNCH(prep_float<true>, dim3(n_rows, blocks_for(p.row_bytes / 2, THREADS)), THREADS, 0,
			q->stream, p);
	} else {
		LAUNCH(prep_float<false>, dim3(n_rows, blocks_for(p.row_bytes / 4, THREADS)), THREADS, 0,
			q->stream, p);
	}
	queue_launched(q, "prep");
}

extern "C" void panels_prep_steps(bb_queue *q, void *dst, enum bb_dtype type, const float *x,
	int ld_x, int n_rows, int k) {
	const prep_args p = { (uint8_t *)dst, x, panel_x_row_bytes(type, k), ld_x, k, NULL, NULL, 0,
		false };
	assert(type == BB_F16 || type == BB_BF16);
	if (n_rows < BB_WGMMA_ROWS) {
		panels_prep(q, dst, type, x, ld_x, n_rows, k);
		return;
	}
	if (type == BB_F16) {
		LAUNCH(prep_f16_steps, n_rows, THREADS, 0, q->stream, p);
	} else {
		LAUNCH(prep_bf16_steps, dim3(n_rows, blocks_for((size_t)panel_x_elems(k), THREADS)),
			THREADS, 0, q->stream, p);
	}
	queue_launched(q, "prep");
}

extern "C" bool panels_fuses(enum bb_dtype type) {
	return !panel_is_float(type);
}

extern "C" void panels_prep_fused(bb_queue *q, void *dst, enum bb_dtype type,
	const struct bb_fused_x *x, int n_rows, int k) {
	const bool wide = is_wide(x->x, x->ld) && is_wide(x->w) && k % 4 == 0;
	const prep_args p = { (uint8_t *)dst, x->x, panel_x_row_bytes(type, k), x->ld, k, x->up, x->w,
		x->eps, wide };
	const dim3 grid(n_rows, blocks_for(k / 32 + 1, WARPS));
	assert(panels_fuses(type) && k % 32 == 0);
	if (n_rows == 0) {
		return;
	}
	if (x->kind == BB_FUSE_SILU_MUL) {
		LAUNCH((prep_gated<GATE_SILU>), grid, THREADS, 0, q->stream, p);
	} else if (x->kind == BB_FUSE_GELU_MUL) {
		LAUNCH((prep_gated<GATE_GELU>), grid, THREADS, 0, q->stream, p);
	} else if (k <= RMS_SHORT) {
		LAUNCH((prep_norm<1>), n_rows, WARP, 0, q->stream, p);
	} else {
		LAUNCH((prep_norm<8>), n_rows, THREADS, 0, q->stream, p);
	}
	queue_launched(q, "prep_fused");
}
