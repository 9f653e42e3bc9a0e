/* SPDX-License-Identifier: Apache-2.0
 *
 * Requests of several answers, and of probes, from their other sides: what probes say and leave
 * behind, who leaves in the middle, allocations that fail, settings that contradict themselves, and
 * all policies at random beside each other. On tiny models. */
#include "heard.h"

/* ---- probes ---- */

/* Token 5 ends thinking, which the texts never do by themselves. */
static struct bb_effort probing(int stable) {
	return (struct bb_effort){ .thinking = { .starts_inside = true, .end = "5" },
		.answer_pattern = "number", .probe_every = 2, .probe_tokens = 3, .probe_stable = stable,
		.probe_text = "21 22" };
}

static void check_probes(const struct room *room) {
	static struct heard all, h;
	const struct bb_effort often = probing(1), never = probing(50);
	open_tiny(room->model, room->n_tokens, room->n_contexts);
	struct bb_request_params p = ask(3, NULL);
	p.n = N;
	run_one(&p, &all);
	p.effort = &never;
	run_one(&p, &h);
	for (int i = 0; i < N; i++) {
		expect_same_tokens(&all, &h, i, LENGTH);
	}
	cr_assert_eq(n_of_kind(&h, BB_DECISION_PROBE), 2 * N); /* behind 2 and 4 tokens */
	cr_assert_eq(h.usage.n_probe_tokens, 2 * N * 3);
	cr_assert_eq(h.usage.n_output, N * LENGTH);
	p.effort = &often;
	run_one(&p, &h);
	cr_assert_eq(n_of_kind(&h, BB_DECISION_CLOSE), N);
	for (int i = 0; i < N; i++) {
		cr_assert(h.ids[i][0] == all.ids[i][0] && h.ids[i][1] == all.ids[i][1]);
		cr_assert_eq(h.ids[i][2], 5, "branch %d goes on with %d", i, h.ids[i][2]);
	}
	cr_assert_eq(h.usage.n_thinking, 2 * N);
	bb_engine_destroy(engine);
}

Test(probes, close_thinking_when_the_answer_stands) {
	check_probes(&(struct room){ "llama" });
	check_probes(&(struct room){ "llama", .n_tokens = 320 });
	check_probes(&(struct room){ "mamba2" });
	check_probes(&(struct room){ "mamba2", .n_contexts = 4 });
	check_probes(&(struct room){ "falcon-h1", .n_tokens = 512, .n_contexts = 5 });
}

/* What a fork says counts, not what it's asked; it closes nothing that was extended meanwhile. */
Test(probes, have_an_answer_of_their_own) {
	open_tiny("llama", 0, 0);
	static const struct {
		const char *pattern, *text, *says;
		bool closes;
	} cases[] = {
		{ "number", "21 22", " 12", true }, { "number", "21 22", "", false },
		{ "number", "21 22", " so\n12", false }, { "line", "21 22", " ", false },
		{ "line", "21 22", " it's 3\n", true }, { "boxed", "5 \\boxed{", "4}", true },
	};
	for (size_t i = 0; i < COUNT(cases); i++) {
		struct bb_effort effort = probing(1);
		struct effort_wish wish = { 0 };
		struct bb_error err = { 0 };
		struct effort *f;
		effort.answer_pattern = cases[i].pattern;
		cr_assert(effort_create(&f, engine, &effort, 1, &err), "%s", err.text);
		base_free((void *)(uintptr_t)f->params.probe_text); /* the model has no words */
		f->params.probe_text = base_strdup(cases[i].text);
		const struct effort_policy *p = effort_policy_find("probe");
		const size_t n = strlen(cases[i].says);
		cr_assert(p->probed(f->branches, cases[i].says, n, &wish, &err), "%s", err.text);
		cr_assert_eq(wish.close, cases[i].closes, "\"%s\" behind \"%s\"", cases[i].says,
			cases[i].text);
		effort_change(f->branches, true, 5);
		wish.close = false;
		cr_assert(p->probed(f->branches, cases[i].says, n, &wish, &err), "%s", err.text);
		cr_assert_not(wish.close);
		effort_destroy(f);
	}
	bb_engine_destroy(engine);
}

