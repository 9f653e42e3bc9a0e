/* SPDX-License-Identifier: Apache-2.0
 *
 * Matrix products of block types with AVX-VNNI: AVX2 but for the dot product. */
#define USE_VNNI
#include "ops_avx2.h"

#include "matmul_product.h"

#include "matmul_quant.h"

/* Once unpacked, types differ only in having an offset or a min, and Q6_K in its scale per 16. */
QUANT_TILES(offset, BB_Q4_0)
QUANT_TILES(min, BB_Q4_1)
QUANT_TILES(q6_k, BB_Q6_K)

QUANT_MATMUL(q8_0, BB_Q8_0, offset, avx_vnni)
QUANT_MATMUL(q4_0, BB_Q4_0, offset, avx_vnni)
QUANT_MATMUL(q4_1, BB_Q4_1, min, avx_vnni)
QUANT_MATMUL(q5_0, BB_Q5_0, offset, avx_vnni)
QUANT_MATMUL(q5_1, BB_Q5_1, min, avx_vnni)
QUANT_MATMUL(q4_k, BB_Q4_K, min, avx_vnni)
QUANT_MATMUL(q5_k, BB_Q5_K, min, avx_vnni)
QUANT_MATMUL(q6_k, BB_Q6_K, q6_k, avx_vnni)
