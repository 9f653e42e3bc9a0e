/* SPDX-License-Identifier: Apache-2.0
 *
 * How much thought a request gets by itself: marks across tokens, budgets that hold to the token,
 * minimums, grammars beside them, and what is refused. */
#include "efforts.h"
#include "mixed.h"

#include <limits.h>

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

/* ---- budgets ---- */

static void set_up(void) {
	efforts_open("llama");
}

TestSuite(effort, .init = set_up, .fini = efforts_close);

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
Test(effort, budgets_hold_to_the_token) {
	static const int budgets[] = { 0, 1, 7, 64 };
	static struct outcome o, free;
	struct bb_request_params p = thinker(NULL, 90, 3);
	p.n = 2;
	run_one(&p, &free);
	for (int i = 0; i < 4; i++) {
		struct bb_effort effort = thinking();
		effort.has_budget = true;
		effort.max_thinking = budgets[i];
		p.effort = &effort;
		run_one(&p, &o);
		expect_budget(&o, 0, &free, budgets[i]);
		expect_budget(&o, 1, &free, budgets[i]);
		cr_assert_eq(o.usage.n_thinking, 2 * budgets[i]);
		cr_assert_eq(o.usage.n_branches, 2);
		cr_assert_eq(o.n_decisions, 2);
		for (int k = 0; k < 2; k++) {
			cr_assert_eq(o.decisions[k].kind, BB_DECISION_CLOSE);
			cr_assert_eq(o.decisions[k].token, budgets[i]);
			cr_assert_str_eq(o.decisions[k].policy, "budget");
		}
	}
}

Test(effort, what_is_written_has_its_own_likelihood) {
	static struct outcome o;
	struct bb_effort effort = thinking();
	effort.has_budget = true;
	effort.max_thinking = 9;
	struct bb_request_params p = thinker(&effort, 30, 1);
	p.generation.sampling.frequency_penalty = 0.5f;
	run_one(&p, &o);
	expect_likelihoods(&p, &o, 0);
	cr_assert_eq(o.usage.n_thinking, 9);
}

/* A model that draws the first token of its end over and over: that one isn't thinking if the
 * second one follows. */
Test(effort, a_budget_completes_an_end_that_has_begun) {
	static struct outcome o;
	struct bb_effort effort = thinking();
	effort.thinking.end = "7 8";
	effort.thinking.closing = "3 7 8 4";
	effort.has_budget = true;
	effort.max_thinking = 5;
	struct bb_request_params p = thinker(&effort, 12, 1);
	p.generation.sampling.logit_bias = &always;
	run_one(&p, &o);
	static const int32_t expected[] = { 7, 7, 7, 7, 7, 8, 4, 7, 7, 7, 7, 7 };
	cr_assert_arr_eq(o.ids[0], expected, sizeof(expected));
	cr_assert_eq(o.usage.n_thinking, 4);
	cr_assert(!o.is_forced[0][4] && o.is_forced[0][5] && o.is_forced[0][6] && !o.is_forced[0][7]);
	expect_likelihoods(&p, &o, 0);
}

Test(effort, thinking_that_begins_in_the_text) {
	static struct outcome o;
	struct bb_effort effort = thinking();
	effort.thinking.begin = "7";
	effort.thinking.end = "9 9";
	effort.thinking.closing = NULL;
	effort.has_budget = true;
	effort.max_thinking = 3;
	struct bb_request_params p = thinker(&effort, 12, 1);
	p.generation.sampling.logit_bias = &always;
	run_one(&p, &o);
	static const int32_t expected[] = { 7, 7, 7, 7, 9, 9, 7, 7, 7, 7, 7, 7 };
	cr_assert_arr_eq(o.ids[0], expected, sizeof(expected));
	cr_assert_eq(o.usage.n_thinking, 3);
	cr_assert_eq(o.decisions[0].token, 4);
}

/* The engine has a vocabulary from now on; its token that ends a line. */
static int32_t open_with_lines(void) {
	const char *path = with_vocabulary("llama");
	efforts_close();
	engine = open_with(&(struct bb_engine_params){ .path = path, .n_threads = 1,
		.max_model_len = 512 });
	unlink(path);
	struct bb_tokens line = { 0 };
	struct bb_error err = { 0 };
	cr_assert(bb_tokenize(engine, "a\n", 2, false, false, &line, &err), "%s", err.text);
	const int32_t id = line.ids[line.n - 1];
	bb_tokens_finish(&line);
	return id;
}

