/* SPDX-License-Identifier: Apache-2.0
 *
 * Models whose weights are set by hand, so that the right output is known for every input and any
 * length: ordinary GGUF files of architectures that this build runs. Each kind is one file here and
 * one row in all.c; beside the weights it holds what they compute, for tests to compare. */
#ifndef HANDSET_H
#define HANDSET_H

#include "bobbin.h"

/* ---- automata ---- */

struct handset_table { /* finish frees it; zeroed = empty */
	char *name;
	int n_states, n_symbols;
	int *next;      /* [n_states, n_symbols]; a run begins in state 0 */
	char **states;  /* [n_states] */
	char **symbols; /* [n_symbols] */
};

/* Of tables in JSON: each, and n_states * n_symbols; bytes of a name. */
enum { HANDSET_MAX_STATES = 1000, HANDSET_MAX_SYMBOLS = 1000, HANDSET_MAX_PAIRS = 1 << 16,
	HANDSET_MAX_NAME = 39 };
enum { HANDSET_MAX_JSON = 16 << 20 }; /* bytes that the JSON of a table or a circuit may have */

/* "parity, mod7, …", joined as a sentence lists them. */
extern const char handset_tables[];
const char *handset_table_name(int i); /* of the i-th built in; NULL behind the last */
/* One of those. False without an error when there is none of that name. */
bool handset_table_builtin(struct handset_table *t, const char *name, struct bb_error *err);
/* JSON: {"delta": [[next state per symbol] per state]}, and perhaps "states" and "symbols", names
 * of each, in which none is empty and none comes twice; `name` is the automaton's, `file` begins
 * the sentence of an error. */
bool handset_table_parse(struct handset_table *t, const char *name, const char *file,
	const void *json, size_t bytes, struct bb_error *err);
void handset_table_finish(struct handset_table *t);

/* ---- circuits ---- */

enum { HANDSET_OPS = 16 };
/* Names of truth tables, whose number is the results for 00 01 10 11 as bits: "and" is 1. */
extern const char *const handset_ops[HANDSET_OPS];
extern const char handset_op_list[]; /* all names that circuits in JSON may use, as a sentence */

struct handset_gate {
	int op, a, b; /* operands are wires before its own */
};

/* Wires are the inputs, then the gates. */
struct handset_circuit {
	int n_inputs, n_gates;
	const struct handset_gate *gates; /* [n_gates] */
	char **names;                     /* [n_inputs + n_gates] or NULL */
};

/* JSON: {"inputs": ["a", …], "gates": [["x", "xor", "a", "b"], …]}: name, table, operands; a table
 * is a name in any case, or the results for 00 01 10 11 as in "0110". `file` begins the sentence of
 * an error. finish frees what this makes; zeroed = empty. */
bool handset_circuit_parse(struct handset_circuit *c, const char *file, const void *json,
	size_t bytes, struct bb_error *err);
void handset_circuit_finish(struct handset_circuit *c);
/* Appends what asks a model of so many bits for the gates' values, given inputs[n_inputs]. */
bool handset_circuit_prompt(const struct handset_circuit *c, int bits, const bool *inputs,
	struct bb_tokens *out, struct bb_error *err);
/* The token that says a wire has that value. */
int32_t handset_circuit_value(int bits, int wire, bool value);
/* values [n_inputs + n_gates]: fills in those of the gates. */
void handset_circuit_run(const struct handset_circuit *c, bool *values);

/* ---- kinds ---- */

enum handset_type { HANDSET_F32, HANDSET_F16, HANDSET_BF16 };

struct handset_options { /* zeroed = a kind's defaults */
	const struct handset_table *tables; /* [n_tables], in one model: their disjoint union */
	int n_tables;
	int length;             /* N: what it means is up to the kind; 0 = its default */
	int bits;               /* of a token's code; 0 = the kind's default */
	bool recency;           /* of several matches the last one answers */
	bool non_negative;      /* keys without negative numbers */
	enum handset_type type; /* of matrices; vectors are F32 */
};

enum { /* which of them a kind takes */
	HANDSET_TAKES_TABLES = 1 << 0, /* and needs */
	HANDSET_TAKES_LENGTH = 1 << 1,
	HANDSET_TAKES_BITS = 1 << 2,
	HANDSET_TAKES_RECENCY = 1 << 3,
	HANDSET_TAKES_NON_NEGATIVE = 1 << 4,
};

struct handset_build; /* a file in the making: build.h */

struct handset_kind {
	const char *name;
	const char *summary; /* one line: what it computes, and by what */
	const char *format;  /* of its prompts, and what it answers; lines */
	const char *length;  /* what options.length means, with limits; NULL: not taken */
	const char *tables;  /* limits of all tables together, with A symbols, Q states and P pairs of
	                        * both in one table; NULL: not taken */
	const char *recency; /* options of `bobbin run` that a model with options.recency needs; or
	                        * NULL */
	int takes;           /* HANDSET_TAKES_… */
	int min_length, max_length, default_length;
	int min_bits, max_bits, default_bits;

	/* Writes metadata and tensors. Only what `takes` names may be set in *o, within the limits;
	 * zeros have become defaults. False for options that together can't be built. */
	bool (*build)(struct handset_build *b, const struct handset_options *o, struct bb_error *err);
	/* What the model answers behind each of ids[n], -1 where that isn't defined: expected [n].
	 * Ids outside of the vocabulary are undefined too. False when there is no memory. */
	bool (*expect)(const struct handset_options *o, const int32_t *ids, size_t n, int32_t *expected,
		struct bb_error *err);
	/* The token with which a run of the i-th table begins; NULL where none are taken. */
	int (*start)(const struct handset_options *o, int i_table);
	/* Appends a prompt to try; returns the number of tokens to generate, -1: until the model ends,
	 * or 0 when there is no memory. */
	int (*example)(const struct handset_options *o, struct bb_tokens *prompt, struct bb_error *err);
	/* Appends what somebody answers, a token behind each that the model writes; NULL: nothing. */
	bool (*example_feed)(const struct handset_options *o, struct bb_tokens *feed,
		struct bb_error *err);
};

/* NULL-terminated, in the order of their names. */
extern const struct handset_kind *const handset_kinds[];
const struct handset_kind *handset_find(const char *name); /* NULL: unknown */

/* Not among them, for tests: what is lost without rates beyond 1. The weights of s5-rwkv in a file
 * without rwkv7.attention.iclr_scale; and parity as well as RWKV-7 can hold it then, in the sign of
 * a number that fades: right for 131 ones where numbers below 2^-126 are kept, and for about 110
 * where they are flushed to zero. */
extern const struct handset_kind handset_s5_unscaled, handset_fading_parity;

/* BB_ERR_USAGE for what the kind doesn't take and for what is out of range; then fills in the
 * defaults. Everything below wants options that it has accepted. */
bool handset_check(const struct handset_kind *kind, struct handset_options *o,
	struct bb_error *err);
/* Writes the model; on an error what stood at `path` stays. */
bool handset_write(const struct handset_kind *kind, const struct handset_options *o,
	const char *path, struct bb_error *err);

struct handset_names { /* finish frees it; zeroed = empty */
	char **names; /* [n], of each token id */
	int n;
};
/* The same, and gives the names that stand in the file. */
bool handset_write_named(const struct handset_kind *kind, const struct handset_options *o,
	const char *path, struct handset_names *names, struct bb_error *err);
void handset_names_finish(struct handset_names *names);

#endif
