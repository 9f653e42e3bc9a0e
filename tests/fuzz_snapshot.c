/* SPDX-License-Identifier: Apache-2.0
 *
 * libFuzzer target for snapshots of contexts: bytes, to which the right checksum is put, are
 * refused with one sentence or are a context that goes on, can be rewound and is saved again, also
 * when an allocation fails on the way. Given a corpus folder, it first writes good ones there. Run
 * by tests/fuzz. */
#include "engine.h"

#include <assert.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

int LLVMFuzzerInitialize(int *n_args, char ***args);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes);

static struct bb_engine *engine; /* conv states beside attention, 7 tokens at most */
static char memory_file[64];

static void write_seed(const char *folder, int n_tokens) {
	char path[4096];
	struct bb_context *c;
	struct bb_error err = { 0 };
	const int32_t ids[] = { 3, 1, 4, 1, 5, 9 };
	snprintf(path, sizeof(path), "%s/seed-%d", folder, n_tokens);
	bool ok = bb_context_create(&c, engine, NULL, &err);
	for (int i = 0; ok && i < n_tokens; i++) {
		ok = bb_context_begin_segment(c, i, BB_ROLE_USER, &err) &&
			bb_prefill(c, ids + i, 1, NULL, NULL, NULL, &err);
	}
	ok = ok && bb_context_save(c, path, &err);
	bb_context_destroy(c);
	struct base_file f; /* without its checksum */
	ok = ok && base_file_open(&f, path, &err);
	if (!ok || truncate(path, (off_t)(f.bytes - sizeof(XXH64_hash_t))) != 0) {
		fprintf(stderr, "%s: can't be written: %s\n", path, err.text);
	}
	if (ok) {
		base_file_close(&f);
	}
}

int LLVMFuzzerInitialize(int *n_args, char ***args) {
	const struct bb_engine_params params = { .path = BOBBIN_TESTS "/goldens/lfm2.gguf",
		.n_threads = 1, .max_model_len = 7 };
	struct bb_error err = { 0 };
	if (!bb_engine_open(&engine, bb_models, &params, &err)) {
		fprintf(stderr, "%s\n", err.text);
		exit(1);
	}
	const int fd = memfd_create("snapshot", MFD_CLOEXEC);
	snprintf(memory_file, sizeof(memory_file), "/proc/self/fd/%d", fd);
	for (int i = 1; i < *n_args; i++) {
		if ((*args)[i][0] != '-') {
			write_seed((*args)[i], 0);
			write_seed((*args)[i], 1);
			write_seed((*args)[i], 6);
			break;
		}
	}
	return 0;
}

static enum bb_code load_once(void) {
	struct bb_context *c;
	struct bb_error err = { .code = BB_OK };
	bool same_bits;
	if (!bb_context_load(&c, engine, memory_file, &same_bits, &err)) {
		assert(c == NULL && err.code != BB_OK && err.text[0] != '\0');
		assert(strchr(err.text, '\n') == NULL);
		return err.code;
	}
	const struct bb_step_item item = { .context = c, .tokens = (const int32_t[]){ 2 },
		.n_tokens = 1 };
	bool ok = bb_context_length(c) == 7 || bb_step(engine, &item, 1, &err);
	ok = ok && (bb_context_length(c) < 3 || bb_context_rewind(c, 2, &err));
	ok = ok && bb_context_save(c, "/tmp/bobbin-fuzz-snapshot", &err);
	assert(ok || err.code == BB_ERR_MEMORY);
	bb_context_destroy(c);
	return ok ? BB_OK : err.code;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes) {
	const XXH64_hash_t hash = XXH3_64bits(data, bytes);
	const int fd = open(memory_file, O_RDWR | O_TRUNC);
	const bool ok = fd >= 0 && write(fd, data, bytes) == (ssize_t)bytes &&
		write(fd, &hash, sizeof(hash)) == sizeof(hash);
	assert(ok);
	close(fd);
	const enum bb_code code = load_once();
	assert(code == BB_OK || code == BB_ERR_FORMAT || code == BB_ERR_UNSUPPORTED ||
		code == BB_ERR_CONTEXT);
	base_fail_alloc_at(bytes > 0 ? 1 + data[bytes - 1] % 32 : 1);
	const enum bb_code failed = load_once();
	base_fail_alloc_at(0);
	assert(failed == code || failed == BB_ERR_MEMORY);
	return 0;
}
