/* SPDX-License-Identifier: Apache-2.0
 *
 * What probes of a branch's thinking say: whether its answer stands (Certaindex,
 * arXiv:2412.20993). */
#ifndef CERTAINDEX_H
#define CERTAINDEX_H

#include "answer.h"

/* What a probe is asked with where the request doesn't say. */
const char *certaindex_text(enum answer_kind kind);
/* Whether a probe's text doubts: it has one of "wait", "hold", "but", "okay", "no" and "hmm" in
 * it, be it as a part of a word. */
bool certaindex_doubts(const char *text, size_t bytes);

struct certaindex { /* of a branch; zeroed = before its first probe */
	struct bb_text answer; /* that the last probe gave, canonical */
	int n_equal;           /* probes in a row that gave it, and had no doubts */
};
void certaindex_finish(struct certaindex *c);
/* One more probe gave this answer, or none (""), and doubts or not. BB_ERR_MEMORY; then nothing
 * has changed. */
bool certaindex_add(struct certaindex *c, const char *answer, bool doubts, struct bb_error *err);

#endif
