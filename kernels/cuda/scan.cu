/* SPDX-License-Identifier: Apache-2.0
 *
 * Recurrent layers in their step form: a state stays in registers while the rows of its sequence
 * pass. One row reads and writes each state once; many rows read it once for all. */
#include "math.cuh"
#include "module.h"

#include <assert.h>

/* ---- convolution: a thread is a channel ---- */

/* Blocks that are asked for: for more, unasked, the compiler would spill. */
enum { CONV_THREADS = 128, CONV_BLOCKS = 8, SSD_BLOCKS = 2 };

template <int width>
__global__ void __launch_bounds__(CONV_THREADS, CONV_BLOCKS) conv_kernel(bb_conv a) {
	const int c = (int)(blockIdx.x * CONV_THREADS + threadIdx.x);
	const bb_state_seq &seq = a.seqs[blockIdx.y];
	if (c >= a.dim) {
		return;
	}
	float w[width], past[width - 1];
	UNROLL
	for (int j = 0; j < width; j++) {
		w[j] = a.w[(size_t)j * a.dim + c];
	}
	UNROLL
	for (int j = 0; j < width - 1; j++) {
		past[j] = seq.from != NULL ? seq.from[a.state_at + (size_t)j * a.dim + c] : 0.0f;
	}
	const float bias = a.bias != NULL ? a.bias[c] : 0.0f;
	for (int k = 0; k <= seq.n_saves; k++) {
		const bb_stretch s = state_stretch(&seq, k, a.state_at);
		for (int r = s.row0; r < s.row0 + s.n_rows; r++) {
			const float x = a.x[(size_t)r * a.ld_x + c];
			float y = bias;
			UNROLL
			for (int j = 0; j < width - 1; j++) {
				y = fmaf(w[j], past[j], y);
			}
			y = fmaf(w[width - 1], x, y);
			a.y[(size_t)r * a.ld_y + c] = a.silu ? y * sigmoid_f32(y) : y;
			UNROLL
			for (int j = 0; j < width - 2; j++) {
				past[j] = past[j + 1];
			}
			past[width - 2] = x;
		}
		UNROLL
		for (int j = 0; j < width - 1; j++) {
			s.to[(size_t)j * a.dim + c] = past[j];
		}
	}
}

template <int width>
static void launch_conv(bb_queue *q, const struct bb_conv *a) {
	LAUNCH((conv_kernel<width>), dim3(blocks_for(a->dim, CONV_THREADS), (unsigned)a->n_seqs),
		CONV_THREADS, 0, q->stream, *a);
	queue_launched(q, "conv");
}

extern "C" void conv_sm80(bb_queue *q, const struct bb_conv *a) {
	static void (*const launches[])(bb_queue *, const struct bb_conv *) = {
		launch_conv<2>, launch_conv<3>, launch_conv<4>, launch_conv<5>, launch_conv<6>,
		launch_conv<7>, launch_conv<8>,
	};
	assert(a->width >= 2 && a->width <= BB_CONV_WIDTH);
	if (a->n_seqs > 0) {
		launches[a->width - 2](q, a);
	}
}

/* ---- Mamba: a thread is a channel ---- */

enum { SCAN_THREADS = 64, SCAN_REGISTERS = 16 };

/* A state of at most SCAN_REGISTERS elements is in registers; a larger one is read from where it
 * was last written, which is in L1 but for the first row. */
