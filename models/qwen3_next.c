/* SPDX-License-Identifier: Apache-2.0
 *
 * Qwen3-Next (qwen.ai, September 2025): three layers in four keep a state by the gated delta rule,
 * arXiv:2412.06464, the fourth attends, with a gate on what attention gives; behind either a
 * mixture of experts, and an expert that every row uses, as far as a sigmoid lets it. Easy to get
 * wrong: a head's rows of q_proj are q, then its gate; folders have the delta rule's q, k, v, z by
 * key head, and both formats b and a; the norm behind the rule comes before its gate and is the one
 * without 1 + w; RoPE turns a quarter of a head; weights of experts are a softmax over the chosen
 * ones. */
#include "common.h"

static const struct bb_key keys[] = {
	KEYS_DECODER,
	KEYS_ROPE(10000),
	{ H_ROPE_PART, NULL, "rope_parameters.partial_rotary_factor|partial_rotary_factor", 0, 1, true,
		.in_folder = 0.25 },
	{ H_SSM_CONV, "ssm.conv_kernel", "linear_conv_kernel_dim", 2, 8 },
	{ H_DELTA_VALUES, "ssm.inner_size", "linear_num_value_heads*linear_value_head_dim", 1,
		1 << 20 },
	{ H_DELTA_KEY, "ssm.state_size", "linear_key_head_dim", 1, 256 },
	{ H_DELTA_HEADS, "ssm.time_step_rank", "linear_num_value_heads", 1, 4096 },
	{ H_DELTA_KEY_HEADS, "ssm.group_count", "linear_num_key_heads", 1, 4096 },
	{ H_ATTN_INTERVAL, "full_attention_interval", "full_attention_interval", 1, 4096, true, 4 },
	{ H_FF, "expert_shared_feed_forward_length", "shared_expert_intermediate_size", 1, 1 << 22 },
	{ H_EXPERT_FF, "expert_feed_forward_length", "moe_intermediate_size", 1, 1 << 22 },
	{ H_EXPERTS, "expert_count", "num_experts", 1, 1024 },
	{ H_EXPERTS_USED, "expert_used_count", "num_experts_per_tok", 1, 32 },
	{ H_NORM_CHOSEN, NULL, "norm_topk_prob", 1, 1, true, 1 },
	{ 0 },
};

enum { ATTENDS, RECURS };

#define NORM(slot, gguf_name, hf_name) \
	{ slot, H_EMBD, 0, PER_LAYER, { B gguf_name }, { L hf_name, T_PLUS_ONE } }
/* Rows of each key head's part of in_proj_qkvz. */
#define OF_QKVZ(before) \
	{ L "linear_attn.in_proj_qkvz.weight", T_PART, H_DELTA_KEY_HEADS, H_DELTA_GROUP, before }

