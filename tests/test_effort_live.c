/* SPDX-License-Identifier: Apache-2.0
 *
 * How much thought requests get beside each other and while they run: the same as alone, whatever
 * is put aside; what is asked for meanwhile takes effect in the next step; what depended on the
 * load is done again by its decisions, with the same bits; everything ends. */
#include "efforts.h"
#include "mixed.h"

static double now;

static double virtual_clock(void *user) {
	(void)user;
	return now;
}

static void set_up(void) {
	efforts_open("llama");
	now = 100;
}

TestSuite(live, .init = set_up, .fini = efforts_close);

static bool is_same_decision(const struct bb_decision *a, const struct bb_decision *b) {
	return a->kind == b->kind && a->branch == b->branch && a->token == b->token &&
		strcmp(a->policy, b->policy) == 0 && a->is_load_dependent == b->is_load_dependent &&
		a->value == b->value && a->bar == b->bar && strcmp(a->why, b->why) == 0;
}

static void expect_same(const struct outcome *a, const struct outcome *b, int n) {
	for (int i = 0; i < n; i++) {
		cr_assert_eq(a->n_ids[i], b->n_ids[i], "branch %d: %d and %d tokens", i, a->n_ids[i],
			b->n_ids[i]);
		cr_assert_arr_eq(a->ids[i], b->ids[i], (size_t)a->n_ids[i] * sizeof(**a->ids));
		cr_assert_arr_eq(a->logprobs[i], b->logprobs[i],
			(size_t)a->n_ids[i] * sizeof(**a->logprobs));
		cr_assert_eq(a->finish[i], b->finish[i]);
		/* those of one branch, which come in their order */
		int k = 0;
		for (int j = 0; j < a->n_decisions; j++) {
			if (a->decisions[j].branch == i) {
				while (k < b->n_decisions && b->decisions[k].branch != i) {
					k++;
				}
				cr_assert(k < b->n_decisions && is_same_decision(&a->decisions[j],
					&b->decisions[k]), "branch %d, at token %d: %s", i, a->decisions[j].token,
					a->decisions[j].why);
				k++;
			}
		}
	}
	cr_assert_eq(a->n_decisions, b->n_decisions);
	cr_assert_eq(a->usage.n_thinking, b->usage.n_thinking);
	cr_assert_eq(a->usage.n_cot_steps, b->usage.n_cot_steps);
}

/* ---- beside others ---- */

enum { N_MIXED = 40 };

static void mix(int i, struct bb_effort *effort, struct bb_request_params *p) {
	static const int budgets[] = { 0, 1, 7, 64, 23 };
	const bool draws_end = i % 3 == 1;
	*effort = thinking();
	effort->has_budget = i % 4 != 3;
	effort->max_thinking = budgets[i % 5];
	effort->min_thinking = draws_end ? effort->has_budget ? effort->max_thinking / 2 : 9 : 0;
	effort->thinking.end = i % 7 == 0 ? "7 7" : "7";
	effort->thinking.closing = NULL;
	*p = thinker(effort, 40 + i % 50, (uint64_t)i);
	p->n_prompt = (size_t)(5 + i * 7 % 120);
	p->n = i % 6 == 5 ? 3 : 1;
	p->generation.sampling.frequency_penalty = i % 2 == 0 ? 0.3f : 0;
	p->generation.sampling.logit_bias = draws_end ? &always : &never;
}

