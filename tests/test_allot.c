/* SPDX-License-Identifier: Apache-2.0
 *
 * A compute budget, under a virtual clock: it is held in every window, accounts have their shares
 * by weight, an idle one's go to the others, nobody starves. Then what thoughts are worth: pouring
 * by one price is as good as the greedy choice, and the price follows what waits. */
#include "effort/shares.h"
#include "effort/worth.h"
#include "virtual.h"

#include <criterion/criterion.h>

#include <limits.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

/* ---- a server whose steps a budget holds back ---- */

enum { MAX_JOBS = 400, MAX_STEPS = 200000 };

/* A request: of n_prompt tokens read and n_output drawn. */
struct work {
	int account, n_prompt, n_output, priority;
	double weight, arrived, began, ended, deadline;
	int n_read, n_drawn;
	bool is_in;
};

struct server {
	struct schedule_state plan;
	struct shares shares;
	struct work *work; /* [n], by time of arrival */
	int n, of_job[MAX_JOBS], order[MAX_JOBS];
	struct schedule_job jobs[MAX_JOBS];
	double now, by_account[8];
	double row_cost;  /* 0: 1 and one more for each 100 tokens before it */
	int n_steps;
	double at[MAX_STEPS], spent[MAX_STEPS], largest; /* of each step */
};

static size_t no_bytes(void *user, int i, int n_rows) {
	(void)user;
	(void)i;
	(void)n_rows;
	return 0;
}

static void rank(struct schedule_state *plan, double now) {
	struct server *s = plan->user;
	shares_rank(&s->shares, plan, now);
}

static void start(struct server *s, struct work *work, int n, double rate) {
	memset(s, 0, sizeof(*s));
	s->work = work;
	s->n = n;
	s->row_cost = 1;
	s->plan = (struct schedule_state){ .jobs = s->jobs, .order = s->order, .max_places = 16,
		.max_rows = 128, .max_bytes = 1, .stretch = 2.25, .bytes_for = no_bytes, .user = s,
		.cost = { .step_s = 0.004, .row_s = 0.001, .prefill_s = 0.0004 }, .rank = rank };
	shares_init(&s->shares, rate, 1);
	struct bb_error err = { 0 };
	cr_assert(shares_reserve(&s->shares, MAX_JOBS, &err));
	for (int i = 0; i < n; i++) {
		work[i].began = work[i].ended = -1;
	}
}

static double cost_of(const struct server *s, const struct work *w) {
	return s->row_cost > 0 ? s->row_cost : 1 + 0.01 * (w->n_read + w->n_drawn);
}

static void make_jobs(struct server *s) {
	s->plan.n_jobs = 0;
	shares_begin(&s->shares);
	for (int i = 0; i < s->n; i++) {
		const struct work *w = &s->work[i];
		if (w->arrived > s->now || w->ended >= 0) {
			continue;
		}
		const int left = w->n_prompt - w->n_read, k = s->plan.n_jobs++;
		cr_assert_lt(k, MAX_JOBS);
		s->of_job[k] = i;
		s->jobs[k] = (struct schedule_job){ .order = (uint64_t)i, .priority = w->priority,
			.deadline = w->deadline > 0 ? w->deadline : INFINITY, .n_todo = left > 0 ? left : 1,
			.n_left = w->n_output - w->n_drawn, .max_rows = left > 0 ? left : 1, .n_places = 1,
			.is_in = w->is_in, .row_cost = cost_of(s, w),
			.i_account = shares_account(&s->shares, 1000 + (uint64_t)w->account, -1) };
		shares_add_job(&s->shares, s->jobs[k].i_account, w->weight > 0 ? w->weight : 1);
	}
}

