/* SPDX-License-Identifier: Apache-2.0
 *
 * What RWKV-7's state can hold (arXiv:2503.14456), S <- S diag(w) - (S z) (a z)^T + v k^T with the
 * unit vector z along k and decays w = 1: a dictionary, which overwrites, and with rates a up to 2
 * the permutations of five things, since S (I - 2 z z^T) swaps two columns where z is the
 * difference of two unit vectors (Grazzi et al., arXiv:2411.12537). And parity without such rates,
 * which fades.
 * Each token is two features, and a feature is the pair 1, -1: their mean is 0 and their variance
 * 4 / width, so that norms of rows give powers of 2. Layer norms have an epsilon of 0; only the
 * norm behind the recurrence, whose epsilon is fixed, isn't exact. */
#include "build.h"

#include "base.h"

#include <math.h>
#include <string.h>

/* Rows of the token shift's weights: how much of the token before goes into each. */
enum mix { MIX_R, MIX_W, MIX_K, MIX_V, MIX_A, MIX_G, N_MIXES };

enum {
	HEAD = 64,
	RANK = 8,
	PAST_SIGMOID = 32, /* sigmoid(32) = 1 in f32, and sigmoid(-32) as good as 0 */
	NO_DECAY = -110,   /* w = exp(-e^-0.5 sigmoid(-110)) = 1 in f32 */
	CONTEXT = 1 << 22,
};

struct recurrent {
	int width, n_vocab;
	struct matrix embed, output, mix;
	struct matrix r, k, v, o;     /* [width, width] */
	struct matrix w1, a1;         /* [RANK, width] */
	struct matrix w2, a2;         /* [width, RANK] */
};

/* The row of a feature's 1. */
static int of(int feature) {
	return 2 * feature;
}

static void embed(const struct recurrent *m, int id, int feature, int other) {
	const int features[2] = { feature, other };
	for (int i = 0; i < 2; i++) {
		set(&m->embed, id, of(features[i]), 1);
		set(&m->embed, id, of(features[i]) + 1, -1);
	}
}

static void begin(struct handset_build *b, const struct recurrent *m) {
	build_begin(b, "rwkv7", m->n_vocab, CONTEXT, -1);
	build_u32(b, "embedding_length", (uint32_t)m->width);
	build_u32(b, "block_count", 1);
	build_u32(b, "feed_forward_length", (uint32_t)m->width);
	build_u32(b, "attention.head_count", 0);
	build_u32(b, "wkv.head_size", HEAD);
	build_u32(b, "attention.decay_lora_rank", RANK);
	build_u32(b, "attention.iclr_lora_rank", RANK);
	build_u32(b, "attention.value_residual_mix_lora_rank", RANK);
	build_u32(b, "attention.gate_lora_rank", RANK);
	build_f32_key(b, "attention.layer_norm_epsilon", 0);
}

/* A vector of the only layer. */
static void layer_vector(struct handset_build *b, const struct recurrent *m, const char *name,
	float value) {
	build_vector(b, m->width, value, "blk.0.%s.weight", name);
}

static struct matrix layer_matrix(struct handset_build *b, int rows, int columns,
	const char *name) {
	return build_matrix(b, rows, columns, "blk.0.%s.weight", name);
}

/* What doesn't depend on the kind: norms, no decay, no gate, no bonus, no feed-forward. */
static void neutral(struct handset_build *b, const struct recurrent *m) {
	static const char *const norms[] = { "token_embd_norm", "output_norm", "blk.0.attn_norm",
		"blk.0.attn_norm_2", "blk.0.time_mix_ln" };
	for (int i = 0; i < 5; i++) {
		/* rows of the embedding come out of their norm as sqrt(width) / 2 */
		const bool is_first = strcmp(norms[i], "blk.0.attn_norm") == 0;
		build_vector(b, m->width, is_first ? (float)(2 / sqrt(m->width)) : 1, "%s.weight",
			norms[i]);
		build_vector(b, m->width, 0, "%s.bias", norms[i]);
	}
	layer_vector(b, m, "time_mix_w0", NO_DECAY);
	layer_vector(b, m, "time_mix_a0", -PAST_SIGMOID);
	layer_vector(b, m, "time_mix_k_k", 1);
	layer_vector(b, m, "time_mix_k_a", 0);
	layer_vector(b, m, "time_mix_r_k", 0);
	layer_vector(b, m, "channel_mix_lerp_k", 0);
	layer_matrix(b, m->width, m->width, "channel_mix_key");
	layer_matrix(b, m->width, m->width, "channel_mix_value");
	/* the first layer has no use for these, but llama.cpp wants them to be there */
	layer_vector(b, m, "time_mix_v0", 0);
	layer_matrix(b, RANK, m->width, "time_mix_v1");
	layer_matrix(b, m->width, RANK, "time_mix_v2");
	layer_matrix(b, RANK, m->width, "time_mix_g1");
	const struct matrix g2 = layer_matrix(b, m->width, RANK, "time_mix_g2");
	for (int row = 0; row < m->width; row++) {
		for (int i = 0; i < RANK; i++) {
			set(&g2, row, i, 2.0f / RANK); /* times sigmoid(0): a gate of 1 */
		}
	}
}

