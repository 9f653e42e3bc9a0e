/* SPDX-License-Identifier: Apache-2.0
 *
 * Products of many rows by cuBLASLt: x in bf16, weights out of their panels and into bf16, and who
 * takes how many rows. Weights of block types are w = scale code + min in f32 before they are
 * rounded. */
#include "fused.cuh"
#include "matmul_lt.h"
#include "matmul_quant.cuh"

#include <assert.h>

enum { THREADS = 256, WARPS = THREADS / WARP };

/* ---- weights ---- */

struct unpack_args {
	uint16_t *dst;    /* [32 n_panels, panel_x_elems(k)] */
	const uint8_t *w; /* the first panel */
	int k;
};

/* Block b of a column: 32 elements, as 16 words of two. */
template <int type>
DEVICE void unpack_block(uint32_t out[16], const uint8_t *span, int n_blocks, int b, int lane) {
	uint32_t codes[8];
	read_codes<type>(codes, span, n_blocks, b, lane);
	const scale_header header = read_header<type>(span, n_blocks, lane);
	const float2 scale = read_scale<type>(header, span, n_blocks, b, lane);
	UNROLL
	for (int g = 0; g < 8; g++) {
		const float d = type == BB_Q6_K && g >= 4 ? scale.y : scale.x;
		const float m = panel_has_min(type) ? scale.y : 0.0f;
		float v[4];
		UNROLL
		for (int i = 0; i < 4; i++) {
			const uint32_t byte = byte_of(codes[g], i);
			const int code = type == BB_Q8_0 ? (int)(int8_t)byte : (int)byte - panel_offset(type);
			v[i] = fmaf(d, (float)code, m);
		}
		out[2 * g] = bf16x2_of(v[0], v[1]);
		out[2 * g + 1] = bf16x2_of(v[2], v[3]);
	}
}

/* The same of float types; elements behind the last unit are zeros. */
template <int type>
DEVICE void unpack_floats(uint32_t out[16], const uint8_t *panel, int n_units, int b, int lane) {
	constexpr int per = panel_unit_elems(type), units = 32 / per;
	UNROLL
	for (int j = 0; j < units; j++) {
		const int u = b * units + j;
		uint4 v = { 0, 0, 0, 0 };
		if (u < n_units) {
			v = ld_nc((const uint4 *)panel + (size_t)u * PANEL + panel_place(type, u, lane));
		}
		const uint32_t w[4] = { v.x, v.y, v.z, v.w };
		UNROLL
		for (int i = 0; i < per / 2; i++) {
			out[j * per / 2 + i] = type == BB_BF16 ? w[i]
				: type == BB_F16 ? bf16x2_of(f16_lo(w[i]), f16_hi(w[i]))
				: bf16x2_of(__uint_as_float(w[2 * i % 4]), __uint_as_float(w[2 * i % 4 + 1]));
		}
	}
}

/* A warp takes a block of 32 elements of a panel, a lane a column of it; then they write columns of
 * up to 256 elements in whole sectors. Grid: spans, panels. */
template <int type> __global__ void __launch_bounds__(THREADS) lt_unpack(unpack_args p) {
	enum { UNITS = SPAN_K / 8 };
	SHARED(uint4, tile, [PANEL][UNITS + 1]); /* + 1: columns begin at different banks */
	const int lane = threadIdx.x % WARP, b = threadIdx.x / WARP;
	const int k = panel_x_elems(p.k), n_blocks = min((int)SPAN, k / 32 - (int)blockIdx.x * SPAN);
	const uint8_t *panel = p.w + blockIdx.y * panel_bytes(type, p.k);
	static_assert((int)WARPS == (int)SPAN, "a warp for each block");
	if (b < n_blocks) {
		uint32_t out[16];
		if (panel_is_float(type)) {
			unpack_floats<type>(out, panel, panel_units(type, p.k), blockIdx.x * SPAN + b, lane);
		} else {
			unpack_block<type>(out, panel + blockIdx.x * (size_t)panel_span_bytes(type, SPAN),
				n_blocks, b, lane);
		}
		UNROLL
		for (int i = 0; i < 4; i++) {
			st_vec(&tile[lane][4 * b + i],
				make_uint4(out[4 * i], out[4 * i + 1], out[4 * i + 2], out[4 * i + 3]));
		}
	}
	__syncthreads();
	for (int column = b; column < PANEL && lane < 4 * n_blocks; column += WARPS) {
		uint16_t *to = p.dst + ((size_t)blockIdx.y * PANEL + column) * k + blockIdx.x * SPAN_K;
		st_vec((uint4 *)to + lane, ld_vec(&tile[column][lane]));
	}
}

