/* SPDX-License-Identifier: Apache-2.0
 *
 * The product of block types for many rows, with the bits of matmul_gemv.cuh: one mma.m16n8k32
 * makes the exact integers of 16 rows and 8 columns over one block of 32, and each is added to its
 * output in f32 before the next block. A block of threads owns a tile of rows and of panels and
 * walks along k in stages of a span or half of one; cp.async brings later ones while one is
 * multiplied. The scales of a stage are decoded once, for all warps, and laid so that a lane reads
 * those of two or four of its rows or columns at once. */
#pragma once

#include "matmul_quant.cuh"

/* Multiprocessors with 100 KiB of shared memory, where a large tile is alone. */
static constexpr bool SMALL_SM = DEVICE_ARCH == 860 || DEVICE_ARCH == 890 || DEVICE_ARCH >= 1200;

/* A warp owns m_tiles * 16 rows and n_tiles * 8 columns; warps stand warp_rows by warp_cols. A
 * stage is stage_ blocks along k, a span or half of one. */
template <int type_, int m_tiles_, int n_tiles_, int warp_rows, int warp_cols_, int stage_,
	int stages>
struct gemm_shape {
	static constexpr int type = type_, m_tiles = m_tiles_, n_tiles = n_tiles_;
	static constexpr int stage = stage_, n_stages = stages, warp_cols = warp_cols_;
	static constexpr int threads = WARP * warp_rows * warp_cols;
	static constexpr int rows = 16 * m_tiles * warp_rows, cols = 8 * n_tiles * warp_cols;
	static constexpr int panels = cols / PANEL;
	/* A stage of a panel is as a span of so many blocks, whatever the panel ends with. */
	static constexpr int panel_stage = panel_span_bytes(type, stage);
	/* Rows of x are so far apart that ldmatrix meets no bank twice. */
	static constexpr int q_pitch = 32 * stage + 16;
	static constexpr int q_at = panels * panel_stage, meta_at = q_at + rows * q_pitch;
	static constexpr int stage_bytes = meta_at + rows * stage * 8;
	/* What is decoded, planes of f32 [stage][cols or rows]: of columns the scale, then what
	 * read_scale has as .y; of rows s, then s times the sum of a block of x. */
	static constexpr bool has_min = panel_has_min(type);
	static constexpr int row_plane = stage * (rows < 32 ? 32 : rows), col_plane = stage * cols;
	static constexpr int col_planes = has_min || type == BB_Q6_K ? 2 : 1;
	static constexpr int row_planes = has_min ? 2 : 1;
	static constexpr int decoded_at = n_stages * stage_bytes;
	static constexpr int smem_bytes = decoded_at
		+ 4 * (col_planes * col_plane + row_planes * row_plane);
	/* Blocks of threads that the compiler leaves registers for on a multiprocessor; whether a warp
	 * then needs all it gets; and how many blocks along k it mixes. */
	static constexpr bool is_alone = SMALL_SM && 2 * (smem_bytes + 1024) > 100 * 1024;
	static constexpr int blocks = threads == 256 ? (is_alone ? 1 : 2) : 4;
	static constexpr int mmas = m_tiles * n_tiles * (type == BB_Q6_K ? 2 : 1); /* of a block */
	static constexpr bool is_full = mmas > 8;
	/* For 10.0 the compiler has no registers left for where the largest Q6_K reads and writes: that
	 * is computed again and again. */
	static constexpr bool has_places = type != BB_Q6_K || !is_full || DEVICE_ARCH / 100 != 10;
	static constexpr int unroll = mmas > 4 ? 1 : mmas > 2 ? 2 : 4;
	static_assert(cols % PANEL == 0 && threads % cols == 0, "whole panels, and threads for each");
	static_assert(rows % 32 == 0 || rows == 16, "as row_place counts");
};

/* The tiles: for up to 16 and 32 rows, where the weights' bytes in flight count; and rows by
 * columns for more. */
