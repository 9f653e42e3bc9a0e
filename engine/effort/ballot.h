/* SPDX-License-Identifier: Apache-2.0
 *
 * The answers of a request's branches as votes. They count in the order of the branches, each one
 * when it and all before it have ended: what follows from them doesn't depend on who was faster. */
#ifndef BALLOT_H
#define BALLOT_H

#include "answer.h"
#include "vote.h"

struct effort;

struct ballot { /* of a request; zeroed = nobody votes */
	struct answer_pattern *pattern; /* NULL: answers aren't looked for */
	struct vote *votes;   /* [n] of the effort, with answers of their own; NULL: nobody votes */
	int n_counted;        /* the first of them count */
	bool has_bar;         /* deepconf: warm-up is over */
	double bar;           /* least confidence of a group */
};

/* For f, whose params are known. BB_ERR_INPUT for its pattern, BB_ERR_MEMORY. */
bool ballot_init(struct ballot *ballot, const struct effort *f, struct bb_error *err);
void ballot_finish(struct ballot *ballot, int n);
/* Counts who has ended since. BB_ERR_MEMORY; then a later call goes on. */
bool ballot_count(struct effort *f, struct bb_error *err);
/* All that have begun have ended, and count: it's to be seen whether others shall begin. */
bool ballot_is_full(const struct effort *f);
struct vote_count ballot_result(const struct effort *f, bool by_weight);
/* Vote i's answer for a sentence, into buf. */
const char *ballot_show(const struct effort *f, int i, char buf[BASE_SHOWN]);

#endif
