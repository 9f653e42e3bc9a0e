/* SPDX-License-Identifier: Apache-2.0
 *
 * Cuts generated text into CoT steps: the unit in which thought is measured, and in which it can be
 * stopped. */
#ifndef COT_H
#define COT_H

#include "gguf.h"

/* A sentence's end is one only from here on. */
enum { COT_MIN_TOKENS = 64 };

struct cot { /* zeroed = before the first token, of a model whose steps are text */
	bool each_token;     /* each token is a step */
	int i_step;          /* of the step that is being written */
	int first, n_tokens; /* its tokens in the timeline */
	double logprob;      /* the sum of theirs */
	struct bb_text text;
	bool has_ended;      /* the last token was the step's last */
	bool has_words;      /* the step has more than blanks */
	bool has_blank_line; /* behind its words */
	int n_newlines;      /* at its end, blanks between them aside */
};
/* Whether each token is a step, as `bobbin.cot_step` of the metadata says: "text", as without it,
 * or "token". */
bool cot_read(const struct gguf *g, bool *each_token, struct bb_error *err);
void cot_finish(struct cot *c);
/* The token at `place` of the timeline, and what it adds to the text. */
bool cot_add(struct cot *c, int place, double logprob, const char *text, size_t bytes,
	struct bb_error *err);
/* Whether the last token ended a sentence or a line. */
bool cot_may_pause(const struct cot *c);

#endif
