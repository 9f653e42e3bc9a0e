/* SPDX-License-Identifier: Apache-2.0
 *
 * The element types of weights: size of a block, name, and the exact value of every stored element.
 * Numbers of several bytes are little-endian, as on the machine. Fast unpacking belongs to
 * matmul. */
#include "kernels.h"

#include <assert.h>
#include <string.h>

enum { K_BLOCK = 256 }; /* elements of a K-quant block: 8 groups of 32 (Q6_K: 16 of 16) */

struct type {
	const char *name;
	int elems, bytes; /* of a block */
	void (*decode)(float *y, const uint8_t *block); /* y[elems] */
};

static uint16_t load_u16(const uint8_t *p) {
	uint16_t h;
	memcpy(&h, p, sizeof(h));
	return h;
}

static float load_f16(const uint8_t *p) {
	return f16_to_f32(load_u16(p));
}

static uint32_t bits_of(float f) {
	uint32_t u;
	memcpy(&u, &f, sizeof(u));
	return u;
}

static float float_of(uint32_t u) {
	float f;
	memcpy(&f, &u, sizeof(f));
	return f;
}

/* ---- 16-bit floats ---- */

float f16_to_f32(uint16_t h) {
	const uint32_t sign = (uint32_t)(h & 0x8000) << 16;
	const uint32_t exponent = h >> 10 & 31, mantissa = h & 1023;
	if (exponent == 31) {
		/* infinity, or a NaN, made quiet as the hardware does */
		return float_of(sign | 0x7f800000u | mantissa << 13 | (mantissa != 0 ? 0x400000u : 0));
	}
	if (exponent == 0) {
		const float f = (float)mantissa * 0x1p-24f;
		return sign != 0 ? -f : f;
	}
	return float_of(sign | (exponent + 112) << 23 | mantissa << 13);
}

uint16_t f32_to_f16(float f) {
	const uint32_t u = bits_of(f), magnitude = u & 0x7fffffffu;
	const uint16_t sign = (uint16_t)(u >> 16 & 0x8000);
	if (magnitude > 0x7f800000u) {
		return (uint16_t)(sign | 0x7e00 | (magnitude >> 13 & 0x3ff));
	}
	if (magnitude >= 0x477ff000u) { /* 65520, halfway to 2^16 */
		return sign | 0x7c00;
	}
	if (magnitude < 0x38800000u) {
		/* Below 2^-14 the unit is 2^-24: adding 0.5, whose own unit that is, rounds to even. */
		const uint32_t sum = bits_of(float_of(magnitude) + 0.5f);
		return (uint16_t)(sign | (sum - bits_of(0.5f)));
	}
	const uint32_t odd = magnitude >> 13 & 1;
	return (uint16_t)(sign | ((magnitude - 0x38000000u + 0xfff + odd) >> 13));
}

float bf16_to_f32(uint16_t h) {
	return float_of((uint32_t)h << 16);
}

uint16_t f32_to_bf16(float f) {
	const uint32_t u = bits_of(f);
	if ((u & 0x7fffffffu) > 0x7f800000u) {
		return (uint16_t)(u >> 16 | 0x40);
	}
	return (uint16_t)((u + 0x7fff + (u >> 16 & 1)) >> 16);
}

/* ---- one block each; the layouts are those of GGUF ---- */

static void decode_f32(float *y, const uint8_t *b) {
	memcpy(y, b, sizeof(*y));
}

static void decode_f16(float *y, const uint8_t *b) {
	*y = load_f16(b);
}

static void decode_bf16(float *y, const uint8_t *b) {
	*y = bf16_to_f32(load_u16(b));
}

/* f16 d, int8 q[32] */
static void decode_q8_0(float *y, const uint8_t *b) {
	const float d = load_f16(b);
	for (int i = 0; i < 32; i++) {
		y[i] = (float)(int8_t)b[2 + i] * d;
	}
}

/* Element i of 32 in 16 bytes: the low nibbles first, then the high ones. */
static int nibble(const uint8_t *q, int i) {
	return i < 16 ? q[i] & 15 : q[i - 16] >> 4;
}

/* Bit i of 32, as the fifth bit of a number. */
static int fifth(const uint8_t *q, int i) {
	return (q[i / 8] >> i % 8 & 1) << 4;
}

/* f16 d, nibbles[16]: (q - 8) d */
static void decode_q4_0(float *y, const uint8_t *b) {
	const float d = load_f16(b);
	for (int i = 0; i < 32; i++) {
		y[i] = (float)(nibble(b + 2, i) - 8) * d;
	}
}

/* f16 d, f16 m, nibbles[16]: q d + m */
static void decode_q4_1(float *y, const uint8_t *b) {
	const float d = load_f16(b), m = load_f16(b + 2);
	for (int i = 0; i < 32; i++) {
		y[i] = (float)nibble(b + 4, i) * d + m;
	}
}

/* f16 d, fifth bits[4], nibbles[16]: (q - 16) d */
static void decode_q5_0(float *y, const uint8_t *b) {
	const float d = load_f16(b);
	for (int i = 0; i < 32; i++) {
		y[i] = (float)((nibble(b + 6, i) | fifth(b + 2, i)) - 16) * d;
	}
}

