/* SPDX-License-Identifier: Apache-2.0
 *
 * States of RWKV-7 with hand-set weights: a dictionary and the permutations of five things, every
 * logit of every answer, for tens of thousands of tokens; and what is lost without rates beyond 1.
 * $BOBBIN_SOAK plays millions. */
#include "handset_play.h"

#include "engine.h"

#define COUNT(a) (sizeof(a) / sizeof((a)[0]))

static uint32_t seed = 1;

static int random_below(int n) {
	seed = seed * 1664525u + 1013904223u;
	return (int)((seed >> 8) % (uint32_t)n);
}

static bool is_soak(void) {
	return getenv("BOBBIN_SOAK") != NULL;
}

/* ---- what a row must be ---- */

/* Four features of magnitude sqrt(width) / 2 whose sum is 0, and in 16 or 5 of other columns the
 * values of a head that read a one at `want`: (1 - 1/64) / s there and -1/64 / s elsewhere, s^2 =
 * 1/64 - 1/64^2 + 64e-5. Then the last norm. The logits of the n answers are those columns, of the
 * others 0. */
struct answer_row {
	int width, first, n; /* ids first..first + n - 1 answer */
};

static void check_row(const struct played *p, const struct answer_row *a, const float *row,
	int want, size_t at) {
	const double head = 64, s = sqrt(1 / head - 1 / (head * head) + 64e-5);
	const double on = (1 - 1 / head) / s, off = -1 / head / s;
	const double mean = (on + (a->n - 1) * off) / a->width;
	const double squares = a->width + on * on + (a->n - 1) * off * off; /* 4 (sqrt(width) / 2)^2 */
	/* bf16 products round activations, too */
	const double near = p->options.type == HANDSET_BF16 ? 0.03 : 1e-4;
	const double deviation = sqrt(squares / a->width - mean * mean);
	for (int id = 0; want >= 0 && id < p->n_vocab; id++) {
		const bool answers = id >= a->first && id < a->first + a->n;
		const double aim = !answers ? 0 : ((id == want ? on : off) - mean) / deviation;
		cr_assert(fabs(row[id] - aim) <= near, "%s: first wrong behind token %zu: expected %d, got "
			"%d; logit of id %d is %.9g, expected %.9g", setting_text(p->setting), at, want,
			play_argmax(row, p->n_vocab), id, (double)row[id], aim);
	}
}

/* Feeds ids[n] in steps of `chunk`. Returns how many answers were defined. */
static long play_rows(struct played *p, struct bb_context *c, const struct answer_row *a,
	const int32_t *ids, size_t n, int chunk) {
	struct bb_error err = { 0 };
	int32_t *expected = malloc(n * sizeof(*expected));
	long n_defined = 0;
	cr_assert(p->kind->expect(&p->options, ids, n, expected, &err), "%s", err.text);
	for (size_t i = 0; i < n; i += (size_t)chunk) {
		const int rows = n - i < (size_t)chunk ? (int)(n - i) : chunk;
		feed(c, p->engine, ids + i, rows, p->logits);
		for (int r = 0; r < rows; r++) {
			check_row(p, a, p->logits + (size_t)r * (size_t)p->n_vocab, expected[i + (size_t)r],
				i + (size_t)r);
			n_defined += expected[i + (size_t)r] >= 0;
		}
	}
	free(expected);
	return n_defined;
}

/* ---- the dictionary ---- */

static const struct answer_row dictionary_row = { 256, 16, 16 };

/* Assignments and, a third of the time, queries. */
static size_t make_dictionary(int32_t *ids, size_t n) {
	size_t i = 0;
	while (i + 1 < n) {
		if (random_below(3) == 0) {
			ids[i++] = 32 + random_below(16);
		} else {
			ids[i++] = random_below(16);
			ids[i++] = 16 + random_below(16);
		}
	}
	return i;
}

static void play_dictionary(const struct setting *s, size_t n, int chunk) {
	struct played p;
	int32_t *ids = malloc(n * sizeof(*ids));
	play_open(&p, s);
	n = make_dictionary(ids, n);
	struct bb_context *c = new_context(p.engine);
	const long n_defined = play_rows(&p, c, &dictionary_row, ids, n, chunk);
	cr_assert(n_defined > (long)n / 8, "%ld of %zu defined", n_defined, n);
	bb_context_destroy(c);
	free(ids);
	play_close(&p);
}

