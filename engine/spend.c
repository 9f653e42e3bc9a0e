/* SPDX-License-Identifier: Apache-2.0
 *
 * What requests spend: the scheduler's compute budget, whose account a row is on, and the price of
 * a unit while others wait. The rules stand in effort/shares and effort/worth. */
#include "cost.h"
#include "requests.h"

#include <limits.h>
#include <math.h>
#include <string.h>
#define XXH_INLINE_ALL
#include <xxhash.h>

/* Longest that nobody looks whether a request has come to its deadline, s. */
static const double MAX_HOLD_S = 0.1;

static bool has_budget(const struct bb_scheduler *s) {
	return s->params.compute_budget > 0;
}

uint64_t spend_account(const char *name) {
	return name != NULL ? XXH3_64bits(name, strlen(name)) : 0;
}

static void rank(struct schedule_state *plan, double now) {
	struct bb_scheduler *s = plan->user;
	shares_rank(&s->shares, plan, now);
}

bool spend_init(struct bb_scheduler *s, struct bb_error *err) {
	const double budget = s->params.compute_budget;
	if (!(budget >= 0) || !isfinite(budget)) {
		return base_fail(err, BB_ERR_USAGE, "the compute budget is %g a second, expected more than "
			"0, or 0 for none", budget);
	}
	s->curve = worth_curve_prior();
	if (budget > 0) {
		shares_init(&s->shares, budget, 1);
		s->plan.rank = rank;
	}
	return true;
}

bool spend_reserve(struct bb_scheduler *s, int n_jobs, struct bb_error *err) {
	return !has_budget(s) || shares_reserve(&s->shares, n_jobs, err);
}

void spend_begin(struct bb_scheduler *s) {
	if (has_budget(s)) {
		shares_begin(&s->shares);
	}
}

/* On average, of the rows behind `length` tokens that the job may have. */
static double row_cost(const struct bb_scheduler *s, int length, int n_rows) {
	const int n = n_rows > 1 ? n_rows : 1;
	return s->params.budget_is_flops ? cost_flops(s->engine, length, n, 1) / n : 1;
}

void spend_add_job(struct bb_scheduler *s, const struct branch *b, int length,
	struct schedule_job *j) {
	struct bb_request *r = b->request;
	j->row_cost = row_cost(s, length, j->max_rows);
	if (has_budget(s)) {
		r->i_account = shares_account(&s->shares, r->account, r->i_account);
		j->i_account = r->i_account;
		shares_add_job(&s->shares, r->i_account, r->params.weight);
	}
}

/* Of those that have work to do and do none in this step, for want of a place, of memory, of rows
 * or of units. */
static double waiting_weight(const struct bb_scheduler *s) {
	double weight = 0;
	for (int i = 0; i < s->plan.n_jobs; i++) {
		const struct bb_request *r = s->of_job[i]->request;
		bool waits = i == 0 || s->of_job[i - 1]->request != r;
		for (int k = i; waits && k < s->plan.n_jobs && s->of_job[k]->request == r; k++) {
			waits = s->plan.jobs[k].n_rows == 0 && s->plan.jobs[k].max_rows > 0;
		}
		weight += waits ? r->params.weight : 0;
	}
	return weight;
}

/* Units a second: of the budget, or of full steps of such jobs as there are where that is less. */
static double pace(const struct bb_scheduler *s) {
	const struct schedule_cost *c = &s->plan.cost;
	const int n = s->plan.max_places;
	const double step_s = c->step_s + c->row_s * n;
	double units = 0;
	for (int i = 0; i < s->plan.n_jobs; i++) {
		units += s->plan.jobs[i].row_cost / s->plan.n_jobs;
	}
	const double most = step_s > 0 ? units * n / step_s : 0;
	return !has_budget(s) ? most : most > 0 ? fmin(most, s->shares.rate) : s->shares.rate;
}

void spend_cut(struct bb_scheduler *s, double now) {
	s->hold_s = 0;
	if (has_budget(s)) {
		s->hold_s = fmin(shares_cut(&s->shares, &s->plan, now), MAX_HOLD_S);
	}
	worth_price_set(&s->price, waiting_weight(s), pace(s), now);
	s->now.price = s->price.price;
	s->now.spent = s->shares.spent;
	s->now.held_s = s->shares.held_s;
	s->now.n_held = s->shares.n_held;
}

int spend_spare_rows(const struct bb_scheduler *s, double now) {
	double most = 0, planned = 0;
	for (int i = 0; i < s->plan.n_jobs; i++) {
		const struct schedule_job *j = &s->plan.jobs[i];
		most = fmax(most, j->row_cost);
		planned += j->n_rows * j->row_cost;
	}
	if (!has_budget(s) || most == 0) {
		return INT_MAX;
	}
	const double spare = shares_level(&s->shares, now) - planned - s->shares.burst / 2;
	return spare < most ? 0 : spare / most < INT_MAX ? (int)(spare / most) : INT_MAX;
}

void spend_show(struct bb_request *r) {
	struct bb_scheduler *s = r->scheduler;
	const struct bb_request_params *p = &r->params;
	if (r->effort == NULL || !r->effort->params.is_elastic) {
		return;
	}
	int n_output = 0;
	for (int i = 0; i < p->n; i++) {
		n_output = r->branches[i].n_output > n_output ? r->branches[i].n_output : n_output;
	}
	r->effort->market = (struct effort_market){
		.price = s->price.price, .row_cost = row_cost(s, (int)p->n_prompt + n_output, 1),
		.weight = p->weight, .answer_tokens = p->n_predicted > 0 ? p->n_predicted
			: s->mean_output > 0 ? s->mean_output : 128,
		.curve = &s->curve,
	};
}

void spend_charge(struct bb_scheduler *s, const struct branch *b, int n_rows, double flops) {
	if (has_budget(s)) {
		shares_charge(&s->shares, s->plan.jobs[b->i_job].i_account,
			s->params.budget_is_flops ? flops : n_rows);
		s->now.spent = s->shares.spent;
	}
}

void spend_finish(struct bb_scheduler *s) {
	shares_finish(&s->shares);
}
