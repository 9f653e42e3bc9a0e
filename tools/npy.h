/* SPDX-License-Identifier: Apache-2.0
 *
 * NumPy arrays: written as float32, little-endian, format 1.0; read as float32 from that and from
 * other floats and integers. The shape is known before the first row, so that an array can go
 * through a pipe. */
#ifndef NPY_H
#define NPY_H

#include "output.h"

enum { NPY_AXES = 4 }; /* at most */

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

/* A whole array. */
struct npy_array { /* zeroed = empty */
	float *data;            /* [shape...], row-major */
	size_t shape[NPY_AXES], n;
	int n_axes;             /* 1 to NPY_AXES */
};
bool npy_save(const struct npy_array *a, const char *path, struct bb_error *err);
/* From floats and integers, little-endian, in C or Fortran order; refuses what else there is.
 * Zeroed after an error. */
bool npy_load(struct npy_array *a, const char *path, struct bb_error *err);
void npy_array_finish(struct npy_array *a);

#endif
