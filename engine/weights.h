/* SPDX-License-Identifier: Apache-2.0
 *
 * The half of a model's description that says what is in the file: hyper-parameters by metadata
 * key, weights by tensor name with symbolic shapes. graph.h has the other half, what is
 * computed. */
#ifndef WEIGHTS_H
#define WEIGHTS_H

#include "bobbin.h"

/* Hyper-parameters, all held as doubles (exact for integers below 2^53). The X-list gives each a
 * name for error sentences and `bobbin inspect`. Those after H_DERIVED are computed by the
 * engine. */
#define BB_HPARAMS(X) \
	X(NONE, "") \
	X(VOCAB, "vocab") \
	X(EMBD, "embd") \
	X(FF, "ff") \
	X(LAYERS, "layers") \
	X(HEADS, "heads") \
	X(KV_HEADS, "kv_heads") \
	X(HEAD, "head_dim") \
	X(HEAD_V, "head_dim_v") \
	X(CONTEXT, "context_length") \
	X(NORM_EPS, "norm_eps") \
	X(ROPE_DIM, "rope_dim") \
	X(ROPE_PART, "rope_part_of_head") \
	X(ROPE_BASE, "rope_base") \
	X(ROPE_BASE_LOCAL, "rope_base_local") \
	X(ROPE_FACTOR, "rope_factor") \
	X(ROPE_FACTOR_LINEAR, "rope_scale_linear") \
	X(ROPE_ORIGINAL, "rope_original_context") \
	X(ROPE_LOW, "rope_low_freq_factor") \
	X(ROPE_HIGH, "rope_high_freq_factor") \
	X(YARN_EXT, "yarn_ext_factor") \
	X(YARN_ATTN, "yarn_attn_factor") \
	X(YARN_FAST, "yarn_beta_fast") \
	X(YARN_SLOW, "yarn_beta_slow") \
	X(WINDOW, "sliding_window") \
	X(WINDOW_PATTERN, "sliding_window_pattern") \
	X(ATTN_SCALE, "attention_scale") \
	X(ATTN_SCALE_DIM, "attention_scale_dim") \
	X(EMBED_SCALE, "embedding_scale") \
	X(RESIDUAL_SCALE, "residual_scale") \
	X(LOGIT_SCALE, "logit_scale") \
	X(LOGIT_FACTOR, "1/logit_scale") \
	X(HAS_ROPE, "has_rope") \
	X(EXPERTS, "experts") \
	X(EXPERTS_USED, "experts_used") \
	X(EXPERT_FF, "expert_ff") \
	X(DENSE, "dense") \
	X(SHARED_EXPERTS, "shared_experts") \
	X(FF_TWICE, "2*ff") \
	X(EXPERT_FF_TWICE, "2*expert_ff") \
	X(NORM_CHOSEN, "experts_normalised") \
	X(ATTN_GATE_WIDTH, "attention_gate_width") \
	X(HEAD_TWICE, "2*head_dim") \
	X(ATTN_INTERVAL, "attention_interval") \
	X(EXPERTS_PERIOD, "experts_period") \
	X(EXPERTS_OFFSET, "experts_offset") \
	X(ATTN_PERIOD, "attention_period") \
	X(ATTN_OFFSET, "attention_offset") \
	X(SSM_CONV, "ssm_conv") \
	X(SSM_INNER, "ssm_inner") \
	X(SSM_STATE, "ssm_state") \
	X(SSM_DT_RANK, "ssm_dt_rank") \
	X(SSM_GROUPS, "ssm_groups") \
	X(SSM_HEADS, "ssm_heads") \
	X(SSM_NORMS_BCDT, "ssm_norms_b_c_dt") \
	X(SSM_HAS_NORM, "ssm_has_norm") \
	X(SSM_NORM_EPS, "ssm_norm_eps") \
	X(SSM_DT_MIN, "ssm_dt_min") \
	X(SSM_DT_MAX, "ssm_dt_max") \
	X(SSM_DT_WIDTH, "ssm_dt_width") \
	X(SSM_BC_WIDTH, "ssm_groups*ssm_state") \
	X(SSM_CONV_WIDTH, "ssm_inner+2*ssm_groups*ssm_state") \
	X(SSM_IN_WIDTH, "ssm_in_width") \
	X(SSM_X_WIDTH, "ssm_dt_rank+2*ssm_state") \
	X(SSM_IN_WHOLE, "ssm_in_whole") \
	X(SSM_IN_PARTS, "ssm_in_parts") \
	X(SSM_B_AT, "2*ssm_inner") \
	X(SSM_C_AT, "2*ssm_inner+ssm_groups*ssm_state") \
	X(SSM_DT_AT, "2*ssm_inner+2*ssm_groups*ssm_state") \
	X(MUL_ATTN_IN, "attention_in_multiplier") \
	X(MUL_ATTN_OUT, "attention_out_multiplier") \
	X(MUL_KEY, "key_multiplier") \
	X(MUL_SSM_IN, "ssm_in_multiplier") \
	X(MUL_SSM_OUT, "ssm_out_multiplier") \
	X(MUL_SSM_Z, "ssm_multiplier_z") \
	X(MUL_SSM_X, "ssm_multiplier_x") \
	X(MUL_SSM_B, "ssm_multiplier_b") \
	X(MUL_SSM_C, "ssm_multiplier_c") \
	X(MUL_SSM_DT, "ssm_multiplier_dt") \
	X(MUL_GATE, "gate_multiplier") \
	X(MUL_DOWN, "down_multiplier") \
	X(MUL_HEAD, "lm_head_multiplier") \
	X(DELTA_HEADS, "delta_heads") \
	X(DELTA_KEY_HEADS, "delta_key_heads") \
	X(DELTA_KEY, "delta_key_dim") \
	X(DELTA_VALUE, "delta_value_dim") \
	X(DELTA_VALUES, "delta_heads*delta_value_dim") \
	X(DELTA_KEYS, "delta_key_heads*delta_key_dim") \
	X(DELTA_KEYS_TWICE, "2*delta_keys") \
	X(DELTA_CONV_WIDTH, "2*delta_keys+delta_values") \
	X(DELTA_V_AT, "2*delta_key_dim") \
	X(DELTA_Z_AT, "2*delta_key_dim+delta_values/delta_key_heads") \
	X(DELTA_GROUP, "2*(delta_key_dim+delta_values/delta_key_heads)") \
	X(DELTA_A_AT, "delta_heads/delta_key_heads") \
	X(DELTA_BA_GROUP, "2*delta_heads/delta_key_heads") \
	X(LSTM_HEADS, "lstm_heads") \
	X(LSTM_QK_FACTOR, "lstm_qk_factor") \
	X(LSTM_V_FACTOR, "lstm_v_factor") \
	X(LSTM_EPS, "lstm_eps") \
	X(LSTM_GATE_CAP, "lstm_gate_cap") \
	X(FF_FACTOR, "ff_factor") \
	X(FF_MULTIPLE, "ff_multiple") \
	X(LOGIT_CAP, "logit_cap") \
	X(LSTM_QK_WIDTH, "lstm_qk_width") \
	X(LSTM_V_WIDTH, "lstm_v_width") \
	X(BLOCKS, "shared_blocks") \
	X(LORA_RANK, "lora_rank") \
	X(LORA_ATTENDS, "lora_of_attention") \
	X(CAT, "2*embd") \
	X(GATE_UP, "2*ff") \
	X(LRU_WIDTH, "lru_width") \
	X(LRU_HEAD, "lru_width/heads") \
	X(WKV_HEAD, "wkv_head_size") \
	X(WKV_HEADS, "wkv_heads") \
	X(WKV_WIDTH, "wkv_heads*wkv_head_size") \
	X(WKV_MIXES, "wkv_mixes") \
	X(WKV_RANK_W, "wkv_decay_rank") \
	X(WKV_RANK_A, "wkv_rate_rank") \
	X(WKV_RANK_V, "wkv_value_rank") \
	X(WKV_RANK_G, "wkv_gate_rank") \
	X(WKV_RANK_MIX, "wkv_mix_rank") \
	X(WKV_LOW_MIX_WIDTH, "5*wkv_mix_rank") \
	X(WKV_PAST_WIDTH, "wkv_past_width") \
	X(WKV_HALVE_EVERY, "wkv_halve_every") \
	X(WKV_NORM_EPS, "wkv_norm_eps") \
	X(WKV_RATE_SCALE, "wkv_rate_scale") \
	X(CONV_WIDTH, "conv_width") \
	X(CONV_IN_WIDTH, "3*conv_width") \
	X(FF_ADJUSTED, "ff_adjusted") \
	X(Q_WIDTH, "heads*head_dim") \
	X(KV_WIDTH, "kv_heads*head_dim") \
	X(ROPE_PAIRS, "rope_dim/2")

