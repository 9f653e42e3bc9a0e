/* SPDX-License-Identifier: Apache-2.0
 *
 * Which planned operations are done in one launch with the next: where a layout can prepare an x
 * that it computes on the way, or turn q and k while it appends. A launch costs a device about as
 * much as reading 4 MB. */
#include "plan.h"

static bool is_product(const struct plan_op *o) {
	return o->kind == OP_MATMUL || o->kind == OP_ADD_MATMUL;
}

/* Whether an op from the i-th on reads what `act` holds now. */
static bool is_read(const struct plan_ops *list, int i, enum bb_act act) {
	for (; i < list->n; i++) {
		const struct plan_op *o = &list->ops[i];
		/* logits prepare their rows anew; products may find theirs prepared */
		const bool takes_in = o->in_act == act && (!is_product(o) || o->prepare ||
			o->out_act == ACT_LOGITS);
		const bool adds_to = (o->kind == OP_ADD || o->kind == OP_ADD_MATMUL) && o->out_act == act;
		const bool looks_back = o->kind == OP_ATTENTION && (act == ACT_K || act == ACT_V);
		if (takes_in || adds_to || looks_back || o->in2_act == act) {
			return true;
		}
		if (o->out_act == act) {
			return false;
		}
	}
	return false;
}

/* a makes the x of product b. */
static bool makes_x(const struct plan_op *a, const struct plan_op *b) {
	const bool is_gate = a->kind == OP_SILU_MUL || a->kind == OP_GELU_MUL;
	return is_product(b) && b->prepare && b->in_act == a->out_act &&
		(is_gate || (a->kind == OP_RMSNORM && a->n_groups == 1)) &&
		b->matrix->layout->fuses != NULL && b->matrix->layout->fuses(b->matrix->type);
}

/* a turns all that attention b looks at. */
static bool turns(const struct plan *p, const struct plan_op *a, const struct plan_op *b) {
	const struct bb_kv_layout *layout;
	kernels_attention(p->kernels, KV_F16, &layout); /* a device has one for all types */
	return a->kind == OP_ROPE && b->kind == OP_ATTENTION && layout->turns &&
		a->out_act == b->in_act && a->n_groups ==
		hparam_int(&p->hp, H_HEADS) + hparam_int(&p->hp, H_KV_HEADS);
}

void plan_fuse(const struct plan *p, struct plan_ops *list) {
	for (int i = 0; i + 1 < list->n; i++) {
		struct plan_op *a = &list->ops[i], *b = &list->ops[i + 1];
		if (turns(p, a, b) || (makes_x(a, b) && !is_read(list, i + 2, a->out_act))) {
			b->fused = a;
		}
	}
}
