/* SPDX-License-Identifier: Apache-2.0
 *
 * Requests on the emulator of CUDA, or on the device that is named: put aside by copies and to be
 * computed again, cancelled, forked, with common beginnings, priorities, grammars and
 * log-probabilities, each with the bits that it has there alone; and memory of the device that runs
 * out. What the scheduler decides is test_requests'. */
#include "mixed.h"

static void open_mixed(struct mixed *m, const char *name) {
	*m = (struct mixed){ .params = { .path = with_vocabulary(name), .device = test_device(),
			.n_threads = 1, .max_model_len = 512, .max_batch_tokens = 64 },
		.n_requests = is_whole() ? 36 : 14, .most_prompt = is_whole() ? 200 : 120,
		.most_tokens = is_whole() ? 30 : 10, .max_running = 8, .max_step_tokens = 48,
		.has_vocabulary = true };
}

static void check_pressed(const char *name, int n_tokens, int n_contexts) {
	struct mixed m;
	open_mixed(&m, name);
	check_mixed_pressed(&m, n_tokens, n_contexts);
	unlink(m.params.path);
}

Test(requests_on_device, attention, .timeout = 300) {
	check_pressed("llama", 256, 0);
}

Test(requests_on_device, states, .timeout = 300) {
	check_pressed("mamba2", 0, 5);
}

Test(requests_on_device, both, .timeout = 300) {
	check_pressed("falcon-h1", 256, 5);
}

/* Several rows of one context are drawn from: in the step itself, or, where penalties or a grammar
 * have to know what came before, one by one behind it. */
Test(requests_on_device, drafts, .timeout = 300) {
	static const char *const names[] = { "llama", "falcon-h1" };
	static const struct bb_speculation all = { .is_fixed = true, .max_drafts = 4, .min_match = 1 };
	for (size_t i = 0; i < COUNT(names); i++) {
		struct mixed m;
		open_mixed(&m, names[i]);
		m.most_tokens = 24;
		m.speculation = &all;
		check_mixed(&m);
		unlink(m.params.path);
	}
}

/* The device itself has no more, of which the scheduler only learns when it fails. */
Test(requests_on_device, whose_memory_runs_out, .timeout = 300) {
	static const char *const names[] = { "llama", "mamba2" };
	for (size_t i = 0; i < COUNT(names); i++) {
		struct mixed m;
		size_t used;
		open_mixed(&m, names[i]);
		const size_t bytes = bytes_of(&m.params, 256, 4);
		struct bb_engine *e = open_with(&m.params);
		e->memory.device.module->arena_bytes(e->memory.device.d, &used);
		bb_engine_destroy(e);
		m.params.state_cache_bytes = BB_STATE_CACHE_NONE;
		m.params.max_device_bytes = used + bytes + (64 << 10); /* these: to draw with */
		m.pressure = SWAPS;
		check_mixed(&m);
		unlink(m.params.path);
	}
}