/* One step, or the time until there is something to do. False: all is done. */
static bool step(struct server *s) {
	make_jobs(s);
	schedule_plan(&s->plan, s->now);
	const double wait = shares_cut(&s->shares, &s->plan, s->now);
	double seconds = s->plan.cost.step_s, spent = 0, next = INFINITY;
	int n_rows = 0;
	for (int k = 0; k < s->plan.n_jobs; k++) {
		const struct schedule_job *j = &s->jobs[k];
		struct work *w = &s->work[s->of_job[k]];
		w->is_in = j->runs;
		if (j->n_rows == 0) {
			continue;
		}
		w->began = w->began < 0 ? s->now : w->began;
		n_rows += j->n_rows;
		seconds += j->n_rows * (j->n_todo == 1 ? s->plan.cost.row_s : s->plan.cost.prefill_s);
		double cost = 0;
		for (int r = 0; r < j->n_rows; r++) { /* deep rows cost more than the first was said to */
			cost += cost_of(s, w);
			w->n_drawn += w->n_read == w->n_prompt;
			w->n_read += w->n_read < w->n_prompt;
		}
		shares_charge(&s->shares, j->i_account, cost);
		s->by_account[w->account] += cost;
		spent += cost;
		w->ended = w->n_drawn >= w->n_output ? s->now + seconds : -1;
	}
	if (n_rows > 0) {
		cr_assert_lt(s->n_steps, MAX_STEPS);
		s->at[s->n_steps] = s->now;
		s->spent[s->n_steps++] = spent;
		s->largest = fmax(s->largest, spent);
		s->now += seconds;
		return true;
	}
	for (int i = 0; i < s->n; i++) {
		next = s->work[i].arrived > s->now ? fmin(next, s->work[i].arrived) : next;
	}
	cr_assert(s->plan.n_jobs == 0 || wait > 0, "jobs are there, and nobody says when they go on");
	s->now = fmin(next, wait > 0 ? s->now + fmax(wait, 1e-6) : next);
	return isfinite(s->now);
}

static void run(struct server *s, double until) {
	while (s->now < until && step(s)) {
	}
}

static void end(struct server *s) {
	shares_finish(&s->shares);
	free(s->work);
	free(s);
}

/* In every window from a step to another. */
static void check_held(const struct server *s, double slack) {
	const double rate = s->shares.rate, burst = s->shares.burst;
	for (int i = 0; i < s->n_steps; i += 1 + s->n_steps / 300) {
		double spent = 0;
		for (int k = i; k < s->n_steps; k++) {
			spent += s->spent[k];
			cr_assert_leq(spent, burst + rate * (s->at[k] - s->at[i]) + slack + 1e-6,
				"from step %d to %d", i, k);
		}
	}
}

static struct work *busy(int n, int n_accounts, const double *weights) {
	struct work *w = calloc((size_t)n, sizeof(*w));
	for (int i = 0; i < n; i++) {
		w[i] = (struct work){ .account = i % n_accounts, .n_prompt = 10, .n_output = 100000,
			.weight = weights[i % n_accounts] };
	}
	return w;
}

static struct server *new_server(void) {
	return calloc(1, sizeof(struct server));
}

/* Nothing is spent beyond what has come in and what was saved up: whatever comes, in tokens. */
Test(allot, budget_is_held, .timeout = 60) {
	static const double rates[] = { 5, 60, 170, 500 };
	for (size_t r = 0; r < 4; r++) {
		enum { N = 200 };
		struct work *w = calloc(N, sizeof(*w));
		struct server *s = new_server();
		uint64_t random = 7 + r;
		double now = 0, all = 0;
		for (int i = 0; i < N; i++) {
			now += -log(1 - virtual_unit(&random)) * (i % 50 == 0 ? 400 : 20) / rates[r];
			w[i] = (struct work){ .account = i % 3, .arrived = now, .weight = 1 + i % 3,
				.n_prompt = 1 + (int)(60 * virtual_unit(&random)),
				.n_output = 1 + (int)(80 * virtual_unit(&random)),
				.priority = i % 7 == 0 ? -1 : 0 };
			all += w[i].n_prompt + w[i].n_output;
		}
		start(s, w, N, rates[r]);
		run(s, INFINITY);
		check_held(s, 0);
		double spent = 0;
		for (int k = 0; k < s->n_steps; k++) {
			spent += s->spent[k];
		}
		cr_assert_float_eq(spent, all, 1e-6);
		for (int i = 0; i < N; i++) {
			cr_assert_geq(w[i].ended, w[i].arrived, "request %d never ended", i);
		}
		cr_assert_float_eq(s->shares.spent, all, 1e-6);
		end(s);
	}
}

/* Rows that get dearer with depth, as FLOPs do, are held to the step; one may take more than can be
 * saved up. */
