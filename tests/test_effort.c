/* SPDX-License-Identifier: Apache-2.0
 *
 * How much thought requests get: marks across tokens, and budgets that hold to the token, alone and
 * beside others. */
#include "effort/effort.h"
#include "outcomes.h"

/* ---- marks ---- */

/* The first token that has bytes of the longest end of text[n] that the mark begins with, or, where
 * the text ends with all of it, that has its first byte; n_tokens: there is none. */
static int first_of(const char *text, size_t n, const char *mark, const size_t *begins,
	int n_tokens) {
	size_t k = strlen(mark) < n ? strlen(mark) : n;
	while (k > 0 && memcmp(text + n - k, mark, k) != 0) {
		k--;
	}
	int first = n_tokens;
	while (k > 0 && first > 0 && (first == n_tokens || begins[first] > n - k)) {
		first--;
	}
	return first;
}

/* Random texts of two letters, cut into random tokens, beside looking at the whole text. */
Test(marks, wherever_tokens_begin) {
	static const char *const marks[] = { "a", "ab", "aab", "abaab", "aabaaab", "babab", "bbbb" };
	uint32_t x = 1;
	for (int round = 0; round < 4000; round++) {
		const char *mark = marks[round % (int)COUNT(marks)];
		struct mark m;
		struct mark_place at;
		struct bb_error err = { 0 };
		char text[128];
		size_t n = 0, begins[64];
		bool found = false;
		cr_assert(mark_init(&m, mark, strlen(mark), &err) &&
			mark_place_init(&at, strlen(mark), &err), "%s", err.text);
		for (int t = 0; t < 40 && !found; t++) {
			x = x * 1664525u + 1013904223u;
			const size_t bytes = (x >> 20) % 4;
			bool expected = false;
			begins[t] = n;
			for (size_t i = 0; i < bytes && !expected; i++) {
				x = x * 1664525u + 1013904223u;
				text[n++] = (char)('a' + (x >> 24) % 2);
				expected = n >= strlen(mark) &&
					memcmp(text + n - strlen(mark), mark, strlen(mark)) == 0;
			}
			found = mark_follow(&m, &at, text + begins[t], n - begins[t]);
			cr_assert_eq(found, expected);
			cr_assert_eq(at.n_seen, t + 1);
			const int first = first_of(text, n, mark, begins, t + 1);
			cr_assert_eq(at.first, first, "%.*s: %d, expected %d", (int)n, text, at.first, first);
		}
		mark_place_finish(&at);
		mark_finish(&m);
	}
}

/* ---- on a tiny model, whose tokens are numbers ---- */

enum { END = 7 };

static struct bb_engine *engine;
static int32_t ids[MAX_PROMPT];
static const struct bb_logit_bias never = { END, -100 };

static void set_up(void) {
	const struct bb_engine_params params = { .path = tiny_path("llama"), .max_model_len = 512,
		.n_threads = 1 };
	engine = open_with(&params);
	make_ids(ids, MAX_PROMPT, vocab_of(engine), 1);
}

static void tear_down(void) {
	bb_engine_destroy(engine);
}

TestSuite(effort, .init = set_up, .fini = tear_down);

/* Thinking from the first token on, until END, which the model doesn't draw by itself. */
static struct bb_effort thinking(void) {
	return (struct bb_effort){ .thinking = { .end = "7", .closing = "7 1" }, .soft_from = 1 };
}

static struct bb_request_params thinker(const struct bb_effort *effort, int max_tokens,
	uint64_t seed) {
	struct bb_request_params p = request(engine, ids, 20, max_tokens, seed);
	p.generation.sampling.logit_bias = &never;
	p.generation.sampling.n_logit_bias = 1;
	p.effort = effort;
	return p;
}

static void expect_budget(const struct outcome *o, int branch, const struct outcome *free,
	int budget) {
	for (int i = 0; i < o->n_ids[branch]; i++) {
		const bool is_forced = i == budget || i == budget + 1;
		cr_assert_eq(o->is_forced[branch][i], is_forced, "budget %d, token %d", budget, i);
		cr_assert(!is_forced || o->ids[branch][i] == (i == budget ? END : 1));
		cr_assert(i >= budget || o->ids[branch][i] == free->ids[branch][i]);
	}
}

/* Two branches; what comes before the limit is what comes without one. */
Test(effort, budgets_hold_to_the_token, .timeout = 100) {
	static const int budgets[] = { 0, 1, 7, 64 };
	static struct outcome o[4], free;
	struct bb_effort efforts[4];
	struct bb_scheduler *s = new_scheduler(engine, NULL);
	struct bb_request_params plain = thinker(NULL, 90, 3);
	plain.n = 2;
	submit(s, plain, &free);
	run_all(s);
	for (int i = 0; i < 4; i++) {
		efforts[i] = thinking();
		efforts[i].has_budget = true;
		efforts[i].max_thinking = budgets[i];
		struct bb_request_params p = thinker(&efforts[i], 90, 3);
		p.n = 2;
		submit(s, p, &o[i]);
	}
	run_all(s);
	for (int i = 0; i < 4; i++) {
		expect_budget(&o[i], 0, &free, budgets[i]);
		expect_budget(&o[i], 1, &free, budgets[i]);
		cr_assert_eq(o[i].usage.n_thinking, 2 * budgets[i]);
		cr_assert_eq(o[i].usage.n_branches, 2);
		cr_assert_eq(o[i].n_decisions, 2);
		cr_assert_eq(o[i].decisions[0].kind, BB_DECISION_CLOSE);
		cr_assert_eq(o[i].decisions[0].token, budgets[i]);
		cr_assert_str_eq(o[i].decisions[0].policy, "budget");
		bb_request_release(o[i].request);
	}
	bb_request_release(free.request);
	bb_scheduler_destroy(s);
}
