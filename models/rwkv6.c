/* SPDX-License-Identifier: Apache-2.0
 *
 * RWKV-6, arXiv:2404.05892. Easy to get wrong: the embedding is normalised before the first layer;
 * how far the token before is mixed in is computed from both, in a lower rank, five times, in the
 * order w, k, v, r, g; the bonus of a token's own key is in the recurrence, before the norm over
 * heads, which has an epsilon of its own; a GGUF file may ask that the residual stream is halved
 * every so many layers, and then its output and value matrices are divided to fit. Folders are such
 * as modeling_rwkv6.py reads, which runs them so only in 16 bits: theirs is read as if it didn't
 * ask. Their low-rank matrices are transposed, and widths that they don't give follow from the
 * model's. */
#include "common.h"

#include <math.h>

enum { BY_WIDTH = -1 }; /* what a folder doesn't say */

static const struct bb_key keys[] = {
	{ H_EMBD, "embedding_length", "hidden_size", 1, 1 << 20 },
	{ H_LAYERS, "block_count", "num_hidden_layers", 1, 4096 },
	{ H_FF, NULL, "intermediate_size", 1, 1 << 22, true, 0, BY_WIDTH },
	{ H_FF, "feed_forward_length", "", 1, 1 << 22 },
	{ H_CONTEXT, "context_length", "", 1, 2147483647.0, true, 1048576 },
	/* The last norm has the one value whatever a folder says. */
	{ H_NORM_EPS, NULL, "layer_norm_epsilon", 1e-5, 1e-5, true, 0, 1e-5 },
	{ H_NORM_EPS, "attention.layer_norm_epsilon", "", 0, 1 },
	{ H_VOCAB, "vocab_size", "vocab_size", 1, 1 << 24, true },
	{ H_WKV_HEAD, "wkv.head_size", "head_size", 1, 128 },
	{ H_WKV_RANK_MIX, NULL, NULL, 1, 1 << 16, true, 0, BY_WIDTH },
	{ H_WKV_RANK_MIX, "time_mix_extra_dim", "", 1, 1 << 16 },
	{ H_WKV_RANK_W, NULL, NULL, 1, 1 << 16, true, 0, BY_WIDTH },
	{ H_WKV_RANK_W, "time_decay_extra_dim", "", 1, 1 << 16 },
	{ H_WKV_NORM_EPS, NULL, NULL, 0, 1, true, 64e-5 },
	{ H_WKV_HALVE_EVERY, "rescale_every_n_layers", "", 0, 1 << 20, true },
	{ H_WKV_HEADS, NULL, "num_attention_heads", 0, 1 << 20, true }, /* head_size says how many */
	{ 0 },
};

#define T B "time_mix_"
#define C B "channel_mix_"
#define R "rwkv.blocks.%d."
#define A R "attention."
#define F R "feed_forward."
#define MIX(slot, i, letter) { slot, H_EMBD, 0, PER_LAYER, \
	{ T "lerp_fused.weight", .part = i, .n_parts = 5 }, { A "time_maa_" letter } }
#define X2(slot, i) { slot, H_EMBD, H_WKV_RANK_MIX, PER_LAYER, \
	{ T "w2.weight", .part = i, .n_parts = 5 }, \
	{ A "time_maa_w2", T_TRANSPOSED, .part = i, .n_parts = 5 } }

