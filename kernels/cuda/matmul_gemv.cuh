/* SPDX-License-Identifier: Apache-2.0
 *
 * The product of block types for 1 to 8 rows. A block of threads owns one or two panels of 32
 * columns and walks along k in spans of 256, which cp.async brings to shared memory several spans
 * ahead. Each of the 8 warps takes one block of 32 of the span, a lane per column, and leaves the
 * exact integers of all rows (dp4a) in shared memory; then a warp for each row and panel adds them
 * to its outputs in block order, while the next span's integers are made. So k is cut for the loads
 * and the integers, where no order counts, and never for the sums in f32. */
#pragma once

#include "matmul_quant.cuh"

enum { GEMV_THREADS = 256, GEMV_WARPS = GEMV_THREADS / WARP, GEMV_ROWS = 8 };
static_assert((int)GEMV_WARPS == (int)SPAN, "a warp for each block of a span");

/* How a block's shared memory is cut: stages of { panels, q [rows][256], meta [rows][8] }, then
 * two buffers of integers, as f32 [rows][panels][8 blocks][parts][32 columns]. */
template <int type, int rows, int panels> struct gemv_shape {
	static constexpr int span_bytes = panel_span_bytes(type, SPAN);
	static constexpr int q_at = panels * span_bytes;
	static constexpr int meta_at = q_at + rows * SPAN_K;
	static constexpr int stage_bytes = meta_at + rows * SPAN * 8;
	static constexpr int n_stages = panels > 1 || rows > 4 ? 4 : type == BB_Q8_0 ? 5 : 6;
	static constexpr int parts = type == BB_Q6_K ? 2 : 1;
	static constexpr int dots = rows * panels * SPAN * parts * PANEL;
	static constexpr int smem_bytes = n_stages * stage_bytes + 2 * dots * 4;
};

/* Starts the copies of span i to its stage. */
template <int type, int rows, int panels>
DEVICE void gemv_load(const matmul_args &p, uint8_t *smem, int i) {
	typedef gemv_shape<type, rows, panels> shape;
	uint8_t *stage = smem + i % shape::n_stages * shape::stage_bytes;
	const int n_blocks = min((int)SPAN, p.k / 32 - i * SPAN);
	const int units = panel_span_bytes(type, n_blocks) / 16, tid = threadIdx.x;
	const size_t bytes = panel_bytes(type, p.k);
	UNROLL
	for (int j = 0; j < panels; j++) {
		const int panel = blockIdx.x * panels + j;
		const uint8_t *from = p.w + panel * bytes + (size_t)i * shape::span_bytes;
		for (int u = tid; u < units && panel < n_panels(p.n); u += GEMV_THREADS) {
			cp_async16(stage + j * shape::span_bytes + 16 * u, from + 16 * u);
		}
	}
	/* x: 16 units of q and 4 of meta a row. Rows beyond the last are that one again. */
	for (int u = tid; u < rows * 20; u += GEMV_THREADS) {
		const int r = u / 20, v = u % 20, row = blockIdx.y * rows + r;
		const uint8_t *from = p.x + (size_t)min(row, p.n_rows - 1) * panel_x_row_bytes(type, p.k);
		if (v < 16 && v * 16 < n_blocks * 32) {
			cp_async16(stage + shape::q_at + r * SPAN_K + 16 * v, from + i * SPAN_K + 16 * v);
		} else if (v >= 16 && (v - 16) * 2 < n_blocks) {
			cp_async16(stage + shape::meta_at + r * SPAN * 8 + 16 * (v - 16),
				from + p.k + i * SPAN * 8 + 16 * (v - 16));
		}
	}
}

