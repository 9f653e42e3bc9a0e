/* SPDX-License-Identifier: Apache-2.0
 *
 * One block of 32 quantised weights, taken out of a row in its file format and put back. For the
 * matrix products and their layouts; values in f32 are dtype.c's. */
#ifndef QUANT_H
#define QUANT_H

#include "kernels.h"

/* A weight is scale * (code - offset) + min, with
 *   Q4_0 Q5_0 Q8_0   scale = d
 *   Q4_1 Q5_1        scale = d, min = m
 *   Q4_K Q5_K        scale = d scales[0], min = -(m mins), d and m shared by eight blocks
 *   Q6_K             scale = d scales[i / 16] (signed), d shared by eight blocks
 * and every scale and min is exact in f32. */
struct quant_block {
	uint32_t codes[8];  /* [group of 4 elements], one code a byte, the first lowest */
	uint16_t d, m;      /* f16 */
	uint8_t scales[2];  /* K-quants: of the first and second 16 elements */
	uint8_t min;        /* K-quants */
};

static inline int quant_offset(enum bb_dtype type) {
	switch (type) {
	case BB_Q4_0:
		return 8;
	case BB_Q5_0:
		return 16;
	case BB_Q6_K:
		return 32;
	case BB_Q8_0:
		return 128;
	default:
		return 0;
	}
}

static inline bool quant_has_min(enum bb_dtype type) {
	return type == BB_Q4_1 || type == BB_Q5_1 || type == BB_Q4_K || type == BB_Q5_K;
}

/* K-quants: eight blocks share a header. */
static inline bool quant_is_k(enum bb_dtype type) {
	return type == BB_Q4_K || type == BB_Q5_K || type == BB_Q6_K;
}

static inline bool quant_is_block(enum bb_dtype type) {
	return type != BB_F32 && type != BB_F16 && type != BB_BF16;
}

/* Block i_block (of 32) of a stored row, and back: put all blocks of a row, in ascending order. */
void quant_get(struct quant_block *out, enum bb_dtype type, const void *row, int i_block);
void quant_put(void *row, enum bb_dtype type, int i_block, const struct quant_block *in);

/* q[32] = rint(x / s), s = max|x| / 127, halves to even; sum[h] = the sum of 16 of q; returns s.
 * A block with a NaN or an infinity gets s = NaN or infinity, and spoils the outputs of its row. */
float quant_x(int8_t *q, int32_t sum[2], const float *x);

#endif
