/* SPDX-License-Identifier: Apache-2.0
 *
 * Votes of answers, and when a vote is settled. Knows no branches: who votes, and in which order,
 * is the caller's. */
#ifndef VOTE_H
#define VOTE_H

#include "base.h"

struct vote_answer {
	char *text;    /* canonical */
	int n, first;  /* votes; who gave the first one */
	double weight; /* of all votes */
};

struct votes { /* zeroed = none */
	struct vote_answer *answers; /* [n], by first come */
	int n, cap, n_votes;
	double weight;
};
void votes_finish(struct votes *v);
/* `voter` says this, which isn't empty, with this weight, 1 for a plain vote. BB_ERR_MEMORY; then
 * nothing has changed. */
bool votes_add(struct votes *v, int voter, const char *answer, double weight, struct bb_error *err);
/* The answer with the most weight, of equals the first that came; -1: nobody has voted. */
int votes_leader(const struct votes *v);
/* Votes of the answer that has most, and of the one behind it. */
void votes_lead(const struct votes *v, int *leader, int *second);
/* The part of all weights that the leader has; 0 where nobody has voted. */
double votes_share(const struct votes *v);

/* The probability that the first of two answers with a and b votes, a >= b, has the majority: the
 * integral of x^a (1 - x)^b from 1/2 to 1 by that from 0 to 1 (the Beta rule of
 * Adaptive-Consistency, arXiv:2305.11860). */
double vote_beta(int a, int b);
/* How many more votes, all for the leader, it takes at least until that is `threshold` or more:
 * 0: it is. At most `most`. */
int vote_least(int a, int b, double threshold, int most);

#endif
