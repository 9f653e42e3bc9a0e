/* SPDX-License-Identifier: Apache-2.0
 *
 * Names and shapes of stored tensors for sentences and tables. Geometry is in kernels/dtype.c. */
#include "tensor.h"

#include <inttypes.h>
#include <stdio.h>

const char *tensor_type_name(enum bb_dtype type) {
	const char *name = dtype_name(type);
	return name != NULL ? name : "?";
}

int tensor_block_elems(enum bb_dtype type) {
	return dtype_block_elems(type);
}

int tensor_block_bytes(enum bb_dtype type) {
	return dtype_block_bytes(type);
}

const char *tensor_shape_text(const struct bb_tensor *t, char *buf, size_t buf_bytes) {
	size_t at = 0;
	for (int i = 0; i < t->n_dims && at < buf_bytes; i++) {
		const int n = snprintf(buf + at, buf_bytes - at, "%s%" PRId64 "%s", i == 0 ? "[" : ", ",
			t->dims[i], i == t->n_dims - 1 ? "]" : "");
		at += (size_t)n;
	}
	return buf;
}
