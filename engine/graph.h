/* SPDX-License-Identifier: Apache-2.0
 *
 * The form in which a model is described: which operations make a layer, in which order, on which
 * weights. One file in models/ is one architecture; it holds data only. The engine checks every
 * shape, plans memory, fuses what it can, runs and prints it. */
#ifndef GRAPH_H
#define GRAPH_H

#include "weights.h"

/* Activations: [rows of the step, width], and the group that each lies in, named by its first
 * member. Members of a group lie side by side in one buffer, in the order of this list, so that
 * products which share their input can be one product. X is the residual stream; LOGITS has
 * memory of its own. E_*: of an expert, [rows of the step, experts used, width], a row for every
 * expert that a row has chosen. */
#define BB_ACTS(ACT) \
	ACT(X, EMBD, X) \
	ACT(H, EMBD, H) \
	ACT(Q, Q_WIDTH, Q) \
	ACT(K, KV_WIDTH, Q) \
	ACT(V, KV_WIDTH, Q) \
	ACT(ATT, Q_WIDTH, ATT) \
	ACT(ATT_GATE, ATTN_GATE_WIDTH, ATT) \
	ACT(GATE, FF, GATE) \
	ACT(UP, FF, GATE) \
	ACT(FF, FF, FF) \
	ACT(SSM_Z, SSM_INNER, SSM_Z) \
	ACT(SSM_X, SSM_INNER, SSM_Z) \
	ACT(SSM_R, SSM_DT_RANK, SSM_Z) \
	ACT(SSM_B, SSM_BC_WIDTH, SSM_Z) \
	ACT(SSM_C, SSM_BC_WIDTH, SSM_Z) \
	ACT(SSM_DT, SSM_DT_WIDTH, SSM_Z) \
	ACT(LSTM_Z, LSTM_V_WIDTH, LSTM_Z) \
	ACT(LSTM_V, LSTM_V_WIDTH, LSTM_Z) \
	ACT(LSTM_Q, LSTM_QK_WIDTH, LSTM_Z) \
	ACT(LSTM_K, LSTM_QK_WIDTH, LSTM_Z) \
	ACT(LSTM_I, LSTM_HEADS, LSTM_Z) \
	ACT(LSTM_F, LSTM_HEADS, LSTM_Z) \
	ACT(CAT, CAT, CAT) \
	ACT(CATN, CAT, CATN) \
	ACT(LORA_Q, LORA_RANK, LORA_Q) \
	ACT(LORA_K, LORA_RANK, LORA_Q) \
	ACT(LORA_V, LORA_RANK, LORA_Q) \
	ACT(BLOCK, EMBD, BLOCK) \
	ACT(LRU_Y, LRU_WIDTH, LRU_Y) \
	ACT(LRU_X, LRU_WIDTH, LRU_Y) \
	ACT(LRU_R, LRU_WIDTH, LRU_Y) \
	ACT(LRU_I, LRU_WIDTH, LRU_Y) \
	ACT(CONV_B, CONV_WIDTH, CONV_B) \
	ACT(CONV_C, CONV_WIDTH, CONV_B) \
	ACT(CONV_X, CONV_WIDTH, CONV_B) \
	ACT(MIX_R, WKV_WIDTH, MIX_R) \
	ACT(MIX_W, WKV_WIDTH, MIX_R) \
	ACT(MIX_K, WKV_WIDTH, MIX_R) \
	ACT(MIX_V, WKV_WIDTH, MIX_R) \
	ACT(MIX_A, WKV_WIDTH, MIX_R) \
	ACT(MIX_G, WKV_WIDTH, MIX_R) \
	ACT(LOW_W, WKV_RANK_W, LOW_W) \
	ACT(LOW_A, WKV_RANK_A, LOW_W) \
	ACT(LOW_V, WKV_RANK_V, LOW_W) \
	ACT(LOW_G, WKV_RANK_G, LOW_W) \
	ACT(LOW_MIX_W, WKV_RANK_MIX, LOW_MIX_W) \
	ACT(LOW_MIX_K, WKV_RANK_MIX, LOW_MIX_W) \
	ACT(LOW_MIX_V, WKV_RANK_MIX, LOW_MIX_W) \
	ACT(LOW_MIX_R, WKV_RANK_MIX, LOW_MIX_W) \
	ACT(LOW_MIX_G, WKV_RANK_MIX, LOW_MIX_W) \
	ACT(PAST, WKV_PAST_WIDTH, PAST) \
	ACT(WKV_R, WKV_WIDTH, WKV_R) \
	ACT(WKV_W, WKV_WIDTH, WKV_R) \
	ACT(WKV_K, WKV_WIDTH, WKV_R) \
	ACT(WKV_V, WKV_WIDTH, WKV_R) \
	ACT(WKV_A, WKV_WIDTH, WKV_R) \
	ACT(WKV_B, WKV_WIDTH, WKV_R) \
	ACT(WKV_G, WKV_WIDTH, WKV_R) \
	ACT(WKV_Y, WKV_WIDTH, WKV_R) \
	ACT(WKV_V0, WKV_WIDTH, WKV_V0) \
	ACT(DELTA_Q, DELTA_KEYS, DELTA_Q) \
	ACT(DELTA_K, DELTA_KEYS, DELTA_Q) \
	ACT(DELTA_V, DELTA_VALUES, DELTA_Q) \
	ACT(DELTA_Z, DELTA_VALUES, DELTA_Q) \
	ACT(DELTA_B, DELTA_HEADS, DELTA_Q) \
	ACT(DELTA_A, DELTA_HEADS, DELTA_Q) \
	ACT(S_ROUTER, SHARED_EXPERTS, S_ROUTER) \
	ACT(S_CHOICE, SHARED_EXPERTS, S_CHOICE) \
	ACT(ROUTER, EXPERTS, ROUTER) \
	ACT(CHOICE, EXPERTS_USED, CHOICE) \
	ACT(E_GATE, EXPERT_FF, E_GATE) \
	ACT(E_UP, EXPERT_FF, E_GATE) \
	ACT(E_FF, EXPERT_FF, E_FF) \
	ACT(E_OUT, EMBD, E_OUT) \
	ACT(LOGITS, VOCAB, NONE)

