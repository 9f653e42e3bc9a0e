/* SPDX-License-Identifier: Apache-2.0
 *
 * minimum: an end of thinking, or of the text, that comes before so many thinking tokens is
 * replaced by a text such as "Wait", after which the model goes on (budget forcing,
 * arXiv:2501.19393). An end of several tokens is known only when it's whole: then the text is
 * written behind it. */
#include "effort.h"

#include <stdio.h>

static bool is_wanted(const struct bb_effort *p) {
	return p->thinking.end != NULL; /* more may be asked for while the request runs */
}

static bool check(const struct bb_effort *p, int n, int max_tokens, struct bb_error *err) {
	if (p->min_thinking < 0 || p->max_extensions < 0) {
		return base_fail(err, BB_ERR_USAGE, "%s is %d, expected 0 or more", p->min_thinking < 0
			? "min_thinking" : "max_extensions", p->min_thinking < 0 ? p->min_thinking
			: p->max_extensions);
	}
	if (p->min_thinking == 0) {
		return true;
	}
	if (p->thinking.end == NULL) {
		return base_fail(err, BB_ERR_USAGE, "min_thinking is %d, but what ends thinking isn't "
			"given", p->min_thinking);
	}
	if (p->has_budget && p->min_thinking > p->max_thinking) {
		return base_fail(err, BB_ERR_USAGE, "min_thinking is %d, expected at most max_thinking, "
			"%d", p->min_thinking, p->max_thinking);
	}
	return max_tokens < 0 || p->min_thinking < max_tokens || base_fail(err, BB_ERR_USAGE,
		"min_thinking is %d, expected less than max_tokens, %d", p->min_thinking, max_tokens);
}

static void extend(struct effort_branch *b, int n_thinking, struct effort_wish *wish) {
	if (n_thinking < b->min_thinking && b->n_extended < b->max_extended &&
		b->effort->extension.n > 0) {
		wish->extend = true;
		wish->value = n_thinking;
		wish->bar = b->min_thinking;
		snprintf(wish->why, sizeof(wish->why), "%d of at least %d thinking tokens", n_thinking,
			b->min_thinking);
	}
}

static void drawn(struct effort_branch *b, int32_t id, struct effort_wish *wish) {
	const bool ends = effort_is_end(b, id) || tokenizer_is_eog(b->effort->engine->tokenizer, id);
	if (effort_is_thinking(b) && ends) {
		extend(b, effort_n_spent(b), wish);
	}
}

/* The end's tokens become thinking when it goes on, for which there must be room. */
static void token(struct effort_branch *b, bool ends, struct effort_wish *wish) {
	if (ends && (b->max_thinking < 0 || effort_n_spent(b) < b->max_thinking)) {
		extend(b, b->n_thinking, wish);
	}
}

const struct effort_policy effort_minimum = {
	.name = "minimum", .is_wanted = is_wanted, .check = check, .drawn = drawn, .token = token,
};
