/* SPDX-License-Identifier: Apache-2.0
 *
 * Granite 4.0 hybrids (ibm.com/granite): Mamba-2 in most layers, attention in the others, behind
 * either a gated feed-forward that all rows share, and in the sizes that have them a mixture of
 * experts beside it. A GGUF file of this name may hold Bamba too, see bamba.c. Easy to get wrong:
 * multipliers of the embedding, of scores and of what a layer adds, and a divisor of logits, which
 * sits in the last norm here; weights of experts are a softmax over the chosen ones; without
 * position_embedding_type nothing is rotated; folders hold gate and up as one matrix, the gate
 * first; GGUF files have rows of Q and K in pairs of whole heads, also where RoPE turns a part. */
#include "common.h"

#include <math.h>

static const struct bb_key keys[] = {
	KEYS_DECODER_OF("attention.head_count_kv[]", "shared_intermediate_size", "rms_norm_eps"),
	KEYS_ROPE(10000),
	KEYS_MAMBA2_LAYERS,
	{ H_FF, "expert_shared_feed_forward_length", NULL, 1, 1 << 22, true },
	{ H_HAS_ROPE, "rope.scaling.finetuned", "position_embedding_type=rope", 0, 1, true, 1 },
	{ H_ATTN_SCALE, NULL, "attention_multiplier", 0, 1e6, true, .in_folder = 1 },
	{ H_EMBED_SCALE, "embedding_scale", "embedding_multiplier", 0, 1e6, true, 1 },
	{ H_RESIDUAL_SCALE, "residual_scale", "residual_multiplier", 0, 1e6, true, 1 },
	{ H_LOGIT_SCALE, "logit_scale", "logits_scaling", 1e-6, 1e6, true, 1 },
	{ H_EXPERTS, "expert_count", "num_local_experts", 0, 1024, true, .in_folder = 8 },
	{ H_EXPERTS_USED, "expert_used_count", "num_experts_per_tok", 0, 32, true, .in_folder = 2 },
	{ H_EXPERT_FF, "feed_forward_length", "intermediate_size", 1, 1 << 22 },
	{ 0 },
};

enum { ATTENDS, RECURS };