static const struct bb_weight weights[] = {
	{ W_EMBED, H_VOCAB, H_EMBD, 0, { "token_embd.weight" }, { "rwkv.embeddings.weight" } },
	{ W_HEAD, H_VOCAB, H_EMBD, OPTIONAL, { "output.weight" }, { "head.weight" } },
	{ W_EMBED_NORM, H_EMBD, 0, 0, { "token_embd_norm.weight" },
		{ "rwkv.blocks.0.pre_ln.weight" } },
	{ W_EMBED_NORM_BIAS, H_EMBD, 0, 0, { "token_embd_norm.bias" },
		{ "rwkv.blocks.0.pre_ln.bias" } },
	{ W_OUT_NORM, H_EMBD, 0, 0, { "output_norm.weight" }, { "rwkv.ln_out.weight" } },
	{ W_OUT_NORM_BIAS, H_EMBD, 0, 0, { "output_norm.bias" }, { "rwkv.ln_out.bias" } },
	{ W_ATTN_NORM, H_EMBD, 0, PER_LAYER, { B "attn_norm.weight" }, { R "ln1.weight" } },
	{ W_ATTN_NORM_BIAS, H_EMBD, 0, PER_LAYER, { B "attn_norm.bias" }, { R "ln1.bias" } },
	{ W_WKV_MIX_X, H_EMBD, 0, PER_LAYER, { T "lerp_x.weight" }, { A "time_maa_x" } },
	{ W_WKV_X1, H_WKV_LOW_MIX_WIDTH, H_EMBD, PER_LAYER, { T "w1.weight" },
		{ A "time_maa_w1", T_TRANSPOSED } },
	MIX(W_WKV_MIX_W, 0, "w"),
	MIX(W_WKV_MIX_K, 1, "k"),
	MIX(W_WKV_MIX_V, 2, "v"),
	MIX(W_WKV_MIX_R, 3, "r"),
	MIX(W_WKV_MIX_G, 4, "g"),
	X2(W_WKV_X2_W, 0),
	X2(W_WKV_X2_K, 1),
	X2(W_WKV_X2_V, 2),
	X2(W_WKV_X2_R, 3),
	X2(W_WKV_X2_G, 4),
	{ W_Q, H_WKV_WIDTH, H_EMBD, PER_LAYER, { T "receptance.weight" }, { A "receptance.weight" } },
	{ W_K, H_WKV_WIDTH, H_EMBD, PER_LAYER, { T "key.weight" }, { A "key.weight" } },
	{ W_V, H_WKV_WIDTH, H_EMBD, PER_LAYER, { T "value.weight" }, { A "value.weight" } },
	{ W_WKV_G, H_WKV_WIDTH, H_EMBD, PER_LAYER, { T "gate.weight" }, { A "gate.weight" } },
	{ W_O, H_EMBD, H_WKV_WIDTH, PER_LAYER, { T "output.weight" }, { A "output.weight" } },
	{ W_WKV_W0, H_WKV_WIDTH, 0, PER_LAYER, { T "decay.weight" }, { A "time_decay" } },
	{ W_WKV_W1, H_WKV_RANK_W, H_EMBD, PER_LAYER, { T "decay_w1.weight" },
		{ A "time_decay_w1", T_TRANSPOSED } },
	{ W_WKV_W2, H_WKV_WIDTH, H_WKV_RANK_W, PER_LAYER, { T "decay_w2.weight" },
		{ A "time_decay_w2", T_TRANSPOSED } },
	{ W_WKV_FIRST, H_WKV_WIDTH, 0, PER_LAYER, { T "first.weight" }, { A "time_faaaa" } },
	{ W_WKV_NORM, H_WKV_WIDTH, 0, PER_LAYER, { T "ln.weight" }, { A "ln_x.weight" } },
	{ W_WKV_NORM_BIAS, H_WKV_WIDTH, 0, PER_LAYER, { T "ln.bias" }, { A "ln_x.bias" } },
	{ W_FFN_NORM, H_EMBD, 0, PER_LAYER, { B "attn_norm_2.weight" }, { R "ln2.weight" } },
	{ W_FFN_NORM_BIAS, H_EMBD, 0, PER_LAYER, { B "attn_norm_2.bias" }, { R "ln2.bias" } },
	{ W_FFN_MIX, H_EMBD, 0, PER_LAYER, { C "lerp_k.weight" }, { F "time_maa_k" } },
	{ W_FFN_MIX_R, H_EMBD, 0, PER_LAYER, { C "lerp_r.weight" }, { F "time_maa_r" } },
	{ W_FFN_R, H_EMBD, H_EMBD, PER_LAYER, { C "receptance.weight" }, { F "receptance.weight" } },
	{ W_UP, H_FF, H_EMBD, PER_LAYER, { C "key.weight" }, { F "key.weight" } },
	{ W_DOWN, H_EMBD, H_FF, PER_LAYER, { C "value.weight" }, { F "value.weight" } },
	{ 0 },
};

static const struct bb_op embed[] = {
	{ OP_EMBED, ACT_X, 0, W_EMBED },
	{ OP_LAYERNORM, ACT_X, ACT_X, W_EMBED_NORM, W_EMBED_NORM_BIAS },
	{ 0 },
};

