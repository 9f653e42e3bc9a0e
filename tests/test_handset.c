/* SPDX-License-Identifier: Apache-2.0
 *
 * Automata, latch, selective copying and census with hand-set weights: every logit of every step,
 * fed and generated, with every KV type, in windows, at lengths around pages and splits; and what
 * the same weights can't do without their chain of thought. */
#include "handset_asserts.h"

#include "base.h"

#include <math.h>

static const char *const all_tables[] = { "parity", "mod7", "bracket8", "s5" };
static const enum bb_kv_type kv_types[] = { BB_KV_F32, BB_KV_F16, BB_KV_BF16, BB_KV_INT8 };

static struct hand_random dice;

/* ---- streams: q0 x1 q1 x2 q2 ... ---- */

enum { N_STEPS = 140 }; /* 281 tokens: beyond four pages and one split */

static void play_stream(const struct hand_case *s, int chunk) {
	struct hand_model p;
	int32_t ids[1 + 2 * N_STEPS];
	open_case(&p, s);
	for (int i = 0; i < p.options.n_tables; i++) {
		struct bb_context *c = new_context(p.engine);
		hand_script(&p, i, &dice, ids, 0, 1 + 2 * N_STEPS);
		cr_assert_eq(expect_rows(&p, c, ids, 1 + 2 * N_STEPS, chunk), N_STEPS);
		bb_context_destroy(c);
	}
	hand_close(&p);
}

Test(handset, stream_of_every_table_and_kv_type) {
	for (size_t t = 0; t < COUNT(all_tables); t++) {
		for (size_t k = 0; k < COUNT(kv_types); k++) {
			const struct hand_case s = { { "dfa", { all_tables[t] } },
				{ .kv_type = kv_types[k] } };
			play_stream(&s, HAND_ROWS);
			play_stream(&s, 1);
		}
	}
}

Test(handset, stream_in_windows) {
	static const int windows[] = { 2, 3, 8, 64, 65 };
	for (size_t t = 0; t < COUNT(all_tables); t++) {
		for (size_t w = 0; w < COUNT(windows); w++) {
			const struct hand_case s = { { "dfa", { all_tables[t] } },
				{ .kv_type = kv_types[w % COUNT(kv_types)], .window = windows[w] } };
			play_stream(&s, 1 + 62 * (int)(w % 2));
		}
	}
}

Test(handset, stream_of_every_type_and_isa_level) {
	for (enum handset_type type = HANDSET_F32; type <= HANDSET_BF16; type++) {
		for (int i = 0; bb_isa_names()[i] != NULL; i++) {
			const struct hand_case s = { { "dfa", { "mod7" }, .type = type },
				{ .isa = bb_isa_names()[i] } };
			if (bb_isa_is_available(s.params.isa)) {
				play_stream(&s, 33);
			}
		}
	}
}

/* The model's own states are fed back; only the symbols come from outside. */
Test(handset, stream_feeds_itself) {
	for (size_t t = 0; t < COUNT(all_tables); t++) {
		const struct hand_case s = { { "dfa", { all_tables[t] } }, { .window = 2 } };
		struct hand_model p;
		open_case(&p, &s);
		struct bb_context *c = new_context(p.engine);
		int state = 0;
		int32_t ids[2] = { p.tables[0].n_symbols };
		expect_rows(&p, c, ids, 1, 1);
		for (int i = 0; i < 300; i++) {
			const int x = hand_below(&dice, p.tables[0].n_symbols);
			state = p.tables[0].next[state * p.tables[0].n_symbols + x];
			ids[0] = x;
			cr_assert_eq(expect_rows(&p, c, ids, 1, 1), 1);
			ids[0] = hand_largest(p.logits, p.n_vocab);
			cr_assert_eq(ids[0], p.tables[0].n_symbols + state, "%s: step %d: expected state %d, "
				"got %d", all_tables[t], i, state, ids[0] - p.tables[0].n_symbols);
			expect_rows(&p, c, ids, 1, 1);
		}
		bb_context_destroy(c);
		hand_close(&p);
	}
}

