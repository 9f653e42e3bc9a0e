/* SPDX-License-Identifier: Apache-2.0
 *
 * Requests of several answers in tests: asked of tiny models whose answers are one of three
 * numbers, and what their events said. */
#ifndef TESTS_HEARD_H
#define TESTS_HEARD_H

#include "mixed.h"

enum { N = 16, LENGTH = 6, MOST_DECISIONS = 200, MOST_REQUESTS = 8 };

struct heard {
	struct bb_request *request;
	int32_t ids[N][LENGTH];
	double confidence[N][LENGTH], certainty[N];
	int n_ids[N], n_tokens, n_finished, n_decisions;
	enum bb_finish finish[N];
	struct bb_decision decisions[MOST_DECISIONS];
	struct bb_usage usage;
	struct bb_error error;
	bool has_ended;
	int cancel_at; /* tokens until it cancels itself; 0: it doesn't */
};

static inline void hear(void *user, const struct bb_event *event) {
	struct heard *h = user;
	const int i = event->branch;
	cr_assert(!h->has_ended, "an event after the last one");
	if (event->kind == BB_EVENT_DECISION) {
		cr_assert_lt(h->n_decisions, MOST_DECISIONS);
		h->decisions[h->n_decisions++] = *event->decision;
	} else if (event->kind == BB_EVENT_TOKEN) {
		cr_assert(h->finish[i] == BB_FINISH_NONE && h->n_ids[i] < LENGTH);
		h->confidence[i][h->n_ids[i]] = (double)event->token->confidence;
		h->certainty[i] += (double)event->token->certainty;
		h->ids[i][h->n_ids[i]++] = event->token->id;
		if (++h->n_tokens == h->cancel_at) {
			bb_request_cancel(event->request);
		}
	} else if (event->kind == BB_EVENT_FINISHED) {
		cr_assert_eq(h->finish[i], BB_FINISH_NONE);
		h->finish[i] = event->finish;
		h->n_finished++;
	} else if (event->kind == BB_EVENT_FAILED) {
		h->error = *event->error;
	}
	if (event->usage != NULL) {
		h->usage = *event->usage;
		h->has_ended = true;
	}
}

static struct bb_engine *engine;
static const char *device; /* of engines; NULL: the CPU */
static int32_t ids[MAX_PROMPT];

static inline void open_tiny(const char *name, int n_tokens, int n_contexts) {
	struct bb_engine_params params = { .path = tiny_path(name), .max_model_len = 512,
		.device = device, .n_threads = 1 };
	engine = open_or_skip(&params);
	if (n_tokens + n_contexts > 0) {
		bb_engine_limit_kv(engine, engine_kv_bytes(engine, n_tokens) +
			(size_t)n_contexts * engine->states.bytes);
	}
	make_ids(ids, MAX_PROMPT, vocab_of(engine), 1);
}

/* Texts are of the numbers 11, 12 and 13, the first one likeliest. */
static const struct bb_logit_bias biases[] = { { 11, 41 }, { 12, 40 }, { 13, 40 } };

static inline struct bb_request_params ask(uint64_t seed, const struct bb_effort *effort) {
	struct bb_request_params p = request(engine, ids + seed % 100, 70, LENGTH, seed);
	p.generation.sampling.logit_bias = biases;
	p.generation.sampling.n_logit_bias = COUNT(biases);
	p.generation.sampling.wants_confidence = true;
	p.n = N;
	p.effort = effort;
	p.event = hear;
	return p;
}

static inline void submit_heard(struct bb_scheduler *s, struct bb_request_params p,
	struct heard *h) {
	struct bb_error err = { 0 };
	memset(h, 0, sizeof(*h));
	p.user = h;
	cr_assert(bb_request_submit(&h->request, s, &p, &err), "%s", err.text);
}

static inline void run_one(const struct bb_request_params *p, struct heard *h) {
	struct bb_scheduler *s = new_scheduler(engine, NULL);
	submit_heard(s, *p, h);
	run_all(s);
	cr_assert(h->has_ended && h->error.code == BB_OK, "%s", h->error.text);
	cr_assert_eq(h->n_finished, p->n);
	bb_scheduler_destroy(s);
	bb_request_release(h->request);
	cr_assert_eq(engine->n_contexts, 0);
}

static inline int n_of_kind(const struct heard *h, enum bb_decision_kind kind) {
	int n = 0;
	for (int i = 0; i < h->n_decisions; i++) {
		n += h->decisions[i].kind == kind;
	}
	return n;
}

static inline const struct bb_decision *one_of_kind(const struct heard *h,
	enum bb_decision_kind kind) {
	cr_assert_eq(n_of_kind(h, kind), 1, "%d of kind %s", n_of_kind(h, kind),
		bb_decision_name(kind));
	int i = 0;
	while (h->decisions[i].kind != kind) {
		i++;
	}
	return &h->decisions[i];
}

static inline void expect_same_tokens(const struct heard *all, const struct heard *h, int i,
	int n) {
	cr_assert_eq(h->n_ids[i], n, "branch %d has %d tokens, not %d", i, h->n_ids[i], n);
	for (int k = 0; k < n; k++) {
		cr_assert_eq(h->ids[i][k], all->ids[i][k], "branch %d, token %d", i, k);
	}
}

struct room {
	const char *model;
	int n_tokens, n_contexts, max_running; /* 0: as many as one likes */
	bool no_prefix_cache;
};

static inline struct bb_effort consensus_of(double threshold) {
	return (struct bb_effort){ .answer_pattern = "number", .choice = BB_CHOICE_VOTE,
		.consensus = threshold };
}

#endif
