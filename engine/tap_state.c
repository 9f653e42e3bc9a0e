/* SPDX-License-Identifier: Apache-2.0
 *
 * What a context keeps, as numbers in an order that doesn't depend on the device: keys and values
 * of a layer, and the parts of a recurrent one's state. */
#include "engine.h"
#include "form.h"

#include <assert.h>
#include <string.h>

/* ---- keys and values ---- */

static bool keeps_tokens(const struct plan *p, int layer) {
	return layer >= 0 && layer < p->n_layers && p->layer_kind[layer] < p->n_paged;
}

bool bb_attention_shape(const struct bb_engine *e, int layer, struct bb_attention_shape *out) {
	const struct plan *p = &e->plan;
	assert(e->is_planned);
	*out = (struct bb_attention_shape){ 0 };
	if (!keeps_tokens(p, layer)) {
		return false;
	}
	out->n_heads = hparam_int(&p->hp, H_HEADS);
	out->n_kv_heads = hparam_int(&p->hp, H_KV_HEADS);
	out->head_dim = hparam_int(&p->hp, H_HEAD);
	out->window = p->kinds[p->layer_kind[layer]].window;
	return true;
}

static bool check_kv(const struct bb_context *c, int layer, int first, int n_tokens,
	struct bb_error *err) {
	const struct plan *p = &c->engine->plan;
	assert(first >= 0 && n_tokens >= 1);
	if (!keeps_tokens(p, layer)) {
		return base_fail(err, BB_ERR_USAGE, layer >= 0 && layer < p->n_layers
			? "layer %d keeps no keys and values" : "layer %d, expected 0 to %d", layer,
			p->n_layers - 1);
	}
	const int held = c->tables[p->layer_kind[layer]].first_page * BB_PAGE;
	const int length = bb_context_length(c);
	return (first >= held && n_tokens <= length - first) || base_fail(err, BB_ERR_CONTEXT,
		"tokens %d to %lld of layer %d, which keeps %d to %d", first,
		(long long)first + n_tokens - 1, layer, held, length - 1);
}

/* Tokens [first, end) of one head, all from page i. */
static void read_slab(const struct bb_context *c, const uint8_t *slab, int first, int end, float *k,
	float *v) {
	const struct bb_engine *e = c->engine;
	const struct bb_kv_layout *layout = engine_kv_layout(e, c->kv_type);
	const int head_dim = hparam_int(&e->plan.hp, H_HEAD);
	for (int t = first; t < end; t++) {
		const size_t at = (size_t)(t - first) * (size_t)head_dim;
		layout->read(slab, c->kv_type, head_dim, e->kv_group, t % BB_PAGE,
			k != NULL ? k + at : NULL, v != NULL ? v + at : NULL);
	}
}

bool bb_context_kv(const struct bb_context *c, int layer, int first, int n_tokens, float *k,
	float *v, struct bb_error *err) {
	const struct bb_engine *e = c->engine;
	if (!check_kv(c, layer, first, n_tokens, err)) {
		return false;
	}
	const struct kv_table *table = &c->tables[e->plan.layer_kind[layer]];
	const size_t slab_bytes = engine_slab_bytes(e, c->kv_type);
	const int n_heads = hparam_int(&e->plan.hp, H_KV_HEADS);
	const size_t head_dim = (size_t)hparam_int(&e->plan.hp, H_HEAD);
	uint8_t *slab = base_alloc(slab_bytes, 1);
	if (slab == NULL) {
		return base_no_memory(err, "keys and values", slab_bytes);
	}
	bool ok = true;
	for (int h = 0; ok && h < n_heads; h++) {
		const size_t offset = slab_bytes *
			((size_t)e->plan.layer_index[layer] * (size_t)n_heads + (size_t)h);
		for (int t = first, end; ok && t < first + n_tokens; t = end) {
			const uint8_t *page = kv_page(table, t / BB_PAGE);
			end = (t / BB_PAGE + 1) * BB_PAGE;
			end = end < first + n_tokens ? end : first + n_tokens;
			memory_out(&e->memory, slab, page + offset, slab_bytes);
			ok = memory_wait(&e->memory, err);
			const size_t at = ((size_t)h * (size_t)n_tokens + (size_t)(t - first)) * head_dim;
			if (ok) {
				read_slab(c, slab, t, end, k != NULL ? k + at : NULL, v != NULL ? v + at : NULL);
			}
		}
	}
	base_free(slab);
	return ok;
}

/* ---- states ---- */

/* A part of what an op keeps, and where it begins there. */
struct part {
	const char *name; /* behind the op's, or NULL */
	int shape[3], n_axes;
	size_t at;
};

