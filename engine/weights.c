/* SPDX-License-Identifier: Apache-2.0
 *
 * Binds a model's description to a file: reads its hyper-parameters, finds its tensors, and says
 * in one sentence what doesn't fit. */
#include "form.h"
#include "plan.h"

#include <math.h>
#include <string.h>

const char *hparam_name(enum bb_hparam h) {
	static const char *const names[] = {
#define X(id, name) [H_##id] = name,
		BB_HPARAMS(X)
#undef X
	};
	return names[h];
}

/* ---- hyper-parameters ---- */

bool hparam_is_int(enum bb_hparam h) {
	switch (h) {
	case H_NORM_EPS:
	case H_ROPE_PART:
	case H_ROPE_BASE:
	case H_ROPE_BASE_LOCAL:
	case H_ROPE_FACTOR:
	case H_ROPE_FACTOR_LINEAR:
	case H_ROPE_LOW:
	case H_ROPE_HIGH:
	case H_YARN_EXT:
	case H_YARN_ATTN:
	case H_YARN_FAST:
	case H_YARN_SLOW:
	case H_ATTN_SCALE:
	case H_WKV_RATE_SCALE:
	case H_EMBED_SCALE:
	case H_RESIDUAL_SCALE:
	case H_LOGIT_SCALE:
	case H_LOGIT_FACTOR:
	case H_MUL_ATTN_IN:
	case H_MUL_ATTN_OUT:
	case H_MUL_KEY:
	case H_MUL_SSM_IN:
	case H_MUL_SSM_OUT:
	case H_MUL_SSM_Z:
	case H_MUL_SSM_X:
	case H_MUL_SSM_B:
	case H_MUL_SSM_C:
	case H_MUL_SSM_DT:
	case H_MUL_GATE:
	case H_MUL_DOWN:
	case H_MUL_HEAD:
	case H_LSTM_QK_FACTOR:
	case H_LSTM_V_FACTOR:
	case H_LSTM_EPS:
	case H_LSTM_GATE_CAP:
	case H_FF_FACTOR:
	case H_LOGIT_CAP:
	case H_SSM_NORM_EPS:
	case H_SSM_DT_MIN:
	case H_SSM_DT_MAX:
	case H_WKV_NORM_EPS:
		return false;
	default:
		return true;
	}
}

static bool read_key(struct bb_hparams *hp, const struct bb_model *m, const struct bb_key *k,
	const struct model_file *f, struct bb_error *err) {
	char name[160];
	double value = k->fallback;
	bool found;
	if (!file_number(f, m, k, &value, &found, name, sizeof(name), err)) {
		return false;
	}
	if (!found) {
		if (hp->given[k->h]) {
			return true; /* a row before had it */
		}
		if (!k->optional) {
			return base_fail(err, BB_ERR_FORMAT, "%s is missing; architecture %s needs it", name,
				m->name);
		}
		hp->given[k->h] = f->is_folder && k->in_folder != 0;
		hp->v[k->h] = hp->given[k->h] ? k->in_folder : k->fallback;
		return true;
	}
	if (!(value >= k->min && value <= k->max)) {
		return base_fail(err, BB_ERR_FORMAT, "%s is %g, expected %g to %g", name, value, k->min,
			k->max);
	}
	if (hparam_is_int(k->h) && value != floor(value)) {
		return base_fail(err, BB_ERR_FORMAT, "%s is %g, expected a whole number", name, value);
	}
	hp->v[k->h] = value;
	hp->given[k->h] = true;
	return true;
}

static bool string_is(struct gguf_string s, const char *text) {
	return s.bytes == strlen(text) && memcmp(s.data, text, s.bytes) == 0;
}

/* Of a folder, where the factor of attention is the whole one; a GGUF file's is multiplied with
 * what YaRN computes. And Llama 3's scaling, which a GGUF file holds as a tensor. */
