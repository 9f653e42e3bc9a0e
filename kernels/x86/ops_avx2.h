/* SPDX-License-Identifier: Apache-2.0
 *
 * Sixteen lanes as two 256-bit registers: the words that matmul_quant.h and matmul_float.h are
 * written in. A twin of ops_avx512.h. With USE_VNNI the dot product is AVX-VNNI's vpdpbusd, else
 * vpmaddubsw. */
#ifndef OPS_AVX2_H
#define OPS_AVX2_H

#include "p16.h"

#include <immintrin.h>

#define ALWAYS_INLINE static inline __attribute__((always_inline))

typedef struct { /* f32 [16] */
	__m256 v[2];
} vf;
typedef struct { /* int32 [16] */
	__m256i v[2];
} vi;
typedef struct { /* bytes [16][4] */
	__m256i v[2];
} v64;

enum { SUB_TILE = 4 }; /* rows of x whose dot products are kept in registers */

/* Four int8 or one int32 of prepared x, at any address. */
typedef int32_t __attribute__((may_alias, aligned(1))) x_word;

ALWAYS_INLINE v64 load_bytes(const uint8_t *p) {
	return (v64) { { _mm256_loadu_si256((const __m256i *)p),
		_mm256_loadu_si256((const __m256i *)(p + 32)) } };
}

ALWAYS_INLINE void store_bytes(uint8_t *p, v64 v) {
	_mm256_storeu_si256((__m256i *)p, v.v[0]);
	_mm256_storeu_si256((__m256i *)(p + 32), v.v[1]);
}

ALWAYS_INLINE v64 low_nibbles(v64 v) {
	const __m256i mask = _mm256_set1_epi8(15);
	return (v64) { { _mm256_and_si256(v.v[0], mask), _mm256_and_si256(v.v[1], mask) } };
}

ALWAYS_INLINE v64 high_nibbles(v64 v) {
	return low_nibbles((v64) { { _mm256_srli_epi16(v.v[0], 4), _mm256_srli_epi16(v.v[1], 4) } });
}

/* codes | bits [from, from + count) of each byte of plane, moved to bit 4; count 1 or 2. */
ALWAYS_INLINE v64 add_high(v64 codes, v64 plane, int from, int count) {
	const __m256i mask = _mm256_set1_epi8(count == 1 ? 0x10 : 0x30);
	for (int i = 0; i < 2; i++) {
		const __m256i moved = from <= 4 ? _mm256_slli_epi16(plane.v[i], 4 - from)
			: _mm256_srli_epi16(plane.v[i], from - 4);
		codes.v[i] = _mm256_or_si256(codes.v[i], _mm256_and_si256(moved, mask));
	}
	return codes;
}

ALWAYS_INLINE vf load_f32(const float *p) {
	return (vf) { { _mm256_loadu_ps(p), _mm256_loadu_ps(p + 8) } };
}

ALWAYS_INLINE void store_f32(float *p, vf v) {
	_mm256_storeu_ps(p, v.v[0]);
	_mm256_storeu_ps(p + 8, v.v[1]);
}

ALWAYS_INLINE vf load_f16(const uint8_t *p) {
	return (vf) { { _mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)p)),
		_mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)(p + 16))) } };
}

ALWAYS_INLINE vf load_bf16(const uint8_t *p) {
	vf out;
	for (int i = 0; i < 2; i++) {
		const __m128i half = _mm_loadu_si128((const __m128i *)(p + 16 * i));
		out.v[i] = _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(half), 16));
	}
	return out;
}

ALWAYS_INLINE vf load_u8(const uint8_t *p) {
	const __m128i v = _mm_loadu_si128((const __m128i *)p);
	return (vf) { { _mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(v)),
		_mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(_mm_srli_si128(v, 8))) } };
}

ALWAYS_INLINE vf load_i8(const uint8_t *p) {
	const __m128i v = _mm_loadu_si128((const __m128i *)p);
	return (vf) { { _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(v)),
		_mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_srli_si128(v, 8))) } };
}

ALWAYS_INLINE vf vf_zero(void) {
	return (vf) { { _mm256_setzero_ps(), _mm256_setzero_ps() } };
}

ALWAYS_INLINE vf vf_set1(const float *p) {
	const __m256 v = _mm256_set1_ps(*p);
	return (vf) { { v, v } };
}

ALWAYS_INLINE vf vf_add(vf a, vf b) {
	return (vf) { { _mm256_add_ps(a.v[0], b.v[0]), _mm256_add_ps(a.v[1], b.v[1]) } };
}

ALWAYS_INLINE vf vf_mul(vf a, vf b) {
	return (vf) { { _mm256_mul_ps(a.v[0], b.v[0]), _mm256_mul_ps(a.v[1], b.v[1]) } };
}

ALWAYS_INLINE vf vf_fma(vf a, vf b, vf c) {
	return (vf) { { _mm256_fmadd_ps(a.v[0], b.v[0], c.v[0]),
		_mm256_fmadd_ps(a.v[1], b.v[1], c.v[1]) } };
}

ALWAYS_INLINE vf vf_negate(vf v) {
	const __m256 sign = _mm256_set1_ps(-0.0f);
	return (vf) { { _mm256_xor_ps(v.v[0], sign), _mm256_xor_ps(v.v[1], sign) } };
}

ALWAYS_INLINE vf vf_from_i32(vi v) {
	return (vf) { { _mm256_cvtepi32_ps(v.v[0]), _mm256_cvtepi32_ps(v.v[1]) } };
}

