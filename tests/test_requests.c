/* SPDX-License-Identifier: Apache-2.0
 *
 * Requests run beside each other: every answer is the one that its request gets alone, whatever was
 * cancelled, put aside, forked or shared meanwhile; events come in order and end; what can't be had
 * is refused with a sentence. On tiny models, and on SmolLM2 where it is. */
#include "mixed.h"

#include <math.h>

/* Where all have room, and where few have. */
static void check_tight(const char *name, int n_tokens, int n_contexts) {
	struct mixed m = { .params = { .path = with_vocabulary(name), .max_model_len = 512 },
		.n_requests = 64, .most_prompt = 200, .most_tokens = 40, .max_running = 12,
		.max_step_tokens = 96, .has_vocabulary = true };
	check_mixed(&m);
	check_mixed_pressed(&m, n_tokens, n_contexts);
	unlink(m.params.path);
}

#define MIXED(suite, name, n_tokens, n_contexts) \
	Test(requests, suite, .timeout = 120) { \
		check_tight(name, n_tokens, n_contexts); \
	}

MIXED(llama, "llama", 700, 0)
MIXED(mamba2, "mamba2", 0, 5)
MIXED(falcon_h1, "falcon-h1", 700, 5)
MIXED(gemma3, "gemma3", 900, 0)

Test(requests, smollm2, .timeout = 280) {
	struct mixed m = { .params = { .path = real_path("smollm2"), .max_model_len = 512 },
		.n_requests = 24, .most_prompt = 160, .most_tokens = 12, .max_running = 12,
		.max_step_tokens = 96, .pressure = SWAPS };
	m.params.max_kv_bytes = bytes_of(&m.params, 900, 0);
	check_mixed(&m);
}

/* The grammar of the second of three lets "a" through and then nothing but an end, which min_tokens
 * forbids: that one fails, beside others that draw in the same steps and notice nothing. */
Test(requests, a_grammar_that_ends_fails_alone) {
	const struct bb_engine_params params = { .path = real_path("smollm2"), .max_model_len = 512 };
	struct bb_engine *e = open_with(&params);
	struct bb_scheduler *s = new_scheduler(e, NULL);
	struct bb_grammar *g;
	struct bb_error err = { 0 };
	static int32_t prompts[3][20];
	static struct outcome o[3];
	struct bb_request_params p[3];
	cr_assert(bb_grammar_create(&g, e, BB_GRAMMAR_REGEX, "a", 1, &err), "%s", err.text);
	for (int i = 0; i < 3; i++) {
		make_ids(prompts[i], 20, vocab_of(e), i + 1);
		p[i] = request(e, prompts[i], 20, 10, (uint64_t)i);
		p[i].generation.sampling.ignore_eos = i != 1;
		if (i == 1) {
			p[i].generation.sampling.grammar = g;
			p[i].generation.min_tokens = 5;
		}
		submit(s, p[i], &o[i]);
	}
	run_all(s);
	cr_assert(o[1].has_ended && o[1].error.code == BB_ERR_INPUT, "%s", o[1].error.text);
	cr_assert(strstr(o[1].error.text, "min_tokens") != NULL, "%s", o[1].error.text);
	cr_assert_eq(o[1].n_ids[0], 1);
	for (int i = 0; i < 3; i += 2) {
		cr_assert_eq(o[i].finish[0], BB_FINISH_LENGTH, "%s", o[i].error.text);
		expect_alone(e, &p[i], 0, &o[i]);
	}
	for (int i = 0; i < 3; i++) {
		bb_request_release(o[i].request);
	}
	bb_scheduler_destroy(s);
	bb_grammar_destroy(g);
	bb_engine_destroy(e);
}

