/* SPDX-License-Identifier: Apache-2.0
 *
 * Attention by multiply-add in f32. Orders of summation: q.k one chain along d; the sum of p 16
 * chains (token % 16) folded by halves; p.v one chain along the tokens a row sees. q is multiplied
 * by scale * log2(e) first, so scores and m are exponents of 2. */
#include "attention_avx512.h"

/* What a plane holds: f32, or a 16-bit type to be widened when loaded. */
enum source { FROM_F32, FROM_F16, FROM_BF16 };

static ALWAYS_INLINE __m512 load(const uint8_t *at, const enum source source) {
	if (source == FROM_F32) {
		return _mm512_load_ps(at);
	}
	const __m256i h = _mm256_load_si256((const __m256i *)(const void *)at);
	return source == FROM_F16 ? _mm512_cvtph_ps(h)
		: _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(h), 16));
}

/* Bytes of 16 elements. */
static ALWAYS_INLINE size_t bytes_of_16(const enum source source) {
	return source == FROM_F32 ? 64 : 32;
}

static void prep_q(void *dst, const float *q, const struct attn_dims *dims, float scale) {
	float *y = dst;
	const float factor = scale * LOG2_E;
	for (int d = 0; d < dims->kd; d++) {
		y[d] = d < dims->head_dim ? q[d] * factor : 0;
	}
}

/* ---- scores of R rows and 64 keys ---- */

static ALWAYS_INLINE void score_page(const struct attn_tile *t, int page, const int R,
	const enum source source) {
	const int kd = t->dims.kd;
	const size_t step = bytes_of_16(source), group = (size_t)kd * step;
	const uint8_t *k = t->k[page];
	const ptrdiff_t ahead = t->ahead[page];
	__m512 acc[TILE_ROWS][4];
	UNROLL
	for (int r = 0; r < R; r++) {
		UNROLL
		for (int g = 0; g < 4; g++) {
			acc[r][g] = _mm512_setzero_ps();
		}
	}
	for (int d = 0; d < kd; d++) {
		const uint8_t *at = k + (size_t)d * step;
		__m512 x[4];
		UNROLL
		for (int g = 0; g < 4; g++) {
			x[g] = load(at + g * group, source);
			_mm_prefetch((const char *)at + g * group + ahead, _MM_HINT_T1);
		}
		UNROLL
		for (int r = 0; r < R; r++) {
			const __m512 b = _mm512_set1_ps(((const float *)(const void *)
				(t->q + r * t->q_stride))[d]);
			UNROLL
			for (int g = 0; g < 4; g++) {
				acc[r][g] = _mm512_fmadd_ps(b, x[g], acc[r][g]);
			}
		}
	}
	UNROLL
	for (int r = 0; r < R; r++) {
		UNROLL
		for (int g = 0; g < 4; g++) {
			_mm512_store_ps(t->scores + r * BB_SPLIT + page * BB_PAGE + g * 16, acc[r][g]);
		}
	}
}

/* ---- softmax of a row ---- */

static void softmax_row(const struct attn_tile *t, int r) {
	const int begin = t->begin[r], end = t->end[r];
	const float *s = t->scores + r * BB_SPLIT;
	float *p = t->p + r * BB_SPLIT;
	__m512 sum = _mm512_setzero_ps();
	const float m = t->m[r];
	for (int j = begin & ~15; j < end; j += 16) {
		const __m512 x = _mm512_sub_ps(_mm512_load_ps(s + j), _mm512_set1_ps(m));
		const __m512 e = exp2_5(seen(begin, end, j), x);
		sum = _mm512_add_ps(sum, e);
		_mm512_store_ps(p + j, e);
	}
	t->l[r] = fold_sum(sum);
}

/* ---- o[R, N * 16] at row, column += p v over tokens [from, to) of a page ---- */

static ALWAYS_INLINE void value_block(const struct attn_tile *t, int page, int row, int column,
	int from, int to, const int R, const int N, const enum source source) {
	const int vd = t->dims.vd;
	const size_t step = bytes_of_16(source), ld_v = (size_t)(vd / 16) * step;
	const uint8_t *v = (const uint8_t *)t->v[page] + (size_t)(column / 16) * step;
	const float *p = t->p + row * BB_SPLIT + page * BB_PAGE;
	const ptrdiff_t ahead = t->ahead[SPLIT_PAGES + page];
	float *o = t->o + (size_t)row * vd + column;
	__m512 acc[TILE_ROWS][4];
	UNROLL
	for (int r = 0; r < R; r++) {
		UNROLL
		for (int n = 0; n < N; n++) {
			acc[r][n] = _mm512_load_ps(o + (size_t)r * vd + n * 16);
		}
	}
	for (int i = from; i < to; i++) {
		const uint8_t *at = v + (size_t)i * ld_v;
		__m512 x[4];
		UNROLL
		for (int n = 0; n < N; n++) {
			x[n] = load(at + n * step, source);
			_mm_prefetch((const char *)at + n * step + ahead, _MM_HINT_T1);
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
	UNROLL
	for (int r = 0; r < R; r++) {
		UNROLL
		for (int n = 0; n < N; n++) {
			_mm512_store_ps(o + (size_t)r * vd + n * 16, acc[r][n]);
		}
	}
}

static ALWAYS_INLINE void value_columns(const struct attn_tile *t, int page, int row, int from,
	int to, const int R, const enum source source) {
	const int vd = t->dims.vd;
	int column = 0;
	for (; column + 64 <= vd; column += 64) {
		value_block(t, page, row, column, from, to, R, 4, source);
	}
	for (; column < vd; column += 16) {
		value_block(t, page, row, column, from, to, R, 1, source);
	}
}

ATTENTION_BODIES(FROM_F32, f32, 1)
ATTENTION_BODIES(FROM_F16, f16, 1)
ATTENTION_BODIES(FROM_BF16, bf16, 1)

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

void attention_f32_avx512(bb_queue *q, const struct bb_attention *a) {
	attention_walk(q, a, &ops_f32);
}

void attention_f16_avx512(bb_queue *q, const struct bb_attention *a) {
	attention_walk(q, a, &ops_f16);
}

void attention_bf16_avx512(bb_queue *q, const struct bb_attention *a) {
	attention_walk(q, a, &ops_bf16);
}
