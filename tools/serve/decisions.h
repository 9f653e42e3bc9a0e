/* SPDX-License-Identifier: Apache-2.0
 *
 * What was decided about a request: noted as it happens by the engine's thread, read by others, as
 * JSON in replies, in the log and, to do the same again, in requests. */
#ifndef DECISIONS_H
#define DECISIONS_H

#include "exchange.h"

#include <pthread.h>

struct decision { /* with its policy's name in it */
	struct bb_decision decision;
	char policy[32];
};

struct decisions { /* decisions_init .. decisions_finish */
	pthread_mutex_t lock;
	struct decision *v; /* [n], by token, then by branch; those that choose are behind */
	int n, cap;
	bool has_lost;      /* one had no memory */
};
void decisions_init(struct decisions *d);
void decisions_finish(struct decisions *d);
void decisions_note(struct decisions *d, const struct bb_decision *from);
/* [{kind, branch, token, policy, value, bar, why, load_dependent}...] */
json_t *decisions_json(struct decisions *d);
/* The k-th branch that is given as an answer: those that were chosen, in that order; where none
 * was, those of n_branches that weren't dropped. -1: there is none. */
int decisions_given(struct decisions *d, int k, int n_branches);
/* Where lines about requests are appended, of whatever kind it is. -1, and errno: it can't be
 * opened. *is_torn: it ends within a line. */
int decisions_open(const char *path, bool *is_torn);
/* A line about a request that has ended: {id, number, time, seed, decisions}, if there were any;
 * behind a torn one on a line of its own. False: it wasn't written, or not all of it. Counts for no
 * ration: called by the engine's thread. */
bool decisions_log(struct decisions *d, int fd, bool *is_torn, const char *id, uint64_t number,
	uint64_t seed);

/* The same list from a request's field `name`, allocated; its texts are the list's. False:
 * replied. */
bool decisions_read(struct exchange *x, const json_t *list, const char *name,
	struct bb_decision **out, int *n);

#endif
