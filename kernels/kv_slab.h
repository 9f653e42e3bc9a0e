/* SPDX-License-Identifier: Apache-2.0
 *
 * Inside kernels/ only: where things lie in a KV slab, for the layouts that write it and the
 * attention kernels that read it. A slab is a K plane, then a V plane; a plane is the elements of
 * 64 tokens, then, for int8, the f32 scales. Each part starts on a multiple of 64 bytes.
 *
 *   kv_rows    [64][head_dim]; scales [64][groups], V has one group
 *   kv_padded  [64][vd]; scales as kv_rows; a device's
 *   kv_lanes   K [64 / 16][kd][16 tokens], V [64][vd]; int8: K (u8 = k + 128)
 *              [64 / 16][kd / 4][16 tokens][4], V [64 / 4][vd][4 tokens]; scales [groups][64],
 *              V has one group
 *   kv_pairs   f16 and bf16 only: K [64 / 16][kd / 2][16 tokens][2], V [64 / 2][vd][2 tokens]
 *
 * kd is head_dim rounded up to 4, vd to 16; the padding holds zeros (K of int8: 128). */
#ifndef KV_SLAB_H
#define KV_SLAB_H

#include "kernels.h"

#ifdef __cplusplus /* the device modules */
extern "C" {
#endif

struct kv_plane {
	size_t scales; /* offset from the plane's start; 0 for types without scales */
	size_t bytes;
};

static inline int kv_kd(int head_dim) {
	return (head_dim + 3) & ~3;
}

static inline int kv_vd(int head_dim) {
	return (head_dim + 15) & ~15;
}

static inline int kv_group_width(int head_dim, int group) {
	return group == 0 ? head_dim : group;
}

static inline int kv_n_groups(int head_dim, int group) {
	const int width = kv_group_width(head_dim, group);
	return (head_dim + width - 1) / width;
}

static inline int kv_elem_bytes(enum bb_kv_dtype type) {
	return type == KV_F32 ? 4 : type == KV_INT8 ? 1 : 2;
}

/* A plane of 64 rows of `width` elements. */
static inline struct kv_plane kv_plane_of(enum bb_kv_dtype type, int width, int n_groups) {
	struct kv_plane p = { 0, ((size_t)BB_PAGE * width * kv_elem_bytes(type) + 63) & ~(size_t)63 };
	if (type == KV_INT8) {
		p.scales = p.bytes;
		p.bytes += (size_t)BB_PAGE * n_groups * sizeof(float);
	}
	return p;
}

/* x[n] to integers in [-127, 127]; returns the scale. A non-finite x gives a NaN scale, so that the
 * damage shows in the rows that see it. */
float kv_quantise(int8_t *y, const float *x, int n);

/* Row `slot` of a plane of 64 rows of `width` elements, then scales [64][groups]: quantises as the
 * type says; elements from head_dim on become zeros. And the inverse. */
void kv_store_row(uint8_t *plane, enum bb_kv_dtype type, int width, int head_dim, int group,
	int slot, const float *x);
void kv_load_row(float *x, const uint8_t *plane, enum bb_kv_dtype type, int width, int head_dim,
	int group, int slot);
/* Row to_slot of one plane = row from_slot of another (or the same), with its scales. */
void kv_copy_row(uint8_t *to, int to_slot, const uint8_t *from, int from_slot,
	enum bb_kv_dtype type, int width, int n_groups);

/* kv_padded as struct bb_kv_layout has it, on memory of the host. */
size_t kv_padded_bytes(enum bb_kv_dtype type, int head_dim, int group);
void kv_padded_append(void *slab, enum bb_kv_dtype type, int head_dim, int group, int slot,
	const float *k, const float *v);
void kv_padded_read(const void *slab, enum bb_kv_dtype type, int head_dim, int group, int slot,
	float *k, float *v);
void kv_padded_copy(void *to, int to_slot, const void *from, int from_slot, enum bb_kv_dtype type,
	int head_dim, int group);

#ifdef __cplusplus
}
#endif

#endif
