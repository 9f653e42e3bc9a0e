/* SPDX-License-Identifier: Apache-2.0
 *
 * Requests in tests: what came of them by their events, and what bb_generation makes of each. */
#ifndef TESTS_OUTCOMES_H
#define TESTS_OUTCOMES_H

#include "engine.h"
#include "models.h"
#include "requests.h"

#include <math.h>

enum { MAX_N = 16, MAX_OUT = 256, MAX_PROMPT = 400, MAX_DECISIONS = 128 };

/* What came of a request, by its events. */
struct outcome {
	struct bb_request *request;
	int32_t ids[MAX_N][MAX_OUT];
	float logprobs[MAX_N][MAX_OUT];
	bool is_forced[MAX_N][MAX_OUT];
	struct bb_decision decisions[MAX_DECISIONS];
	int n_decisions;
	char text[MAX_N][2048];
	int n_ids[MAX_N];
	enum bb_finish finish[MAX_N];
	struct bb_usage usage;
	struct bb_error error;
	bool has_started, has_ended;
	int cancel_at;     /* tokens of all branches until it cancels itself; 0: it doesn't */
	int n_tokens, n_prompt_events;
	double prompt_logprob;
	float *hidden;     /* room for BB_EVENT_HIDDEN, or NULL */
	int n_hidden;      /* floats of it */
};

/* Steps that take no time have all the rows that there are, on any machine. */
static inline double stopped_clock(void *user) {
	(void)user;
	return 1;
}

static inline void on_event(void *user, const struct bb_event *event) {
	struct outcome *o = user;
	const int i = event->branch;
	cr_assert(!o->has_ended, "an event after the last one");
	switch (event->kind) {
	case BB_EVENT_STARTED:
		cr_assert(!o->has_started);
		o->has_started = true;
		break;
	case BB_EVENT_PROMPT:
		cr_assert_eq(event->index, ++o->n_prompt_events);
		o->prompt_logprob += (double)event->token->logprob;
		break;
	case BB_EVENT_DECISION:
		cr_assert(o->has_started && event->decision->why[0] != '\0');
		cr_assert_lt(o->n_decisions, MAX_DECISIONS);
		o->decisions[o->n_decisions++] = *event->decision;
		break;
	case BB_EVENT_HIDDEN:
		cr_assert(o->has_started && o->n_hidden == 0 && o->hidden != NULL);
		o->n_hidden = hparam_int(&event->request->scheduler->engine->plan.hp, H_EMBD);
		memcpy(o->hidden, event->hidden, (size_t)o->n_hidden * sizeof(float));
		break;
	case BB_EVENT_TOKEN:
		cr_assert(o->has_started && o->finish[i] == BB_FINISH_NONE);
		cr_assert_eq(event->index, o->n_ids[i]);
		cr_assert_lt(o->n_ids[i], MAX_OUT);
		o->logprobs[i][o->n_ids[i]] = event->token->logprob;
		o->is_forced[i][o->n_ids[i]] = event->token->is_forced;
		o->ids[i][o->n_ids[i]++] = event->token->id;
		strncat(o->text[i], event->text, event->bytes);
		if (++o->n_tokens == o->cancel_at) {
			bb_request_cancel(event->request);
		}
		break;
	case BB_EVENT_FINISHED:
		cr_assert_eq(o->finish[i], BB_FINISH_NONE);
		o->finish[i] = event->finish;
		break;
	case BB_EVENT_FAILED:
		o->error = *event->error;
		break;
	}
	if (event->usage != NULL) {
		o->usage = *event->usage;
		o->has_ended = true;
	}
}

static inline struct bb_scheduler *new_scheduler(struct bb_engine *e,
	const struct bb_scheduler_params *params) {
	struct bb_scheduler *s;
	struct bb_error err = { 0 };
	cr_assert(bb_scheduler_create(&s, e, params, &err), "%s", err.text);
	return s;
}

static inline void submit(struct bb_scheduler *s, struct bb_request_params p, struct outcome *o) {
	struct bb_error err = { 0 };
	p.event = on_event;
	p.user = o;
	cr_assert(bb_request_submit(&o->request, s, &p, &err), "%s", err.text);
}

static inline void step(struct bb_scheduler *s, bool *idle) {
	struct bb_error err = { 0 };
	cr_assert(bb_scheduler_step(s, idle, &err), "%s", err.text);
}

static inline void run_all(struct bb_scheduler *s) {
	for (bool idle = false; !idle;) {
		step(s, &idle);
	}
}

static inline struct bb_request_params request(struct bb_engine *e, const int32_t *prompt,
	int n_prompt, int max_tokens, uint64_t seed) {
	struct bb_request_params p = { .prompt = prompt, .n_prompt = (size_t)n_prompt };
	bb_sampling_default(e, &p.generation.sampling);
	p.generation.sampling.seed = seed;
	p.generation.max_tokens = max_tokens;
	return p;
}

/* What bb_generation makes of a branch of the request, in a context of its own. */
static inline void expect_alone(struct bb_engine *e, const struct bb_request_params *p, int branch,
	const struct outcome *got) {
	struct bb_generation_params g = p->generation;
	struct bb_context *c = new_context(e);
	struct bb_generation *generation;
	struct bb_error err = { 0 };
	char text[2048] = "";
	enum bb_finish finish = BB_FINISH_NONE;
	g.sampling.seed = bb_branch_seed(g.sampling.seed, branch);
	cr_assert(bb_generation_create(&generation, c, &g, p->prompt, p->n_prompt, NULL, NULL, &err),
		"%s", err.text);
	const int n = got->n_ids[branch];
	for (int i = 0; finish == BB_FINISH_NONE && i < MAX_OUT; i++) {
		struct bb_sampled token;
		const char *piece;
		size_t bytes;
		cr_assert(bb_generation_next(generation, &token, &piece, &bytes, &finish, &err), "%s",
			err.text);
		if (i == n && got->finish[branch] == BB_FINISH_CANCELLED) {
			break;
		}
		cr_assert_lt(i, n, "branch %d ended after %d tokens, %d more were expected", branch, n, 1);
		cr_assert_eq(token.id, got->ids[branch][i], "branch %d, token %d: %d, alone %d", branch, i,
			got->ids[branch][i], token.id);
		cr_assert(memcmp(&token.logprob, &got->logprobs[branch][i], sizeof(float)) == 0,
			"branch %d, token %d: log-probability %.9g, alone %.9g", branch, i,
			(double)got->logprobs[branch][i], (double)token.logprob);
		strncat(text, piece, bytes);
	}
	if (got->finish[branch] != BB_FINISH_CANCELLED) {
		cr_assert_eq(finish, got->finish[branch]);
		cr_assert_str_eq(text, got->text[branch]);
	}
	bb_generation_destroy(generation);
	bb_context_destroy(c);
}

#endif
