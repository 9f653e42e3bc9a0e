/* SPDX-License-Identifier: Apache-2.0
 *
 * An automaton by chain of thought whose symbols all stand in the prompt, padded to N of them: the
 * state of step t is written N tokens behind symbol t + 1, so one head that looks N tokens back
 * finds the next symbol each time. Without the padding one layer can't: its query would have to be
 * largest at another distance for each length. Features: the symbol X, the state O, the symbol N
 * tokens back Y, the answer R, and the constants of dfa.c. Padding is a symbol behind which every
 * state answers with the end. */
#include "build.h"
#include "union.h"

#include <math.h>

enum { PER_HEAD = HANDSET_HEAD - 1, GATE = 32, DEFAULT_LENGTH = 512, MAX_LENGTH = 1 << 20 };

/* Ids: symbols, PAD, states, EOS, and a SEP for each automaton, which is its first state too. */
struct ids {
	struct automata u;
	int pad, first_state, eos, first_sep, n_vocab;
};

static struct ids ids_of(const struct handset_options *o) {
	struct ids x = { .u = automata_of(o) };
	x.pad = x.u.n_symbols;
	x.first_state = x.pad + 1;
	x.eos = x.first_state + x.u.n_states;
	x.first_sep = x.eos + 1;
	x.n_vocab = x.first_sep + x.u.n;
	return x;
}

/* The state that a token stands for, counted among all; -1: none. */
static int state_of(const struct ids *x, int id) {
	if (id >= x->first_state && id < x->eos) {
		return id - x->first_state;
	}
	return id >= x->first_sep && id < x->n_vocab
		? automata_first_state(&x->u, id - x->first_sep) : -1;
}

/* What follows a token of that state when `symbol`, perhaps PAD, is N tokens back; -1: unknown. */
static int answer(const struct ids *x, int state, int symbol) {
	if (symbol == x->pad) {
		return x->eos;
	}
	const int next = symbol >= 0 && symbol < x->pad ? automata_next(&x->u, state, symbol) : -1;
	return next >= 0 ? x->first_state + next : -1;
}

static void name_tokens(struct handset_build *b, const struct ids *x) {
	automata_name_tokens(&x->u, b, 0, x->first_state);
	build_name(b, x->pad, "PAD");
	build_name(b, x->eos, "EOS");
	for (int i = 0; i < x->u.n; i++) {
		automata_name_token(&x->u, b, x->first_sep + i, i, "SEP");
	}
}

/* Where features begin. */
struct features {
	int x, o, y, r, c1, c2, c3;
};

static void fill_ends(const struct ids *x, const struct features *f, const struct matrix *embed,
	const struct matrix *output) {
	for (int id = 0; id < x->n_vocab; id++) {
		const int state = state_of(x, id);
		if (id == x->eos) {
			set(embed, id, f->c1, 2);
			set(output, id, f->r + x->u.n_states, 1);
			continue;
		}
		set(embed, id, state >= 0 ? f->o + state : f->x + id, 1);
		set(embed, id, f->c1, 1);
		set(embed, id, f->c2, 1);
		set(embed, id, f->c3, 1);
		if (id >= x->first_state && id < x->eos) {
			set(output, id, f->r + state, 1);
		}
	}
}

static void fill_attention(const struct ids *x, const struct features *f, int length,
	const struct decoder_layer *l) {
	const int n = x->u.n_symbols + 1, n_heads = (n + PER_HEAD - 1) / PER_HEAD;
	for (int head = 0; head < n_heads; head++) {
		decoder_look_back(l, head, f->c1, length, 0, HANDSET_HEAD / 2);
	}
	for (int a = 0; a < n; a++) {
		const int row = a / PER_HEAD * HANDSET_HEAD + a % PER_HEAD;
		set(&l->v, row, f->x + a, 1);
		set(&l->o, f->y + a, row, 1);
	}
	set(&l->v, PER_HEAD, f->c1, 1);
	set(&l->o, f->c3, PER_HEAD, -1);
}

