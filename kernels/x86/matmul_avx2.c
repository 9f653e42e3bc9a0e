/* SPDX-License-Identifier: Apache-2.0
 *
 * Matrix products with AVX2: int8 by vpmaddubsw, floats by 256-bit FMA; and the preparation of
 * x. */
#include "ops_avx2.h"

#include "matmul_product.h"

#include "matmul_float.h"
#include "matmul_prep.h"
#include "matmul_quant.h"

QUANT_TILES(q8_0, BB_Q8_0)
QUANT_TILES(q4_0, BB_Q4_0)
QUANT_TILES(q5_0, BB_Q5_0)
QUANT_TILES(q4_1, BB_Q4_1)
QUANT_TILES(q5_1, BB_Q5_1)
QUANT_TILES(q6_k, BB_Q6_K)

QUANT_MATMUL(q8_0, BB_Q8_0, q8_0, avx2)
QUANT_MATMUL(q4_0, BB_Q4_0, q4_0, avx2)
QUANT_MATMUL(q4_1, BB_Q4_1, q4_1, avx2)
QUANT_MATMUL(q5_0, BB_Q5_0, q5_0, avx2)
QUANT_MATMUL(q5_1, BB_Q5_1, q5_1, avx2)
QUANT_MATMUL(q4_k, BB_Q4_K, q4_1, avx2)
QUANT_MATMUL(q5_k, BB_Q5_K, q5_1, avx2)
QUANT_MATMUL(q6_k, BB_Q6_K, q6_k, avx2)

FLOAT_MATMUL(f32, BB_F32, avx2)
FLOAT_MATMUL(f16, BB_F16, avx2)
FLOAT_MATMUL(bf16, BB_BF16, avx2)

const struct bb_layout layout_p16_avx2 = {
	.name = "p16_avx2",
	.weight_bytes = p16_weight_bytes,
	.pack = p16_pack,
	.unpack_row = p16_unpack_row,
	.prep_bytes = p16_prep_bytes,
	.prep = prep_p16,
};
