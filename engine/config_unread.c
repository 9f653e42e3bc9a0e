/* SPDX-License-Identifier: Apache-2.0
 *
 * What stands in a config.json beside what the model's description reads. An entry that changes
 * what is computed would give wrong text, so it is refused, unless its value is the one that
 * changes nothing; so is an entry that isn't known here, unless it is off: null, false, empty. The
 * names are those of transformers' configuration classes. */
#include "config.h"

#include <stdlib.h>
#include <string.h>

/* What never changes a logit of a folder as it lies there: how it was made and trained, what it is
 * called, how other engines are to run it, tokens, and what tensors or other entries say again.
 * With a star: whatever begins so. */
static const char *const harmless[] = {
	"_*", "add_cross_attention", "architectures", "attention_bias", "attention_dropout",
	"attention_probs_dropout_prob", "attn_implementation", "attn_mode", "attn_pdrop", "auto_map",
	"autocast_kernel_dtype", "block_mlp_init_scale", "block_out_init_scale",
	"block_use_xavier_init", "bos_token_id", "cache_implementation", "chunk_size",
	"chunkwise_kernel", "classifier_dropout*", "conv_use_xavier_init", "d_model",
	"decoder_start_token_id", "dtype", "embd_pdrop", "eos_token_id", "expand", "finetuning_task",
	"final_w_init_variance_scale", "fuse_cross_entropy", "fuse_linear_cross_entropy", "fuse_norm",
	"fused_add_norm", "gradient_checkpointing", "hidden_dropout*", "hidden_ratio",
	"hybrid_layer_ids", "id2label", "inference_state_dtype", "initializer_range", "is_decoder",
	"is_llama_config", "kv_channels", "label2id", "init_method", "mamba_chunk_size",
	"mamba_conv_bias", "mamba_d_head", "mamba_headdim", "mamba_proj_bias",
	"mamba_ssm_cache_dtype", "max_inference_chunksize", "max_length", "mlp_bias",
	"mlp_expansion_factor", "mode", "model_type",
	"n_layer", "norm_before_gate", "norm_reduction_force_float32", "num_labels", "num_query_groups",
	"num_logits_to_keep", "output_router_logits", "pad_token_id", "pad_vocab_size_multiple",
	"pretraining_tp", "problem_type", "rescale_every", "rescale_prenorm_residual", "resid_pdrop",
	"residual_in_fp32", "return_last_states", "router_aux_loss_coef", "sep_token_id",
	"sequence_kernel", "ssm_cfg", "step_kernel", "task_specific_params", "tie_word_embeddings",
	"time_step_floor", "time_step_init_scheme", "time_step_max", "time_step_min", "time_step_rank",
	"time_step_scale", "tokenizer_class", "torch_dtype", "transformers.js_config*",
	"transformers_version", "unsloth_*", "use_associative_scan", "use_bias", "use_cache",
	"use_conv_bias", "use_falcon_mambapy", "use_flash_attention*", "use_mamba_kernels",
	"use_mambapy", "use_mem_eff_path", "use_qkv_bias", "w_init_variance_scale",
	"z_loss_coefficient",
};

