/* SPDX-License-Identifier: Apache-2.0
 *
 * Selective copying (arXiv:2312.00752, section 4.1) in two Mamba layers: items among any amount of
 * noise, given back in their order. Layer 0 counts items and reads, in integers that f32 holds
 * exactly. Layer 1 has a slot of its states for each place: differences of hats of the counts make
 * one-hot B (where an item is written) and C (which is read). Counts change a row's norm, by a
 * positive factor, so one-hots stay that. A state has 16 slots: a 17th item is lost. */
#include "build.h"

enum { N_VALUES = 16, N_NOISE = 4, NOISE_ID = 16, GO = 20, OUT_ID = 21, EOS = 37, N_VOCAB = 38,
	WIDTH = 64, INNER = 2 * WIDTH, N_HATS = SSM_STATE + 2 };
/* Features: the item; what a token is; constants; the counts; the answer; which noise. */
enum { IS_ITEM = 16, IS_READ = 17, ONE = 18, ALSO_ONE = 19, READ_TOO = 21, IS_NOISE = 22,
	N_ITEMS = 24, N_READS = 25, ANSWER = 32, NOISE = 50 };
/* Channels of layer 1: hats of both counts, the items, whether there is one. */
enum { HATS = 0, READ_HATS = N_HATS, ITEMS = 2 * N_HATS, STEP = ITEMS + N_VALUES };
/* silu(512 x) / 512 is max(x, 0), for x that are whole and scaled by a norm. */
static const float sharp = 512;

static void fill_counters(const struct ssm_layer *l) {
	static const int from[] = { IS_ITEM, IS_READ }, to[] = { N_ITEMS, N_READS };
	for (int i = 0; i < 2; i++) {
		set(&l->in, i, from[i], 32);
		set(&l->in, INNER + i, ONE, 32);
		set(&l->x, i, i, 1.0f / 32);
		set(&l->dt, i, i, 64);
		set(&l->out, to[i], i, 1.0f / 32);
	}
	/* dt 32, u 32, B and C 1/32, gate 32: what the counts are multiplied by stays small enough for
	 * activations in f16, which llama.cpp has for weights in f16 */
	set(&l->in, 2, ONE, 32);
	set(&l->x, SSM_B, 2, 0x1p-10f);
	set(&l->x, SSM_C, 2, 0x1p-10f);
}

/* Channels first..: max(count - j, 0); rows row.. of x: 1 where the count is s + 1. */
static void fill_hats(const struct ssm_layer *l, int first, int count, int row) {
	static const float weights[] = { 1, -2, 1 };
	for (int j = 0; j < N_HATS; j++) {
		set(&l->in, first + j, count, sharp);
		set(&l->in, first + j, ONE, -sharp * (float)j);
	}
	for (int s = 0; s < SSM_STATE; s++) {
		for (int i = 0; i < 3; i++) {
			set(&l->x, row + s, first + s + i, weights[i] / sharp);
		}
	}
}

static void fill_slots(const struct ssm_layer *l) {
	fill_hats(l, HATS, N_ITEMS, SSM_B);
	fill_hats(l, READ_HATS, N_READS, SSM_C);
	for (int v = 0; v < N_VALUES; v++) {
		set(&l->in, ITEMS + v, v, sharp);
		set(&l->in, INNER + ITEMS + v, IS_READ, sharp);
		set(&l->dt, ITEMS + v, 0, 1024);
		set(&l->out, ANSWER + v, ITEMS + v, 0x1p-20f);
	}
	set(&l->in, STEP, IS_ITEM, sharp);
	set(&l->x, 0, STEP, 1 / sharp);
}

static void fill_ends(struct handset_build *b, const struct matrix *embed,
	const struct matrix *output) {
	for (int id = 0; id < N_VOCAB; id++) {
		set(embed, id, ONE, 1);
		set(embed, id, ALSO_ONE, 1);
		if (id < N_VALUES) {
			set(embed, id, id, 1);
			set(embed, id, IS_ITEM, 1);
			build_name(b, id, "v%d", id);
		} else if (id < GO) {
			set(embed, id, NOISE + id - NOISE_ID, 1);
			set(embed, id, IS_NOISE, 1);
			build_name(b, id, "noise%d", id - NOISE_ID);
		} else {
			set(embed, id, IS_READ, 1);
			set(embed, id, READ_TOO, 1);
			build_name(b, id, id == GO ? "GO" : id == EOS ? "EOS" : "v%d", id - OUT_ID);
		}
	}
	for (int v = 0; v < N_VALUES; v++) {
		set(output, OUT_ID + v, ANSWER + v, 1);
	}
	set(output, EOS, ONE, 0x1p-12f); /* the largest where a slot is empty */
}

static bool build(struct handset_build *b, const struct handset_options *o, struct bb_error *err) {
	const struct ssm s = { .n_layers = 2, .width = WIDTH, .n_vocab = N_VOCAB,
		.context_length = 1 << 24, .eos = EOS };
	struct matrix embed, output;
	ssm_begin(b, &s);
	ssm_ends(b, &s, &embed, &output);
	fill_ends(b, &embed, &output);
	const struct ssm_layer counters = ssm_layer(b, &s, 0);
	const enum gguf_write_type type = b->type;
	b->type = GGUF_WRITE_F32; /* counts that a norm has scaled don't survive 16-bit products */
	const struct ssm_layer slots = ssm_layer(b, &s, 1);
	b->type = type;
	fill_counters(&counters);
	fill_slots(&slots);
	return true;
}

/* Beyond 32 items or reads the norm makes the hats too blunt. */
static bool expect(const struct handset_options *o, const int32_t *ids, size_t n, int32_t *expected,
	struct bb_error *err) {
	enum { MOST = 2 * SSM_STATE };
	int32_t items[SSM_STATE] = { 0 };
	int n_items = 0, n_reads = 0;
	for (size_t i = 0; i < n; i++) {
		const bool is_item = ids[i] >= 0 && ids[i] < N_VALUES;
		const bool is_read = ids[i] >= GO && ids[i] < N_VOCAB;
		if (is_item && n_items < SSM_STATE) {
			items[n_items] = ids[i];
		}
		n_items += is_item && n_items <= MOST;
		n_reads += is_read && n_reads <= MOST;
		const bool is_there = n_reads <= n_items && n_reads <= SSM_STATE;
		expected[i] = !is_read || n_items > MOST || n_reads > MOST ? -1
			: is_there ? OUT_ID + items[n_reads - 1] : EOS;
	}
	return true;
}

static int example(const struct handset_options *o, struct bb_tokens *prompt,
	struct bb_error *err) {
	static const int32_t ids[] = { 16, 5, 17, 18, 11, 19, 3, 16, 16, GO };
	return -build_example(prompt, ids, sizeof(ids) / sizeof(ids[0]), err);
}

const struct handset_kind handset_selective_copy = {
	.name = "selective-copy",
	.summary = "up to 16 items among any noise, copied in their order by two Mamba layers",
	.format = "items 0 to 15, noise 16 to 19, in any order, then GO = 20: the answer is each "
		"item's copy, 21 + item, then EOS = 37.",
	.build = build,
	.expect = expect,
	.example = example,
};
