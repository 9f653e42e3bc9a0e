/* SPDX-License-Identifier: Apache-2.0
 *
 * A server of which only time and bytes exist: it runs a trace of requests as schedule_plan says,
 * under a clock that jumps from step to step. For bench/goodput and the scheduler's tests. */
#ifndef VIRTUAL_H
#define VIRTUAL_H

#include "schedule.h"

struct virtual_request {
	double arrived, deadline;  /* s; INFINITY: none */
	int n_prompt, n_output;    /* tokens */
	double n_predicted;        /* of the output, as the scheduler is told */
	int priority;
	double cancelled;          /* when nobody wants it any more; INFINITY: never */
	/* what came of it */
	double begun, ended;       /* s; the first step with a row of it; -1: never */
	bool is_met;               /* all tokens, by the deadline */
	int n_asides;
};

struct virtual_server {
	struct schedule_cost cost;
	int max_places, max_rows;
	size_t max_bytes, page_bytes; /* a page: of 64 tokens */
	double stretch;               /* cost.copy_s 0: putting aside takes no time */
	void (*rank)(struct schedule_state *s, double now); /* NULL: ours */
	/* Called behind each plan; of_job: which request job i is. */
	void (*look)(void *user, const struct schedule_state *s, const int *of_job, double now);
	void *user;
};

struct virtual_result {
	double seconds, busy_s;
	long n_steps, n_rows, n_asides, n_dropped; /* the last: asides that were computed again */
	int n_met;
};

/* requests [n] by time of arrival. False when memory ran out. */
bool virtual_run(const struct virtual_server *v, struct virtual_request *requests, int n,
	struct virtual_result *out);

/* A lognormal number with the median, by a generator of its own: the same everywhere. */
double virtual_normal(uint64_t *random);
double virtual_unit(uint64_t *random);
/* Seconds that the server takes for a request alone; and the least work of a full server for it: no
 * schedule needs less. */
double virtual_alone(const struct virtual_server *v, int n_prompt, int n_output);
double virtual_work(const struct virtual_server *v, int n_prompt, int n_output);

#endif
