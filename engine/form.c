/* SPDX-License-Identifier: Apache-2.0
 *
 * Names and widths of the form, and the type-check of a model's op lists. Looks at descriptions and
 * hyper-parameters only: the shapes that a file holds are weights.c's matter. */
#include "form.h"

#include "kernels.h"

#include <string.h>

/* What an op of a kind is given; what isn't here it would ignore. */
static const struct rule {
	const char *name;
	bool in, in2, w, bias;
	int n_scalars;
	bool in_layers_only;
	bool last, skip;
	bool w_may_lack;
} rules[] = {
	[OP_END] = { "end" },
	[OP_EMBED] = { "embed", .w = true, .n_scalars = 1 },
	[OP_RMSNORM] = { "rmsnorm", .in = true, .w = true, .n_scalars = 2, .w_may_lack = true },
	[OP_LAYERNORM] = { "layernorm", .in = true, .w = true, .bias = true, .n_scalars = 2,
		.w_may_lack = true },
	[OP_MATMUL] = { "matmul", .in = true, .w = true, .bias = true, .n_scalars = 1, .last = true },
	[OP_ADD_MATMUL] = { "add_matmul", .in = true, .w = true, .bias = true, .last = true },
	[OP_ROPE] = { "rope", .in = true, .in_layers_only = true },
	[OP_ATTENTION] = { "attention", .in = true, .in_layers_only = true },
	[OP_SILU_MUL] = { "silu_mul", .in = true, .in2 = true },
	[OP_GELU_MUL] = { "gelu_mul", .in = true, .in2 = true },
	[OP_GELU_ERF_MUL] = { "gelu_erf_mul", .in = true, .in2 = true },
	[OP_SIGMOID_MUL] = { "sigmoid_mul", .in = true, .in2 = true },
	[OP_MUL] = { "mul", .in = true, .in2 = true },
	[OP_ADD] = { "add", .in = true, .n_scalars = 1 },
	[OP_CONV] = { "conv", .in = true, .w = true, .bias = true, .in_layers_only = true,
		.last = true },
	[OP_CONV_SILU] = { "conv_silu", .in = true, .w = true, .bias = true, .in_layers_only = true,
		.last = true },
	[OP_SCAN] = { "scan", .in = true, .w = true, .bias = true, .in_layers_only = true,
		.skip = true },
	[OP_SSD] = { "ssd", .in = true, .w = true, .bias = true, .n_scalars = 2,
		.in_layers_only = true, .skip = true },
	[OP_MLSTM] = { "mlstm", .in = true, .in_layers_only = true },
	[OP_HEADS_MATMUL] = { "heads_matmul", .in = true, .w = true, .bias = true },
	[OP_RG_LRU] = { "rg_lru", .in = true, .w = true, .in_layers_only = true },
	[OP_PLACE] = { "place", .in = true, .n_scalars = 1 },
	[OP_COPY] = { "copy", .in = true },
	[OP_TANH] = { "tanh", .in = true, .last = true },
	[OP_SIGMOID] = { "sigmoid", .in = true },
	[OP_SILU] = { "silu", .in = true },
	[OP_HALF] = { "half", .in = true },
	[OP_RELU2] = { "relu2", .in = true },
	[OP_DECAY6] = { "decay6", .in = true },
	[OP_DECAY7] = { "decay7", .in = true },
	[OP_LERP] = { "lerp", .in = true, .in2 = true, .w = true, .w_may_lack = true },
	[OP_SHIFT] = { "shift", .in = true, .w = true, .in_layers_only = true, .last = true,
		.w_may_lack = true },
	[OP_WKV7_KEYS] = { "wkv7_keys", .in = true, .in2 = true, .w = true, .n_scalars = 1,
		.skip = true },
	[OP_WKV6] = { "wkv6", .in = true, .w = true, .in_layers_only = true },
	[OP_WKV7] = { "wkv7", .in = true, .in_layers_only = true },
	[OP_WKV_OUT] = { "wkv_out", .in = true, .w = true, .bias = true, .skip = true },
	[OP_DELTA] = { "delta", .in = true, .w = true, .bias = true, .in_layers_only = true },
	[OP_ROUTE] = { "route", .in = true, .in_layers_only = true },
	[OP_ROUTE_CHOSEN] = { "route_chosen", .in = true, .in_layers_only = true },
	[OP_ROUTE_SIGMOID] = { "route_sigmoid", .in = true, .in_layers_only = true },
	[OP_COMBINE] = { "combine", .in = true, .in2 = true, .in_layers_only = true },
};