template <int type> using gemm_rows_16 = gemm_shape<type, 1, 1, 1, 4, SPAN, 4>;
template <int type> using gemm_rows_32 = gemm_shape<type, 2, 1, 1, 4, SPAN, 4>;
template <int type> using gemm_64_by_32 = gemm_shape<type, 1, 2, 4, 2, SPAN, 3>;
template <int type> using gemm_64_by_64 = gemm_shape<type, 2, 2, 2, 4, SPAN, 2>;
template <int type> using gemm_64_by_128 = gemm_shape<type, 2, 4, 2, 4, SPAN / 2, 3>;
template <int type> using gemm_128_by_128 = gemm_shape<type, 4, 4, 2, 4, SPAN / 2, 2>;

/* Where meta unit v of 16 bytes, two blocks of a row, is: eight rows meet no bank twice. */
template <class shape> DEVICE int meta_place(int row, int v) {
	constexpr int units = shape::stage / 2;
	return (row * units + (v ^ row * units / 8 % units)) * 16;
}

/* Where a row's number is in its plane: row r, r + 8, r + 16, r + 24 are together. */
DEVICE int row_place(int row) {
	return row / 32 * 32 + row % 8 * 4 + row / 8 % 4;
}

/* And a column's: 2 t, 2 t + 1 of a tile and of the next one. */
DEVICE int col_place(int col) {
	return col / 16 * 16 + col % 8 / 2 * 4 + col / 8 % 2 * 2 + col % 2;
}

/* The thread; where registers are full, in a way that what is computed of it stays in the loop:
 * carried through it, that would take registers that the sums need. */
template <class shape> DEVICE int thread_anew(void) {
	const unsigned tid = shape::is_full ? afresh(threadIdx.x) : threadIdx.x;
	return (int)(tid % 1024); /* so that the compiler knows that it isn't negative */
}

/* The first row and column of a warp in the tile. */
template <class shape> DEVICE int row0_of(int warp) {
	return warp / shape::warp_cols * 16 * shape::m_tiles;
}

template <class shape> DEVICE int col0_of(int warp) {
	return warp % shape::warp_cols * 8 * shape::n_tiles;
}

/* ---- copying ---- */

/* Which row of x a row of the product has; see x_of. */
DEVICE unsigned x_row_of(const matmul_args &p, int row) {
	(void)p;
	return (unsigned)row;
}

/* What isn't there, rows below the last one and panels behind it, is read as the last one is, and
 * never written. */

/* Units of 16 bytes of each panel of the tile, up to `most`. `from` is in the first panel; a panel
 * has `bytes`. */
template <class shape, int most>
DEVICE void gemm_load_panels(uint8_t *to, const uint8_t *from, unsigned bytes, int units,
	int panels_there, int tid) {
	constexpr int all = shape::panels * most;
	UNROLL
	for (int u0 = 0; u0 < all; u0 += shape::threads) {
		const int j = most % shape::threads == 0 ? u0 / most : (u0 + tid) / most;
		const int v = most % shape::threads == 0 ? u0 % most + tid : (u0 + tid) % most;
		if (v < units && (all % shape::threads == 0 || j < shape::panels)) {
			cp_async16(to + j * shape::panel_stage + 16 * v,
				ahead(from, (unsigned)min(j, panels_there - 1), bytes) + 16 * v);
		}
	}
}

