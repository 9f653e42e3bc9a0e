/* SPDX-License-Identifier: Apache-2.0
 *
 * What is RWKV's own. The state of a head stays in registers while the rows of its sequence
 * pass. */
#include "fused.cuh"
#include "module.h"

#include <assert.h>

/* ---- RWKV-7: a block is 32 value channels of a head ----
 *
 * A thread has four value channels of n_each keys; eight threads lie along the values, sixteen
 * along the keys. Sums over keys go over a thread's own from the lowest up, then by halves over the
 * four threads of a warp, then over the four warps in order. A row's update also gives the sums u
 * of the row behind it, so that a row waits for the others of the block once. */

enum { WKV_THREADS = 128, WKV_WARPS = WKV_THREADS / WARP, WKV_COLUMNS = 32, WKV_ALONG_KEYS = 16,
	WKV_BLOCKS = 2 };

DEVICE float4 add4(float4 a, float4 b) {
	return make_float4(a.x + b.x, a.y + b.y, a.z + b.z, a.w + b.w);
}

/* The part of sum over j of S[j] x[j] that is this thread's. */
template <int n_each>
DEVICE float4 own_sum(const float4 (&S)[n_each], const float *x, int n0, int n_keys) {
	float4 sum = make_float4(0.0f, 0.0f, 0.0f, 0.0f);
	UNROLL
	for (int i = 0; i < n_each; i++) {
		sum = n0 + i < n_keys ? fma4(x[n0 + i], S[i], sum) : sum;
	}
	return sum;
}

template <int n_each>
__global__ void __launch_bounds__(WKV_THREADS, WKV_BLOCKS) wkv7_kernel(bb_wkv7 a, bool wide) {
	SHARED(float, sums, [2][2][WKV_WARPS][WKV_COLUMNS]); /* [turn][of u, of y] */
	const int n_tiles = (a.head_dim + WKV_COLUMNS - 1) / WKV_COLUMNS;
	const int h = (int)blockIdx.x / n_tiles, tile = (int)blockIdx.x % n_tiles * WKV_COLUMNS;
	const int warp = (int)threadIdx.x / WARP, lane = (int)threadIdx.x % WARP;
	const int column = lane % 8 * 4, p = tile + column, n_columns = a.head_dim - p;
	const int n0 = (warp * 4 + lane / 8) * n_each, n_keys = a.head_dim;
	const bb_state_seq &seq = a.seqs[blockIdx.y];
	const size_t head = a.state_at + (size_t)h * a.head_dim * a.head_dim;
	const size_t at = (size_t)h * a.head_dim;
	const int end = seq.row0 + seq.n_rows;
	float4 S[n_each];
	UNROLL
	for (int i = 0; i < n_each; i++) {
		S[i] = make_float4(0.0f, 0.0f, 0.0f, 0.0f);
		if (n0 + i < n_keys && n_columns > 0 && seq.from != NULL) {
			S[i] = load4(seq.from + head + (size_t)(n0 + i) * a.head_dim + p, n_columns, wide);
		}
	}
	int turn = 0;
	float4 next = own_sum<n_each>(S, a.a + (size_t)seq.row0 * a.ld + at, n0, n_keys);
	next = sum_across(sum_across(next, 8), 16);
	if (lane < 8) {
		st_vec((float4 *)&sums[1][0][warp][column], next);
	}
	__syncthreads();
	for (int k = 0; k <= seq.n_saves; k++) {
		const bb_stretch s = state_stretch(&seq, k, head);
		for (int r = s.row0; r < s.row0 + s.n_rows; r++) {
			const size_t row = (size_t)r * a.ld + at;
			const float *after = a.a + (size_t)(r + 1 < end ? r + 1 : r) * a.ld + at;
			float4 u = ld_vec((const float4 *)&sums[1 - turn][0][0][column]);
			UNROLL
			for (int i = 1; i < WKV_WARPS; i++) {
				u = add4(u, ld_vec((const float4 *)&sums[1 - turn][0][i][column]));
			}
			const float4 v = load4(a.v + row + p, n_columns, wide);
			float4 y = make_float4(0.0f, 0.0f, 0.0f, 0.0f);
			UNROLL
			for (int i = 0; i < n_each; i++) {
				if (n0 + i < n_keys) {
					const size_t j = row + n0 + i;
					S[i] = fma4(a.k[j], v, fma4(a.b[j], u, mul4(a.w[j], S[i])));
					y = fma4(a.r[j], S[i], y);
				}
			}
			next = own_sum<n_each>(S, after, n0, n_keys);
			next = sum_across(sum_across(next, 8), 16);
			y = sum_across(sum_across(y, 8), 16);
			if (lane < 8) {
				st_vec((float4 *)&sums[turn][0][warp][column], next);
				st_vec((float4 *)&sums[turn][1][warp][column], y);
			}
			__syncthreads();
			if (warp == 0 && tile + lane < a.head_dim) {
				float sum = sums[turn][1][0][lane];
				for (int i = 1; i < WKV_WARPS; i++) {
					sum += sums[turn][1][i][lane];
				}
				a.y[(size_t)r * a.ld_y + at + tile + lane] = sum;
			}
			turn = 1 - turn;
		}
		UNROLL
		for (int i = 0; i < n_each; i++) {
			if (n0 + i < n_keys && n_columns > 0) {
				store4(s.to + (size_t)(n0 + i) * a.head_dim + p, S[i], n_columns, wide);
			}
		}
	}
}

