/* SPDX-License-Identifier: Apache-2.0
 *
 * Taking quantised blocks apart and putting them together again, four elements at a time: a group
 * of four codes is a 32-bit word, and the file's nibbles and bit planes become words by shifts
 * and masks. */
#include "quant.h"

#include <math.h>
#include <string.h>

enum {
	LOW4 = 0x0f0f0f0f, /* the nibble of each byte */
	LOW2 = 0x03030303,
	LOW1 = 0x01010101,
};

static uint16_t load_u16(const uint8_t *p) {
	uint16_t v;
	memcpy(&v, p, sizeof(v));
	return v;
}

static uint32_t load_u32(const uint8_t *p) {
	uint32_t v;
	memcpy(&v, p, sizeof(v));
	return v;
}

static void store_u16(uint8_t *p, uint16_t v) {
	memcpy(p, &v, sizeof(v));
}

static void store_u32(uint8_t *p, uint32_t v) {
	memcpy(p, &v, sizeof(v));
}

/* Bit i of a nibble to bit 0 of byte i, and back. */
static uint32_t spread_bits(uint32_t nibble) {
	return nibble * 0x00204081u & LOW1;
}

static uint32_t gather_bits(uint32_t bytes) {
	return (bytes & LOW1) * 0x01020408u >> 24 & 15;
}

/* ---- one f16 d, perhaps m, perhaps fifth bits, nibbles[16]: elements 0-15 low, 16-31 high ---- */

static void get_nibbles(uint32_t codes[8], const uint8_t *q) {
	for (int i = 0; i < 4; i++) {
		const uint32_t v = load_u32(q + 4 * i);
		codes[i] = v & LOW4;
		codes[i + 4] = v >> 4 & LOW4;
	}
}

static void put_nibbles(uint8_t *q, const uint32_t codes[8]) {
	for (int i = 0; i < 4; i++) {
		store_u32(q + 4 * i, (codes[i] & LOW4) | (codes[i + 4] & LOW4) << 4);
	}
}

static void get_fifths(uint32_t codes[8], const uint8_t *bits) {
	const uint32_t v = load_u32(bits);
	for (int g = 0; g < 8; g++) {
		codes[g] |= spread_bits(v >> 4 * g & 15) << 4;
	}
}

static void put_fifths(uint8_t *bits, const uint32_t codes[8]) {
	uint32_t v = 0;
	for (int g = 0; g < 8; g++) {
		v |= gather_bits(codes[g] >> 4) << 4 * g;
	}
	store_u32(bits, v);
}

/* ---- K-quants: 256 elements with one header; i is the block of 32 among them ---- */

/* Eight 6-bit scales and eight 6-bit minima in 12 bytes: the first four of each whole in bytes
 * 0-3 and 4-7; the others have their low halves in bytes 8-11, their top bits above the first. */
static void get_k_scale(uint8_t *scale, uint8_t *min, const uint8_t *s, int i) {
	if (i < 4) {
		*scale = s[i] & 63;
		*min = s[i + 4] & 63;
	} else {
		*scale = (uint8_t)((s[i + 4] & 15) | s[i - 4] >> 6 << 4);
		*min = (uint8_t)(s[i + 4] >> 4 | s[i] >> 6 << 4);
	}
}

static void put_k_scale(uint8_t *s, int i, uint8_t scale, uint8_t min) {
	if (i < 4) {
		s[i] = scale;
		s[i + 4] = min;
	} else {
		s[i + 4] = (uint8_t)((scale & 15) | (min & 15) << 4);
		s[i - 4] |= (uint8_t)(scale >> 4 << 6);
		s[i] |= (uint8_t)(min >> 4 << 6);
	}
}

/* Nibbles of 64 elements in 32 bytes: block 2j low, block 2j + 1 high. */
static void get_k_nibbles(uint32_t codes[8], const uint8_t *q, int i) {
	for (int g = 0; g < 8; g++) {
		codes[g] = load_u32(q + i / 2 * 32 + 4 * g) >> i % 2 * 4 & LOW4;
	}
}

/* Writes `bits` of each byte of v into field `shift` of p's bytes; the first clears the rest. */
static void put_field(uint8_t *p, uint32_t v, uint32_t mask, int shift) {
	const uint32_t old = shift == 0 ? 0 : load_u32(p);
	store_u32(p, old | (v & mask) << shift);
}

static void put_k_nibbles(uint8_t *q, const uint32_t codes[8], int i) {
	for (int g = 0; g < 8; g++) {
		put_field(q + i / 2 * 32 + 4 * g, codes[g], LOW4, i % 2 * 4);
	}
}

/* Bit i of byte e: the fifth bit of element e of block i. */
static void get_k_fifths(uint32_t codes[8], const uint8_t *bits, int i) {
	for (int g = 0; g < 8; g++) {
		codes[g] |= (load_u32(bits + 4 * g) >> i & LOW1) << 4;
	}
}

static void put_k_fifths(uint8_t *bits, const uint32_t codes[8], int i) {
	for (int g = 0; g < 8; g++) {
		put_field(bits + 4 * g, codes[g] >> 4, LOW1, i);
	}
}

