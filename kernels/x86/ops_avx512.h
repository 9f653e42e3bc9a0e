/* SPDX-License-Identifier: Apache-2.0
 *
 * Sixteen lanes as one 512-bit register: the words that matmul_quant.h and matmul_float.h are
 * written in. A twin of ops_avx2.h. With USE_VNNI the dot product is vpdpbusd, else vpmaddubsw. */
#ifndef OPS_AVX512_H
#define OPS_AVX512_H

#include "p16.h"

#include <immintrin.h>

#define ALWAYS_INLINE static inline __attribute__((always_inline))

typedef __m512 vf;   /* f32 [16] */
typedef __m512i vi;  /* int32 [16] */
typedef __m512i v64; /* bytes [16][4] */

enum { SUB_TILE = 8 }; /* rows of x whose dot products are kept in registers */

/* Four int8 or one int32 of prepared x, at any address. */
typedef int32_t __attribute__((may_alias, aligned(1))) x_word;

ALWAYS_INLINE v64 load_bytes(const uint8_t *p) {
	return _mm512_loadu_si512(p);
}

ALWAYS_INLINE void store_bytes(uint8_t *p, v64 v) {
	_mm512_storeu_si512(p, v);
}

ALWAYS_INLINE v64 low_nibbles(v64 v) {
	return _mm512_and_si512(v, _mm512_set1_epi8(15));
}

ALWAYS_INLINE v64 high_nibbles(v64 v) {
	return low_nibbles(_mm512_srli_epi16(v, 4));
}

/* codes | bits [from, from + count) of each byte of plane, moved to bit 4; count 1 or 2. */
ALWAYS_INLINE v64 add_high(v64 codes, v64 plane, int from, int count) {
	const v64 moved = from <= 4 ? _mm512_slli_epi16(plane, (unsigned)(4 - from))
		: _mm512_srli_epi16(plane, (unsigned)(from - 4));
	const v64 mask = _mm512_set1_epi8(count == 1 ? 0x10 : 0x30);
	return _mm512_ternarylogic_epi32(codes, moved, mask, 0xf8);
}

ALWAYS_INLINE vf load_f32(const float *p) {
	return _mm512_loadu_ps(p);
}

ALWAYS_INLINE void store_f32(float *p, vf v) {
	_mm512_storeu_ps(p, v);
}

ALWAYS_INLINE vf load_f16(const uint8_t *p) {
	return _mm512_cvtph_ps(_mm256_loadu_si256((const __m256i *)p));
}

ALWAYS_INLINE vf load_bf16(const uint8_t *p) {
	const __m512i v = _mm512_cvtepu16_epi32(_mm256_loadu_si256((const __m256i *)p));
	return _mm512_castsi512_ps(_mm512_slli_epi32(v, 16));
}

ALWAYS_INLINE vf load_u8(const uint8_t *p) {
	return _mm512_cvtepi32_ps(_mm512_cvtepu8_epi32(_mm_loadu_si128((const __m128i *)p)));
}

ALWAYS_INLINE vf load_i8(const uint8_t *p) {
	return _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_loadu_si128((const __m128i *)p)));
}

ALWAYS_INLINE vf vf_zero(void) {
	return _mm512_setzero_ps();
}

ALWAYS_INLINE vf vf_set1(const float *p) {
	return _mm512_set1_ps(*p);
}

ALWAYS_INLINE vf vf_add(vf a, vf b) {
	return _mm512_add_ps(a, b);
}

ALWAYS_INLINE vf vf_mul(vf a, vf b) {
	return _mm512_mul_ps(a, b);
}

ALWAYS_INLINE vf vf_fma(vf a, vf b, vf c) {
	return _mm512_fmadd_ps(a, b, c);
}

ALWAYS_INLINE vf vf_negate(vf v) {
	return _mm512_xor_ps(v, _mm512_set1_ps(-0.0f));
}

ALWAYS_INLINE vf vf_from_i32(vi v) {
	return _mm512_cvtepi32_ps(v);
}