/* Starts the copies of stage i of the weights. */
template <class shape, class args>
DEVICE void gemm_load_weights(const args &p, uint8_t *stage, int i, int tid) {
	constexpr int type = shape::type;
	constexpr int code_units = PANEL * panel_code_bytes(type) / 16;
	constexpr int high_units = PANEL * panel_high_bytes(type) / 16;
	constexpr int scale_units = PANEL * panel_scale_bytes(type) / 16;
	constexpr bool is_k = panel_is_k(type); /* whose scales are the span's */
	const int n_blocks = p.k / 32, here = min((int)shape::stage, n_blocks - i * shape::stage);
	const int span = i * shape::stage / SPAN, first = i * shape::stage % SPAN; /* of the span */
	const int in_span = min((int)SPAN, n_blocks - span * SPAN);
	const int panel = blockIdx.y * shape::panels, there = n_panels(p.n) - panel;
	const size_t bytes = panel_bytes(type, p.k);
	const uint8_t *from = p.w + panel * bytes + (size_t)span * panel_span_bytes(type, SPAN);
	gemm_load_panels<shape, shape::stage * code_units>(stage, from + first * code_units * 16, bytes,
		here * code_units, there, tid);
	if (high_units > 0) {
		constexpr int most = high_units > 0 ? shape::stage * high_units : 1;
		gemm_load_panels<shape, most>(stage + panel_high_at(type, shape::stage),
			from + panel_high_at(type, in_span) + first * high_units * 16, bytes,
			here * high_units, there, tid);
	}
	gemm_load_panels<shape, is_k ? scale_units : shape::stage * scale_units>(
		stage + panel_scale_at(type, shape::stage),
		from + panel_scale_at(type, in_span) + (is_k ? 0 : first * scale_units * 16), bytes,
		is_k ? scale_units : here * scale_units, there, tid);
}

/* Units of 16 bytes of the rows from `first` on: `here` of up to `most`; `from` is in row 0 of x.
 * at(row, unit) says where one belongs. */
template <class shape, int most, class args, class place>
DEVICE void gemm_load_rows(const args &p, const uint8_t *from, int first, int here, int tid,
	place at) {
	constexpr int rows = shape::threads / most; /* at once */
	const unsigned bytes = (unsigned)panel_x_row_bytes(shape::type, p.k);
	const int v = tid % most, r0 = tid / most;
	from += 16 * v;
	UNROLL
	for (int r = 0; r < shape::rows; r += rows) {
		if (v < here && (shape::rows % rows == 0 || r + r0 < shape::rows)) {
			const int row = min(first + r + r0, p.n_rows - 1);
			const uint8_t *x = ahead(from, x_row_of(p, row), bytes);
			if (shape::rows <= 32) { /* the weights' traffic is little more than x's there */
				cp_async16_zfill(at(r + r0, v), x, first + r + r0 < p.n_rows ? 16 : 0);
			} else {
				cp_async16(at(r + r0, v), x);
			}
		}
	}
}

/* Starts the copies of stage i of x, for the rows from `first` on. */
template <class shape, class args>
DEVICE void gemm_load_x(const args &p, uint8_t *stage, int i, int first, int tid) {
	const int here = min((int)shape::stage, p.k / 32 - i * shape::stage);
	gemm_load_rows<shape, shape::stage * 2>(p, p.x + i * shape::stage * 32, first, here * 2, tid,
		[=](int row, int v) { return stage + shape::q_at + row * shape::q_pitch + 16 * v; });
	gemm_load_rows<shape, shape::stage / 2>(p, p.x + p.k + i * shape::stage * 8, first,
		(here + 1) / 2, tid,
		[=](int row, int v) { return stage + shape::meta_at + meta_place<shape>(row, v); });
}

template <class shape, class args>
DEVICE void gemm_load(const args &p, uint8_t *stage, int i, int first) {
	const int tid = thread_anew<shape>();
	gemm_load_weights<shape>(p, stage, i, tid);
	gemm_load_x<shape>(p, stage, i, first, tid);
	cp_async_commit();
}

/* ---- scales ---- */

/* Of a stage's columns and rows, to their planes. `first` is the stage's first block in its span,
 * which has `here`. */