enum bb_hparam {
#define X(id, name) H_##id,
	BB_HPARAMS(X)
#undef X
	H_COUNT,
};

struct bb_hparams {
	double v[H_COUNT];
	bool given[H_COUNT]; /* read from the file */
	enum { ROPE_SCALING_NONE, ROPE_SCALING_LINEAR, ROPE_SCALING_YARN, ROPE_SCALING_LLAMA3 }
		rope_scaling;
};
const char *hparam_name(enum bb_hparam h);
bool hparam_is_int(enum bb_hparam h);
static inline int hparam_int(const struct bb_hparams *hp, enum bb_hparam h) {
	return (int)hp->v[h];
}

/* A metadata key. `gguf` follows "<arch>."; "?tensor" is 1 if the file has that tensor; of "key[]",
 * which may list a number per layer, the one that isn't 0 counts: more are refused. `hf` is its
 * name in config.json: a dot goes into an object, or to the element of an array that a digit counts
 * from 0; * multiplies; name=text is 1 if the string there, or the first of the array, is text,
 * else 0. In both | separates alternatives, of which the first that is there (and not null) counts.
 * A format whose name is "" or NULL never has the key. Of several rows for a hyper-parameter the
 * last one found counts. One that is neither optional nor found is an error that names it. Values
 * outside [min, max] are refused. */
