/* SPDX-License-Identifier: Apache-2.0
 *
 * The planner: turns a model's op lists into operations on fixed memory. It leaves out what a
 * model of this size hasn't got, stacks products that share their input into one, turns Q and K at
 * once, and remembers when an input is prepared already. Nothing is allocated after plan_pack. */
#include "form.h"
#include "plan.h"

#include <assert.h>
#include <math.h>
#include <string.h>

/* ---- activations ---- */

static int round_up(int n, int unit) {
	return (n + unit - 1) / unit * unit;
}

/* Distance between rows of a group. An odd number of cache lines, else the rows of a panel's
 * output fall into a few sets of L1; but for rows that must follow each other without a gap. */
static int row_distance(enum bb_act first, int width) {
	const int line = 64 / (int)sizeof(float);
	const int n_lines = round_up(width, line) / line;
	return form_is_dense(first) ? width : (n_lines | 1) * line;
}

/* Columns of a group's members before `end`; ACT_COUNT: of all. */
static int group_width(const struct plan *p, enum bb_act group, enum bb_act end) {
	int width = 0;
	for (enum bb_act act = group; act < end; act++) {
		width += form_group(act) == group ? form_width(&p->hp, act) : 0;
	}
	return width;
}

static bool plan_activations(struct plan *p, struct bb_error *err) {
	const size_t rows = (size_t)p->max_rows;
	size_t offset[ACT_COUNT], total = 0;
	for (enum bb_act act = ACT_NONE + 1; act < ACT_COUNT; act++) {
		const enum bb_act group = form_group(act);
		const int width = group == act ? group_width(p, act, ACT_COUNT) : 0;
		if (group == act) {
			p->act_ld[act] = width > 0 ? row_distance(act, width) : 0;
			offset[act] = total;
			total += rows * (size_t)form_rows(&p->hp, act) *
				(size_t)round_up(p->act_ld[act], 16) * sizeof(float);
		} else if (group != ACT_NONE) {
			assert(group < act); /* the first of a group names it */
			p->act_ld[act] = p->act_ld[group];
		}
	}
	const size_t out_offset = total;
	total += rows * (size_t)p->act_ld[ACT_X] * sizeof(float);
	const size_t logits_offset = total;
	p->logits_rows = memory_is_host(p->where) ? LOGITS_ROWS
		: p->max_rows < LOGITS_ROWS_DEVICE ? p->max_rows : LOGITS_ROWS_DEVICE;
	total += (size_t)p->logits_rows * (size_t)round_up(form_width(&p->hp, ACT_LOGITS), 16) *
		sizeof(float);
	const size_t choice_offset = total;
	const size_t n_pairs = rows * (size_t)round_up(hparam_int(&p->hp, H_EXPERTS_USED), 16);
	total += (2 * n_pairs + (size_t)round_up(form_width(&p->hp, ACT_ROUTER) + 1, 16)) *
		sizeof(int32_t);
	const size_t rope_floats = rows * (size_t)round_up(hparam_int(&p->hp, H_ROPE_DIM), 16);
	const size_t rope_offset = total;
	total += (size_t)p->n_paged * rope_floats * sizeof(float);
	p->memory_bytes = total;
	p->memory = memory_map(p->where, total, "activations", err);
	if (p->memory == NULL) {
		return false;
	}
	uint8_t *const base = p->memory;
	for (enum bb_act act = ACT_NONE + 1; act < ACT_COUNT; act++) {
		const enum bb_act group = form_group(act);
		p->acts[act] = group == ACT_NONE ? NULL
			: (float *)(void *)(base + offset[group]) + group_width(p, group, act);
	}
	p->out_rows = (float *)(base + out_offset);
	p->acts[ACT_LOGITS] = (float *)(base + logits_offset);
	p->choice.experts = (int32_t *)(base + choice_offset);
	p->choice.pairs = p->choice.experts + n_pairs;
	p->choice.offsets = p->choice.pairs + n_pairs;
	for (int i = 0; i < p->n_paged; i++) {
		p->ropes[i].table = (float *)(base + rope_offset) + (size_t)i * rope_floats;
	}
	return true;
}

/* ---- RoPE ---- */

/* YaRN (arXiv:2309.00071): pairs that turn often keep their frequency, those that turn less than
 * once within the original context are interpolated, with a linear ramp between. */
