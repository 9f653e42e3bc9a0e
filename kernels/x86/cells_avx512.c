/* SPDX-License-Identifier: Apache-2.0
 *
 * cells_vec.h for AVX-512. */
#include "vec_avx512.h"

#define TAG(op) op##_avx512
#include "cells_vec.h"
