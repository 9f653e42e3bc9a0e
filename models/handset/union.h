/* SPDX-License-Identifier: Apache-2.0
 *
 * Several automata as one: the symbols of all, then the states of all. A context belongs to the
 * automaton in whose first state it begins. */
#ifndef HANDSET_UNION_H
#define HANDSET_UNION_H

#include "handset.h"

struct automata {
	const struct handset_table *tables; /* [n] */
	int n, n_symbols, n_states;         /* of all together */
};

struct automata automata_of(const struct handset_options *o);
/* The i-th automaton's first symbol and first state among all. */
int automata_first_symbol(const struct automata *u, int i);
int automata_first_state(const struct automata *u, int i);
/* The state behind `state` and `symbol`, counted among all; -1 where they are of two automata. */
int automata_next(const struct automata *u, int state, int symbol);
/* "mod7.3": the automaton's name is there only where there are several. */
void automata_symbol_name(const struct automata *u, int symbol, char *out, size_t cap);
void automata_state_name(const struct automata *u, int state, char *out, size_t cap);

#endif
