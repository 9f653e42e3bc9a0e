/* SPDX-License-Identifier: Apache-2.0
 *
 * Attention over int8 KV on 256-bit registers; the file that includes this defines
 *   dot_keys(acc, k, q)      acc + 4-byte dot products of k (stored key + 128) and q (int8), less
 *                            what KEY_OFFSET says the accumulator starts with, per sum of q
 *   dot_values(acc, p, v)    acc + 4-byte dot products of p (uint8) and v (int8)
 * Both are exact, so all such files give the same bits. What is rounded is written in attention.c;
 * scores are multiplied by log2(e) and p = 2^(score - m). Orders of summation: scores one chain
 * over the scale groups; the sum of p 8 chains (token % 8) folded by halves; o one chain over the
 * pages. */
#ifndef ATTENTION_INT8_YMM_H
#define ATTENTION_INT8_YMM_H

#include "attention_ymm.h"
#include "kv_quantise.h"

#define MAX_U8 255.0f

/* A row as prep_q leaves it: int8 [kd], then per group the f32 scale (times scale * log2(e)), then
 * per group what the accumulators start with: int32 KEY_OFFSET * sum. */
static ALWAYS_INLINE const float *q_scales(const struct attn_tile *t, int r) {
	return (const float *)(const void *)(t->q + r * t->q_stride + t->dims.kd);
}

static ALWAYS_INLINE const int32_t *q_offsets(const struct attn_tile *t, int r) {
	return (const int32_t *)(const void *)(q_scales(t, r) + t->dims.n_groups);
}

static void prep_q(void *dst, const float *q, const struct attn_dims *dims, float scale) {
	int8_t *y = dst;
	float *scales = (float *)(void *)(y + dims->kd);
	int32_t *offsets = (int32_t *)(void *)(scales + dims->n_groups);
	for (int d = dims->head_dim; d < dims->kd; d++) {
		y[d] = 0;
	}
	for (int g = 0; g < dims->n_groups; g++) {
		const int first = g * dims->group, rest = dims->head_dim - first;
		const int n = rest < dims->group ? rest : dims->group;
		scales[g] = quantise_ymm(y + first, q + first, n) * (scale * LOG2_E);
		offsets[g] = 0;
		for (int d = first; d < first + n; d++) {
			offsets[g] += KEY_OFFSET * y[d];
		}
	}
}

static ALWAYS_INLINE __m256i broadcast_4_bytes(const void *at) {
	int32_t word;
	memcpy(&word, at, sizeof(word));
	return _mm256_set1_epi32(word);
}

/* ---- scores of R rows and 16 keys, one scale group ---- */

static ALWAYS_INLINE void score_keys(const struct attn_tile *t, int page, int g, int i_keys,
	const int R) {
	const int n_quads = t->dims.kd / 4, from = g * t->dims.group / 4;
	const int to = g + 1 < t->dims.n_groups ? from + t->dims.group / 4 : n_quads;
	const uint8_t *k = (const uint8_t *)t->k[page] + (size_t)i_keys * n_quads * 64;
	const float *scales = (const float *)(const void *)((const uint8_t *)t->k[page]
		+ (size_t)BB_PAGE * t->dims.kd) + g * BB_PAGE + i_keys * 16;
	const ptrdiff_t ahead = t->ahead[page];
	__m256i acc[TILE_ROWS][2];
	_mm_prefetch((const char *)scales + ahead, _MM_HINT_T1);
	UNROLL
	for (int r = 0; r < R; r++) {
		acc[r][0] = acc[r][1] = _mm256_set1_epi32(q_offsets(t, r)[g]);
	}
	for (int i = from; i < to; i++) {
		const uint8_t *at = k + (size_t)i * 64;
		const __m256i x0 = _mm256_load_si256((const __m256i *)(const void *)at);
		const __m256i x1 = _mm256_load_si256((const __m256i *)(const void *)(at + 32));
		_mm_prefetch((const char *)at + ahead, _MM_HINT_T1);
		UNROLL
		for (int r = 0; r < R; r++) {
			const __m256i b = broadcast_4_bytes(t->q + r * t->q_stride + 4 * i);
			acc[r][0] = dot_keys(acc[r][0], x0, b);
			acc[r][1] = dot_keys(acc[r][1], x1, b);
		}
	}
	UNROLL
	for (int r = 0; r < R; r++) {
		const __m256 q_scale = _mm256_set1_ps(q_scales(t, r)[g]);
		UNROLL
		for (int j = 0; j < 2; j++) {
			float *s = t->scores + r * BB_SPLIT + page * BB_PAGE + i_keys * 16 + j * 8;
			const __m256 x = _mm256_mul_ps(_mm256_cvtepi32_ps(acc[r][j]),
				_mm256_load_ps(scales + j * 8));
			_mm256_store_ps(s, g == 0 ? _mm256_mul_ps(x, q_scale)
				: _mm256_fmadd_ps(x, q_scale, _mm256_load_ps(s)));
		}
	}
}

static ALWAYS_INLINE void score_page(const struct attn_tile *t, int page, const int R) {
	for (int i = 0; i < BB_PAGE / 16; i++) {
		for (int g = 0; g < t->dims.n_groups; g++) {
			score_keys(t, page, g, i, R);
		}
	}
}

