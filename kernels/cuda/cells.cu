/* SPDX-License-Identifier: Apache-2.0
 *
 * Recurrent cells with gates of their own, in their step form: a state stays in registers while the
 * rows of its sequence pass. */
#include "math.cuh"
#include "module.h"

#include <assert.h>

/* ---- mLSTM, two launches ----
 *
 * The first has a block for 32 columns of a head's matrix and leaves sums over C q in y. A thread
 * has four columns of n_each rows j of the matrix; eight threads lie along the columns, sixteen
 * along j. Sums over j go over a thread's own from the lowest up, then by halves over the four
 * threads of a warp, then over the four warps in order.
 *
 * The second has a block for a head's normaliser, and divides. It alone writes n and m: were they
 * the first's, a block could find in a state that is replaced in place what another has written. */

enum { MLSTM_THREADS = 128, MLSTM_WARPS = MLSTM_THREADS / WARP, MLSTM_COLUMNS = 32,
	MLSTM_ALONG_KEYS = 16, MLSTM_ROWS = 32, MLSTM_BLOCKS = 2,
	MLSTM_EACH = BB_MLSTM_KEYS / MLSTM_THREADS };

DEVICE float mlstm_gate_of(const bb_mlstm &a, const float *g, size_t r, int h) {
	const float x = g[r * a.ld_gate + h];
	return a.cap > 0.0f ? softcap_f32(x, a.cap) : x;
}

/* keep, u and exp(-m) of n <= MLSTM_ROWS rows from r on; m is that before them. Returns that
 * behind them. All threads of the block call it. */
template <class array> /* the emulator's arrays know who touches them */
DEVICE float mlstm_gates(array &gates, const bb_mlstm &a, int h, int r, int n, float m) {
	const int t = (int)threadIdx.x;
	__syncthreads(); /* the rows before are done */
	if (t < n) {
		gates[t][0] = -softplus_f32(-mlstm_gate_of(a, a.gate_f, (size_t)(r + t), h));
		gates[t][1] = mlstm_gate_of(a, a.gate_i, (size_t)(r + t), h);
	}
	__syncthreads();
	float kept = 0.0f, mine = 0.0f, in = 0.0f;
	for (int j = 0; j < n; j++) {
		const float f = gates[j][0] + m, i = gates[j][1];
		m = f > i ? f : i;
		kept = j == t ? f : kept;
		in = j == t ? i : in;
		mine = j == t ? m : mine;
	}
	__syncthreads(); /* all have read them */
	if (t < n) {
		gates[t][0] = exp_f32(kept - mine);
		gates[t][1] = exp_f32(in - mine);
		gates[t][2] = exp_f32(-mine);
	}
	__syncthreads();
	return m;
}

/* Floats of a layer's part before head h's part of n, and before its m. */
DEVICE size_t mlstm_n_at(const bb_mlstm &a, int h) {
	return (size_t)a.n_heads * a.dim_k * a.dim_v + (size_t)h * a.dim_k;
}

DEVICE size_t mlstm_m_at(const bb_mlstm &a, int h) {
	return (size_t)a.n_heads * a.dim_k * (a.dim_v + 1) + h;
}

