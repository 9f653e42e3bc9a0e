/* SPDX-License-Identifier: Apache-2.0
 *
 * What texts give as their answers, when a vote of them is settled, which one is given, and what
 * confidences and probes say: the parts of policies over several answers that need no model. */
#include "effort/answer.h"
#include "effort/certaindex.h"
#include "effort/confidence.h"
#include "effort/vote.h"

#include <criterion/criterion.h>
#include <math.h>
#include <string.h>
#include <time.h>

/* ---- answers ---- */

static struct answer_pattern *compile(const char *pattern) {
	struct answer_pattern *p;
	struct bb_error err = { 0 };
	cr_assert(answer_pattern_create(&p, pattern, &err), "%s: %s", pattern, err.text);
	return p;
}

/* The answer that a pattern finds in a text, until the next call. */
static const char *answer(const char *pattern, const char *text) {
	static struct bb_text found;
	struct bb_error err = { 0 };
	struct answer_pattern *p = compile(pattern);
	cr_assert(answer_find(p, text, strlen(text), 0, &found, &err), "%s", err.text);
	answer_pattern_destroy(p);
	return found.bytes > 0 ? found.data : "";
}

struct found {
	const char *text, *answer;
};

static void check_found(const char *pattern, const struct found *cases, size_t n) {
	for (size_t i = 0; i < n; i++) {
		const char *got = answer(pattern, cases[i].text);
		cr_expect_str_eq(got, cases[i].answer, "%s in \"%s\": \"%s\", expected \"%s\"", pattern,
			cases[i].text, got, cases[i].answer);
	}
}

Test(answers, numbers) {
	static const struct found cases[] = {
		{ "The answer is 42.", "42" }, { "so 6 x 7 = 42", "42" }, { "none here", "" },
		{ "it costs $1,234.50 in all.", "1234.5" }, { "1, 2, 3", "3" }, { "12,3456", "3456" },
		{ "x = -5", "-5" }, { "10-5", "5" }, { "(3)-7", "7" }, { "temperature: \u22125.0", "-5" },
		{ "007", "7" }, { "0.50", "0.5" }, { ".5", "0.5" }, { "-0", "0" }, { "+3", "3" },
		{ "-0.0", "0" }, { "half is 1/2.", "1/2" }, { "on 1/2/2024", "1/2/2024" },
		{ "1/2.5", "2.5" }, { "50%", "50" },
		{ "H2O and x2 make 9", "9" }, { "H2O", "" }, { "5kg", "5" }, { "1,234,567", "1234567" },
		{ "v1.2.3", "" }, { "**72**", "72" }, { "Total: 7\n\n", "7" }, { "", "" },
		{ "100000000000000000000000000000000", "100000000000000000000000000000000" },
	};
	check_found("number", cases, COUNT(cases));
}

Test(answers, boxes) {
	static const struct found cases[] = {
		{ "So \\boxed{42}.", "42" }, { "\\boxed{1} then \\boxed{\\frac{3}{4}}", "3/4" },
		{ "\\boxed{\\dfrac{1}{2}}", "1/2" }, { "\\boxed{1{,}000}", "1000" }, { "\\boxed{}", "" },
		{ "\\boxed{x^{2} + 1}", "x^{2} + 1" }, { "\\boxed{\\text{Yes}}", "yes" },
		{ "\\boxed{(A)}", "a" }, { "\\boxed{12", "12" }, { "no box 12", "" },
		{ "\\boxed{\\$5.00}", "5" }, { "\\boxed{50\\%}", "50" }, { "\\boxed{\\frac{a}{b}}",
			"\\frac{a}{b}" }, { "\\boxed{\\left( 1, 2 \\right)}", "( 1, 2 )" },
	};
	check_found("boxed", cases, COUNT(cases));
}

Test(answers, choices) {
	static const struct found cases[] = {
		{ "The answer is B.", "b" }, { "(C)", "c" }, { "A", "a" }, { "The answer is (A).", "a" },
		{ "**D**", "d" }, { "I think it is B", "b" }, { "B. I am sure.", "b" },
		{ "A train leaves. B", "b" }, { "The answer is A because", "a" }, { "(b) fits", "b" },
		{ "Don't Know", "" }, { "Answer: A", "a" }, { "ABC", "" }, { "K", "" },
	};
	check_found("choice", cases, COUNT(cases));
}

Test(answers, lines) {
	static const struct found cases[] = {
		{ "one\ntwo", "two" }, { "one\nTwo  words. \n\n", "two words" }, { "only", "only" },
		{ " \n\t\n", "" }, { "a\r\n\"B\"\r\n", "b" }, { "...", "" },
	};
	check_found("line", cases, COUNT(cases));
}