static bool finish_scaling(struct bb_hparams *hp, const char *name, struct bb_error *err) {
	double *const v = hp->v;
	if (hp->rope_scaling != ROPE_SCALING_NONE && v[H_ROPE_FACTOR] == 0) {
		return base_fail(err, BB_ERR_FORMAT, "%s scales, expected a factor beside it", name);
	}
	if (hp->rope_scaling == ROPE_SCALING_YARN && hp->given[H_YARN_ATTN]) {
		v[H_YARN_ATTN] /= 1 + 0.1 * log(fmax(1, v[H_ROPE_FACTOR]));
	}
	if (hp->rope_scaling == ROPE_SCALING_LLAMA3 && !(v[H_ROPE_FACTOR] > 0 && v[H_ROPE_LOW] > 0 &&
		v[H_ROPE_HIGH] > v[H_ROPE_LOW] && hp->given[H_ROPE_ORIGINAL])) {
		return base_fail(err, BB_ERR_FORMAT, "%s is llama3, expected a factor, a low_freq_factor, "
			"a higher high_freq_factor and original_max_position_embeddings", name);
	}
	return true;
}

static bool read_rope_scaling(struct bb_hparams *hp, const struct bb_model *m,
	const struct model_file *f, struct bb_error *err) {
	char name[160];
	struct gguf_string type;
	bool found;
	if (!file_rope_type(f, m, &type, &found, name, sizeof(name), err)) {
		return false;
	}
	const bool is_none = found && string_is(type, f->is_folder ? "default" : "none");
	double *const factor = &hp->v[H_ROPE_FACTOR];
	if (*factor == 0) {
		*factor = hp->v[H_ROPE_FACTOR_LINEAR];
	}
	if (found && string_is(type, "yarn")) {
		hp->rope_scaling = ROPE_SCALING_YARN;
	} else if (found && f->is_folder && string_is(type, "llama3")) {
		hp->rope_scaling = ROPE_SCALING_LLAMA3;
	} else if (found && !string_is(type, "linear") && !is_none) {
		char shown[BASE_SHOWN];
		return base_fail(err, BB_ERR_UNSUPPORTED, "%s is '%s', expected %s", name,
			base_show(type.data, type.bytes, shown, sizeof(shown)),
			f->is_folder ? "default, linear, yarn or llama3" : "none, linear or yarn");
	} else if (f->is_folder ? found && !is_none : !is_none && *factor > 0) {
		hp->rope_scaling = ROPE_SCALING_LINEAR; /* a folder's type counts, a GGUF file's factor */
	}
	if (f->is_folder && !finish_scaling(hp, name, err)) {
		return false;
	}
	if (hp->rope_scaling == ROPE_SCALING_NONE || *factor == 0) {
		*factor = 1;
	}
	return true;
}

/* Widths in a recurrent layer of Mamba, or of Mamba-2, which has heads. */
static bool derive_ssm(struct bb_hparams *hp, struct bb_error *err) {
	double *const v = hp->v;
	const double n_heads = v[H_SSM_HEADS], n_groups = v[H_SSM_GROUPS];
	if (!hp->given[H_SSM_NORM_EPS]) {
		v[H_SSM_NORM_EPS] = v[H_NORM_EPS];
	}
	if (n_heads == 0) {
		v[H_SSM_DT_WIDTH] = v[H_SSM_INNER];
		v[H_SSM_BC_WIDTH] = v[H_SSM_STATE];
		v[H_SSM_CONV_WIDTH] = v[H_SSM_INNER];
		v[H_SSM_IN_WIDTH] = 2 * v[H_SSM_INNER];
		v[H_SSM_X_WIDTH] = v[H_SSM_DT_RANK] + 2 * v[H_SSM_STATE];
		return true;
	}
	if (fmod(v[H_SSM_INNER], n_heads) != 0 || fmod(n_heads, n_groups) != 0 ||
		fmod(v[H_SSM_INNER], n_groups) != 0) {
		return base_fail(err, BB_ERR_FORMAT, "a recurrent layer of %g columns can't have %g heads "
			"in %g groups evenly", v[H_SSM_INNER], n_heads, n_groups);
	}
	v[H_SSM_DT_WIDTH] = n_heads;
	v[H_SSM_BC_WIDTH] = n_groups * v[H_SSM_STATE];
	v[H_SSM_CONV_WIDTH] = v[H_SSM_INNER] + 2 * v[H_SSM_BC_WIDTH];
	v[H_SSM_IN_WIDTH] = v[H_SSM_INNER] + v[H_SSM_CONV_WIDTH] + n_heads;
	return true;
}

static double rounded_up(double x, double multiple) {
	return floor((x + multiple - 1) / multiple) * multiple; /* as transformers does of fractions */
}

