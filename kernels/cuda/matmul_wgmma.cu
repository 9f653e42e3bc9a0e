/* SPDX-License-Identifier: Apache-2.0
 *
 * Products of 16-bit float types for many rows on Hopper's own instructions, for --gemm wgmma: the
 * chains of matmul_float.cu, step by step of the same 16 elements, by wgmma.m64n128k16. Where the
 * hardware adds up a step of it as one of mma.m16n8k16, the bits are the same; the emulator's do,
 * and bench/gpu-acceptance tells what a GPU's do.
 *
 * Weights are a, in registers: a lane's 16 bytes of a panel are the elements of two steps, as in
 * matmul_float.cu, and stay packed as they are. x is b, in shared memory, where a step is 32 bytes
 * in a row of 128: so prep has put the elements of a step together (panels_prep_steps).
 *
 * Stages are brought by cp.async of 16 bytes: for 128 columns and 256 rows 48 KiB, 12 copies a
 * thread, in the 1024 clocks that the tensor cores are busy with a stage. TMA would bring the same
 * bytes with fewer instructions, which aren't what is short, and would want barriers in memory;
 * what it could save is L2's bytes, by multicast to a cluster. */
#include "matmul_args.cuh"

enum { STEP_K = 64, STEP_UNITS = STEP_K / 8, GROUP = 128, THREADS = 256, COLS = 128,
	PANELS = COLS / PANEL, PANEL_STEP = STEP_UNITS * PANEL * 16 };

/* Two groups of four warps have 64 columns each, and all rows: groups of 128. */
template <int type_, int groups, int stages> struct wgmma_shape {
	static constexpr int type = type_, n_groups = groups, n_stages = stages;
	static constexpr int parts = type == BB_F16 ? 2 : 1, rows = GROUP * groups;
	static constexpr int x_at = PANELS * PANEL_STEP, group_bytes = GROUP * STEP_K * 2;
	static constexpr int stage_bytes = x_at + parts * groups * group_bytes;
	static constexpr int smem_bytes = n_stages * stage_bytes;
	static_assert(x_at % 1024 == 0 && group_bytes % 1024 == 0, "as wgmma_tile wants it");
};

template <int type>
using wgmma_128_by_128 = wgmma_shape<type, 1, type == BB_F16 ? 4 : 6>;
using wgmma_256_by_128 = wgmma_shape<BB_BF16, 2, 4>;

/* Starts the copies of step i. What isn't there, rows below the last one and panels behind it, is
 * read as the last one is, and never written. */
template <class shape> DEVICE void wgmma_load(const matmul_args &p, uint8_t *stage, int i) {
	const int tid = (int)threadIdx.x, n_units = panel_units(shape::type, p.k);
	const int units = min((int)STEP_UNITS, n_units - i * STEP_UNITS);
	const int panel = (int)blockIdx.y * PANELS, last = n_panels(p.n) - 1 - panel;
	const unsigned bytes = (unsigned)panel_bytes(shape::type, p.k);
	const uint8_t *w = p.w + (size_t)panel * bytes + (size_t)i * PANEL_STEP + 16 * tid;
	UNROLL
	for (int j = 0; j < PANELS; j++) {
		if (tid < units * PANEL) {
			cp_async16(stage + j * PANEL_STEP + 16 * tid, ahead(w, (unsigned)min(j, last), bytes));
		}
	}
	const unsigned x_bytes = (unsigned)panel_x_row_bytes(shape::type, p.k);
	const int first = (int)blockIdx.x * shape::rows + tid / STEP_UNITS, v = tid % STEP_UNITS;
	const uint8_t *x = p.x + (size_t)(i * STEP_UNITS + v) * 16;
	uint8_t *to = stage + shape::x_at + wgmma_unit(tid / STEP_UNITS, v);
	UNROLL
	for (int r = 0; r < shape::rows; r += THREADS / STEP_UNITS) {
		const uint8_t *from = ahead(x, (unsigned)min(first + r, p.n_rows - 1), x_bytes);
		UNROLL
		for (int part = 0; part < shape::parts; part++) {
			if (v < units) {
				cp_async16(to + part * shape::n_groups * shape::group_bytes + wgmma_unit(r, 0),
					from + (size_t)part * n_units * 16);
			}
		}
	}
}

