/* SPDX-License-Identifier: Apache-2.0
 *
 * Playing hand-set models in tests: writing and opening one, feeding it ids, comparing each row of
 * logits with what the kind's own arithmetic says. A failure names the first wrong step. */
#ifndef TESTS_HANDSET_PLAY_H
#define TESTS_HANDSET_PLAY_H

#include "handset.h"
#include "models.h"

#include <math.h>

/* What is played; zeroed but for kind = a model with its defaults on the CPU. */
struct setting {
	const char *kind;
	const char *tables[4]; /* built-in ones, up to the first NULL */
	int length;
	enum handset_type type;
	const char *isa, *device;
	enum bb_kv_type kv_type;
	int window;
	const struct handset_kind *unlisted; /* instead of the kind of that name */
	int bits;
	bool recency, non_negative;
};

/* What rows look like: the answer's logit, within `near` of `top`; those of all others within
 * `near` of 0. near = 0: to the bit, but for the sign of 0. top = 0: the answer's is the largest
 * alone. */
struct look {
	float top, near;
};

struct played {
	const struct setting *setting;
	const struct handset_kind *kind;
	struct handset_table tables[4];
	struct handset_options options;
	struct bb_engine *engine;
	int n_vocab;
	float *logits; /* [PLAY_ROWS, n_vocab] */
};

enum { PLAY_ROWS = 512 };

static inline const char *setting_text(const struct setting *s) {
	static char text[256];
	snprintf(text, sizeof(text), "%s %s%s%s%s, N %d, bits %d, type %d, isa %s, device %s, kv %s, "
		"window %d", s->unlisted != NULL ? s->unlisted->name : s->kind,
		s->tables[0] != NULL ? s->tables[0] : "", s->tables[1] != NULL ? "+..." : "",
		s->recency ? "recency" : "", s->non_negative ? "non-negative" : "", s->length, s->bits,
		(int)s->type, s->isa != NULL ? s->isa : "best",
		s->device != NULL ? s->device : "cpu", bb_kv_type_name(s->kv_type), s->window);
	return text;
}

static inline void play_open(struct played *p, const struct setting *s) {
	char path[128];
	struct bb_error err = { 0 };
	*p = (struct played){ .setting = s,
		.kind = s->unlisted != NULL ? s->unlisted : handset_find(s->kind) };
	cr_assert_not_null(p->kind, "%s", s->kind);
	p->options = (struct handset_options){ .tables = p->tables, .length = s->length,
		.type = s->type, .bits = s->bits, .recency = s->recency,
		.non_negative = s->non_negative };
	for (int i = 0; i < 4 && s->tables[i] != NULL; i++) {
		struct handset_table *t = &p->tables[p->options.n_tables++];
		cr_assert(handset_table_builtin(t, s->tables[i], &err), "%s", err.text);
	}
	cr_assert(handset_check(p->kind, &p->options, &err), "%s", err.text);
	snprintf(path, sizeof(path), "/tmp/bobbin-handset-%d.gguf", (int)getpid());
	cr_assert(handset_write(p->kind, &p->options, path, &err), "%s", err.text);
	const struct bb_engine_params params = { .path = path, .isa = s->isa, .device = s->device,
		.kv_type = s->kv_type, .window = s->window, .n_threads = 1 };
	const bool ok = bb_engine_open(&p->engine, bb_models, &params, &err);
	unlink(path); /* it stays mapped */
	cr_assert(ok, "%s: %s", setting_text(s), err.text);
	p->n_vocab = vocab_of(p->engine);
	p->logits = malloc(PLAY_ROWS * (size_t)p->n_vocab * sizeof(*p->logits));
	cr_assert_not_null(p->logits);
}

static inline void play_close(struct played *p) {
	bb_engine_destroy(p->engine);
	for (int i = 0; i < p->options.n_tables; i++) {
		handset_table_finish(&p->tables[i]);
	}
	free(p->logits);
}

static inline int play_argmax(const float *row, int n) {
	int best = 0;
	for (int i = 1; i < n; i++) {
		best = row[i] > row[best] ? i : best;
	}
	return best;
}

static inline bool row_looks(const float *row, int n_vocab, int want, const struct look *look) {
	for (int i = 0; i < n_vocab; i++) {
		const float aim = i == want ? look->top : 0;
		const bool is_near = fabsf(row[i] - aim) <= look->near;
		if (look->top > 0 ? !is_near : i != want && !(row[i] < row[want])) {
			return false;
		}
	}
	return true;
}

/* The row behind ids[at], where `want` must come. */
static inline void expect_row(const struct played *p, const float *row, const int32_t *ids, int at,
	int want, const struct look *look) {
	if (want < 0 || row_looks(row, p->n_vocab, want, look)) {
		return;
	}
	const int got = play_argmax(row, p->n_vocab);
	int worst = want;
	for (int i = 0; i < p->n_vocab; i++) {
		const float aim = i == want ? look->top : 0, aim_worst = worst == want ? look->top : 0;
		worst = fabsf(row[i] - aim) > fabsf(row[worst] - aim_worst) ? i : worst;
	}
	cr_assert(false, "%s: first wrong behind token %d (id %d): expected %d (logit %.9g, want "
		"%.9g), got %d (logit %.9g); farthest off is %d (%.9g)", setting_text(p->setting), at,
		ids[at], want, (double)row[want], (double)look->top, got, (double)row[got], worst,
		(double)row[worst]);
}

/* ids[n] in steps of `chunk`; every row that is defined must look so. Returns how many were. */
static inline int play_ids(struct played *p, struct bb_context *c, const int32_t *ids, int n,
	int chunk, const struct look *look) {
	struct bb_error err = { 0 };
	const int first = bb_context_length(c);
	int n_defined = 0;
	int32_t *whole = malloc((size_t)(first + n) * sizeof(*whole));
	int32_t *expected = malloc((size_t)(first + n) * sizeof(*expected));
	memcpy(whole, bb_context_tokens(c), (size_t)first * sizeof(*whole));
	memcpy(whole + first, ids, (size_t)n * sizeof(*whole));
	cr_assert(p->kind->expect(&p->options, whole, (size_t)(first + n), expected, &err), "%s",
		err.text);
	for (int i = 0; i < n; i += chunk) {
		const int rows = n - i < chunk ? n - i : chunk;
		feed(c, p->engine, ids + i, rows, p->logits);
		for (int r = 0; r < rows; r++) {
			expect_row(p, p->logits + (size_t)r * (size_t)p->n_vocab, whole, first + i + r,
				expected[first + i + r], look);
			n_defined += expected[first + i + r] >= 0;
		}
	}
	free(whole);
	free(expected);
	return n_defined;
}

/* The model's own answers, from the token `next` on, until `eos` or n of them. Each must be what is
 * expected. Returns how many came. */
static inline int play_on(struct played *p, struct bb_context *c, int32_t next, int n, int eos,
	const struct look *look) {
	int i = 0;
	while (i < n) {
		cr_assert_eq(play_ids(p, c, &next, 1, 1, look), 1, "%s: nothing is expected behind token "
			"%d (id %d)", setting_text(p->setting), bb_context_length(c) - 1, next);
		next = play_argmax(p->logits, p->n_vocab);
		i++;
		if (next == eos) {
			break;
		}
	}
	return i;
}

#endif
