/* SPDX-License-Identifier: Apache-2.0
 *
 * Zamba2, arXiv:2411.15242. Mamba-2 in every layer; in some, its input is the residual stream with
 * what a transformer block says of it and of the token's embedding. There are but one or two such
 * blocks, which take turns, each time with low-rank matrices of that turn. From Hugging Face
 * folders. Easy to get wrong: the block has no residual inside, and what it says doesn't enter the
 * stream; scores are scaled by 1/sqrt(head_dim / 2); gelu is the exact one; keys and values belong
 * to the turn, not to the block; the norm behind the scan has an epsilon of its own. */
#include "common.h"

#include <math.h>

static const struct bb_key keys[] = {
	{ H_EMBD, NULL, "hidden_size", 1, 1 << 20 },
	{ H_LAYERS, NULL, "num_hidden_layers", 1, 4096 },
	{ H_FF, NULL, "intermediate_size", 1, 1 << 22 },
	{ H_HEADS, NULL, "num_attention_heads", 1, 4096 },
	{ H_KV_HEADS, NULL, "num_key_value_heads", 1, 4096, true },
	{ H_HEAD, NULL, "attention_head_dim", 2, 256 },
	{ H_CONTEXT, NULL, "max_position_embeddings", 1, 2147483647.0 },
	{ H_NORM_EPS, NULL, "rms_norm_eps", 0, 1 },
	{ H_VOCAB, NULL, "vocab_size", 1, 1 << 24, true },
	KEYS_ROPE(10000),
	/* shared weights are sought under the name of every layer */
	{ H_LAYERS, NULL, "num_hidden_layers", 1, 512 },
	{ H_HAS_ROPE, NULL, "use_mem_rope", 0, 1, true },
	{ H_BLOCKS, NULL, "num_mem_blocks", 1, 4096, true, 1 },
	{ H_LORA_RANK, NULL, "adapter_rank", 1, 1 << 16, true, 128 },
	{ H_LORA_ATTENDS, NULL, "use_shared_attention_adapter", 0, 1, true },
	{ H_SSM_CONV, NULL, "mamba_d_conv", 2, 8 },
	{ H_SSM_INNER, NULL, "mamba_expand*hidden_size", 1, 1 << 20 },
	{ H_SSM_STATE, NULL, "mamba_d_state", 1, 1 << 16 },
	{ H_SSM_HEADS, NULL, "n_mamba_heads", 1, 1 << 20 },
	{ H_SSM_GROUPS, NULL, "mamba_ngroups", 1, 1 << 20 },
	{ H_SSM_DT_MIN, NULL, "time_step_limit.0", 0, 1e6, true },
	{ H_SSM_DT_MAX, NULL, "time_step_limit.1", 0, INFINITY, true },
	{ 0 },
};

enum { HYBRID, MAMBA };

#define S L "shared_transformer."
#define OF_TURN(list, part) S #list "_adapter_list.%d." #part ".weight"
#define SHARES(slot, rows, cols, hf_name) \
	{ slot, rows, cols, PER_LAYER | SHARED, { 0 }, { hf_name }, .kinds = 1 << HYBRID }
#define ADAPTS(slot, rows, cols, hf_name) \
	{ slot, rows, cols, PER_LAYER | SHARED, { 0 }, { hf_name }, .when = H_LORA_ATTENDS, \
		.kinds = 1 << HYBRID }
/* In layers of both kinds. */
#define BOTH(slot, rows, cols, flags, hf_name, ...) \
	{ slot, rows, cols, PER_LAYER | (flags), { 0 }, \
		{ L hf_name "|" L "mamba_decoder." hf_name, __VA_ARGS__ } }

