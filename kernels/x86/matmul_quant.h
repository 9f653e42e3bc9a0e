/* SPDX-License-Identifier: Apache-2.0
 *
 * Matrix products of block types over the layout p16, written once in the words of ops_avx2.h or
 * ops_avx512.h, one of which the including file has chosen. The arithmetic is matmul.c's.
 *
 * One row of x: weights are unpacked in registers as they stream by. Several rows: a piece of a
 * panel is unpacked to bytes and f32 scales on the stack, where it stays in L1, and meets every
 * tile of up to ROW_BLOCK rows. Both make the same steps for each output, in the same order. */
#ifndef MATMUL_QUANT_H
#define MATMUL_QUANT_H

#include <assert.h>
#include <string.h>

enum {
	ROW_BLOCK = 128,  /* rows of x that a panel meets in one unit */
	PIECE_BLOCKS = 8, /* blocks of a panel that are unpacked at once, those under one header; few,
	                   * so that unpacking, which waits for memory, alternates with products */
	AHEAD = 2048,     /* bytes of weights to prefetch ahead */
};

/* A piece of a panel. */
struct unpacked {
	uint8_t codes[PIECE_BLOCKS][8][64];
	float scale[PIECE_BLOCKS][2][P16_ROWS]; /* [1] for Q6_K only */
	float min[PIECE_BLOCKS][P16_ROWS];
};

typedef void tile_fn(float *acc, const struct unpacked *w, const uint8_t *x, int n_blocks);

struct quant_kernel {
	enum bb_dtype type;
	/* acc[16] = one row of x times a panel. */
	void (*panel)(float *acc, const uint8_t *w, const uint8_t *x, int n_blocks);
	/* Unpacks n_blocks blocks at w. */
	void (*unpack)(struct unpacked *dst, const uint8_t *w, int n_blocks);
	/* acc[R][16] += a tile of R = 8, 4, 2, 1 rows times a piece. */
	tile_fn *tiles[4];
};

/* ---- a block's codes and scales ---- */

/* The codes of elements 4 g .. 4 g + 3. */
ALWAYS_INLINE v64 load_group(enum bb_dtype type, const uint8_t *block, int g) {
	if (type == BB_Q8_0) {
		return load_bytes(block + 64 * g);
	}
	const v64 both = load_bytes(block + g / 2 * 64);
	const v64 codes = g % 2 == 0 ? low_nibbles(both) : high_nibbles(both);
	const uint8_t *high = block + p16_high_at(type);
	if (type == BB_Q6_K) {
		return add_high(codes, load_bytes(high + g / 4 * 64), g % 4 * 2, 2);
	}
	return p16_scale_at(type) == p16_high_at(type) ? codes
		: add_high(codes, load_bytes(high), g, 1);
}

/* The scale of 16 rows, for half h of the block. */
ALWAYS_INLINE vf load_scale(enum bb_dtype type, const uint8_t *header, const uint8_t *block,
	int h) {
	const uint8_t *scales = block + p16_scale_at(type);
	if (type == BB_Q6_K) {
		return vf_mul(load_f16(header), load_i8(scales + 16 * h));
	}
	return quant_is_k(type) ? vf_mul(load_f16(header), load_u8(scales)) : load_f16(scales);
}

ALWAYS_INLINE vf load_min(enum bb_dtype type, const uint8_t *header, const uint8_t *block) {
	const uint8_t *scales = block + p16_scale_at(type);
	return quant_is_k(type) ? vf_negate(vf_mul(load_f16(header + 32), load_u8(scales + 16)))
		: load_f16(scales + 32);
}

ALWAYS_INLINE void prefetch_block(const uint8_t *block, int bytes) {
	for (int i = 0; i < bytes; i += 64) {
		_mm_prefetch((const char *)block + AHEAD + i, _MM_HINT_T0);
	}
}

/* ---- one row ---- */

ALWAYS_INLINE vf add_block(enum bb_dtype type, vf acc, const uint8_t *header, const uint8_t *block,
	const uint8_t *x) {
	const int n_halves = type == BB_Q6_K ? 2 : 1, n_groups = 8 / n_halves;
	const vf s = vf_set1((const float *)(x + 32));
	for (int h = 0; h < n_halves; h++) {
		dot d = dot_start(type, x + 36 + 4 * h);
#pragma GCC unroll 8
		for (int i = 0; i < n_groups; i++) {
			const int g = h * n_groups + i;
			dot_step(type, &d, load_group(type, block, g), x + 4 * g, i);
		}
		const vf scale = vf_mul(load_scale(type, header, block, h), s);
		acc = vf_fma(vf_from_i32(dot_sum(&d)), scale, acc);
	}
	if (quant_has_min(type)) {
		acc = vf_fma(load_min(type, header, block), vf_set1((const float *)(x + 36)), acc);
	}
	return acc;
}

