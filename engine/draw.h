/* SPDX-License-Identifier: Apache-2.0
 *
 * Tokens drawn at the end of a step where its logits are: on the host by the sampler, on a device
 * by its kernel `sample`, so that what crosses the bus is a token and not a vocabulary. */
#ifndef DRAW_H
#define DRAW_H

#include "memory.h"

struct bb_engine;
struct bb_sampled;
struct bb_sampler;
struct bb_step_item;

/* A row of wanted logits that is drawn from. */
struct draw {
	struct bb_sampler *sampler; /* NULL: the row isn't */
	struct bb_sampled *out;
	int token_index;            /* where the token will stand */
	const float *logits;        /* [n_vocab] on the host, or NULL */
	bool is_ahead;              /* behind a draft: bb_step_follow draws, or nobody does */
	bool is_late;               /* on a device: not in the step, as what was drawn by then counts */
};

/* A device's room for the draws of a step: what its kernel is given, and what it gives back. */
struct draw_room {
	struct staging in, out;
	float *scratch;
	size_t scratch_bytes;
	/* without a device: logits of items with drafts */
	float *rows;    /* [max_rows, n_vocab] */
	int max_rows;
};

/* Whether this engine's steps draw where they compute. */
bool draws_there(const struct bb_engine *e);
bool draws_create(struct bb_engine *e, struct bb_error *err);
void draws_finish(struct bb_engine *e); /* zeroed is fine */
/* Makes masks of grammars for these n items' samplers, and room for their lists. */
bool draws_reserve(struct bb_engine *e, const struct bb_step_item *items, int n,
	struct bb_error *err);
/* The parts of a step: sends what e->batch's draws need; draws rows [i, i + n) of the wanted
 * logits, which are the first n in planned memory; asks for the results; and, when the queue is
 * done, hands them out. BB_ERR_FORMAT where logits aren't finite: then the id is -1. */
void draws_send(struct bb_engine *e);
void draws_run(struct bb_engine *e, int i, int n);
void draws_fetch(struct bb_engine *e);
bool draws_read(struct bb_engine *e, struct bb_error *err);
/* Of a row behind a draft: whether that is what was drawn last, and the row can be drawn from, with
 * its grammar's mask; and the draw. */
bool draws_prepare(struct bb_engine *e, int row, int32_t draft);
bool draws_follow(struct bb_engine *e, int row, struct bb_sampled *out, struct bb_error *err);

#endif
