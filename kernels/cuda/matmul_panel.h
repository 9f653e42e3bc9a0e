/* SPDX-License-Identifier: Apache-2.0
 *
 * The layout `panels` of the device's matrix products: its geometry, for the host's C and for
 * device code. Weights lie in panels of 32 columns of the product (rows of the file), one for
 * each lane of a warp, so that 16 bytes a lane are 512 in a row. The last panel is filled up with
 * zero weights. A panel of a block type has as many bytes as its 32 rows have in the file.
 *
 * Block types: a panel is spans of 8 blocks of 32 elements (the last one may have fewer), and a
 * span of n_blocks is, one after the other,
 *     codes   [n_blocks][part][32 columns] 16 bytes. Q8_0: two parts, elements 0-15 and 16-31 as
 *             signed bytes. Others: one, byte e has element e in its low nibble and element 16 + e
 *             in its high one, as 0 to 15
 *     high    Q5: [n_blocks][32] u32, bit g of byte i belongs to element 4 g + i.
 *             Q6_K: [n_blocks][32] u64, bits 2 g, 2 g + 1 of byte i of half h to element
 *             16 h + 4 g + i
 *     scales  [n_blocks][32] f16 d, with a min: d, m. Q4_K, Q5_K: [32] d, m and the 12 bytes of
 *             scales as in the file. Q6_K: [32] int8 scale[16], then [32] f16 d
 * Four codes (a word) are what one lane of mma.m16n8k32 wants of a column, and a column's 16 bytes
 * are what one lane wants that multiplies a column by itself.
 *
 * Float types: [units][32 columns] 16 bytes, that is 8 or 4 elements along k, filled up with zeros;
 * units of 16-bit types are a multiple of 4, and column c of unit u is at c ^ 2 (u % 4), so that a
 * warp's reads of 8 columns and 4 units meet no bank twice.
 *
 * Prepared x, a row after the other. Block types: int8 q [k], then for each block of 32 { f32 s;
 * int16 sum of q's first 16, of the others }, then zeros up to 16 bytes; see kernels/matmul.c for q
 * and s. f32: [k], then zeros up to 16 bytes. For 16-bit weights [k] is filled up to 32 elements:
 *     bf16    x in bf16
 *     f16     x / scale in f16, then what that misses of it, in f16, then f32 scale and 12 bytes of
 *             zeros: scale is the power of two that brings the row's largest to 2^14 or above,
 *             below 2^15. The two together have 22 bits.
 * panels_wgmma has them, from BB_WGMMA_ROWS rows on, with every 32 elements in the order of the two
 * steps of 16 of matmul_float.cu: see panel_place_in_steps. */
#ifndef MATMUL_PANEL_H
#define MATMUL_PANEL_H

#include "../kernels.h"

#ifdef __CUDACC__
#define PANEL_FN static constexpr __host__ __device__ inline
#elif defined(__cplusplus)
#define PANEL_FN static constexpr inline
#else
#define PANEL_FN static inline
#endif

enum { PANEL = 32, SPAN = 8, SPAN_K = 32 * SPAN };

PANEL_FN bool panel_is_k(int type) {
	return type == BB_Q4_K || type == BB_Q5_K || type == BB_Q6_K;
}

PANEL_FN bool panel_has_min(int type) {
	return type == BB_Q4_1 || type == BB_Q5_1 || type == BB_Q4_K || type == BB_Q5_K;
}

PANEL_FN bool panel_is_float(int type) {
	return type == BB_F32 || type == BB_F16 || type == BB_BF16;
}

/* What is subtracted from a code. */
PANEL_FN int panel_offset(int type) {
	return type == BB_Q4_0 ? 8 : type == BB_Q5_0 ? 16 : type == BB_Q6_K ? 32 : 0;
}

/* Bytes of a block of one column. */
PANEL_FN int panel_code_bytes(int type) {
	return type == BB_Q8_0 ? 32 : 16;
}

PANEL_FN int panel_high_bytes(int type) {
	return type == BB_Q5_0 || type == BB_Q5_1 || type == BB_Q5_K ? 4 : type == BB_Q6_K ? 8 : 0;
}

