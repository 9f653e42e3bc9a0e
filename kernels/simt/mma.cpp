/* SPDX-License-Identifier: Apache-2.0
 *
 * The tensor cores' arithmetic: fragments to rows, products, and back. Integer sums are exact.
 * Float products are summed by fmaf in order of k: a definition of this device, for the hardware
 * sums several at once and keeps a few more bits. */
#include "mma.hpp"

namespace simt {

static void unpack_f32(Mma type, float to[2], uint32_t w) {
	if (type == Mma::f16) {
		to[0] = f32_of_f16((uint16_t)w);
		to[1] = f32_of_f16((uint16_t)(w >> 16));
	} else {
		to[0] = __uint_as_float(w << 16);
		to[1] = __uint_as_float(w & 0xffff0000u);
	}
}

/* d[16, 8] += a[16, 16] b[16, 8]. Lane 4 g + t holds of a the rows g and g + 8 at columns 2 t and
 * 2 t + 8, of b the rows 2 t and 2 t + 8 of column g, of d the rows g, g + 8 at columns 2 t. */
static void compute_f32(Mma type, const MmaLane lanes[32]) {
	float a[16][16];
	alignas(32) float b[16][8], d[16][8];
	for (int l = 0; l < 32; l++) {
		const int g = l / 4, t = l % 4 * 2;
		const float *from = static_cast<const float *>(lanes[l].d);
		for (int i = 0; i < 4; i++) {
			unpack_f32(type, &a[g + i % 2 * 8][t + i / 2 * 8], lanes[l].a[i]);
			d[g + i / 2 * 8][t + i % 2] = from[i];
		}
		for (int i = 0; i < 2; i++) {
			float pair[2];
			unpack_f32(type, pair, lanes[l].b[i]);
			b[t + i * 8][g] = pair[0];
			b[t + i * 8 + 1][g] = pair[1];
		}
	}
	for (int m = 0; m < 16; m++) {
		for (int k = 0; k < 16; k++) {
			for (int n = 0; n < 8; n++) {
				d[m][n] = __builtin_fmaf(a[m][k], b[k][n], d[m][n]);
			}
		}
	}
	for (int l = 0; l < 32; l++) {
		float *to = static_cast<float *>(lanes[l].d);
		for (int i = 0; i < 4; i++) {
			to[i] = d[l / 4 + i / 2 * 8][l % 4 * 2 + i % 2];
		}
	}
}

/* d[16, 8] += a[16, 32] b[32, 8]; as above with four bytes to a word, columns 4 t and 4 t + 16. */
static void compute_s32(const MmaLane lanes[32]) {
	int16_t a[16][32], b[8][32]; /* b by columns */
	uint32_t d[16][8];
	for (int l = 0; l < 32; l++) {
		const int g = l / 4, t = l % 4;
		const uint32_t *from = static_cast<const uint32_t *>(lanes[l].d);
		for (int i = 0; i < 4; i++) {
			for (int j = 0; j < 4; j++) {
				a[g + i % 2 * 8][t * 4 + i / 2 * 16 + j] = (int8_t)(lanes[l].a[i] >> 8 * j);
			}
			d[g + i / 2 * 8][t * 2 + i % 2] = from[i];
		}
		for (int i = 0; i < 2; i++) {
			for (int j = 0; j < 4; j++) {
				b[g][t * 4 + i * 16 + j] = (int8_t)(lanes[l].b[i] >> 8 * j);
			}
		}
	}
	for (int m = 0; m < 16; m++) {
		for (int n = 0; n < 8; n++) {
			int32_t sum = 0;
			for (int k = 0; k < 32; k++) {
				sum += a[m][k] * b[n][k];
			}
			d[m][n] += (uint32_t)sum;
		}
	}
	for (int l = 0; l < 32; l++) {
		uint32_t *to = static_cast<uint32_t *>(lanes[l].d);
		for (int i = 0; i < 4; i++) {
			to[i] = d[l / 4 + i / 2 * 8][l % 4 * 2 + i % 2];
		}
	}
}

void mma_compute(Mma type, const MmaLane lanes[32]) {
	if (type == Mma::f16 || type == Mma::bf16) {
		compute_f32(type, lanes);
	} else {
		compute_s32(lanes);
	}
}

} // namespace simt
