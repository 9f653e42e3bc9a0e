/* SPDX-License-Identifier: Apache-2.0
 *
 * Scripts of ids that hand-set models understand, a token behind the other. */
#include "handset_harness.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

/* Steps of SplitMix64 (Steele et al., OOPSLA 2014). */
int hand_below(struct hand_random *r, int n) {
	uint64_t x = r->state += 0x9e3779b97f4a7c15u;
	x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
	x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
	x ^= x >> 31;
	return (int)((x >> 32) * (uint64_t)n >> 32);
}

/* What the kind answers behind the last of ids[n], of which it looks at the last `reach`. */
static int answer_behind(const struct hand_model *m, const int32_t *ids, int n, int reach) {
	const int k = n < reach ? n : reach;
	int32_t *expected = malloc((size_t)k * sizeof(*expected));
	hand_expect(m, ids + n - k, k, expected);
	const int answer = expected[k - 1];
	free(expected);
	return answer;
}

/* ---- ids of automata ---- */

static int count(const struct hand_model *m, int n_tables, bool states) {
	int n = 0;
	for (int i = 0; i < n_tables; i++) {
		n += states ? m->tables[i].n_states : m->tables[i].n_symbols;
	}
	return n;
}

int hand_first_symbol(const struct hand_model *m, int i) {
	return count(m, i, false);
}

int hand_padding(const struct hand_model *m) {
	return count(m, m->options.n_tables, false);
}

int hand_first_state(const struct hand_model *m, int i) {
	const bool is_block = strcmp(m->kind->name, "dfa-block") == 0;
	return hand_padding(m) + is_block + count(m, i, true);
}

int hand_end(const struct hand_model *m) {
	return hand_first_state(m, m->options.n_tables);
}

int hand_separator(const struct hand_model *m, int i) {
	return hand_end(m) + 1 + i;
}

/* ---- the next token behind ids[n] ---- */

/* q0 x1 q1 x2 q2 ... */
static int32_t next_of_stream(const struct hand_model *m, int i_table, struct hand_random *r,
	const int32_t *ids, int n) {
	if (n == 0) {
		return hand_first_state(m, i_table);
	}
	const bool is_state = ids[n - 1] >= hand_first_state(m, 0);
	return is_state ? hand_first_symbol(m, i_table) + hand_below(r, m->tables[i_table].n_symbols)
		: answer_behind(m, ids, n, 2);
}

/* x1 ... xN-1 PAD SEP q1 ... qN-1 EOS, and again: what a SEP or a state needs is N tokens back. */
static int32_t next_of_block(const struct hand_model *m, int i_table, struct hand_random *r,
	const int32_t *ids, int n) {
	const int length = m->options.length, at = n % (2 * length + 1), pad = hand_padding(m);
	const struct handset_table *t = &m->tables[i_table];
	if (at < length) {
		return at == length - 1 ? pad
			: hand_first_symbol(m, i_table) + hand_below(r, t->n_symbols);
	}
	if (at == length) {
		return hand_separator(m, i_table);
	}
	const int first_state = hand_first_state(m, i_table), symbol = ids[n - 1 - length];
	const int state = at == length + 1 ? 0 : ids[n - 1] - first_state;
	return symbol == pad ? hand_end(m) : first_state +
		t->next[state * t->n_symbols + symbol - hand_first_symbol(m, i_table)];
}

/* s0, then other ids than s0 once each in any order, then any one of them at a time, each once: of
 * ids 1 .. n - 1 exactly one earlier copy is there. */
static int32_t next_of_induction(const struct hand_model *m, int i_table, struct hand_random *r,
	const int32_t *ids, int n) {
	const int n_ids = 1 << m->options.bits, n_first = n_ids / 2;
	if (m->options.recency) {
		return n == 0 ? 0 : 1 + hand_below(r, n_ids < 16 ? n_ids - 1 : 15);
	}
	if (n == 0) {
		return 0;
	}
	bool *used = calloc((size_t)n_ids, sizeof(*used));
	const int n_free = n < n_first ? n_ids - n : n_first - 1 - (n - n_first) % (n_first - 1);
	for (int i = n < n_first ? 0 : n_first + (n - n_first) / (n_first - 1) * (n_first - 1); i < n;
		i++) {
		used[ids[i]] = true;
	}
	/* the k-th of those that are free: unused ones, later those of the first part */
	int k = hand_below(r, n_free), id = -1;
	for (int i = 0; id < 0; i++) {
		const int candidate = n < n_first ? i : ids[1 + i];
		id = !used[candidate] && k-- == 0 ? candidate : -1;
	}
	free(used);
	return id;
}

