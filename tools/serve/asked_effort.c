/* SPDX-License-Identifier: Apache-2.0
 *
 * From fields to struct bb_effort. The engine says what contradicts itself in it; here is what
 * contradicts itself in the names, and what a request leaves to the server. */
#include "asked_effort.h"

#include "decisions.h"
#include "effort.h"
#include "fields.h"
#include "reader.h"
#include "server.h"
#include "speculation.h"

#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Numbers that no request means. */
static const double MOST_MS = 1e12;
/* The engine takes a share of 0 for none that was given. */
static const double LEAST_SHARE = 1e-9;

static bool is_known(const char *name, const char *const *names) {
	while (*names != NULL && strcmp(name, *names) != 0) {
		names++;
	}
	return *names != NULL;
}

static bool needs_end(struct exchange *x, const char *name) {
	return reply_error(x, 400, name, "unsupported_parameter", "'%s' needs to know where thinking "
		"ends, which this model's template doesn't say: give 'effort.think_end'", name);
}

/* ---- one number by many names ---- */

struct alias {
	const char *outer; /* the object that it is in, or NULL */
	const char *name;
};

/* -1 is no budget, as llama-server has it. */
static const struct alias budgets[] = {
	{ NULL, "thinking_token_budget" }, { NULL, "thinking_budget_tokens" },
	{ NULL, "reasoning_budget_tokens" }, { NULL, "max_thinking_tokens" },
	{ "custom_params", "custom_params.thinking_budget" },
	{ "nvext", "nvext.max_thinking_tokens" }, { "reasoning", "reasoning.max_tokens" },
	{ "thinking", "thinking.budget_tokens" }, { 0 },
};
static const struct alias minima[] = {
	{ NULL, "min_thinking_tokens" }, { "effort", "effort.min_thinking" }, { 0 },
};

/* *name: by which it came, NULL: by none. */
static bool read_int(struct exchange *x, const struct alias *aliases, int min, int *out,
	const char **name) {
	*name = NULL;
	for (; aliases->name != NULL; aliases++) {
		const json_t *in = aliases->outer != NULL ? field(x->in, aliases->outer) : x->in;
		int value = *out;
		if (in != NULL && !json_is_object(in)) { /* what it asks for would be lost */
			return reply_error(x, 400, aliases->outer, "invalid_type", "'%s' must be an object",
				aliases->outer);
		}
		if (field(in, aliases->name) == NULL) {
			continue;
		}
		if (!field_int(x, in, aliases->name, min, INT_MAX, &value)) {
			return false;
		}
		if (*name != NULL && value != *out) {
			return reply_error(x, 400, aliases->name, "invalid_value",
				"'%s' is %d, and '%s' %d: expected one of them, or the same", *name, *out,
				aliases->name, value);
		}
		*name = aliases->name;
		*out = value;
	}
	return true;
}

static bool read_answer_by(struct exchange *x, const json_t *in, bool can_think, double *out) {
	double inner = 0;
	if (!field_double(x, x->in, "answer_by_ms", 0, MOST_MS, out) ||
		!field_double(x, in, "effort.answer_by_ms", 0, MOST_MS, &inner)) {
		return false;
	}
	if (*out > 0 && !can_think) {
		return needs_end(x, "answer_by_ms");
	}
	if (field(in, "effort.answer_by_ms") == NULL) {
		return true;
	}
	if (field(x->in, "answer_by_ms") != NULL && inner != *out) {
		return reply_error(x, 400, "effort.answer_by_ms", "invalid_value",
			"'answer_by_ms' is %g, and 'effort.answer_by_ms' %g: expected one of them", *out,
			inner);
	}
	*out = inner;
	return inner == 0 || can_think || needs_end(x, "effort.answer_by_ms");
}

/* ---- levels ---- */