static void check_beside(const char *model, int n_tokens, int n_contexts,
	enum pressure pressure) {
	static struct outcome o[N_MIXED], alone;
	struct bb_effort efforts[N_MIXED];
	struct bb_request_params p[N_MIXED];
	const struct bb_scheduler_params sp = { .max_running = 8, .max_step_tokens = 48,
		.max_swap_bytes = pressure == RECOMPUTES ? 1 : 0 };
	efforts_close();
	const struct bb_engine_params params = { .path = tiny_path(model), .n_threads = 1,
		.max_model_len = 512 };
	struct bb_engine_params tight = params;
	tight.max_kv_bytes = bytes_of(&params, n_tokens, n_contexts);
	engine = open_with(&tight);
	struct bb_scheduler *s = new_scheduler(engine, &sp);
	memset(o, 0, sizeof(o));
	bool idle;
	for (int i = 0; i < N_MIXED; i++) {
		mix(i, &efforts[i], &p[i]);
		p[i].priority = i % 3;
		submit(s, p[i], &o[i]);
		for (int k = 0; k < i % 4; k++) {
			step(s, &idle);
		}
	}
	run_all(s);
	struct bb_scheduler_stats stats;
	bb_scheduler_stats(s, &stats);
	cr_assert_gt(pressure == SWAPS ? stats.n_swapped : stats.n_dropped, 0, "nobody was put aside");
	bb_scheduler_destroy(s);
	for (int i = 0; i < N_MIXED; i++) {
		run_one(&p[i], &alone);
		expect_same(&o[i], &alone, p[i].n);
		cr_assert(!efforts[i].has_budget || alone.usage.n_thinking <=
			p[i].n * efforts[i].max_thinking);
		bb_request_release(o[i].request);
	}
}

Test(live, as_alone_when_copied_away, .timeout = 200) {
	check_beside("llama", 700, 0, SWAPS);
}

Test(live, as_alone_when_computed_again, .timeout = 200) {
	check_beside("llama", 700, 0, RECOMPUTES);
}

Test(live, as_alone_where_layers_have_states, .timeout = 200) {
	check_beside("mamba2", 0, 5, SWAPS);
	check_beside("falcon-h1", 700, 5, RECOMPUTES);
}

/* ---- controls, and replays of them ---- */

static void control(struct bb_request *r, enum bb_control_kind kind, int branch, int n) {
	const struct bb_control c = { kind, branch, n };
	struct bb_error err = { 0 };
	cr_assert(bb_request_control(r, &c, &err), "%s", err.text);
}

static void refuse(struct bb_request *r, enum bb_control_kind kind, int branch, int n,
	const char *word) {
	const struct bb_control c = { kind, branch, n };
	struct bb_error err = { 0 };
	cr_assert(!bb_request_control(r, &c, &err), "%s", word);
	cr_assert_eq(err.code, BB_ERR_USAGE);
	cr_assert_not_null(strstr(err.text, word), "%s: %s", word, err.text);
}

/* It's looked at between its tokens, so each step has one. */
static struct bb_request_params watched(const struct bb_effort *effort, int max_tokens,
	uint64_t seed) {
	struct bb_request_params p = thinker(effort, max_tokens, seed);
	p.no_speculation = true;
	return p;
}

static void step_until(struct bb_scheduler *s, const struct outcome *o, int branch, int n) {
	bool idle;
	while (o->n_ids[branch] < n) {
		step(s, &idle);
		cr_assert_not(idle);
	}
}

/* What o's decisions give when they are done again, as a request of its own. */
static void expect_replay(const struct bb_request_params *params, const struct outcome *o) {
	static struct outcome again;
	struct bb_effort effort = *params->effort;
	struct bb_request_params p = *params;
	effort.replays = true;
	effort.replay = o->decisions;
	effort.n_replay = o->n_decisions;
	p.effort = &effort;
	run_one(&p, &again);
	expect_same(o, &again, p.n > 0 ? p.n : 1);
}

Test(live, a_budget_changes_within_a_step) {
	static struct outcome o;
	struct bb_scheduler *s = new_scheduler(engine, NULL);
	struct bb_effort effort = thinking();
	effort.has_budget = true;
	effort.max_thinking = 50;
	struct bb_request_params p = watched(&effort, 100, 1);
	submit(s, p, &o);
	step_until(s, &o, 0, 10);
	control(o.request, BB_CONTROL_BUDGET, 0, 5);
	step_until(s, &o, 0, 11);
	cr_assert(o.is_forced[0][10] && o.ids[0][10] == END);
	run_all(s);
	cr_assert_eq(o.usage.n_thinking, 10);
	cr_assert_eq(o.n_decisions, 2);
	cr_assert(o.decisions[0].kind == BB_DECISION_BUDGET && o.decisions[0].value == 5);
	cr_assert_str_eq(o.decisions[0].policy, "control");
	cr_assert_str_eq(o.decisions[1].policy, "budget");
	expect_replay(&p, &o);
	bb_request_release(o.request);
	submit(s, p, memset(&o, 0, sizeof(o)));
	step_until(s, &o, 0, 10);
	control(o.request, BB_CONTROL_BUDGET, -1, 70); /* more than it was */
	run_all(s);
	cr_assert_eq(o.usage.n_thinking, 70);
	expect_replay(&p, &o);
	bb_request_release(o.request);
	bb_scheduler_destroy(s);
}