template <bool in_registers>
__global__ void __launch_bounds__(SCAN_THREADS) scan_kernel(bb_scan p) {
	const int c = (int)(blockIdx.x * SCAN_THREADS + threadIdx.x);
	const bb_state_seq &seq = p.seqs[blockIdx.y];
	if (c >= p.dim) {
		return;
	}
	float S[SCAN_REGISTERS], A[SCAN_REGISTERS];
	UNROLL
	for (int n = 0; n < SCAN_REGISTERS; n++) {
		const bool is_there = in_registers && n < p.n_state;
		S[n] = is_there && seq.from != NULL ? seq.from[p.state_at + (size_t)n * p.dim + c] : 0.0f;
		A[n] = is_there ? p.a[(size_t)n * p.dim + c] : 0.0f;
	}
	const float bias = p.dt_bias != NULL ? p.dt_bias[c] : 0.0f;
	const float skip = p.skip != NULL ? p.skip[c] : 0.0f;
	for (int k = 0; k <= seq.n_saves; k++) {
		const bb_stretch s = state_stretch(&seq, k, p.state_at);
		for (int r = s.row0; r < s.row0 + s.n_rows; r++) {
			const float x = p.x[(size_t)r * p.ld_x + c];
			const float d = softplus_f32(p.dt[(size_t)r * p.ld_dt + c] + bias), u = d * x;
			const float *B = p.b + (size_t)r * p.ld_bc, *C = p.c + (size_t)r * p.ld_bc;
			float y = 0.0f;
			if (in_registers) {
				UNROLL
				for (int n = 0; n < SCAN_REGISTERS; n++) {
					if (n < p.n_state) {
						S[n] = fmaf(u, B[n], exp_f32(d * A[n]) * S[n]);
						y = fmaf(S[n], C[n], y);
					}
				}
			} else {
				const float *from = r > s.row0 ? s.to : s.from;
				for (int n = 0; n < p.n_state; n++) {
					const size_t at = (size_t)n * p.dim + c;
					const float keep = exp_f32(d * p.a[at]);
					const float now = fmaf(u, B[n], keep * (from != NULL ? from[at] : 0.0f));
					s.to[at] = now;
					y = fmaf(now, C[n], y);
				}
			}
			p.y[(size_t)r * p.ld_y + c] = fmaf(skip, x, y);
		}
		UNROLL
		for (int n = 0; in_registers && n < SCAN_REGISTERS; n++) {
			if (n < p.n_state) {
				s.to[(size_t)n * p.dim + c] = S[n];
			}
		}
	}
}

extern "C" void scan_sm80(bb_queue *q, const struct bb_scan *a) {
	const dim3 grid(blocks_for(a->dim, SCAN_THREADS), (unsigned)a->n_seqs);
	if (a->n_seqs == 0) {
		return;
	}
	if (a->n_state <= SCAN_REGISTERS) {
		LAUNCH(scan_kernel<true>, grid, SCAN_THREADS, 0, q->stream, *a);
	} else {
		LAUNCH(scan_kernel<false>, grid, SCAN_THREADS, 0, q->stream, *a);
	}
	queue_launched(q, "scan");
}

/* ---- Mamba-2: a block is 32 columns of a head ----
 *
 * A thread has four columns of n_each rows n of the state; eight threads lie along the columns,
 * sixteen along n. Sums over n go over a thread's own from the lowest up, then by halves over the
 * four threads of a warp, then over the four warps in order. */

enum { SSD_THREADS = 128, SSD_WARPS = SSD_THREADS / WARP, SSD_COLUMNS = 32, SSD_ALONG_N = 16,
	SSD_STATE = 256, SSD_ROWS = 32 };

/* Steps, and what is kept of the state at each, of n rows from r on. */
template <class array> /* the emulator's arrays know who touches them */
DEVICE void ssd_steps_of(array &steps, array &keep, const bb_ssd &a, int h, int r, int n) {
	__syncthreads(); /* the rows before are done */
	if ((int)threadIdx.x < n) {
		const float dt = a.dt[(size_t)(r + threadIdx.x) * a.ld_dt + h];
		float d = softplus_f32(a.dt_bias != NULL ? dt + a.dt_bias[h] : dt);
		d = d < a.dt_min ? a.dt_min : d;
		d = d > a.dt_max ? a.dt_max : d;
		steps[threadIdx.x] = d;
		keep[threadIdx.x] = exp_f32(d * a.a[h]);
	}
	__syncthreads();
}