ALWAYS_INLINE void panel_times_row(enum bb_dtype type, float *out, const uint8_t *w,
	const uint8_t *x, int n_blocks) {
	const int per = p16_header_blocks(type), bytes = p16_block_bytes(type);
	vf acc = vf_zero();
	for (int b = 0; b < n_blocks; b += per) {
		const uint8_t *header = w;
		w += p16_header_bytes(type);
		for (int i = 0; i < per; i++) {
			prefetch_block(w, bytes);
			acc = add_block(type, acc, header, w, x);
			w += bytes;
			x += p16_x_block_bytes(type);
		}
	}
	store_f32(out, acc);
}

/* ---- several rows ---- */

ALWAYS_INLINE void unpack_piece(enum bb_dtype type, struct unpacked *dst, const uint8_t *w,
	int n_blocks) {
	const int per = p16_header_blocks(type), bytes = p16_block_bytes(type);
	const uint8_t *header = w;
	for (int b = 0; b < n_blocks; b++) {
		if (b % per == 0) {
			header = w;
			w += p16_header_bytes(type);
		}
		prefetch_block(w, bytes);
#pragma GCC unroll 8
		for (int g = 0; g < 8; g++) {
			store_bytes(dst->codes[b][g], load_group(type, w, g));
		}
		store_f32(dst->scale[b][0], load_scale(type, header, w, 0));
		if (type == BB_Q6_K) {
			store_f32(dst->scale[b][1], load_scale(type, header, w, 1));
		}
		if (quant_has_min(type)) {
			store_f32(dst->min[b], load_min(type, header, w));
		}
		w += bytes;
	}
}

/* Half h (Q6_K; else all) of a block of weights times rows [0, n) of a tile of n_rows. */
ALWAYS_INLINE void tile_half(enum bb_dtype type, int n_rows, int n, vf *acc,
	const struct unpacked *w, int b, int h, const uint8_t *x, const uint8_t *s) {
	const int n_groups = type == BB_Q6_K ? 4 : 8;
	dot d[SUB_TILE];
#pragma GCC unroll 8
	for (int r = 0; r < n; r++) {
		d[r] = dot_start(type, s + (1 + h) * 4 * n_rows + 4 * r);
	}
#pragma GCC unroll 8
	for (int i = 0; i < n_groups; i++) {
		const int g = h * n_groups + i;
		const v64 codes = load_bytes(w->codes[b][g]);
#pragma GCC unroll 8
		for (int r = 0; r < n; r++) {
			dot_step(type, &d[r], codes, x + (g * n_rows + r) * 4, i);
		}
	}
	const vf scale = load_f32(w->scale[b][h]);
#pragma GCC unroll 8
	for (int r = 0; r < n; r++) {
		const vf both = vf_mul(scale, vf_set1((const float *)(s + 4 * r)));
		acc[r] = vf_fma(vf_from_i32(dot_sum(&d[r])), both, acc[r]);
	}
}

ALWAYS_INLINE void tile_times_piece(enum bb_dtype type, int n_rows, float *out,
	const struct unpacked *w, const uint8_t *x, int n_blocks) {
	const int n_sub = n_rows < SUB_TILE ? n_rows : SUB_TILE;
	vf acc[P16_TILE];
#pragma GCC unroll 8
	for (int r = 0; r < n_rows; r++) {
		acc[r] = load_f32(out + r * P16_ROWS);
	}
	for (int b = 0; b < n_blocks; b++) {
		const uint8_t *s = x + 32 * n_rows;
#pragma GCC unroll 2
		for (int r = 0; r < n_rows; r += n_sub) {
			tile_half(type, n_rows, n_sub, acc + r, w, b, 0, x + 4 * r, s + 4 * r);
			if (type == BB_Q6_K) {
				tile_half(type, n_rows, n_sub, acc + r, w, b, 1, x + 4 * r, s + 4 * r);
			}
		}
		if (quant_has_min(type)) {
			const vf min = load_f32(w->min[b]);
#pragma GCC unroll 8
			for (int r = 0; r < n_rows; r++) {
				acc[r] = vf_fma(min, vf_set1((const float *)(s + 4 * (n_rows + r))), acc[r]);
			}
		}
		x += n_rows * p16_x_block_bytes(type);
	}
#pragma GCC unroll 8
	for (int r = 0; r < n_rows; r++) {
		store_f32(out + r * P16_ROWS, acc[r]);
	}
}

