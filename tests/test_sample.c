/* SPDX-License-Identifier: Apache-2.0
 *
 * The sampler from inside: logits that no sound model gives, temperatures at the edge of f32,
 * the random numbers against known answers, and the kernel that draws rows, here and on the
 * emulator, against the engine's draws. What a whole generation does is test_generate's. */
#include "models.h"

#include "device.h"
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

static bool sampler_pick(struct bb_sampler *s, const struct bb_engine *e, const float *x,
	int token_index, struct bb_sampled *out, struct bb_error *err) {
	sampler_choose(s, e, x, token_index, out);
	if (out->id == BB_SAMPLE_ID_NONE) {
		return sampler_refuse(false, token_index, err);
	}
	sampler_count(s, out->id);
	return true;
}

/* Draws the token at index 12; the id, or -1 with *err filled. */
static int32_t draw(const struct bb_sampling *params, struct bb_sampled *out,
	struct bb_error *err) {
	struct bb_sampler s;
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
	params.wants_confidence = true;
	for (int i = 0; i < n_vocab; i++) {
		logits[i] = -3e38f;
	}
	logits[5] = 3e38f;
	const struct bb_logit_bias ban = { 5, -100 };
	params.logit_bias = &ban;
	params.n_logit_bias = 1;
	cr_assert_eq(draw(&params, &out, &err), 5, "%s", err.text);
	cr_assert(isfinite(out.logprob) && isfinite(out.confidence) && isfinite(out.certainty));
	for (int i = 0; i < out.n_top; i++) {
		cr_assert(isfinite(out.top_logprobs[i]), "%g", (double)out.top_logprobs[i]);
	}
}

/* ---- how sure the model is ---- */

static int falling(const void *a, const void *b) {
	const double x = *(const double *)a, y = *(const double *)b;
	return (x < y) - (x > y);
}

/* Plainly and in double: all log-probabilities, sorted. */
static void expect_confidence(const float *x, int n, const struct bb_sampled *out) {
	double *log_p = calloc((size_t)n, sizeof(*log_p)), max = -INFINITY, sum = 0;
	for (int i = 0; i < n; i++) {
		max = fmax(max, (double)x[i]);
	}
	for (int i = 0; i < n; i++) {
		sum += exp((double)x[i] - max);
	}
	double confidence = 0, divergence = 0;
	for (int i = 0; i < n; i++) {
		log_p[i] = (double)x[i] - max - log(sum);
		divergence += (log(1.0 / n) - log_p[i]) / n;
	}
	qsort(log_p, (size_t)n, sizeof(*log_p), falling);
	const int n_mean = n < 20 ? n : 20;
	for (int i = 0; i < n_mean; i++) {
		confidence -= log_p[i] / n_mean;
	}
	cr_assert_float_eq(out->confidence, confidence, 2e-6 * (1 + confidence),
		"%d tokens: %g, not %g", n, (double)out->confidence, confidence);
	cr_assert_float_eq(out->certainty, divergence, 2e-6 * (1 + divergence), "%d tokens: %g, not %g",
		n, (double)out->certainty, divergence);
	free(log_p);
}

/* Of vocabularies with less than 20 tokens and with many: the sampler is told that it has so many.
 * The likeliest come last, first, and anywhere. */
Test(sample, confidence_is_what_its_definition_says) {
	static const int sizes[] = { 1, 2, 19, 20, 21, 511, 512, 513, 5003 };
	struct bb_sampling params = defaults();
	params.wants_confidence = true;
	for (size_t i = 0; i < 4 * COUNT(sizes); i++) {
		const int n = sizes[i / 4], order = (int)(i % 4);
		float *x = calloc((size_t)n, sizeof(*x));
		for (int j = 0; j < n; j++) {
			const int k = order == 0 ? j : order == 1 ? n - j : j * 7919 % 1000;
			x[j] = order == 3 ? (float)(k % 3) : (float)k * 0.01f - 30;
		}
		struct bb_sampler s;
		struct bb_sampled out = { .id = n / 2 };
		struct bb_error err = { 0 };
		cr_assert(sampler_init(&s, engine, &params, &err), "%s", err.text);
		s.n_vocab = n;
		sampler_report(&s, engine, x, 0, &out);
		sampler_finish(&s);
		expect_confidence(x, n, &out);
		free(x);
	}
}

