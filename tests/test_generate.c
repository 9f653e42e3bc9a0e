/* SPDX-License-Identifier: Apache-2.0
 *
 * Sampling and generation from outside: the same seed gives the same text, the filters do what they
 * say, stop strings never show, errors are sentences. On a tiny model whose text is token ids. */
#include "models.h"

#include <math.h>

static struct bb_engine *engine;
static const int32_t prompt[] = { 5, 17, 23, 99 };

static void set_up(void) {
	const struct bb_engine_params params = { .path = tiny_path("llama"), .n_threads = 1 };
	engine = open_with(&params);
}

static void tear_down(void) {
	bb_engine_destroy(engine);
}

TestSuite(generate, .init = set_up, .fini = tear_down);

struct outcome {
	char text[4096];
	int32_t ids[128];
	int n;
	enum bb_finish finish;
	struct bb_sampled last;
};

static struct outcome generate(const struct bb_generation_params *params) {
	struct outcome out = { .text = "" };
	struct bb_context *c = new_context(engine);
	struct bb_generation *g;
	struct bb_error err = { 0 };
	cr_assert(bb_generation_create(&g, c, params, prompt, 4, NULL, NULL, &err), "%s", err.text);
	while (out.finish == BB_FINISH_NONE && out.n < 128) {
		const char *text;
		size_t bytes;
		cr_assert(bb_generation_next(g, &out.last, &text, &bytes, &out.finish, &err), "%s",
			err.text);
		out.ids[out.n++] = out.last.id;
		cr_assert_lt(strlen(out.text) + bytes, sizeof(out.text));
		strncat(out.text, text, bytes);
	}
	bb_generation_destroy(g);
	bb_context_destroy(c);
	return out;
}

static struct bb_generation_params defaults(void) {
	struct bb_generation_params p = { .max_tokens = 40 };
	bb_sampling_default(engine, &p.sampling);
	return p;
}

static bool same_ids(const struct outcome *a, const struct outcome *b) {
	return a->n == b->n && memcmp(a->ids, b->ids, (size_t)a->n * sizeof(int32_t)) == 0;
}

Test(generate, same_seed_same_text) {
	struct bb_generation_params p = defaults();
	p.sampling.seed = 7;
	const struct outcome a = generate(&p), b = generate(&p);
	cr_assert(same_ids(&a, &b));
	cr_assert_str_eq(a.text, b.text);
}

Test(generate, other_seed_other_text) {
	struct bb_generation_params p = defaults();
	p.sampling.seed = 7;
	const struct outcome a = generate(&p);
	p.sampling.seed = 8;
	const struct outcome b = generate(&p);
	cr_assert_not(same_ids(&a, &b));
}

Test(generate, greedy_ignores_the_seed) {
	struct bb_generation_params p = defaults();
	p.sampling.temperature = 0;
	const struct outcome a = generate(&p);
	p.sampling.seed = 99;
	const struct outcome b = generate(&p);
	cr_assert(same_ids(&a, &b));
}

Test(generate, filters_that_leave_one_token_are_greedy) {
	struct bb_generation_params p = defaults();
	p.sampling.temperature = 0;
	const struct outcome greedy = generate(&p);
	p.sampling.temperature = 1;
	p.sampling.top_k = 1;
	const struct outcome k = generate(&p);
	p.sampling.top_k = 0;
	p.sampling.top_p = 1e-6f;
	const struct outcome t = generate(&p);
	p.sampling.top_p = 1;
	p.sampling.min_p = 1;
	const struct outcome m = generate(&p);
	cr_assert(same_ids(&greedy, &k));
	cr_assert(same_ids(&greedy, &t));
	cr_assert(same_ids(&greedy, &m));
}

Test(generate, filters_that_pass_all_change_nothing_but_order) {
	struct bb_generation_params p = defaults();
	p.sampling.top_k = 199;
	const struct outcome a = generate(&p);
	p.sampling.top_k = -1;
	const struct outcome b = generate(&p);
	cr_assert(same_ids(&a, &b));
}

