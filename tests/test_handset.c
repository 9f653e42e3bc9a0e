/* SPDX-License-Identifier: Apache-2.0
 *
 * Automata, latch, selective copying and census with hand-set weights: every logit of every step,
 * fed and generated, with every KV type, in windows, at lengths around pages and splits; and what
 * the same weights can't do without their chain of thought. */
#include "handset_play.h"

#define COUNT(a) (sizeof(a) / sizeof((a)[0]))

static const char *const all_tables[] = { "parity", "mod7", "bracket8", "s5" };
static const enum bb_kv_type kv_types[] = { BB_KV_F32, BB_KV_F16, BB_KV_BF16, BB_KV_INT8 };

/* Weights of attention are 1.0 and 0, values 0 and 1: rows are exact, with int8 pages too. */
static const struct look exact = { 1, 0 };
static const struct look largest = { 0 };

static uint32_t seed;

static int random_below(int n) {
	seed = seed * 1664525u + 1013904223u;
	return (int)((seed >> 8) % (uint32_t)n);
}

/* ---- streams: q0 x1 q1 x2 q2 ... ---- */

/* A random run of table i of the model, [1 + 2 * n_steps] ids. */
static void make_stream(const struct played *p, int i, int n_steps, int32_t *ids) {
	int first_symbol = 0, first_state = 0;
	for (int k = 0; k < p->options.n_tables; k++) {
		first_state += p->tables[k].n_symbols + (k < i ? p->tables[k].n_states : 0);
		first_symbol += k < i ? p->tables[k].n_symbols : 0;
	}
	int q = 0;
	ids[0] = first_state;
	for (int t = 0; t < n_steps; t++) {
		const int x = random_below(p->tables[i].n_symbols);
		q = p->tables[i].next[q * p->tables[i].n_symbols + x];
		ids[1 + 2 * t] = first_symbol + x;
		ids[2 + 2 * t] = first_state + q;
	}
}

enum { N_STEPS = 140 }; /* 281 tokens: beyond four pages and one split */

static void play_stream(const struct setting *s, int chunk) {
	struct played p;
	int32_t ids[1 + 2 * N_STEPS];
	play_open(&p, s);
	for (int i = 0; i < p.options.n_tables; i++) {
		struct bb_context *c = new_context(p.engine);
		make_stream(&p, i, N_STEPS, ids);
		cr_assert_eq(play_ids(&p, c, ids, 1 + 2 * N_STEPS, chunk, &exact), N_STEPS);
		bb_context_destroy(c);
	}
	play_close(&p);
}

Test(handset, stream_of_every_table_and_kv_type) {
	for (size_t t = 0; t < COUNT(all_tables); t++) {
		for (size_t k = 0; k < COUNT(kv_types); k++) {
			const struct setting s = { .kind = "dfa", .tables = { all_tables[t] },
				.kv_type = kv_types[k] };
			play_stream(&s, PLAY_ROWS);
			play_stream(&s, 1);
		}
	}
}

Test(handset, stream_in_windows) {
	static const int windows[] = { 2, 3, 8, 64, 65 };
	for (size_t t = 0; t < COUNT(all_tables); t++) {
		for (size_t w = 0; w < COUNT(windows); w++) {
			const struct setting s = { .kind = "dfa", .tables = { all_tables[t] },
				.kv_type = kv_types[w % COUNT(kv_types)], .window = windows[w] };
			play_stream(&s, 1 + 62 * (int)(w % 2));
		}
	}
}

Test(handset, stream_of_every_type_and_isa_level) {
	for (enum handset_type type = HANDSET_F32; type <= HANDSET_BF16; type++) {
		for (int i = 0; bb_isa_names()[i] != NULL; i++) {
			const struct setting s = { .kind = "dfa", .tables = { "mod7" }, .type = type,
				.isa = bb_isa_names()[i] };
			if (bb_isa_is_available(s.isa)) {
				play_stream(&s, 33);
			}
		}
	}
}