Test(handset, conv_stream_of_every_table_type_and_isa_level) {
	for (size_t t = 0; t < COUNT(all_tables); t++) {
		for (int i = 0; bb_isa_names()[i] != NULL; i++) {
			const struct hand_case s = { { "conv-dfa", { all_tables[t] },
				.type = (enum handset_type)((t + (size_t)i) % 3) }, { .isa = bb_isa_names()[i] } };
			if (bb_isa_is_available(s.params.isa)) {
				play_stream(&s, i % 2 == 0 ? HAND_ROWS : 1);
			}
		}
	}
	const struct hand_case mixed = { { "conv-dfa", { "parity", "mod7", "bracket8" } } };
	play_stream(&mixed, 7);
}

/* Four automata in one model, a context of each and one more, in the same steps: 1 to 5 rows. One
 * of them is forked, leads a life of its own, and comes back to where it was. */
Test(handset, batch_of_different_automata) {
	enum { N_CONTEXTS = 5, N_TOKENS = 1 + 2 * N_STEPS };
	static const struct hand_case s = { { "dfa",
		{ "parity", "mod7", "bracket8", "s5" } } };
	struct hand_model p;
	struct bb_context *c[N_CONTEXTS];
	static int32_t ids[N_CONTEXTS][N_TOKENS], expected[N_CONTEXTS][N_TOKENS];
	struct bb_error err = { 0 };
	open_case(&p, &s);
	for (int i = 0; i < N_CONTEXTS; i++) {
		c[i] = new_context(p.engine);
		hand_script(&p, i % 4, &dice, ids[i], 0, N_TOKENS);
		hand_expect(&p, ids[i], N_TOKENS, expected[i]);
	}
	for (int step = 0;; step++) {
		struct bb_step_item items[N_CONTEXTS];
		int n_items = 0, of[N_CONTEXTS];
		float *at = p.logits;
		for (int i = 0; i < N_CONTEXTS; i++) {
			const int length = bb_context_length(c[i]), left = N_TOKENS - length;
			const int n = left < 1 + (i + step) % 5 ? left : 1 + (i + step) % 5;
			if (n > 0) {
				of[n_items] = i;
				items[n_items++] = (struct bb_step_item){ c[i], ids[i] + length, n, at, true };
				at += n * p.n_vocab;
			}
		}
		if (n_items == 0) {
			break;
		}
		cr_assert(bb_step(p.engine, items, n_items, &err), "%s", err.text);
		for (int k = 0; k < n_items; k++) {
			const int i = of[k], first = bb_context_length(c[i]) - items[k].n_tokens;
			for (int r = 0; r < items[k].n_tokens; r++) {
				expect_row(&p, items[k].logits + r * p.n_vocab, first + r, ids[i][first + r],
					expected[i][first + r]);
			}
		}
		if (step % 17 == 16) { /* forked and gone astray, or back by some tokens */
			struct bb_context *fork;
			const int length = bb_context_length(c[2]);
			cr_assert(bb_context_fork(&fork, c[2], &err), "%s", err.text);
			feed(fork, p.engine, ids[3], 9, NULL);
			bb_context_destroy(fork);
			cr_assert(bb_context_rewind(c[2], length - 7, &err), "%s", err.text);
		}
	}
	for (int i = 0; i < N_CONTEXTS; i++) {
		cr_assert_eq(bb_context_length(c[i]), N_TOKENS);
		bb_context_destroy(c[i]);
	}
	hand_close(&p);
}

/* ---- blocks: x1 ... xn PAD ... SEP -> q1 ... qn EOS ---- */

/* Prompts of n symbols of table i, then the model on its own. */
static void play_block(struct hand_model *p, int i, int n) {
	const int length = p->options.length;
	int32_t *ids = malloc((size_t)length * sizeof(*ids));
	for (int t = 0; t < length; t++) {
		ids[t] = t < n ? hand_first_symbol(p, i) + hand_below(&dice, p->tables[i].n_symbols)
			: hand_padding(p);
	}
	struct bb_context *c = new_context(p->engine);
	expect_rows(p, c, ids, length, HAND_ROWS);
	const int n_made = expect_written(p, c, hand_separator(p, i), length, hand_end(p));
	cr_assert_eq(n_made, n < length ? n + 1 : n, "%s: %d of %d steps, then %d",
		p->name, n_made, n, bb_context_tokens(c)[bb_context_length(c) - 1]);
	bb_context_destroy(c);
	free(ids);
}