/* low[2][64], high[2][32], int8 scale[16], f16 d. In each half of 128 elements, quarter j has
 * nibble j / 2 of low[j % 2 * 32 + e] and bits 2j, 2j + 1 of high[e]. */
static void get_q6_k(struct quant_block *out, const uint8_t *p, int i) {
	const uint8_t *low = p + i / 4 * 64 + i % 2 * 32, *high = p + 128 + i / 4 * 32;
	const int j = i % 4;
	for (int g = 0; g < 8; g++) {
		out->codes[g] = (load_u32(low + 4 * g) >> j / 2 * 4 & LOW4)
			| (load_u32(high + 4 * g) >> 2 * j & LOW2) << 4;
	}
	memcpy(out->scales, p + 192 + 2 * i, 2);
	out->d = load_u16(p + 208);
}

static void put_q6_k(uint8_t *p, int i, const struct quant_block *in) {
	uint8_t *low = p + i / 4 * 64 + i % 2 * 32, *high = p + 128 + i / 4 * 32;
	const int j = i % 4;
	for (int g = 0; g < 8; g++) {
		put_field(low + 4 * g, in->codes[g], LOW4, j / 2 * 4);
		put_field(high + 4 * g, in->codes[g] >> 4, LOW2, 2 * j);
	}
	memcpy(p + 192 + 2 * i, in->scales, 2);
	store_u16(p + 208, in->d);
}

/* ---- all types ---- */

void quant_get(struct quant_block *out, enum bb_dtype type, const void *row, int i_block) {
	const int per = quant_is_k(type) ? 8 : 1, i = i_block % per;
	const uint8_t *p = (const uint8_t *)row + (size_t)(i_block / per) * dtype_block_bytes(type);
	const bool has_min = quant_has_min(type);
	if (type == BB_Q6_K) {
		get_q6_k(out, p, i);
		return;
	}
	out->d = load_u16(p);
	out->m = has_min ? load_u16(p + 2) : 0;
	p += has_min ? 4 : 2;
	switch (type) {
	case BB_Q8_0:
		for (int g = 0; g < 8; g++) {
			out->codes[g] = load_u32(p + 4 * g) ^ 0x80808080u;
		}
		break;
	case BB_Q5_0:
	case BB_Q5_1:
		get_nibbles(out->codes, p + 4);
		get_fifths(out->codes, p);
		break;
	case BB_Q4_K:
		get_k_scale(&out->scales[0], &out->min, p, i);
		get_k_nibbles(out->codes, p + 12, i);
		break;
	case BB_Q5_K:
		get_k_scale(&out->scales[0], &out->min, p, i);
		get_k_nibbles(out->codes, p + 44, i);
		get_k_fifths(out->codes, p + 12, i);
		break;
	default:
		get_nibbles(out->codes, p);
		break;
	}
}

void quant_put(void *row, enum bb_dtype type, int i_block, const struct quant_block *in) {
	const int per = quant_is_k(type) ? 8 : 1, i = i_block % per;
	uint8_t *p = (uint8_t *)row + (size_t)(i_block / per) * dtype_block_bytes(type);
	const bool has_min = quant_has_min(type);
	if (type == BB_Q6_K) {
		put_q6_k(p, i, in);
		return;
	}
	store_u16(p, in->d);
	if (has_min) {
		store_u16(p + 2, in->m);
	}
	p += has_min ? 4 : 2;
	switch (type) {
	case BB_Q8_0:
		for (int g = 0; g < 8; g++) {
			store_u32(p + 4 * g, in->codes[g] ^ 0x80808080u);
		}
		break;
	case BB_Q5_0:
	case BB_Q5_1:
		put_nibbles(p + 4, in->codes);
		put_fifths(p, in->codes);
		break;
	case BB_Q4_K:
		put_k_scale(p, i, in->scales[0], in->min);
		put_k_nibbles(p + 12, in->codes, i);
		break;
	case BB_Q5_K:
		put_k_scale(p, i, in->scales[0], in->min);
		put_k_nibbles(p + 44, in->codes, i);
		put_k_fifths(p + 12, in->codes, i);
		break;
	default:
		put_nibbles(p, in->codes);
		break;
	}
}

float quant_x(int8_t *q, int32_t sum[2], const float *x) {
	/* As integers, magnitudes order like floats, with infinity and NaN above them all. */
	uint32_t max = 0;
	for (int i = 0; i < 32; i++) {
		uint32_t u;
		memcpy(&u, &x[i], sizeof(u));
		u &= 0x7fffffffu;
		max = u > max ? u : max;
	}
	float largest;
	memcpy(&largest, &max, sizeof(largest));
	const float s = largest / 127.0f;
	const float divisor = s == 0.0f ? 1.0f : s;
	sum[0] = sum[1] = 0;
	for (int i = 0; i < 32; i++) {
		/* The quotient passes 127 where s is denormal, and a NaN becomes 127. */
		float v = x[i] / divisor;
		v = v < 127.0f ? v : 127.0f;
		v = v > -127.0f ? v : -127.0f;
		q[i] = (int8_t)lrintf(v);
		sum[i / 16] += q[i];
	}
	return s;
}
