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
	/* A processor has to have about 40 KB on their way from memory to be served at its full rate,
	 * and not every product is large enough for two blocks on each. */
	static constexpr int n_stages = panels > 1 || rows > 4 ? 4 : 8;
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

/* Starts the copies of span i's x: 16 units of q and 4 of meta a row. Rows beyond the last are that
 * one again. */
template <class shape, class args>
DEVICE void load_x(const args &p, uint8_t *stage, int i, int n_blocks) {
	static_assert(shape::rows * 20 <= GEMV_THREADS, "a unit a thread");
	const int r = (int)threadIdx.x / 20, v = (int)threadIdx.x % 20;
	if (r < shape::rows) {
		const uint8_t *from = x_of(p, min(first_row<shape>(p) + r, p.n_rows - 1),
			panel_x_row_bytes(shape::type, p.k));
		if (v < 16 && v * 16 < n_blocks * 32) {
			cp_async16(stage + shape::q_at + r * SPAN_K + 16 * v, from + i * SPAN_K + 16 * v);
		} else if (v >= 16 && (v - 16) * 2 < n_blocks) {
			cp_async16(stage + shape::meta_at + r * SPAN * 8 + 16 * (v - 16),
				from + p.k + i * SPAN * 8 + 16 * (v - 16));
		}
	}
}

/* Begins with x: the copies that belong to the first spans. */
template <class shape, class args>
DEVICE void start_x(const args &p, uint8_t *smem, int n_spans) {
	UNROLL_BY(1)
	for (int i = 0; i < shape::n_stages - 2; i++) {
		if (i < n_spans) {
			load_x<shape>(p, smem + i * shape::stage_bytes, i, min((int)SPAN, p.k / 32 - i * SPAN));
		}
		cp_async_commit();
	}
}

template <class shape>
DEVICE void load_x(const fused_args &p, uint8_t *stage, int i, int n_blocks) {
}

DEVICE float normed(const fused_args &p, const float *x, float inverse, int i) {
	const float v = x[i] * inverse;
	return p.norm != NULL ? v * p.norm[i] : v;
}

/* Normalises and quantises the rows, as prep_norm does it, a few blocks at a time: alone, each
 * would wait for its shuffles and divisions. */
