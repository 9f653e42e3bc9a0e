/* SPDX-License-Identifier: Apache-2.0
 *
 * The product of block types for many rows, with the bits of matmul_gemv.cuh: one mma.m16n8k32
 * makes the exact integers of 16 rows and 8 columns over one block of 32, and each is added to its
 * output in f32 before the next block. A block of threads owns a tile of rows and of panels and
 * walks along k in spans of 256; cp.async brings the next span while one is multiplied. Scales are
 * decoded once a span, for all warps. */
#pragma once

#include "matmul_quant.cuh"

enum { GEMM_THREADS = 128 };

/* A warp owns m_tiles * 16 rows and n_tiles * 8 columns; warps stand warp_rows by the rest. */
template <int type_, int m_tiles_, int n_tiles_, int warp_rows> struct gemm_shape {
	static constexpr int type = type_, m_tiles = m_tiles_, n_tiles = n_tiles_;
	static constexpr int warp_cols = GEMM_THREADS / WARP / warp_rows;
	static constexpr int rows = 16 * m_tiles * warp_rows, cols = 8 * n_tiles * warp_cols;
	static constexpr int panels = cols / PANEL;
	static constexpr int span_bytes = panel_span_bytes(type, SPAN);
	/* Rows of x are so far apart that ldmatrix, and the reads of meta, meet no bank twice. */
	static constexpr int q_pitch = SPAN_K + 16, meta_pitch = SPAN * 8 + 16;
	static constexpr int q_at = panels * span_bytes, meta_at = q_at + rows * q_pitch;
	static constexpr int stage_bytes = meta_at + rows * meta_pitch;
	static constexpr int scales_at = 2 * stage_bytes; /* float2 [8 blocks][cols] */
	static constexpr int smem_bytes = scales_at + SPAN * cols * 8;
	static_assert(cols % PANEL == 0, "whole panels");
};

/* Starts the copies of span i, for the rows from `first` on; zeros for rows and panels that aren't
 * there. */
template <class shape, class args>
DEVICE void gemm_load(const args &p, uint8_t *smem, int i, int first) {
	uint8_t *stage = smem + i % 2 * shape::stage_bytes;
	const int n_blocks = min((int)SPAN, p.k / 32 - i * SPAN), tid = threadIdx.x;
	const int units = panel_span_bytes(shape::type, n_blocks) / 16;
	const size_t bytes = panel_bytes(shape::type, p.k);
	UNROLL
	for (int j = 0; j < shape::panels; j++) {
		const int panel = blockIdx.y * shape::panels + j, is_there = panel < n_panels(p.n);
		const uint8_t *from = p.w + (is_there ? panel : 0) * bytes
			+ (size_t)i * shape::span_bytes;
		for (int u = tid; u < units; u += GEMM_THREADS) {
			cp_async16_zfill(stage + j * shape::span_bytes + 16 * u, from + 16 * u,
				is_there ? 16 : 0);
		}
	}
	for (int u = tid; u < shape::rows * 20; u += GEMM_THREADS) {
		const int r = u / 20, v = u % 20, row = first + r;
		const bool is_there = row < p.n_rows;
		const uint8_t *from = x_of(p, is_there ? row : first, panel_x_row_bytes(shape::type, p.k));
		if (v < 16 && v * 16 < n_blocks * 32) {
			cp_async16_zfill(stage + shape::q_at + r * shape::q_pitch + 16 * v,
				from + i * SPAN_K + 16 * v, is_there ? 16 : 0);
		} else if (v >= 16 && (v - 16) * 2 < n_blocks) {
			cp_async16_zfill(stage + shape::meta_at + r * shape::meta_pitch + 16 * (v - 16),
				from + p.k + i * SPAN * 8 + 16 * (v - 16), is_there ? 16 : 0);
		}
	}
}

/* Scales and minima of the span in f32. */
template <class shape>
DEVICE void gemm_scales(float2 *scales, const uint8_t *stage, int n_blocks) {
	constexpr int per = GEMM_THREADS / shape::cols; /* threads a column */
	const int col = threadIdx.x % shape::cols, b0 = threadIdx.x / shape::cols;
	const uint8_t *span = stage + col / PANEL * shape::span_bytes;
	const int lane = col % PANEL;
	const scale_header header = read_header<shape::type>(span, n_blocks, lane);
	UNROLL
	for (int b = 0; b < SPAN; b++) {
		if (b % per == b0 && b < n_blocks) {
			st_vec(&scales[b * shape::cols + col],
				read_scale<shape::type>(header, span, n_blocks, b, lane));
		}
	}
}

/* Adds 1.5 * 2^23 to an integer below 2^22 by its bits: the mma begins there, and what it gives is
 * a float of that size, whose difference to MAGIC_F is the integer, exactly. */
#define MAGIC_I 0x4b400000
#define MAGIC_F 12582912.0f

