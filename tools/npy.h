/* SPDX-License-Identifier: Apache-2.0
 *
 * Writing NumPy arrays: float32, little-endian, two axes, format 1.0. */
#ifndef NPY_H
#define NPY_H

#include "bobbin.h"

struct npy;

bool npy_create(struct npy **out, const char *path, size_t n_rows, size_t n_columns,
	struct bb_error *err);
bool npy_write(struct npy *f, const float *rows, size_t n_rows, struct bb_error *err);
/* Closes the file, whose header then tells the rows that were written. After a failure (ok false) a
 * file that is of no use is removed. NULL is fine. */
bool npy_close(struct npy *f, bool ok, struct bb_error *err);

#endif
