/* SPDX-License-Identifier: Apache-2.0
 *
 * Elastic requests: alone they take all that they may, beside requests that wait they think less
 * and draw fewer answers, by weight; and done again their decisions give the same bits. */
#include <criterion/criterion.h>

#include "outcomes.h"

enum { END = 7 };

static struct bb_engine *engine;
static int32_t ids[MAX_PROMPT];
static double virtual_now;
static const struct bb_logit_bias never = { END, -100 };

/* Each time somebody looks some of it has passed: steps take time. */
static double ticking_clock(void *user) {
	(void)user;
	return virtual_now += 0.03;
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

TestSuite(elastic, .init = set_up, .fini = tear_down);

/* n answers that think from the first token on, of which no end comes by itself. */
static struct bb_request_params thinker(const struct bb_effort *effort, int n, int max_tokens) {
	struct bb_request_params p = request(engine, ids, 20, max_tokens, 3);
	p.generation.sampling.logit_bias = &never;
	p.generation.sampling.n_logit_bias = 1;
	p.effort = effort;
	p.n = n;
	return p;
}

static struct bb_effort elastic(void) {
	return (struct bb_effort){ .thinking = { .starts_inside = true, .end = "7", .closing = "7 1" },
		.soft_from = 1, .is_elastic = true };
}

static int count(const struct outcome *o, enum bb_decision_kind kind) {
	int n = 0;
	for (int i = 0; i < o->n_decisions; i++) {
		n += o->decisions[i].kind == kind;
	}
	return n;
}

static void expect_equal(const struct outcome *a, const struct outcome *b, int n) {
	for (int i = 0; i < n; i++) {
		cr_assert_eq(a->finish[i], b->finish[i], "branch %d ended by %d and %d", i,
			(int)a->finish[i], (int)b->finish[i]);
		cr_assert_eq(a->n_ids[i], b->n_ids[i], "branch %d: %d and %d", i, a->n_ids[i],
			b->n_ids[i]);
		cr_assert(memcmp(a->ids[i], b->ids[i], (size_t)a->n_ids[i] * sizeof(int32_t)) == 0);
		cr_assert(memcmp(a->logprobs[i], b->logprobs[i],
			(size_t)a->n_ids[i] * sizeof(float)) == 0);
	}
}

/* Nobody waits: it's the answer of a request that isn't elastic. */
Test(elastic, alone_takes_all, .timeout = 60) {
	static struct outcome o, plain;
	const struct bb_scheduler_params sp = { .clock = ticking_clock };
	struct bb_effort effort = elastic();
	struct bb_scheduler *s = new_scheduler(engine, &sp);
	submit(s, thinker(&effort, 6, 60), &o);
	run_all(s);
	effort.is_elastic = false;
	submit(s, thinker(&effort, 6, 60), &plain);
	run_all(s);
	cr_assert_eq(count(&o, BB_DECISION_START), 5);
	cr_assert_eq(o.n_decisions, 5);
	for (int i = 0; i < 5; i++) {
		cr_assert_str_eq(o.decisions[i].policy, "allot");
		cr_assert(o.decisions[i].is_load_dependent && o.decisions[i].value > 0);
		cr_assert_eq(o.decisions[i].bar, 0);
	}
	cr_assert_eq(o.usage.n_thinking, 360);
	expect_equal(&o, &plain, 6);
	bb_request_release(o.request);
	bb_request_release(plain.request);
	bb_scheduler_destroy(s);
}

/* Beside an elastic request of this weight: others that aren't come before it has written much. */
struct crowd {
	int n, priority, n_tokens; /* the last 0: 30 */
};

/* They wait for its places, the longer the more of them there are. */
static void beside(struct crowd others_are, struct outcome *o, double weight,
	const struct bb_effort *effort, int n, const struct bb_scheduler_params *sp) {
	static struct outcome others[45];
	struct bb_scheduler *s = new_scheduler(engine, sp);
	bool idle;
	memset(others, 0, sizeof(others));
	*o = (struct outcome){ 0 };
	virtual_now = 100;
	struct bb_request_params p = thinker(effort, n, 200);
	p.weight = weight;
	submit(s, p, o);
	for (int i = 0; i < 12; i++) {
		step(s, &idle);
	}
	for (int i = 0; i < others_are.n; i++) {
		struct bb_request_params q = request(engine, ids + 30, 20,
			others_are.n_tokens > 0 ? others_are.n_tokens : 30, 1);
		q.priority = others_are.priority;
		submit(s, q, &others[i]);
	}
	run_all(s);
	while (sp->compute_budget > 0 && !o->has_ended) {
		step(s, &idle);
	}
	bb_scheduler_destroy(s);
	for (int i = 0; i < others_are.n; i++) {
		bb_request_release(others[i].request);
	}
	bb_request_release(o->request);
}

static void replay_of(const struct outcome *o, struct bb_effort effort, int n, int max_tokens) {
	static struct outcome again;
	struct bb_scheduler *s = new_scheduler(engine, NULL);
	effort.replays = true;
	effort.replay = o->decisions;
	effort.n_replay = o->n_decisions;
	again = (struct outcome){ 0 };
	submit(s, thinker(&effort, n, max_tokens), &again);
	run_all(s);
	expect_equal(o, &again, n);
	cr_assert_eq(count(o, BB_DECISION_CLOSE), count(&again, BB_DECISION_CLOSE));
	cr_assert_eq(count(o, BB_DECISION_DROP), count(&again, BB_DECISION_DROP));
	bb_request_release(again.request);
	bb_scheduler_destroy(s);
}

static void replay(const struct outcome *o, struct bb_effort effort, int n) {
	replay_of(o, effort, n, 200);
}

/* The more wait the less it thinks, but as much as it has to; more if it weighs more. */
Test(elastic, thinks_less_beside_others, .timeout = 60) {
	static struct outcome few, many, heavy, least;
	const struct bb_scheduler_params sp = { .clock = ticking_clock, .max_running = 2 };
	struct bb_effort effort = elastic();
	const struct crowd two = { .n = 2 }, twenty = { .n = 20 };
	beside(two, &few, 1, &effort, 1, &sp);
	beside(twenty, &many, 1, &effort, 1, &sp);
	beside(twenty, &heavy, 4, &effort, 1, &sp);
	effort.min_thinking = 150;
	effort.thinking.extension = "5";
	beside(twenty, &least, 1, &effort, 1, &sp);
	cr_assert_eq(count(&many, BB_DECISION_CLOSE), 1);
	const struct bb_decision *d = &many.decisions[0];
	cr_assert(strcmp(d->policy, "allot") == 0 && d->is_load_dependent && d->value < d->bar);
	cr_assert(d->token == many.usage.n_thinking && d->token >= 1);
	cr_assert(many.usage.n_thinking < few.usage.n_thinking, "%d and %d", many.usage.n_thinking,
		few.usage.n_thinking);
	cr_assert(many.usage.n_thinking < heavy.usage.n_thinking, "%d and %d",
		many.usage.n_thinking, heavy.usage.n_thinking);
	cr_assert_geq(least.usage.n_thinking, 150);
	replay(&few, elastic(), 1);
	replay(&many, elastic(), 1);
	replay(&heavy, elastic(), 1);
	replay(&least, effort, 1);
}

/* Urgent requests take the places of all but one of its answers: when that is there those that were
 * begun are given up. */
Test(elastic, draws_fewer_answers_beside_others, .timeout = 60) {
	static struct outcome o, alone;
	const struct bb_scheduler_params sp = { .clock = ticking_clock, .max_running = 6 };
	struct bb_effort effort = elastic();
	effort.answer_pattern = "line";
	effort.choice = BB_CHOICE_VOTE;
	beside((struct crowd){ 0 }, &alone, 1, &effort, 6, &sp);
	beside((struct crowd){ .n = 45, .priority = -1 }, &o, 1, &effort, 6, &sp);
	cr_assert_eq(count(&alone, BB_DECISION_DROP), 0);
	cr_assert_gt(count(&o, BB_DECISION_DROP), 1);
	cr_assert(count(&alone, BB_DECISION_CHOOSE) == 1 && count(&o, BB_DECISION_CHOOSE) == 1);
	cr_assert_lt(o.usage.n_output, alone.usage.n_output);
	replay(&o, effort, 6);
}

/* consensus says how many answers begin, and would draw on, for all of them differ; allot ends that
 * while others wait. */
Test(elastic, ends_a_vote_that_is_not_worth_it, .timeout = 60) {
	static struct outcome o, alone;
	const struct bb_scheduler_params sp = { .clock = ticking_clock, .max_running = 10 };
	struct bb_effort effort = elastic();
	effort.answer_pattern = "line";
	effort.choice = BB_CHOICE_VOTE;
	effort.consensus = 0.8;
	beside((struct crowd){ 0 }, &alone, 1, &effort, 10, &sp);
	cr_assert_eq(alone.usage.n_branches, 10);
	beside((struct crowd){ .n = 45, .priority = -1, .n_tokens = 80 }, &o, 1, &effort, 10, &sp);
	cr_assert_lt(o.usage.n_branches, 10);
	cr_assert_eq(count(&o, BB_DECISION_FINISH), 1);
	replay(&alone, effort, 10);
	replay(&o, effort, 10);
}

/* While others wait a request begins with one answer, and draws others when they are gone. */
Test(elastic, begins_late, .timeout = 60) {
	static struct outcome others[12], o;
	const struct bb_scheduler_params sp = { .clock = ticking_clock, .max_running = 4 };
	const struct bb_effort effort = elastic();
	struct bb_scheduler *s = new_scheduler(engine, &sp);
	bool idle;
	for (int i = 0; i < 12; i++) {
		submit(s, request(engine, ids + 30, 20, 30, 1), &others[i]);
	}
	for (int i = 0; i < 10; i++) {
		step(s, &idle);
	}
	struct bb_request_params p = thinker(&effort, 4, 200);
	p.priority = -1;
	submit(s, p, &o);
	for (int i = 0; i < 5; i++) {
		step(s, &idle);
	}
	cr_assert_gt(o.n_ids[0], 0);
	cr_assert_eq(count(&o, BB_DECISION_START), 0);
	run_all(s);
	cr_assert(o.usage.n_branches > 1 && o.usage.n_branches == 1 + count(&o, BB_DECISION_START));
	bb_scheduler_destroy(s);
	replay(&o, effort, 4);
	for (int i = 0; i < 12; i++) {
		bb_request_release(others[i].request);
	}
	bb_request_release(o.request);
}

/* Of a budget of 20 tokens a second an elastic request has less beside others than alone. */
Test(elastic, within_a_budget, .timeout = 60) {
	static struct outcome alone, crowded;
	const struct bb_scheduler_params sp = { .clock = ticking_clock, .compute_budget = 20 };
	struct bb_effort effort = elastic();
	beside((struct crowd){ 0 }, &alone, 1, &effort, 1, &sp);
	beside((struct crowd){ .n = 12 }, &crowded, 1, &effort, 1, &sp);
	cr_assert(crowded.usage.n_thinking < alone.usage.n_thinking, "%d and %d",
		crowded.usage.n_thinking, alone.usage.n_thinking);
	replay(&alone, effort, 1);
	replay(&crowded, effort, 1);
}

/* ---- all at once ---- */

enum { N_MIXED = 5, ROUNDS = 60 };

static int pick(uint32_t *random, int n) {
	*random = *random * 1664525u + 1013904223u;
	return (int)((*random >> 8) % (uint32_t)n);
}

/* Policies at random, each of which may be there or not. */
static struct bb_effort compose(uint32_t *random, int n) {
	struct bb_effort e = elastic();
	e.thinking.extension = "5";
	e.is_elastic = pick(random, 5) > 0;
	e.has_budget = pick(random, 3) == 0;
	e.max_thinking = 10 + pick(random, 40);
	e.min_thinking = pick(random, 3) == 0 ? pick(random, 10) : 0;
	e.answer_pattern = pick(random, 2) ? "number" : "line";
	e.choice = (enum bb_choice)pick(random, 4);
	e.consensus = n > 1 && pick(random, 3) == 0 ? 0.8 : 0;
	e.n_warmup = n > 2 && pick(random, 3) == 0 ? 2 : 0;
	e.group = 8;
	e.probe_every = pick(random, 3) == 0 ? 5 + pick(random, 10) : 0;
	e.probe_tokens = 4;
	e.probe_text = "9";
	return e;
}

/* Requests with all sorts of policies beside each other, under budgets and with few places, end;
 * and each of them by itself, with its decisions done again, comes to the same answers. */
Test(elastic, any_policies_can_be_done_again, .timeout = 200) {
	static struct outcome o[N_MIXED];
	uint32_t random = 11;
	int n_closed = 0, n_dropped = 0, n_started = 0;
	for (int round = 0; round < ROUNDS; round++) {
		const struct bb_scheduler_params sp = { .clock = ticking_clock,
			.max_running = 4 + pick(&random, 5), .budget_is_flops = false,
			.compute_budget = pick(&random, 3) * (10 + pick(&random, 50)) };
		struct bb_scheduler *s = new_scheduler(engine, &sp);
		struct bb_effort efforts[N_MIXED];
		int n[N_MIXED], n_ended = 0;
		bool idle;
		virtual_now = 100;
		memset(o, 0, sizeof(o));
		for (int i = 0; i < N_MIXED; i++) {
			n[i] = 1 + pick(&random, 4);
			efforts[i] = compose(&random, n[i]);
			struct bb_request_params p = thinker(&efforts[i], n[i], 80);
			p.account = pick(&random, 2) ? "a" : NULL;
			p.weight = pick(&random, 3);
			p.priority = pick(&random, 3) - 1;
			submit(s, p, &o[i]);
			for (int k = pick(&random, 8); k > 0; k--) {
				step(s, &idle);
			}
		}
		for (int k = 0; n_ended < N_MIXED; k++) {
			cr_assert_lt(k, 20000, "round %d doesn't end", round);
			step(s, &idle);
			n_ended = 0;
			for (int i = 0; i < N_MIXED; i++) {
				n_ended += o[i].has_ended;
			}
		}
		bb_scheduler_destroy(s);
		for (int i = 0; i < N_MIXED; i++) {
			cr_assert_eq(o[i].error.code, BB_OK, "%s", o[i].error.text);
			replay_of(&o[i], efforts[i], n[i], 80);
			n_closed += count(&o[i], BB_DECISION_CLOSE);
			n_dropped += count(&o[i], BB_DECISION_DROP);
			n_started += count(&o[i], BB_DECISION_START);
			bb_request_release(o[i].request);
		}
	}
	cr_assert(n_closed > 50 && n_dropped > 20 && n_started > 50, "%d closed, %d dropped, %d "
		"started", n_closed, n_dropped, n_started);
}
