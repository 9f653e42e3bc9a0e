/* SPDX-License-Identifier: Apache-2.0
 *
 * Prepares x for the layout p16 (see p16.h) in the words of ops_avx2.h or ops_avx512.h. */
#ifndef MATMUL_PREP_H
#define MATMUL_PREP_H

#include <assert.h>
#include <string.h>

struct prep {
	uint8_t *dst;
	enum bb_dtype type;
	const float *x;
	int ld_x, n_rows, k;
	size_t x_row_bytes;
};

static inline void store_word(uint8_t *p, int32_t v) {
	memcpy(p, &v, sizeof(v));
}

/* One block of one row into its places in a tile of n_rows: row r of the block at dst. */
ALWAYS_INLINE void prep_block(uint8_t *dst, enum bb_dtype type, int n_rows, int r, const float *x) {
	int8_t q[32];
	int32_t sum[2];
	const float s = quant_row_block(q, sum, x);
	for (int g = 0; g < 8; g++) {
		memcpy(dst + (g * n_rows + r) * 4, q + 4 * g, 4);
	}
	uint8_t *scales = dst + 32 * n_rows + 4 * r;
	memcpy(scales, &s, 4);
	if (quant_has_min(type)) {
		const float extra = s * (float)(sum[0] + sum[1]);
		memcpy(scales + 4 * n_rows, &extra, 4);
	} else if (type == BB_Q6_K) {
		store_word(scales + 4 * n_rows, -32 * sum[0]);
		store_word(scales + 8 * n_rows, -32 * sum[1]);
	} else {
		store_word(scales + 4 * n_rows, -quant_offset(type) * (sum[0] + sum[1]));
	}
}

/* Row by row: x is read once, in order, and the tile that is written stays in L1. */
ALWAYS_INLINE void prep_tile(uint8_t *dst, const struct prep *p, int n_rows, const float *x) {
	const int n_blocks = p->k / 32, bytes = n_rows * p16_x_block_bytes(p->type);
	for (int r = 0; r < n_rows; r++) {
		for (int b = 0; b < n_blocks; b++) {
			prep_block(dst + (size_t)b * bytes, p->type, n_rows, r, x + 32 * b);
		}
		x += p->ld_x;
	}
}

static void prep_float_tile(uint8_t *dst, const struct prep *p, int n_rows, const float *x) {
	for (int i = 0; i < p->k; i++) {
		for (int r = 0; r < n_rows; r++) {
			memcpy(dst + ((size_t)i * n_rows + r) * 4, &x[(size_t)r * p->ld_x + i], 4);
		}
	}
}

static void prep_tiles(const void *arg, int begin, int end) {
	const struct prep *p = arg;
	int height;
	for (int r = begin * P16_TILE; r < end * P16_TILE && r < p->n_rows; r += height) {
		height = p16_tile_rows(p->n_rows - r);
		uint8_t *dst = p->dst + (size_t)r * p->x_row_bytes;
		const float *x = p->x + (size_t)r * p->ld_x;
		if (!quant_is_block(p->type)) {
			prep_float_tile(dst, p, height, x);
		} else if (height == 8) {
			prep_tile(dst, p, 8, x);
		} else if (height == 1) {
			prep_tile(dst, p, 1, x);
		} else {
			prep_tile(dst, p, height, x);
		}
	}
}

static void prep_p16(bb_queue *q, void *dst, enum bb_dtype type, const float *x, int ld_x,
	int n_rows, int k) {
	assert(!quant_is_block(type) || k % 32 == 0);
	const struct prep p = { dst, type, x, ld_x, n_rows, k, p16_x_row_bytes(type, k) };
	queue_run(q, prep_tiles, &p, (n_rows + P16_TILE - 1) / P16_TILE, 1);
}

#endif
