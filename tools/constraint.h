/* SPDX-License-Identifier: Apache-2.0
 *
 * Options that say what the generated text must be. */
#ifndef CONSTRAINT_H
#define CONSTRAINT_H

#include "args.h"
#include "bobbin.h"

enum { CONSTRAINT_ONE_LINE = -1 };

struct constraint_options {
	const char *json_schema, *regex, *grammar;
	struct arg_texts choice;
	bool json_object;
	int json_indent; /* CONSTRAINT_ONE_LINE, or spaces a level */
};

extern const struct arg_option constraint_table[];

/* Whether at most one of them is given: -1, or the exit status after the reason was reported. */
int constraint_check(const struct constraint_options *o);
/* NULL in *out where none was asked for. */
bool constraint_create(const struct constraint_options *o, const struct bb_engine *e,
	struct bb_grammar **out, struct bb_error *err);

#endif