Test(generate, stop_tokens_end_it_and_are_in_the_text) {
	struct bb_generation_params p = defaults();
	p.sampling.temperature = 0;
	const struct outcome whole = generate(&p);
	int n = 5;
	for (int i = 0; i < n; i++) { /* up to the first place where that token is */
		n = whole.ids[i] == whole.ids[5] ? i : n;
	}
	const int32_t stops[] = { 198, whole.ids[5] };
	p.stop_token_ids = stops;
	p.n_stop_token_ids = 2;
	const struct outcome cut = generate(&p);
	cr_assert_eq(cut.finish, BB_FINISH_STOP);
	cr_assert_eq(cut.n, n + 1);
	cr_assert_eq(memcmp(cut.ids, whole.ids, (size_t)cut.n * sizeof(int32_t)), 0);
	cr_assert_eq(strncmp(cut.text, whole.text, strlen(cut.text)), 0);
	char last[16];
	snprintf(last, sizeof(last), " %d", stops[1]);
	cr_assert_str_eq(cut.text + strlen(cut.text) - strlen(last), last);
}

Test(generate, nothing_ends_before_min_tokens) {
	struct bb_generation_params p = defaults();
	p.sampling.temperature = 0;
	const struct outcome whole = generate(&p);
	const char *const texts[] = { " " };
	p.stop_token_ids = whole.ids;
	p.n_stop_token_ids = 1;
	p.stop = texts;
	p.n_stop = 1;
	p.min_tokens = 12;
	const struct outcome late = generate(&p);
	cr_assert_geq(late.n, 12);
	cr_assert_eq(late.finish, BB_FINISH_STOP);
	for (int i = 0; i < 12; i++) {
		cr_assert_neq(late.ids[i], whole.ids[0]);
	}
	p.min_tokens = 0;
	cr_assert_eq(generate(&p).n, 1);
}

Test(generate, min_tokens_and_stop_tokens_out_of_range) {
	const int32_t wrong[] = { -1, 199 };
	for (int i = 0; i < 4; i++) {
		struct bb_generation_params p = defaults();
		p.min_tokens = i == 0 ? -1 : i == 1 ? 41 : 0;
		p.stop_token_ids = wrong + (i == 3);
		p.n_stop_token_ids = i >= 2;
		struct bb_error err = { 0 };
		cr_assert_not(bb_generation_check(engine, &p, &err));
		cr_assert_eq(err.code, BB_ERR_USAGE);
		cr_assert_not_null(strstr(err.text, i < 2 ? "expected 0 to max_tokens, 40"
			: "expected 0 to 198"), "%s", err.text);
	}
}

Test(generate, max_tokens_is_exact) {
	struct bb_generation_params p = defaults();
	p.max_tokens = 13;
	const struct outcome a = generate(&p);
	cr_assert_eq(a.n, 13);
	cr_assert_eq(a.finish, BB_FINISH_LENGTH);
}

Test(generate, ends_where_the_context_ends) {
	struct bb_generation_params p = defaults();
	p.max_tokens = -1;
	const struct bb_context_params cp = { .max_len = 20 };
	struct bb_context *c;
	struct bb_generation *g;
	struct bb_error err = { 0 };
	cr_assert(bb_context_create(&c, engine, &cp, &err), "%s", err.text);
	cr_assert(bb_generation_create(&g, c, &p, prompt, 4, NULL, NULL, &err), "%s", err.text);
	enum bb_finish finish = BB_FINISH_NONE;
	int n = 0;
	while (finish == BB_FINISH_NONE) {
		struct bb_sampled token;
		const char *text;
		size_t bytes;
		cr_assert(bb_generation_next(g, &token, &text, &bytes, &finish, &err), "%s", err.text);
		n++;
	}
	cr_assert_eq(finish, BB_FINISH_CONTEXT);
	cr_assert_eq(n, 16);
	bb_generation_destroy(g);
	bb_context_destroy(c);
}

Test(generate, stop_string_never_shows) {
	struct bb_generation_params p = defaults();
	p.sampling.temperature = 0;
	const struct outcome whole = generate(&p);
	cr_assert_gt(strlen(whole.text), 20);
	char stop[8];
	memcpy(stop, whole.text + 12, 5);
	stop[5] = '\0';
	const char *const stops[] = { "never appears", stop };
	p.stop = stops;
	p.n_stop = 2;
	const struct outcome cut = generate(&p);
	cr_assert_eq(cut.finish, BB_FINISH_STOP);
	cr_assert_null(strstr(cut.text, stop), "'%s' in '%s'", stop, cut.text);
	cr_assert_eq(strlen(cut.text), (size_t)(strstr(whole.text, stop) - whole.text));
	cr_assert_eq(strncmp(cut.text, whole.text, strlen(cut.text)), 0);
}

Test(generate, empty_stop_string_is_refused) {
	struct bb_generation_params p = defaults();
	const char *const stops[] = { "" };
	p.stop = stops;
	p.n_stop = 1;
	struct bb_context *c = new_context(engine);
	struct bb_generation *g;
	struct bb_error err = { 0 };
	cr_assert_not(bb_generation_create(&g, c, &p, prompt, 4, NULL, NULL, &err));
	cr_assert_eq(err.code, BB_ERR_USAGE);
	cr_assert_eq(bb_context_length(c), 0);
	bb_context_destroy(c);
}

