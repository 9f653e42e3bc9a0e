/* SPDX-License-Identifier: Apache-2.0
 *
 * Options that say how much thought a request gets, how many answers it draws and which of them it
 * gives. */
#ifndef EFFORT_H
#define EFFORT_H

#include "args.h"
#include "bobbin.h"
#include "input.h"

#include <jansson.h>

struct effort_options { /* EFFORT_UNSET = no policy, one answer */
	const char *level, *begin, *end, *closing, *extension;
	int budget, min_thinking, max_extensions, answer_tokens;
	double soft_from, answer_by_ms;
	int n_answers, best_of; /* given, of so many that are drawn */
	const char *choose, *pattern;
	double consensus;
	int n_warmup, group;
	double keep, conf_share;
	int probe_every, probe_tokens, probe_stable;
	const char *probe_text, *replay;
	bool shows_decisions;
};

/* No option takes a negative number. */
#define EFFORT_UNSET { .budget = -1, .min_thinking = -1, .max_extensions = -1, \
	.answer_tokens = -1, .soft_from = -1, .answer_by_ms = -1, .n_answers = -1, .best_of = -1, \
	.consensus = -1, .n_warmup = -1, .group = -1, .keep = -1, .conf_share = -1, \
	.probe_every = -1, .probe_tokens = -1, .probe_stable = -1 }

extern const struct arg_option effort_table[];

/* Whether any of them is given: then answers come from a scheduler. */
bool effort_options_given(const struct effort_options *o);
/* What can be said without a model: -1, or the exit status after the reason was reported. */
int effort_options_check(const struct effort_options *o);

struct effort_request { /* what the options ask for; effort_request_finish frees it */
	struct bb_effort effort;
	int n;                       /* branches */
	json_t *replay;              /* effort.replay points into it */
	struct bb_decision *decisions; /* [effort.n_replay] */
};
/* template_source: the template that is used, which may tell thinking apart; NULL: none. prompt:
 * [bytes], of n_prompt tokens, the text that the answer follows, which may have begun thinking.
 * max_tokens: as a generation has it. Pointers go into *o. BB_ERR_USAGE, BB_ERR_INPUT,
 * BB_ERR_IO, BB_ERR_MEMORY. */
bool effort_request_init(struct effort_request *r, const struct bb_engine *e,
	const struct effort_options *o, const char *template_source, const char *prompt, size_t bytes,
	size_t n_prompt, int max_tokens, struct bb_error *err);
void effort_request_finish(struct effort_request *r);

struct effort_word {
	const char *word, *name; /* the engine's; what those who ask call it */
};
/* Puts names between quotes in the place of the engine's words, where it says of an effort that it
 * can't be (BB_ERR_USAGE). The first name, or NULL. */
const char *effort_say(struct bb_error *err, const struct effort_word *words, size_t n_words,
	const char *quote);

#endif
