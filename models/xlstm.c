/* SPDX-License-Identifier: Apache-2.0
 *
 * xLSTM as xLSTM-7B has it, arXiv:2503.13427: mLSTM cells only, no convolution. From Hugging Face
 * folders. Easy to get wrong: widths are given as factors, of which only that of the feed-forward
 * is rounded up; input and forget gates are softly capped, and so are logits; the norm behind the
 * cell takes off the mean of each head, and the output gate comes after it; the cell has an eps. */
#include "common.h"

static const struct bb_key keys[] = {
	{ H_EMBD, NULL, "hidden_size|embedding_dim", 1, 1 << 20 },
	{ H_LAYERS, NULL, "num_hidden_layers|num_blocks", 1, 4096 },
	{ H_CONTEXT, NULL, "", 1, 2147483647.0, true, 1048576 },
	{ H_NORM_EPS, NULL, "norm_eps", 0, 1, true, 1e-6 },
	{ H_VOCAB, NULL, "vocab_size", 1, 1 << 24, true },
	{ H_LSTM_HEADS, NULL, "num_heads", 1, 4096 },
	{ H_LSTM_QK_FACTOR, NULL, "qk_dim_factor", 0, 64, true, 0.5 },
	{ H_LSTM_V_FACTOR, NULL, "v_dim_factor", 0, 64, true, 1 },
	{ H_LSTM_EPS, NULL, "eps", 0, 1, true, 1e-6 },
	{ H_LSTM_GATE_CAP, NULL, "gate_soft_cap", 0, 1e6, true, .in_folder = 15 },
	{ H_FF_FACTOR, NULL, "ffn_proj_factor", 0, 64, true, 2.667 },
	{ H_FF_MULTIPLE, NULL, "ffn_round_up_to_multiple_of", 1, 1 << 20, true, 64 },
	{ H_LOGIT_CAP, NULL, "output_logit_soft_cap", 0, 1e6, true,
		.in_folder = 30 },
	{ 0 },
};

#define X "backbone.blocks.%d."
#define CELL X "mlstm_layer."
#define HF(slot, rows, cols, hf_name) { slot, rows, cols, PER_LAYER, { 0 }, { hf_name } }

static const struct bb_weight weights[] = {
	WEIGHTS_ENDS_OF("backbone.embeddings.weight"),
	{ W_OUT_NORM, H_EMBD, 0, 0, { 0 }, { "backbone.out_norm.weight" } },
	HF(W_ATTN_NORM, H_EMBD, 0, X "norm_mlstm.weight"),
	HF(W_LSTM_Z, H_LSTM_V_WIDTH, H_EMBD, CELL "ogate_preact.weight"),
	HF(W_LSTM_V, H_LSTM_V_WIDTH, H_EMBD, CELL "v.weight"),
	HF(W_LSTM_Q, H_LSTM_QK_WIDTH, H_EMBD, CELL "q.weight"),
	HF(W_LSTM_K, H_LSTM_QK_WIDTH, H_EMBD, CELL "k.weight"),
	HF(W_LSTM_I, H_LSTM_HEADS, H_EMBD, CELL "igate_preact.weight"),
	HF(W_LSTM_I_BIAS, H_LSTM_HEADS, 0, CELL "igate_preact.bias"),
	HF(W_LSTM_F, H_LSTM_HEADS, H_EMBD, CELL "fgate_preact.weight"),
	HF(W_LSTM_F_BIAS, H_LSTM_HEADS, 0, CELL "fgate_preact.bias"),
	HF(W_LSTM_NORM, H_LSTM_V_WIDTH, 0, CELL "multihead_norm.weight"),
	HF(W_LSTM_OUT, H_EMBD, H_LSTM_V_WIDTH, CELL "out_proj.weight"),
	HF(W_FFN_NORM, H_EMBD, 0, X "norm_ffn.weight"),
	HF(W_GATE, H_FF, H_EMBD, X "ffn.proj_up_gate.weight"),
	HF(W_UP, H_FF, H_EMBD, X "ffn.proj_up.weight"),
	HF(W_DOWN, H_EMBD, H_FF, X "ffn.proj_down.weight"),
	{ 0 },
};

static const struct bb_op embed[] = {
	{ OP_EMBED, ACT_X, 0, W_EMBED },
	{ 0 },
};

static const struct bb_op layer[] = {
	{ OP_RMSNORM, ACT_H, ACT_X, W_ATTN_NORM },
	{ OP_MATMUL, ACT_LSTM_Z, ACT_H, W_LSTM_Z },
	{ OP_MATMUL, ACT_LSTM_V, ACT_H, W_LSTM_V },
	{ OP_MATMUL, ACT_LSTM_Q, ACT_H, W_LSTM_Q },
	{ OP_MATMUL, ACT_LSTM_K, ACT_H, W_LSTM_K },
	{ OP_MATMUL, ACT_LSTM_I, ACT_H, W_LSTM_I, W_LSTM_I_BIAS },
	{ OP_MATMUL, ACT_LSTM_F, ACT_H, W_LSTM_F, W_LSTM_F_BIAS },
	{ OP_MLSTM, ACT_LSTM_V, ACT_LSTM_V },
	{ OP_LAYERNORM, ACT_LSTM_V, ACT_LSTM_V, W_LSTM_NORM, .scalar = { H_LSTM_HEADS } },
	{ OP_SIGMOID_MUL, ACT_LSTM_V, ACT_LSTM_Z, .in2 = ACT_LSTM_V },
	{ OP_ADD_MATMUL, ACT_X, ACT_LSTM_V, W_LSTM_OUT },
	OPS_FEED_FORWARD,
	{ 0 },
};

static const struct bb_op unembed[] = {
	{ OP_RMSNORM, ACT_H, ACT_X, W_OUT_NORM },
	{ OP_MATMUL, ACT_LOGITS, ACT_H, W_HEAD, .scalar = { H_LOGIT_CAP } },
	{ 0 },
};

const struct bb_model bb_model_xlstm = {
	.name = "xlstm",
	.hf_name = "xLSTMForCausalLM",
	.keys = keys,
	.weights = weights,
	.embed = embed,
	.kinds = {
		{ "recurrent", layer },
	},
	.unembed = unembed,
};
