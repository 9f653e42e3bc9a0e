/* SPDX-License-Identifier: Apache-2.0
 *
 * From messages to the ids of a prompt, through the model's chat template where it has one. */
#ifndef PROMPT_H
#define PROMPT_H

#include "bobbin.h"

#include <jansson.h>

/* Whether messages can be rendered: the model has a vocabulary and a template, or one is given. */
bool prompt_has_template(const struct bb_engine *e, const char *source);
/* messages: array of {role, content}; source NULL = the model's template. Without a template the
 * contents follow each other, a newline behind each. asks: the prompt goes on to where an answer
 * begins. *text is what a template rendered. Both are added to, and are the caller's to finish in
 * any case. */
bool prompt_chat(const struct bb_engine *e, const char *source, json_t *messages, bool asks,
	struct bb_text *text, struct bb_tokens *out, struct bb_error *err);
/* A template that is given must be of use. */
bool prompt_check_template(const struct bb_engine *e, const char *source, struct bb_error *err);
/* Some templates leave a system message out without a word, others raise: both are errors here. */
bool prompt_check_system(const struct bb_engine *e, const char *source, struct bb_error *err);
bool prompt_raw(const struct bb_engine *e, const char *text, size_t bytes, struct bb_tokens *out,
	struct bb_error *err);
/* Says on stderr how much of the text has no tokens. */
void prompt_note_lost(const struct bb_tokens *tokens);
/* A prompt of no tokens, or of more than the context holds, is refused before any work is done. */
bool prompt_check(const struct bb_tokens *prompt, int max_len, struct bb_error *err);

#endif