static double yarn_ramp(const struct bb_hparams *hp, double base, int i) {
	const double n_dims = hp->v[H_ROPE_DIM], original = hp->v[H_ROPE_ORIGINAL];
	const double turns[2] = { hp->v[H_YARN_FAST], hp->v[H_YARN_SLOW] };
	double edge[2];
	for (int j = 0; j < 2; j++) {
		edge[j] = n_dims * log(original / (turns[j] * 2 * M_PI)) / (2 * log(base));
	}
	const double low = fmax(0, floor(edge[0])), high = fmin(n_dims - 1, ceil(edge[1]));
	const double y = (i - low) / fmax(0.001, high - low);
	return (1 - fmin(1, fmax(0, y))) * hp->v[H_YARN_EXT];
}

/* Llama 3.1 (its model card's apply_scaling): waves that fit often into the original context keep
 * their frequency, those that hardly fit are interpolated, with a ramp between that is linear in
 * how often they fit. */
static double llama3_keep(const struct bb_hparams *hp, double frequency) {
	const double fits = hp->v[H_ROPE_ORIGINAL] * frequency / (2 * M_PI);
	const double low = hp->v[H_ROPE_LOW], high = hp->v[H_ROPE_HIGH];
	return fmin(1, fmax(0, (fits - low) / (high - low)));
}

static bool plan_rope(struct plan *p, int i_kind, struct bb_error *err) {
	const struct bb_layer_kind *kind = &p->model->kinds[i_kind];
	struct plan_rope *rope = &p->ropes[i_kind];
	const struct bb_hparams *hp = &p->hp;
	const int n_pairs = hparam_int(hp, H_ROPE_PAIRS);
	const double base = hp->v[kind->rope_base], factor = hp->v[H_ROPE_FACTOR];
	rope->scale = 1;
	double *inv_freq = base_alloc((size_t)n_pairs, sizeof(double));
	float *divisors = base_alloc((size_t)n_pairs, sizeof(float));
	if (inv_freq == NULL || divisors == NULL) {
		base_free(inv_freq);
		base_free(divisors);
		return base_no_memory(err, "RoPE frequencies", (size_t)n_pairs * sizeof(double));
	}
	const struct bb_tensor *t = kind->rope_scaled ? p->weights.global[W_ROPE_FACTORS] : NULL;
	if (t != NULL) {
		dtype_decode(divisors, t->data, t->type, n_pairs);
	}
	for (int i = 0; i < n_pairs; i++) {
		double f = pow(base, -2.0 * i / hp->v[H_ROPE_DIM]);
		if (t != NULL && divisors[i] > 0) {
			f /= divisors[i];
		}
		if (kind->rope_scaled && hp->rope_scaling == ROPE_SCALING_LINEAR) {
			f /= factor;
		} else if (kind->rope_scaled && hp->rope_scaling == ROPE_SCALING_YARN) {
			const double keep = yarn_ramp(hp, base, i);
			f = f / factor * (1 - keep) + f * keep;
		} else if (kind->rope_scaled && hp->rope_scaling == ROPE_SCALING_LLAMA3) {
			const double keep = llama3_keep(hp, f);
			f = f / factor * (1 - keep) + f * keep;
		}
		inv_freq[i] = f;
	}
	if (kind->rope_scaled && hp->rope_scaling == ROPE_SCALING_YARN && hp->v[H_YARN_EXT] != 0) {
		rope->scale = (float)(hp->v[H_YARN_ATTN] * (1 + 0.1 * log(factor)));
	}
	base_free(divisors);
	rope->inv_freq = memory_take(p->where, inv_freq, (size_t)n_pairs * sizeof(double),
		"RoPE frequencies", err);
	return rope->inv_freq != NULL;
}

/* ---- operations ---- */

struct planner {
	struct plan *p;
	int i_layer;                /* -1 in embed and unembed */
	struct bb_error *err;
	enum bb_act prepared;       /* whose prepared form is in the buffer */
	const struct bb_layout *prepared_layout;
	enum bb_dtype prepared_type;
};