static const struct {
	const char *name;
	enum bb_hparam width;
	enum bb_act group;
} acts[] = {
	[ACT_NONE] = { "" },
#define ACT(id, width, group) [ACT_##id] = { #id, H_##width, ACT_##group },
	BB_ACTS(ACT)
#undef ACT
};

const char *op_name(enum bb_op_kind kind) {
	return rules[kind].name;
}

const char *act_name(enum bb_act act) {
	return acts[act].name;
}

int form_width(const struct bb_hparams *hp, enum bb_act act) {
	return hparam_int(hp, acts[act].width);
}

int form_span(const struct bb_hparams *hp, enum bb_act act, enum bb_act last) {
	int width = form_width(hp, act);
	for (int i = act + 1; i <= (int)last; i++) {
		width += form_group(i) == form_group(act) ? form_width(hp, i) : 0;
	}
	return width;
}

bool form_keeps_state(enum bb_op_kind kind) {
	return kind == OP_CONV || kind == OP_CONV_SILU || kind == OP_SCAN || kind == OP_SSD ||
		kind == OP_MLSTM || kind == OP_RG_LRU || kind == OP_SHIFT || kind == OP_WKV6 ||
		kind == OP_WKV7 || kind == OP_DELTA;
}

size_t form_state_floats(const struct bb_hparams *hp, const struct bb_op *op) {
	const size_t width = (size_t)form_span(hp, op->out, op->last);
	if (op->kind == OP_CONV || op->kind == OP_CONV_SILU) {
		return width * (size_t)(hparam_int(hp, H_SSM_CONV) - 1);
	}
	if (op->kind == OP_DELTA) {
		return width * (size_t)hparam_int(hp, H_DELTA_KEY);
	}
	if (op->kind == OP_MLSTM) { /* C, n and m */
		const size_t n_heads = (size_t)hparam_int(hp, H_LSTM_HEADS);
		const size_t keys = (size_t)hparam_int(hp, H_LSTM_QK_WIDTH);
		return keys / n_heads * width + keys + n_heads;
	}
	if (op->kind == OP_RG_LRU) {
		return width;
	}
	if (op->kind == OP_SHIFT) {
		return (size_t)form_width(hp, op->in);
	}
	if (op->kind == OP_WKV6 || op->kind == OP_WKV7) {
		return width * (size_t)hparam_int(hp, H_WKV_HEAD);
	}
	return form_keeps_state(op->kind) ? width * (size_t)hparam_int(hp, H_SSM_STATE) : 0;
}

size_t form_state_rounds(const struct bb_hparams *hp, const struct bb_op *op) {
	switch (op->kind) {
	case OP_SCAN:
	case OP_SSD:
	case OP_WKV6:
	case OP_WKV7:
	case OP_DELTA:
		return form_state_floats(hp, op);
	case OP_MLSTM: /* C; m is a logarithm, and n divides */
		return form_state_floats(hp, op) - (size_t)hparam_int(hp, H_LSTM_QK_WIDTH) -
			(size_t)hparam_int(hp, H_LSTM_HEADS);
	default:
		return 0;
	}
}

static bool has_op(const struct bb_layer_kind *kind, enum bb_op_kind want) {
	for (const struct bb_op *op = kind->ops; op->kind != OP_END; op++) {
		if (op->kind == want) {
			return true;
		}
	}
	return false;
}

bool form_keeps_tokens(const struct bb_layer_kind *kind) {
	return has_op(kind, OP_ATTENTION);
}

