/* SPDX-License-Identifier: Apache-2.0
 *
 * Which of several answers a request gives. */
#ifndef CHOICE_H
#define CHOICE_H

#include "bobbin.h"

struct choice_candidate { /* a branch that wasn't dropped, by index */
	int branch;
	bool is_whole;      /* it came to its own end */
	const char *answer; /* canonical; NULL or empty: none */
	double certainty;   /* mean of bb_sampled's, of all its tokens */
	double weight;      /* of its vote where votes are weighted; 0: it has none */
};

/* Places in c[n] of those that are given, the best first, into out, of which there is room for n;
 * how many. Where nobody has an answer for a vote it's the first that is whole, or else the
 * first. BB_ERR_MEMORY: -1. */
int choice_make(enum bb_choice choice, int n_given, const struct choice_candidate *c, int n,
	int *out, struct bb_error *err);

#endif
