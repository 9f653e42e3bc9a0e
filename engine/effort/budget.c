/* SPDX-License-Identifier: Apache-2.0
 *
 * budget: at most so many thinking tokens. Near the limit the end becomes likelier where a sentence
 * or a line has ended; at the limit what closes the thinking is written (budget forcing,
 * arXiv:2501.19393). */
#include "effort.h"

#include <stdio.h>

/* What is added to the logit of the end's first token when the whole budget is used. In the middle
 * of a thought the end is often e^-15 as likely as what goes on: at the limit it has to win. */
static const double LEAN_MOST = 20;

static bool is_wanted(const struct bb_effort *p) {
	return p->thinking.end != NULL; /* a budget may come while the request runs */
}

static bool check(const struct bb_effort *p, int n, int max_tokens, struct bb_error *err) {
	if (!p->has_budget) {
		return true;
	}
	if (p->thinking.end == NULL) {
		return base_fail(err, BB_ERR_USAGE, "max_thinking is %d, but what ends thinking isn't "
			"given", p->max_thinking);
	}
	if (p->max_thinking < 0) {
		return base_fail(err, BB_ERR_USAGE, "max_thinking is %d, expected 0 or more",
			p->max_thinking);
	}
	return (p->soft_from >= 0 && p->soft_from <= 1) || base_fail(err, BB_ERR_USAGE,
		"soft_from is %g, expected 0 to 1", p->soft_from);
}

/* Tokens that may be the end's beginning count, or the limit would be passed where they aren't. */
static void close_full(struct effort_branch *b, struct effort_wish *wish) {
	if (effort_is_thinking(b) && b->max_thinking >= 0 && effort_n_spent(b) >= b->max_thinking) {
		wish->close = true;
		wish->value = effort_n_spent(b);
		wish->bar = b->max_thinking;
		snprintf(wish->why, sizeof(wish->why), "%d of at most %d thinking tokens",
			effort_n_spent(b), b->max_thinking);
	}
}

static void token(struct effort_branch *b, bool ends, struct effort_wish *wish) {
	if (!ends) {
		close_full(b, wish);
	}
}

static double lean(const struct effort_branch *b) {
	const double from = b->effort->params.soft_from;
	if (!effort_is_thinking(b) || !b->may_pause || b->max_thinking <= 0 || from >= 1) {
		return 0;
	}
	const double share = (double)effort_n_spent(b) / b->max_thinking;
	return share > from ? LEAN_MOST * (share - from) / (1 - from) : 0;
}

const struct effort_policy effort_budget = {
	.name = "budget", .is_wanted = is_wanted, .check = check, .token = token,
	.changed = close_full, .lean = lean,
};
