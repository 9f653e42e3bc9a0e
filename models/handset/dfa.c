/* SPDX-License-Identifier: Apache-2.0
 *
 * An automaton by chain of thought in one attention layer: behind each symbol the model writes the
 * state, and reads it one token back at the next symbol. Features of a row: the symbol X, the state
 * O, the state one token back S, and three constants, of which one goes out when S comes in and one
 * when the feed-forward puts the answer into O, so that the sum of squares is 4 throughout.
 * The feed-forward has a unit for each pair of state and symbol: silu(32) * 1 = 32 in f32, and
 * silu(0) = 0, so each is an exact AND. Logits are 1.0 for the next state, 0.0 for all others. */
#include "build.h"
#include "union.h"

#include <math.h>

/* Values of one head but the last, which moves a constant. */
enum { PER_HEAD = HANDSET_HEAD - 1, GATE = 32 };

static void build_attention(const struct decoder_layer *l, int first_state, int read_state,
	int n_states, int one, int spare) {
	const int n_heads = (n_states + PER_HEAD - 1) / PER_HEAD;
	for (int head = 0; head < n_heads; head++) {
		decoder_look_back(l, head, one, 1, 0, HANDSET_HEAD / 2);
	}
	for (int q = 0; q < n_states; q++) {
		const int row = q / PER_HEAD * HANDSET_HEAD + q % PER_HEAD;
		set(&l->v, row, first_state + q, 1);
		set(&l->o, read_state + q, row, 1);
	}
	set(&l->v, PER_HEAD, one, 1);
	set(&l->o, spare, PER_HEAD, -1);
}

static bool build(struct handset_build *b, const struct handset_options *o, struct bb_error *err) {
	const struct automata u = automata_of(o);
	const int n_symbols = u.n_symbols, n_states = u.n_states;
	const int width = build_width(n_symbols + 2 * n_states + 3);
	const int first_o = n_symbols, first_s = first_o + n_states;
	const int c1 = width - 3, c2 = width - 2, c3 = width - 1;
	const struct decoder d = { .n_layers = 1, .width = width, .n_ff = u.n_pairs + 1, .eos = -1,
		.n_vocab = n_symbols + n_states, .context_length = 1 << 22,
		.norm = (float)(2 / sqrt(width)) };
	if (!automata_check_size(&u, b, width, d.n_ff, err)) {
		return false;
	}
	struct matrix embed, output;
	decoder_begin(b, &d);
	decoder_ends(b, &d, &embed, &output);
	const struct decoder_layer l = decoder_layer(b, &d, 0);
	for (int id = 0; id < d.n_vocab; id++) {
		set(&embed, id, id, 1); /* X, then O */
		set(&embed, id, c1, 1);
		set(&embed, id, c2, 1);
		set(&embed, id, c3, 1);
		if (id >= n_symbols) {
			set(&output, id, id, 1);
		}
	}
	automata_name_tokens(&u, b, 0, n_symbols);
	build_attention(&l, first_o, first_s, n_states, c1, c3);
	int unit = 0;
	for (int q = 0; q < n_states; q++) {
		for (int a = 0; a < n_symbols; a++) {
			const int next = automata_next(&u, q, a);
			if (next >= 0) {
				set(&l.gate, unit, first_s + q, GATE);
				set(&l.up, unit, a, 1);
				set(&l.down, first_o + next, unit++, 1.0f / GATE);
			}
		}
	}
	set(&l.gate, unit, c1, GATE);
	set(&l.up, unit, c1, 1);
	set(&l.down, c2, unit, -1.0f / GATE);
	return true;
}

const struct handset_kind handset_dfa = {
	.name = "dfa",
	.summary = "an automaton: reads a symbol, writes the state, in one attention layer",
	.format = "q0 x1 q1 x2 q2 ... xt: the answer to each symbol x is the state q behind it, which "
		"comes next.\n"
		"ids: the symbols of all tables, then their states. q0 is a table's first state. "
		"A window of 2 is enough.",
	.tables = "A + 2 Q at most 4093, and P at most 32767 where A + 2 Q is more than 1021",
	.takes = HANDSET_TAKES_TABLES,
	.build = build,
	.expect = automata_expect_stream,
	.start = automata_start_stream,
	.example = automata_example_stream,
	.example_feed = automata_feed_stream,
};