/* What changes logits, and which values don't. Of rows for one entry each may allow it. */
static const struct effect {
	const char *path;
	const char *texts;    /* strings that change nothing, separated by |; NULL: none */
	double neutral;       /* the number that doesn't, if `has_number` */
	bool has_number;
	enum bb_hparam same;  /* neither does this hyper-parameter's value */
	enum bb_hparam only;  /* the entry matters only if this isn't 0; H_NONE: always */
} effects[] = {
	{ "add_out_norm", .neutral = 1, .has_number = true },
	{ "attention_multiplier", .same = H_ATTN_SCALE },
	{ "attention_hidden_size", .same = H_CAT },
	{ "attention_hidden_size", .same = H_WKV_WIDTH },
	{ "attn_rotary_emb", .same = H_ROPE_DIM },
	{ "block_dim", .same = H_EMBD },
	{ "block_use_swiglu", .neutral = 1, .has_number = true },
	{ "context_length", .same = H_CONTEXT, .only = H_HEADS },
	{ "conv_dim", .same = H_EMBD },
	{ "conv_dim_out", .same = H_EMBD },
	{ "d_inner", .same = H_SSM_INNER },
	{ "decoder_sparse_step", .neutral = 1, .has_number = true },
	{ "embedding_dim", .same = H_EMBD },
	{ "embedding_multiplier", .neutral = 1, .has_number = true },
	{ "embeddings_scale_by_sqrt_dim", .neutral = 1, .has_number = true },
	{ "head_dim", .same = H_HEAD },
	{ "head_size_divisor", .neutral = 8, .has_number = true },
	{ "intermediate_size", .same = H_SSM_INNER },
	{ "lm_head_multiplier", .neutral = 1, .has_number = true },
	{ "logits_scaling", .neutral = 1, .has_number = true },
	{ "mamba_hidden_act", .texts = "silu|swish" },
	{ "mamba_inner_layernorms", .neutral = 1, .has_number = true },
	{ "mamba_norm_before_gate", .neutral = 0, .has_number = true, .only = H_SSM_HAS_NORM },
	{ "mamba_use_mlp", .neutral = 1, .has_number = true },
	{ "max_position_embeddings", .same = H_CONTEXT, .only = H_HEADS },
	{ "max_window_layers", .neutral = 0, .has_number = true, .only = H_WINDOW },
	{ "mlp_hidden_act", .texts = "relu2" },
	{ "normalization_function", .texts = "rmsnorm" },
	{ "num_blocks", .same = H_LAYERS },
	{ "norm_bias", .neutral = 1, .has_number = true },
	{ "norm_first", .neutral = 1, .has_number = true },
	{ "num_heads", .same = H_HEADS },
	{ "partial_rotary_factor", .neutral = 1, .has_number = true },
	{ "residual_multiplier", .neutral = 1, .has_number = true },
	{ "rms_norm_eps", .same = H_NORM_EPS },
	{ "rms_norm", .neutral = 1, .has_number = true },
	{ "rope_parameters.full_attention.partial_rotary_factor", .neutral = 1, .has_number = true },
	{ "rope_parameters.full_attention.truncate", .neutral = 1, .has_number = true },
	{ "rope_parameters.partial_rotary_factor", .neutral = 1, .has_number = true },
	{ "rope_parameters.sliding_attention.partial_rotary_factor", .neutral = 1, .has_number = true },
	{ "rope_parameters.sliding_attention.rope_type", .texts = "default" },
	{ "rope_parameters.truncate", .neutral = 1, .has_number = true },
	{ "rope_scaling.truncate", .neutral = 1, .has_number = true },
	{ "sliding_window" },
	{ "use_pos_enc", .neutral = 1, .has_number = true },
	{ "value_dim", .same = H_WKV_WIDTH },
	{ "weight_mode", .texts = "single" },
};

static bool begins_like(const char *pattern, const char *path) {
	const size_t n = strlen(pattern) - 1;
	return pattern[n] == '*' ? strncmp(path, pattern, n) == 0 : strcmp(path, pattern) == 0;
}

static bool is_harmless(const char *path) {
	for (size_t i = 0; i < COUNT(harmless); i++) {
		if (begins_like(harmless[i], path)) {
			return true;
		}
	}
	return false;
}

static const struct effect *find_effect(const char *path) {
	for (size_t i = 0; i < COUNT(effects); i++) {
		if (strcmp(effects[i].path, path) == 0) {
			return &effects[i];
		}
	}
	return NULL;
}

/* Whether one of the names that `names` is made of is path, or an element of the array there. */
static bool names_mention(const char *names, const char *path) {
	const size_t n = strlen(path);
	const char *at = n > 0 ? names : NULL; /* an empty one is in every text */
	for (; at != NULL && (at = strstr(at, path)) != NULL; at++) {
		if ((at == names || strchr("|*", at[-1]) != NULL) && strchr("|*=.", at[n]) != NULL) {
			return true; /* strchr finds the end of the string too */
		}
	}
	return false;
}

static bool model_reads(const struct bb_model *m, const char *path) {
	if (names_mention(m->hf_layers, path) || names_mention(m->hf_first_kind, path) ||
		names_mention(CONFIG_ROPE_TYPE, path)) {
		return true;
	}
	for (const struct bb_key *k = m->keys; k->h != H_NONE; k++) {
		if (names_mention(k->hf, path)) {
			return true;
		}
	}
	return false;
}

/* ---- what an activation function is called ---- */

static bool uses(const struct bb_model *m, enum bb_op_kind kind) {
	for (int i = 0; i < MAX_LAYER_KINDS && m->kinds[i].ops != NULL; i++) {
		for (const struct bb_op *op = m->kinds[i].ops; op->kind != OP_END; op++) {
			if (op->kind == kind) {
				return true;
			}
		}
	}
	return false;
}

/* Names of the activation function that the model's op lists compute. */
static const char *activations(const struct bb_model *m) {
	return uses(m, OP_GELU_MUL) ? "gelu_pytorch_tanh" : uses(m, OP_GELU_ERF_MUL) ? "gelu"
		: uses(m, OP_RELU2) ? "sqrelu" : "silu|swish";
}

static bool is_activation(const char *path) {
	return config_names("hidden_act|hidden_activation", path);
}

/* ---- one entry ---- */

/* Kinds of layers where the model has but one: all see a window, or none. */
static bool is_one_kind(const json_t *list, const struct bb_hparams *hp) {
	const char *want = hp->v[H_WINDOW] > 0 ? "sliding_attention" : "full_attention";
	for (size_t i = 0; i < json_array_size(list); i++) {
		const char *have = json_string_value(json_array_get(list, i));
		if (have == NULL || strcmp(have, want) != 0) {
			return false;
		}
	}
	return json_is_array(list);
}

