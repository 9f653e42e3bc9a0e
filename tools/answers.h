/* SPDX-License-Identifier: Apache-2.0
 *
 * The answers of one prompt, drawn by a scheduler under the options of effort, and which of them
 * are given. */
#ifndef ANSWERS_H
#define ANSWERS_H

#include "answer.h"
#include "effort.h"

struct drawn { /* an answer, and what is summed over its tokens */
	struct answer answer;
	double logprob, confidence, certainty;
	char *voted;           /* the answer in it as votes compare it; NULL: none */
	double weight;         /* of its vote; 0: it had none */
};

struct answers { /* answers_init .. answers_finish */
	struct drawn *items;   /* [n] */
	int n;
	int *given;            /* [n_given], indices, the best first */
	int n_given;
	json_t *decisions;     /* array, in their order */
	bool shows_decisions, was_interrupted;
	bool is_mid_line;      /* of what is shown as it comes */
	struct bb_usage usage;
	const struct bb_engine *engine;
	/* of the request that runs */
	bool chooses, is_over, has_failed;
	struct bb_error error;
};

/* With one answer its text goes to stdout as it comes, if it is shown. */
bool answers_init(struct answers *as, const struct bb_engine *e, const struct effort_request *r,
	bool is_shown, bool with_logprobs, bool shows_decisions, struct bb_error *err);
void answers_finish(struct answers *as);
/* Runs one request to its end. Ctrl-C ends it early and is no error; neither is a failed write to
 * stdout. conversation: as requests have it. */
bool answers_draw(struct answers *as, struct bb_scheduler *s, const struct effort_request *r,
	const struct bb_generation_params *params, const struct bb_tokens *prompt,
	const struct parts *parts, const char *conversation, struct bb_error *err);

/* The first that is given; NULL: none is. */
const struct answer *answers_best(const struct answers *as);
/* What wasn't shown as it came: what is given, and where it is more than one what each of it is. */
void answers_print(const struct answers *as);
/* One object for all. */
json_t *answers_json(const struct answers *as, uint64_t seed);
/* The counts on stderr. */
void answers_summary(const struct answers *as, uint64_t seed);

#endif