template <int n_each>
__global__ void __launch_bounds__(MLSTM_THREADS, MLSTM_BLOCKS) mlstm_kernel(bb_mlstm a,
	bool wide) {
	SHARED(float, sums, [2][MLSTM_WARPS][MLSTM_COLUMNS]);
	SHARED(float, gates, [MLSTM_ROWS][3]);
	const int n_tiles = (a.dim_v + MLSTM_COLUMNS - 1) / MLSTM_COLUMNS;
	const int h = (int)blockIdx.x / n_tiles, tile = (int)blockIdx.x % n_tiles * MLSTM_COLUMNS;
	const int warp = (int)threadIdx.x / WARP, lane = (int)threadIdx.x % WARP;
	const int p = tile + lane % 8 * 4, j0 = (warp * 4 + lane / 8) * n_each;
	const int n_columns = a.dim_v - p;
	const bb_state_seq &seq = a.seqs[blockIdx.y];
	const size_t head = a.state_at + (size_t)h * a.dim_k * a.dim_v, at = (size_t)h * a.dim_v;
	float m = seq.from != NULL ? seq.from[a.state_at + mlstm_m_at(a, h)] : 0.0f;
	float4 C[n_each];
	UNROLL
	for (int i = 0; i < n_each; i++) {
		C[i] = make_float4(0.0f, 0.0f, 0.0f, 0.0f);
		if (j0 + i < a.dim_k && n_columns > 0 && seq.from != NULL) {
			C[i] = load4(seq.from + head + (size_t)(j0 + i) * a.dim_v + p, n_columns, wide);
		}
	}
	for (int s = 0; s <= seq.n_saves; s++) {
		const bb_stretch part = state_stretch(&seq, s, head);
		for (int t = 0; t < part.n_rows; t++) {
			const size_t r = (size_t)(part.row0 + t);
			if (t % MLSTM_ROWS == 0) {
				m = mlstm_gates(gates, a, h, (int)r, min((int)MLSTM_ROWS, part.n_rows - t), m);
			}
			const float keep = gates[t % MLSTM_ROWS][0];
			const float4 u = mul4(gates[t % MLSTM_ROWS][1],
				load4(a.v + r * a.ld_v + at + p, n_columns, wide));
			const float *k = a.k + r * a.ld_qk + (size_t)h * a.dim_k;
			const float *q = a.q + r * a.ld_qk + (size_t)h * a.dim_k;
			float4 y = make_float4(0.0f, 0.0f, 0.0f, 0.0f);
			UNROLL
			for (int i = 0; i < n_each; i++) {
				if (j0 + i < a.dim_k) {
					C[i] = fma4(k[j0 + i], u, mul4(keep, C[i]));
					y = fma4(q[j0 + i], C[i], y);
				}
			}
			y = sum_across(sum_across(y, 8), 16);
			if (lane < 8) {
				st_vec((float4 *)&sums[t % 2][warp][lane * 4], y);
			}
			__syncthreads();
			if (warp == 0 && tile + lane < a.dim_v) {
				float sum = sums[t % 2][0][lane];
				for (int i = 1; i < MLSTM_WARPS; i++) {
					sum += sums[t % 2][i][lane];
				}
				a.y[r * a.ld_y + at + tile + lane] = sum;
			}
		}
		UNROLL
		for (int i = 0; i < n_each; i++) {
			if (j0 + i < a.dim_k && n_columns > 0) {
				store4(part.to + (size_t)(j0 + i) * a.dim_v + p, C[i], n_columns, wide);
			}
		}
	}
}

