/* SPDX-License-Identifier: Apache-2.0
 *
 * How much thought, as fields of a request: budgets by all the names that they have, levels, what
 * is drawn and which of it is given, and the object `effort`. */
#ifndef ASKED_EFFORT_H
#define ASKED_EFFORT_H

#include "exchange.h"

struct server_options;

struct asked_effort { /* zeroed; asked_effort_read .. asked_effort_finish */
	struct bb_effort effort;    /* its texts are the request's or the server's */
	struct bb_effort set;       /* the same, as it is for the prompt: asked_effort_place's */
	const char *level;          /* that max_thinking is to be found by, or NULL */
	struct bb_decision *replay;
};

/* Which fields there are, what they are worth by themselves, and whether they go together. *n: the
 * answers that are drawn; *n_given: that are given. False: replied, as with all that follow. */
bool asked_effort_read(struct exchange *x, struct asked_effort *a, int *n, int *n_given);
/* What the engine refused in it, by the names of the fields. */
bool asked_effort_refuse(struct exchange *x, const struct bb_error *err);
void asked_effort_finish(struct asked_effort *a);
/* Whether answers are chosen among, so that none can be given before all are there. */
bool asked_effort_chooses(const struct asked_effort *a);
/* Where the answer to a prompt stands: in its thinking, or before it; may_think false: there is
 * none. n_prompt, max_tokens (-1: to the end of the context): what the level has to share. */
bool asked_effort_place(struct exchange *x, struct asked_effort *a, bool may_think,
	bool starts_inside, size_t n_prompt, int max_tokens);
/* The same for a prompt that is continued as it stands: its text tells. */
bool asked_effort_place_behind(struct exchange *x, struct asked_effort *a,
	const struct bb_tokens *prompt, int max_tokens);
/* As the engine wants it; NULL: no policy, and no thinking to be told apart. */
const struct bb_effort *asked_effort_of(const struct asked_effort *a);
/* Adds what the engine has counted to a usage object. */
void asked_effort_count(json_t *usage, const struct bb_usage *u);
/* What is wrong with the server's own settings, whatever the model; and for its model. */
bool asked_effort_check(const struct server_options *o, struct bb_error *err);
bool asked_effort_check_model(const struct server *s, const struct bb_engine *e,
	struct bb_error *err);

#endif
