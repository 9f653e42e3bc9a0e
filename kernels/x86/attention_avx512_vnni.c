/* SPDX-License-Identifier: Apache-2.0
 *
 * Attention over int8 KV by dot products of bytes. What is rounded is written in attention.c;
 * scores are multiplied by log2(e) and p = 2^(score - m). Orders of summation: within a scale group
 * int32, exact; scores one chain over the groups; the sum of p 16 chains (token % 16) folded by
 * halves; o one chain over the pages. */
#include "attention_avx512.h"
#include "kv_quantise.h"

#define MAX_U8 255.0f

static ALWAYS_INLINE __m512i dot_bytes(__m512i acc, __m512i u, __m512i s) {
	/* gcc 12 spills the accumulators of the intrinsic's tile */
	__asm__("vpdpbusd %2, %1, %0" : "+v"(acc) : "v"(u), "v"(s));
	return acc;
}

/* A row as prep_q leaves it: int8 [kd], then per group the f32 scale (times scale * log2(e)), then
 * per group what the +128 of the keys adds to the dot product, to be taken off: int32 -128 *
 * sum. */
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
			offsets[g] -= 128 * y[d];
		}
	}
}

/* ---- scores of R rows and N * 16 keys from i_keys * 16 on, sums over the groups in registers
 * ---- */

/* The integer dot products of group g. */
static ALWAYS_INLINE void dot_group(__m512i acc[TILE_ROWS][4], const struct attn_tile *t, int page,
	int g, int i_keys, const int R, const int N) {
	const int n_quads = t->dims.kd / 4, from = g * t->dims.group / 4;
	const int to = g + 1 < t->dims.n_groups ? from + t->dims.group / 4 : n_quads;
	const size_t lanes = (size_t)n_quads * 64;
	const uint8_t *k = (const uint8_t *)t->k[page] + (size_t)i_keys * lanes;
	const ptrdiff_t ahead = t->ahead[page];
	UNROLL
	for (int r = 0; r < R; r++) {
		UNROLL
		for (int j = 0; j < N; j++) {
			acc[r][j] = _mm512_set1_epi32(q_offsets(t, r)[g]);
		}
	}
	for (int i = from; i < to; i++) {
		const uint8_t *at = k + (size_t)i * 64;
		__m512i x[4];
		UNROLL
		for (int j = 0; j < N; j++) {
			x[j] = _mm512_load_si512(at + j * lanes);
			_mm_prefetch((const char *)at + j * lanes + ahead, _MM_HINT_T1);
		}
		UNROLL
		for (int r = 0; r < R; r++) {
			const __m512i b = _mm512_set1_epi32(((const int32_t *)(const void *)
				(t->q + r * t->q_stride))[i]);
			UNROLL
			for (int j = 0; j < N; j++) {
				acc[r][j] = dot_bytes(acc[r][j], x[j], b);
			}
		}
	}
}

static ALWAYS_INLINE void score_keys(const struct attn_tile *t, int page, int i_keys, const int R,
	const int N) {
	const float *k_scales = (const float *)(const void *)((const uint8_t *)t->k[page]
		+ (size_t)BB_PAGE * t->dims.kd) + i_keys * 16;
	const ptrdiff_t ahead = t->ahead[page];
	__m512 sum[TILE_ROWS][4];
	UNROLL
	for (int r = 0; r < R; r++) {
		UNROLL
		for (int j = 0; j < N; j++) {
			sum[r][j] = _mm512_setzero_ps();
		}
	}
	for (int g = 0; g < t->dims.n_groups; g++) {
		const float *scales = k_scales + g * BB_PAGE;
		__m512i acc[TILE_ROWS][4];
		dot_group(acc, t, page, g, i_keys, R, N);
		UNROLL
		for (int j = 0; j < N; j++) {
			const __m512 scale = _mm512_load_ps(scales + j * 16);
			_mm_prefetch((const char *)(scales + j * 16) + ahead, _MM_HINT_T1);
			UNROLL
			for (int r = 0; r < R; r++) {
				const __m512 x = _mm512_mul_ps(_mm512_cvtepi32_ps(acc[r][j]), scale);
				sum[r][j] = _mm512_fmadd_ps(x, _mm512_set1_ps(q_scales(t, r)[g]), sum[r][j]);
			}
		}
	}
	UNROLL
	for (int r = 0; r < R; r++) {
		UNROLL
		for (int j = 0; j < N; j++) {
			_mm512_store_ps(t->scores + r * BB_SPLIT + page * BB_PAGE + (i_keys + j) * 16,
				sum[r][j]);
		}
	}
}

/* Few rows take all keys at once, many half of them: both sums fill the registers. */
static ALWAYS_INLINE void score_page(const struct attn_tile *t, int page, const int R) {
	if (R <= 3) {
		score_keys(t, page, 0, R, 4);
	} else {
		score_keys(t, page, 0, R, 2);
		score_keys(t, page, 2, R, 2);
	}
}

static void scores(const struct attn_tile *t, int page) {
	FOR_ROWS(t->n_rows, score_page(t, page, R))
}

/* ---- softmax of a row: scores become p, 0 where the row doesn't see ---- */