/* Widths of an xLSTM, which its configuration gives as factors. */
static bool derive_lstm(struct bb_hparams *hp, struct bb_error *err) {
	double *const v = hp->v;
	const double n_heads = v[H_LSTM_HEADS];
	v[H_LSTM_QK_WIDTH] = floor(v[H_EMBD] * v[H_LSTM_QK_FACTOR]);
	v[H_LSTM_V_WIDTH] = floor(v[H_EMBD] * v[H_LSTM_V_FACTOR]);
	v[H_FF] = rounded_up(v[H_EMBD] * v[H_FF_FACTOR], v[H_FF_MULTIPLE]);
	if (v[H_LSTM_QK_WIDTH] == 0 || v[H_LSTM_V_WIDTH] == 0 || v[H_FF] == 0 ||
		fmod(v[H_LSTM_QK_WIDTH], n_heads) != 0 || fmod(v[H_LSTM_V_WIDTH], n_heads) != 0) {
		return base_fail(err, BB_ERR_FORMAT, "a cell with keys of %g columns and values of %g "
			"can't have %g heads evenly, before a layer of %g", v[H_LSTM_QK_WIDTH],
			v[H_LSTM_V_WIDTH], n_heads, v[H_FF]);
	}
	return v[H_LSTM_QK_WIDTH] / n_heads <= BB_MLSTM_KEYS || base_fail(err, BB_ERR_UNSUPPORTED,
		"a cell with keys of %g columns a head; expected at most %d", v[H_LSTM_QK_WIDTH] / n_heads,
		(int)BB_MLSTM_KEYS);
}

/* Widths in a layer of RWKV-7, of which six inputs are mixed, or of RWKV-6, which mixes by what it
 * computes in a lower rank from the token and the one before. */
static bool derive_wkv(struct bb_hparams *hp, struct bb_error *err) {
	double *const v = hp->v;
	if (fmod(v[H_EMBD], v[H_WKV_HEAD]) != 0) {
		return base_fail(err, BB_ERR_FORMAT, "%g columns can't be cut into heads of %g", v[H_EMBD],
			v[H_WKV_HEAD]);
	}
	v[H_WKV_HEADS] = v[H_EMBD] / v[H_WKV_HEAD];
	v[H_WKV_WIDTH] = v[H_EMBD];
	v[H_WKV_MIXES] = 6;
	v[H_WKV_LOW_MIX_WIDTH] = 5 * v[H_WKV_RANK_MIX];
	v[H_WKV_PAST_WIDTH] = v[H_WKV_RANK_MIX] > 0 ? v[H_EMBD] : 0;
	return true;
}

/* Widths of the gated delta rule, and where parts begin in matrices that key heads share. */
static bool derive_delta(struct bb_hparams *hp, struct bb_error *err) {
	double *const v = hp->v;
	const double n_heads = v[H_DELTA_HEADS], n_key_heads = v[H_DELTA_KEY_HEADS];
	const double values_of_key = v[H_DELTA_VALUES] / n_key_heads;
	if (fmod(n_heads, n_key_heads) != 0 || fmod(v[H_DELTA_VALUES], n_heads) != 0) {
		return base_fail(err, BB_ERR_FORMAT, "values of %g columns can't have %g heads that share "
			"%g key heads evenly", v[H_DELTA_VALUES], n_heads, n_key_heads);
	}
	v[H_DELTA_VALUE] = v[H_DELTA_VALUES] / n_heads;
	v[H_DELTA_KEYS] = n_key_heads * v[H_DELTA_KEY];
	v[H_DELTA_KEYS_TWICE] = 2 * v[H_DELTA_KEYS];
	v[H_DELTA_CONV_WIDTH] = v[H_DELTA_KEYS_TWICE] + v[H_DELTA_VALUES];
	v[H_DELTA_V_AT] = 2 * v[H_DELTA_KEY];
	v[H_DELTA_Z_AT] = v[H_DELTA_V_AT] + values_of_key;
	v[H_DELTA_GROUP] = v[H_DELTA_Z_AT] + values_of_key;
	v[H_DELTA_A_AT] = n_heads / n_key_heads;
	v[H_DELTA_BA_GROUP] = 2 * v[H_DELTA_A_AT];
	return true;
}