template <int n_each>
static void launch_wkv7(bb_queue *q, const struct bb_wkv7 *a) {
	const unsigned tiles = blocks_for(a->head_dim, WKV_COLUMNS);
	/* as those of ssd are */
	const bool wide = a->head_dim % 4 == 0 && a->state_at % 4 == 0 && is_wide(a->v, a->ld);
	LAUNCH((wkv7_kernel<n_each>), dim3(tiles * (unsigned)a->n_heads, (unsigned)a->n_seqs),
		WKV_THREADS, 0, q->stream, *a, wide);
	queue_launched(q, "wkv7");
}

extern "C" void wkv7_sm80(bb_queue *q, const struct bb_wkv7 *a) {
	assert(a->head_dim <= BB_WKV_HEAD);
	if (a->n_seqs == 0) {
		return;
	}
	if (a->head_dim <= 2 * WKV_ALONG_KEYS) {
		launch_wkv7<2>(q, a);
	} else if (a->head_dim <= 4 * WKV_ALONG_KEYS) {
		launch_wkv7<4>(q, a);
	} else {
		launch_wkv7<8>(q, a);
	}
}

/* ---- RWKV-6: the same threads, without sums that a row's update needs ---- */

template <int n_each>
__global__ void __launch_bounds__(WKV_THREADS, WKV_BLOCKS) wkv6_kernel(bb_wkv6 a, bool wide) {
	SHARED(float, sums, [2][WKV_WARPS][WKV_COLUMNS]); /* [turn] */
	const int n_tiles = (a.head_dim + WKV_COLUMNS - 1) / WKV_COLUMNS;
	const int h = (int)blockIdx.x / n_tiles, tile = (int)blockIdx.x % n_tiles * WKV_COLUMNS;
	const int warp = (int)threadIdx.x / WARP, lane = (int)threadIdx.x % WARP;
	const int column = lane % 8 * 4, p = tile + column, n_columns = a.head_dim - p;
	const int n0 = (warp * 4 + lane / 8) * n_each, n_keys = a.head_dim;
	const bb_state_seq &seq = a.seqs[blockIdx.y];
	const size_t head = a.state_at + (size_t)h * a.head_dim * a.head_dim;
	const size_t at = (size_t)h * a.head_dim;
	float4 S[n_each];
	float u[n_each];
	UNROLL
	for (int i = 0; i < n_each; i++) {
		S[i] = make_float4(0.0f, 0.0f, 0.0f, 0.0f);
		if (n0 + i < n_keys && n_columns > 0 && seq.from != NULL) {
			S[i] = load4(seq.from + head + (size_t)(n0 + i) * a.head_dim + p, n_columns, wide);
		}
		u[i] = n0 + i < n_keys ? a.u[at + n0 + i] : 0.0f;
	}
	int turn = 0;
	for (int k = 0; k <= seq.n_saves; k++) {
		const bb_stretch s = state_stretch(&seq, k, head);
		for (int r = s.row0; r < s.row0 + s.n_rows; r++) {
			const size_t row = (size_t)r * a.ld + at;
			const float4 v = load4(a.v + row + p, n_columns, wide);
			float4 y = make_float4(0.0f, 0.0f, 0.0f, 0.0f);
			UNROLL
			for (int i = 0; i < n_each; i++) {
				if (n0 + i < n_keys) {
					const size_t j = row + n0 + i;
					const float4 kv = mul4(a.k[j], v);
					y = fma4(a.r[j], fma4(u[i], kv, S[i]), y);
					S[i] = fma4(a.w[j], S[i], kv);
				}
			}
			y = sum_across(sum_across(y, 8), 16);
			if (lane < 8) {
				st_vec((float4 *)&sums[turn][warp][column], y);
			}
			__syncthreads();
			if (warp == 0 && tile + lane < a.head_dim) {
				float sum = sums[turn][0][lane];
				for (int i = 1; i < WKV_WARPS; i++) {
					sum += sums[turn][i][lane];
				}
				a.y[(size_t)r * a.ld_y + at + tile + lane] = sum;
			}
			turn = 1 - turn;
		}
		UNROLL
		for (int i = 0; i < n_each; i++) {
			if (n0 + i < n_keys && n_columns > 0) {
				store4(s.to + (size_t)(n0 + i) * a.head_dim + p, S[i], n_columns, wide);
			}
		}
	}
}

