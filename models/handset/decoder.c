/* SPDX-License-Identifier: Apache-2.0
 *
 * What hand-set models of the architecture llama share: metadata, tensors, and the head that looks
 * a fixed number of tokens back by RoPE alone. */
#include "build.h"

#include <math.h>

#define ROPE_BASE 10000.0
/* Of queries and keys: scores are P sum_j cos(w_j (distance - delta)), P = 32^2 / sqrt(64). */
#define AMPLITUDE 32.0

static int head_dim(const struct decoder *d) {
	return d->head_dim > 0 ? d->head_dim : HANDSET_HEAD;
}

static int n_heads(const struct decoder *d) {
	return d->n_heads > 0 ? d->n_heads : d->width / head_dim(d);
}

void decoder_begin(struct handset_build *b, const struct decoder *d) {
	build_begin(b, "llama", d->n_vocab, d->context_length, d->eos);
	build_u32(b, "embedding_length", (uint32_t)d->width);
	build_u32(b, "block_count", (uint32_t)d->n_layers);
	build_u32(b, "feed_forward_length", (uint32_t)d->n_ff);
	build_u32(b, "attention.head_count", (uint32_t)n_heads(d));
	build_u32(b, "attention.head_count_kv", (uint32_t)n_heads(d));
	build_u32(b, "attention.key_length", (uint32_t)head_dim(d));
	build_u32(b, "attention.value_length", (uint32_t)head_dim(d));
	build_u32(b, "rope.dimension_count", (uint32_t)head_dim(d));
	build_f32_key(b, "rope.freq_base", (float)ROPE_BASE);
	build_f32_key(b, "attention.layer_norm_rms_epsilon", 0);
	build_vector(b, d->width, d->norm, "output_norm.weight");
	for (int i = 0; i < d->n_layers; i++) {
		build_vector(b, d->width, d->norm, "blk.%d.attn_norm.weight", i);
		build_vector(b, d->width, d->norm, "blk.%d.ffn_norm.weight", i);
	}
}

void decoder_ends(struct handset_build *b, const struct decoder *d, struct matrix *embed,
	struct matrix *output) {
	*embed = build_matrix(b, d->n_vocab, d->width, "token_embd.weight");
	*output = build_matrix(b, d->n_vocab, d->width, "output.weight");
}

struct decoder_layer decoder_layer(struct handset_build *b, const struct decoder *d, int i_layer) {
	const int width = d->width, n_ff = d->n_ff, heads = n_heads(d) * head_dim(d);
	return (struct decoder_layer){
		.q = build_matrix(b, heads, width, "blk.%d.attn_q.weight", i_layer),
		.k = build_matrix(b, heads, width, "blk.%d.attn_k.weight", i_layer),
		.v = build_matrix(b, heads, width, "blk.%d.attn_v.weight", i_layer),
		.o = build_matrix(b, width, heads, "blk.%d.attn_output.weight", i_layer),
		.gate = build_matrix(b, n_ff, width, "blk.%d.ffn_gate.weight", i_layer),
		.up = build_matrix(b, n_ff, width, "blk.%d.ffn_up.weight", i_layer),
		.down = build_matrix(b, width, n_ff, "blk.%d.ffn_down.weight", i_layer),
	};
}

double decoder_frequency(const struct decoder *d, int j) {
	return pow(ROPE_BASE, -2.0 * j / head_dim(d));
}

struct matrix decoder_divisors(struct handset_build *b, const struct decoder *d, int n) {
	const struct matrix m = build_vector(b, head_dim(d) / 2, 0x1p100f, "rope_freqs.weight");
	for (int j = 0; j < n; j++) {
		set(&m, j, 0, (float)(decoder_frequency(d, j) / pow(ROPE_BASE, -2.0 * j / HANDSET_HEAD)));
	}
	return m;
}

void decoder_fill(const struct matrix *m, int row, int column, int n, int sum) {
	const int end = column + n;
	for (int value = 8; value > 0; value /= 2) {
		for (; sum >= value * value; sum -= value * value) {
			assert(column < end);
			set(m, row, column++, (float)value);
		}
	}
}

void decoder_look_back(const struct decoder_layer *l, int head, int one, int64_t delta, int first,
	int n) {
	decoder_look_back_if(l, head, one, one, delta, first, n);
}

void decoder_look_back_if(const struct decoder_layer *l, int head, int asks, int one, int64_t delta,
	int first, int n) {
	for (int j = first; j < first + n; j++) {
		const double angle = pow(ROPE_BASE, -2.0 * j / HANDSET_HEAD) * (double)delta;
		const int row = head * HANDSET_HEAD + 2 * j;
		set(&l->q, row, asks, (float)(AMPLITUDE * cos(angle)));
		set(&l->q, row + 1, asks, (float)(-AMPLITUDE * sin(angle)));
		set(&l->k, row, one, (float)AMPLITUDE);
	}
}
