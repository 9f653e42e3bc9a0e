/* SPDX-License-Identifier: Apache-2.0
 *
 * Requests with an effort in tests: a tiny model whose tokens are numbers, one of which ends its
 * thinking. */
#ifndef TESTS_EFFORTS_H
#define TESTS_EFFORTS_H

#include "effort/effort.h"
#include "outcomes.h"

enum { END = 7 };

static struct bb_engine *engine;
static int32_t prompt_ids[MAX_PROMPT];
/* The model doesn't draw the end, or draws nothing else. */
static const struct bb_logit_bias never = { END, -100 }, always = { END, 100 };

static inline void efforts_open(const char *model) {
	engine = open_with(&(struct bb_engine_params){ .path = tiny_path(model), .n_threads = 1,
		.max_model_len = 512 });
	make_ids(prompt_ids, MAX_PROMPT, vocab_of(engine), 1);
}

static inline void efforts_close(void) {
	bb_engine_destroy(engine);
}

/* Thinking from the first token on, without a soft close. */
static inline struct bb_effort thinking(void) {
	return (struct bb_effort){ .thinking = { .end = "7", .closing = "7 1", .extension = "3" },
		.soft_from = 1 };
}

static inline struct bb_request_params thinker(const struct bb_effort *effort, int max_tokens,
	uint64_t seed) {
	struct bb_request_params p = request(engine, prompt_ids, 20, max_tokens, seed);
	p.generation.sampling.logit_bias = &never;
	p.generation.sampling.n_logit_bias = 1;
	p.effort = effort;
	return p;
}

/* What comes of one request in a scheduler of its own. */
static inline void run_one(const struct bb_request_params *p, struct outcome *o) {
	struct bb_scheduler *s = new_scheduler(engine, NULL);
	memset(o, 0, sizeof(*o));
	submit(s, *p, o);
	run_all(s);
	cr_assert(o->has_ended && o->error.code == BB_OK, "%s", o->error.text);
	bb_request_release(o->request);
	bb_scheduler_destroy(s);
}

/* Whatever was written by a policy: each token is reported as likely as the model has it
 * there; tolerance 0: to the bit. */
static inline void expect_likelihoods(const struct bb_request_params *p, const struct outcome *o,
	double tolerance) {
	static int32_t all[MAX_PROMPT + MAX_OUT];
	const int n = (int)p->n_prompt, n_out = o->n_ids[0];
	memcpy(all, p->prompt, (size_t)n * sizeof(*all));
	memcpy(all + n, o->ids[0], (size_t)n_out * sizeof(*all));
	struct bb_context *c = new_context(engine);
	float *logits = malloc((size_t)(n + n_out) * (size_t)vocab_of(engine) * sizeof(float));
	feed(c, engine, all, n + n_out, logits);
	struct bb_generation *g;
	struct bb_error err = { 0 };
	cr_assert(generation_create(&g, engine, &p->generation, 0, &err), "%s", err.text);
	for (int i = 0; i < n_out; i++) {
		struct bb_sampled token = { .id = o->ids[0][i] };
		generation_judge(g, logits + (size_t)(n + i - 1) * (size_t)vocab_of(engine), 0, &token);
		cr_assert(fabs((double)token.logprob - (double)o->logprobs[0][i]) <= tolerance,
			"token %d, %d: %.9g, expected %.9g", i, token.id, (double)o->logprobs[0][i],
			(double)token.logprob);
	}
	bb_generation_destroy(g);
	free(logits);
	bb_context_destroy(c);
}

/* With a sentence that has this word. */
static inline void expect_refused(const struct bb_request_params *params, const char *word) {
	struct bb_scheduler *s = new_scheduler(engine, NULL);
	struct bb_request_params p = *params;
	struct bb_request *r;
	struct bb_error err = { 0 };
	p.event = on_event;
	cr_assert(!bb_request_submit(&r, s, &p, &err), "%s: it was taken", word);
	cr_assert(r == NULL && (err.code == BB_ERR_USAGE || err.code == BB_ERR_INPUT));
	cr_assert_not_null(strstr(err.text, word), "%s: %s", word, err.text);
	bb_scheduler_destroy(s);
}

#endif
