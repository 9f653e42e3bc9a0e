/* SPDX-License-Identifier: Apache-2.0
 *
 * Attention by multiply-add in f32. Orders of summation: q.k one chain along d; the sum of p 16 chains
 * (token % 16) folded by halves; p.v one chain along the tokens a row sees. q is multiplied by
 * scale * log2(e) first, so scores and m are exponents of 2. */
#include "attention_avx512.h"

static void prep_q(void *dst, const float *q, const struct attn_dims *dims, float scale) {
	float *y = dst;
	const float factor = scale * LOG2_E;
	for (int d = 0; d < dims->kd; d++) {
		y[d] = d < dims->head_dim ? q[d] * factor : 0;
	}
}

/* ---- scores of R rows and 64 keys ---- */

static ALWAYS_INLINE void score_page(const struct attn_tile *t, int page, const int R) {
	const int kd = t->dims.kd;
	const float *k = t->k[page], *q = (const float *)(const void *)t->q;
	const size_t ld_q = t->q_stride / sizeof(float), group = (size_t)kd * 16;
	__m512 acc[TILE_ROWS][4];
	for (int r = 0; r < R; r++) {
		for (int g = 0; g < 4; g++) {
			acc[r][g] = _mm512_setzero_ps();
		}
	}
	for (int d = 0; d < kd; d++) {
		const float *at = k + (size_t)d * 16;
		const __m512 k0 = _mm512_load_ps(at), k1 = _mm512_load_ps(at + group);
		const __m512 k2 = _mm512_load_ps(at + 2 * group), k3 = _mm512_load_ps(at + 3 * group);
		UNROLL
		for (int r = 0; r < R; r++) {
			const __m512 b = _mm512_set1_ps(q[r * ld_q + d]);
			acc[r][0] = _mm512_fmadd_ps(b, k0, acc[r][0]);
			acc[r][1] = _mm512_fmadd_ps(b, k1, acc[r][1]);
			acc[r][2] = _mm512_fmadd_ps(b, k2, acc[r][2]);
			acc[r][3] = _mm512_fmadd_ps(b, k3, acc[r][3]);
		}
	}
	for (int r = 0; r < R; r++) {
		for (int g = 0; g < 4; g++) {
			_mm512_store_ps(t->scores + r * BB_SPLIT + page * BB_PAGE + g * 16, acc[r][g]);
		}
	}
}

static void scores(const struct attn_tile *t, int page) {
	switch (t->n_rows) {
	case 1: score_page(t, page, 1); break;
	case 2: score_page(t, page, 2); break;
	case 3: score_page(t, page, 3); break;
	case 4: score_page(t, page, 4); break;
	case 5: score_page(t, page, 5); break;
	default: score_page(t, page, 6); break;
	}
}

/* ---- softmax of a row ---- */

static void softmax_row(const struct attn_tile *t, int r) {
	const int begin = t->begin[r], end = t->end[r];
	const float *s = t->scores + r * BB_SPLIT;
	float *p = t->p + r * BB_SPLIT;
	__m512 sum = _mm512_setzero_ps();
	const float m = largest_seen(s, begin, end);
	for (int j = begin & ~15; j < end; j += 16) {
		const __m512 x = _mm512_sub_ps(_mm512_load_ps(s + j), _mm512_set1_ps(m));
		const __m512 e = exp2_5(seen(begin, end, j), x);
		sum = _mm512_add_ps(sum, e);
		_mm512_store_ps(p + j, e);
	}
	t->m[r] = m;
	t->l[r] = fold_sum(sum);
}

/* ---- o[R, N * 16] at row, column += p v over tokens [from, to) of a page ---- */

