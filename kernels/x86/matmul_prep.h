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

/* What a row's block needs besides its codes: row r of n_rows at `scales`. */
ALWAYS_INLINE void prep_scales(uint8_t *scales, enum bb_dtype type, int n_rows, int r, float s,
	const int32_t sum[2]) {
	scales += 4 * r;
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

/* One block of one row into its places in a tile of n_rows: row r of the block at dst. */
ALWAYS_INLINE void prep_block(uint8_t *dst, enum bb_dtype type, int n_rows, int r, const float *x) {
	int8_t q[32];
	int32_t sum[2];
	const float s = quant_row_block(q, sum, x);
	for (int g = 0; g < 8; g++) {
		memcpy(dst + (g * n_rows + r) * 4, q + 4 * g, 4);
	}
	prep_scales(dst + 32 * n_rows, type, n_rows, r, s, sum);
}

/* dst[g][r] = q[r][g], in words of four codes; g, r < 8. */
ALWAYS_INLINE void transpose_words(uint8_t *dst, const int8_t q[8][32]) {
	__m256i in[8], pair[8], quad[8];
	for (int r = 0; r < 8; r++) {
		in[r] = _mm256_load_si256((const __m256i *)(const void *)q[r]);
	}
	for (int r = 0; r < 8; r += 2) {
		/* words 0, 1 and 4, 5 of two rows; then 2, 3 and 6, 7 */
		pair[r] = _mm256_unpacklo_epi32(in[r], in[r + 1]);
		pair[r + 1] = _mm256_unpackhi_epi32(in[r], in[r + 1]);
	}
	for (int h = 0; h < 8; h += 4) { /* rows h .. h + 3: words i and 4 + i in quad[h + i] */
		quad[h] = _mm256_unpacklo_epi64(pair[h], pair[h + 2]);
		quad[h + 1] = _mm256_unpackhi_epi64(pair[h], pair[h + 2]);
		quad[h + 2] = _mm256_unpacklo_epi64(pair[h + 1], pair[h + 3]);
		quad[h + 3] = _mm256_unpackhi_epi64(pair[h + 1], pair[h + 3]);
	}
	for (int i = 0; i < 4; i++) {
		__m256i *out = (__m256i *)(void *)(dst + 32 * i);
		_mm256_storeu_si256(out, _mm256_permute2x128_si256(quad[i], quad[4 + i], 0x20));
		_mm256_storeu_si256(out + 4, _mm256_permute2x128_si256(quad[i], quad[4 + i], 0x31));
	}
}

/* A tile of eight rows, block by block, so that codes are written a register at a time. */
ALWAYS_INLINE void prep_tile_8(uint8_t *dst, enum bb_dtype type, int n_blocks, const float *x,
	int ld_x) {
	for (int b = 0; b < n_blocks; b++, dst += 8 * p16_x_block_bytes(type)) {
		_Alignas(32) int8_t q[8][32];
		for (int r = 0; r < 8; r++) {
			int32_t sum[2];
			const float s = quant_row_block(q[r], sum, x + (size_t)r * ld_x + 32 * b);
			prep_scales(dst + 256, type, 8, r, s, sum);
		}
		transpose_words(dst, q);
	}
}

/* A lower tile, row by row. */
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
			prep_tile_8(dst, p->type, p->k / 32, x, p->ld_x);
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