Test(generate, logit_bias_forces_and_bans) {
	struct bb_generation_params p = defaults();
	p.sampling.temperature = 0;
	const struct outcome free_run = generate(&p);
	const struct bb_logit_bias ban = { free_run.ids[0], -100 }, force = { 77, 100 };
	p.sampling.logit_bias = &ban;
	p.sampling.n_logit_bias = 1;
	cr_assert_neq(generate(&p).ids[0], free_run.ids[0]);
	p.sampling.logit_bias = &force;
	const struct outcome forced = generate(&p);
	for (int i = 0; i < forced.n; i++) {
		cr_assert_eq(forced.ids[i], 77);
	}
}

Test(generate, repetition_penalty_changes_repeats) {
	struct bb_generation_params p = defaults();
	const struct bb_logit_bias force = { 77, 30 };
	p.sampling.logit_bias = &force;
	p.sampling.n_logit_bias = 1;
	p.sampling.temperature = 0;
	p.sampling.frequency_penalty = 2;
	const struct outcome a = generate(&p);
	int n_forced = 0;
	for (int i = 0; i < a.n; i++) {
		n_forced += a.ids[i] == 77;
	}
	cr_assert_gt(n_forced, 1);
	cr_assert_lt(n_forced, a.n);
}

Test(generate, logprobs_are_sorted_and_contain_the_greedy_token) {
	struct bb_generation_params p = defaults();
	p.sampling.temperature = 0;
	p.sampling.n_logprobs = 5;
	p.max_tokens = 1;
	const struct outcome a = generate(&p);
	cr_assert_eq(a.last.n_top, 5);
	cr_assert_eq(a.last.top_ids[0], a.last.id);
	cr_assert_float_eq(a.last.top_logprobs[0], a.last.logprob, 1e-6);
	double sum = 0;
	for (int i = 0; i < 5; i++) {
		cr_assert(i == 0 || a.last.top_logprobs[i] <= a.last.top_logprobs[i - 1]);
		sum += exp((double)a.last.top_logprobs[i]);
	}
	cr_assert(sum > 0 && sum <= 1.0001);
}

static void expect_refused(struct bb_sampling s, const char *name) {
	struct bb_error err = { 0 };
	cr_assert_not(bb_sampling_check(engine, &s, &err));
	cr_assert_eq(err.code, BB_ERR_USAGE);
	cr_assert_not_null(strstr(err.text, name), "%s", err.text);
}

Test(generate, values_out_of_range_are_refused_by_name) {
	struct bb_sampling good, s;
	bb_sampling_default(engine, &good);
	s = good, s.temperature = -1, expect_refused(s, "temperature");
	s = good, s.temperature = NAN, expect_refused(s, "temperature");
	s = good, s.top_p = 0, expect_refused(s, "top_p");
	s = good, s.top_p = 1.5f, expect_refused(s, "top_p");
	s = good, s.min_p = 2, expect_refused(s, "min_p");
	s = good, s.top_k = -2, expect_refused(s, "top_k");
	s = good, s.repetition_penalty = 0, expect_refused(s, "repetition_penalty");
	s = good, s.presence_penalty = 3, expect_refused(s, "presence_penalty");
	s = good, s.frequency_penalty = -3, expect_refused(s, "frequency_penalty");
	s = good, s.n_logprobs = 21, expect_refused(s, "logprobs");
}

/* Draws follow the distribution: 199 tokens, observed against expected frequencies of the
 * likeliest. */
Test(generate, draws_follow_the_probabilities) {
	struct bb_generation_params p = defaults();
	p.max_tokens = 1;
	p.sampling.n_logprobs = 1;
	int n_top = 0;
	double expected = 0;
	int32_t top = -1;
	const int n_draws = 600;
	for (int i = 0; i < n_draws; i++) {
		p.sampling.seed = (uint64_t)i;
		const struct outcome a = generate(&p);
		top = a.last.top_ids[0];
		expected = exp((double)a.last.top_logprobs[0]);
		n_top += a.last.id == top;
	}
	const double sigma = sqrt(n_draws * expected * (1 - expected));
	cr_assert(fabs(n_top - n_draws * expected) <= 5 * sigma + 1, "%d of %d draws, expected %g",
		n_top, n_draws, n_draws * expected);
}