static bool is_off(const json_t *value) {
	return json_is_null(value) || json_is_false(value) ||
		(json_is_array(value) && json_array_size(value) == 0) ||
		(json_is_object(value) && json_object_size(value) == 0) ||
		(json_is_string(value) && json_string_length(value) == 0);
}

/* A number of each layer, all the same. */
static bool is_same_each(const json_t *list, double number) {
	for (size_t i = 0; i < json_array_size(list); i++) {
		const json_t *value = json_array_get(list, i);
		if (!json_is_number(value) || json_number_value(value) != number) {
			return false;
		}
	}
	return json_array_size(list) > 0;
}

static bool is_neutral(const struct effect *e, const struct bb_hparams *hp, const json_t *value) {
	if (e->only != H_NONE && hp->v[e->only] == 0) {
		return true;
	}
	if (e->same != H_NONE && is_same_each(value, hp->v[e->same])) {
		return true;
	}
	if (json_is_string(value)) {
		return e->texts != NULL && config_names(e->texts, json_string_value(value));
	}
	const double number = json_is_true(value) ? 1 : json_number_value(value);
	if (!json_is_true(value) && !json_is_number(value)) {
		return is_off(value) && (!json_is_false(value) || (e->has_number && e->neutral == 0));
	}
	return (e->has_number && number == e->neutral) ||
		(e->same != H_NONE && (float)number == (float)hp->v[e->same]);
}

static bool any_is_neutral(const char *path, const struct bb_hparams *hp, const json_t *value) {
	for (size_t i = 0; i < COUNT(effects); i++) {
		if (strcmp(effects[i].path, path) == 0 && is_neutral(&effects[i], hp, value)) {
			return true;
		}
	}
	return false;
}

static void show(const json_t *value, char *buf, size_t bytes) {
	char *text = json_dumps(value, JSON_ENCODE_ANY | JSON_COMPACT | JSON_REAL_PRECISION(9));
	base_show(text != NULL ? text : "?", text != NULL ? strlen(text) : 1, buf, bytes);
	free(text);
}

static bool check_entry(const struct bb_model *m, const struct bb_hparams *hp, const char *path,
	const json_t *value, struct bb_error *err) {
	char shown[BASE_SHOWN], name[BASE_SHOWN];
	const struct effect *e = find_effect(path);
	if (model_reads(m, path) || is_harmless(path) || (e == NULL && is_off(value)) ||
		any_is_neutral(path, hp, value) ||
		(strcmp(path, "layer_types") == 0 && is_one_kind(value, hp)) ||
		(is_activation(path) && json_is_string(value) &&
			config_names(activations(m), json_string_value(value)))) {
		return true;
	}
	show(value, shown, sizeof(shown));
	base_show(path, strlen(path), name, sizeof(name));
	if (is_activation(path)) {
		return base_fail(err, BB_ERR_UNSUPPORTED, "config.json: '%s' is %s, and this build's %s "
			"doesn't compute that; expected %s", name, shown, m->name, activations(m));
	}
	const bool is_known = e != NULL || strcmp(path, "layer_types") == 0;
	return base_fail(err, BB_ERR_UNSUPPORTED, "config.json: '%s' is %s, %s%s%s", name, shown,
		is_known ? "and this build's " : "an entry that this build's ", m->name,
		is_known ? " doesn't compute that"
		: " doesn't know, so it may change what is computed");
}

enum { MAX_PATH = 192, MAX_DEPTH = 8 };

/* Entries of an object, and of those in it; `path` [MAX_PATH] is the object's, n characters. */
static bool check_object(const struct bb_model *m, const struct bb_hparams *hp,
	const json_t *object, char *path, size_t n, int depth, struct bb_error *err) {
	const char *key;
	json_t *value;
	json_object_foreach((json_t *)(uintptr_t)object, key, value) {
		snprintf(path + n, MAX_PATH - n, "%s%s", n > 0 ? "." : "", key);
		const size_t end = strlen(path);
		const bool goes_in = json_is_object(value) && json_object_size(value) > 0 &&
			!is_harmless(path) && depth < MAX_DEPTH;
		if (!(goes_in ? check_object(m, hp, value, path, end, depth + 1, err)
			: check_entry(m, hp, path, value, err))) {
			return false;
		}
	}
	return true;
}

bool config_unread_check(const json_t *root, const struct bb_model *m, const struct bb_hparams *hp,
	struct bb_error *err) {
	char path[MAX_PATH] = "";
	if (config_value(root, "rope_parameters") != NULL &&
		config_value(root, "rope_scaling") != NULL) {
		return base_fail(err, BB_ERR_UNSUPPORTED, "config.json has both 'rope_parameters' and "
			"'rope_scaling', expected one: they say the same");
	}
	return check_object(m, hp, root, path, 0, 0, err);
}