/* The integers of one block of a panel for all rows. */
template <int type, int rows, int panels>
DEVICE void gemv_dots(float *dots, const uint8_t *stage, int panel, int n_blocks, int b, int lane) {
	typedef gemv_shape<type, rows, panels> shape;
	uint32_t c[8];
	read_codes<type>(c, stage + panel * shape::span_bytes, n_blocks, b, lane);
	UNROLL
	for (int r = 0; r < rows; r++) {
		const uint4 *q = (const uint4 *)(stage + shape::q_at + r * SPAN_K + b * 32);
		const uint4 lo = ld_vec(q), hi = ld_vec(q + 1);
		int d0 = dp4a_s8(c[0], lo.x, 0), d1 = dp4a_s8(c[4], hi.x, 0);
		d0 = dp4a_s8(c[1], lo.y, d0);
		d1 = dp4a_s8(c[5], hi.y, d1);
		d0 = dp4a_s8(c[2], lo.z, d0);
		d1 = dp4a_s8(c[6], hi.z, d1);
		d0 = dp4a_s8(c[3], lo.w, d0);
		d1 = dp4a_s8(c[7], hi.w, d1);
		if (panel_offset(type) != 0) {
			const uint2 meta = ld_vec((const uint2 *)(stage + shape::meta_at) + r * SPAN + b);
			d0 -= panel_offset(type) * x_sum0(meta);
			d1 -= panel_offset(type) * x_sum1(meta);
		}
		float *to = dots + ((r * panels + panel) * SPAN + b) * shape::parts * PANEL + lane;
		to[0] = (float)(shape::parts == 2 ? d0 : d0 + d1);
		if (shape::parts == 2) {
			to[PANEL] = (float)d1;
		}
	}
}

/* Adds a span's integers to the output of one row and column, in block order. */
template <int type, int rows, int panels>
DEVICE float gemv_add(float acc, const float *dots, const uint8_t *stage, int row, int panel,
	int n_blocks, int lane) {
	typedef gemv_shape<type, rows, panels> shape;
	const uint8_t *span = stage + panel * shape::span_bytes;
	const scale_header header = read_header<type>(span, n_blocks, lane);
	const float *from = dots + (row * panels + panel) * SPAN * shape::parts * PANEL + lane;
	UNROLL
	for (int b = 0; b < SPAN; b++) {
		if (panel_is_k(type) || b < n_blocks) {
			const float2 scale = read_scale<type>(header, span, n_blocks, b, lane);
			const uint2 meta = ld_vec((const uint2 *)(stage + shape::meta_at) + row * SPAN + b);
			const float dot0 = from[b * shape::parts * PANEL];
			const float dot1 = shape::parts == 2 ? from[(b * 2 + 1) * PANEL] : 0.0f;
			acc = add_block<type>(acc, dot0, dot1, scale, meta);
		}
	}
	return acc;
}

/* Grid: panels (pairs of them) by groups of `rows` rows. */
template <int type, int rows, int panels>
__global__ void __launch_bounds__(GEMV_THREADS) matmul_gemv(matmul_args p) {
	typedef gemv_shape<type, rows, panels> shape;
	static_assert(rows * panels <= GEMV_WARPS, "a warp for each row and panel");
	DYN_SHARED(uint8_t, smem);
	float *dots = (float *)(smem + shape::n_stages * shape::stage_bytes);
	const int lane = threadIdx.x % WARP, warp = threadIdx.x / WARP;
	const int n_blocks = p.k / 32, n_spans = (n_blocks + SPAN - 1) / SPAN;
	/* The row and panel whose outputs this warp adds up. */
	const int row = warp / panels, panel = warp % panels;
	const int panel0 = (int)blockIdx.x * panels;
	const bool adds = warp < rows * panels && panel0 + panel < n_panels(p.n);
	float acc = 0.0f;
	UNROLL
	for (int i = 0; i < shape::n_stages - 2; i++) {
		if (i < n_spans) {
			gemv_load<type, rows, panels>(p, smem, i);
		}
		cp_async_commit();
	}
	for (int i = 0; i <= n_spans; i++) {
		cp_async_wait<shape::n_stages - 3>();
		__syncthreads();
		/* The stage of span i - 2 is free, that of i - 1 is still read for its scales. */
		if (i + shape::n_stages - 2 < n_spans) {
			gemv_load<type, rows, panels>(p, smem, i + shape::n_stages - 2);
		}
		cp_async_commit();
		if (i > 0 && adds) {
			acc = gemv_add<type, rows, panels>(acc, dots + (i - 1) % 2 * shape::dots,
				smem + (i - 1) % shape::n_stages * shape::stage_bytes, row, panel,
				min((int)SPAN, n_blocks - (i - 1) * SPAN), lane);
		}
		const int here = min((int)SPAN, n_blocks - i * SPAN);
		UNROLL
		for (int j = 0; j < panels; j++) {
			if (warp < here && panel0 + j < n_panels(p.n)) {
				gemv_dots<type, rows, panels>(dots + i % 2 * shape::dots,
					smem + i % shape::n_stages * shape::stage_bytes, j, here, warp, lane);
			}
		}
	}
	if (adds) {
		finish_output(p, blockIdx.y * rows + row, (panel0 + panel) * PANEL + lane,
			acc);
	}
}
