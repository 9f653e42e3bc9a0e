/* SPDX-License-Identifier: Apache-2.0
 *
 * What work costs. Operations: 2 for each weight that a row is multiplied with, of a mixture those
 * of the experts that it chose; 4 a channel of a head for each key that it sees; what scans do to
 * their states. What is done to single elements (norms, gates, rotation) isn't counted. Bytes: what
 * comes from memory once a step, be it used for many rows or again from a cache. */
#include "cost.h"
#include "engine.h"
#include "form.h"

#include <string.h>

/* Operations on each number of a state, for one row: it decays, takes its input and is read. */
enum {
	SCAN_FLOPS = 6,  /* with the step that makes its decay, dt A */
	SSD_FLOPS = 5,
	MLSTM_FLOPS = 5,
	DELTA_FLOPS = 7, /* the delta rule reads it twice */
	WKV6_FLOPS = 7,  /* u k v is added for the reading alone */
	WKV7_FLOPS = 9,  /* the same, and takes what it removes */
	RG_LRU_FLOPS = 6,
};

/* ---- once ---- */

/* Of a row, by what isn't a product with a packed matrix. */
static double small_flops(const struct bb_hparams *hp, const struct plan_op *o) {
	const double dim = o->dim;
	switch (o->kind) {
	case OP_HEADS_MATMUL:
		return 2.0 * o->n_groups * dim * dim;
	case OP_CONV:
	case OP_CONV_SILU:
		return 2 * dim * hp->v[H_SSM_CONV];
	case OP_SCAN:
		return SCAN_FLOPS * dim * hp->v[H_SSM_STATE];
	case OP_SSD:
		return SSD_FLOPS * dim * hp->v[H_SSM_STATE];
	case OP_MLSTM:
		return MLSTM_FLOPS * dim * hp->v[H_LSTM_QK_WIDTH] / hp->v[H_LSTM_HEADS];
	case OP_DELTA:
		return DELTA_FLOPS * dim * hp->v[H_DELTA_KEY];
	case OP_RG_LRU:
		return RG_LRU_FLOPS * dim;
	case OP_WKV6:
		return WKV6_FLOPS * hp->v[H_WKV_WIDTH] * hp->v[H_WKV_HEAD];
	case OP_WKV7:
		return WKV7_FLOPS * hp->v[H_WKV_WIDTH] * hp->v[H_WKV_HEAD];
	default:
		return 0;
	}
}

static double flops_of(const struct bb_hparams *hp, const struct plan_op *o) {
	const struct plan_matrix *m = o->matrix;
	if (m == NULL) {
		return small_flops(hp, o);
	}
	const double n_experts = m->n_stack > 0 ? hp->v[H_EXPERTS_USED] : 1;
	return 2.0 * m->n * m->k * n_experts;
}

static void add_list(struct cost *c, const struct plan *p, const struct plan_ops *list) {
	for (int i = 0; i < list->n; i++) {
		const struct plan_matrix *m = list->ops[i].matrix;
		c->row_flops += flops_of(&p->hp, &list->ops[i]);
		if (m != NULL && m->n_stack > 0) {
			c->expert_bytes += m->bytes / (size_t)m->n_stack;
		} else if (m != NULL) {
			c->weight_bytes += m->bytes;
		}
	}
}

void cost_init(struct cost *c, const struct plan *p) {
	const struct bb_hparams *hp = &p->hp;
	memset(c, 0, sizeof(*c));
	add_list(c, p, &p->embed);
	for (int i = 0; i < p->n_layers; i++) {
		add_list(c, p, &p->layers[i]);
	}
	for (int i = 0; i < p->unembed.n; i++) {
		const struct plan_matrix *m = p->unembed.ops[i].matrix;
		c->head_flops += flops_of(hp, &p->unembed.ops[i]);
		c->head_bytes += m != NULL ? m->bytes : 0;
	}
	for (int i = 0; i < p->n_paged; i++) {
		c->key_flops[i] = 4 * hp->v[H_HEAD] * hp->v[H_HEADS] * p->kinds[i].n_layers;
	}
}

/* ---- operations ---- */

/* Keys that the rows at [first, first + n) see: each itself and those before, or `window` of them
 * in all. */