enum bb_act {
	ACT_NONE,
#define ACT(id, width, group) ACT_##id,
	BB_ACTS(ACT)
#undef ACT
	ACT_COUNT,
};

enum bb_op_kind {
	OP_END,
	OP_EMBED,      /* out = scalar[0] * rows of w at the step's token ids; without a scalar: 1 */
	OP_RMSNORM,    /* out = rmsnorm(in) * w, over groups as wide as w; or, with a scalar, over so
	                * many groups, each with its part of w; without w: 1. A second scalar is the
	                * epsilon, without it norm_eps */
	OP_LAYERNORM,  /* out = layernorm(in) * w + bias, over as many groups as a scalar says, or one,
	                * each with its part of w; without w: 1. A second scalar is the epsilon */
	OP_MATMUL,     /* out = in w^T (+ bias); LOGITS with a scalar that isn't 0: softly capped.
	                * w a stack: out, of experts, by the matrix of each; in may be of experts */
	OP_ADD_MATMUL, /* out += in w^T (+ bias) */
	OP_ROPE,       /* out = in, turned by the position's angles; the layer kind says which */
	OP_ATTENTION,  /* out = attention of in over the context's K, V; appends ACT_K, ACT_V first */
	OP_SILU_MUL,   /* out = silu(in) * in2; in and in2 of one group */
	OP_GELU_MUL,   /* out = gelu_tanh(in) * in2 */
	OP_GELU_ERF_MUL, /* out = gelu(in) * in2 */
	OP_SIGMOID_MUL, /* out = sigmoid(in) * in2 */
	OP_MUL,        /* out = in * in2; in and in2 of one group */
	OP_ADD,        /* out += scalar[0] * in; without a scalar: 1; X and H only */
	OP_CONV,       /* out = in = causal depthwise convolution of in with w (+ bias) */
	OP_CONV_SILU,  /* out = in = silu of that */
	OP_SCAN,       /* out = in = Mamba's scan of in by SSM_B, SSM_C, SSM_DT + bias; A: w, D: skip */
	OP_SSD,        /* the same of Mamba-2's heads; scalars: limits of dt, a second of 0 is none */
	OP_MLSTM,      /* out = in = xLSTM's cell of values in by LSTM_Q, LSTM_K, LSTM_I, LSTM_F */
	OP_HEADS_MATMUL, /* out = each head of in, as wide as w, times its rows of w, not transposed, +
	                * bias */
	OP_RG_LRU,     /* out = in = RG-LRU of in by LRU_R, LRU_I, which are still to be squashed */
	OP_PLACE,      /* columns of out, from a scalar on or the first, = in; the others stay */
	OP_COPY,       /* out = in */
	OP_TANH,       /* out = tanh(in); in place out ... last */
	OP_SIGMOID,    /* out = sigmoid(in) */
	OP_SILU,       /* out = silu(in) */
	OP_HALF,       /* out = in / 2 */
	OP_RELU2,      /* out = max(in, 0)^2 */
	OP_DECAY6,     /* out = exp(-e^in) */
	OP_DECAY7,      /* out = exp(-e^-0.5 sigmoid(in)) */
	OP_LERP,       /* out = in + (in2 - in) w; without w: by what out was */
	OP_SHIFT,      /* out ... last, each as wide as in, = in + (the token before's in - in) w; w has
	                * a row for each. Without w: out = the token before's in */
	OP_WKV7_KEYS,  /* out = WKV_A from in = WKV_K, in2 = WKV_B, which change; k_k: w, k_a: skip. A
	                * scalar multiplies WKV_B first; without it: 1 */
	OP_WKV6,       /* out = RWKV-6's recurrence of in = WKV_R and WKV_W, _K, _V; u: w */
	OP_WKV7,       /* out = RWKV-7's recurrence of in = WKV_R and WKV_W, _K, _V, _A, _B */
	OP_WKV_OUT,    /* out = in = (in w + bias + the bonus of WKV_R, WKV_K, WKV_V by skip) WKV_G;
	                * without skip, no bonus */
	OP_DELTA,      /* out = in = gated delta rule of values in by DELTA_Q, DELTA_K, DELTA_B and
	                * DELTA_A + bias; A: w */
	OP_ROUTE,      /* each row chooses the experts of its largest logits in: out = their shares of
	                * softmax(in); products with stacks go by the last choice */
	OP_ROUTE_CHOSEN, /* the same, by softmax over the chosen ones */
	OP_ROUTE_SIGMOID, /* … by the sigmoid of each */
	OP_COMBINE,    /* out += sum over experts of in2, their shares, times in */
	OP_COUNT,
};

