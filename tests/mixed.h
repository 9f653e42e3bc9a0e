/* SPDX-License-Identifier: Apache-2.0
 *
 * Requests of all sorts beside each other: whatever was cancelled, put aside, forked, shared or
 * held to a grammar meanwhile, each answer is the one that its request gets alone, and what
 * contexts hold stays within its limits after every step. For the CPU and for devices. */
#ifndef TESTS_MIXED_H
#define TESTS_MIXED_H

#include "gguf_builder.h"
#include "outcomes.h"

#include <unistd.h>

enum { MIXED_MOST = 64 };

/* How requests come to be put aside: not at all, copied, or to be computed again. */
enum pressure { NO_PRESSURE, SWAPS, RECOMPUTES };

struct mixed {
	struct bb_engine_params params;
	int n_requests, most_prompt, most_tokens;
	int max_running, max_step_tokens;
	enum pressure pressure;
	bool has_vocabulary; /* for some a regular expression says what the text must be */
	const struct bb_speculation *speculation; /* as bb_scheduler_params has it */
};

static inline uint32_t mixed_random(uint32_t *x) {
	*x = *x * 1664525u + 1013904223u;
	return *x >> 8;
}

/* Beginnings of a few texts, so that some begin alike, with an end of their own. */
static inline int mixed_prompt(int32_t *ids, int n_vocab, uint32_t *random, int most) {
	const int n_common = (int)(mixed_random(random) % (uint32_t)(most / 2));
	const int n_own = 1 + (int)(mixed_random(random) % (uint32_t)(most / 2));
	make_ids(ids, n_common, n_vocab, 1 + (int)(mixed_random(random) % 3));
	make_ids(ids + n_common, n_own, n_vocab, 100 + (int)(mixed_random(random) % 1000));
	return n_common + n_own;
}

/* Bytes of the pages and states of contexts with so many tokens in all. */
static inline size_t bytes_of(const struct bb_engine_params *params, int n_tokens,
	int n_contexts) {
	struct bb_engine *e = open_with(params);
	const size_t bytes = engine_kv_bytes(e, n_tokens) + (size_t)n_contexts * e->states.bytes;
	bb_engine_destroy(e);
	return bytes;
}

/* ---- a vocabulary for tiny models, which have none ---- */

static inline void mixed_copy_key(struct gguf_builder *b, const struct gguf *g,
	const struct gguf_kv *kv) {
	struct bb_error err = { 0 };
	struct gguf_string text;
	double number = 0;
	int64_t whole = 0;
	bool flag = false, found;
	if (kv->type == GGUF_STRING) {
		cr_assert(gguf_str(g, kv->key, &text, &found, &err), "%s", err.text);
		gguf_builder_bytes_str(b, kv->key, text.data, text.bytes);
	} else if (kv->type == GGUF_ARRAY) {
		gguf_builder_array(b, kv->key, kv->elem, kv->n, kv->data);
	} else if (kv->type == GGUF_F32 || kv->type == GGUF_F64) {
		cr_assert(gguf_float(g, kv->key, &number, &found, &err), "%s", err.text);
		gguf_builder_float(b, kv->key, kv->type, number);
	} else if (kv->type == GGUF_BOOL) {
		cr_assert(gguf_bool(g, kv->key, &flag, &found, &err), "%s", err.text);
		gguf_builder_bool(b, kv->key, flag);
	} else {
		cr_assert(gguf_int(g, kv->key, &whole, &found, &err), "%s", err.text);
		gguf_builder_int(b, kv->key, kv->type, whole);
	}
}

/* Unknown, beginning, end; letters and digits; then words of a letter and a number. */
static inline void mixed_put_vocabulary(struct gguf_builder *b, int n_vocab) {
	static const char letters[] = "abcdefghijklmnopqrstuvwxyz0123456789 \n";
	static char texts[1024][8];
	static const char *all[1024];
	static float scores[1024];
	static int32_t types[1024];
	cr_assert(n_vocab > 64 && n_vocab <= 1024);
	for (int i = 0; i < n_vocab; i++) {
		const int k = i - 3, n = (int)sizeof(letters) - 1;
		snprintf(texts[i], sizeof(texts[i]), k < 0 ? "<%d>" : k < n ? "%c" : "%c%d",
			k < 0 ? i : letters[k % n], k / n);
		all[i] = texts[i];
		types[i] = i == 0 ? 2 : i < 3 ? 3 : 1; /* unknown, control, normal */
		scores[i] = (float)-i;
	}
	gguf_builder_str(b, "tokenizer.ggml.model", "llama");
	gguf_builder_strs(b, "tokenizer.ggml.tokens", (size_t)n_vocab, all);
	gguf_builder_array(b, "tokenizer.ggml.scores", GGUF_F32, (size_t)n_vocab, scores);
	gguf_builder_array(b, "tokenizer.ggml.token_type", GGUF_I32, (size_t)n_vocab, types);
	gguf_builder_int(b, "tokenizer.ggml.bos_token_id", GGUF_U32, 1);
	gguf_builder_int(b, "tokenizer.ggml.eos_token_id", GGUF_U32, 2);
}