Test(live, closed_and_extended) {
	static struct outcome o;
	struct bb_scheduler *s = new_scheduler(engine, NULL);
	struct bb_effort effort = thinking();
	struct bb_request_params p = watched(&effort, 60, 1);
	submit(s, p, &o);
	control(o.request, BB_CONTROL_CLOSE, -1, 0); /* before the first step */
	run_all(s);
	cr_assert(o.usage.n_thinking == 0 && o.ids[0][0] == END && o.is_forced[0][0]);
	expect_replay(&p, &o);
	bb_request_release(o.request);

	submit(s, p, memset(&o, 0, sizeof(o)));
	step_until(s, &o, 0, 17);
	control(o.request, BB_CONTROL_CLOSE, 0, 0);
	run_all(s);
	cr_assert(o.usage.n_thinking == 17 && o.ids[0][17] == END && o.ids[0][18] == 1);
	expect_replay(&p, &o);
	bb_request_release(o.request);

	effort.thinking.extension = "3 4";
	p.generation.sampling.logit_bias = &always;
	p.generation.sampling.ignore_eos = true;
	submit(s, p, memset(&o, 0, sizeof(o)));
	control(o.request, BB_CONTROL_EXTEND, 0, 7);
	run_all(s);
	cr_assert_eq(o.usage.n_thinking, 8, "%d", o.usage.n_thinking);
	cr_assert_eq(o.n_decisions, 5);
	expect_replay(&p, &o);
	bb_request_release(o.request);
	bb_scheduler_destroy(s);
}

Test(live, branches_are_seen_and_dropped) {
	static struct outcome o, others;
	struct bb_branch_info infos[4];
	struct bb_scheduler *s = new_scheduler(engine, NULL);
	struct bb_effort effort = thinking();
	struct bb_request_params p = watched(&effort, 60, 1);
	p.n = 4;
	submit(s, p, &o);
	cr_assert_eq(bb_request_branches(o.request, infos, 4), 0);
	step_until(s, &o, 3, 10);
	cr_assert_eq(bb_request_branches(o.request, infos, 2), 4);
	cr_assert_eq(bb_request_branches(o.request, infos, 4), 4);
	for (int i = 0; i < 4; i++) {
		cr_assert(infos[i].index == i && infos[i].is_live && infos[i].is_thinking);
		cr_assert(infos[i].n_output == 10 && infos[i].n_thinking == 10);
		cr_assert(infos[i].max_thinking == -1 && infos[i].finish == BB_FINISH_NONE);
		cr_assert(infos[i].mean_logprob < 0 && infos[i].confidence > 0);
	}
	refuse(o.request, BB_CONTROL_FINISH, -1, 0, "whole");
	control(o.request, BB_CONTROL_DROP, 2, 0);
	control(o.request, BB_CONTROL_CLOSE, 1, 0);
	step_until(s, &o, 0, 14);
	cr_assert(o.finish[2] == BB_FINISH_DROPPED && o.n_ids[2] == 10);
	cr_assert_eq(bb_request_branches(o.request, infos, 4), 4);
	cr_assert(!infos[2].is_live && infos[2].finish == BB_FINISH_DROPPED);
	cr_assert(!infos[1].is_thinking && infos[1].n_thinking == 10);
	refuse(o.request, BB_CONTROL_CLOSE, 1, 0, "doesn't think any more");
	refuse(o.request, BB_CONTROL_CLOSE, 2, 0, "has ended");
	refuse(o.request, BB_CONTROL_DROP, -1, 0, "no branch -1");
	refuse(o.request, BB_CONTROL_DROP, 4, 0, "no branch 4");
	refuse(o.request, BB_CONTROL_BUDGET, 0, -1, "-1 tokens");
	refuse(o.request, BB_CONTROL_EXTEND, 0, 0, "0 tokens");
	control(o.request, BB_CONTROL_DROP, 0, 0);
	control(o.request, BB_CONTROL_DROP, 1, 0);
	control(o.request, BB_CONTROL_DROP, 3, 0); /* the last one stays, however fast they come */
	run_all(s);
	refuse(o.request, BB_CONTROL_DROP, 3, 0, "the request has ended");
	cr_assert_eq(bb_request_branches(o.request, infos, 4), 0);
	cr_assert(o.finish[3] == BB_FINISH_LENGTH && o.n_ids[3] == 60);
	cr_assert(o.usage.n_dropped == 3 && o.usage.n_branches == 4);
	expect_replay(&p, &o);
	p.effort = NULL; /* what was dropped is the beginning of what would have come */
	run_one(&p, &others);
	cr_assert_arr_eq(o.ids[2], others.ids[2], 10 * sizeof(int32_t));
	cr_assert_arr_eq(o.ids[3], others.ids[3], 60 * sizeof(int32_t));
	bb_request_release(o.request);
	struct bb_scheduler_stats stats;
	bb_scheduler_stats(s, &stats);
	cr_assert_eq(stats.n_finished, 1);
	bb_scheduler_destroy(s);
	cr_assert_eq(engine->n_contexts, 0);
}