/* Values that an absent key takes from others. */
static bool derive(struct bb_hparams *hp, struct bb_error *err) {
	double *const v = hp->v;
	if (v[H_SSM_INNER] > 0 && !derive_ssm(hp, err)) {
		return false;
	}
	if (v[H_LSTM_HEADS] > 0 && !derive_lstm(hp, err)) {
		return false;
	}
	if (v[H_WKV_HEAD] > 0 && !derive_wkv(hp, err)) {
		return false;
	}
	if (v[H_DELTA_HEADS] > 0 && !derive_delta(hp, err)) {
		return false;
	}
	if (v[H_HEADS] == 0) {
		return true; /* nothing attends */
	}
	if (!hp->given[H_KV_HEADS]) {
		v[H_KV_HEADS] = v[H_HEADS];
	}
	if (!hp->given[H_HEAD]) {
		v[H_HEAD] = floor(v[H_EMBD] / v[H_HEADS]);
	}
	if (!hp->given[H_HEAD_V]) {
		v[H_HEAD_V] = v[H_HEAD];
	}
	if (!hp->given[H_ROPE_DIM]) {
		v[H_ROPE_DIM] = v[H_ROPE_PART] > 0 ? floor(v[H_HEAD] * v[H_ROPE_PART]) : v[H_HEAD];
	}
	if (v[H_YARN_EXT] < 0) {
		v[H_YARN_EXT] = 1; /* how some files say "unset" */
	}
	if (!hp->given[H_ROPE_ORIGINAL]) {
		v[H_ROPE_ORIGINAL] = v[H_CONTEXT];
	}
	v[H_Q_WIDTH] = v[H_HEADS] * v[H_HEAD];
	v[H_KV_WIDTH] = v[H_KV_HEADS] * v[H_HEAD];
	v[H_ROPE_PAIRS] = floor(v[H_ROPE_DIM] / 2);
	if (fmod(v[H_HEADS], v[H_KV_HEADS]) != 0) {
		return base_fail(err, BB_ERR_FORMAT, "%g attention heads can't share %g KV heads evenly",
			v[H_HEADS], v[H_KV_HEADS]);
	}
	if (v[H_HEAD_V] != v[H_HEAD]) {
		return base_fail(err, BB_ERR_UNSUPPORTED,
			"value heads of %g columns beside key heads of %g; this build runs equal ones only",
			v[H_HEAD_V], v[H_HEAD]);
	}
	if (v[H_HEAD] < 2 || v[H_HEAD] > 256 || fmod(v[H_HEAD], 2) != 0) {
		return base_fail(err, BB_ERR_UNSUPPORTED,
			"a head of %g columns; expected an even number up to 256", v[H_HEAD]);
	}
	if (v[H_ROPE_DIM] > v[H_HEAD] || fmod(v[H_ROPE_DIM], 2) != 0) {
		return base_fail(err, BB_ERR_FORMAT, "RoPE over %g columns of a head of %g", v[H_ROPE_DIM],
			v[H_HEAD]);
	}
	return true;
}

/* That sizes, and what was multiplied of them, are such as an int can add up. */
static bool check_sizes(const struct bb_hparams *hp, struct bb_error *err) {
	const double most = 1 << 28;
	for (enum bb_hparam h = H_NONE + 1; h < H_COUNT; h++) {
		const bool is_length = h == H_CONTEXT || h == H_ROPE_ORIGINAL || h == H_WINDOW;
		if (hparam_is_int(h) && !is_length && hp->v[h] > most) {
			return base_fail(err, BB_ERR_UNSUPPORTED, "%s is %g, expected at most %g",
				hparam_name(h), hp->v[h], most);
		}
	}
	return true;
}

