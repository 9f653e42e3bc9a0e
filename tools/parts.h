/* SPDX-License-Identifier: Apache-2.0
 *
 * Where the messages of a conversation begin in its prompt, and what of it a context holds
 * already: the same tokens, cut into the same segments. */
#ifndef PARTS_H
#define PARTS_H

#include "bobbin.h"

#include <jansson.h>

struct part {
	int first; /* token of the prompt */
	enum bb_role role;
};

struct parts { /* zeroed = none */
	struct part *items; /* [n], in order */
	size_t n;
};
void parts_finish(struct parts *p);

/* A message begins where the prompt of the messages before it ends, and the answer where that of
 * all of them does, if these are beginnings of the prompt. What a template doesn't keep apart
 * belongs to the message before; a system message must show in its own part. source: as for
 * prompt_chat. */
bool parts_find(struct parts *p, const struct bb_engine *e, const char *source, json_t *messages,
	const struct bb_tokens *prompt, struct bb_error *err);
/* As parts_find, and leaves in the context only a beginning of the prompt, never all of it, that is
 * cut into the same segments. A sliding window may have lost what that needs, then the context
 * starts again. Of what it keeps some parts may be left out. */
bool parts_keep(struct parts *p, struct bb_context *c, const struct bb_engine *e,
	const char *source, json_t *messages, const struct bb_tokens *prompt, struct bb_error *err);
/* Begins the parts from token n_kept on, all of which the context has read. */
bool parts_begin(const struct parts *p, struct bb_context *c, int n_kept, struct bb_error *err);

#endif
