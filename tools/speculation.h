/* SPDX-License-Identifier: Apache-2.0
 *
 * Options that say where guesses at the next tokens come from, and how many a step may have. */
#ifndef SPECULATION_H
#define SPECULATION_H

#include "args.h"
#include "bobbin.h"
#include "open.h"

#include <jansson.h>

struct speculation_options { /* zeroed = the scheduler's defaults */
	const char *config, *type, *draft;
	int max_drafts;
};

extern const struct arg_option speculation_table[];

/* Whether any of them is given. */
bool speculation_given(const struct speculation_options *o);
/* What the options ask for, into *out; a draft model is opened as `open` says, and *draft (NULL
 * where there is none) is the caller's to destroy, behind what uses it. Returns -1, or the exit
 * status after the reason was reported. */
int speculation_params(const struct speculation_options *o, const struct open_options *open,
	struct bb_speculation *out, struct bb_engine **draft);
/* {"ngram": {"drafted": N, "accepted": N}, ...} */
json_t *speculation_counts(const struct bb_spec_count counts[BB_SPEC_SOURCES]);

#endif
