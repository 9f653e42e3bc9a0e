/* SPDX-License-Identifier: Apache-2.0
 *
 * What the attention kernels on 256-bit registers share: powers of 2, folds, joining and finishing.
 * Static inline, so that each ISA's library has its own. A twin of attention_avx512.h. */
#ifndef ATTENTION_YMM_H
#define ATTENTION_YMM_H

#include "attention_bodies.h"

#include <immintrin.h>
#include <math.h>
#include <string.h>

#define ALWAYS_INLINE inline __attribute__((always_inline))
#define UNROLL _Pragma("GCC unroll 8")

/* 2^x for x <= 0, and 0 below -126: x = n + f with |f| <= 1/2; 2^f = 1 + f P(f), P fitted for least
 * relative error, 1.1e-7. */
static ALWAYS_INLINE __m256 exp2_ymm(__m256 x) {
	const __m256 lowest = _mm256_set1_ps(-126.0f);
	const __m256 clamped = _mm256_max_ps(lowest, x); /* in this order keeps a NaN */
	const __m256 n = _mm256_round_ps(clamped, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
	const __m256 f = _mm256_sub_ps(clamped, n);
	__m256 y = _mm256_set1_ps(0.00132647273f);
	y = _mm256_fmadd_ps(y, f, _mm256_set1_ps(0.00967151299f));
	y = _mm256_fmadd_ps(y, f, _mm256_set1_ps(0.0555073358f));
	y = _mm256_fmadd_ps(y, f, _mm256_set1_ps(0.240222424f));
	y = _mm256_fmadd_ps(y, f, _mm256_set1_ps(0.693147004f));
	y = _mm256_fmadd_ps(y, f, _mm256_set1_ps(1.0f));
	const __m256i power = _mm256_slli_epi32(_mm256_cvtps_epi32(n), 23);
	y = _mm256_castsi256_ps(_mm256_add_epi32(_mm256_castps_si256(y), power));
	return _mm256_andnot_ps(_mm256_cmp_ps(x, lowest, _CMP_LT_OQ), y);
}

/* All bits of the lanes whose tokens, j..j+7, lie in [begin, end). */
static ALWAYS_INLINE __m256 seen(int begin, int end, int j) {
	const __m256i token = _mm256_add_epi32(_mm256_set1_epi32(j),
		_mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
	return _mm256_castsi256_ps(_mm256_andnot_si256(
		_mm256_cmpgt_epi32(_mm256_set1_epi32(begin), token),
		_mm256_cmpgt_epi32(_mm256_set1_epi32(end), token)));
}

static ALWAYS_INLINE float fold_max(__m256 x) {
	const __m128 b = _mm_max_ps(_mm256_castps256_ps128(x), _mm256_extractf128_ps(x, 1));
	const __m128 c = _mm_max_ps(b, _mm_movehl_ps(b, b));
	return _mm_cvtss_f32(_mm_max_ss(c, _mm_movehdup_ps(c)));
}

static ALWAYS_INLINE float fold_sum(__m256 x) {
	const __m128 b = _mm_add_ps(_mm256_castps256_ps128(x), _mm256_extractf128_ps(x, 1));
	const __m128 c = _mm_add_ps(b, _mm_movehl_ps(b, b));
	return _mm_cvtss_f32(_mm_add_ss(c, _mm_movehdup_ps(c)));
}

/* m of all rows: the largest score that each sees. */
static inline void largest_scores(const struct attn_tile *t) {
	for (int r = 0; r < t->n_rows; r++) {
		const int begin = t->begin[r], end = t->end[r];
		__m256 largest = _mm256_set1_ps(-INFINITY);
		for (int j = begin & ~7; j < end; j += 8) {
			const __m256 x = _mm256_blendv_ps(_mm256_set1_ps(-INFINITY),
				_mm256_load_ps(t->scores + r * BB_SPLIT + j), seen(begin, end, j));
			largest = _mm256_max_ps(largest, x);
		}
		t->m[r] = fold_max(largest);
	}
}

/* A row's p = 2^(score - m), 0 where it doesn't see, for the vectors of 8 that it touches. */
static inline void softmax_to(float *p, const struct attn_tile *t, int r) {
	const int begin = t->begin[r], end = t->end[r];
	const float *s = t->scores + r * BB_SPLIT;
	__m256 sum = _mm256_setzero_ps();
	for (int j = begin & ~7; j < end; j += 8) {
		const __m256 x = _mm256_sub_ps(_mm256_load_ps(s + j), _mm256_set1_ps(t->m[r]));
		const __m256 e = _mm256_and_ps(seen(begin, end, j), exp2_ymm(x));
		sum = _mm256_add_ps(sum, e);
		_mm256_store_ps(p + j, e);
	}
	t->l[r] = fold_sum(sum);
}

/* The walk starts with m = -inf, l = 0, o = 0. */
static inline void join(float *big_m, float *big_l, float *big_o, const float *m, const float *l,
	const float *o, int vd) {
	const float both = *m <= *big_m ? *big_m : *m;
	const __m256 old = exp2_ymm(_mm256_set1_ps(*big_m - both));
	const __m256 add = exp2_ymm(_mm256_set1_ps(*m - both));
	*big_m = both;
	*big_l = _mm_cvtss_f32(_mm_fmadd_ss(_mm_set_ss(*l), _mm256_castps256_ps128(add),
		_mm_mul_ss(_mm_set_ss(*big_l), _mm256_castps256_ps128(old))));
	for (int d = 0; d < vd; d += 8) {
		const __m256 x = _mm256_mul_ps(_mm256_load_ps(big_o + d), old);
		_mm256_store_ps(big_o + d, _mm256_fmadd_ps(_mm256_load_ps(o + d), add, x));
	}
}

static inline void finish(float *out, const float *o, float l, int head_dim) {
	const float inverse = 1.0f / l;
	for (int d = 0; d < head_dim; d++) {
		out[d] = o[d] * inverse;
	}
}

#endif