/* A budget holds for those that begin later, too; nothing else can be asked of them. */
Test(live, branches_to_come) {
	static struct outcome o;
	struct bb_scheduler *s = new_scheduler(engine, NULL);
	struct bb_effort effort = thinking();
	effort.answer_pattern = "number";
	effort.consensus = 0.95; /* four votes at least */
	struct bb_request_params p = watched(&effort, 60, 1);
	p.n = 8;
	submit(s, p, &o);
	step_until(s, &o, 0, 10);
	refuse(o.request, BB_CONTROL_DROP, 4, 0, "hasn't begun");
	refuse(o.request, BB_CONTROL_CLOSE, 7, 0, "hasn't begun");
	refuse(o.request, BB_CONTROL_BUDGET, 4, 20, "hasn't begun");
	control(o.request, BB_CONTROL_BUDGET, -1, 20);
	run_all(s);
	cr_assert_gt(o.usage.n_branches, 4);
	cr_assert_eq(o.usage.n_thinking, 20 * o.usage.n_branches);
	for (int i = 0; i < o.usage.n_branches; i++) {
		cr_assert(o.ids[i][20] == END && o.is_forced[i][20], "branch %d", i);
	}
	expect_replay(&p, &o);
	bb_request_release(o.request);
	bb_scheduler_destroy(s);
}

/* What the end may begin with was thinking where it never came, in one that is dropped too. */
Test(live, thinking_of_who_is_dropped) {
	static struct outcome o;
	struct bb_scheduler *s = new_scheduler(engine, NULL);
	struct bb_effort effort = thinking();
	effort.thinking.end = effort.thinking.closing = "7 8";
	struct bb_request_params p = watched(&effort, 20, 1);
	p.n = 2;
	p.generation.sampling.logit_bias = &always;
	submit(s, p, &o);
	step_until(s, &o, 1, 10);
	control(o.request, BB_CONTROL_DROP, 1, 0);
	run_all(s);
	cr_assert(o.n_ids[0] == 20 && o.n_ids[1] == 10);
	cr_assert_eq(o.usage.n_thinking, 30);
	expect_replay(&p, &o);
	bb_request_release(o.request);
	bb_scheduler_destroy(s);
}

