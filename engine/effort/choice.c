/* SPDX-License-Identifier: Apache-2.0
 *
 * choice: which of several answers are given, by votes or by self-certainty (arXiv:2502.18581). */
#include "effort.h"

#include <stdio.h>

static bool is_wanted(const struct bb_effort *p) {
	return p->choice != BB_CHOICE_ALL;
}

static bool check(const struct bb_effort *p, int n, int max_tokens, struct bb_error *err) {
	if ((unsigned)p->choice > BB_CHOICE_WEIGHTED) {
		return base_fail(err, BB_ERR_USAGE, "choice is %d, expected 0 to %d", (int)p->choice,
			BB_CHOICE_WEIGHTED);
	}
	if (p->n_given < 0 || p->n_given > n ||
		(p->n_given > 0 && p->choice != BB_CHOICE_CERTAINTY)) {
		return base_fail(err, BB_ERR_USAGE, "n_given is %d, expected 0 to n, %d, and 0 where not "
			"certainty chooses", p->n_given, n);
	}
	return p->choice == BB_CHOICE_ALL || p->choice == BB_CHOICE_CERTAINTY ||
		p->answer_pattern != NULL || base_fail(err, BB_ERR_USAGE,
		"answers are chosen by vote, but no answer_pattern is given");
}

static bool choose(struct effort *f, int rank, int *branch, struct effort_wish *wish) {
	const struct bb_effort *p = &f->params;
	const bool by_weight = p->choice == BB_CHOICE_WEIGHTED;
	const struct vote *votes = f->ballot.votes;
	*branch = vote_choose(votes, f->ballot.n_counted, p->choice, p->n_given, rank);
	if (*branch < 0) {
		return false;
	}
	if (p->choice == BB_CHOICE_CERTAINTY) {
		wish->value = votes[*branch].certainty;
		snprintf(wish->why, sizeof(wish->why), "rank %d by a self-certainty of %.4g", rank + 1,
			wish->value);
		return true;
	}
	const struct vote_count v = ballot_result(f, by_weight);
	char shown[BASE_SHOWN];
	if (v.leader < 0) {
		snprintf(wish->why, sizeof(wish->why), "no answer has a vote, this is the first %s one",
			votes[*branch].is_whole ? "whole" : "cut");
	} else {
		wish->value = by_weight ? v.share : v.n;
		wish->bar = by_weight ? 0 : v.n_second;
		snprintf(wish->why, sizeof(wish->why), "\"%s\" has %d of %d votes, %.3g of the weights",
			ballot_show(f, *branch, shown), v.n, v.n_all, v.share);
	}
	return true;
}

const struct effort_policy effort_choice = {
	.name = "choice", .is_wanted = is_wanted, .check = check, .choose = choose,
};