/* What is kept for later requests, and takes memory, is what it is without probes. */
static void check_no_trace(const char *model) {
	static struct heard h;
	const struct bb_effort never = probing(50);
	struct prefix_stats stats[2];
	struct used_bytes used[2];
	for (int i = 0; i < 2; i++) {
		open_tiny(model, 0, 0);
		struct bb_scheduler *s = new_scheduler(engine, NULL);
		submit_heard(s, ask(3, i == 0 ? NULL : &never), &h);
		run_all(s);
		cr_assert_eq(h.usage.n_probe_tokens, i * 2 * N * 3);
		prefix_stats(s->prefix, &stats[i]);
		used[i] = engine_used_bytes(engine);
		bb_scheduler_destroy(s);
		bb_request_release(h.request);
		bb_engine_destroy(engine);
	}
	cr_assert(stats[0].n_contexts == stats[1].n_contexts && stats[0].n_kept == stats[1].n_kept &&
		stats[0].bytes == stats[1].bytes, "%d contexts of %zu bytes, with probes %d of %zu",
		stats[0].n_contexts, stats[0].bytes, stats[1].n_contexts, stats[1].bytes);
	cr_assert(used[0].live == used[1].live && used[0].all == used[1].all);
}

Test(probes, leave_nothing_behind) {
	check_no_trace("llama");
	check_no_trace("mamba2");
	check_no_trace("falcon-h1");
}

Test(probes, on_a_device, .timeout = 300) {
	device = test_device();
	check_probes(&(struct room){ "llama", .n_tokens = 320 });
	check_probes(&(struct room){ "falcon-h1" });
}

/* ---- who leaves, and what fails ---- */

static double virtual_clock(void *user) {
	return *(const double *)user;
}

/* Of the answers that were whole by then one is chosen. */
Test(leaving, at_the_deadline) {
	static struct heard h;
	double now = 1;
	open_tiny("llama", 0, 0);
	const struct bb_scheduler_params sp = { .clock = virtual_clock, .clock_user = &now };
	struct bb_scheduler *s = new_scheduler(engine, &sp);
	const struct bb_effort effort = consensus_of(0.99);
	struct bb_request_params p = ask(7, &effort);
	bool idle;
	p.deadline_ms = 1000;
	submit_heard(s, p, &h);
	while (n_of_kind(&h, BB_DECISION_START) == 0) {
		step(s, &idle);
	}
	const int n_whole = h.n_finished;
	step(s, &idle);
	now = 3;
	step(s, &idle);
	cr_assert(h.has_ended && n_whole >= 6 && n_whole < N);
	for (int i = 0; i < N; i++) {
		cr_assert_eq(h.finish[i], i < n_whole ? BB_FINISH_LENGTH : BB_FINISH_DEADLINE);
	}
	cr_assert_lt(one_of_kind(&h, BB_DECISION_CHOOSE)->branch, n_whole);
	bb_request_release(h.request);
	bb_scheduler_destroy(s);
	bb_engine_destroy(engine);
}

static struct bb_effort all_at_once(void) {
	struct bb_effort effort = probing(2);
	effort.choice = BB_CHOICE_WEIGHTED;
	effort.consensus = 0.95;
	effort.n_warmup = 6;
	effort.group = 3;
	return effort;
}

/* Whoever of 16 branches has said whatever when the client leaves, all is free in the next step. */
Test(leaving, in_the_middle) {
	static const char *const models[] = { "llama", "mamba2", "falcon-h1" };
	const struct bb_effort efforts[] = { consensus_of(0.99), all_at_once(),
		{ .choice = BB_CHOICE_CERTAINTY } };
	static struct heard h;
	for (size_t k = 0; k < COUNT(models); k++) {
		open_tiny(models[k], 0, 0);
		for (int at = 1; at < 60; at += 7) {
			const struct bb_scheduler_params sp = { .no_prefix_cache = true };
			struct bb_scheduler *s = new_scheduler(engine, &sp);
			struct bb_request_params p = ask(3, &efforts[at % 3]);
			bool idle = false;
			submit_heard(s, p, &h);
			while (h.n_tokens < at && !h.has_ended) {
				step(s, &idle);
			}
			bb_request_cancel(h.request);
			step(s, &idle);
			cr_assert(h.has_ended && h.n_finished == N, "%d of %d", h.n_finished, N);
			cr_assert_eq(engine->n_contexts, 0);
			cr_assert_eq(engine_used_bytes(engine).all, 0);
			bb_scheduler_destroy(s);
			bb_request_release(h.request);
		}
		bb_engine_destroy(engine);
	}
}