static struct recurrent recurrent(struct handset_build *b, int width, int n_vocab) {
	struct recurrent m = { .width = width, .n_vocab = n_vocab };
	const int64_t mix_shape[] = { N_MIXES, 1, 1, width };
	begin(b, &m);
	neutral(b, &m);
	m.embed = build_matrix(b, n_vocab, width, "token_embd.weight");
	m.output = build_matrix(b, n_vocab, width, "output.weight");
	m.mix = (struct matrix){ gguf_writer_shaped(b->w, "blk.0.time_mix_lerp_fused.weight",
		GGUF_WRITE_F32, 4, mix_shape), N_MIXES, width };
	m.r = layer_matrix(b, width, width, "time_mix_receptance");
	m.k = layer_matrix(b, width, width, "time_mix_key");
	m.v = layer_matrix(b, width, width, "time_mix_value");
	m.o = layer_matrix(b, width, width, "time_mix_output");
	m.w1 = layer_matrix(b, RANK, width, "time_mix_w1");
	m.w2 = layer_matrix(b, width, RANK, "time_mix_w2");
	m.a1 = layer_matrix(b, RANK, width, "time_mix_a1");
	m.a2 = layer_matrix(b, width, RANK, "time_mix_a2");
	return m;
}

/* Adds `more` to what the sigmoid of the rates is taken of, at tokens with a feature; `unit` of
 * RANK. */
static void raise_rate(const struct recurrent *m, int unit, int feature, float more) {
	set(&m->a1, unit, of(feature), 1);
	for (int row = 0; row < m->width; row++) {
		set(&m->a2, row, unit, more);
	}
}

/* ---- a dictionary ---- */

enum { N_KEYS = 16, N_VALUES = 16, DICT_VALUE = N_KEYS, DICT_QUERY = DICT_VALUE + N_VALUES,
	DICT_VOCAB = DICT_QUERY + N_KEYS };

/* The key comes from the token before the value: its feature there goes into k by the shift. */
static bool build_dictionary(struct handset_build *b, const struct handset_options *o,
	struct bb_error *err) {
	enum { WIDTH = 256, IS_KEY = DICT_VOCAB, IS_VALUE, IS_QUERY, ANSWER = WIDTH / 2 };
	const struct recurrent m = recurrent(b, WIDTH, DICT_VOCAB);
	for (int i = 0; i < WIDTH; i++) {
		set(&m.mix, MIX_K, i, 1);
	}
	for (int i = 0; i < N_KEYS; i++) {
		embed(&m, i, i, IS_KEY);
		embed(&m, DICT_QUERY + i, DICT_QUERY + i, IS_QUERY);
		set(&m.k, i, of(i), 1);
		set(&m.r, i, of(DICT_QUERY + i), 1);
		build_name(b, i, "K%d", i);
		build_name(b, DICT_QUERY + i, "Q%d", i);
	}
	for (int j = 0; j < N_VALUES; j++) {
		embed(&m, DICT_VALUE + j, DICT_VALUE + j, IS_VALUE);
		set(&m.v, j, of(DICT_VALUE + j), 1);
		set(&m.o, ANSWER + j, j, 1);
		set(&m.output, DICT_VALUE + j, ANSWER + j, 1);
		build_name(b, DICT_VALUE + j, "V%d", j);
	}
	raise_rate(&m, 0, IS_VALUE, 2 * PAST_SIGMOID);
	return true;
}

static bool expect_dictionary(const struct handset_options *o, const int32_t *ids, size_t n,
	int32_t *expected, struct bb_error *err) {
	int32_t values[N_KEYS];
	memset(values, -1, sizeof(values));
	for (size_t i = 0; i < n; i++) {
		const int32_t before = i > 0 ? ids[i - 1] : -1;
		if (ids[i] >= DICT_VALUE && ids[i] < DICT_QUERY && before >= 0 && before < N_KEYS) {
			values[before] = ids[i];
		}
		const bool asks = ids[i] >= DICT_QUERY && ids[i] < DICT_VOCAB;
		expected[i] = asks ? values[ids[i] - DICT_QUERY] : -1;
	}
	return true;
}

