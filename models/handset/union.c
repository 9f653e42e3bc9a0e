/* SPDX-License-Identifier: Apache-2.0
 *
 * The disjoint union of automata. */
#include "union.h"

#include <stdio.h>

struct automata automata_of(const struct handset_options *o) {
	struct automata u = { o->tables, o->n_tables, 0, 0 };
	for (int i = 0; i < u.n; i++) {
		u.n_symbols += u.tables[i].n_symbols;
		u.n_states += u.tables[i].n_states;
	}
	return u;
}

int automata_first_symbol(const struct automata *u, int i) {
	int first = 0;
	for (int k = 0; k < i; k++) {
		first += u->tables[k].n_symbols;
	}
	return first;
}

int automata_first_state(const struct automata *u, int i) {
	int first = 0;
	for (int k = 0; k < i; k++) {
		first += u->tables[k].n_states;
	}
	return first;
}

int automata_next(const struct automata *u, int state, int symbol) {
	int first_symbol = 0, first_state = 0;
	for (int i = 0; i < u->n; i++) {
		const struct handset_table *t = &u->tables[i];
		const int q = state - first_state, a = symbol - first_symbol;
		if (q >= 0 && q < t->n_states) {
			return a >= 0 && a < t->n_symbols ? first_state + t->next[q * t->n_symbols + a] : -1;
		}
		first_symbol += t->n_symbols;
		first_state += t->n_states;
	}
	return -1;
}

static void put_name(const struct automata *u, const struct handset_table *t, const char *name,
	char *out, size_t cap) {
	snprintf(out, cap, "%.40s%s%.40s", u->n > 1 ? t->name : "", u->n > 1 ? "." : "", name);
}

void automata_symbol_name(const struct automata *u, int symbol, char *out, size_t cap) {
	int i = 0;
	while (symbol >= u->tables[i].n_symbols) {
		symbol -= u->tables[i++].n_symbols;
	}
	put_name(u, &u->tables[i], u->tables[i].symbols[symbol], out, cap);
}

void automata_state_name(const struct automata *u, int state, char *out, size_t cap) {
	int i = 0;
	while (state >= u->tables[i].n_states) {
		state -= u->tables[i++].n_states;
	}
	put_name(u, &u->tables[i], u->tables[i].states[state], out, cap);
}