/* As OpenAI's APIs have it in two places; what templates read is the first one. */
static bool read_level(struct exchange *x, const char **out) {
	const char *level = NULL, *other = NULL;
	const json_t *reasoning = field(x->in, "reasoning");
	static const char *const types[] = { "enabled", "disabled", "adaptive", NULL };
	struct bb_effort any = { 0 };
	if (!field_string(x, x->in, "reasoning_effort", &level) ||
		!field_string(x, reasoning, "reasoning.effort", &other)) {
		return false;
	}
	if (level != NULL && other != NULL && strcmp(level, other) != 0) {
		return reply_error(x, 400, "reasoning.effort", "invalid_value", "'reasoning_effort' is "
			"'%.40s', and 'reasoning.effort' '%.40s': expected one of them", level, other);
	}
	level = level != NULL ? level : other;
	const char *type = json_string_value(field(field(x->in, "thinking"), "type"));
	if (type != NULL && !is_known(type, types)) { /* one that was mistyped may be "disabled" */
		return reply_error(x, 400, "thinking.type", "invalid_value",
			"'thinking.type' is '%.40s', expected enabled, disabled or adaptive", type);
	}
	if (type != NULL && strcmp(type, "disabled") == 0) { /* Anthropic's word, and others' */
		if (level != NULL && strcmp(level, "none") != 0) {
			return reply_error(x, 400, "thinking", "invalid_value", "'thinking' is disabled, but "
				"'reasoning_effort' is '%.40s'", level);
		}
		level = "none";
	}
	if (level != NULL && field(x->in, "reasoning_effort") == NULL) {
		json_object_set_new(x->in, "reasoning_effort", json_string(level));
	}
	*out = level;
	return *out == NULL || bb_effort_level(&any, *out, INT_MAX) || reply_error(x, 400,
		"reasoning_effort", "invalid_value", "'reasoning_effort' is '%.40s', expected one of %s",
		*out, bb_effort_level_names());
}

static bool read_budget(struct exchange *x, struct asked_effort *a) {
	const struct server_options *o = &x->server->options;
	struct bb_effort *e = &a->effort;
	const char *level = NULL, *name, *min_name;
	int budget = -1;
	if (!read_level(x, &level) || !read_int(x, budgets, -1, &budget, &name) ||
		!read_int(x, minima, 0, &e->min_thinking, &min_name)) {
		return false;
	}
	const bool can_think = e->thinking.end != NULL;
	if (!can_think && (budget >= 0 || e->min_thinking > 0)) {
		return needs_end(x, budget >= 0 ? name : min_name);
	}
	const bool has_budget = name != NULL && budget != 0; /* -1 too */
	if (level != NULL && strcmp(level, "none") == 0 && (has_budget || e->min_thinking > 0)) {
		return reply_error(x, 400, "reasoning_effort", "invalid_value",
			"thinking is off, but '%s' asks for some", has_budget ? name : min_name);
	}
	if (name != NULL) {
		e->has_budget = budget >= 0;
		e->max_thinking = budget >= 0 ? budget : 0;
	} else if (can_think && level != NULL) {
		a->level = level;
	} else if (can_think && o->thinking_budget >= 0) {
		e->has_budget = true;
		e->max_thinking = o->thinking_budget;
	} else if (can_think) {
		a->level = o->reasoning_effort;
	}
	/* the server's own wish gives way to a request that asks for more */
	if (name == NULL && level == NULL && e->has_budget && e->min_thinking > e->max_thinking) {
		e->max_thinking = e->min_thinking;
	}
	return true;
}

/* ---- the object ---- */

/* An object of ours, in which a word that isn't understood may be one that was mistyped. NULL where
 * it isn't there. */
