/* SPDX-License-Identifier: Apache-2.0
 *
 * probe: every so many thinking tokens a fork of the branch is asked for its answer; when several
 * in a row give the same one without a doubt, thinking is closed (Certaindex, arXiv:2412.20993). */
#include "effort.h"

#include <stdio.h>
#include <string.h>

static bool is_wanted(const struct bb_effort *p) {
	return p->probe_every > 0;
}

static bool check(const struct bb_effort *p, int n, int max_tokens, struct bb_error *err) {
	const struct {
		const char *name;
		int value;
	} counts[] = { { "probe_every", p->probe_every }, { "probe_tokens", p->probe_tokens },
		{ "probe_stable", p->probe_stable } };
	for (size_t i = 0; i < COUNT(counts); i++) {
		if (counts[i].value < 0) {
			return base_fail(err, BB_ERR_USAGE, "%s is %d, expected 0 or more", counts[i].name,
				counts[i].value);
		}
	}
	if (p->probe_every == 0) {
		return true;
	}
	if (p->probe_text != NULL && p->probe_text[0] == '\0') {
		return base_fail(err, BB_ERR_USAGE, "probe_text is empty, expected a text");
	}
	if (p->thinking.end == NULL) {
		return base_fail(err, BB_ERR_USAGE, "probe_every is %d, but what ends thinking isn't given",
			p->probe_every);
	}
	return p->answer_pattern != NULL || base_fail(err, BB_ERR_USAGE,
		"probe_every is %d, but no answer_pattern is given", p->probe_every);
}

/* Not where the end may have begun: what is asked there could be its rest. */
static void token(struct effort_branch *b, bool ends, struct effort_wish *wish) {
	const int every = b->effort->params.probe_every;
	wish->probe = !ends && effort_is_thinking(b) && b->place.n == 0 &&
		b->n_thinking >= b->min_thinking && b->n_thinking / every > b->n_probed;
	if (wish->probe) {
		b->n_probed = b->n_thinking / every;
	}
}

/* What was asked, and the first line that says something. */
static bool first_line(const char *asked, const char *text, size_t bytes, struct bb_text *out,
	struct bb_error *err) {
	size_t n = strspn(text, " \t\r\n");
	n = n < bytes ? n + strcspn(text + n, "\r\n") : bytes;
	return base_append(out, asked, strlen(asked), err) && base_append(out, text, n, err);
}

static bool probed(struct effort_branch *b, const char *text, size_t bytes,
	struct effort_wish *wish, struct bb_error *err) {
	const struct effort *f = b->effort;
	struct bb_text all = { 0 }, found = { 0 };
	const bool doubts = certaindex_doubts(text, bytes);
	bool ok = first_line(f->params.probe_text, text, bytes, &all, err) &&
		answer_find(f->ballot.pattern, all.data, all.bytes, strlen(f->params.probe_text), &found,
			err);
	const char *answer = found.data != NULL ? found.data : "";
	ok = ok && certaindex_add(&b->probes, answer, doubts, err);
	if (ok) {
		char shown[BASE_SHOWN];
		wish->value = b->probes.n_equal;
		wish->bar = f->params.probe_stable;
		wish->close = wish->value >= wish->bar && effort_is_thinking(b) &&
			b->n_thinking >= b->min_thinking; /* which may have been raised meanwhile */
		snprintf(wish->why, sizeof(wish->why), "\"%s\"%s, %d in a row",
			base_show(answer, strlen(answer), shown, sizeof(shown)), doubts ? " with doubts" : "",
			b->probes.n_equal);
	}
	bb_text_finish(&all);
	bb_text_finish(&found);
	return ok;
}

const struct effort_policy effort_probe = {
	.name = "probe", .is_wanted = is_wanted, .check = check, .token = token, .probed = probed,
};
