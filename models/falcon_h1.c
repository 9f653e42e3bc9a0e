/* SPDX-License-Identifier: Apache-2.0
 *
 * Falcon-H1, arXiv:2507.22448: attention and Mamba-2 side by side in every layer, both over the
 * same normalised input, both added to the residual stream. Easy to get wrong: the multipliers of
 * config.json are in the weights of a GGUF file, so none is left to apply, and folders, whose
 * weights lack them, aren't read; most sizes have no norm behind the scan, which only the tensor
 * itself tells; ffn_norm, ssm_a and ssm_d have no ".weight". */
#include "common.h"

static const struct bb_key keys[] = {
	KEYS_DECODER,
	KEYS_ROPE(1e11),
	KEYS_SSM,
	{ H_SSM_HEADS, "ssm.time_step_rank", NULL, 1, 1 << 20 },
	{ H_SSM_GROUPS, "ssm.group_count", NULL, 1, 1 << 20 },
	{ H_SSM_HAS_NORM, "?blk.0.ssm_norm.weight", NULL, 0, 1, true },
	{ 0 },
};

static const struct bb_weight weights[] = {
	WEIGHTS_ENDS,
	{ W_OUT_NORM, H_EMBD, 0, 0, { "output_norm.weight" } },
	{ W_ATTN_NORM, H_EMBD, 0, PER_LAYER, { B "attn_norm.weight" } },
	{ W_Q, H_Q_WIDTH, H_EMBD, PER_LAYER, { B "attn_q.weight", T_ROPE_HALVES } },
	{ W_K, H_KV_WIDTH, H_EMBD, PER_LAYER, { B "attn_k.weight", T_ROPE_HALVES } },
	{ W_V, H_KV_WIDTH, H_EMBD, PER_LAYER, { B "attn_v.weight" } },
	{ W_O, H_EMBD, H_Q_WIDTH, PER_LAYER, { B "attn_output.weight" } },
	{ W_SSM_IN, H_SSM_IN_WIDTH, H_EMBD, PER_LAYER, { B "ssm_in.weight" } },
	{ W_SSM_CONV, H_SSM_CONV_WIDTH, H_SSM_CONV, PER_LAYER, { B "ssm_conv1d.weight" } },
	{ W_SSM_CONV_BIAS, H_SSM_CONV_WIDTH, 0, PER_LAYER | OPTIONAL, { B "ssm_conv1d.bias" } },
	{ W_SSM_DT_BIAS, H_SSM_HEADS, 0, PER_LAYER, { B "ssm_dt.bias" } },
	{ W_SSM_A, H_SSM_HEADS, 0, PER_LAYER, { B "ssm_a" } },
	{ W_SSM_D, H_SSM_HEADS, 0, PER_LAYER, { B "ssm_d" } },
	{ W_SSM_NORM, H_SSM_INNER, 0, PER_LAYER, { B "ssm_norm.weight" }, .when = H_SSM_HAS_NORM },
	{ W_SSM_OUT, H_EMBD, H_SSM_INNER, PER_LAYER, { B "ssm_out.weight" } },
	{ W_FFN_NORM, H_EMBD, 0, PER_LAYER, { B "ffn_norm" } },
	{ W_GATE, H_FF, H_EMBD, PER_LAYER, { B "ffn_gate.weight" } },
	{ W_UP, H_FF, H_EMBD, PER_LAYER, { B "ffn_up.weight" } },
	{ W_DOWN, H_EMBD, H_FF, PER_LAYER, { B "ffn_down.weight" } },
	{ 0 },
};

static const struct bb_op head[] = {
	{ OP_EMBED, ACT_X, 0, W_EMBED },
	{ 0 },
};

static const struct bb_op layer[] = {
	{ OP_RMSNORM, ACT_H, ACT_X, W_ATTN_NORM },
	{ OP_MATMUL, ACT_Q, ACT_H, W_Q },
	{ OP_MATMUL, ACT_K, ACT_H, W_K },
	{ OP_MATMUL, ACT_V, ACT_H, W_V },
	{ OP_MATMUL, ACT_SSM_Z, ACT_H, W_SSM_IN, .last = ACT_SSM_DT },
	{ OP_ROPE, ACT_Q, ACT_Q },
	{ OP_ROPE, ACT_K, ACT_K },
	{ OP_ATTENTION, ACT_ATT, ACT_Q },
	{ OP_ADD_MATMUL, ACT_X, ACT_ATT, W_O },
	{ OP_CONV_SILU, ACT_SSM_X, ACT_SSM_X, W_SSM_CONV, W_SSM_CONV_BIAS, .last = ACT_SSM_C },
	{ OP_SSD, ACT_SSM_X, ACT_SSM_X, W_SSM_A, W_SSM_DT_BIAS, .skip = W_SSM_D },
	{ OP_SILU_MUL, ACT_SSM_X, ACT_SSM_Z, .in2 = ACT_SSM_X },
	{ OP_RMSNORM, ACT_SSM_X, ACT_SSM_X, W_SSM_NORM, .scalar = { H_SSM_GROUPS },
		.when = H_SSM_HAS_NORM },
	{ OP_ADD_MATMUL, ACT_X, ACT_SSM_X, W_SSM_OUT },
	{ OP_RMSNORM, ACT_H, ACT_X, W_FFN_NORM },
	{ OP_MATMUL, ACT_GATE, ACT_H, W_GATE },
	{ OP_MATMUL, ACT_UP, ACT_H, W_UP },
	{ OP_SILU_MUL, ACT_FF, ACT_GATE, .in2 = ACT_UP },
	{ OP_ADD_MATMUL, ACT_X, ACT_FF, W_DOWN },
	{ 0 },
};

static const struct bb_op tail[] = {
	{ OP_RMSNORM, ACT_H, ACT_X, W_OUT_NORM },
	{ OP_MATMUL, ACT_LOGITS, ACT_H, W_HEAD },
	{ 0 },
};

const struct bb_model bb_model_falcon_h1 = {
	.name = "falcon-h1",
	.keys = keys,
	.weights = weights,
	.head = head,
	.kinds = {
		{ "both", layer, H_ROPE_BASE, .rope_scaled = true },
	},
	.tail = tail,
};