/* A thousand requests of one schema compile it once; other sources and kinds are others. */
Test(requests, share_compiled_grammars) {
	static const char schema[] = "{\"type\":\"string\",\"maxLength\":20}";
	const struct bb_engine_params params = { .path = real_path("smollm2"), .vocab_only = true };
	struct bb_engine *e = open_with(&params);
	struct bb_error err = { 0 };
	struct bb_grammar *all[1000];
	uint64_t n_compiled, n_shared;
	for (size_t i = 0; i < COUNT(all); i++) {
		cr_assert(bb_grammar_create(&all[i], e, BB_GRAMMAR_JSON_SCHEMA, schema, sizeof(schema) - 1,
			&err), "%s", err.text);
		if (i % 3 == 0) {
			bb_grammar_destroy(all[i]);
			all[i] = NULL;
		}
	}
	struct bb_grammar *other, *wrong;
	cr_assert(bb_grammar_create(&other, e, BB_GRAMMAR_REGEX, "abc", 3, &err));
	cr_assert(!bb_grammar_create(&wrong, e, BB_GRAMMAR_JSON_SCHEMA, "abc", 3, &err));
	cr_assert(err.code == BB_ERR_INPUT && strstr(err.text, "JSON schema") != NULL, "%s", err.text);
	grammar_counts(e, &n_compiled, &n_shared);
	cr_assert(n_compiled == 3 && n_shared == 999, "%d compiled", (int)n_compiled);
	for (size_t i = 0; i < COUNT(all); i++) {
		bb_grammar_destroy(all[i]);
	}
	bb_grammar_destroy(other);
	bb_engine_destroy(e);
}

/* ---- one thing at a time, on a tiny model ---- */

static struct bb_engine *engine;
static int32_t ids[MAX_PROMPT];
static double virtual_now;

static double virtual_clock(void *user) {
	(void)user;
	return virtual_now;
}

static void set_up(void) {
	const struct bb_engine_params params = { .path = tiny_path("llama"), .max_model_len = 512,
		.n_threads = 1 };
	engine = open_with(&params);
	make_ids(ids, MAX_PROMPT, vocab_of(engine), 1);
	virtual_now = 100;
}

static void tear_down(void) {
	bb_engine_destroy(engine);
}

TestSuite(request, .init = set_up, .fini = tear_down);

static void cancel_all(const char *model) {
	engine = open_with(&(struct bb_engine_params){ .path = tiny_path(model), .n_threads = 1,
		.max_model_len = 512 });
	struct bb_scheduler *s = new_scheduler(engine, NULL);
	struct outcome o[3] = { 0 };
	bool idle;
	for (int i = 0; i < 3; i++) {
		struct bb_request_params p = request(engine, ids, 200, 60, 1);
		p.n = i == 1 ? 3 : 1;
		submit(s, p, &o[i]);
	}
	for (int i = 0; i < 8; i++) {
		step(s, &idle);
	}
	cr_assert_gt(engine_used_bytes(engine).live, 0);
	for (int i = 0; i < 3; i++) {
		bb_request_cancel(o[i].request);
	}
	step(s, &idle);
	cr_assert(idle);
	cr_assert_eq(engine_used_bytes(engine).all, 0);
	for (int i = 0; i < 3; i++) {
		cr_assert(o[i].has_ended && o[i].finish[0] == BB_FINISH_CANCELLED);
		bb_request_release(o[i].request);
	}
	cr_assert_eq(o[1].finish[2], BB_FINISH_CANCELLED);
	bb_scheduler_destroy(s);
	bb_engine_destroy(engine);
}

Test(requests, what_is_cancelled_is_free_within_a_step) {
	cancel_all("llama");
	cancel_all("falcon-h1");
}

Test(request, urgent_begins_in_the_next_step) {
	const struct bb_scheduler_params sp = { .max_running = 2 };
	struct bb_scheduler *s = new_scheduler(engine, &sp);
	struct outcome o[6] = { 0 };
	bool idle;
	for (int i = 0; i < 5; i++) {
		submit(s, request(engine, ids + i, 100, 30, 1), &o[i]);
	}
	for (int i = 0; i < 6; i++) {
		step(s, &idle);
	}
	cr_assert(o[1].has_started && !o[2].has_started);
	struct bb_request_params p = request(engine, ids, 100, 30, 1);
	p.priority = -1;
	submit(s, p, &o[5]);
	step(s, &idle);
	cr_assert(o[5].has_started && !o[2].has_started);
	run_all(s);
	cr_assert_eq(o[1].usage.n_preempted, 1);
	for (int i = 0; i < 6; i++) {
		cr_assert_eq(o[i].finish[0], BB_FINISH_LENGTH);
		bb_request_release(o[i].request);
	}
	bb_scheduler_destroy(s);
}