bool hparams_read(struct bb_hparams *hp, const struct bb_model *m, const struct model_file *f,
	int n_vocab, struct bb_error *err) {
	memset(hp, 0, sizeof(*hp));
	for (const struct bb_key *k = m->keys; k->h != H_NONE; k++) {
		if (!read_key(hp, m, k, f, err)) {
			return false;
		}
	}
	const int max_vocab = 1 << 24;
	if (n_vocab > max_vocab) {
		return base_fail(err, BB_ERR_UNSUPPORTED, "a vocabulary of %d tokens; expected at most %d",
			n_vocab, max_vocab);
	}
	if (n_vocab > 0) {
		hp->v[H_VOCAB] = n_vocab; /* rows of the embedding: a tokenizer may know fewer */
	}
	if (!read_rope_scaling(hp, m, f, err) || !derive(hp, err)) {
		return false;
	}
	if (hp->v[H_ATTN_SCALE_DIM] > 0) { /* how folders say what GGUF files have computed */
		hp->v[H_ATTN_SCALE] = 1 / sqrt(hp->v[H_ATTN_SCALE_DIM]);
		hp->given[H_ATTN_SCALE] = true;
	}
	if (m->finish != NULL && !m->finish(hp, err)) {
		return false;
	}
	if (hp->v[H_ATTN_SCALE] == 0 && hp->v[H_HEAD] > 0) {
		hp->v[H_ATTN_SCALE] = 1 / sqrt(hp->v[H_HEAD]);
	}
	return check_sizes(hp, err);
}

/* ---- weights ---- */

struct binder {
	struct weight_set *set;
	const struct bb_model *model;
	const struct bb_hparams *hp;
	const struct model_file *file;
	bool *used; /* [n_tensors of the file] */
	int *turns; /* [n_layers]: how many layers of its kind come before */
	int n_wrong;
	struct bb_error first; /* the first mismatch */
};

/* Whether a tensor is [rows, cols] in row-major order: dimensions of 1 may stand anywhere, and a
 * vector may be cut into rows. */
static bool has_shape(const struct bb_tensor *t, int64_t rows, int64_t cols) {
	int64_t n = 1, last = 1;
	for (int i = 0; i < t->n_dims; i++) {
		n *= t->dims[i];
		last = t->dims[i] > 1 ? t->dims[i] : last;
	}
	return n == rows * cols && (cols == 1 || last == cols || n == cols);
}

/* Whether a name holds the layer's number and another one. */
static bool names_experts(const char *name) {
	const char *first = strstr(name, "%d");
	return first != NULL && strstr(first + 2, "%d") != NULL;
}

static void check_shape(struct binder *b, const struct bb_weight *w, const struct bb_tensor *t) {
	const struct bb_weight_name *column = file_column(b->file, w);
	const bool is_turned = column->transform == T_TRANSPOSED;
	const int64_t own_rows = (int64_t)b->hp->v[is_turned ? w->cols : w->rows];
	const int64_t rows = column->transform == T_PART ? form_file_rows(b->hp, column)
		: own_rows * (column->n_parts > 0 ? column->n_parts : 1);
	const int64_t cols = w->cols == H_NONE ? 1 : (int64_t)b->hp->v[is_turned ? w->rows : w->cols];
	const bool is_vector = w->cols == H_NONE;
	const bool is_stack = w->stack != H_NONE && !names_experts(column->name);
	const int64_t stack = is_stack ? (int64_t)b->hp->v[w->stack] : 1;
	const bool fits = has_shape(t, stack * rows, cols);
	char have[96], want[96];
	if (is_vector) {
		snprintf(want, sizeof(want), "[%lld]", (long long)rows);
	} else if (is_stack) {
		snprintf(want, sizeof(want), "[%lld, %lld, %lld]", (long long)stack, (long long)rows,
			(long long)cols);
	} else {
		snprintf(want, sizeof(want), "[%lld, %lld]", (long long)rows, (long long)cols);
	}
	if (!fits) {
		b->n_wrong++;
		base_fail(&b->first, BB_ERR_FORMAT, "tensor '%s': expected shape %s, the file has %s",
			t->name, want, tensor_shape_text(t, have, sizeof(have)));
	} else if ((is_vector || is_turned) && t->type != BB_F32 && t->type != BB_F16 &&
		t->type != BB_BF16) {
		b->n_wrong++;
		base_fail(&b->first, BB_ERR_UNSUPPORTED,
			"tensor '%s': expected F32, F16 or BF16, the file has %s",
			t->name, tensor_type_name(t->type));
	}
}

/* A tensor [rows, cols] of t's type, or [rows] with cols 1, for what isn't one of the file. */
static struct bb_tensor *make_tensor(struct binder *b, const struct bb_tensor *t, int64_t rows,
	int64_t cols) {
	struct bb_tensor *made = &b->set->made[b->set->n_made++];
	*made = *t;
	made->n_dims = cols > 1 ? 2 : 1;
	made->dims[0] = rows;
	made->dims[1] = cols;
	made->dims[2] = made->dims[3] = 1;
	return made;
}

