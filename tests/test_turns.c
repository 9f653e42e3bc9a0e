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

/* ---- memory that others hold ---- */

/* One reads its prompt with all rows of the steps beside another that holds pages and has none. The
 * n_th allocation fails: the other makes room. *n_asides: how often. Whether any was left to
 * fail. */
static bool wait_for_memory(long n_th, int *n_asides) {
	const struct bb_scheduler_params sp = { .max_running = 2, .max_step_tokens = 4,
		.no_prefix_cache = true, .clock = stopped_clock };
	static struct outcome o[2];
	struct bb_scheduler *s = new_scheduler(engine, &sp);
	struct bb_request_params p[2] = {
		request(engine, ids, 300, 5, 1), request(engine, ids + 100, 300, 5, 1),
	};
	bool idle;
	memset(o, 0, sizeof(o));
	p[0].deadline_ms = p[1].deadline_ms = 1e9; /* so nobody has rows for being the oldest */
	p[1].priority = -1;
	submit(s, p[0], &o[0]);
	for (int i = 0; i < 20; i++) {
		step(s, &idle);
	}
	submit(s, p[1], &o[1]);
	step(s, &idle);
	step(s, &idle);
	struct bb_scheduler_stats stats;
	bb_scheduler_stats(s, &stats);
	cr_assert(stats.n_running == 2 && stats.step_rows == 4);
	const long before = base_count_allocs();
	base_fail_alloc_at(n_th);
	while (!o[1].has_ended && s->requests->next->branches[0].n_seen < 290) {
		step(s, &idle);
	}
	const bool has_failed = base_count_allocs() - before >= n_th;
	base_fail_alloc_at(0);
	run_all(s);
	bb_scheduler_stats(s, &stats);
	for (int i = 0; i < 2; i++) {
		cr_assert_eq(o[i].error.code, BB_OK, "allocation %ld, request %d: %s", n_th, i,
			o[i].error.text);
		expect_alone(engine, &p[i], 0, &o[i]);
	}
	release_all(o, 2);
	bb_scheduler_destroy(s);
	*n_asides += (int)(stats.n_swapped + stats.n_dropped);
	return has_failed;
}

static void wait_for_any_memory(const char *model) {
	bool has_failed = true;
	int n_asides = 0;
	for (long n_th = 1; has_failed; n_th++) {
		tear_down(); /* which gives all pages and states back */
		open_tiny(model);
		has_failed = wait_for_memory(n_th, &n_asides);
	}
	cr_assert_gt(n_asides, 0);
}

Test(turns, who_computes_alone_waits_for_memory_that_others_hold) {
	wait_for_any_memory("llama");
}

Test(turns, so_it_does_for_states) {
	wait_for_any_memory("falcon-h1");
}

/* ---- copied, or computed again ---- */

/* Each look at the clock takes a second: copies and steps take one each. */
static double ticking_clock(void *user) {
	return (*(double *)user)++;
}

/* One of 300 tokens is put aside four times, for requests that need its place. In steps of so many
 * rows it would take 300 / n_rows seconds to compute it again. How often it was copied. */
static int put_aside(int n_rows) {
	double now = 0;
	const struct bb_scheduler_params sp = { .max_running = 2, .max_step_tokens = n_rows,
		.no_prefix_cache = true, .clock = ticking_clock, .clock_user = &now };
	static struct outcome o[5];
	struct bb_scheduler *s = new_scheduler(engine, &sp);
	struct bb_request_params p = request(engine, ids, 300, 60, 1);
	bool idle;
	memset(o, 0, sizeof(o));
	p.deadline_ms = 1e9; /* so it doesn't keep its place for being the oldest */
	submit(s, p, &o[0]);
	for (int i = 1; i < 5; i++) {
		while (o[0].n_ids[0] < 5 * i) {
			step(s, &idle);
		}
		struct bb_request_params urgent = request(engine, ids + 20 * i, 10, 3, 1);
		urgent.priority = -1;
		urgent.n = 2;
		submit(s, urgent, &o[i]);
		while (!o[i].has_ended) {
			step(s, &idle);
		}
	}
	const int n_copied = (int)s->now.n_swapped;
	run_all(s);
	cr_assert_eq(o[0].usage.n_preempted, 4);
	cr_assert_eq(s->now.n_swapped + s->now.n_dropped, 4);
	expect_alone(engine, &p, 0, &o[0]);
	release_all(o, 5);
	bb_scheduler_destroy(s);
	return n_copied;
}

/* Two seconds there and back, beside one or 75: by the times that were measured. The first copy is
 * made to know its time. */
Test(turns, what_is_cheaper_by_measured_times) {
	cr_assert_eq(put_aside(4), 4);
	cr_assert_eq(put_aside(512), 1);
}

