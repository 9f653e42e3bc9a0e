/* SPDX-License-Identifier: Apache-2.0
 *
 * The scheduler under a compute budget, by a virtual clock: it spends that, and no more, in the
 * accounts' shares, and every answer is the one that its request gets alone. */
#include <criterion/criterion.h>

#include "outcomes.h"

#include <stdatomic.h>
#include <stdlib.h>

static struct bb_engine *engine;
static int32_t ids[MAX_PROMPT];
static double virtual_now, tick;

static double virtual_clock(void *user) {
	(void)user;
	return virtual_now += tick;
}

static void set_up(void) {
	const struct bb_engine_params params = { .path = tiny_path("llama"), .max_model_len = 512,
		.n_threads = 1 };
	engine = open_with(&params);
	make_ids(ids, MAX_PROMPT, vocab_of(engine), 1);
	virtual_now = 100;
	tick = 0;
}

static void tear_down(void) {
	bb_engine_destroy(engine);
}

TestSuite(spend, .init = set_up, .fini = tear_down);

static struct bb_scheduler_stats stats_of(struct bb_scheduler *s) {
	struct bb_scheduler_stats stats;
	bb_scheduler_stats(s, &stats);
	return stats;
}

static double spent_of(bool is_flops) {
	struct bb_engine_stats stats;
	bb_engine_stats(engine, &stats);
	return is_flops ? stats.flops : (double)stats.n_rows;
}

static void refuse(struct bb_scheduler_params params, const char *part) {
	struct bb_scheduler *s;
	struct bb_error err = { 0 };
	cr_assert(!bb_scheduler_create(&s, engine, &params, &err) && s == NULL);
	cr_assert(err.code == BB_ERR_USAGE && strstr(err.text, part) != NULL, "%s", err.text);
}

Test(spend, out_of_range) {
	refuse((struct bb_scheduler_params){ .compute_budget = -1 }, "budget is -1");
	refuse((struct bb_scheduler_params){ .compute_budget = (double)INFINITY }, "budget is inf");
	struct bb_scheduler *s = new_scheduler(engine, NULL);
	struct bb_request_params p = request(engine, ids, 20, 5, 1);
	struct bb_request *r;
	struct outcome o = { 0 };
	const double wrong[] = { -1, (double)NAN, (double)INFINITY };
	p.event = on_event;
	p.user = &o;
	for (int i = 0; i < 3; i++) {
		struct bb_error err = { 0 };
		p.weight = wrong[i];
		cr_assert(!bb_request_submit(&r, s, &p, &err) && err.code == BB_ERR_USAGE);
		cr_assert(strstr(err.text, "the weight is") != NULL, "%s", err.text);
	}
	bb_scheduler_destroy(s);
}

enum { N = 9 };

/* N requests of three accounts, one of them of several answers, from an urgent one to one that is
 * cancelled: in all windows no more rows are computed than the budget has for them, and those that
 * there are for it are. */
static void check_budget(double rate, bool is_flops, int max_running, int n_places_more) {
	static const char *accounts[] = { "a", "b", NULL };
	const struct bb_scheduler_params sp = { .clock = virtual_clock, .compute_budget = rate,
		.budget_is_flops = is_flops, .max_running = max_running };
	struct bb_scheduler *s = new_scheduler(engine, &sp);
	struct outcome o[N] = { 0 };
	struct bb_request_params p[N];
	const double begun = virtual_now;
	const double before = spent_of(is_flops);
	double largest = 0, last = 0; /* of steps, whose FLOPs are known only behind them */
	bool idle;
	for (int i = 0; i < N; i++) {
		p[i] = request(engine, ids + 30 * i, 20 + 7 * i, 12, 1 + (uint64_t)i);
		p[i].account = accounts[i % 3];
		p[i].weight = i % 3;
		p[i].priority = i == 7 ? -1 : 0;
		p[i].n = i == 4 ? 1 + n_places_more : 1;
		o[i].cancel_at = i == 5 ? 4 : 0;
		submit(s, p[i], &o[i]);
	}
	int n_ended = 0, n_idle = 0;
	for (int i = 0; n_ended < N; i++) {
		cr_assert_lt(i, 1000000);
		step(s, &idle);
		n_idle += idle;
		const double spent = spent_of(is_flops) - before;
		largest = fmax(largest, is_flops ? spent - last : 0);
		last = spent;
		cr_assert_leq(spent, rate * (1 + virtual_now - begun) + largest + 1e-6);
		cr_assert_float_eq(spent, stats_of(s).spent, 1e-9 * spent);
		virtual_now += 0.004;
		n_ended = 0;
		for (int k = 0; k < N; k++) {
			n_ended += o[k].has_ended;
		}
	}
	cr_assert_gt(n_idle, 0, "it was never short");
	cr_assert_gt(stats_of(s).held_s, 0);
	const double all = stats_of(s).spent;
	cr_assert_geq(all, 0.9 * rate * (virtual_now - begun), "%g of %g", all,
		rate * (1 + virtual_now - begun));
	for (int i = 0; i < N; i++) {
		for (int b = 0; b < (p[i].n > 1 ? p[i].n : 1); b++) {
			expect_alone(engine, &p[i], b, &o[i]);
		}
		bb_request_release(o[i].request);
	}
	bb_scheduler_destroy(s);
}