struct bb_key {
	enum bb_hparam h;
	const char *gguf, *hf;
	double min, max;
	bool optional;
	double fallback; /* value of an optional key that is absent */
	double in_folder; /* … from a folder, if this isn't 0: transformers' default */
};

/* What a file format stores differently from what the op list expects. */
enum bb_transform {
	T_NONE,
	T_ROPE_HALVES, /* rows of each head pair (2i, 2i+1) adjacent in the file; wanted (i, i + d/2) */
	T_HEAD_HALVES, /* the same of whole heads, also where RoPE turns a part of them */
	T_PLUS_ONE,     /* the file holds w, wanted 1 + w */
	T_SWAP_HALVES,  /* rows [n / 2, n) first */
	T_NEGATIVE_EXP, /* the file holds log(-w) */
	T_PART,         /* the file's matrix has rows of others too: see struct bb_weight_name */
	T_LRU_DECAY,    /* the file holds w, wanted -8 softplus(w) */
	T_TRANSPOSED,   /* the file's matrix is [cols, rows]; of a product, F32, F16 or BF16 */
};

enum bb_slot {
	W_NONE,
	W_EMBED, W_OUT_NORM, W_HEAD, W_ROPE_FACTORS,
	W_ATTN_NORM, W_Q, W_K, W_V, W_Q_BIAS, W_K_BIAS, W_V_BIAS, W_Q_NORM, W_K_NORM, W_O, W_O_BIAS,
	W_POST_ATTN_NORM,
	W_SSM_IN, W_SSM_CONV, W_SSM_CONV_BIAS, W_SSM_X, W_SSM_DT, W_SSM_DT_BIAS, W_SSM_A, W_SSM_D,
	W_SSM_NORM, W_SSM_OUT, W_SSM_DT_NORM, W_SSM_B_NORM, W_SSM_C_NORM,
	W_SSM_IN_Z, W_SSM_IN_X, W_SSM_IN_B, W_SSM_IN_C, W_SSM_IN_DT,
	W_LSTM_Z, W_LSTM_V, W_LSTM_Q, W_LSTM_K, W_LSTM_I, W_LSTM_I_BIAS, W_LSTM_F, W_LSTM_F_BIAS,
	W_LSTM_NORM, W_LSTM_OUT,
	W_CONV_IN, W_CONV, W_CONV_BIAS, W_CONV_OUT,
	W_LRU_Y, W_LRU_Y_BIAS, W_LRU_X, W_LRU_X_BIAS, W_LRU_R, W_LRU_R_BIAS, W_LRU_I, W_LRU_I_BIAS,
	W_LRU_A, W_LRU_OUT, W_LRU_OUT_BIAS,
	W_EMBED_NORM, W_EMBED_NORM_BIAS, W_OUT_NORM_BIAS, W_ATTN_NORM_BIAS, W_FFN_NORM_BIAS,
	W_WKV_MIX, W_WKV_W0, W_WKV_W1, W_WKV_W2, W_WKV_A0, W_WKV_A1, W_WKV_A2, W_WKV_V0, W_WKV_V1,
	W_WKV_V2, W_WKV_G1, W_WKV_G2, W_WKV_K_K, W_WKV_K_A, W_WKV_R_K, W_WKV_NORM, W_WKV_NORM_BIAS,
	W_FFN_MIX, W_FFN_MIX_R, W_FFN_R, W_WKV_MIX_X, W_WKV_X1, W_WKV_FIRST, W_WKV_G,
	W_WKV_MIX_W, W_WKV_MIX_K, W_WKV_MIX_V, W_WKV_MIX_R, W_WKV_MIX_G,
	W_WKV_X2_W, W_WKV_X2_K, W_WKV_X2_V, W_WKV_X2_R, W_WKV_X2_G,
	W_FFN_NORM, W_GATE, W_UP, W_DOWN, W_POST_FFN_NORM,
	W_ROUTER, W_E_GATE, W_E_UP, W_E_DOWN, W_S_ROUTER,
	W_Q_GATE, W_DELTA_Q, W_DELTA_K, W_DELTA_V, W_DELTA_Z, W_DELTA_B, W_DELTA_A,
	W_GATE_BIAS, W_UP_BIAS, W_DOWN_BIAS, W_GATE_UP, W_CAT_NORM, W_LINK,
	W_LORA_Q_A, W_LORA_Q_B, W_LORA_K_A, W_LORA_K_B, W_LORA_V_A, W_LORA_V_B, W_LORA_FF_A,
	W_LORA_FF_B,
	W_COUNT,
};

