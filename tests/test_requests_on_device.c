/* SPDX-License-Identifier: Apache-2.0
 *
 * Requests on the emulator of CUDA, or on the device that is named: put aside by copies and to be
 * computed again, cancelled, forked, with common beginnings, priorities, grammars and
 * log-probabilities, each with the bits that it has there alone; and memory of the device that runs
 * out. What the scheduler decides is test_requests'. */
#include "efforts.h"
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

/* Tokens that are written, and one that is put in another's place behind the step: where they were
 * to come, as likely as the device has them, alone and beside each other. */
Test(requests_on_device, efforts, .timeout = 300) {
	static struct outcome o[4], alone;
	struct bb_effort efforts[4];
	struct bb_request_params p[4];
	engine = open_or_skip(&(struct bb_engine_params){ .path = tiny_path("llama"),
		.device = test_device(), .n_threads = 1, .max_model_len = 256, .max_batch_tokens = 64 });
	make_ids(prompt_ids, MAX_PROMPT, vocab_of(engine), 1);
	struct bb_scheduler *s = new_scheduler(engine, NULL);
	memset(o, 0, sizeof(o));
	for (int i = 0; i < 4; i++) {
		efforts[i] = thinking();
		efforts[i].has_budget = i < 2;
		efforts[i].max_thinking = 5 * i;
		efforts[i].min_thinking = i < 2 ? 0 : 3;
		efforts[i].thinking.extension = "3 4";
		efforts[i].thinking.end = i == 3 ? "7 7" : "7";
		efforts[i].thinking.closing = NULL;
		p[i] = thinker(&efforts[i], 9, (uint64_t)i);
		p[i].generation.sampling.logit_bias = i < 2 ? &never : &always;
		p[i].generation.sampling.frequency_penalty = i == 2 ? 0.01f : 0;
		p[i].generation.sampling.n_logprobs = i == 2 ? 2 : 0;
		submit(s, p[i], &o[i]);
	}
	run_all(s);
	for (int i = 0; i < 4; i++) {
		cr_assert(o[i].has_ended && o[i].error.code == BB_OK, "%s", o[i].error.text);
		bb_request_release(o[i].request);
	}
	bb_scheduler_destroy(s);
	static const int32_t replaced[] = { 3, 4, 3, 4, 7, 7, 7, 7, 7 },
		behind[] = { 7, 7, 3, 4, 7, 7, 7, 7, 7 };
	cr_assert_arr_eq(o[2].ids[0], replaced, sizeof(replaced));
	cr_assert_arr_eq(o[3].ids[0], behind, sizeof(behind));
	cr_assert(o[0].ids[0][0] == END && o[0].is_forced[0][0] && !o[0].is_forced[0][1]);
	cr_assert(o[1].ids[0][5] == END && o[1].is_forced[0][5] && !o[1].is_forced[0][4]);
	for (int i = 0; i < 4; i++) {
		run_one(&p[i], &alone);
		cr_assert_arr_eq(o[i].ids[0], alone.ids[0], 9 * sizeof(int32_t));
		cr_assert_arr_eq(o[i].logprobs[0], alone.logprobs[0], 9 * sizeof(float));
		expect_likelihoods(&p[i], &o[i], 1e-4);
	}
	bb_engine_destroy(engine);
}