/* Rounds 16 of x over the divisor to int8 in q; returns their sum in lanes. A NaN becomes 127: min
 * and max give their second operand then. */
ALWAYS_INLINE int32_t quant_half(int8_t *q, const float *x, __m256 divisor) {
	const __m256 top = _mm256_set1_ps(127.0f), bottom = _mm256_set1_ps(-127.0f);
	__m256i v[2];
	for (int i = 0; i < 2; i++) {
		const __m256 quotient = _mm256_div_ps(_mm256_loadu_ps(x + 8 * i), divisor);
		v[i] = _mm256_cvtps_epi32(_mm256_max_ps(_mm256_min_ps(quotient, top), bottom));
	}
	const __m256i words = _mm256_permute4x64_epi64(_mm256_packs_epi32(v[0], v[1]), 0xd8);
	const __m128i low = _mm256_castsi256_si128(words), high = _mm256_extracti128_si256(words, 1);
	_mm_storeu_si128((__m128i *)q, _mm_packs_epi16(low, high));
	const __m128i pairs = _mm_madd_epi16(_mm_add_epi16(low, high), _mm_set1_epi16(1));
	const __m128i two = _mm_add_epi32(pairs, _mm_shuffle_epi32(pairs, 0x4e));
	return _mm_cvtsi128_si32(_mm_add_epi32(two, _mm_shuffle_epi32(two, 0xb1)));
}

/* quant_x of quant.h. */
ALWAYS_INLINE float quant_row_block(int8_t *q, int32_t sum[2], const float *x) {
	const __m256i magnitude = _mm256_set1_epi32(0x7fffffff);
	__m256i max = _mm256_setzero_si256();
	for (int i = 0; i < 4; i++) {
		const __m256i bits = _mm256_castps_si256(_mm256_loadu_ps(x + 8 * i));
		max = _mm256_max_epu32(max, _mm256_and_si256(bits, magnitude));
	}
	__m128i m = _mm_max_epu32(_mm256_castsi256_si128(max), _mm256_extracti128_si256(max, 1));
	m = _mm_max_epu32(m, _mm_shuffle_epi32(m, 0x4e));
	m = _mm_max_epu32(m, _mm_shuffle_epi32(m, 0xb1));
	const float s = _mm_cvtss_f32(_mm_castsi128_ps(m)) / 127.0f;
	const __m256 divisor = _mm256_set1_ps(s == 0.0f ? 1.0f : s);
	sum[0] = quant_half(q, x, divisor);
	sum[1] = quant_half(q + 16, x + 16, divisor);
	return s;
}

/* ---- dot products of 4 codes and 4 int8 of x, per lane, added up over up to eight steps ---- */

#ifdef USE_VNNI

typedef vi dot;

/* Starts at *extra, the correction of the offset. */
ALWAYS_INLINE dot dot_start(enum bb_dtype type, const uint8_t *extra) {
	const __m256i v = quant_has_min(type) ? _mm256_setzero_si256()
		: _mm256_set1_epi32(*(const x_word *)extra);
	return (dot) { { v, v } };
}

/* In assembler: gcc 12 stores and reloads a tile of accumulators round the intrinsic. */
ALWAYS_INLINE void dot_step(enum bb_dtype type, dot *d, v64 codes, const uint8_t *x, int step) {
	const __m256i xs = _mm256_set1_epi32(*(const x_word *)x);
	__asm__("%{vex%} vpdpbusd %2, %1, %0" : "+x"(d->v[0]) : "x"(codes.v[0]), "x"(xs));
	__asm__("%{vex%} vpdpbusd %2, %1, %0" : "+x"(d->v[1]) : "x"(codes.v[1]), "x"(xs));
}

ALWAYS_INLINE vi dot_sum(const dot *d) {
	return *d;
}

#else

/* vpmaddubsw adds two products in int16: |127 * code| * 2 fits for codes up to 6 bits, and as many
 * such sums as dot_run says fit in one int16. Codes of 8 bits are taken as signed w = code - 128,
 * |w| * (x with the sign of w), where 2 * 128 * 127 fits. */
typedef struct {
	vi sum, part;
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
	const __m256i zero = _mm256_setzero_si256();
	const __m256i v = is_zero ? zero : _mm256_set1_epi32(*(const x_word *)extra);
	return (dot) { { { v, v } }, { { zero, zero } } };
}

ALWAYS_INLINE void dot_step(enum bb_dtype type, dot *d, v64 codes, const uint8_t *x, int step) {
	const int run = dot_run(type);
	const __m256i xs = _mm256_set1_epi32(*(const x_word *)x);
	for (int i = 0; i < 2; i++) {
		__m256i pairs;
		if (type == BB_Q8_0) {
			const __m256i w = _mm256_xor_si256(codes.v[i], _mm256_set1_epi8(-128));
			pairs = _mm256_maddubs_epi16(_mm256_abs_epi8(w), _mm256_sign_epi8(xs, w));
		} else {
			pairs = _mm256_maddubs_epi16(codes.v[i], xs);
		}
		d->part.v[i] = step % run == 0 ? pairs : _mm256_add_epi16(d->part.v[i], pairs);
		if (step % run == run - 1) {
			const __m256i quads = _mm256_madd_epi16(d->part.v[i], _mm256_set1_epi16(1));
			d->sum.v[i] = _mm256_add_epi32(d->sum.v[i], quads);
		}
	}
}

ALWAYS_INLINE vi dot_sum(const dot *d) {
	return d->sum;
}

#endif

#endif
