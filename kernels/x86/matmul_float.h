/* SPDX-License-Identifier: Apache-2.0
 *
 * Matrix products of float types over the layout p16 in the words of ops_avx2.h or ops_avx512.h:
 * each output is one chain of f32 fused multiply-adds along k in index order. */
#ifndef MATMUL_FLOAT_H
#define MATMUL_FLOAT_H

enum {
	FLOAT_ROW_BLOCK = 64, /* rows of x that a panel meets in one unit */
	FLOAT_AHEAD = 2048,   /* bytes of weights to prefetch ahead */
};

struct float_kernel {
	/* acc[R][16] = a tile of R = 8, 4, 2, 1 rows of x times a panel. */
	void (*tiles[4])(float *acc, const uint8_t *w, const uint8_t *x, int k);
	/* acc[2][16] = one row of x times two panels: one chain of adds alone would wait for itself. */
	void (*two_panels)(float *acc, const uint8_t *w0, const uint8_t *w1, const uint8_t *x, int k);
};

struct float_product {
	const struct float_kernel *kernel;
	struct product p;
	int n_panels;
};

ALWAYS_INLINE vf load_weights(enum bb_dtype type, const uint8_t *p) {
	return type == BB_F32 ? load_f32((const float *)p) : type == BB_F16 ? load_f16(p)
		: load_bf16(p);
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

ALWAYS_INLINE void float_two_panels(enum bb_dtype type, float *out, const uint8_t *w0,
	const uint8_t *w1, const uint8_t *x, int k) {
	const int bytes = P16_ROWS * (type == BB_F32 ? 4 : 2);
	vf acc0 = vf_zero(), acc1 = vf_zero();
	for (int i = 0; i < k; i++) {
		const size_t at = (size_t)i * (size_t)bytes;
		const vf xs = vf_set1((const float *)x + i);
		_mm_prefetch((const char *)w0 + at + FLOAT_AHEAD, _MM_HINT_T0);
		_mm_prefetch((const char *)w1 + at + FLOAT_AHEAD, _MM_HINT_T0);
		acc0 = vf_fma(load_weights(type, w0 + at), xs, acc0);
		acc1 = vf_fma(load_weights(type, w1 + at), xs, acc1);
	}
	store_f32(out, acc0);
	store_f32(out + P16_ROWS, acc1);
}

/* One row of x; a unit is two panels, the last perhaps one. */
static void float_row_units(const void *arg, int begin, int end) {
	const struct float_product *t = arg;
	for (int u = begin; u < end; u++) {
		const int i = 2 * u;
		const uint8_t *w = t->p.w + (size_t)i * t->p.panel_bytes;
		_Alignas(64) float acc[2][P16_ROWS];
		if (i + 1 == t->n_panels) {
			t->kernel->tiles[3](acc[0], w, t->p.x, t->p.k);
			finish_rows(&t->p, i, 0, 1, acc[0]);
			continue;
		}
		t->kernel->two_panels(acc[0], w, w + t->p.panel_bytes, t->p.x, t->p.k);
		finish_rows(&t->p, i, 0, 1, acc[0]);
		finish_rows(&t->p, i + 1, 0, 1, acc[1]);
	}
}

static void float_units(const void *arg, int begin, int end) {
	const struct float_product *t = arg;
	for (int u = begin; u < end; u++) {
		const int i_panel = u % t->n_panels, row0 = u / t->n_panels * FLOAT_ROW_BLOCK;
		const int left = t->p.n_rows - row0;
		const int n_rows = left < FLOAT_ROW_BLOCK ? left : FLOAT_ROW_BLOCK;
		const uint8_t *w = t->p.w + (size_t)i_panel * t->p.panel_bytes;
		_Alignas(64) float acc[FLOAT_ROW_BLOCK][P16_ROWS];
		prefetch_outputs(&t->p, i_panel, row0, n_rows);
		for (int r = 0, height; r < n_rows; r += height) {
			height = p16_tile_rows(n_rows - r);
			t->kernel->tiles[p16_tile_index(height)](acc[r], w,
				t->p.x + (size_t)(row0 + r) * t->p.x_row_bytes, t->p.k);
		}
		finish_rows(&t->p, i_panel, row0, n_rows, acc[0]);
	}
}

/* p has panel_bytes and x_row_bytes. */
static void float_run(bb_queue *q, const struct float_kernel *kernel, const struct product *p) {
	const struct float_product t = { kernel, *p, (p->n + P16_ROWS - 1) / P16_ROWS };
	if (p->n_rows == 1) {
		const int n_units = (t.n_panels + 1) / 2;
		queue_run(q, float_row_units, &t, n_units, product_grain(q, p, n_units));
		return;
	}
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
	static void two_panels_##suffix(float *acc, const uint8_t *w0, const uint8_t *w1, \
		const uint8_t *x, int k) { \
		float_two_panels(dtype, acc, w0, w1, x, k); \
	} \
	void matmul_##suffix##_##tag(bb_queue *q, float *y, int ld_y, const void *w, const void *x, \
		const float *bias, int n_rows, int n, int k, bool accumulate) { \
		static const struct float_kernel kernel = { { tile_##suffix##_8, tile_##suffix##_4, \
			tile_##suffix##_2, tile_##suffix##_1 }, two_panels_##suffix }; \
		const struct product p = { .y = y, .ld_y = ld_y, .w = w, .x = x, .bias = bias, \
			.n_rows = n_rows, .n = n, .k = k, .accumulate = accumulate, \
			.panel_bytes = p16_panel_bytes(dtype, k), .x_row_bytes = p16_x_row_bytes(dtype, k) }; \
		float_run(q, &kernel, &p); \
	}

#endif
