/* SPDX-License-Identifier: Apache-2.0
 *
 * consensus: answers are drawn only until their vote is settled by the Beta rule
 * (Adaptive-Consistency, arXiv:2305.11860). As many are drawn at once as it takes at least: nobody
 * who runs is in vain then, and the last to answer is the one who may settle it. */
#include "effort.h"

#include <stdio.h>

static bool is_wanted(const struct bb_effort *p) {
	return p->consensus > 0;
}

static bool check(const struct bb_effort *p, int n, int max_tokens, struct bb_error *err) {
	if (p->consensus == 0) {
		return true;
	}
	if (!(p->consensus > 0.5 && p->consensus < 1)) {
		return base_fail(err, BB_ERR_USAGE, "consensus is %g, expected more than 0.5 and less than "
			"1", p->consensus);
	}
	if (n < 2) {
		return base_fail(err, BB_ERR_USAGE, "consensus of %d answer, expected n of 2 or more", n);
	}
	return p->answer_pattern != NULL || base_fail(err, BB_ERR_USAGE,
		"consensus is %g, but no answer_pattern is given", p->consensus);
}

static int first(const struct effort *f) {
	return vote_least(0, 0, f->params.consensus, f->n);
}

static void ended(struct effort_branch *b, struct effort_wish *wish) {
	const struct effort *f = b->effort;
	const int n_left = f->n - f->n_begun;
	if (!ballot_is_full(f) || n_left == 0) {
		return;
	}
	const struct vote_count v = ballot_result(f, false);
	char shown[BASE_SHOWN];
	wish->value = vote_beta(v.n, v.n_second);
	wish->bar = f->params.consensus;
	wish->finish = wish->value >= wish->bar;
	wish->n_start = wish->finish ? 0 : vote_least(v.n, v.n_second, wish->bar, n_left);
	if (v.leader < 0) {
		snprintf(wish->why, sizeof(wish->why), "no answer has a vote yet");
		return;
	}
	snprintf(wish->why, sizeof(wish->why), "\"%s\" has %d of %d votes, the next %d",
		ballot_show(f, v.leader, shown), v.n, v.n_all, v.n_second);
}

const struct effort_policy effort_consensus = {
	.name = "consensus", .is_wanted = is_wanted, .check = check, .first = first, .ended = ended,
};
