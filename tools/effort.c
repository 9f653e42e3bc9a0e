/* SPDX-License-Identifier: Apache-2.0
 *
 * From options to the effort of a request. */
#include "effort.h"

#include "decision.h"
#include "terminal.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>

#define AT(member) offsetof(struct effort_options, member)
#define MOST (1 << 30)

const struct arg_option effort_table[] = {
	{ "--reasoning-effort,--effort", "LEVEL",
		"none, minimal, low, medium, high, xhigh or max: a thinking budget by name", ARG_TEXT,
		AT(level) },
	{ "--thinking-budget,--reasoning-budget", "N", "at most N thinking tokens", ARG_INT, AT(budget),
		0, MOST },
	{ "--soft-from", "SHARE", "where of the budget the end begins to be likelier; 1 = never "
		"(default 0.8)", ARG_DOUBLE, AT(soft_from), 1e-9, 1 },
	{ "--min-thinking", "N", "an end of thinking before N tokens is replaced", ARG_INT,
		AT(min_thinking), 0, MOST },
	{ "--max-extensions", "N", "... at most so often (default 8)", ARG_INT, AT(max_extensions), 1,
		MOST },
	{ "--think-begin", "TEXT", "what thinking begins with (default: as the chat template says)",
		ARG_TEXT, AT(begin) },
	{ "--think-end", "TEXT", "what it ends with; any text that the prompt asks for will do",
		ARG_TEXT, AT(end) },
	{ "--think-closing,--reasoning-budget-message", "TEXT",
		"what is written where the budget ends (default: the end on a line of its own)", ARG_TEXT,
		AT(closing) },
	{ "--think-extension", "TEXT", "what is written for an end that comes too early (default: "
		"Wait)", ARG_TEXT, AT(extension) },
	{ "--answer-by-ms", "T", "end thinking in time for an answer T ms from its start", ARG_DOUBLE,
		AT(answer_by_ms), 0.001, 1e12 },
	{ "--answer-tokens", "N", "... of so many tokens (default 64)", ARG_INT, AT(answer_tokens), 1,
		MOST },
	{ "-N,--answers", "N", "give N answers of the same prompt (default 1)", ARG_INT,
		AT(n_answers), 1, 1024 },
	{ "--best-of", "N", "draw N answers at most, of which the best are given", ARG_INT, AT(best_of),
		1, 1024 },
	{ "--choose", "HOW", "which: certainty, vote, weighted (by confidence) or all", ARG_TEXT,
		AT(choose), 0, 0, "all|certainty|vote|weighted" },
	{ "--answer-pattern", "REGEX", "what of a text is its answer, to vote; or number, boxed, "
		"choice, line", ARG_TEXT, AT(pattern) },
	{ "--consensus", "P", "draw only until the vote is settled with this probability", ARG_DOUBLE,
		AT(consensus), 0.5, 1 },
	{ "--deepconf", "N", "behind the first N answers drop those that lose confidence", ARG_INT,
		AT(n_warmup), 1, 1024 },
	{ "--deepconf-group", "N", "... as the mean of so many tokens says (default 2048)", ARG_INT,
		AT(group), 1, MOST },
	{ "--deepconf-keep", "SHARE", "... below what this share of the first ones stayed above "
		"(default 0.9)", ARG_DOUBLE, AT(keep), 0.001, 1 },
	{ "--deepconf-share", "SHARE", "... until one answer has this share of the vote (default "
		"0.95)", ARG_DOUBLE, AT(conf_share), 0.001, 1 },
	{ "--probe-every", "N", "ask for the answer every N thinking tokens, aside", ARG_INT,
		AT(probe_every), 1, MOST },
	{ "--probe-stable", "N", "... and end thinking when so many in a row agree (default 3)",
		ARG_INT, AT(probe_stable), 1, MOST },
	{ "--probe-tokens", "N", "... each of at most N tokens (default 20)", ARG_INT,
		AT(probe_tokens), 1, MOST },
	{ "--probe-text", "TEXT", "... behind this text", ARG_TEXT, AT(probe_text) },
	{ "--decisions", NULL, "show on stderr what is decided, where and why", ARG_FLAG,
		AT(shows_decisions) },
	{ 0 },
};