/* Of one of the five, how far the token before is mixed in, then the mix. */
#define MIXED(id) \
	{ OP_MATMUL, ACT_MIX_##id, ACT_LOW_MIX_##id, W_WKV_X2_##id, W_WKV_MIX_##id }, \
	{ OP_LERP, ACT_MIX_##id, ACT_H, .in2 = ACT_PAST }

/* MIX_A isn't one of the five. */
#define LAYER \
	{ OP_LAYERNORM, ACT_H, ACT_X, W_ATTN_NORM, W_ATTN_NORM_BIAS }, \
	{ OP_SHIFT, ACT_PAST, ACT_H }, \
	{ OP_LERP, ACT_MIX_A, ACT_H, W_WKV_MIX_X, .in2 = ACT_PAST }, \
	{ OP_MATMUL, ACT_LOW_MIX_W, ACT_MIX_A, W_WKV_X1, .last = ACT_LOW_MIX_G }, \
	{ OP_TANH, ACT_LOW_MIX_W, ACT_LOW_MIX_W, .last = ACT_LOW_MIX_G }, \
	MIXED(W), \
	MIXED(K), \
	MIXED(V), \
	MIXED(R), \
	MIXED(G), \
	{ OP_MATMUL, ACT_LOW_W, ACT_MIX_W, W_WKV_W1 }, \
	{ OP_TANH, ACT_LOW_W, ACT_LOW_W }, \
	{ OP_MATMUL, ACT_WKV_W, ACT_LOW_W, W_WKV_W2, W_WKV_W0 }, \
	{ OP_DECAY6, ACT_WKV_W, ACT_WKV_W }, \
	{ OP_MATMUL, ACT_WKV_R, ACT_MIX_R, W_Q }, \
	{ OP_MATMUL, ACT_WKV_K, ACT_MIX_K, W_K }, \
	{ OP_MATMUL, ACT_WKV_V, ACT_MIX_V, W_V }, \
	{ OP_MATMUL, ACT_WKV_G, ACT_MIX_G, W_WKV_G }, \
	{ OP_SILU, ACT_WKV_G, ACT_WKV_G }, \
	{ OP_WKV6, ACT_WKV_Y, ACT_WKV_R, W_WKV_FIRST }, \
	{ OP_LAYERNORM, ACT_WKV_Y, ACT_WKV_Y, .scalar = { H_WKV_HEADS, H_WKV_NORM_EPS } }, \
	{ OP_WKV_OUT, ACT_WKV_Y, ACT_WKV_Y, W_WKV_NORM, W_WKV_NORM_BIAS }, \
	{ OP_ADD_MATMUL, ACT_X, ACT_WKV_Y, W_O }, \
	{ OP_LAYERNORM, ACT_H, ACT_X, W_FFN_NORM, W_FFN_NORM_BIAS }, \
	{ OP_SHIFT, ACT_PAST, ACT_H }, \
	{ OP_LERP, ACT_MIX_K, ACT_H, W_FFN_MIX, .in2 = ACT_PAST }, \
	{ OP_LERP, ACT_MIX_R, ACT_H, W_FFN_MIX_R, .in2 = ACT_PAST }, \
	{ OP_MATMUL, ACT_UP, ACT_MIX_K, W_UP }, \
	{ OP_RELU2, ACT_FF, ACT_UP }, \
	{ OP_MATMUL, ACT_WKV_V, ACT_FF, W_DOWN }, \
	{ OP_MATMUL, ACT_WKV_R, ACT_MIX_R, W_FFN_R }, \
	{ OP_SIGMOID_MUL, ACT_H, ACT_WKV_R, .in2 = ACT_WKV_V }, \
	{ OP_ADD, ACT_X, ACT_H }

static const struct bb_op layer[] = {
	LAYER,
	{ 0 },
};

static const struct bb_op halved[] = {
	LAYER,
	{ OP_HALF, ACT_X, ACT_X },
	{ 0 },
};

static const struct bb_op unembed[] = {
	{ OP_LAYERNORM, ACT_H, ACT_X, W_OUT_NORM, W_OUT_NORM_BIAS },
	{ OP_MATMUL, ACT_LOGITS, ACT_H, W_HEAD },
	{ 0 },
};

enum { PLAIN, HALVED };

static int pick(const struct bb_hparams *hp, int i_layer) {
	const int every = hparam_int(hp, H_WKV_HALVE_EVERY);
	return every > 0 && (i_layer + 1) % every == 0 ? HALVED : PLAIN;
}

/* Widths as modeling_rwkv6.py has them. */
static bool finish(struct bb_hparams *hp, struct bb_error *err) {
	double *const v = hp->v;
	const bool is_wide = v[H_EMBD] == 4096;
	if (v[H_FF] == BY_WIDTH) {
		v[H_FF] = fmax(1, floor(3.5 * v[H_EMBD] / 32) * 32); /* 0 columns no tensor has */
	}
	v[H_WKV_RANK_W] = v[H_WKV_RANK_W] != BY_WIDTH ? v[H_WKV_RANK_W] : is_wide ? 128 : 64;
	if (v[H_WKV_RANK_MIX] == BY_WIDTH) {
		v[H_WKV_RANK_MIX] = is_wide ? 64 : 32;
		v[H_WKV_LOW_MIX_WIDTH] = 5 * v[H_WKV_RANK_MIX];
		v[H_WKV_PAST_WIDTH] = v[H_EMBD];
	}
	return true;
}

const struct bb_model bb_model_rwkv6 = {
	.name = "rwkv6",
	.hf_name = "Rwkv6ForCausalLM",
	.keys = keys,
	.weights = weights,
	.embed = embed,
	.kinds = {
		[PLAIN] = { "recurrent", layer },
		[HALVED] = { "halved", halved },
	},
	.unembed = unembed,
	.pick = pick,
	.finish = finish,
};
