/* SPDX-License-Identifier: Apache-2.0
 *
 * One tensor, as torch.save writes it: a ZIP archive with a pickle that says what it is, and its
 * bytes. The pickle isn't run: its opcodes must be those, in their order, that torch writes for a
 * plain tensor, or for a parameter, and nothing that it names is looked up. */
#ifndef TORCH_H
#define TORCH_H

#include "bobbin.h"

enum { TORCH_DIMS = 3 };
enum torch_type { TORCH_F32, TORCH_F16, TORCH_BF16 };

struct torch_tensor {
	enum torch_type type;
	int n_dims;                          /* 1 to TORCH_DIMS */
	int64_t shape[TORCH_DIMS], stride[TORCH_DIMS], first; /* in elements; all within the data */
	const uint8_t *data;                 /* a view into the file */
};

/* BB_ERR_INPUT with what was expected and what came. */
bool torch_read(struct torch_tensor *t, const uint8_t *file, size_t bytes, struct bb_error *err);
/* Element i of the first dimensions' product, j of the last. */
float torch_at(const struct torch_tensor *t, int64_t i, int64_t j);

#endif