Test(allot, budget_is_held_to_the_step, .timeout = 60) {
	static const double rates[] = { 0.5, 20, 300 }, equal[] = { 1, 1 };
	for (size_t r = 0; r < 3; r++) {
		struct work *w = busy(12, 2, equal);
		struct server *s = new_server();
		start(s, w, 12, rates[r]);
		s->row_cost = 0;
		run(s, 2000 / rates[r]);
		cr_assert_gt(s->shares.spent, 1990);
		check_held(s, s->largest);
		end(s);
	}
}

/* ---- whose the rows are ---- */

static const double weights[] = { 1, 2, 4 };

static void check_shares(const struct server *s, const double *expected, int n, double tolerance) {
	double all = 0, parts = 0;
	for (int i = 0; i < n; i++) {
		all += s->by_account[i];
		parts += expected[i];
	}
	for (int i = 0; i < n; i++) {
		const double share = s->by_account[i] / all, want = expected[i] / parts;
		cr_assert_float_eq(share, want, tolerance * want + 1e-9, "account %d has %g, not %g", i,
			share, want);
	}
}

/* One request each or many, whether the machine has time left or little. */
Test(allot, shares_by_weight, .timeout = 60) {
	static const double rates[] = { 10, 100, 400 };
	for (int many = 0; many < 2; many++) {
		for (size_t r = 0; r < (many ? 3u : 2u); r++) {
			const int n = many ? 60 : 3;
			struct work *w = busy(n, 3, weights);
			struct server *s = new_server();
			start(s, w, n, rates[r]);
			run(s, 5);
			memset(s->by_account, 0, sizeof(s->by_account)); /* the burst is behind */
			run(s, 5 + 4000 / rates[r]);
			check_shares(s, weights, 3, 0.05);
			end(s);
		}
	}
}

/* Rows of prompts and rows that decode weigh alike, whoever has many requests. */
Test(allot, shares_of_prompts, .timeout = 60) {
	enum { N = 300 };
	struct work *w = calloc(N, sizeof(*w));
	for (int i = 0; i < N; i++) { /* the first has most requests, long prompts, short answers */
		const int account = i % 10 < 7 ? 0 : 1;
		w[i] = (struct work){ .account = account, .n_prompt = account == 0 ? 200 : 5,
			.n_output = account == 0 ? 2 : 300, .weight = weights[account] };
	}
	struct server *s = new_server();
	start(s, w, N, 150);
	run(s, 5);
	memset(s->by_account, 0, sizeof(s->by_account));
	run(s, 60);
	check_shares(s, weights, 2, 0.05);
	end(s);
}

/* What an account that has nothing to do doesn't take the others have, by their weights; when it
 * comes back it has its share, and nothing for the time it was away. */
Test(allot, idle_shares_go_to_the_others, .timeout = 60) {
	struct work *w = busy(30, 3, weights);
	struct server *s = new_server();
	for (int i = 0; i < 30; i++) {
		w[i].arrived = i % 3 == 2 ? 60 : 0;
	}
	start(s, w, 30, 100);
	run(s, 60);
	cr_assert_eq(s->by_account[2], 0);
	cr_assert_gt(s->shares.spent, 100 * 59);
	check_shares(s, weights, 2, 0.05);
	memset(s->by_account, 0, sizeof(s->by_account));
	run(s, 62); /* at once */
	check_shares(s, weights, 3, 0.05);
	end(s);
}

/* An account that draws one token a step can't take its half. It has saved up no more than a
 * fraction of a second of it when it has more to do. */
Test(allot, little_credit_for_who_could_not, .timeout = 60) {
	static const double equal[] = { 1, 1 };
	struct work *w = calloc(60, sizeof(*w));
	for (int i = 0; i < 60; i++) {
		w[i] = (struct work){ .account = i > 0 && i < 30, .n_prompt = 1, .n_output = 100000,
			.arrived = i < 30 ? 0 : 30 };
	}
	struct server *s = new_server();
	start(s, w, 60, 400);
	s->plan.cost.step_s = 0.03;
	s->plan.max_places = 64;
	run(s, 30);
	cr_assert_lt(s->by_account[0], 0.4 * s->by_account[1]);
	memset(s->by_account, 0, sizeof(s->by_account));
	run(s, 33);
	cr_assert_lt(s->by_account[0], 600 + 400 * 0.25 * 0.5 + 50);
	memset(s->by_account, 0, sizeof(s->by_account));
	run(s, 43);
	check_shares(s, equal, 2, 0.05);
	end(s);
}

