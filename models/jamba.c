/* SPDX-License-Identifier: Apache-2.0
 *
 * Jamba, arXiv:2403.19887: Mamba in most layers, attention in the others, behind either a gated
 * feed-forward or, in every n-th layer, a mixture of experts. Easy to get wrong: nothing is
 * rotated; dt, B and C are normalised with weights of their own; an expert's weight is its share
 * of the softmax over all, not over the chosen; only the tensors of a GGUF file tell which layers
 * have experts. For Mamba see mamba.c. */
#include "common.h"

static const struct bb_key keys[] = {
	KEYS_DECODER_OF("attention.head_count_kv[]", "intermediate_size", "rms_norm_eps"),
	{ H_SSM_CONV, "ssm.conv_kernel", "mamba_d_conv", 2, 8 },
	{ H_SSM_INNER, "ssm.inner_size", "mamba_expand*hidden_size", 1, 1 << 20 },
	{ H_SSM_STATE, "ssm.state_size", "mamba_d_state", 1, 1 << 16 },
	{ H_SSM_DT_RANK, "ssm.time_step_rank", "mamba_dt_rank", 1, 1 << 20 },
	{ H_EXPERTS, "expert_count", "num_experts|num_local_experts", 0, 1024, true, .in_folder = 16 },
	{ H_EXPERTS_USED, "expert_used_count", "num_experts_per_tok", 0, 32, true, .in_folder = 2 },
	{ H_EXPERT_FF, "feed_forward_length", "intermediate_size", 1, 1 << 22 },
	{ H_EXPERTS_PERIOD, NULL, "expert_layer_period", 1, 4096, true, 2 },
	{ H_EXPERTS_OFFSET, NULL, "expert_layer_offset", 0, 4096, true, 1 },
	{ H_ATTN_PERIOD, NULL, "attn_layer_period", 1, 4096, true, 8 },
	{ H_ATTN_OFFSET, NULL, "attn_layer_offset", 0, 4096, true, 4 },
	{ 0 },
};

enum { ATTENDS, ATTENDS_EXPERTS, RECURS, RECURS_EXPERTS };
#define ATTENTION .kinds = 1 << ATTENDS | 1 << ATTENDS_EXPERTS
#define MAMBA .kinds = 1 << RECURS | 1 << RECURS_EXPERTS
#define DENSE .kinds = 1 << ATTENDS | 1 << RECURS
#define SPARSE .kinds = 1 << ATTENDS_EXPERTS | 1 << RECURS_EXPERTS, .when = H_EXPERTS