static const struct bb_tensor *find_weight(const struct planner *w, enum bb_slot slot) {
	const struct weight_set *set = &w->p->weights;
	const struct bb_weight *row = set->rows[slot];
	assert(row != NULL); /* a model's op list may only name weights of its table */
	if ((row->flags & PER_LAYER) != 0) {
		return set->per_layer[(size_t)w->i_layer * W_COUNT + slot];
	}
	return set->global[slot] == NULL && slot == W_HEAD ? set->global[W_EMBED] : set->global[slot];
}

static double softplus(double x) {
	return fmax(x, 0) + log1p(exp(-fabs(x)));
}

/* n numbers of a file, as the op list expects them. In double where that isn't exact anyway. */
static void decode_small(const struct planner *w, enum bb_slot slot, const struct bb_tensor *t,
	float *out, size_t n) {
	const enum bb_transform transform = w->p->weights.names[slot]->transform;
	const enum bb_hparam factor = w->p->weights.rows[slot]->factor;
	dtype_decode(out, t->data, t->type, (int64_t)n);
	for (size_t i = 0; i < n && transform != T_NONE; i++) {
		out[i] = transform == T_PLUS_ONE ? 1 + out[i]
			: transform == T_NEGATIVE_EXP ? (float)-exp((double)out[i])
			: transform == T_LRU_DECAY ? (float)(-8 * softplus(out[i])) : out[i];
	}
	for (size_t i = 0; i < n && factor != H_NONE; i++) {
		out[i] = (float)((double)out[i] * w->p->hp.v[factor]);
	}
}

static bool plan_vector(struct planner *w, enum bb_slot slot, float **out, int dim) {
	const struct bb_tensor *t = find_weight(w, slot);
	const size_t bytes = (size_t)dim * sizeof(float);
	*out = base_alloc((size_t)dim, sizeof(float));
	if (*out == NULL) {
		return base_no_memory(w->err, t->name, bytes);
	}
	decode_small(w, slot, t, *out, (size_t)dim);
	*out = memory_take(w->p->where, *out, bytes, t->name, w->err);
	return *out != NULL;
}

/* Small weights, decoded; `transposed`: columns become rows. *out stays NULL without a tensor. */
static bool plan_small(struct planner *w, enum bb_slot slot, bool transposed, float **out) {
	const struct bb_tensor *t = slot != W_NONE ? find_weight(w, slot) : NULL;
	if (t == NULL) {
		return true;
	}
	const struct bb_weight *row = w->p->weights.rows[slot];
	const size_t rows = (size_t)hparam_int(&w->p->hp, row->rows);
	const size_t cols = row->cols != H_NONE ? (size_t)hparam_int(&w->p->hp, row->cols) : 1;
	const size_t bytes = rows * cols * sizeof(float);
	float *file = base_alloc(rows * cols, sizeof(float));
	*out = base_alloc(rows * cols, sizeof(float));
	if (file == NULL || *out == NULL) {
		base_free(file);
		base_free(*out);
		*out = NULL;
		return base_no_memory(w->err, t->name, bytes);
	}
	decode_small(w, slot, t, file, rows * cols);
	for (size_t r = 0; r < rows; r++) {
		for (size_t c = 0; c < cols; c++) {
			(*out)[transposed ? c * rows + r : r * cols + c] = file[r * cols + c];
		}
	}
	base_free(file);
	*out = memory_take(w->p->where, *out, bytes, t->name, w->err);
	return *out != NULL;
}

static bool plan_recurrent(struct planner *w, struct plan_op *o, const struct bb_op *op) {
	const bool is_transposed = op->kind != OP_SSD && op->kind != OP_SHIFT && op->kind != OP_WKV6;
	const size_t floats = form_state_floats(&w->p->hp, op);
	o->state_at = w->p->state_floats;
	o->state_floats = (floats + BB_STATE_ALIGN - 1) / BB_STATE_ALIGN * BB_STATE_ALIGN;
	o->state_rounds = form_state_rounds(&w->p->hp, op) / BB_STATE_ALIGN * BB_STATE_ALIGN;
	w->p->state_floats += o->state_floats;
	return plan_small(w, op->w, is_transposed, &o->w) &&
		plan_small(w, op->bias, false, &o->bias) && plan_small(w, op->skip, false, &o->skip);
}