static const struct bb_weight weights[] = {
	WEIGHTS_ENDS,
	{ W_OUT_NORM, H_EMBD, 0, 0, { "output_norm.weight" }, { "model.norm.weight", T_PLUS_ONE } },
	NORM(W_ATTN_NORM, "attn_norm.weight", "input_layernorm.weight"),
	{ W_Q, H_Q_WIDTH, H_EMBD, PER_LAYER, { B "attn_q.weight", T_PART, H_HEADS, H_HEAD_TWICE },
		{ L "self_attn.q_proj.weight", T_PART, H_HEADS, H_HEAD_TWICE }, .kinds = 1 << ATTENDS },
	{ W_Q_GATE, H_Q_WIDTH, H_EMBD, PER_LAYER,
		{ B "attn_q.weight", T_PART, H_HEADS, H_HEAD_TWICE, H_HEAD },
		{ L "self_attn.q_proj.weight", T_PART, H_HEADS, H_HEAD_TWICE, H_HEAD },
		.kinds = 1 << ATTENDS },
	{ W_K, H_KV_WIDTH, H_EMBD, PER_LAYER, { B "attn_k.weight" }, { L "self_attn.k_proj.weight" },
		.kinds = 1 << ATTENDS },
	{ W_V, H_KV_WIDTH, H_EMBD, PER_LAYER, { B "attn_v.weight" }, { L "self_attn.v_proj.weight" },
		.kinds = 1 << ATTENDS },
	{ W_Q_NORM, H_HEAD, 0, PER_LAYER, { B "attn_q_norm.weight" },
		{ L "self_attn.q_norm.weight", T_PLUS_ONE }, .kinds = 1 << ATTENDS },
	{ W_K_NORM, H_HEAD, 0, PER_LAYER, { B "attn_k_norm.weight" },
		{ L "self_attn.k_norm.weight", T_PLUS_ONE }, .kinds = 1 << ATTENDS },
	{ W_O, H_EMBD, H_Q_WIDTH, PER_LAYER, { B "attn_output.weight" },
		{ L "self_attn.o_proj.weight" }, .kinds = 1 << ATTENDS },
	{ W_DELTA_Q, H_DELTA_KEYS, H_EMBD, PER_LAYER,
		{ B "attn_qkv.weight", T_PART, 0, H_DELTA_CONV_WIDTH }, OF_QKVZ(0),
		.kinds = 1 << RECURS },
	{ W_DELTA_K, H_DELTA_KEYS, H_EMBD, PER_LAYER,
		{ B "attn_qkv.weight", T_PART, 0, H_DELTA_CONV_WIDTH, H_DELTA_KEYS },
		OF_QKVZ(H_DELTA_KEY), .kinds = 1 << RECURS },
	{ W_DELTA_V, H_DELTA_VALUES, H_EMBD, PER_LAYER,
		{ B "attn_qkv.weight", T_PART, 0, H_DELTA_CONV_WIDTH, H_DELTA_KEYS_TWICE },
		OF_QKVZ(H_DELTA_V_AT), .kinds = 1 << RECURS },
	{ W_DELTA_Z, H_DELTA_VALUES, H_EMBD, PER_LAYER, { B "attn_gate.weight" },
		OF_QKVZ(H_DELTA_Z_AT), .kinds = 1 << RECURS },
	{ W_DELTA_B, H_DELTA_HEADS, H_EMBD, PER_LAYER,
		{ B "ssm_ba.weight", T_PART, H_DELTA_KEY_HEADS, H_DELTA_BA_GROUP },
		{ L "linear_attn.in_proj_ba.weight", T_PART, H_DELTA_KEY_HEADS, H_DELTA_BA_GROUP },
		.kinds = 1 << RECURS },
	{ W_DELTA_A, H_DELTA_HEADS, H_EMBD, PER_LAYER,
		{ B "ssm_ba.weight", T_PART, H_DELTA_KEY_HEADS, H_DELTA_BA_GROUP, H_DELTA_A_AT },
		{ L "linear_attn.in_proj_ba.weight", T_PART, H_DELTA_KEY_HEADS, H_DELTA_BA_GROUP,
			H_DELTA_A_AT }, .kinds = 1 << RECURS },
	{ W_SSM_CONV, H_DELTA_CONV_WIDTH, H_SSM_CONV, PER_LAYER, { B "ssm_conv1d.weight" },
		{ L "linear_attn.conv1d.weight" }, .kinds = 1 << RECURS },
	{ W_SSM_A, H_DELTA_HEADS, 0, PER_LAYER, { B "ssm_a" },
		{ L "linear_attn.A_log", T_NEGATIVE_EXP }, .kinds = 1 << RECURS },
	{ W_SSM_DT_BIAS, H_DELTA_HEADS, 0, PER_LAYER, { B "ssm_dt.bias" },
		{ L "linear_attn.dt_bias" }, .kinds = 1 << RECURS },
	{ W_SSM_NORM, H_DELTA_VALUE, 0, PER_LAYER, { B "ssm_norm.weight" },
		{ L "linear_attn.norm.weight" }, .kinds = 1 << RECURS },
	{ W_SSM_OUT, H_EMBD, H_DELTA_VALUES, PER_LAYER, { B "ssm_out.weight" },
		{ L "linear_attn.out_proj.weight" }, .kinds = 1 << RECURS },
	NORM(W_FFN_NORM, "post_attention_norm.weight", "post_attention_layernorm.weight"),
	{ W_ROUTER, H_EXPERTS, H_EMBD, PER_LAYER, { B "ffn_gate_inp.weight" },
		{ L "mlp.gate.weight" } },
	{ W_E_GATE, H_EXPERT_FF, H_EMBD, PER_LAYER, { B "ffn_gate_exps.weight" },
		{ L "mlp.experts.%d.gate_proj.weight" }, .stack = H_EXPERTS },
	{ W_E_UP, H_EXPERT_FF, H_EMBD, PER_LAYER, { B "ffn_up_exps.weight" },
		{ L "mlp.experts.%d.up_proj.weight" }, .stack = H_EXPERTS },
	{ W_E_DOWN, H_EMBD, H_EXPERT_FF, PER_LAYER, { B "ffn_down_exps.weight" },
		{ L "mlp.experts.%d.down_proj.weight" }, .stack = H_EXPERTS },
	{ W_S_ROUTER, H_SHARED_EXPERTS, H_EMBD, PER_LAYER, { B "ffn_gate_inp_shexp.weight" },
		{ L "mlp.shared_expert_gate.weight" } },
	{ W_GATE, H_FF, H_EMBD, PER_LAYER, { B "ffn_gate_shexp.weight" },
		{ L "mlp.shared_expert.gate_proj.weight" } },
	{ W_UP, H_FF, H_EMBD, PER_LAYER, { B "ffn_up_shexp.weight" },
		{ L "mlp.shared_expert.up_proj.weight" } },
	{ W_DOWN, H_EMBD, H_FF, PER_LAYER, { B "ffn_down_shexp.weight" },
		{ L "mlp.shared_expert.down_proj.weight" } },
	{ 0 },
};

static const struct bb_op embed[] = {
	{ OP_EMBED, ACT_X, 0, W_EMBED },
	{ 0 },
};