static const struct bb_weight weights[] = {
	WEIGHTS_ENDS,
	{ W_OUT_NORM, H_EMBD, 0, 0, { "output_norm.weight" }, { "model.final_layernorm.weight" } },
	{ W_ATTN_NORM, H_EMBD, 0, PER_LAYER, { B "attn_norm.weight" }, { L "input_layernorm.weight" } },
	{ W_Q, H_Q_WIDTH, H_EMBD, PER_LAYER, { B "attn_q.weight" }, { L "self_attn.q_proj.weight" },
		ATTENTION },
	{ W_K, H_KV_WIDTH, H_EMBD, PER_LAYER, { B "attn_k.weight" }, { L "self_attn.k_proj.weight" },
		ATTENTION },
	{ W_V, H_KV_WIDTH, H_EMBD, PER_LAYER, { B "attn_v.weight" }, { L "self_attn.v_proj.weight" },
		ATTENTION },
	{ W_O, H_EMBD, H_Q_WIDTH, PER_LAYER, { B "attn_output.weight" },
		{ L "self_attn.o_proj.weight" }, ATTENTION },
	{ W_SSM_IN, H_SSM_IN_WIDTH, H_EMBD, PER_LAYER, { B "ssm_in.weight", T_SWAP_HALVES },
		{ L "mamba.in_proj.weight", T_SWAP_HALVES }, MAMBA },
	{ W_SSM_CONV, H_SSM_INNER, H_SSM_CONV, PER_LAYER, { B "ssm_conv1d.weight" },
		{ L "mamba.conv1d.weight" }, MAMBA },
	{ W_SSM_CONV_BIAS, H_SSM_INNER, 0, PER_LAYER | OPTIONAL, { B "ssm_conv1d.bias" },
		{ L "mamba.conv1d.bias" }, MAMBA },
	{ W_SSM_X, H_SSM_X_WIDTH, H_SSM_INNER, PER_LAYER, { B "ssm_x.weight" },
		{ L "mamba.x_proj.weight" }, MAMBA },
	{ W_SSM_DT_NORM, H_SSM_DT_RANK, 0, PER_LAYER, { B "ssm_dt_norm.weight" },
		{ L "mamba.dt_layernorm.weight" }, MAMBA },
	{ W_SSM_B_NORM, H_SSM_STATE, 0, PER_LAYER, { B "ssm_b_norm.weight" },
		{ L "mamba.b_layernorm.weight" }, MAMBA },
	{ W_SSM_C_NORM, H_SSM_STATE, 0, PER_LAYER, { B "ssm_c_norm.weight" },
		{ L "mamba.c_layernorm.weight" }, MAMBA },
	{ W_SSM_DT, H_SSM_INNER, H_SSM_DT_RANK, PER_LAYER, { B "ssm_dt.weight" },
		{ L "mamba.dt_proj.weight" }, MAMBA },
	{ W_SSM_DT_BIAS, H_SSM_INNER, 0, PER_LAYER, { B "ssm_dt.bias" }, { L "mamba.dt_proj.bias" },
		MAMBA },
	{ W_SSM_A, H_SSM_INNER, H_SSM_STATE, PER_LAYER, { B "ssm_a" },
		{ L "mamba.A_log", T_NEGATIVE_EXP }, MAMBA },
	{ W_SSM_D, H_SSM_INNER, 0, PER_LAYER, { B "ssm_d" }, { L "mamba.D" }, MAMBA },
	{ W_SSM_OUT, H_EMBD, H_SSM_INNER, PER_LAYER, { B "ssm_out.weight" },
		{ L "mamba.out_proj.weight" }, MAMBA },
	{ W_FFN_NORM, H_EMBD, 0, PER_LAYER, { B "ffn_norm.weight" }, { L "pre_ff_layernorm.weight" } },
	{ W_GATE, H_FF, H_EMBD, PER_LAYER, { B "ffn_gate.weight" },
		{ L "feed_forward.gate_proj.weight" }, DENSE },
	{ W_UP, H_FF, H_EMBD, PER_LAYER, { B "ffn_up.weight" }, { L "feed_forward.up_proj.weight" },
		DENSE },
	{ W_DOWN, H_EMBD, H_FF, PER_LAYER, { B "ffn_down.weight" },
		{ L "feed_forward.down_proj.weight" }, DENSE },
	{ W_ROUTER, H_EXPERTS, H_EMBD, PER_LAYER, { B "ffn_gate_inp.weight" },
		{ L "feed_forward.router.weight" }, SPARSE },
	{ W_E_GATE, H_EXPERT_FF, H_EMBD, PER_LAYER, { B "ffn_gate_exps.weight" },
		{ L "feed_forward.experts.%d.gate_proj.weight" }, SPARSE, .stack = H_EXPERTS },
	{ W_E_UP, H_EXPERT_FF, H_EMBD, PER_LAYER, { B "ffn_up_exps.weight" },
		{ L "feed_forward.experts.%d.up_proj.weight" }, SPARSE, .stack = H_EXPERTS },
	{ W_E_DOWN, H_EMBD, H_EXPERT_FF, PER_LAYER, { B "ffn_down_exps.weight" },
		{ L "feed_forward.experts.%d.down_proj.weight" }, SPARSE, .stack = H_EXPERTS },
	{ 0 },
};

static const struct bb_op embed[] = {
	{ OP_EMBED, ACT_X, 0, W_EMBED },
	{ 0 },
};

#define ATTEND \
	{ OP_RMSNORM, ACT_H, ACT_X, W_ATTN_NORM }, \
	{ OP_MATMUL, ACT_Q, ACT_H, W_Q }, \
	{ OP_MATMUL, ACT_K, ACT_H, W_K }, \
	{ OP_MATMUL, ACT_V, ACT_H, W_V }, \
	{ OP_ATTENTION, ACT_ATT, ACT_Q }, \
	{ OP_ADD_MATMUL, ACT_X, ACT_ATT, W_O }