/* A thread has elements t, t + 128, ... of n. */
__global__ void __launch_bounds__(MLSTM_THREADS) mlstm_divide_kernel(bb_mlstm a, float scale) {
	SHARED(float, sums, [2][MLSTM_WARPS]);
	SHARED(float, gates, [MLSTM_ROWS][3]);
	const int h = (int)blockIdx.x, thread = (int)threadIdx.x;
	const bb_state_seq &seq = a.seqs[blockIdx.y];
	const size_t n_at = a.state_at + mlstm_n_at(a, h), m_at = a.state_at + mlstm_m_at(a, h);
	float m = seq.from != NULL ? seq.from[m_at] : 0.0f;
	float n[MLSTM_EACH];
	UNROLL
	for (int i = 0; i < MLSTM_EACH; i++) {
		const int j = thread + i * MLSTM_THREADS;
		n[i] = j < a.dim_k && seq.from != NULL ? seq.from[n_at + j] : 0.0f;
	}
	for (int s = 0; s <= seq.n_saves; s++) {
		const bb_stretch part = state_stretch(&seq, s, 0);
		for (int t = 0; t < part.n_rows; t++) {
			const size_t r = (size_t)(part.row0 + t);
			if (t % MLSTM_ROWS == 0) {
				m = mlstm_gates(gates, a, h, (int)r, min((int)MLSTM_ROWS, part.n_rows - t), m);
			}
			const float *k = a.k + r * a.ld_qk + (size_t)h * a.dim_k;
			const float *q = a.q + r * a.ld_qk + (size_t)h * a.dim_k;
			const float keep = gates[t % MLSTM_ROWS][0], u = gates[t % MLSTM_ROWS][1];
			float sum = 0.0f;
			UNROLL
			for (int i = 0; i < MLSTM_EACH; i++) {
				const int j = thread + i * MLSTM_THREADS;
				if (j < a.dim_k) {
					n[i] = fmaf(u, k[j], keep * n[i]);
					sum = fmaf(n[i], q[j], sum);
				}
			}
			for (int bits = 16; bits > 0; bits /= 2) {
				sum += __shfl_xor_sync(ALL_LANES, sum, bits);
			}
			if (thread % WARP == 0) {
				sums[t % 2][thread / WARP] = sum;
			}
			__syncthreads();
			sum = sums[t % 2][0];
			for (int i = 1; i < MLSTM_WARPS; i++) {
				sum += sums[t % 2][i];
			}
			const float size = fabsf(scale * sum), least = gates[t % MLSTM_ROWS][2];
			const float factor = scale / ((size < least ? least : size) + a.eps);
			float *y = a.y + r * a.ld_y + (size_t)h * a.dim_v;
			for (int p = thread; p < a.dim_v; p += MLSTM_THREADS) {
				y[p] *= factor;
			}
		}
		UNROLL
		for (int i = 0; i < MLSTM_EACH; i++) {
			const int j = thread + i * MLSTM_THREADS;
			if (j < a.dim_k) {
				part.to[n_at + j] = n[i];
			}
		}
		if (thread == 0) {
			part.to[m_at] = m;
		}
	}
}

template <int n_each>
static void launch_mlstm(bb_queue *q, const struct bb_mlstm *a) {
	const unsigned tiles = blocks_for(a->dim_v, MLSTM_COLUMNS);
	/* states and rows are wide where every head's columns are; addresses of states are the device's
	 * own, whose parts begin at multiples of 16 bytes where dim_v is one of 4 */
	const bool wide = a->dim_v % 4 == 0 && a->state_at % 4 == 0 && is_wide(a->v, a->ld_v);
	LAUNCH((mlstm_kernel<n_each>), dim3(tiles * (unsigned)a->n_heads, (unsigned)a->n_seqs),
		MLSTM_THREADS, 0, q->stream, *a, wide);
	queue_launched(q, "mlstm");
}

extern "C" void mlstm_sm80(bb_queue *q, const struct bb_mlstm *a) {
	assert(a->dim_k <= BB_MLSTM_KEYS);
	if (a->n_seqs == 0) {
		return;
	}
	if (a->dim_k <= 2 * MLSTM_ALONG_KEYS) {
		launch_mlstm<2>(q, a);
	} else if (a->dim_k <= 4 * MLSTM_ALONG_KEYS) {
		launch_mlstm<4>(q, a);
	} else if (a->dim_k <= 8 * MLSTM_ALONG_KEYS) {
		launch_mlstm<8>(q, a);
	} else {
		launch_mlstm<16>(q, a);
	}
	LAUNCH(mlstm_divide_kernel, dim3((unsigned)a->n_heads, (unsigned)a->n_seqs), MLSTM_THREADS, 0,
		q->stream, *a, 1.0f / sqrtf((float)a->dim_k));
	queue_launched(q, "mlstm");
}

/* ---- sLSTM ----
 *
 * A block has a head of a sequence and takes its channels 32 at a time, one a lane, with all their
 * gates: each warp adds up every eighth row of w, from the lowest on, and one warp the eight sums
 * in order. No SM holds the matrix of a head of 256 channels, which is 1 MiB: it comes from L2,
 * once a row, and that of a small head from L1.
 *
 * Where a sequence has one row, each 32 channels have a block of their own. As these all read the
 * H before, which may lie where the new one goes, a second launch copies that there from y. */

enum { SLSTM_THREADS = 256, SLSTM_WARPS = SLSTM_THREADS / WARP };

