/* SPDX-License-Identifier: Apache-2.0
 *
 * The KV layouts of the x86 attention kernels: kv_lanes (16 keys beside each other, for
 * multiply-add in f32 and, in int8, for dot products of 4 bytes) and kv_pairs (two elements
 * beside each other, for dot products of bf16 pairs). Places in a slab: kv_slab.h. */
#include "kv_quantise.h"

#include <assert.h>
#include <immintrin.h>
#include <string.h>

#define ALWAYS_INLINE inline __attribute__((always_inline))

enum { MAX_HEAD_DIM = 512, LANES = 16 };

struct planes {
	uint8_t *k, *v;
	float *k_scales; /* [n_groups, 64] */
	float *v_scales; /* [64] */
	int kd, vd, n_groups, width;
};

static struct planes planes_of(const void *slab, enum bb_kv_dtype type, int head_dim, int group) {
	struct planes p = { .kd = kv_kd(head_dim), .vd = kv_vd(head_dim),
		.n_groups = kv_n_groups(head_dim, group), .width = kv_group_width(head_dim, group) };
	const struct kv_plane k = kv_plane_of(type, p.kd, p.n_groups), v = kv_plane_of(type, p.vd, 1);
	assert(head_dim <= MAX_HEAD_DIM);
	p.k = (uint8_t *)(uintptr_t)slab;
	p.v = p.k + k.bytes;
	p.k_scales = (float *)(void *)(p.k + k.scales);
	p.v_scales = (float *)(void *)(p.v + v.scales);
	return p;
}

static size_t slab_bytes(enum bb_kv_dtype type, int head_dim, int group) {
	return kv_plane_of(type, kv_kd(head_dim), kv_n_groups(head_dim, group)).bytes
		+ kv_plane_of(type, kv_vd(head_dim), 1).bytes;
}

static ALWAYS_INLINE __m128i narrow_8(__m256 f, const enum bb_kv_dtype type) {
	if (type == KV_F16) {
		return _mm256_cvtps_ph(f, _MM_FROUND_TO_NEAREST_INT);
	}
	const __m256i u = _mm256_castps_si256(f);
	const __m256i odd = _mm256_and_si256(_mm256_srli_epi32(u, 16), _mm256_set1_epi32(1));
	const __m256i rounded = _mm256_srli_epi32(_mm256_add_epi32(u, _mm256_add_epi32(odd,
		_mm256_set1_epi32(0x7fff))), 16);
	const __m256i quiet = _mm256_or_si256(_mm256_srli_epi32(u, 16), _mm256_set1_epi32(0x40));
	const __m256 is_nan = _mm256_cmp_ps(f, f, _CMP_UNORD_Q);
	const __m256i w = _mm256_blendv_epi8(rounded, quiet, _mm256_castps_si256(is_nan));
	return _mm_packus_epi32(_mm256_castsi256_si128(w), _mm256_extracti128_si256(w, 1));
}

static ALWAYS_INLINE void narrow_as(uint16_t *y, const float *x, int n,
	const enum bb_kv_dtype type) {
	int i = 0;
	for (; i + 8 <= n; i += 8) {
		_mm_storeu_si128((__m128i *)(void *)(y + i), narrow_8(_mm256_loadu_ps(x + i), type));
	}
	for (; i < n; i++) {
		y[i] = type == KV_F16 ? f32_to_f16(x[i]) : f32_to_bf16(x[i]);
	}
	for (; i % 16 != 0; i++) {
		y[i] = 0;
	}
}

/* y[round_up(n, 16)] = x[n] in a 16-bit type, then zeros. */
static void narrow(uint16_t *y, enum bb_kv_dtype type, const float *x, int n) {
	if (type == KV_F16) {
		narrow_as(y, x, n, KV_F16);
	} else {
		narrow_as(y, x, n, KV_BF16);
	}
}

static float widen(uint16_t h, enum bb_kv_dtype type) {
	return type == KV_F16 ? f16_to_f32(h) : bf16_to_f32(h);
}

/* ---- kv_lanes ---- */

/* Element (slot, d) of K, and of int8 K and V. */
static size_t lanes_k(const struct planes *p, int slot, int d) {
	return ((size_t)(slot / LANES) * p->kd + d) * LANES + slot % LANES;
}

