/* SPDX-License-Identifier: Apache-2.0
 *
 * Where CoT steps end, and what is fed to a generation behind its tokens. */
#include "cot.h"
#include "models.h"

#include <math.h>

/* ---- cutting ---- */

/* Adds each text as a token; returns the places behind which a step ended, as a bit each. */
static unsigned ends_of(struct cot *c, const char *const *texts, int n) {
	struct bb_error err = { 0 };
	unsigned ends = 0;
	for (int i = 0; i < n; i++) {
		cr_assert(cot_add(c, i, -1, texts[i], strlen(texts[i]), &err), "%s", err.text);
		ends |= c->has_ended ? 1u << i : 0;
	}
	return ends;
}

#define ENDS(c, ...) \
	ends_of(c, (const char *const[]){ __VA_ARGS__ }, \
		(int)COUNT(((const char *const[]){ __VA_ARGS__ })))

Test(cot, a_blank_line_ends_a_step) {
	struct cot c = { 0 };
	cr_assert_eq(ENDS(&c, "One", ".", "\n", " \t", "\n", "Two", ".\n\n", "\n", "Three"), 0x50u);
	cr_assert_eq(c.i_step, 2);
	cr_assert_eq(c.first, 7);
	cr_assert_eq(c.n_tokens, 2);
	cr_assert_eq(c.logprob, -2);
	cr_assert_str_eq(c.text.data, "\nThree");
	cot_finish(&c);
}

Test(cot, blank_lines_before_the_first_word_end_nothing) {
	struct cot c = { 0 };
	cr_assert_eq(ENDS(&c, "\n\n", "\n", " ", "\n\nWord", "\n", "\nNext"), 0x20u);
	cot_finish(&c);
}

Test(cot, sentences_and_lines_end_long_steps_only) {
	static const struct {
		const char *text;
		bool ends;
	} cases[] = {
		{ " end.", true }, { " end!", true }, { " why?\"", true }, { " it.)*", true },
		{ "\n", true }, { "\u3002", true }, { "\u2026\u201D", true }, { " 3.", false },
		{ " end", false }, { " (", false }, { " .", true },
	};
	for (size_t i = 0; i < COUNT(cases); i++) {
		struct cot c = { 0 };
		struct bb_error err = { 0 };
		for (int t = 0; t < COT_MIN_TOKENS - 1; t++) {
			cr_assert(cot_add(&c, t, 0, " end.", 5, &err), "%s", err.text);
			cr_assert_not(c.has_ended, "token %d", t);
		}
		const char *text = cases[i].text;
		cr_assert(cot_add(&c, COT_MIN_TOKENS, 0, text, strlen(text), &err), "%s", err.text);
		cr_assert_eq(c.has_ended, cases[i].ends, "'%s'", text);
		cot_finish(&c);
	}
}

Test(cot, each_token_may_be_a_step) {
	struct cot c = { .each_token = true };
	cr_assert_eq(ENDS(&c, "a", "", "\n"), 7u);
	cr_assert_eq(c.i_step, 2);
	cr_assert_eq(c.n_tokens, 1);
	cot_finish(&c);
}

/* ---- generating ---- */

struct made {
	int32_t ids[16];
	struct bb_cot_step last;
	int n, n_steps, n_counted;
	int32_t timeline[64];
	int length;
};

/* Greedy: n tokens, behind each but the last of which `feed` puts its ids [n_feed]. */
static struct made make(struct bb_engine *e, int n, const int32_t *feed, size_t n_feed) {
	static const int32_t prompt[] = { 5, 17, 23, 99 };
	struct made out = { .n = n };
	struct bb_generation_params p = { .max_tokens = n };
	struct bb_error err = { 0 };
	struct bb_context *c = new_context(e);
	struct bb_generation *g;
	bb_sampling_default(e, &p.sampling);
	p.sampling.temperature = 0;
	p.sampling.ignore_eos = true;
	cr_assert(bb_generation_create(&g, c, &p, prompt, 4, NULL, NULL, &err), "%s", err.text);
	for (int i = 0; i < n; i++) {
		struct bb_sampled token;
		const char *text;
		size_t bytes;
		enum bb_finish finish;
		cr_assert(bb_generation_next(g, &token, &text, &bytes, &finish, &err), "%s", err.text);
		out.ids[i] = token.id;
		const bool has_ended = bb_generation_cot_step(g, &out.last);
		cr_assert(has_ended || i + 1 < n);
		out.n_steps += has_ended;
		out.n_counted += has_ended ? out.last.n_tokens : 0;
		if (i + 1 < n && n_feed > 0) {
			cr_assert(bb_generation_feed(g, feed, n_feed, &err), "%s", err.text);
		}
	}
	out.length = bb_context_length(c);
	memcpy(out.timeline, bb_context_tokens(c), sizeof(int32_t) * (size_t)out.length);
	bb_generation_destroy(g);
	bb_context_destroy(c);
	return out;
}