static ALWAYS_INLINE void value_block(const struct attn_tile *t, int page, int row, int column,
	int from, int to, const int R, const int N) {
	const int vd = t->dims.vd;
	const float *v = (const float *)t->v[page] + column, *p = t->p + row * BB_SPLIT + page * BB_PAGE;
	float *o = t->o + (size_t)row * vd + column;
	__m512 acc[TILE_ROWS][4];
	for (int r = 0; r < R; r++) {
		for (int n = 0; n < N; n++) {
			acc[r][n] = _mm512_load_ps(o + (size_t)r * vd + n * 16);
		}
	}
	for (int i = from; i < to; i++) {
		__m512 x[4];
		UNROLL
		for (int n = 0; n < N; n++) {
			x[n] = _mm512_load_ps(v + (size_t)i * vd + n * 16);
		}
		UNROLL
		for (int r = 0; r < R; r++) {
			const __m512 b = _mm512_set1_ps(p[r * BB_SPLIT + i]);
			UNROLL
			for (int n = 0; n < N; n++) {
				acc[r][n] = _mm512_fmadd_ps(b, x[n], acc[r][n]);
			}
		}
	}
	for (int r = 0; r < R; r++) {
		for (int n = 0; n < N; n++) {
			_mm512_store_ps(o + (size_t)r * vd + n * 16, acc[r][n]);
		}
	}
}

static ALWAYS_INLINE void value_columns(const struct attn_tile *t, int page, int row, int from,
	int to, const int R) {
	const int vd = t->dims.vd;
	int column = 0;
	for (; column + 64 <= vd; column += 64) {
		value_block(t, page, row, column, from, to, R, 4);
	}
	for (; column < vd; column += 16) {
		value_block(t, page, row, column, from, to, R, 1);
	}
}

static void values(const struct attn_tile *t, int page, int row, int n_rows, int from, int to) {
	switch (n_rows) {
	case 1: value_columns(t, page, row, from, to, 1); break;
	case 2: value_columns(t, page, row, from, to, 2); break;
	case 3: value_columns(t, page, row, from, to, 3); break;
	case 4: value_columns(t, page, row, from, to, 4); break;
	case 5: value_columns(t, page, row, from, to, 5); break;
	default: value_columns(t, page, row, from, to, 6); break;
	}
}

static void tile(const struct attn_tile *t) {
	for (int page = 0; page < SPLIT_PAGES; page++) {
		if (t->k[page] != NULL) {
			scores(t, page);
		}
	}
	for (int r = 0; r < t->n_rows; r++) {
		softmax_row(t, r);
	}
	memset(t->o, 0, (size_t)t->n_rows * t->dims.vd * sizeof(float));
	for (int page = 0; page < SPLIT_PAGES; page++) {
		if (t->v[page] != NULL) {
			attn_values(t, page, 1, values);
		}
	}
}

/* ---- staging ---- */

static void stage_f16(void *dst, const void *plane, size_t n) {
	const uint16_t *x = plane;
	float *y = dst;
	for (size_t i = 0; i < n; i += 32) {
		const __m256i a = _mm256_load_si256((const __m256i *)(const void *)(x + i));
		const __m256i b = _mm256_load_si256((const __m256i *)(const void *)(x + i + 16));
		_mm512_store_ps(y + i, _mm512_cvtph_ps(a));
		_mm512_store_ps(y + i + 16, _mm512_cvtph_ps(b));
	}
}

static void stage_bf16(void *dst, const void *plane, size_t n) {
	const uint16_t *x = plane;
	uint32_t *y = dst;
	for (size_t i = 0; i < n; i += 16) {
		const __m256i a = _mm256_load_si256((const __m256i *)(const void *)(x + i));
		_mm512_store_si512(y + i, _mm512_slli_epi32(_mm512_cvtepu16_epi32(a), 16));
	}
}

static const struct attn_ops ops_f32 = { KV_F32, 0, prep_q, NULL, tile, join, finish };
static const struct attn_ops ops_f16 = { KV_F16, 4, prep_q, stage_f16, tile, join, finish };
static const struct attn_ops ops_bf16 = { KV_BF16, 4, prep_q, stage_bf16, tile, join, finish };

void attention_f32_avx512(bb_queue *q, const struct bb_attention *a) {
	attention_walk(q, a, &ops_f32);
}

void attention_f16_avx512(bb_queue *q, const struct bb_attention *a) {
	attention_walk(q, a, &ops_f16);
}

void attention_bf16_avx512(bb_queue *q, const struct bb_attention *a) {
	attention_walk(q, a, &ops_bf16);
}