static size_t quads_k(const struct planes *p, int slot, int d) {
	return ((size_t)(slot / LANES) * (p->kd / 4) + d / 4) * LANES * 4 + slot % LANES * 4 + d % 4;
}

static size_t quads_v(const struct planes *p, int slot, int d) {
	return ((size_t)(slot / 4) * p->vd + d) * 4 + slot % 4;
}

static void append_int8(const struct planes *p, int head_dim, int slot, const float *k,
	const float *v) {
	int8_t bytes[MAX_HEAD_DIM] = { 0 };
	for (int g = 0; k != NULL && g < p->n_groups; g++) {
		const int first = g * p->width, rest = head_dim - first;
		p->k_scales[g * BB_PAGE + slot] = quantise_ymm(bytes + first, k + first,
			rest < p->width ? rest : p->width);
	}
	uint8_t *to = p->k + quads_k(p, slot, 0);
	for (int d = 0; k != NULL && d < p->kd; d += 4) {
		uint32_t word;
		memcpy(&word, bytes + d, sizeof(word));
		word ^= 0x80808080u;
		memcpy(to + d * LANES, &word, sizeof(word));
	}
	if (v == NULL) {
		return;
	}
	p->v_scales[slot] = quantise_ymm(bytes, v, head_dim);
	to = p->v + quads_v(p, slot, 0);
	const int vd = p->vd;
	for (int d = 0; d < vd; d++) {
		to[4 * d] = (uint8_t)bytes[d];
	}
}

static void append_f32(const struct planes *p, int head_dim, int slot, const float *k,
	const float *v) {
	float *to = (float *)(void *)p->k, *row = (float *)(void *)p->v + (size_t)slot * p->vd;
	for (int d = 0; k != NULL && d < p->kd; d++) {
		to[lanes_k(p, slot, d)] = d < head_dim ? k[d] : 0;
	}
	if (v != NULL) {
		memcpy(row, v, sizeof(*v) * (size_t)head_dim);
		memset(row + head_dim, 0, sizeof(*v) * (size_t)(p->vd - head_dim));
	}
}

static void lanes_append(void *slab, enum bb_kv_dtype type, int head_dim, int group, int slot,
	const float *k, const float *v) {
	const struct planes p = planes_of(slab, type, head_dim, group);
	if (type == KV_INT8) {
		append_int8(&p, head_dim, slot, k, v);
		return;
	}
	if (type == KV_F32) {
		append_f32(&p, head_dim, slot, k, v);
		return;
	}
	uint16_t h[MAX_HEAD_DIM];
	if (k != NULL) {
		uint16_t *to = (uint16_t *)(void *)p.k + lanes_k(&p, slot, 0);
		narrow(h, type, k, head_dim);
		for (int d = 0; d < p.kd; d++) {
			to[d * LANES] = h[d];
		}
	}
	if (v != NULL) {
		narrow(h, type, v, head_dim);
		memcpy((uint16_t *)(void *)p.v + (size_t)slot * p.vd, h, sizeof(*h) * (size_t)p.vd);
	}
}

static void lanes_read(const void *slab, enum bb_kv_dtype type, int head_dim, int group, int slot,
	float *k, float *v) {
	const struct planes p = planes_of(slab, type, head_dim, group);
	for (int d = 0; k != NULL && d < head_dim; d++) {
		const size_t at = lanes_k(&p, slot, d);
		k[d] = type == KV_F32 ? ((const float *)(const void *)p.k)[at] : type == KV_INT8
			? (float)(p.k[quads_k(&p, slot, d)] - 128) * p.k_scales[d / p.width * BB_PAGE + slot]
			: widen(((const uint16_t *)(const void *)p.k)[at], type);
	}
	for (int d = 0; v != NULL && d < head_dim; d++) {
		const size_t at = (size_t)slot * p.vd + d;
		v[d] = type == KV_F32 ? ((const float *)(const void *)p.v)[at] : type == KV_INT8
			? (float)(int8_t)p.v[quads_v(&p, slot, d)] * p.v_scales[slot]
			: widen(((const uint16_t *)(const void *)p.v)[at], type);
	}
}

/* `bytes` at element `at` of an array of them. */
static void copy_elem(uint8_t *to, size_t to_at, const uint8_t *from, size_t from_at,
	size_t bytes) {
	memcpy(to + to_at * bytes, from + from_at * bytes, bytes);
}

