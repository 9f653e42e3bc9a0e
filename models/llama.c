/* SPDX-License-Identifier: Apache-2.0
 *
 * Llama and everything that converts to it (Llama 1-3, Mistral, SmolLM2, …), dense,
 * arXiv:2307.09288. Easy to get wrong: GGUF stores Q and K rows of each head with RoPE's pairs side
 * by side, Hugging Face with the halves split; no output.weight means the embedding is the head;
 * Llama 3's RoPE scaling comes as per-pair factors in rope_freqs.weight that divide the
 * frequencies. */
#include "common.h"

static const struct bb_key keys[] = {
	KEYS_DECODER,
	KEYS_ROPE(10000),
	{ H_WINDOW, "attention.sliding_window", "sliding_window", 0, 2147483647.0, true },
	{ 0 },
};

static const struct bb_weight weights[] = {
	WEIGHTS_ENDS,
	{ W_OUT_NORM, H_EMBD, 0, 0, { "output_norm.weight" }, { "model.norm.weight" } },
	{ W_ROPE_FACTORS, H_ROPE_PAIRS, 0, OPTIONAL, { "rope_freqs.weight" }, { NULL } },
	{ W_ATTN_NORM, H_EMBD, 0, PER_LAYER, { B "attn_norm.weight" }, { L "input_layernorm.weight" } },
	{ W_Q, H_Q_WIDTH, H_EMBD, PER_LAYER, { B "attn_q.weight", T_ROPE_HALVES },
		{ L "self_attn.q_proj.weight" } },
	{ W_K, H_KV_WIDTH, H_EMBD, PER_LAYER, { B "attn_k.weight", T_ROPE_HALVES },
		{ L "self_attn.k_proj.weight" } },
	{ W_V, H_KV_WIDTH, H_EMBD, PER_LAYER, { B "attn_v.weight" }, { L "self_attn.v_proj.weight" } },
	{ W_Q_BIAS, H_Q_WIDTH, 0, PER_LAYER | OPTIONAL, { B "attn_q.bias", T_ROPE_HALVES },
		{ L "self_attn.q_proj.bias" } },
	{ W_K_BIAS, H_KV_WIDTH, 0, PER_LAYER | OPTIONAL, { B "attn_k.bias", T_ROPE_HALVES },
		{ L "self_attn.k_proj.bias" } },
	{ W_V_BIAS, H_KV_WIDTH, 0, PER_LAYER | OPTIONAL, { B "attn_v.bias" },
		{ L "self_attn.v_proj.bias" } },
	{ W_O, H_EMBD, H_Q_WIDTH, PER_LAYER, { B "attn_output.weight" },
		{ L "self_attn.o_proj.weight" } },
	{ W_O_BIAS, H_EMBD, 0, PER_LAYER | OPTIONAL, { B "attn_output.bias" },
		{ L "self_attn.o_proj.bias" } },
	{ W_FFN_NORM, H_EMBD, 0, PER_LAYER, { B "ffn_norm.weight" },
		{ L "post_attention_layernorm.weight" } },
	{ W_GATE, H_FF, H_EMBD, PER_LAYER, { B "ffn_gate.weight" }, { L "mlp.gate_proj.weight" } },
	{ W_UP, H_FF, H_EMBD, PER_LAYER, { B "ffn_up.weight" }, { L "mlp.up_proj.weight" } },
	{ W_DOWN, H_EMBD, H_FF, PER_LAYER, { B "ffn_down.weight" }, { L "mlp.down_proj.weight" } },
	{ 0 },
};

static const struct bb_op embed[] = {
	{ OP_EMBED, ACT_X, 0, W_EMBED },
	{ 0 },
};

static const struct bb_op layer[] = {
	{ OP_RMSNORM, ACT_H, ACT_X, W_ATTN_NORM },
	{ OP_MATMUL, ACT_Q, ACT_H, W_Q, W_Q_BIAS },
	{ OP_MATMUL, ACT_K, ACT_H, W_K, W_K_BIAS },
	{ OP_MATMUL, ACT_V, ACT_H, W_V, W_V_BIAS },
	{ OP_ROPE, ACT_Q, ACT_Q },
	{ OP_ROPE, ACT_K, ACT_K },
	{ OP_ATTENTION, ACT_ATT, ACT_Q },
	{ OP_ADD_MATMUL, ACT_X, ACT_ATT, W_O, W_O_BIAS },
	OPS_FEED_FORWARD,
	{ 0 },
};

static const struct bb_op unembed[] = {
	{ OP_RMSNORM, ACT_H, ACT_X, W_OUT_NORM },
	{ OP_MATMUL, ACT_LOGITS, ACT_H, W_HEAD },
	{ 0 },
};

const struct bb_model bb_model_llama = {
	.name = "llama",
	.hf_name = "LlamaForCausalLM|MistralForCausalLM",
	.keys = keys,
	.weights = weights,
	.embed = embed,
	.kinds = {
		{ "full", layer, H_ROPE_BASE, .rope_scaled = true, .window = H_WINDOW },
	},
	.unembed = unembed,
};
