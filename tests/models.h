/* SPDX-License-Identifier: Apache-2.0
 *
 * Opening models in tests: the tiny ones of tests/goldens, and the real ones where they are; and
 * the device beside the CPU on which they are played. */
#ifndef TESTS_MODELS_H
#define TESTS_MODELS_H

#include "bobbin.h"

#include <criterion/criterion.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* Path of tests/goldens/<name>.gguf, or of the folder hf/<name> where GGUF has no such
 * architecture; BOBBIN_TESTS is set by the build. */
static inline const char *tiny_path(const char *name) {
	static char path[1024];
	snprintf(path, sizeof(path), "%s/goldens/%s.gguf", BOBBIN_TESTS, name);
	if (access(path, R_OK) != 0) {
		snprintf(path, sizeof(path), "%s/goldens/hf/%s", BOBBIN_TESTS, name);
	}
	return path;
}

/* Path of a real model, or skips the test. */
static inline const char *real_path(const char *name) {
	static char path[1024];
	const char *folder = getenv("BOBBIN_MODELS"), *home = getenv("HOME");
	if (folder != NULL) {
		snprintf(path, sizeof(path), "%s/%s.gguf", folder, name);
	} else {
		snprintf(path, sizeof(path), "%s/.cache/bobbin/models/%s.gguf", home != NULL ? home : "",
			name);
	}
	if (access(path, R_OK) != 0) {
		cr_skip_test("%s is missing", path);
	}
	return path;
}

/* $BOBBIN_TEST_DEVICE, which bench/gpu-acceptance sets to cuda; NULL: the suites play the CPU, and
 * the emulator where the build has it. */
static inline const char *named_device(void) {
	const char *name = getenv("BOBBIN_TEST_DEVICE");
	return name != NULL && *name != '\0' ? name : NULL;
}

/* $BOBBIN_SUITE_WHOLE, which .ci/run sets: as much on the emulator as a GPU always plays. */
static inline bool is_whole(void) {
	return getenv("BOBBIN_SUITE_WHOLE") != NULL || named_device() != NULL;
}

static inline const char *test_device(void) {
	return named_device() != NULL ? named_device() : "simt";
}

static inline struct bb_engine *open_with(const struct bb_engine_params *params) {
	struct bb_engine *e = NULL;
	struct bb_error err = { 0 };
	cr_assert(bb_engine_open(&e, bb_models, params, &err), "%s", err.text);
	return e;
}

/* The same; where the build lacks its device, which nobody named, the test is skipped. */
static inline struct bb_engine *open_or_skip(const struct bb_engine_params *params) {
	struct bb_engine *e = NULL;
	struct bb_error err = { 0 };
	if (!bb_engine_open(&e, bb_models, params, &err)) {
		if (params->device != NULL && named_device() == NULL) {
			cr_skip_test("%s", err.text);
		}
		cr_assert_fail("%s: %s", params->path, err.text);
	}
	return e;
}

static inline struct bb_context *new_context(struct bb_engine *e) {
	struct bb_context *c = NULL;
	struct bb_error err = { 0 };
	cr_assert(bb_context_create(&c, e, NULL, &err), "%s", err.text);
	return c;
}

static inline struct bb_context *fork_of(struct bb_context *c) {
	struct bb_context *fork = NULL;
	struct bb_error err = { 0 };
	cr_assert(bb_context_fork(&fork, c, &err), "%s", err.text);
	return fork;
}

static inline int vocab_of(const struct bb_engine *e) {
	struct bb_engine_info info;
	bb_engine_info(e, &info);
	return info.n_vocab;
}

/* [n_tokens] ids that repeat nothing for long; different for every seed. */
static inline void make_ids(int32_t *ids, int n_tokens, int n_vocab, int seed) {
	uint32_t x = 2463534242u + 7919u * (uint32_t)seed;
	for (int i = 0; i < n_tokens; i++) {
		x ^= x << 13;
		x ^= x >> 17;
		x ^= x << 5;
		ids[i] = (int32_t)(x % (uint32_t)n_vocab);
	}
}

/* Appends n tokens of make_ids. */
static inline void append_made(struct bb_context *c, struct bb_engine *e, int n, int seed) {
	int32_t *ids = malloc((size_t)n * sizeof(*ids));
	struct bb_error err = { 0 };
	cr_assert_not_null(ids);
	make_ids(ids, n, vocab_of(e), seed);
	cr_assert(bb_prefill(c, ids, (size_t)n, NULL, NULL, NULL, &err), "%s", err.text);
	free(ids);
}

/* Appends n tokens in one step; logits [n, n_vocab] of all of them, or NULL. */
static inline void feed(struct bb_context *c, struct bb_engine *e, const int32_t *ids, int n,
	float *logits) {
	struct bb_error err = { 0 };
	const struct bb_step_item item = { .context = c, .tokens = ids, .n_tokens = n, .logits = logits,
		.all_logits = true };
	cr_assert(bb_step(e, &item, 1, &err), "%s", err.text);
}

#endif