/* Also without an effort. */
Test(live, finished_with_what_is_whole) {
	static struct outcome o;
	struct bb_scheduler *s = new_scheduler(engine, NULL);
	struct bb_request_params p = watched(NULL, 60, 1);
	p.n = 3;
	submit(s, p, &o);
	step_until(s, &o, 0, 5);
	refuse(o.request, BB_CONTROL_CLOSE, -1, 0, "told apart");
	control(o.request, BB_CONTROL_DROP, 0, 0);
	step_until(s, &o, 1, 7);
	refuse(o.request, BB_CONTROL_FINISH, -1, 0, "whole"); /* who was dropped is no answer */
	run_all(s);
	cr_assert_eq(o.finish[0], BB_FINISH_DROPPED);
	bb_request_release(o.request);
	const int32_t stops[] = { o.ids[1][30] }; /* ends some branch before others */
	p.generation.stop_token_ids = stops;
	p.generation.n_stop_token_ids = 1;
	submit(s, p, memset(&o, 0, sizeof(o)));
	bool idle;
	while (o.finish[0] + o.finish[1] + o.finish[2] == 0) {
		step(s, &idle);
	}
	control(o.request, BB_CONTROL_FINISH, -1, 0);
	step(s, &idle);
	cr_assert(o.has_ended && o.usage.n_dropped > 0);
	cr_assert(o.decisions[0].kind == BB_DECISION_FINISH && o.decisions[0].branch == -1);
	cr_assert_eq(o.decisions[1].kind, BB_DECISION_DROP);
	bb_request_release(o.request);
	bb_scheduler_destroy(s);
}

/* ---- the clock ---- */

/* Steps take 50 ms: of a second for an answer of 6 tokens, the closing and a quarter more. */
Test(live, an_answer_comes_in_time) {
	static struct outcome o;
	const struct bb_scheduler_params sp = { .clock = virtual_clock };
	struct bb_scheduler *s = new_scheduler(engine, &sp);
	struct bb_effort effort = thinking();
	effort.answer_by_ms = 2000;
	effort.answer_tokens = 6;
	struct bb_request_params p = thinker(&effort, 60, 1);
	submit(s, p, &o);
	bool idle;
	double answered = 0;
	while (!o.has_ended) {
		step(s, &idle);
		now += 0.05;
		const int n = o.usage.n_thinking;
		answered = n > 0 && answered == 0 && o.n_ids[0] >= n + 2 + 6 ? now : answered;
		if (o.n_decisions > 0 && answered == 0 && o.n_ids[0] == o.decisions[0].token + 2 + 6) {
			answered = now;
		}
	}
	cr_assert_eq(o.n_decisions, 1);
	cr_assert_str_eq(o.decisions[0].policy, "deadline");
	cr_assert(o.decisions[0].is_load_dependent);
	cr_assert(answered > 101.5 && answered <= 102, "the answer came at %g", answered);
	expect_replay(&p, &o);
	bb_request_release(o.request);

	submit(s, p, memset(&o, 0, sizeof(o)));
	now += 10; /* it's too late already */
	run_all(s);
	cr_assert(o.usage.n_thinking == 0 && o.decisions[0].value < 0 && o.n_ids[0] == 60);
	expect_replay(&p, &o);
	bb_request_release(o.request);
	bb_scheduler_destroy(s);
}

/* ---- everything ends ---- */

static int pick(uint32_t *random, int n) {
	return (int)(mixed_random(random) % (uint32_t)n);
}

static const char *one_of(uint32_t *random, const char *const *texts, int n) {
	return texts[pick(random, n)];
}

/* What may be asked for, or not. */
static void compose(uint32_t *random, struct bb_effort *effort, struct bb_request_params *p) {
	static const char *const ends[] = { "7", "7 7", "8", "9 7", "3", NULL },
		*const begins[] = { NULL, NULL, "7", "8 7" },
		*const closings[] = { NULL, NULL, "1 7 2", "9 7" },
		*const extensions[] = { "3", "7 3", "4 5 6", NULL };
	*effort = (struct bb_effort){ .thinking = { .end = one_of(random, ends, 6),
		.begin = one_of(random, begins, 4), .closing = one_of(random, closings, 4),
		.extension = one_of(random, extensions, 4), .starts_inside = pick(random, 4) == 0 },
		.has_budget = pick(random, 2) == 0, .max_thinking = pick(random, 20),
		.soft_from = pick(random, 3) * 0.4, .min_thinking = pick(random, 3) * pick(random, 10),
		.max_extensions = pick(random, 4), .answer_by_ms = pick(random, 4) == 0 ? 30 : 0,
		.answer_tokens = pick(random, 10) };
	*p = thinker(effort, 1 + pick(random, 40), mixed_random(random));
	p->n_prompt = (size_t)(1 + pick(random, 60));
	p->n = 1 + pick(random, 4);
	p->generation.sampling.logit_bias = pick(random, 2) == 0 ? &always : &never;
	p->generation.sampling.n_logit_bias = pick(random, 3) != 0;
	p->generation.min_tokens = pick(random, 3) == 0 ? 1 : 0;
}