Test(handset, block_around_pages_and_splits) {
	static const int lengths[] = { 2, 48, 63, 64, 65, 255, 256, 257 };
	for (size_t t = 0; t < COUNT(all_tables); t++) {
		for (size_t k = 0; k < COUNT(lengths); k++) {
			const struct hand_case s = { { "dfa-block", { all_tables[t] }, .length = lengths[k] },
				{ .kv_type = kv_types[k % COUNT(kv_types)] } };
			struct hand_model p;
			open_case(&p, &s);
			play_block(&p, 0, 0);
			play_block(&p, 0, lengths[k] / 3);
			play_block(&p, 0, lengths[k] - 1);
			play_block(&p, 0, lengths[k]);
			hand_close(&p);
		}
	}
}

Test(handset, block_of_every_type_and_isa_level) {
	for (enum handset_type type = HANDSET_F32; type <= HANDSET_BF16; type++) {
		for (int i = 0; bb_isa_names()[i] != NULL; i++) {
			for (size_t k = 0; k < COUNT(kv_types); k++) {
				const struct hand_case s = { { "dfa-block", { "mod7" }, .type = type,
					.length = 130 }, { .isa = bb_isa_names()[i], .kv_type = kv_types[k] } };
				struct hand_model p;
				if (bb_isa_is_available(s.params.isa)) {
					open_case(&p, &s);
					play_block(&p, 0, 30);
					hand_close(&p);
				}
			}
		}
	}
}

Test(handset, block_of_several_automata) {
	static const struct hand_case s = { { "dfa-block",
		{ "bracket8", "s5", "parity", "mod7" }, .length = 40 } };
	struct hand_model p;
	open_case(&p, &s);
	for (int i = 0; i < 4; i++) {
		play_block(&p, i, 25);
	}
	hand_close(&p);
}

/* A second prompt in the same context is answered as the first: only distances count. */
Test(handset, block_again_in_one_context) {
	static const struct hand_case s = { { "dfa-block", { "s5" }, .length = 20 } };
	struct hand_model p;
	open_case(&p, &s);
	struct bb_context *c = new_context(p.engine);
	for (int turn = 0; turn < 2; turn++) {
		int32_t ids[20];
		for (int t = 0; t < 20; t++) {
			ids[t] = t < 11 ? hand_below(&dice, 2) : hand_padding(&p);
		}
		expect_rows(&p, c, ids, 20, 20);
		cr_assert_eq(expect_written(&p, c, hand_separator(&p, 0), 21, hand_end(&p)), 12);
	}
	bb_context_destroy(c);
	hand_close(&p);
}

/* The whole run is fed, as the model's own: what it would write stands in the ids. */
Test(handset, block_at_length, .timeout = 300) {
	enum { N = 2048 };
	static const struct hand_case s = { { "dfa-block", { "mod7" }, .length = N } };
	static int32_t ids[2 * N];
	struct hand_model p;
	open_case(&p, &s);
	struct bb_context *c = new_context(p.engine);
	hand_script(&p, 0, &dice, ids, 0, 2 * N);
	cr_assert_eq(expect_rows(&p, c, ids, 2 * N, HAND_ROWS), N);
	bb_context_destroy(c);
	hand_close(&p);
}

/* ---- without the chain of thought ---- */

/* Behind symbols alone every state has the same logit, to the bit. */
static void expect_tie(const struct hand_model *p, const float *row, int at) {
	for (int i = p->tables[0].n_symbols; i < p->n_vocab; i++) {
		cr_assert(row[i] == row[p->tables[0].n_symbols], "%s: token %d: state %d has logit %.9g, "
			"state 0 %.9g", p->name, at, i - p->tables[0].n_symbols,
			(double)row[i], (double)row[p->tables[0].n_symbols]);
	}
}

static void play_without_states(const struct hand_case *s) {
	enum { N = 33 };
	struct hand_model p;
	int32_t ids[N];
	open_case(&p, s);
	for (int run = 0; run < 20; run++) {
		struct bb_context *c = new_context(p.engine);
		ids[0] = p.tables[0].n_symbols;
		for (int i = 1; i < N; i++) {
			ids[i] = hand_below(&dice, p.tables[0].n_symbols);
		}
		feed(c, p.engine, ids, N, p.logits);
		for (int i = 2; i < N; i++) { /* behind the first symbol q1 is still there to be told */
			expect_tie(&p, p.logits + i * p.n_vocab, i);
		}
		bb_context_destroy(c);
	}
	hand_close(&p);
}

