/* SPDX-License-Identifier: Apache-2.0
 *
 * States of RWKV-7 with hand-set weights: a dictionary and the permutations of five things, every
 * logit of every answer, for tens of thousands of tokens; and what is lost without rates beyond 1;
 * soak-handset plays millions. */
#include "handset_asserts.h"

#include "engine.h"

static struct hand_random dice;

/* ---- the dictionary ---- */

static void play_script(const struct hand_case *s, int n, int chunk) {
	struct hand_model p;
	int32_t *ids = malloc((size_t)n * sizeof(*ids));
	open_case(&p, s);
	hand_script(&p, 0, &dice, ids, 0, n);
	struct bb_context *c = new_context(p.engine);
	const int n_defined = expect_rows(&p, c, ids, n, chunk);
	cr_assert_geq(n_defined, n / 6, "%s: %d of %d defined", p.name, n_defined, n);
	bb_context_destroy(c);
	free(ids);
	hand_close(&p);
}

Test(handset_rwkv, dictionary_answers_with_the_latest_value, .timeout = 600) {
	play_script(&(struct hand_case){ { "dictionary" } }, 40000, HAND_ROWS);
	play_script(&(struct hand_case){ { "dictionary" } }, 600, 1);
	play_script(&(struct hand_case){ { "dictionary", .type = HANDSET_F16 } }, 2000, 65);
	play_script(&(struct hand_case){ { "dictionary", .type = HANDSET_BF16 } }, 2000, 63);
	for (const char *const *isa = bb_isa_names(); *isa != NULL; isa++) {
		if (bb_isa_is_available(*isa)) {
			play_script(&(struct hand_case){ { "dictionary" }, { .isa = *isa } }, 2000, 64);
		}
	}
}

/* A key that is set again has the new value, also across a step, a fork and a rewind. */
Test(handset_rwkv, dictionary_is_forked_and_rewound) {
	static const int32_t ids[] = { 3, 20, 5, 21, 3 };
	static const int32_t one[] = { 22, 35, 37 }, two[] = { 23, 35, 37 };
	struct hand_model p;
	struct bb_context *other;
	struct bb_error err = { 0 };
	open_case(&p, &(struct hand_case){ { "dictionary" } });
	struct bb_context *c = new_context(p.engine);
	feed(c, p.engine, ids, COUNT(ids), p.logits);
	cr_assert(bb_context_fork(&other, c, &err), "%s", err.text); /* between a key and its value */
	feed(c, p.engine, one, 3, p.logits);
	expect_row(&p, p.logits + p.n_vocab, 6, 35, 22);
	expect_row(&p, p.logits + 2 * p.n_vocab, 7, 37, 21);
	feed(other, p.engine, two, 3, p.logits);
	expect_row(&p, p.logits + p.n_vocab, 6, 35, 23);
	cr_assert(bb_context_rewind(c, 5, &err), "%s", err.text);
	feed(c, p.engine, two, 3, p.logits);
	expect_row(&p, p.logits + p.n_vocab, 6, 35, 23);
	expect_row(&p, p.logits + 2 * p.n_vocab, 7, 37, 21);
	bb_context_destroy(other);
	bb_context_destroy(c);
	hand_close(&p);
}

/* ---- S5 ---- */

Test(handset_rwkv, five_things_are_permuted_without_chain_of_thought, .timeout = 600) {
	play_script(&(struct hand_case){ { "s5-rwkv" } }, 40000, HAND_ROWS);
	play_script(&(struct hand_case){ { "s5-rwkv" } }, 600, 1);
	play_script(&(struct hand_case){ { "s5-rwkv", .type = HANDSET_F16 } }, 2000, 65);
	play_script(&(struct hand_case){ { "s5-rwkv", .type = HANDSET_BF16 } }, 2000, 63);
	for (const char *const *isa = bb_isa_names(); *isa != NULL; isa++) {
		if (bb_isa_is_available(*isa)) {
			play_script(&(struct hand_case){ { "s5-rwkv" }, { .isa = *isa } }, 2000, 64);
		}
	}
}

