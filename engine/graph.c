/* SPDX-License-Identifier: Apache-2.0
 *
 * The runner: walks the planned operations of one step and calls their kernels. Nothing here
 * allocates or can fail; what a step needs was planned at load. */
#include "engine.h"
#include "form.h"

#include <assert.h>
#include <math.h>
#include <string.h>

struct run {
	struct bb_engine *e;
	const struct plan *p;
	const struct bb_kernels *k;
	bb_queue *q;
	int n_rows;
	int i_layer;
	bool keeps_logits; /* in planned memory */
};

static enum bb_fusion fusion_of(const struct plan_op *maker) {
	return maker->kind == OP_RMSNORM ? BB_FUSE_RMSNORM
		: maker->kind == OP_SILU_MUL ? BB_FUSE_SILU_MUL : BB_FUSE_GELU_MUL;
}

static float norm_eps(const struct plan *p, const struct plan_op *o) {
	return (float)p->hp.v[o->scalar_of[1] != H_NONE ? o->scalar_of[1] : H_NORM_EPS];
}

/* What the op before gives a product on the way, from row `first` on. */
static struct bb_fused_x x_on_the_way(const struct run *r, const struct plan_op *maker, int first) {
	const size_t at = (size_t)first * (size_t)maker->ld_in;
	return (struct bb_fused_x){
		.kind = fusion_of(maker), .x = maker->in + at,
		.up = maker->in2 != NULL ? maker->in2 + at : NULL,
		.ld = maker->ld_in, .w = maker->w, .eps = norm_eps(r->p, maker),
	};
}

/* Prepares rows [first, first + n) of a product's x, which the op before makes on the way if it is
 * fused with it. */
static void prepare(const struct run *r, const struct plan_op *o, int first, int n) {
	const struct plan_matrix *m = o->matrix;
	if (o->fused == NULL) {
		const float *x = o->in + (size_t)first * (size_t)o->ld_in;
		m->layout->prep(r->q, r->p->prepared, m->type, x, o->ld_in, n, m->k);
		return;
	}
	const struct bb_fused_x x = x_on_the_way(r, o->fused, first);
	m->layout->prep_fused(r->q, r->p->prepared, m->type, &x, n, m->k);
}

/* Rows [first, first + n) of a product to y, or their gated activation, prepared, to `prepared`. */
static void multiply(const struct run *r, const struct plan_op *o, int first, int n, float *y,
	int ld_y) {
	const struct plan_matrix *m = o->matrix;
	const bool accumulate = o->kind == OP_ADD_MATMUL;
	/* logits are computed some rows at a time */
	const bool prepares = o->prepare || o->out_act == ACT_LOGITS;
	if (o->normalises) {
		const struct bb_fused_product p = {
			.type = m->type, .w = m->packed, .bias = m->bias, .y = y, .ld_y = ld_y,
			.n_rows = n, .n = m->n, .k = m->k, .accumulate = accumulate,
			.x = x_on_the_way(r, o->fused, first), .prepared = r->p->prepared,
			.is_prepared = !prepares, .gated = o->gives != NULL ? r->p->prepared : NULL,
			.gate = o->gives != NULL ? fusion_of(o->gives->fused) : BB_FUSE_RMSNORM,
		};
		m->layout->product(r->q, &p);
		return;
	}
	if (prepares && !o->takes) {
		prepare(r, o, first, n);
	}
	m->fn(r->q, y, ld_y, m->packed, r->p->prepared, m->bias, n, m->n, m->k, accumulate);
}

/* The product of each row with the matrices of the experts that it has chosen. */
static void multiply_experts(const struct run *r, const struct plan_op *o) {
	const struct plan *p = r->p;
	const struct plan_matrix *m = o->matrix;
	const struct bb_grouped a = { .y = o->out, .w = m->packed, .x = o->in,
		.experts = p->choice.experts, .pairs = p->choice.pairs, .offsets = p->choice.offsets,
		.ld_y = o->ld_out, .ld_x = o->ld_in, .n_rows = r->n_rows, .n_used = o->n_rows,
		.n_experts = m->n_stack, .n = m->n, .k = m->k,
		.has_x_of_pairs = form_is_of_experts(o->in_act), .type = m->type, .matmul = m->fn,
		.layout = m->layout, .scratch = p->prepared };
	r->k->matmul_grouped(r->q, &a);
}

