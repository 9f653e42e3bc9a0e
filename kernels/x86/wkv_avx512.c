/* SPDX-License-Identifier: Apache-2.0
 *
 * wkv_vec.h for AVX-512. */
#include "vec_avx512.h"

#define TAG(op) op##_avx512
#include "wkv_vec.h"
