/* SPDX-License-Identifier: Apache-2.0
 *
 * Matrix products of block types with AVX-512 VNNI. */
#define USE_VNNI
#include "ops_avx512.h"

#include "matmul_product.h"

#include "matmul_quant.h"

/* Once unpacked, types differ only in having an offset or a min, and Q6_K in its scale per 16. */
QUANT_TILES(offset, BB_Q4_0)
QUANT_TILES(min, BB_Q4_1)
QUANT_TILES(q6_k, BB_Q6_K)

QUANT_MATMUL(q8_0, BB_Q8_0, offset, avx512_vnni)
QUANT_MATMUL(q4_0, BB_Q4_0, offset, avx512_vnni)
QUANT_MATMUL(q4_1, BB_Q4_1, min, avx512_vnni)
QUANT_MATMUL(q5_0, BB_Q5_0, offset, avx512_vnni)
QUANT_MATMUL(q5_1, BB_Q5_1, min, avx512_vnni)
QUANT_MATMUL(q4_k, BB_Q4_K, min, avx512_vnni)
QUANT_MATMUL(q5_k, BB_Q5_K, min, avx512_vnni)
QUANT_MATMUL(q6_k, BB_Q6_K, q6_k, avx512_vnni)
