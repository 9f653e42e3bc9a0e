/* SPDX-License-Identifier: Apache-2.0
 *
 * Metadata keys that most decoder-only architectures share, as rows for their key tables. */
#ifndef MODELS_COMMON_H
#define MODELS_COMMON_H

#include "graph.h"

#define KEYS_DECODER \
	KEYS_DECODER_OF("attention.head_count_kv", "intermediate_size", "rms_norm_eps")

/* … where these keys have other names: GGUF's of KV heads, Hugging Face's of the other two. */
#define KEYS_DECODER_OF(kv_heads, hf_ff, hf_eps) \
	{ H_EMBD, "embedding_length", "hidden_size", 1, 1 << 20 }, \
	{ H_LAYERS, "block_count", "num_hidden_layers", 1, 4096 }, \
	{ H_FF, "feed_forward_length", hf_ff, 1, 1 << 22 }, \
	{ H_HEADS, "attention.head_count", "num_attention_heads", 1, 4096 }, \
	{ H_KV_HEADS, kv_heads, "num_key_value_heads", 1, 4096, true }, \
	{ H_HEAD, "attention.key_length", "head_dim", 2, 256, true }, \
	{ H_HEAD_V, "attention.value_length", "head_dim", 2, 256, true }, \
	{ H_CONTEXT, "context_length", "max_position_embeddings", 1, 2147483647.0 }, \
	{ H_NORM_EPS, "attention.layer_norm_rms_epsilon", hf_eps, 0, 1 }, \
	{ H_ATTN_SCALE, "attention.scale", "", 0, 1e6, true }, \
	{ H_VOCAB, "vocab_size", "vocab_size", 1, 1 << 24, true }

/* Where config.json has an entry of RoPE: by kind of layer, for all, and as it was before
 * transformers 5. */
#define ROPE(name) \
	"rope_parameters.full_attention." name "|rope_parameters." name "|rope_scaling." name

#define KEYS_ROPE(base) \
	{ H_ROPE_DIM, "rope.dimension_count", "", 2, 1024, true }, \
	{ H_ROPE_BASE, "rope.freq_base", "rope_parameters.full_attention.rope_theta|" \
		"rope_parameters.rope_theta|rope_theta", 1, 1e12, true, base }, \
	{ H_ROPE_FACTOR, "rope.scaling.factor", ROPE("factor"), 0, 1e6, true }, \
	{ H_ROPE_FACTOR_LINEAR, "rope.scale_linear", "", 0, 1e6, true }, \
	{ H_ROPE_ORIGINAL, "rope.scaling.original_context_length", \
		ROPE("original_max_position_embeddings"), 1, 2147483647.0, true }, \
	{ H_ROPE_LOW, NULL, ROPE("low_freq_factor"), 0, 1e6, true }, \
	{ H_ROPE_HIGH, NULL, ROPE("high_freq_factor"), 0, 1e6, true }, \
	{ H_YARN_EXT, "rope.scaling.yarn_ext_factor", "", -1, 1e6, true, 1 }, \
	{ H_YARN_ATTN, "rope.scaling.attn_factor", ROPE("attention_factor"), 0, 1e6, true, 1 }, \
	{ H_YARN_FAST, "rope.scaling.yarn_beta_fast", ROPE("beta_fast"), 0, 1e6, true, 32 }, \
	{ H_YARN_SLOW, "rope.scaling.yarn_beta_slow", ROPE("beta_slow"), 0, 1e6, true, 1 }

/* Of models without attention. */
#define KEYS_RECURRENT \
	{ H_EMBD, "embedding_length", "hidden_size", 1, 1 << 20 }, \
	{ H_LAYERS, "block_count", "num_hidden_layers", 1, 4096 }, \
	{ H_CONTEXT, "context_length", "", 1, 2147483647.0, true, 1048576 }, \
	{ H_NORM_EPS, "attention.layer_norm_rms_epsilon", "layer_norm_epsilon", 0, 1 }, \
	{ H_VOCAB, "vocab_size", "vocab_size", 1, 1 << 24, true }