static void fill_units(const struct ids *x, const struct features *f,
	const struct decoder_layer *l) {
	int unit = 0;
	for (int q = 0; q < x->u.n_states; q++) {
		for (int a = 0; a <= x->pad; a++) {
			const int next = answer(x, q, a);
			if (next >= 0) {
				set(&l->gate, unit, f->o + q, GATE);
				set(&l->up, unit, f->y + a, 1);
				set(&l->down, f->r + next - x->first_state, unit++, 1.0f / GATE);
			}
		}
	}
	set(&l->gate, unit, f->c1, GATE);
	set(&l->up, unit, f->c1, 1);
	set(&l->down, f->c2, unit, -1.0f / GATE);
}

static bool build(struct handset_build *b, const struct handset_options *o, struct bb_error *err) {
	const struct ids x = ids_of(o);
	const int n_symbols = x.u.n_symbols + 1, n_states = x.u.n_states;
	struct decoder d = { .n_layers = 1, .n_ff = x.u.n_pairs + n_states + 1, .n_vocab = x.n_vocab,
		.eos = x.eos, .context_length = 2 * o->length + 64 };
	d.width = build_width(2 * n_symbols + 2 * n_states + 1 + 3);
	d.norm = (float)(2 / sqrt(d.width));
	if (!automata_check_size(&x.u, b, d.width, d.n_ff, err)) {
		return false;
	}
	const struct features f = { 0, n_symbols, n_symbols + n_states, 2 * n_symbols + n_states,
		d.width - 3, d.width - 2, d.width - 1 };
	struct matrix embed, output;
	decoder_begin(b, &d);
	decoder_ends(b, &d, &embed, &output);
	const struct decoder_layer l = decoder_layer(b, &d, 0);
	fill_ends(&x, &f, &embed, &output);
	fill_attention(&x, &f, o->length, &l);
	fill_units(&x, &f, &l);
	name_tokens(b, &x);
	return true;
}

static bool expect(const struct handset_options *o, const int32_t *ids, size_t n, int32_t *expected,
	struct bb_error *err) {
	const struct ids x = ids_of(o);
	const size_t length = (size_t)o->length;
	for (size_t i = 0; i < n; i++) {
		const int state = state_of(&x, ids[i]);
		expected[i] = state >= 0 && i >= length ? answer(&x, state, ids[i - length]) : -1;
	}
	return true;
}

static int start(const struct handset_options *o, int i_table) {
	return ids_of(o).first_sep + i_table;
}

static int example(const struct handset_options *o, struct bb_tokens *prompt,
	struct bb_error *err) {
	const struct ids x = ids_of(o);
	enum { N_SYMBOLS = 6 };
	bool ok = true;
	for (int i = 0; ok && i < o->length; i++) {
		const int symbol = automata_example_symbol(o, i);
		ok = bb_tokens_push(prompt, i < N_SYMBOLS && i < o->length - 1 ? symbol : x.pad, err);
	}
	return ok && bb_tokens_push(prompt, x.first_sep, err) ? -1 : 0;
}

const struct handset_kind handset_dfa_block = {
	.name = "dfa-block",
	.summary = "an automaton whose symbols stand in the prompt: writes all states, then the end",
	.format = "x1 ... xn, PAD up to N tokens (n < N), SEP: the answer is q1 ... qn EOS.\n"
		"ids: the symbols of all tables, PAD, their states, EOS, a SEP for each table.",
	.tables = "A + Q at most 2045, and P + Q at most 32767 where A + Q is more than 509",
	.length = "N, the distance of a symbol and the state behind it",
	.takes = HANDSET_TAKES_TABLES | HANDSET_TAKES_LENGTH,
	.min_length = 2,
	.max_length = MAX_LENGTH,
	.default_length = DEFAULT_LENGTH,
	.build = build,
	.expect = expect,
	.start = start,
	.example = example,
};
