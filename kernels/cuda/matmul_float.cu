/* SPDX-License-Identifier: Apache-2.0
 *
 * The matrix products of float types; one arithmetic for any number of rows.
 *
 * bf16 and f16 go through mma.m16n8k16 with f32 sums, rows filled up to 16: a chain along k in
 * steps of 16, for f16 two a step, the low part of x first (see matmul_panel.h). One step takes
 * 8 t to 8 t + 3, t < 4, from each 32 elements, the next one 8 t + 4 to 8 t + 7, so that a lane's
 * operands are 16 bytes. The tensor core's own order inside a step is the device's, the same for
 * every row. Against the exact product of the prepared x: 4e-6 of the sum of magnitudes.
 *
 * f32 is fmaf: eight chains, the units of 4 elements dealt out in turn, joined in order. */
#include "matmul_grouped.cuh"

enum { STEP_K = 64, STEP_UNITS = STEP_K / 8 };

/* ---- 16-bit types ---- */

/* A warp owns m_tiles * 16 rows and n_tiles * 8 columns; warps stand warp_rows by warp_cols. */
template <int type_, int m_tiles_, int n_tiles_, int warp_rows, int warp_cols_, int stages>
struct mma_shape {
	static constexpr int type = type_, m_tiles = m_tiles_, n_tiles = n_tiles_;
	static constexpr int n_stages = stages, parts = type == BB_F16 ? 2 : 1;
	static constexpr int warp_cols = warp_cols_, threads = WARP * warp_rows * warp_cols;
	static constexpr int rows = 16 * m_tiles * warp_rows, cols = 8 * n_tiles * warp_cols;
	static constexpr int panels = cols / PANEL;
	static constexpr int panel_step = STEP_UNITS * PANEL * 16;
	static constexpr int x_at = panels * panel_step;
	static constexpr int stage_bytes = x_at + parts * rows * STEP_K * 2;
	static constexpr int smem_bytes = n_stages * stage_bytes;
	/* Blocks that shared memory has room for: for more, unasked, the compiler would spill. */
	static constexpr int blocks = rows <= 16 ? 6 : rows <= 32 ? 4 : 2;
	static constexpr bool is_full = m_tiles * n_tiles > 8; /* the sums leave few registers */
	static_assert(cols % PANEL == 0, "whole panels");
};

/* The tiles: for up to 16 and 32 rows; and rows by columns for more. */
template <int type> using mma_rows_16 = mma_shape<type, 1, 1, 1, 4, 6>;
template <int type> using mma_rows_32 = mma_shape<type, 2, 1, 1, 4, 4>;
template <int type> using mma_64_by_64 = mma_shape<type, 2, 4, 2, 2, type == BB_F16 ? 2 : 3>;
template <int type> using mma_128_by_128 = mma_shape<type, 4, 4, 2, 4, type == BB_F16 ? 2 : 3>;

/* Where unit v of a row of x is: what two rows side by side have of 32 elements fills the banks. */
DEVICE int x_place(int row, int v) {
	return (row * STEP_UNITS + (v ^ row % 2 * 4)) * 16;
}

/* Starts the copies of step i, for the rows from `first` on. What isn't there, rows below the last
 * one and panels behind it, is read as the last one is, or zeros for it, and never written. */
template <class shape, class args>
DEVICE void mma_load(const args &p, uint8_t *stage, int i, int first) {
	/* where they are few, addresses aren't to be kept through the loop */
	const unsigned tid = shape::is_full ? afresh(threadIdx.x) % shape::threads : threadIdx.x;
	const unsigned n_units = (unsigned)panel_units(shape::type, p.k);
	const unsigned units = min((unsigned)STEP_UNITS, n_units - i * STEP_UNITS);
	const int panel = blockIdx.y * shape::panels, last = n_panels(p.n) - 1 - panel;
	const size_t bytes = panel_bytes(shape::type, p.k);
	const uint8_t *w = p.w + panel * bytes + (size_t)i * shape::panel_step;
	UNROLL
	for (unsigned u0 = 0; u0 < shape::panels * STEP_UNITS * PANEL; u0 += shape::threads) {
		const unsigned j = (u0 + tid) / (STEP_UNITS * PANEL), u = (u0 + tid) % (STEP_UNITS * PANEL);
		if (u < units * PANEL) {
			cp_async16(stage + j * shape::panel_step + 16 * u,
				w + min((int)j, last) * bytes + 16 * u);
		}
	}
	const size_t x_bytes = panel_x_row_bytes(shape::type, p.k);
	const unsigned v = tid % STEP_UNITS;
	UNROLL
	for (unsigned u0 = 0; u0 < shape::parts * shape::rows * STEP_UNITS; u0 += shape::threads) {
		const unsigned line = (u0 + tid) / STEP_UNITS, part = line / shape::rows;
		const int row = min(first + (int)(line % shape::rows), p.n_rows - 1);
		if (v >= units) {
			continue;
		}
		uint8_t *to = stage + shape::x_at + x_place((int)line, (int)v);
		const uint8_t *x = x_of(p, row, x_bytes)
			+ ((size_t)part * n_units + (size_t)i * STEP_UNITS + v) * 16;
		if (shape::rows <= 32) { /* the weights' traffic is little more than x's there */
			cp_async16_zfill(to, x, first + (int)(line % shape::rows) < p.n_rows ? 16 : 0);
		} else {
			cp_async16(to, x);
		}
	}
}