bool form_turns(const struct bb_layer_kind *kind) {
	return has_op(kind, OP_ROPE);
}

enum bb_act form_group(enum bb_act act) {
	return acts[act].group;
}

static int number_or(const struct bb_hparams *hp, enum bb_hparam h, int otherwise) {
	return h == H_NONE ? otherwise : hparam_int(hp, h);
}

int form_file_rows(const struct bb_hparams *hp, const struct bb_weight_name *name) {
	return number_or(hp, name->groups, 1) * hparam_int(hp, name->group_rows);
}

int form_part_row(const struct bb_hparams *hp, const struct bb_weight_name *name, int r, int n) {
	const int each = n / number_or(hp, name->groups, 1);
	return r / each * hparam_int(hp, name->group_rows) + number_or(hp, name->before, 0) + r % each;
}

static bool is_stream(enum bb_act act) {
	return act == ACT_X || act == ACT_H;
}

bool form_is_dense(enum bb_act act) {
	return is_stream(act) || act == ACT_CHOICE || act == ACT_S_CHOICE;
}

bool form_is_of_experts(enum bb_act act) {
	return act >= ACT_E_GATE && act <= ACT_E_OUT;
}

int form_rows(const struct bb_hparams *hp, enum bb_act act) {
	return form_is_of_experts(act) ? hparam_int(hp, H_EXPERTS_USED) : 1;
}

bool form_is_there(const struct bb_hparams *hp, enum bb_hparam when) {
	return when == H_NONE || hp->v[when] != 0;
}

/* ---- the type-check ---- */

struct checker {
	const struct bb_model *model;
	const struct bb_hparams *hp;
	const char *where; /* "embed", "unembed", or the name of a kind of layer */
	bool in_layer;
	unsigned kind_bit; /* of that kind */
	int i_op;
	enum bb_op_kind kind;
	struct bb_error *err;
};

static bool refuse(const struct checker *c, const char *expected, const char *actual) {
	return base_fail(c->err, BB_ERR_UNSUPPORTED,
		"model %s, list '%s', op %d (%s): expected %s, has %s", c->model->name,
		c->where, c->i_op + 1, op_name(c->kind), expected, actual);
}

static bool check_act(const struct checker *c, const char *what, bool takes, enum bb_act act) {
	char expected[48];
	snprintf(expected, sizeof(expected), "%s %s", takes ? "one" : "no", what);
	return (act != ACT_NONE) == takes ||
		refuse(c, expected, act == ACT_NONE ? "none" : act_name(act));
}

static bool check_scalars(const struct checker *c, const struct bb_op *op, int n_takes) {
	char expected[48];
	for (int i = n_takes; i < MAX_SCALARS; i++) {
		if (op->scalar[i] != H_NONE) {
			snprintf(expected, sizeof(expected), n_takes == 0 ? "no scalar" : "at most %d scalars",
				n_takes);
			return refuse(c, expected, hparam_name(op->scalar[i]));
		}
	}
	return true;
}

static const char *weight_name(const struct bb_weight *w) {
	return w->gguf.name != NULL ? w->gguf.name : w->hf.name;
}

/* The row of the weight table, when it may stand where `what` stands. */
static bool check_slot(const struct checker *c, const char *what, bool takes, enum bb_slot slot,
	const struct bb_weight **row) {
	char expected[64];
	*row = NULL;
	if (!takes) {
		snprintf(expected, sizeof(expected), "no %s", what);
		return slot == W_NONE || refuse(c, expected, "one");
	}
	for (const struct bb_weight *w = c->model->weights; w->slot != W_NONE; w++) {
		*row = w->slot == slot && (*row == NULL || form_is_there(c->hp, w->when)) ? w : *row;
	}
	snprintf(expected, sizeof(expected), "a %s of the table of weights", what);
	if (*row == NULL) {
		return refuse(c, expected, "another");
	}
	if (((*row)->flags & PER_LAYER) != 0 && !c->in_layer) {
		return refuse(c, "a weight of the whole model", weight_name(*row));
	}
	return (*row)->kinds == 0 || ((*row)->kinds & c->kind_bit) != 0 ||
		refuse(c, "a weight of this kind of layer", weight_name(*row));
}

