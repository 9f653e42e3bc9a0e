/* SPDX-License-Identifier: Apache-2.0
 *
 * Where requests meet: branches that part while memory is short, who waits for whose memory, for
 * whose beginning, and for whose logits. On tiny models. */
#include "outcomes.h"

static struct bb_engine *engine;
static int32_t ids[MAX_PROMPT];

static void open_tiny(const char *name) {
	const struct bb_engine_params params = { .path = tiny_path(name), .max_model_len = 512,
		.n_threads = 1 };
	engine = open_with(&params);
	make_ids(ids, MAX_PROMPT, vocab_of(engine), 1);
}

static void set_up(void) {
	open_tiny("llama");
}

static void tear_down(void) {
	bb_engine_destroy(engine);
}

TestSuite(turns, .init = set_up, .fini = tear_down);

static void release_all(struct outcome *o, int n) {
	for (int i = 0; i < n; i++) {
		bb_request_release(o[i].request);
	}
}

/* ---- branches that part ---- */

/* A prompt of the prefix cache, whose n branches part before anything is computed, beside another
 * request; the n_th allocation behind the submission fails. Whether any was left to fail. */
static bool part_with_failure(int n, long n_th) {
	static struct outcome o[3], whole;
	struct bb_scheduler *s = new_scheduler(engine, NULL);
	struct bb_request_params p = request(engine, ids, 90, 6, 1), beside = p;
	bool idle;
	memset(o, 0, sizeof(o));
	submit(s, p, &o[0]);
	run_all(s);
	beside.prompt = ids + 200;
	beside.generation.max_tokens = 30;
	submit(s, beside, &o[1]);
	step(s, &idle);
	step(s, &idle);
	p.n = n;
	submit(s, p, &o[2]);
	const long before = base_count_allocs();
	base_fail_alloc_at(n_th);
	run_all(s);
	const bool has_failed = base_count_allocs() - before >= n_th;
	base_fail_alloc_at(0);
	for (int i = 0; i < 3; i++) {
		cr_assert(o[i].has_ended);
		cr_assert(o[i].error.code == BB_OK || o[i].error.code == BB_ERR_MEMORY, "%s",
			o[i].error.text);
	}
	cr_assert(has_failed || o[2].usage.n_cached == 89, "%d of the prompt were cached",
		o[2].usage.n_cached);
	for (int k = 0; o[2].error.code == BB_OK && k < n; k++) {
		whole = o[2];
		expect_alone(engine, &p, k, &whole);
	}
	release_all(o, 3);
	bb_scheduler_destroy(s);
	cr_assert_eq(engine->n_contexts, 0, "n = %d, allocation %ld: %d contexts are left", n, n_th,
		(int)engine->n_contexts);
	return has_failed;
}

Test(turns, branches_of_a_cached_prompt_part_whole_or_not_at_all, .timeout = 200) {
	for (int n = 3; n <= 4; n++) {
		long n_th = 1;
		while (part_with_failure(n, n_th)) {
			n_th++;
		}
		cr_assert_gt(n_th, 10);
	}
}