Test(handset, stream_without_states_says_nothing) {
	for (size_t t = 0; t < COUNT(all_tables); t++) {
		const struct hand_case s = { { "dfa", { all_tables[t] } } };
		play_without_states(&s);
	}
}

/* Nor does the convolution. Where a symbol comes twice all its units are on: as each state is
 * reached once by them, all say the same. (Those of the brackets aren't; that is left out.) */
Test(handset, conv_stream_without_states_says_nothing) {
	static const char *const groups[] = { "parity", "mod7", "s5" };
	for (size_t t = 0; t < COUNT(groups); t++) {
		const struct hand_case s = { { "conv-dfa", { groups[t] } } };
		play_without_states(&s);
	}
}

/* A window of 1 shows a symbol itself alone. */
Test(handset, stream_in_a_window_of_one_says_nothing) {
	static const struct hand_case s = { { "dfa", { "s5" } }, { .window = 1 } };
	struct hand_model p;
	int32_t ids[1 + 2 * N_STEPS];
	open_case(&p, &s);
	struct bb_context *c = new_context(p.engine);
	hand_script(&p, 0, &dice, ids, 0, 1 + 2 * N_STEPS);
	feed(c, p.engine, ids, 1 + 2 * N_STEPS, p.logits);
	for (int i = 1; i < 1 + 2 * N_STEPS; i += 2) {
		expect_tie(&p, p.logits + i * p.n_vocab, i);
	}
	bb_context_destroy(c);
	hand_close(&p);
}

/* Only the state that is written just before the last symbol is used: the answer is its successor,
 * whatever came before. */
Test(handset, stream_believes_the_state_that_is_written) {
	static const struct hand_case s = { { "dfa", { "mod7" } } };
	static const int32_t ids[] = { 3, 1, 4, 1, 9, 2 }; /* 0 +1 1 +1 6 +2: 6 + 2 = 1 */
	struct hand_model p;
	open_case(&p, &s);
	struct bb_context *c = new_context(p.engine);
	cr_assert_eq(expect_rows(&p, c, ids, 6, 6), 3);
	cr_assert_eq(hand_largest(p.logits + (size_t)5 * (size_t)p.n_vocab, p.n_vocab), 3 + 1);
	bb_context_destroy(c);
	hand_close(&p);
}

/* ---- Mamba's states ---- */

static void play_latch(const struct hand_case *s, int n, int chunk) {
	struct hand_model p;
	int32_t *ids = malloc((size_t)n * sizeof(*ids));
	open_case(&p, s);
	hand_script(&p, 0, &dice, ids, 0, n);
	ids[0] = 3; /* before the first value nothing is defined */
	struct bb_context *c = new_context(p.engine);
	cr_assert_eq(expect_rows(&p, c, ids, n, chunk), n);
	bb_context_destroy(c);
	hand_close(&p);
	free(ids);
}

Test(handset, latch) {
	for (int i = 0; bb_isa_names()[i] != NULL; i++) {
		const struct hand_case s = { { "latch", .type = (enum handset_type)(i % 3) },
			{ .isa = bb_isa_names()[i] } };
		if (bb_isa_is_available(s.params.isa)) {
			play_latch(&s, 1500, 1 + 100 * (i % 2));
		}
	}
	const struct hand_case best = { { "latch" } };
	play_latch(&best, 200000, HAND_ROWS);
}

/* k items among noise, then the model on its own; and the same read whole, to the bit. */
static void play_copy(struct hand_model *p, int k, int n_noise, int chunk) {
	enum { GO = 20, EOS = 37, MOST = 40 };
	const int n = k + n_noise, n_kept = k < 16 ? k : 16;
	int32_t *ids = malloc((size_t)n * sizeof(*ids));
	float *rows = malloc(MOST * (size_t)p->n_vocab * sizeof(*rows));
	struct bb_error err = { 0 };
	for (int i = 0, left = k; i < n; i++) {
		const bool is_item = hand_below(&dice, n - i) < left;
		left -= is_item;
		ids[i] = is_item ? hand_below(&dice, 16) : 16 + hand_below(&dice, 4);
	}
	struct bb_context *c = new_context(p->engine), *whole = new_context(p->engine);
	cr_assert_eq(expect_rows(p, c, ids, n, chunk), 0);
	cr_assert_eq(hand_generate(p, c, GO, MOST, EOS, rows), n_kept + 1, "%s", p->failure);
	cr_assert(n == 0 || bb_prefill(whole, ids, (size_t)n, NULL, NULL, NULL, &err), "%s", err.text);
	cr_assert_eq(hand_play(p, whole, bb_context_tokens(c) + n, n_kept + 1, n_kept + 1, rows),
		n_kept + 1, "%s", p->failure);
	bb_context_destroy(c);
	bb_context_destroy(whole);
	free(rows);
	free(ids);
}