/* Part i of the state of an op, as recurrent.h lays it out; false: there are no more. */
static bool part_of(const struct plan *p, const struct plan_op *o, int i, struct part *out) {
	const struct bb_hparams *hp = &p->hp;
	const int dim = o->dim, n_lstm = hparam_int(hp, H_LSTM_HEADS);
	*out = (struct part){ 0 };
	if (i > (o->kind == OP_MLSTM ? 2 : 0)) {
		return false;
	}
	switch (o->kind) {
	case OP_CONV:
	case OP_CONV_SILU:
		*out = (struct part){ NULL, { hparam_int(hp, H_SSM_CONV) - 1, dim }, 2, 0 };
		return true;
	case OP_SCAN:
		*out = (struct part){ NULL, { hparam_int(hp, H_SSM_STATE), dim }, 2, 0 };
		return true;
	case OP_SSD:
		*out = (struct part){ NULL, { hparam_int(hp, H_SSM_HEADS), hparam_int(hp, H_SSM_STATE),
			dim / hparam_int(hp, H_SSM_HEADS) }, 3, 0 };
		return true;
	case OP_MLSTM: {
		const int dim_k = hparam_int(hp, H_LSTM_QK_WIDTH) / n_lstm, dim_v = dim / n_lstm;
		const size_t keys = (size_t)n_lstm * (size_t)dim_k, c = keys * (size_t)dim_v;
		const struct part parts[] = { { ".c", { n_lstm, dim_k, dim_v }, 3, 0 },
			{ ".n", { n_lstm, dim_k }, 2, c }, { ".m", { n_lstm }, 1, c + keys } };
		*out = parts[i];
		return true;
	}
	case OP_RG_LRU:
		*out = (struct part){ NULL, { dim }, 1, 0 };
		return true;
	case OP_SHIFT:
		*out = (struct part){ NULL, { form_width(hp, o->in_act) }, 1, 0 };
		return true;
	case OP_WKV6:
	case OP_WKV7:
		*out = (struct part){ NULL, { hparam_int(hp, H_WKV_HEADS), hparam_int(hp, H_WKV_HEAD),
			hparam_int(hp, H_WKV_HEAD) }, 3, 0 };
		return true;
	case OP_DELTA:
		*out = (struct part){ NULL, { hparam_int(hp, H_DELTA_HEADS), hparam_int(hp, H_DELTA_KEY),
			dim / hparam_int(hp, H_DELTA_HEADS) }, 3, 0 };
		return true;
	default:
		return false;
	}
}

static bool find_part(const struct plan *p, int layer, int i, const struct plan_op **op,
	struct part *part) {
	const struct plan_ops *list = &p->layers[layer];
	for (int j = 0; j < list->n; j++) {
		for (int k = 0; part_of(p, &list->ops[j], k, part); k++) {
			if (i-- == 0) {
				*op = &list->ops[j];
				return true;
			}
		}
	}
	return false;
}

bool bb_state_part(const struct bb_engine *e, int layer, int i, struct bb_state_part *out) {
	const struct plan *p = &e->plan;
	const struct plan_op *op;
	struct part part;
	assert(e->is_planned && i >= 0);
	*out = (struct bb_state_part){ .layer = layer };
	if (layer < 0 || layer >= p->n_layers || !find_part(p, layer, i, &op, &part)) {
		return false;
	}
	int n_same = 0, number = 0;
	for (int j = 0; j < p->layers[layer].n; j++) {
		n_same += p->layers[layer].ops[j].kind == op->kind;
		number = &p->layers[layer].ops[j] == op ? n_same : number;
	}
	char count[16] = "";
	if (n_same > 1) {
		snprintf(count, sizeof(count), ".%d", number);
	}
	snprintf(out->name, sizeof(out->name), "%s%s%s", op_name(op->kind), count,
		part.name != NULL ? part.name : "");
	snprintf(out->full, sizeof(out->full), "blk.%d.%s", layer, out->name);
	memcpy(out->shape, part.shape, sizeof(out->shape));
	out->n_axes = part.n_axes;
	return true;
}

bool bb_context_state(const struct bb_context *c, int layer, int i, float *out,
	struct bb_error *err) {
	const struct bb_engine *e = c->engine;
	const struct plan_op *op;
	struct part part;
	assert(layer >= 0 && layer < e->plan.n_layers);
	const bool is_there = find_part(&e->plan, layer, i, &op, &part);
	assert(is_there);
	size_t n = 1;
	for (int axis = 0; axis < part.n_axes; axis++) {
		n *= (size_t)part.shape[axis];
	}
	if (!context_state_check(c, err)) {
		return false;
	}
	if (c->state == NULL) {
		memset(out, 0, n * sizeof(*out));
		return true;
	}
	memory_out(&e->memory, out, c->state->data + op->state_at + part.at, n * sizeof(*out));
	return memory_wait(&e->memory, err);
}
