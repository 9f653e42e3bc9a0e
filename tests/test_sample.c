/* SPDX-License-Identifier: Apache-2.0
 *
 * The sampler from inside: logits that no sound model gives, temperatures at the edge of f32,
 * and the random numbers against known answers. What a whole generation does is test_generate's. */
#include "models.h"

#include "gguf_builder.h"
#include "sample.h"

#include <math.h>

static struct bb_engine *engine;
static float *logits; /* [n_vocab] */
static int n_vocab;

static void set_up(void) {
	const struct bb_engine_params params = { .path = tiny_path("llama"), .n_threads = 1 };
	engine = open_with(&params);
	n_vocab = vocab_of(engine);
	logits = calloc((size_t)n_vocab, sizeof(*logits));
	for (int i = 0; i < n_vocab; i++) {
		logits[i] = (float)(i * 37 % n_vocab) / 16 - 7; /* the largest stands at 43 */
	}
}

static void tear_down(void) {
	free(logits);
	bb_engine_destroy(engine);
}

TestSuite(sample, .init = set_up, .fini = tear_down);

static struct bb_sampling defaults(void) {
	struct bb_sampling s;
	bb_sampling_default(engine, &s);
	return s;
}

/* Draws the token at index 12; the id, or -1 with *err filled. */
static int32_t draw(const struct bb_sampling *params, struct bb_sampled *out,
	struct bb_error *err) {
	struct sampler s;
	cr_assert(sampler_init(&s, engine, params, err), "%s", err->text);
	const bool ok = sampler_pick(&s, engine, logits, 12, out, err);
	sampler_finish(&s);
	return ok ? out->id : -1;
}

static int32_t best(void) {
	int32_t at = 0;
	for (int i = 1; i < n_vocab; i++) {
		at = logits[i] > logits[at] ? i : at;
	}
	return at;
}

/* ---- what isn't a number ---- */

static void expect_refused(float wrong, int at, float temperature) {
	const float right = logits[at];
	struct bb_sampling params = defaults();
	struct bb_sampled out;
	struct bb_error err = { 0 };
	params.temperature = temperature;
	logits[at] = wrong;
	cr_assert_eq(draw(&params, &out, &err), -1, "%g at %d was taken", (double)wrong, at);
	cr_assert_eq(err.code, BB_ERR_FORMAT);
	cr_assert_not_null(strstr(err.text, "logits after token 11"), "%s", err.text);
	logits[at] = right;
}

Test(sample, logits_that_are_not_finite_are_refused) {
	const float wrong[] = { NAN, INFINITY, -INFINITY, -NAN };
	for (size_t i = 0; i < COUNT(wrong); i++) {
		expect_refused(wrong[i], 0, 0);
		expect_refused(wrong[i], n_vocab - 1, 0);
		expect_refused(wrong[i], best(), 1);
	}
	for (int i = 0; i < n_vocab; i++) {
		logits[i] = NAN;
	}
	expect_refused(NAN, 3, 0.7f);
}

Test(sample, logprobs_of_extreme_logits_are_finite) {
	struct bb_sampling params = defaults();
	struct bb_sampled out;
	struct bb_error err = { 0 };
	params.n_logprobs = 3;
	for (int i = 0; i < n_vocab; i++) {
		logits[i] = -3e38f;
	}
	logits[5] = 3e38f;
	const struct bb_logit_bias ban = { 5, -100 };
	params.logit_bias = &ban;
	params.n_logit_bias = 1;
	cr_assert_eq(draw(&params, &out, &err), 5, "%s", err.text);
	cr_assert(isfinite(out.logprob));
	for (int i = 0; i < out.n_top; i++) {
		cr_assert(isfinite(out.top_logprobs[i]), "%g", (double)out.top_logprobs[i]);
	}
}

/* ---- temperatures ---- */

Test(sample, tiny_temperatures_are_greedy) {
	const float tiny[] = { 0, 1e-45f, 1e-40f, 1e-38f, 1e-37f, 1e-30f, 1e-6f };
	for (size_t i = 0; i < COUNT(tiny); i++) {
		struct bb_sampling params = defaults();
		struct bb_sampled out;
		struct bb_error err = { 0 };
		params.temperature = tiny[i];
		cr_assert_eq(draw(&params, &out, &err), best(), "at %g: token %d", (double)tiny[i], out.id);
		params.top_p = 0.9f;
		cr_assert_eq(draw(&params, &out, &err), best(), "at %g: token %d", (double)tiny[i], out.id);
	}
}

/* ---- what a file recommends ---- */