Test(handset_rwkv, dictionary_answers_with_the_latest_value, .timeout = 3000) {
	play_dictionary(&(struct setting){ .kind = "dictionary" }, 40000, PLAY_ROWS);
	play_dictionary(&(struct setting){ .kind = "dictionary" }, 600, 1);
	play_dictionary(&(struct setting){ .kind = "dictionary", .type = HANDSET_F16 }, 2000, 65);
	play_dictionary(&(struct setting){ .kind = "dictionary", .type = HANDSET_BF16 }, 2000, 63);
	for (const char *const *isa = bb_isa_names(); *isa != NULL; isa++) {
		if (bb_isa_is_available(*isa)) {
			play_dictionary(&(struct setting){ .kind = "dictionary", .isa = *isa }, 2000, 64);
		}
	}
	if (is_soak()) {
		play_dictionary(&(struct setting){ .kind = "dictionary" }, 2000000, PLAY_ROWS);
	}
}

/* A key that is set again has the new value, also across a step, a fork and a rewind. */
Test(handset_rwkv, dictionary_is_forked_and_rewound) {
	static const int32_t ids[] = { 3, 20, 5, 21, 3 };
	static const int32_t one[] = { 22, 35, 37 }, two[] = { 23, 35, 37 };
	struct played p;
	struct bb_context *other;
	struct bb_error err = { 0 };
	play_open(&p, &(struct setting){ .kind = "dictionary" });
	struct bb_context *c = new_context(p.engine);
	feed(c, p.engine, ids, COUNT(ids), p.logits);
	cr_assert(bb_context_fork(&other, c, &err), "%s", err.text); /* between a key and its value */
	feed(c, p.engine, one, 3, p.logits);
	check_row(&p, &dictionary_row, p.logits + p.n_vocab, 22, 6);
	check_row(&p, &dictionary_row, p.logits + 2 * p.n_vocab, 21, 7);
	feed(other, p.engine, two, 3, p.logits);
	check_row(&p, &dictionary_row, p.logits + p.n_vocab, 23, 6);
	cr_assert(bb_context_rewind(c, 5, &err), "%s", err.text);
	feed(c, p.engine, two, 3, p.logits);
	check_row(&p, &dictionary_row, p.logits + p.n_vocab, 23, 6);
	check_row(&p, &dictionary_row, p.logits + 2 * p.n_vocab, 21, 7);
	bb_context_destroy(other);
	bb_context_destroy(c);
	play_close(&p);
}

/* ---- S5 ---- */

enum { SWAPS = 10, WRITE = SWAPS, READ = WRITE + 5, LABEL = READ + 5 };

static const struct answer_row s5_row = { 64, LABEL, 5 };

/* Labels, then swaps with a reading of all places every now and then. */
static void make_s5(int32_t *ids, size_t n) {
	size_t i = 0;
	for (; i < 5; i++) {
		ids[i] = WRITE + (int32_t)i;
	}
	while (i < n) {
		if (i % 40 == 0 && i + 5 <= n) {
			for (int k = 0; k < 5; k++) {
				ids[i++] = READ + k;
			}
		} else {
			ids[i++] = random_below(SWAPS);
		}
	}
}

static void play_s5(const struct setting *s, size_t n, int chunk) {
	struct played p;
	int32_t *ids = malloc(n * sizeof(*ids));
	play_open(&p, s);
	make_s5(ids, n);
	struct bb_context *c = new_context(p.engine);
	cr_assert(play_rows(&p, c, &s5_row, ids, n, chunk) > (long)n / 9);
	bb_context_destroy(c);
	free(ids);
	play_close(&p);
}

Test(handset_rwkv, five_things_are_permuted_without_chain_of_thought, .timeout = 3000) {
	play_s5(&(struct setting){ .kind = "s5-rwkv" }, 40000, PLAY_ROWS);
	play_s5(&(struct setting){ .kind = "s5-rwkv" }, 600, 1);
	play_s5(&(struct setting){ .kind = "s5-rwkv", .type = HANDSET_F16 }, 2000, 65);
	play_s5(&(struct setting){ .kind = "s5-rwkv", .type = HANDSET_BF16 }, 2000, 63);
	for (const char *const *isa = bb_isa_names(); *isa != NULL; isa++) {
		if (bb_isa_is_available(*isa)) {
			play_s5(&(struct setting){ .kind = "s5-rwkv", .isa = *isa }, 2000, 64);
		}
	}
	if (is_soak()) {
		play_s5(&(struct setting){ .kind = "s5-rwkv" }, 2000000, PLAY_ROWS);
	}
}