/* ---- the whole product ---- */

struct quant_product {
	const struct quant_kernel *kernel;
	struct product p;
	int n_panels;
};

/* Panel i_panel times rows [row0, row0 + n_rows). */
static void quant_unit(const struct quant_product *t, int i_panel, int row0, int n_rows) {
	const enum bb_dtype type = t->kernel->type;
	const struct product *p = &t->p;
	const int n_blocks = p->k / 32;
	const uint8_t *w = p->w + (size_t)i_panel * p->panel_bytes;
	_Alignas(64) float acc[ROW_BLOCK][P16_ROWS];
	if (p->n_rows == 1) {
		t->kernel->panel(acc[0], w, p->x, n_blocks);
		finish_rows(p, i_panel, row0, 1, acc[0]);
		return;
	}
	_Alignas(64) struct unpacked piece;
	prefetch_outputs(p, i_panel, row0, n_rows);
	memset(acc, 0, (size_t)n_rows * sizeof(acc[0]));
	for (int b = 0, n; b < n_blocks; b += n) {
		n = n_blocks - b < PIECE_BLOCKS ? n_blocks - b : PIECE_BLOCKS;
		t->kernel->unpack(&piece, w, n);
		w += p16_block_bytes(type) * n + (n == PIECE_BLOCKS ? p16_header_bytes(type) : 0);
		for (int r = 0, height; r < n_rows; r += height) {
			height = p16_tile_rows(n_rows - r);
			const uint8_t *x = p->x + (size_t)(row0 + r) * p->x_row_bytes
				+ (size_t)(b * height * p16_x_block_bytes(type));
			t->kernel->tiles[p16_tile_index(height)](acc[r], &piece, x, n);
		}
	}
	finish_rows(p, i_panel, row0, n_rows, acc[0]);
}

static void quant_units(const void *arg, int begin, int end) {
	const struct quant_product *t = arg;
	for (int u = begin; u < end; u++) {
		const int row0 = u / t->n_panels * ROW_BLOCK, left = t->p.n_rows - row0;
		quant_unit(t, u % t->n_panels, row0, left < ROW_BLOCK ? left : ROW_BLOCK);
	}
}

static void quant_run(bb_queue *q, const struct quant_kernel *kernel, struct product p) {
	assert(p.k % 32 == 0);
	p.panel_bytes = p16_panel_bytes(kernel->type, p.k);
	p.x_row_bytes = p16_x_row_bytes(kernel->type, p.k);
	const struct quant_product t = { kernel, p, (p.n + P16_ROWS - 1) / P16_ROWS };
	const int n_row_blocks = (p.n_rows + ROW_BLOCK - 1) / ROW_BLOCK;
	queue_run(q, quant_units, &t, t.n_panels * n_row_blocks, product_grain(q, &p, t.n_panels));
}

/* ---- instances ---- */

#define QUANT_TILE(cls, dtype, n) \
	static void tile_##cls##_##n(float *acc, const struct unpacked *w, const uint8_t *x, \
		int n_blocks) { \
		tile_times_piece(dtype, n, acc, w, x, n_blocks); \
	}
#define QUANT_TILES(cls, dtype) \
	QUANT_TILE(cls, dtype, 8) \
	QUANT_TILE(cls, dtype, 4) \
	QUANT_TILE(cls, dtype, 2) \
	QUANT_TILE(cls, dtype, 1)

/* cls: the class whose tiles serve this type (same arithmetic once unpacked). */
#define QUANT_MATMUL(suffix, dtype, cls, tag) \
	static void panel_##suffix(float *acc, const uint8_t *w, const uint8_t *x, int n_blocks) { \
		panel_times_row(dtype, acc, w, x, n_blocks); \
	} \
	static void unpack_##suffix(struct unpacked *dst, const uint8_t *w, int n_blocks) { \
		unpack_piece(dtype, dst, w, n_blocks); \
	} \
	void matmul_##suffix##_##tag(bb_queue *q, float *y, int ld_y, const void *w, const void *x, \
		const float *bias, int n_rows, int n, int k, bool accumulate) { \
		static const struct quant_kernel kernel = { dtype, panel_##suffix, unpack_##suffix, \
			{ tile_##cls##_8, tile_##cls##_4, tile_##cls##_2, tile_##cls##_1 } }; \
		quant_run(q, &kernel, (struct product) { .y = y, .ld_y = ld_y, .w = w, .x = x, \
			.bias = bias, .n_rows = n_rows, .n = n, .k = k, .accumulate = accumulate }); \
	}

#endif
