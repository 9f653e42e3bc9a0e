/* SPDX-License-Identifier: Apache-2.0
 *
 * Choosing among answers: by votes, or by self-certainty. */
#include "choice.h"

#include "vote.h"

#include <assert.h>

static bool has_answer(const struct choice_candidate *c) {
	return c->answer != NULL && c->answer[0] != '\0';
}

/* The first one that is whole, or else the first. */
static int first_of(const struct choice_candidate *c, int n) {
	for (int i = 0; i < n; i++) {
		if (c[i].is_whole) {
			return i;
		}
	}
	return 0;
}

/* Those with an answer where any has one, most certain first, equals by index. */
static int by_certainty(const struct choice_candidate *c, int n, int most, int *out) {
	bool is_any_answer = false;
	for (int i = 0; i < n; i++) {
		is_any_answer = is_any_answer || has_answer(&c[i]);
	}
	int n_out = 0;
	for (int i = 0; i < n; i++) {
		if (is_any_answer && !has_answer(&c[i])) {
			continue;
		}
		int at = n_out++;
		for (; at > 0 && c[out[at - 1]].certainty < c[i].certainty; at--) {
			out[at] = out[at - 1];
		}
		out[at] = i;
	}
	return n_out < most ? n_out : most;
}

static int by_vote(bool is_weighted, const struct choice_candidate *c, int n,
	struct bb_error *err) {
	struct votes votes = { 0 };
	bool ok = true;
	for (int i = 0; ok && i < n; i++) {
		const double weight = is_weighted ? c[i].weight : 1;
		if (has_answer(&c[i]) && weight > 0) {
			ok = votes_add(&votes, i, c[i].answer, weight, err);
		}
	}
	const int leader = votes_leader(&votes);
	const int chosen = !ok ? -1 : leader >= 0 ? votes.answers[leader].first : first_of(c, n);
	votes_finish(&votes);
	return chosen;
}

int choice_make(enum bb_choice choice, int n_given, const struct choice_candidate *c, int n,
	int *out, struct bb_error *err) {
	if (n == 0) {
		return 0;
	}
	if (choice == BB_CHOICE_ALL) {
		for (int i = 0; i < n; i++) {
			out[i] = i;
		}
		return n;
	}
	if (choice == BB_CHOICE_CERTAINTY) {
		return by_certainty(c, n, n_given > 0 ? n_given : 1, out);
	}
	out[0] = by_vote(choice == BB_CHOICE_WEIGHTED, c, n, err);
	return out[0] >= 0 ? 1 : -1;
}
