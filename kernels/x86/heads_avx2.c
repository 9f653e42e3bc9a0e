/* SPDX-License-Identifier: Apache-2.0
 *
 * heads_vec.h for AVX2. */
#include "vec_avx2.h"

#define TAG(op) op##_avx2
#include "heads_vec.h"