/* Which experts each row is for, and the weights of what they give. */
static void run_route(const struct run *r, const struct plan_op *o) {
	const struct plan *p = r->p;
	const struct bb_moe_route a = { .experts = p->choice.experts, .weights = o->out,
		.pairs = p->choice.pairs, .offsets = p->choice.offsets, .logits = o->in, .ld = o->ld_in,
		.n_rows = r->n_rows, .n_experts = form_width(&p->hp, o->in_act), .n_used = o->dim,
		.score = o->kind == OP_ROUTE ? MOE_SOFTMAX
			: o->kind == OP_ROUTE_SIGMOID ? MOE_SIGMOID : MOE_SOFTMAX_CHOSEN, .scale = 1 };
	r->k->moe_route(r->q, &a);
}

static void run_combine(const struct run *r, const struct plan_op *o) {
	r->k->moe_combine(r->q, o->out, o->ld_out, o->in, o->ld_in, o->in2, r->n_rows,
		form_width(&r->p->hp, o->in2_act), o->dim, true);
}

/* How many of the places of logits, from the i-th on, follow each other in memory. */
static int run_length(const struct batch *b, int i, int n_vocab) {
	const float *first = b->logits[i];
	int n = 1;
	while (first != NULL && i + n < b->n_out &&
		b->logits[i + n] == first + (size_t)n * (size_t)n_vocab) {
		n++;
	}
	return n;
}

void graph_give_logits(struct bb_engine *e, int i, int n) {
	const int n_vocab = hparam_int(&e->plan.hp, H_VOCAB);
	for (int j = 0, length; j < n; j += length) {
		length = run_length(&e->batch, i + j, n_vocab);
		length = length < n - j ? length : n - j;
		if (e->batch.logits[i + j] != NULL) {
			memory_out(&e->memory, e->batch.logits[i + j], e->plan.acts[ACT_LOGITS] +
				(size_t)j * (size_t)n_vocab, (size_t)length * (size_t)n_vocab * sizeof(float));
		}
	}
}

/* How many wanted rows, from the i-th on, the head is multiplied with at once; *is_direct: their
 * logits go to the callers' arrays. */
static int rows_at_once(const struct bb_engine *e, int i, bool *is_direct) {
	const int n_out = e->batch.n_out, most = e->plan.logits_rows;
	const int n = run_length(&e->batch, i, hparam_int(&e->plan.hp, H_VOCAB));
	*is_direct = memory_is_host(&e->memory) && (n == n_out || n >= most);
	return *is_direct ? n : n_out - i < most ? n_out - i : most;
}

