/* SPDX-License-Identifier: Apache-2.0
 *
 * A vector of f32 as one 256-bit register: the words that norm_vec.h, rope_vec.h, pointwise_vec.h
 * and sample_vec.h are written in. A twin of vec_avx512.h. A `part` is the first n elements, n <=
 * VEC. */
#ifndef VEC_AVX2_H
#define VEC_AVX2_H

#include <immintrin.h>
#include <stdbool.h>

enum { VEC = 8 };

typedef __m256 vec;

static inline __m256i vec_part(int n) {
	return _mm256_cmpgt_epi32(_mm256_set1_epi32(n), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
}

static inline vec vec_set(float x) {
	return _mm256_set1_ps(x);
}

static inline vec vec_load(const float *p) {
	return _mm256_loadu_ps(p);
}

/* Zero beyond the part. */
static inline vec vec_load_part(const float *p, int n) {
	return _mm256_maskload_ps(p, vec_part(n));
}

static inline void vec_store(float *p, vec x) {
	_mm256_storeu_ps(p, x);
}

static inline void vec_store_part(float *p, vec x, int n) {
	_mm256_maskstore_ps(p, vec_part(n), x);
}

/* x in the part, `rest` beyond. */
static inline vec vec_keep_part(vec x, vec rest, int n) {
	return _mm256_blendv_ps(rest, x, _mm256_castsi256_ps(vec_part(n)));
}

static inline vec vec_add(vec a, vec b) {
	return _mm256_add_ps(a, b);
}

static inline vec vec_sub(vec a, vec b) {
	return _mm256_sub_ps(a, b);
}

static inline vec vec_mul(vec a, vec b) {
	return _mm256_mul_ps(a, b);
}

static inline vec vec_div(vec a, vec b) {
	return _mm256_div_ps(a, b);
}

static inline vec vec_sqrt(vec x) {
	return _mm256_sqrt_ps(x);
}

/* a b + c */
static inline vec vec_fma(vec a, vec b, vec c) {
	return _mm256_fmadd_ps(a, b, c);
}

/* c - a b */
static inline vec vec_fnma(vec a, vec b, vec c) {
	return _mm256_fnmadd_ps(a, b, c);
}

/* b where a is NaN. */
static inline vec vec_max(vec a, vec b) {
	return _mm256_max_ps(a, b);
}

/* b where a is NaN. */
static inline vec vec_min(vec a, vec b) {
	return _mm256_min_ps(a, b);
}

static inline vec vec_round(vec x) {
	return _mm256_round_ps(x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
}

/* -|x| */
static inline vec vec_negative(vec x) {
	return _mm256_or_ps(x, _mm256_set1_ps(-0.0f));
}

/* a where x is below zero, b elsewhere. */
static inline vec vec_if_below_zero(vec x, vec a, vec b) {
	return _mm256_blendv_ps(b, a, _mm256_cmp_ps(x, _mm256_setzero_ps(), _CMP_LT_OQ));
}

/* Bit i: a[i] == b[i]. */
static inline unsigned vec_equal(vec a, vec b) {
	return (unsigned)_mm256_movemask_ps(_mm256_cmp_ps(a, b, _CMP_EQ_OQ));
}

/* x 2^n for integral n; in two steps, since 2^n alone may be out of range. */
static inline vec vec_scale_by_power(vec x, vec n) {
	const __m256i whole = _mm256_cvtps_epi32(n), half = _mm256_srai_epi32(whole, 1);
	const __m256i rest = _mm256_sub_epi32(whole, half), bias = _mm256_set1_epi32(127);
	const vec a = _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_add_epi32(half, bias), 23));
	const vec b = _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_add_epi32(rest, bias), 23));
	return _mm256_mul_ps(_mm256_mul_ps(x, a), b);
}

static inline float vec_sum(vec x) {
	__m128 s = _mm_add_ps(_mm256_castps256_ps128(x), _mm256_extractf128_ps(x, 1));
	s = _mm_add_ps(s, _mm_movehl_ps(s, s));
	return _mm_cvtss_f32(_mm_add_ss(s, _mm_movehdup_ps(s)));
}

static inline float vec_largest(vec x) {
	__m128 s = _mm_max_ps(_mm256_castps256_ps128(x), _mm256_extractf128_ps(x, 1));
	s = _mm_max_ps(s, _mm_movehl_ps(s, s));
	return _mm_cvtss_f32(_mm_max_ss(s, _mm_movehdup_ps(s)));
}

/* Even and odd elements of the 2 n floats at p, n <= VEC. */
static inline void vec_load_pairs(const float *p, int n, vec *even, vec *odd) {
	const int n_low = 2 * n < VEC ? 2 * n : VEC;
	const vec low = vec_load_part(p, n_low);
	const vec high = vec_load_part(p + VEC, 2 * n - n_low);
	/* within 128-bit halves first, then the 64-bit quarters into order */
	const __m256d evens = _mm256_castps_pd(_mm256_shuffle_ps(low, high, 0x88));
	const __m256d odds = _mm256_castps_pd(_mm256_shuffle_ps(low, high, 0xdd));
	*even = _mm256_castpd_ps(_mm256_permute4x64_pd(evens, 0xd8));
	*odd = _mm256_castpd_ps(_mm256_permute4x64_pd(odds, 0xd8));
}

#endif