/* ---- what is given ---- */

static bool wants_answers(const struct effort_options *o) {
	return o->n_answers >= 0 || o->best_of >= 0 || o->choose != NULL || o->pattern != NULL ||
		o->consensus >= 0 || o->n_warmup >= 0 || o->group >= 0 || o->keep >= 0 ||
		o->conf_share >= 0;
}

static bool wants_thinking(const struct effort_options *o) {
	return o->level != NULL || o->budget >= 0 || o->min_thinking >= 0 || o->answer_by_ms >= 0 ||
		o->probe_every >= 0;
}

bool effort_options_given(const struct effort_options *o) {
	return wants_answers(o) || wants_thinking(o) || o->begin != NULL || o->end != NULL ||
		o->closing != NULL || o->extension != NULL || o->soft_from >= 0 ||
		o->max_extensions >= 0 || o->answer_tokens >= 0 || o->probe_stable >= 0 ||
		o->probe_tokens >= 0 || o->probe_text != NULL || o->shows_decisions || o->replay != NULL;
}

static int given(const struct effort_options *o) {
	return o->n_answers >= 0 ? o->n_answers : 1;
}

static enum bb_choice choice_of(const struct effort_options *o) {
	if (o->choose != NULL) {
		return strcmp(o->choose, "vote") == 0 ? BB_CHOICE_VOTE
			: strcmp(o->choose, "weighted") == 0 ? BB_CHOICE_WEIGHTED
			: strcmp(o->choose, "certainty") == 0 ? BB_CHOICE_CERTAINTY : BB_CHOICE_ALL;
	}
	return o->n_warmup >= 0 ? BB_CHOICE_WEIGHTED : o->consensus >= 0 ? BB_CHOICE_VOTE
		: o->best_of > given(o) ? BB_CHOICE_CERTAINTY : BB_CHOICE_ALL;
}

/* ---- checks ---- */

/* An option that says more about another one. */
static int check_details(const struct effort_options *o) {
	const bool has_deepconf = o->n_warmup >= 0, has_probe = o->probe_every >= 0;
	const struct {
		bool is_given, is_of_use;
		const char *name, *needs;
	} details[] = {
		{ o->soft_from >= 0, o->budget >= 0 || o->level != NULL, "--soft-from",
			"--thinking-budget or --reasoning-effort" },
		{ o->max_extensions >= 0, o->min_thinking >= 0, "--max-extensions", "--min-thinking" },
		{ o->answer_tokens >= 0, o->answer_by_ms >= 0, "--answer-tokens", "--answer-by-ms" },
		{ o->group >= 0, has_deepconf, "--deepconf-group", "--deepconf" },
		{ o->keep >= 0, has_deepconf, "--deepconf-keep", "--deepconf" },
		{ o->conf_share >= 0, has_deepconf, "--deepconf-share", "--deepconf" },
		{ o->probe_stable >= 0, has_probe, "--probe-stable", "--probe-every" },
		{ o->probe_tokens >= 0, has_probe, "--probe-tokens", "--probe-every" },
		{ o->probe_text != NULL, has_probe, "--probe-text", "--probe-every" },
		{ o->begin != NULL, o->end != NULL, "--think-begin", "--think-end" },
	};
	for (size_t i = 0; i < sizeof(details) / sizeof(details[0]); i++) {
		if (details[i].is_given && !details[i].is_of_use) {
			return usage_error("option '%s' needs %s", details[i].name, details[i].needs);
		}
	}
	return -1;
}

static bool is_empty(const char *text) {
	return text != NULL && text[0] == '\0';
}