template <class shape> DEVICE void start_x(const fused_args &p, uint8_t *smem, int n_spans) {
	SHARED(float, sums, [GEMV_WARPS]);
	enum { AT_ONCE = 4 };
	const int tid = threadIdx.x, lane = tid % WARP, warp = tid / WARP, n_blocks = p.k / 32;
	uint8_t *to = smem + shape::x_at;
	UNROLL
	for (int i = 0; i < shape::n_stages - 2; i++) {
		cp_async_commit();
	}
	for (int r = 0; r < shape::rows; r++) {
		const float *x = p.from + (size_t)min(r, p.n_rows - 1) * p.ld;
		const float inverse = p.k <= RMS_SHORT ? rms_inverse<1>(x, p.k, p.eps, p.wide, lane, sums)
			: rms_inverse<GEMV_WARPS>(x, p.k, p.eps, p.wide, tid, sums);
		int b = warp;
		UNROLL_BY(1)
		for (int i = 0; i + AT_ONCE * GEMV_WARPS <= n_blocks; i += AT_ONCE * GEMV_WARPS) {
			float v[AT_ONCE];
			UNROLL
			for (int j = 0; j < AT_ONCE; j++) {
				v[j] = normed(p, x, inverse, (b + j * GEMV_WARPS) * 32 + lane);
			}
			UNROLL
			for (int j = 0; j < AT_ONCE; j++, b += GEMV_WARPS) {
				put_block(to, p.k, b, v[j]);
			}
		}
		UNROLL_BY(1)
		for (; b < n_blocks; b += GEMV_WARPS) {
			put_block(to, p.k, b, normed(p, x, inverse, b * 32 + lane));
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

/* Starts the copies of the weights of span i to its stage. */
template <class shape, class args> DEVICE void gemv_load(const args &p, uint8_t *smem, int i) {
	constexpr int type = shape::type;
	uint8_t *stage = smem + i % shape::n_stages * shape::stage_bytes;
	const int n_blocks = min((int)SPAN, p.k / 32 - i * SPAN);
	const int units = n_blocks == SPAN ? panel_span_bytes(type, SPAN) / 16
		: panel_span_bytes(type, n_blocks) / 16;
	UNROLL
	for (int j = 0; j < shape::panels; j++) {
		const int panel = panel_at<shape>(p, j);
		const uint8_t *from = p.w + panel * panel_bytes(type, p.k) + (size_t)i * shape::span_bytes;
		UNROLL
		for (int u0 = 0; u0 < shape::span_bytes / 16; u0 += GEMV_THREADS) {
			const int u = u0 + (int)threadIdx.x;
			if (u < units && panel < n_panels(p.n)) {
				cp_async16(stage + j * shape::span_bytes + 16 * u, from + 16 * u);
			}
		}
	}
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
template <class shape, bool is_whole> DEVICE float gemv_add(float acc, const float *dots,
	const uint8_t *stage, const x_span &x, int row, int panel, int n_blocks, int lane) {
	constexpr int type = shape::type, parts = shape::parts;
	const uint8_t *span = stage + panel * shape::span_bytes, *metas = x.meta + row * x.meta_stride;
	const scale_header header = read_header<type>(span, n_blocks, lane);
	const float *from = dots + (row * shape::panels + panel) * SPAN * parts * PANEL + lane;
	const int n_single = is_whole ? 0 : n_blocks, n_paired = is_whole ? SPAN : 0;
	UNROLL_BY(1)
	for (int b = 0; b < n_single; b++) {
		acc = add_block<type>(acc, from[b * parts * PANEL], 0.0f,
			read_scale<type>(header, span, n_blocks, b, lane), ld_vec((const uint2 *)metas + b));
	}
	UNROLL
	for (int b = 0; b < n_paired; b++) {
		const uint4 both = ld_vec((const uint4 *)metas + b / 2);
		acc = add_block<type>(acc, from[b * parts * PANEL],
			parts == 2 ? from[(b * parts + 1) * PANEL] : 0.0f,
			read_scale<type>(header, span, n_blocks, b, lane),
			b % 2 == 0 ? make_uint2(both.x, both.y) : make_uint2(both.z, both.w));
	}
	return acc;
}

/* The row and panel of the block whose outputs a warp adds up. */
struct gemv_sum {
	int row, panel;
	bool adds; /* the warp has one */
	float acc;
};

/* What a warp does between two barriers: it adds up span i - 1, and makes the integers of span i.
 * is_whole: span i has all its blocks, and so had the one before. Places in a span are constants
 * then, and all that a warp reads is on its way at once: one after the other, these reads would
 * take longer than the weights. */
template <class shape, bool is_whole>
DEVICE void gemv_step(gemv_sum &sum, float *dots, uint8_t *smem, int i, int k, int n_panels_here) {
	const int lane = threadIdx.x % WARP, warp = threadIdx.x / WARP;
	const int here = is_whole ? SPAN : max(min((int)SPAN, k / 32 - i * SPAN), 0);
	if (i > 0 && sum.adds) {
		const int before = is_whole ? SPAN : min((int)SPAN, k / 32 - (i - 1) * SPAN);
		sum.acc = gemv_add<shape, is_whole || panel_is_k(shape::type)>(sum.acc,
			dots + (i - 1) % 2 * shape::dots, smem + (i - 1) % shape::n_stages * shape::stage_bytes,
			x_span_of<shape>(smem, i - 1, k), sum.row, sum.panel, before, lane);
	}
	UNROLL
	for (int j = 0; j < shape::panels; j++) {
		if ((is_whole || warp < here) && j < n_panels_here) {
			gemv_dots<shape>(dots + i % 2 * shape::dots,
				smem + i % shape::n_stages * shape::stage_bytes, x_span_of<shape>(smem, i, k), j,
				here, warp, lane);
		}
	}
}

/* What a block does: the panels that the grid's x says, for the rows from first_row on. Weights are
 * on their way before the launches that make x have ended. */
template <class shape, class args> DEVICE void gemv_tile(const args &p) {
	DYN_SHARED(uint8_t, smem);
	constexpr int ahead = shape::n_stages - 2; /* spans on their way */
	float *dots = (float *)(smem + shape::n_stages * shape::stage_bytes);
	const int warp = threadIdx.x / WARP, n_blocks = p.k / 32;
	const int n_spans = (n_blocks + SPAN - 1) / SPAN, n_whole = n_blocks / SPAN;
	const int n_panels_here = panel_at<shape>(p, shape::panels - 1) < n_panels(p.n)
		? shape::panels : 1;
	gemv_sum sum = { warp / shape::panels, warp % shape::panels, false, 0.0f };
	sum.adds = sum.row < shape::rows && sum.panel < n_panels_here;
	UNROLL_BY(1) /* a kernel this short waits for its own instructions */
	for (int i = 0; i < min(ahead, n_spans); i++) {
		gemv_load<shape>(p, smem, i);
	}
	await_launches();
	start_x<shape>(p, smem, n_spans);
	for (int i = 0; i <= n_spans; i++) {
		cp_async_wait<ahead - 1>();
		__syncthreads();
		/* The stage of span i - 2 is free, that of i - 1 is still read for its scales. */
		if (i + ahead < n_spans) {
			gemv_load<shape>(p, smem, i + ahead);
			load_x<shape>(p, smem + (i + ahead) % shape::n_stages * shape::stage_bytes, i + ahead,
				min((int)SPAN, n_blocks - (i + ahead) * SPAN));
		}
		cp_async_commit();
		if (i < n_whole) {
			gemv_step<shape, true>(sum, dots, smem, i, p.k, n_panels_here);
		} else {
			gemv_step<shape, false>(sum, dots, smem, i, p.k, n_panels_here);
		}
	}
	finish<shape>(p, sum.row, sum.panel, sum.adds, sum.acc);
}

/* Grid: panels (pairs of them) by groups of `rows` rows. args: matmul_args or fused_args. Three
 * blocks, as shared memory allows: for four, unasked, the compiler would spill. */
template <class shape, class args>
__global__ void __launch_bounds__(GEMV_THREADS, 3) matmul_gemv(args p) {
	gemv_tile<shape>(p);
}
