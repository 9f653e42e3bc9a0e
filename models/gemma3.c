/* SPDX-License-Identifier: Apache-2.0
 *
 * Gemma 3, text, arXiv:2503.19786. Five sliding-window layers, then one that sees everything.
 * Easy to get wrong: the embedding is scaled by sqrt(embd); norms stand before and after both
 * halves of a layer; Q and K are normalised per head before RoPE; sliding layers turn by base 10000
 * without scaling, full layers by the file's base with it; scores are scaled by 1/sqrt(head_dim)
 * but for the 27B, which takes 1/sqrt(embd / heads); norm weights are w in Hugging Face files and
 * 1 + w in GGUF. */
#include "common.h"

#include <math.h>

static const struct bb_key keys[] = {
	KEYS_DECODER,
	KEYS_ROPE(1000000),
	{ H_ROPE_BASE_LOCAL, "rope.freq_base_swa",
		"rope_parameters.sliding_attention.rope_theta|rope_local_base_freq", 1, 1e12, true, 10000 },
	{ H_WINDOW, "attention.sliding_window", "sliding_window", 1, 2147483647.0 },
	{ H_WINDOW_PATTERN, "attention.sliding_window_pattern",
		"sliding_window_pattern|_sliding_window_pattern", 1, 4096, true, 6 },
	{ H_ATTN_SCALE_DIM, NULL, "query_pre_attn_scalar", 0, 1e6, true, .in_folder = 256 },
	{ 0 },
};

#define NORM(slot, gguf_name, hf_name) \
	{ slot, H_EMBD, 0, PER_LAYER, { B gguf_name }, { L hf_name, T_PLUS_ONE } }

static const struct bb_weight weights[] = {
	WEIGHTS_ENDS,
	{ W_OUT_NORM, H_EMBD, 0, 0, { "output_norm.weight" }, { "model.norm.weight", T_PLUS_ONE } },
	NORM(W_ATTN_NORM, "attn_norm.weight", "input_layernorm.weight"),
	{ W_Q, H_Q_WIDTH, H_EMBD, PER_LAYER, { B "attn_q.weight" }, { L "self_attn.q_proj.weight" } },
	{ W_K, H_KV_WIDTH, H_EMBD, PER_LAYER, { B "attn_k.weight" }, { L "self_attn.k_proj.weight" } },
	{ W_V, H_KV_WIDTH, H_EMBD, PER_LAYER, { B "attn_v.weight" }, { L "self_attn.v_proj.weight" } },
	{ W_Q_NORM, H_HEAD, 0, PER_LAYER, { B "attn_q_norm.weight" },
		{ L "self_attn.q_norm.weight", T_PLUS_ONE } },
	{ W_K_NORM, H_HEAD, 0, PER_LAYER, { B "attn_k_norm.weight" },
		{ L "self_attn.k_norm.weight", T_PLUS_ONE } },
	{ W_O, H_EMBD, H_Q_WIDTH, PER_LAYER, { B "attn_output.weight" },
		{ L "self_attn.o_proj.weight" } },
	NORM(W_POST_ATTN_NORM, "post_attention_norm.weight", "post_attention_layernorm.weight"),
	NORM(W_FFN_NORM, "ffn_norm.weight", "pre_feedforward_layernorm.weight"),
	{ W_GATE, H_FF, H_EMBD, PER_LAYER, { B "ffn_gate.weight" }, { L "mlp.gate_proj.weight" } },
	{ W_UP, H_FF, H_EMBD, PER_LAYER, { B "ffn_up.weight" }, { L "mlp.up_proj.weight" } },
	{ W_DOWN, H_EMBD, H_FF, PER_LAYER, { B "ffn_down.weight" }, { L "mlp.down_proj.weight" } },
	NORM(W_POST_FFN_NORM, "post_ffw_norm.weight", "post_feedforward_layernorm.weight"),
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
	{ OP_RMSNORM, ACT_Q, ACT_Q, W_Q_NORM },
	{ OP_RMSNORM, ACT_K, ACT_K, W_K_NORM },
	{ OP_ROPE, ACT_Q, ACT_Q },
	{ OP_ROPE, ACT_K, ACT_K },
	{ OP_ATTENTION, ACT_ATT, ACT_Q },
	{ OP_MATMUL, ACT_H, ACT_ATT, W_O },
	{ OP_RMSNORM, ACT_H, ACT_H, W_POST_ATTN_NORM },
	{ OP_ADD, ACT_X, ACT_H },
	{ OP_RMSNORM, ACT_H, ACT_X, W_FFN_NORM },
	{ OP_MATMUL, ACT_GATE, ACT_H, W_GATE },
	{ OP_MATMUL, ACT_UP, ACT_H, W_UP },
	{ OP_GELU_MUL, ACT_FF, ACT_GATE, .in2 = ACT_UP },
	{ OP_MATMUL, ACT_H, ACT_FF, W_DOWN },
	{ OP_RMSNORM, ACT_H, ACT_H, W_POST_FFN_NORM },
	{ OP_ADD, ACT_X, ACT_H },
	{ 0 },
};

static const struct bb_op unembed[] = {
	{ OP_RMSNORM, ACT_H, ACT_X, W_OUT_NORM },
	{ OP_MATMUL, ACT_LOGITS, ACT_H, W_HEAD },
	{ 0 },
};

enum { SLIDING, FULL };

static int pick(const struct bb_hparams *hp, int i_layer) {
	const int pattern = hparam_int(hp, H_WINDOW_PATTERN);
	return (i_layer + 1) % pattern == 0 ? FULL : SLIDING;
}

static bool finish(struct bb_hparams *hp, struct bb_error *err) {
	const int layers_27b = 62;
	const bool is_27b = hparam_int(hp, H_LAYERS) == layers_27b;
	const double per_head = is_27b ? hp->v[H_EMBD] / hp->v[H_HEADS] : hp->v[H_HEAD];
	if (!hp->given[H_ATTN_SCALE]) {
		hp->v[H_ATTN_SCALE] = 1 / sqrt(per_head);
	}
	hp->v[H_EMBED_SCALE] = (double)sqrtf((float)hp->v[H_EMBD]);
	return true;
}

const struct bb_model bb_model_gemma3 = {
	.name = "gemma3",
	.hf_name = "Gemma3ForCausalLM",
	.keys = keys,
	.weights = weights,
	.embed = embed,
	.embed_is_scaled = true,
	.kinds = {
		[SLIDING] = { "sliding", layer, H_ROPE_BASE_LOCAL, .window = H_WINDOW,
			.hf = "sliding_attention" },
		[FULL] = { "full", layer, H_ROPE_BASE, .rope_scaled = true,
			.hf = "full_attention" },
	},
	.unembed = unembed,
	.hf_layers = "layer_types",
	.pick = pick,
	.finish = finish,
};