/* What reading a file with one more key says; *s as read when it says nothing. */
static struct bb_error read_with(struct gguf_builder *b, struct bb_sampling *s) {
	size_t bytes;
	struct gguf g;
	struct bb_error err = { 0 };
	const uint8_t *data = gguf_builder_end(b, &bytes);
	cr_assert(gguf_open_memory(&g, data, bytes, &err), "%s", err.text);
	cr_assert_eq(sampling_read(s, &g, &err), err.code == BB_OK);
	gguf_finish(&g);
	gguf_builder_finish(b);
	return err;
}

static void expect_key_refused(struct gguf_builder *b, const char *key, const char *actual) {
	struct bb_sampling s;
	const struct bb_error err = read_with(b, &s);
	cr_assert_eq(err.code, BB_ERR_FORMAT, "%s is taken", key);
	cr_assert(strstr(err.text, key) != NULL && strstr(err.text, "expected") != NULL &&
		strstr(err.text, actual) != NULL, "%s", err.text);
}

Test(sample, recommendations_are_read) {
	struct bb_sampling s;
	struct gguf_builder b;
	gguf_builder_init(&b);
	gguf_builder_float(&b, "general.sampling.temp", GGUF_F32, 0.5);
	gguf_builder_float(&b, "general.sampling.top_p", GGUF_F64, 0.25);
	gguf_builder_int(&b, "general.sampling.min_p", GGUF_U8, 0);
	gguf_builder_float(&b, "general.sampling.penalty_repeat", GGUF_F32, 1.5);
	gguf_builder_int(&b, "general.sampling.top_k", GGUF_U32, 40);
	cr_assert_eq(read_with(&b, &s).code, BB_OK);
	cr_assert(s.temperature == 0.5f && s.top_p == 0.25f && s.min_p == 0 &&
		s.repetition_penalty == 1.5f && s.top_k == 40);
}

Test(sample, recommendations_of_a_wrong_type_are_refused) {
	static const char *const keys[] = { "temp", "top_p", "min_p", "penalty_repeat", "top_k" };
	for (size_t i = 0; i < COUNT(keys); i++) {
		char key[64];
		struct gguf_builder b;
		snprintf(key, sizeof(key), "general.sampling.%s", keys[i]);
		gguf_builder_init(&b);
		gguf_builder_str(&b, key, "warm");
		expect_key_refused(&b, key, "string");
	}
}

Test(sample, recommendations_out_of_range_are_refused) {
	static const struct {
		const char *key, *actual;
		double value;
	} floats[] = {
		{ "general.sampling.temp", "-1", -1 }, { "general.sampling.temp", "inf", INFINITY },
		{ "general.sampling.temp", "nan", NAN }, { "general.sampling.top_p", "0", 0 },
		{ "general.sampling.top_p", "1.5", 1.5 }, { "general.sampling.min_p", "-0.5", -0.5 },
		{ "general.sampling.penalty_repeat", "0", 0 },
	};
	struct gguf_builder b;
	for (size_t i = 0; i < COUNT(floats); i++) {
		gguf_builder_init(&b);
		gguf_builder_float(&b, floats[i].key, GGUF_F64, floats[i].value);
		expect_key_refused(&b, floats[i].key, floats[i].actual);
	}
	gguf_builder_init(&b);
	gguf_builder_int(&b, "general.sampling.top_k", GGUF_U64, ((int64_t)1 << 32) + 1);
	expect_key_refused(&b, "general.sampling.top_k", "4294967297");
	gguf_builder_init(&b);
	gguf_builder_int(&b, "general.sampling.top_k", GGUF_I32, -2);
	expect_key_refused(&b, "general.sampling.top_k", "-2");
}

/* ---- randomness ---- */

/* The known answers of the authors' library Random123 (kat_vectors, philox4x32, 10 rounds). */
Test(sample, philox_gives_the_known_answers) {
	static const struct {
		uint32_t counter[4], key[2], want[4];
	} known[] = {
		{ { 0 }, { 0 }, { 0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8 } },
		{ { 0xffffffff, 0xffffffff, 0xffffffff, 0xffffffff }, { 0xffffffff, 0xffffffff },
			{ 0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd } },
		{ { 0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344 }, { 0xa4093822, 0x299f31d0 },
			{ 0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1 } },
	};
	for (size_t i = 0; i < COUNT(known); i++) {
		uint32_t got[4];
		philox(known[i].counter, known[i].key, got);
		cr_assert_eq(memcmp(got, known[i].want, sizeof(got)), 0,
			"vector %zu: %08x %08x %08x %08x", i, got[0], got[1], got[2], got[3]);
	}
}
