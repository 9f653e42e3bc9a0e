/* SPDX-License-Identifier: Apache-2.0
 *
 * RWKV-7, arXiv:2503.14456. Easy to get wrong: the embedding is normalised before the first layer;
 * the values of layer 0 go into those of all others, before anything else is made of them, and
 * layer 0 has no weights for it (files may hold some that mean nothing); the order of the shifts is
 * r, w, k, v, a, g; the norm behind the recurrence is over heads, with an epsilon of its own; its
 * bonus takes k as the recurrence does. rwkv7.attention.iclr_scale is a key of ours, which no file
 * from elsewhere has: what the sigmoid of the rates is multiplied by, 2 for the extended range of
 * arXiv:2411.12537. Folders are such as flash-linear-attention writes. */
#include "common.h"

static const struct bb_key keys[] = {
	{ H_EMBD, "embedding_length", "hidden_size", 1, 1 << 20 },
	{ H_LAYERS, "block_count", "num_hidden_layers", 1, 4096 },
	{ H_FF, "feed_forward_length", "intermediate_size", 1, 1 << 22 },
	{ H_CONTEXT, "context_length", "", 1, 2147483647.0, true, 1048576 },
	{ H_NORM_EPS, "attention.layer_norm_epsilon", "norm_eps", 0, 1 },
	{ H_VOCAB, "vocab_size", "vocab_size", 1, 1 << 24, true },
	{ H_WKV_HEAD, "wkv.head_size", "head_dim", 1, 128 },
	{ H_WKV_RANK_W, "attention.decay_lora_rank", "decay_low_rank_dim", 1, 1 << 16 },
	{ H_WKV_RANK_A, "attention.iclr_lora_rank", "a_low_rank_dim", 1, 1 << 16 },
	{ H_WKV_RANK_V, "attention.value_residual_mix_lora_rank", "v_low_rank_dim", 1, 1 << 16 },
	{ H_WKV_RANK_G, "attention.gate_lora_rank", "gate_low_rank_dim", 1, 1 << 16 },
	{ H_WKV_RATE_SCALE, "attention.iclr_scale", "", 0, 2, true, 1 },
	{ H_WKV_NORM_EPS, NULL, "head_dim*norm_eps", 0, 1, true, 64e-5 },
	{ H_WKV_HEADS, NULL, "num_heads", 0, 1 << 20, true }, /* head_dim says how many */
	{ 0 },
};

#define T B "time_mix_"
#define C B "channel_mix_"
#define A L "attn."

enum { FIRST, LATER };

