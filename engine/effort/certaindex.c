/* SPDX-License-Identifier: Apache-2.0
 *
 * Counting probes that agree. */
#include "certaindex.h"

#include <string.h>
#include <strings.h>

const char *certaindex_text(enum answer_kind kind) {
	return kind == ANSWER_BOXED ? "\n\nSo the final answer is \\boxed{"
		: kind == ANSWER_CHOICE ? "\n\nSo the letter of the right choice is: "
		: "\n\nFinal answer:";
}

bool certaindex_doubts(const char *text, size_t bytes) {
	static const char *const doubts[] = { "wait", "hold", "but", "okay", "no", "hmm" };
	for (size_t at = 0; at < bytes; at++) {
		for (size_t i = 0; i < COUNT(doubts); i++) {
			const size_t n = strlen(doubts[i]);
			if (bytes - at >= n && strncasecmp(text + at, doubts[i], n) == 0) {
				return true;
			}
		}
	}
	return false;
}

void certaindex_finish(struct certaindex *c) {
	bb_text_finish(&c->answer);
	c->n_equal = 0;
}

bool certaindex_add(struct certaindex *c, const char *answer, bool doubts, struct bb_error *err) {
	const char *const before = c->answer.data != NULL ? c->answer.data : "";
	if (answer[0] == '\0' || doubts) {
		c->n_equal = 0;
		return true;
	}
	if (c->n_equal > 0 && strcmp(answer, before) == 0) {
		c->n_equal++;
		return true;
	}
	const size_t n = strlen(answer);
	const size_t most = n > c->answer.bytes ? n - c->answer.bytes : 0;
	if (!base_reserve(&c->answer, most, err)) {
		return false;
	}
	c->answer.bytes = 0;
	c->n_equal = 1;
	return base_append(&c->answer, answer, n, err);
}