/* Up to 16 items among much noise, GO, then what must come. */
static int32_t next_of_copy(const struct hand_model *m, int i_table, struct hand_random *r,
	const int32_t *ids, int n) {
	enum { N_ITEMS = 16, GO = 20 };
	int n_items = 0;
	for (int i = 0; i < n; i++) {
		n_items += ids[i] < N_ITEMS;
	}
	if (n > 0 && ids[n - 1] >= GO) {
		const int answer = answer_behind(m, ids, n, n);
		return answer >= 0 ? answer : N_ITEMS;
	}
	const int pick = hand_below(r, 24);
	return n_items < 12 && pick < 6 ? hand_below(r, N_ITEMS)
		: n_items >= 12 && pick < 3 ? GO : N_ITEMS + pick % 4;
}

static int32_t next_of_dictionary(const struct hand_model *m, int i_table, struct hand_random *r,
	const int32_t *ids, int n) {
	enum { N = 16 };
	return n > 0 && ids[n - 1] < N ? N + hand_below(r, N)
		: hand_below(r, N) + (hand_below(r, 2) == 0 ? 0 : 2 * N);
}

/* Writes, then swaps and reads. */
static int32_t next_of_s5(const struct hand_model *m, int i_table, struct hand_random *r,
	const int32_t *ids, int n) {
	enum { N_SWAPS = 10, N = 5 };
	return n < N ? N_SWAPS + n : hand_below(r, 2) == 0 ? hand_below(r, N_SWAPS)
		: N_SWAPS + N + hand_below(r, N);
}

/* Begin, then a one and a read in turn. */
static int32_t next_of_parity(const struct hand_model *m, int i_table, struct hand_random *r,
	const int32_t *ids, int n) {
	return n == 0 ? 2 : n % 2 == 1 ? 1 : 3;
}

static int32_t next_of_latch(const struct hand_model *m, int i_table, struct hand_random *r,
	const int32_t *ids, int n) {
	return hand_below(r, 8) == 0 ? hand_below(r, 16) : 16 + hand_below(r, 4);
}

static int32_t next_of_census(const struct hand_model *m, int i_table, struct hand_random *r,
	const int32_t *ids, int n) {
	return n == 0 ? 0 : 1 + hand_below(r, m->options.length);
}

/* An eighth of the wires are inputs, the others gates, but for one: its number ends the circuit. */
static int circuit_inputs(int bits) {
	return (1 << bits) / 8;
}

static int circuit_gates(int bits) {
	return (1 << bits) - 1 - circuit_inputs(bits);
}

int hand_circuit_length(int bits) {
	return 4 * (circuit_gates(bits) + 1) + circuit_inputs(bits) + circuit_gates(bits) + 1;
}

/* x y table g of each gate, x0 x0 end g, the inputs' values, then what must come. */
static int32_t next_of_circuit(const struct hand_model *m, int i_table, struct hand_random *r,
	const int32_t *ids, int n) {
	enum { END = HANDSET_OPS, FIRST_WIRE = HANDSET_OPS + 2 };
	const int bits = m->options.bits, n_inputs = circuit_inputs(bits);
	const int gate = n / 4, n_gates = circuit_gates(bits), values = 4 * (n_gates + 1);
	if (n < values) {
		const int wire = n_inputs + gate;
		return n % 4 == 3 ? FIRST_WIRE + (1 << bits) + wire
			: gate == n_gates ? (n % 4 == 2 ? END : FIRST_WIRE)
			: n % 4 == 2 ? hand_below(r, HANDSET_OPS) : FIRST_WIRE + hand_below(r, wire);
	}
	if (n < values + n_inputs) {
		return handset_circuit_value(bits, n - values, hand_below(r, 2) == 1);
	}
	const int32_t answer = answer_behind(m, ids, n, n);
	return answer >= 0 ? answer : END;
}

typedef int32_t next_fn(const struct hand_model *m, int i_table, struct hand_random *r,
	const int32_t *ids, int n);

static next_fn *next_of(const char *kind) {
	static const struct {
		const char *kind;
		next_fn *next;
	} scripts[] = {
		{ "census", next_of_census }, { "circuit", next_of_circuit },
		{ "conv-dfa", next_of_stream }, { "dfa", next_of_stream }, { "dfa-block", next_of_block },
		{ "dictionary", next_of_dictionary }, { "fading-parity", next_of_parity },
		{ "induction", next_of_induction }, { "latch", next_of_latch },
		{ "s5-rwkv", next_of_s5 }, { "s5-unscaled", next_of_s5 },
		{ "selective-copy", next_of_copy },
	};
	size_t i = 0;
	while (strcmp(scripts[i].kind, kind) != 0) {
		i++;
		assert(i < sizeof(scripts) / sizeof(scripts[0]));
	}
	return scripts[i].next;
}

void hand_script(const struct hand_model *m, int i_table, struct hand_random *r, int32_t *ids,
	int from, int n) {
	next_fn *next = next_of(m->kind->name);
	for (int i = from; i < n; i++) {
		ids[i] = next(m, i_table, r, ids, i);
	}
}