/* How many matrices a weight has, if it's a stack, else 0. */
static int stack_of(const struct planner *w, enum bb_slot slot) {
	const enum bb_hparam stack = w->p->weights.rows[slot]->stack;
	return stack == H_NONE ? 0 : hparam_int(&w->p->hp, stack);
}

static bool add_source(struct planner *w, struct plan_matrix *m, const struct bb_op *op) {
	const struct bb_tensor *t = find_weight(w, op->w);
	const int i = m->n_sources++;
	const struct weight_set *set = &w->p->weights;
	m->sources[i].w = t;
	m->sources[i].experts = set->experts[op->w] == NULL ? NULL
		: set->experts[op->w] + (size_t)w->i_layer * (size_t)m->n_stack;
	m->sources[i].bias = op->bias != W_NONE ? find_weight(w, op->bias) : NULL;
	m->sources[i].name = set->names[op->w];
	m->sources[i].factor = set->rows[op->w]->factor != H_NONE
		? w->p->hp.v[set->rows[op->w]->factor] : 1;
	m->sources[i].first = m->n;
	m->sources[i].n_rows = hparam_int(&w->p->hp, w->p->weights.rows[op->w]->rows);
	m->n += m->sources[i].n_rows;
	return true;
}

/* The products after `op` that can be stacked on it. */
static bool can_stack(const struct planner *w, const struct plan_matrix *m,
	const struct bb_op *op) {
	const struct bb_op *next = op + 1;
	if (next->kind != OP_MATMUL || op->kind != OP_MATMUL || next->in != op->in ||
		m->n_sources == MAX_STACK || m->n % 16 != 0 || next->out == ACT_LOGITS ||
		op->out == ACT_LOGITS) {
		return false;
	}
	const float *after = w->p->acts[op->out] + form_span(&w->p->hp, op->out, op->last);
	return w->p->acts[next->out] == after && find_weight(w, next->w)->type == m->type &&
		stack_of(w, next->w) == m->n_stack;
}

/* That rows of n_in columns are whole blocks. */
static bool check_blocks(struct planner *w, int n_in, const struct bb_tensor *t) {
	if (n_in % tensor_block_elems(t->type) != 0) {
		return base_fail(w->err, BB_ERR_FORMAT,
			"tensor '%s': rows of %d columns in blocks of %d (%s)",
			t->name, n_in, tensor_block_elems(t->type), tensor_type_name(t->type));
	}
	return true;
}

/* Whether products of two types prepare x alike. */
static bool has_one_form(const struct bb_layout *layout, enum bb_dtype a, enum bb_dtype b) {
	return a == b || (layout->fuses != NULL && layout->fuses(a) && layout->fuses(b));
}

/* The matrix before m that is of the same tensors; NULL: there is none. */
static struct plan_matrix *same_matrix(struct plan *p, const struct plan_matrix *m) {
	for (struct plan_matrix *e = p->matrices; e < m; e++) {
		bool is_same = e->n_sources == m->n_sources;
		for (int i = 0; is_same && i < m->n_sources; i++) {
			is_same = e->sources[i].w == m->sources[i].w &&
				e->sources[i].name == m->sources[i].name && /* the same part of it */
				e->sources[i].factor == m->sources[i].factor &&
				e->sources[i].bias == m->sources[i].bias;
		}
		if (is_same) {
			return e;
		}
	}
	return NULL;
}

/* Plans one product with everything that stacks on it; *n_ops is how many rows of the list it
 * took. */
