/* SPDX-License-Identifier: Apache-2.0
 *
 * Votes of answers: who leads, when that is settled, and which answer is given. Knows no branches:
 * who votes, and when, is the caller's. */
#ifndef VOTE_H
#define VOTE_H

#include "bobbin.h"

struct vote { /* of a branch, by index; zeroed: it hasn't ended, or was dropped */
	bool is_given;      /* it may be given as the answer */
	bool is_whole;      /* it came to its own end */
	const char *answer; /* canonical; NULL or "": it has none */
	double certainty;   /* mean of bb_sampled's, of all its tokens */
	double weight;      /* where votes are weighted, > 0; else its answer doesn't count */
};

struct vote_count {
	int leader;         /* who first gave the leading answer; -1: nobody has voted */
	int n, n_second, n_all; /* votes for it, for the answer that has most of the others, and all */
	double share;       /* the part of all weights that the leader has */
};
/* The answer with most votes leads, or, by weight, with most of that; of equals the first. */
struct vote_count vote_count(const struct vote *v, int n, bool by_weight);

/* The probability that the first of two answers with a and b votes, a >= b, has the majority: the
 * integral of x^a (1 - x)^b from 1/2 to 1 by that from 0 to 1 (the Beta rule of
 * Adaptive-Consistency, arXiv:2305.11860). */
double vote_beta(int a, int b);
/* How many more votes, all for the leader, it takes at least until that is `threshold` or more:
 * 0: it is. At most `most`. */
int vote_least(int a, int b, double threshold, int most);

/* Who is given at this rank, 0 being the best; -1: nobody any more. Where nobody has voted it's the
 * first who is whole, or else the first. */
int vote_choose(const struct vote *v, int n, enum bb_choice choice, int n_given, int rank);

#endif
