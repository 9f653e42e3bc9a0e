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

/* "5" or "3-7" -> tokens, or layers, [first, first + n). */
bool edits_range(const char *text, int *first, int *n);

struct edits { /* zeroed = none */
	struct bb_edit *items; /* [n] */
	int n;
	char **names;          /* [n_names]: sites */
	float **vectors;       /* [n_vectors] */
	int n_names, n_vectors;
};
/* What the options say, heads first, so that a value can be set: times 0, then added. */
bool edits_read(struct edits *out, const struct edit_options *o, struct bb_error *err);
/* Refuses those for tokens that aren't among n_tokens. */
bool edits_check(const struct edits *e, int n_tokens, struct bb_error *err);
/* Behind a run of n_tokens, with these edits attached: says which have changed nothing. */
void edits_note_unused(const struct edits *e, const struct bb_engine *engine, int n_tokens);
void edits_finish(struct edits *e);

#endif
