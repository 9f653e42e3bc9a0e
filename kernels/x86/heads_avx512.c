/* SPDX-License-Identifier: Apache-2.0
 *
 * heads_vec.h for AVX-512. */
#include "vec_avx512.h"

#define TAG(op) op##_avx512
#include "heads_vec.h"
