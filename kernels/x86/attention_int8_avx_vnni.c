/* SPDX-License-Identifier: Apache-2.0
 *
 * Attention over int8 KV with vpdpbusd in its VEX encoding. */
#include <immintrin.h>

enum { KEY_OFFSET = -128 };

static inline __attribute__((always_inline)) __m256i dot_values(__m256i acc, __m256i p, __m256i v) {
	/* gcc 12 spills the accumulators of the intrinsic's tile */
	__asm__("%{vex%} vpdpbusd %2, %1, %0" : "+x"(acc) : "x"(p), "x"(v));
	return acc;
}

static inline __attribute__((always_inline)) __m256i dot_keys(__m256i acc, __m256i k, __m256i q) {
	return dot_values(acc, k, q);
}

#include "attention_int8_ymm.h"

void attention_int8_avx_vnni(bb_queue *q, const struct bb_attention *a) {
	attention_walk(q, a, &ops);
}
