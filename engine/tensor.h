/* SPDX-License-Identifier: Apache-2.0
 *
 * Element types of stored tensors and their block geometry (the GGUF specification's ggml types),
 * and a tensor as a checked view into a mapped file. The arithmetic of the types is in kernels/. */
#ifndef TENSOR_H
#define TENSOR_H

#include "base.h"
#include "kernels.h"

struct bb_tensor {
	const char *name;    /* borrowed from the reader that made it */
	enum bb_dtype type;
	int n_dims;          /* 1..4 */
	int64_t dims[4];     /* row-major, outermost first: a matrix is [rows, cols]; unused = 1 */
	const void *data;    /* view into the file */
	size_t bytes;
};

/* "Q4_1", "F32", …; NULL-safe: "?" for a number outside the enum. */
const char *tensor_type_name(enum bb_dtype type);
/* Elements and bytes per block (32 and 20 for Q4_1, 1 and 4 for F32). */
int tensor_block_elems(enum bb_dtype type);
int tensor_block_bytes(enum bb_dtype type);
/* "[49152, 576]" into buf; returns buf. */
const char *tensor_shape_text(const struct bb_tensor *t, char *buf, size_t buf_bytes);

#endif