/* However many urgent ones come, each as soon as the one before it has ended: the oldest, though of
 * the lowest priority, draws a token in every step, and each of them begins in its next one. */
Test(request, urgent_ones_and_the_oldest_do_not_wait_for_each_other) {
	const struct bb_scheduler_params sp = { .max_running = 2 };
	struct bb_scheduler *s = new_scheduler(engine, &sp);
	struct outcome oldest = { 0 }, waits = { 0 }, urgent;
	struct bb_request_params p = request(engine, ids, 100, 60, 1);
	bool idle;
	int n_urgent = 0;
	p.priority = 1;
	submit(s, p, &oldest);
	while (oldest.n_ids[0] == 0) {
		step(s, &idle);
	}
	submit(s, request(engine, ids + 7, 100, 5, 1), &waits);
	while (!oldest.has_ended) {
		struct bb_request_params q = request(engine, ids + n_urgent, 20, 3, 1);
		memset(&urgent, 0, sizeof(urgent));
		q.priority = -1;
		submit(s, q, &urgent);
		n_urgent++;
		while (!urgent.has_ended) {
			const int before = oldest.n_ids[0];
			step(s, &idle);
			cr_assert(urgent.has_started, "urgent request %d waits", n_urgent);
			cr_assert(oldest.has_ended || oldest.n_ids[0] == before + 1, "the oldest waits");
			cr_assert(oldest.has_ended || !waits.has_started, "who is neither doesn't");
		}
		bb_request_release(urgent.request);
	}
	cr_assert(n_urgent > 5 && oldest.usage.n_preempted == 0, "%d were urgent", n_urgent);
	run_all(s);
	expect_alone(engine, &p, 0, &oldest);
	bb_request_release(oldest.request);
	bb_request_release(waits.request);
	bb_scheduler_destroy(s);
}

/* The oldest has the one place there is; nobody begins before it has ended. */
Test(request, one_at_a_time) {
	const struct bb_scheduler_params sp = { .max_running = 1 };
	struct bb_scheduler *s = new_scheduler(engine, &sp);
	struct outcome o[4] = { 0 };
	struct bb_request_params p[4];
	bool idle = false;
	for (int i = 0; i < 4; i++) {
		p[i] = request(engine, ids + i, (size_t)(80 + i), 6, 1);
		p[i].priority = i == 3 ? -1 : 0;
		submit(s, p[i], &o[i]);
	}
	while (!idle) {
		step(s, &idle);
		int n_begun = 0;
		for (int i = 0; i < 4; i++) {
			n_begun += o[i].has_started && !o[i].has_ended;
		}
		cr_assert_leq(n_begun, 1);
	}
	for (int i = 0; i < 4; i++) {
		cr_assert_eq(o[i].finish[0], BB_FINISH_LENGTH);
		cr_assert_eq(o[i].usage.n_preempted, 0);
		expect_alone(engine, &p[i], 0, &o[i]);
		bb_request_release(o[i].request);
	}
	bb_scheduler_destroy(s);
}

/* The oldest has one place for itself: it goes on there, however many branches it has or will have,
 * and the other places are for who is urgent. Those behind it don't come between. */
static void urgent_beside_branches(int n_steps) {
	const struct bb_scheduler_params sp = { .max_running = 2, .max_step_tokens = 16 };
	struct bb_scheduler *s = new_scheduler(engine, &sp);
	struct outcome oldest = { 0 }, later = { 0 }, urgent = { 0 };
	struct bb_request_params p = request(engine, ids, 100, 20, 1);
	struct bb_request_params q = request(engine, ids + 9, 10, 5, 1);
	bool idle;
	p.n = 2;
	q.priority = -1;
	submit(s, p, &oldest);
	submit(s, request(engine, ids + 30, 10, 5, 1), &later);
	for (int i = 0; i < n_steps; i++) {
		step(s, &idle);
		cr_assert(!later.has_started);
	}
	submit(s, q, &urgent);
	step(s, &idle);
	cr_assert(urgent.has_started);
	while (!urgent.has_ended) {
		const int n_seen = s->requests->branches[0].n_seen;
		step(s, &idle);
		cr_assert_gt(s->requests->branches[0].n_seen, n_seen, "the oldest waits");
		cr_assert(!later.has_started);
	}
	run_all(s);
	expect_alone(engine, &p, 0, &oldest);
	expect_alone(engine, &p, 1, &oldest);
	expect_alone(engine, &q, 0, &urgent);
	bb_request_release(oldest.request);
	bb_request_release(later.request);
	bb_request_release(urgent.request);
	bb_scheduler_destroy(s);
}

