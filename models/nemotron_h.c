/* SPDX-License-Identifier: Apache-2.0
 *
 * Nemotron-H, arXiv:2504.03624: each layer is one of Mamba-2, attention or a feed-forward, behind
 * one norm. Easy to get wrong: nothing turns queries and keys; the feed-forward squares a ReLU and
 * has no gate; a string says which layer is which in a folder, two lists of numbers in a GGUF file;
 * the epsilon has the name of LayerNorm's in a folder, and in those GGUF files whose folder had no
 * other. Those with experts (nemotron_h_moe, E in the string) aren't read. */
#include "common.h"

#include <math.h>

static const struct bb_key keys[] = {
	{ H_EMBD, "embedding_length", "hidden_size", 1, 1 << 20 },
	{ H_LAYERS, "block_count", "num_hidden_layers", 1, 4096 },
	{ H_FF, "feed_forward_length[]", "intermediate_size", 1, 1 << 22 },
	{ H_HEADS, "attention.head_count", "num_attention_heads", 1, 4096 },
	{ H_KV_HEADS, "attention.head_count_kv[]", "num_key_value_heads", 1, 4096, true },
	{ H_HEAD, "attention.key_length", "head_dim|attention_head_dim", 2, 256, true },
	{ H_HEAD_V, "attention.value_length", "head_dim|attention_head_dim", 2, 256, true },
	{ H_CONTEXT, "context_length", "max_position_embeddings", 1, 2147483647.0 },
	{ H_NORM_EPS, "attention.layer_norm_rms_epsilon|attention.layer_norm_epsilon",
		"layer_norm_epsilon", 0, 1 },
	{ H_ATTN_SCALE, "attention.scale", "", 0, 1e6, true },
	{ H_VOCAB, "vocab_size", "vocab_size", 1, 1 << 24, true },
	{ H_SSM_CONV, "ssm.conv_kernel", "conv_kernel", 2, 8 },
	{ H_SSM_INNER, "ssm.inner_size", "mamba_num_heads*mamba_head_dim", 1, 1 << 20 },
	{ H_SSM_STATE, "ssm.state_size", "ssm_state_size", 1, 1 << 16 },
	{ H_SSM_HEADS, "ssm.time_step_rank", "mamba_num_heads", 1, 1 << 20 },
	{ H_SSM_GROUPS, "ssm.group_count", "n_groups", 1, 1 << 20 },
	{ H_SSM_DT_MIN, NULL, "time_step_limit.0", 0, 1e6, true },
	{ H_SSM_DT_MAX, NULL, "time_step_limit.1", 0, INFINITY, true },
	{ 0 },
};

enum { ATTENDS, FEEDS, SCANS };

#define ONLY(kind, slot, rows, cols, flags, gguf_name, ...) \
	{ slot, rows, cols, PER_LAYER | (flags), { B gguf_name }, { M __VA_ARGS__ }, \
		.kinds = 1 << (kind) }

