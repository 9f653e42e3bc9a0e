/* SPDX-License-Identifier: Apache-2.0
 *
 * How many tokens attention sees: weights are all alike and only BOS has a value, 1, so the head
 * gives y = 1 / n. Token k's logit is 2 k - k^2 y, tangents of 1 / y, of which the n-th is the
 * largest, by 1 / n. Unlike automata, whose attention is all on one token, it sees a slot too many
 * or one too few anywhere. Fractions don't survive 16-bit products, so what multiplies y is F32
 * whatever type was asked for. */
#include "build.h"

enum { WIDTH = HANDSET_HEAD, BOS = 0, DEFAULT_LENGTH = 256, MAX_LENGTH = 1024 };
/* Features: BOS, three or four constants, y. */
enum { IS_BOS, ONE, Y = 5 };

static bool build(struct handset_build *b, const struct handset_options *o, struct bb_error *err) {
	const struct decoder d = { .n_layers = 1, .width = WIDTH, .n_ff = 1, .eos = -1,
		.n_vocab = o->length + 1, .context_length = o->length, .norm = 2.0f / 8 };
	const enum gguf_write_type type = b->type;
	decoder_begin(b, &d);
	b->type = GGUF_WRITE_F32;
	struct matrix embed, output;
	decoder_ends(b, &d, &embed, &output);
	const struct decoder_layer l = decoder_layer(b, &d, 0);
	b->type = type;
	set(&l.v, 0, IS_BOS, 1);
	set(&l.o, Y, 0, 1);
	for (int k = 0; k <= o->length; k++) {
		set(&embed, k, k == BOS ? IS_BOS : ONE + 3, 1);
		for (int i = 0; i < 3; i++) {
			set(&embed, k, ONE + i, 1);
		}
		set(&output, k, ONE, 2 * (float)k);
		set(&output, k, Y, -(float)k * (float)k);
		if (k == BOS) {
			build_name(b, k, "BOS");
		}
	}
	return true;
}

static bool expect(const struct handset_options *o, const int32_t *ids, size_t n, int32_t *expected,
	struct bb_error *err) {
	for (size_t i = 0; i < n; i++) {
		const bool is_count = ids[0] == BOS && (i == 0 || ids[i] != BOS) &&
			i < (size_t)o->length && (i == 0 || expected[i - 1] >= 0);
		expected[i] = is_count ? (int32_t)i + 1 : -1;
	}
	return true;
}

static int example(const struct handset_options *o, struct bb_tokens *prompt,
	struct bb_error *err) {
	const bool ok = bb_tokens_push(prompt, BOS, err) && bb_tokens_push(prompt, 1, err) &&
		bb_tokens_push(prompt, 1, err);
	return ok ? 5 : 0;
}

const struct handset_kind handset_census = {
	.name = "census",
	.summary = "how many tokens attention sees, counted by one head with equal weights",
	.format = "BOS = 0, then any ids from 1 on: the answer to each token is the number of tokens "
		"so far.",
	.length = "N, up to which it counts",
	.takes = HANDSET_TAKES_LENGTH,
	.min_length = 2,
	.max_length = MAX_LENGTH,
	.default_length = DEFAULT_LENGTH,
	.build = build,
	.expect = expect,
	.example = example,
};