/* Gates i, f, z, o of channel `at` of row r, before what H adds. */
DEVICE float4 slstm_input(const bb_slstm &a, size_t r, size_t at) {
	const size_t x = r * a.ld_gate + at, width = (size_t)a.n_heads * a.head_dim;
	float4 in = make_float4(a.gate_i[x], a.gate_f[x], a.gate_z[x], a.gate_o[x]);
	if (a.bias != NULL) {
		in.x += a.bias[at];
		in.y += a.bias[width + at];
		in.z += a.bias[2 * width + at];
		in.w += a.bias[3 * width + at];
	}
	return in;
}

/* A warp's share of the sums over H of the four gates of a channel, whose column of w begins
 * there. */
template <class array> DEVICE float4 slstm_share(array &H, const float *w, int dim) {
	float4 sum = make_float4(0.0f, 0.0f, 0.0f, 0.0f);
	UNROLL_BY(4)
	for (int j = (int)threadIdx.x / WARP; j < dim; j += SLSTM_WARPS) {
		const float *row = w + (size_t)j * 4 * dim;
		const float4 of_gates = make_float4(ld_nc(row), ld_nc(row + dim), ld_nc(row + 2 * dim),
			ld_nc(row + 3 * dim));
		sum = fma4(H[j], of_gates, sum);
	}
	return sum;
}

/* What a row makes of a channel's state; returns the new H. */
DEVICE float slstm_cell(float4 gates, float *C, float *n, float *m) {
	const bool is_new = *n == 0.0f;
	const float f = *m - softplus_f32(-gates.y);
	const float shift = is_new || f < gates.x ? gates.x : f;
	const float keep = is_new ? 0.0f : exp_f32(f - shift), u = exp_f32(gates.x - shift);
	*C = fmaf(keep, *C, u * softcap_f32(gates.z, 1.0f));
	*n = fmaf(keep, *n, u);
	*m = shift;
	return sigmoid_f32(gates.w) * *C / *n;
}

__global__ void __launch_bounds__(SLSTM_THREADS) slstm_kernel(bb_slstm a) {
	SHARED(float, H, [2][BB_SLSTM_HEAD]);
	SHARED(float, past, [3][BB_SLSTM_HEAD]); /* C, n, m */
	SHARED(float4, sums, [2][SLSTM_WARPS][WARP]);
	const int dim = a.head_dim, n_tiles = (dim + WARP - 1) / WARP;
	const int h = (int)blockIdx.x / n_tiles, tile0 = (int)blockIdx.x % n_tiles;
	const int warp = (int)threadIdx.x / WARP, lane = (int)threadIdx.x % WARP;
	const bb_state_seq &seq = a.seqs[blockIdx.y];
	const bool is_split = seq.n_rows == 1;
	const size_t width = (size_t)a.n_heads * dim, at = (size_t)h * dim;
	const float *from = seq.from != NULL ? seq.from + a.state_at + at : NULL;
	const int n_mine = is_split ? 1 : n_tiles; /* tiles, and where their channels end */
	const int end = min(dim, (tile0 + n_mine) * WARP);
	if (!is_split && tile0 > 0) {
		return;
	}
	for (int j = (int)threadIdx.x; j < dim; j += SLSTM_THREADS) {
		H[0][j] = from != NULL ? from[j] : 0.0f;
	}
	for (int j = tile0 * WARP + (int)threadIdx.x; j < end; j += SLSTM_THREADS) {
		for (int k = 0; k < 3; k++) {
			past[k][j] = from != NULL ? from[(k + 1) * width + j] : 0.0f;
		}
	}
	__syncthreads();
	int i = 0, now = 0; /* of sums, of H */
	for (int s = 0; s <= seq.n_saves; s++) {
		const bb_stretch part = state_stretch(&seq, s, a.state_at + at);
		for (int r = part.row0; r < part.row0 + part.n_rows; r++) {
			for (int tile = tile0; tile < tile0 + n_mine; tile++, i ^= 1) {
				const int c = tile * WARP + lane;
				const bool is_mine = warp == tile % SLSTM_WARPS && c < dim;
				float4 gates = make_float4(0.0f, 0.0f, 0.0f, 0.0f);
				if (is_mine) {
					gates = slstm_input(a, (size_t)r, at + c);
				}
				if (c < dim) {
					st_vec(&sums[i][warp][lane], slstm_share(H[now], a.w + at * 4 * dim + c, dim));
				}
				__syncthreads();
				if (is_mine) {
					for (int k = 0; k < SLSTM_WARPS; k++) {
						gates = fma4(1.0f, ld_vec(&sums[i][k][lane]), gates);
					}
					const float y = slstm_cell(gates, &past[0][c], &past[1][c], &past[2][c]);
					H[now ^ 1][c] = y;
					a.y[(size_t)r * a.ld_y + at + c] = y;
				}
			}
			__syncthreads();
			now ^= 1;
		}
		for (int j = tile0 * WARP + (int)threadIdx.x; j < end; j += SLSTM_THREADS) {
			if (!is_split || s < seq.n_saves) {
				part.to[j] = H[now][j];
			}
			for (int k = 0; k < 3; k++) {
				part.to[(k + 1) * width + j] = past[k][j];
			}
		}
	}
}

