/* SPDX-License-Identifier: Apache-2.0
 *
 * The last value seen, kept by the state of one Mamba layer through any amount of noise: the
 * flip-flop of Krohn and Rhodes (1965). A value's step is 32, which forgets the state (A = -4) and
 * writes it; noise's step is so small that both are exactly nothing. The answer is there behind
 * every token; a constant goes out when it comes in, so that a row's sum of squares stays 4. Logits
 * are 1.0 for it and 0.0 for all others, and all 0.0 before the first value. */
#include "build.h"

enum { N_VALUES = 16, N_NOISE = 4, N_VOCAB = N_VALUES + N_NOISE, WIDTH = 64, INNER = 2 * WIDTH };
/* Features: the value; whether it is one, or noise; two constants; which noise; the answer. */
enum { IS_VALUE = 16, IS_NOISE = 17, ONE = 20, SPARE = 21, NOISE = 24, ANSWER = 32 };
/* Channels, behind those of the values. */
enum { STEP = N_VALUES, CONSTANT = N_VALUES + 1 };

static void fill(const struct ssm_layer *l) {
	for (int v = 0; v < N_VALUES; v++) {
		set(&l->in, v, v, 32);         /* silu(32) = 32 */
		set(&l->in, INNER + v, ONE, 32);
		set(&l->dt, v, 0, 64);
		for (int k = 0; k < SSM_STATE; k++) {
			set(&l->a, v, k, -4);
		}
		set(&l->out, ANSWER + v, v, 0x1p-15f); /* of a state of 32 * 32, times the gate's 32 */
		set(&l->out, SPARE, v, -0x1p-15f);
	}
	set(&l->in, STEP, IS_VALUE, 32);
	set(&l->in, CONSTANT, ONE, 32);
	set(&l->x, 0, STEP, 1.0f / 32);
	set(&l->x, SSM_B, CONSTANT, 1.0f / 32);
	set(&l->x, SSM_C, CONSTANT, 1.0f / 32);
}

static bool build(struct handset_build *b, const struct handset_options *o, struct bb_error *err) {
	const struct ssm s = { .n_layers = 1, .width = WIDTH, .n_vocab = N_VOCAB,
		.context_length = 1 << 24, .eos = -1 };
	struct matrix embed, output;
	ssm_begin(b, &s);
	ssm_ends(b, &s, &embed, &output);
	for (int id = 0; id < N_VOCAB; id++) {
		const bool is_value = id < N_VALUES;
		set(&embed, id, ONE, 1);
		set(&embed, id, SPARE, 1);
		set(&embed, id, is_value ? id : NOISE + id - N_VALUES, 1);
		set(&embed, id, is_value ? IS_VALUE : IS_NOISE, 1);
		if (is_value) {
			set(&output, id, ANSWER + id, 1);
		}
		build_name(b, id, is_value ? "v%d" : "noise%d", is_value ? id : id - N_VALUES);
	}
	const struct ssm_layer l = ssm_layer(b, &s, 0);
	fill(&l);
	return true;
}

static bool expect(const struct handset_options *o, const int32_t *ids, size_t n, int32_t *expected,
	struct bb_error *err) {
	int32_t last = -1;
	for (size_t i = 0; i < n; i++) {
		last = ids[i] >= 0 && ids[i] < N_VALUES ? ids[i] : last;
		expected[i] = last;
	}
	return true;
}

static int example(const struct handset_options *o, struct bb_tokens *prompt,
	struct bb_error *err) {
	static const int32_t ids[] = { 3, 16, 17, 11, 18, 19, 16 };
	return build_example(prompt, ids, sizeof(ids) / sizeof(ids[0]), err);
}

const struct handset_kind handset_latch = {
	.name = "latch",
	.summary = "the last value seen, through any noise, in the state of one Mamba layer",
	.format = "values 0 to 15, noise 16 to 19, in any order: the answer to each token is the last "
		"value so far.",
	.build = build,
	.expect = expect,
	.example = example,
};
