/* SPDX-License-Identifier: Apache-2.0
 *
 * LFM2, arXiv:2511.23404: most layers convolve a few tokens between two gates, C conv(B x), some
 * attend with normalised heads of Q and K. Easy to get wrong: nothing is activated in the
 * convolution; the last norm is called token_embd_norm; RoPE's pairs are halves apart in both
 * formats; a GGUF file says which layers convolve by 0 KV heads; a folder's width of the
 * feed-forward may be one that is still to be scaled and rounded up. */
#include "common.h"

#include <math.h>

static const struct bb_key keys[] = {
	KEYS_DECODER_OF("attention.head_count_kv[]", "block_ff_dim|intermediate_size",
		"norm_eps|block_norm_eps"),
	KEYS_ROPE(1000000),
	{ H_SSM_CONV, "shortconv.l_cache", "conv_L_cache", 2, 8 },
	{ H_FF_ADJUSTED, NULL, "block_auto_adjust_ff_dim", 0, 1, true },
	{ H_FF_FACTOR, NULL, "block_ffn_dim_multiplier", 0, 1e6, true, 1 },
	{ H_FF_MULTIPLE, NULL, "block_multiple_of", 1, 1 << 20, true, 256 },
	{ 0 },
};

enum { ATTENDS, CONVOLVES };

static const struct bb_weight weights[] = {
	WEIGHTS_ENDS,
	{ W_OUT_NORM, H_EMBD, 0, 0, { "token_embd_norm.weight" }, { "model.embedding_norm.weight" } },
	{ W_ATTN_NORM, H_EMBD, 0, PER_LAYER, { B "attn_norm.weight" }, { L "operator_norm.weight" } },
	{ W_Q, H_Q_WIDTH, H_EMBD, PER_LAYER, { B "attn_q.weight" }, { L "self_attn.q_proj.weight" },
		.kinds = 1 << ATTENDS },
	{ W_K, H_KV_WIDTH, H_EMBD, PER_LAYER, { B "attn_k.weight" }, { L "self_attn.k_proj.weight" },
		.kinds = 1 << ATTENDS },
	{ W_V, H_KV_WIDTH, H_EMBD, PER_LAYER, { B "attn_v.weight" }, { L "self_attn.v_proj.weight" },
		.kinds = 1 << ATTENDS },
	{ W_Q_NORM, H_HEAD, 0, PER_LAYER, { B "attn_q_norm.weight" },
		{ L "self_attn.q_layernorm.weight" }, .kinds = 1 << ATTENDS },
	{ W_K_NORM, H_HEAD, 0, PER_LAYER, { B "attn_k_norm.weight" },
		{ L "self_attn.k_layernorm.weight" }, .kinds = 1 << ATTENDS },
	{ W_O, H_EMBD, H_Q_WIDTH, PER_LAYER, { B "attn_output.weight" },
		{ L "self_attn.out_proj.weight" }, .kinds = 1 << ATTENDS },
	{ W_CONV_IN, H_CONV_IN_WIDTH, H_EMBD, PER_LAYER, { B "shortconv.in_proj.weight" },
		{ L "conv.in_proj.weight" }, .kinds = 1 << CONVOLVES },
	{ W_CONV, H_CONV_WIDTH, H_SSM_CONV, PER_LAYER, { B "shortconv.conv.weight" },
		{ L "conv.conv.weight" }, .kinds = 1 << CONVOLVES },
	{ W_CONV_OUT, H_EMBD, H_CONV_WIDTH, PER_LAYER, { B "shortconv.out_proj.weight" },
		{ L "conv.out_proj.weight" }, .kinds = 1 << CONVOLVES },
	{ W_FFN_NORM, H_EMBD, 0, PER_LAYER, { B "ffn_norm.weight" }, { L "ffn_norm.weight" } },
	{ W_GATE, H_FF, H_EMBD, PER_LAYER, { B "ffn_gate.weight" }, { L "feed_forward.w1.weight" } },
	{ W_UP, H_FF, H_EMBD, PER_LAYER, { B "ffn_up.weight" }, { L "feed_forward.w3.weight" } },
	{ W_DOWN, H_EMBD, H_FF, PER_LAYER, { B "ffn_down.weight" }, { L "feed_forward.w2.weight" } },
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
	{ OP_RMSNORM, ACT_Q, ACT_Q, W_Q_NORM },
	{ OP_RMSNORM, ACT_K, ACT_K, W_K_NORM },
	{ OP_ROPE, ACT_Q, ACT_Q },
	{ OP_ROPE, ACT_K, ACT_K },
	{ OP_ATTENTION, ACT_ATT, ACT_Q },
	{ OP_ADD_MATMUL, ACT_X, ACT_ATT, W_O },
	OPS_FEED_FORWARD,
	{ 0 },
};

static const struct bb_op convolves[] = {
	{ OP_RMSNORM, ACT_H, ACT_X, W_ATTN_NORM },
	{ OP_MATMUL, ACT_CONV_B, ACT_H, W_CONV_IN, .last = ACT_CONV_X },
	{ OP_MUL, ACT_CONV_X, ACT_CONV_B, .in2 = ACT_CONV_X },
	{ OP_CONV, ACT_CONV_X, ACT_CONV_X, W_CONV },
	{ OP_MUL, ACT_CONV_X, ACT_CONV_C, .in2 = ACT_CONV_X },
	{ OP_ADD_MATMUL, ACT_X, ACT_CONV_X, W_CONV_OUT },
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
	v[H_CONV_WIDTH] = v[H_EMBD];
	v[H_CONV_IN_WIDTH] = 3 * v[H_EMBD];
	if (v[H_FF_ADJUSTED] != 0) {
		const double scaled = floor(v[H_FF_FACTOR] * floor(2 * v[H_FF] / 3));
		v[H_FF] = ceil(scaled / v[H_FF_MULTIPLE]) * v[H_FF_MULTIPLE];
	}
	return true;
}

const struct bb_model bb_model_lfm2 = {
	.name = "lfm2",
	.hf_name = "Lfm2ForCausalLM",
	.keys = keys,
	.weights = weights,
	.embed = embed,
	.kinds = {
		[ATTENDS] = { "attention", attends, H_ROPE_BASE, .rope_scaled = true,
			.hf = "full_attention" },
		[CONVOLVES] = { "convolution", convolves, .hf = "conv" },
	},
	.unembed = unembed,
	.hf_layers = "layer_types",
	.hf_first_kind = "full_attn_idxs",
	.gguf_layers = "attention.head_count_kv",
	.finish = finish,
};