int graph_head_reads(const struct bb_engine *e) {
	bool is_direct;
	int n = 0;
	for (int i = 0; i < e->batch.n_out; i += rows_at_once(e, i, &is_direct)) {
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
	bool is_direct;
	for (int i = 0, n; i < b->n_out; i += n) {
		n = rows_at_once(r->e, i, &is_direct);
		float *y = is_direct ? b->logits[i] : r->p->acts[ACT_LOGITS];
		multiply(r, o, i, n, y, m->n);
		if (o->scalar_of[0] != H_NONE && o->scalar[0] > 0) {
			r->k->softcap(r->q, y, (size_t)n * (size_t)m->n, o->scalar[0]);
		}
		if (r->e->taps != NULL) {
			taps_logits(r->e, o, i, n, y);
		}
		if (!is_direct && !r->keeps_logits) {
			draws_run(r->e, i, n);
			graph_give_logits(r->e, i, n);
		}
	}
}

/* A device reads pages for several sequences at once only where all have one row. Those that have
 * come first, and are computed last: the rest may leave anything in their rows of `prepared`. */
static void attend(const struct run *r, attention_fn *attention, const struct bb_attention *a) {
	const struct batch *b = &r->e->batch;
	if (b->n_shares == 0 || a->window > 0 || b->n_single == b->n_seqs ||
		memory_is_host(r->p->where)) {
		attention(r->q, a);
		return;
	}
	struct bb_attention part = *a;
	part.seqs += b->n_single;
	part.n_seqs -= b->n_single;
	part.n_shares = part.n_shared_rows = 0;
	attention(r->q, &part);
	part = *a;
	part.n_seqs = part.n_rows = b->n_single;
	attention(r->q, &part);
}

static void run_attention(const struct run *r, const struct plan_op *o) {
	const struct plan *p = r->p;
	const struct batch *b = &r->e->batch;
	const int i_kind = p->layer_kind[r->i_layer];
	const int n_kv_heads = hparam_int(&p->hp, H_KV_HEADS), head_dim = hparam_int(&p->hp, H_HEAD);
	const struct bb_kv_head *kv_heads = b->at.kv_heads + r->i_layer * n_kv_heads;
	const struct bb_kv_layout *layout;
	attention_fn *attention = kernels_attention(r->k, b->kv_type, &layout);
	const struct bb_kv_append append = {
		.k = p->acts[ACT_K], .v = p->acts[ACT_V], .ld = p->act_ld[ACT_K],
		.seqs = b->at.seqs[i_kind], .n_seqs = b->n_seqs,
		.kv_heads = kv_heads,
		.n_kv_heads = n_kv_heads, .head_dim = head_dim, .kv_group = r->e->kv_group,
		.type = b->kv_type, .layout = layout, .n_rows = r->n_rows,
		.cs = o->fused != NULL ? p->ropes[o->fused->i_rope].table : NULL,
		.q = o->in, .n_pairs = hparam_int(&p->hp, H_ROPE_PAIRS),
		.n_heads = hparam_int(&p->hp, H_HEADS),
	};
	kv_append(r->q, &append);
	const struct bb_attention args = {
		.out = o->out, .queries = o->in, .ld_out = o->ld_out, .ld_q = o->ld_in,
		.seqs = b->at.seqs[i_kind], .n_seqs = b->n_seqs,
		.kv_heads = kv_heads,
		.n_heads = hparam_int(&p->hp, H_HEADS), .n_kv_heads = n_kv_heads, .head_dim = head_dim,
		.kv_group = r->e->kv_group, .window = p->kinds[i_kind].window,
		.scale = (float)p->hp.v[H_ATTN_SCALE],
		.scratch = b->scratch, .scratch_bytes = b->scratch_bytes,
		.n_rows = r->n_rows, .max_kept = b->max_kept,
		.shares = b->at.shares[i_kind], .n_shares = b->n_shares,
		.n_shared_rows = b->n_shared_rows,
		.prepared = o->gives != NULL ? p->prepared : NULL,
	};
	attend(r, attention, &args);
}

static void run_mlstm(const struct run *r, const struct plan_op *o) {
	const struct plan *p = r->p;
	const struct bb_hparams *hp = &p->hp;
	const struct batch *b = &r->e->batch;
	const int ld = o->ld_in, n_heads = hparam_int(hp, H_LSTM_HEADS);
	const struct bb_mlstm a = { .y = o->out, .q = p->acts[ACT_LSTM_Q], .k = p->acts[ACT_LSTM_K],
		.v = o->in, .gate_i = p->acts[ACT_LSTM_I], .gate_f = p->acts[ACT_LSTM_F], .ld_y = ld,
		.ld_qk = ld, .ld_v = ld, .ld_gate = ld, .n_heads = n_heads,
		.dim_k = hparam_int(hp, H_LSTM_QK_WIDTH) / n_heads, .dim_v = o->dim / n_heads,
		.cap = (float)hp->v[H_LSTM_GATE_CAP], .eps = (float)hp->v[H_LSTM_EPS],
		.seqs = b->at.states, .n_seqs = b->n_seqs, .state_at = o->state_at };
	r->k->mlstm(r->q, &a);
}

static void run_delta(const struct run *r, const struct plan_op *o) {
	const struct plan *p = r->p;
	const struct bb_hparams *hp = &p->hp;
	const struct batch *b = &r->e->batch;
	const int ld = o->ld_in, n_heads = hparam_int(hp, H_DELTA_HEADS);
	const struct bb_delta a = { .y = o->out, .q = p->acts[ACT_DELTA_Q], .k = p->acts[ACT_DELTA_K],
		.v = o->in, .dt = p->acts[ACT_DELTA_A], .gate_b = p->acts[ACT_DELTA_B], .ld_y = ld,
		.ld_qk = ld, .ld_v = ld, .ld_gate = ld, .a = o->w, .dt_bias = o->bias, .n_heads = n_heads,
		.n_key_heads = hparam_int(hp, H_DELTA_KEY_HEADS), .dim_k = hparam_int(hp, H_DELTA_KEY),
		.dim_v = o->dim / n_heads, .seqs = b->at.states, .n_seqs = b->n_seqs,
		.state_at = o->state_at };
	r->k->delta(r->q, &a);
}

static void run_rg_lru(const struct run *r, const struct plan_op *o) {
	const struct plan *p = r->p;
	const struct batch *b = &r->e->batch;
	const struct bb_rg_lru a = { .y = o->out, .x = o->in, .gate_r = p->acts[ACT_LRU_R],
		.gate_i = p->acts[ACT_LRU_I], .ld_y = o->ld_out, .ld_x = o->ld_in, .ld_gate = o->ld_in,
		.log_a = o->w, .dim = o->dim, .seqs = b->at.states, .n_seqs = b->n_seqs,
		.state_at = o->state_at };
	r->k->rg_lru(r->q, &a);
}

static void run_scan(const struct run *r, const struct plan_op *o) {
	const struct plan *p = r->p;
	const struct bb_hparams *hp = &p->hp;
	const struct batch *b = &r->e->batch;
	const int ld = o->ld_in, n_heads = hparam_int(hp, H_SSM_HEADS);
	const float *B = p->acts[ACT_SSM_B], *C = p->acts[ACT_SSM_C], *dt = p->acts[ACT_SSM_DT];
	if (o->kind == OP_CONV || o->kind == OP_CONV_SILU) {
		const struct bb_conv a = { .y = o->out, .x = o->in, .ld_y = ld, .ld_x = ld, .w = o->w,
			.bias = o->bias, .dim = o->dim, .width = hparam_int(hp, H_SSM_CONV),
			.silu = o->kind == OP_CONV_SILU, .seqs = b->at.states, .n_seqs = b->n_seqs,
			.state_at = o->state_at };
		r->k->conv(r->q, &a);
	} else if (o->kind == OP_SCAN) {
		const struct bb_scan a = { .y = o->out, .x = o->in, .dt = dt, .b = B, .c = C, .ld_y = ld,
			.ld_x = ld, .ld_dt = ld, .ld_bc = ld, .a = o->w, .dt_bias = o->bias, .skip = o->skip,
			.dim = o->dim, .n_state = hparam_int(hp, H_SSM_STATE), .seqs = b->at.states,
			.n_seqs = b->n_seqs, .state_at = o->state_at };
		r->k->scan(r->q, &a);
	} else {
		const double most = o->scalar_of[1] != H_NONE ? hp->v[o->scalar_of[1]] : 0;
		const struct bb_ssd a = { .y = o->out, .x = o->in, .dt = dt, .b = B, .c = C, .ld_y = ld,
			.ld_x = ld, .ld_dt = ld, .ld_bc = ld, .a = o->w, .dt_bias = o->bias, .skip = o->skip,
			.dt_min = o->scalar_of[0] != H_NONE ? o->scalar[0] : 0,
			.dt_max = most > 0 ? (float)most : INFINITY, .n_heads = n_heads,
			.head_dim = o->dim / n_heads, .n_groups = hparam_int(hp, H_SSM_GROUPS),
			.n_state = hparam_int(hp, H_SSM_STATE), .seqs = b->at.states,
			.n_seqs = b->n_seqs, .state_at = o->state_at };
		r->k->ssd(r->q, &a);
	}
}

static void run_recurrent(const struct run *r, const struct plan_op *o) {
	(o->kind == OP_MLSTM ? run_mlstm : o->kind == OP_DELTA ? run_delta
		: o->kind == OP_RG_LRU ? run_rg_lru : run_scan)(r, o);
}

/* What RWKV brought. All of the group of WKV_R are side by side. */
static void run_wkv(const struct run *r, const struct plan_op *o) {
	const struct plan *p = r->p;
	const struct batch *b = &r->e->batch;
	float *const *acts = p->acts;
	const int n_heads = hparam_int(&p->hp, H_WKV_HEADS), ld = p->act_ld[ACT_WKV_R];
	const int head_dim = hparam_int(&p->hp, H_WKV_HEAD);
	if (o->kind == OP_SHIFT) {
		const int dim = form_width(&p->hp, o->in_act);
		const struct bb_shift a = { .y = o->out, .x = o->in, .ld_y = o->ld_out, .ld_x = o->ld_in,
			.mix = o->w, .dim = dim, .n_mixes = o->dim / dim, .seqs = b->at.states,
			.n_seqs = b->n_seqs, .state_at = o->state_at };
		r->k->shift(r->q, &a);
	} else if (o->kind == OP_LERP) {
		r->k->lerp(r->q, o->out, o->ld_out, o->in, o->ld_in, o->in2, p->act_ld[o->in2_act],
			o->w != NULL ? o->w : o->out, o->w != NULL ? 0 : o->ld_out, r->n_rows, o->dim);
	} else if (o->kind == OP_WKV7_KEYS) {
		const struct bb_wkv7_keys a = { .down = o->out, .k = acts[ACT_WKV_K],
			.a = acts[ACT_WKV_B], .k_k = o->w, .k_a = o->skip, .scale = o->scalar[0], .ld = ld,
			.n_rows = r->n_rows, .n_heads = n_heads, .head_dim = head_dim };
		r->k->wkv7_keys(r->q, &a);
	} else if (o->kind == OP_WKV6) {
		const struct bb_wkv6 a = { .y = o->out, .r = o->in, .w = acts[ACT_WKV_W],
			.k = acts[ACT_WKV_K], .v = acts[ACT_WKV_V], .u = o->w, .ld_y = ld, .ld = ld,
			.n_heads = n_heads, .head_dim = head_dim, .seqs = b->at.states, .n_seqs = b->n_seqs,
			.state_at = o->state_at };
		r->k->wkv6(r->q, &a);
	} else if (o->kind == OP_WKV7) {
		const struct bb_wkv7 a = { .y = o->out, .r = o->in, .w = acts[ACT_WKV_W],
			.k = acts[ACT_WKV_K], .v = acts[ACT_WKV_V], .a = acts[ACT_WKV_A],
			.b = acts[ACT_WKV_B], .ld_y = ld, .ld = ld, .n_heads = n_heads, .head_dim = head_dim,
			.seqs = b->at.states, .n_seqs = b->n_seqs, .state_at = o->state_at };
		r->k->wkv7(r->q, &a);
	} else {
		const struct bb_wkv_out a = { .y = o->out, .r = acts[ACT_WKV_R], .k = acts[ACT_WKV_K],
			.v = acts[ACT_WKV_V], .gate = acts[ACT_WKV_G], .w = o->w, .bias = o->bias,
			.r_k = o->skip, .ld = ld, .n_rows = r->n_rows, .n_heads = n_heads,
			.head_dim = head_dim };
		r->k->wkv_out(r->q, &a);
	}
}

static void run_map(const struct run *r, const struct plan_op *o) {
	static const enum bb_map maps[OP_COUNT] = { [OP_COPY] = BB_MAP_COPY, [OP_PLACE] = BB_MAP_COPY,
		[OP_TANH] = BB_MAP_TANH, [OP_SIGMOID] = BB_MAP_SIGMOID, [OP_SILU] = BB_MAP_SILU,
		[OP_HALF] = BB_MAP_HALF, [OP_RELU2] = BB_MAP_RELU2, [OP_DECAY6] = BB_MAP_DECAY6,
		[OP_DECAY7] = BB_MAP_DECAY7 };
	r->k->map(r->q, o->out, o->ld_out, o->in, o->ld_in, r->n_rows, o->dim, maps[o->kind]);
}

/* Groups with a weight of their own are normalised one by one. */
static void run_norm(const struct run *r, const struct plan_op *o) {
	const int dim = o->dim / o->n_parts;
	for (int i = 0; i < o->n_parts; i++) {
		if (o->kind == OP_LAYERNORM) {
			r->k->layernorm(r->q, o->out + i * dim, o->ld_out, o->in + i * dim, o->ld_in,
				o->w != NULL ? o->w + i * dim : NULL, o->bias != NULL ? o->bias + i * dim : NULL,
				r->n_rows, o->n_groups, dim, norm_eps(r->p, o));
			continue;
		}
		r->k->rmsnorm(r->q, o->out + i * dim, o->ld_out, o->in + i * dim, o->ld_in,
			o->w != NULL ? o->w + i * dim : NULL, r->n_rows, o->n_groups, dim, norm_eps(r->p, o));
	}
}

static void run_gated(const struct run *r, const struct plan_op *o) {
	silu_mul_fn *fn = o->kind == OP_SILU_MUL ? r->k->silu_mul
		: o->kind == OP_GELU_MUL ? r->k->gelu_mul
		: o->kind == OP_GELU_ERF_MUL ? r->k->gelu_erf_mul
		: o->kind == OP_SIGMOID_MUL ? r->k->sigmoid_mul : r->k->mul;
	fn(r->q, o->out, o->ld_out, o->in, o->in2, o->ld_in, r->n_rows * o->n_rows, o->dim);
}

/* X and H: their rows follow each other without a gap. */
static void run_add(const struct run *r, const struct plan_op *o) {
	assert(o->ld_out == o->dim && o->ld_in == o->dim);
	r->k->add(r->q, o->out, o->in, (size_t)r->n_rows * (size_t)o->dim, o->scalar[0]);
}

static void run_heads(const struct run *r, const struct plan_op *o) {
	r->k->heads_matmul(r->q, o->out, o->ld_out, o->in, o->ld_in, o->w, o->bias, r->n_rows,
		o->n_groups, o->dim);
}

/* Rows of the table, then, over those of some token in their places, vectors, as many at a time as
 * follow each other. */
static void run_embed(const struct run *r, const struct plan_op *o) {
	const struct batch *b = &r->e->batch;
	const float scale = plan_vector_scale(r->p);
	r->k->embed(r->q, o->out, o->table_data, o->table->type, b->at.ids, r->n_rows, o->dim,
		o->scalar[0]);
	for (int i = 0, n; i < b->n_vectors; i += n) {
		const int row = b->vector_rows[i];
		for (n = 1; i + n < b->n_vectors && b->vector_rows[i + n] == row + n; n++) {
		}
		r->k->embed(r->q, o->out + (size_t)row * (size_t)o->dim, b->vectors_at, BB_F32,
			b->vector_order + i, n, o->dim, scale);
	}
}

static void run_op(const struct run *r, const struct plan_op *o) {
	switch (o->kind) {
	case OP_EMBED:
		run_embed(r, o);
		break;
	case OP_RMSNORM:
	case OP_LAYERNORM:
		run_norm(r, o);
		break;
	case OP_MATMUL:
	case OP_ADD_MATMUL:
		if (o->out_act == ACT_LOGITS) {
			run_logits(r, o);
		} else if (o->matrix->n_stack > 0) {
			multiply_experts(r, o);
		} else {
			multiply(r, o, 0, r->n_rows, o->out, o->ld_out);
		}
		break;
	case OP_ROPE:
		r->k->rope(r->q, o->out, o->ld_out, r->p->ropes[o->i_rope].table, r->n_rows, o->n_groups,
			o->dim, hparam_int(&r->p->hp, H_ROPE_PAIRS));
		break;
	case OP_ATTENTION:
		run_attention(r, o);
		break;
	case OP_SILU_MUL:
	case OP_GELU_MUL:
	case OP_GELU_ERF_MUL:
	case OP_SIGMOID_MUL:
	case OP_MUL:
		run_gated(r, o);
		break;
	case OP_ADD:
		run_add(r, o);
		break;
	case OP_CONV:
	case OP_CONV_SILU:
	case OP_SCAN:
	case OP_SSD:
	case OP_MLSTM:
	case OP_RG_LRU:
	case OP_DELTA:
		run_recurrent(r, o);
		break;
	case OP_HEADS_MATMUL:
		run_heads(r, o);
		break;
	case OP_COPY:
	case OP_PLACE:
	case OP_TANH:
	case OP_SIGMOID:
	case OP_SILU:
	case OP_HALF:
	case OP_RELU2:
	case OP_DECAY6:
	case OP_DECAY7:
		run_map(r, o);
		break;
	case OP_LERP:
	case OP_SHIFT:
	case OP_WKV7_KEYS:
	case OP_WKV6:
	case OP_WKV7:
	case OP_WKV_OUT:
		run_wkv(r, o);
		break;
	case OP_ROUTE:
	case OP_ROUTE_CHOSEN:
	case OP_ROUTE_SIGMOID:
	case OP_COMBINE:
		(o->kind == OP_COMBINE ? run_combine : run_route)(r, o);
		break;
	case OP_END:
	case OP_COUNT:
		assert(!"not an operation");
	}
}

static void run_list(const struct run *r, const struct plan_ops *list) {
	for (int i = 0; i < list->n; i++) {
		if (!plan_is_fused(list, i)) {
			run_op(r, &list->ops[i]);
			if (r->e->taps != NULL) {
				taps_after(r->e, &list->ops[i], r->i_layer, r->n_rows);
			}
		}
	}
}

/* Rows for unembed, n of those that the batch lists, one below the other. */
static void gather_rows(const struct run *r, int first, int n) {
	r->k->embed(r->q, r->p->out_rows, r->p->acts[ACT_X], BB_F32, r->e->batch.at.out_row + first, n,
		r->p->act_ld[ACT_X], 1);
}

/* Rows that are wanted as they are before the head: each op on the way there by itself, be it fused
 * with the head's product or not. */
static void run_hidden(struct run *r) {
	const struct batch *b = &r->e->batch;
	const struct plan_ops *list = &r->p->unembed;
	const struct plan_op *head = &list->ops[list->n - 1];
	const size_t width = (size_t)hparam_int(&r->p->hp, H_EMBD);
	gather_rows(r, b->n_out, b->n_hidden);
	r->n_rows = b->n_hidden;
	for (int i = 0; i + 1 < list->n; i++) {
		run_op(r, &list->ops[i]);
	}
	assert(head->out_act == ACT_LOGITS);
	for (int i = 0; i < b->n_hidden; i++) {
		memory_out(r->p->where, b->hidden[i], head->in + (size_t)i * (size_t)head->ld_in,
			width * sizeof(float));
	}
}

void graph_run(struct bb_engine *e, bool keeps_logits) {
	const struct plan *p = &e->plan;
	struct run r = { e, p, &e->kernels, e->memory.queue, e->batch.n_rows, -1, keeps_logits };
	for (int i = 0; i < p->n_paged; i++) {
		if (p->ropes[i].inv_freq != NULL) {
			e->kernels.rope_table(r.q, p->ropes[i].table, e->batch.at.pos, p->ropes[i].inv_freq,
				r.n_rows, hparam_int(&p->hp, H_ROPE_PAIRS), p->ropes[i].scale);
		}
	}
	run_list(&r, &p->embed);
	for (r.i_layer = 0; r.i_layer < p->n_layers; r.i_layer++) {
		run_list(&r, &p->layers[r.i_layer]);
	}
	if (e->batch.n_out > 0) {
		gather_rows(&r, 0, e->batch.n_out);
		r.n_rows = e->batch.n_out;
		run_list(&r, &p->unembed);
	}
	if (e->batch.n_hidden > 0) {
		run_hidden(&r);
	}
}