template <int type> DEVICE void wgmma_any(float d[64], const uint32_t a[4], uint64_t b) {
	if (type == BB_F16) {
		wgmma_f16(d, a, b);
	} else {
		wgmma_bf16(d, a, b);
	}
}

/* 32 elements of a stage: two steps, for f16 the low part of x before the high one. */
template <class shape>
DEVICE void multiply_half(float acc[shape::n_groups][64], const uint4 w[2], uint64_t x) {
	UNROLL
	for (int i = 0; i < 2; i++) {
		const uint32_t a[4] = { i == 0 ? w[0].x : w[0].z, i == 0 ? w[1].x : w[1].z,
			i == 0 ? w[0].y : w[0].w, i == 0 ? w[1].y : w[1].w };
		UNROLL
		for (int part = shape::parts - 1; part >= 0; part--) {
			UNROLL
			for (int g = 0; g < shape::n_groups; g++) {
				const int at = (part * shape::n_groups + g) * shape::group_bytes + 32 * i;
				wgmma_any<shape::type>(acc[g], a, x + (uint64_t)(at / 16));
			}
		}
	}
}

/* Starts the products of a stage, or of its first half, with the lane's upper and lower column at
 * `at`. */
template <class shape, bool is_half>
DEVICE void multiply_stage(float acc[shape::n_groups][64], const uint8_t *stage, const int at[2]) {
	uint4 w[2][2]; /* [32 elements][upper, lower] */
	UNROLL
	for (int i = 0; i < (is_half ? 2 : 4); i++) {
		w[i / 2][i % 2] = ld_vec((const uint4 *)(stage + at[i % 2]) + i / 2 * 4 * PANEL);
	}
	const uint64_t x = wgmma_tile(stage + shape::x_at);
	wgmma_begin();
	multiply_half<shape>(acc, w[0], x);
	if (!is_half) {
		multiply_half<shape>(acc, w[1], x + 64 / 16);
	}
	wgmma_commit();
}

template <class shape> DEVICE void fence_sums(float acc[shape::n_groups][64]) {
	UNROLL
	for (int g = 0; g < shape::n_groups; g++) {
		wgmma_fence_sums(acc[g]);
	}
}

/* finish_output for a lane's sums, sixteen at a time, of which what y has is read at once: one
 * after the other each would wait for memory. */
template <class shape>
DEVICE void finish_sums(const matmul_args &p, const float acc[shape::n_groups][64]) {
	enum { AT_ONCE = 16 };
	const int lane = threadIdx.x % WARP, warp = threadIdx.x / WARP;
	const int col = (int)blockIdx.y * COLS + 16 * warp + lane / 4;
	const int row0 = (int)blockIdx.x * shape::rows + lane % 4 * 2;
	const bool has[2] = { col < p.n, col + 8 < p.n };
	const float bias[2] = { p.bias != NULL && has[0] ? p.bias[col] : 0.0f,
		p.bias != NULL && has[1] ? p.bias[col + 8] : 0.0f };
	UNROLL
	for (int first = 0; first < shape::n_groups * 64; first += AT_ONCE) {
		float old[AT_ONCE];
		UNROLL
		for (int i = 0; p.accumulate && i < AT_ONCE; i++) {
			const int row = row0 + (first + i) / 4 * 8 + i % 2, c = i / 2 % 2;
			old[i] = row < p.n_rows && has[c] ? y_of(p, row)[col + 8 * c] : 0.0f;
		}
		UNROLL
		for (int i = 0; i < AT_ONCE; i++) {
			const int row = row0 + (first + i) / 4 * 8 + i % 2, c = i / 2 % 2;
			if (row < p.n_rows && has[c]) {
				float sum = acc[first / 64][first % 64 + i] * row_scale<shape::type>(p, row);
				sum = p.bias != NULL ? sum + bias[c] : sum;
				y_of(p, row)[col + 8 * c] = p.accumulate ? old[i] + sum : sum;
			}
		}
	}
}

/* Waits for the stage that is next, in all threads. */
template <int under_way> DEVICE void await_stage(void) {
	cp_async_wait<under_way>();
	async_proxy_fence();
	__syncthreads();
}

/* When a step begins, the products of the step before may be under way, and those of the one before
 * that are done in all warps: its stage is the next to be filled. */