Test(spend, budget_is_held, .timeout = 60) {
	check_budget(50, false, 16, 2);
	check_budget(200, false, 3, 2);
	check_budget(7, false, 1, 0);
	const double each = bb_engine_flops(engine, 50, 1);
	check_budget(100 * each, true, 16, 2);
	check_budget(0.5 * each, true, 16, 0);
}

/* Accounts of weights 1 and 3 with the same to do: from when the budget is short to when the second
 * is done the first has a third of what that has. */
Test(spend, shares_by_weight, .timeout = 60) {
	const struct bb_scheduler_params sp = { .clock = virtual_clock, .compute_budget = 100 };
	struct bb_scheduler *s = new_scheduler(engine, &sp);
	struct outcome o[16] = { 0 };
	bool idle;
	for (int i = 0; i < 16; i++) {
		struct bb_request_params p = request(engine, ids + i, 1, 60, 1);
		p.account = i % 2 ? "heavy" : "light";
		p.weight = i % 2 ? 3 : 0;
		submit(s, p, &o[i]);
	}
	int tokens[2] = { 0 }, before[2] = { 0 };
	for (bool is_short = false, is_done = false; !is_done; virtual_now += 0.004) {
		step(s, &idle);
		is_done = true;
		memset(tokens, 0, sizeof(tokens));
		for (int i = 0; i < 16; i++) {
			tokens[i % 2] += o[i].n_tokens;
			is_done = is_done && (i % 2 == 0 || o[i].has_ended);
		}
		if (idle && !is_short) {
			is_short = true;
			memcpy(before, tokens, sizeof(before));
		}
	}
	const int light = tokens[0] - before[0], heavy = tokens[1] - before[1];
	cr_assert(tokens[1] == 8 * 60 && heavy > 300);
	cr_assert(abs(light - heavy / 3) <= heavy / 60, "%d beside %d", light, heavy);
	bb_scheduler_destroy(s);
	for (int i = 0; i < 16; i++) {
		bb_request_release(o[i].request);
	}
}

/* Who waits for units doesn't spin: it sleeps until there is one, and no longer. */
Test(spend, waits_for_units, .timeout = 60) {
	const struct bb_scheduler_params sp = { .compute_budget = 40 };
	struct bb_scheduler *s = new_scheduler(engine, &sp);
	struct outcome o = { 0 };
	const double start = base_seconds();
	int n_steps = 0;
	bool idle;
	submit(s, request(engine, ids, 30, 30, 1), &o);
	for (; !o.has_ended; n_steps++) {
		step(s, &idle);
		if (idle) {
			cr_assert(o.has_ended || stats_of(s).n_held == 1);
			bb_scheduler_wait(s, 10);
		}
	}
	const double took = base_seconds() - start;
	cr_assert(took > 19 / 40.0 - 0.01, "%g s", took); /* 59 rows, of which 40 were saved up */
	cr_assert(took < 5, "%g s", took);
	cr_assert_lt(n_steps, 150);
	bb_request_release(o.request);
	bb_scheduler_destroy(s);
}

/* While nobody waits thought has no price; then it has more of one the more do. */
Test(spend, price, .timeout = 60) {
	const struct bb_scheduler_params sp = { .clock = virtual_clock, .max_running = 2,
		.no_prefix_cache = true };
	struct bb_scheduler *s = new_scheduler(engine, &sp);
	struct outcome o[6] = { 0 };
	double before = 0;
	bool idle;
	tick = 0.001;
	for (int i = 0; i < 6; i++) {
		submit(s, request(engine, ids + i, 8, i < 2 ? 40 : 10, 1), &o[i]);
		for (int k = 0; k < 6; k++) {
			step(s, &idle);
			virtual_now += 0.1;
		}
		const double price = stats_of(s).price;
		cr_assert(i < 2 ? price == 0 : price > before, "%g for %d requests", price, i + 1);
		before = price;
	}
	run_all(s);
	cr_assert_eq(stats_of(s).price, 0);
	for (int i = 0; i < 6; i++) {
		bb_request_release(o[i].request);
	}
	bb_scheduler_destroy(s);
}
