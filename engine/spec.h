/* SPDX-License-Identifier: Apache-2.0
 *
 * Speculation: guesses at what comes next go into a step beside the token that is sure, and the
 * draws say which were right (arXiv:2211.17192, with drafts that are single tokens; a draw is the
 * one that decoding without drafts makes, so nothing of an answer changes). Where they come from,
 * and how many are worth their rows. run.c takes in what was right. */
#ifndef SPEC_H
#define SPEC_H

#include "bobbin.h"

struct branch;
struct spec;        /* of a scheduler */
struct spec_branch; /* of a branch, from its first draft on */

/* For steps of at most max_items. BB_ERR_USAGE for what is out of range, or a draft model that
 * doesn't fit. NULL: the defaults. */
bool spec_create(struct spec **out, struct bb_engine *e, const struct bb_speculation *params,
	int max_items, struct bb_error *err);
void spec_destroy(struct spec *s); /* NULL is fine; no branch is left */

/* Adds drafts to the items of the step that the scheduler is about to compute. Where memory is
 * short there are less, or none. */
void spec_draft(struct bb_scheduler *s);
/* The step, whose items had n_rows rows without drafts and none of a prompt, took so long. */
void spec_measure(struct spec *s, int n_rows, int n_drafts, double seconds);
/* What such a step would have taken without drafts. */
double spec_without(const struct spec *s, int n_rows, int n_drafts, double seconds);
/* The step failed for want of memory: whether it had drafts, which the next ones don't have. */
bool spec_gives_way(struct bb_scheduler *s);
/* A token that b has given out. */
void spec_see(struct spec *s, struct branch *b, int32_t token);
/* A draft of b's was right. */
void spec_took(struct bb_scheduler *s, struct branch *b);
/* b has ended: what it wrote is history, where it's whole. Frees b->spec. */
void spec_end(struct spec *s, struct branch *b, bool is_whole);

#endif
