/* SPDX-License-Identifier: Apache-2.0
 *
 * Products by cuBLASLt, for --gemm fast: what the two files of it share, and what the module calls.
 * Weights stay in the layout `panels`; some columns at a time are written out in bf16, row after
 * row, and multiplied with x in bf16. Fewer than BB_LT_ROWS rows are what they are without it. */
#ifndef MATMUL_LT_H
#define MATMUL_LT_H

#include "module.h"

struct lt;

/* Opens the library. NULL with a sentence in text[bytes]. */
struct lt *lt_open(char *text, size_t bytes);
void lt_close(struct lt *t); /* NULL is fine */
/* As bb_module.gemm_bytes, gemm_memory and gemm_plan. */
size_t lt_bytes(int n, int k);
void lt_work_in(struct lt *t, void *memory);
bool lt_plan(struct lt *t, const float *y, int ld_y, int n, int k, int max_rows, char *text,
	size_t bytes);
/* Of a device; NULL: it isn't open. */
struct lt *device_lt(bb_device *d);

/* Columns of a product that are written out at a time: whole panels. */
int lt_columns(int n, int k);
/* Room for [lt_columns, panel_x_elems(k)] in bf16. */
void *lt_scratch(const struct lt *t);

/* y[n_rows, n] = (is_added ? y : 0) + x[n_rows, k] w[n, k]^T; x and w bf16, w in the scratch, k a
 * multiple of 32. An error sticks to the queue. */
void lt_product(struct lt *t, bb_queue *q, float *y, int ld_y, const void *x, int n_rows, int n,
	int k, bool is_added);

/* prep: of BB_LT_ROWS rows and more x in bf16 [n_rows, panel_x_elems(k)], of fewer what `panels`
 * has. */
extern "C" const struct bb_layout layout_panels_lt;

#endif