int effort_options_check(const struct effort_options *o) {
	struct bb_effort ignored = { 0 };
	if (o->level != NULL && !bb_effort_level(&ignored, o->level, 1)) {
		return usage_error("option '--reasoning-effort' is '%s', expected one of %s", o->level,
			bb_effort_level_names());
	}
	if (o->level != NULL && o->budget >= 0) {
		return usage_error("--reasoning-effort and --thinking-budget are both given; one is "
			"enough");
	}
	if (o->best_of >= 0 && o->best_of < given(o)) {
		return usage_error("--best-of is %d, expected at least the %d of -N", o->best_of, given(o));
	}
	const enum bb_choice choice = choice_of(o);
	if (o->best_of > given(o) && choice == BB_CHOICE_ALL) {
		return usage_error("--best-of is %d, but --choose all gives all of them; -N says how many "
			"these are", o->best_of);
	}
	if (given(o) > 1 && (choice == BB_CHOICE_VOTE || choice == BB_CHOICE_WEIGHTED)) {
		return usage_error("-N is %d, but a vote gives one answer; --best-of says how many are "
			"drawn", o->n_answers);
	}
	if (is_empty(o->begin) || is_empty(o->end)) {
		return usage_error("option '%s' is an empty text", is_empty(o->end) ? "--think-end"
			: "--think-begin");
	}
	return check_details(o);
}

/* ---- a request ---- */

/* What a template writes for thinking, as most models of today have it. */
#define THINK "<think>"
#define END_THINK "</think>"

static bool ends_with(const char *text, size_t bytes, const char *end) {
	const size_t n = strlen(end);
	for (; bytes > 0 && isspace((unsigned char)text[bytes - 1]); bytes--) {
	}
	return bytes >= n && memcmp(text + bytes - n, end, n) == 0;
}

static void fill_thinking(struct bb_thinking *t, const struct effort_options *o,
	const char *template_source, const char *prompt, size_t bytes) {
	const bool is_known = template_source != NULL && (strstr(template_source, THINK) != NULL ||
		strstr(template_source, END_THINK) != NULL);
	t->begin = o->begin != NULL || o->end != NULL || !is_known ? o->begin : THINK;
	t->end = o->end != NULL || !is_known ? o->end : END_THINK;
	t->starts_inside = t->end != NULL && (t->begin == NULL || ends_with(prompt, bytes, t->begin));
	t->closing = o->closing;
	t->extension = o->extension;
}

static int at_least_0(int given) {
	return given > 0 ? given : 0;
}

static double at_least_zero(double given) {
	return given > 0 ? given : 0;
}

static void fill(struct bb_effort *e, const struct effort_options *o, int room) {
	e->has_budget = o->budget >= 0;
	e->max_thinking = at_least_0(o->budget);
	if (o->level != NULL) {
		bb_effort_level(e, o->level, room);
	}
	e->soft_from = at_least_zero(o->soft_from);
	e->min_thinking = at_least_0(o->min_thinking);
	e->max_extensions = at_least_0(o->max_extensions);
	e->answer_by_ms = at_least_zero(o->answer_by_ms);
	e->answer_tokens = at_least_0(o->answer_tokens);
	e->answer_pattern = o->pattern;
	e->choice = choice_of(o);
	e->n_given = e->choice == BB_CHOICE_CERTAINTY ? given(o) : 0;
	e->consensus = at_least_zero(o->consensus);
	e->n_warmup = at_least_0(o->n_warmup);
	e->group = at_least_0(o->group);
	e->keep = at_least_zero(o->keep);
	e->conf_share = at_least_zero(o->conf_share);
	e->probe_every = at_least_0(o->probe_every);
	e->probe_tokens = at_least_0(o->probe_tokens);
	e->probe_stable = at_least_0(o->probe_stable);
	e->probe_text = o->probe_text;
}