Test(sample, confidence_is_only_what_is_wanted) {
	const struct bb_sampling params = defaults();
	struct bb_sampled out = { .confidence = 1, .certainty = 1 };
	struct bb_error err = { 0 };
	cr_assert_geq(draw(&params, &out, &err), 0, "%s", err.text);
	cr_assert(out.confidence == 0 && out.certainty == 0);
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

/* ---- the kernel that draws rows ---- */

/* Where rows are drawn, with memory that both sides reach. */
struct side {
	struct device device; /* all zero: this CPU, the engine's kernels */
	struct bb_kernels kernels;
	bb_queue *queue;
	struct bb_sample row; /* the arguments for one row */
	struct bb_sample_params *params;
	struct bb_token_count *counts; /* [n_vocab] */
	struct bb_token_bias *bias;    /* [MAX_BIAS] */
	float *logits;                 /* [n_vocab] */
};

enum { MAX_BIAS = 4, N_ARRAYS = 11 };

static void *take(char **at, size_t bytes) {
	void *p = *at;
	*at += (bytes + 63) / 64 * 64;
	return p;
}

/* What side_finish frees begins with params. */
static void side_init(struct side *s, const char *device) {
	char text[256];
	memset(s, 0, sizeof(*s));
	if (!device_open(&s->device, device, 0, text, sizeof(text))) {
		cr_skip_test("%s", text);
	}
	const size_t scratch_bytes = sample_scratch_bytes(1, n_vocab), n = (size_t)n_vocab;
	const size_t bytes = 64 * N_ARRAYS + sizeof(*s->params) + n * sizeof(*s->counts) +
		MAX_BIAS * sizeof(*s->bias) + n * sizeof(float) + 4 * sizeof(float) +
		2 * BB_SAMPLE_TOP * sizeof(float) + scratch_bytes;
	char *at;
	if (s->device.module == NULL) {
		s->kernels = engine->cpu_kernels;
		s->queue = engine->pool;
		at = aligned_alloc(64, (bytes + 63) / 64 * 64);
	} else {
		s->device.module->kernels(s->device.d, &s->kernels);
		s->queue = s->device.module->queue_create(s->device.d);
		at = s->device.module->both_alloc(s->device.d, bytes);
	}
	cr_assert_not_null(at);
	s->params = take(&at, sizeof(*s->params));
	s->counts = take(&at, n * sizeof(*s->counts));
	s->bias = take(&at, MAX_BIAS * sizeof(*s->bias));
	s->logits = take(&at, n * sizeof(float));
	s->row = (struct bb_sample){
		.ids = take(&at, sizeof(int32_t)), .logprobs = take(&at, sizeof(float)),
		.entropies = take(&at, sizeof(float)), .confidences = take(&at, sizeof(float)),
		.certainties = take(&at, sizeof(float)),
		.top_ids = take(&at, BB_SAMPLE_TOP * sizeof(int32_t)),
		.top_logprobs = take(&at, BB_SAMPLE_TOP * sizeof(float)),
		.logits = s->logits, .ld = n_vocab, .n_rows = 1, .n_vocab = n_vocab,
		.params = s->params, .scratch = take(&at, scratch_bytes),
	};
}

static void side_finish(struct side *s) {
	if (s->device.module == NULL) {
		free(s->params);
	} else {
		s->device.module->queue_destroy(s->queue);
		s->device.module->both_free(s->device.d, s->params);
		device_close(&s->device);
	}
}

static void side_draw(struct side *s) {
	char text[256];
	s->kernels.sample(s->queue, &s->row);
	cr_assert(s->device.module == NULL || s->device.module->wait(s->queue, text, sizeof(text)));
}

/* A fixed sequence of numbers. */
static int below(int n) {
	static uint32_t state = 1;
	state = state * 1664525u + 1013904223u;
	return (int)((uint64_t)state * (uint64_t)n >> 32);
}

static struct bb_sampling any_sampling(struct bb_logit_bias bias[MAX_BIAS]) {
	struct bb_sampling p = defaults();
	p.temperature = below(8) > 0 ? 0.3f + 0.1f * (float)below(14) : 0;
	p.top_k = below(2) ? below(60) : 0;
	p.top_p = below(2) ? 0.3f + 0.01f * (float)below(70) : 1;
	p.min_p = below(3) ? 0 : 0.01f * (float)below(30);
	p.repetition_penalty = below(2) ? 1 : 1.3f;
	p.presence_penalty = below(2) ? 0 : 0.7f;
	p.frequency_penalty = below(2) ? 0 : -0.2f;
	p.seed = (uint64_t)below(1 << 30);
	p.n_logprobs = below(BB_MAX_LOGPROBS + 1);
	p.wants_confidence = below(2);
	p.n_logit_bias = below(2) ? 0 : MAX_BIAS;
	p.logit_bias = bias;
	for (int i = 0; i < MAX_BIAS; i++) { /* two for one token, in the order of ids */
		bias[i] = (struct bb_logit_bias){ 10 + i / 2 * 7, (float)below(100) / 10 - 5 };
	}
	return p;
}

static void set_row(struct side *s, const struct bb_sampling *p, const int32_t *n_prompt,
	const int32_t *n_output, int token_index) {
	int n_counts = 0;
	for (int32_t id = 0; id < n_vocab; id++) {
		if (n_prompt[id] > 0 || n_output[id] > 0) {
			s->counts[n_counts++] = (struct bb_token_count){ id, n_output[id] };
		}
	}
	for (int i = 0; i < p->n_logit_bias; i++) {
		s->bias[i] = (struct bb_token_bias){ p->logit_bias[i].id, p->logit_bias[i].bias };
	}
	*s->params = (struct bb_sample_params){
		.temperature = p->temperature, .top_k = p->top_k, .top_p = p->top_p, .min_p = p->min_p,
		.repetition_penalty = p->repetition_penalty, .presence_penalty = p->presence_penalty,
		.frequency_penalty = p->frequency_penalty, .n_counts = n_counts,
		.n_bias = p->n_logit_bias, .counts = s->counts, .bias = s->bias,
		.key = sampler_key(p->seed), .token_index = (uint32_t)token_index, .n_top = p->n_logprobs,
		.n_confidence = p->wants_confidence ? BB_SAMPLE_TOP : 0,
	};
	memcpy(s->logits, logits, (size_t)n_vocab * sizeof(*logits));
}

/* What the engine reports, to the last digits of f32. */
static void expect_same_report(const struct side *s, const struct bb_sampled *out) {
	const float tol = 4e-6f;
	cr_assert_float_eq(s->row.logprobs[0], out->logprob, tol * 4);
	cr_assert_float_eq(s->row.confidences[0], out->confidence, tol * 4);
	cr_assert_float_eq(s->row.certainties[0], out->certainty, tol * 4);
	for (int i = 0; i < out->n_top; i++) {
		cr_assert_eq(s->row.top_ids[i], out->top_ids[i]);
		cr_assert_float_eq(s->row.top_logprobs[i], out->top_logprobs[i], tol * 4);
	}
	cr_assert(out->n_top == BB_SAMPLE_TOP || s->row.top_ids[out->n_top] == -1);
}

/* Draws with any settings, each some times with other logits; rounding may decide one in a
 * thousand. */
static void compare_draws(const char *device, int n_settings, int n_draws) {
	struct side side;
	struct bb_sampler s;
	struct bb_sampled out;
	struct bb_error err = { 0 };
	int n_different = 0;
	side_init(&side, device);
	int32_t *n_prompt = calloc((size_t)n_vocab, sizeof(*n_prompt));
	int32_t *n_output = calloc((size_t)n_vocab, sizeof(*n_output));
	for (int i = 0; i < n_settings; i++) {
		struct bb_logit_bias bias[MAX_BIAS];
		const struct bb_sampling params = any_sampling(bias);
		const int32_t prompt[] = { 17, below(n_vocab), 3 };
		cr_assert(sampler_init(&s, engine, &params, &err), "%s", err.text);
		bb_sampler_prompt(&s, prompt, COUNT(prompt));
		memset(n_prompt, 0, (size_t)n_vocab * sizeof(*n_prompt));
		memset(n_output, 0, (size_t)n_vocab * sizeof(*n_output));
		n_prompt[prompt[0]] = n_prompt[prompt[1]] = n_prompt[prompt[2]] = 1;
		for (int j = 0; j < n_draws; j++) {
			for (int32_t id = 0; id < n_vocab; id++) {
				logits[id] = (float)(below(1 << 12) + below(1 << 12) - (1 << 12)) / 512;
			}
			set_row(&side, &params, n_prompt, n_output, 100 + j);
			side_draw(&side);
			cr_assert(sampler_pick(&s, engine, logits, 100 + j, &out, &err), "%s", err.text);
			n_output[out.id]++;
			n_different += side.row.ids[0] != out.id;
			if (side.row.ids[0] == out.id) {
				expect_same_report(&side, &out);
			}
		}
		sampler_finish(&s);
	}
	cr_assert(n_different * 1000 <= n_settings * n_draws, "%d of %d draws differ", n_different,
		n_settings * n_draws);
	free(n_prompt);
	free(n_output);
	side_finish(&side);
}

Test(sample, rows_are_drawn_as_the_engine_draws) {
	compare_draws("cpu", 200, 20);
}

Test(sample, rows_are_drawn_as_the_engine_draws_on_the_emulator) {
	compare_draws("simt", 60, 5);
}

/* ---- steps that draw ---- */

enum { N_ITEMS = 3, N_STEPS = 6 };

/* A context that is stepped with a sampler, and its twin, whose logits come to the host. */
struct pair {
	struct bb_context *c, *twin;
	struct bb_sampler s, twin_s;
	struct bb_sampled out, want;
	int32_t last;
};

static void pair_init(struct pair *p, struct bb_engine *e, int i, struct bb_logit_bias *bias) {
	struct bb_error err = { 0 };
	const struct bb_sampling params = any_sampling(bias);
	const int32_t prompt[] = { 1 + i, 40 + i, 7 };
	p->c = new_context(e);
	p->twin = new_context(e);
	p->last = prompt[2];
	cr_assert(sampler_init(&p->s, e, &params, &err), "%s", err.text);
	cr_assert(sampler_init(&p->twin_s, e, &params, &err), "%s", err.text);
	bb_sampler_prompt(&p->s, prompt, COUNT(prompt));
	bb_sampler_prompt(&p->twin_s, prompt, COUNT(prompt));
	cr_assert(bb_prefill(p->c, prompt, 2, NULL, NULL, NULL, &err), "%s", err.text);
	cr_assert(bb_prefill(p->twin, prompt, 2, NULL, NULL, NULL, &err), "%s", err.text);
}

static void expect_twins_draw(struct pair *p, struct bb_engine *e, float *logits_of_twin) {
	struct bb_error err = { 0 };
	const struct bb_step_item item = { p->twin, &p->last, 1, logits_of_twin, false };
	cr_assert(bb_step(e, &item, 1, &err), "%s", err.text);
	cr_assert(sampler_pick(&p->twin_s, e, logits_of_twin, bb_context_length(p->twin), &p->want,
		&err), "%s", err.text);
	cr_assert_eq(p->out.id, p->want.id);
	cr_assert_float_eq(p->out.logprob, p->want.logprob, 2e-5f);
	cr_assert_eq(p->out.n_top, p->want.n_top);
	for (int i = 0; i < p->want.n_top; i++) {
		cr_assert_eq(p->out.top_ids[i], p->want.top_ids[i]);
		cr_assert_float_eq(p->out.top_logprobs[i], p->want.top_logprobs[i], 2e-5f);
	}
	p->last = p->out.id;
}

/* The logits that came with the others' draws are those of a step alone. */
static void step_twin(struct pair *p, struct bb_engine *e, const float *got) {
	struct bb_error err = { 0 };
	const struct bb_step_item item = { p->twin, &p->last, 1, logits, false };
	cr_assert(bb_step(e, &item, 1, &err), "%s", err.text);
	cr_assert_eq(memcmp(got, logits, (size_t)n_vocab * sizeof(*got)), 0);
}

/* Items of one step, the second of which has its logits, and draws in every other step alone: then
 * a capture draws too. Lists grow out of the room that few rows begin with. */
static void draw_in_steps(const char *device) {
	const struct bb_engine_params params = { .path = tiny_path("llama"), .device = device,
		.n_threads = 1, .max_batch_tokens = N_ITEMS };
	struct bb_engine *e;
	struct bb_logit_bias bias[N_ITEMS][MAX_BIAS];
	struct pair pairs[N_ITEMS] = { 0 };
	struct bb_error err = { 0 };
	if (!bb_engine_open(&e, bb_models, &params, &err)) {
		cr_skip_test("%s", err.text);
	}
	float *other = malloc((size_t)n_vocab * sizeof(*other));
	for (int i = 0; i < N_ITEMS; i++) {
		pair_init(&pairs[i], e, i, bias[i]);
	}
	for (int j = 0; j < N_STEPS; j++) {
		struct bb_step_item items[N_ITEMS];
		for (int i = 0; i < N_ITEMS; i++) {
			items[i] = (struct bb_step_item){
				.context = pairs[i].c, .tokens = &pairs[i].last, .n_tokens = 1,
				.logits = i == 1 ? other : NULL,
				.sampler = i == 1 && j % 2 == 0 ? NULL : &pairs[i].s, .sampled = &pairs[i].out,
			};
		}
		cr_assert(bb_step(e, items, N_ITEMS, &err), "%s", err.text);
		expect_twins_draw(&pairs[0], e, logits);
		expect_twins_draw(&pairs[2], e, logits);
		if (j % 2 == 0) {
			step_twin(&pairs[1], e, other);
		} else {
			expect_twins_draw(&pairs[1], e, logits);
			cr_assert_eq(memcmp(other, logits, (size_t)n_vocab * sizeof(*other)), 0);
		}
	}
	for (int i = 0; i < N_ITEMS; i++) {
		sampler_finish(&pairs[i].s);
		sampler_finish(&pairs[i].twin_s);
		bb_context_destroy(pairs[i].c);
		bb_context_destroy(pairs[i].twin);
	}
	free(other);
	bb_engine_destroy(e);
}

Test(sample, steps_draw_as_the_sampler_does) {
	draw_in_steps("cpu");
}

Test(sample, steps_draw_as_the_sampler_does_on_the_emulator) {
	draw_in_steps(test_device());
}

/* Pearson's chi-square of n draws over as many tokens as top_k leaves, against their
 * probabilities. */
static double chi_square(const char *device, int n_draws, int top_k) {
	struct side s;
	struct bb_sampling params = defaults();
	int32_t *none = calloc((size_t)n_vocab, sizeof(*none));
	int *n_drawn = calloc((size_t)n_vocab, sizeof(*n_drawn));
	double total = 0, sum = 0;
	side_init(&s, device);
	params.temperature = 2.5f;
	params.top_k = top_k;
	params.seed = 7;
	for (int j = 0; j < n_draws; j++) {
		set_row(&s, &params, none, none, j);
		side_draw(&s);
		n_drawn[s.row.ids[0]]++;
	}
	/* the logits are all different and in steps of 1/16 up to n_vocab's */
	const float largest = logits[best()];
	for (int rank = 0; rank < top_k; rank++) {
		total += exp(-rank / 16.0 / 2.5);
	}
	for (int32_t id = 0; id < n_vocab; id++) {
		const double rank = (double)(largest - logits[id]) * 16;
		const double expected = rank < top_k ? n_draws * exp(-rank / 16.0 / 2.5) / total : 0;
		cr_assert(expected > 0 || n_drawn[id] == 0, "token %d isn't among the %d first", id, top_k);
		sum += expected > 0 ? (n_drawn[id] - expected) * (n_drawn[id] - expected) / expected : 0;
	}
	free(none);
	free(n_drawn);
	side_finish(&s);
	return sum;
}

/* With 19 degrees of freedom one in 10 000 sequences of draws is above 50.8 and one below 3.97. */
Test(sample, rows_are_drawn_as_often_as_they_should) {
	const double here = chi_square("cpu", 20000, 20);
	cr_assert(here > 3.97 && here < 50.8, "%g", here);
}

Test(sample, rows_are_drawn_as_often_as_they_should_on_the_emulator) {
	const double there = chi_square("simt", 400, 20);
	cr_assert(there > 3.97 && there < 50.8, "%g", there);
}