static int dictionary_example(const struct handset_options *o, struct bb_tokens *prompt,
	struct bb_error *err) {
	static const int32_t ids[] = { 3, DICT_VALUE + 7, 4, DICT_VALUE, 3, DICT_VALUE + 9,
		DICT_QUERY + 3 };
	return build_example(prompt, ids, COUNT(ids), err);
}

const struct handset_kind handset_dictionary = {
	.name = "dictionary",
	.summary = "a dictionary in the state of one RWKV-7 layer: the latest value of each key, for "
		"ever",
	.format = "K V sets the value of a key; Q is answered by the latest value of that key, "
		"anywhere.\n"
		"Nothing is promised of a key that was never set.\n"
		"ids: keys 0 to 15, values 16 to 31, queries 32 to 47.",
	.build = build_dictionary,
	.expect = expect_dictionary,
	.example = dictionary_example,
};

/* ---- S5 by transpositions ---- */

enum { S5 = 5, N_SWAPS = S5 * (S5 - 1) / 2, S5_WRITE = N_SWAPS, S5_READ = S5_WRITE + S5,
	S5_LABEL = S5_READ + S5, S5_VOCAB = S5_LABEL + S5 };

/* The t-th pair of places i < j. */
static void swap_of(int t, int *i, int *j) {
	for (*i = 0; t >= S5 - 1 - *i; t -= S5 - 1 - (*i)++) {
	}
	*j = *i + 1 + t;
}

/* Column p of the state says which label is at place p. A write has a rate of 1, so it overwrites,
 * and a swap one of 2. */
static bool build_s5_weights(struct handset_build *b) {
	enum { WIDTH = 64, ANSWER = 40, IS_LABEL = 27, LABEL, IS_READ, IS_SWAP, IS_WRITE };
	const struct recurrent m = recurrent(b, WIDTH, S5_VOCAB);
	for (int t = 0; t < N_SWAPS; t++) {
		int i, j;
		swap_of(t, &i, &j);
		embed(&m, t, t, IS_SWAP);
		set(&m.k, i, of(t), 1);
		set(&m.k, j, of(t), -1);
		build_name(b, t, "(%d %d)", i, j);
	}
	for (int i = 0; i < S5; i++) {
		embed(&m, S5_WRITE + i, S5_WRITE + i, IS_WRITE);
		embed(&m, S5_READ + i, S5_READ + i, IS_READ);
		embed(&m, S5_LABEL + i, LABEL, IS_LABEL);
		set(&m.k, i, of(S5_WRITE + i), 1);
		set(&m.v, i, of(S5_WRITE + i), 1);
		set(&m.r, i, of(S5_READ + i), 1);
		set(&m.o, ANSWER + i, i, 1);
		set(&m.output, S5_LABEL + i, ANSWER + i, 1);
		build_name(b, S5_WRITE + i, "write%d", i);
		build_name(b, S5_READ + i, "read%d", i);
		build_name(b, S5_LABEL + i, "%d", i);
	}
	raise_rate(&m, 0, IS_SWAP, 2 * PAST_SIGMOID);
	raise_rate(&m, 1, IS_WRITE, PAST_SIGMOID); /* 2 sigmoid(0) = 1 */
	return true;
}

static bool build_s5(struct handset_build *b, const struct handset_options *o,
	struct bb_error *err) {
	build_s5_weights(b);
	build_f32_key(b, "attention.iclr_scale", 2);
	return true;
}

static bool build_s5_unscaled(struct handset_build *b, const struct handset_options *o,
	struct bb_error *err) {
	return build_s5_weights(b);
}

static bool expect_s5(const struct handset_options *o, const int32_t *ids, size_t n,
	int32_t *expected, struct bb_error *err) {
	int labels[S5], i, j; /* at each place; -1: none was written */
	memset(labels, -1, sizeof(labels));
	for (size_t at = 0; at < n; at++) {
		expected[at] = -1;
		if (ids[at] >= 0 && ids[at] < N_SWAPS) {
			swap_of(ids[at], &i, &j);
			const int label = labels[i];
			labels[i] = labels[j];
			labels[j] = label;
		} else if (ids[at] >= S5_WRITE && ids[at] < S5_READ) {
			labels[ids[at] - S5_WRITE] = ids[at] - S5_WRITE;
		} else if (ids[at] >= S5_READ && ids[at] < S5_LABEL) {
			const int label = labels[ids[at] - S5_READ];
			expected[at] = label >= 0 ? S5_LABEL + label : -1;
		}
	}
	return true;
}