/* The weight that an op can't do without. */
static bool check_weight(const struct checker *c, const struct bb_op *op, bool takes,
	const struct bb_weight **row) {
	if (!check_slot(c, "weight", takes, op->w, row)) {
		return false;
	}
	const bool has_stand_in = op->w == W_HEAD; /* the embedding */
	if (*row != NULL && ((*row)->flags & OPTIONAL) != 0 && !has_stand_in) {
		return refuse(c, "a weight that every file has", weight_name(*row));
	}
	return *row == NULL || !form_is_there(c->hp, op->when) || form_is_there(c->hp, (*row)->when) ||
		refuse(c, "a weight that is there when the op is", weight_name(*row));
}

static bool check_width(const struct checker *c, const char *what, int actual, int expected) {
	char want[64], have[32];
	snprintf(want, sizeof(want), "%s of %d columns", what, expected);
	snprintf(have, sizeof(have), "%d", actual);
	return actual == expected || refuse(c, want, have);
}

static bool check_multiple(const struct checker *c, const char *what, int width, int unit) {
	char want[64], have[32];
	snprintf(want, sizeof(want), "a width in %s of %d columns", what, unit);
	snprintf(have, sizeof(have), "%d", width);
	return (unit > 0 && width % unit == 0) || refuse(c, want, have);
}

static bool check_matrix(const struct checker *c, const struct bb_weight *w,
	const struct bb_weight *bias, int n_out, int n_in) {
	const double *const v = c->hp->v;
	if (w->cols == H_NONE) {
		return refuse(c, "a matrix", weight_name(w));
	}
	return check_width(c, "a weight", (int)v[w->cols], n_in) &&
		check_width(c, "an output", n_out, (int)v[w->rows]) &&
		(bias == NULL || (bias->cols == H_NONE ? check_width(c, "a bias", (int)v[bias->rows], n_out)
			: refuse(c, "a vector", weight_name(bias))));
}

static bool check_most(const struct checker *c, const char *what, int n, int most) {
	char want[64], have[32];
	snprintf(want, sizeof(want), "1 to %d %s", most, what);
	snprintf(have, sizeof(have), "%d", n);
	return (n >= 1 && n <= most) || refuse(c, want, have);
}

/* Operands are of experts where the op can do with that: a stack's product gives such rows, gates
 * keep them, joining takes them. */
static bool check_rows(const struct checker *c, const struct bb_op *op, const struct bb_weight *w) {
	const bool in = form_is_of_experts(op->in), out = form_is_of_experts(op->out);
	const bool is_stack = w != NULL && w->stack != H_NONE;
	const bool is_gated = op->kind == OP_SILU_MUL || op->kind == OP_GELU_MUL ||
		op->kind == OP_SIGMOID_MUL || op->kind == OP_MUL;
	if (is_stack && (op->kind != OP_MATMUL || op->bias != W_NONE)) {
		return refuse(c, "no stack, or a product without a bias", weight_name(w));
	}
	if (out != (is_stack || (is_gated && in))) {
		return refuse(c, out ? "an output that isn't of experts" : "one of experts",
			act_name(op->out));
	}
	return !in || is_stack || is_gated || op->kind == OP_COMBINE ||
		refuse(c, "an input that isn't of experts", act_name(op->in));
}

static int first_column(const struct bb_hparams *hp, const struct bb_op *op) {
	return op->scalar[0] != H_NONE ? hparam_int(hp, op->scalar[0]) : 0;
}

static bool check_room(const struct checker *c, int end, int n_out) {
	char want[64], have[32];
	snprintf(want, sizeof(want), "an output of at least %d columns", end);
	snprintf(have, sizeof(have), "%d", n_out);
	return end <= n_out || refuse(c, want, have);
}

static bool check_in_place(const struct checker *c, const struct bb_op *op) {
	return op->out == op->in || refuse(c, "its input as output", act_name(op->out));
}

