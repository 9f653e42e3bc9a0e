/* SPDX-License-Identifier: Apache-2.0
 *
 * What work costs: bytes that steps read, and operations that rows take. Counted from the plan and
 * the batch, so it is the same on every device. */
#ifndef COST_H
#define COST_H

#include "plan.h"

/* Of a plan, worked out once. */
struct cost {
	double row_flops;     /* of a row, but for attention and the head */
	double head_flops;    /* of a row whose logits are wanted */
	double key_flops[MAX_LAYER_KINDS]; /* of a key that a row sees, in all layers of the kind */
	size_t weight_bytes;  /* that a step reads, but for experts and the head */
	size_t head_bytes;
	size_t expert_bytes;  /* of one expert of each mixture */
};
void cost_init(struct cost *c, const struct plan *p);

struct bb_engine;
struct bb_step_item;
/* Operations of tokens [first, first + n) of a context, with logits of n_logits of them. */
double cost_flops(const struct bb_engine *e, int first, int n, int n_logits);
/* The step that was composed of these items has been computed; none of them is committed yet. */
void cost_add_step(struct bb_engine *e, const struct bb_step_item *items, int n_items);

#endif