static bool open_object(struct exchange *x, const json_t *in, const char *name,
	const char *const *names, const json_t **out) {
	const char *key;
	json_t *value;
	*out = field(in, name);
	if (*out != NULL && !json_is_object(*out)) {
		return reply_error(x, 400, name, "invalid_type", "'%s' must be an object", name);
	}
	json_object_foreach((json_t *)(size_t)*out, key, value) {
		if (!is_known(key, names)) {
			char full[80];
			snprintf(full, sizeof(full), "%s.%.40s", name, key);
			return reply_error(x, 400, full, "unknown_parameter", "there is no '%s'", full);
		}
	}
	return true;
}

static bool read_deepconf(struct exchange *x, const json_t *effort, struct bb_effort *e) {
	static const char *const names[] = { "warmup", "group", "keep", "share", NULL };
	const json_t *in;
	if (!open_object(x, effort, "effort.deepconf", names, &in) || in == NULL) {
		return x->status == 0;
	}
	e->n_warmup = 16; /* as the paper has it */
	return field_int(x, in, "effort.deepconf.warmup", 1, INT_MAX, &e->n_warmup) &&
		field_int(x, in, "effort.deepconf.group", 1, INT_MAX, &e->group) &&
		field_double(x, in, "effort.deepconf.keep", LEAST_SHARE, 1, &e->keep) &&
		field_double(x, in, "effort.deepconf.share", LEAST_SHARE, 1, &e->conf_share);
}

static bool read_probe(struct exchange *x, const json_t *effort, struct bb_effort *e) {
	static const char *const names[] = { "every", "tokens", "stable", "text", NULL };
	const json_t *in;
	if (!open_object(x, effort, "effort.probe", names, &in) || in == NULL) {
		return x->status == 0;
	}
	if (e->thinking.end == NULL) {
		return needs_end(x, "effort.probe");
	}
	e->probe_every = 64;
	return field_int(x, in, "effort.probe.every", 1, INT_MAX, &e->probe_every) &&
		field_int(x, in, "effort.probe.tokens", 1, INT_MAX, &e->probe_tokens) &&
		field_int(x, in, "effort.probe.stable", 1, INT_MAX, &e->probe_stable) &&
		field_string(x, in, "effort.probe.text", &e->probe_text);
}

static bool read_mark(struct exchange *x, const json_t *in, const char *name, const char **out) {
	if (!field_string(x, in, name, out)) {
		return false;
	}
	const size_t bytes = field(in, name) != NULL ? strlen(*out) : 1;
	return (bytes > 0 && bytes < READER_MARK) || reply_error(x, 400, name, "invalid_value",
		"'%s' has %zu bytes, expected 1 to %d", name, bytes, READER_MARK - 1);
}

static bool read_marks(struct exchange *x, const json_t *in, struct bb_thinking *t) {
	*t = x->server->thinking;
	if (field(in, "effort.think_end") != NULL) {
		*t = (struct bb_thinking){ 0 }; /* their begin isn't ours */
	}
	if (!read_mark(x, in, "effort.think_end", &t->end) ||
		!read_mark(x, in, "effort.think_begin", &t->begin) ||
		!field_string(x, in, "effort.closing", &t->closing) ||
		!field_string(x, in, "effort.extension", &t->extension)) {
		return false;
	}
	const char *name = t->begin != NULL ? "effort.think_begin" : t->closing != NULL
		? "effort.closing" : "effort.extension";
	return t->end != NULL || (t->begin == NULL && t->closing == NULL && t->extension == NULL) ||
		reply_error(x, 400, name, "invalid_value", "'%s' needs 'effort.think_end'", name);
}

static bool read_replay(struct exchange *x, const json_t *in, struct asked_effort *a) {
	const json_t *list = field(in, "effort.replay");
	if (list == NULL) {
		return true;
	}
	a->effort.replays = true;
	const bool ok = decisions_read(x, list, "effort.replay", &a->replay, &a->effort.n_replay);
	a->effort.replay = a->replay;
	return ok;
}

/* ---- answers ---- */

