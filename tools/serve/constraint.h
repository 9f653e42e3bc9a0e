/* SPDX-License-Identifier: Apache-2.0
 *
 * What a text must be: the fields that ask for a grammar. */
#ifndef CONSTRAINT_H
#define CONSTRAINT_H

#include "exchange.h"

/* response_format, structured_outputs and what other servers call it. *out NULL: none is asked for;
 * *schema: what it is made of, of x->in, where that is a schema in JSON for one line, else NULL.
 * False: replied. */
bool constraint_read(struct exchange *x, struct bb_grammar **out, const json_t **schema);
/* Of a call's arguments, or of all of a call. */
bool constraint_of_schema(const struct bb_engine *e, const json_t *schema, struct bb_grammar **out,
	struct bb_error *err);

/* Of all of a text with calls in it; an object. */
bool constraint_of_structure(const struct bb_engine *e, const json_t *structure,
	struct bb_grammar **out, struct bb_error *err);

#endif
