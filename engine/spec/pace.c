/* SPDX-License-Identifier: Apache-2.0
 *
 * Moving averages of what drafts bring and cost. */
#include "pace.h"

void spec_rate_add(struct spec_rate *r, bool is_right, double memory) {
	const double keeps = 1 - 1 / memory;
	r->n_right = keeps * r->n_right + is_right;
	r->n = keeps * r->n + 1;
}

double spec_rate_of(const struct spec_rate *r, double prior, double weight) {
	return (r->n_right + weight * prior) / (r->n + weight);
}

/* Before anything was measured a row costs this part of a step: memory is read once for all. */
static const double PRIOR_ROW = 0.2, LEAST_ROW = 0.01, MOST_ROW = 2;
/* How much of what it was wrong by a step corrects, each of the two; more than half wrong is some
 * other program's doing. */
static const double FOLLOW_STEP = 0.3, FOLLOW_ROW = 0.2, MOST_ERROR = 0.5;

static int index_of(int n_rows) {
	int i = 0;
	while (n_rows > 1 && i + 1 < SPEC_COSTS) {
		n_rows /= 2;
		i++;
	}
	return i;
}

/* A normalised least mean squares filter (Widrow and Hoff 1960) for the row's part. Where all steps
 * have as many drafts the first number explains all that changes, and the second one stays. */
void spec_costs_add(struct spec_costs *c, int n_rows, int n_drafts, double seconds) {
	struct spec_cost *k = &c->of[index_of(n_rows)];
	double row = spec_costs_row(c, n_rows);
	const double x = n_drafts, expected = 1 + row * x;
	if (k->step_s > 0) {
		double wrong = seconds / k->step_s / expected - 1;
		wrong = wrong > MOST_ERROR ? MOST_ERROR : wrong < -MOST_ERROR ? -MOST_ERROR : wrong;
		row += FOLLOW_ROW * x * wrong * expected / (x * x + 4);
		k->row = row < LEAST_ROW ? LEAST_ROW : row > MOST_ROW ? MOST_ROW : row;
	}
	k->step_s += (k->step_s > 0 ? FOLLOW_STEP : 1) * (seconds / (1 + row * x) - k->step_s);
}

double spec_costs_row(const struct spec_costs *c, int n_rows) {
	const double row = c->of[index_of(n_rows)].row;
	return row > 0 ? row : PRIOR_ROW;
}

double spec_costs_step(const struct spec_costs *c, int n_rows) {
	return c->of[index_of(n_rows)].step_s;
}
