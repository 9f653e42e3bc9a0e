/* SPDX-License-Identifier: Apache-2.0
 *
 * The matrix product of bf16 weights with vdpbf16ps: x is rounded to bf16 and every output is one
 * chain of its steps over pairs along k, acc + w1 x1 + w0 x0 with denormals as zero (Intel SDM). */
#include "ops_avx512.h"

#include "matmul_product.h"

#include "matmul_float.h"

#include <assert.h>
#include <string.h>

/* acc[n_rows][16] = a tile of x, [pairs][n_rows][2], times a panel. */
ALWAYS_INLINE void pairs_tile(int n_rows, float *out, const uint8_t *w, const uint8_t *x, int k) {
	__m512 acc[P16_TILE];
#pragma GCC unroll 8
	for (int r = 0; r < n_rows; r++) {
		acc[r] = _mm512_setzero_ps();
	}
	for (int i = 0; i < (k + 1) / 2; i++) {
		_mm_prefetch((const char *)w + FLOAT_AHEAD, _MM_HINT_T0);
		const __m512i weights = _mm512_loadu_si512(w);
#pragma GCC unroll 8
		for (int r = 0; r < n_rows; r++) {
			const __m512i pair = _mm512_set1_epi32(((const x_word *)x)[r]);
			acc[r] = _mm512_dpbf16_ps(acc[r], (__m512bh)weights, (__m512bh)pair);
		}
		w += 64;
		x += 4 * n_rows;
	}
#pragma GCC unroll 8
	for (int r = 0; r < n_rows; r++) {
		_mm512_storeu_ps(out + r * P16_ROWS, acc[r]);
	}
}

static void pairs_two_panels(float *acc, const uint8_t *w0, const uint8_t *w1, const uint8_t *x,
	int k) {
	__m512 acc0 = _mm512_setzero_ps(), acc1 = _mm512_setzero_ps();
	for (int i = 0; i < (k + 1) / 2; i++) {
		const size_t at = (size_t)i * 64;
		const __m512bh pair = (__m512bh)_mm512_set1_epi32(((const x_word *)x)[i]);
		_mm_prefetch((const char *)w0 + at + FLOAT_AHEAD, _MM_HINT_T0);
		_mm_prefetch((const char *)w1 + at + FLOAT_AHEAD, _MM_HINT_T0);
		acc0 = _mm512_dpbf16_ps(acc0, (__m512bh)_mm512_loadu_si512(w0 + at), pair);
		acc1 = _mm512_dpbf16_ps(acc1, (__m512bh)_mm512_loadu_si512(w1 + at), pair);
	}
	_mm512_storeu_ps(acc, acc0);
	_mm512_storeu_ps(acc + P16_ROWS, acc1);
}

#define PAIRS_TILE(n) \
	static void pairs_tile_##n(float *acc, const uint8_t *w, const uint8_t *x, int k) { \
		pairs_tile(n, acc, w, x, k); \
	}
PAIRS_TILE(8)
PAIRS_TILE(4)
PAIRS_TILE(2)
PAIRS_TILE(1)

void matmul_bf16_avx512_bf16(bb_queue *q, float *y, int ld_y, const void *w, const void *x,
	const float *bias, int n_rows, int n, int k, bool accumulate) {
	static const struct float_kernel kernel = {
		{ pairs_tile_8, pairs_tile_4, pairs_tile_2, pairs_tile_1 }, pairs_two_panels };
	const struct product p = { .y = y, .ld_y = ld_y, .w = w, .x = x, .bias = bias,
		.n_rows = n_rows, .n = n, .k = k, .accumulate = accumulate,
		.panel_bytes = p16_pairs_panel_bytes(BB_BF16, k),
		.x_row_bytes = p16_pairs_x_row_bytes(BB_BF16, k) };
	float_run(q, &kernel, &p);
}

struct prep {
	uint8_t *dst;
	const float *x;
	int ld_x, n_rows, k;
	size_t x_row_bytes;
};

/* Row r of a tile of n_rows: 16 pairs at a time. */
static void prep_row(uint8_t *dst, const float *x, int n_rows, int r, int k) {
	uint32_t pairs[16];
	for (int i = 0; i < k; i += 32) {
		const int left = k - i < 32 ? k - i : 32;
		const __mmask32 mask = (__mmask32)(0xffffffffu >> (32 - left));
		const __m512 low = _mm512_maskz_loadu_ps((__mmask16)mask, x + i);
		const __m512 high = _mm512_maskz_loadu_ps((__mmask16)(mask >> 16), x + i + 16);
		_mm512_storeu_si512(pairs, (__m512i)_mm512_cvtne2ps_pbh(high, low));
		for (int j = 0; j < (left + 1) / 2; j++) {
			memcpy(dst + (((size_t)i / 2 + (size_t)j) * n_rows + r) * 4, &pairs[j], 4);
		}
	}
}

static void prep_tiles(const void *arg, int begin, int end) {
	const struct prep *p = arg;
	int height;
	for (int r = begin * P16_TILE; r < end * P16_TILE && r < p->n_rows; r += height) {
		height = p16_tile_rows(p->n_rows - r);
		for (int i = 0; i < height; i++) {
			prep_row(p->dst + (size_t)r * p->x_row_bytes, p->x + (size_t)(r + i) * p->ld_x, height,
				i, p->k);
		}
	}
}

static void prep_pairs(bb_queue *q, void *dst, enum bb_dtype type, const float *x, int ld_x,
	int n_rows, int k) {
	const struct prep p = { dst, x, ld_x, n_rows, k, p16_pairs_x_row_bytes(type, k) };
	queue_run(q, prep_tiles, &p, (n_rows + P16_TILE - 1) / P16_TILE, 1);
}

const struct bb_layout layout_p16_pairs = {
	.name = "p16_pairs",
	.weight_bytes = p16_pairs_weight_bytes,
	.pack = p16_pairs_pack,
	.unpack_row = p16_pairs_unpack_row,
	.prep_bytes = p16_pairs_prep_bytes,
	.prep = prep_pairs,
};