static bool read_choice(struct exchange *x, const json_t *in, struct bb_effort *e, bool *is_set) {
	static const struct {
		const char *name;
		enum bb_choice choice;
	} choices[] = {
		{ "all", BB_CHOICE_ALL }, { "certainty", BB_CHOICE_CERTAINTY },
		{ "vote", BB_CHOICE_VOTE }, { "weighted", BB_CHOICE_WEIGHTED },
	};
	const char *name = NULL;
	if (!field_string(x, in, "effort.choice", &name)) {
		return false;
	}
	*is_set = name != NULL;
	for (size_t i = 0; name != NULL && i < sizeof(choices) / sizeof(choices[0]); i++) {
		if (strcmp(name, choices[i].name) == 0) {
			e->choice = choices[i].choice;
			return true;
		}
	}
	return name == NULL || reply_error(x, 400, "effort.choice", "invalid_value",
		"'effort.choice' is '%.40s', expected all, certainty, vote or weighted", name);
}

/* `n` are given, of `best_of` that are drawn. */
static bool read_answers(struct exchange *x, const json_t *in, struct bb_effort *e, int *n,
	int *n_given) {
	const int most = x->server->options.max_n;
	int best_of = 0;
	bool is_set;
	*n = 1;
	if (!field_int(x, x->in, "n", 1, most, n) ||
		!field_int(x, x->in, "best_of", 1, most, &best_of) || !read_choice(x, in, e, &is_set)) {
		return false;
	}
	if (best_of > 0 && best_of < *n) {
		return reply_error(x, 400, "best_of", "invalid_value",
			"'best_of' is %d, expected at least 'n', %d", best_of, *n);
	}
	if (is_set && e->choice == BB_CHOICE_ALL && best_of > *n) {
		return reply_error(x, 400, "best_of", "invalid_value",
			"'best_of' is %d, but 'effort.choice' gives all of them, expected 'n', %d", best_of,
			*n);
	}
	if (!is_set) {
		e->choice = e->n_warmup > 0 ? BB_CHOICE_WEIGHTED : e->consensus > 0 ? BB_CHOICE_VOTE
			: best_of > *n ? BB_CHOICE_CERTAINTY : BB_CHOICE_ALL;
	}
	const bool votes = e->choice == BB_CHOICE_VOTE || e->choice == BB_CHOICE_WEIGHTED;
	if (votes && *n > 1) {
		return reply_error(x, 400, "n", "invalid_value", "'n' is %d, but a vote gives one answer: "
			"'best_of' says how many are drawn", *n);
	}
	*n_given = *n;
	*n = best_of > *n ? best_of : *n;
	e->n_given = e->choice == BB_CHOICE_CERTAINTY ? *n_given : 0;
	return true;
}

bool asked_effort_read(struct exchange *x, struct asked_effort *a, int *n, int *n_given) {
	static const char *const names[] = { "think_end", "think_begin", "closing", "extension",
		"soft_from", "min_thinking", "max_extensions", "answer_by_ms", "answer_tokens",
		"answer_pattern", "choice", "consensus", "deepconf", "probe", "elastic", "replay", NULL };
	struct bb_effort *e = &a->effort;
	const json_t *in;
	e->answer_pattern = x->server->options.answer_pattern;
	return open_object(x, x->in, "effort", names, &in) && read_marks(x, in, &e->thinking) &&
		read_budget(x, a) && read_answer_by(x, in, e->thinking.end != NULL,
			&e->answer_by_ms) &&
		field_double(x, in, "effort.soft_from", LEAST_SHARE, 1, &e->soft_from) &&
		field_int(x, in, "effort.max_extensions", 1, INT_MAX, &e->max_extensions) &&
		field_int(x, in, "effort.answer_tokens", 1, INT_MAX, &e->answer_tokens) &&
		field_string(x, in, "effort.answer_pattern", &e->answer_pattern) &&
		field_double(x, in, "effort.consensus", 0, 1, &e->consensus) &&
		read_deepconf(x, in, e) && read_probe(x, in, e) &&
		field_bool(x, in, "effort.elastic", &e->is_elastic) && read_replay(x, in, a) &&
		read_answers(x, in, e, n, n_given);
}

