/* SPDX-License-Identifier: Apache-2.0
 *
 * The layout p16: weights in panels of 16 rows, so that one 64-byte register accumulates 16
 * outputs and no sum across lanes is needed. This file owns its geometry; pack.c fills it, the
 * x86 kernels read it. The last panel is filled up with zero weights.
 *
 * Block types: a panel is [k / 32] blocks, for K-quants with a header before every eight:
 *     header   d f16 [16]; Q4_K, Q5_K: then m f16 [16]
 *     block    codes, high bits, scales
 *     codes    4-bit part: byte 64 z + 4 r + i has of row r element 8 z + i in its low nibble and
 *              element 8 z + 4 + i in its high one, z < 4; Q8_0: byte 64 g + 4 r + i is the code of
 *              element 4 g + i, g < 8
 *     high     bit above the nibble (Q5): bit g of byte 4 r + i belongs to element 4 g + i;
 *              two bits (Q6_K): bits 2 h, 2 h + 1 of byte 64 z + 4 r + i to element 16 z + 4 h + i
 *     scales   d f16 [16] and, with a min, m f16 [16]; K-quants: u8 scale [16], min [16]; Q6_K:
 *              int8 scale [2][16]
 * Float types: [k][16] elements; pairs (vdpbf16ps): [(k + 1) / 2][16][2].
 *
 * Prepared x: tiles of rows, as high as what is left allows: 8, 4, 2 or 1. A tile of R rows of a
 * block type is [k / 32] of { int8 q[8][R][4]; float s[R]; extra }, extra being s * sum(q) as
 * float[R] for types with a min, else int32[R] -offset * sum(q) (Q6_K: [2][R], one for each 16
 * elements); see matmul.c for q and s. Float types: f32 [k][R]; pairs: bf16 [(k + 1) / 2][R][2].
 * A row of x takes the same space in every tile. */
#ifndef P16_H
#define P16_H

#include "quant.h"

enum { P16_ROWS = 16, P16_TILE = 8 };

static inline int p16_high_at(enum bb_dtype type) {
	return type == BB_Q8_0 ? 512 : 256;
}

static inline int p16_scale_at(enum bb_dtype type) {
	const bool is_5_bit = type == BB_Q5_0 || type == BB_Q5_1 || type == BB_Q5_K;
	return p16_high_at(type) + (is_5_bit ? 64 : type == BB_Q6_K ? 128 : 0);
}

static inline int p16_block_bytes(enum bb_dtype type) {
	return p16_scale_at(type) + (quant_has_min(type) && !quant_is_k(type) ? 64 : 32);
}

static inline int p16_header_bytes(enum bb_dtype type) {
	return type == BB_Q6_K ? 32 : quant_is_k(type) ? 64 : 0;
}

/* Blocks that share a header. */
static inline int p16_header_blocks(enum bb_dtype type) {
	return quant_is_k(type) ? 8 : 1;
}

/* Of a block of x, for one row. */
static inline int p16_x_block_bytes(enum bb_dtype type) {
	return type == BB_Q6_K ? 44 : 40;
}

/* Rows of the tile that starts when n_left rows are left. */
static inline int p16_tile_rows(int n_left) {
	return n_left >= 8 ? 8 : n_left >= 4 ? 4 : n_left >= 2 ? 2 : 1;
}

/* Of 8, 4, 2 and 1. */
static inline int p16_tile_index(int n_rows) {
	return n_rows == 8 ? 0 : n_rows == 4 ? 1 : n_rows == 2 ? 2 : 3;
}

size_t p16_panel_bytes(enum bb_dtype type, int k);
size_t p16_pairs_panel_bytes(enum bb_dtype type, int k);
size_t p16_x_row_bytes(enum bb_dtype type, int k);
size_t p16_pairs_x_row_bytes(enum bb_dtype type, int k);

/* Members of struct bb_layout; `pairs` for bf16 in pairs along k. */
size_t p16_weight_bytes(enum bb_dtype type, int n, int k);
void p16_pack(bb_queue *q, void *dst, enum bb_dtype type, int n, int k, const void *src, int first,
	int n_rows, const int32_t *map);
void p16_unpack_row(void *dst, const void *packed, enum bb_dtype type, int n, int k, int row);
size_t p16_prep_bytes(enum bb_dtype type, int n_rows, int k);
size_t p16_pairs_weight_bytes(enum bb_dtype type, int n, int k);
void p16_pairs_pack(bb_queue *q, void *dst, enum bb_dtype type, int n, int k, const void *src,
	int first, int n_rows, const int32_t *map);
void p16_pairs_unpack_row(void *dst, const void *packed, enum bb_dtype type, int n, int k, int row);
size_t p16_pairs_prep_bytes(enum bb_dtype type, int n_rows, int k);

#endif