template <class shape>
DEVICE void gemm_decode(float *decoded, const uint8_t *stage, int first, int here) {
	constexpr int type = shape::type, per = shape::threads / shape::cols; /* threads a column */
	const int tid = thread_anew<shape>(), col = tid % shape::cols, lane = col % PANEL;
	const uint8_t *span = stage + col / PANEL * shape::panel_stage;
	const scale_header header = read_header<type>(span, shape::stage, lane);
	UNROLL
	for (int b0 = 0; b0 < shape::stage; b0 += per) {
		const int b = b0 + tid / shape::cols;
		if (b < here) {
			const float2 scale = read_scale<type>(header, span, shape::stage,
				panel_is_k(type) ? first + b : b, lane);
			float *to = decoded + b * shape::cols + col_place(col);
			to[0] = scale.x;
			if (shape::col_planes == 2) {
				to[shape::col_plane] = scale.y;
			}
		}
	}
	float *rows = decoded + shape::col_planes * shape::col_plane;
	UNROLL
	for (int u0 = 0; u0 < shape::rows * shape::stage / 2; u0 += shape::threads) {
		const int row = (u0 + tid) % shape::rows, v = (u0 + tid) / shape::rows;
		if (v * 2 < here) {
			const uint4 w = ld_vec((const uint4 *)(stage + shape::meta_at
				+ meta_place<shape>(row, v)));
			const uint2 meta[2] = { { w.x, w.y }, { w.z, w.w } };
			UNROLL
			for (int i = 0; i < 2; i++) {
				float *to = rows + (2 * v + i) * (shape::row_plane / shape::stage) + row_place(row);
				to[0] = x_scale(meta[i]);
				if (shape::has_min) {
					to[shape::row_plane] = x_scale(meta[i])
						* (float)(x_sum0(meta[i]) + x_sum1(meta[i]));
				}
			}
		}
	}
}

/* Two numbers of each of a lane's tiles, of one tile or two: of its upper and lower row, or of its
 * columns. `at` is where the first is in a plane. */
template <int tiles> DEVICE void read_scales(float s[tiles][2], const float *at) {
	if (tiles == 1) {
		const float2 v = ld_vec((const float2 *)at);
		s[0][0] = v.x;
		s[0][1] = v.y;
	}
	UNROLL
	for (int i = 0; i + 1 < tiles; i += 2) {
		const float4 v = ld_vec((const float4 *)(at + 8 * i));
		s[i][0] = v.x;
		s[i][1] = v.y;
		s[i + 1][0] = v.z;
		s[i + 1][1] = v.w;
	}
}

/* ---- products ---- */

/* Where a lane reads: bytes into a stage, of x for ldmatrix, of codes for ldmatrix, of high bits;
 * and into a plane of rows and one of columns. */
struct lane_places {
	int x, codes, high, row, col;
};

template <class shape> DEVICE lane_places places_of(int lane, int row0, int col0) {
	constexpr int per = shape::n_tiles == 1 ? 1 : 2; /* tiles that one ldmatrix brings of Q8_0 */
	const int panel = col0 / PANEL * shape::panel_stage, col = col0 % PANEL;
	lane_places at;
	at.x = shape::q_at + (row0 + lane % 16) * shape::q_pitch + lane / 16 * 16;
	at.codes = panel + (shape::type == BB_Q8_0
		? lane / 8 % 2 * PANEL * 16 + (col + lane / 16 % per * 8 + lane % 8) * 16
		: (col + lane % (8 * shape::n_tiles)) * 16);
	at.high = panel + panel_high_at(shape::type, shape::stage)
		+ (col + lane / 4) * panel_high_bytes(shape::type);
	at.row = row_place(row0 + lane / 4) * 4;
	at.col = col_place(col0 + lane % 4 * 2) * 4;
	return at;
}

/* ldmatrix of n matrices of 8 rows of 16 bytes; a lane names a row. */
template <int n> DEVICE void load_matrices(uint32_t *r, const uint8_t *at) {
	if (n == 4) {
		ldmatrix_x4(r, at);
	} else if (n == 2) {
		ldmatrix_x2(r, at);
	} else {
		ldmatrix_x1(r, at);
	}
}