/* Of a column: for each block, or for K-quants for each span. */
PANEL_FN int panel_scale_bytes(int type) {
	return type == BB_Q6_K ? 18 : panel_is_k(type) ? 16 : panel_has_min(type) ? 4 : 2;
}

PANEL_FN int panel_high_at(int type, int n_blocks) {
	return PANEL * n_blocks * panel_code_bytes(type);
}

PANEL_FN int panel_scale_at(int type, int n_blocks) {
	return PANEL * n_blocks * (panel_code_bytes(type) + panel_high_bytes(type));
}

PANEL_FN int panel_span_bytes(int type, int n_blocks) {
	return panel_scale_at(type, n_blocks)
		+ PANEL * panel_scale_bytes(type) * (panel_is_k(type) ? 1 : n_blocks);
}

/* Where Q6_K has its d. */
PANEL_FN int panel_d_at(int type, int n_blocks) {
	return panel_scale_at(type, n_blocks) + PANEL * 16;
}

/* Elements of a float type in 16 bytes, and how many such units a row has. */
PANEL_FN int panel_unit_elems(int type) {
	return type == BB_F32 ? 4 : 8;
}

PANEL_FN int panel_units(int type, int k) {
	return type == BB_F32 ? (k + 3) / 4 : (k + 31) / 32 * 4;
}

/* Where a column's 16 bytes are in unit u. */
PANEL_FN int panel_place(int type, int u, int column) {
	return type == BB_F32 ? column : column ^ u % 4 * 2;
}

PANEL_FN size_t panel_bytes(int type, int k) {
	return panel_is_float(type) ? (size_t)panel_units(type, k) * PANEL * 16
		: (size_t)(k / SPAN_K) * (size_t)panel_span_bytes(type, SPAN)
			+ (size_t)(k % SPAN_K > 0 ? panel_span_bytes(type, k % SPAN_K / 32) : 0);
}

PANEL_FN int n_panels(int n) {
	return (n + PANEL - 1) / PANEL;
}

/* Where element i of x is in the order of steps: a step takes 4 elements of each unit of 8, as the
 * lanes of an mma hold them: pairs 2 t and 2 t + 8 of lane t. */
PANEL_FN int panel_place_in_steps(int i) {
	return i / 32 * 32 + i / 4 % 2 * 16 + i / 2 % 2 * 8 + i / 8 % 4 * 2 + i % 2;
}

/* Elements of a row of x for 16-bit weights. */
PANEL_FN int panel_x_elems(int k) {
	return (k + 31) / 32 * 32;
}

PANEL_FN size_t panel_x_row_bytes(int type, int k) {
	return type == BB_F32 ? ((size_t)k + 3) / 4 * 16
		: type == BB_BF16 ? (size_t)panel_x_elems(k) * 2
		: type == BB_F16 ? (size_t)panel_x_elems(k) * 4 + 16
		: (size_t)k + ((size_t)(k / 32) * 8 + 15) / 16 * 16;
}

#ifdef __cplusplus
extern "C" {
#endif
/* Members of the layouts: pack and prep run on the device, unpack_row on the host. */
void panels_pack(bb_queue *q, void *dst, enum bb_dtype type, int n, int k, const void *src,
	int first, int n_rows, const int32_t *map);
void panels_prep(bb_queue *q, void *dst, enum bb_dtype type, const float *x, int ld_x, int n_rows,
	int k);
void panels_prep_steps(bb_queue *q, void *dst, enum bb_dtype type, const float *x, int ld_x,
	int n_rows, int k);
bool panels_fuses(enum bb_dtype type);
void panels_prep_fused(bb_queue *q, void *dst, enum bb_dtype type, const struct bb_fused_x *x,
	int n_rows, int k);
void panels_product(bb_queue *q, const struct bb_fused_product *p);
/* .._pairs is the name where x is rounded to bf16; panels_wgmma is for 16-bit weights alone. */
extern const struct bb_layout layout_panels, layout_panels_pairs;
extern const struct bb_layout layout_panels_wgmma, layout_panels_wgmma_pairs;
#ifdef __cplusplus
}
#endif

#endif
