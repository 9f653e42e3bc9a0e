/* SPDX-License-Identifier: Apache-2.0
 *
 * The options that change what a model computes on the way, shared by the commands that run one. */
#ifndef EDITS_H
#define EDITS_H

#include "args.h"
#include "bobbin.h"

struct edit_options {
	struct arg_texts add, scale_head;
};

extern const struct arg_option edit_table[];

/* "5" or "3-7" -> tokens [first, first + n). */
bool edits_tokens(const char *text, int *first, int *n);

struct edits { /* zeroed = none */
	struct bb_edit *items; /* [n] */
	int n;
	char **names;          /* [n_names]: sites */
	float **vectors;       /* [n_vectors] */
	int n_names, n_vectors;
};
/* What the options say, heads first, so that a value can be set: times 0, then added. */
bool edits_read(struct edits *out, const struct edit_options *o, struct bb_error *err);
void edits_finish(struct edits *e);

#endif
