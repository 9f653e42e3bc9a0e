/* SPDX-License-Identifier: Apache-2.0
 *
 * What runs requests: the queue that any thread may touch, under a lock (requests.c), and what the
 * thread of the steps alone sees (run.c: steps; jobs.c: who is due; spend.c: what they may spend;
 * turns.c: how contexts come in and go; decide.c: what policies of effort decide; infos.c: what
 * others see). */
#ifndef REQUESTS_H
#define REQUESTS_H

#include "effort/effort.h"
#include "effort/shares.h"
#include "effort/worth.h"
#include "generate.h"
#include "prefix.h"
#include "schedule.h"
#include "spec.h"
#include "swap.h"

#include <pthread.h>
#include <stdatomic.h>

/* One of a request's n answers, or a probe of one. Until the prompt is read, branch 0 stands for
 * all that begin with it. */
struct branch {
	struct bb_request *request;
	struct branch *parent;         /* of a probe: which branch it asks; NULL: it's an answer */
	int index;                     /* of a probe: n and its parent's */
	bool is_live;                  /* takes part; else it has ended, or hasn't begun yet */
	bool has_begun;                /* to draw */
	bool has_to_part;              /* others begin where it has read the prompt */
	int n_places;                  /* branches that it stands for */
	struct bb_generation *generation; /* from the first step of the request on */
	struct bb_tokens ids;          /* its timeline: the prompt, and what it has drawn; none until it
	                                * is split off */
	struct bb_context *context;    /* with a beginning of ids; NULL: nothing is computed yet, or no
	                                * more */
	struct swapped swapped;        /* where is_swapped, what the context's pages and state held */
	bool is_swapped;
	const struct branch *source;   /* whose prompt begins alike, which it waits for */
	int n_common;                  /* until source has read so many tokens */
	size_t apart_bytes;            /* of pages that its beginning takes, where that lies aside */
	uint64_t apart_epoch;          /* of the prefix cache when that was asked; 0: never */
	int n_segments;                /* of the request's marks that the context has */
	int n_seen;                    /* tokens that were computed once: behind them it's new */
	int n_output, i_job;
	int n_probe;                   /* of a probe: tokens that it may draw */
	struct bb_text said;           /* … and what it has drawn */
	double logprob;                /* the sum of its tokens' */
	struct spec_branch *spec;      /* NULL: it had no drafts yet */
	enum bb_finish finish;         /* NONE: it hasn't ended */
	struct effort_branch *effort;  /* NULL: no policy */
};

/* A branch as other threads see it. */
struct branch_view {
	struct bb_branch_info info;
	bool has_begun, may_think;
};
enum { MAX_CONTROLS = 16 };        /* of a request, that a step hasn't obeyed yet */

struct bb_request {
	struct bb_scheduler *scheduler;
	uint64_t id;
	struct bb_request *next;       /* in the inbox, or among those that haven't ended, by id */
	atomic_int n_refs;             /* the caller's, and the scheduler's */
	atomic_bool is_cancelled, is_paused;
	struct bb_request_params params; /* with copies of all that it points to */
	double arrived, started, first, last, deadline; /* on the clock; deadline: INFINITY: none */
	uint64_t account;              /* see spend_account */
	int i_account;                 /* where it was in the last plan */
	struct branch *branches;       /* [n_all]: answers, then, where there are any, their probes */
	int n_all, n_first;            /* n of these begin with the prompt, n_first of them */
	int n_live;                    /* answers that haven't ended */
	struct bb_context *stem;       /* with the prompt but for its last token, for branches that
	                                * begin later; NULL: there is none, or memory was short */
	int n_prompt_told;             /* of BB_EVENT_PROMPT */
	bool is_started;
	struct effort *effort;         /* NULL: no policy */
	bool ends_rest, is_ending_rest; /* branches that haven't ended are to be dropped, for this: */
	struct bb_decision ending;
	/* under the scheduler's lock */
	struct bb_control controls[MAX_CONTROLS];
	atomic_int n_controls;
	struct branch_view *views;     /* [n], as after the last step */
	atomic_bool has_ended;
	struct bb_usage usage;
};