/* ---- x ---- */

struct lt_x_args {
	uint16_t *dst; /* [n_rows, k] */
	const float *x, *up, *w;
	int ld, k;
	float eps;
	bool wide;
};

/* A thread per element of the gated activation. */
template <int kind> __global__ void __launch_bounds__(THREADS) lt_gated(lt_x_args p) {
	const int i = blockIdx.y * THREADS + threadIdx.x;
	const size_t at = (size_t)blockIdx.x * p.ld + i;
	if (i < p.k) {
		p.dst[(size_t)blockIdx.x * p.k + i] = bf16_of(gated<kind>(p.x[at], p.up[at]));
	}
}

/* A block per normalised row. */
template <int n_warps> __global__ void __launch_bounds__(WARP * n_warps) lt_norm(lt_x_args p) {
	SHARED(float, sums, [n_warps]);
	const int tid = threadIdx.x;
	const float *x = p.x + (size_t)blockIdx.x * p.ld;
	const float inverse = rms_inverse<n_warps>(x, p.k, p.eps, p.wide, tid, sums);
	for (int i = tid; i < p.k; i += WARP * n_warps) {
		const float v = x[i] * inverse;
		p.dst[(size_t)blockIdx.x * p.k + i] = bf16_of(p.w != NULL ? v * p.w[i] : v);
	}
}

static size_t lt_prep_bytes(enum bb_dtype type, int n_rows, int k) {
	const int few = n_rows < BB_LT_ROWS ? n_rows : BB_LT_ROWS - 1;
	const size_t many = n_rows < BB_LT_ROWS ? 0 : panel_x_row_bytes(BB_BF16, k) * (size_t)n_rows;
	const size_t bytes = panel_x_row_bytes(type, k) * (size_t)few;
	return bytes > many ? bytes : many;
}

static void lt_prep(bb_queue *q, void *dst, enum bb_dtype type, const float *x, int ld_x,
	int n_rows, int k) {
	panels_prep(q, dst, n_rows < BB_LT_ROWS ? type : BB_BF16, x, ld_x, n_rows, k);
}

static void lt_prep_fused(bb_queue *q, void *dst, enum bb_dtype type, const struct bb_fused_x *x,
	int n_rows, int k) {
	if (n_rows < BB_LT_ROWS) {
		panels_prep_fused(q, dst, type, x, n_rows, k);
		return;
	}
	const bool wide = is_wide(x->x, x->ld) && is_wide(x->w) && k % 4 == 0;
	const lt_x_args p = { (uint16_t *)dst, x->x, x->up, x->w, x->ld, k, x->eps, wide };
	const dim3 grid((unsigned)n_rows, blocks_for((size_t)k, THREADS));
	assert(panels_fuses(type) && k % 32 == 0);
	if (x->kind == BB_FUSE_SILU_MUL) {
		LAUNCH((lt_gated<GATE_SILU>), grid, THREADS, 0, q->stream, p);
	} else if (x->kind == BB_FUSE_GELU_MUL) {
		LAUNCH((lt_gated<GATE_GELU>), grid, THREADS, 0, q->stream, p);
	} else if (k <= RMS_SHORT) {
		LAUNCH((lt_norm<1>), n_rows, WARP, 0, q->stream, p);
	} else {
		LAUNCH((lt_norm<8>), n_rows, THREADS, 0, q->stream, p);
	}
	queue_launched(q, "prep_fused");
}

static size_t lt_weight_bytes(enum bb_dtype type, int n, int k) {
	return layout_panels.weight_bytes(type, n, k);
}