static double keys_seen(int first, int n, int window) {
	const double all = first + (double)n, most = window;
	if (window == 0 || all <= most) {
		return (all * (all + 1) - first * (first + 1.0)) / 2;
	}
	if (first >= window) {
		return n * most;
	}
	return keys_seen(first, window - first, 0) + (all - most) * most;
}

double cost_flops(const struct bb_engine *e, int first, int n, int n_logits) {
	const struct cost *c = &e->cost;
	double flops = n * c->row_flops + n_logits * c->head_flops;
	for (int i = 0; i < e->plan.n_paged; i++) {
		flops += c->key_flops[i] * keys_seen(first, n, e->plan.kinds[i].window);
	}
	return flops;
}

double bb_engine_flops(const struct bb_engine *e, int first, int n_tokens) {
	return cost_flops(e, first, n_tokens, n_tokens > 0);
}

/* ---- bytes ---- */

static size_t min_size(size_t a, size_t b) {
	return a < b ? a : b;
}

/* Rows may choose the same experts; which ones a device alone knows, so it's the most that they may
 * have chosen. */
static size_t weight_bytes(const struct bb_engine *e) {
	const struct cost *c = &e->cost;
	const struct bb_hparams *hp = &e->plan.hp;
	size_t bytes = c->weight_bytes + c->head_bytes * (size_t)graph_head_reads(e);
	if (c->expert_bytes > 0) {
		const size_t used = (size_t)e->batch.n_rows * (size_t)hparam_int(hp, H_EXPERTS_USED);
		bytes += c->expert_bytes * min_size(used, (size_t)hparam_int(hp, H_EXPERTS));
	}
	return bytes;
}

/* How often the pages of a share are read for its sequences. */
static int64_t share_reads(const struct bb_engine *e, const struct bb_attention_seq *share) {
	const struct bb_hparams *hp = &e->plan.hp;
	if (!memory_is_host(&e->memory)) {
		return 1;
	}
	const int most = strcmp(e->isa, "c") == 0 ? 1 : attention_share_rows(hparam_int(hp, H_HEADS),
		hparam_int(hp, H_KV_HEADS), hparam_int(hp, H_HEAD));
	return (share->n_rows + most - 1) / most;
}

/* Kept tokens of a kind of layer that the step's attention reads, its own among them. */
static int64_t tokens_read(const struct bb_engine *e, int i_kind) {
	const struct batch *b = &e->batch;
	const int window = e->plan.kinds[i_kind].window;
	int64_t n = 0;
	for (int i = 0; i < b->n_seqs; i++) {
		const struct bb_attention_seq *seq = &b->on_host.seqs[i_kind][i];
		const int before = b->on_host.kept[i_kind][i].n_before;
		const int unseen = window > 0 && before + 1 > window ? before + 1 - window : 0;
		n += before + seq->n_rows - unseen;
	}
	for (int i = 0; window == 0 && i < b->n_shares; i++) {
		const struct bb_attention_seq *share = &b->on_host.shares[i_kind][i];
		n -= (int64_t)share->n_common * (share->n_rows - share_reads(e, share));
	}
	return n;
}

void cost_add_step(struct bb_engine *e, const struct bb_step_item *items, int n_items) {
	const struct batch *b = &e->batch;
	struct bb_engine_stats *stats = &e->stats;
	double flops = b->n_out * e->cost.head_flops;
	stats->n_steps++;
	stats->n_rows += (uint64_t)b->n_rows;
	stats->weight_bytes += weight_bytes(e);
	stats->state_bytes += (uint64_t)b->n_seqs * e->plan.state_floats * sizeof(float);
	for (int i = 0; i < e->plan.n_paged; i++) {
		const size_t row = (size_t)e->plan.kinds[i].n_layers *
			(size_t)hparam_int(&e->plan.hp, H_KV_HEADS) * engine_slab_bytes(e, b->kv_type) /
			BB_PAGE;
		stats->kv_bytes += (uint64_t)tokens_read(e, i) * row;
	}
	for (int i = 0; i < n_items; i++) {
		flops += cost_flops(e, bb_context_length(items[i].context), items[i].n_tokens, 0);
	}
	stats->flops += flops;
}
