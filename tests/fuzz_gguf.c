/* SPDX-License-Identifier: Apache-2.0
 *
 * libFuzzer target for the GGUF reader: any bytes are either refused with one sentence or usable as
 * a whole, also when an allocation fails on the way. Given a corpus folder, it first writes good
 * files there. Run by tests/fuzz. */
#include "gguf_builder.h"

#include <assert.h>
#include <string.h>

int LLVMFuzzerInitialize(int *n_args, char ***args);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes);

static void write_seed(struct gguf_builder *b, const char *folder, const char *name) {
	char path[4096];
	snprintf(path, sizeof(path), "%s/%s", folder, name);
	if (!gguf_builder_write(b, path)) {
		fprintf(stderr, "%s: can't be written\n", path);
	}
	gguf_builder_finish(b);
}

int LLVMFuzzerInitialize(int *n_args, char ***args) {
	const char *folder = NULL;
	for (int i = 1; i < *n_args && folder == NULL; i++) {
		folder = (*args)[i][0] != '-' ? (*args)[i] : NULL;
	}
	if (folder == NULL) {
		return 0;
	}
	struct gguf_builder b;
	gguf_builder_init(&b);
	write_seed(&b, folder, "seed-empty");
	gguf_builder_init(&b);
	gguf_builder_sample(&b);
	write_seed(&b, folder, "seed-sample");
	gguf_builder_init(&b);
	b.version = 2;
	gguf_builder_alignment(&b, 64);
	gguf_builder_tensor(&b, "t", BB_Q6_K, 2, (const int64_t[]){ 2, 256 }, NULL);
	gguf_builder_tensor(&b, "u", BB_BF16, 1, (const int64_t[]){ 3 }, NULL);
	write_seed(&b, folder, "seed-v2-aligned");
	gguf_builder_init(&b);
	gguf_builder_strs(&b, "k", 3, (const char *const[]){ "a", "bc", "" });
	gguf_builder_tensor(&b, "t", BB_F32, 1, (const int64_t[]){ 1 }, NULL);
	write_seed(&b, folder, "seed-small");
	return 0;
}

static enum bb_code read_once(const uint8_t *data, size_t bytes) {
	struct gguf g;
	struct bb_error err = { .code = BB_OK };
	if (gguf_open_memory(&g, data, bytes, &err)) {
		static volatile uint64_t sink;
		sink = gguf_builder_visit(&g);
		(void)sink;
		gguf_finish(&g);
		return BB_OK;
	}
	assert(err.code != BB_OK && err.text[0] != '\0' && strchr(err.text, '\n') == NULL);
	assert(g.kvs == NULL && g.tensors == NULL);
	return err.code;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes) {
	const enum bb_code code = read_once(data, bytes);
	assert(code == BB_OK || code == BB_ERR_FORMAT || code == BB_ERR_UNSUPPORTED);
	base_fail_alloc_at(bytes > 0 ? 1 + data[bytes - 1] % 32 : 1);
	const enum bb_code failed = read_once(data, bytes);
	base_fail_alloc_at(0);
	assert(failed == code || failed == BB_ERR_MEMORY);
	return 0;
}