static void lt_unpack_row(void *dst, const void *packed, enum bb_dtype type, int n, int k,
	int row) {
	layout_panels.unpack_row(dst, packed, type, n, k, row);
}

/* ---- products ---- */

/* y = bias, or y + bias, to which the product is added then. */
__global__ void __launch_bounds__(THREADS) lt_bias(matmul_args p) {
	const int col = blockIdx.y * THREADS + threadIdx.x;
	if (col < p.n) {
		float *y = &p.y[(size_t)blockIdx.x * p.ld_y + col];
		*y = p.accumulate ? *y + p.bias[col] : p.bias[col];
	}
}

template <int type> static void matmul_lt(bb_queue *q, const matmul_args &p) {
	struct lt *t = device_lt(q->device);
	const int k = panel_x_elems(p.k), columns = lt_columns(p.n, p.k);
	const size_t bytes = panel_bytes(type, p.k);
	if (p.bias != NULL) {
		LAUNCH(lt_bias, dim3((unsigned)p.n_rows, blocks_for((size_t)p.n, THREADS)), THREADS, 0,
			q->stream, p);
		queue_launched(q, "a bias");
	}
	for (int first = 0; first < p.n; first += columns) {
		const int n = p.n - first < columns ? p.n - first : columns;
		const unpack_args unpack = { (uint16_t *)lt_scratch(t),
			p.w + (size_t)(first / PANEL) * bytes, p.k };
		LAUNCH(lt_unpack<type>, dim3(blocks_for((size_t)k, SPAN_K), (unsigned)n_panels(n)),
			THREADS, 0, q->stream, unpack);
		queue_launched(q, "weights to bf16");
		lt_product(t, q, p.y + first, p.ld_y, p.x, p.n_rows, n, k, p.accumulate || p.bias != NULL);
	}
}

#define MATMUL(suffix, type) \
	extern "C" void matmul_##suffix##_lt(bb_queue *q, float *y, int ld_y, const void *w, \
		const void *x, const float *bias, int n_rows, int n, int k, bool accumulate) { \
		if (n_rows < BB_LT_ROWS) { \
			matmul_##suffix##_sm80(q, y, ld_y, w, x, bias, n_rows, n, k, accumulate); \
		} else { \
			matmul_lt<type>(q, { y, (const uint8_t *)w, (const uint8_t *)x, bias, ld_y, n_rows, n, \
				k, accumulate }); \
		} \
	}
MATMUL(f32, BB_F32)
MATMUL(f16, BB_F16)
MATMUL(bf16, BB_BF16)
QUANT_TYPES(MATMUL)
#undef MATMUL

static void lt_matmul(enum bb_dtype type, bb_queue *q, const matmul_args &p) {
	switch (type) {
#define CASE(suffix, t) \
	case t: \
		matmul_lt<t>(q, p); \
		break;
	QUANT_TYPES(CASE)
#undef CASE
	default:
		assert(!"not a block type");
	}
}

/* Here the parts stay one after the other. */
static void lt_product_fused(bb_queue *q, const struct bb_fused_product *p) {
	if (p->n_rows < BB_LT_ROWS) {
		panels_product(q, p);
		return;
	}
	if (!p->is_prepared) {
		lt_prep_fused(q, p->prepared, p->type, &p->x, p->n_rows, p->k);
	}
	lt_matmul(p->type, q, { p->y, (const uint8_t *)p->w, (const uint8_t *)p->prepared, p->bias,
		p->ld_y, p->n_rows, p->n, p->k, p->accumulate });
	if (p->gated != NULL) {
		const struct bb_fused_x x = { p->gate, p->y, p->y + p->n / 2, p->ld_y, NULL, 0 };
		lt_prep_fused(q, p->gated, p->type, &x, p->n_rows, p->n / 2);
	}
}

extern "C" const struct bb_layout layout_panels_lt = {
	"panels_lt", lt_weight_bytes, panels_pack, lt_unpack_row, lt_prep_bytes, lt_prep, panels_fuses,
	lt_prep_fused, lt_product_fused,
};