/* Requests that are urgent come without end, and a heavy account has more than it can get: the
 * oldest of the urgent account's others ends all the same, and so does the light account's. */
Test(allot, nobody_starves, .timeout = 60) {
	enum { N = 360 };
	struct work *w = calloc(N, sizeof(*w));
	for (int i = 0; i < N; i++) {
		w[i] = (struct work){ .account = 0, .n_prompt = 20, .n_output = 20, .priority = -1,
			.arrived = i * 0.3, .weight = 1 };
	}
	w[43].priority = 5; /* of the same account, behind all who come */
	w[44] = (struct work){ .account = 1, .n_prompt = 50, .n_output = 50, .weight = 0.05 };
	w[44].arrived = w[43].arrived;
	struct server *s = new_server();
	start(s, w, N, 100); /* of 133 that are asked for */
	run(s, 60);
	cr_assert(w[43].ended > 0 && w[43].ended < 20, "%g", w[43].ended);
	cr_assert(w[44].ended > 0 && w[44].ended < 45, "%g", w[44].ended);
	end(s);
}

/* Within an account the order is that of requests without a budget. */
Test(allot, order_within_an_account) {
	struct work *w = calloc(8, sizeof(*w));
	for (int i = 0; i < 8; i++) {
		w[i] = (struct work){ .n_prompt = 10, .n_output = 40, .priority = i == 6 ? -1 : 0,
			.deadline = i == 7 ? 1e6 : 0 };
	}
	struct server *s = new_server();
	start(s, w, 8, 30);
	run(s, INFINITY);
	/* the urgent one, then the deadline, then as they came */
	cr_assert(w[6].ended < w[7].ended && w[7].ended < w[0].ended);
	for (int i = 0; i < 5; i++) {
		cr_assert_lt(w[i].ended, w[i + 1].ended);
	}
	end(s);
}

/* Places go by weight too: who has asked for hundreds of answers leaves others theirs. */
Test(allot, places_by_weight) {
	struct work *w = calloc(110, sizeof(*w));
	for (int i = 0; i < 110; i++) {
		w[i] = (struct work){ .account = i >= 100, .n_prompt = 1, .n_output = 1000,
			.weight = i >= 100 ? 3 : 1 };
	}
	struct server *s = new_server();
	start(s, w, 110, 1e6);
	step(s);
	int n_in[2] = { 0 };
	for (int i = 0; i < 110; i++) {
		n_in[w[i].account] += w[i].is_in;
	}
	cr_assert(n_in[0] == 6 && n_in[1] == 10, "%d and %d of 16 places", n_in[0], n_in[1]);
	end(s);
}

/* A step on one budget is the same step whatever order the jobs are listed in. */
Test(allot, any_order_of_jobs) {
	struct schedule_job a[6], b[6];
	struct shares s[2];
	int order[6];
	struct bb_error err = { 0 };
	for (int side = 0; side < 2; side++) {
		struct schedule_job *jobs = side == 0 ? a : b;
		shares_init(&s[side], 13, 1);
		cr_assert(shares_reserve(&s[side], 6, &err));
		for (int k = 0; k < 6; k++) {
			const int i = side == 0 ? k : 5 - k;
			jobs[k] = (struct schedule_job){ .order = (uint64_t)i, .deadline = INFINITY,
				.n_todo = i % 2 ? 1 : 30, .max_rows = 30, .n_left = 5, .n_places = 1,
				.is_in = true, .row_cost = 1,
				.i_account = shares_account(&s[side], (uint64_t)(i / 2), -1) };
			shares_add_job(&s[side], jobs[k].i_account, 1 + i / 2);
		}
		struct schedule_state plan = { .jobs = jobs, .n_jobs = 6, .order = order,
			.max_places = 6, .max_rows = 64, .max_bytes = 1, .bytes_for = no_bytes };
		schedule_plan(&plan, 0);
		cr_assert_eq(shares_cut(&s[side], &plan, 0), 0);
	}
	int n = 0;
	for (int i = 0; i < 6; i++) {
		cr_assert(a[i].n_rows == b[5 - i].n_rows, "job %d: %d and %d", i, a[i].n_rows,
			b[5 - i].n_rows);
		n += a[i].n_rows;
	}
	cr_assert_eq(n, 13);
	shares_finish(&s[0]);
	shares_finish(&s[1]);
}

