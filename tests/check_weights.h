/* SPDX-License-Identifier: Apache-2.0
 *
 * Operands of matrix products for check bodies; they are drawn in check_matmul.c. */
#ifndef CHECK_WEIGHTS_H
#define CHECK_WEIGHTS_H

#include "check.h"

/* Weights [n, k] in the file format: random codes and scales, some of them zero, denormal or large;
 * or all codes at an extreme. */
uint8_t *check_weights(struct check *c, enum bb_dtype type, int n, int k, bool is_extreme);
/* x [n_rows, ld_x]: normal numbers; some blocks zero, denormal, large or all of one size. */
float *check_x(struct check *c, int n_rows, int ld_x, bool is_extreme);

#endif
