/* SPDX-License-Identifier: Apache-2.0
 *
 * Matrix products of float types over the layout p16 in the words of ops_avx2.h or ops_avx512.h: each
 * output is one chain of f32 fused multiply-adds along k in index order. */
#ifndef MATMUL_FLOAT_H
#define MATMUL_FLOAT_H

enum {
	FLOAT_ROW_BLOCK = 64, /* rows of x that a panel meets in one unit */
	FLOAT_AHEAD = 2048,   /* bytes of weights to prefetch ahead */
};

typedef void float_tile_fn(float *acc, const uint8_t *w, const uint8_t *x, int k);

struct float_product {
	float_tile_fn *const *tiles; /* of 8, 4, 2, 1 rows */
	struct product p;
	int n_panels;
};

ALWAYS_INLINE vf load_weights(enum bb_dtype type, const uint8_t *p) {
	return type == BB_F32 ? load_f32((const float *)p) : type == BB_F16 ? load_f16(p) : load_bf16(p);
}

/* out[n][16] = rows [0, n) of a tile of x, [k][n_rows], times a panel. */
ALWAYS_INLINE void float_sub_tile(enum bb_dtype type, int n_rows, int n, float *out,
	const uint8_t *w, const float *x, int k) {
	const int bytes = P16_ROWS * (type == BB_F32 ? 4 : 2);
	vf acc[SUB_TILE];
#pragma GCC unroll 8
	for (int r = 0; r < n; r++) {
		acc[r] = vf_zero();
	}
	for (int i = 0; i < k; i++) {
		_mm_prefetch((const char *)w + FLOAT_AHEAD, _MM_HINT_T0);
		const vf weights = load_weights(type, w);
#pragma GCC unroll 8
		for (int r = 0; r < n; r++) {
			acc[r] = vf_fma(weights, vf_set1(x + r), acc[r]);
		}
		w += bytes;
		x += n_rows;
	}
#pragma GCC unroll 8
	for (int r = 0; r < n; r++) {
		store_f32(out + r * P16_ROWS, acc[r]);
	}
}

ALWAYS_INLINE void float_tile(enum bb_dtype type, int n_rows, float *out, const uint8_t *w,
	const uint8_t *x, int k) {
	const int n = n_rows < SUB_TILE ? n_rows : SUB_TILE;
	for (int r = 0; r < n_rows; r += n) {
		float_sub_tile(type, n_rows, n, out + r * P16_ROWS, w, (const float *)x + r, k);
	}
}

static void float_units(const void *arg, int begin, int end) {
	const struct float_product *t = arg;
	for (int u = begin; u < end; u++) {
		const int i_panel = u % t->n_panels, row0 = u / t->n_panels * FLOAT_ROW_BLOCK;
		const int left = t->p.n_rows - row0, n_rows = left < FLOAT_ROW_BLOCK ? left : FLOAT_ROW_BLOCK;
		const uint8_t *w = t->p.w + (size_t)i_panel * t->p.panel_bytes;
		_Alignas(64) float acc[FLOAT_ROW_BLOCK][P16_ROWS];
		for (int r = 0, height; r < n_rows; r += height) {
			height = p16_tile_rows(n_rows - r);
			t->tiles[height == 8 ? 0 : height == 4 ? 1 : height == 2 ? 2 : 3](acc[r], w,
				t->p.x + (size_t)(row0 + r) * t->p.x_row_bytes, t->p.k);
		}
		finish_rows(&t->p, i_panel, row0, n_rows, acc[0]);
	}
}

/* p has panel_bytes and x_row_bytes. */
static void float_run(bb_queue *q, float_tile_fn *const *tiles, const struct product *p) {
	const struct float_product t = { tiles, *p, (p->n + P16_ROWS - 1) / P16_ROWS };
	const int n_row_blocks = (p->n_rows + FLOAT_ROW_BLOCK - 1) / FLOAT_ROW_BLOCK;
	queue_run(q, float_units, &t, t.n_panels * n_row_blocks, product_grain(q, p, t.n_panels));
}

#define FLOAT_TILE(suffix, dtype, n) \
	static void tile_##suffix##_##n(float *acc, const uint8_t *w, const uint8_t *x, int k) { \
		float_tile(dtype, n, acc, w, x, k); \
	}

#define FLOAT_MATMUL(suffix, dtype, tag) \
	FLOAT_TILE(suffix, dtype, 8) \
	FLOAT_TILE(suffix, dtype, 4) \
	FLOAT_TILE(suffix, dtype, 2) \
	FLOAT_TILE(suffix, dtype, 1) \
	void matmul_##suffix##_##tag(bb_queue *q, float *y, int ld_y, const void *w, const void *x, \
		const float *bias, int n_rows, int n, int k, bool accumulate) { \
		static float_tile_fn *const tiles[4] = { tile_##suffix##_8, tile_##suffix##_4, \
			tile_##suffix##_2, tile_##suffix##_1 }; \
		const struct product p = { .y = y, .ld_y = ld_y, .w = w, .x = x, .bias = bias, \
			.n_rows = n_rows, .n = n, .k = k, .accumulate = accumulate, \
			.panel_bytes = p16_panel_bytes(dtype, k), .x_row_bytes = p16_x_row_bytes(dtype, k) }; \
		float_run(q, tiles, &p); \
	}

#endif
