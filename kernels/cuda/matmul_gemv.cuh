/* SPDX-License-Identifier: Apache-2.0
 *
 * The product of block types for 1 to 8 rows. A block of threads owns one or two panels of 32
 * columns and walks along k in spans of 256, which cp.async brings to shared memory several spans
 * ahead. Each of the 8 warps takes one block of 32 of the span, a lane per column, and leaves the
 * exact integers of all rows (dp4a) in shared memory; then a warp for each row and panel adds them
 * to its outputs in block order, while the next span's integers are made. So k is cut for the loads
 * and the integers, where no order counts, and never for the sums in f32.
 *
 * With fused_args a block first normalises and quantises x for itself, while its first weights are
 * on their way: a launch costs more than x from the cache. Of a gated activation it owns a panel of
 * the gate and that of the same columns of up, which give a block of 32 of the next product's x. */
#pragma once

#include "fused.cuh"
#include "matmul_quant.cuh"
#include "quantise.cuh"

enum {
	GEMV_THREADS = 256,
	GEMV_WARPS = GEMV_THREADS / WARP,
	GEMV_ROWS = 8,
	FUSED_ROWS = 2, /* at most, where each block computes x */
};
static_assert((int)GEMV_WARPS == (int)SPAN, "a warp for each block of a span");

/* What a kernel is made for, and how a block's shared memory is cut: stages of { panels, and unless
 * has_own_x: q [rows][256], meta [rows][8] }, then two buffers of integers, as f32
 * [rows][panels][8 blocks][parts][32 columns], then with has_own_x whole rows of x. */
template <int type_, int rows_, int panels_, bool own_x_> struct gemv_shape {
	static constexpr int type = type_, rows = rows_, panels = panels_;
	static constexpr bool has_own_x = own_x_;
	static constexpr int span_bytes = panel_span_bytes(type, SPAN);
	static constexpr int q_at = panels * span_bytes;
	static constexpr int meta_at = q_at + rows * SPAN_K;
	static constexpr int stage_bytes = has_own_x ? q_at : meta_at + rows * SPAN * 8;
	static constexpr int n_stages = panels > 1 || rows > 4 ? 4 : type == BB_Q8_0 ? 5 : 6;
	static constexpr int parts = type == BB_Q6_K ? 2 : 1;
	static constexpr int dots = rows * panels * SPAN * parts * PANEL;
	static constexpr int x_at = n_stages * stage_bytes + 2 * dots * 4;
	static_assert(rows * panels <= GEMV_WARPS, "a warp for each row and panel");

	static constexpr int smem_bytes(int k) {
		return x_at + (has_own_x ? rows * (int)panel_x_row_bytes(type, k) : 0);
	}
};

/* ---- what differs with x of one's own ---- */

/* The block's j-th panel. */
template <class shape> DEVICE int panel_at(const matmul_args &p, int j) {
	return (int)blockIdx.x * shape::panels + j;
}

/* Of a gated activation: the gate's, then up's of the same columns. */
template <class shape> DEVICE int panel_at(const fused_args &p, int j) {
	return p.gated != NULL ? (int)blockIdx.x + j * (p.n / 2 / PANEL)
		: (int)blockIdx.x * shape::panels + j;
}

/* The block's first row. */
template <class shape> DEVICE int first_row(const matmul_args &p) {
	return (int)blockIdx.y * shape::rows;
}

/* A span's part of the rows of x in shared memory. */
struct x_span {
	const uint8_t *q, *meta;
	int q_stride, meta_stride; /* bytes from row to row */
};

template <class shape> DEVICE x_span x_span_of(const uint8_t *smem, int i, int k) {
	if (shape::has_own_x) {
		const uint8_t *x = smem + shape::x_at;
		const int stride = (int)panel_x_row_bytes(shape::type, k);
		return { x + i * SPAN_K, x + k + i * SPAN * 8, stride, stride };
	}
	const uint8_t *stage = smem + i % shape::n_stages * shape::stage_bytes;
	return { stage + shape::q_at, stage + shape::meta_at, SPAN_K, SPAN * 8 };
}

template <class shape> DEVICE void make_x(const matmul_args &p, uint8_t *smem) {
}

/* Starts the copies of span i's x: 16 units of q and 4 of meta a row. Rows beyond the last are that
 * one again. */
template <class shape, class args>
DEVICE void load_x(const args &p, uint8_t *stage, int i, int n_blocks) {
	const size_t bytes = panel_x_row_bytes(shape::type, p.k);
	for (int u = threadIdx.x; u < shape::rows * 20; u += GEMV_THREADS) {
		const int r = u / 20, v = u % 20, row = first_row<shape>(p) + r;
		const uint8_t *from = x_of(p, min(row, p.n_rows - 1), bytes);
		if (v < 16 && v * 16 < n_blocks * 32) {
			cp_async16(stage + shape::q_at + r * SPAN_K + 16 * v, from + i * SPAN_K + 16 * v);
		} else if (v >= 16 && (v - 16) * 2 < n_blocks) {
			cp_async16(stage + shape::meta_at + r * SPAN * 8 + 16 * (v - 16),
				from + p.k + i * SPAN * 8 + 16 * (v - 16));
		}
	}
}