#define FEED_FORWARD \
	{ OP_RMSNORM, ACT_H, ACT_X, W_FFN_NORM }, \
	OPS_EXPERTS(OP_ROUTE_CHOSEN, .when = H_EXPERTS), \
	{ OP_COMBINE, ACT_X, ACT_E_OUT, .in2 = ACT_CHOICE }, \
	{ OP_MATMUL, ACT_S_ROUTER, ACT_H, W_S_ROUTER }, \
	{ OP_ROUTE_SIGMOID, ACT_S_CHOICE, ACT_S_ROUTER }, \
	{ OP_MATMUL, ACT_GATE, ACT_H, W_GATE }, \
	{ OP_MATMUL, ACT_UP, ACT_H, W_UP }, \
	{ OP_SILU_MUL, ACT_FF, ACT_GATE, .in2 = ACT_UP }, \
	{ OP_MATMUL, ACT_H, ACT_FF, W_DOWN }, \
	{ OP_COMBINE, ACT_X, ACT_H, .in2 = ACT_S_CHOICE }

static const struct bb_op attends[] = {
	{ OP_RMSNORM, ACT_H, ACT_X, W_ATTN_NORM },
	{ OP_MATMUL, ACT_Q, ACT_H, W_Q },
	{ OP_MATMUL, ACT_K, ACT_H, W_K },
	{ OP_MATMUL, ACT_V, ACT_H, W_V },
	{ OP_MATMUL, ACT_ATT_GATE, ACT_H, W_Q_GATE },
	{ OP_RMSNORM, ACT_Q, ACT_Q, W_Q_NORM },
	{ OP_RMSNORM, ACT_K, ACT_K, W_K_NORM },
	{ OP_ROPE, ACT_Q, ACT_Q },
	{ OP_ROPE, ACT_K, ACT_K },
	{ OP_ATTENTION, ACT_ATT, ACT_Q },
	{ OP_SIGMOID_MUL, ACT_ATT, ACT_ATT_GATE, .in2 = ACT_ATT },
	{ OP_ADD_MATMUL, ACT_X, ACT_ATT, W_O },
	FEED_FORWARD,
	{ 0 },
};

static const struct bb_op recurs[] = {
	{ OP_RMSNORM, ACT_H, ACT_X, W_ATTN_NORM },
	{ OP_MATMUL, ACT_DELTA_Q, ACT_H, W_DELTA_Q },
	{ OP_MATMUL, ACT_DELTA_K, ACT_H, W_DELTA_K },
	{ OP_MATMUL, ACT_DELTA_V, ACT_H, W_DELTA_V },
	{ OP_MATMUL, ACT_DELTA_Z, ACT_H, W_DELTA_Z },
	{ OP_MATMUL, ACT_DELTA_B, ACT_H, W_DELTA_B },
	{ OP_MATMUL, ACT_DELTA_A, ACT_H, W_DELTA_A },
	{ OP_CONV_SILU, ACT_DELTA_Q, ACT_DELTA_Q, W_SSM_CONV, .last = ACT_DELTA_V },
	{ OP_DELTA, ACT_DELTA_V, ACT_DELTA_V, W_SSM_A, W_SSM_DT_BIAS },
	{ OP_RMSNORM, ACT_DELTA_V, ACT_DELTA_V, W_SSM_NORM },
	{ OP_SILU_MUL, ACT_DELTA_V, ACT_DELTA_Z, .in2 = ACT_DELTA_V },
	{ OP_ADD_MATMUL, ACT_X, ACT_DELTA_V, W_SSM_OUT },
	FEED_FORWARD,
	{ 0 },
};

static const struct bb_op unembed[] = {
	{ OP_RMSNORM, ACT_H, ACT_X, W_OUT_NORM },
	{ OP_MATMUL, ACT_LOGITS, ACT_H, W_HEAD },
	{ 0 },
};

static int pick(const struct bb_hparams *hp, int i_layer) {
	return (i_layer + 1) % hparam_int(hp, H_ATTN_INTERVAL) == 0 ? ATTENDS : RECURS;
}

static bool finish(struct bb_hparams *hp, struct bb_error *err) {
	double *const v = hp->v;
	v[H_HEAD_TWICE] = 2 * v[H_HEAD];
	v[H_ATTN_GATE_WIDTH] = v[H_Q_WIDTH];
	v[H_SHARED_EXPERTS] = 1;
	return true;
}

const struct bb_model bb_model_qwen3_next = {
	.name = "qwen3next",
	.hf_name = "Qwen3NextForCausalLM",
	.keys = keys,
	.weights = weights,
	.embed = embed,
	.kinds = {
		[ATTENDS] = { "attention", attends, H_ROPE_BASE, .rope_scaled = true,
			.hf = "full_attention" },
		[RECURS] = { "recurrent", recurs, .hf = "linear_attention" },
	},
	.unembed = unembed,
	.hf_layers = "layer_types",
	.gguf_layers = "!attention.recurrent_layers",
	.pick = pick,
	.finish = finish,
};
