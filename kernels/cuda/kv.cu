/* SPDX-License-Identifier: Apache-2.0
 *
 * Keys and values on their way into a device's pages: the order of a slab there, kv_padded
 * (kv_slab.h), and the kernel that appends the rows of a step. */
#include "attention.cuh"
#include "matmul_panel.h"
#include "module.h"

#include <assert.h>

enum { APPEND_WARPS = 4 };

struct append_job {
	struct bb_kv_append a;
	int width, n_groups, group_width;
	unsigned k_bytes, k_scales, v_scales; /* of a plane; offsets of scales in their planes */
};

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

/* A warp turns a head of q in place. */
DEVICE void turn(float *x, const struct source &s) {
	for (int i = (int)threadIdx.x % WARP; i < s.n_pairs; i += WARP) {
		const float a = value_of(s, i), b = value_of(s, i + s.n_pairs);
		x[i] = a;
		x[i + s.n_pairs] = b;
	}
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

/* grid: rows, pieces of kv heads times K and V, then of heads of q to be turned; a warp takes one
 * row of one of them */
__global__ void __launch_bounds__(APPEND_WARPS *WARP)
	kv_append_rows(const __grid_constant__ struct append_job job) {
	const struct bb_kv_append &a = job.a;
	const int item = (int)blockIdx.y * APPEND_WARPS + (int)threadIdx.x / WARP;
	const int head = item / 2, n_kv = 2 * a.n_kv_heads, n_items = n_kv + (a.cs ? a.n_heads : 0);
	const bool is_v = item % 2 != 0;
	const struct found_rows found = find_rows(a.seqs, a.n_seqs, 1, 1, (int)blockIdx.x);
	if (found.seq == NULL || item >= n_items) {
		return;
	}
	const size_t at = (size_t)(found.seq->row0 + found.row0);
	struct source s = { NULL, a.cs ? a.cs + at * a.n_pairs * 2 : NULL, a.head_dim, a.n_pairs };
	if (item >= n_kv) {
		float *q = a.q + at * a.ld + (size_t)(item - n_kv) * a.head_dim;
		s.x = q;
		turn(q, s);
		return;
	}
	const struct bb_kept *kept = &found.seq->groups[a.kv_heads[head].i_group];
	const int token = kept->n_before + found.row0, page = token / BB_PAGE, slot = token % BB_PAGE;
	uint8_t *plane = (uint8_t *)kept->chunks[page / BB_CHUNK][page % BB_CHUNK]
		+ a.kv_heads[head].slab_offset + (is_v ? job.k_bytes : 0);
	s.x = (is_v ? a.v : a.k) + at * a.ld + (size_t)head * a.head_dim;
	s.cs = is_v ? NULL : s.cs;
	if (a.type == KV_INT8) {
		float *scales = (float *)(plane + (is_v ? job.v_scales : job.k_scales));
		append_int8((uint32_t *)(plane + slot * job.width),
			scales + slot * (is_v ? 1 : job.n_groups), s, job.width,
			is_v ? a.head_dim : job.group_width);
	} else {
		uint8_t *row = plane + (size_t)slot * job.width * (a.type == KV_F32 ? 4 : 2);
		append_float((uint32_t *)row, s, a.type, job.width);
	}
}

static void append_rows(bb_queue *q, const struct bb_kv_append *a) {
	const int width = kv_vd(a->head_dim), n_groups = kv_n_groups(a->head_dim, a->kv_group);
	const struct kv_plane k = kv_plane_of(a->type, width, n_groups);
	const struct kv_plane v = kv_plane_of(a->type, width, 1);
	assert(a->kv_group % 4 == 0);
	const struct append_job job = { *a, width, n_groups, kv_group_width(a->head_dim, a->kv_group),
		(unsigned)k.bytes, (unsigned)k.scales, (unsigned)v.scales };
	const int n_items = 2 * a->n_kv_heads + (a->cs != NULL ? a->n_heads : 0);
	if (a->n_rows > 0) {
		LAUNCH(kv_append_rows, dim3((unsigned)a->n_rows, blocks_for((size_t)n_items, APPEND_WARPS)),
			APPEND_WARPS * WARP, 0, q->stream, job);
		queue_launched(q, "kv_append_rows");
	}
}

/* ---- the layout ---- */

static size_t slab_bytes(enum bb_kv_dtype type, int head_dim, int group) {
	const int width = kv_vd(head_dim);
	return kv_plane_of(type, width, kv_n_groups(head_dim, group)).bytes +
		kv_plane_of(type, width, 1).bytes;
}

static void append(void *slab, enum bb_kv_dtype type, int head_dim, int group, int slot,
	const float *k, const float *v) {
	const int width = kv_vd(head_dim);
	uint8_t *planes = (uint8_t *)slab;
	kv_store_row(planes, type, width, head_dim, group, slot, k);
	planes += kv_plane_of(type, width, kv_n_groups(head_dim, group)).bytes;
	kv_store_row(planes, type, width, head_dim, 0, slot, v);
}

static void read(const void *slab, enum bb_kv_dtype type, int head_dim, int group, int slot,
	float *k, float *v) {
	const int width = kv_vd(head_dim);
	const uint8_t *planes = (const uint8_t *)slab;
	kv_load_row(k, planes, type, width, head_dim, group, slot);
	planes += kv_plane_of(type, width, kv_n_groups(head_dim, group)).bytes;
	kv_load_row(v, planes, type, width, head_dim, 0, slot);
}

const struct bb_kv_layout layout_kv_padded = {
	"kv_padded", slab_bytes, append, read, append_rows, true, &layout_panels,
	attention_device_scratch_bytes,
};