template <int n_each>
static void launch_wkv6(bb_queue *q, const struct bb_wkv6 *a) {
	const unsigned tiles = blocks_for(a->head_dim, WKV_COLUMNS);
	const bool wide = a->head_dim % 4 == 0 && a->state_at % 4 == 0 && is_wide(a->v, a->ld);
	LAUNCH((wkv6_kernel<n_each>), dim3(tiles * (unsigned)a->n_heads, (unsigned)a->n_seqs),
		WKV_THREADS, 0, q->stream, *a, wide);
	queue_launched(q, "wkv6");
}

extern "C" void wkv6_sm80(bb_queue *q, const struct bb_wkv6 *a) {
	assert(a->head_dim <= BB_WKV_HEAD);
	if (a->n_seqs == 0) {
		return;
	}
	if (a->head_dim <= 2 * WKV_ALONG_KEYS) {
		launch_wkv6<2>(q, a);
	} else if (a->head_dim <= 4 * WKV_ALONG_KEYS) {
		launch_wkv6<4>(q, a);
	} else {
		launch_wkv6<8>(q, a);
	}
}

/* ---- token shift: a thread is a channel ---- */

enum { SHIFT_THREADS = 128, HEAD_THREADS = 128, HEADS_PER_BLOCK = HEAD_THREADS / WARP };

__global__ void __launch_bounds__(SHIFT_THREADS) shift_kernel(bb_shift a) {
	const int c = (int)(blockIdx.x * SHIFT_THREADS + threadIdx.x);
	const bb_state_seq &seq = a.seqs[blockIdx.y];
	if (c >= a.dim) {
		return;
	}
	float before = seq.from != NULL ? seq.from[a.state_at + c] : 0.0f;
	for (int k = 0; k <= seq.n_saves; k++) {
		const bb_stretch s = state_stretch(&seq, k, a.state_at);
		for (int r = s.row0; r < s.row0 + s.n_rows; r++) {
			const float x = a.x[(size_t)r * a.ld_x + c];
			for (int m = 0; m < a.n_mixes; m++) {
				const size_t at = (size_t)m * a.dim + c;
				a.y[(size_t)r * a.ld_y + at] = a.mix == NULL ? before
					: fmaf(before - x, a.mix[at], x);
			}
			before = x;
		}
		s.to[c] = before;
	}
}