/* The model's own states are fed back; only the symbols come from outside. */
Test(handset, stream_feeds_itself) {
	for (size_t t = 0; t < COUNT(all_tables); t++) {
		const struct setting s = { .kind = "dfa", .tables = { all_tables[t] }, .window = 2 };
		struct played p;
		play_open(&p, &s);
		struct bb_context *c = new_context(p.engine);
		int state = 0;
		int32_t ids[2] = { p.tables[0].n_symbols };
		play_ids(&p, c, ids, 1, 1, &exact);
		for (int i = 0; i < 300; i++) {
			const int x = random_below(p.tables[0].n_symbols);
			state = p.tables[0].next[state * p.tables[0].n_symbols + x];
			ids[0] = x;
			cr_assert_eq(play_ids(&p, c, ids, 1, 1, &exact), 1);
			ids[0] = play_argmax(p.logits, p.n_vocab);
			cr_assert_eq(ids[0], p.tables[0].n_symbols + state, "%s: step %d: expected state %d, "
				"got %d", all_tables[t], i, state, ids[0] - p.tables[0].n_symbols);
			play_ids(&p, c, ids, 1, 1, &exact);
		}
		bb_context_destroy(c);
		play_close(&p);
	}
}

/* Steps of long runs: $BOBBIN_SOAK, or what takes some seconds. */
static int soak_steps(void) {
	const char *text = getenv("BOBBIN_SOAK");
	return text != NULL && atoi(text) > 0 ? atoi(text) : 20000;
}

/* The model's own states are fed back. S5 permutes its states, so that a wrong one never heals: the
 * last state vouches for every step. The context's pages stay as few as at first. */
static void soak(const struct setting *s) {
	struct played p;
	play_open(&p, s);
	struct bb_context *c = new_context(p.engine);
	const int n_symbols = p.tables[0].n_symbols, n_steps = soak_steps();
	int state = 0;
	size_t most = 0;
	int32_t ids[2] = { n_symbols };
	for (int i = 0; i < n_steps; i++) {
		ids[1] = random_below(n_symbols);
		state = p.tables[0].next[state * n_symbols + ids[1]];
		feed(c, p.engine, ids, 2, p.logits);
		expect_row(&p, p.logits + p.n_vocab, ids, 1, n_symbols + state, &exact);
		ids[0] = play_argmax(p.logits + p.n_vocab, p.n_vocab);
		const size_t bytes = bb_context_kv_bytes(c);
		most = i < 200 && bytes > most ? bytes : most;
		cr_assert_leq(bytes, most, "%s: %zu bytes of pages after step %d, %zu at most in the "
			"first 200", setting_text(s), bytes, i, most);
	}
	cr_assert_eq(bb_context_length(c), 2 * n_steps);
	bb_context_destroy(c);
	play_close(&p);
}

Test(handset, s5_for_long, .timeout = 3600) {
	static const enum bb_kv_type types[] = { BB_KV_F16, BB_KV_INT8 };
	for (size_t i = 0; i < COUNT(types); i++) {
		const struct setting s = { .kind = "dfa", .tables = { "s5" }, .window = 8,
			.kv_type = types[i] };
		soak(&s);
	}
}

Test(handset, conv_s5_for_long, .timeout = 3600) {
	static const struct setting s = { .kind = "conv-dfa", .tables = { "s5" } };
	soak(&s);
}

Test(handset, conv_stream_of_every_table_type_and_isa_level) {
	for (size_t t = 0; t < COUNT(all_tables); t++) {
		for (int i = 0; bb_isa_names()[i] != NULL; i++) {
			const struct setting s = { .kind = "conv-dfa", .tables = { all_tables[t] },
				.type = (enum handset_type)((t + (size_t)i) % 3), .isa = bb_isa_names()[i] };
			if (bb_isa_is_available(s.isa)) {
				play_stream(&s, i % 2 == 0 ? PLAY_ROWS : 1);
			}
		}
	}
	const struct setting mixed = { .kind = "conv-dfa", .tables = { "parity", "mod7", "bracket8" } };
	play_stream(&mixed, 7);
}

/* Four automata in one model, a context of each and one more, in the same steps: 1 to 5 rows. One
 * of them is forked, leads a life of its own, and comes back to where it was. */
