/* SPDX-License-Identifier: Apache-2.0
 *
 * A vector of f32 as one 512-bit register: the words that norm_vec.h, rope_vec.h, pointwise_vec.h
 * and sample_vec.h are written in. A twin of vec_avx2.h. A `part` is the first n elements, n <=
 * VEC. */
#ifndef VEC_AVX512_H
#define VEC_AVX512_H

#include <immintrin.h>
#include <stdbool.h>

enum { VEC = 16 };

typedef __m512 vec;

static inline __mmask16 vec_part(int n) {
	return (__mmask16)((1u << n) - 1);
}

static inline vec vec_set(float x) {
	return _mm512_set1_ps(x);
}

static inline vec vec_load(const float *p) {
	return _mm512_loadu_ps(p);
}

/* Zero beyond the part. */
static inline vec vec_load_part(const float *p, int n) {
	return _mm512_maskz_loadu_ps(vec_part(n), p);
}

static inline void vec_store(float *p, vec x) {
	_mm512_storeu_ps(p, x);
}

static inline void vec_store_part(float *p, vec x, int n) {
	_mm512_mask_storeu_ps(p, vec_part(n), x);
}

/* x in the part, `rest` beyond. */
static inline vec vec_keep_part(vec x, vec rest, int n) {
	return _mm512_mask_blend_ps(vec_part(n), rest, x);
}

static inline vec vec_add(vec a, vec b) {
	return _mm512_add_ps(a, b);
}

static inline vec vec_sub(vec a, vec b) {
	return _mm512_sub_ps(a, b);
}

static inline vec vec_mul(vec a, vec b) {
	return _mm512_mul_ps(a, b);
}

static inline vec vec_div(vec a, vec b) {
	return _mm512_div_ps(a, b);
}

static inline vec vec_sqrt(vec x) {
	return _mm512_sqrt_ps(x);
}

/* a b + c */
static inline vec vec_fma(vec a, vec b, vec c) {
	return _mm512_fmadd_ps(a, b, c);
}

/* c - a b */
static inline vec vec_fnma(vec a, vec b, vec c) {
	return _mm512_fnmadd_ps(a, b, c);
}

/* b where a is NaN. */
static inline vec vec_max(vec a, vec b) {
	return _mm512_max_ps(a, b);
}

/* b where a is NaN. */
static inline vec vec_min(vec a, vec b) {
	return _mm512_min_ps(a, b);
}

static inline vec vec_round(vec x) {
	return _mm512_roundscale_ps(x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
}

/* -|x| */
static inline vec vec_negative(vec x) {
	return _mm512_or_ps(x, _mm512_set1_ps(-0.0f));
}

/* a where x is below zero, b elsewhere. */
static inline vec vec_if_below_zero(vec x, vec a, vec b) {
	return _mm512_mask_blend_ps(_mm512_cmp_ps_mask(x, _mm512_setzero_ps(), _CMP_LT_OQ), b, a);
}

/* Bit i: a[i] == b[i]. */
static inline unsigned vec_equal(vec a, vec b) {
	return _mm512_cmp_ps_mask(a, b, _CMP_EQ_OQ);
}

/* x 2^n for integral n. */
static inline vec vec_scale_by_power(vec x, vec n) {
	return _mm512_scalef_ps(x, n);
}

static inline float vec_sum(vec x) {
	return _mm512_reduce_add_ps(x);
}

static inline float vec_largest(vec x) {
	return _mm512_reduce_max_ps(x);
}

/* Even and odd elements of the 2 n floats at p, n <= VEC. */
static inline void vec_load_pairs(const float *p, int n, vec *even, vec *odd) {
	const int n_low = 2 * n < VEC ? 2 * n : VEC;
	const vec low = vec_load_part(p, n_low);
	const vec high = vec_load_part(p + VEC, 2 * n - n_low);
	const __m512i evens = _mm512_setr_epi32(0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28,
		30);
	*even = _mm512_permutex2var_ps(low, evens, high);
	*odd = _mm512_permutex2var_ps(low, _mm512_add_epi32(evens, _mm512_set1_epi32(1)), high);
}

#endif
