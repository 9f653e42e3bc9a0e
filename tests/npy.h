/* SPDX-License-Identifier: Apache-2.0
 *
 * Reads NumPy's .npy files of float32 (format versions 1 to 3), for the goldens. Tests only: a file
 * that is anything else ends the test. */
#ifndef NPY_H
#define NPY_H

#include <stddef.h>

struct npy {
	float *data;      /* [rows, cols], owned */
	size_t rows, cols; /* a vector has one row */
};

/* Aborts with a sentence on stderr when the file can't be read or is no C-ordered float32 array of
 * one or two dimensions. */
void npy_init(struct npy *a, const char *path);
void npy_finish(struct npy *a);

#endif