#define RECUR \
	{ OP_RMSNORM, ACT_H, ACT_X, W_ATTN_NORM }, \
	{ OP_MATMUL, ACT_SSM_Z, ACT_H, W_SSM_IN, .last = ACT_SSM_X }, \
	{ OP_CONV_SILU, ACT_SSM_X, ACT_SSM_X, W_SSM_CONV, W_SSM_CONV_BIAS }, \
	{ OP_MATMUL, ACT_SSM_R, ACT_SSM_X, W_SSM_X, .last = ACT_SSM_C }, \
	{ OP_RMSNORM, ACT_SSM_R, ACT_SSM_R, W_SSM_DT_NORM }, \
	{ OP_RMSNORM, ACT_SSM_B, ACT_SSM_B, W_SSM_B_NORM }, \
	{ OP_RMSNORM, ACT_SSM_C, ACT_SSM_C, W_SSM_C_NORM }, \
	{ OP_MATMUL, ACT_SSM_DT, ACT_SSM_R, W_SSM_DT }, \
	{ OP_SCAN, ACT_SSM_X, ACT_SSM_X, W_SSM_A, W_SSM_DT_BIAS, .skip = W_SSM_D }, \
	{ OP_SILU_MUL, ACT_SSM_X, ACT_SSM_Z, .in2 = ACT_SSM_X }, \
	{ OP_ADD_MATMUL, ACT_X, ACT_SSM_X, W_SSM_OUT }

#define EXPERTS \
	{ OP_RMSNORM, ACT_H, ACT_X, W_FFN_NORM }, \
	OPS_EXPERTS(OP_ROUTE, .when = H_EXPERTS), \
	{ OP_COMBINE, ACT_X, ACT_E_OUT, .in2 = ACT_CHOICE, .when = H_EXPERTS }

static const struct bb_op attends[] = { ATTEND, OPS_FEED_FORWARD, { 0 } };
static const struct bb_op attends_experts[] = { ATTEND, EXPERTS, { 0 } };
static const struct bb_op recurs[] = { RECUR, OPS_FEED_FORWARD, { 0 } };
static const struct bb_op recurs_experts[] = { RECUR, EXPERTS, { 0 } };

static const struct bb_op unembed[] = {
	{ OP_RMSNORM, ACT_H, ACT_X, W_OUT_NORM },
	{ OP_MATMUL, ACT_LOGITS, ACT_H, W_HEAD },
	{ 0 },
};

static bool is_nth(const struct bb_hparams *hp, int i, enum bb_hparam period,
	enum bb_hparam offset) {
	return i % hparam_int(hp, period) == hparam_int(hp, offset);
}

static int pick(const struct bb_hparams *hp, int i_layer) {
	const bool has_experts = hp->v[H_EXPERTS] > 0 &&
		is_nth(hp, i_layer, H_EXPERTS_PERIOD, H_EXPERTS_OFFSET);
	return (is_nth(hp, i_layer, H_ATTN_PERIOD, H_ATTN_OFFSET) ? ATTENDS : RECURS) + has_experts;
}

static bool finish(struct bb_hparams *hp, struct bb_error *err) {
	if (hp->v[H_EXPERTS] <= 1) { /* one is a feed-forward as others */
		hp->v[H_EXPERTS] = hp->v[H_EXPERTS_USED] = hp->v[H_EXPERT_FF] = 0;
	}
	return true;
}

const struct bb_model bb_model_jamba = {
	.name = "jamba",
	.hf_name = "JambaForCausalLM",
	.keys = keys,
	.weights = weights,
	.embed = embed,
	.kinds = {
		[ATTENDS] = { "attention", attends },
		[ATTENDS_EXPERTS] = { "attention, experts", attends_experts },
		[RECURS] = { "recurrent", recurs },
		[RECURS_EXPERTS] = { "recurrent, experts", recurs_experts },
	},
	.unembed = unembed,
	.gguf_layers = "attention.head_count_kv",
	.gguf_second_kind = "blk.%d.ffn_gate_inp.weight",
	.pick = pick,
	.finish = finish,
};