static int s5_example(const struct handset_options *o, struct bb_tokens *prompt,
	struct bb_error *err) {
	static const int32_t ids[] = { S5_WRITE, S5_WRITE + 1, S5_WRITE + 2, S5_WRITE + 3,
		S5_WRITE + 4, 0, 4, S5_READ + 2 };
	return build_example(prompt, ids, COUNT(ids), err);
}

#define S5_FORMAT "write0 ... write4, then swaps of two places; readi is answered by the label " \
	"that is at place i now.\n" \
	"ids: swaps 0 to 9, which are (0 1) (0 2) (0 3) (0 4) (1 2) (1 3) (1 4) (2 3) (2 4) (3 4); " \
	"writes 10 to 14, reads 15 to 19, labels 20 to 24.\n"

const struct handset_kind handset_s5_rwkv = {
	.name = "s5-rwkv",
	.summary = "the permutations of five things in the state of one RWKV-7 layer, without chain of "
		"thought",
	.format = S5_FORMAT "rwkv7.attention.iclr_scale = 2 in the file makes rates reach 2; other "
		"programs don't know this key.",
	.build = build_s5,
	.expect = expect_s5,
	.example = s5_example,
};

const struct handset_kind handset_s5_unscaled = {
	.name = "s5-unscaled",
	.summary = "the weights of s5-rwkv with rates below 1, which can't do it",
	.format = S5_FORMAT,
	.build = build_s5_unscaled,
	.expect = expect_s5,
	.example = s5_example,
};

/* ---- parity that fades ---- */

enum { PARITY_BEGIN = 2, PARITY_READ, PARITY_VOCAB };

/* A one multiplies the state by w - a = exp(-e^-0.5) - 1 = -0.45. */
static bool build_fading_parity(struct handset_build *b, const struct handset_options *o,
	struct bb_error *err) {
	enum { WIDTH = 64, ANSWER = 20, FLAG = 4 };
	const struct recurrent m = recurrent(b, WIDTH, PARITY_VOCAB);
	for (int id = 0; id < PARITY_VOCAB; id++) {
		embed(&m, id, id, FLAG);
	}
	set(&m.k, 0, of(1), 1);
	set(&m.k, 0, of(PARITY_BEGIN), 1);
	set(&m.v, 0, of(PARITY_BEGIN), 1);
	set(&m.v, 1, of(PARITY_BEGIN), -1); /* a difference goes through the norm behind */
	set(&m.r, 0, of(PARITY_READ), 1);
	set(&m.o, ANSWER, 0, 0.5f);
	set(&m.o, ANSWER, 1, -0.5f);
	set(&m.output, 0, ANSWER, 1);
	set(&m.output, 1, ANSWER, -1);
	raise_rate(&m, 0, 1, 2 * PAST_SIGMOID);
	set(&m.w1, 0, of(1), PAST_SIGMOID); /* tanh(32) = 1 */
	for (int row = 0; row < WIDTH; row++) {
		set(&m.w2, row, 0, -2 * NO_DECAY);
	}
	return true;
}

static bool expect_fading_parity(const struct handset_options *o, const int32_t *ids, size_t n,
	int32_t *expected, struct bb_error *err) {
	int parity = 0;
	for (size_t i = 0; i < n; i++) {
		parity = ids[i] == PARITY_BEGIN ? 0 : parity ^ (ids[i] == 1);
		expected[i] = ids[i] == PARITY_READ ? parity : -1;
	}
	return true;
}

static int parity_example(const struct handset_options *o, struct bb_tokens *prompt,
	struct bb_error *err) {
	static const int32_t ids[] = { PARITY_BEGIN, 1, 1, 0, 1, PARITY_READ };
	return build_example(prompt, ids, COUNT(ids), err);
}

const struct handset_kind handset_fading_parity = {
	.name = "fading-parity",
	.summary = "parity in the sign of a number that a step more than halves",
	.format = "begin, then zeros and ones; read is answered by the parity of the ones.\n"
		"ids: 0, 1, begin 2, read 3.",
	.build = build_fading_parity,
	.expect = expect_fading_parity,
	.example = parity_example,
};