/* Near the limit the end becomes likely where a line has ended, and nowhere else. */
Test(effort, a_soft_close_comes_at_the_end_of_a_line, .timeout = 60) {
	static struct outcome o;
	const struct bb_logit_bias lines = { open_with_lines(), 7 };
	int n_soft[2] = { 0 };
	for (int i = 0; i < 40; i++) {
		struct bb_effort effort = { .thinking = { .end = "a1" }, .has_budget = true,
			.max_thinking = 100, .soft_from = i % 2 == 0 ? 0.1 : 1 };
		struct bb_request_params p = thinker(&effort, 150, (uint64_t)i / 2);
		p.generation.sampling.logit_bias = &lines;
		p.generation.sampling.ignore_eos = true;
		run_one(&p, &o);
		const int n = o.usage.n_thinking;
		cr_assert(n <= 100 && o.n_decisions == (n == 100) && o.is_forced[0][n] == (n == 100));
		n_soft[i % 2] += n > 0 && n < 100 && o.ids[0][n - 1] == lines.id;
	}
	cr_assert(n_soft[0] >= 8 && n_soft[1] <= 4, "at the end of a line %d of 20 closed, and %d "
		"without a soft close", n_soft[0], n_soft[1]);
}

/* A model without marks of its own, which was asked to end its thinking with two words. */
Test(effort, budgets_of_texts, .timeout = 100) {
	static const int budgets[] = { 0, 1, 7, 64 };
	static struct outcome o;
	efforts_close();
	engine = open_with(&(struct bb_engine_params){ .path = real_path("smollm2"),
		.max_model_len = 512 });
	struct bb_tokens ids = { 0 };
	struct bb_error err = { 0 };
	const char *const prompt = "Once upon a time";
	cr_assert(bb_tokenize(engine, prompt, strlen(prompt), true, false, &ids, &err), "%s", err.text);
	for (int i = 0; i < 4; i++) {
		struct bb_effort effort = { .thinking = { .end = "Final answer:" }, .has_budget = true,
			.max_thinking = budgets[i], .soft_from = 1 };
		struct bb_request_params p = request(engine, ids.ids, (int)ids.n, budgets[i] + 20, 1);
		p.generation.sampling.ignore_eos = true;
		p.effort = &effort;
		run_one(&p, &o);
		cr_assert_eq(o.usage.n_thinking, budgets[i]);
		cr_assert_eq(o.decisions[0].token, budgets[i]);
		const char *end = strstr(o.text[0], "\nFinal answer:\n\n");
		cr_assert(end != NULL && (budgets[i] > 0) == (end > o.text[0]), "%s", o.text[0]);
	}
	bb_tokens_finish(&ids);
}

/* Of the steps that the text is cut into those count that have thinking; all where none is told
 * apart. */
Test(effort, steps_of_thinking_are_counted, .timeout = 60) {
	static struct outcome o;
	const struct bb_logit_bias lines = { open_with_lines(), 14 };
	struct bb_request_params p = thinker(NULL, 90, 5);
	p.generation.sampling.logit_bias = &lines;
	p.generation.sampling.ignore_eos = true;
	struct bb_context *c = new_context(engine);
	struct bb_generation *g;
	struct bb_error err = { 0 };
	int n_all = 0, n_thinking = 0;
	cr_assert(bb_generation_create(&g, c, &p.generation, p.prompt, p.n_prompt, NULL, NULL, &err),
		"%s", err.text);
	for (int i = 0; i < 90; i++) {
		struct bb_sampled token;
		const char *text;
		size_t bytes;
		enum bb_finish finish;
		struct bb_cot_step step;
		cr_assert(bb_generation_next(g, &token, &text, &bytes, &finish, &err), "%s", err.text);
		bb_generation_cot_step(g, &step);
		n_all = step.index + 1;
		n_thinking = i < 40 ? step.index + 1 : n_thinking;
	}
	bb_generation_destroy(g);
	bb_context_destroy(c);
	run_one(&p, &o);
	cr_assert_eq(o.usage.n_cot_steps, n_all);
	const struct bb_effort plain = { 0 }; /* tells no thinking apart */
	p.effort = &plain;
	run_one(&p, &o);
	cr_assert_eq(o.usage.n_cot_steps, n_all);
	struct bb_effort effort = { .thinking = { .end = "a1" }, .has_budget = true,
		.max_thinking = 40, .soft_from = 1 };
	p.effort = &effort;
	run_one(&p, &o);
	cr_assert_eq(o.usage.n_thinking, 40);
	cr_assert_eq(o.usage.n_cot_steps, n_thinking);
	cr_assert(n_thinking > 2 && n_thinking < n_all, "%d of %d steps", n_thinking, n_all);
}

/* ---- minimums ---- */

