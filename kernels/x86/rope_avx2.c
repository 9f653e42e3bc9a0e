/* SPDX-License-Identifier: Apache-2.0
 *
 * rope_vec.h for AVX2 and FMA. */
#include "vec_avx2.h"

#define TAG(op) op##_avx2
#include "rope_vec.h"