static const struct bb_weight weights[] = {
	WEIGHTS_ENDS,
	{ W_OUT_NORM, H_EMBD, 0, 0, { "output_norm.weight" }, { "model.norm.weight" },
		.factor = H_LOGIT_FACTOR },
	{ W_ATTN_NORM, H_EMBD, 0, PER_LAYER, { B "attn_norm.weight" }, { L "input_layernorm.weight" } },
	{ W_Q, H_Q_WIDTH, H_EMBD, PER_LAYER, { B "attn_q.weight", T_HEAD_HALVES },
		{ L "self_attn.q_proj.weight" }, .kinds = 1 << ATTENDS },
	{ W_K, H_KV_WIDTH, H_EMBD, PER_LAYER, { B "attn_k.weight", T_HEAD_HALVES },
		{ L "self_attn.k_proj.weight" }, .kinds = 1 << ATTENDS },
	{ W_V, H_KV_WIDTH, H_EMBD, PER_LAYER, { B "attn_v.weight" }, { L "self_attn.v_proj.weight" },
		.kinds = 1 << ATTENDS },
	{ W_O, H_EMBD, H_Q_WIDTH, PER_LAYER, { B "attn_output.weight" },
		{ L "self_attn.o_proj.weight" }, .kinds = 1 << ATTENDS },
	{ W_SSM_IN, H_SSM_IN_WIDTH, H_EMBD, PER_LAYER, { B "ssm_in.weight" },
		{ L "mamba.in_proj.weight" }, .kinds = 1 << RECURS },
	{ W_SSM_CONV, H_SSM_CONV_WIDTH, H_SSM_CONV, PER_LAYER, { B "ssm_conv1d.weight" },
		{ L "mamba.conv1d.weight" }, .kinds = 1 << RECURS },
	{ W_SSM_CONV_BIAS, H_SSM_CONV_WIDTH, 0, PER_LAYER | OPTIONAL, { B "ssm_conv1d.bias" },
		{ L "mamba.conv1d.bias" }, .kinds = 1 << RECURS },
	{ W_SSM_DT_BIAS, H_SSM_HEADS, 0, PER_LAYER, { B "ssm_dt.bias" }, { L "mamba.dt_bias" },
		.kinds = 1 << RECURS },
	{ W_SSM_A, H_SSM_HEADS, 0, PER_LAYER, { B "ssm_a" }, { L "mamba.A_log", T_NEGATIVE_EXP },
		.kinds = 1 << RECURS },
	{ W_SSM_D, H_SSM_HEADS, 0, PER_LAYER, { B "ssm_d" }, { L "mamba.D" }, .kinds = 1 << RECURS },
	{ W_SSM_NORM, H_SSM_INNER, 0, PER_LAYER, { B "ssm_norm.weight" }, { L "mamba.norm.weight" },
		.kinds = 1 << RECURS },
	{ W_SSM_OUT, H_EMBD, H_SSM_INNER, PER_LAYER, { B "ssm_out.weight" },
		{ L "mamba.out_proj.weight" }, .kinds = 1 << RECURS },
	{ W_FFN_NORM, H_EMBD, 0, PER_LAYER, { B "ffn_norm.weight" },
		{ L "post_attention_layernorm.weight" } },
	{ W_GATE, H_FF, H_EMBD, PER_LAYER, { B "ffn_gate.weight" },
		{ L "shared_mlp.input_linear.weight", T_PART, 0, H_FF_TWICE }, .when = H_DENSE },
	{ W_UP, H_FF, H_EMBD, PER_LAYER, { B "ffn_up.weight" },
		{ L "shared_mlp.input_linear.weight", T_PART, 0, H_FF_TWICE, H_FF }, .when = H_DENSE },
	{ W_DOWN, H_EMBD, H_FF, PER_LAYER, { B "ffn_down.weight" },
		{ L "shared_mlp.output_linear.weight" }, .when = H_DENSE },
	{ W_GATE, H_FF, H_EMBD, PER_LAYER, { B "ffn_gate_shexp.weight" },
		{ L "shared_mlp.input_linear.weight", T_PART, 0, H_FF_TWICE }, .when = H_EXPERTS },
	{ W_UP, H_FF, H_EMBD, PER_LAYER, { B "ffn_up_shexp.weight" },
		{ L "shared_mlp.input_linear.weight", T_PART, 0, H_FF_TWICE, H_FF }, .when = H_EXPERTS },
	{ W_DOWN, H_EMBD, H_FF, PER_LAYER, { B "ffn_down_shexp.weight" },
		{ L "shared_mlp.output_linear.weight" }, .when = H_EXPERTS },
	{ W_ROUTER, H_EXPERTS, H_EMBD, PER_LAYER, { B "ffn_gate_inp.weight" },
		{ L "block_sparse_moe.router.layer.weight" }, .when = H_EXPERTS },
	{ W_E_GATE, H_EXPERT_FF, H_EMBD, PER_LAYER, { B "ffn_gate_exps.weight" },
		{ L "block_sparse_moe.input_linear.weight", T_PART, 0, H_EXPERT_FF_TWICE },
		.when = H_EXPERTS, .stack = H_EXPERTS },
	{ W_E_UP, H_EXPERT_FF, H_EMBD, PER_LAYER, { B "ffn_up_exps.weight" },
		{ L "block_sparse_moe.input_linear.weight", T_PART, 0, H_EXPERT_FF_TWICE, H_EXPERT_FF },
		.when = H_EXPERTS, .stack = H_EXPERTS },
	{ W_E_DOWN, H_EMBD, H_EXPERT_FF, PER_LAYER, { B "ffn_down_exps.weight" },
		{ L "block_sparse_moe.output_linear.weight" }, .when = H_EXPERTS, .stack = H_EXPERTS },
	{ 0 },
};