struct bb_scheduler {
	struct bb_engine *engine;
	struct prefix *prefix;         /* NULL: none */
	struct bb_scheduler_params params; /* defaults filled in */
	int max_len;                   /* tokens of a context that the engine's max_kv_bytes can hold */
	/* under the lock */
	pthread_mutex_t lock;
	pthread_cond_t changed;
	struct bb_request *inbox, **inbox_end;
	int n_open;                    /* requests that haven't ended, the inbox included */
	int n_begun;                   /* of them */
	int n_paused;                  /* of them, as the last step saw it */
	uint64_t last_id;
	bool is_woken;
	double held_for_s;             /* no step is due before, for want of units */
	struct bb_scheduler_stats stats;
	struct bb_request_info *infos; /* [n_infos], as after the last step */
	int n_infos, max_infos;
	/* of the thread that steps */
	struct bb_request *requests, **requests_end;
	struct schedule_state plan;
	struct branch **of_job;        /* [plan.n_jobs] */
	struct bb_step_item *items;    /* [max_running] */
	struct branch **of_item;
	int n_items, max_jobs;
	struct schedule_meter meter;
	struct shares shares;          /* of compute_budget */
	struct worth_price price;
	struct worth_curve curve;
	double hold_s;                 /* seconds to the next unit, where this step had none */
	int n_mixed;                   /* steps in a row that read prompts while others decode */
	struct spec *spec;             /* NULL: no drafts */
	struct swap_space space;       /* of branches put aside, and of the prefix cache */
	size_t squeeze;                /* a limit that failed allocations taught, of all bytes in use,
	                                * checkpoints too; 0: none */
	bool is_short;                 /* memory ran out, and no step was computed since */
	float *prompt_logits;          /* [PROMPT_ROWS, n_vocab]; NULL: nobody asked yet */
	float *hidden;                 /* [max_running, n_embd], by item; the same */
	double mean_output;            /* tokens of answers */
	struct bb_error broken;        /* why nothing can be computed any more */
	struct bb_scheduler_stats now; /* counts of this thread */
};

enum { PROMPT_ROWS = 16 };

/* ---- turns.c: how the contexts of branches begin, part and end ---- */

/* It has a context, which wasn't copied away. */
bool turns_is_in(const struct branch *b);
/* Bytes of pages that a context of n tokens takes, and of the state. */
size_t turns_bytes(const struct bb_engine *e, int n_tokens);
/* Of them, beyond what it has, to append n_rows. */
size_t turns_bytes_for(const struct branch *b, int n_rows);
/* Those that it has, shared ones in parts. */
size_t turns_bytes_of(const struct branch *b);
/* Where b, which has none, may have a beginning of its context from: it gets one of the prefix
 * cache, or a source, or neither. */
void turns_find_beginning(struct bb_scheduler *s, struct branch *b);
/* Notes what the beginning of b takes, where that would be had from what lies aside. */
void turns_look_aside(const struct bb_scheduler *s, struct branch *b);
/* A source that went on while b had no place may be unable to give its beginning any more; then b
 * has none. */
void turns_check_source(struct branch *b);
/* The branch has a context with its pages and state from now on. */
bool turns_bring_in(struct bb_scheduler *s, struct branch *b, struct bb_error *err);
/* The branch has no pages any more, but can go on as if nothing had been. */
void turns_put_aside(struct bb_scheduler *s, struct branch *b);
/* A branch's answer is whole: what it has computed may serve others. */
void turns_keep(struct bb_scheduler *s, struct branch *b);
void turns_drop(struct bb_scheduler *s, struct branch *b);
/* Branch 0, which has read all of the prompt but its last token, becomes n_first, and leaves a stem
 * where there may be more. On an error it's one still, and none of the others has begun. */
bool turns_split(struct branch *b, struct bb_error *err);
/* A branch that hasn't begun does: from the stem, or as one whose prompt has yet to be found or
 * read. BB_ERR_MEMORY: it hasn't. */
bool turns_begin_late(struct branch *b, struct bb_error *err);
/* No more branches of r begin. */
void turns_drop_stem(struct bb_request *r);
/* Of the newest request that has one; whether any had. */
bool turns_give_up_stem(struct bb_scheduler *s);
/* The probe whose tokens are the branch's and these [n], which waits for it from now on, begins.
 * BB_ERR_MEMORY: it hasn't. */
bool turns_begin_probe(struct branch *b, const int32_t *ids, size_t n, struct bb_error *err);
/* The probe of a branch, if one is on its way. */
struct branch *turns_probe_of(const struct branch *b);
/* A probe is over, and leaves nothing behind. NULL is fine. */
void turns_end_probe(struct bb_scheduler *s, struct branch *probe);

/* ---- jobs.c: branches as jobs of a plan ---- */

/* Up to where it reads before it draws, or before it parts. */
int jobs_end_of(const struct branch *b);
/* Whether the next rows are those of a prompt whose logits are wanted: for one at a time there is
 * room. */
bool jobs_reads_aloud(const struct branch *b);
/* Room for a job of each branch. */
bool jobs_reserve(struct bb_scheduler *s, struct bb_error *err);
/* Puts aside who has to go. What is shared with others counts in parts, so that it may take more of
 * them than it seemed. A limit that was learnt, and that who goes first has outgrown, puts nobody
 * aside: it would come in again, to grow as far again. Where steps fail without it he has all. */