/* A weight with a row for each of n channels or heads. */
static bool check_channels(const struct checker *c, const struct bb_weight *w, int n) {
	return check_width(c, "a weight", hparam_int(c->hp, w->rows), n);
}

static bool check_vector(const struct checker *c, const struct bb_weight *w, int n) {
	return (w->cols == H_NONE || refuse(c, "a vector", weight_name(w))) && check_channels(c, w, n);
}

static bool check_layernorm(const struct checker *c, const struct bb_op *op,
	const struct bb_weight *w, const struct bb_weight *bias, int n) {
	const int n_groups = op->scalar[0] != H_NONE ? hparam_int(c->hp, op->scalar[0]) : 1;
	if (w == NULL && bias != NULL) {
		return refuse(c, "no bias without a weight", weight_name(bias));
	}
	return (w == NULL || check_vector(c, w, n)) && (bias == NULL || check_vector(c, bias, n)) &&
		check_multiple(c, "groups", n, n_groups);
}

static bool check_same_act(const struct checker *c, enum bb_act act, enum bb_act wanted) {
	return act == wanted || refuse(c, act_name(wanted), act_name(act));
}

/* What RWKV brought. */
static bool check_wkv(const struct checker *c, const struct bb_op *op, const struct bb_weight *w,
	const struct bb_weight *bias, const struct bb_weight *skip) {
	const struct bb_hparams *hp = c->hp;
	const int n_out = form_span(hp, op->out, op->last), n_in = form_width(hp, op->in);
	switch (op->kind) {
	case OP_LERP:
		return check_width(c, "an input", n_in, n_out) &&
			check_width(c, "a second input", form_width(hp, op->in2), n_out) &&
			(w == NULL || check_vector(c, w, n_out));
	case OP_SHIFT:
		if (w == NULL) {
			return check_width(c, "an output", n_out, n_in);
		}
		return check_multiple(c, "inputs", n_out, n_in) && check_width(c, "a weight",
			hparam_int(hp, w->rows) * (w->cols != H_NONE ? hparam_int(hp, w->cols) : 1), n_out);
	case OP_WKV6:
		return check_same_act(c, op->out, ACT_WKV_Y) && check_same_act(c, op->in, ACT_WKV_R) &&
			check_vector(c, w, n_out);
	case OP_WKV7_KEYS:
		return check_same_act(c, op->out, ACT_WKV_A) && check_same_act(c, op->in, ACT_WKV_K) &&
			check_same_act(c, op->in2, ACT_WKV_B) && check_vector(c, w, n_out) &&
			(skip != NULL ? check_vector(c, skip, n_out) : refuse(c, "k_a", "none"));
	case OP_WKV7:
		return check_same_act(c, op->out, ACT_WKV_Y) && check_same_act(c, op->in, ACT_WKV_R);
	case OP_WKV_OUT:
		return check_same_act(c, op->out, ACT_WKV_Y) && check_in_place(c, op) &&
			check_vector(c, w, n_out) &&
			(bias != NULL ? check_vector(c, bias, n_out) : refuse(c, "a bias", "none")) &&
			(skip == NULL || check_vector(c, skip, n_out));
	case OP_TANH:
		return op->in == op->out || check_width(c, "an input", n_in, n_out);
	case OP_COPY:
	case OP_SIGMOID:
	case OP_SILU:
	case OP_HALF:
	case OP_RELU2:
	case OP_DECAY6:
	case OP_DECAY7:
		return check_width(c, "an input", n_in, n_out);
	default:
		return refuse(c, "an operation", "none");
	}
}