Test(handset, selective_copy) {
	static const int items[] = { 0, 1, 4, 15, 16, 17, 20 };
	for (enum handset_type type = HANDSET_F32; type <= HANDSET_BF16; type++) {
		for (int i = 0; bb_isa_names()[i] != NULL; i++) {
			const struct hand_case s = { { "selective-copy", .type = type },
				{ .isa = bb_isa_names()[i] } };
			struct hand_model p;
			if (!bb_isa_is_available(s.params.isa)) {
				continue;
			}
			open_case(&p, &s);
			for (size_t k = 0; k < COUNT(items); k++) {
				play_copy(&p, items[k], 50 * (int)k, 1 + 63 * (int)(k % 2));
			}
			hand_close(&p);
		}
	}
}

Test(handset, selective_copy_through_much_noise) {
	static const struct hand_case s = { { "selective-copy" } };
	struct hand_model p;
	open_case(&p, &s);
	play_copy(&p, 16, 200000, HAND_ROWS);
	hand_close(&p);
}

/* ---- the census ---- */

static void play_census(const struct hand_case *s, int chunk) {
	struct hand_model p;
	open_case(&p, s);
	const int n = p.options.length;
	int32_t *ids = malloc((size_t)n * sizeof(*ids));
	hand_script(&p, 0, &dice, ids, 0, n);
	struct bb_context *c = new_context(p.engine);
	cr_assert_eq(expect_rows(&p, c, ids, n, chunk), n);
	bb_context_destroy(c);
	hand_close(&p);
	free(ids);
}

Test(handset, census_of_every_type_and_isa_level) {
	for (size_t k = 0; k < COUNT(kv_types); k++) {
		for (int i = 0; bb_isa_names()[i] != NULL; i++) {
			const struct hand_case s = { { "census", .type = (enum handset_type)(i % 3) },
				{ .isa = bb_isa_names()[i], .kv_type = kv_types[k] } };
			if (bb_isa_is_available(s.params.isa)) {
				play_census(&s, 1 + 76 * (i % 2));
			}
		}
	}
}

Test(handset, census_of_1024) {
	static const struct hand_case s = { { "census", .length = 1024 } };
	play_census(&s, HAND_ROWS);
}

/* Its own answers are tokens as any: it counts by itself. */
Test(handset, census_counts_on) {
	static const struct hand_case s = { { "census", .length = 70 } };
	struct hand_model p;
	open_case(&p, &s);
	struct bb_context *c = new_context(p.engine);
	cr_assert_eq(expect_written(&p, c, 0, 70, -1), 70);
	bb_context_destroy(c);
	hand_close(&p);
}

/* ---- what a wrong row says ---- */

Test(handset, every_kind_has_a_script_rows_and_a_meaning) {
	for (int i = 0; handset_kinds[i] != NULL; i++) {
		const struct handset_kind *kind = handset_kinds[i];
		const struct hand_case s = { { kind->name,
			{ kind->takes & HANDSET_TAKES_TABLES ? "parity" : NULL }, .bits = kind->min_bits } };
		struct hand_model p;
		int32_t ids[40];
		open_case(&p, &s);
		hand_script(&p, 0, &dice, ids, 0, COUNT(ids));
		cr_assert(hand_meaning(kind->name)[0] != '\0');
		cr_assert_eq(hand_knows_rows(&p), strcmp(kind->name, "selective-copy") != 0, "%s", p.name);
		hand_close(&p);
	}
}