/* The same, not to be computed again and again, but where Q6_K lacks a register. */
template <class shape> DEVICE lane_places kept(lane_places at) {
	if (!shape::has_places) {
		return at;
	}
	at.x = (int)afresh((unsigned)at.x);
	at.codes = (int)afresh((unsigned)at.codes);
	at.row = (int)afresh((unsigned)at.row);
	at.col = (int)afresh((unsigned)at.col);
	at.high = shape::type != BB_Q6_K ? (int)afresh((unsigned)at.high) : at.high;
	return at;
}

/* The codes of block b for the warp's tiles, less their offset. */
template <class shape>
DEVICE void gemm_codes(uint32_t w[shape::n_tiles][2], const uint8_t *stage, int b, int lane,
	const lane_places &at) {
	constexpr int type = shape::type, n = shape::n_tiles;
	/* A byte that is below 128 - offset can't carry into the next one. */
	constexpr uint32_t less = (128 - panel_offset(type)) * 0x01010101u;
	const uint8_t *codes = stage + at.codes + b * PANEL * panel_code_bytes(type);
	if (type == BB_Q8_0) {
		constexpr int per = n == 1 ? 1 : 2;
		UNROLL
		for (int j = 0; j < n; j += per) {
			load_matrices<2 * per>(w[j], codes + 8 * j * 16);
		}
		return;
	}
	uint32_t raw[n];
	load_matrices<n>(raw, codes);
	UNROLL
	for (int j = 0; j < n; j++) {
		unpack_pair<type>(w[j], raw[j], stage + at.high + (b * PANEL + 8 * j)
			* panel_high_bytes(type), lane % 4);
		if (panel_offset(type) > 0) {
			w[j][0] = (w[j][0] + less) ^ 0x80808080u;
			w[j][1] = (w[j][1] + less) ^ 0x80808080u;
		}
	}
}

/* Adds 1.5 * 2^23 to an integer below 2^22 by its bits: the mma begins there, and what it gives is
 * a float of that size, whose difference to MAGIC_F is the integer, exactly. */
#define MAGIC_I 0x4b400000
#define MAGIC_F 12582912.0f

/* add_block of a tile of 16 by 8: s and sum of its rows, scale and min (or second scale) of its
 * columns, see gemm_shape. */
template <class shape>
DEVICE void gemm_add(float acc[4], const uint32_t a[4], const uint32_t w[2], const float s[2],
	const float sum[2], const float scale[2], const float second[2]) {
	constexpr int type = shape::type;
	int d[2][4];
	if (type == BB_Q6_K) {
		mma_s8_half_from(d[0], MAGIC_I, a, w[0]);
		mma_s8_half_from(d[1], MAGIC_I, a + 2, w[1]);
	} else {
		mma_s8_from(d[0], MAGIC_I, a, w);
	}
	UNROLL
	for (int i = 0; i < 4; i++) {
		const int r = i / 2, c = i % 2;
		acc[i] = fmaf(__int_as_float(d[0][i]) - MAGIC_F, scale[c] * s[r], acc[i]);
		if (type == BB_Q6_K) {
			acc[i] = fmaf(__int_as_float(d[1][i]) - MAGIC_F, second[c] * s[r], acc[i]);
		} else if (shape::has_min) {
			acc[i] = fmaf(second[c], sum[r], acc[i]);
		}
	}
}