enum bb_weight_flag {
	PER_LAYER = 1, /* names hold one %d */
	OPTIONAL = 2,
	STRAY = 4,     /* layers of other kinds may have one, too, which nobody reads */
	SHARED = 8,    /* of layers of a kind that take turns with few: see n_sharing in graph.h */
};

/* A weight's name in one file format, and what the format stores differently. NULL: it hasn't got
 * the weight, which must be OPTIONAL then. | separates alternatives, of which the first that is
 * there counts. "x_{ab}": a row from x_a and one from x_b. */
struct bb_weight_name {
	const char *name;
	enum bb_transform transform;
	/* T_PART: the file's rows lie in `groups` groups of `group_rows`; of each those behind `before`
	 * others are this weight's. H_NONE: one group, none before. */
	enum bb_hparam groups, group_rows, before;
	/* It's one of n_parts equal ones that lie behind each other in the tensor; 0: the tensor. */
	int part, n_parts;
};

/* A weight: matrices are [rows, cols], vectors [rows] with cols H_NONE. OPTIONAL is for biases
 * and for W_HEAD; what only some sizes of a family have says `when`, as the op that uses it
 * does. A slot may have several rows of which one is there in a model of given sizes. */
struct bb_weight {
	enum bb_slot slot;
	enum bb_hparam rows, cols;
	int flags;
	struct bb_weight_name gguf, hf;
	/* The file must have it if this isn't 0, and may not otherwise; H_NONE: must. */
	enum bb_hparam when;
	unsigned kinds; /* of layers that have it, a bit each; 0: all */
	/* A stack of so many matrices, one per expert: one tensor [stack, rows, cols], or one for each
	 * where the name holds a second %d, the expert's number. H_NONE: no stack. */
	enum bb_hparam stack;
	/* What all numbers are multiplied by; H_NONE: 1. Those of a matrix are rounded to the file's
	 * type again, F32, F16 or BF16. */
	enum bb_hparam factor;
};

#endif
