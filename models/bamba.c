/* SPDX-License-Identifier: Apache-2.0
 *
 * Bamba (huggingface.co/blog/bamba): Mamba-2 in most layers, attention in the others, a gated
 * feed-forward behind either. llama.cpp's converter makes granitehybrid of it, see
 * granite_hybrid.c. Easy to get wrong: RoPE turns the first half of each head, always, and what it
 * pairs are halves of that half. transformers 5.2 turns whole heads where nothing is scaled, and
 * earlier ones, with which it was trained, half. */
#include "common.h"

#include <math.h>

static const struct bb_key keys[] = {
	KEYS_DECODER,
	KEYS_ROPE(10000),
	KEYS_MAMBA2_LAYERS,
	{ H_ROPE_PART, NULL, "rope_parameters.partial_rotary_factor|partial_rotary_factor", 0.5, 0.5,
		true, 0.5 },
	{ 0 },
};

enum { ATTENDS, RECURS };

#define NAMED(name) { NULL }, { L name }

static const struct bb_weight weights[] = {
	WEIGHTS_ENDS,
	{ W_OUT_NORM, H_EMBD, 0, 0, { NULL }, { "model.final_layernorm.weight" } },
	{ W_ATTN_NORM, H_EMBD, 0, PER_LAYER, NAMED("input_layernorm.weight") },
	{ W_Q, H_Q_WIDTH, H_EMBD, PER_LAYER, NAMED("self_attn.q_proj.weight"), .kinds = 1 << ATTENDS },
	{ W_K, H_KV_WIDTH, H_EMBD, PER_LAYER, NAMED("self_attn.k_proj.weight"),
		.kinds = 1 << ATTENDS },
	{ W_V, H_KV_WIDTH, H_EMBD, PER_LAYER, NAMED("self_attn.v_proj.weight"),
		.kinds = 1 << ATTENDS },
	{ W_O, H_EMBD, H_Q_WIDTH, PER_LAYER, NAMED("self_attn.o_proj.weight"), .kinds = 1 << ATTENDS },
	{ W_SSM_IN, H_SSM_IN_WIDTH, H_EMBD, PER_LAYER, NAMED("mamba.in_proj.weight"),
		.kinds = 1 << RECURS },
	{ W_SSM_CONV, H_SSM_CONV_WIDTH, H_SSM_CONV, PER_LAYER, NAMED("mamba.conv1d.weight"),
		.kinds = 1 << RECURS },
	{ W_SSM_CONV_BIAS, H_SSM_CONV_WIDTH, 0, PER_LAYER | OPTIONAL, NAMED("mamba.conv1d.bias"),
		.kinds = 1 << RECURS },
	{ W_SSM_DT_BIAS, H_SSM_HEADS, 0, PER_LAYER, NAMED("mamba.dt_bias"), .kinds = 1 << RECURS },
	{ W_SSM_A, H_SSM_HEADS, 0, PER_LAYER, { NULL }, { L "mamba.A_log", T_NEGATIVE_EXP },
		.kinds = 1 << RECURS },
	{ W_SSM_D, H_SSM_HEADS, 0, PER_LAYER, NAMED("mamba.D"), .kinds = 1 << RECURS },
	{ W_SSM_NORM, H_SSM_INNER, 0, PER_LAYER, NAMED("mamba.norm.weight"), .kinds = 1 << RECURS },
	{ W_SSM_OUT, H_EMBD, H_SSM_INNER, PER_LAYER, NAMED("mamba.out_proj.weight"),
		.kinds = 1 << RECURS },
	{ W_FFN_NORM, H_EMBD, 0, PER_LAYER, NAMED("pre_ff_layernorm.weight") },
	{ W_GATE, H_FF, H_EMBD, PER_LAYER, NAMED("feed_forward.gate_proj.weight") },
	{ W_UP, H_FF, H_EMBD, PER_LAYER, NAMED("feed_forward.up_proj.weight") },
	{ W_DOWN, H_EMBD, H_FF, PER_LAYER, NAMED("feed_forward.down_proj.weight") },
	{ 0 },
};

static const struct bb_op embed[] = {
	{ OP_EMBED, ACT_X, 0, W_EMBED },
	{ 0 },
};

static const struct bb_op attends[] = {
	{ OP_RMSNORM, ACT_H, ACT_X, W_ATTN_NORM },
	{ OP_MATMUL, ACT_Q, ACT_H, W_Q },
	{ OP_MATMUL, ACT_K, ACT_H, W_K },
	{ OP_MATMUL, ACT_V, ACT_H, W_V },
	{ OP_ROPE, ACT_Q, ACT_Q },
	{ OP_ROPE, ACT_K, ACT_K },
	{ OP_ATTENTION, ACT_ATT, ACT_Q },
	{ OP_ADD_MATMUL, ACT_X, ACT_ATT, W_O },
	OPS_FEED_FORWARD,
	{ 0 },
};

static const struct bb_op recurs[] = {
	{ OP_RMSNORM, ACT_H, ACT_X, W_ATTN_NORM },
	{ OP_MATMUL, ACT_SSM_Z, ACT_H, W_SSM_IN, .last = ACT_SSM_DT },
	OPS_MAMBA2,
	{ OP_RMSNORM, ACT_SSM_X, ACT_SSM_X, W_SSM_NORM },
	{ OP_ADD_MATMUL, ACT_X, ACT_SSM_X, W_SSM_OUT },
	OPS_FEED_FORWARD,
	{ 0 },
};

static const struct bb_op unembed[] = {
	{ OP_RMSNORM, ACT_H, ACT_X, W_OUT_NORM },
	{ OP_MATMUL, ACT_LOGITS, ACT_H, W_HEAD },
	{ 0 },
};

/* Where a folder names no layer that attends. */
static int pick(const struct bb_hparams *hp, int i_layer) {
	return RECURS;
}

const struct bb_model bb_model_bamba = {
	.name = "bamba",
	.hf_name = "BambaForCausalLM",
	.keys = keys,
	.weights = weights,
	.embed = embed,
	.kinds = {
		[ATTENDS] = { "attention", attends, H_ROPE_BASE, .rope_scaled = true },
		[RECURS] = { "recurrent", recurs },
	},
	.unembed = unembed,
	.hf_first_kind = "attn_layer_indices",
	.pick = pick,
};
