/* SPDX-License-Identifier: Apache-2.0
 *
 * What the AVX-512 attention kernels share: powers of 2, folds, joining and finishing. Static
 * inline, so that each ISA's library has its own. */
#ifndef ATTENTION_AVX512_H
#define ATTENTION_AVX512_H

#include "attention_bodies.h"

#include <immintrin.h>
#include <math.h>
#include <string.h>

#define ALWAYS_INLINE inline __attribute__((always_inline))
#define UNROLL _Pragma("GCC unroll 8")

/* 2^x for the lanes of `mask`, 0 for the others. x = n + f with |f| <= 1/2; 2^f = 1 + f P(f), P
 * fitted for least relative error: 1.1e-7 with 5 coefficients, 2.9e-6 with 4, 1.1e-4 with 3. */
static ALWAYS_INLINE __m512 exp2_n(__mmask16 mask, __m512 x, const float *c, const int n_c) {
	const __m512 n = _mm512_roundscale_ps(x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
	const __m512 f = _mm512_sub_ps(x, n);
	__m512 y = _mm512_set1_ps(c[0]);
	UNROLL
	for (int i = 1; i < n_c; i++) {
		y = _mm512_fmadd_ps(y, f, _mm512_set1_ps(c[i]));
	}
	y = _mm512_fmadd_ps(y, f, _mm512_set1_ps(1.0f));
	return _mm512_maskz_scalef_ps(mask, y, n);
}

static ALWAYS_INLINE __m512 exp2_5(__mmask16 mask, __m512 x) {
	static const float c[5] = {
		0.00132647273f, 0.00967151299f, 0.0555073358f, 0.240222424f, 0.693147004f,
	};
	return exp2_n(mask, x, c, 5);
}

static ALWAYS_INLINE __m512 exp2_4(__mmask16 mask, __m512 x) {
	static const float c[4] = { 0.00958285294f, 0.0559064262f, 0.240240991f, 0.693124175f };
	return exp2_n(mask, x, c, 4);
}

static ALWAYS_INLINE __m512 exp2_3(__mmask16 mask, __m512 x) {
	static const float c[3] = { 0.0550089329f, 0.242210954f, 0.693282902f };
	return exp2_n(mask, x, c, 3);
}

/* Which of tokens j..j+31 lie in [begin, end); j < end and begin < j + 32. */
static ALWAYS_INLINE uint32_t seen32(int begin, int end, int j) {
	const uint32_t low = begin > j ? ~0u << (begin - j) : ~0u;
	const uint32_t high = end - j < 32 ? (1u << (end - j)) - 1 : ~0u;
	return low & high;
}

/* As seen32 for j..j+15. */
static ALWAYS_INLINE __mmask16 seen(int begin, int end, int j) {
	return (__mmask16)seen32(begin, end, j);
}

static ALWAYS_INLINE float fold_max(__m512 x) {
	const __m256 a = _mm256_max_ps(_mm512_castps512_ps256(x), _mm512_extractf32x8_ps(x, 1));
	const __m128 b = _mm_max_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps(a, 1));
	const __m128 c = _mm_max_ps(b, _mm_movehl_ps(b, b));
	return _mm_cvtss_f32(_mm_max_ss(c, _mm_movehdup_ps(c)));
}

static ALWAYS_INLINE float fold_sum(__m512 x) {
	const __m256 a = _mm256_add_ps(_mm512_castps512_ps256(x), _mm512_extractf32x8_ps(x, 1));
	const __m128 b = _mm_add_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps(a, 1));
	const __m128 c = _mm_add_ps(b, _mm_movehl_ps(b, b));
	return _mm_cvtss_f32(_mm_add_ss(c, _mm_movehdup_ps(c)));
}

/* m of all rows: the largest score that each sees. A pass of its own, so that the rows' folds
 * overlap. Two chains: a NaN may get lost, but comes back with the sum of p. */
static inline void largest_scores(const struct attn_tile *t) {
	for (int r = 0; r < t->n_rows; r++) {
		const float *s = t->scores + r * BB_SPLIT;
		const int begin = t->begin[r], end = t->end[r], last = (end - 1) & ~31;
		int j = begin & ~31;
		__m512 a = _mm512_set1_ps(-INFINITY), b = a;
		uint32_t mask = seen32(begin, end, j);
		a = _mm512_mask_max_ps(a, (__mmask16)mask, a, _mm512_load_ps(s + j));
		b = _mm512_mask_max_ps(b, (__mmask16)(mask >> 16), b, _mm512_load_ps(s + j + 16));
		for (j += 32; j < last; j += 32) {
			a = _mm512_max_ps(a, _mm512_load_ps(s + j));
			b = _mm512_max_ps(b, _mm512_load_ps(s + j + 16));
		}
		mask = seen32(begin, end, last);
		a = _mm512_mask_max_ps(a, (__mmask16)mask, a, _mm512_load_ps(s + last));
		b = _mm512_mask_max_ps(b, (__mmask16)(mask >> 16), b, _mm512_load_ps(s + last + 16));
		t->m[r] = fold_max(_mm512_max_ps(a, b));
	}
}

/* The walk starts with m = -inf, l = 0, o = 0; 2^x is 0 from -200 down. */
static inline void join(float *big_m, float *big_l, float *big_o, const float *m, const float *l,
	const float *o, int vd) {
	const float both = *m <= *big_m ? *big_m : *m;
	const __m512 lowest = _mm512_set1_ps(-200.0f);
	const __m512 old = exp2_5(0xffff, _mm512_max_ps(lowest, _mm512_set1_ps(*big_m - both)));
	const __m512 add = exp2_5(0xffff, _mm512_max_ps(lowest, _mm512_set1_ps(*m - both)));
	*big_m = both;
	*big_l = _mm_cvtss_f32(_mm_fmadd_ss(_mm_set_ss(*l), _mm512_castps512_ps128(add),
		_mm_mul_ss(_mm_set_ss(*big_l), _mm512_castps512_ps128(old))));
	for (int d = 0; d < vd; d += 16) {
		const __m512 x = _mm512_mul_ps(_mm512_load_ps(big_o + d), old);
		_mm512_store_ps(big_o + d, _mm512_fmadd_ps(_mm512_load_ps(o + d), add, x));
	}
}

static inline void finish(float *out, const float *o, float l, int head_dim) {
	const __m512 inverse = _mm512_set1_ps(1.0f / l);
	for (int d = 0; d < head_dim; d += 16) {
		const int rest = head_dim - d;
		const __mmask16 mask = rest < 16 ? (__mmask16)((1u << rest) - 1) : 0xffff;
		_mm512_mask_storeu_ps(out + d, mask, _mm512_mul_ps(_mm512_load_ps(o + d), inverse));
	}
}

#endif