/* What keeps a state, in place. */
static bool check_recurrent(const struct checker *c, const struct bb_op *op,
	const struct bb_weight *w, int n_out) {
	const struct bb_hparams *hp = c->hp;
	switch (op->kind) {
	case OP_CONV:
	case OP_CONV_SILU:
		return check_channels(c, w, n_out) &&
			check_width(c, "a weight", hparam_int(hp, w->cols), hparam_int(hp, H_SSM_CONV));
	case OP_SCAN:
		return check_channels(c, w, n_out) &&
			check_width(c, "a weight", hparam_int(hp, w->cols), hparam_int(hp, H_SSM_STATE)) &&
			check_width(c, "SSM_DT", form_width(hp, ACT_SSM_DT), n_out) &&
			check_width(c, "SSM_B", form_width(hp, ACT_SSM_B), hparam_int(hp, H_SSM_STATE));
	case OP_SSD:
		return check_channels(c, w, hparam_int(hp, H_SSM_HEADS)) &&
			check_width(c, "SSM_DT", form_width(hp, ACT_SSM_DT), hparam_int(hp, H_SSM_HEADS)) &&
			check_multiple(c, "heads", n_out, hparam_int(hp, H_SSM_HEADS));
	case OP_MLSTM:
		return check_multiple(c, "heads", n_out, hparam_int(hp, H_LSTM_HEADS)) &&
			check_multiple(c, "heads", form_width(hp, ACT_LSTM_Q), hparam_int(hp, H_LSTM_HEADS));
	case OP_RG_LRU:
		return check_channels(c, w, n_out) &&
			check_width(c, "LRU_R", form_width(hp, ACT_LRU_R), n_out);
	case OP_DELTA:
		return check_channels(c, w, hparam_int(hp, H_DELTA_HEADS)) &&
			check_multiple(c, "heads", n_out, hparam_int(hp, H_DELTA_HEADS)) &&
			check_most(c, "keys of a head", hparam_int(hp, H_DELTA_KEY), BB_DELTA_KEYS);
	default:
		return refuse(c, "an operation that keeps a state", "another");
	}
}

static bool check_mixture(const struct checker *c, const struct bb_op *op, int n_out, int n_in) {
	if (op->kind == OP_COMBINE) {
		return check_width(c, "an input", n_in, n_out) &&
			check_width(c, "a second input", form_width(c->hp, op->in2),
				form_rows(c->hp, op->in)) &&
			(form_is_dense(op->in2) || refuse(c, "second input CHOICE", act_name(op->in2)));
	}
	return (form_is_dense(op->out) || refuse(c, "output CHOICE", act_name(op->out))) &&
		check_most(c, "experts", n_in, BB_MOE_EXPERTS) &&
		check_most(c, "chosen ones", n_out, n_in < BB_MOE_USED ? n_in : BB_MOE_USED);
}