/* f16 d, f16 m, fifth bits[4], nibbles[16]: q d + m */
static void decode_q5_1(float *y, const uint8_t *b) {
	const float d = load_f16(b), m = load_f16(b + 2);
	for (int i = 0; i < 32; i++) {
		y[i] = (float)(nibble(b + 8, i) | fifth(b + 4, i)) * d + m;
	}
}

/* Eight 6-bit scales and eight 6-bit minima in 12 bytes: the first four of each whole in bytes 0-3
 * and 4-7; the others have their low halves in bytes 8-11 and their top bits above the first
 * four. */
static void k_scale_min(const uint8_t *s, int group, int *scale, int *min) {
	if (group < 4) {
		*scale = s[group] & 63;
		*min = s[group + 4] & 63;
	} else {
		*scale = (s[group + 4] & 15) | s[group - 4] >> 6 << 4;
		*min = s[group + 4] >> 4 | s[group] >> 6 << 4;
	}
}

/* f16 d, f16 dmin, scales[12], nibbles[4][32] (low: group 2j, high: 2j + 1): q d scale - dmin
 * min */
static void decode_q4_k(float *y, const uint8_t *b) {
	const float d = load_f16(b), dmin = load_f16(b + 2);
	for (int g = 0; g < 8; g++) {
		int scale, min;
		k_scale_min(b + 4, g, &scale, &min);
		const uint8_t *q = b + 16 + g / 2 * 32;
		for (int i = 0; i < 32; i++) {
			const int v = q[i] >> g % 2 * 4 & 15;
			y[g * 32 + i] = d * (float)scale * (float)v - dmin * (float)min;
		}
	}
}

/* f16 d, f16 dmin, scales[12], fifth bits[32] (bit g of byte i: element i of group g), nibbles as
 * in Q4_K */
static void decode_q5_k(float *y, const uint8_t *b) {
	const float d = load_f16(b), dmin = load_f16(b + 2);
	for (int g = 0; g < 8; g++) {
		int scale, min;
		k_scale_min(b + 4, g, &scale, &min);
		const uint8_t *q = b + 48 + g / 2 * 32;
		for (int i = 0; i < 32; i++) {
			const int v = (q[i] >> g % 2 * 4 & 15) | (b[16 + i] >> g & 1) << 4;
			y[g * 32 + i] = d * (float)scale * (float)v - dmin * (float)min;
		}
	}
}

/* low[2][64], high[2][32], int8 scale[16], f16 d: (q - 32) d scale. In each half of 128 elements,
 * quarter j takes nibble j / 2 of low[j % 2 * 32 + i] and bits 2j, 2j + 1 of high[i]. */
static void decode_q6_k(float *y, const uint8_t *b) {
	const float d = load_f16(b + 208);
	for (int e = 0; e < K_BLOCK; e++) {
		const int half = e / 128, j = e % 128 / 32, i = e % 32;
		const int low = b[half * 64 + j % 2 * 32 + i] >> j / 2 * 4 & 15;
		const int high = b[128 + half * 32 + i] >> 2 * j & 3;
		const int scale = (int8_t)b[192 + e / 16];
		y[e] = d * (float)scale * (float)((low | high << 4) - 32);
	}
}

/* ---- the table ---- */

static const struct type types[BB_DTYPE_LIMIT] = {
	[BB_F32] = { "F32", 1, 4, decode_f32 },
	[BB_F16] = { "F16", 1, 2, decode_f16 },
	[BB_BF16] = { "BF16", 1, 2, decode_bf16 },
	[BB_Q4_0] = { "Q4_0", 32, 18, decode_q4_0 },
	[BB_Q4_1] = { "Q4_1", 32, 20, decode_q4_1 },
	[BB_Q5_0] = { "Q5_0", 32, 22, decode_q5_0 },
	[BB_Q5_1] = { "Q5_1", 32, 24, decode_q5_1 },
	[BB_Q8_0] = { "Q8_0", 32, 34, decode_q8_0 },
	[BB_Q4_K] = { "Q4_K", K_BLOCK, 144, decode_q4_k },
	[BB_Q5_K] = { "Q5_K", K_BLOCK, 176, decode_q5_k },
	[BB_Q6_K] = { "Q6_K", K_BLOCK, 210, decode_q6_k },
};

static const struct type *type_of(enum bb_dtype type) {
	static const struct type none;
	return (unsigned)type < BB_DTYPE_LIMIT ? &types[type] : &none;
}

int dtype_block_elems(enum bb_dtype type) {
	return type_of(type)->elems;
}

int dtype_block_bytes(enum bb_dtype type) {
	return type_of(type)->bytes;
}

const char *dtype_name(enum bb_dtype type) {
	return type_of(type)->name;
}

size_t dtype_row_bytes(enum bb_dtype type, int64_t n) {
	const struct type *t = type_of(type);
	assert(t->elems != 0 && n >= 0 && n % t->elems == 0);
	return (size_t)(n / t->elems) * (size_t)t->bytes;
}

void dtype_decode(float *y, const void *row, enum bb_dtype type, int64_t n) {
	const struct type *t = type_of(type);
	assert(t->elems != 0 && n % t->elems == 0);
	const uint8_t *block = row;
	for (int64_t i = 0; i < n; i += t->elems) {
		t->decode(y + i, block);
		block += t->bytes;
	}
}