Test(request, the_oldest_keeps_one_place_of_its_branches) {
	urgent_beside_branches(2); /* it reads its prompt */
	urgent_beside_branches(6); /* its branches part while the urgent one is there */
	urgent_beside_branches(10); /* both write */
}

Test(request, deadline) {
	const struct bb_scheduler_params sp = { .clock = virtual_clock };
	struct bb_scheduler *s = new_scheduler(engine, &sp);
	struct outcome o[2] = { 0 };
	bool idle;
	struct bb_request_params p = request(engine, ids, 20, 50, 1);
	submit(s, p, &o[1]);
	p.deadline_ms = 250;
	submit(s, p, &o[0]);
	for (int i = 0; i < 5; i++) {
		step(s, &idle);
		virtual_now += 0.051;
	}
	cr_assert(o[0].n_ids[0] > 0 && !o[0].has_ended);
	step(s, &idle);
	cr_assert(o[0].has_ended && o[0].finish[0] == BB_FINISH_DEADLINE);
	run_all(s);
	cr_assert_eq(o[1].finish[0], BB_FINISH_LENGTH);
	cr_assert_float_eq(o[0].usage.queued_s, 0, 1e-9);
	bb_request_release(o[0].request);
	bb_request_release(o[1].request);
	bb_scheduler_destroy(s);
}

/* Whoever is paused takes no part, gives way where room is short, and gets the same answer. */
static void check_paused(const struct bb_scheduler_params *sp, bool gives_way) {
	struct bb_scheduler *s = new_scheduler(engine, sp);
	struct outcome o[3] = { 0 };
	struct bb_request_params p[3];
	bool idle;
	for (int i = 0; i < 3; i++) { /* the last one begins as the first does */
		p[i] = request(engine, ids + i % 2, 100, 30, 1);
		p[i].n = i == 0 ? 2 : 1;
	}
	submit(s, p[0], &o[0]);
	submit(s, p[1], &o[1]);
	while (o[0].n_ids[1] < 3) {
		step(s, &idle);
	}
	const int n = o[0].n_ids[0];
	bb_request_pause(o[0].request, true);
	submit(s, p[2], &o[2]);
	for (int i = 0; i < 1000 && !(o[1].has_ended && o[2].has_ended); i++) {
		step(s, &idle);
	}
	cr_assert(o[1].has_ended && o[2].has_ended, "a paused request held up the others");
	cr_assert_eq(o[0].n_ids[0], n);
	step(s, &idle);
	cr_assert(idle);
	double start = base_seconds();
	cr_assert(bb_scheduler_wait(s, 0.05) && base_seconds() - start > 0.04);
	bb_request_pause(o[0].request, false);
	start = base_seconds();
	cr_assert(bb_scheduler_wait(s, 60), "nobody would take the step that sees it");
	cr_assert_lt(base_seconds() - start, 30); /* was woken at once */
	run_all(s);
	cr_assert_eq(o[0].usage.n_preempted > 0, gives_way);
	for (int i = 0; i < 3; i++) {
		for (int k = 0; k < p[i].n; k++) {
			expect_alone(engine, &p[i], k, &o[i]);
		}
		bb_request_release(o[i].request);
	}
	bb_scheduler_destroy(s);
}

Test(request, paused) {
	check_paused(NULL, false);
}

Test(request, paused_ones_give_way) {
	const struct bb_scheduler_params tight = { .max_running = 3 };
	check_paused(&tight, true);
	const struct bb_scheduler_params no_swap = { .max_running = 3, .max_swap_bytes = BB_SWAP_NONE };
	check_paused(&no_swap, true);
}