/* Copies of the prefix cache make room for one that there is room for, and go for no other. */
Test(turns, what_no_room_would_hold_costs_no_copies) {
	struct swap_space space = { .max_bytes = engine_kv_bytes(engine, 200) };
	struct bb_context *c = new_context(engine);
	struct bb_error err = { 0 };
	struct prefix_stats stats;
	struct prefix *p;
	cr_assert(prefix_create(&p, engine, 1, &space, &err), "%s", err.text);
	cr_assert(bb_prefill(c, ids, 100, NULL, NULL, NULL, &err), "%s", err.text);
	prefix_keep(p, NULL, NULL, c);
	prefix_make_space(p, space.max_bytes + 1);
	prefix_stats(p, &stats);
	cr_assert(stats.n_aside == 1 && space.used_bytes > 0);
	prefix_make_space(p, space.max_bytes);
	prefix_stats(p, &stats);
	cr_assert(stats.n_contexts == 0 && stats.n_aside == 0 && space.used_bytes == 0);
	prefix_destroy(p);
}

/* ---- beginnings that others read ---- */

/* Who had no place while its source had just what it wanted finds that one beyond it. A state can't
 * go back without computing it all again outside of any step, so it begins by itself. */
Test(turns, who_comes_too_late_for_a_beginning_reads_it) {
	const struct bb_scheduler_params sp = { .max_running = 2, .max_step_tokens = 32,
		.no_prefix_cache = true, .clock = stopped_clock };
	static struct outcome o[3];
	int32_t alike[MAX_PROMPT];
	bool idle;
	tear_down();
	open_tiny("mamba2");
	memcpy(alike, ids, sizeof(alike));
	alike[128] ^= 1;
	struct bb_request_params p[3] = {
		request(engine, ids, 300, 40, 1), request(engine, alike, 150, 5, 1),
		request(engine, ids + 60, 20, 12, 1),
	};
	struct bb_scheduler *s = new_scheduler(engine, &sp);
	submit(s, p[0], &o[0]);
	step(s, &idle);
	submit(s, p[1], &o[1]);
	step(s, &idle);
	const struct branch *late = &s->requests->next->branches[0];
	cr_assert(late->source != NULL && late->n_common == 128);
	p[2].priority = -1;
	submit(s, p[2], &o[2]);
	while (!o[2].has_ended) {
		step(s, &idle);
	}
	cr_assert_gt(s->requests->branches[0].n_seen, 128);
	run_all(s);
	cr_assert_eq(o[1].usage.n_cached, 0, "%d tokens came from beyond", o[1].usage.n_cached);
	for (int i = 0; i < 3; i++) {
		expect_alone(engine, &p[i], 0, &o[i]);
	}
	release_all(o, 3);
	bb_scheduler_destroy(s);
}

/* ---- logits of prompts ---- */

/* One prompt at a time has room for its logits: that of who goes first. The others hold no rows for
 * theirs, and no places if they have none. */
Test(turns, who_goes_first_has_the_logits_of_its_prompt) {
	const struct bb_scheduler_params sp = { .max_running = 4, .max_step_tokens = 64,
		.clock = stopped_clock };
	struct bb_scheduler *s = new_scheduler(engine, &sp);
	static struct outcome o[5];
	struct bb_request_params p[5];
	bool idle;
	for (int i = 0; i < 5; i++) { /* the oldest has its rows anyway; the last reads in silence */
		p[i] = request(engine, ids + 20 * i, 200, i == 0 ? 60 : 5, 1);
		p[i].n_prompt_logprobs = i > 0 && i < 4;
		p[i].priority = i == 3 ? -1 : 0;
	}
	submit(s, p[0], &o[0]);
	while (o[0].n_ids[0] == 0) {
		step(s, &idle);
	}
	submit(s, p[1], &o[1]);
	submit(s, p[2], &o[2]);
	step(s, &idle);
	step(s, &idle);
	cr_assert_eq(o[1].n_prompt_events, 32);
	cr_assert(!o[2].has_started, "it has a place and no use for it");
	submit(s, p[3], &o[3]);
	submit(s, p[4], &o[4]);
	for (int i = 1; i <= 12; i++) {
		step(s, &idle);
		cr_assert_eq(o[3].n_prompt_events, 16 * i);
		cr_assert_eq(o[1].n_prompt_events, 32);
		cr_assert(i > 1 || s->now.step_rows == 64, "%d rows", (int)s->now.step_rows);
	}
	run_all(s);
	for (int i = 0; i < 5; i++) {
		cr_assert_eq(o[i].n_prompt_events, p[i].n_prompt_logprobs > 0 ? 199 : 0);
		expect_alone(engine, &p[i], 0, &o[i]);
	}
	release_all(o, 5);
	bb_scheduler_destroy(s);
}
