/* SPDX-License-Identifier: Apache-2.0
 *
 * Mamba, arXiv:2312.00752, and Falcon-Mamba, arXiv:2410.05355, which normalises dt, B and C without
 * weights before it uses them. Easy to get wrong: the input projection's rows are x first, then the
 * gate z; GGUF holds A itself, Hugging Face log(-A); the bias of dt is added behind its product,
 * before softplus. */
#include "common.h"

static const struct bb_key keys[] = {
	KEYS_RECURRENT,
	KEYS_SSM,
	{ H_SSM_DT_RANK, "ssm.time_step_rank", "time_step_rank", 1, 1 << 20 },
	{ H_SSM_NORMS_BCDT, "ssm.dt_b_c_rms", "architectures=FalconMambaForCausalLM", 0, 1, true },
	{ H_SSM_NORM_EPS, NULL, "mixer_rms_eps", 0, 1, true, .in_folder = 1e-6 },
	{ 0 },
};

static const struct bb_weight weights[] = {
	WEIGHTS_ENDS_OF("backbone.embeddings.weight"),
	{ W_OUT_NORM, H_EMBD, 0, 0, { "output_norm.weight" }, { "backbone.norm_f.weight" } },
	{ W_ATTN_NORM, H_EMBD, 0, PER_LAYER, { B "attn_norm.weight" },
		{ "backbone.layers.%d.norm.weight" } },
	{ W_SSM_IN, H_SSM_IN_WIDTH, H_EMBD, PER_LAYER, { B "ssm_in.weight", T_SWAP_HALVES },
		{ M "in_proj.weight", T_SWAP_HALVES } },
	{ W_SSM_CONV, H_SSM_INNER, H_SSM_CONV, PER_LAYER, { B "ssm_conv1d.weight" },
		{ M "conv1d.weight" } },
	{ W_SSM_CONV_BIAS, H_SSM_INNER, 0, PER_LAYER | OPTIONAL, { B "ssm_conv1d.bias" },
		{ M "conv1d.bias" } },
	{ W_SSM_X, H_SSM_X_WIDTH, H_SSM_INNER, PER_LAYER, { B "ssm_x.weight" },
		{ M "x_proj.weight" } },
	{ W_SSM_DT, H_SSM_INNER, H_SSM_DT_RANK, PER_LAYER, { B "ssm_dt.weight" },
		{ M "dt_proj.weight" } },
	{ W_SSM_DT_BIAS, H_SSM_INNER, 0, PER_LAYER, { B "ssm_dt.bias" }, { M "dt_proj.bias" } },
	{ W_SSM_A, H_SSM_INNER, H_SSM_STATE, PER_LAYER, { B "ssm_a" }, { M "A_log", T_NEGATIVE_EXP } },
	{ W_SSM_D, H_SSM_INNER, 0, PER_LAYER, { B "ssm_d" }, { M "D" } },
	{ W_SSM_OUT, H_EMBD, H_SSM_INNER, PER_LAYER, { B "ssm_out.weight" },
		{ M "out_proj.weight" } },
	{ 0 },
};

static const struct bb_op embed[] = {
	{ OP_EMBED, ACT_X, 0, W_EMBED },
	{ 0 },
};

#define NORM_BCDT .scalar = { H_NONE, H_SSM_NORM_EPS }, .when = H_SSM_NORMS_BCDT

static const struct bb_op layer[] = {
	{ OP_RMSNORM, ACT_H, ACT_X, W_ATTN_NORM },
	{ OP_MATMUL, ACT_SSM_Z, ACT_H, W_SSM_IN, .last = ACT_SSM_X },
	{ OP_CONV_SILU, ACT_SSM_X, ACT_SSM_X, W_SSM_CONV, W_SSM_CONV_BIAS },
	{ OP_MATMUL, ACT_SSM_R, ACT_SSM_X, W_SSM_X, .last = ACT_SSM_C },
	{ OP_RMSNORM, ACT_SSM_R, ACT_SSM_R, NORM_BCDT },
	{ OP_RMSNORM, ACT_SSM_B, ACT_SSM_B, NORM_BCDT },
	{ OP_RMSNORM, ACT_SSM_C, ACT_SSM_C, NORM_BCDT },
	{ OP_MATMUL, ACT_SSM_DT, ACT_SSM_R, W_SSM_DT },
	{ OP_SCAN, ACT_SSM_X, ACT_SSM_X, W_SSM_A, W_SSM_DT_BIAS, .skip = W_SSM_D },
	{ OP_SILU_MUL, ACT_SSM_X, ACT_SSM_Z, .in2 = ACT_SSM_X },
	{ OP_ADD_MATMUL, ACT_X, ACT_SSM_X, W_SSM_OUT },
	{ 0 },
};

static const struct bb_op unembed[] = {
	{ OP_RMSNORM, ACT_H, ACT_X, W_OUT_NORM },
	{ OP_MATMUL, ACT_LOGITS, ACT_H, W_HEAD },
	{ 0 },
};

const struct bb_model bb_model_mamba = {
	.name = "mamba",
	.hf_name = "MambaForCausalLM|FalconMambaForCausalLM",
	.keys = keys,
	.weights = weights,
	.embed = embed,
	.kinds = {
		{ "recurrent", layer },
	},
	.unembed = unembed,
};
