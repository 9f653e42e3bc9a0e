/* SPDX-License-Identifier: Apache-2.0
 *
 * deadline: thinking is closed while there is still time for the answer: when what is left until
 * then is what the closing and the answer's tokens take, one a step, at the branch's present pace,
 * and a quarter more for steps that come to be slower. Depends on the load, so its decisions are
 * replayed. */
#include "effort.h"

#include <stdio.h>

static const double MARGIN = 1.25;

static bool is_wanted(const struct bb_effort *p) {
	return p->answer_by_ms > 0;
}

static bool check(const struct bb_effort *p, int n, int max_tokens, struct bb_error *err) {
	if (!(p->answer_by_ms >= 0) || p->answer_tokens < 0) {
		return base_fail(err, BB_ERR_USAGE, "the answer is wanted in %g ms and takes %d tokens, "
			"expected 0 or more", p->answer_by_ms, p->answer_tokens);
	}
	return p->answer_by_ms == 0 || p->thinking.end != NULL || base_fail(err, BB_ERR_USAGE,
		"the answer is wanted in %g ms, but what ends thinking isn't given", p->answer_by_ms);
}

static void look_at_clock(struct effort_branch *b, double now, struct effort_wish *wish) {
	const struct effort *f = b->effort;
	const double left = f->answer_by - now;
	const double needs = MARGIN * b->pace * ((double)f->n_closing + f->params.answer_tokens);
	if (effort_may_think(b) && left <= needs && b->max_thinking != 0) {
		wish->close = true;
		wish->value = 1000 * left;
		wish->bar = 1000 * needs;
		snprintf(wish->why, sizeof(wish->why), "%.0f ms are left, the answer needs %.0f",
			wish->value, wish->bar);
	}
}

const struct effort_policy effort_deadline = {
	.name = "deadline", .is_load_dependent = true, .is_wanted = is_wanted, .check = check,
	.clock = look_at_clock,
};