/* Whichever allocation fails, the request ends, well or with a sentence, and nothing is left. */
static void check_failures(const char *model, const struct bb_effort *effort) {
	static struct heard all, h;
	open_tiny(model, 0, 0);
	struct bb_request_params p = ask(3, effort);
	run_one(&p, &all);
	bool has_failed = true, failed_any = false;
	for (long n = 1; has_failed; n += n < 300 ? 3 : 17) {
		struct bb_scheduler *s = new_scheduler(engine, NULL);
		struct bb_error err = { 0 };
		const long before = base_count_allocs();
		memset(&h, 0, sizeof(h));
		p.user = &h;
		base_fail_alloc_at(n);
		if (bb_request_submit(&h.request, s, &p, &err)) {
			run_all(s);
		}
		has_failed = base_count_allocs() - before >= n;
		base_fail_alloc_at(0);
		cr_assert(h.request != NULL || err.code == BB_ERR_MEMORY, "%s", err.text);
		cr_assert(h.request == NULL || h.has_ended);
		cr_assert(h.error.code == BB_OK || h.error.code == BB_ERR_MEMORY, "%s", h.error.text);
		failed_any = failed_any || err.code != BB_OK || h.error.code != BB_OK;
		if (h.request != NULL && h.error.code == BB_OK) {
			cr_assert_eq(h.usage.n_branches, all.usage.n_branches, "allocation %ld", n);
			for (int i = 0; i < N; i++) {
				expect_same_tokens(&all, &h, i, all.n_ids[i]);
			}
		}
		bb_request_release(h.request);
		bb_scheduler_destroy(s);
		cr_assert_eq(engine->n_contexts, 0);
		cr_assert_eq(engine_used_bytes(engine).all, 0);
	}
	cr_assert(failed_any);
	bb_engine_destroy(engine);
}

Test(leaving, failing_allocations, .timeout = 200) {
	const struct bb_effort effort = all_at_once();
	check_failures("llama", &effort);
	check_failures("falcon-h1", &effort);
}

/* ---- what is refused ---- */

Test(refused, settings_that_contradict_themselves) {
	static const struct {
		struct bb_effort effort;
		int n;
		const char *why;
	} cases[] = {
		{ { .consensus = 0.9 }, 4, "answer_pattern" },
		{ { .consensus = 0.5, .answer_pattern = "number" }, 4, "more than 0.5" },
		{ { .consensus = 1, .answer_pattern = "number" }, 4, "less than 1" },
		{ { .consensus = NAN, .answer_pattern = "number" }, 4, "less than 1" },
		{ { .consensus = 0.9, .answer_pattern = "number" }, 1, "n of 2" },
		{ { .choice = BB_CHOICE_VOTE }, 4, "answer_pattern" },
		{ { .choice = BB_CHOICE_CERTAINTY, .n_given = 5 }, 4, "n_given" },
		{ { .n_given = 1 }, 4, "n_given" },
		{ { .choice = (enum bb_choice)9 }, 4, "choice" },
		{ { .n_warmup = 4, .answer_pattern = "number" }, 4, "n_warmup" },
		{ { .n_warmup = -1 }, 4, "n_warmup" },
		{ { .n_warmup = 2 }, 4, "answer_pattern" },
		{ { .n_warmup = 2, .answer_pattern = "number", .keep = 2 }, 4, "keep" },
		{ { .n_warmup = 2, .answer_pattern = "number", .conf_share = -1 }, 4, "conf_share" },
		{ { .n_warmup = 2, .answer_pattern = "number", .group = -1 }, 4, "group" },
		{ { .probe_every = 4, .answer_pattern = "number" }, 1, "thinking" },
		{ { .probe_every = 4, .thinking.end = "5" }, 1, "answer_pattern" },
		{ { .probe_every = -1 }, 1, "probe_every" },
		{ { .probe_tokens = -1 }, 1, "probe_tokens" },
		{ { .probe_every = 4, .thinking.end = "5", .answer_pattern = "number", .probe_text = "" },
			1, "probe_text" },
		{ { .answer_pattern = "(" }, 1, "regular expression" },
		{ { .answer_pattern = "" }, 1, "empty" },
	};
	open_tiny("llama", 0, 0);
	for (size_t i = 0; i < COUNT(cases); i++) {
		struct bb_error err = { 0 };
		cr_expect_not(bb_effort_check(engine, &cases[i].effort, cases[i].n, 20, &err), "case %zu",
			i);
		cr_expect(err.code == BB_ERR_USAGE || err.code == BB_ERR_INPUT);
		cr_expect_not_null(strstr(err.text, cases[i].why), "case %zu: %s", i, err.text);
	}
	bb_engine_destroy(engine);
}