/* What is drawn behind the whole history in one go. */
static int32_t follows(struct bb_engine *e, const int32_t *ids, int n) {
	struct bb_context *c = new_context(e);
	struct bb_engine_info info;
	struct bb_error err = { 0 };
	bb_engine_info(e, &info);
	float *logits = calloc((size_t)info.n_vocab, sizeof(*logits));
	cr_assert(bb_prefill(c, ids, (size_t)n, logits, NULL, NULL, &err), "%s", err.text);
	int best = 0;
	for (int i = 1; i < info.n_vocab; i++) {
		best = logits[i] > logits[best] ? i : best;
	}
	free(logits);
	bb_context_destroy(c);
	return best;
}

Test(cot, what_is_fed_stands_behind_each_token) {
	static const char *const models[] = { "llama", "mamba2" };
	static const int32_t feed[] = { 40, 41, 42 };
	for (size_t m = 0; m < COUNT(models); m++) {
		for (size_t n_feed = 1; n_feed <= 3; n_feed++) {
			/* fewer rows a step than are fed */
			const struct bb_engine_params params = { .path = tiny_path(models[m]), .n_threads = 1,
				.max_batch_tokens = 2 };
			struct bb_engine *e = open_with(&params);
			const struct made out = make(e, 5, feed, n_feed);
			cr_assert_eq(out.length, 4 + 4 * (1 + (int)n_feed));
			for (int i = 0; i < 5; i++) {
				const int at = 4 + i * (1 + (int)n_feed);
				cr_assert_eq(follows(e, out.timeline, at), out.ids[i], "%s, token %d", models[m],
					i);
				cr_assert(i == 4 || (out.timeline[at] == out.ids[i] &&
					memcmp(&out.timeline[at + 1], feed, n_feed * sizeof(feed[0])) == 0));
			}
			cr_assert_eq(out.n_counted, 5);
			cr_assert_eq(out.last.first, 4);
			bb_engine_destroy(e);
		}
	}
}

Test(cot, ids_that_the_model_lacks_are_not_fed) {
	const struct bb_engine_params params = { .path = tiny_path("llama"), .n_threads = 1 };
	struct bb_engine *e = open_with(&params);
	static const int32_t prompt[] = { 5 }, wrong[] = { 3, 1 << 20 };
	struct bb_generation_params p = { .max_tokens = 3 };
	struct bb_error err = { 0 };
	struct bb_context *c = new_context(e);
	struct bb_generation *g;
	struct bb_sampled token;
	const char *text;
	size_t bytes;
	enum bb_finish finish;
	bb_sampling_default(e, &p.sampling);
	cr_assert(bb_generation_create(&g, c, &p, prompt, 1, NULL, NULL, &err), "%s", err.text);
	cr_assert(bb_generation_next(g, &token, &text, &bytes, &finish, &err), "%s", err.text);
	cr_assert_not(bb_generation_feed(g, wrong, 2, &err));
	cr_assert_eq(err.code, BB_ERR_INPUT);
	cr_assert(bb_generation_next(g, &token, &text, &bytes, &finish, &err));
	cr_assert_eq(bb_context_length(c), 2); /* nothing of it */
	bb_generation_destroy(g);
	bb_context_destroy(c);
	bb_engine_destroy(e);
}

/* A generation of the tiny llama behind one token, which has given out another. */
struct begun {
	struct bb_engine *e;
	struct bb_context *c;
	struct bb_generation *g;
	struct bb_sampled token;
};

