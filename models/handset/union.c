/* SPDX-License-Identifier: Apache-2.0
 *
 * The disjoint union of automata. */
#include "union.h"

#include "base.h"

#include <string.h>

struct automata automata_of(const struct handset_options *o) {
	struct automata u = { .tables = o->tables, .n = o->n_tables };
	for (int i = 0; i < u.n; i++) {
		u.n_symbols += u.tables[i].n_symbols;
		u.n_states += u.tables[i].n_states;
		u.n_pairs += u.tables[i].n_states * u.tables[i].n_symbols;
	}
	return u;
}

bool automata_check_size(const struct automata *u, const struct handset_build *b, int width,
	int n_units, struct bb_error *err) {
	enum { MAX_WIDTH = 4096, MAX_WEIGHTS = 1 << 27 };
	return (width <= MAX_WIDTH && n_units <= MAX_WEIGHTS / width) || base_fail(err, BB_ERR_INPUT,
		"the tables are too large for %s: they have A = %d symbols, Q = %d states and P = %d pairs "
		"of both, expected %s", b->kind->name, u->n_symbols, u->n_states, u->n_pairs,
		b->kind->tables);
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

/* Which of the tables of its name a table is, 0: the first. */
static int turn_of(const struct automata *u, int i_table) {
	int turn = 0;
	for (int i = 0; i < i_table; i++) {
		turn += strcmp(u->tables[i].name, u->tables[i_table].name) == 0;
	}
	return turn;
}

void automata_name_token(const struct automata *u, struct handset_build *b, int id, int i_table,
	const char *name) {
	const char *table = u->tables[i_table].name;
	const int turn = turn_of(u, i_table);
	if (u->n == 1) {
		build_name(b, id, "%s", name);
	} else if (turn == 0) {
		build_name(b, id, "%s.%s", table, name);
	} else {
		build_name(b, id, "%s%d.%s", table, turn + 1, name);
	}
}

void automata_name_tokens(const struct automata *u, struct handset_build *b, int first_symbol,
	int first_state) {
	for (int i = 0; i < u->n; i++) {
		const struct handset_table *t = &u->tables[i];
		for (int a = 0; a < t->n_symbols; a++) {
			automata_name_token(u, b, first_symbol++, i, t->symbols[a]);
		}
		for (int q = 0; q < t->n_states; q++) {
			automata_name_token(u, b, first_state++, i, t->states[q]);
		}
	}
}

bool automata_expect_stream(const struct handset_options *o, const int32_t *ids, size_t n,
	int32_t *expected, struct bb_error *err) {
	const struct automata u = automata_of(o);
	for (size_t i = 0; i < n; i++) {
		const int symbol = ids[i], state = i > 0 ? ids[i - 1] - u.n_symbols : -1;
		const bool is_pair = symbol >= 0 && symbol < u.n_symbols && state >= 0 &&
			state < u.n_states;
		const int next = is_pair ? automata_next(&u, state, symbol) : -1;
		expected[i] = next >= 0 ? u.n_symbols + next : -1;
	}
	return true;
}

int automata_example_symbol(const struct handset_options *o, int i) {
	return i / 2 % o->tables[0].n_symbols;
}

int automata_start_stream(const struct handset_options *o, int i_table) {
	const struct automata u = automata_of(o);
	return u.n_symbols + automata_first_state(&u, i_table);
}

int automata_example_stream(const struct handset_options *o, struct bb_tokens *prompt,
	struct bb_error *err) {
	const struct automata u = automata_of(o);
	const bool ok = bb_tokens_push(prompt, u.n_symbols, err) &&
		bb_tokens_push(prompt, automata_example_symbol(o, 0), err);
	return ok ? -1 : 0;
}

bool automata_feed_stream(const struct handset_options *o, struct bb_tokens *feed,
	struct bb_error *err) {
	enum { N_SYMBOLS = 6 };
	bool ok = true;
	for (int i = 1; ok && i < N_SYMBOLS; i++) {
		ok = bb_tokens_push(feed, automata_example_symbol(o, i), err);
	}
	return ok;
}
