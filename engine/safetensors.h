/* SPDX-License-Identifier: Apache-2.0
 *
 * Reader of one safetensors file (huggingface.co/docs/safetensors): a length, a JSON header, and
 * the tensors' bytes without a gap. Checked as the GGUF reader checks: a refused file gives one
 * sentence that names the tensor, what was expected and what came. Knows no architecture and no
 * folder. */
#ifndef SAFETENSORS_H
#define SAFETENSORS_H

#include "tensor.h"

struct safetensors {
	struct base_file file;     /* zeroed when opened from memory */
	struct bb_tensor *tensors; /* [n_tensors], in the header's order; F32, F16 or BF16 */
	size_t n_tensors;
	void **copies;             /* [n_tensors] of data that isn't aligned in the file; NULL: none */
};

/* init on caller's memory; finish accepts zeroed memory. The file stays mapped until finish. On a
 * failure *s is zeroed and nothing stays mapped. */
bool safetensors_open(struct safetensors *s, const char *path, struct bb_error *err);
/* The same over bytes that the caller keeps alive (fuzzer, tests). */
bool safetensors_open_memory(struct safetensors *s, const void *data, size_t bytes,
	struct bb_error *err);
void safetensors_finish(struct safetensors *s);

#endif