static const struct bb_weight weights[] = {
	{ W_EMBED, H_VOCAB, H_EMBD, 0, { "token_embd.weight" }, { "model.embeddings.weight" } },
	{ W_HEAD, H_VOCAB, H_EMBD, OPTIONAL, { "output.weight" }, { "lm_head.weight" } },
	{ W_EMBED_NORM, H_EMBD, 0, 0, { "token_embd_norm.weight" },
		{ "model.layers.0.pre_norm.weight" } },
	{ W_EMBED_NORM_BIAS, H_EMBD, 0, 0, { "token_embd_norm.bias" },
		{ "model.layers.0.pre_norm.bias" } },
	{ W_OUT_NORM, H_EMBD, 0, 0, { "output_norm.weight" }, { "model.norm.weight" } },
	{ W_OUT_NORM_BIAS, H_EMBD, 0, 0, { "output_norm.bias" }, { "model.norm.bias" } },
	{ W_ATTN_NORM, H_EMBD, 0, PER_LAYER, { B "attn_norm.weight" }, { L "attn_norm.weight" } },
	{ W_ATTN_NORM_BIAS, H_EMBD, 0, PER_LAYER, { B "attn_norm.bias" }, { L "attn_norm.bias" } },
	{ W_WKV_MIX, H_WKV_MIXES, H_EMBD, PER_LAYER, { T "lerp_fused.weight" }, { A "x_{rwkvag}" } },
	{ W_Q, H_WKV_WIDTH, H_EMBD, PER_LAYER, { T "receptance.weight" }, { A "r_proj.weight" } },
	{ W_K, H_WKV_WIDTH, H_EMBD, PER_LAYER, { T "key.weight" }, { A "k_proj.weight" } },
	{ W_V, H_WKV_WIDTH, H_EMBD, PER_LAYER, { T "value.weight" }, { A "v_proj.weight" } },
	{ W_O, H_EMBD, H_WKV_WIDTH, PER_LAYER, { T "output.weight" }, { A "o_proj.weight" } },
	{ W_WKV_W0, H_WKV_WIDTH, 0, PER_LAYER, { T "w0.weight" }, { A "w_lora.lora.2.bias" } },
	{ W_WKV_W1, H_WKV_RANK_W, H_EMBD, PER_LAYER, { T "w1.weight" }, { A "w_lora.lora.0.weight" } },
	{ W_WKV_W2, H_WKV_WIDTH, H_WKV_RANK_W, PER_LAYER, { T "w2.weight" },
		{ A "w_lora.lora.2.weight" } },
	{ W_WKV_A0, H_WKV_WIDTH, 0, PER_LAYER, { T "a0.weight" }, { A "a_lora.lora.2.bias" } },
	{ W_WKV_A1, H_WKV_RANK_A, H_EMBD, PER_LAYER, { T "a1.weight" }, { A "a_lora.lora.0.weight" } },
	{ W_WKV_A2, H_WKV_WIDTH, H_WKV_RANK_A, PER_LAYER, { T "a2.weight" },
		{ A "a_lora.lora.2.weight" } },
	{ W_WKV_V0, H_WKV_WIDTH, 0, PER_LAYER | STRAY, { T "v0.weight" }, { A "v_lora.lora.2.bias" },
		.kinds = 1 << LATER },
	{ W_WKV_V1, H_WKV_RANK_V, H_EMBD, PER_LAYER | STRAY, { T "v1.weight" },
		{ A "v_lora.lora.0.weight" }, .kinds = 1 << LATER },
	{ W_WKV_V2, H_WKV_WIDTH, H_WKV_RANK_V, PER_LAYER | STRAY, { T "v2.weight" },
		{ A "v_lora.lora.2.weight" }, .kinds = 1 << LATER },
	{ W_WKV_G1, H_WKV_RANK_G, H_EMBD, PER_LAYER, { T "g1.weight" }, { A "g_lora.lora.0.weight" } },
	{ W_WKV_G2, H_WKV_WIDTH, H_WKV_RANK_G, PER_LAYER, { T "g2.weight" },
		{ A "g_lora.lora.2.weight" } },
	{ W_WKV_K_K, H_WKV_WIDTH, 0, PER_LAYER, { T "k_k.weight" }, { A "k_k" } },
	{ W_WKV_K_A, H_WKV_WIDTH, 0, PER_LAYER, { T "k_a.weight" }, { A "k_a" } },
	{ W_WKV_R_K, H_WKV_WIDTH, 0, PER_LAYER, { T "r_k.weight" }, { A "r_k" } },
	{ W_WKV_NORM, H_WKV_WIDTH, 0, PER_LAYER, { T "ln.weight" }, { A "g_norm.weight" } },
	{ W_WKV_NORM_BIAS, H_WKV_WIDTH, 0, PER_LAYER, { T "ln.bias" }, { A "g_norm.bias" } },
	{ W_FFN_NORM, H_EMBD, 0, PER_LAYER, { B "attn_norm_2.weight" }, { L "ffn_norm.weight" } },
	{ W_FFN_NORM_BIAS, H_EMBD, 0, PER_LAYER, { B "attn_norm_2.bias" }, { L "ffn_norm.bias" } },
	{ W_FFN_MIX, H_EMBD, 0, PER_LAYER, { C "lerp_k.weight" }, { L "ffn.x_k" } },
	{ W_UP, H_FF, H_EMBD, PER_LAYER, { C "key.weight" }, { L "ffn.key.weight" } },
	{ W_DOWN, H_EMBD, H_FF, PER_LAYER, { C "value.weight" }, { L "ffn.value.weight" } },
	{ 0 },
};

static const struct bb_op embed[] = {
	{ OP_EMBED, ACT_X, 0, W_EMBED },
	{ OP_LAYERNORM, ACT_X, ACT_X, W_EMBED_NORM, W_EMBED_NORM_BIAS },
	{ 0 },
};