static const struct bb_op embed[] = {
	{ OP_EMBED, ACT_X, 0, W_EMBED, .scalar = { H_EMBED_SCALE } },
	{ 0 },
};

#define ADD_TO_STREAM { OP_ADD, ACT_X, ACT_H, .scalar = { H_RESIDUAL_SCALE } }

#define FEED_FORWARD \
	{ OP_RMSNORM, ACT_H, ACT_X, W_FFN_NORM }, \
	OPS_EXPERTS(OP_ROUTE_CHOSEN, .when = H_EXPERTS), \
	{ OP_MATMUL, ACT_GATE, ACT_H, W_GATE }, \
	{ OP_MATMUL, ACT_UP, ACT_H, W_UP }, \
	{ OP_SILU_MUL, ACT_FF, ACT_GATE, .in2 = ACT_UP }, \
	{ OP_MATMUL, ACT_H, ACT_FF, W_DOWN }, \
	{ OP_COMBINE, ACT_H, ACT_E_OUT, .in2 = ACT_CHOICE, .when = H_EXPERTS }, \
	ADD_TO_STREAM

static const struct bb_op attends[] = {
	{ OP_RMSNORM, ACT_H, ACT_X, W_ATTN_NORM },
	{ OP_MATMUL, ACT_Q, ACT_H, W_Q },
	{ OP_MATMUL, ACT_K, ACT_H, W_K },
	{ OP_MATMUL, ACT_V, ACT_H, W_V },
	{ OP_ROPE, ACT_Q, ACT_Q, .when = H_HAS_ROPE },
	{ OP_ROPE, ACT_K, ACT_K, .when = H_HAS_ROPE },
	{ OP_ATTENTION, ACT_ATT, ACT_Q },
	{ OP_MATMUL, ACT_H, ACT_ATT, W_O },
	ADD_TO_STREAM,
	FEED_FORWARD,
	{ 0 },
};

static const struct bb_op recurs[] = {
	{ OP_RMSNORM, ACT_H, ACT_X, W_ATTN_NORM },
	{ OP_MATMUL, ACT_SSM_Z, ACT_H, W_SSM_IN, .last = ACT_SSM_DT },
	OPS_MAMBA2,
	{ OP_RMSNORM, ACT_SSM_X, ACT_SSM_X, W_SSM_NORM },
	{ OP_MATMUL, ACT_H, ACT_SSM_X, W_SSM_OUT },
	ADD_TO_STREAM,
	FEED_FORWARD,
	{ 0 },
};

static const struct bb_op unembed[] = {
	{ OP_RMSNORM, ACT_H, ACT_X, W_OUT_NORM },
	{ OP_MATMUL, ACT_LOGITS, ACT_H, W_HEAD },
	{ 0 },
};

/* Where a folder doesn't say. */
static int pick(const struct bb_hparams *hp, int i_layer) {
	return RECURS;
}

static bool finish(struct bb_hparams *hp, struct bb_error *err) {
	double *const v = hp->v;
	v[H_DENSE] = v[H_EXPERTS] == 0;
	v[H_LOGIT_FACTOR] = 1 / v[H_LOGIT_SCALE];
	v[H_FF_TWICE] = 2 * v[H_FF];
	v[H_EXPERT_FF_TWICE] = 2 * v[H_EXPERT_FF];
	if (v[H_EXPERTS] == 0) {
		v[H_EXPERTS_USED] = v[H_EXPERT_FF] = 0;
	}
	return true;
}

const struct bb_model bb_model_granite_hybrid = {
	.name = "granitehybrid",
	.hf_name = "GraniteMoeHybridForCausalLM",
	.keys = keys,
	.weights = weights,
	.embed = embed,
	.kinds = {
		[ATTENDS] = { "attention", attends, H_ROPE_BASE, .rope_scaled = true, .hf = "attention" },
		[RECURS] = { "recurrent", recurs, .hf = "mamba" },
	},
	.unembed = unembed,
	.hf_layers = "layer_types|layers_block_type",
	.gguf_layers = "attention.head_count_kv",
	.pick = pick,
	.finish = finish,
};