static bool plan_product(struct planner *w, struct plan_op *o, const struct bb_op *op, int *n_ops) {
	struct plan *p = w->p;
	assert(p->n_matrices < p->max_matrices);
	struct plan_matrix *m = &p->matrices[p->n_matrices++];
	const struct bb_tensor *t = find_weight(w, op->w);
	m->type = t->type;
	m->k = form_width(&p->hp, op->in);
	m->n_stack = stack_of(w, op->w);
	m->fn = kernels_matmul(p->kernels, m->type, &m->layout);
	if (m->fn == NULL) {
		return base_fail(w->err, BB_ERR_UNSUPPORTED, "tensor '%s': no matrix product for type %s",
			t->name, tensor_type_name(t->type));
	}
	*n_ops = 0;
	for (;; op++) {
		if (!check_blocks(w, m->k, find_weight(w, op->w)) || !add_source(w, m, op)) {
			return false;
		}
		++*n_ops;
		if (!can_stack(w, m, op)) {
			break;
		}
	}
	struct plan_matrix *same = same_matrix(p, m);
	if (same != NULL) { /* packed once */
		memset(m, 0, sizeof(*m));
		p->n_matrices--;
		m = same;
	}
	m->n_uses++;
	m->bytes = m->layout->weight_bytes(m->type, m->n, m->k) *
		(size_t)(m->n_stack > 0 ? m->n_stack : 1);
	o->matrix = m;
	if (m->n_stack > 0) { /* prepares the rows of each expert itself, in the same buffer */
		w->prepared = ACT_NONE;
		return true;
	}
	o->prepare = !(w->prepared == op->in && w->prepared_layout == m->layout &&
		has_one_form(m->layout, w->prepared_type, m->type));
	w->prepared = op->in;
	w->prepared_layout = m->layout;
	w->prepared_type = m->type;
	return true;
}

/* Both turn their heads, and lie side by side. */
static bool is_beside(const struct plan *p, const struct bb_op *op, const struct bb_op *next) {
	return next->kind == OP_ROPE && op->in == op->out && next->in == next->out &&
		p->acts[next->out] == p->acts[op->out] + form_width(&p->hp, op->out);
}

static bool plan_one(struct planner *w, struct plan_op *o, const struct bb_op *op, int *n_ops) {
	struct plan *p = w->p;
	*n_ops = 1;
	o->kind = op->kind;
	o->out_act = op->out;
	o->in_act = op->in;
	o->in2_act = op->in2;
	o->out = p->acts[op->out];
	o->in = p->acts[op->in];
	o->in2 = p->acts[op->in2];
	o->ld_out = p->act_ld[op->out];
	o->ld_in = p->act_ld[op->in];
	o->dim = form_span(&p->hp, op->out, op->last);
	o->n_groups = 1;
	o->n_rows = form_rows(&p->hp, op->out);
	for (int i = 0; i < MAX_SCALARS; i++) {
		o->scalar_of[i] = op->scalar[i];
		o->scalar[i] = op->scalar[i] == H_NONE ? 1.0f : (float)p->hp.v[op->scalar[i]];
	}
	o->when = op->when;
	o->i_rope = w->i_layer >= 0 ? p->layer_kind[w->i_layer] : 0;
	bool ok = true;
	if (op->kind == OP_MATMUL || op->kind == OP_ADD_MATMUL) {
		ok = plan_product(w, o, op, n_ops);
	} else if (op->kind == OP_EMBED) {
		assert(w->i_layer < 0); /* plan_pack places the tables of embed */
		o->table = find_weight(w, op->w);
		ok = check_blocks(w, o->dim, o->table);
	} else if (op->kind == OP_LAYERNORM) {
		const int n = op->scalar[0] != H_NONE ? hparam_int(&p->hp, op->scalar[0]) : 1;
		o->n_parts = op->w != W_NONE ? n : 1;
		o->n_groups = op->w != W_NONE ? 1 : n;
		o->dim /= o->n_groups;
		ok = plan_small(w, op->w, false, &o->w) && plan_small(w, op->bias, false, &o->bias);
	} else if (op->kind == OP_LERP || op->kind == OP_WKV7_KEYS || op->kind == OP_WKV_OUT) {
		ok = plan_small(w, op->w, false, &o->w) && plan_small(w, op->bias, false, &o->bias) &&
			plan_small(w, op->skip, false, &o->skip);
	} else if (op->kind == OP_RMSNORM) {
		if (op->w != W_NONE) {
			o->dim = hparam_int(&p->hp, p->weights.rows[op->w]->rows);
			ok = plan_vector(w, op->w, &o->w, o->dim);
		}
		o->n_groups = form_width(&p->hp, op->in) / o->dim;
		o->n_parts = op->scalar[0] != H_NONE ? hparam_int(&p->hp, op->scalar[0]) : 1;
	} else if (op->kind == OP_PLACE) {
		o->out += op->scalar[0] != H_NONE ? hparam_int(&p->hp, op->scalar[0]) : 0;
		o->dim = form_width(&p->hp, op->in);
	} else if (op->kind == OP_HEADS_MATMUL) {
		o->dim = hparam_int(&p->hp, p->weights.rows[op->w]->cols);
		o->n_groups = form_width(&p->hp, op->in) / o->dim;
		ok = plan_small(w, op->w, false, &o->w) && plan_small(w, op->bias, false, &o->bias);
	} else if (op->kind == OP_ROPE) {
		o->dim = hparam_int(&p->hp, H_HEAD);
		o->n_groups = form_width(&p->hp, op->in) / o->dim;
		if (is_beside(p, op, op + 1)) {
			o->n_groups += form_width(&p->hp, op[1].in) / o->dim;
			*n_ops = 2;
		}
	}
	if (form_keeps_state(op->kind)) {
		ok = plan_recurrent(w, o, op);
	}
	for (int i = 0; i < *n_ops; i++) {
		const bool writes = op[i].out == w->prepared ||
			(op[i].out < w->prepared && w->prepared <= op[i].last);
		w->prepared = writes ? ACT_NONE : w->prepared;
	}
	return ok;
}

