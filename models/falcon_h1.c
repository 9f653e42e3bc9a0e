/* SPDX-License-Identifier: Apache-2.0
 *
 * Falcon-H1, arXiv:2507.22448: attention and Mamba-2 side by side in every layer, both over the
 * same normalised input, both added to the residual stream. Easy to get wrong: the multipliers of
 * config.json are in the weights of a GGUF file, where a folder's lack them: they are multiplied
 * in at load, those of the five parts of mamba.in_proj each by its own; most sizes have no norm
 * behind the scan, which of a GGUF file only the tensor itself tells; ffn_norm, ssm_a and ssm_d
 * have no ".weight" there. */
#include "common.h"

#include <math.h>

#define MULTIPLIER(h, name) { H_##h, NULL, name, -1e6, 1e6, true, 1 }

static const struct bb_key keys[] = {
	KEYS_DECODER,
	KEYS_ROPE(1e11),
	{ H_SSM_CONV, "ssm.conv_kernel", "mamba_d_conv", 2, 8 },
	{ H_SSM_INNER, "ssm.inner_size", "mamba_d_ssm|mamba_expand*hidden_size", 1, 1 << 20 },
	{ H_SSM_STATE, "ssm.state_size", "mamba_d_state", 1, 1 << 16 },
	{ H_SSM_HEADS, "ssm.time_step_rank", "mamba_n_heads", 1, 1 << 20 },
	{ H_SSM_GROUPS, "ssm.group_count", "mamba_n_groups", 1, 1 << 20 },
	{ H_SSM_DT_MIN, NULL, "time_step_limit.0", 0, 1e6, true },
	{ H_SSM_DT_MAX, NULL, "time_step_limit.1", 0, INFINITY, true },
	{ H_SSM_HAS_NORM, "?blk.0.ssm_norm.weight", "mamba_rms_norm", 0, 1, true },
	{ H_SSM_IN_PARTS, NULL, "mamba_n_heads", 0, 1 << 20, true }, /* a folder's */
	MULTIPLIER(EMBED_SCALE, "embedding_multiplier"),
	MULTIPLIER(MUL_HEAD, "lm_head_multiplier"),
	MULTIPLIER(MUL_ATTN_IN, "attention_in_multiplier"),
	MULTIPLIER(MUL_ATTN_OUT, "attention_out_multiplier"),
	MULTIPLIER(MUL_KEY, "key_multiplier"),
	MULTIPLIER(MUL_SSM_IN, "ssm_in_multiplier"),
	MULTIPLIER(MUL_SSM_OUT, "ssm_out_multiplier"),
	MULTIPLIER(MUL_SSM_Z, "ssm_multipliers.0"),
	MULTIPLIER(MUL_SSM_X, "ssm_multipliers.1"),
	MULTIPLIER(MUL_SSM_B, "ssm_multipliers.2"),
	MULTIPLIER(MUL_SSM_C, "ssm_multipliers.3"),
	MULTIPLIER(MUL_SSM_DT, "ssm_multipliers.4"),
	MULTIPLIER(MUL_GATE, "mlp_multipliers.0"),
	MULTIPLIER(MUL_DOWN, "mlp_multipliers.1"),
	{ 0 },
};

#define A L "self_attn."
#define S L "mamba."
#define FF L "feed_forward."
/* A part of a folder's mamba.in_proj, behind the rows that `at` tells. */
#define IN_PART(part, rows, at) { W_SSM_IN_##part, rows, H_EMBD, PER_LAYER, { 0 }, \
	{ S "in_proj.weight", T_PART, 0, H_SSM_IN_WIDTH, at }, .when = H_SSM_IN_PARTS, \
	.factor = H_MUL_SSM_##part }

