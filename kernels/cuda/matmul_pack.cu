/* SPDX-License-Identifier: Apache-2.0
 *
 * Packing weights into the layout `panels` on the device. */
#include "matmul_panel.h"
#include "module.h"

#include <assert.h>

enum { THREADS = 256, WARPS = THREADS / WARP, LOW4 = 0x0f0f0f0f, LOW2 = 0x03030303,
	LOW1 = 0x01010101 };

struct pack_args {
	uint8_t *dst;
	const uint8_t *src;
	const int32_t *map;
	size_t row_bytes, panel_bytes;
	int type, n, k, first, n_rows;
};

/* The file's row for a lane of a panel. *is_written: whether this call fills the lane at all. */
DEVICE const uint8_t *source_row(const pack_args &p, int row, bool *is_written) {
	const int from = row - p.first;
	const bool is_inside = from >= 0 && from < p.n_rows;
	*is_written = is_inside || (row >= p.n && p.first + p.n_rows == p.n);
	if (!is_inside) {
		return NULL;
	}
	return p.src + (size_t)(p.map != NULL ? p.map[from] : from) * p.row_bytes;
}

/* Blocks of the file are aligned to 2 bytes. */
DEVICE uint32_t u32_at(const uint8_t *p) {
	const uint16_t *h = (const uint16_t *)p;
	return h[0] | (uint32_t)h[1] << 16;
}

DEVICE uint32_t spread_bits(uint32_t nibble) {
	return nibble * 0x00204081u & LOW1;
}

/* Codes of a block with one header of its own; p: the file's block. */
DEVICE void file_codes(uint32_t c[8], int type, const uint8_t *p) {
	const bool is_5_bit = type == BB_Q5_0 || type == BB_Q5_1;
	const uint8_t *q = p + (panel_has_min(type) ? 4 : 2) + (is_5_bit ? 4 : 0);
	for (int g = 0; g < 8; g++) {
		c[g] = type == BB_Q8_0 ? u32_at(q + 4 * g) : u32_at(q + g % 4 * 4) >> g / 4 * 4 & LOW4;
		if (is_5_bit) {
			c[g] |= spread_bits(u32_at(q - 4) >> 4 * g & 15) << 4;
		}
	}
}

/* Codes of block i of the eight of a K-quant; see kernels/quant.c. */
DEVICE void file_k_codes(uint32_t c[8], int type, const uint8_t *p, int i) {
	for (int g = 0; g < 8; g++) {
		if (type == BB_Q6_K) {
			const uint8_t *low = p + i / 4 * 64 + i % 2 * 32, *high = p + 128 + i / 4 * 32;
			const int j = i % 4;
			c[g] = (u32_at(low + 4 * g) >> j / 2 * 4 & LOW4)
				| (u32_at(high + 4 * g) >> 2 * j & LOW2) << 4;
			continue;
		}
		const uint8_t *q = p + (type == BB_Q5_K ? 48 : 16) + i / 2 * 32 + 4 * g;
		c[g] = u32_at(q) >> i % 2 * 4 & LOW4;
		if (type == BB_Q5_K) {
			c[g] |= (u32_at(p + 16 + 4 * g) >> i & LOW1) << 4;
		}
	}
}

DEVICE void put_codes(uint8_t *span, int type, int n_blocks, int b, int lane,
	const uint32_t c[8]) {
	uint8_t *at = span + b * PANEL * panel_code_bytes(type) + lane * 16;
	uint8_t *high = span + panel_high_at(type, n_blocks) + (b * PANEL + lane)
		* panel_high_bytes(type);
	if (type == BB_Q8_0) {
		st_vec((uint4 *)at, make_uint4(c[0], c[1], c[2], c[3]));
		st_vec((uint4 *)(at + PANEL * 16), make_uint4(c[4], c[5], c[6], c[7]));
		return;
	}
	uint32_t low[4], bits[2] = { 0, 0 };
	for (int g = 0; g < 4; g++) {
		low[g] = (c[g] & LOW4) | (c[g + 4] & LOW4) << 4;
	}
	st_vec((uint4 *)at, make_uint4(low[0], low[1], low[2], low[3]));
	if (panel_high_bytes(type) == 4) {
		for (int g = 0; g < 8; g++) {
			bits[0] |= (c[g] >> 4 & LOW1) << g;
		}
		st_vec((uint32_t *)high, bits[0]);
	} else if (panel_high_bytes(type) == 8) {
		for (int g = 0; g < 8; g++) {
			bits[g / 4] |= (c[g] >> 4 & LOW2) << g % 4 * 2;
		}
		st_vec((uint2 *)high, make_uint2(bits[0], bits[1]));
	}
}