static const struct bb_weight weights[] = {
	WEIGHTS_ENDS_OF("backbone.embeddings.weight"),
	{ W_OUT_NORM, H_EMBD, 0, 0, { "output_norm.weight" }, { "backbone.norm_f.weight" } },
	{ W_ATTN_NORM, H_EMBD, 0, PER_LAYER, { B "attn_norm.weight" },
		{ "backbone.layers.%d.norm.weight" } },
	ONLY(ATTENDS, W_Q, H_Q_WIDTH, H_EMBD, 0, "attn_q.weight", "q_proj.weight"),
	ONLY(ATTENDS, W_K, H_KV_WIDTH, H_EMBD, 0, "attn_k.weight", "k_proj.weight"),
	ONLY(ATTENDS, W_V, H_KV_WIDTH, H_EMBD, 0, "attn_v.weight", "v_proj.weight"),
	ONLY(ATTENDS, W_O, H_EMBD, H_Q_WIDTH, 0, "attn_output.weight", "o_proj.weight"),
	ONLY(ATTENDS, W_Q_BIAS, H_Q_WIDTH, 0, OPTIONAL, "attn_q.bias", "q_proj.bias"),
	ONLY(ATTENDS, W_K_BIAS, H_KV_WIDTH, 0, OPTIONAL, "attn_k.bias", "k_proj.bias"),
	ONLY(ATTENDS, W_V_BIAS, H_KV_WIDTH, 0, OPTIONAL, "attn_v.bias", "v_proj.bias"),
	ONLY(ATTENDS, W_O_BIAS, H_EMBD, 0, OPTIONAL, "attn_output.bias", "o_proj.bias"),
	ONLY(FEEDS, W_UP, H_FF, H_EMBD, 0, "ffn_up.weight", "up_proj.weight"),
	ONLY(FEEDS, W_UP_BIAS, H_FF, 0, OPTIONAL, "ffn_up.bias", "up_proj.bias"),
	ONLY(FEEDS, W_DOWN, H_EMBD, H_FF, 0, "ffn_down.weight", "down_proj.weight"),
	ONLY(FEEDS, W_DOWN_BIAS, H_EMBD, 0, OPTIONAL, "ffn_down.bias", "down_proj.bias"),
	ONLY(SCANS, W_SSM_IN, H_SSM_IN_WIDTH, H_EMBD, 0, "ssm_in.weight", "in_proj.weight"),
	ONLY(SCANS, W_SSM_CONV, H_SSM_CONV_WIDTH, H_SSM_CONV, 0, "ssm_conv1d.weight",
		"conv1d.weight"),
	ONLY(SCANS, W_SSM_CONV_BIAS, H_SSM_CONV_WIDTH, 0, OPTIONAL, "ssm_conv1d.bias",
		"conv1d.bias"),
	ONLY(SCANS, W_SSM_DT_BIAS, H_SSM_HEADS, 0, 0, "ssm_dt.bias", "dt_bias"),
	ONLY(SCANS, W_SSM_A, H_SSM_HEADS, 0, 0, "ssm_a", "A_log", T_NEGATIVE_EXP),
	ONLY(SCANS, W_SSM_D, H_SSM_HEADS, 0, 0, "ssm_d", "D"),
	ONLY(SCANS, W_SSM_NORM, H_SSM_INNER, 0, 0, "ssm_norm.weight", "norm.weight"),
	ONLY(SCANS, W_SSM_OUT, H_EMBD, H_SSM_INNER, 0, "ssm_out.weight", "out_proj.weight"),
	{ 0 },
};

static const struct bb_op embed[] = {
	{ OP_EMBED, ACT_X, 0, W_EMBED },
	{ 0 },
};

static const struct bb_op attends[] = {
	{ OP_RMSNORM, ACT_H, ACT_X, W_ATTN_NORM },
	{ OP_MATMUL, ACT_Q, ACT_H, W_Q, W_Q_BIAS },
	{ OP_MATMUL, ACT_K, ACT_H, W_K, W_K_BIAS },
	{ OP_MATMUL, ACT_V, ACT_H, W_V, W_V_BIAS },
	{ OP_ATTENTION, ACT_ATT, ACT_Q },
	{ OP_ADD_MATMUL, ACT_X, ACT_ATT, W_O, W_O_BIAS },
	{ 0 },
};

static const struct bb_op feeds[] = {
	{ OP_RMSNORM, ACT_H, ACT_X, W_ATTN_NORM },
	{ OP_MATMUL, ACT_UP, ACT_H, W_UP, W_UP_BIAS },
	{ OP_RELU2, ACT_FF, ACT_UP },
	{ OP_ADD_MATMUL, ACT_X, ACT_FF, W_DOWN, W_DOWN_BIAS },
	{ 0 },
};

static const struct bb_op scans[] = {
	{ OP_RMSNORM, ACT_H, ACT_X, W_ATTN_NORM },
	{ OP_MATMUL, ACT_SSM_Z, ACT_H, W_SSM_IN, .last = ACT_SSM_DT },
	OPS_MAMBA2,
	{ OP_RMSNORM, ACT_SSM_X, ACT_SSM_X, W_SSM_NORM, .scalar = { H_SSM_GROUPS } },
	{ OP_ADD_MATMUL, ACT_X, ACT_SSM_X, W_SSM_OUT },
	{ 0 },
};

static const struct bb_op unembed[] = {
	{ OP_RMSNORM, ACT_H, ACT_X, W_OUT_NORM },
	{ OP_MATMUL, ACT_LOGITS, ACT_H, W_HEAD },
	{ 0 },
};

const struct bb_model bb_model_nemotron_h = {
	.name = "nemotron_h",
	.hf_name = "NemotronHForCausalLM",
	.keys = keys,
	.weights = weights,
	.embed = embed,
	.kinds = {
		[ATTENDS] = { "attention", attends, .hf = "*|attention" },
		[FEEDS] = { "feed-forward", feeds, .hf = "-|mlp" },
		[SCANS] = { "recurrent", scans, .hf = "M|mamba" },
	},
	.unembed = unembed,
	.hf_layers = "hybrid_override_pattern|layers_block_type",
	.gguf_layers = "attention.head_count_kv|feed_forward_length",
};
