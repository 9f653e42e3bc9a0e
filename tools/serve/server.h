/* SPDX-License-Identifier: Apache-2.0
 *
 * What all requests share: the model, its scheduler and the thread that steps it, limits, names,
 * keys, counts. */
#ifndef SERVER_H
#define SERVER_H

#include "args.h"
#include "bobbin.h"
#include "metrics.h"
#include "store.h"
#include "tool_format.h"

#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>

enum log_level { LOG_OFF, LOG_ERROR, LOG_WARN, LOG_INFO, LOG_DEBUG };

struct server_options {
	const char *host;
	int port;                     /* 0: any that is free */
	struct arg_texts names;       /* --served-model-name */
	struct arg_texts keys;        /* of the API; none: anybody may */
	double weights[ARG_LIST_MAX]; /* [keys.n], of their shares of the compute budget; 0: 1 */
	double compute_budget;        /* of all requests, tokens or FLOPs a second; 0: none */
	bool budget_is_flops;
	struct arg_texts origins;     /* that CORS allows; none: no CORS */
	struct arg_texts hosts;       /* further names that requests may call this machine */
	int max_running, max_waiting, max_step_tokens;
	size_t prefix_cache_bytes, swap_bytes;
	bool no_prefix_cache;
	const struct bb_speculation *speculation; /* as the scheduler has it */
	size_t max_body_bytes;
	int max_depth;                /* of JSON */
	int max_connections;
	int max_n;                    /* answers of a request */
	int max_stored;               /* responses kept for previous_response_id */
	size_t max_stored_bytes;
	size_t max_embeds_bytes;      /* of prompts that came as embeddings, all that aren't answered */
	int idle_s;                   /* a connection that sends or takes nothing is closed */
	int receive_s;                /* the same for one whose request has taken so long to come */
	int drain_s;                  /* how long SIGTERM waits for what has begun */
	const char *template_source;  /* instead of the model's, or NULL */
	const char *tool_parser, *reasoning_parser; /* NULL or "auto" */
	const char *think_begin, *think_end; /* marks of thinking instead of the template's, or NULL */
	/* of requests that don't say: the pattern of answers, a level, a budget (< 0: none) */
	const char *answer_pattern, *reasoning_effort;
	int thinking_budget;
	const char *decision_log;     /* where decisions are noted, or NULL */
	bool metrics_vllm;
	bool prompt_embeds;           /* prompts may come as embeddings */
	enum log_level log_level;
};

struct server {
	struct server_options options;
	struct bb_engine *engine;
	struct bb_engine_info info;
	struct bb_scheduler *scheduler;
	const char *names[ARG_LIST_MAX + 2]; /* [n_names]: what requests may call the model; the first
	                                      * is what replies call it */
	int n_names;
	char stem[256];
	const char *template_source;  /* NULL: none at all */
	const struct tool_format *tools;
	struct bb_thinking thinking;  /* where it begins and ends; without an end it isn't told apart */
	long created;                 /* of the model, for /v1/models */
	double started;
	struct metrics metrics;
	struct store store;

	pthread_mutex_t live_lock;
	struct live *live;            /* under it: exchanges that have requests, the newest first */
	int decision_fd;              /* of the log of decisions, or -1 */
	bool has_torn_line;           /* the log ends within one; the engine's thread's */
	bool has_lost_decisions;      /* which was said; the engine's thread's */

	atomic_size_t embeds_bytes;   /* of prompts that came as embeddings, until they are answered */
	struct turn *_Atomic ended;   /* to be freed behind a step; see turn_free_ended */

	pthread_t thread;             /* steps the scheduler */
	bool has_thread;
	atomic_bool is_draining, must_stop;
	atomic_bool is_cut;           /* who still waits for an answer doesn't get it; */
	int cut_fd;                   /* ... readable from then on */
	atomic_int n_open;            /* exchanges that aren't answered */
	atomic_bool is_broken;        /* the engine can't compute any more */
	struct bb_error broken;
};

/* What is wrong with options whatever the model. */
bool server_check(const struct server_options *o, struct bb_error *err);
/* Takes the engine, whatever comes of it; the options have passed server_check. *s is large and may
 * not move. */
bool server_start(struct server *s, struct bb_engine *engine, const struct server_options *options,
	const char *path, struct bb_error *err);
/* What has begun is cancelled; nothing may use the server any more but exchanges that end. */
void server_stop(struct server *s);
/* All that is under way ends with an error, which says that the server does. */
void server_cut(struct server *s);
void server_finish(struct server *s);
/* Fills *err and returns false. */
bool server_fail(struct bb_error *err, enum bb_code code, const char *format, ...)
	__attribute__((format(printf, 3, 4)));
/* Whether a request may call the model so; NULL and "" mean it too. */
bool server_has_model(const struct server *s, const char *name);

#endif