static bool read_replay(struct effort_request *r, const char *path, struct bb_error *err) {
	struct input in = { 0 };
	if (!input_read(path, &in, err)) {
		return false;
	}
	json_error_t why;
	r->replay = json_loadb(in.data != NULL ? in.data : "", in.bytes, 0, &why);
	input_finish(&in);
	if (r->replay == NULL) {
		return input_fail(err, BB_ERR_INPUT, "%s: expected JSON, line %d: %s", input_name(path),
			why.line, why.text);
	}
	r->effort.replays = true;
	const bool ok = decision_list(r->replay, &r->decisions, &r->effort.n_replay, err);
	r->effort.replay = r->decisions;
	return ok;
}

/* The engine's words for what options set. */
static const struct effort_word named[] = {
	{ "max_thinking", "--thinking-budget" }, { "min_thinking", "--min-thinking" },
	{ "max_tokens", "-n" }, { "soft_from", "--soft-from" },
	{ "max_extensions", "--max-extensions" }, { "answer_pattern", "--answer-pattern" },
	{ "consensus", "--consensus" }, { "n_warmup", "--deepconf" },
	{ "conf_share", "--deepconf-share" }, { "probe_every", "--probe-every" },
	{ "probe_tokens", "--probe-tokens" }, { "probe_stable", "--probe-stable" },
	{ "probe_text", "--probe-text" }, { "n", "--best-of" },
};

static const char *name_of(const struct effort_word *words, size_t n, const char *word,
	size_t bytes) {
	for (size_t i = 0; i < n; i++) {
		if (strlen(words[i].word) == bytes && memcmp(words[i].word, word, bytes) == 0) {
			return words[i].name;
		}
	}
	return NULL;
}

const char *effort_say(struct bb_error *err, const struct effort_word *words, size_t n_words,
	const char *quote) {
	const char *first = NULL;
	const struct bb_error was = *err;
	size_t n = 0;
	if (err->code != BB_ERR_USAGE) {
		return NULL;
	}
	for (const char *at = was.text; *at != '\0' && n < sizeof(err->text);) {
		const size_t word = strspn(at, "abcdefghijklmnopqrstuvwxyz_"), bytes = word > 0 ? word : 1;
		const char *name = name_of(words, n_words, at, word);
		n += (size_t)(name != NULL
			? snprintf(err->text + n, sizeof(err->text) - n, "%s%s%s", quote, name, quote)
			: snprintf(err->text + n, sizeof(err->text) - n, "%.*s", (int)bytes, at));
		first = first != NULL ? first : name;
		at += bytes;
	}
	return first;
}

bool effort_request_init(struct effort_request *r, const struct bb_engine *e,
	const struct effort_options *o, const char *template_source, const char *prompt, size_t bytes,
	size_t n_prompt, int max_tokens, struct bb_error *err) {
	memset(r, 0, sizeof(*r));
	fill_thinking(&r->effort.thinking, o, template_source, prompt, bytes);
	if (wants_thinking(o) && r->effort.thinking.end == NULL) {
		return input_fail(err, BB_ERR_USAGE, "the prompt's template knows no thinking; expected a "
			"text that ends it as --think-end");
	}
	struct bb_engine_info info;
	bb_engine_info(e, &info);
	const int left = info.max_len - (int)n_prompt;
	fill(&r->effort, o, max_tokens > 0 && max_tokens < left ? max_tokens : left);
	r->n = o->best_of >= 0 ? o->best_of : given(o);
	if (o->replay != NULL && !read_replay(r, o->replay, err)) {
		return false;
	}
	const bool ok = bb_effort_check(e, &r->effort, r->n, max_tokens, err);
	if (!ok) {
		effort_say(err, named, sizeof(named) / sizeof(named[0]), "");
	}
	return ok;
}

void effort_request_finish(struct effort_request *r) {
	free(r->decisions);
	json_decref(r->replay);
	memset(r, 0, sizeof(*r));
}