/* The ops of a list that are there in a model of these sizes, closed by OP_END; NULL: no memory. */
static struct bb_op *live_ops(const struct plan *p, const struct bb_op *list, int *n_live) {
	int n = 0;
	while (list[n].kind != OP_END) {
		n++;
	}
	struct bb_op *live = base_alloc((size_t)n + 1, sizeof(*live));
	*n_live = 0;
	for (int i = 0; live != NULL && i < n; i++) {
		if (form_is_there(&p->hp, list[i].when)) {
			live[(*n_live)++] = list[i];
		}
	}
	return live;
}

static bool plan_list(struct plan *p, struct plan_ops *out, const struct bb_op *list, int i_layer,
	struct bb_error *err) {
	int n;
	struct bb_op *live = live_ops(p, list, &n);
	out->ops = live != NULL ? base_alloc((size_t)n, sizeof(*out->ops)) : NULL;
	bool ok = out->ops != NULL || base_no_memory(err, "op list", (size_t)n * sizeof(*out->ops));
	struct planner w = { p, i_layer, err };
	for (int i = 0, taken; ok && i < n; i += taken) {
		ok = plan_one(&w, &out->ops[out->n++], &live[i], &taken);
	}
	base_free(live);
	if (ok) {
		plan_fuse(p, out);
	}
	return ok;
}

static int count_products(const struct bb_op *list) {
	int n = 0;
	for (; list->kind != OP_END; list++) {
		n += list->kind == OP_MATMUL || list->kind == OP_ADD_MATMUL;
	}
	return n;
}

static bool plan_layer_kinds(struct plan *p, int window, struct bb_error *err) {
	const struct bb_model *m = p->model;
	p->layer_kind = p->weights.kinds;
	p->layer_index = base_alloc((size_t)p->n_layers, sizeof(int));
	p->layers = base_alloc((size_t)p->n_layers, sizeof(*p->layers));
	if (p->layer_index == NULL || p->layers == NULL) {
		return base_no_memory(err, "layer table", (size_t)p->n_layers * sizeof(*p->layers));
	}
	while (p->n_kinds < MAX_LAYER_KINDS && m->kinds[p->n_kinds].ops != NULL) {
		p->n_kinds++;
	}
	while (p->n_paged < p->n_kinds && form_keeps_tokens(&m->kinds[p->n_paged])) {
		p->n_paged++;
	}
	p->max_matrices = count_products(m->embed) + count_products(m->unembed);
	for (int i = 0; i < p->n_layers; i++) {
		const int kind = p->layer_kind[i];
		assert(kind < p->n_kinds);
		p->layer_index[i] = p->kinds[kind].n_layers++;
		p->max_matrices += count_products(m->kinds[kind].ops);
	}
	for (int i = 0; i < p->n_kinds; i++) {
		const int own = m->kinds[i].window == H_NONE ? 0 : hparam_int(&p->hp, m->kinds[i].window);
		p->kinds[i].window = window > 0 && (own == 0 || window < own) ? window : own;
	}
	p->matrices = base_alloc((size_t)p->max_matrices, sizeof(*p->matrices));
	return p->matrices != NULL || base_no_memory(err, "matrix table",
		(size_t)p->max_matrices * sizeof(*p->matrices));
}

