/* SPDX-License-Identifier: Apache-2.0
 *
 * An automaton by chain of thought on Mamba, in the format of dfa.c: the convolution adds what the
 * state's token left to what the symbol's does, and a bias lets a channel through only where both
 * are there. The scan's state is unused and there are no positions: it is exact for ever. One
 * constant goes out when the answer comes in. Logits are 1.0 for the next state, 0.0 for all
 * others. */
#include "build.h"
#include "union.h"

/* silu(128) = 128 and silu(-128) = 0 in f32: e^128 is infinite there. */
enum { PULSE = 128, GATE = 32 };

static int width_of(const struct automata *u) {
	int width = build_width(2 * u->n_states + u->n_symbols + 3);
	while (2 * width < u->n_pairs) {
		width *= 4;
	}
	return width;
}

/* Features: the token's id, the answer, three constants. */
static void fill_units(const struct automata *u, int width, const struct ssm_layer *l) {
	const int answer = u->n_symbols + u->n_states, inner = 2 * width;
	const int one = width - 1, spare = width - 2;
	int unit = 0;
	for (int q = 0; q < u->n_states; q++) {
		for (int a = 0; a < u->n_symbols; a++) {
			const int next = automata_next(u, q, a);
			if (next < 0) {
				continue;
			}
			set(&l->in, unit, a, PULSE);
			set(&l->in, unit, u->n_symbols + q, PULSE);
			set(&l->conv, unit, SSM_CONV - 2, 1); /* and 1 for this token */
			set(&l->conv_bias, unit, 0, -PULSE);
			set(&l->skip, unit, 0, 1);
			set(&l->in, inner + unit, one, GATE);
			set(&l->out, answer + next, unit, 1.0f / (PULSE * GATE));
			set(&l->out, spare, unit++, -1.0f / (PULSE * GATE));
		}
	}
}

static bool build(struct handset_build *b, const struct handset_options *o, struct bb_error *err) {
	const struct automata u = automata_of(o);
	const struct ssm s = { .n_layers = 1, .width = width_of(&u), .eos = -1,
		.n_vocab = u.n_symbols + u.n_states, .context_length = 1 << 24 };
	if (!automata_check_size(&u, b, s.width, 4 * s.width, err)) {
		return false;
	}
	struct matrix embed, output;
	ssm_begin(b, &s);
	ssm_ends(b, &s, &embed, &output);
	for (int id = 0; id < s.n_vocab; id++) {
		set(&embed, id, id, 1);
		for (int i = 1; i <= 3; i++) {
			set(&embed, id, s.width - i, 1);
		}
		if (id >= u.n_symbols) {
			set(&output, id, s.n_vocab + id - u.n_symbols, 1);
		}
	}
	automata_name_tokens(&u, b, 0, u.n_symbols);
	const struct ssm_layer l = ssm_layer(b, &s, 0);
	fill_units(&u, s.width, &l);
	return true;
}

const struct handset_kind handset_conv_dfa = {
	.name = "conv-dfa",
	.summary = "an automaton, as dfa, without attention: by the convolution of one Mamba layer",
	.format = "q0 x1 q1 x2 q2 ... xt: the answer to each symbol x is the state q behind it, which "
		"comes next.\n"
		"ids: the symbols of all tables, then their states.",
	.tables = "A + 2 Q at most 4093, and P at most 8192",
	.takes = HANDSET_TAKES_TABLES,
	.build = build,
	.expect = automata_expect_stream,
	.start = automata_start_stream,
	.example = automata_example_stream,
	.example_feed = automata_feed_stream,
};
