/* SPDX-License-Identifier: Apache-2.0
 *
 * What the suites of taps share: engines, sites whose rows are collected, weights of attention. */
#ifndef TESTS_TAPS_H
#define TESTS_TAPS_H

#include "models.h"

#include "engine.h"

#include <math.h>

enum { N_TOKENS = 150, MAX_TAPS = 600 };

static inline struct bb_engine *open_taps(const char *name, const char *device, bool taps,
	enum bb_kv_type kv_type) {
	const struct bb_engine_params params = { .path = tiny_path(name), .device = device,
		.n_threads = 1, .kv_type = kv_type, .max_model_len = 1024, .max_batch_tokens = 192,
		.taps = taps };
	return open_or_skip(&params);
}

static inline struct bb_engine *open_cpu(const char *name) {
	return open_taps(name, NULL, true, BB_KV_F32);
}

static inline void attach(struct bb_engine *e, const struct bb_taps *taps) {
	struct bb_error err = { 0 };
	cr_assert(bb_taps_attach(e, taps, &err), "%s", err.text);
}

/* ---- collecting ---- */

/* The rows of one site and one context. */
struct sink {
	const struct bb_context *context; /* NULL: of any */
	struct bb_tap_site site;
	char at[48];
	float *rows;      /* [N_TOKENS, floats] */
	size_t floats;    /* of a row */
	int n_rows;       /* that came */
};

static inline void take(void *user, const struct bb_tap_rows *r) {
	struct sink *s = user;
	if (s->context != NULL && s->context != r->context) {
		return;
	}
	cr_assert(r->first >= 0 && r->first + r->n_rows <= N_TOKENS);
	cr_assert_str_eq(r->site->full, s->site.full);
	memcpy(s->rows + (size_t)r->first * s->floats, r->rows,
		(size_t)r->n_rows * s->floats * sizeof(float));
	s->n_rows += r->n_rows;
}

static inline void sink_init(struct sink *s, const struct bb_engine *e, const char *at) {
	struct bb_error err = { 0 };
	int n;
	*s = (struct sink){ 0 };
	cr_assert(bb_tap_find(e, at, &s->site, &n, &err), "%s", err.text);
	cr_assert_eq(n, 1, "%s means %d sites", at, n);
	snprintf(s->at, sizeof(s->at), "%s", at);
	s->floats = (size_t)s->site.n_parts * (size_t)s->site.width;
	s->rows = calloc((size_t)N_TOKENS * s->floats, sizeof(float));
}

/* A sink for each of the sites, attached with these edits. */
static inline struct sink *tap_sites(struct bb_engine *e, const char *const *at, int n,
	const struct bb_edit *edits, int n_edits) {
	struct sink *sinks = calloc((size_t)n, sizeof(*sinks));
	struct bb_tap taps[MAX_TAPS];
	cr_assert(n <= MAX_TAPS);
	for (int i = 0; i < n; i++) {
		sink_init(&sinks[i], e, at[i]);
		taps[i] = (struct bb_tap){ sinks[i].at, 0, 0, take, &sinks[i] };
	}
	attach(e, &(struct bb_taps){ .taps = taps, .n_taps = n, .edits = edits, .n_edits = n_edits });
	return sinks;
}

static inline void sinks_free(struct sink *s, int n) {
	for (int i = 0; i < n; i++) {
		free(s[i].rows);
	}
	free(s);
}

/* Every site of the model. */
static inline struct sink *tap_all(struct bb_engine *e, int *n) {
	static char names[MAX_TAPS][48];
	const char *at[MAX_TAPS];
	struct bb_tap_site site;
	*n = 0;
	for (int layer = BB_TAP_UNEMBED; layer < e->plan.n_layers; layer++) {
		for (int i = 0; bb_tap_site(e, layer, i, &site); i++, ++*n) {
			cr_assert(*n < MAX_TAPS);
			snprintf(names[*n], sizeof(names[*n]), "%s", site.full);
			at[*n] = names[*n];
		}
	}
	return tap_sites(e, at, *n, NULL, 0);
}

/* Reads N_TOKENS tokens in steps of `chunk`; logits [N_TOKENS, n_vocab], the caller's to free. */
static inline float *read_all(struct bb_engine *e, struct bb_context *c, int chunk) {
	const size_t n_vocab = (size_t)vocab_of(e);
	float *logits = calloc(N_TOKENS * n_vocab, sizeof(float));
	int32_t ids[N_TOKENS];
	make_ids(ids, N_TOKENS, (int)n_vocab, 4);
	for (int i = 0; i < N_TOKENS; i += chunk) {
		const int n = N_TOKENS - i < chunk ? N_TOKENS - i : chunk;
		feed(c, e, ids + i, n, logits + (size_t)i * n_vocab);
	}
	return logits;
}

static inline float *logits_of(struct bb_engine *e) {
	struct bb_context *c = new_context(e);
	float *logits = read_all(e, c, N_TOKENS);
	bb_context_destroy(c);
	return logits;
}

static inline double largest_difference(const float *a, const float *b, size_t n) {
	double most = 0;
	for (size_t i = 0; i < n; i++) {
		most = fmax(most, fabs((double)a[i] - (double)b[i]));
	}
	return most;
}

static inline void make_vector(float *v, int n) {
	for (int i = 0; i < n; i++) {
		v[i] = (float)((i * 37 + 11) % 19 - 9) / 20;
	}
}

/* ---- attention ---- */

struct attention {
	const struct bb_context *context;
	int n_rows, n_heads, window, layer;
	double *out;      /* [N_TOKENS, n_heads, head_dim]: weights times values */
	const float *v;   /* [n_kv_heads, N_TOKENS, head_dim], or NULL: only the weights are kept */
	float *weights;   /* [n_heads, N_TOKENS, N_TOKENS] */
};

static inline void take_weights(void *user, const struct bb_attention_row *r) {
	struct attention *a = user;
	double sum = 0;
	if (r->context != a->context) {
		return;
	}
	const int first = a->window > 0 && r->token >= a->window ? r->token + 1 - a->window : 0;
	cr_assert(r->layer == a->layer && r->head >= 0 && r->head < a->n_heads);
	cr_assert(r->first == first && r->first + r->n_kept == r->token + 1);
	for (int i = 0; i < r->n_kept; i++) {
		sum += (double)r->weights[i];
	}
	cr_assert_float_eq(sum, 1, 1e-5);
	memcpy(a->weights + ((size_t)r->head * N_TOKENS + (size_t)r->token) * N_TOKENS + r->first,
		r->weights, (size_t)r->n_kept * sizeof(float));
	a->n_rows++;
}

static inline void attention_init(struct attention *a, const struct bb_engine *e,
	const struct bb_context *c, int layer) {
	*a = (struct attention){ .context = c, .layer = layer,
		.n_heads = hparam_int(&e->plan.hp, H_HEADS),
		.window = e->plan.kinds[e->plan.layer_kind[layer]].window };
	a->weights = calloc((size_t)a->n_heads * N_TOKENS * N_TOKENS, sizeof(float));
}

#endif