static void control_some(uint32_t *random, struct bb_request *r) {
	const struct bb_control c = { (enum bb_control_kind)pick(random, 5), pick(random, 5) - 1,
		pick(random, 30) };
	struct bb_error err = { 0 };
	if (!bb_request_control(r, &c, &err)) {
		cr_assert(err.code == BB_ERR_USAGE || err.code == BB_ERR_BUSY);
		cr_assert_neq(err.text[0], '\0');
	}
}

/* A thousand at random, some of which are refused with a sentence, with controls at random. */
Test(live, whatever_is_combined_ends, .timeout = 280) {
	static struct outcome o[8];
	struct bb_effort effort;
	const struct bb_scheduler_params sp = { .max_running = 6, .max_step_tokens = 40 };
	struct bb_scheduler *s = new_scheduler(engine, &sp);
	uint32_t random = 1;
	int n_taken = 0, n_decided = 0;
	while (n_taken < 1000) {
		int n = 0;
		for (int i = 0; i < 8; i++) {
			struct bb_request_params p;
			struct bb_error err = { 0 };
			compose(&random, &effort, &p);
			memset(&o[n], 0, sizeof(o[n]));
			p.event = on_event;
			p.user = &o[n];
			if (bb_request_submit(&o[n].request, s, &p, &err)) {
				n++;
			} else {
				cr_assert(err.code == BB_ERR_USAGE && err.text[0] != '\0');
			}
		}
		bool idle = false;
		for (int k = 0; k < 2000 && !idle; k++) {
			step(s, &idle);
			if (n > 0 && pick(&random, 4) == 0) {
				control_some(&random, o[pick(&random, n)].request);
			}
		}
		for (int i = 0; i < n; i++) {
			cr_assert(o[i].has_ended && o[i].error.code == BB_OK, "%s", o[i].error.text);
			n_decided += o[i].n_decisions;
			bb_request_release(o[i].request);
		}
		n_taken += n;
	}
	cr_assert_gt(n_decided, 500);
	bb_scheduler_destroy(s);
	cr_assert_eq(engine->n_contexts, 0);
}

/* Whichever allocation fails, requests end, well or alone, and nothing is left. */
Test(live, failing_allocations, .timeout = 200) {
	static struct outcome o;
	struct bb_effort effort = thinking();
	effort.has_budget = true;
	effort.max_thinking = 9;
	effort.min_thinking = 4;
	struct bb_request_params p = thinker(&effort, 14, 1);
	p.n = 2;
	p.generation.sampling.logit_bias = &always;
	p.event = on_event;
	p.user = &o;
	bool all_well = false, failed_any = false;
	for (long n = 1; !all_well; n++) {
		struct bb_scheduler *s = new_scheduler(engine, NULL);
		struct bb_error err = { 0 };
		memset(&o, 0, sizeof(o));
		base_fail_alloc_at(n);
		all_well = bb_request_submit(&o.request, s, &p, &err);
		cr_assert(all_well || err.code == BB_ERR_MEMORY, "%s", err.text);
		run_all(s);
		all_well = all_well && o.error.code == BB_OK;
		cr_assert(o.request == NULL || o.has_ended);
		cr_assert(o.error.code == BB_OK || o.error.code == BB_ERR_MEMORY, "%s", o.error.text);
		failed_any = failed_any || !all_well;
		all_well = all_well && n > 200; /* some do without what they lack */
		base_fail_alloc_at(0);
		bb_request_release(o.request);
		bb_scheduler_destroy(s);
		cr_assert_eq(engine->n_contexts, 0);
		cr_assert_eq(engine_used_bytes(engine).all, 0);
	}
	cr_assert(failed_any);
}
