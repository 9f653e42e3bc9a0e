/* SPDX-License-Identifier: Apache-2.0
 *
 * libFuzzer target for tensors of torch.save: any bytes are either refused with one sentence or
 * usable as a whole. A good corpus: tests/data/tensors. Run by tests/fuzz. */
#include "torch.h"

#include <assert.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes) {
	static volatile float sink;
	struct bb_error err = { 0 };
	struct torch_tensor t;
	const bool ok = torch_read(&t, data, bytes, &err);
	assert(ok == (err.code == BB_OK));
	assert(ok || (err.text[0] != '\0' && strchr(err.text, '\n') == NULL));
	if (ok) {
		int64_t n = 1;
		for (int k = 0; k + 1 < t.n_dims; k++) {
			n *= t.shape[k];
		}
		for (int64_t i = 0; i < n; i++) {
			for (int64_t j = 0; j < t.shape[t.n_dims - 1]; j++) {
				sink = torch_at(&t, i, j);
			}
		}
	}
	return 0;
}