__global__ void __launch_bounds__(SLSTM_THREADS) slstm_keep_kernel(bb_slstm a) {
	const bb_state_seq &seq = a.seqs[blockIdx.y];
	const int c = (int)(blockIdx.x * SLSTM_THREADS + threadIdx.x);
	if (seq.n_rows == 1 && c < a.n_heads * a.head_dim) {
		seq.to[a.state_at + c] = a.y[(size_t)seq.row0 * a.ld_y + c];
	}
}

extern "C" void slstm_sm80(bb_queue *q, const struct bb_slstm *a) {
	assert(a->head_dim <= BB_SLSTM_HEAD);
	if (a->n_seqs == 0) {
		return;
	}
	const unsigned n_seqs = (unsigned)a->n_seqs, heads = (unsigned)a->n_heads;
	LAUNCH(slstm_kernel, dim3(blocks_for(a->head_dim, WARP) * heads, n_seqs), SLSTM_THREADS, 0,
		q->stream, *a);
	queue_launched(q, "slstm");
	LAUNCH(slstm_keep_kernel, dim3(blocks_for((size_t)a->n_heads * a->head_dim, SLSTM_THREADS),
		n_seqs), SLSTM_THREADS, 0, q->stream, *a);
	queue_launched(q, "slstm");
}

/* ---- RG-LRU: a thread is a channel ---- */

enum { RG_LRU_THREADS = 64 };

__global__ void __launch_bounds__(RG_LRU_THREADS) rg_lru_kernel(bb_rg_lru a) {
	const int c = (int)(blockIdx.x * RG_LRU_THREADS + threadIdx.x);
	const bb_state_seq &seq = a.seqs[blockIdx.y];
	if (c >= a.dim) {
		return;
	}
	const float log_a = a.log_a[c];
	float S = seq.from != NULL ? seq.from[a.state_at + c] : 0.0f;
	for (int k = 0; k <= seq.n_saves; k++) {
		const bb_stretch s = state_stretch(&seq, k, a.state_at);
		for (int t = 0; t < s.n_rows; t++) {
			const size_t r = (size_t)(s.row0 + t);
			const float l = sigmoid_f32(a.gate_r[r * a.ld_gate + c]) * log_a;
			const float scale = s.from == NULL && t == 0 ? 1.0f
				: sqrtf(one_less_exp_f32(-(l + l)));
			const float in = sigmoid_f32(a.gate_i[r * a.ld_gate + c]) * a.x[r * a.ld_x + c];
			S = fmaf(exp_f32(l), S, scale * in);
			a.y[r * a.ld_y + c] = S;
		}
		s.to[c] = S;
	}
}

