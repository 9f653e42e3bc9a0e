/* SPDX-License-Identifier: Apache-2.0
 *
 * Several automata as one: the symbols of all, then the states of all. A context belongs to the
 * automaton in whose first state it begins. */
#ifndef HANDSET_UNION_H
#define HANDSET_UNION_H

#include "build.h"

struct automata {
	const struct handset_table *tables; /* [n] */
	int n, n_symbols, n_states, n_pairs; /* of all together; a pair is a state and a symbol of the
	                                        * same table */
};

struct automata automata_of(const struct handset_options *o);
/* Whether rows of that width and a matrix of n_units of them are still of a size that makes sense;
 * BB_ERR_INPUT where not. */
bool automata_check_size(const struct automata *u, const struct handset_build *b, int width,
	int n_units, struct bb_error *err);
/* The i-th automaton's first state among all. */
int automata_first_state(const struct automata *u, int i);
/* The state behind `state` and `symbol`, counted among all; -1 where they are of two automata. */
int automata_next(const struct automata *u, int state, int symbol);
/* Names a token: "mod7.3", the automaton's name only where there are several; "mod72.3" of a
 * second one of that name. */
void automata_name_token(const struct automata *u, struct handset_build *b, int id, int i_table,
	const char *name);
/* Names those from first_symbol and from first_state on. */
void automata_name_tokens(const struct automata *u, struct handset_build *b, int first_symbol,
	int first_state);

/* handset_kind's functions, for the format q0 x1 q1 x2 q2 ..., symbols 0.., then states. */
bool automata_expect_stream(const struct handset_options *o, const int32_t *ids, size_t n,
	int32_t *expected, struct bb_error *err);
int automata_start_stream(const struct handset_options *o, int i_table);
int automata_example_stream(const struct handset_options *o, struct bb_tokens *prompt,
	struct bb_error *err);
bool automata_feed_stream(const struct handset_options *o, struct bb_tokens *feed,
	struct bb_error *err);
/* The i-th symbol of examples for the first automaton. */
int automata_example_symbol(const struct handset_options *o, int i);

#endif