template <int n_each>
__global__ void __launch_bounds__(SSD_THREADS, SSD_BLOCKS) ssd_kernel(bb_ssd a, bool wide) {
	SHARED(float, sums, [2][SSD_WARPS][SSD_COLUMNS]);
	SHARED(float, d, [SSD_ROWS]);
	SHARED(float, keep, [SSD_ROWS]);
	const int n_tiles = (a.head_dim + SSD_COLUMNS - 1) / SSD_COLUMNS;
	const int h = (int)blockIdx.x / n_tiles, tile = (int)blockIdx.x % n_tiles * SSD_COLUMNS;
	const int warp = (int)threadIdx.x / WARP, lane = (int)threadIdx.x % WARP;
	const int p = tile + lane % 8 * 4, n0 = (warp * 4 + lane / 8) * n_each;
	const int n_columns = a.head_dim - p;
	const bb_state_seq &seq = a.seqs[blockIdx.y];
	const size_t head = a.state_at + (size_t)h * a.n_state * a.head_dim;
	const size_t group = (size_t)(h / (a.n_heads / a.n_groups)) * a.n_state;
	const size_t at = (size_t)h * a.head_dim;
	float4 S[n_each];
	UNROLL
	for (int i = 0; i < n_each; i++) {
		const bool is_there = n0 + i < a.n_state && n_columns > 0 && seq.from != NULL;
		S[i] = make_float4(0.0f, 0.0f, 0.0f, 0.0f);
		if (is_there) {
			const size_t row = head + (size_t)(n0 + i) * a.head_dim;
			S[i] = load4(seq.from + row + p, n_columns, wide);
		}
	}
	const float skip = a.skip != NULL ? a.skip[h] : 0.0f;
	for (int k = 0; k <= seq.n_saves; k++) {
		const bb_stretch s = state_stretch(&seq, k, head);
		for (int t = 0; t < s.n_rows; t++) {
			const size_t r = (size_t)(s.row0 + t);
			if (t % SSD_ROWS == 0) {
				ssd_steps_of(d, keep, a, h, (int)r, min((int)SSD_ROWS, s.n_rows - t));
			}
			const float4 x = load4(a.x + r * a.ld_x + at + p, n_columns, wide);
			const float4 u = mul4(d[t % SSD_ROWS], x);
			const float *B = a.b + r * a.ld_bc + group, *C = a.c + r * a.ld_bc + group;
			float4 y = make_float4(0.0f, 0.0f, 0.0f, 0.0f);
			UNROLL
			for (int i = 0; i < n_each; i++) {
				if (n0 + i < a.n_state) {
					S[i] = fma4(B[n0 + i], u, mul4(keep[t % SSD_ROWS], S[i]));
					y = fma4(C[n0 + i], S[i], y);
				}
			}
			y = sum_across(sum_across(y, 8), 16);
			if (lane < 8) {
				st_vec((float4 *)&sums[t % 2][warp][lane * 4], y);
			}
			__syncthreads();
			if (warp == 0 && tile + lane < a.head_dim) {
				float sum = sums[t % 2][0][lane];
				for (int i = 1; i < SSD_WARPS; i++) {
					sum += sums[t % 2][i][lane];
				}
				const size_t column = at + tile + lane;
				a.y[r * a.ld_y + column] = fmaf(skip, a.x[r * a.ld_x + column], sum);
			}
		}
		UNROLL
		for (int i = 0; i < n_each; i++) {
			if (n0 + i < a.n_state && n_columns > 0) {
				store4(s.to + (size_t)(n0 + i) * a.head_dim + p, S[i], n_columns, wide);
			}
		}
	}
}

template <int n_each>
static void launch_ssd(bb_queue *q, const struct bb_ssd *a) {
	const unsigned tiles = blocks_for(a->head_dim, SSD_COLUMNS);
	/* states and rows are wide where every head's columns are; addresses of states are the device's
	 * own, whose parts begin at multiples of 16 bytes where head_dim is one of 4 */
	const bool wide = a->head_dim % 4 == 0 && a->state_at % 4 == 0 && is_wide(a->x, a->ld_x);
	LAUNCH((ssd_kernel<n_each>), dim3(tiles * (unsigned)a->n_heads, (unsigned)a->n_seqs),
		SSD_THREADS, 0, q->stream, *a, wide);
	queue_launched(q, "ssd");
}

extern "C" void ssd_sm80(bb_queue *q, const struct bb_ssd *a) {
	assert(a->n_state <= SSD_STATE);
	if (a->n_seqs == 0) {
		return;
	}
	if (a->n_state <= 2 * SSD_ALONG_N) {
		launch_ssd<2>(q, a);
	} else if (a->n_state <= 4 * SSD_ALONG_N) {
		launch_ssd<4>(q, a);
	} else if (a->n_state <= 8 * SSD_ALONG_N) {
		launch_ssd<8>(q, a);
	} else {
		launch_ssd<16>(q, a);
	}
}