template <class shape>
DEVICE void load_x(const fused_args &p, uint8_t *stage, int i, int n_blocks) {
}

/* Normalises and quantises the rows, as prep_norm does it. */
template <class shape> DEVICE void make_x(const fused_args &p, uint8_t *smem) {
	SHARED(float, sums, [GEMV_WARPS]);
	const int tid = threadIdx.x, lane = tid % WARP, warp = tid / WARP;
	uint8_t *to = smem + shape::x_at;
	for (int r = 0; r < shape::rows; r++) {
		const float *x = p.from + (size_t)min(r, p.n_rows - 1) * p.ld;
		const float inverse = p.k <= RMS_SHORT ? rms_inverse<1>(x, p.k, p.eps, p.wide, lane, sums)
			: rms_inverse<GEMV_WARPS>(x, p.k, p.eps, p.wide, tid, sums);
		for (int b = warp; b < p.k / 32; b += GEMV_WARPS) {
			const int i = b * 32 + lane;
			const float v = x[i] * inverse;
			put_block(to, p.k, b, p.norm != NULL ? v * p.norm[i] : v);
		}
		__syncthreads(); /* sums are read */
		to += panel_x_row_bytes(shape::type, p.k);
	}
}

/* Stores the output that a lane of a warp of `row` and the block's j-th panel has summed. */
template <class shape, class args>
DEVICE void finish(const args &p, int row, int j, bool adds, float acc) {
	if (adds) {
		const int at = first_row<shape>(p) + row;
		finish_output(p, at, panel_at<shape>(p, j) * PANEL + (int)threadIdx.x % WARP, acc);
	}
}

template <class shape> DEVICE void finish(const fused_args &p, int row, int j, bool adds,
	float acc) {
	SHARED(float, ups, [FUSED_ROWS * PANEL]);
	const int lane = (int)threadIdx.x % WARP, panel = panel_at<shape>(p, j);
	if (p.gated == NULL) {
		finish<shape>((const matmul_args &)p, row, j, adds, acc);
		return;
	}
	acc = adds && p.bias != NULL ? acc + p.bias[panel * PANEL + lane] : acc;
	if (adds && j == 1) {
		ups[row * PANEL + lane] = acc;
	}
	__syncthreads();
	if (adds && j == 0 && row < p.n_rows) {
		uint8_t *to = p.gated + row * p.gated_bytes;
		const float up = ups[row * PANEL + lane];
		put_block(to, p.n / 2, panel,
			p.is_gelu ? gated<GATE_GELU>(acc, up) : gated<GATE_SILU>(acc, up));
		if (panel == p.n / 2 / PANEL - 1 && lane == 0) {
			put_end(to, p.n / 2);
		}
	}
}

/* ---- what doesn't ---- */

/* Starts the copies of span i to its stage. */
template <class shape, class args> DEVICE void gemv_load(const args &p, uint8_t *smem, int i) {
	constexpr int type = shape::type;
	uint8_t *stage = smem + i % shape::n_stages * shape::stage_bytes;
	const int n_blocks = min((int)SPAN, p.k / 32 - i * SPAN);
	const int units = panel_span_bytes(type, n_blocks) / 16, tid = threadIdx.x;
	const size_t bytes = panel_bytes(type, p.k);
	UNROLL
	for (int j = 0; j < shape::panels; j++) {
		const int panel = panel_at<shape>(p, j);
		const uint8_t *from = p.w + panel * bytes + (size_t)i * shape::span_bytes;
		for (int u = tid; u < units && panel < n_panels(p.n); u += GEMV_THREADS) {
			cp_async16(stage + j * shape::span_bytes + 16 * u, from + 16 * u);
		}
	}
	load_x<shape>(p, stage, i, n_blocks);
}

