/* SPDX-License-Identifier: Apache-2.0
 *
 * 16 rows against a page of 64 tokens, by one warp on tensor cores: m16n8k16 with f32 sums. What
 * the ways of attention share of that: the order of the steps, queries as fragments, the softmax.
 *
 * An mma sums over channels or tokens in any order that both operands follow, so that lane (g, t) =
 * (lane / 4, lane % 4) can take what lies together:
 *
 *   K    a piece of 16 bytes, t, of token 8n + g: 8 channels (int8: 16) are the lane's part of B in
 *        2 (4) steps; s[n] is then row g of tokens 8n + 2t, + 1, and row g + 8 of them
 *   V    tokens 16j + 2t, + 1, + 8, + 9 are the lane's part of step j; which channel is in which
 *        column is each way's own affair, and changes no bit
 *
 * Rounding: q and p to the pages' type (int8: f16; K and V of int8 times their scales, to f16); l
 * sums what p was rounded to. */
#pragma once

#include "attention.cuh"
#include "math.cuh"

template <enum bb_kv_dtype type> struct page_type {
	enum {
		PIECE = type == KV_INT8 ? 16 : 8, /* channels in 16 bytes */
		STEPS = PIECE / 4,                /* mma steps that four lanes' pieces make */
		SPAN = 4 * PIECE,                 /* channels of these */
	};
};

/* Steps over all channels. */
template <enum bb_kv_dtype type> __host__ __device__ inline int n_steps_of(int width) {
	typedef page_type<type> T;
	return (width + T::SPAN - 1) / T::SPAN * T::STEPS;
}

template <enum bb_kv_dtype type> DEVICE uint32_t pack(float lo, float hi) {
	return type == KV_BF16 ? bf16x2_of(lo, hi) : f16x2_of(lo, hi);
}

template <enum bb_kv_dtype type>
DEVICE void mma(float d[4], const uint32_t a[4], const uint32_t b[2]) {
	if (type == KV_BF16) {
		mma_bf16(d, a, b);
	} else {
		mma_f16(d, a, b);
	}
}

DEVICE float byte_of(uint32_t w, int i) {
	return (float)(int8_t)(w >> (8 * i));
}

DEVICE uint32_t word_of(const uint4 &x, int i) {
	return i == 0 ? x.x : i == 1 ? x.y : i == 2 ? x.z : x.w;
}

/* ---- queries ---- */

/* The first of a lane's four channels in a step. */
template <enum bb_kv_dtype type> DEVICE int query_channel(int step, int lane) {
	typedef page_type<type> T;
	return step / T::STEPS * T::SPAN + lane % 4 * T::PIECE + step % T::STEPS * 4;
}

/* A of a step: four channels of a lane's rows g and g + 8. */
template <enum bb_kv_dtype type> DEVICE uint4 query_fragment(float4 upper, float4 lower) {
	return make_uint4(pack<type>(upper.x, upper.y), pack<type>(lower.x, lower.y),
		pack<type>(upper.z, upper.w), pack<type>(lower.z, lower.w));
}

/* Stores the queries of n_tiles tiles from t on as A fragments: q[tile][n_steps][lane][4]; channels
 * behind the head are zeros. */
template <enum bb_kv_dtype type>
DEVICE void stage_queries(uint32_t *q, const struct attention_job &job, const struct tile &t,
	int n_tiles, int n_steps) {
	const bool is_wide = rows_are_wide(job.a.queries, job.a.ld_q, job.a.head_dim);
	for (int i = (int)threadIdx.x; i < n_tiles * n_steps * WARP; i += THREADS) {
		const int lane = i % WARP, step = i / WARP % n_steps, tile = i / WARP / n_steps;
		const int channel = query_channel<type>(step, lane);
		float4 x[2];
		for (int h = 0; h < 2; h++) {
			const int row = tile * TILE + lane / 4 + 8 * h;
			const float *from = query_of(job, t, min(row, t.n_rows - 1)) + channel;
			x[h] = load4(from, row < t.n_rows ? job.a.head_dim - channel : 0, is_wide);
		}
		st_vec((uint4 *)q + i, query_fragment<type>(x[0], x[1]));
	}
}

/* The tokens that a lane's rows g and g + 8 see. */
struct lane_rows {
	int first[2], count[2];
};

