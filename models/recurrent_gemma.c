/* SPDX-License-Identifier: Apache-2.0
 *
 * RecurrentGemma, arXiv:2404.07839: Griffin, arXiv:2402.19427, in Gemma's clothes. RG-LRU layers
 * behind a short convolution, and layers that attend to a window. From Hugging Face folders. Easy
 * to get wrong: a token sees its window beside itself, as DeepMind's code has it (transformers
 * limits nothing in a prompt); the embedding is scaled by sqrt(embd) rounded to bf16;
 * intermediate_size counts gate and up together; RoPE turns half of each head; block_types repeat;
 * norm weights are w of 1 + w; the first token's input isn't scaled down. */
#include "common.h"

#include <math.h>

static const struct bb_key keys[] = {
	{ H_EMBD, NULL, "hidden_size", 1, 1 << 20 },
	{ H_LAYERS, NULL, "num_hidden_layers", 1, 4096 },
	{ H_FF, NULL, "intermediate_size", 2, 1 << 22 },
	{ H_HEADS, NULL, "num_attention_heads", 1, 4096 },
	{ H_KV_HEADS, NULL, "num_key_value_heads", 1, 4096, true },
	{ H_CONTEXT, NULL, "", 1, 2147483647.0, true, 1048576 },
	{ H_NORM_EPS, NULL, "rms_norm_eps", 0, 1, true, 1e-6 },
	{ H_VOCAB, NULL, "vocab_size", 1, 1 << 24, true },
	KEYS_ROPE(10000),
	{ H_ROPE_PART, NULL, "rope_parameters.partial_rotary_factor|partial_rotary_factor", 0, 1, true,
		0.5 },
	{ H_WINDOW, NULL, "attention_window_size", 1, 1 << 30, true, 2048 },
	{ H_LRU_WIDTH, NULL, "lru_width|hidden_size", 1, 1 << 20 },
	{ H_SSM_CONV, NULL, "conv1d_width", 2, 8, true, 4 },
	{ H_LOGIT_CAP, NULL, "logits_soft_cap", 0, 1e6, true, 30 },
	{ 0 },
};

enum { ATTENDS, RECURS };

#define HF(slot, rows, cols, ...) { slot, rows, cols, PER_LAYER, { 0 }, { L __VA_ARGS__ } }
#define OF(kind, slot, rows, cols, flags, ...) \
	{ slot, rows, cols, PER_LAYER | (flags), { 0 }, { L "temporal_block." __VA_ARGS__ }, \
		.kinds = 1 << (kind) }

static const struct bb_weight weights[] = {
	WEIGHTS_ENDS,
	{ W_OUT_NORM, H_EMBD, 0, 0, { 0 }, { "model.final_norm.weight", T_PLUS_ONE } },
	HF(W_ATTN_NORM, H_EMBD, 0, "temporal_pre_norm.weight", T_PLUS_ONE),
	OF(ATTENDS, W_Q, H_Q_WIDTH, H_EMBD, 0, "q_proj.weight"),
	OF(ATTENDS, W_K, H_KV_WIDTH, H_EMBD, 0, "k_proj.weight"),
	OF(ATTENDS, W_V, H_KV_WIDTH, H_EMBD, 0, "v_proj.weight"),
	OF(ATTENDS, W_O, H_EMBD, H_Q_WIDTH, 0, "o_proj.weight"),
	OF(ATTENDS, W_Q_BIAS, H_Q_WIDTH, 0, OPTIONAL, "q_proj.bias"),
	OF(ATTENDS, W_K_BIAS, H_KV_WIDTH, 0, OPTIONAL, "k_proj.bias"),
	OF(ATTENDS, W_V_BIAS, H_KV_WIDTH, 0, OPTIONAL, "v_proj.bias"),
	OF(ATTENDS, W_O_BIAS, H_EMBD, 0, 0, "o_proj.bias"),
	OF(RECURS, W_LRU_Y, H_LRU_WIDTH, H_EMBD, 0, "linear_y.weight"),
	OF(RECURS, W_LRU_Y_BIAS, H_LRU_WIDTH, 0, 0, "linear_y.bias"),
	OF(RECURS, W_LRU_X, H_LRU_WIDTH, H_EMBD, 0, "linear_x.weight"),
	OF(RECURS, W_LRU_X_BIAS, H_LRU_WIDTH, 0, 0, "linear_x.bias"),
	OF(RECURS, W_CONV, H_LRU_WIDTH, H_SSM_CONV, 0, "conv_1d.weight"),
	OF(RECURS, W_CONV_BIAS, H_LRU_WIDTH, 0, 0, "conv_1d.bias"),
	OF(RECURS, W_LRU_R, H_LRU_WIDTH, H_LRU_HEAD, 0, "rg_lru.recurrent_gate_weight"),
	OF(RECURS, W_LRU_R_BIAS, H_LRU_WIDTH, 0, 0, "rg_lru.recurrent_gate_bias"),
	OF(RECURS, W_LRU_I, H_LRU_WIDTH, H_LRU_HEAD, 0, "rg_lru.input_gate_weight"),
	OF(RECURS, W_LRU_I_BIAS, H_LRU_WIDTH, 0, 0, "rg_lru.input_gate_bias"),
	OF(RECURS, W_LRU_A, H_LRU_WIDTH, 0, 0, "rg_lru.recurrent_param", T_LRU_DECAY),
	OF(RECURS, W_LRU_OUT, H_EMBD, H_LRU_WIDTH, 0, "linear_out.weight"),
	OF(RECURS, W_LRU_OUT_BIAS, H_EMBD, 0, 0, "linear_out.bias"),
	HF(W_FFN_NORM, H_EMBD, 0, "channel_pre_norm.weight", T_PLUS_ONE),
	HF(W_GATE, H_FF, H_EMBD, "mlp_block.gate_proj.weight"),
	HF(W_GATE_BIAS, H_FF, 0, "mlp_block.gate_proj.bias"),
	HF(W_UP, H_FF, H_EMBD, "mlp_block.up_proj.weight"),
	HF(W_UP_BIAS, H_FF, 0, "mlp_block.up_proj.bias"),
	HF(W_DOWN, H_EMBD, H_FF, "mlp_block.down_proj.weight"),
	HF(W_DOWN_BIAS, H_EMBD, 0, "mlp_block.down_proj.bias"),
	{ 0 },
};