/* ---- what the engine says of it ---- */

/* The engine's words for what fields set. */
static const struct effort_word words[] = {
	{ "max_thinking", "thinking_token_budget" }, { "min_thinking", "min_thinking_tokens" },
	{ "soft_from", "effort.soft_from" }, { "max_extensions", "effort.max_extensions" },
	{ "answer_pattern", "effort.answer_pattern" }, { "consensus", "effort.consensus" },
	{ "n_warmup", "effort.deepconf.warmup" }, { "conf_share", "effort.deepconf.share" },
	{ "probe_every", "effort.probe.every" }, { "probe_tokens", "effort.probe.tokens" },
	{ "probe_stable", "effort.probe.stable" }, { "probe_text", "effort.probe.text" },
	{ "n", "best_of" },
};

bool asked_effort_refuse(struct exchange *x, const struct bb_error *err) {
	struct bb_error said = *err;
	const char *field = err->code == BB_ERR_INPUT ? "effort.answer_pattern"
		: effort_say(&said, words, sizeof(words) / sizeof(words[0]), "'");
	return reply_engine_error(x, field != NULL ? field : "effort", &said);
}

void asked_effort_finish(struct asked_effort *a) {
	free(a->replay);
	a->replay = NULL;
}

bool asked_effort_chooses(const struct asked_effort *a) {
	return a->effort.choice != BB_CHOICE_ALL;
}

/* ---- for a prompt ---- */

bool asked_effort_place(struct exchange *x, struct asked_effort *a, bool may_think,
	bool starts_inside, size_t n_prompt, int max_tokens) {
	struct bb_effort *e = &a->set;
	*e = a->effort;
	e->thinking.starts_inside = starts_inside;
	if (!may_think) {
		if (e->min_thinking > 0) {
			return reply_error(x, 400, "min_thinking_tokens", "invalid_value", "'min_thinking_"
				"tokens' is %d, but an answer of this form has no thinking", e->min_thinking);
		}
		e->thinking = (struct bb_thinking){ 0 };
		e->has_budget = false;
		e->answer_by_ms = 0;
		e->probe_every = 0;
		return true;
	}
	const int room = x->server->info.max_len - (int)n_prompt;
	if (a->level != NULL) {
		bb_effort_level(e, a->level, max_tokens >= 0 && max_tokens < room ? max_tokens : room);
		if (e->has_budget && e->max_thinking < e->min_thinking) {
			e->max_thinking = e->min_thinking;
		}
	}
	return true;
}

/* Where the text stands for the last time, or NULL. */
static const char *last_of(const struct bb_text *all, const char *text) {
	const size_t n = strlen(text);
	for (const char *at = all->data + all->bytes; n <= all->bytes && at-- > all->data;) {
		if ((size_t)(all->data + all->bytes - at) >= n && memcmp(at, text, n) == 0) {
			return at;
		}
	}
	return NULL;
}

bool asked_effort_place_behind(struct exchange *x, struct asked_effort *a,
	const struct bb_tokens *prompt, int max_tokens) {
	const struct bb_thinking *t = &a->effort.thinking;
	bool is_inside = t->end != NULL && t->begin == NULL;
	if (t->end != NULL && t->begin != NULL) {
		struct bb_text text = { 0 };
		struct bb_error err = { 0 };
		size_t first = prompt->n; /* vectors have no text */
		while (first > 0 && prompt->ids[first - 1] >= 0) {
			first--;
		}
		if (!bb_detokenize(x->server->engine, prompt->ids + first, prompt->n - first, &text,
			&err)) {
			return reply_engine_error(x, "prompt", &err);
		}
		const char *begin = text.bytes > 0 ? last_of(&text, t->begin) : NULL;
		const char *end = begin != NULL ? last_of(&text, t->end) : NULL;
		is_inside = begin != NULL && (end == NULL || end < begin);
		bb_text_finish(&text);
	}
	return asked_effort_place(x, a, t->end != NULL, is_inside, prompt->n, max_tokens);
}