DEVICE struct lane_rows lane_rows_of(const struct attention_job &job, const struct tile &t,
	int row0) {
	struct lane_rows r;
	for (int h = 0; h < 2; h++) {
		const int row = row0 + (int)threadIdx.x % WARP / 4 + 8 * h;
		const int last = last_seen(job, t, row);
		r.first[h] = first_seen(job, last);
		r.count[h] = row < t.n_rows ? last + 1 - r.first[h] : 0;
	}
	return r;
}

/* ---- scores ---- */

/* Scales of K in memory of the block: [64][stride]. An odd stride spreads them over the banks. */
DEVICE int scale_stride(const struct attention_job &job) {
	return job.n_groups | 1;
}

/* B of one step for K: the lane's channels 4s .. 4s + 3 of piece x. */
template <enum bb_kv_dtype type>
DEVICE void key_fragment(uint32_t b[2], const uint4 &x, int s, float scale) {
	if (type == KV_INT8) {
		const uint32_t w = word_of(x, s);
		b[0] = pack<type>(byte_of(w, 0) * scale, byte_of(w, 1) * scale);
		b[1] = pack<type>(byte_of(w, 2) * scale, byte_of(w, 3) * scale);
	} else {
		b[0] = word_of(x, 2 * s);
		b[1] = word_of(x, 2 * s + 1);
	}
}

/* ---- softmax ---- */

DEVICE float quad_max(float x) {
	x = fmaxf(x, __shfl_xor_sync(ALL_LANES, x, 1));
	return fmaxf(x, __shfl_xor_sync(ALL_LANES, x, 2));
}

DEVICE float quad_sum(float x) {
	x += __shfl_xor_sync(ALL_LANES, x, 1);
	return x + __shfl_xor_sync(ALL_LANES, x, 2);
}

/* Two of p, rounded; adds what they were rounded to. */
template <enum bb_kv_dtype type> DEVICE uint32_t pack_sum(float *l, float lo, float hi) {
	const uint32_t w = pack<type>(lo, hi);
	*l += type == KV_BF16 ? bf16_lo(w) : f16_lo(w);
	*l += type == KV_BF16 ? bf16_hi(w) : f16_hi(w);
	return w;
}

/* The softcap, if there is one. */
DEVICE void cap_scores(float s[8][4], const struct attention_job &job) {
	if (job.cap > 0) {
#pragma unroll
		for (int i = 0; i < 32; i++) {
			s[i / 4][i % 4] = capped(job, s[i / 4][i % 4]);
		}
	}
}

/* Scores to exponents of 2 before their scale, NOTHING where a row doesn't see the token; m of the
 * lane's two rows, scaled. token0: of the page. Not is_masked: the rows see the whole page; not
 * is_capped: the softcap is done. */
template <bool is_masked = true, bool is_capped = true>
DEVICE void page_max(float m[2], float s[8][4], const struct lane_rows &rows,
	const struct attention_job &job, int token0) {
	const int t = (int)threadIdx.x % 4;
	const float scale = unit_of(job);
	if (is_capped) {
		cap_scores(s, job);
	}
#pragma unroll
	for (int h = 0; h < 2; h++) {
		float best = NOTHING;
#pragma unroll
		for (int i = 0; i < 16; i++) {
			const int token = token0 + i / 2 * 8 + 2 * t + i % 2;
			float *x = &s[i / 2][2 * h + i % 2];
			if (is_masked) {
				*x = (unsigned)(token - rows.first[h]) < (unsigned)rows.count[h] ? *x : NOTHING;
			}
			best = fmaxf(best, *x);
		}
		best = quad_max(best);
		m[h] = best == NOTHING ? NOTHING : best * scale;
	}
}

/* p = 2^(score - m), as A of four steps of 16 tokens, and its sums l of the lane's two rows. */
template <enum bb_kv_dtype type>
DEVICE void page_exp(uint32_t p[4][4], float l[2], const float s[8][4], const float m[2],
	const struct attention_job &job) {
	const float scale = unit_of(job);
#pragma unroll
	for (int h = 0; h < 2; h++) {
		/* without a visible token every p has to be 0, not 2^0 */
		const float top = m[h] == NOTHING ? 0.0f : m[h];
		l[h] = 0.0f;
#pragma unroll
		for (int n = 0; n < 8; n++) {
			const float lo = exp2_approx(fmaf(s[n][2 * h], scale, -top));
			const float hi = exp2_approx(fmaf(s[n][2 * h + 1], scale, -top));
			p[n / 2][n % 2 * 2 + h] = pack_sum<type>(&l[h], lo, hi);
		}
		l[h] = quad_sum(l[h]);
	}
}