/* Path of a copy of a tiny model with a vocabulary, for the caller to unlink. */
static inline const char *with_vocabulary(const char *name) {
	static char path[64];
	struct gguf g;
	struct gguf_builder b;
	struct bb_error err = { 0 };
	cr_assert(gguf_open(&g, tiny_path(name), &err), "%s", err.text);
	gguf_builder_init(&b);
	int n_vocab = 0;
	for (size_t i = 0; i < g.n_kvs; i++) {
		if (strncmp(g.kvs[i].key, "tokenizer.", strlen("tokenizer.")) != 0) {
			mixed_copy_key(&b, &g, &g.kvs[i]);
		}
	}
	const struct bb_tensor *embedding = gguf_tensor(&g, "token_embd.weight");
	cr_assert_not_null(embedding);
	n_vocab = (int)embedding->dims[0];
	mixed_put_vocabulary(&b, n_vocab);
	for (size_t i = 0; i < g.n_tensors; i++) {
		const struct bb_tensor *t = &g.tensors[i];
		gguf_builder_tensor(&b, t->name, t->type, t->n_dims, t->dims, t->data);
	}
	snprintf(path, sizeof(path), "/tmp/bobbin-mixed-%s-%d.gguf", name, (int)getpid());
	cr_assert(gguf_builder_write(&b, path), "%s can't be written", path);
	gguf_builder_finish(&b);
	gguf_finish(&g);
	return path;
}

/* ---- the requests ---- */

static inline void mixed_request(int i, const struct bb_grammar *grammar,
	struct bb_request_params *p) {
	static const char *const stops[] = { "7 1", " 33" };
	p->n = i % 5 == 4 ? 4 : 1;
	p->priority = i % 7 == 6 ? -1 : i % 3;
	p->n_prompt_logprobs = i % 8 == 5 ? 2 : 0;
	p->generation.sampling.temperature = i % 2 == 0 ? 1 : 0;
	p->generation.sampling.frequency_penalty = i % 4 == 0 ? 0.5f : 0;
	p->generation.sampling.n_logprobs = i % 4 == 2 ? 3 : 0;
	p->generation.stop = stops;
	p->generation.n_stop = i % 3 == 1 ? 2 : 0;
	if (i % 6 == 1 && p->generation.max_tokens > 4) {
		p->generation.min_tokens = 4;
	}
	p->generation.sampling.grammar = i % 3 == 2 ? grammar : NULL;
}

/* The parts of all contexts are what there is, and what was known of kept ones is still so. */
static inline void mixed_check_account(struct bb_engine *e) {
	const struct used_bytes kept = engine_kept_bytes(e);
	double n_states = 0, n_pages[MAX_LAYER_KINDS] = { 0 };
	e->kept_at--;
	const struct used_bytes again = engine_kept_bytes(e);
	cr_assert(kept.live == again.live && kept.all == again.all, "%zu and %zu bytes are kept, not "
		"%zu and %zu", again.live, again.all, kept.live, kept.all);
	for (struct bb_context *c = e->contexts; c != NULL; c = c->after) {
		n_states += c->state != NULL ? 1.0 / state_n_live(c->state) : 0;
		for (int i = 0; i < e->plan.n_paged; i++) {
			n_pages[i] += kv_share(&c->tables[i]);
		}
	}
	cr_assert_float_eq(n_states, e->states.n_live, 1e-6);
	for (int i = 0; i < e->plan.n_paged; i++) {
		cr_assert_float_eq(n_pages[i], (double)e->pools[i][e->kv_type].n_used, 1e-6);
	}
}

/* What contexts hold is within its limits; where the model has states alone, so it was within the
 * step. */
