/* SPDX-License-Identifier: Apache-2.0
 *
 * libFuzzer target for the safetensors reader: any bytes are either refused with one sentence or
 * usable as a whole, also when an allocation fails on the way. Given a corpus folder, it first
 * writes good files there. Run by tests/fuzz. */
#include "safetensors.h"

#include <assert.h>
#include <stdio.h>
#include <string.h>

int LLVMFuzzerInitialize(int *n_args, char ***args);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes);

static void write_seed(const char *folder, const char *name, const char *header, size_t n_data) {
	char path[4096];
	const uint64_t length = strlen(header);
	snprintf(path, sizeof(path), "%s/%s", folder, name);
	FILE *f = fopen(path, "wb");
	bool ok = f != NULL && fwrite(&length, sizeof(length), 1, f) == 1 &&
		fwrite(header, 1, length, f) == length;
	for (size_t i = 0; ok && i < n_data; i++) {
		ok = fputc((int)i, f) != EOF;
	}
	ok = f != NULL && fclose(f) == 0 && ok;
	if (!ok) {
		fprintf(stderr, "%s: can't be written\n", path);
	}
}

int LLVMFuzzerInitialize(int *n_args, char ***args) {
	const char *folder = NULL;
	for (int i = 1; i < *n_args && folder == NULL; i++) {
		folder = (*args)[i][0] != '-' ? (*args)[i] : NULL;
	}
	if (folder == NULL) {
		return 0;
	}
	write_seed(folder, "seed-empty", "{}", 0);
	write_seed(folder, "seed-one",
		"{\"t\":{\"dtype\":\"F32\",\"shape\":[2,1],\"data_offsets\":[0,8]}}", 8);
	write_seed(folder, "seed-three", "{\"__metadata__\":{\"format\":\"pt\"},"
		"\"b\":{\"dtype\":\"BF16\",\"shape\":[3,1,2],\"data_offsets\":[12,24]},"
		"\"a\":{\"dtype\":\"F32\",\"shape\":[],\"data_offsets\":[0,4]},"
		"\"c\":{\"dtype\":\"F16\",\"shape\":[4],\"data_offsets\":[4,12]}}  ", 24);
	return 0;
}

/* Reads every byte, so that a sanitizer sees a view that leaves the file. */
static void visit(const struct safetensors *s) {
	static volatile uint64_t sink;
	for (size_t i = 0; i < s->n_tensors; i++) {
		const struct bb_tensor *t = &s->tensors[i];
		assert(t->n_dims >= 1 && t->n_dims <= 4 && t->bytes > 0);
		for (size_t j = 0; j < t->bytes; j++) {
			sink += ((const uint8_t *)t->data)[j];
		}
	}
}

static enum bb_code read_once(const uint8_t *data, size_t bytes) {
	struct safetensors s;
	struct bb_error err = { .code = BB_OK };
	if (safetensors_open_memory(&s, data, bytes, &err)) {
		visit(&s);
		safetensors_finish(&s);
		return BB_OK;
	}
	assert(err.code != BB_OK && err.text[0] != '\0' && strchr(err.text, '\n') == NULL);
	assert(s.tensors == NULL && s.copies == NULL);
	return err.code;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes) {
	const enum bb_code code = read_once(data, bytes);
	assert(code == BB_OK || code == BB_ERR_FORMAT || code == BB_ERR_UNSUPPORTED);
	base_fail_alloc_at(bytes > 0 ? 1 + data[bytes - 1] % 16 : 1);
	const enum bb_code failed = read_once(data, bytes);
	base_fail_alloc_at(0);
	assert(failed == code || failed == BB_ERR_MEMORY);
	return 0;
}