void jobs_plan(struct bb_scheduler *s, double now);
/* Whether there is memory again, of prefixes, or of pages and states that nobody uses: what lacks
 * it may be neither. A step that fails all the same leaves pages that it had asked for, which help
 * nobody a second time. */
bool jobs_find_memory(struct bb_scheduler *s);
/* Memory ran out before the budget did: bytes beyond those in use now aren't counted on until a
 * request has ended. */
void jobs_learn_limit(struct bb_scheduler *s);

/* ---- probes.c: forks of branches that are asked for their answer ---- */

/* Whether b's context has room for these n tokens and n_tokens more. */
bool probes_fit(const struct bb_scheduler *s, const struct branch *b, size_t n, int n_tokens);
/* b, which has just drawn, waits from now on while a fork draws n_tokens behind these ids [n]. The
 * same branch at the same token has the same probe. BB_ERR_MEMORY: it has none. */
bool probes_begin(struct bb_scheduler *s, struct branch *b, const int32_t *ids, size_t n,
	int n_tokens, struct bb_error *err);
/* What a step drew for it joins what it has said; *is_over: that's all. It's still to be ended. On
 * an error too, for which its request fails. */
bool probes_take(struct bb_scheduler *s, struct branch *probe, bool *is_over,
	struct bb_error *err);

/* ---- decide.c: decisions on how much thought a request gets ---- */

/* Before the first token of a branch, whether its request has an effort or not. It may have ended
 * then. */
bool decide_begin(struct bb_scheduler *s, struct branch *b, struct bb_error *err);
/* Before its token that was drawn is given out. */
bool decide_drawn(struct branch *b, struct bb_error *err);
/* Behind that; `finish` as it will end with it. The branch may have ended then. */
bool decide_token(struct bb_scheduler *s, struct branch *b, const struct bb_sampled *token,
	enum bb_finish finish, struct bb_error *err);
/* A branch has ended, but for its event. */
bool decide_ended(struct branch *b, struct bb_error *err);
/* A probe of it has said this. */
bool decide_probed(struct branch *b, const struct bb_text *said, struct bb_error *err);
/* Why a branch is dropped that ends with the rest. */
void decide_tell_rest(struct branch *b);
/* All have, but for the event of the last one: which are given. */
void decide_choice(struct bb_request *r);
/* Before a step: what was asked for meanwhile, and what the clock says. */
void decide_step(struct bb_scheduler *s, double now);

/* ---- spend.c: the compute budget ---- */

/* The account of a name, NULL too. */
uint64_t spend_account(const char *name);
bool spend_init(struct bb_scheduler *s, struct bb_error *err);
void spend_finish(struct bb_scheduler *s);
bool spend_reserve(struct bb_scheduler *s, int n_jobs, struct bb_error *err);
/* Before the jobs of a plan; for each of them. */
void spend_begin(struct bb_scheduler *s);
void spend_add_job(struct bb_scheduler *s, const struct branch *b, int length,
	struct schedule_job *j);
/* Behind it: rows that there are no units for are taken out, and the price is set. */
void spend_cut(struct bb_scheduler *s, double now);
/* Rows of drafts that a step may have beyond those of its plan: of units that were saved up those
 * beyond a half, since a wrong draft is for nothing. */
int spend_spare_rows(const struct bb_scheduler *s, double now);
/* An elastic request sees the market as it is now. */
void spend_show(struct bb_request *r);
/* Rows of b were computed in a step. */
void spend_charge(struct bb_scheduler *s, const struct branch *b, int n_rows, double flops);

/* ---- infos.c ---- */

/* What others see of a branch that hasn't begun, or of one as it is now. */
struct branch_view infos_view(const struct branch *b);

void infos_publish(struct bb_scheduler *s);

/* ---- run.c ---- */

/* What was submitted belongs to the thread of the steps from now on. */
void run_take_inbox(struct bb_scheduler *s);
void run_end_all(struct bb_scheduler *s, enum bb_finish finish, const struct bb_error *err);
/* What draws its tokens. */
bool run_begin_generation(struct bb_scheduler *s, struct branch *b, struct bb_error *err);
void run_tell(struct bb_request *r, struct bb_event *event);
/* Its branch, or all of it, is no more. */
void run_end_branch(struct bb_scheduler *s, struct branch *b, enum bb_finish finish);
/* Those that haven't ended, where that was decided. */
void run_end_rest(struct bb_scheduler *s, struct bb_request *r);
void run_fail(struct bb_scheduler *s, struct bb_request *r, const struct bb_error *err);

/* ---- requests.c ---- */

double requests_now(const struct bb_scheduler *s);
void requests_unref(struct bb_request *r);

#endif
