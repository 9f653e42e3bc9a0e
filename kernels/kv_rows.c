/* SPDX-License-Identifier: Apache-2.0
 *
 * Rows of keys and values as numbers in a plane, each token a row: int8 quantisation, the plain
 * layout, and a device's on copies in the host's memory. */
#include "kv_slab.h"

#include <math.h>
#include <string.h>

float kv_quantise(int8_t *y, const float *x, int n) {
	uint32_t largest = 0; /* bits of |x|; above those of infinity for a NaN */
	for (int i = 0; i < n; i++) {
		uint32_t u;
		memcpy(&u, &x[i], sizeof(u));
		u &= 0x7fffffffu;
		largest = u > largest ? u : largest;
	}
	float max;
	memcpy(&max, &largest, sizeof(max));
	if (!(max >= 0x1p-100f && max < INFINITY)) { /* below, 127 / max could overflow */
		for (int i = 0; i < n; i++) {
			y[i] = 0;
		}
		return max < 1 ? 0.0f : NAN;
	}
	const float inverse = 127.0f / max;
	for (int i = 0; i < n; i++) {
		/* adding 1.5 * 2^23 rounds to the nearest even integer */
		const float rounded = x[i] * inverse + 0x1.8p23f;
		int32_t u;
		memcpy(&u, &rounded, sizeof(u));
		y[i] = (int8_t)(u & 255);
	}
	return max / 127.0f;
}

/* ---- rows of a plane ---- */

void kv_store_row(uint8_t *plane, enum bb_kv_dtype type, int width, int head_dim, int group,
	int slot, const float *x) {
	const int n_groups = kv_n_groups(head_dim, group), per = kv_group_width(head_dim, group);
	const size_t elem_bytes = (size_t)kv_elem_bytes(type);
	uint8_t *row = plane + (size_t)slot * width * elem_bytes;
	memset(row + (size_t)head_dim * elem_bytes, 0, (size_t)(width - head_dim) * elem_bytes);
	if (type == KV_F32) {
		memcpy(row, x, (size_t)head_dim * sizeof(*x));
	} else if (type == KV_INT8) {
		float *scales = (float *)(void *)(plane + kv_plane_of(type, width, n_groups).scales);
		for (int g = 0; g < n_groups; g++) {
			const int first = g * per, rest = head_dim - first;
			scales[slot * n_groups + g] = kv_quantise((int8_t *)row + first, x + first,
				rest < per ? rest : per);
		}
	} else {
		for (int d = 0; d < head_dim; d++) {
			const uint16_t h = type == KV_F16 ? f32_to_f16(x[d]) : f32_to_bf16(x[d]);
			memcpy(row + 2 * d, &h, sizeof(h));
		}
	}
}

void kv_load_row(float *x, const uint8_t *plane, enum bb_kv_dtype type, int width, int head_dim,
	int group, int slot) {
	const int n_groups = kv_n_groups(head_dim, group), per = kv_group_width(head_dim, group);
	const uint8_t *row = plane + (size_t)slot * width * kv_elem_bytes(type);
	if (type == KV_F32) {
		memcpy(x, row, (size_t)head_dim * sizeof(*x));
	} else if (type == KV_INT8) {
		const float *scales = (const float *)(const void *)(plane
			+ kv_plane_of(type, width, n_groups).scales);
		for (int d = 0; d < head_dim; d++) {
			x[d] = (float)(int8_t)row[d] * scales[slot * n_groups + d / per];
		}
	} else {
		for (int d = 0; d < head_dim; d++) {
			uint16_t h;
			memcpy(&h, row + 2 * d, sizeof(h));
			x[d] = type == KV_F16 ? f16_to_f32(h) : bf16_to_f32(h);
		}
	}
}

void kv_copy_row(uint8_t *to, int to_slot, const uint8_t *from, int from_slot,
	enum bb_kv_dtype type, int width, int n_groups) {
	const size_t row_bytes = (size_t)width * kv_elem_bytes(type);
	memcpy(to + (size_t)to_slot * row_bytes, from + (size_t)from_slot * row_bytes, row_bytes);
	if (type == KV_INT8) {
		const size_t scales = kv_plane_of(type, width, n_groups).scales;
		const size_t bytes = (size_t)n_groups * sizeof(float);
		memcpy(to + scales + (size_t)to_slot * bytes, from + scales + (size_t)from_slot * bytes,
			bytes);
	}
}