static bool plan_ops_all(struct plan *p, struct bb_error *err) {
	const struct bb_model *m = p->model;
	if (!plan_list(p, &p->embed, m->embed, -1, err)) {
		return false;
	}
	for (int i = 0; i < p->n_layers; i++) {
		if (!plan_list(p, &p->layers[i], m->kinds[p->layer_kind[i]].ops, i, err)) {
			return false;
		}
	}
	/* Unembed runs on the rows whose logits are wanted, gathered into a buffer of their own. */
	float *const x = p->acts[ACT_X];
	p->acts[ACT_X] = p->out_rows;
	const bool ok = plan_list(p, &p->unembed, m->unembed, -1, err);
	p->acts[ACT_X] = x;
	return ok;
}

bool plan_create(struct plan *p, const struct bb_model *m, const struct model_file *f,
	const struct bb_kernels *k, const struct memory *where, int n_vocab, int max_rows, int window,
	struct bb_error *err) {
	memset(p, 0, sizeof(*p));
	p->model = m;
	p->kernels = k;
	p->where = where;
	p->max_rows = max_rows;
	if (!hparams_read(&p->hp, m, f, n_vocab, err) || !file_unread_check(f, m, &p->hp, err) ||
		!form_check(m, &p->hp, err) || !weights_bind(&p->weights, m, &p->hp, f, err)) {
		return false;
	}
	p->n_layers = hparam_int(&p->hp, H_LAYERS);
	if (!plan_layer_kinds(p, window, err) || !plan_activations(p, err)) {
		return false;
	}
	for (int i = 0; i < p->n_paged; i++) {
		if (form_turns(&m->kinds[i]) && !plan_rope(p, i, err)) {
			return false;
		}
	}
	return plan_ops_all(p, err);
}

unsigned plan_flags(const struct plan *p, unsigned flags) {
	for (int i = 0; i < p->n_matrices; i++) {
		if (p->matrices[i].type == BB_F32) {
			return flags & ~(unsigned)BB_AVX512_BF16;
		}
	}
	return flags;
}

float plan_vector_scale(const struct plan *p) {
	assert(p->embed.ops[0].kind == OP_EMBED);
	return p->model->embed_is_scaled ? 1 : p->embed.ops[0].scalar[0];
}

size_t plan_step_bytes(const struct plan *p) {
	size_t bytes = 0;
	for (int i = 0; i < p->n_matrices; i++) {
		const struct plan_matrix *m = &p->matrices[i];
		bytes += m->n_stack == 0 ? m->bytes * (size_t)m->n_uses
			: m->bytes / (size_t)m->n_stack * (size_t)hparam_int(&p->hp, H_EXPERTS_USED);
	}
	return bytes;
}

static void finish_ops(const struct plan *p, struct plan_ops *list) {
	for (int i = 0; i < list->n; i++) {
		memory_drop(p->where, list->ops[i].w);
		memory_drop(p->where, list->ops[i].bias);
		memory_drop(p->where, list->ops[i].skip);
		if (list->ops[i].table_data != NULL && !memory_is_host(p->where)) {
			memory_unmap(p->where, list->ops[i].table_data, list->ops[i].table->bytes);
		}
	}
	base_free(list->ops);
}

void plan_finish(struct plan *p) {
	if (p->where == NULL) {
		return; /* nothing was planned */
	}
	finish_ops(p, &p->embed);
	finish_ops(p, &p->unembed);
	for (int i = 0; p->layers != NULL && i < p->n_layers; i++) {
		finish_ops(p, &p->layers[i]);
	}
	for (int i = 0; i < p->n_matrices; i++) {
		memory_drop(p->where, p->matrices[i].bias);
	}
	for (int i = 0; i < p->n_kinds; i++) {
		memory_drop(p->where, p->ropes[i].inv_freq);
	}
	base_free(p->layers);
	base_free(p->layer_index);
	base_free(p->matrices);
	memory_unmap(p->where, p->memory, p->memory_bytes);
	memory_unmap(p->where, p->packed_memory, p->packed_bytes);
	memory_unmap(p->where, p->gemm_memory, p->gemm_bytes);
	weight_set_finish(&p->weights);
	memset(p, 0, sizeof(*p));
}