const struct bb_effort *asked_effort_of(const struct asked_effort *a) {
	const struct bb_effort *e = &a->set;
	const bool asks = e->thinking.end != NULL || e->choice != BB_CHOICE_ALL || e->consensus > 0 ||
		e->n_warmup > 0 || e->answer_by_ms > 0 || e->probe_every > 0 || e->is_elastic || e->replays;
	return asks ? e : NULL;
}

/* The sum of guesses at tokens, as OpenAI's API has it for those of its clients. */
static void count_guesses(json_t *usage, const struct bb_usage *u) {
	json_t *details = json_object_get(usage, "completion_tokens_details");
	json_int_t n_right = 0, n_wrong = 0;
	for (int i = 0; i < BB_SPEC_SOURCES; i++) {
		n_right += (json_int_t)u->spec[i].n_accepted;
		n_wrong += (json_int_t)(u->spec[i].n_drafted - u->spec[i].n_accepted);
	}
	if (details != NULL) {
		json_object_set_new(details, "accepted_prediction_tokens", json_integer(n_right));
		json_object_set_new(details, "rejected_prediction_tokens", json_integer(n_wrong));
	}
}

void asked_effort_count(json_t *usage, const struct bb_usage *u) {
	json_t *more = json_pack("{s:i, s:i, s:i, s:i, s:f, s:o}", "cot_steps", u->n_cot_steps,
		"branches", u->n_branches, "dropped_branches", u->n_dropped, "probe_tokens",
		u->n_probe_tokens, "flops", u->flops, "speculation", speculation_counts(u->spec));
	json_object_update(usage, more);
	json_decref(more);
	count_guesses(usage, u);
}

/* ---- the server's own ---- */

static bool mark_fits(const char *name, const char *mark, struct bb_error *err) {
	const size_t bytes = mark != NULL ? strlen(mark) : 1;
	return (bytes > 0 && bytes < READER_MARK) || server_fail(err, BB_ERR_USAGE,
		"option '%s' has %zu bytes, expected 1 to %d", name, bytes, READER_MARK - 1);
}

bool asked_effort_check(const struct server_options *o, struct bb_error *err) {
	struct bb_effort any = { 0 };
	if (!mark_fits("--think-end", o->think_end, err) ||
		!mark_fits("--think-begin", o->think_begin, err)) {
		return false;
	}
	if (o->think_begin != NULL && o->think_end == NULL) {
		return server_fail(err, BB_ERR_USAGE, "option '--think-begin' needs '--think-end'");
	}
	if (o->reasoning_effort != NULL && !bb_effort_level(&any, o->reasoning_effort, INT_MAX)) {
		return server_fail(err, BB_ERR_USAGE, "option '--reasoning-effort' is '%.40s', expected "
			"one of %s", o->reasoning_effort, bb_effort_level_names());
	}
	return o->reasoning_effort == NULL || o->thinking_budget < 0 || server_fail(err, BB_ERR_USAGE,
		"--reasoning-effort and --thinking-budget are both given; one is enough");
}

bool asked_effort_check_model(const struct server *s, const struct bb_engine *e,
	struct bb_error *err) {
	const struct server_options *o = &s->options;
	if (o->thinking_budget >= 0 && s->thinking.end == NULL) {
		return server_fail(err, BB_ERR_USAGE, "option '--thinking-budget' needs '--think-end': "
			"the model's template doesn't say where thinking ends");
	}
	const struct bb_effort votes = { .answer_pattern = o->answer_pattern,
		.choice = BB_CHOICE_VOTE };
	return o->answer_pattern == NULL || bb_effort_check(e, &votes, 2, -1, err);
}
