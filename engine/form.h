/* SPDX-License-Identifier: Apache-2.0
 *
 * The form of graph.h as the engine sees it: names, widths, and whether a model's op lists make
 * sense. */
#ifndef FORM_H
#define FORM_H

#include "base.h"
#include "graph.h"

/* Columns of an activation. */
int form_width(const struct bb_hparams *hp, enum bb_act act);
/* … and of those side by side from `act` to `last`; NONE: of act alone. */
int form_span(const struct bb_hparams *hp, enum bb_act act, enum bb_act last);
/* Whether a kind of operation keeps a fixed state, and whether it keeps tokens. */
bool form_keeps_state(enum bb_op_kind kind);
/* Floats of state that an op keeps. */
size_t form_state_floats(const struct bb_hparams *hp, const struct bb_op *op);
/* The first so many of them may be kept in int8: matrices; not what is a logarithm, divides, or is
 * small. */
size_t form_state_rounds(const struct bb_hparams *hp, const struct bb_op *op);
/* Whether layers of a kind keep keys and values of tokens. */
bool form_keeps_tokens(const struct bb_layer_kind *kind);
/* … and turn them by their position. */
bool form_turns(const struct bb_layer_kind *kind);
/* The first activation of the group that `act` lies in; ACT_NONE: in none. */
enum bb_act form_group(enum bb_act act);
/* Do its rows follow each other without a gap, as OP_EMBED, OP_ADD and OP_COMBINE want them? */
bool form_is_dense(enum bb_act act);
/* Is it of experts, with a row for each that a row of the step has chosen? */
bool form_is_of_experts(enum bb_act act);
/* Its rows per row of the step: 1, or as many as that. */
int form_rows(const struct bb_hparams *hp, enum bb_act act);
/* Rows of a file's matrix of which T_PART takes some, and where row r of these is there, of n. */
int form_file_rows(const struct bb_hparams *hp, const struct bb_weight_name *name);
int form_part_row(const struct bb_hparams *hp, const struct bb_weight_name *name, int r, int n);
/* Is what asks for `when` there in a model of these sizes? */
bool form_is_there(const struct bb_hparams *hp, enum bb_hparam when);
/* Refuses an op list that doesn't type-check, naming the op: an operand that its kind lacks or
 * ignores, a weight that the table lacks or that another shape is declared for, widths that
 * don't meet. */
bool form_check(const struct bb_model *m, const struct bb_hparams *hp, struct bb_error *err);

#endif