/* The part of t that a weight is; t fits. A transposed one is so still. */
static const struct bb_tensor *part_of(struct binder *b, const struct bb_weight *w,
	const struct bb_tensor *t) {
	const struct bb_weight_name *column = file_column(b->file, w);
	struct bb_tensor *part = make_tensor(b, t, (int64_t)b->hp->v[w->rows],
		w->cols == H_NONE ? 1 : (int64_t)b->hp->v[w->cols]);
	part->bytes = t->bytes / (size_t)column->n_parts;
	part->data = (const uint8_t *)t->data + part->bytes * (size_t)column->part;
	return part;
}

static void say_missing(struct binder *b, const char *name) {
	b->n_wrong++;
	base_fail(&b->first, BB_ERR_FORMAT, "tensor '%s' is missing; architecture %s needs it", name,
		b->model->name);
}

/* The tensors that "x_{ab}" means, each a row. NULL if they aren't all there and alike. */
static const struct bb_tensor *join(struct binder *b, const char *name) {
	const char *open = strchr(name, '{'), *close = strchr(open, '}');
	const size_t n = (size_t)(close - open - 1);
	const struct bb_tensor *first = NULL;
	struct bb_tensor *made = NULL;
	char *data = NULL;
	for (size_t i = 0; i < n; i++) {
		char one[128];
		snprintf(one, sizeof(one), "%.*s%c%s", (int)(open - name), name, open[1 + i], close + 1);
		const struct bb_tensor *t = file_tensor(b->file, one);
		if (t == NULL) {
			say_missing(b, one);
			return NULL;
		}
		b->used[t - b->file->tensors] = true;
		first = i == 0 ? t : first;
		if (t->type != first->type || t->bytes != first->bytes) {
			b->n_wrong++;
			base_fail(&b->first, BB_ERR_FORMAT, "tensor '%s': expected %zu bytes of %s as '%s' "
				"has, the file has %zu of %s", one, first->bytes, tensor_type_name(first->type),
				first->name, t->bytes, tensor_type_name(t->type));
			return NULL;
		}
		if (i == 0) {
			data = b->set->joined[b->set->n_joined++] = base_alloc(n, t->bytes);
			made = make_tensor(b, t, (int64_t)n, t->dims[0] * t->dims[1] * t->dims[2] * t->dims[3]);
			made->bytes = n * t->bytes;
			made->data = data;
		}
		if (data == NULL) {
			b->n_wrong++;
			base_no_memory(&b->first, one, n * t->bytes);
			return NULL;
		}
		memcpy(data + i * t->bytes, t->data, t->bytes);
	}
	return made;
}

/* A tensor that the file may have and nobody reads. */
static void bind_stray(struct binder *b, const struct bb_weight *w, int i_layer) {
	char name[128];
	snprintf(name, sizeof(name), file_column(b->file, w)->name, i_layer);
	const struct bb_tensor *t = file_tensor(b->file, name);
	if (t != NULL) {
		b->used[t - b->file->tensors] = true;
	}
}

enum { MAX_NAME = 160 };

/* A name for a layer and a turn: of alternatives the first that the file has, marked as used;
 * NULL: it has none. `name` [MAX_NAME] is then what the first would be. */
static const struct bb_tensor *find_named(struct binder *b, const char *names, int i_layer,
	int i_turn, char *name) {
	for (const char *at = names; at != NULL;) {
		const size_t n = strcspn(at, "|");
		char format[MAX_NAME], full[MAX_NAME];
		snprintf(format, sizeof(format), "%.*s", (int)n, at);
		snprintf(full, sizeof(full), format, i_layer, i_turn);
		const struct bb_tensor *t = file_tensor(b->file, full);
		if (t != NULL || at == names) {
			memcpy(name, full, sizeof(full));
		}
		if (t != NULL) {
			b->used[t - b->file->tensors] = true;
			return t;
		}
		at = at[n] == '|' ? at + n + 1 : NULL;
	}
	return NULL;
}

/* The same of a weight that layers share: the layer's own, or the first of theirs. All names that
 * it may have are marked as used: files write it under each. */