static const struct bb_op embed[] = {
	{ OP_EMBED, ACT_X, 0, W_EMBED, .scalar = { H_EMBED_SCALE } },
	{ 0 },
};

#define FEED_FORWARD \
	{ OP_RMSNORM, ACT_H, ACT_X, W_FFN_NORM }, \
	{ OP_MATMUL, ACT_GATE, ACT_H, W_GATE, W_GATE_BIAS }, \
	{ OP_MATMUL, ACT_UP, ACT_H, W_UP, W_UP_BIAS }, \
	{ OP_GELU_MUL, ACT_FF, ACT_GATE, .in2 = ACT_UP }, \
	{ OP_ADD_MATMUL, ACT_X, ACT_FF, W_DOWN, W_DOWN_BIAS }

static const struct bb_op attends[] = {
	{ OP_RMSNORM, ACT_H, ACT_X, W_ATTN_NORM },
	{ OP_MATMUL, ACT_Q, ACT_H, W_Q, W_Q_BIAS },
	{ OP_MATMUL, ACT_K, ACT_H, W_K, W_K_BIAS },
	{ OP_MATMUL, ACT_V, ACT_H, W_V, W_V_BIAS },
	{ OP_ROPE, ACT_Q, ACT_Q },
	{ OP_ROPE, ACT_K, ACT_K },
	{ OP_ATTENTION, ACT_ATT, ACT_Q },
	{ OP_ADD_MATMUL, ACT_X, ACT_ATT, W_O, W_O_BIAS },
	FEED_FORWARD,
	{ 0 },
};

static const struct bb_op recurs[] = {
	{ OP_RMSNORM, ACT_H, ACT_X, W_ATTN_NORM },
	{ OP_MATMUL, ACT_LRU_Y, ACT_H, W_LRU_Y, W_LRU_Y_BIAS },
	{ OP_MATMUL, ACT_LRU_X, ACT_H, W_LRU_X, W_LRU_X_BIAS },
	{ OP_CONV, ACT_LRU_X, ACT_LRU_X, W_CONV, W_CONV_BIAS },
	{ OP_HEADS_MATMUL, ACT_LRU_R, ACT_LRU_X, W_LRU_R, W_LRU_R_BIAS },
	{ OP_HEADS_MATMUL, ACT_LRU_I, ACT_LRU_X, W_LRU_I, W_LRU_I_BIAS },
	{ OP_RG_LRU, ACT_LRU_X, ACT_LRU_X, W_LRU_A },
	{ OP_GELU_MUL, ACT_LRU_X, ACT_LRU_Y, .in2 = ACT_LRU_X },
	{ OP_ADD_MATMUL, ACT_X, ACT_LRU_X, W_LRU_OUT, W_LRU_OUT_BIAS },
	FEED_FORWARD,
	{ 0 },
};

static const struct bb_op unembed[] = {
	{ OP_RMSNORM, ACT_H, ACT_X, W_OUT_NORM },
	{ OP_MATMUL, ACT_LOGITS, ACT_H, W_HEAD, .scalar = { H_LOGIT_CAP } },
	{ 0 },
};

static double as_bf16(double x) {
	int exponent;
	const double fraction = frexp(x, &exponent);
	return ldexp(nearbyint(ldexp(fraction, 8)), exponent - 8);
}

static bool finish(struct bb_hparams *hp, struct bb_error *err) {
	double *const v = hp->v;
	v[H_FF] = floor(v[H_FF] / 2);
	v[H_WINDOW] += 1;
	v[H_EMBED_SCALE] = as_bf16(sqrt(v[H_EMBD]));
	v[H_LRU_HEAD] = floor(v[H_LRU_WIDTH] / v[H_HEADS]);
	return true;
}

const struct bb_model bb_model_recurrent_gemma = {
	.name = "recurrent_gemma",
	.hf_name = "RecurrentGemmaForCausalLM",
	.keys = keys,
	.weights = weights,
	.embed = embed,
	.kinds = {
		[ATTENDS] = { "attention", attends, H_ROPE_BASE, .rope_scaled = true, .window = H_WINDOW,
			.hf = "attention" },
		[RECURS] = { "recurrent", recurs, .hf = "recurrent" },
	},
	.unembed = unembed,
	.hf_layers = "block_types",
	.hf_layers_repeat = true,
	.finish = finish,
};