static bool next(struct begun *b, struct bb_error *err) {
	const char *text;
	size_t bytes;
	enum bb_finish finish;
	return bb_generation_next(b->g, &b->token, &text, &bytes, &finish, err);
}

static struct begun begin(int max_len, float presence_penalty) {
	const struct bb_engine_params params = { .path = tiny_path("llama"), .n_threads = 1 };
	const struct bb_context_params room = { .max_len = max_len };
	static const int32_t prompt[] = { 5 };
	struct begun b = { .e = open_with(&params) };
	struct bb_generation_params p = { .max_tokens = -1 };
	struct bb_error err = { 0 };
	bb_sampling_default(b.e, &p.sampling);
	p.sampling.temperature = 0;
	p.sampling.ignore_eos = true;
	p.sampling.repetition_penalty = 1 + presence_penalty;
	cr_assert(bb_context_create(&b.c, b.e, &room, &err), "%s", err.text);
	cr_assert(bb_generation_create(&b.g, b.c, &p, prompt, 1, NULL, NULL, &err), "%s", err.text);
	cr_assert(next(&b, &err), "%s", err.text);
	return b;
}

static void end(struct begun *b) {
	bb_generation_destroy(b->g);
	bb_context_destroy(b->c);
	bb_engine_destroy(b->e);
}

Test(cot, what_does_not_fit_is_not_fed) {
	static const int32_t feed[16] = { 40, 41, 42 };
	struct begun b = begin(16, 0);
	struct bb_error err = { 0 };
	cr_assert_not(bb_generation_feed(b.g, feed, 14, &err));
	cr_assert_eq(err.code, BB_ERR_CONTEXT);
	cr_assert(bb_generation_feed(b.g, feed, 13, &err), "%s", err.text);
	cr_assert_not(bb_generation_feed(b.g, feed, 1, &err));
	cr_assert(next(&b, &err), "%s", err.text);
	cr_assert_eq(bb_context_length(b.c), 15);
	end(&b);
}

/* A penalty that forbids what is there already: the likeliest token is fed, and another comes. */
Test(cot, penalties_count_what_is_fed) {
	static const int32_t feed[] = { 40 };
	struct bb_error err = { 0 };
	struct begun plain = begin(0, 0);
	cr_assert(bb_generation_feed(plain.g, feed, 1, &err) && next(&plain, &err), "%s", err.text);
	const int32_t answer = plain.token.id;
	end(&plain);
	const int32_t warned[] = { answer, 40 };
	struct begun mild = begin(0, 0), strict = begin(0, 1e5f);
	cr_assert(bb_generation_feed(mild.g, warned, 2, &err) && next(&mild, &err), "%s", err.text);
	cr_assert(bb_generation_feed(strict.g, &mild.token.id, 1, &err), "%s", err.text);
	cr_assert(bb_generation_feed(strict.g, warned, 2, &err) && next(&strict, &err), "%s", err.text);
	cr_assert_neq(strict.token.id, mild.token.id);
	end(&mild);
	end(&strict);
}

Test(cot, a_failed_allocation_loses_no_token) {
	static int32_t feed[200];
	for (int i = 0; i < 200; i++) {
		feed[i] = 40 + i % 3;
	}
	struct begun whole = begin(0, 0);
	struct bb_error err = { 0 };
	cr_assert(bb_generation_feed(whole.g, feed, 200, &err) && next(&whole, &err), "%s", err.text);
	cr_assert(next(&whole, &err), "%s", err.text);
	for (int n = 1, n_failed = 1; n_failed > 0; n++) {
		struct begun b = begin(0, 0);
		n_failed = 0;
		base_fail_alloc_at(n);
		while (!bb_generation_feed(b.g, feed, 200, &err)) {
			cr_assert_eq(err.code, BB_ERR_MEMORY, "%s", err.text);
			n_failed++;
		}
		for (int i = 0; i < 2; i++) {
			while (!next(&b, &err)) {
				cr_assert_eq(err.code, BB_ERR_MEMORY, "%s", err.text);
				n_failed++;
			}
		}
		base_fail_alloc_at(0);
		cr_assert_eq(b.token.id, whole.token.id, "allocation %d", n);
		cr_assert_eq(bb_context_length(b.c), bb_context_length(whole.c), "allocation %d", n);
		end(&b);
	}
	end(&whole);
}