static const struct bb_tensor *find_shared(struct binder *b, const char *names, int i_layer,
	char *name) {
	const int n = hparam_int(b->hp, b->model->n_sharing), turn = b->turns[i_layer];
	const struct bb_tensor *first = NULL, *own = NULL;
	for (int i = hparam_int(b->hp, H_LAYERS) - 1; i >= 0; i--) {
		if (b->set->kinds[i] == b->set->kinds[i_layer] && b->turns[i] % n == turn % n) {
			const struct bb_tensor *t = find_named(b, names, i, turn, name);
			first = t != NULL ? t : first;
			own = i == i_layer ? t : own;
		}
	}
	return own != NULL ? own : first;
}

/* The tensor of a layer, and of an expert if the name asks for one; NULL: none fits. */
static const struct bb_tensor *bind_tensor(struct binder *b, const struct bb_weight *w, int i_layer,
	int i_expert) {
	const struct bb_weight_name *column = file_column(b->file, w);
	const bool is_joined = column->name != NULL && strchr(column->name, '{') != NULL;
	char name[MAX_NAME] = "";
	const struct bb_tensor *t;
	if (is_joined) {
		snprintf(name, sizeof(name), column->name, i_layer, i_expert);
		t = join(b, name);
	} else if ((w->flags & SHARED) != 0) {
		t = find_shared(b, column->name, i_layer, name);
	} else {
		t = find_named(b, column->name, i_layer, i_expert, name);
	}
	if (t != NULL) {
		const int n_wrong = b->n_wrong;
		check_shape(b, w, t);
		t = column->n_parts > 0 && b->n_wrong == n_wrong ? part_of(b, w, t) : t;
	} else if (!is_joined && (w->flags & OPTIONAL) == 0) {
		say_missing(b, name);
	}
	return t;
}

/* A tensor per expert: they become one packed matrix each, of one type. */
static void bind_experts(struct binder *b, const struct bb_weight *w, int i_layer,
	const struct bb_tensor **experts, int n) {
	for (int i = 0; i < n; i++) {
		experts[i] = bind_tensor(b, w, i_layer, i);
		if (experts[i] != NULL && experts[0] != NULL && experts[i]->type != experts[0]->type) {
			b->n_wrong++;
			base_fail(&b->first, BB_ERR_UNSUPPORTED,
				"tensor '%s': expected %s as the first expert's, the file has %s", experts[i]->name,
				tensor_type_name(experts[0]->type), tensor_type_name(experts[i]->type));
		}
	}
}

static bool bind_one(struct binder *b, const struct bb_weight *w, int i_layer,
	struct bb_error *err) {
	const char *name = file_column(b->file, w)->name;
	if (w->stack == H_NONE || name == NULL || !names_experts(name)) {
		const struct bb_tensor *t = bind_tensor(b, w, i_layer, 0);
		if ((w->flags & PER_LAYER) != 0) {
			b->set->per_layer[(size_t)i_layer * W_COUNT + w->slot] = t;
		} else {
			b->set->global[w->slot] = t;
		}
		return true;
	}
	const size_t n = (size_t)hparam_int(b->hp, w->stack);
	const struct bb_tensor ***experts = &b->set->experts[w->slot];
	const size_t n_all = n * (size_t)hparam_int(b->hp, H_LAYERS);
	if (*experts == NULL) {
		*experts = base_alloc(n_all, sizeof(**experts));
	}
	if (*experts == NULL) {
		return base_no_memory(err, "table of experts", n_all * sizeof(**experts));
	}
	bind_experts(b, w, i_layer, *experts + (size_t)i_layer * n, (int)n);
	b->set->per_layer[(size_t)i_layer * W_COUNT + w->slot] = (*experts)[(size_t)i_layer * n];
	return true;
}

static void name_unknown(struct binder *b) {
	for (size_t i = 0; i < b->file->n_tensors; i++) {
		const char *name = b->file->tensors[i].name;
		if (!b->used[i] && !file_is_ballast(b->file, name)) {
			b->n_wrong++;
			base_fail(&b->first, BB_ERR_UNSUPPORTED,
				"tensor '%s' isn't part of architecture %s as this build knows it", name,
				b->model->name);
		}
	}
}

