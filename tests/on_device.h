/* SPDX-License-Identifier: Apache-2.0
 *
 * Engines on the emulator of CUDA, or on the device that is named, from inside: opening one, making
 * its calls fail, steps that must work. */
#ifndef TESTS_ON_DEVICE_H
#define TESTS_ON_DEVICE_H

#include "models.h"

#include "engine.h"

static inline struct bb_engine *open_device(const char *name, enum bb_kv_type kv_type,
	size_t max_bytes) {
	const struct bb_engine_params params = { .path = tiny_path(name), .device = test_device(),
		.n_threads = 1, .kv_type = kv_type, .max_model_len = 4096, .max_device_bytes = max_bytes };
	return open_with(&params);
}

static inline const struct bb_module *module_of(const struct bb_engine *e) {
	return e->memory.device.module;
}

/* The n-th call from now on fails; 0: none. A GPU can't be asked for that. */
static inline void fail(const struct bb_module *m, enum bb_failure what, int n) {
	if (m->fail == NULL) {
		cr_skip_test("%s can't be made to fail", m->name);
	}
	m->fail(what, n);
}

/* A GPU has an order of its own. */
static inline void reschedule(const struct bb_engine *e, int i) {
	if (module_of(e)->reschedule != NULL) {
		module_of(e)->reschedule(i);
	}
}

/* A step of n tokens that must work; logits [n_vocab] of the last. */
static inline void step(struct bb_context *c, const int32_t *ids, int n, float *logits) {
	struct bb_error err = { 0 };
	const struct bb_step_item item = { .context = c, .tokens = ids, .n_tokens = n,
		.logits = logits };
	cr_assert(bb_step(c->engine, &item, 1, &err), "%s", err.text);
}

/* Captured steps that an engine keeps. */
static inline int n_captures(const struct bb_engine *e) {
	int n = 0;
	for (int i = 0; i < MAX_CAPTURES; i++) {
		n += e->captures.entries[i].graph != NULL;
	}
	return n;
}

enum { N_PROMPT = 300, N_DECODED = 5 };

/* Logits after each of the last tokens, decoded one by one. */
static inline float *decode(struct bb_engine *e, const int32_t *ids) {
	const int n_vocab = vocab_of(e);
	float *logits = malloc((size_t)N_DECODED * (size_t)n_vocab * sizeof(*logits));
	struct bb_context *c = new_context(e);
	step(c, ids, 90, NULL);
	step(c, ids + 90, N_PROMPT - 90, NULL);
	for (int i = 0; i < N_DECODED; i++) {
		step(c, ids + N_PROMPT + i, 1, logits + (size_t)i * (size_t)n_vocab);
	}
	bb_context_destroy(c);
	return logits;
}

#endif