static const struct bb_weight weights[] = {
	WEIGHTS_ENDS,
	{ W_OUT_NORM, H_EMBD, 0, 0, { 0 }, { "model.final_layernorm.weight" } },
	SHARES(W_CAT_NORM, H_CAT, 0, S "input_layernorm.weight"),
	SHARES(W_Q, H_Q_WIDTH, H_CAT, S "self_attn.q_proj.weight"),
	SHARES(W_K, H_KV_WIDTH, H_CAT, S "self_attn.k_proj.weight"),
	SHARES(W_V, H_KV_WIDTH, H_CAT, S "self_attn.v_proj.weight"),
	ADAPTS(W_LORA_Q_A, H_LORA_RANK, H_CAT, OF_TURN(self_attn.linear_q, 0)),
	ADAPTS(W_LORA_K_A, H_LORA_RANK, H_CAT, OF_TURN(self_attn.linear_k, 0)),
	ADAPTS(W_LORA_V_A, H_LORA_RANK, H_CAT, OF_TURN(self_attn.linear_v, 0)),
	ADAPTS(W_LORA_Q_B, H_Q_WIDTH, H_LORA_RANK, OF_TURN(self_attn.linear_q, 1)),
	ADAPTS(W_LORA_K_B, H_KV_WIDTH, H_LORA_RANK, OF_TURN(self_attn.linear_k, 1)),
	ADAPTS(W_LORA_V_B, H_KV_WIDTH, H_LORA_RANK, OF_TURN(self_attn.linear_v, 1)),
	SHARES(W_O, H_EMBD, H_Q_WIDTH, S "self_attn.o_proj.weight"),
	SHARES(W_FFN_NORM, H_EMBD, 0, S "pre_ff_layernorm.weight"),
	SHARES(W_GATE_UP, H_GATE_UP, H_EMBD, S "feed_forward.gate_up_proj.weight"),
	SHARES(W_LORA_FF_A, H_LORA_RANK, H_EMBD, OF_TURN(feed_forward.gate_up_proj, 0)),
	SHARES(W_LORA_FF_B, H_GATE_UP, H_LORA_RANK, OF_TURN(feed_forward.gate_up_proj, 1)),
	SHARES(W_DOWN, H_EMBD, H_FF, S "feed_forward.down_proj.weight"),
	{ W_LINK, H_EMBD, H_EMBD, PER_LAYER, { 0 }, { L "linear.weight" }, .kinds = 1 << HYBRID },
	BOTH(W_ATTN_NORM, H_EMBD, 0, 0, "input_layernorm.weight", 0),
	BOTH(W_SSM_IN, H_SSM_IN_WIDTH, H_EMBD, 0, "mamba.in_proj.weight", 0),
	BOTH(W_SSM_CONV, H_SSM_CONV_WIDTH, H_SSM_CONV, 0, "mamba.conv1d.weight", 0),
	BOTH(W_SSM_CONV_BIAS, H_SSM_CONV_WIDTH, 0, OPTIONAL, "mamba.conv1d.bias", 0),
	BOTH(W_SSM_DT_BIAS, H_SSM_HEADS, 0, 0, "mamba.dt_bias", 0),
	BOTH(W_SSM_A, H_SSM_HEADS, 0, 0, "mamba.A_log", T_NEGATIVE_EXP),
	BOTH(W_SSM_D, H_SSM_HEADS, 0, 0, "mamba.D", 0),
	BOTH(W_SSM_NORM, H_SSM_INNER, 0, 0, "mamba.norm.weight", 0),
	BOTH(W_SSM_OUT, H_EMBD, H_SSM_INNER, 0, "mamba.out_proj.weight", 0),
	{ 0 },
};

static const struct bb_op embed[] = {
	{ OP_EMBED, ACT_X, 0, W_EMBED },
	{ OP_PLACE, ACT_CAT, ACT_X, .scalar = { H_EMBD } },
	{ 0 },
};

#define SCAN \
	{ OP_MATMUL, ACT_SSM_Z, ACT_H, W_SSM_IN, .last = ACT_SSM_DT }, \
	OPS_MAMBA2, \
	{ OP_RMSNORM, ACT_SSM_X, ACT_SSM_X, W_SSM_NORM, .scalar = { H_SSM_GROUPS, H_SSM_NORM_EPS } }, \
	{ OP_ADD_MATMUL, ACT_X, ACT_SSM_X, W_SSM_OUT }