#define KEYS_SSM \
	{ H_SSM_CONV, "ssm.conv_kernel", "conv_kernel", 2, 8 }, \
	{ H_SSM_INNER, "ssm.inner_size", "intermediate_size", 1, 1 << 20 }, \
	{ H_SSM_STATE, "ssm.state_size", "state_size", 1, 1 << 16 }

/* Mamba-2 in layers beside others, as transformers names it there. One group: transformers
 * normalises all groups of a file as one, llama.cpp each by itself. */
#define KEYS_MAMBA2_LAYERS \
	{ H_SSM_CONV, "ssm.conv_kernel", "mamba_d_conv", 2, 8 }, \
	{ H_SSM_INNER, "ssm.inner_size", "mamba_expand*hidden_size", 1, 1 << 20 }, \
	{ H_SSM_STATE, "ssm.state_size", "mamba_d_state", 1, 1 << 16 }, \
	{ H_SSM_HEADS, "ssm.time_step_rank", "mamba_n_heads", 1, 1 << 20 }, \
	{ H_SSM_GROUPS, "ssm.group_count", "mamba_n_groups", 1, 1 }, \
	{ H_SSM_DT_MIN, NULL, "time_step_limit.0", 0, 1e6, true }, \
	{ H_SSM_DT_MAX, NULL, "time_step_limit.1", 0, INFINITY, true }

/* Mamba-2 behind its product into SSM_Z to SSM_DT: SSM_X, gated. */
#define OPS_MAMBA2 \
	{ OP_CONV_SILU, ACT_SSM_X, ACT_SSM_X, W_SSM_CONV, W_SSM_CONV_BIAS, .last = ACT_SSM_C }, \
	{ OP_SSD, ACT_SSM_X, ACT_SSM_X, W_SSM_A, W_SSM_DT_BIAS, .skip = W_SSM_D, \
		.scalar = { H_SSM_DT_MIN, H_SSM_DT_MAX } }, \
	{ OP_SILU_MUL, ACT_SSM_X, ACT_SSM_Z, .in2 = ACT_SSM_X }

/* X += a feed-forward that SiLU gates. */
#define OPS_FEED_FORWARD \
	{ OP_RMSNORM, ACT_H, ACT_X, W_FFN_NORM }, \
	{ OP_MATMUL, ACT_GATE, ACT_H, W_GATE }, \
	{ OP_MATMUL, ACT_UP, ACT_H, W_UP }, \
	{ OP_SILU_MUL, ACT_FF, ACT_GATE, .in2 = ACT_UP }, \
	{ OP_ADD_MATMUL, ACT_X, ACT_FF, W_DOWN }

/* E_OUT = what each expert gives that `route` chooses for a row of H; more members of each row may
 * follow. */
#define OPS_EXPERTS(route, ...) \
	{ OP_MATMUL, ACT_ROUTER, ACT_H, W_ROUTER, __VA_ARGS__ }, \
	{ route, ACT_CHOICE, ACT_ROUTER, __VA_ARGS__ }, \
	{ OP_MATMUL, ACT_E_GATE, ACT_H, W_E_GATE, __VA_ARGS__ }, \
	{ OP_MATMUL, ACT_E_UP, ACT_H, W_E_UP, __VA_ARGS__ }, \
	{ OP_SILU_MUL, ACT_E_FF, ACT_E_GATE, .in2 = ACT_E_UP, __VA_ARGS__ }, \
	{ OP_MATMUL, ACT_E_OUT, ACT_E_FF, W_E_DOWN, __VA_ARGS__ }

/* Names of the weights that llama and its descendants agree on. */
#define B "blk.%d."
#define L "model.layers.%d."
#define M "backbone.layers.%d.mixer."
#define WEIGHTS_ENDS WEIGHTS_ENDS_OF("model.embed_tokens.weight")
/* … where Hugging Face's embedding has another name. */
#define WEIGHTS_ENDS_OF(hf_embed) \
	{ W_EMBED, H_VOCAB, H_EMBD, 0, { "token_embd.weight" }, { hf_embed } }, \
	{ W_HEAD, H_VOCAB, H_EMBD, OPTIONAL, { "output.weight" }, { "lm_head.weight" } }

#endif
