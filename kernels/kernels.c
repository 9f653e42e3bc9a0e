/* SPDX-License-Identifier: Apache-2.0
 *
 * Expands kernels.def into the list of variants and the dispatcher. No arithmetic here. */
#include "kernels.h"

#include <assert.h>
#include <string.h>

/* A layout column of `none` becomes NULL, any other name &layout_<name>. */
#define LAYOUT_PTR_none NULL
#define LAYOUT_PTR_rows &layout_rows
#define LAYOUT_PTR_rows_q8 &layout_rows_q8
#define LAYOUT_PTR_p16_avx2 &layout_p16_avx2
#define LAYOUT_PTR_p16_avx512 &layout_p16_avx512
#define LAYOUT_PTR_p16_pairs &layout_p16_pairs
#define LAYOUT_PTR_kv_rows &layout_kv_rows
#define LAYOUT_PTR_kv_lanes &layout_kv_lanes
#define LAYOUT_PTR_kv_pairs &layout_kv_pairs

const struct bb_variant bb_variants[] = {
#define KERNEL(name, args)
#define VARIANT(name, tag, needs, layout) \
	{ #name, #tag, (void (*)(void))name##_##tag, needs, #layout, LAYOUT_PTR_##layout },
#include "kernels.def"
#undef KERNEL
#undef VARIANT
	{ 0 },
};

const struct bb_variant bb_gpu_variants[] = {
#define KERNEL(name, args)
#define VARIANT(name, tag, needs, layout)
#define GPU_VARIANT(name, tag, needs, layout) { #name, #tag, NULL, needs, #layout, NULL },
#include "kernels.def"
#undef KERNEL
#undef VARIANT
	{ 0 },
};

void bb_kernels_cpu(struct bb_kernels *k, unsigned flags) {
	memset(k, 0, sizeof(*k));
	k->flags = flags;
#define KERNEL(name, args)
#define VARIANT(name, tag, needs, layout) \
	if (((needs) & ~flags) == 0) { \
		k->name = name##_##tag; \
		k->name##_layout = LAYOUT_PTR_##layout; \
	}
#include "kernels.def"
#undef KERNEL
#undef VARIANT
}

matmul_fn *kernels_matmul(const struct bb_kernels *k, enum bb_dtype type,
	const struct bb_layout **layout) {
	switch (type) {
#define TYPE(dtype, suffix) \
	case dtype: \
		*layout = k->matmul_##suffix##_layout; \
		return k->matmul_##suffix;
		TYPE(BB_F32, f32)
		TYPE(BB_F16, f16)
		TYPE(BB_BF16, bf16)
		TYPE(BB_Q8_0, q8_0)
		TYPE(BB_Q4_0, q4_0)
		TYPE(BB_Q4_1, q4_1)
		TYPE(BB_Q5_0, q5_0)
		TYPE(BB_Q5_1, q5_1)
		TYPE(BB_Q4_K, q4_k)
		TYPE(BB_Q5_K, q5_k)
		TYPE(BB_Q6_K, q6_k)
#undef TYPE
	default:
		*layout = NULL;
		return NULL;
	}
}

attention_fn *kernels_attention(const struct bb_kernels *k, enum bb_kv_dtype type,
	const struct bb_kv_layout **layout) {
	switch (type) {
	case KV_F32:
		*layout = k->attention_f32_layout;
		return k->attention_f32;
	case KV_F16:
		*layout = k->attention_f16_layout;
		return k->attention_f16;
	case KV_BF16:
		*layout = k->attention_bf16_layout;
		return k->attention_bf16;
	case KV_INT8:
		*layout = k->attention_int8_layout;
		return k->attention_int8;
	}
	assert(!"unknown KV type");
	return NULL;
}
