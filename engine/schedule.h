/* SPDX-License-Identifier: Apache-2.0
 *
 * Who takes part in the next step, with how many rows, and who is put aside for it: a function of
 * the jobs, the budgets and the clock alone. Knows no engine: its jobs are contexts of requests, or
 * of a simulation. */
#ifndef SCHEDULE_H
#define SCHEDULE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Tokens behind the ones to append for which there must be room when a job comes in. */
enum { SCHEDULE_AHEAD = 256 };

/* What steps cost, in seconds: with nothing but `d` decoded rows step_s + d * row_s, and prefill_s
 * more for each row of a prompt. */
struct schedule_cost {
	double step_s, row_s, prefill_s;
	double copy_s; /* for a byte of a context that is put aside, there and back; 0: not known */
};

/* A context, or what will be one. */
struct schedule_job {
	uint64_t order;    /* unique; the lower came first */
	int priority;      /* lower goes first */
	double deadline;   /* on the clock; INFINITY: none */
	int n_todo;        /* tokens to append up to the next draw, >= 1; 1: it decodes */
	double n_left;     /* tokens that it's predicted to draw, that one included */
	int max_rows;      /* that it may append in this step; 0: it waits for another job, which the
	                    * plan may decide too */
	int n_places;      /* of the step's contexts that it takes: n, of one that will fork so often */
	bool reads_aloud;  /* of these only who goes first has rows, and the others don't come in */
	bool is_in;        /* it has a context */
	size_t bytes;      /* that its context has, and gives back when it's put aside */
	int i_account;     /* with a compute budget (effort/shares.h): whose rows these are, */
	double row_cost;   /* ... and what one of them takes of it, > 0 */
	/* decided */
	double rank;       /* among those of its priority and group, lower first */
	int group;         /* see rank_deadlines */
	bool runs;         /* it's in from now on; else, where it is in, it's put aside */
	int n_rows;        /* of the step */
	bool is_held;      /* it would have rows, but the compute budget has none left now */
};

struct schedule_state {
	struct schedule_job *jobs; /* [n_jobs], in any order */
	int n_jobs;
	int *order;             /* [n_jobs], room for the ranking */
	int max_places, max_rows;
	size_t max_bytes;       /* of all contexts */
	double stretch;         /* a step beside decoding jobs takes at most so many times what it would
	                         * take without rows of prompts */
	struct schedule_cost cost;
	/* What decoding costs by itself is to be measured: a step without prompts, where some decode
	 * and none of the prompts has yet to begin. */
	bool probes;
	/* Bytes that job i takes beyond its `bytes` to be in with n_rows more tokens. */
	size_t (*bytes_for)(void *user, int i, int n_rows);
	void *user;
	/* Sets group and rank of every job; NULL: schedule_rank. */
	void (*rank)(struct schedule_state *s, double now);
};

/* Decides: fills order (by rank), runs and n_rows. Allocates nothing. */
void schedule_plan(struct schedule_state *s, double now);

/* The order of requests that bobbin.h promises. */
void schedule_rank(struct schedule_state *s, double now);
/* Fills order by priority, group and rank, as they are set. */
void schedule_sort(struct schedule_state *s);
/* Whether a context of so many bytes and tokens is put aside as a copy, or computed again. */
bool schedule_copies(const struct schedule_cost *c, size_t bytes, int n_tokens);
/* Seconds until a job is done if it's in from now on, at the pace of a full step. */
double schedule_needs(const struct schedule_state *s, const struct schedule_job *j);

/* ---- the cost of steps, as measured ---- */

struct schedule_meter { /* zeroed = nothing known */
	double a[2][2], b[2]; /* least squares of relative errors: of a step, of a decoded row */
	double prefill_s;     /* moving averages, these too: for a byte that goes out, and comes in */
	double out_s, in_s;
};
/* A step of n_decode and n_prefill rows took s seconds. */
void schedule_meter_add(struct schedule_meter *m, int n_decode, int n_prefill, double s);
/* A context of so many bytes was put aside, or came back, in s seconds. */
void schedule_meter_add_copy(struct schedule_meter *m, size_t bytes, bool is_in, double s);
struct schedule_cost schedule_meter_cost(const struct schedule_meter *m);
/* As schedule_copies, by what was measured: where no copy was yet, one is made to find out, and
 * what a slow one taught fades while none is made. */
bool schedule_meter_copies(struct schedule_meter *m, size_t bytes, int n_tokens);

#endif
