/* SPDX-License-Identifier: Apache-2.0
 *
 * The runner: walks the planned operations of one step and calls their kernels. Nothing here
 * allocates or can fail; what a step needs was planned at load. */
#include "engine.h"

#include <assert.h>
#include <string.h>

struct run {
	struct bb_engine *e;
	const struct plan *p;
	const struct bb_kernels *k;
	bb_queue *q;
	int n_rows;
	int i_layer;
};

static void run_product(const struct run *r, const struct plan_op *o) {
	const struct plan_matrix *m = o->matrix;
	if (o->prepare) {
		m->layout->prep(r->q, r->p->prepared, m->type, o->in, o->ld_in, r->n_rows, m->k);
	}
	m->fn(r->q, o->out, o->ld_out, m->packed, r->p->prepared, m->bias, r->n_rows, m->n, m->k,
		o->kind == OP_ADD_MATMUL);
}

/* How many of the places of logits, from the i-th on, follow each other in memory. */
static int run_length(const struct batch *b, int i, int n_vocab) {
	int n = 1;
	while (i + n < b->n_out && b->logits[i + n] == b->logits[i] + (size_t)n * (size_t)n_vocab) {
		n++;
	}
	return n;
}

/* Logits go straight to the callers' arrays where enough rows lie together (or all), else
 * through planned memory: the weights are read once for all the rows of a call, however they are
 * scattered. */
static void run_logits(const struct run *r, const struct plan_op *o) {
	const struct plan_matrix *m = o->matrix;
	const struct batch *b = &r->e->batch;
	const size_t row_bytes = (size_t)m->n * sizeof(float);
	for (int i = 0, n; i < b->n_out; i += n) {
		n = run_length(b, i, m->n);
		const bool is_direct = n == b->n_out || n >= LOGITS_ROWS;
		if (!is_direct) {
			n = b->n_out - i < LOGITS_ROWS ? b->n_out - i : LOGITS_ROWS;
		}
		float *y = is_direct ? b->logits[i] : r->p->acts[ACT_LOGITS];
		m->layout->prep(r->q, r->p->prepared, m->type, o->in + (size_t)i * (size_t)o->ld_in,
			o->ld_in, n, m->k);
		m->fn(r->q, y, m->n, m->packed, r->p->prepared, m->bias, n, m->n, m->k, false);
		for (int j = 0; !is_direct && j < n; j++) {
			memcpy(b->logits[i + j], y + (size_t)j * (size_t)m->n, row_bytes);
		}
	}
}

/* A page holds the slabs of all layers of its kind, and of all their heads. */
static const struct bb_kv_head *place_heads(const struct run *r, int n_kv_heads) {
	struct bb_kv_head *heads = r->e->batch.kv_heads;
	const size_t slab_bytes = engine_slab_bytes(r->e, r->e->batch.kv_type);
	const size_t first = (size_t)r->p->layer_index[r->i_layer] * (size_t)n_kv_heads;
	for (int h = 0; h < n_kv_heads; h++) {
		heads[h] = (struct bb_kv_head){
			.i_group = 0, .slab_offset = (first + (size_t)h) * slab_bytes,
		};
	}
	return heads;
}

static void run_attention(const struct run *r, const struct plan_op *o) {
	const struct plan *p = r->p;
	const struct batch *b = &r->e->batch;
	const int i_kind = p->layer_kind[r->i_layer];
	const int n_kv_heads = hparam_int(&p->hp, H_KV_HEADS), head_dim = hparam_int(&p->hp, H_HEAD);
	const struct bb_kv_head *kv_heads = place_heads(r, n_kv_heads);
	const struct bb_kv_layout *layout;
	attention_fn *attention = kernels_attention(r->k, b->kv_type, &layout);
	const struct bb_kv_append append = {
		.k = p->acts[ACT_K], .v = p->acts[ACT_V], .ld = p->act_ld[ACT_K],
		.seqs = b->seqs[i_kind], .n_seqs = b->n_seqs,
		.kv_heads = kv_heads,
		.n_kv_heads = n_kv_heads, .head_dim = head_dim, .kv_group = r->e->kv_group,
		.type = b->kv_type, .layout = layout,
	};
	kv_append(r->q, &append);
	const struct bb_attention args = {
		.out = o->out, .queries = o->in, .ld_out = o->ld_out, .ld_q = o->ld_in,
		.seqs = b->seqs[i_kind], .n_seqs = b->n_seqs,
		.kv_heads = kv_heads,
		.n_heads = hparam_int(&p->hp, H_HEADS), .n_kv_heads = n_kv_heads, .head_dim = head_dim,
		.kv_group = r->e->kv_group, .window = p->kinds[i_kind].window,
		.scale = (float)p->hp.v[H_ATTN_SCALE],
		.scratch = b->scratch, .scratch_bytes = b->scratch_bytes,
	};
	attention(r->q, &args);
}