/* Written again, the five are in order, without a new context. */
Test(handset_rwkv, labels_are_written_over) {
	static const int32_t ids[] = { 10, 11, 12, 13, 14, 0, 4, 7, 15, 16, 17, 18, 19, 10, 11, 12, 13,
		14, 15, 16, 17, 18, 19 };
	struct played p;
	play_open(&p, &(struct setting){ .kind = "s5-rwkv" });
	struct bb_context *c = new_context(p.engine);
	cr_assert_eq(play_rows(&p, c, &s5_row, ids, COUNT(ids), 4), 10);
	bb_context_destroy(c);
	play_close(&p);
}

/* Rates up to 1 project where they should swap: after a few swaps of the same weights the answers
 * are as good as guesses, one of five. */
Test(handset_rwkv, without_rates_beyond_1_the_same_weights_lose_count, .timeout = 600) {
	enum { N = 4000 };
	static int32_t ids[N], expected[N];
	struct played p;
	struct bb_error err = { 0 };
	int n_right = 0, n_asked = 0;
	play_open(&p, &(struct setting){ .unlisted = &handset_s5_unscaled });
	make_s5(ids, N);
	cr_assert(p.kind->expect(&p.options, ids, N, expected, &err), "%s", err.text);
	struct bb_context *c = new_context(p.engine);
	for (int i = 0; i < N; i += PLAY_ROWS) {
		const int n = N - i < PLAY_ROWS ? N - i : PLAY_ROWS;
		feed(c, p.engine, ids + i, n, p.logits);
		for (int r = 0; r < n; r++) {
			n_asked += expected[i + r] >= 0;
			n_right += expected[i + r] >= 0 && expected[i + r] ==
				play_argmax(p.logits + (size_t)r * (size_t)p.n_vocab, p.n_vocab);
		}
	}
	bb_context_destroy(c);
	play_close(&p);
	cr_log_info("%d of %d right", n_right, n_asked);
	cr_assert(n_asked > N / 9 && n_right < n_asked * 2 / 5, "%d of %d right", n_right, n_asked);
}

Test(handset_rwkv, scale_of_rates_comes_from_the_file) {
	struct played p;
	play_open(&p, &(struct setting){ .kind = "s5-rwkv" });
	cr_assert_eq(p.engine->plan.hp.v[H_WKV_RATE_SCALE], 2);
	play_close(&p);
	play_open(&p, &(struct setting){ .unlisted = &handset_s5_unscaled });
	cr_assert_eq(p.engine->plan.hp.v[H_WKV_RATE_SCALE], 1);
	play_close(&p);
}

Test(handset_rwkv, on_a_device, .timeout = 600) {
	if (!HAS_SIMT && named_device() == NULL) {
		cr_skip_test("no emulator in this build");
	}
	play_dictionary(&(struct setting){ .kind = "dictionary", .device = test_device() }, 130, 65);
	play_s5(&(struct setting){ .kind = "s5-rwkv", .device = test_device() }, 130, 65);
}

/* ---- parity that fades ---- */

/* The number of ones at which a reading is wrong for the first time. */
static int first_wrong(const char *isa) {
	enum { BEGIN = 2, ASK, MOST = 400 };
	static const int32_t begin[] = { BEGIN }, one[] = { 1, ASK };
	struct played p;
	int n = 0;
	play_open(&p, &(struct setting){ .unlisted = &handset_fading_parity, .isa = isa });
	struct bb_context *c = new_context(p.engine);
	feed(c, p.engine, begin, 1, p.logits);
	for (bool ok = true; ok && n < MOST;) {
		feed(c, p.engine, one, 2, p.logits);
		const float *row = p.logits + p.n_vocab;
		n++;
		ok = n % 2 != 0 ? row[1] > row[0] : row[0] > row[1];
	}
	bb_context_destroy(c);
	play_close(&p);
	return n;
}

/* 0.4547^n falls below the least number of f32, 2^-149, there; where numbers below 2^-126 are
 * flushed to zero, it would be about 20 ones before. */
Test(handset_rwkv, parity_fades_where_f32_ends) {
	for (const char *const *isa = bb_isa_names(); *isa != NULL; isa++) {
		if (bb_isa_is_available(*isa)) {
			const int n = first_wrong(*isa);
			cr_assert_eq(n, 132, "isa %s: first wrong at %d ones, expected 132", *isa, n);
		}
	}
}