/* One block of 32 of the warp's tile. */
template <class shape>
DEVICE void gemm_block(float acc[shape::m_tiles][shape::n_tiles][4], const uint8_t *stage,
	const uint8_t *decoded, int b, int lane, const lane_places &at) {
	constexpr int n_tiles = shape::n_tiles, pair = shape::m_tiles == 1 ? 1 : 2;
	uint32_t w[n_tiles][2];
	float scale[2][n_tiles][2];
	gemm_codes<shape>(w, stage, b, lane, at);
	const float *cols = (const float *)(decoded + at.col) + b * shape::cols;
	UNROLL
	for (int i = 0; i < shape::col_planes; i++) {
		read_scales<n_tiles>(scale[i], cols + i * shape::col_plane);
	}
	const float *rows = (const float *)(decoded + at.row) + shape::col_planes * shape::col_plane
		+ b * (shape::row_plane / shape::stage);
	UNROLL
	for (int m0 = 0; m0 < shape::m_tiles; m0 += pair) {
		uint32_t a[pair][4];
		float s[2][pair][2];
		UNROLL
		for (int m = 0; m < pair; m++) {
			ldmatrix_x4(a[m], stage + at.x + 16 * (m0 + m) * shape::q_pitch + b * 32);
		}
		UNROLL
		for (int i = 0; i < shape::row_planes; i++) {
			read_scales<pair>(s[i], rows + i * shape::row_plane + 16 * m0);
		}
		UNROLL
		for (int j = 0; j < n_tiles; j++) {
			UNROLL
			for (int m = 0; m < pair; m++) {
				gemm_add<shape>(acc[m0 + m][j], a[m], w[j], s[0][m], s[shape::row_planes - 1][m],
					scale[0][j], scale[shape::col_planes - 1][j]);
			}
		}
	}
}

/* The columns that the grid's y says, for the rows from `first` on. */
template <class shape, class args> DEVICE void gemm_tile(const args &p, int first) {
	DYN_SHARED(uint8_t, smem);
	uint8_t *decoded = smem + shape::decoded_at;
	const int warp = threadIdx.x / WARP;
	int lane = threadIdx.x % WARP;
	int row0 = row0_of<shape>(warp), col0 = col0_of<shape>(warp);
	const lane_places at = kept<shape>(places_of<shape>(lane, row0, col0));
	const int n_blocks = p.k / 32, n = (n_blocks + shape::stage - 1) / shape::stage;
	float acc[shape::m_tiles][shape::n_tiles][4] = {};
	UNROLL
	for (int i = 0; i < shape::n_stages - 1; i++) {
		if (i < n) {
			gemm_load<shape>(p, smem + i * shape::stage_bytes, i, first);
		} else {
			cp_async_commit();
		}
	}
	uint8_t *stage = smem, *to = smem + (shape::n_stages - 1) * shape::stage_bytes;
	for (int i = 0; i < n; i++) {
		const int here = min((int)shape::stage, n_blocks - i * shape::stage);
		const int next = i + shape::n_stages - 1;
		cp_async_wait<shape::n_stages - 2>();
		__syncthreads();
		if (next < n) {
			gemm_load<shape>(p, to, next, first);
		} else {
			cp_async_commit();
		}
		gemm_decode<shape>((float *)decoded, stage, i * shape::stage % SPAN, here);
		__syncthreads();
		if (shape::unroll > 1 && here == shape::stage) {
			UNROLL_BY(shape::unroll)
			for (int b = 0; b < shape::stage; b++) {
				gemm_block<shape>(acc, stage, decoded, b, lane, at);
			}
		} else {
			UNROLL_BY(1)
			for (int b = 0; b < here; b++) {
				gemm_block<shape>(acc, stage, decoded, b, lane, at);
			}
		}
		to = stage;
		stage += shape::stage_bytes;
		stage = stage == smem + shape::n_stages * shape::stage_bytes ? smem : stage;
	}
	if (!shape::has_places) {
		const int tid = thread_anew<shape>();
		lane = tid % WARP;
		row0 = row0_of<shape>(tid / WARP);
		col0 = col0_of<shape>(tid / WARP);
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
__global__ void __launch_bounds__(shape::threads, shape::blocks) matmul_gemm(matmul_args p) {
	gemm_tile<shape>(p, (int)blockIdx.x * shape::rows);
}
