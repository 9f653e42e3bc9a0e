/* SPDX-License-Identifier: Apache-2.0
 *
 * Mamba-2, arXiv:2405.21060. Easy to get wrong: one input projection gives the gate z, x, B, C and
 * dt, in this order, and the convolution runs over x, B and C together; the gate is applied before
 * the norm behind the scan, which is over groups of channels, each with its part of the weight. */
#include "common.h"

#include <math.h>

static const struct bb_key keys[] = {
	KEYS_RECURRENT,
	{ H_SSM_CONV, "ssm.conv_kernel", "conv_kernel", 2, 8 },
	{ H_SSM_INNER, "ssm.inner_size", "num_heads*head_dim", 1, 1 << 20 },
	{ H_SSM_STATE, "ssm.state_size", "state_size", 1, 1 << 16 },
	{ H_SSM_DT_MIN, NULL, "time_step_limit.0", 0, 1e6, true },
	{ H_SSM_DT_MAX, NULL, "time_step_limit.1", 0, INFINITY, true },
	{ H_SSM_HEADS, "ssm.time_step_rank", "num_heads", 1, 1 << 20 },
	{ H_SSM_GROUPS, "ssm.group_count", "n_groups", 1, 1 << 20 },
	{ 0 },
};

static const struct bb_weight weights[] = {
	WEIGHTS_ENDS_OF("backbone.embeddings.weight"),
	{ W_OUT_NORM, H_EMBD, 0, 0, { "output_norm.weight" }, { "backbone.norm_f.weight" } },
	{ W_ATTN_NORM, H_EMBD, 0, PER_LAYER, { B "attn_norm.weight" },
		{ "backbone.layers.%d.norm.weight" } },
	{ W_SSM_IN, H_SSM_IN_WIDTH, H_EMBD, PER_LAYER, { B "ssm_in.weight" }, { M "in_proj.weight" } },
	{ W_SSM_CONV, H_SSM_CONV_WIDTH, H_SSM_CONV, PER_LAYER, { B "ssm_conv1d.weight" },
		{ M "conv1d.weight" } },
	{ W_SSM_CONV_BIAS, H_SSM_CONV_WIDTH, 0, PER_LAYER | OPTIONAL, { B "ssm_conv1d.bias" },
		{ M "conv1d.bias" } },
	{ W_SSM_DT_BIAS, H_SSM_HEADS, 0, PER_LAYER, { B "ssm_dt.bias" }, { M "dt_bias" } },
	{ W_SSM_A, H_SSM_HEADS, 0, PER_LAYER, { B "ssm_a" }, { M "A_log", T_NEGATIVE_EXP } },
	{ W_SSM_D, H_SSM_HEADS, 0, PER_LAYER, { B "ssm_d" }, { M "D" } },
	{ W_SSM_NORM, H_SSM_INNER, 0, PER_LAYER, { B "ssm_norm.weight" }, { M "norm.weight" } },
	{ W_SSM_OUT, H_EMBD, H_SSM_INNER, PER_LAYER, { B "ssm_out.weight" },
		{ M "out_proj.weight" } },
	{ 0 },
};

static const struct bb_op embed[] = {
	{ OP_EMBED, ACT_X, 0, W_EMBED },
	{ 0 },
};

static const struct bb_op layer[] = {
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

const struct bb_model bb_model_mamba2 = {
	.name = "mamba2",
	.hf_name = "Mamba2ForCausalLM",
	.keys = keys,
	.weights = weights,
	.embed = embed,
	.kinds = {
		{ "recurrent", layer },
	},
	.unembed = unembed,
};
