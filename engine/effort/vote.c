/* SPDX-License-Identifier: Apache-2.0
 *
 * Counting votes, and the Beta rule. */
#include "vote.h"

#include <assert.h>
#include <math.h>
#include <string.h>

void votes_finish(struct votes *v) {
	for (int i = 0; i < v->n; i++) {
		base_free(v->answers[i].text);
	}
	base_free(v->answers);
	*v = (struct votes){ 0 };
}

static struct vote_answer *find(const struct votes *v, const char *answer) {
	for (int i = 0; i < v->n; i++) {
		if (strcmp(v->answers[i].text, answer) == 0) {
			return &v->answers[i];
		}
	}
	return NULL;
}

static struct vote_answer *add_answer(struct votes *v, int voter, const char *answer,
	struct bb_error *err) {
	if (v->n == v->cap) {
		const int cap = v->cap + v->cap / 2 + 8;
		struct vote_answer *grown = base_realloc(v->answers, (size_t)cap, sizeof(*grown));
		if (grown == NULL) {
			base_no_memory(err, "votes", (size_t)cap * sizeof(*grown));
			return NULL;
		}
		v->answers = grown;
		v->cap = cap;
	}
	char *text = base_strdup(answer);
	if (text == NULL) {
		base_no_memory(err, "votes", strlen(answer));
		return NULL;
	}
	v->answers[v->n] = (struct vote_answer){ .text = text, .first = voter };
	return &v->answers[v->n++];
}

bool votes_add(struct votes *v, int voter, const char *answer, double weight,
	struct bb_error *err) {
	assert(answer[0] != '\0');
	struct vote_answer *a = find(v, answer);
	a = a != NULL ? a : add_answer(v, voter, answer, err);
	if (a == NULL) {
		return false;
	}
	a->n++;
	a->weight += weight;
	v->n_votes++;
	v->weight += weight;
	return true;
}

int votes_leader(const struct votes *v) {
	int leader = v->n > 0 ? 0 : -1;
	for (int i = 1; i < v->n; i++) {
		leader = v->answers[i].weight > v->answers[leader].weight ? i : leader;
	}
	return leader;
}

void votes_lead(const struct votes *v, int *leader, int *second) {
	*leader = *second = 0;
	for (int i = 0; i < v->n; i++) {
		const int n = v->answers[i].n;
		if (n > *leader) {
			*second = *leader;
			*leader = n;
		} else if (n > *second) {
			*second = n;
		}
	}
}

double votes_share(const struct votes *v) {
	return v->weight > 0 ? v->answers[votes_leader(v)].weight / v->weight : 0;
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
