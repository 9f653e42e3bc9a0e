/* SPDX-License-Identifier: Apache-2.0
 *
 * Numbers of JSON, ranges of integers and formats of strings, as expressions. */
#ifndef NUMBERS_H
#define NUMBERS_H

#include "expr.h"

struct int_range {
	bool has_min, has_max;
	int64_t min, max;
};
/* The integers of a range as JSON has them, no "-0" and no fraction; EXPR_NONE: there are none. */
uint32_t numbers_integer(struct exprs *x, const struct int_range *range);
uint32_t numbers_any(struct exprs *x);
/* A string's text: "date" and "date-time" (RFC 3339, no leap seconds), "uuid"; *known: is it one of
 * these? */
uint32_t numbers_format(struct exprs *x, const char *name, bool *known, struct bb_error *err);

#endif
