/* SPDX-License-Identifier: Apache-2.0
 *
 * Which planned operations a device does in one launch, as far as layouts can: a norm or a gate
 * with the product behind it, a gate also with the one before, RoPE with the append, attention with
 * the preparation of its result. A launch costs about as much as reading 4 MB. */
#include "form.h"
#include "plan.h"

/* Of all rows with one matrix: those with experts' prepare their rows themselves. */
static bool is_product(const struct plan_op *o) {
	return (o->kind == OP_MATMUL || o->kind == OP_ADD_MATMUL) && o->matrix->n_stack == 0;
}

/* Whether an op from the i-th on reads what `act` holds now. */
static bool is_read(const struct plan_ops *list, int i, enum bb_act act) {
	for (; i < list->n; i++) {
		const struct plan_op *o = &list->ops[i];
		/* logits prepare their rows anew; products may find theirs prepared */
		const bool takes_in = o->in_act == act && (!is_product(o) || o->prepare ||
			o->out_act == ACT_LOGITS);
		const bool adds_to = (o->kind == OP_ADD || o->kind == OP_ADD_MATMUL ||
			o->kind == OP_COMBINE) && o->out_act == act;
		const bool looks_back = (o->kind == OP_ATTENTION && (act == ACT_K || act == ACT_V)) ||
			form_keeps_state(o->kind);
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
		(is_gate || (a->kind == OP_RMSNORM && a->n_groups == 1 && a->n_parts == 1)) &&
		b->matrix->layout->fuses != NULL && b->matrix->layout->fuses(b->matrix->type);
}

/* A device has one for all types. */
static const struct bb_kv_layout *kv_layout(const struct plan *p) {
	const struct bb_kv_layout *layout;
	kernels_attention(p->kernels, KV_F16, &layout);
	return layout;
}

/* a turns all that attention b looks at. */
static bool turns(const struct plan *p, const struct plan_op *a, const struct plan_op *b) {
	return a->kind == OP_ROPE && b->kind == OP_ATTENTION && kv_layout(p)->turns &&
		a->out_act == b->in_act && a->n_groups ==
		hparam_int(&p->hp, H_HEADS) + hparam_int(&p->hp, H_KV_HEADS);
}

/* Product c finds the x that b made of act. */
static bool shares_x(const struct plan_op *b, const struct plan_op *c) {
	return is_product(c) && !c->prepare && c->in_act == b->in_act &&
		c->matrix->layout == b->matrix->layout;
}

/* Product i computes its x from a norm, if those that share x follow it: they do it again. */
static void normalise(struct plan_ops *list, int i) {
	struct plan_op *b = &list->ops[i];
	int end = i + 1;
	while (end < list->n && shares_x(b, &list->ops[end])) {
		end++;
	}
	for (int j = end; j < list->n && list->ops[j].out_act != b->in_act; j++) {
		if (shares_x(b, &list->ops[j])) {
			return;
		}
	}
	for (int j = i; j < end; j++) {
		if (list->ops[j].out_act == b->fused->in_act) {
			return; /* blocks would normalise what others have added to */
		}
	}
	for (int j = i; j < end && b->matrix->layout->product != NULL; j++) {
		list->ops[j].fused = b->fused;
		list->ops[j].normalises = true;
	}
}

/* Attention a leaves the x of product b. */
static bool leaves_x(const struct plan *p, const struct plan_op *a, const struct plan_op *b) {
	return a->kind == OP_ATTENTION && is_product(b) && b->prepare && b->in_act == a->out_act &&
		kv_layout(p)->prepares == b->matrix->layout && b->matrix->layout->fuses(b->matrix->type);
}

/* Product a makes the gate and the up of b, which is fused with product c. */
static bool makes_gated(const struct plan_op *a, const struct plan_op *b, const struct plan_op *c) {
	return a->kind == OP_MATMUL && a->normalises && c->fused == b && b->in == a->out &&
		b->in2 == a->out + b->dim && a->matrix->n == 2 * b->dim && b->ld_in == a->ld_out &&
		a->matrix->layout == c->matrix->layout;
}

static void give(struct plan_op *a, struct plan_op *product) {
	a->gives = product;
	product->takes = true;
}

void plan_fuse(const struct plan *p, struct plan_ops *list) {
	for (int i = 0; i + 1 < list->n; i++) {
		struct plan_op *a = &list->ops[i], *b = &list->ops[i + 1];
		if (turns(p, a, b) || (makes_x(a, b) && !is_read(list, i + 2, a->out_act))) {
			b->fused = a;
		}
		if (b->fused != NULL && a->kind == OP_RMSNORM) {
			normalise(list, i + 1);
		}
		if (leaves_x(p, a, b) && !is_read(list, i + 2, a->out_act)) {
			give(a, b);
		}
	}
	for (int i = 0; i + 2 < list->n; i++) {
		struct plan_op *a = &list->ops[i], *b = a + 1, *c = a + 2;
		/* the result may take the place of the gate or of up */
		if (makes_gated(a, b, c) &&
				(b->in_act == b->out_act || !is_read(list, i + 2, b->in_act)) &&
				(b->in2_act == b->out_act || !is_read(list, i + 2, b->in2_act))) {
			give(a, c);
		}
	}
}

static void part(struct plan_ops *list) {
	for (int i = 0; i < list->n; i++) {
		struct plan_op *o = &list->ops[i];
		o->fused = o->gives = NULL;
		o->takes = o->normalises = false;
	}
}

void plan_part(struct plan *p) {
	part(&p->embed);
	part(&p->unembed);
	for (int i = 0; i < p->n_layers; i++) {
		part(&p->layers[i]);
	}
}