Test(request, full_queue) {
	const struct bb_scheduler_params sp = { .max_waiting = 2 };
	struct bb_scheduler *s = new_scheduler(engine, &sp);
	struct outcome o[3] = { 0 };
	struct bb_request_params p = request(engine, ids, 20, 5, 1);
	struct bb_error err = { 0 };
	submit(s, p, &o[0]);
	submit(s, p, &o[1]);
	p.event = on_event;
	p.user = &o[2];
	cr_assert(!bb_request_submit(&o[2].request, s, &p, &err));
	cr_assert(err.code == BB_ERR_BUSY && o[2].request == NULL);
	cr_assert_str_eq(err.text, "the queue is full: 2 of at most 2 requests wait");
	run_all(s);
	submit(s, p, &o[2]);
	run_all(s);
	cr_assert(o[2].has_ended);
	struct bb_scheduler_stats stats;
	bb_scheduler_stats(s, &stats);
	cr_assert(stats.n_refused == 1 && stats.n_finished == 3 && stats.n_waiting == 0);
	for (int i = 0; i < 3; i++) {
		bb_request_release(o[i].request);
	}
	bb_scheduler_destroy(s);
}

static void expect_refused(struct bb_scheduler *s, const struct bb_request_params *p,
	enum bb_code code, const char *text) {
	struct bb_request_params q = *p;
	struct bb_request *r;
	struct bb_error err = { 0 };
	q.event = on_event;
	cr_assert(!bb_request_submit(&r, s, &q, &err) && r == NULL);
	cr_assert_eq(err.code, code, "%s", err.text);
	cr_assert(strstr(err.text, text) != NULL, "%s", err.text);
}

Test(request, refused) {
	struct bb_scheduler *s = new_scheduler(engine, NULL);
	struct bb_request_params p = request(engine, ids, 20, 5, 1), q = p;
	static int32_t many[512];
	const struct bb_segment_mark marks[2] = { { 3, BB_ROLE_USER }, { 3, BB_ROLE_USER } };
	const char *const empty[] = { "" };
	const int32_t wrong[] = { 1, 1 << 30 };
	q.prompt = many;
	q.n_prompt = 512;
	expect_refused(s, &q, BB_ERR_CONTEXT, "the prompt has 512 tokens, and contexts hold at most");
	q = p;
	q.n = 65;
	expect_refused(s, &q, BB_ERR_USAGE, "n is 65, expected 1 to 64");
	q = p;
	q.generation.max_tokens = 0;
	expect_refused(s, &q, BB_ERR_USAGE, "max_tokens is 0");
	q = p;
	q.segments = marks;
	q.n_segments = 2;
	expect_refused(s, &q, BB_ERR_USAGE, "segment 1 begins at token 3, expected 4 to 20");
	q = p;
	q.generation.stop = empty;
	q.generation.n_stop = 1;
	expect_refused(s, &q, BB_ERR_USAGE, "stop string 1 is empty");
	q = p;
	q.n_prompt_logprobs = 21;
	expect_refused(s, &q, BB_ERR_USAGE, "prompt_logprobs is 21");
	q = p;
	q.deadline_ms = -1;
	expect_refused(s, &q, BB_ERR_USAGE, "the deadline is in -1 ms");
	q = p;
	q.prompt = wrong;
	q.n_prompt = 2;
	expect_refused(s, &q, BB_ERR_INPUT, "token id 1073741824 at index 1");
	bb_scheduler_destroy(s);
}

Test(request, what_can_t_ever_fit) {
	struct bb_engine_params params = { .path = tiny_path("llama"), .max_model_len = 512 };
	params.max_kv_bytes = bytes_of(&params, 256, 0);
	struct bb_engine *e = open_with(&params);
	struct bb_scheduler *s = new_scheduler(e, NULL);
	struct bb_request_params p = request(e, ids, 300, 5, 1);
	expect_refused(s, &p, BB_ERR_CONTEXT, "the prompt has 300 tokens, and the KV cache of");
	/* one that fits ends where the cache does */
	struct outcome o = { 0 };
	submit(s, request(e, ids, 150, -1, 1), &o);
	run_all(s);
	cr_assert(o.finish[0] == BB_FINISH_CONTEXT && o.n_ids[0] > 20);
	bb_request_release(o.request);
	bb_scheduler_destroy(s);
	bb_engine_destroy(e);
}

