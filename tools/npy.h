/* SPDX-License-Identifier: Apache-2.0
 *
 * Writing NumPy arrays: float32, little-endian, two axes, format 1.0. The shape is known before the
 * first row, so that an array can go through a pipe. */
#ifndef NPY_H
#define NPY_H

#include "output.h"

struct npy { /* zeroed = closed */
	struct output out;
	size_t n_columns;
};

/* path "-" is stdout. */
bool npy_open(struct npy *f, const char *path, size_t n_rows, size_t n_columns,
	struct bb_error *err);
bool npy_write(struct npy *f, const float *rows, size_t n_rows, struct bb_error *err);
/* As output_close: with ok all rows that npy_open promised were written. */
bool npy_close(struct npy *f, bool ok, struct bb_error *err);

#endif
