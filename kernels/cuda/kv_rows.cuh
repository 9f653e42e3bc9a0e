/* SPDX-License-Identifier: Apache-2.0
 *
 * Rows of K and V in a device's pages (kv_padded, kv_slab.h): how a warp stores one, turned by RoPE
 * on the way, and how it reads several. Owns no kernel. */
#pragma once

#include "../kv_slab.h"
#include "rows.cuh"

/* Where things lie in a slab; a row of `width` elements is a multiple of 16 bytes. */
struct slab_shape {
	enum bb_kv_dtype type;
	int head_dim, width, n_groups, group_width;
	unsigned k_bytes, k_scales, v_scales; /* of a plane; offsets of scales in their planes */
};

static inline struct slab_shape slab_shape_of(enum bb_kv_dtype type, int head_dim, int group) {
	const int width = kv_vd(head_dim), n_groups = kv_n_groups(head_dim, group);
	const struct kv_plane k = kv_plane_of(type, width, n_groups);
	const struct kv_plane v = kv_plane_of(type, width, 1);
	return { type, head_dim, width, n_groups, kv_group_width(head_dim, group), (unsigned)k.bytes,
		(unsigned)k.scales, (unsigned)v.scales };
}

DEVICE uint8_t *page_of(void *const *const *chunks, int i_page) {
	return (uint8_t *)chunks[i_page / BB_CHUNK][i_page % BB_CHUNK];
}

/* ---- storing ---- */

/* A row as it goes into a page: x, turned by cs (unless that is NULL) as rope_kernel does it. */
struct source {
	const float *x;
	const float *cs; /* [n_pairs, 2] */
	int n, n_pairs;
};

DEVICE float value_of(const struct source &s, int i) {
	if (i >= s.n) {
		return 0.0f;
	}
	if (s.cs == NULL || i >= 2 * s.n_pairs) {
		return s.x[i];
	}
	const int pair = i < s.n_pairs ? i : i - s.n_pairs;
	const float a = s.x[pair], b = s.x[pair + s.n_pairs];
	const float c = s.cs[2 * pair], sine = s.cs[2 * pair + 1];
	return i < s.n_pairs ? fmaf(a, c, -(b * sine)) : fmaf(a, sine, b * c);
}

/* One row of f32, f16 or bf16, four bytes a lane. */
DEVICE void append_float(uint32_t *row, const struct source &x, enum bb_kv_dtype type, int width) {
	const int per = type == KV_F32 ? 1 : 2;
	for (int i = (int)threadIdx.x % WARP; i < width / per; i += WARP) {
		const float lo = value_of(x, i * per), hi = value_of(x, i * per + 1);
		row[i] = type == KV_F32 ? __float_as_uint(lo) : type == KV_F16 ? f16x2_of(lo, hi)
			: bf16x2_of(lo, hi);
	}
}

/* x * inverse to the nearest even integer, as a byte: 1.5 * 2^23 is added. */
DEVICE uint32_t quantise(float x, float inverse) {
	const float product = x * inverse;
	return __float_as_uint(product + 0x1.8p23f) & 255;
}

/* One row of int8, group by group, as kv_quantise has it; four bytes a lane. */
DEVICE void append_int8(uint32_t *row, float *scales, const struct source &x, int width,
	int group_width) {
	const int n = x.n;
	const int lane = (int)threadIdx.x % WARP;
	for (int first = 0; first < n; first += group_width) {
		const int end = min(first + group_width, n);
		unsigned largest = 0; /* bits of |x| */
		for (int i = first + lane; i < end; i += WARP) {
			largest = max(largest, __float_as_uint(value_of(x, i)) & 0x7fffffffu);
		}
		largest = __reduce_max_sync(ALL_LANES, largest);
		const float most = __uint_as_float(largest);
		const bool is_normal = most >= 0x1p-100f && largest < 0x7f800000u;
		const float inverse = is_normal ? 127.0f / most : 0.0f;
		for (int i = first + 4 * lane; i < end; i += 4 * WARP) {
			uint32_t w = 0;
			for (int k = 0; k < 4 && i + k < end; k++) {
				w |= (is_normal ? quantise(value_of(x, i + k), inverse) : 0) << (8 * k);
			}
			row[i / 4] = w;
		}
		if (lane == 0) {
			scales[first / group_width] = is_normal ? most / 127.0f : most < 1 ? 0.0f
				: __uint_as_float(0x7fc00000u);
		}
	}
	for (int i = (n + 3) / 4 + lane; i < width / 4; i += WARP) {
		row[i] = 0;
	}
}

/* A warp stores a row at `slot` of a slab's K or V. type: the shape's; a constant where the caller
 * has one. */
DEVICE void store_row(uint8_t *slab, const struct slab_shape &shape, enum bb_kv_dtype type,
	bool is_v, int slot, const struct source &x) {
	uint8_t *plane = slab + (is_v ? shape.k_bytes : 0);
	if (type == KV_INT8) {
		float *scales = (float *)(plane + (is_v ? shape.v_scales : shape.k_scales));
		append_int8((uint32_t *)(plane + slot * shape.width),
			scales + slot * (is_v ? 1 : shape.n_groups), x, shape.width,
			is_v ? shape.head_dim : shape.group_width);
	} else {
		uint8_t *row = plane + (size_t)slot * shape.width * (type == KV_F32 ? 4 : 2);
		append_float((uint32_t *)row, x, type, shape.width);
	}
}