/* The integers of a tile over the part of a block that `part` names (-1: all of it), as f32. */
template <int type>
DEVICE void gemm_dots(float dots[4], const uint32_t a[4], const uint32_t b[2], const uint2 meta[2],
	int part) {
	int d[4];
	UNROLL
	for (int h = 0; h < 2; h++) {
		const int sum = part < 0 ? x_sum0(meta[h]) + x_sum1(meta[h])
			: part == 0 ? x_sum0(meta[h]) : x_sum1(meta[h]);
		d[2 * h] = d[2 * h + 1] = MAGIC_I - panel_offset(type) * sum;
	}
	if (part < 0) {
		mma_s8(d, a, b);
	} else {
		const uint32_t half_a[4] = { part == 0 ? a[0] : 0, part == 0 ? a[1] : 0,
			part == 1 ? a[2] : 0, part == 1 ? a[3] : 0 };
		mma_s8(d, half_a, b);
	}
	UNROLL
	for (int i = 0; i < 4; i++) {
		dots[i] = __int_as_float(d[i]) - MAGIC_F;
	}
}

/* One block of 32 of the warp's tile. */
template <class shape>
DEVICE void gemm_block(float acc[shape::m_tiles][shape::n_tiles][4], const uint8_t *stage,
	const float2 *scales, int n_blocks, int b, int row0, int col0, int lane) {
	constexpr int type = shape::type;
	const int g = lane / 4, t = lane % 4;
	uint32_t a[shape::m_tiles][4];
	uint2 meta[shape::m_tiles][2];
	UNROLL
	for (int m = 0; m < shape::m_tiles; m++) {
		const int row = row0 + 16 * m;
		ldmatrix_x4(a[m], stage + shape::q_at + (row + lane % 16) * shape::q_pitch + b * 32
			+ lane / 16 * 16);
		const uint8_t *at = stage + shape::meta_at + (row + g) * shape::meta_pitch + 8 * b;
		meta[m][0] = ld_vec((const uint2 *)at);
		meta[m][1] = ld_vec((const uint2 *)(at + 8 * shape::meta_pitch));
	}
	UNROLL
	for (int j = 0; j < shape::n_tiles; j++) {
		const int col = col0 + 8 * j;
		uint32_t w[2];
		read_pair<type>(w, stage + col / PANEL * shape::span_bytes, n_blocks, b, col % PANEL + g,
			t);
		const float4 s = ld_vec((const float4 *)(scales + b * shape::cols + col + 2 * t));
		UNROLL
		for (int m = 0; m < shape::m_tiles; m++) {
			float dots[2][4];
			gemm_dots<type>(dots[0], a[m], w, meta[m], type == BB_Q6_K ? 0 : -1);
			if (type == BB_Q6_K) {
				gemm_dots<type>(dots[1], a[m], w, meta[m], 1);
			}
			UNROLL
			for (int i = 0; i < 4; i++) {
				const float2 scale = i % 2 == 0 ? make_float2(s.x, s.y) : make_float2(s.z, s.w);
				acc[m][j][i] = add_block<type>(acc[m][j][i], dots[0][i],
					type == BB_Q6_K ? dots[1][i] : 0.0f, scale, meta[m][i / 2]);
			}
		}
	}
}

/* The columns that the grid's y says, for the rows from `first` on. */
template <class shape, class args> DEVICE void gemm_tile(const args &p, int first) {
	DYN_SHARED(uint8_t, smem);
	float2 *scales = (float2 *)(smem + shape::scales_at);
	const int lane = threadIdx.x % WARP, warp = threadIdx.x / WARP;
	const int row0 = warp / shape::warp_cols * 16 * shape::m_tiles;
	const int col0 = warp % shape::warp_cols * 8 * shape::n_tiles;
	const int n_blocks = p.k / 32, n_spans = (n_blocks + SPAN - 1) / SPAN;
	float acc[shape::m_tiles][shape::n_tiles][4] = {};
	gemm_load<shape>(p, smem, 0, first);
	cp_async_commit();
	for (int i = 0; i < n_spans; i++) {
		const uint8_t *stage = smem + i % 2 * shape::stage_bytes;
		const int here = min((int)SPAN, n_blocks - i * SPAN);
		cp_async_wait<0>();
		__syncthreads();
		if (i + 1 < n_spans) {
			gemm_load<shape>(p, smem, i + 1, first);
			cp_async_commit();
		}
		gemm_scales<shape>(scales, stage, here);
		__syncthreads();
		for (int b = 0; b < here; b++) {
			gemm_block<shape>(acc, stage, scales, here, b, row0, col0, lane);
		}
	}
	const int row = first + row0 + lane / 4;
	const int col = blockIdx.y * shape::cols + col0 + lane % 4 * 2;
	UNROLL
	for (int m = 0; m < shape::m_tiles; m++) {
		UNROLL
		for (int j = 0; j < shape::n_tiles; j++) {
			UNROLL
			for (int i = 0; i < 4; i++) {
				finish_output(p, row + 16 * m + i / 2 * 8, col + 8 * j + i % 2, acc[m][j][i]);
			}
		}
	}
}

/* Grid: tiles of rows, tiles of columns. */
template <class shape>
__global__ void __launch_bounds__(GEMM_THREADS) matmul_gemm(matmul_args p) {
	gemm_tile<shape>(p, (int)blockIdx.x * shape::rows);
}