static bool check_widths(const struct checker *c, const struct bb_op *op, const struct bb_weight *w,
	const struct bb_weight *bias, const struct bb_weight *skip) {
	const struct bb_hparams *hp = c->hp;
	const int n_out = form_span(hp, op->out, op->last), n_in = form_width(hp, op->in);
	switch (op->kind) {
	case OP_EMBED:
		return (is_stream(op->out) || refuse(c, "output X or H", act_name(op->out))) &&
			check_matrix(c, w, NULL, hparam_int(c->hp, w->rows), n_out);
	case OP_RMSNORM:
		return check_width(c, "an input", n_in, n_out) && (w == NULL ||
			((w->cols == H_NONE || refuse(c, "a vector", weight_name(w))) &&
			(op->scalar[0] == H_NONE
				? check_multiple(c, "groups", n_out, hparam_int(hp, w->rows))
				: check_width(c, "a weight", hparam_int(hp, w->rows), n_out) &&
					check_multiple(c, "groups", n_out, hparam_int(hp, op->scalar[0])))));
	case OP_LAYERNORM:
		return check_width(c, "an input", n_in, n_out) && check_layernorm(c, op, w, bias, n_out);
	case OP_MATMUL:
	case OP_ADD_MATMUL:
		return (op->scalar[0] == H_NONE || op->out == ACT_LOGITS ||
				refuse(c, "no scalar", hparam_name(op->scalar[0]))) &&
			check_matrix(c, w, bias, n_out, n_in);
	case OP_ROPE:
		return check_in_place(c, op) &&
			check_multiple(c, "heads", n_out, hparam_int(c->hp, H_HEAD));
	case OP_ATTENTION:
		return check_width(c, "an input", n_in, hparam_int(c->hp, H_Q_WIDTH)) &&
			check_width(c, "an output", n_out, n_in);
	case OP_SILU_MUL:
	case OP_GELU_MUL:
	case OP_GELU_ERF_MUL:
	case OP_SIGMOID_MUL:
	case OP_MUL:
		return check_width(c, "an input", n_in, n_out) &&
			check_width(c, "a second input", form_width(c->hp, op->in2), n_out) &&
			(form_group(op->in) == form_group(op->in2) ||
				refuse(c, "inputs side by side", act_name(op->in2)));
	case OP_ADD:
		return check_width(c, "an input", n_in, n_out) &&
			((is_stream(op->out) && is_stream(op->in)) ||
				refuse(c, "X and H", act_name(op->in)));
	case OP_CONV:
	case OP_CONV_SILU:
	case OP_SCAN:
	case OP_SSD:
	case OP_MLSTM:
	case OP_RG_LRU:
	case OP_DELTA:
		return check_in_place(c, op) && check_recurrent(c, op, w, n_out);
	case OP_HEADS_MATMUL:
		return check_width(c, "an input", n_in, n_out) && check_channels(c, w, n_out) &&
			check_multiple(c, "heads", n_in, hparam_int(hp, w->cols)) &&
			(bias == NULL || check_channels(c, bias, n_out)) &&
			(op->out != op->in || refuse(c, "another output than its input", act_name(op->out)));
	case OP_ROUTE:
	case OP_ROUTE_CHOSEN:
	case OP_ROUTE_SIGMOID:
	case OP_COMBINE:
		return check_mixture(c, op, n_out, n_in);
	case OP_PLACE:
		return check_room(c, n_in + first_column(hp, op), n_out);
	default:
		return check_wkv(c, op, w, bias, skip);
	}
}

static bool check_op(struct checker *c, const struct bb_op *op) {
	const struct rule *r = &rules[op->kind];
	const struct bb_weight *w, *bias, *skip;
	if (r->in_layers_only && !c->in_layer) {
		return refuse(c, "a list of a layer", c->where);
	}
	if (!check_act(c, "output", true, op->out) || !check_act(c, "input", r->in, op->in) ||
		!check_act(c, "second input", r->in2, op->in2) || !check_scalars(c, op, r->n_scalars) ||
		!check_weight(c, op, r->w && !(r->w_may_lack && op->w == W_NONE), &w) ||
		!check_slot(c, "bias", r->bias && op->bias != W_NONE, op->bias, &bias) ||
		!check_slot(c, "skip", r->skip && op->skip != W_NONE, op->skip, &skip)) {
		return false;
	}
	if (op->last != ACT_NONE && (!r->last || form_group(op->last) != form_group(op->out) ||
		op->last <= op->out)) {
		return refuse(c, "no last output, or a later one of its group", act_name(op->last));
	}
	/* Of what isn't there the widths may be 0. */
	return check_rows(c, op, w) &&
		(!form_is_there(c->hp, op->when) || check_widths(c, op, w, bias, skip));
}

static bool check_list(struct checker *c, const struct bb_op *list, const char *where,
	bool in_layer) {
	c->where = where;
	c->in_layer = in_layer;
	for (c->i_op = 0; list[c->i_op].kind != OP_END; c->i_op++) {
		c->kind = list[c->i_op].kind;
		if (!check_op(c, &list[c->i_op])) {
			return false;
		}
	}
	return true;
}

bool form_check(const struct bb_model *m, const struct bb_hparams *hp, struct bb_error *err) {
	struct checker c = { .model = m, .hp = hp, .err = err };
	bool ok = check_list(&c, m->embed, "embed", false) &&
		check_list(&c, m->unembed, "unembed", false);
	for (int i = 0; ok && i < MAX_LAYER_KINDS && m->kinds[i].ops != NULL; i++) {
		c.kind_bit = 1u << i;
		ok = check_list(&c, m->kinds[i].ops, m->kinds[i].name, true);
	}
	return ok;
}