Test(effort, an_end_that_comes_too_early_is_replaced) {
	static struct outcome o;
	struct bb_effort effort = thinking();
	effort.thinking.extension = "3 4";
	effort.min_thinking = 5;
	struct bb_request_params p = thinker(&effort, 9, 1);
	p.generation.sampling.logit_bias = &always;
	p.generation.sampling.frequency_penalty = 0.01f; /* what was replaced isn't counted */
	run_one(&p, &o);
	static const int32_t expected[] = { 3, 4, 3, 4, 3, 4, 7, 7, 7 };
	cr_assert_arr_eq(o.ids[0], expected, sizeof(expected));
	cr_assert_eq(o.usage.n_thinking, 6);
	cr_assert_eq(o.n_decisions, 3);
	for (int i = 0; i < 3; i++) {
		cr_assert_eq(o.decisions[i].kind, BB_DECISION_EXTEND);
		cr_assert_eq(o.decisions[i].token, 2 * i);
		cr_assert(o.is_forced[0][2 * i] && o.is_forced[0][2 * i + 1]);
	}
	expect_likelihoods(&p, &o, 0);
	effort.max_extensions = 2;
	run_one(&p, &o);
	cr_assert_eq(o.usage.n_thinking, 4);
}

/* Known when it's whole: then it's thinking, and the extension stands behind it. */
Test(effort, an_end_of_several_tokens_is_extended_behind_it) {
	static struct outcome o;
	struct bb_effort effort = thinking();
	effort.thinking.end = "7 7";
	effort.thinking.closing = NULL;
	effort.thinking.extension = "3";
	effort.min_thinking = 5;
	struct bb_request_params p = thinker(&effort, 10, 1);
	p.generation.sampling.logit_bias = &always;
	run_one(&p, &o);
	static const int32_t expected[] = { 7, 7, 3, 7, 7, 3, 7, 7, 7, 7 };
	cr_assert_arr_eq(o.ids[0], expected, sizeof(expected));
	cr_assert_eq(o.usage.n_thinking, 6);
	cr_assert_eq(o.n_decisions, 2);
	effort.has_budget = true; /* an extension that passes the limit is cut off */
	effort.max_thinking = effort.min_thinking = 4;
	effort.thinking.extension = "3 3 3 3 3";
	run_one(&p, &o);
	static const int32_t cut[] = { 7, 7, 3, 3, 7, 7, 7, 7, 7, 7 };
	cr_assert_arr_eq(o.ids[0], cut, sizeof(cut));
	cr_assert_eq(o.usage.n_thinking, 4);
}

/* ---- grammars ---- */

Test(effort, a_grammar_may_have_thinking_before_it, .timeout = 100) {
	static const char source[] = "{\"seq\": [{\"until\": \"</think>\"}, "
		"{\"regex\": \"[ \\n]*(yes|no)\"}]}";
	efforts_close();
	engine = open_with(&(struct bb_engine_params){ .path = real_path("smollm2"),
		.max_model_len = 512 });
	static struct outcome o;
	struct bb_grammar *g;
	struct bb_error err = { 0 };
	struct bb_effort effort = { .thinking = { .end = "</think>" }, .has_budget = true,
		.max_thinking = 5, .min_thinking = 5 };
	cr_assert(bb_grammar_create(&g, engine, BB_GRAMMAR_STRUCTURE, source, strlen(source), &err),
		"%s", err.text);
	struct bb_request_params p = thinker(&effort, 40, 1);
	p.generation.sampling.grammar = g;
	run_one(&p, &o);
	cr_assert_eq(o.usage.n_thinking, 5);
	const char *end = strstr(o.text[0], "\n</think>\n\n");
	cr_assert_not_null(end, "%s", o.text[0]);
	end += 11 + strspn(end + 11, " \n");
	cr_assert(strcmp(end, "yes") == 0 || strcmp(end, "no") == 0, "%s", o.text[0]);
	bb_grammar_destroy(g);
	cr_assert(bb_grammar_create(&g, engine, BB_GRAMMAR_REGEX, "a*", 2, &err), "%s", err.text);
	p.generation.sampling.grammar = g;
	expect_refused(&p, "grammar");
	bb_grammar_destroy(g);
}

/* ---- what is refused, and levels ---- */