template <int type> DEVICE void mma_any(float d[4], const uint32_t a[4], const uint32_t b[2]) {
	if (type == BB_F16) {
		mma_f16(d, a, b);
	} else {
		mma_bf16(d, a, b);
	}
}

/* Where a lane reads the first group of 32 elements in a stage: its upper row of the warp's first
 * tile of x, and its column of the first tile of weights. */
struct mma_places {
	int x, w;
};

template <class shape> DEVICE mma_places mma_places_of(int lane, int row0, int col0) {
	const int g = lane / 4, t = lane % 4;
	mma_places at = { shape::x_at + x_place(row0 + g, t), col0 / PANEL * shape::panel_step
		+ (t * PANEL + col0 % PANEL + panel_place(shape::type, t, g)) * 16 };
	at.x = (int)afresh((unsigned)at.x); /* not to be computed again and again */
	at.w = (int)afresh((unsigned)at.w);
	return at;
}

/* Group s, 0 or 1, of 32 elements of the warp's tile. Neighbouring mmas are of different sums, and
 * wait less for each other. */
template <class shape>
DEVICE void mma_group(float acc[shape::m_tiles][shape::n_tiles][4], const uint8_t *stage, int s,
	const mma_places &at) {
	uint4 w[shape::n_tiles];
	UNROLL
	for (int j = 0; j < shape::n_tiles; j++) {
		w[j] = ld_vec((const uint4 *)(stage + at.w) + 4 * s * PANEL + 8 * j);
	}
	UNROLL
	for (int m = 0; m < shape::m_tiles; m++) {
		uint4 a[shape::parts][2]; /* high and low part, upper and lower row */
		UNROLL
		for (int i = 0; i < 2 * shape::parts; i++) {
			const int line = i / 2 * shape::rows + 16 * m + 8 * (i % 2);
			a[i / 2][i % 2] = ld_vec((const uint4 *)(stage + (at.x ^ 64 * s)
				+ line * STEP_UNITS * 16));
		}
		UNROLL
		for (int i = 2 * shape::parts - 1; i >= 0; i--) {
			const bool is_first = i >= shape::parts; /* the first half of the group */
			const uint4 upper = a[i % shape::parts][0], lower = a[i % shape::parts][1];
			const uint32_t x[4] = { is_first ? upper.x : upper.z, is_first ? lower.x : lower.z,
				is_first ? upper.y : upper.w, is_first ? lower.y : lower.w };
			UNROLL
			for (int j = 0; j < shape::n_tiles; j++) {
				const uint32_t b[2] = { is_first ? w[j].x : w[j].z, is_first ? w[j].y : w[j].w };
				mma_any<shape::type>(acc[m][j], x, b);
			}
		}
	}
}

/* The columns that the grid's y says, for the rows from `first` on. */
template <class shape, class args> DEVICE void mma_tile(const args &p, int first) {
	DYN_SHARED(uint8_t, smem);
	const int lane = threadIdx.x % WARP, warp = threadIdx.x / WARP;
	const int row0 = warp / shape::warp_cols * 16 * shape::m_tiles;
	const int col0 = warp % shape::warp_cols * 8 * shape::n_tiles;
	const mma_places at = mma_places_of<shape>(lane, row0, col0);
	const int n_units = panel_units(shape::type, p.k);
	const int n_steps = (n_units + STEP_UNITS - 1) / STEP_UNITS;
	float acc[shape::m_tiles][shape::n_tiles][4] = {};
	UNROLL
	for (int i = 0; i < shape::n_stages - 1; i++) {
		if (i < n_steps) {
			mma_load<shape>(p, smem + i * shape::stage_bytes, i, first);
		}
		cp_async_commit();
	}
	uint8_t *stage = smem, *to = smem + (shape::n_stages - 1) * shape::stage_bytes;
	for (int i = 0; i < n_steps; i++) {
		cp_async_wait<shape::n_stages - 2>();
		__syncthreads();
		if (i + shape::n_stages - 1 < n_steps) {
			mma_load<shape>(p, to, i + shape::n_stages - 1, first);
		}
		cp_async_commit();
		mma_group<shape>(acc, stage, 0, at);
		if (n_units - i * STEP_UNITS > 4) {
			mma_group<shape>(acc, stage, 1, at);
		}
		to = stage;
		stage += shape::stage_bytes;
		stage = stage == smem + shape::n_stages * shape::stage_bytes ? smem : stage;
	}
	const int col = blockIdx.y * shape::cols + col0 + lane % 4 * 2;
	UNROLL
	for (int m = 0; m < 2 * shape::m_tiles; m++) {
		const int row = first + row0 + lane / 4 + 8 * m;
		const float scale = row_scale<shape::type>(p, row);
		UNROLL
		for (int j = 0; j < shape::n_tiles; j++) {
			for (int i = 0; i < 2; i++) {
				finish_output(p, row, col + 8 * j + i, acc[m / 2][j][m % 2 * 2 + i] * scale);
			}
		}
	}
}