/* The integers of one block of a panel for all rows. */
template <class shape> DEVICE void gemv_dots(float *dots, const uint8_t *stage, const x_span &x,
	int panel, int n_blocks, int b, int lane) {
	constexpr int type = shape::type;
	uint32_t c[8];
	read_codes<type>(c, stage + panel * shape::span_bytes, n_blocks, b, lane);
	UNROLL
	for (int r = 0; r < shape::rows; r++) {
		const uint4 *q = (const uint4 *)(x.q + r * x.q_stride + b * 32);
		const uint4 lo = ld_vec(q), hi = ld_vec(q + 1);
		int d0 = dp4a_s8(c[0], lo.x, 0), d1 = dp4a_s8(c[4], hi.x, 0);
		d0 = dp4a_s8(c[1], lo.y, d0);
		d1 = dp4a_s8(c[5], hi.y, d1);
		d0 = dp4a_s8(c[2], lo.z, d0);
		d1 = dp4a_s8(c[6], hi.z, d1);
		d0 = dp4a_s8(c[3], lo.w, d0);
		d1 = dp4a_s8(c[7], hi.w, d1);
		if (panel_offset(type) != 0) {
			const uint2 meta = ld_vec((const uint2 *)(x.meta + r * x.meta_stride) + b);
			d0 -= panel_offset(type) * x_sum0(meta);
			d1 -= panel_offset(type) * x_sum1(meta);
		}
		float *to = dots + ((r * shape::panels + panel) * SPAN + b) * shape::parts * PANEL + lane;
		to[0] = (float)(shape::parts == 2 ? d0 : d0 + d1);
		if (shape::parts == 2) {
			to[PANEL] = (float)d1;
		}
	}
}

/* Adds a span's integers to the output of one row and column, in block order. */
template <class shape> DEVICE float gemv_add(float acc, const float *dots, const uint8_t *stage,
	const x_span &x, int row, int panel, int n_blocks, int lane) {
	constexpr int type = shape::type;
	const uint8_t *span = stage + panel * shape::span_bytes;
	const scale_header header = read_header<type>(span, n_blocks, lane);
	const float *from = dots + (row * shape::panels + panel) * SPAN * shape::parts * PANEL + lane;
	UNROLL
	for (int b = 0; b < SPAN; b++) {
		if (panel_is_k(type) || b < n_blocks) {
			const float2 scale = read_scale<type>(header, span, n_blocks, b, lane);
			const uint2 meta = ld_vec((const uint2 *)(x.meta + row * x.meta_stride) + b);
			const float dot0 = from[b * shape::parts * PANEL];
			const float dot1 = shape::parts == 2 ? from[(b * 2 + 1) * PANEL] : 0.0f;
			acc = add_block<type>(acc, dot0, dot1, scale, meta);
		}
	}
	return acc;
}

/* What a block does: the panels that the grid's x says, for the rows from first_row on. */
template <class shape, class args> DEVICE void gemv_tile(const args &p) {
	DYN_SHARED(uint8_t, smem);
	float *dots = (float *)(smem + shape::n_stages * shape::stage_bytes);
	const int lane = threadIdx.x % WARP, warp = threadIdx.x / WARP;
	const int n_blocks = p.k / 32, n_spans = (n_blocks + SPAN - 1) / SPAN;
	/* The row and panel whose outputs this warp adds up. */
	const int row = warp / shape::panels, panel = warp % shape::panels;
	const bool adds = warp < shape::rows * shape::panels &&
		panel_at<shape>(p, panel) < n_panels(p.n);
	float acc = 0.0f;
	UNROLL
	for (int i = 0; i < shape::n_stages - 2; i++) {
		if (i < n_spans) {
			gemv_load<shape>(p, smem, i);
		}
		cp_async_commit();
	}
	make_x<shape>(p, smem);
	for (int i = 0; i <= n_spans; i++) {
		cp_async_wait<shape::n_stages - 3>();
		__syncthreads();
		/* The stage of span i - 2 is free, that of i - 1 is still read for its scales. */
		if (i + shape::n_stages - 2 < n_spans) {
			gemv_load<shape>(p, smem, i + shape::n_stages - 2);
		}
		cp_async_commit();
		if (i > 0 && adds) {
			acc = gemv_add<shape>(acc, dots + (i - 1) % 2 * shape::dots,
				smem + (i - 1) % shape::n_stages * shape::stage_bytes,
				x_span_of<shape>(smem, i - 1, p.k), row, panel,
				min((int)SPAN, n_blocks - (i - 1) * SPAN), lane);
		}
		const int here = min((int)SPAN, n_blocks - i * SPAN);
		UNROLL
		for (int j = 0; j < shape::panels; j++) {
			if (warp < here && panel_at<shape>(p, j) < n_panels(p.n)) {
				gemv_dots<shape>(dots + i % 2 * shape::dots,
					smem + i % shape::n_stages * shape::stage_bytes,
					x_span_of<shape>(smem, i, p.k), j, here, warp, lane);
			}
		}
	}
	finish<shape>(p, row, panel, adds, acc);
}

/* Grid: panels (pairs of them) by groups of `rows` rows. args: matmul_args or fused_args. */
template <class shape, class args>
__global__ void __launch_bounds__(GEMV_THREADS) matmul_gemv(args p) {
	gemv_tile<shape>(p);
}
