/* SPDX-License-Identifier: Apache-2.0
 *
 * What drafts are worth: how often those of a kind were right, and what a step with more rows
 * costs, as measured. No tokens, no contexts. */
#ifndef SPEC_PACE_H
#define SPEC_PACE_H

#include <stdbool.h>

/* How many of the tokens that were looked at were right; later ones count for more. */
struct spec_rate { /* zeroed = nothing seen */
	double n_right, n;
};
/* memory: of how many of the last tokens the rate tells. */
void spec_rate_add(struct spec_rate *r, bool is_right, double memory);
/* The probability that the next one is right, where `prior` is believed as `weight` tokens are. */
double spec_rate_of(const struct spec_rate *r, double prior, double weight);

/* What steps take and what a draft row adds, of steps alike in the rest. */
struct spec_cost { /* zeroed = nothing known */
	double step_s; /* seconds without drafts: follows a machine's load within a few steps */
	double row;    /* a draft row's part of that, which hardly depends on load: follows slowly */
};
enum { SPEC_COSTS = 8 };
struct spec_costs {
	struct spec_cost of[SPEC_COSTS]; /* by the logarithm of the rows that aren't drafts */
};
void spec_costs_add(struct spec_costs *c, int n_rows, int n_drafts, double seconds);
/* The cost of a draft row in a step of so many other rows, as a part of that step's. */
double spec_costs_row(const struct spec_costs *c, int n_rows);

/* Seconds of such a step without drafts; 0: not known. */
double spec_costs_step(const struct spec_costs *c, int n_rows);

#endif