/* Grid: tiles of rows, tiles of columns. */
template <class shape>
__global__ void __launch_bounds__(shape::threads, shape::blocks) matmul_mma(matmul_args p) {
	mma_tile<shape>(p, (int)blockIdx.x * shape::rows);
}

template <class shape>
static void launch_mma(bb_queue *q, const matmul_args &p, const char *name) {
	const dim3 grid(blocks_for((size_t)p.n_rows, shape::rows),
		(unsigned)((n_panels(p.n) + shape::panels - 1) / shape::panels));
	if (shape::smem_bytes > PLAIN_SMEM) {
		queue_note(q, ALLOW_SMEM(matmul_mma<shape>, shape::smem_bytes), name);
	}
	LAUNCH(matmul_mma<shape>, grid, shape::threads, shape::smem_bytes, q->stream, p);
	queue_launched(q, name);
}

/* Whether a large tile gives two thirds of the processors one: more tiles move more bytes. */
template <class shape> static bool fills(const bb_queue *q, const matmul_args &p) {
	return 3 * blocks_for((size_t)p.n_rows, shape::rows) * blocks_for((size_t)p.n, shape::cols)
		>= 2 * (unsigned)queue_processors(q);
}

template <int type> static void matmul_16(bb_queue *q, const matmul_args &p, const char *name) {
	if (p.n_rows <= 16) {
		launch_mma<mma_rows_16<type>>(q, p, name);
	} else if (p.n_rows <= 32) {
		launch_mma<mma_rows_32<type>>(q, p, name);
	} else if (p.n_rows > 64 && fills<mma_128_by_128<type>>(q, p)) {
		launch_mma<mma_128_by_128<type>>(q, p, name);
	} else {
		launch_mma<mma_64_by_64<type>>(q, p, name);
	}
}

/* ---- f32 ---- */

enum { F32_THREADS = 256, F32_CHAINS = F32_THREADS / WARP };

DEVICE float add_unit(float acc, float4 w, float4 x) {
	acc = fmaf(w.x, x.x, acc);
	acc = fmaf(w.y, x.y, acc);
	acc = fmaf(w.z, x.z, acc);
	return fmaf(w.w, x.w, acc);
}

/* A lane per column of a panel, a warp per chain; rows from row0 on. */
template <int rows, class args> DEVICE void fma_tile(const args &p, int panel, int row0) {
	SHARED(float, sums, [F32_CHAINS][rows][PANEL]);
	const int lane = threadIdx.x % WARP, chain = threadIdx.x / WARP;
	const int n_units = panel_units(BB_F32, p.k);
	const float4 *w = (const float4 *)(p.w + panel * panel_bytes(BB_F32, p.k)) + lane;
	float acc[rows] = {};
	UNROLL_BY(4)
	for (int u = chain; u < n_units; u += F32_CHAINS) {
		const float4 v = ld_nc(w + (size_t)u * PANEL);
		UNROLL
		for (int r = 0; r < rows; r++) {
			const int row = min(row0 + r, p.n_rows - 1);
			const float4 *x = (const float4 *)x_of(p, row, (size_t)n_units * 16);
			acc[r] = add_unit(acc[r], v, ld_nc(x + u));
		}
	}
	UNROLL
	for (int r = 0; r < rows; r++) {
		sums[chain][r][lane] = acc[r];
	}
	__syncthreads();
	for (int r = chain; r < rows; r += F32_CHAINS) {
		float sum = sums[0][r][lane];
		for (int i = 1; i < F32_CHAINS; i++) {
			sum += sums[i][r][lane];
		}
		finish_output(p, row0 + r, panel * PANEL + lane, sum);
	}
}

