/* SPDX-License-Identifier: Apache-2.0
 *
 * Attention over int8 KV with vpmaddubsw, whose sums of two products saturate at 16 bits: keys are
 * made signed, and the sign goes over to q; bytes of p go in two halves. */
#include <immintrin.h>

enum { KEY_OFFSET = 0 };

static inline __attribute__((always_inline)) __m256i dot_keys(__m256i acc, __m256i k, __m256i q) {
	const __m256i x = _mm256_xor_si256(k, _mm256_set1_epi8(-128));
	const __m256i pairs = _mm256_maddubs_epi16(_mm256_abs_epi8(x), _mm256_sign_epi8(q, x));
	return _mm256_add_epi32(acc, _mm256_madd_epi16(pairs, _mm256_set1_epi16(1)));
}

static inline __attribute__((always_inline)) __m256i dot_values(__m256i acc, __m256i p, __m256i v) {
	const __m256i half = _mm256_and_si256(_mm256_srli_epi16(p, 1), _mm256_set1_epi8(127));
	const __m256i odd = _mm256_and_si256(p, _mm256_set1_epi8(1));
	const __m256i a = _mm256_madd_epi16(_mm256_maddubs_epi16(half, v), _mm256_set1_epi16(2));
	const __m256i b = _mm256_madd_epi16(_mm256_maddubs_epi16(odd, v), _mm256_set1_epi16(1));
	return _mm256_add_epi32(acc, _mm256_add_epi32(a, b));
}

#include "attention_int8_ymm.h"

void attention_int8_avx2(bb_queue *q, const struct bb_attention *a) {
	attention_walk(q, a, &ops);
}