/* One logit is off, then another token is as large as the right one. */
Test(handset, sentence_of_a_wrong_row_says_which_and_what_it_means) {
	static const struct hand_case s = { { "dfa", { "parity" } }, { .window = 8 } };
	static const int32_t ids[] = { 2, 1, 3, 1 };
	struct hand_model p;
	open_case(&p, &s);
	struct bb_context *c = new_context(p.engine);
	expect_rows(&p, c, ids, 4, 4);
	float *row = p.logits + (size_t)3 * (size_t)p.n_vocab;
	const struct hand_place place = { 3, 1, 2, NULL };
	cr_assert(hand_is_right(&p, row, &place, ""));
	row[0] = 1e-6f;
	cr_assert_eq(hand_look(&p, row, &place).verdict, HAND_LOGITS);
	cr_assert_not(hand_is_right(&p, row, &place, "round 5"));
	const char *const parts[] = { "dfa parity", "window 8", "round 5", "behind token 3",
		"expected 2 (logit 1)", "farthest off is 0 (9.99999997e-07, expected 0)",
		hand_meaning("dfa") };
	for (size_t i = 0; i < COUNT(parts); i++) {
		cr_assert(strstr(p.failure, parts[i]) != NULL, "'%s' lacks '%s'", p.failure, parts[i]);
	}
	row[0] = 1;
	cr_assert_eq(hand_look(&p, row, &place).verdict, HAND_WRONG);
	row[0] = NAN;
	cr_assert_eq(hand_look(&p, row, &place).verdict, HAND_WRONG);
	bb_context_destroy(c);
	hand_close(&p);
}

/* The same where only bits tell: of rows whose order alone is known. */
Test(handset, rows_without_a_formula_are_held_to_the_same_bits) {
	static const struct hand_case s = { { "selective-copy" } };
	static const int32_t ids[] = { 16, 5, 17, 20 };
	struct hand_model p;
	open_case(&p, &s);
	float *calm = hand_calm(&p, ids, 4), row[64];
	struct hand_place place = { 3, 20, 21 + 5, calm + (size_t)3 * (size_t)p.n_vocab };
	cr_assert_leq(p.n_vocab, 64);
	memcpy(row, place.calm, (size_t)p.n_vocab * sizeof(*row));
	cr_assert(hand_is_right(&p, row, &place, ""), "%s", p.failure);
	row[0] = nextafterf(row[0], -1);
	cr_assert_eq(hand_look(&p, row, &place).verdict, HAND_LOGITS);
	place.calm = NULL;
	cr_assert_eq(hand_look(&p, row, &place).verdict, HAND_RIGHT);
	free(calm);
	hand_close(&p);
}

/* ---- on a device ---- */

static void play_on_device(const struct hand_case *s) {
	struct hand_model p;
	if (strcmp(s->spec.kind, "dfa") == 0 || strcmp(s->spec.kind, "conv-dfa") == 0) {
		play_stream(s, 50);
	} else if (strcmp(s->spec.kind, "latch") == 0) {
		play_latch(s, 300, 70);
	} else if (strcmp(s->spec.kind, "census") == 0) {
		play_census(s, 70);
	} else {
		open_case(&p, s);
		if (strcmp(s->spec.kind, "dfa-block") == 0) {
			play_block(&p, 0, 20);
		} else {
			play_copy(&p, 5, 100, 40);
		}
		hand_close(&p);
	}
}

Test(handset, on_a_device, .timeout = 600) {
	static const struct hand_case settings[] = {
		{ { "dfa", { "s5" } }, { .window = 8 } },
		{ { "dfa", { "mod7" }, .type = HANDSET_BF16 }, { .window = 2 } },
		{ { "dfa", { "bracket8" }, .type = HANDSET_F16 }, { .kv_type = BB_KV_INT8 } },
		{ { "dfa", { "parity", "mod7" } }, { .kv_type = BB_KV_F32 } },
		{ { "dfa-block", { "mod7" }, .length = 130 } },
		{ { "dfa-block", { "s5" }, .length = 257 }, { .kv_type = BB_KV_INT8 } },
		{ { "conv-dfa", { "parity" } } },
		{ { "latch" } },
		{ { "selective-copy" } },
		{ { "census", .length = 300 } },
		{ { "census", .length = 130 }, { .kv_type = BB_KV_INT8 } },
	};
	if (!HAS_SIMT && named_device() == NULL) {
		cr_skip_test("no emulator in this build");
	}
	for (size_t i = 0; i < COUNT(settings); i++) {
		struct hand_case s = settings[i];
		s.params.device = test_device();
		play_on_device(&s);
	}
}