static void softmax_row(const struct attn_tile *t, int r) {
	const int begin = t->begin[r], end = t->end[r];
	float *s = t->scores + r * BB_SPLIT;
	const float m = t->m[r];
	__m512 sum = _mm512_setzero_ps();
	for (int j = begin & ~15; j < end; j += 16) {
		const __m512 x = _mm512_sub_ps(_mm512_load_ps(s + j), _mm512_set1_ps(m));
		const __m512 e = exp2_3(seen(begin, end, j), x);
		sum = _mm512_add_ps(sum, e);
		_mm512_store_ps(s + j, e);
	}
	t->l[r] = fold_sum(sum);
}

/* ---- values of a page ---- */

/* p times the scales of V as bytes in t->p [TILE_ROWS, 64]; returns what a unit of them is
 * worth. */
static ALWAYS_INLINE float weigh_row(const struct attn_tile *t, int page, int r) {
	const int begin = t->begin[r] - page * BB_PAGE, end = t->end[r] - page * BB_PAGE;
	const float *p = t->scores + r * BB_SPLIT + page * BB_PAGE;
	const float *v_scales = (const float *)(const void *)((const uint8_t *)t->v[page]
		+ (size_t)BB_PAGE * t->dims.vd);
	uint8_t *y = (uint8_t *)t->p + r * BB_PAGE;
	__m512 w[4], largest = _mm512_setzero_ps();
	UNROLL
	for (int j = 0; j < 4; j++) {
		const __mmask16 mask = begin <= j * 16 && end >= j * 16 + 16 ? 0xffff
			: begin < j * 16 + 16 && end > j * 16 ? seen(begin, end, j * 16) : 0;
		w[j] = _mm512_maskz_mul_ps(mask, _mm512_load_ps(p + j * 16),
			_mm512_load_ps(v_scales + j * 16));
		/* operands in this order keep a NaN */
		largest = _mm512_max_ps(largest, w[j]);
	}
	const float big = fold_max(largest);
	const __m512 inverse = _mm512_set1_ps(big >= 0x1p-100f ? MAX_U8 / big : 0);
	UNROLL
	for (int j = 0; j < 4; j++) {
		const __m512i u = _mm512_cvtps_epi32(_mm512_mul_ps(w[j], inverse));
		_mm_store_si128((__m128i *)(void *)(y + j * 16), _mm512_cvtusepi32_epi8(u));
	}
	return big * (1 / MAX_U8);
}

static ALWAYS_INLINE void value_block(const struct attn_tile *t, int page, int column, int from,
	int to, const float *units, const int R, const int N) {
	const int vd = t->dims.vd;
	const uint8_t *v = (const uint8_t *)t->v[page] + (size_t)column * 4;
	const int32_t *p = (const int32_t *)(const void *)t->p;
	const ptrdiff_t ahead = t->ahead[SPLIT_PAGES + page];
	__m512i acc[TILE_ROWS][4];
	UNROLL
	for (int r = 0; r < R; r++) {
		UNROLL
		for (int n = 0; n < N; n++) {
			acc[r][n] = _mm512_setzero_si512();
		}
	}
	for (int i = from / 4; i < (to + 3) / 4; i++) {
		const uint8_t *at = v + (size_t)i * vd * 4;
		__m512i x[4];
		UNROLL
		for (int n = 0; n < N; n++) {
			x[n] = _mm512_load_si512(at + n * 64);
			_mm_prefetch((const char *)at + n * 64 + ahead, _MM_HINT_T1);
		}
		UNROLL
		for (int r = 0; r < R; r++) {
			const __m512i b = _mm512_set1_epi32(p[r * (BB_PAGE / 4) + i]);
			UNROLL
			for (int n = 0; n < N; n++) {
				acc[r][n] = dot_bytes(acc[r][n], b, x[n]);
			}
		}
	}
	UNROLL
	for (int r = 0; r < R; r++) {
		UNROLL
		for (int n = 0; n < N; n++) {
			float *o = t->o + (size_t)r * vd + column + n * 16;
			_mm512_store_ps(o, _mm512_fmadd_ps(_mm512_cvtepi32_ps(acc[r][n]),
				_mm512_set1_ps(units[r]), _mm512_load_ps(o)));
		}
	}
}

static ALWAYS_INLINE void value_page(const struct attn_tile *t, int page, const int R) {
	const int first = page * BB_PAGE, vd = t->dims.vd;
	const int from = t->begin[0] > first ? t->begin[0] - first : 0;
	const int to = t->end[R - 1] - first < BB_PAGE ? t->end[R - 1] - first : BB_PAGE;
	const char *scales = (const char *)t->v[page] + (size_t)BB_PAGE * vd;
	float units[TILE_ROWS];
	int column = 0;
	for (int j = 0; j < 4; j++) {
		_mm_prefetch(scales + j * 64 + t->ahead[SPLIT_PAGES + page], _MM_HINT_T1);
	}
	for (int r = 0; r < R; r++) {
		units[r] = weigh_row(t, page, r);
	}
	for (; column + 64 <= vd; column += 64) {
		value_block(t, page, column, from, to, units, R, 4);
	}
	for (; column < vd; column += 16) {
		value_block(t, page, column, from, to, units, R, 1);
	}
}

static void values(const struct attn_tile *t, int page) {
	FOR_ROWS(t->n_rows, value_page(t, page, R))
}

static void tile(const struct attn_tile *t) {
	tile_of_integers(t, scores, largest_scores, softmax_row, values);
}

static const struct attn_ops ops = {
	.type = KV_INT8, .tile_direct = tile, .prep_q = prep_q, .join = join, .finish = finish,
};

void attention_int8_avx512_vnni(bb_queue *q, const struct bb_attention *a) {
	attention_walk(q, a, &ops);
}
