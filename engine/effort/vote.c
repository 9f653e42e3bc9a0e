/* SPDX-License-Identifier: Apache-2.0
 *
 * Counting votes, the Beta rule, and choosing. Answers are compared each with each: there are few
 * of them, and nothing has to be allocated. */
#include "vote.h"

#include "bobbin_effort.h"

#include <assert.h>
#include <math.h>
#include <string.h>

static bool has_answer(const struct vote *v) {
	return v->is_given && v->answer != NULL && v->answer[0] != '\0';
}

static bool has_voted(const struct vote *v) {
	return has_answer(v) && v->weight > 0;
}

struct vote_count vote_count(const struct vote *v, int n, bool by_weight) {
	struct vote_count count = { .leader = -1 };
	double most = 0, all = 0;
	for (int i = 0; i < n; i++) {
		int n_same = 0;
		double weight = 0;
		bool is_first = true;
		for (int k = 0; k < n && has_voted(&v[i]) && is_first; k++) {
			const bool is_same = has_voted(&v[k]) && strcmp(v[i].answer, v[k].answer) == 0;
			is_first = !is_same || k >= i;
			n_same += is_same;
			weight += is_same ? v[k].weight : 0;
		}
		if (!has_voted(&v[i]) || !is_first) {
			continue;
		}
		count.n_all += n_same;
		all += weight;
		const double votes = by_weight ? weight : n_same;
		if (votes > most) {
			count.n_second = count.n > count.n_second ? count.n : count.n_second;
			count.leader = i;
			count.n = n_same;
			count.share = weight;
			most = votes;
		} else if (n_same > count.n_second) {
			count.n_second = n_same;
		}
	}
	count.share = all > 0 ? count.share / all : 0;
	return count;
}

/* The sum over k = 0..a of C(m, k) 2^-m with m = a + b + 1, as 1 less that over k = 0..b, which
 * has fewer terms. The terms are whole numbers, exact up to 2^53, and are kept in range beyond. */
double vote_beta(int a, int b) {
	assert(a >= b && b >= 0);
	const int m = a + b + 1;
	double term = 1, sum = 1;
	int exponent = 0;
	for (int k = 1; k <= b; k++) {
		term = term * (m - k + 1) / k;
		sum += term;
		if (sum > 0x1p500) {
			term *= 0x1p-500;
			sum *= 0x1p-500;
			exponent += 500;
		}
	}
	return 1 - ldexp(sum, exponent - m);
}

int vote_least(int a, int b, double threshold, int most) {
	int n = 0;
	while (n < most && vote_beta(a + n, b) < threshold) {
		n++;
	}
	return n;
}

/* ---- choosing ---- */

static int first_given(const struct vote *v, int n) {
	int first = -1;
	for (int i = 0; i < n; i++) {
		if (v[i].is_given && v[i].is_whole) {
			return i;
		}
		first = first < 0 && v[i].is_given ? i : first;
	}
	return first;
}

/* Those with an answer where any has one, most certain first, equals by index. */
static int by_certainty(const struct vote *v, int n, int rank) {
	bool is_any_answer = false;
	for (int i = 0; i < n; i++) {
		is_any_answer = is_any_answer || has_answer(&v[i]);
	}
	for (int i = 0; i < n; i++) {
		int n_better = 0;
		for (int k = 0; k < n; k++) {
			const bool takes_part = is_any_answer ? has_answer(&v[k]) : v[k].is_given;
			n_better += takes_part && (v[k].certainty > v[i].certainty ||
				(v[k].certainty == v[i].certainty && k < i));
		}
		if ((is_any_answer ? has_answer(&v[i]) : v[i].is_given) && n_better == rank) {
			return i;
		}
	}
	return -1;
}

int vote_choose(const struct vote *v, int n, enum bb_choice choice, int n_given, int rank) {
	if (choice == BB_CHOICE_CERTAINTY) {
		return rank < (n_given > 0 ? n_given : 1) ? by_certainty(v, n, rank) : -1;
	}
	if (choice == BB_CHOICE_ALL || rank > 0) {
		return -1;
	}
	const int leader = vote_count(v, n, choice == BB_CHOICE_WEIGHTED).leader;
	return leader >= 0 ? leader : first_given(v, n);
}