static inline void mixed_check_bytes(struct bb_engine *e) {
	const size_t max = e->budget.max_bytes;
	const struct state_pool *states = &e->states;
	const struct used_bytes used = engine_used_bytes(e);
	cr_assert(max == 0 || used.live <= max, "%zu bytes of %zu are in use", used.live, max);
	cr_assert_leq(e->kept_states->n_kept, e->kept_states->max_kept);
	cr_assert(max == 0 || e->plan.n_paged > 0 || states->bytes == 0 ||
		(size_t)states->n_all <= max / states->bytes + (size_t)states->max_kept,
		"there were %d states", states->n_all);
	mixed_check_account(e);
}

static inline void mixed_check_stats(const struct mixed *m, struct bb_scheduler *s) {
	struct bb_scheduler_stats stats;
	bb_scheduler_stats(s, &stats);
	cr_assert_eq(stats.n_finished + stats.n_cancelled, (uint64_t)m->n_requests);
	cr_assert(m->pressure == NO_PRESSURE ||
		(m->pressure == SWAPS ? stats.n_swapped : stats.n_dropped) > 0, "nobody was put aside");
	cr_assert(m->pressure != RECOMPUTES || stats.n_computed_again > 0);
	if (m->speculation != NULL && m->speculation->is_fixed) {
		uint64_t n_drafted = 0, n_accepted = 0;
		for (int i = 0; i < BB_SPEC_SOURCES; i++) {
			n_drafted += stats.spec[i].n_drafted;
			n_accepted += stats.spec[i].n_accepted;
		}
		cr_assert(n_accepted > 0 && n_accepted < n_drafted, "%d of %d drafts were right",
			(int)n_accepted, (int)n_drafted);
	}
}

static inline void check_mixed(const struct mixed *m) {
	static int32_t prompts[MIXED_MOST][MAX_PROMPT];
	static struct outcome outcomes[MIXED_MOST];
	struct bb_request_params requests[MIXED_MOST];
	struct bb_engine *e = open_with(&m->params);
	const struct bb_scheduler_params sp = { .max_running = m->max_running,
		.max_step_tokens = m->max_step_tokens, .speculation = m->speculation,
		.max_swap_bytes = m->pressure == RECOMPUTES ? 1 : 0 };
	struct bb_scheduler *s = new_scheduler(e, &sp);
	struct bb_grammar *grammar = NULL;
	struct bb_error err = { 0 };
	uint32_t random = 7;
	bool idle = false;
	memset(outcomes, 0, sizeof(outcomes));
	cr_assert(!m->has_vocabulary || bb_grammar_create(&grammar, e, BB_GRAMMAR_REGEX,
		"[a-f]+([0-9] ?[g-z])*", strlen("[a-f]+([0-9] ?[g-z])*"), &err), "%s", err.text);
	for (int i = 0; i < m->n_requests; i++) {
		const int n = mixed_prompt(prompts[i], vocab_of(e), &random, m->most_prompt);
		requests[i] = request(e, prompts[i], n,
			1 + (int)(mixed_random(&random) % (uint32_t)m->most_tokens), (uint64_t)i);
		mixed_request(i, grammar, &requests[i]);
		outcomes[i].cancel_at = i % 9 == 8 ? 3 : 0;
		submit(s, requests[i], &outcomes[i]);
		for (int k = 0; k < i % 4; k++) {
			step(s, &idle);
			mixed_check_bytes(e);
		}
	}
	for (idle = false; !idle;) {
		step(s, &idle);
		mixed_check_bytes(e);
	}
	for (int i = 0; i < m->n_requests; i++) {
		cr_assert(outcomes[i].has_ended && outcomes[i].error.code == BB_OK, "request %d: %s", i,
			outcomes[i].error.text);
	}
	mixed_check_stats(m, s);
	bb_scheduler_destroy(s);
	for (int i = 0; i < m->n_requests; i++) {
		for (int k = 0; k < requests[i].n; k++) {
			expect_alone(e, &requests[i], k, &outcomes[i]);
		}
		bb_request_release(outcomes[i].request);
	}
	cr_assert_eq(e->n_contexts, 0);
	bb_grammar_destroy(grammar);
	bb_engine_destroy(e);
}

/* With memory for so few, by copies and computed again; of the states that checkpoints keep too. */
static inline void check_mixed_pressed(struct mixed *m, int n_tokens, int n_contexts) {
	m->params.max_kv_bytes = bytes_of(&m->params, n_tokens, n_contexts);
	m->params.state_cache_bytes = n_contexts > 0 ? bytes_of(&m->params, 0, 6) : 0;
	m->pressure = SWAPS;
	check_mixed(m);
	m->pressure = RECOMPUTES;
	check_mixed(m);
}

#endif
