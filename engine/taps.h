/* SPDX-License-Identifier: Apache-2.0
 *
 * Looking inside a step, and changing what is there: what the runner calls where taps are attached,
 * and the names by which they are. Nothing here is used by a step without. */
#ifndef TAPS_H
#define TAPS_H

#include "plan.h"

struct bb_engine;
struct bb_step_item;
struct taps;

/* ---- tap_sites.c ---- */

/* A site in the plan: activation `act` as `op` leaves it. */
struct tap_place {
	const struct plan_op *op;
	enum bb_act act;
	float *at;  /* its first row; NULL: of logits, which have no place of their own */
	int ld;     /* floats from a row of it, or a part's, to the next */
};
/* As bb_tap_site. */
bool tap_place(const struct plan *p, int layer, int i, struct tap_place *place,
	struct bb_tap_site *site);
/* What a request means: a name in the lists [first, last], of which 0 is embed, 1 layer 0, and
 * so on to unembed. */
struct tap_query {
	const char *at;       /* as it was asked for */
	char name[32];        /* in small letters, without its number */
	int number;           /* 0: none was given */
	int first, last;
};
/* BB_ERR_USAGE where nothing answers it. */
bool tap_parse(struct tap_query *q, const struct plan *p, const char *at, struct bb_error *err);
/* The first site in a list from *i_list on, which becomes the list behind it; false: no more. */
bool tap_next(const struct tap_query *q, const struct plan *p, int *i_list,
	struct tap_place *place, struct bb_tap_site *site);

/* ---- taps.c ---- */

/* Before a step; without taps it does nothing, as taps_end. */
bool taps_begin(struct bb_engine *e, const struct bb_step_item *items, int n_items,
	struct bb_error *err);
/* Behind it: whether all rows could be had; else *err of taps_begin says why not. */
bool taps_end(const struct bb_engine *e);
bool taps_has_edits(const struct bb_engine *e);
/* Behind an op, whose n_rows rows lie where the plan says. */
void taps_after(struct bb_engine *e, const struct plan_op *o, int i_layer, int n_rows);
/* Rows [i, i + n) of the wanted logits, at y [n, n_vocab]. */
void taps_logits(struct bb_engine *e, const struct plan_op *o, int i, int n, float *y);
void taps_destroy(struct taps *t); /* NULL is fine */

#endif