static void lanes_copy(void *to_slab, int to_slot, const void *from_slab, int from_slot,
	enum bb_kv_dtype type, int head_dim, int group) {
	const struct planes to = planes_of(to_slab, type, head_dim, group);
	const struct planes from = planes_of(from_slab, type, head_dim, group);
	const size_t bytes = (size_t)kv_elem_bytes(type);
	if (type != KV_INT8) {
		for (int d = 0; d < to.kd; d++) {
			copy_elem(to.k, lanes_k(&to, to_slot, d), from.k, lanes_k(&from, from_slot, d), bytes);
		}
		copy_elem(to.v, (size_t)to_slot, from.v, (size_t)from_slot, (size_t)to.vd * bytes);
		return;
	}
	for (int d = 0; d < to.kd; d += 4) {
		memcpy(to.k + quads_k(&to, to_slot, d), from.k + quads_k(&from, from_slot, d), 4);
	}
	for (int d = 0; d < to.vd; d++) {
		to.v[quads_v(&to, to_slot, d)] = from.v[quads_v(&from, from_slot, d)];
	}
	for (int g = 0; g < to.n_groups; g++) {
		to.k_scales[g * BB_PAGE + to_slot] = from.k_scales[g * BB_PAGE + from_slot];
	}
	to.v_scales[to_slot] = from.v_scales[from_slot];
}

const struct bb_kv_layout layout_kv_lanes = {
	"kv_lanes", slab_bytes, lanes_append, lanes_read, .copy = lanes_copy,
};

/* ---- kv_pairs ---- */

static size_t pairs_k(const struct planes *p, int slot, int d) {
	return ((size_t)(slot / LANES) * (p->kd / 2) + d / 2) * LANES * 2 + slot % LANES * 2 + d % 2;
}

static size_t pairs_v(const struct planes *p, int slot, int d) {
	return ((size_t)(slot / 2) * p->vd + d) * 2 + slot % 2;
}

static void pairs_append(void *slab, enum bb_kv_dtype type, int head_dim, int group, int slot,
	const float *k, const float *v) {
	const struct planes p = planes_of(slab, type, head_dim, group);
	uint16_t h[MAX_HEAD_DIM];
	assert(type == KV_F16 || type == KV_BF16);
	if (k != NULL) {
		uint16_t *to = (uint16_t *)(void *)p.k + pairs_k(&p, slot, 0);
		narrow(h, type, k, head_dim);
		for (int d = 0; d < p.kd; d += 2) {
			memcpy(to + d * LANES, h + d, 2 * sizeof(*h));
		}
	}
	if (v != NULL) {
		uint16_t *to = (uint16_t *)(void *)p.v + pairs_v(&p, slot, 0);
		narrow(h, type, v, head_dim);
		for (int d = 0; d < p.vd; d++) {
			to[2 * d] = h[d];
		}
	}
}

static void pairs_read(const void *slab, enum bb_kv_dtype type, int head_dim, int group, int slot,
	float *k, float *v) {
	const struct planes p = planes_of(slab, type, head_dim, group);
	for (int d = 0; k != NULL && d < head_dim; d++) {
		k[d] = widen(((const uint16_t *)(const void *)p.k)[pairs_k(&p, slot, d)], type);
	}
	for (int d = 0; v != NULL && d < head_dim; d++) {
		v[d] = widen(((const uint16_t *)(const void *)p.v)[pairs_v(&p, slot, d)], type);
	}
}

static void pairs_copy(void *to_slab, int to_slot, const void *from_slab, int from_slot,
	enum bb_kv_dtype type, int head_dim, int group) {
	const struct planes to = planes_of(to_slab, type, head_dim, group);
	const struct planes from = planes_of(from_slab, type, head_dim, group);
	for (int d = 0; d < to.kd; d += 2) { /* a pair of elements at once */
		copy_elem(to.k, pairs_k(&to, to_slot, d) / 2, from.k, pairs_k(&from, from_slot, d) / 2, 4);
	}
	for (int d = 0; d < to.vd; d++) {
		copy_elem(to.v, pairs_v(&to, to_slot, d), from.v, pairs_v(&from, from_slot, d), 2);
	}
}

const struct bb_kv_layout layout_kv_pairs = {
	"kv_pairs", slab_bytes, pairs_append, pairs_read, .copy = pairs_copy,
};