/* Written again, the five are in order, without a new context. */
Test(handset_rwkv, labels_are_written_over) {
	static const int32_t ids[] = { 10, 11, 12, 13, 14, 0, 4, 7, 15, 16, 17, 18, 19, 10, 11, 12, 13,
		14, 15, 16, 17, 18, 19 };
	struct hand_model p;
	open_case(&p, &(struct hand_case){ { "s5-rwkv" } });
	struct bb_context *c = new_context(p.engine);
	cr_assert_eq(expect_rows(&p, c, ids, COUNT(ids), 4), 10);
	bb_context_destroy(c);
	hand_close(&p);
}

/* Rates up to 1 project where they should swap: after a few swaps of the same weights the answers
 * are as good as guesses, one of five. */
Test(handset_rwkv, without_rates_beyond_1_the_same_weights_lose_count, .timeout = 600) {
	enum { N = 4000 };
	static int32_t ids[N], expected[N];
	struct hand_model p;
	int n_right = 0, n_asked = 0;
	open_case(&p, &(struct hand_case){ { "s5-unscaled" } });
	hand_script(&p, 0, &dice, ids, 0, N);
	hand_expect(&p, ids, N, expected);
	struct bb_context *c = new_context(p.engine);
	for (int i = 0; i < N; i += HAND_ROWS) {
		const int n = N - i < HAND_ROWS ? N - i : HAND_ROWS;
		feed(c, p.engine, ids + i, n, p.logits);
		for (int r = 0; r < n; r++) {
			n_asked += expected[i + r] >= 0;
			n_right += expected[i + r] >= 0 && expected[i + r] ==
				hand_largest(p.logits + (size_t)r * (size_t)p.n_vocab, p.n_vocab);
		}
	}
	bb_context_destroy(c);
	hand_close(&p);
	cr_log_info("%d of %d right", n_right, n_asked);
	cr_assert(n_asked > N / 9 && n_right < n_asked * 2 / 5, "%d of %d right", n_right, n_asked);
}

Test(handset_rwkv, scale_of_rates_comes_from_the_file) {
	struct hand_model p;
	open_case(&p, &(struct hand_case){ { "s5-rwkv" } });
	cr_assert_eq(p.engine->plan.hp.v[H_WKV_RATE_SCALE], 2);
	hand_close(&p);
	open_case(&p, &(struct hand_case){ { "s5-unscaled" } });
	cr_assert_eq(p.engine->plan.hp.v[H_WKV_RATE_SCALE], 1);
	hand_close(&p);
}

Test(handset_rwkv, on_a_device, .timeout = 600) {
	if (!HAS_SIMT && named_device() == NULL) {
		cr_skip_test("no emulator in this build");
	}
	play_script(&(struct hand_case){ { "dictionary" }, { .device = test_device() } }, 130, 65);
	play_script(&(struct hand_case){ { "s5-rwkv" }, { .device = test_device() } }, 130, 65);
}

/* ---- parity that fades ---- */

/* The number of ones at which a reading is wrong for the first time. */
static int first_wrong(const char *isa) {
	enum { BEGIN = 2, ASK, MOST = 400 };
	static const int32_t begin[] = { BEGIN }, one[] = { 1, ASK };
	struct hand_model p;
	int n = 0;
	open_case(&p, &(struct hand_case){ { "fading-parity" }, { .isa = isa } });
	struct bb_context *c = new_context(p.engine);
	feed(c, p.engine, begin, 1, p.logits);
	for (bool ok = true; ok && n < MOST;) {
		feed(c, p.engine, one, 2, p.logits);
		const float *row = p.logits + p.n_vocab;
		n++;
		ok = n % 2 != 0 ? row[1] > row[0] : row[0] > row[1];
	}
	bb_context_destroy(c);
	hand_close(&p);
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
