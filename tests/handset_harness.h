/* SPDX-License-Identifier: Apache-2.0
 *
 * Hand-set models as judges of an engine: a model in a file, scripts of ids that it understands,
 * the whole row of logits that must come behind each, and what it means when another one comes.
 * For test suites and for the soak: it uses the public header alone, and no framework. */
#ifndef TESTS_HANDSET_HARNESS_H
#define TESTS_HANDSET_HARNESS_H

#include "handset.h"

enum { HAND_TABLES = 4, HAND_ROWS = 512 /* of a step */ };

struct hand_random { /* any seed; two with the same one give the same numbers */
	uint64_t state;
};
int hand_below(struct hand_random *r, int n); /* 0 .. n - 1 */

struct hand_spec {
	const char *kind; /* an unlisted one, too */
	const char *tables[HAND_TABLES]; /* built-in ones, up to the first NULL */
	int length, bits;
	bool recency, non_negative;
	enum handset_type type;
};

struct hand_model {
	const struct handset_kind *kind;
	struct handset_table tables[HAND_TABLES];
	struct handset_options options;
	struct bb_engine *engine;
	int n_vocab, window;     /* of the engine; 0: none */
	enum bb_kv_type kv_type; /* as the engine was asked for it */
	float near;        /* that logits may be off beside what the kind promises; 0 at first */
	float *logits;     /* [HAND_ROWS, n_vocab], of whoever plays */
	char name[96];     /* "dfa parity+mod7" */
	char setting[96];  /* "cpu, best ISA level, f16 KV, window 8, f32 weights" */
	char path[64];     /* of its file */
	char failure[1280]; /* what hand_is_right, hand_play and hand_generate found wrong */
};

/* Writes the model's file; hand_load opens it (params->path is the harness's to set), hand_close
 * closes and deletes all that there is. */
bool hand_write(struct hand_model *m, const struct hand_spec *spec, struct bb_error *err);
bool hand_load(struct hand_model *m, const struct bb_engine_params *params, struct bb_error *err);
void hand_close(struct hand_model *m);

/* Ids of automata, of table i; blocks have padding, an end, and a separator for each table. */
int hand_first_symbol(const struct hand_model *m, int i);
int hand_first_state(const struct hand_model *m, int i);
int hand_padding(const struct hand_model *m);
int hand_end(const struct hand_model *m);
int hand_separator(const struct hand_model *m, int i);

/* ids [from, n) of a script of table i_table that goes on behind ids [0, from). Most of its rows
 * are ones that the kind answers, but those of a circuit's gates. */
void hand_script(const struct hand_model *m, int i_table, struct hand_random *r, int32_t *ids,
	int from, int n);
/* The tokens of a circuit's script, up to its end; behind it nothing is answered. */
int hand_circuit_length(int bits);
/* What must come behind each, -1: anything. Aborts without memory. */
void hand_expect(const struct hand_model *m, const int32_t *ids, int n, int32_t *expected);

/* ---- rows ---- */

struct hand_place {
	int at;            /* index in the timeline of the token that a row is behind */
	int32_t id, want;  /* that token; what must come, >= 0 */
	const float *calm; /* the row as it came where nothing happened: hand_calm; NULL: unknown */
};
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
int hand_largest(const float *row, int n); /* the first; NaN is none */

/* Automata, latches, circuits and induction heads: exact; the census within a few roundings of its
 * largest terms; RWKV-7's within 1e-4, with weights in bf16 0.03. Of selective-copy and
 * fading-parity only the order of logits is known: the answer must be the largest alone, and the
 * row must be place->calm where that is given. */
struct hand_look hand_look(const struct hand_model *m, const float *row,
	const struct hand_place *place);
/* Whether the verdict is HAND_RIGHT; m->failure says what is wrong. */
bool hand_is_right(struct hand_model *m, const float *row, const struct hand_place *place,
	const char *where);
/* What a failure of this kind usually means. */
const char *hand_meaning(const char *kind);
/* A sentence: model, setting, where, expected and got, and that meaning. */
void hand_describe(char *out, size_t cap, const struct hand_model *m, const char *where,
	const struct hand_place *place, const struct hand_look *look, const float *row);

/* ---- playing ---- */

/* Whether rows of the kind are known, and not their order alone. */
bool hand_knows_rows(const struct hand_model *m);
/* Rows [n, n_vocab] of ids that a fresh context reads whole, for place->calm; NULL for kinds whose
 * rows are known. Aborts when the engine fails. The caller frees. */
float *hand_calm(const struct hand_model *m, const int32_t *ids, int n);
/* Reads ids[n] behind what c has, `chunk` in a step, and looks at each row; calm [n, n_vocab] or
 * NULL. Returns how many had an answer; -1: m->failure says what was wrong. The rows of the last
 * step stay in m->logits. */
int hand_play(struct hand_model *m, struct bb_context *c, const int32_t *ids, int n, int chunk,
	const float *calm);
/* The model's own answers, from the token `next` on, up to the id `eos` or n of them; rows
 * [n, n_vocab] or NULL: those behind which they came. Returns how many; -1 as above. */
int hand_generate(struct hand_model *m, struct bb_context *c, int32_t next, int n, int eos,
	float *rows);

#endif
