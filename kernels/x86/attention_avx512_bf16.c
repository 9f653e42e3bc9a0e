/* SPDX-License-Identifier: Apache-2.0
 *
 * Attention by dot products of bf16 pairs: q (times scale * log2(e)), k, p and v are rounded to
 * bf16, nearest even, and summed in f32. Orders of summation: q.k one chain along d, two at a time;
 * the sum of p (not rounded) 16 chains (token % 16) folded by halves; p.v one chain along the
 * tokens a row sees, two at a time. Keys and values in f16 are converted on their way in, for large
 * tiles once per split and block. */
#include "attention_avx512.h"

enum { PAIR_BYTES = 64 }; /* a vector of 16 pairs */

/* What a plane holds: bf16, or f16 to be rounded when loaded. */
enum source { FROM_BF16, FROM_F16 };

static ALWAYS_INLINE __m512 dot_pairs(__m512 acc, __m512i a, __m512i b) {
	/* gcc 12 spills the accumulators of the intrinsic's tile */
	__asm__("vdpbf16ps %2, %1, %0" : "+v"(acc) : "v"(a), "v"(b));
	return acc;
}

static ALWAYS_INLINE __m512i round_pairs(const uint8_t *at) {
	const __m512 a = _mm512_cvtph_ps(_mm256_load_si256((const __m256i *)(const void *)at));
	const __m512 b = _mm512_cvtph_ps(_mm256_load_si256((const __m256i *)(const void *)(at + 32)));
	return (__m512i)_mm512_cvtne2ps_pbh(b, a);
}

static ALWAYS_INLINE __m512i load_pairs(const uint8_t *at, const enum source source) {
	return source == FROM_F16 ? round_pairs(at) : _mm512_load_si512(at);
}

static void prep_q(void *dst, const float *q, const struct attn_dims *dims, float scale) {
	uint16_t *y = dst;
	const float factor = scale * LOG2_E;
	for (int d = 0; d < dims->kd; d += 16) {
		const int rest = dims->head_dim - d;
		const __mmask16 mask = rest < 16 ? (__mmask16)((1u << rest) - 1) : 0xffff;
		const __m512 x = _mm512_mul_ps(_mm512_maskz_loadu_ps(mask, q + d), _mm512_set1_ps(factor));
		_mm256_store_si256((__m256i *)(void *)(y + d), (__m256i)_mm512_cvtneps_pbh(x));
	}
}

/* ---- scores of R rows and 64 keys ---- */

static ALWAYS_INLINE void score_page(const struct attn_tile *t, int page, const int R,
	const enum source source) {
	const int n_pairs = t->dims.kd / 2;
	const uint8_t *k = t->k[page];
	const size_t group = (size_t)n_pairs * PAIR_BYTES;
	const ptrdiff_t ahead = t->ahead[page];
	__m512 acc[TILE_ROWS][4];
	UNROLL
	for (int r = 0; r < R; r++) {
		UNROLL
		for (int g = 0; g < 4; g++) {
			acc[r][g] = _mm512_setzero_ps();
		}
	}
	for (int d = 0; d < n_pairs; d++) {
		const uint8_t *at = k + (size_t)d * PAIR_BYTES;
		__m512i x[4];
		UNROLL
		for (int g = 0; g < 4; g++) {
			x[g] = load_pairs(at + g * group, source);
			_mm_prefetch((const char *)at + g * group + ahead, _MM_HINT_T1);
		}
		UNROLL
		for (int r = 0; r < R; r++) {
			const __m512i b = _mm512_set1_epi32(((const int32_t *)(const void *)
				(t->q + r * t->q_stride))[d]);
			UNROLL
			for (int g = 0; g < 4; g++) {
				acc[r][g] = dot_pairs(acc[r][g], x[g], b);
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
	uint16_t *p = (uint16_t *)t->p + r * BB_SPLIT;
	const float m = t->m[r];
	__m512 sum = _mm512_setzero_ps();
	for (int j = begin & ~31; j < end; j += 32) {
		const uint32_t mask = seen32(begin, end, j);
		const __m512 x0 = _mm512_sub_ps(_mm512_load_ps(s + j), _mm512_set1_ps(m));
		const __m512 x1 = _mm512_sub_ps(_mm512_load_ps(s + j + 16), _mm512_set1_ps(m));
		const __m512 e0 = exp2_4((__mmask16)mask, x0), e1 = exp2_4((__mmask16)(mask >> 16), x1);
		sum = _mm512_add_ps(_mm512_add_ps(sum, e0), e1);
		_mm512_store_si512(p + j, (__m512i)_mm512_cvtne2ps_pbh(e1, e0));
	}
	t->l[r] = fold_sum(sum);
}

/* ---- o[R, N * 16] at row, column += p v over tokens [from, to) of a page ---- */

/* The elements of pair i that lie in [from, to). */
static ALWAYS_INLINE __mmask32 pair_mask(int i, int from, int to) {
	return (2 * i >= from ? 0x55555555u : 0) | (2 * i + 1 < to ? 0xaaaaaaaau : 0);
}

static ALWAYS_INLINE void value_block(const struct attn_tile *t, int page, int row, int column,
	int from, int to, const int R, const int N, const enum source source) {
	const int vd = t->dims.vd;
	const uint8_t *v = (const uint8_t *)t->v[page] + (size_t)column * 4;
	const int32_t *p = (const int32_t *)(const void *)t->p + (row * BB_SPLIT + page * BB_PAGE) / 2;
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
	for (int i = from / 2; i < (to + 1) / 2; i++) {
		const uint8_t *at = v + (size_t)i * vd * 4;
		__m512i x[4];
		UNROLL
		for (int n = 0; n < N; n++) {
			x[n] = load_pairs(at + n * PAIR_BYTES, source);
			_mm_prefetch((const char *)at + n * PAIR_BYTES + ahead, _MM_HINT_T1);
			if (R == 1) {
				x[n] = _mm512_maskz_mov_epi16(pair_mask(i, from, to), x[n]);
			}
		}
		UNROLL
		for (int r = 0; r < R; r++) {
			const __m512i b = _mm512_set1_epi32(p[r * (BB_SPLIT / 2) + i]);
			UNROLL
			for (int n = 0; n < N; n++) {
				acc[r][n] = dot_pairs(acc[r][n], x[n], b);
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

ATTENTION_BODIES(FROM_BF16, bf16, 2)
ATTENTION_BODIES(FROM_F16, f16, 2)

static void stage_f16(void *dst, const void *plane, size_t n) {
	const uint8_t *x = plane;
	uint8_t *y = dst;
	for (size_t i = 0; i < 2 * n; i += PAIR_BYTES) {
		_mm512_store_si512(y + i, round_pairs(x + i));
	}
}

static const struct attn_ops ops_f16 = {
	.type = KV_F16, .staged_elem_bytes = 2, .prep_q = prep_q, .stage = stage_f16,
	.tile = tile_bf16, .tile_direct = tile_f16, .join = join, .finish = finish,
};
static const struct attn_ops ops_bf16 = {
	.type = KV_BF16, .prep_q = prep_q, .tile_direct = tile_bf16, .join = join, .finish = finish,
};

void attention_f16_avx512_bf16(bb_queue *q, const struct bb_attention *a) {
	attention_walk(q, a, &ops_f16);
}

void attention_bf16_avx512_bf16(bb_queue *q, const struct bb_attention *a) {
	attention_walk(q, a, &ops_bf16);
}