Test(request, prompt_logprobs) {
	struct bb_scheduler *s = new_scheduler(engine, NULL);
	struct outcome o = { 0 };
	struct bb_request_params p = request(engine, ids, 70, 5, 1);
	p.n_prompt_logprobs = 2;
	p.n = 2;
	submit(s, p, &o);
	run_all(s);
	cr_assert_eq(o.n_prompt_events, 69);
	const int n_vocab = vocab_of(engine);
	float *logits = malloc(70 * (size_t)n_vocab * sizeof(float));
	struct bb_context *c = new_context(engine);
	feed(c, engine, ids, 70, logits);
	double sum = 0;
	for (int t = 0; t < 69; t++) {
		const float *row = logits + (size_t)t * (size_t)n_vocab;
		double total = 0;
		for (int i = 0; i < n_vocab; i++) {
			total += exp((double)row[i]);
		}
		sum += (double)row[ids[t + 1]] - log(total);
	}
	cr_assert_float_eq(o.prompt_logprob, sum, 1e-3, "%g, expected %g", o.prompt_logprob, sum);
	expect_alone(engine, &p, 0, &o);
	expect_alone(engine, &p, 1, &o);
	free(logits);
	bb_context_destroy(c);
	bb_request_release(o.request);
	bb_scheduler_destroy(s);
}

/* A prompt that begins like one that is being read is read once. */
Test(request, common_beginning_is_read_once) {
	const struct bb_scheduler_params sp = { .max_step_tokens = 64 };
	struct bb_scheduler *s = new_scheduler(engine, &sp);
	struct outcome o[4] = { 0 };
	int32_t other[MAX_PROMPT];
	memcpy(other, ids, sizeof(other));
	other[190] ^= 1;
	bool idle;
	struct bb_request_params p = request(engine, ids, 200, 5, 1), q = p;
	submit(s, p, &o[0]);
	step(s, &idle);
	q.prompt = other;
	submit(s, q, &o[1]);
	q.cache_salt = "someone else's";
	submit(s, q, &o[2]);
	run_all(s);
	cr_assert_eq(o[1].usage.n_cached, 190);
	cr_assert_eq(o[2].usage.n_cached, 0);
	struct bb_scheduler_stats stats;
	bb_scheduler_stats(s, &stats);
	cr_assert_eq(stats.n_prompt_tokens, 200 + 10 + 200);
	expect_alone(engine, &p, 0, &o[0]);
	expect_alone(engine, &q, 0, &o[1]);
	for (int i = 0; i < 3; i++) {
		bb_request_release(o[i].request);
	}
	bb_scheduler_destroy(s);
}

Test(request, destroyed_with_all_it_had) {
	struct bb_scheduler *s = new_scheduler(engine, NULL);
	struct outcome o[2] = { 0 };
	bool idle;
	submit(s, request(engine, ids, 100, 50, 1), &o[0]);
	step(s, &idle);
	step(s, &idle);
	submit(s, request(engine, ids, 100, 50, 1), &o[1]);
	bb_scheduler_destroy(s);
	for (int i = 0; i < 2; i++) {
		cr_assert(o[i].has_ended && o[i].finish[0] == BB_FINISH_CANCELLED);
		bb_request_cancel(o[i].request);
		bb_request_release(o[i].request);
	}
	cr_assert_eq(engine->n_contexts, 0);
}