static const struct bb_op hybrid[] = {
	{ OP_PLACE, ACT_CAT, ACT_X },
	{ OP_RMSNORM, ACT_CATN, ACT_CAT, W_CAT_NORM },
	{ OP_MATMUL, ACT_Q, ACT_CATN, W_Q },
	{ OP_MATMUL, ACT_K, ACT_CATN, W_K },
	{ OP_MATMUL, ACT_V, ACT_CATN, W_V },
	{ OP_MATMUL, ACT_LORA_Q, ACT_CATN, W_LORA_Q_A, .when = H_LORA_ATTENDS },
	{ OP_MATMUL, ACT_LORA_K, ACT_CATN, W_LORA_K_A, .when = H_LORA_ATTENDS },
	{ OP_MATMUL, ACT_LORA_V, ACT_CATN, W_LORA_V_A, .when = H_LORA_ATTENDS },
	{ OP_ADD_MATMUL, ACT_Q, ACT_LORA_Q, W_LORA_Q_B, .when = H_LORA_ATTENDS },
	{ OP_ADD_MATMUL, ACT_K, ACT_LORA_K, W_LORA_K_B, .when = H_LORA_ATTENDS },
	{ OP_ADD_MATMUL, ACT_V, ACT_LORA_V, W_LORA_V_B, .when = H_LORA_ATTENDS },
	{ OP_ROPE, ACT_Q, ACT_Q, .when = H_HAS_ROPE },
	{ OP_ROPE, ACT_K, ACT_K, .when = H_HAS_ROPE },
	{ OP_ATTENTION, ACT_ATT, ACT_Q },
	{ OP_MATMUL, ACT_H, ACT_ATT, W_O },
	{ OP_RMSNORM, ACT_H, ACT_H, W_FFN_NORM },
	{ OP_MATMUL, ACT_GATE, ACT_H, W_GATE_UP, .last = ACT_UP },
	{ OP_MATMUL, ACT_LORA_Q, ACT_H, W_LORA_FF_A },
	{ OP_ADD_MATMUL, ACT_GATE, ACT_LORA_Q, W_LORA_FF_B, .last = ACT_UP },
	{ OP_GELU_ERF_MUL, ACT_FF, ACT_GATE, .in2 = ACT_UP },
	{ OP_MATMUL, ACT_BLOCK, ACT_FF, W_DOWN },
	{ OP_MATMUL, ACT_H, ACT_BLOCK, W_LINK },
	{ OP_ADD, ACT_H, ACT_X },
	{ OP_RMSNORM, ACT_H, ACT_H, W_ATTN_NORM },
	SCAN,
	{ 0 },
};

static const struct bb_op mamba[] = {
	{ OP_RMSNORM, ACT_H, ACT_X, W_ATTN_NORM },
	SCAN,
	{ 0 },
};

static const struct bb_op unembed[] = {
	{ OP_RMSNORM, ACT_H, ACT_X, W_OUT_NORM },
	{ OP_MATMUL, ACT_LOGITS, ACT_H, W_HEAD },
	{ 0 },
};

static bool finish(struct bb_hparams *hp, struct bb_error *err) {
	double *const v = hp->v;
	v[H_CAT] = 2 * v[H_EMBD];
	v[H_GATE_UP] = 2 * v[H_FF];
	v[H_ATTN_SCALE] = 1 / sqrt(v[H_HEAD] / 2);
	v[H_SSM_NORM_EPS] = 1e-5;
	return true;
}

const struct bb_model bb_model_zamba2 = {
	.name = "zamba2",
	.hf_name = "Zamba2ForCausalLM",
	.keys = keys,
	.weights = weights,
	.embed = embed,
	.kinds = {
		[HYBRID] = { "hybrid", hybrid, H_ROPE_BASE, .rope_scaled = true, .hf = "hybrid" },
		[MAMBA] = { "mamba", mamba, .hf = "mamba" },
	},
	.unembed = unembed,
	.hf_layers = "layers_block_type",
	.n_sharing = H_BLOCKS,
	.finish = finish,
};
