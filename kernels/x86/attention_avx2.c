/* SPDX-License-Identifier: Apache-2.0
 *
 * Attention by multiply-add in f32. Orders of summation: q.k one chain along d; the sum of p 8
 * chains (token % 8) folded by halves; p.v one chain along the tokens a row sees. q is multiplied
 * by scale * log2(e) first, so scores and m are exponents of 2. */
#include "attention_ymm.h"

/* What a plane holds: f32, or a 16-bit type to be widened when loaded. */
enum source { FROM_F32, FROM_F16, FROM_BF16 };

static ALWAYS_INLINE __m256 load(const uint8_t *at, const enum source source) {
	if (source == FROM_F32) {
		return _mm256_load_ps((const float *)(const void *)at);
	}
	const __m128i h = _mm_load_si128((const __m128i *)(const void *)at);
	return source == FROM_F16 ? _mm256_cvtph_ps(h)
		: _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(h), 16));
}

/* Bytes of 8 elements. */
static ALWAYS_INLINE size_t bytes_of_8(const enum source source) {
	return source == FROM_F32 ? 32 : 16;
}

static void prep_q(void *dst, const float *q, const struct attn_dims *dims, float scale) {
	float *y = dst;
	const float factor = scale * LOG2_E;
	for (int d = 0; d < dims->kd; d++) {
		y[d] = d < dims->head_dim ? q[d] * factor : 0;
	}
}

/* ---- scores of R rows and 16 keys ---- */

static ALWAYS_INLINE void score_keys(const struct attn_tile *t, int page, int i_keys, const int R,
	const enum source source) {
	const int kd = t->dims.kd;
	const size_t step = bytes_of_8(source);
	const uint8_t *k = (const uint8_t *)t->k[page] + (size_t)i_keys * kd * 2 * step;
	const ptrdiff_t ahead = t->ahead[page];
	__m256 acc[TILE_ROWS][2];
	UNROLL
	for (int r = 0; r < R; r++) {
		acc[r][0] = acc[r][1] = _mm256_setzero_ps();
	}
	for (int d = 0; d < kd; d++) {
		const uint8_t *at = k + (size_t)d * 2 * step;
		const __m256 x0 = load(at, source), x1 = load(at + step, source);
		_mm_prefetch((const char *)at + ahead, _MM_HINT_T1);
		UNROLL
		for (int r = 0; r < R; r++) {
			const __m256 b = _mm256_broadcast_ss((const float *)(const void *)
				(t->q + r * t->q_stride) + d);
			acc[r][0] = _mm256_fmadd_ps(b, x0, acc[r][0]);
			acc[r][1] = _mm256_fmadd_ps(b, x1, acc[r][1]);
		}
	}
	UNROLL
	for (int r = 0; r < R; r++) {
		float *s = t->scores + r * BB_SPLIT + page * BB_PAGE + i_keys * 16;
		_mm256_store_ps(s, acc[r][0]);
		_mm256_store_ps(s + 8, acc[r][1]);
	}
}

static ALWAYS_INLINE void score_page(const struct attn_tile *t, int page, const int R,
	const enum source source) {
	for (int i = 0; i < BB_PAGE / 16; i++) {
		score_keys(t, page, i, R, source);
	}
}

static void softmax_row(const struct attn_tile *t, int r) {
	softmax_to(t->p + r * BB_SPLIT, t, r);
}

/* ---- o[R, 16] at row, column += p v over tokens [from, to) of a page ---- */

static ALWAYS_INLINE void value_block(const struct attn_tile *t, int page, int row, int column,
	int from, int to, const int R, const enum source source) {
	const int vd = t->dims.vd;
	const size_t step = bytes_of_8(source), ld_v = (size_t)(vd / 8) * step;
	const uint8_t *v = (const uint8_t *)t->v[page] + (size_t)(column / 8) * step;
	const float *p = t->p + row * BB_SPLIT + page * BB_PAGE;
	const ptrdiff_t ahead = t->ahead[SPLIT_PAGES + page];
	float *o = t->o + (size_t)row * vd + column;
	__m256 acc[TILE_ROWS][2];
	UNROLL
	for (int r = 0; r < R; r++) {
		acc[r][0] = _mm256_load_ps(o + (size_t)r * vd);
		acc[r][1] = _mm256_load_ps(o + (size_t)r * vd + 8);
	}
	for (int i = from; i < to; i++) {
		const uint8_t *at = v + (size_t)i * ld_v;
		const __m256 x0 = load(at, source), x1 = load(at + step, source);
		_mm_prefetch((const char *)at + ahead, _MM_HINT_T1);
		UNROLL
		for (int r = 0; r < R; r++) {
			const __m256 b = _mm256_broadcast_ss(p + r * BB_SPLIT + i);
			acc[r][0] = _mm256_fmadd_ps(b, x0, acc[r][0]);
			acc[r][1] = _mm256_fmadd_ps(b, x1, acc[r][1]);
		}
	}
	UNROLL
	for (int r = 0; r < R; r++) {
		_mm256_store_ps(o + (size_t)r * vd, acc[r][0]);
		_mm256_store_ps(o + (size_t)r * vd + 8, acc[r][1]);
	}
}

static ALWAYS_INLINE void value_columns(const struct attn_tile *t, int page, int row, int from,
	int to, const int R, const enum source source) {
	for (int column = 0; column < t->dims.vd; column += 16) {
		value_block(t, page, row, column, from, to, R, source);
	}
}

ATTENTION_BODIES(FROM_F32, f32, 1)
ATTENTION_BODIES(FROM_F16, f16, 1)
ATTENTION_BODIES(FROM_BF16, bf16, 1)

/* ---- staging ---- */

static void stage_f16(void *dst, const void *plane, size_t n) {
	for (size_t i = 0; i < n; i += 8) {
		_mm256_store_ps((float *)dst + i, load((const uint8_t *)plane + 2 * i, FROM_F16));
	}
}

static void stage_bf16(void *dst, const void *plane, size_t n) {
	for (size_t i = 0; i < n; i += 8) {
		_mm256_store_ps((float *)dst + i, load((const uint8_t *)plane + 2 * i, FROM_BF16));
	}
}

static const struct attn_ops ops_f32 = {
	.type = KV_F32, .tile_direct = tile_f32, .prep_q = prep_q, .join = join, .finish = finish,
};
static const struct attn_ops ops_f16 = {
	.type = KV_F16, .staged_elem_bytes = 4, .stage = stage_f16, .tile = tile_f32,
	.tile_direct = tile_f16, .prep_q = prep_q, .join = join, .finish = finish,
};
static const struct attn_ops ops_bf16 = {
	.type = KV_BF16, .staged_elem_bytes = 4, .stage = stage_bf16, .tile = tile_f32,
	.tile_direct = tile_bf16, .prep_q = prep_q, .join = join, .finish = finish,
};

void attention_f32_avx2(bb_queue *q, const struct bb_attention *a) {
	attention_walk(q, a, &ops_f32);
}

void attention_f16_avx2(bb_queue *q, const struct bb_attention *a) {
	attention_walk(q, a, &ops_f16);
}

void attention_bf16_avx2(bb_queue *q, const struct bb_attention *a) {
	attention_walk(q, a, &ops_bf16);
}