/* ---- what thoughts are worth ---- */

enum { N_CURVES = 12, N_PIECES = 40 };

/* Concave curves: each piece is worth less than the one before. */
static void make_curves(double value[N_CURVES][N_PIECES], double *weight, double *cost,
	uint64_t *random) {
	for (int i = 0; i < N_CURVES; i++) {
		double v = virtual_unit(random);
		weight[i] = 0.2 + 3 * virtual_unit(random);
		cost[i] = 1 + floor(9 * virtual_unit(random));
		for (int k = 0; k < N_PIECES; k++) {
			value[i][k] = v;
			v *= 0.5 + 0.5 * virtual_unit(random);
		}
	}
}

/* The piece that is worth most for a unit, again and again; returns what the last one was worth. */
static double greedy(double value[N_CURVES][N_PIECES], const double *weight, const double *cost,
	int n, int *taken) {
	double last = INFINITY;
	memset(taken, 0, N_CURVES * sizeof(*taken));
	for (; n > 0; n--) {
		int best = -1;
		double most = -1;
		for (int i = 0; i < N_CURVES; i++) {
			const double each = taken[i] < N_PIECES
				? weight[i] * value[i][taken[i]] / cost[i] : -1;
			if (each > most) {
				most = each;
				best = i;
			}
		}
		taken[best]++;
		last = most;
	}
	return last;
}

/* At the price of the greedy choice's last piece each request by itself takes what that gives it:
 * so no division of the same total is worth more. */
Test(allot, one_price_is_greedy) {
	uint64_t random = 3;
	for (int round = 0; round < 300; round++) {
		double value[N_CURVES][N_PIECES], weight[N_CURVES], cost[N_CURVES];
		int taken[N_CURVES];
		make_curves(value, weight, cost, &random);
		const int n = 1 + (int)(virtual_unit(&random) * (N_CURVES * N_PIECES - 1));
		const double price = greedy(value, weight, cost, n, taken);
		for (int i = 0; i < N_CURVES; i++) {
			int k = 0;
			/* a hair below, for the product rounds otherwise than the quotient */
			while (k < N_PIECES &&
				worth_goes(weight[i] * value[i][k], cost[i], price * (1 - 1e-14))) {
				k++;
			}
			cr_assert_eq(k, taken[i], "round %d, request %d: %d pieces, greedy %d", round, i, k,
				taken[i]);
		}
	}
}

/* By hand: with no vote any answer is right with 1/2; one tells 3/4. */
Test(allot, worth_of_votes) {
	cr_assert_float_eq(worth_vote(0, 0, 0, 1), 0.25, 1e-12);
	cr_assert_eq(worth_vote(1, 0, 0, 1), 0, "one more can't turn a vote");
	cr_assert_eq(worth_vote(3, 1, 2, 2), 0, "none may come");
	cr_assert_gt(worth_vote(1, 0, 0, 3), 0);
	/* what is settled is worth little, what is open more; a tie most of all */
	const double open = worth_vote(4, 3, 0, 12), settled = worth_vote(7, 0, 0, 9);
	cr_assert(open > 5 * settled && settled > 0, "%g and %g", open, settled);
	cr_assert_gt(worth_vote(3, 3, 0, 12), open);
	for (int a = 0; a < 12; a++) {
		for (int b = 0; b <= a; b++) {
			double before = INFINITY;
			for (int n = 0; n < 10; n++) {
				const double v = worth_vote(a, b, n, 16);
				cr_assert(v >= 0 && v <= before + 1e-12, "%d:%d behind %d", a, b, n);
				before = v;
			}
			cr_assert(b == a || worth_vote(a + 1, b, 0, 16) <= worth_vote(a, b, 0, 16) + 1e-12);
		}
	}
	cr_assert_gt(worth_vote(2000, 2000, 0, 16), 0);
	cr_assert_float_eq(worth_best(0), 0.5, 1e-12);
	cr_assert_float_eq(worth_best(1), 1.0 / 6, 1e-12);
}