/* Keys, decays, rates and gates from the token and the one before it. */
#define BEGIN \
	{ OP_LAYERNORM, ACT_H, ACT_X, W_ATTN_NORM, W_ATTN_NORM_BIAS }, \
	{ OP_SHIFT, ACT_MIX_R, ACT_H, W_WKV_MIX, .last = ACT_MIX_G }, \
	{ OP_MATMUL, ACT_WKV_R, ACT_MIX_R, W_Q }, \
	{ OP_MATMUL, ACT_LOW_W, ACT_MIX_W, W_WKV_W1 }, \
	{ OP_TANH, ACT_LOW_W, ACT_LOW_W }, \
	{ OP_MATMUL, ACT_WKV_W, ACT_LOW_W, W_WKV_W2, W_WKV_W0 }, \
	{ OP_DECAY7, ACT_WKV_W, ACT_WKV_W }, \
	{ OP_MATMUL, ACT_WKV_K, ACT_MIX_K, W_K }

#define END \
	{ OP_MATMUL, ACT_LOW_A, ACT_MIX_A, W_WKV_A1 }, \
	{ OP_MATMUL, ACT_WKV_B, ACT_LOW_A, W_WKV_A2, W_WKV_A0 }, \
	{ OP_SIGMOID, ACT_WKV_B, ACT_WKV_B }, \
	{ OP_MATMUL, ACT_LOW_G, ACT_MIX_G, W_WKV_G1 }, \
	{ OP_SIGMOID, ACT_LOW_G, ACT_LOW_G }, \
	{ OP_MATMUL, ACT_WKV_G, ACT_LOW_G, W_WKV_G2 }, \
	{ OP_WKV7_KEYS, ACT_WKV_A, ACT_WKV_K, W_WKV_K_K, .in2 = ACT_WKV_B, .skip = W_WKV_K_A, \
		.scalar = { H_WKV_RATE_SCALE } }, \
	{ OP_WKV7, ACT_WKV_Y, ACT_WKV_R }, \
	{ OP_LAYERNORM, ACT_WKV_Y, ACT_WKV_Y, .scalar = { H_WKV_HEADS, H_WKV_NORM_EPS } }, \
	{ OP_WKV_OUT, ACT_WKV_Y, ACT_WKV_Y, W_WKV_NORM, W_WKV_NORM_BIAS, .skip = W_WKV_R_K }, \
	{ OP_ADD_MATMUL, ACT_X, ACT_WKV_Y, W_O }, \
	{ OP_LAYERNORM, ACT_H, ACT_X, W_FFN_NORM, W_FFN_NORM_BIAS }, \
	{ OP_SHIFT, ACT_MIX_K, ACT_H, W_FFN_MIX }, \
	{ OP_MATMUL, ACT_UP, ACT_MIX_K, W_UP }, \
	{ OP_RELU2, ACT_FF, ACT_UP }, \
	{ OP_ADD_MATMUL, ACT_X, ACT_FF, W_DOWN }

static const struct bb_op first[] = {
	BEGIN,
	{ OP_MATMUL, ACT_WKV_V, ACT_MIX_V, W_V },
	{ OP_COPY, ACT_WKV_V0, ACT_WKV_V },
	END,
	{ 0 },
};

static const struct bb_op later[] = {
	BEGIN,
	{ OP_MATMUL, ACT_WKV_B, ACT_MIX_V, W_V }, /* B is free until the rates lie there */
	{ OP_MATMUL, ACT_LOW_V, ACT_MIX_V, W_WKV_V1 },
	{ OP_MATMUL, ACT_WKV_V, ACT_LOW_V, W_WKV_V2, W_WKV_V0 },
	{ OP_SIGMOID, ACT_WKV_V, ACT_WKV_V },
	{ OP_LERP, ACT_WKV_V, ACT_WKV_B, .in2 = ACT_WKV_V0 },
	END,
	{ 0 },
};

static const struct bb_op unembed[] = {
	{ OP_LAYERNORM, ACT_H, ACT_X, W_OUT_NORM, W_OUT_NORM_BIAS },
	{ OP_MATMUL, ACT_LOGITS, ACT_H, W_HEAD },
	{ 0 },
};

static int pick(const struct bb_hparams *hp, int i_layer) {
	return i_layer == 0 ? FIRST : LATER;
}

const struct bb_model bb_model_rwkv7 = {
	.name = "rwkv7",
	.hf_name = "RWKV7ForCausalLM",
	.keys = keys,
	.weights = weights,
	.embed = embed,
	.kinds = {
		[FIRST] = { "first", first },
		[LATER] = { "recurrent", later },
	},
	.unembed = unembed,
	.pick = pick,
};
