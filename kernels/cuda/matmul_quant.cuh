/* SPDX-License-Identifier: Apache-2.0
 *
 * Reading the layout `panels` (matmul_panel.h) of block types out of shared memory, where both
 * products stage it a span at a time. */
#pragma once

#include "matmul_args.cuh"

/* Each block type, with the end of its kernels' names. */
#define QUANT_TYPES(X) \
	X(q8_0, BB_Q8_0) X(q4_0, BB_Q4_0) X(q4_1, BB_Q4_1) X(q5_0, BB_Q5_0) X(q5_1, BB_Q5_1) \
	X(q4_k, BB_Q4_K) X(q5_k, BB_Q5_K) X(q6_k, BB_Q6_K)

/* A block of x: s, and the sums of its two halves. */
DEVICE float x_scale(uint2 meta) {
	return __uint_as_float(meta.x);
}

DEVICE int x_sum0(uint2 meta) {
	return (int16_t)meta.y;
}

DEVICE int x_sum1(uint2 meta) {
	return (int)meta.y >> 16;
}

/* ---- codes ---- */

/* Groups t and t + 4 of a column's block out of the word that has them, and their high bits. */
template <int type>
DEVICE void unpack_pair(uint32_t pair[2], uint32_t w, const uint8_t *high, int t) {
	pair[0] = w & 0x0f0f0f0fu;
	pair[1] = w >> 4 & 0x0f0f0f0fu;
	if (panel_high_bytes(type) == 4) {
		const uint32_t bits = ld_vec((const uint32_t *)high) >> t;
		pair[0] |= (bits & 0x01010101u) << 4;
		pair[1] |= bits & 0x10101010u;
	} else if (panel_high_bytes(type) == 8) {
		const uint2 bits = ld_vec((const uint2 *)high);
		pair[0] |= (bits.x >> 2 * t & 0x03030303u) << 4;
		pair[1] |= (bits.y >> 2 * t & 0x03030303u) << 4;
	}
}

/* All eight groups. */
template <int type>
DEVICE void read_codes(uint32_t c[8], const uint8_t *span, int n_blocks, int b, int lane) {
	const uint8_t *at = span + b * PANEL * panel_code_bytes(type) + lane * 16;
	const uint4 v = ld_vec((const uint4 *)at);
	const uint32_t w[4] = { v.x, v.y, v.z, v.w };
	const uint8_t *high = span + panel_high_at(type, n_blocks)
		+ (b * PANEL + lane) * panel_high_bytes(type);
	uint4 upper = { 0, 0, 0, 0 };
	uint2 bits = { 0, 0 };
	if (type == BB_Q8_0) {
		upper = ld_vec((const uint4 *)(at + PANEL * 16));
	} else if (panel_high_bytes(type) == 4) {
		bits.x = ld_vec((const uint32_t *)high);
	} else if (panel_high_bytes(type) == 8) {
		bits = ld_vec((const uint2 *)high);
	}
	const uint32_t u[4] = { upper.x, upper.y, upper.z, upper.w };
	UNROLL
	for (int t = 0; t < 4; t++) {
		c[t] = type == BB_Q8_0 ? w[t] : w[t] & 0x0f0f0f0fu;
		c[t + 4] = type == BB_Q8_0 ? u[t] : w[t] >> 4 & 0x0f0f0f0fu;
		if (panel_high_bytes(type) == 4) {
			c[t] |= (bits.x >> t & 0x01010101u) << 4;
			c[t + 4] |= bits.x >> t & 0x10101010u;
		} else if (panel_high_bytes(type) == 8) {
			c[t] |= (bits.x >> 2 * t & 0x03030303u) << 4;
			c[t + 4] |= (bits.y >> 2 * t & 0x03030303u) << 4;
		}
	}
}

/* ---- scales ---- */

/* What a lane needs for the scales of its column in a span: the header of a K-quant. */
struct scale_header {
	uint4 v;
	float d;
};

template <int type>
DEVICE scale_header read_header(const uint8_t *span, int n_blocks, int lane) {
	scale_header h = { { 0, 0, 0, 0 }, 0.0f };
	if (panel_is_k(type)) {
		h.v = ld_vec((const uint4 *)(span + panel_scale_at(type, n_blocks) + 16 * lane));
	}
	if (type == BB_Q6_K) {
		h.d = f32_of_f16(((const uint16_t *)(span + panel_d_at(type, n_blocks)))[lane]);
	}
	return h;
}

/* Byte i of four words, i a constant after unrolling. */
DEVICE uint32_t byte_of(uint32_t w, int i) {
	return w >> 8 * i & 255;
}

/* Block b of a column: .x the scale; .y the min, or Q6_K: the scale of the second half. */
template <int type>
DEVICE float2 read_scale(const scale_header &h, const uint8_t *span, int n_blocks, int b,
	int lane) {
	if (type == BB_Q6_K) {
		const uint32_t w = b < 2 ? h.v.x : b < 4 ? h.v.y : b < 6 ? h.v.z : h.v.w;
		return make_float2(h.d * (float)(int8_t)(w >> b % 2 * 16),
			h.d * (float)(int8_t)(w >> (b % 2 * 16 + 8)));
	}
	if (panel_is_k(type)) {
		const uint32_t scales = b < 4 ? h.v.y & 0x3f3f3f3fu
			: (h.v.w & 0x0f0f0f0fu) | (h.v.y >> 2 & 0x30303030u);
		const uint32_t mins = b < 4 ? h.v.z & 0x3f3f3f3fu
			: (h.v.w >> 4 & 0x0f0f0f0fu) | (h.v.z >> 2 & 0x30303030u);
		return make_float2(f16_lo(h.v.x) * (float)byte_of(scales, b % 4),
			-(f16_hi(h.v.x) * (float)byte_of(mins, b % 4)));
	}
	const uint8_t *at = span + panel_scale_at(type, n_blocks)
		+ (b * PANEL + lane) * panel_scale_bytes(type);
	if (panel_has_min(type)) {
		const uint32_t w = ld_vec((const uint32_t *)at);
		return make_float2(f16_lo(w), f16_hi(w));
	}
	return make_float2(f32_of_f16(*(const uint16_t *)at), 0.0f);
}

/* One block's step of an output: see kernels/matmul.c. dot1 is of the second half, Q6_K only. */
template <int type>
DEVICE float add_block(float acc, float dot0, float dot1, float2 scale, uint2 meta) {
	const float s = x_scale(meta);
	acc = fmaf(dot0, scale.x * s, acc);
	if (type == BB_Q6_K) {
		acc = fmaf(dot1, scale.y * s, acc);
	} else if (panel_has_min(type)) {
		acc = fmaf(scale.y, s * (float)(x_sum0(meta) + x_sum1(meta)), acc);
	}
	return acc;
}