/* Whichever allocation fails, requests end, alone or well, and nothing is left. */
Test(request, failing_allocations, .timeout = 200) {
	struct bb_request_params p[3];
	static struct outcome o[3], alone;
	for (int i = 0; i < 3; i++) {
		p[i] = request(engine, ids + i, 90, 12, 1);
		p[i].n = i == 1 ? 2 : 1;
	}
	bool failed_any = false, all_well = false;
	for (long n = 1; !all_well; n += n < 60 ? 1 : 7) {
		struct bb_scheduler *s = new_scheduler(engine, NULL);
		struct bb_error err = { 0 };
		memset(o, 0, sizeof(o));
		base_fail_alloc_at(n);
		all_well = true;
		for (int i = 0; i < 3; i++) {
			p[i].event = on_event;
			p[i].user = &o[i];
			if (!bb_request_submit(&o[i].request, s, &p[i], &err)) {
				cr_assert_eq(err.code, BB_ERR_MEMORY, "%s", err.text);
				all_well = false;
			}
		}
		run_all(s);
		for (int i = 0; i < 3; i++) {
			cr_assert(o[i].request == NULL || o[i].has_ended);
			cr_assert(o[i].error.code == BB_OK || o[i].error.code == BB_ERR_MEMORY, "%s",
				o[i].error.text);
			all_well = all_well && o[i].error.code == BB_OK;
			bb_request_release(o[i].request);
		}
		struct bb_scheduler_stats stats;
		bb_scheduler_stats(s, &stats);
		all_well = all_well && stats.n_dropped + stats.n_swapped == 0;
		failed_any = failed_any || !all_well;
		base_fail_alloc_at(0);
		for (int i = 0; i < 3; i++) {
			if (o[i].request != NULL && o[i].error.code == BB_OK) {
				alone = o[i];
				expect_alone(engine, &p[i], 0, &alone);
			}
		}
		bb_scheduler_destroy(s);
		cr_assert_eq(engine->n_contexts, 0);
		cr_assert_eq(engine_used_bytes(engine).all, 0);
	}
	cr_assert(failed_any);
}

/* Tiny llama, whose token `id` has a NaN in its embedding. */
static const char *with_bad_token(int id) {
	static char path[64];
	struct gguf g;
	struct bb_error err = { 0 };
	cr_assert(gguf_open(&g, tiny_path("llama"), &err), "%s", err.text);
	const struct bb_tensor *t = gguf_tensor(&g, "token_embd.weight");
	cr_assert(t != NULL && t->type == BB_F32);
	struct base_file file;
	cr_assert(base_file_open(&file, tiny_path("llama"), &err), "%s", err.text);
	char *copy = malloc(file.bytes);
	memcpy(copy, file.data, file.bytes);
	const size_t row = 48 * sizeof(float);
	char *at = memmem(copy, file.bytes, (const char *)t->data + (size_t)id * row, row);
	cr_assert_not_null(at);
	const float bad = NAN;
	memcpy(at, &bad, sizeof(bad));
	snprintf(path, sizeof(path), "/tmp/bobbin-requests-%d.gguf", (int)getpid());
	FILE *out = fopen(path, "wb");
	cr_assert(out != NULL && fwrite(copy, 1, file.bytes, out) == file.bytes && fclose(out) == 0);
	free(copy);
	base_file_close(&file);
	gguf_finish(&g);
	return path;
}

/* What goes wrong for one request is told to it alone. */
Test(request, logits_that_are_not_finite_fail_their_request) {
	const struct bb_engine_params params = { .path = with_bad_token(9), .max_model_len = 512 };
	struct bb_engine *e = open_with(&params);
	struct bb_scheduler *s = new_scheduler(e, NULL);
	struct outcome o[3] = { 0 };
	int32_t prompts[3][20];
	struct bb_request_params p[3];
	for (int i = 0; i < 3; i++) {
		for (int k = 0; k < 20; k++) {
			prompts[i][k] = 10 + i + k;
		}
		prompts[1][19] = 9;
		p[i] = request(e, prompts[i], 20, 10, 1);
		p[i].generation.sampling.logit_bias = (const struct bb_logit_bias[]){ { 9, -100 } };
		p[i].generation.sampling.n_logit_bias = 1;
		submit(s, p[i], &o[i]);
	}
	run_all(s);
	cr_assert_eq(o[1].error.code, BB_ERR_FORMAT);
	cr_assert_not_null(strstr(o[1].error.text, "expected finite logits after token 19"));
	cr_assert(o[1].has_ended && o[1].n_tokens == 0);
	expect_alone(e, &p[0], 0, &o[0]);
	expect_alone(e, &p[2], 0, &o[2]);
	for (int i = 0; i < 3; i++) {
		bb_request_release(o[i].request);
	}
	bb_scheduler_destroy(s);
	bb_engine_destroy(e);
	unlink(params.path);
}

/* ---- threads ---- */

enum { N_THREADS = 4, N_EACH = 40 };

static struct bb_scheduler *shared;
static atomic_int n_ended;

static void count_end(void *user, const struct bb_event *event) {
	(void)user;
	if (event->usage != NULL) {
		atomic_fetch_add(&n_ended, 1);
	}
}

