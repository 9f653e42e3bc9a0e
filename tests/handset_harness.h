/* SPDX-License-Identifier: Apache-2.0
 *
 * Hand-set models as judges of an engine: a model in a file, scripts of ids that it understands,
 * the whole row of logits that must come behind each, and what it means when another one comes.
 * For test suites and for the soak: it uses the public header alone, and no framework. */
#ifndef TESTS_HANDSET_HARNESS_H
#define TESTS_HANDSET_HARNESS_H

#include "handset.h"

enum { HAND_TABLES = 4 };

struct hand_random { /* any seed; two with the same one give the same numbers */
	uint64_t state;
};
int hand_below(struct hand_random *r, int n); /* 0 .. n - 1 */

struct hand_spec {
	const char *kind;
	const char *tables[HAND_TABLES]; /* built-in ones, up to the first NULL */
	int length, bits;
	bool recency;
};

struct hand_model {
	const struct handset_kind *kind;
	struct handset_table tables[HAND_TABLES];
	struct handset_options options;
	struct bb_engine *engine;
	int n_vocab, window; /* of the engine; 0: none */
	float near;          /* that logits may be off beside what the kind promises; 0 at first */
	char name[96];       /* "dfa parity+mod7" */
	char path[64];       /* of its file */
};

/* Writes the model's file; hand_load opens it (params->path is the harness's to set), hand_close
 * closes and deletes all that there is. */
bool hand_write(struct hand_model *m, const struct hand_spec *spec, struct bb_error *err);
bool hand_load(struct hand_model *m, const struct bb_engine_params *params, struct bb_error *err);
void hand_close(struct hand_model *m);

/* ids [from, n) of a script of table i_table that goes on behind ids [0, from). Most of its rows
 * are ones that the kind answers. */
void hand_script(const struct hand_model *m, int i_table, struct hand_random *r, int32_t *ids,
	int from, int n);
/* What must come behind each, -1: anything. Aborts without memory. */
void hand_expect(const struct hand_model *m, const int32_t *ids, int n, int32_t *expected);

/* ---- rows ---- */

enum hand_verdict {
	HAND_RIGHT,
	HAND_LOGITS, /* the right token is the largest alone, but logits are off */
	HAND_WRONG,  /* or another one is as large */
};
struct hand_look {
	enum hand_verdict verdict;
	int got;    /* the largest */
	int worst;  /* which is farthest off, by `off`; NaN is the farthest */
	float off;
};
/* The row behind the token at index `at` (of the timeline), where `want` >= 0 must come. Automata,
 * latches and induction heads: exact; the census within a few roundings, RWKV-7's within 1e-3;
 * where only the order of logits is promised, the answer must be the largest alone. */
struct hand_look hand_look(const struct hand_model *m, const float *row, int at, int want);

/* What a failure of this kind usually means. */
const char *hand_meaning(const char *kind);
/* A sentence: model, where, expected and got, and that meaning. */
void hand_describe(char *out, size_t cap, const struct hand_model *m, const char *where, int at,
	int want, const struct hand_look *look, const float *row);

#endif