Test(answers, expressions) {
	cr_expect_str_eq(answer("answer: (\\w+)", "answer: no\nanswer: Yes"), "yes");
	cr_expect_str_eq(answer("\\d+", "1 22 333"), "333");
	cr_expect_str_eq(answer("a(x)?|b(y)", "by"), "y"); /* the group that took part */
	cr_expect_str_eq(answer("a(x)?", "a"), "a");
	cr_expect_str_eq(answer("^=(.*)$", "=1\n=2\nend"), "2"); /* lines */
	cr_expect_str_eq(answer("never", "something else"), "");
	cr_expect_str_eq(answer("x*", "no such letters"), ""); /* what is empty is none */
	cr_expect_str_eq(answer("\u00c4(.)", "\u00c4\u00d6"), "\u00f6");
	cr_expect_str_eq(answer("n: (\\S+)", "n: \xff\xfe n: 3"), "3");
	/* ends before it begins */
	cr_expect_str_eq(answer("(?(DEFINE)(?<k>\\K))(?=ab(?&k))a", "ab ab"), "");
}

Test(answers, refused_patterns) {
	static const struct found cases[] = {
		{ "(", "missing closing parenthesis" }, { "", "is empty" },
		{ "[z-a]", "range out of order" },
		{ "\\C", "disabled" },
	};
	for (size_t i = 0; i < COUNT(cases); i++) {
		struct answer_pattern *p;
		struct bb_error err = { 0 };
		cr_assert_not(answer_pattern_create(&p, cases[i].text, &err));
		cr_expect_eq(err.code, BB_ERR_INPUT);
		cr_expect_not_null(strstr(err.text, cases[i].answer), "%s", err.text);
		cr_expect_null(p);
	}
	static char huge[ANSWER_MAX_PATTERN + 2];
	memset(huge, 'a', sizeof(huge) - 1);
	struct answer_pattern *p;
	struct bb_error err = { 0 };
	cr_assert_not(answer_pattern_create(&p, huge, &err));
	cr_expect_eq(err.code, BB_ERR_INPUT);
}

#define TIMES_4(text) text text text text
#define TIMES_64(text) TIMES_4(TIMES_4(TIMES_4(text)))

/* What would take longer than the sun burns gives no answer, soon. */
Test(answers, catastrophic_patterns, .timeout = 60) {
	static const char *const patterns[] = { "(a+)+$", "(a|a)+$", "(a|aa)+$", "(a*a*a*a*a*)+$",
		"(.*)*[^\\s\\S]", "(?:(?:.*.*)*.*)*[^\\s\\S]", "((a{1,9}){1,9}){1,9}[^\\s\\S]",
		"(?R)?a(?R)?[^\\s\\S]", "[^x]*[^x]*[^\\s\\S]", "(\\w+\\s?)+\\d$",
		/* a single item that passes over all of the text, or fails at its end */
		"(?:" TIMES_64("\\w*+@|") "x)", "(?:" TIMES_64("\\w{9999}@|") "x)",
		"(\\w{8000})(?:" TIMES_64("\\1@|") "x)" };
	static char text[40000];
	memset(text, 'a', sizeof(text) - 1);
	text[sizeof(text) - 2] = '!';
	for (size_t i = 0; i < COUNT(patterns); i++) {
		struct timespec start, end;
		clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &start);
		cr_expect_str_eq(answer(patterns[i], text), "");
		clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &end);
		const double s = (double)(end.tv_sec - start.tv_sec) +
			1e-9 * (double)(end.tv_nsec - start.tv_nsec);
		cr_expect_lt(s, 4, "%s took %g s", patterns[i], s);
	}
}

Test(answers, the_end_of_a_long_text_counts) {
	static char text[100000];
	memset(text, ' ', sizeof(text) - 1);
	memcpy(text, "7", 1);
	cr_expect_str_eq(answer("number", text), "");
	memcpy(text + sizeof(text) - 3, "8", 1);
	cr_expect_str_eq(answer("number", text), "8");
}

Test(answers, memory_that_runs_out) {
	static const char *const patterns[] = { "number", "(\\d+)", "boxed", "line" };
	for (size_t k = 0; k < COUNT(patterns); k++) {
		bool ok = false;
		for (long n = 1; !ok; n++) {
			struct answer_pattern *p = NULL;
			struct bb_text found = { 0 };
			struct bb_error err = { 0 };
			cr_assert_lt(n, 200);
			base_fail_alloc_at(n);
			ok = answer_pattern_create(&p, patterns[k], &err) &&
				answer_find(p, "\\boxed{12} 12", 13, 0, &found, &err);
			base_fail_alloc_at(0);
			cr_expect(ok || err.code == BB_ERR_MEMORY, "%s, allocation %ld: %s", patterns[k], n,
				err.text);
			answer_pattern_destroy(p);
			bb_text_finish(&found);
		}
	}
}