Test(effort, refused) {
	static const struct bb_thinking t = { .end = "7", .extension = "3" };
	static const struct {
		struct bb_effort effort;
		const char *word;
	} cases[] = {
		{ { .has_budget = true }, "max_thinking" },
		{ { .min_thinking = 3 }, "min_thinking" },
		{ { .answer_by_ms = 100 }, "100 ms" },
		{ { .thinking = { .begin = "7" } }, "ends" },
		{ { .thinking = { .end = "" } }, "empty" },
		{ { .thinking = { .begin = "7", .end = "7" } }, "same" },
		{ { .thinking = { .end = "7", .closing = "8" } }, "closes" },
		{ { .thinking = { .end = "7", .extension = "3 7" } }, "extends" },
		{ { .thinking = { .end = "words" } }, "decimal" },
		{ { .thinking = t, .has_budget = true, .max_thinking = -1 }, "max_thinking" },
		{ { .thinking = t, .has_budget = true, .soft_from = 1.5 }, "soft_from" },
		{ { .thinking = t, .has_budget = true, .soft_from = NAN }, "soft_from" },
		{ { .thinking = t, .has_budget = true, .max_thinking = 4, .min_thinking = 5 }, "at most" },
		{ { .thinking = t, .min_thinking = 40 }, "max_tokens" },
		{ { .thinking = t, .min_thinking = -1 }, "min_thinking" },
		{ { .thinking = t, .max_extensions = -1 }, "max_extensions" },
		{ { .thinking = t, .answer_by_ms = -5 }, "-5 ms" },
		{ { .thinking = t, .answer_by_ms = NAN }, "nan ms" },
		{ { .thinking = t, .answer_by_ms = 5000 }, "deadline" },
		{ { .thinking = { .end = "7" }, .min_thinking = 1 }, "no words" },
		{ { .thinking = t, .n_replay = 1 }, "replay" },
	};
	for (size_t i = 0; i < COUNT(cases); i++) {
		struct bb_request_params p = thinker(&cases[i].effort, 40, 1);
		p.deadline_ms = 4000;
		expect_refused(&p, cases[i].word);
	}
	const struct bb_decision wrong[] = {
		{ .kind = BB_DECISION_BUDGET, .policy = "control", .value = -1 },
		{ .kind = BB_DECISION_BUDGET, .policy = "control", .value = NAN },
		{ .kind = BB_DECISION_EXTEND, .policy = "control", .value = 1e300 },
		{ .kind = BB_DECISION_CLOSE, .policy = "control", .branch = 1 },
		{ .kind = BB_DECISION_CLOSE, .policy = "control", .token = -1 },
		{ .kind = BB_DECISION_CLOSE, .policy = "nobody" },
		{ .kind = BB_DECISION_CLOSE },
	};
	for (size_t i = 0; i < COUNT(wrong); i++) {
		const struct bb_effort again = { .thinking = t, .replays = true, .replay = &wrong[i],
			.n_replay = 1 };
		struct bb_request_params p = thinker(&again, 40, 1);
		expect_refused(&p, "decision 0");
	}
	struct bb_effort effort = thinking(); /* beyond the context, it's never reached */
	static struct outcome o;
	effort.has_budget = true;
	effort.max_thinking = 100000;
	struct bb_request_params p = thinker(&effort, 40, 1);
	run_one(&p, &o);
	cr_assert(o.n_ids[0] == 40 && o.usage.n_thinking == 40 && o.n_decisions == 0);
	effort.max_thinking = effort.max_extensions = effort.group = INT_MAX;
	effort.answer_tokens = INT_MAX;
	effort.answer_by_ms = 1e300;
	run_one(&p, &o);
	cr_assert(o.n_ids[0] == 40 && o.usage.n_thinking == 40 && o.n_decisions == 0);
}

Test(effort, levels) {
	static const struct {
		const char *name;
		int room, most;
	} cases[] = {
		{ "none", 9000, 0 }, { "minimal", 9000, 128 }, { "low", 9000, 512 },
		{ "medium", 9000, 2048 }, { "high", 9000, 9000 - 1024 }, { "high", 2000, 1500 },
		{ "xhigh", 100000, 32768 }, { "low", 100, 75 }, { "low", 0, 0 }, { "low", -5, 0 },
	};
	for (size_t i = 0; i < COUNT(cases); i++) {
		struct bb_effort effort = { 0 };
		cr_assert(bb_effort_level(&effort, cases[i].name, cases[i].room));
		cr_assert(effort.has_budget && effort.max_thinking == cases[i].most, "%s of %d: %d",
			cases[i].name, cases[i].room, effort.max_thinking);
		cr_assert_not_null(strstr(bb_effort_level_names(), cases[i].name));
	}
	struct bb_effort effort = { .has_budget = true };
	cr_assert(bb_effort_level(&effort, "max", 1000) && !effort.has_budget);
	cr_assert_not(bb_effort_level(&effort, "some", 1000));
	for (int kind = 0; kind <= BB_DECISION_CHOOSE; kind++) {
		enum bb_decision_kind again;
		cr_assert(bb_decision_parse(bb_decision_name((enum bb_decision_kind)kind), &again));
		cr_assert_eq((int)again, kind);
	}
}