/* Grid: panels by groups of `rows` rows. */
template <int rows> __global__ void __launch_bounds__(F32_THREADS) matmul_fma(matmul_args p) {
	fma_tile<rows>(p, (int)blockIdx.x, (int)blockIdx.y * rows);
}

template <int rows> static void launch_fma(bb_queue *q, const matmul_args &p) {
	const dim3 grid((unsigned)n_panels(p.n), blocks_for((size_t)p.n_rows, rows));
	LAUNCH(matmul_fma<rows>, grid, F32_THREADS, 0, q->stream, p);
	queue_launched(q, "matmul_f32");
}

/* ---- the kernels ---- */

#define MATMUL_HEAD(suffix) \
	extern "C" void matmul_##suffix##_sm80(bb_queue *q, float *y, int ld_y, const void *w, \
		const void *x, const float *bias, int n_rows, int n, int k, bool accumulate)

MATMUL_HEAD(f16) {
	if (n_rows > 0) {
		matmul_16<BB_F16>(q, { y, (const uint8_t *)w, (const uint8_t *)x, bias, ld_y, n_rows, n, k,
			accumulate }, "matmul_f16");
	}
}

MATMUL_HEAD(bf16) {
	if (n_rows > 0) {
		matmul_16<BB_BF16>(q, { y, (const uint8_t *)w, (const uint8_t *)x, bias, ld_y, n_rows, n,
			k, accumulate }, "matmul_bf16");
	}
}

MATMUL_HEAD(f32) {
	const matmul_args p = { y, (const uint8_t *)w, (const uint8_t *)x, bias, ld_y, n_rows, n, k,
		accumulate };
	if (n_rows > 1) {
		launch_fma<8>(q, p);
	} else if (n_rows > 0) {
		launch_fma<1>(q, p);
	}
}
#undef MATMUL_HEAD

/* ---- grouped products ---- */

/* Grid: tiles of rows, tiles of columns. */
template <class shape>
__global__ void __launch_bounds__(shape::threads, shape::blocks) matmul_grouped_mma(group_args g) {
	SHARED(int, x_rows, [shape::rows]);
	group_tile t;
	if (find_tile<shape::rows>(&t, g, (int)blockIdx.x, x_rows)) {
		mma_tile<shape>(t, t.row0);
	}
}

/* Grid: tiles of `rows` rows, which may be more than y and z can count, by panels. */
template <int rows>
__global__ void __launch_bounds__(F32_THREADS) matmul_grouped_fma(group_args g) {
	SHARED(int, x_rows, [rows]);
	group_tile t;
	if (find_tile<rows>(&t, g, (int)blockIdx.x, x_rows)) {
		fma_tile<rows>(t, (int)blockIdx.y, t.row0);
	}
}

template <class shape> static void launch_grouped_mma(bb_queue *q, const group_args &g) {
	const dim3 grid(most_tiles(g, shape::rows),
		(unsigned)((n_panels(g.p.n) + shape::panels - 1) / shape::panels));
	if (shape::smem_bytes > PLAIN_SMEM) {
		queue_note(q, ALLOW_SMEM(matmul_grouped_mma<shape>, shape::smem_bytes), "matmul_grouped");
	}
	LAUNCH(matmul_grouped_mma<shape>, grid, shape::threads, shape::smem_bytes, q->stream, g);
}

template <int type> static void grouped_16(bb_queue *q, const group_args &g) {
	const size_t mean = mean_rows_by_16(g);
	if (g.n_rows <= 16 || mean <= 12 * 16) {
		launch_grouped_mma<mma_rows_16<type>>(q, g);
	} else if (mean <= 24 * 16) {
		launch_grouped_mma<mma_rows_32<type>>(q, g);
	} else {
		launch_grouped_mma<mma_64_by_64<type>>(q, g);
	}
}

template <int rows> static void launch_grouped_fma(bb_queue *q, const group_args &g) {
	const dim3 grid(most_tiles(g, rows), (unsigned)n_panels(g.p.n));
	LAUNCH(matmul_grouped_fma<rows>, grid, F32_THREADS, 0, q->stream, g);
}

void grouped_float(bb_queue *q, enum bb_dtype type, const group_args &g) {
	if (type == BB_F16) {
		grouped_16<BB_F16>(q, g);
	} else if (type == BB_BF16) {
		grouped_16<BB_BF16>(q, g);
	} else if (g.n_rows == 1) {
		launch_grouped_fma<1>(q, g);
	} else {
		launch_grouped_fma<8>(q, g);
	}
}