/* ---- reading ---- */

/* Elements in 16 bytes. */
template <enum bb_kv_dtype type> static __host__ __device__ constexpr int per_piece() {
	return type == KV_F32 ? 4 : type == KV_INT8 ? 16 : 8;
}

/* Rows of K or V in a slab, for reading. */
struct stored_rows {
	const uint8_t *elems; /* [64][width] */
	const float *scales;  /* int8: [64][n_groups] */
	int width, n_groups, group_width;
};

DEVICE struct stored_rows stored_rows_of(const uint8_t *slab, const struct slab_shape &shape,
	bool is_v) {
	const uint8_t *plane = slab + (is_v ? shape.k_bytes : 0);
	return { plane, (const float *)(plane + (is_v ? shape.v_scales : shape.k_scales)), shape.width,
		is_v ? 1 : shape.n_groups, is_v ? shape.width : shape.group_width };
}

/* The four elements of int8 in w, at column d of a row; a group is a multiple of 4 wide. Padding,
 * which is zero, takes the last group's scale. */
DEVICE float4 widen_int8(const struct stored_rows &rows, int slot, int d, uint32_t w) {
	const int group = min(d / rows.group_width, rows.n_groups - 1);
	const float scale = rows.scales[slot * rows.n_groups + group];
	return make_float4((float)(int8_t)w * scale, (float)(int8_t)(w >> 8) * scale,
		(float)(int8_t)(w >> 16) * scale, (float)(int8_t)(w >> 24) * scale);
}

template <enum bb_kv_dtype type> DEVICE float4 widen_16(uint32_t a, uint32_t b) {
	return type == KV_F16 ? make_float4(f16_lo(a), f16_hi(a), f16_lo(b), f16_hi(b))
		: make_float4(bf16_lo(a), bf16_hi(a), bf16_lo(b), bf16_hi(b));
}

/* Piece i of row `slot`, x[per_piece() / 4] of four values each, from where nobody writes
 * meanwhile. */
template <enum bb_kv_dtype type> DEVICE void load_piece(float4 *x, const struct stored_rows &rows,
	int slot, int i) {
	const int per = per_piece<type>(), d = i * per;
	const uint4 w = ld_nc((const uint4 *)rows.elems + slot * (rows.width / per) + i);
	if (type == KV_F32) {
		x[0] = make_float4(__uint_as_float(w.x), __uint_as_float(w.y), __uint_as_float(w.z),
			__uint_as_float(w.w));
	} else if (type == KV_INT8) {
		x[0] = widen_int8(rows, slot, d, w.x);
		x[1] = widen_int8(rows, slot, d + 4, w.y);
		x[2] = widen_int8(rows, slot, d + 8, w.z);
		x[3] = widen_int8(rows, slot, d + 12, w.w);
	} else {
		x[0] = widen_16<type>(w.x, w.y);
		x[1] = widen_16<type>(w.z, w.w);
	}
}

/* Shared memory in which a warp takes n rows apart: f32 [n, width], then rows as they are
 * stored. */
template <enum bb_kv_dtype type> static __host__ __device__ constexpr int apart_bytes(int n,
	int width) {
	return n * width * (type == KV_F32 ? 4 : type == KV_INT8 ? 5 : 6);
}

/* A warp brings rows [slot, slot + n), n <= most, to `to` [n, width], the first of its
 * apart_bytes(most, width); __syncwarp follows. All copies are under way together. */
template <enum bb_kv_dtype type> DEVICE void take_apart(float *to, int most,
	const struct stored_rows &rows, int slot, int n) {
	const int per_row = rows.width / per_piece<type>(), lane = (int)threadIdx.x % WARP;
	const int fours = rows.width / 4; /* of a row */
	uint8_t *raw = (uint8_t *)(type == KV_F32 ? to : to + most * rows.width);
	for (int i = lane; i < n * per_row; i += WARP) {
		cp_async16(raw + 16 * i, (const uint4 *)rows.elems + slot * per_row + i);
	}
	cp_async_commit();
	cp_async_wait<0>();
	__syncwarp();
	for (int i = lane; type != KV_F32 && i < n * fours; i += WARP) {
		float4 x;
		if (type == KV_INT8) {
			const uint32_t w = ld_vec((const uint32_t *)raw + i);
			x = widen_int8(rows, slot + i / fours, i % fours * 4, w);
		} else {
			const uint2 w = ld_vec((const uint2 *)raw + i);
			x = widen_16<type>(w.x, w.y);
		}
		st_vec((float4 *)to + i, x);
	}
}

/* ---- host ---- */

/* Pages that hold a token of a run of at most n tokens, wherever it begins. */
static inline unsigned max_pages(int n) {
	return (unsigned)(n + BB_PAGE - 2) / BB_PAGE + 1;
}

static inline bool is_empty(const struct bb_kv_runs *a) {
	return a->n_seqs == 0 || a->n_kv_heads == 0 || a->max_tokens == 0;
}
