/* SPDX-License-Identifier: Apache-2.0
 *
 * What hand-set models of the architecture mamba share: metadata, tensors, and a layer that does
 * nothing yet. Steps dt are 32 where their input is 64, and 1.3e-14 where it is 0: softplus of it
 * and the bias. So exp(dt A) is 1.0 in f32 for the A that is set at first, and whatever dt is. */
#include "build.h"

#include <math.h>

void ssm_begin(struct handset_build *b, const struct ssm *s) {
	build_begin(b, "mamba", s->n_vocab, s->context_length, s->eos);
	build_u32(b, "embedding_length", (uint32_t)s->width);
	build_u32(b, "block_count", (uint32_t)s->n_layers);
	build_u32(b, "feed_forward_length", 0);  /* llama.cpp wants it, and the next */
	build_u32(b, "attention.head_count", 0);
	build_u32(b, "ssm.conv_kernel", SSM_CONV);
	build_u32(b, "ssm.inner_size", (uint32_t)(2 * s->width));
	build_u32(b, "ssm.state_size", SSM_STATE);
	build_u32(b, "ssm.time_step_rank", SSM_DT);
	build_f32_key(b, "attention.layer_norm_rms_epsilon", 0);
	const float norm = (float)(2 / sqrt(s->width));
	build_vector(b, s->width, norm, "output_norm.weight");
	for (int i = 0; i < s->n_layers; i++) {
		build_vector(b, s->width, norm, "blk.%d.attn_norm.weight", i);
	}
}

void ssm_ends(struct handset_build *b, const struct ssm *s, struct matrix *embed,
	struct matrix *output) {
	*embed = build_matrix(b, s->n_vocab, s->width, "token_embd.weight");
	*output = build_matrix(b, s->n_vocab, s->width, "output.weight");
}

struct ssm_layer ssm_layer(struct handset_build *b, const struct ssm *s, int i_layer) {
	const int width = s->width, inner = 2 * width;
	const struct ssm_layer l = {
		.in = build_matrix(b, 2 * inner, width, "blk.%d.ssm_in.weight", i_layer),
		.conv = build_f32(b, inner, SSM_CONV, "blk.%d.ssm_conv1d.weight", i_layer),
		.conv_bias = build_vector(b, inner, 0, "blk.%d.ssm_conv1d.bias", i_layer),
		.x = build_matrix(b, SSM_C + SSM_STATE, inner, "blk.%d.ssm_x.weight", i_layer),
		.dt = build_matrix(b, inner, SSM_DT, "blk.%d.ssm_dt.weight", i_layer),
		.a = build_f32(b, inner, SSM_STATE, "blk.%d.ssm_a", i_layer),
		.skip = build_vector(b, inner, 0, "blk.%d.ssm_d", i_layer),
		.out = build_matrix(b, width, inner, "blk.%d.ssm_out.weight", i_layer),
	};
	build_vector(b, inner, -32, "blk.%d.ssm_dt.bias", i_layer);
	for (int i = 0; i < inner; i++) {
		set(&l.conv, i, SSM_CONV - 1, 1);
		for (int k = 0; k < SSM_STATE; k++) {
			set(&l.a, i, k, -0x1p-60f);
		}
	}
	return l;
}