static void *submit_many(void *user) {
	uint32_t random = (uint32_t)(uintptr_t)user;
	for (int i = 0; i < N_EACH; i++) {
		struct bb_request_params p = request(engine, ids + i, 40, 10, random);
		struct bb_request *r;
		struct bb_error err = { 0 };
		struct bb_scheduler_stats stats;
		struct bb_request_info infos[8];
		p.event = count_end;
		cr_assert(bb_request_submit(&r, shared, &p, &err), "%s", err.text);
		if (mixed_random(&random) % 3 == 0) {
			bb_request_cancel(r);
		}
		bb_request_release(r);
		bb_scheduler_stats(shared, &stats);
		bb_scheduler_requests(shared, infos, 8);
	}
	return NULL;
}

Test(request, threads, .timeout = 60) {
	pthread_t threads[N_THREADS];
	bool idle;
	shared = new_scheduler(engine, NULL);
	for (uintptr_t i = 0; i < N_THREADS; i++) {
		cr_assert(pthread_create(&threads[i], NULL, submit_many, (void *)(i + 1)) == 0);
	}
	while (atomic_load(&n_ended) < N_THREADS * N_EACH) {
		if (bb_scheduler_wait(shared, 1)) {
			step(shared, &idle);
		}
	}
	for (int i = 0; i < N_THREADS; i++) {
		pthread_join(threads[i], NULL);
	}
	struct bb_scheduler_stats stats;
	bb_scheduler_stats(shared, &stats);
	cr_assert_eq(stats.n_finished + stats.n_cancelled, N_THREADS * N_EACH);
	cr_assert(!bb_scheduler_wait(shared, 0));
	bb_scheduler_destroy(shared);
}

/* ---- the prefix cache ---- */

/* Turns of a conversation: each prompt is the one before, its answer, and something new. What was
 * computed for one isn't computed again for the next, and the answers stay the same. */
static void check_turns(const char *name, int n_tokens) {
	struct bb_engine_params params = { .path = tiny_path(name), .max_model_len = 1024 };
	struct bb_engine *other = open_with(&params);
	params.max_kv_bytes = n_tokens > 0 ? bytes_of(&params, n_tokens, 6) : 0;
	struct bb_engine *e = open_with(&params);
	const struct bb_scheduler_params sp = { .prefix_cache_bytes = params.max_kv_bytes };
	struct bb_scheduler *s = new_scheduler(e, &sp);
	static int32_t prompt[1024];
	int n = 0, n_again = 0;
	for (int turn = 0; turn < 6; turn++) {
		static struct outcome o;
		struct bb_segment_mark marks[2];
		const int n_before = n;
		memset(&o, 0, sizeof(o));
		make_ids(prompt + n, 50, vocab_of(e), turn + 1);
		marks[0] = (struct bb_segment_mark){ n, BB_ROLE_USER };
		n += 50;
		marks[1] = (struct bb_segment_mark){ n, BB_ROLE_ASSISTANT };
		struct bb_request_params p = request(e, prompt, n, 20, 1);
		p.conversation = "talk";
		p.segments = marks;
		p.n_segments = 2;
		submit(s, p, &o);
		run_all(s);
		cr_assert_eq(o.finish[0], BB_FINISH_LENGTH, "%s", o.error.text);
		/* all but the token drawn last, which no step has read */
		cr_assert(turn == 0 || o.usage.n_cached >= n_before - 1, "turn %d: %d of %d cached", turn,
			o.usage.n_cached, n_before);
		n_again += n_before - o.usage.n_cached;
		expect_alone(other, &p, 0, &o);
		memcpy(prompt + n, o.ids[0], 20 * sizeof(int32_t));
		n += 20;
		bb_request_release(o.request);
	}
	cr_assert_leq(n_again, 5);
	bb_scheduler_destroy(s);
	bb_engine_destroy(other);
	bb_engine_destroy(e);
}

Test(prefixes, llama) {
	check_turns("llama", 0);
	check_turns("llama", 520); /* where a new prompt and the old one don't fit side by side */
}

Test(prefixes, mamba2) {
	check_turns("mamba2", 0);
}

Test(prefixes, falcon_h1) {
	check_turns("falcon-h1", 0);
}

Test(prefixes, gemma3) {
	check_turns("gemma3", 0);
}
