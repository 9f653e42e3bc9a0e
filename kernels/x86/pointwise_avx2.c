/* SPDX-License-Identifier: Apache-2.0
 *
 * pointwise_vec.h for AVX2 and FMA. */
#include "vec_avx2.h"

#define TAG(op) op##_avx2
#include "pointwise_vec.h"