/* ---- all of them at random ---- */

static uint32_t random_state = 1;

static int random_below(int n) {
	return (int)(mixed_random(&random_state) % (uint32_t)n);
}

static void random_effort(struct bb_effort *e) {
	static const char *const patterns[] = { "number", "line", "(\\d)", "never", "(1+)+$" };
	memset(e, 0, sizeof(*e));
	if (random_below(3) > 0) {
		e->thinking = (struct bb_thinking){ .starts_inside = random_below(2) == 0,
			.begin = random_below(2) == 0 ? "12" : NULL,
			.end = random_below(2) == 0 ? "13" : "13 11",
			.extension = random_below(2) == 0 ? "11 12" : NULL };
		e->has_budget = random_below(2) == 0;
		e->max_thinking = random_below(LENGTH + 2);
		e->min_thinking = random_below(3) == 0 ? random_below(4) : 0;
		e->probe_every = random_below(2) * (1 + random_below(4));
		e->probe_tokens = random_below(4);
		e->probe_stable = random_below(3);
		e->probe_text = "21 22";
	}
	e->answer_pattern = random_below(4) > 0 ? patterns[random_below((int)COUNT(patterns))] : NULL;
	e->choice = (enum bb_choice)random_below(4);
	e->consensus = random_below(2) == 0 ? 0.6 + 0.39 * random_below(100) / 100 : 0;
	e->n_warmup = random_below(2) * random_below(8);
	e->group = random_below(5);
	e->keep = random_below(10) / 10.0;
}

static void expect_ended(const struct bb_request_params *p, const struct heard *h) {
	const struct bb_effort *e = p->effort;
	int n_begun = 0;
	cr_assert(h->has_ended && h->error.code == BB_OK, "%s", h->error.text);
	cr_assert_eq(h->n_finished, p->n);
	for (int i = 0; i < p->n; i++) {
		n_begun += h->n_ids[i] > 0;
		cr_assert(h->n_ids[i] > 0 || h->finish[i] == BB_FINISH_DROPPED);
	}
	cr_assert_eq(h->usage.n_branches, n_begun);
	cr_assert(!e->has_budget || h->usage.n_thinking <= e->max_thinking * n_begun);
	cr_assert(e->choice == BB_CHOICE_ALL || n_of_kind(h, BB_DECISION_CHOOSE) == 1);
	cr_assert(e->probe_every > 0 || h->usage.n_probe_tokens == 0);
}

/* Whatever is combined ends, alone as beside others with little memory, with the same tokens. */
static void check_compositions(const char *model, int n_tokens, int n_contexts, int n_rounds) {
	static struct heard h[MOST_REQUESTS], alone;
	open_tiny(model, n_tokens, n_contexts);
	for (int round = 0; round < n_rounds; round++) {
		struct bb_effort efforts[MOST_REQUESTS];
		struct bb_request_params p[MOST_REQUESTS];
		struct bb_scheduler *s = new_scheduler(engine, NULL);
		for (int i = 0; i < MOST_REQUESTS;) {
			struct bb_error err = { 0 };
			random_effort(&efforts[i]);
			p[i] = ask((uint64_t)(round * MOST_REQUESTS + i), &efforts[i]);
			p[i].n = 1 + random_below(8);
			if (bb_effort_check(engine, &efforts[i], p[i].n, LENGTH, &err)) {
				submit_heard(s, p[i], &h[i]);
				i++;
			}
		}
		run_all(s);
		bb_scheduler_destroy(s);
		for (int i = 0; i < MOST_REQUESTS; i++) {
			expect_ended(&p[i], &h[i]);
			bb_request_release(h[i].request);
		}
		const int i = round % MOST_REQUESTS;
		run_one(&p[i], &alone);
		for (int k = 0; k < p[i].n; k++) {
			expect_same_tokens(&alone, &h[i], k, alone.n_ids[k]);
		}
		cr_assert_eq(alone.n_decisions, h[i].n_decisions);
	}
	bb_engine_destroy(engine);
}

Test(compositions, end, .timeout = 120) {
	check_compositions("llama", 320, 0, 60);
	check_compositions("mamba2", 0, 5, 30);
	check_compositions("falcon-h1", 512, 5, 35);
}