/* Which kind each layer is, worked out once. */
static bool find_kinds(struct binder *b, struct bb_error *err) {
	const int n = hparam_int(b->hp, H_LAYERS);
	int *const kinds = b->set->kinds, n_before[MAX_LAYER_KINDS] = { 0 };
	for (int i = 0; i < n; i++) {
		if (!file_layer_kind(b->file, b->model, b->hp, i, &kinds[i], err)) {
			return false;
		}
		b->turns[i] = n_before[kinds[i]]++;
	}
	return true;
}

static bool bind_all(struct binder *b, struct bb_error *err) {
	struct weight_set *const set = b->set;
	if (!find_kinds(b, err)) {
		return false;
	}
	for (const struct bb_weight *w = b->model->weights; w->slot != W_NONE; w++) {
		if (set->rows[w->slot] == NULL || form_is_there(b->hp, w->when)) {
			set->rows[w->slot] = w;
			set->names[w->slot] = file_column(b->file, w);
		}
		const int n = (w->flags & PER_LAYER) != 0 ? hparam_int(b->hp, H_LAYERS) : 1;
		for (int i = 0; i < n && form_is_there(b->hp, w->when); i++) {
			const bool is_here = w->kinds == 0 || (w->kinds >> set->kinds[i] & 1) != 0;
			if (is_here && !bind_one(b, w, i, err)) {
				return false;
			}
			if (!is_here && (w->flags & STRAY) != 0) {
				bind_stray(b, w, i);
			}
		}
	}
	name_unknown(b);
	if (b->n_wrong > 1) {
		return base_fail(err, b->first.code, "%.400s (and %d more tensors that don't fit)",
			b->first.text, b->n_wrong - 1);
	}
	return b->n_wrong == 0 ? file_check_tie(b->file, set->global[W_EMBED], set->global[W_HEAD], err)
		: base_fail(err, b->first.code, "%s", b->first.text);
}

/* How many weights are no tensor of the file, at most. */
static size_t count_made(const struct bb_model *m, const struct model_file *f, int n_layers) {
	size_t n = 0;
	for (const struct bb_weight *w = m->weights; w->slot != W_NONE; w++) {
		const struct bb_weight_name *column = file_column(f, w);
		const bool is_joined = column->name != NULL && strchr(column->name, '{') != NULL;
		const bool is_made = column->n_parts > 0 || is_joined;
		n += !is_made ? 0 : (w->flags & PER_LAYER) != 0 ? (size_t)n_layers : 1;
	}
	return n;
}

bool weights_bind(struct weight_set *set, const struct bb_model *m, const struct bb_hparams *hp,
	const struct model_file *f, struct bb_error *err) {
	const int n_layers = hparam_int(hp, H_LAYERS);
	memset(set, 0, sizeof(*set));
	set->kinds = base_alloc((size_t)n_layers, sizeof(*set->kinds));
	set->global = base_alloc(W_COUNT, sizeof(*set->global));
	set->per_layer = base_alloc((size_t)n_layers * W_COUNT, sizeof(*set->per_layer));
	const size_t n_made = count_made(m, f, n_layers) + 1;
	set->made = base_alloc(n_made, sizeof(*set->made));
	set->joined = base_alloc(n_made, sizeof(*set->joined));
	struct binder b = { set, m, hp, f, base_alloc(f->n_tensors, sizeof(bool)),
		base_alloc((size_t)n_layers, sizeof(int)) };
	bool ok = set->kinds != NULL && b.turns != NULL && set->global != NULL &&
		set->per_layer != NULL && set->made != NULL &&
		set->joined != NULL && b.used != NULL;
	ok = ok ? bind_all(&b, err)
		: base_no_memory(err, "weight table", (size_t)n_layers * W_COUNT * sizeof(void *));
	base_free(b.used);
	base_free(b.turns);
	return ok;
}

void weight_set_finish(struct weight_set *set) {
	base_free(set->kinds);
	base_free(set->global);
	base_free(set->per_layer);
	base_free(set->made);
	for (int i = 0; i < set->n_joined; i++) {
		base_free(set->joined[i]);
	}
	base_free(set->joined);
	for (int i = 0; i < W_COUNT; i++) {
		base_free(set->experts[i]);
	}
	memset(set, 0, sizeof(*set));
}