static const struct bb_weight weights[] = {
	{ W_EMBED, H_VOCAB, H_EMBD, 0, { "token_embd.weight" }, { "model.embed_tokens.weight" } },
	{ W_HEAD, H_VOCAB, H_EMBD, OPTIONAL, { "output.weight" }, { "lm_head.weight" },
		.factor = H_MUL_HEAD },
	{ W_OUT_NORM, H_EMBD, 0, 0, { "output_norm.weight" }, { "model.final_layernorm.weight" } },
	{ W_ATTN_NORM, H_EMBD, 0, PER_LAYER, { B "attn_norm.weight" }, { L "input_layernorm.weight" } },
	{ W_Q, H_Q_WIDTH, H_EMBD, PER_LAYER, { B "attn_q.weight", T_ROPE_HALVES },
		{ A "q_proj.weight" }, .factor = H_MUL_ATTN_IN },
	{ W_K, H_KV_WIDTH, H_EMBD, PER_LAYER, { B "attn_k.weight", T_ROPE_HALVES },
		{ A "k_proj.weight" }, .factor = H_MUL_KEY },
	{ W_V, H_KV_WIDTH, H_EMBD, PER_LAYER, { B "attn_v.weight" }, { A "v_proj.weight" },
		.factor = H_MUL_ATTN_IN },
	{ W_O, H_EMBD, H_Q_WIDTH, PER_LAYER, { B "attn_output.weight" }, { A "o_proj.weight" },
		.factor = H_MUL_ATTN_OUT },
	{ W_SSM_IN, H_SSM_IN_WIDTH, H_EMBD, PER_LAYER, { B "ssm_in.weight" },
		{ S "in_proj.weight" }, .when = H_SSM_IN_WHOLE },
	IN_PART(Z, H_SSM_INNER, 0),
	IN_PART(X, H_SSM_INNER, H_SSM_INNER),
	IN_PART(B, H_SSM_BC_WIDTH, H_SSM_B_AT),
	IN_PART(C, H_SSM_BC_WIDTH, H_SSM_C_AT),
	IN_PART(DT, H_SSM_HEADS, H_SSM_DT_AT),
	{ W_SSM_CONV, H_SSM_CONV_WIDTH, H_SSM_CONV, PER_LAYER, { B "ssm_conv1d.weight" },
		{ S "conv1d.weight" } },
	{ W_SSM_CONV_BIAS, H_SSM_CONV_WIDTH, 0, PER_LAYER | OPTIONAL, { B "ssm_conv1d.bias" },
		{ S "conv1d.bias" } },
	{ W_SSM_DT_BIAS, H_SSM_HEADS, 0, PER_LAYER, { B "ssm_dt.bias" }, { S "dt_bias" } },
	{ W_SSM_A, H_SSM_HEADS, 0, PER_LAYER, { B "ssm_a" }, { S "A_log", T_NEGATIVE_EXP } },
	{ W_SSM_D, H_SSM_HEADS, 0, PER_LAYER, { B "ssm_d" }, { S "D" } },
	{ W_SSM_NORM, H_SSM_INNER, 0, PER_LAYER, { B "ssm_norm.weight" }, { S "norm.weight" },
		.when = H_SSM_HAS_NORM },
	{ W_SSM_OUT, H_EMBD, H_SSM_INNER, PER_LAYER, { B "ssm_out.weight" }, { S "out_proj.weight" },
		.factor = H_MUL_SSM_OUT },
	{ W_FFN_NORM, H_EMBD, 0, PER_LAYER, { B "ffn_norm" }, { L "pre_ff_layernorm.weight" } },
	{ W_GATE, H_FF, H_EMBD, PER_LAYER, { B "ffn_gate.weight" }, { FF "gate_proj.weight" },
		.factor = H_MUL_GATE },
	{ W_UP, H_FF, H_EMBD, PER_LAYER, { B "ffn_up.weight" }, { FF "up_proj.weight" } },
	{ W_DOWN, H_EMBD, H_FF, PER_LAYER, { B "ffn_down.weight" }, { FF "down_proj.weight" },
		.factor = H_MUL_DOWN },
	{ 0 },
};

