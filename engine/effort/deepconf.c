/* SPDX-License-Identifier: Apache-2.0
 *
 * deepconf: behind a warm-up an answer is dropped as soon as the model is less sure of it, over a
 * group of tokens, than it was of most of the first ones; and drawing stops when the weights of
 * votes are one answer's (DeepConf online, arXiv:2508.15260). After the warm-up as many at once are
 * drawn as in it: a wave is judged when all of it has ended. */
#include "effort.h"

#include <stdio.h>

static bool is_wanted(const struct bb_effort *p) {
	return p->n_warmup > 0;
}

static bool check(const struct bb_effort *p, int n, int max_tokens, struct bb_error *err) {
	if (p->n_warmup < 0 || p->group < 0) {
		return base_fail(err, BB_ERR_USAGE, "%s is %d, expected 0 or more",
			p->n_warmup < 0 ? "n_warmup" : "group", p->n_warmup < 0 ? p->n_warmup : p->group);
	}
	if (p->n_warmup == 0) {
		return true;
	}
	if (p->n_warmup >= n) {
		return base_fail(err, BB_ERR_USAGE, "n_warmup is %d, expected less than n, %d", p->n_warmup,
			n);
	}
	if (!(p->keep >= 0 && p->keep <= 1) || !(p->conf_share >= 0 && p->conf_share <= 1)) {
		return base_fail(err, BB_ERR_USAGE, "keep is %g and conf_share %g, expected 0 to 1",
			p->keep, p->conf_share);
	}
	return p->answer_pattern != NULL || base_fail(err, BB_ERR_USAGE,
		"n_warmup is %d, but no answer_pattern is given", p->n_warmup);
}

static int first(const struct effort *f) {
	return f->params.n_warmup;
}

static void token(struct effort_branch *b, bool ends, struct effort_wish *wish) {
	const struct ballot *ballot = &b->effort->ballot;
	const double now = confidence_now(&b->group);
	if (b->index < b->effort->params.n_warmup || !ballot->has_bar ||
		!confidence_has_group(&b->group) || now >= ballot->bar) {
		return;
	}
	wish->drop = true;
	wish->value = now;
	wish->bar = ballot->bar;
	snprintf(wish->why, sizeof(wish->why), "confidence of %d tokens is %.3g, below %.3g",
		b->group.group, now, ballot->bar);
}

static void ended(struct effort_branch *b, struct effort_wish *wish) {
	const struct effort *f = b->effort;
	const int n_left = f->n - f->n_begun, n_warmup = f->params.n_warmup;
	if (!ballot_is_full(f) || n_left == 0) {
		return;
	}
	const int n_more = f->ballot.n_counted < n_warmup ? n_warmup - f->ballot.n_counted : n_warmup;
	const struct vote_count v = ballot_result(f, true);
	char shown[BASE_SHOWN];
	wish->value = v.share;
	wish->bar = f->params.conf_share;
	wish->finish = f->ballot.n_counted >= n_warmup && v.leader >= 0 && wish->value >= wish->bar;
	wish->n_start = wish->finish ? 0 : n_more < n_left ? n_more : n_left;
	if (v.leader < 0) {
		snprintf(wish->why, sizeof(wish->why), "no answer has a vote yet");
		return;
	}
	snprintf(wish->why, sizeof(wish->why), "\"%s\" has %.3g of the weights of %d votes",
		ballot_show(f, v.leader, shown), v.share, v.n_all);
}

const struct effort_policy effort_deepconf = {
	.name = "deepconf", .is_wanted = is_wanted, .check = check, .first = first, .token = token,
	.ended = ended,
};