/* quant_x of quant.h. */
ALWAYS_INLINE float quant_row_block(int8_t *q, int32_t sum[2], const float *x) {
	const __m512 a = _mm512_loadu_ps(x), b = _mm512_loadu_ps(x + 16);
	const __m512i magnitude = _mm512_set1_epi32(0x7fffffff);
	const __m512i max = _mm512_max_epu32(_mm512_and_si512(_mm512_castps_si512(a), magnitude),
		_mm512_and_si512(_mm512_castps_si512(b), magnitude));
	const __m128i largest = _mm_cvtsi32_si128((int)_mm512_reduce_max_epu32(max));
	const float s = _mm_cvtss_f32(_mm_castsi128_ps(largest)) / 127.0f;
	const __m512 divisor = _mm512_set1_ps(s == 0.0f ? 1.0f : s);
	const __m512 top = _mm512_set1_ps(127.0f), bottom = _mm512_set1_ps(-127.0f);
	/* A NaN becomes 127: min and max give their second operand then. */
	const __m512 v = _mm512_max_ps(_mm512_min_ps(_mm512_div_ps(a, divisor), top), bottom);
	const __m512 w = _mm512_max_ps(_mm512_min_ps(_mm512_div_ps(b, divisor), top), bottom);
	const __m256i bytes = _mm256_inserti128_si256(
		_mm256_castsi128_si256(_mm512_cvtepi32_epi8(_mm512_cvtps_epi32(v))),
		_mm512_cvtepi32_epi8(_mm512_cvtps_epi32(w)), 1);
	_mm256_storeu_si256((__m256i *)q, bytes);
	const __m256i above = _mm256_xor_si256(bytes, _mm256_set1_epi8(-128));
	const __m256i sums = _mm256_sad_epu8(above, _mm256_setzero_si256());
	const __m256i both = _mm256_add_epi32(sums, _mm256_shuffle_epi32(sums, 0x4e));
	sum[0] = _mm256_cvtsi256_si32(both) - 16 * 128;
	sum[1] = _mm256_extract_epi32(both, 4) - 16 * 128;
	return s;
}

/* ---- dot products of 4 codes and 4 int8 of x, per lane, added up over up to eight steps ---- */

#ifdef USE_VNNI

typedef __m512i dot;

/* Starts at *extra, the correction of the offset. */
ALWAYS_INLINE dot dot_start(enum bb_dtype type, const uint8_t *extra) {
	return quant_has_min(type) ? _mm512_setzero_si512() : _mm512_set1_epi32(*(const x_word *)extra);
}

/* In assembler: gcc 12 stores and reloads a tile of accumulators round the intrinsic. */
ALWAYS_INLINE void dot_step(enum bb_dtype type, dot *d, v64 codes, const uint8_t *x, int step) {
	__asm__("vpdpbusd %2%{1to16%}, %1, %0" : "+v"(*d) : "v"(codes), "m"(*(const x_word *)x));
}

ALWAYS_INLINE vi dot_sum(const dot *d) {
	return *d;
}

#else

/* vpmaddubsw adds two products in int16: |127 * code| * 2 fits for codes up to 6 bits, and as many
 * such sums as dot_run says fit in one int16. Codes of 8 bits are taken as signed w = code - 128,
 * |w| * (x with the sign of w), where 2 * 128 * 127 fits. */
typedef struct {
	__m512i sum, part;
} dot;

ALWAYS_INLINE int dot_run(enum bb_dtype type) {
	switch (type) {
	case BB_Q8_0:
		return 1;
	case BB_Q6_K:
		return 2;
	case BB_Q5_0:
	case BB_Q5_1:
	case BB_Q5_K:
		return 4;
	default:
		return 8;
	}
}

ALWAYS_INLINE dot dot_start(enum bb_dtype type, const uint8_t *extra) {
	const bool is_zero = quant_has_min(type) || type == BB_Q8_0;
	return (dot) { is_zero ? _mm512_setzero_si512() : _mm512_set1_epi32(*(const x_word *)extra),
		_mm512_setzero_si512() };
}

ALWAYS_INLINE void dot_step(enum bb_dtype type, dot *d, v64 codes, const uint8_t *x, int step) {
	const int run = dot_run(type);
	__m512i xs = _mm512_set1_epi32(*(const x_word *)x);
	if (type == BB_Q8_0) {
		const __m512i w = _mm512_xor_si512(codes, _mm512_set1_epi8(-128));
		xs = _mm512_mask_sub_epi8(xs, _mm512_movepi8_mask(w), _mm512_setzero_si512(), xs);
		codes = _mm512_abs_epi8(w);
	}
	const __m512i pairs = _mm512_maddubs_epi16(codes, xs);
	d->part = step % run == 0 ? pairs : _mm512_add_epi16(d->part, pairs);
	if (step % run == run - 1) {
		const __m512i quads = _mm512_madd_epi16(d->part, _mm512_set1_epi16(1));
		d->sum = _mm512_add_epi32(d->sum, quads);
	}
}

ALWAYS_INLINE vi dot_sum(const dot *d) {
	return d->sum;
}

#endif

#endif
