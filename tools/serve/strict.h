/* SPDX-License-Identifier: Apache-2.0
 *
 * Answers in which the model calls tools when it wants to: the text is free until a call begins,
 * then it is held to the model's format, and the arguments to the tool's schema where that is
 * strict. */
#ifndef STRICT_H
#define STRICT_H

#include "bobbin.h"
#include "tool_format.h"

struct strict {
	const struct tool_format *format;
	const json_t *tools;       /* [{"function": {"name", "parameters"}}...] */
	const json_t *strict;      /* [n_tools] of true and false; NULL: none is */
	const char *source;        /* of the chat template, "" for none: some formats have variants */
	const json_t *schema;      /* what the answer must be that isn't a call; NULL: any text */
	bool is_one;               /* the answer ends behind its first call */
	struct bb_thinking thinking; /* the answer begins within it, or may begin with it */
	bool must_call;            /* strict_calls' own */
	const char *refused;       /* out: why a schema can't be enforced in this format, or NULL */
};
/* As BB_GRAMMAR_STRUCTURE has it; NULL: no memory. */
json_t *strict_structure(struct strict *s);
/* Of calls alone, behind the mark that begins them: for answers that must be some. Arguments follow
 * their schemas, strict or not; where they are written one by one, which takes a plain schema,
 * those of others are free. */
json_t *strict_calls(struct strict *s);

#endif
