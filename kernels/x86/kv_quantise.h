/* SPDX-License-Identifier: Apache-2.0
 *
 * kv_quantise on 256-bit registers, the same numbers. */
#ifndef KV_QUANTISE_H
#define KV_QUANTISE_H

#include "kv_slab.h"

#include <immintrin.h>
#include <math.h>

static inline float quantise_ymm(int8_t *y, const float *x, int n) {
	if (n % 8 != 0) {
		return kv_quantise(y, x, n);
	}
	__m256i bits = _mm256_setzero_si256(); /* of |x|, ordered as integers, NaNs above all */
	for (int i = 0; i < n; i += 8) {
		const __m256i u = _mm256_loadu_si256((const __m256i *)(const void *)(x + i));
		bits = _mm256_max_epi32(bits, _mm256_and_si256(u, _mm256_set1_epi32(0x7fffffff)));
	}
	__m128i b = _mm_max_epi32(_mm256_castsi256_si128(bits), _mm256_extracti128_si256(bits, 1));
	b = _mm_max_epi32(b, _mm_shuffle_epi32(b, 0x4e));
	b = _mm_max_epi32(b, _mm_shuffle_epi32(b, 0xb1));
	const float max = _mm_cvtss_f32(_mm_castsi128_ps(b));
	if (!(max >= 0x1p-100f && max < INFINITY)) {
		return kv_quantise(y, x, n);
	}
	const __m256 inverse = _mm256_set1_ps(127.0f / max);
	int i = 0;
	for (; i + 32 <= n; i += 32) {
		__m256i w[4];
		for (int j = 0; j < 4; j++) {
			w[j] = _mm256_cvtps_epi32(_mm256_mul_ps(_mm256_loadu_ps(x + i + 8 * j), inverse));
		}
		const __m256i bytes = _mm256_packs_epi16(_mm256_packs_epi32(w[0], w[1]),
			_mm256_packs_epi32(w[2], w[3]));
		const __m256i order = _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7);
		_mm256_storeu_si256((__m256i *)(void *)(y + i), _mm256_permutevar8x32_epi32(bytes, order));
	}
	for (; i < n; i += 8) {
		const __m256i w = _mm256_cvtps_epi32(_mm256_mul_ps(_mm256_loadu_ps(x + i), inverse));
		const __m128i h = _mm_packs_epi32(_mm256_castsi256_si128(w),
			_mm256_extracti128_si256(w, 1));
		_mm_storel_epi64((__m128i *)(void *)(y + i), _mm_packs_epi16(h, h));
	}
	return max / 127.0f;
}

#endif