static const struct bb_op embed[] = {
	{ OP_EMBED, ACT_X, 0, W_EMBED, .scalar = { H_EMBED_SCALE } },
	{ 0 },
};

static const struct bb_op layer[] = {
	{ OP_RMSNORM, ACT_H, ACT_X, W_ATTN_NORM },
	{ OP_MATMUL, ACT_Q, ACT_H, W_Q },
	{ OP_MATMUL, ACT_K, ACT_H, W_K },
	{ OP_MATMUL, ACT_V, ACT_H, W_V },
	{ OP_MATMUL, ACT_SSM_Z, ACT_H, W_SSM_IN, .last = ACT_SSM_DT, .when = H_SSM_IN_WHOLE },
	{ OP_MATMUL, ACT_SSM_Z, ACT_H, W_SSM_IN_Z, .when = H_SSM_IN_PARTS },
	{ OP_MATMUL, ACT_SSM_X, ACT_H, W_SSM_IN_X, .when = H_SSM_IN_PARTS },
	{ OP_MATMUL, ACT_SSM_B, ACT_H, W_SSM_IN_B, .when = H_SSM_IN_PARTS },
	{ OP_MATMUL, ACT_SSM_C, ACT_H, W_SSM_IN_C, .when = H_SSM_IN_PARTS },
	{ OP_MATMUL, ACT_SSM_DT, ACT_H, W_SSM_IN_DT, .when = H_SSM_IN_PARTS },
	{ OP_ROPE, ACT_Q, ACT_Q },
	{ OP_ROPE, ACT_K, ACT_K },
	{ OP_ATTENTION, ACT_ATT, ACT_Q },
	{ OP_ADD_MATMUL, ACT_X, ACT_ATT, W_O },
	OPS_MAMBA2,
	{ OP_RMSNORM, ACT_SSM_X, ACT_SSM_X, W_SSM_NORM, .scalar = { H_SSM_GROUPS },
		.when = H_SSM_HAS_NORM },
	{ OP_ADD_MATMUL, ACT_X, ACT_SSM_X, W_SSM_OUT },
	OPS_FEED_FORWARD,
	{ 0 },
};

static const struct bb_op unembed[] = {
	{ OP_RMSNORM, ACT_H, ACT_X, W_OUT_NORM },
	{ OP_MATMUL, ACT_LOGITS, ACT_H, W_HEAD },
	{ 0 },
};

static bool finish(struct bb_hparams *hp, struct bb_error *err) {
	double *const v = hp->v;
	const enum bb_hparam parts[] = { H_MUL_SSM_Z, H_MUL_SSM_X, H_MUL_SSM_B, H_MUL_SSM_C,
		H_MUL_SSM_DT };
	const double bc = v[H_SSM_GROUPS] * v[H_SSM_STATE];
	v[H_SSM_IN_WHOLE] = v[H_SSM_IN_PARTS] == 0;
	v[H_SSM_B_AT] = 2 * v[H_SSM_INNER];
	v[H_SSM_C_AT] = v[H_SSM_B_AT] + bc;
	v[H_SSM_DT_AT] = v[H_SSM_C_AT] + bc;
	v[H_MUL_KEY] *= v[H_MUL_ATTN_IN];
	for (size_t i = 0; i < sizeof(parts) / sizeof(parts[0]); i++) {
		v[parts[i]] *= v[H_MUL_SSM_IN];
	}
	return true;
}

const struct bb_model bb_model_falcon_h1 = {
	.name = "falcon-h1",
	.hf_name = "FalconH1ForCausalLM",
	.keys = keys,
	.weights = weights,
	.embed = embed,
	.kinds = {
		{ "both", layer, H_ROPE_BASE, .rope_scaled = true },
	},
	.unembed = unembed,
	.finish = finish,
};