/* A row of an op list. What a kind of operation would ignore may not be given: the planner
 * refuses a list that doesn't type-check (form.c). */
enum { MAX_SCALARS = 2 };
struct bb_op {
	enum bb_op_kind kind;
	enum bb_act out, in;
	enum bb_slot w, bias; /* an optional bias that the file lacks is left out */
	enum bb_act in2;
	enum bb_act last;     /* the output goes on to this member of its group; NONE: it's one */
	enum bb_slot skip;
	enum bb_hparam scalar[MAX_SCALARS];
	enum bb_hparam when;  /* the op is there only if this isn't 0; H_NONE: always */
};

/* A kind of layer: its op list, and what its attention sees. */
struct bb_layer_kind {
	const char *name;             /* "full", "sliding" */
	const struct bb_op *ops;      /* ends with OP_END */
	enum bb_hparam rope_base;
	bool rope_scaled;             /* the file's RoPE scaling applies to this kind */
	enum bb_hparam window;        /* tokens seen, itself included; H_NONE or value 0 = all */
	const char *hf;               /* what hf_layers calls it, separated by | */
};

enum { MAX_LAYER_KINDS = 4 };

struct bb_model {
	const char *name;             /* general.architecture */
	const char *hf_name;          /* "architectures" of config.json, separated by | */
	const struct bb_key *keys;            /* ends with H_NONE */
	const struct bb_weight *weights;      /* ends with W_NONE */
	const struct bb_op *embed, *unembed;
	struct bb_layer_kind kinds[MAX_LAYER_KINDS];
	/* Name in config.json of the list of the layers' kinds, or of a string with a letter for each;
	 * NULL, or not there: `pick` says. */
	const char *hf_layers;
	bool hf_layers_repeat;        /* the list goes on as it begins, as far as there are layers */
	/* … or of the numbers of those layers that are kinds[0], the others being kinds[1]. */
	const char *hf_first_kind;
	/* Keys of a GGUF file's numbers per layer, separated by |: kinds[i] where that of the i-th key
	 * is the first that isn't 0 (behind a ! before them all: is 0), the kind behind them where none
	 * is so; NULL, or not a list: `pick` says. */
	const char *gguf_layers;
	/* A tensor of a GGUF file, with %d for the layer; NULL: none. With it kinds come in pairs, of
	 * which gguf_layers tells the pair; layers that have it are the second of theirs. */
	const char *gguf_second_kind;
	/* What Hugging Face's class calls its input embeddings has the scalar of OP_EMBED in it, so
	 * that vectors aren't multiplied by it. */
	bool embed_is_scaled;
	/* Which kind layer i is; NULL = kinds[0]. */
	int (*pick)(const struct bb_hparams *hp, int i_layer);
	/* Of a model in which layers share weights: how many have such of their own. Of the layers of
	 * a kind with SHARED weights, the i-th shares with each whose number is i modulo this: the file
	 * has them under the name of one of these, or of more, of which its own counts. A second %d is
	 * i, for weights of that turn alone. */
	enum bb_hparam n_sharing;
	/* Fills what follows from other hyper-parameters by this architecture's own rules, or refuses a
	 * combination; NULL = nothing. */
	bool (*finish)(struct bb_hparams *hp, struct bb_error *err);
};

const char *op_name(enum bb_op_kind kind);
const char *act_name(enum bb_act act);

#endif