/* ---- slabs of rows that are `width` elements wide ---- */

static size_t slab_bytes(enum bb_kv_dtype type, int width, int n_groups) {
	return kv_plane_of(type, width, n_groups).bytes + kv_plane_of(type, width, 1).bytes;
}

static void append(void *slab, enum bb_kv_dtype type, int width, int head_dim, int group, int slot,
	const float *k, const float *v) {
	const size_t k_bytes = kv_plane_of(type, width, kv_n_groups(head_dim, group)).bytes;
	if (k != NULL) {
		kv_store_row(slab, type, width, head_dim, group, slot, k);
	}
	if (v != NULL) {
		kv_store_row((uint8_t *)slab + k_bytes, type, width, head_dim, 0, slot, v);
	}
}

static void read(const void *slab, enum bb_kv_dtype type, int width, int head_dim, int group,
	int slot, float *k, float *v) {
	const size_t k_bytes = kv_plane_of(type, width, kv_n_groups(head_dim, group)).bytes;
	if (k != NULL) {
		kv_load_row(k, slab, type, width, head_dim, group, slot);
	}
	if (v != NULL) {
		kv_load_row(v, (const uint8_t *)slab + k_bytes, type, width, head_dim, 0, slot);
	}
}

static void copy(uint8_t *to, int to_slot, const uint8_t *from, int from_slot,
	enum bb_kv_dtype type, int width, int n_groups) {
	const size_t k_bytes = kv_plane_of(type, width, n_groups).bytes;
	kv_copy_row(to, to_slot, from, from_slot, type, width, n_groups);
	kv_copy_row(to + k_bytes, to_slot, from + k_bytes, from_slot, type, width, 1);
}

/* ---- kv_rows ---- */

static size_t rows_bytes(enum bb_kv_dtype type, int head_dim, int group) {
	return slab_bytes(type, head_dim, kv_n_groups(head_dim, group));
}

static void rows_append(void *slab, enum bb_kv_dtype type, int head_dim, int group, int slot,
	const float *k, const float *v) {
	append(slab, type, head_dim, head_dim, group, slot, k, v);
}

static void rows_read(const void *slab, enum bb_kv_dtype type, int head_dim, int group, int slot,
	float *k, float *v) {
	read(slab, type, head_dim, head_dim, group, slot, k, v);
}

static void rows_copy(void *to, int to_slot, const void *from, int from_slot,
	enum bb_kv_dtype type, int head_dim, int group) {
	copy(to, to_slot, from, from_slot, type, head_dim, kv_n_groups(head_dim, group));
}

const struct bb_kv_layout layout_kv_rows = {
	.name = "kv_rows",
	.slab_bytes = rows_bytes,
	.append = rows_append,
	.read = rows_read,
	.copy = rows_copy,
};

/* ---- kv_padded ---- */

size_t kv_padded_bytes(enum bb_kv_dtype type, int head_dim, int group) {
	return slab_bytes(type, kv_vd(head_dim), kv_n_groups(head_dim, group));
}

void kv_padded_append(void *slab, enum bb_kv_dtype type, int head_dim, int group, int slot,
	const float *k, const float *v) {
	append(slab, type, kv_vd(head_dim), head_dim, group, slot, k, v);
}

void kv_padded_read(const void *slab, enum bb_kv_dtype type, int head_dim, int group, int slot,
	float *k, float *v) {
	read(slab, type, kv_vd(head_dim), head_dim, group, slot, k, v);
}

void kv_padded_copy(void *to, int to_slot, const void *from, int from_slot, enum bb_kv_dtype type,
	int head_dim, int group) {
	copy(to, to_slot, from, from_slot, type, kv_vd(head_dim), kv_n_groups(head_dim, group));
}

const struct bb_kv_layout layout_kv_padded_rows = {
	.name = "kv_padded",
	.slab_bytes = kv_padded_bytes,
	.append = kv_padded_append,
	.read = kv_padded_read,
	.copy = kv_padded_copy,
};
