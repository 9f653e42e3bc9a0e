/* SPDX-License-Identifier: Apache-2.0
 *
 * What may be asked for, before a request begins; levels of effort, and names of decisions. */
#include "effort.h"

#include <limits.h>
#include <string.h>

/* ---- names ---- */

static const char *const names[] = {
	[BB_DECISION_CLOSE] = "close", [BB_DECISION_EXTEND] = "extend",
	[BB_DECISION_BUDGET] = "budget", [BB_DECISION_START] = "start",
	[BB_DECISION_DROP] = "drop", [BB_DECISION_PROBE] = "probe",
	[BB_DECISION_FINISH] = "finish", [BB_DECISION_CHOOSE] = "choose",
};

const char *bb_decision_name(enum bb_decision_kind kind) {
	return names[kind];
}

bool bb_decision_parse(const char *name, enum bb_decision_kind *out) {
	for (size_t i = 0; i < COUNT(names); i++) {
		if (strcmp(names[i], name) == 0) {
			*out = (enum bb_decision_kind)i;
			return true;
		}
	}
	return false;
}

/* ---- levels ---- */

/* Thinking tokens; each level has four times what the one before it has. -1: no budget. */
static const struct level {
	const char *name;
	int max_thinking;
} levels[] = {
	{ "none", 0 }, { "minimal", 128 }, { "low", 512 }, { "medium", 2048 }, { "high", 8192 },
	{ "xhigh", 32768 }, { "max", -1 },
};

/* What is kept of the room for the answer: a quarter, up to this. */
enum { ANSWER_RESERVE = 1024 };

bool bb_effort_level(struct bb_effort *effort, const char *level, int room) {
	const int reserve = room / 4 < ANSWER_RESERVE ? room / 4 : ANSWER_RESERVE;
	const int most = room > reserve ? room - reserve : 0;
	for (size_t i = 0; i < COUNT(levels); i++) {
		if (strcmp(levels[i].name, level) == 0) {
			const int wanted = levels[i].max_thinking;
			effort->has_budget = wanted >= 0;
			effort->max_thinking = wanted < 0 ? 0 : wanted < most ? wanted : most;
			return true;
		}
	}
	return false;
}

const char *bb_effort_level_names(void) {
	return "none, minimal, low, medium, high, xhigh, max";
}

/* ---- checks ---- */

static bool check_text(const char *text, const char *what, struct bb_error *err) {
	return text == NULL || text[0] != '\0' ||
		base_fail(err, BB_ERR_USAGE, "what %s thinking is empty, expected a text", what);
}

static bool check_thinking(const struct bb_thinking *t, struct bb_error *err) {
	if (!check_text(t->begin, "begins", err) || !check_text(t->end, "ends", err) ||
		!check_text(t->extension, "extends", err)) {
		return false;
	}
	if (t->end == NULL) {
		return (t->begin == NULL && t->closing == NULL && t->extension == NULL) || base_fail(err,
			BB_ERR_USAGE, "what begins, closes or extends thinking is given, but not what ends it");
	}
	if (t->closing != NULL && strstr(t->closing, t->end) == NULL) {
		return base_fail(err, BB_ERR_USAGE, "what closes thinking doesn't have what ends it");
	}
	if (t->extension != NULL && strstr(t->extension, t->end) != NULL) {
		return base_fail(err, BB_ERR_USAGE, "what extends thinking has what ends it");
	}
	if (t->begin != NULL && strcmp(t->begin, t->end) == 0) {
		return base_fail(err, BB_ERR_USAGE, "thinking begins and ends with the same text");
	}
	return true;
}

static bool check_replay(const struct bb_effort *p, int n, struct bb_error *err) {
	if (p->n_replay < 0 || (!p->replays && p->n_replay > 0)) {
		return base_fail(err, BB_ERR_USAGE, "%d decisions to replay, but no replay", p->n_replay);
	}
	for (int i = 0; i < p->n_replay; i++) {
		const struct bb_decision *d = &p->replay[i];
		if (d->branch < -1 || d->branch >= n || d->token < 0 ||
			(unsigned)d->kind >= COUNT(names)) {
			return base_fail(err, BB_ERR_USAGE, "decision %d is of branch %d at token %d, expected "
				"-1 to %d and 0 or more", i, d->branch, d->token, n - 1);
		}
		const bool has_number = d->kind == BB_DECISION_BUDGET || d->kind == BB_DECISION_EXTEND;
		if (has_number && !(d->value >= 0 && d->value <= INT_MAX)) {
			return base_fail(err, BB_ERR_USAGE, "decision %d has %g tokens, expected 0 to %d", i,
				d->value, INT_MAX);
		}
		if (d->policy == NULL || (strcmp(d->policy, effort_control) != 0 &&
			effort_policy_find(d->policy) == NULL)) {
			return base_fail(err, BB_ERR_USAGE, "decision %d is of a policy that there isn't", i);
		}
	}
	return true;
}

bool bb_effort_check(const struct bb_engine *e, const struct bb_effort *effort, int n,
	int max_tokens, struct bb_error *err) {
	if (!check_thinking(&effort->thinking, err) || !check_replay(effort, n, err)) {
		return false;
	}
	for (int i = 0; effort_policies[i] != NULL; i++) {
		if (effort_policies[i]->check != NULL &&
			!effort_policies[i]->check(effort, n, max_tokens, err)) {
			return false;
		}
	}
	if (effort->min_thinking > 0 && effort->thinking.extension == NULL &&
		tokenizer_is_vocabless(e->tokenizer)) {
		return base_fail(err, BB_ERR_USAGE, "the model has no words, so what extends thinking must "
			"be given");
	}
	struct answer_pattern *pattern = NULL;
	const bool ok = effort->answer_pattern == NULL ||
		answer_pattern_create(&pattern, effort->answer_pattern, err);
	answer_pattern_destroy(pattern);
	return ok;
}