/* Each token less than the one before, whatever was learnt; less again where probes agree. */
Test(allot, worth_of_thoughts) {
	uint64_t random = 5;
	struct worth_curve c = worth_curve_prior();
	cr_assert_float_eq(worth_thought(&c, 512, -1), 0.25 / 512, 1e-12);
	for (int i = 0; i < 4000; i++) {
		const double t = exp(log(20000) * virtual_unit(&random));
		/* half of the answers stand behind 100 tokens */
		worth_curve_learn(&c, t, virtual_unit(&random) < 1 / (1 + pow(t / 100, -0.8)));
		if (i % 500 == 0) {
			for (double u = 1; u < 30000; u *= 1.3) {
				cr_assert_gt(worth_thought(&c, u, -1), worth_thought(&c, 1.3 * u, -1));
				cr_assert_gt(worth_thought(&c, u, 1), worth_thought(&c, u, 2));
			}
		}
	}
	cr_assert_float_eq(worth_curve_right(&c, 100), 0.5, 0.1, "%g", worth_curve_right(&c, 100));
	cr_assert_float_eq(c.slope, 0.8, 0.2, "%g", c.slope);
	cr_assert_eq(worth_thought(&c, 50, 0), worth_thought(&c, 50, -1));
}

/* ---- the price ---- */

Test(allot, price_follows_what_waits) {
	struct worth_price p = { 0 };
	worth_price_set(&p, 0, 100, 1);
	cr_assert_eq(p.price, 0);
	double before = 0;
	for (int i = 0; i < 20; i++) {
		worth_price_set(&p, 10, 100, 1 + 0.1 * i);
		cr_assert(i == 0 || p.price > before, "it rises while requests wait");
		before = p.price;
	}
	cr_assert_float_eq(before, 10 * 0.05 / 100, 0.1 * before);
	worth_price_set(&p, 4, 100, 3.2);
	cr_assert_lt(p.price, before, "and falls with them");
	worth_price_set(&p, 0, 100, 3.3);
	cr_assert_eq(p.price, 0, "thought is free while nobody waits");
	worth_price_set(&p, 4, 0, 3.4);
	cr_assert_eq(p.price, 0, "the pace isn't known");
}

/* Requests that think come faster than the budget lasts for all their thoughts: by the price each
 * thinks less, the queue doesn't grow, and the budget is spent; where they come slowly all thought
 * is taken. Thinking takes 1000 tokens at most, of which 20 are the answer. */
Test(allot, price_keeps_the_queue, .timeout = 60) {
	static const double gaps[] = { 2, 0.25 };
	double thought[2] = { 0 };
	for (int fast = 0; fast < 2; fast++) {
		enum { N = 240 };
		struct work *w = calloc(N, sizeof(*w));
		struct server *s = new_server();
		struct worth_price price = { 0 };
		const struct worth_curve curve = worth_curve_prior();
		int most_waiting = 0;
		for (int i = 0; i < N; i++) {
			w[i] = (struct work){ .n_prompt = 10, .n_output = 1000, .arrived = gaps[fast] * i };
		}
		start(s, w, N, 800);
		while (step(s)) {
			int n_waiting = 0;
			for (int k = 0; k < s->plan.n_jobs; k++) {
				n_waiting += !s->jobs[k].runs || s->jobs[k].is_held;
			}
			most_waiting = n_waiting > most_waiting ? n_waiting : most_waiting;
			worth_price_set(&price, n_waiting, s->shares.rate, s->now);
			for (int i = 0; i < N; i++) {
				const int left = w[i].n_output - w[i].n_drawn;
				if (w[i].n_drawn > 0 && left > 20 &&
					!worth_goes(worth_thought(&curve, w[i].n_drawn, -1), 1, price.price)) {
					w[i].n_output = w[i].n_drawn + 20;
				}
			}
		}
		for (int i = 0; i < N; i++) {
			thought[fast] += w[i].n_output;
		}
		thought[fast] /= N;
		cr_assert(!fast || most_waiting < 60, "%d wait", most_waiting);
		const double could = 800 * s->at[s->n_steps - 1];
		cr_assert(!fast || s->shares.spent > 0.9 * could, "%g of %g", s->shares.spent, could);
		end(s);
	}
	cr_assert_eq(thought[0], 1000);
	cr_assert(thought[1] > 100 && thought[1] < 320, "%g", thought[1]);
}