static void run_gated(const struct run *r, const struct plan_op *o) {
	silu_mul_fn *fn = o->kind == OP_SILU_MUL ? r->k->silu_mul : r->k->gelu_mul;
	fn(r->q, o->out, o->ld_out, o->in, o->in2, o->ld_in, r->n_rows, o->dim);
}

static void run_op(const struct run *r, const struct plan_op *o) {
	const struct plan *p = r->p;
	const int n_pairs = hparam_int(&p->hp, H_ROPE_PAIRS);
	switch (o->kind) {
	case OP_EMBED:
		r->k->embed(r->q, o->out, o->table->data, o->table->type, r->e->batch.ids, r->n_rows,
			o->dim, o->scalar[0]);
		break;
	case OP_RMSNORM:
		r->k->rmsnorm(r->q, o->out, o->ld_out, o->in, o->ld_in, o->w, r->n_rows, o->n_groups,
			o->dim, (float)p->hp.v[H_NORM_EPS]);
		break;
	case OP_MATMUL:
	case OP_ADD_MATMUL:
		(o->out_act == ACT_LOGITS ? run_logits : run_product)(r, o);
		break;
	case OP_ROPE:
		r->k->rope(r->q, o->out, o->ld_out, p->ropes[o->i_rope].table, r->n_rows, o->n_groups,
			o->dim, n_pairs);
		break;
	case OP_ATTENTION:
		run_attention(r, o);
		break;
	case OP_SILU_MUL:
	case OP_GELU_MUL:
		run_gated(r, o);
		break;
	case OP_ADD:
		/* X and H: their rows follow each other without a gap. */
		assert(o->ld_out == o->dim && o->ld_in == o->dim);
		r->k->add(r->q, o->out, o->in, (size_t)r->n_rows * (size_t)o->dim);
		break;
	case OP_END:
	case OP_COUNT:
		assert(!"not an operation");
	}
}

static void run_list(const struct run *r, const struct plan_ops *list) {
	for (int i = 0; i < list->n; i++) {
		run_op(r, &list->ops[i]);
	}
}

/* Rows whose logits are wanted, one below the other. */
static void gather_rows(const struct run *r) {
	const struct batch *b = &r->e->batch;
	const size_t ld = (size_t)r->p->act_ld[ACT_X];
	for (int i = 0; i < b->n_out; i++) {
		memcpy(r->p->out_rows + (size_t)i * ld, r->p->acts[ACT_X] + (size_t)b->out_row[i] * ld,
			ld * sizeof(float));
	}
}

void graph_run(struct bb_engine *e) {
	const struct plan *p = &e->plan;
	struct run r = { e, p, &e->kernels, e->queue, e->batch.n_rows, -1 };
	for (int i = 0; i < p->n_kinds; i++) {
		e->kernels.rope_table(e->queue, p->ropes[i].table, e->batch.pos, p->ropes[i].inv_freq,
			r.n_rows, hparam_int(&p->hp, H_ROPE_PAIRS), p->ropes[i].scale);
	}
	run_list(&r, &p->head);
	for (r.i_layer = 0; r.i_layer < p->n_layers; r.i_layer++) {
		run_list(&r, &p->layers[r.i_layer]);
	}
	if (e->batch.n_out > 0) {
		gather_rows(&r);
		r.n_rows = e->batch.n_out;
		run_list(&r, &p->tail);
	}
}
