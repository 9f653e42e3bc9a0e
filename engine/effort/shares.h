/* SPDX-License-Identifier: Apache-2.0
 *
 * A compute budget: how much of a plan may be computed now, and whose rows those are. Accounts
 * share it by weight; a function of plans, accounts and the clock alone, as schedule.h is. What it
 * counts in (tokens, FLOPs) is the caller's: a "unit" here. */
#ifndef SHARES_H
#define SHARES_H

#include "bobbin.h"
#include "schedule.h"

/* One who shares. Virtual time is units per weight (start-time fair queueing: Goyal, Vin and Cheng,
 * SIGCOMM 1996): who has had least goes next. */
struct shares_account {
	uint64_t key;
	double weight;     /* the largest of its jobs'; 0: it has none */
	double time;       /* virtual: what it has had, per weight */
	double elder_due;  /* units that its oldest job may have before the others */
	bool is_active;    /* it had rows in the last plan, */
	bool is_wanting;   /* ... and not all of them were granted */
	/* of one plan */
	double granted, rank;
	int first, last, head; /* of its jobs with rows, by the plan's order; -1: none (left) */
	int elder;             /* the oldest of them without a deadline; -1: none */
};

struct shares { /* zeroed = no budget */
	double rate;       /* units per second; 0: none */
	double burst;      /* units that may be left over */
	double level;      /* units that may be spent; < 0: the last step took more than it seemed; */
	double at;         /* ... when that was so, on the clock */
	bool has_begun;    /* else the level is the burst */
	double spent;      /* units, since the beginning */
	double held_s;     /* in which rows were held back, each step's time counted once */
	int n_held;        /* jobs that the last cut held back */
	struct shares_account *accounts; /* [n] */
	int n, cap;
	struct shares_turn {
		int next;      /* the account's next job; -1: none */
		int n_granted;
	} *turns;          /* [max_jobs], by job */
	int max_jobs;
};

/* rate > 0 units a second, of which those of burst_s seconds may be saved up. */
void shares_init(struct shares *s, double rate, double burst_s);
void shares_finish(struct shares *s);
/* Room for the accounts of so many jobs. */
bool shares_reserve(struct shares *s, int n_jobs, struct bb_error *err);
/* The place of the account with this key, which is entered where it isn't there. hint: where it
 * was, or anything. For it shares_reserve has made room, but not for more accounts than jobs. */
int shares_account(struct shares *s, uint64_t key, int hint);
/* Before a plan's jobs are added: no account has any. */
void shares_begin(struct shares *s);
/* A job of this plan, of weight > 0. */
void shares_add_job(struct shares *s, int i_account, double weight);

/* As schedule_state.rank: any beginning of the order has accounts in it by their weights (d'Hondt's
 * rule, in places), and within an account the order is schedule_rank's. Jobs of the lowest priority
 * there is, paused ones, stay behind all. */
void shares_rank(struct shares *s, struct schedule_state *plan, double now);
/* Cuts the rows of a plan, in the order of shares_rank, to what may be spent now, and notes which
 * jobs that holds back. Those that would come in for no rows stay out. Returns in how many seconds
 * there will be a row, where rows are wanted and none is granted, else 0. */
double shares_cut(struct shares *s, struct schedule_state *plan, double now);
/* Rows were computed for a job of the account. */
void shares_charge(struct shares *s, int i_account, double units);
/* What may be spent now. */
double shares_level(const struct shares *s, double now);

#endif