extern "C" void shift_sm80(bb_queue *q, const struct bb_shift *a) {
	if (a->n_seqs > 0) {
		LAUNCH(shift_kernel, dim3(blocks_for(a->dim, SHIFT_THREADS), (unsigned)a->n_seqs),
			SHIFT_THREADS, 0, q->stream, *a);
		queue_launched(q, "shift");
	}
}

/* ---- before and behind wkv7: a warp is a head of a row ---- */

__global__ void __launch_bounds__(HEAD_THREADS) wkv7_keys_kernel(bb_wkv7_keys a) {
	const int t = (int)(blockIdx.x * HEADS_PER_BLOCK + threadIdx.x / WARP);
	const int lane = (int)threadIdx.x % WARP;
	if (t >= a.n_rows * a.n_heads) {
		return;
	}
	const size_t first = (size_t)(t % a.n_heads) * a.head_dim;
	const size_t row = (size_t)(t / a.n_heads) * a.ld + first;
	float sum = 0.0f;
	for (int i = lane; i < a.head_dim; i += WARP) {
		const float z = a.k[row + i] * a.k_k[first + i];
		sum = fmaf(z, z, sum);
	}
	const float length = sqrtf(warp_sum(sum));
	const float inverse = 1.0f / (length > 1e-12f ? length : 1e-12f);
	for (int i = lane; i < a.head_dim; i += WARP) {
		const float k = a.k[row + i], rate = a.scale * a.a[row + i];
		const float z = k * a.k_k[first + i] * inverse;
		a.down[row + i] = -z;
		a.k[row + i] = fmaf(k, (rate - 1.0f) * a.k_a[first + i], k);
		a.a[row + i] = z * rate;
	}
}

extern "C" void wkv7_keys_sm80(bb_queue *q, const struct bb_wkv7_keys *a) {
	if (a->n_rows > 0) {
		LAUNCH(wkv7_keys_kernel, blocks_for(a->n_rows * a->n_heads, HEADS_PER_BLOCK), HEAD_THREADS,
			0, q->stream, *a);
		queue_launched(q, "wkv7_keys");
	}
}

__global__ void __launch_bounds__(HEAD_THREADS) wkv_out_kernel(bb_wkv_out a) {
	const int t = (int)(blockIdx.x * HEADS_PER_BLOCK + threadIdx.x / WARP);
	const int lane = (int)threadIdx.x % WARP;
	if (t >= a.n_rows * a.n_heads) {
		return;
	}
	const size_t first = (size_t)(t % a.n_heads) * a.head_dim;
	const size_t row = (size_t)(t / a.n_heads) * a.ld + first;
	float sum = 0.0f;
	for (int i = lane; a.r_k != NULL && i < a.head_dim; i += WARP) {
		sum = fmaf(a.r[row + i] * a.k[row + i], a.r_k[first + i], sum);
	}
	const float bonus = warp_sum(sum);
	for (int i = lane; i < a.head_dim; i += WARP) {
		const float y = fmaf(a.y[row + i], a.w[first + i], a.bias[first + i]);
		a.y[row + i] = (a.r_k != NULL ? fmaf(bonus, a.v[row + i], y) : y) * a.gate[row + i];
	}
}

extern "C" void wkv_out_sm80(bb_queue *q, const struct bb_wkv_out *a) {
	if (a->n_rows > 0) {
		LAUNCH(wkv_out_kernel, blocks_for(a->n_rows * a->n_heads, HEADS_PER_BLOCK), HEAD_THREADS,
			0, q->stream, *a);
		queue_launched(q, "wkv_out");
	}
}