/* ---- votes ---- */

/* The same integral by Simpson's rule, for a few votes. */
static double beta_by_sums(int a, int b) {
	enum { STEPS = 20000 };
	double upper = 0, all = 0;
	for (int i = 0; i <= STEPS; i++) {
		const double x = (double)i / STEPS, w = i == 0 || i == STEPS ? 1 : i % 2 == 1 ? 4 : 2;
		const double y = w * pow(x, a) * pow(1 - x, b);
		all += y;
		upper += i > STEPS / 2 ? y : i == STEPS / 2 ? y / 2 : 0;
	}
	return upper / all;
}

Test(votes, beta_rule) {
	cr_expect_eq(vote_beta(0, 0), 0.5);
	cr_expect_eq(vote_beta(4, 0), 31.0 / 32); /* exact */
	cr_expect_eq(vote_beta(5, 5), 0.5);
	for (int a = 0; a < 12; a++) {
		for (int b = 0; b <= a; b++) {
			cr_expect_float_eq(vote_beta(a, b), beta_by_sums(a, b), 1e-4, "%d:%d", a, b);
		}
	}
	/* what settles at 0.95 first, as the paper's code has it */
	static const int settles[][2] = { { 4, 0 }, { 6, 1 }, { 8, 2 }, { 9, 3 }, { 11, 4 } };
	for (size_t i = 0; i < COUNT(settles); i++) {
		const int a = settles[i][0], b = settles[i][1];
		cr_expect_geq(vote_beta(a, b), 0.95);
		cr_expect_lt(vote_beta(a - 1, b), 0.95);
	}
}

Test(votes, beta_rule_of_many) {
	double before = 0;
	for (int b = 1024; b >= 0; b--) { /* grows as the second has fewer of them */
		const double p = vote_beta(1024, b);
		cr_assert(p >= before && p >= 0.4999 && p <= 1, "1024:%d: %.17g", b, p);
		before = p;
	}
	cr_expect_float_eq(vote_beta(1024, 1024), 0.5, 1e-9);
	/* 520 of 1024 by the normal distribution with a correction for whole numbers */
	cr_expect_float_eq(vote_beta(520, 503), 0.5 * erfc(-(520 - 511.5) / sqrt(1024.0 / 2)), 1e-4);
}

Test(votes, least_that_settle) {
	cr_expect_eq(vote_least(0, 0, 0.95, 16), 4);
	cr_expect_eq(vote_least(0, 0, 0.9, 16), 3);
	cr_expect_eq(vote_least(0, 0, 0.8, 16), 2);
	cr_expect_eq(vote_least(3, 1, 0.95, 16), 3);
	cr_expect_eq(vote_least(4, 0, 0.95, 16), 0);
	cr_expect_eq(vote_least(1, 1, 0.999, 4), 4); /* no more than there are */
}

Test(votes, counting) {
	struct vote v[7] = { { 0 } };
	cr_expect_eq(vote_count(v, 7, false).leader, -1);
	static const char *const said[] = { "7", "8", "8", "7", "9", "", NULL };
	for (int i = 0; i < 7; i++) {
		v[i] = (struct vote){ .is_given = true, .answer = said[i], .weight = 1 };
	}
	struct vote_count c = vote_count(v, 7, false);
	cr_expect(c.leader == 0 && c.n == 2 && c.n_second == 2 && c.n_all == 5, "%d: %d:%d of %d",
		c.leader, c.n, c.n_second, c.n_all); /* of equals the first */
	cr_expect_float_eq(c.share, 0.4, 1e-12);
	v[4].weight = 4;
	cr_expect_eq(vote_count(v, 7, false).leader, 0);
	c = vote_count(v, 7, true);
	cr_expect(c.leader == 4 && c.n == 1 && c.n_second == 2, "%d: %d:%d", c.leader, c.n, c.n_second);
	cr_expect_float_eq(c.share, 0.5, 1e-12);
	v[0].weight = 0; /* hasn't a vote */
	c = vote_count(v, 7, false);
	cr_expect(c.leader == 1 && c.n == 2 && c.n_second == 1 && c.n_all == 4);
	v[1].is_given = false; /* was dropped */
	c = vote_count(v, 7, false);
	cr_expect(c.leader == 2 && c.n == 1 && c.n_second == 1 && c.n_all == 3);
}

/* ---- choices ---- */