template <class shape> DEVICE void wgmma_tiles(const matmul_args &p) {
	DYN_SHARED_TILES(uint8_t, smem);
	constexpr int early = shape::n_stages - 2; /* steps that are brought before they are wanted */
	const int lane = threadIdx.x % WARP, warp = threadIdx.x / WARP, t = lane % 4;
	const int n_units = panel_units(shape::type, p.k), n_whole = n_units / STEP_UNITS;
	const int n_steps = (n_units + STEP_UNITS - 1) / STEP_UNITS;
	const int col = 16 * warp % PANEL + lane / 4, panel = warp / 2 * PANEL_STEP + t * PANEL * 16;
	const int at[2] = { panel + panel_place(shape::type, t, col) * 16,
		panel + panel_place(shape::type, t, col + 8) * 16 };
	float acc[shape::n_groups][64] = {};
	fence_sums<shape>(acc);
	UNROLL
	for (int i = 0; i < early; i++) {
		if (i < n_steps) {
			wgmma_load<shape>(p, smem + i * shape::stage_bytes, i);
		}
		cp_async_commit();
	}
	uint8_t *stage = smem, *to = smem + early * shape::stage_bytes;
	uint8_t *const end = smem + shape::smem_bytes;
	UNROLL_BY(2) /* so that the weights of two steps lie in registers of their own */
	for (int i = 0; i < n_whole; i++) {
		await_stage<early - 1>();
		multiply_stage<shape, false>(acc, stage, at);
		if (i + early < n_steps) {
			wgmma_load<shape>(p, to, i + early);
		}
		cp_async_commit();
		wgmma_wait<1>();
		stage = stage + shape::stage_bytes == end ? smem : stage + shape::stage_bytes;
		to = to + shape::stage_bytes == end ? smem : to + shape::stage_bytes;
	}
	if (n_whole < n_steps) {
		await_stage<early - 1>();
		multiply_stage<shape, true>(acc, stage, at);
	}
	wgmma_wait<0>();
	fence_sums<shape>(acc);
	finish_sums<shape>(p, acc);
}

/* Grid: tiles of rows, tiles of columns. */
template <class shape> __global__ void __launch_bounds__(THREADS, 1) matmul_wgmma(matmul_args p) {
#if HAS_WGMMA
	wgmma_tiles<shape>(p);
#endif
}

template <class shape>
static void launch_wgmma(bb_queue *q, const matmul_args &p, const char *name) {
	const dim3 grid(blocks_for((size_t)p.n_rows, shape::rows), blocks_for((size_t)p.n, COLS));
	queue_note(q, ALLOW_SMEM(matmul_wgmma<shape>, shape::smem_bytes), name);
	LAUNCH(matmul_wgmma<shape>, grid, THREADS, shape::smem_bytes, q->stream, p);
	queue_launched(q, name);
}

extern "C" void matmul_f16_sm90a(bb_queue *q, float *y, int ld_y, const void *w, const void *x,
	const float *bias, int n_rows, int n, int k, bool accumulate) {
	if (n_rows < BB_WGMMA_ROWS) {
		matmul_f16_sm80(q, y, ld_y, w, x, bias, n_rows, n, k, accumulate);
		return;
	}
	launch_wgmma<wgmma_128_by_128<BB_F16>>(q, { y, (const uint8_t *)w, (const uint8_t *)x, bias,
		ld_y, n_rows, n, k, accumulate }, "matmul_f16");
}

/* The large tile where it gives two thirds of the processors one. */
extern "C" void matmul_bf16_sm90a(bb_queue *q, float *y, int ld_y, const void *w, const void *x,
	const float *bias, int n_rows, int n, int k, bool accumulate) {
	const matmul_args p = { y, (const uint8_t *)w, (const uint8_t *)x, bias, ld_y, n_rows, n, k,
		accumulate };
	const unsigned large = blocks_for((size_t)n_rows, wgmma_256_by_128::rows)
		* blocks_for((size_t)n, COLS);
	if (n_rows < BB_WGMMA_ROWS) {
		matmul_bf16_sm80(q, y, ld_y, w, x, bias, n_rows, n, k, accumulate);
	} else if (n_rows > GROUP && 3 * large >= 2 * (unsigned)queue_processors(q)) {
		launch_wgmma<wgmma_256_by_128>(q, p, "matmul_bf16");
	} else {
		launch_wgmma<wgmma_128_by_128<BB_BF16>>(q, p, "matmul_bf16");
	}
}