/* p: the file's block, NULL for a lane of zeros. */
DEVICE void put_scales(uint8_t *span, int type, int n_blocks, int b, int lane, const uint8_t *p) {
	uint8_t *at = span + panel_scale_at(type, n_blocks);
	if (!panel_is_k(type)) {
		const int bytes = panel_scale_bytes(type);
		uint16_t *d = (uint16_t *)(at + (b * PANEL + lane) * bytes);
		for (int i = 0; i < bytes / 2; i++) {
			d[i] = p != NULL ? ((const uint16_t *)p)[i] : 0;
		}
	} else if (b == 0) {
		const uint8_t *header = type == BB_Q6_K ? p + 192 : p;
		uint32_t w[4] = { 0, 0, 0, 0 };
		for (int i = 0; p != NULL && i < 4; i++) {
			w[i] = u32_at(header + 4 * i);
		}
		st_vec((uint4 *)(at + 16 * lane), make_uint4(w[0], w[1], w[2], w[3]));
		if (type == BB_Q6_K) {
			uint16_t *d = (uint16_t *)(span + panel_d_at(type, n_blocks));
			d[lane] = p != NULL ? *(const uint16_t *)(p + 208) : 0;
		}
	}
}

/* A warp packs one block of 32 elements of a panel. */
__global__ void __launch_bounds__(THREADS) pack_quant(pack_args p, int block_bytes) {
	const int lane = threadIdx.x % WARP, i = blockIdx.x * WARPS + threadIdx.x / WARP;
	const int panel = p.first / PANEL + blockIdx.y, n_blocks = p.k / 32;
	bool is_written;
	const uint8_t *row = source_row(p, panel * PANEL + lane, &is_written);
	if (i >= n_blocks || !is_written) {
		return;
	}
	const int per = panel_is_k(p.type) ? 8 : 1, b = i % SPAN;
	const int in_span = min((int)SPAN, n_blocks - i / SPAN * SPAN);
	uint8_t *span = p.dst + (size_t)panel * p.panel_bytes
		+ (size_t)(i / SPAN) * (size_t)panel_span_bytes(p.type, SPAN);
	const uint8_t *block = row != NULL ? row + (size_t)(i / per) * block_bytes : NULL;
	uint32_t c[8] = { 0, 0, 0, 0, 0, 0, 0, 0 };
	if (row != NULL && panel_is_k(p.type)) {
		file_k_codes(c, p.type, block, b);
	} else if (row != NULL) {
		file_codes(c, p.type, block);
	}
	put_codes(span, p.type, in_span, b, lane, c);
	put_scales(span, p.type, in_span, b, lane, block);
}

/* A warp packs 16 bytes of each column of a panel. */
__global__ void __launch_bounds__(THREADS) pack_float(pack_args p) {
	const int lane = threadIdx.x % WARP, u = blockIdx.x * WARPS + threadIdx.x / WARP;
	const int panel = p.first / PANEL + blockIdx.y, per = panel_unit_elems(p.type);
	bool is_written;
	const uint8_t *row = source_row(p, panel * PANEL + lane, &is_written);
	if (u >= panel_units(p.type, p.k) || !is_written) {
		return;
	}
	uint32_t w[4] = { 0, 0, 0, 0 };
	for (int i = 0; row != NULL && i < per && u * per + i < p.k; i++) {
		const int e = u * per + i;
		if (p.type == BB_F32) {
			w[i] = u32_at(row + 4 * (size_t)e);
		} else {
			w[i / 2] |= (uint32_t)((const uint16_t *)row)[e] << i % 2 * 16;
		}
	}
	uint8_t *at = p.dst + (size_t)panel * p.panel_bytes
		+ ((size_t)u * PANEL + panel_place(p.type, u, lane)) * 16;
	st_vec((uint4 *)at, make_uint4(w[0], w[1], w[2], w[3]));
}

extern "C" void panels_pack(bb_queue *q, void *dst, enum bb_dtype type, int n, int k,
	const void *src, int first, int n_rows, const int32_t *map) {
	assert(first >= 0 && n_rows >= 0 && first + n_rows <= n);
	if (n_rows == 0) {
		return;
	}
	const pack_args p = { (uint8_t *)dst, (const uint8_t *)src, map, dtype_row_bytes(type, k),
		panel_bytes(type, k), type, n, k, first, n_rows };
	const unsigned panels = (unsigned)((first + n_rows - 1) / PANEL - first / PANEL + 1);
	if (panel_is_float(type)) {
		LAUNCH(pack_float, dim3(blocks_for(panel_units(type, k), WARPS), panels), THREADS, 0,
			q->stream, p);
	} else {
		LAUNCH(pack_quant, dim3(blocks_for(k / 32, WARPS), panels), THREADS, 0, q->stream, p,
			dtype_block_bytes(type));
	}
	queue_launched(q, "pack");
}