Test(choices, votes) {
	const struct vote v[] = {
		{ true, true, "1", 3, 1 }, { true, true, "2", 1, 5 }, { false, true, "2", 1, 5 },
		{ true, true, "1", 2, 1 }, { true, true, "", 9, 9 },
	};
	cr_expect_eq(vote_choose(v, 5, BB_CHOICE_VOTE, 0, 0), 0);
	cr_expect_eq(vote_choose(v, 5, BB_CHOICE_VOTE, 0, 1), -1);
	cr_expect_eq(vote_choose(v, 5, BB_CHOICE_WEIGHTED, 0, 0), 1);
	cr_expect_eq(vote_choose(v + 1, 3, BB_CHOICE_VOTE, 0, 0), 0); /* equals by first come */
	cr_expect_eq(vote_choose(v, 5, BB_CHOICE_ALL, 0, 0), -1);
}

Test(choices, nobody_has_an_answer) {
	const struct vote v[] = {
		{ false, false, NULL, 5, 1 }, { true, false, NULL, 1, 1 }, { true, true, "", 0, 1 },
		{ true, true, NULL, 2, 1 },
	};
	cr_expect_eq(vote_choose(v, 4, BB_CHOICE_VOTE, 0, 0), 2);
	cr_expect_eq(vote_choose(v, 2, BB_CHOICE_VOTE, 0, 0), 1);
	cr_expect_eq(vote_choose(v, 1, BB_CHOICE_VOTE, 0, 0), -1);
	cr_expect_eq(vote_choose(v, 4, BB_CHOICE_CERTAINTY, 0, 0), 3);
	cr_expect_eq(vote_choose(v, 0, BB_CHOICE_VOTE, 0, 0), -1);
}

Test(choices, certainty) {
	const struct vote v[] = {
		{ true, true, "1", 1, 0 }, { true, true, NULL, 9, 0 }, { true, true, "2", 3, 0 },
		{ true, true, "3", 3, 0 }, { false, true, "4", 8, 0 },
	};
	static const int ranks[] = { 2, 3, 0, -1 };
	for (int rank = 0; rank < 4; rank++) {
		cr_expect_eq(vote_choose(v, 5, BB_CHOICE_CERTAINTY, 9, rank), ranks[rank]);
	}
	cr_expect_eq(vote_choose(v, 5, BB_CHOICE_CERTAINTY, 0, 0), 2);
	cr_expect_eq(vote_choose(v, 5, BB_CHOICE_CERTAINTY, 0, 1), -1);
}

/* ---- confidences ---- */

Test(confidences, groups) {
	struct confidence c;
	struct bb_error err = { 0 };
	cr_assert(confidence_init(&c, 3, &err));
	cr_expect_eq(confidence_lowest(&c), 0);
	static const float tokens[] = { 4, 2, 3, 1, 8, 9, 1 };
	static const double now[] = { 4, 3, 3, 2, 4, 6, 6 }, lowest[] = { 4, 3, 3, 2, 2, 2, 2 };
	for (int i = 0; i < 7; i++) {
		confidence_add(&c, tokens[i]);
		cr_expect_float_eq(confidence_now(&c), now[i], 1e-9, "token %d", i);
		cr_expect_float_eq(confidence_lowest(&c), lowest[i], 1e-9, "token %d", i);
		cr_expect_eq(confidence_has_group(&c), i >= 2);
	}
	confidence_finish(&c);
}

/* As numpy.percentile has it. */
Test(confidences, bars) {
	double values[] = { 5, 1, 3, 2, 4 };
	cr_expect_float_eq(confidence_bar(values, 5, 0.9), 1.4, 1e-9);
	cr_expect_float_eq(confidence_bar(values, 5, 0.1), 4.6, 1e-9);
	cr_expect_float_eq(confidence_bar(values, 5, 0.5), 3, 1e-9);
	cr_expect_float_eq(confidence_bar(values, 1, 0.9), 1, 1e-9);
}

/* ---- probes ---- */

Test(probes, doubts) {
	cr_expect(certaindex_doubts("Wait, 4", 7));
	cr_expect(certaindex_doubts(" 7. Hmm", 7));
	cr_expect(certaindex_doubts("I know", 6)); /* "no" */
	cr_expect_not(certaindex_doubts(" 42}", 4));
	cr_expect_not(certaindex_doubts("n", 1));
}

Test(probes, equal_answers_in_a_row) {
	struct certaindex c = { 0 };
	struct bb_error err = { 0 };
	static const struct {
		const char *answer;
		bool doubts;
		int n_equal;
	} probes[] = {
		{ "4", false, 1 }, { "4", false, 2 }, { "40", false, 1 }, { "40", true, 0 },
		{ "40", false, 1 }, { "", false, 0 }, { "4", false, 1 }, { "4", false, 2 },
		{ "4", false, 3 },
	};
	for (size_t i = 0; i < COUNT(probes); i++) {
		cr_assert(certaindex_add(&c, probes[i].answer, probes[i].doubts, &err));
		cr_expect_eq(c.n_equal, probes[i].n_equal, "probe %zu: %d", i, c.n_equal);
	}
	certaindex_finish(&c);
}