Test(handset, batch_of_different_automata) {
	enum { N_CONTEXTS = 5, N_TOKENS = 1 + 2 * N_STEPS };
	static const struct setting s = { .kind = "dfa", .tables = { "parity", "mod7", "bracket8",
		"s5" } };
	struct played p;
	struct bb_context *c[N_CONTEXTS];
	static int32_t ids[N_CONTEXTS][N_TOKENS], expected[N_CONTEXTS][N_TOKENS];
	struct bb_error err = { 0 };
	play_open(&p, &s);
	for (int i = 0; i < N_CONTEXTS; i++) {
		c[i] = new_context(p.engine);
		make_stream(&p, i % 4, N_STEPS, ids[i]);
		cr_assert(p.kind->expect(&p.options, ids[i], N_TOKENS, expected[i], &err));
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
				expect_row(&p, items[k].logits + r * p.n_vocab, ids[i], first + r,
					expected[i][first + r], &exact);
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
	play_close(&p);
}

/* ---- blocks: x1 ... xn PAD ... SEP -> q1 ... qn EOS ---- */

/* Id of the first padding, behind the symbols; of EOS; of the SEP of table i. */
static int pad_of(const struct played *p) {
	int n = 0;
	for (int i = 0; i < p->options.n_tables; i++) {
		n += p->tables[i].n_symbols;
	}
	return n;
}

static int eos_of(const struct played *p) {
	int n = pad_of(p) + 1;
	for (int i = 0; i < p->options.n_tables; i++) {
		n += p->tables[i].n_states;
	}
	return n;
}

/* Prompts of n symbols of table i, then the model on its own. */
static void play_block(struct played *p, int i, int n) {
	const int length = p->options.length;
	int32_t *ids = malloc((size_t)length * sizeof(*ids));
	int first = 0;
	for (int k = 0; k < i; k++) {
		first += p->tables[k].n_symbols;
	}
	for (int t = 0; t < length; t++) {
		ids[t] = t < n ? first + random_below(p->tables[i].n_symbols) : pad_of(p);
	}
	struct bb_context *c = new_context(p->engine);
	play_ids(p, c, ids, length, PLAY_ROWS, &exact);
	const int n_made = play_on(p, c, eos_of(p) + 1 + i, length, eos_of(p), &exact);
	cr_assert_eq(n_made, n < length ? n + 1 : n, "%s: %d of %d steps, then %d",
		setting_text(p->setting), n_made, n, bb_context_tokens(c)[bb_context_length(c) - 1]);
	bb_context_destroy(c);
	free(ids);
}

Test(handset, block_around_pages_and_splits) {
	static const int lengths[] = { 2, 48, 63, 64, 65, 255, 256, 257 };
	for (size_t t = 0; t < COUNT(all_tables); t++) {
		for (size_t k = 0; k < COUNT(lengths); k++) {
			const struct setting s = { .kind = "dfa-block", .tables = { all_tables[t] },
				.length = lengths[k], .kv_type = kv_types[k % COUNT(kv_types)] };
			struct played p;
			play_open(&p, &s);
			play_block(&p, 0, 0);
			play_block(&p, 0, lengths[k] / 3);
			play_block(&p, 0, lengths[k] - 1);
			play_block(&p, 0, lengths[k]);
			play_close(&p);
		}
	}
}

Test(handset, block_of_every_type_and_isa_level) {
	for (enum handset_type type = HANDSET_F32; type <= HANDSET_BF16; type++) {
		for (int i = 0; bb_isa_names()[i] != NULL; i++) {
			for (size_t k = 0; k < COUNT(kv_types); k++) {
				const struct setting s = { .kind = "dfa-block", .tables = { "mod7" }, .type = type,
					.length = 130, .isa = bb_isa_names()[i], .kv_type = kv_types[k] };
				struct played p;
				if (bb_isa_is_available(s.isa)) {
					play_open(&p, &s);
					play_block(&p, 0, 30);
					play_close(&p);
				}
			}
		}
	}
}

Test(handset, block_of_several_automata) {
	static const struct setting s = { .kind = "dfa-block", .length = 40, .tables = { "bracket8",
		"s5", "parity", "mod7" } };
	struct played p;
	play_open(&p, &s);
	for (int i = 0; i < 4; i++) {
		play_block(&p, i, 25);
	}
	play_close(&p);
}

/* A second prompt in the same context is answered as the first: only distances count. */
Test(handset, block_again_in_one_context) {
	static const struct setting s = { .kind = "dfa-block", .length = 20, .tables = { "s5" } };
	struct played p;
	play_open(&p, &s);
	struct bb_context *c = new_context(p.engine);
	for (int turn = 0; turn < 2; turn++) {
		int32_t ids[20];
		for (int t = 0; t < 20; t++) {
			ids[t] = t < 11 ? random_below(2) : pad_of(&p);
		}
		play_ids(&p, c, ids, 20, 20, &exact);
		cr_assert_eq(play_on(&p, c, eos_of(&p) + 1, 21, eos_of(&p), &exact), 12);
	}
	bb_context_destroy(c);
	play_close(&p);
}

/* The whole run is fed, as the model's own: what it would write stands in the ids. */
Test(handset, block_at_length, .timeout = 3600) {
	const struct setting s = { .kind = "dfa-block", .tables = { "mod7" },
		.length = getenv("BOBBIN_SOAK") != NULL ? 131072 : 2048 };
	struct played p;
	play_open(&p, &s);
	const int n = s.length, n_symbols = 3, first_state = n_symbols + 1;
	int32_t *ids = malloc((size_t)(2 * n) * sizeof(*ids));
	int state = 0;
	ids[n] = eos_of(&p) + 1;
	for (int i = 0; i < n; i++) {
		ids[i] = random_below(n_symbols);
		state = p.tables[0].next[state * n_symbols + ids[i]];
		if (i < n - 1) {
			ids[n + 1 + i] = first_state + state;
		}
	}
	struct bb_context *c = new_context(p.engine);
	cr_assert_eq(play_ids(&p, c, ids, 2 * n, PLAY_ROWS, &exact), n);
	cr_assert_eq(play_argmax(p.logits + (PLAY_ROWS - 1) * p.n_vocab, p.n_vocab),
		first_state + state);
	bb_context_destroy(c);
	play_close(&p);
	free(ids);
}

/* ---- without the chain of thought ---- */

/* Behind symbols alone every state has the same logit, to the bit. */
static void expect_tie(const struct played *p, const float *row, int at) {
	for (int i = p->tables[0].n_symbols; i < p->n_vocab; i++) {
		cr_assert(row[i] == row[p->tables[0].n_symbols], "%s: token %d: state %d has logit %.9g, "
			"state 0 %.9g", setting_text(p->setting), at, i - p->tables[0].n_symbols,
			(double)row[i], (double)row[p->tables[0].n_symbols]);
	}
}

static void play_without_states(const struct setting *s) {
	enum { N = 33 };
	struct played p;
	int32_t ids[N];
	play_open(&p, s);
	for (int run = 0; run < 20; run++) {
		struct bb_context *c = new_context(p.engine);
		ids[0] = p.tables[0].n_symbols;
		for (int i = 1; i < N; i++) {
			ids[i] = random_below(p.tables[0].n_symbols);
		}
		feed(c, p.engine, ids, N, p.logits);
		for (int i = 2; i < N; i++) { /* behind the first symbol q1 is still there to be told */
			expect_tie(&p, p.logits + i * p.n_vocab, i);
		}
		bb_context_destroy(c);
	}
	play_close(&p);
}

Test(handset, stream_without_states_says_nothing) {
	for (size_t t = 0; t < COUNT(all_tables); t++) {
		const struct setting s = { .kind = "dfa", .tables = { all_tables[t] } };
		play_without_states(&s);
	}
}

/* Nor does the convolution. Where a symbol comes twice all its units are on: as each state is
 * reached once by them, all say the same. (Those of the brackets aren't; that is left out.) */
Test(handset, conv_stream_without_states_says_nothing) {
	static const char *const groups[] = { "parity", "mod7", "s5" };
	for (size_t t = 0; t < COUNT(groups); t++) {
		const struct setting s = { .kind = "conv-dfa", .tables = { groups[t] } };
		play_without_states(&s);
	}
}

/* A window of 1 shows a symbol itself alone. */
Test(handset, stream_in_a_window_of_one_says_nothing) {
	static const struct setting s = { .kind = "dfa", .tables = { "s5" }, .window = 1 };
	struct played p;
	int32_t ids[1 + 2 * N_STEPS];
	play_open(&p, &s);
	struct bb_context *c = new_context(p.engine);
	make_stream(&p, 0, N_STEPS, ids);
	feed(c, p.engine, ids, 1 + 2 * N_STEPS, p.logits);
	for (int i = 1; i < 1 + 2 * N_STEPS; i += 2) {
		expect_tie(&p, p.logits + i * p.n_vocab, i);
	}
	bb_context_destroy(c);
	play_close(&p);
}

/* Only the state that is written just before the last symbol is used: the answer is its successor,
 * whatever came before. */
Test(handset, stream_believes_the_state_that_is_written) {
	static const struct setting s = { .kind = "dfa", .tables = { "mod7" } };
	static const int32_t ids[] = { 3, 1, 4, 1, 9, 2 }; /* 0 +1 1 +1 6 +2: 6 + 2 = 1 */
	struct played p;
	play_open(&p, &s);
	struct bb_context *c = new_context(p.engine);
	cr_assert_eq(play_ids(&p, c, ids, 6, 6, &exact), 3);
	cr_assert_eq(play_argmax(p.logits + 5 * p.n_vocab, p.n_vocab), 3 + 1);
	bb_context_destroy(c);
	play_close(&p);
}

/* ---- Mamba's states ---- */

static void play_latch(const struct setting *s, int n, int chunk) {
	struct played p;
	int32_t *ids = malloc((size_t)n * sizeof(*ids));
	for (int i = 0; i < n; i++) {
		ids[i] = i == 0 || random_below(50) == 0 ? random_below(16) : 16 + random_below(4);
	}
	play_open(&p, s);
	struct bb_context *c = new_context(p.engine);
	cr_assert_eq(play_ids(&p, c, ids, n, chunk, &exact), n);
	bb_context_destroy(c);
	play_close(&p);
	free(ids);
}

Test(handset, latch) {
	for (int i = 0; bb_isa_names()[i] != NULL; i++) {
		const struct setting s = { .kind = "latch", .isa = bb_isa_names()[i],
			.type = (enum handset_type)(i % 3) };
		if (bb_isa_is_available(s.isa)) {
			play_latch(&s, 1500, 1 + 100 * (i % 2));
		}
	}
	const struct setting best = { .kind = "latch" };
	play_latch(&best, 200000, PLAY_ROWS);
}

/* k items among noise, then the model on its own. */
static void play_copy(struct played *p, int k, int n_noise, int chunk) {
	const int n = k + n_noise;
	int32_t *ids = malloc((size_t)n * sizeof(*ids));
	for (int i = 0, left = k; i < n; i++) {
		const bool is_item = random_below(n - i) < left;
		left -= is_item;
		ids[i] = is_item ? random_below(16) : 16 + random_below(4);
	}
	struct bb_context *c = new_context(p->engine);
	cr_assert_eq(play_ids(p, c, ids, n, chunk, &largest), 0);
	const int n_kept = k < 16 ? k : 16;
	cr_assert_eq(play_on(p, c, 20, 40, 37, &largest), n_kept + 1);
	bb_context_destroy(c);
	free(ids);
}

Test(handset, selective_copy) {
	static const int items[] = { 0, 1, 4, 15, 16, 17, 20 };
	for (enum handset_type type = HANDSET_F32; type <= HANDSET_BF16; type++) {
		for (int i = 0; bb_isa_names()[i] != NULL; i++) {
			const struct setting s = { .kind = "selective-copy", .type = type,
				.isa = bb_isa_names()[i] };
			struct played p;
			if (!bb_isa_is_available(s.isa)) {
				continue;
			}
			play_open(&p, &s);
			for (size_t k = 0; k < COUNT(items); k++) {
				play_copy(&p, items[k], 50 * (int)k, 1 + 63 * (int)(k % 2));
			}
			play_close(&p);
		}
	}
}

Test(handset, selective_copy_through_much_noise) {
	static const struct setting s = { .kind = "selective-copy" };
	struct played p;
	play_open(&p, &s);
	play_copy(&p, 16, 200000, PLAY_ROWS);
	play_close(&p);
}

/* ---- the census ---- */

/* Logit k behind n tokens: 2 k - k^2 / n times the norm's factor, 2 / sqrt(4 + 1 / n^2). */
static void expect_count(const struct played *p, const float *row, int n) {
	const double scale = 2 / sqrt(4 + 1.0 / n / n);
	const double near = p->setting->kv_type == BB_KV_INT8 ? 1e-6 : 5e-7;
	for (int k = 0; k < p->n_vocab; k++) {
		const double want = scale * (2.0 * k - (double)k * k / n);
		cr_assert(fabs(row[k] - want) <= near * (2.0 * k + (double)k * k / n), "%s: behind %d "
			"tokens logit %d is %.9g, want %.9g", setting_text(p->setting), n, k, (double)row[k],
			want);
	}
}

static void play_census(const struct setting *s, int chunk) {
	struct played p;
	play_open(&p, s);
	const int n = p.options.length;
	int32_t *ids = calloc((size_t)n, sizeof(*ids));
	for (int i = 1; i < n; i++) {
		ids[i] = 1 + random_below(n);
	}
	struct bb_context *c = new_context(p.engine);
	for (int i = 0; i < n; i += chunk) {
		const int rows = n - i < chunk ? n - i : chunk;
		cr_assert_eq(play_ids(&p, c, ids + i, rows, rows, &largest), rows);
		for (int r = 0; r < rows; r++) {
			expect_count(&p, p.logits + (size_t)r * (size_t)p.n_vocab, i + r + 1);
		}
	}
	bb_context_destroy(c);
	play_close(&p);
	free(ids);
}

Test(handset, census_of_every_type_and_isa_level) {
	for (size_t k = 0; k < COUNT(kv_types); k++) {
		for (int i = 0; bb_isa_names()[i] != NULL; i++) {
			const struct setting s = { .kind = "census", .isa = bb_isa_names()[i],
				.type = (enum handset_type)(i % 3), .kv_type = kv_types[k] };
			if (bb_isa_is_available(s.isa)) {
				play_census(&s, 1 + 76 * (i % 2));
			}
		}
	}
}

Test(handset, census_of_1024) {
	static const struct setting s = { .kind = "census", .length = 1024 };
	play_census(&s, PLAY_ROWS);
}

/* Its own answers are tokens as any: it counts by itself. */
Test(handset, census_counts_on) {
	static const struct setting s = { .kind = "census", .length = 70 };
	struct played p;
	play_open(&p, &s);
	struct bb_context *c = new_context(p.engine);
	cr_assert_eq(play_on(&p, c, 0, 70, -1, &largest), 70);
	bb_context_destroy(c);
	play_close(&p);
}

/* ---- on a device ---- */

static void play_on_device(const struct setting *s) {
	struct played p;
	if (strcmp(s->kind, "dfa") == 0 || strcmp(s->kind, "conv-dfa") == 0) {
		play_stream(s, 50);
	} else if (strcmp(s->kind, "latch") == 0) {
		play_latch(s, 300, 70);
	} else if (strcmp(s->kind, "census") == 0) {
		play_census(s, 70);
	} else {
		play_open(&p, s);
		if (strcmp(s->kind, "dfa-block") == 0) {
			play_block(&p, 0, 20);
		} else {
			play_copy(&p, 5, 100, 40);
		}
		play_close(&p);
	}
}

Test(handset, on_a_device, .timeout = 600) {
	static const struct setting settings[] = {
		{ .kind = "dfa", .tables = { "s5" }, .window = 8 },
		{ .kind = "dfa", .tables = { "mod7" }, .window = 2, .type = HANDSET_BF16 },
		{ .kind = "dfa", .tables = { "bracket8" }, .kv_type = BB_KV_INT8, .type = HANDSET_F16 },
		{ .kind = "dfa", .tables = { "parity", "mod7" }, .kv_type = BB_KV_F32 },
		{ .kind = "dfa-block", .tables = { "mod7" }, .length = 130 },
		{ .kind = "dfa-block", .tables = { "s5" }, .length = 257, .kv_type = BB_KV_INT8 },
		{ .kind = "conv-dfa", .tables = { "parity" } },
		{ .kind = "latch" },
		{ .kind = "selective-copy" },
		{ .kind = "census", .length = 300 },
		{ .kind = "census", .length = 130, .kv_type = BB_KV_INT8 },
	};
	if (!HAS_SIMT && named_device() == NULL) {
		cr_skip_test("no emulator in this build");
	}
	for (size_t i = 0; i < COUNT(settings); i++) {
		struct setting s = settings[i];
		s.device = test_device();
		play_on_device(&s);
	}
}