extern "C" void rg_lru_sm80(bb_queue *q, const struct bb_rg_lru *a) {
	if (a->n_seqs == 0) {
		return;
	}
	LAUNCH(rg_lru_kernel, dim3(blocks_for(a->dim, RG_LRU_THREADS), (unsigned)a->n_seqs),
		RG_LRU_THREADS, 0, q->stream, *a);
	queue_launched(q, "rg_lru");
}

/* ---- gated delta rule: a block is 32 columns of a head, as of mLSTM's first launch ---- */

/* keep, beta, 1 / |k| and 1 / (|q| sqrt(dim_k)) of n <= MLSTM_ROWS rows from r on: a warp takes
 * every fourth row. All threads of the block call it. */
template <class array> DEVICE void delta_factors(array &factors, const bb_delta &a, int h, int r,
	int n, float scale) {
	const int lane = (int)threadIdx.x % WARP;
	const size_t g = (size_t)(h / (a.n_heads / a.n_key_heads)) * a.dim_k;
	__syncthreads(); /* the rows before are done */
	for (int t = (int)threadIdx.x / WARP; t < n; t += MLSTM_WARPS) {
		const float *k = a.k + (size_t)(r + t) * a.ld_qk + g;
		const float *q = a.q + (size_t)(r + t) * a.ld_qk + g;
		float of_k = 0.0f, of_q = 0.0f;
		for (int j = lane; j < a.dim_k; j += WARP) {
			of_k = fmaf(k[j], k[j], of_k);
			of_q = fmaf(q[j], q[j], of_q);
		}
		for (int bits = 16; bits > 0; bits /= 2) {
			of_k += __shfl_xor_sync(ALL_LANES, of_k, bits);
			of_q += __shfl_xor_sync(ALL_LANES, of_q, bits);
		}
		if (lane == 0) {
			const size_t gate = (size_t)(r + t) * a.ld_gate + h;
			const float dt = a.dt_bias != NULL ? a.dt[gate] + a.dt_bias[h] : a.dt[gate];
			factors[t][0] = exp_f32(a.a[h] * softplus_f32(dt));
			factors[t][1] = sigmoid_f32(a.gate_b[gate]);
			factors[t][2] = 1.0f / sqrtf(of_k + 1e-6f);
			factors[t][3] = scale / sqrtf(of_q + 1e-6f);
		}
	}
	__syncthreads();
}

/* The sum of column i over the block's warps. */
template <class array> DEVICE float sum_of_warps(array &sums, int i) {
	float sum = sums[0][i];
	for (int w = 1; w < MLSTM_WARPS; w++) {
		sum += sums[w][i];
	}
	return sum;
}

/* Sums v over the threads along j: each thread's four columns of the block's. */
template <class array> DEVICE void sum_columns(array &sums, float4 v) {
	const int warp = (int)threadIdx.x / WARP, lane = (int)threadIdx.x % WARP;
	v = sum_across(sum_across(v, 8), 16);
	if (lane < 8) {
		st_vec((float4 *)&sums[warp][lane * 4], v);
	}
	__syncthreads();
}

