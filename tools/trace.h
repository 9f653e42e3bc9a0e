/* SPDX-License-Identifier: Apache-2.0
 *
 * --trace-state: a line per CoT step, or an object in a list. */
#ifndef TRACE_H
#define TRACE_H

#include "bobbin.h"

#include <jansson.h>

struct trace { /* zeroed; trace_finish */
	json_t *steps;   /* an array, for objects; NULL: lines go to stdout */
	bool has_header;
	/* What the model has read since the last step, for those who want to see it: a column. */
	bool shows_read;
	struct bb_tokens read;
};
void trace_finish(struct trace *t);
/* Tells of the CoT step if it ended with token `id`, which g gave last, or if nothing follows.
 * False where stdout failed. */
bool trace_add(struct trace *t, const struct bb_engine *e, const struct bb_context *c,
	const struct bb_generation *g, int32_t id, bool is_last);

#endif