static void scores(const struct attn_tile *t, int page) {
	FOR_ROWS(t->n_rows, score_page(t, page, R))
}

/* ---- values of a page ---- */

/* p times the scales of V as bytes in t->p [TILE_ROWS, 64]; returns what a unit of them is worth.
 * The scores hold p. */
static ALWAYS_INLINE float weigh_row(const struct attn_tile *t, int page, int r) {
	const int begin = t->begin[r] - page * BB_PAGE, end = t->end[r] - page * BB_PAGE;
	const float *p = t->scores + r * BB_SPLIT + page * BB_PAGE;
	const float *v_scales = (const float *)(const void *)((const uint8_t *)t->v[page]
		+ (size_t)BB_PAGE * t->dims.vd);
	uint8_t *y = (uint8_t *)t->p + r * BB_PAGE;
	__m256 w[8], largest = _mm256_setzero_ps();
	UNROLL
	for (int j = 0; j < 8; j++) {
		w[j] = _mm256_and_ps(seen(begin, end, j * 8),
			_mm256_mul_ps(_mm256_load_ps(p + j * 8), _mm256_load_ps(v_scales + j * 8)));
		/* operands in this order keep a NaN */
		largest = _mm256_max_ps(largest, w[j]);
	}
	const float big = fold_max(largest);
	const __m256 inverse = _mm256_set1_ps(big >= 0x1p-100f ? MAX_U8 / big : 0);
	UNROLL
	for (int j = 0; j < 8; j += 2) {
		const __m256i u0 = _mm256_cvtps_epi32(_mm256_mul_ps(w[j], inverse));
		const __m256i u1 = _mm256_cvtps_epi32(_mm256_mul_ps(w[j + 1], inverse));
		const __m256i h = _mm256_permute4x64_epi64(_mm256_packus_epi32(u0, u1), 0xd8);
		_mm_store_si128((__m128i *)(void *)(y + j * 8), _mm_packus_epi16(_mm256_castsi256_si128(h),
			_mm256_extracti128_si256(h, 1)));
	}
	return big * (1 / MAX_U8);
}

static ALWAYS_INLINE void value_block(const struct attn_tile *t, int page, int column, int from,
	int to, const float *units, const int R) {
	const int vd = t->dims.vd;
	const uint8_t *v = (const uint8_t *)t->v[page] + (size_t)column * 4;
	const ptrdiff_t ahead = t->ahead[SPLIT_PAGES + page];
	__m256i acc[TILE_ROWS][2];
	UNROLL
	for (int r = 0; r < R; r++) {
		acc[r][0] = acc[r][1] = _mm256_setzero_si256();
	}
	for (int i = from / 4; i < (to + 3) / 4; i++) {
		const uint8_t *at = v + (size_t)i * vd * 4;
		const __m256i x0 = _mm256_load_si256((const __m256i *)(const void *)at);
		const __m256i x1 = _mm256_load_si256((const __m256i *)(const void *)(at + 32));
		_mm_prefetch((const char *)at + ahead, _MM_HINT_T1);
		UNROLL
		for (int r = 0; r < R; r++) {
			const __m256i b = broadcast_4_bytes((const uint8_t *)t->p + r * BB_PAGE + 4 * i);
			acc[r][0] = dot_values(acc[r][0], b, x0);
			acc[r][1] = dot_values(acc[r][1], b, x1);
		}
	}
	UNROLL
	for (int r = 0; r < R; r++) {
		UNROLL
		for (int n = 0; n < 2; n++) {
			float *o = t->o + (size_t)r * vd + column + n * 8;
			_mm256_store_ps(o, _mm256_fmadd_ps(_mm256_cvtepi32_ps(acc[r][n]),
				_mm256_set1_ps(units[r]), _mm256_load_ps(o)));
		}
	}
}

static ALWAYS_INLINE void value_page(const struct attn_tile *t, int page, const int R) {
	const int first = page * BB_PAGE, vd = t->dims.vd;
	const int from = t->begin[0] > first ? t->begin[0] - first : 0;
	const int to = t->end[R - 1] - first < BB_PAGE ? t->end[R - 1] - first : BB_PAGE;
	const char *scales = (const char *)t->v[page] + (size_t)BB_PAGE * vd;
	float units[TILE_ROWS];
	for (int j = 0; j < 4; j++) {
		_mm_prefetch(scales + j * 64 + t->ahead[SPLIT_PAGES + page], _MM_HINT_T1);
	}
	for (int r = 0; r < R; r++) {
		units[r] = weigh_row(t, page, r);
	}
	for (int column = 0; column < vd; column += 16) {
		value_block(t, page, column, from, to, units, R);
	}
}

static void values(const struct attn_tile *t, int page) {
	FOR_ROWS(t->n_rows, value_page(t, page, R))
}

static void softmax_row(const struct attn_tile *t, int r) {
	softmax_to(t->scores + r * BB_SPLIT, t, r);
}

static void tile(const struct attn_tile *t) {
	tile_of_integers(t, scores, largest_scores, softmax_row, values);
}

static const struct attn_ops ops = {
	.type = KV_INT8, .tile_direct = tile, .prep_q = prep_q, .join = join, .finish = finish,
};

#endif