template <int n_each>
__global__ void __launch_bounds__(MLSTM_THREADS, MLSTM_BLOCKS) delta_kernel(bb_delta a, float scale,
	bool wide) {
	SHARED(float, sums, [MLSTM_WARPS][MLSTM_COLUMNS]);
	SHARED(float, known, [MLSTM_WARPS][MLSTM_COLUMNS]);
	SHARED(float, factors, [MLSTM_ROWS][4]);
	const int n_tiles = (a.dim_v + MLSTM_COLUMNS - 1) / MLSTM_COLUMNS;
	const int h = (int)blockIdx.x / n_tiles, tile = (int)blockIdx.x % n_tiles * MLSTM_COLUMNS;
	const int lane = (int)threadIdx.x % WARP, c = lane % 8 * 4, p = tile + c;
	const int j0 = ((int)threadIdx.x / 8) * n_each, n_columns = a.dim_v - p;
	const bb_state_seq &seq = a.seqs[blockIdx.y];
	const size_t head = a.state_at + (size_t)h * a.dim_k * a.dim_v, at = (size_t)h * a.dim_v;
	const size_t keys = (size_t)(h / (a.n_heads / a.n_key_heads)) * a.dim_k;
	float4 S[n_each];
	UNROLL
	for (int i = 0; i < n_each; i++) {
		S[i] = make_float4(0.0f, 0.0f, 0.0f, 0.0f);
		if (j0 + i < a.dim_k && n_columns > 0 && seq.from != NULL) {
			S[i] = load4(seq.from + head + (size_t)(j0 + i) * a.dim_v + p, n_columns, wide);
		}
	}
	for (int s = 0; s <= seq.n_saves; s++) {
		const bb_stretch part = state_stretch(&seq, s, head);
		for (int t = 0; t < part.n_rows; t++) {
			const size_t r = (size_t)(part.row0 + t);
			const int i_row = t % MLSTM_ROWS;
			if (i_row == 0) {
				delta_factors(factors, a, h, (int)r, min((int)MLSTM_ROWS, part.n_rows - t), scale);
			}
			const float keep = factors[i_row][0], of_k = factors[i_row][2];
			const float *k = a.k + r * a.ld_qk + keys + j0, *q = a.q + r * a.ld_qk + keys + j0;
			const float4 v = load4(a.v + r * a.ld_v + at + p, n_columns, wide);
			float4 y = make_float4(0.0f, 0.0f, 0.0f, 0.0f), e = y;
			UNROLL
			for (int i = 0; i < n_each; i++) {
				y = j0 + i < a.dim_k ? fma4(k[i], S[i], y) : y;
			}
			sum_columns(known, y);
			const float of_known = -keep * of_k, of_e = factors[i_row][1] * of_k;
			e.x = of_e * fmaf(of_known, sum_of_warps(known, c), v.x);
			e.y = of_e * fmaf(of_known, sum_of_warps(known, c + 1), v.y);
			e.z = of_e * fmaf(of_known, sum_of_warps(known, c + 2), v.z);
			e.w = of_e * fmaf(of_known, sum_of_warps(known, c + 3), v.w);
			y = make_float4(0.0f, 0.0f, 0.0f, 0.0f);
			UNROLL
			for (int i = 0; i < n_each; i++) {
				if (j0 + i < a.dim_k) {
					S[i] = fma4(k[i], e, mul4(keep, S[i]));
					y = fma4(q[i], S[i], y);
				}
			}
			sum_columns(sums, y);
			if ((int)threadIdx.x < WARP && tile + lane < a.dim_v) {
				a.y[r * a.ld_y + at + tile + lane] = factors[i_row][3] * sum_of_warps(sums, lane);
			}
		}
		UNROLL
		for (int i = 0; i < n_each; i++) {
			if (j0 + i < a.dim_k && n_columns > 0) {
				store4(part.to + (size_t)(j0 + i) * a.dim_v + p, S[i], n_columns, wide);
			}
		}
	}
}

template <int n_each>
static void launch_delta(bb_queue *q, const struct bb_delta *a) {
	const unsigned tiles = blocks_for(a->dim_v, MLSTM_COLUMNS);
	const bool wide = a->dim_v % 4 == 0 && a->state_at % 4 == 0 && is_wide(a->v, a->ld_v);
	LAUNCH((delta_kernel<n_each>), dim3(tiles * (unsigned)a->n_heads, (unsigned)a->n_seqs),
		MLSTM_THREADS, 0, q->stream, *a, 1.0f / sqrtf((float)a->dim_k), wide);
	queue_launched(q, "delta");
}

extern "C" void delta_sm80(bb_queue *q, const struct bb_delta *a) {
	assert(a->dim_k <= BB_DELTA_KEYS);
	if (a->n_seqs == 0) {
		return;
	}
	if (a->dim_k <= 2 * MLSTM_ALONG_KEYS) {
		launch_delta<2>(q, a);
	} else if (a->dim_k <= 4 * MLSTM_ALONG_KEYS) {
		launch_delta<4>(q, a);
	} else if (a->dim_k <= 8 * MLSTM_ALONG_KEYS) {
		launch_delta<8>(q, a);
	} else {
		launch_delta<16>(q, a);
	}
}
