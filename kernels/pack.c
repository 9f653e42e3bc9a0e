/* SPDX-License-Identifier: Apache-2.0
 *
 * Packs weights into the layout p16 (see p16.h) and takes rows out of it again. The form of x is
 * written by the x86 files. */
#include "p16.h"

#include <assert.h>
#include <string.h>

/* A matrix in p16, or a part of it that is being written. */
struct packing {
	enum bb_dtype type;
	bool is_pairs;
	int n, k;
	uint8_t *dst;
	size_t panel_bytes;
	const uint8_t *src;
	size_t row_bytes;     /* of src */
	int first, n_rows;
	const int32_t *map;
};

/* ---- block types ---- */

/* Where block i_block of a panel lies, and the header above it. */
static size_t block_at(enum bb_dtype type, int i_block, size_t *header) {
	const int per = p16_header_blocks(type), bytes = p16_block_bytes(type);
	*header = (size_t)(i_block / per) * (size_t)(p16_header_bytes(type) + per * bytes);
	return *header + (size_t)(p16_header_bytes(type) + i_block % per * bytes);
}

static void put_u32(uint8_t *p, uint32_t v) {
	memcpy(p, &v, sizeof(v));
}

static uint32_t get_u32(const uint8_t *p) {
	uint32_t v;
	memcpy(&v, p, sizeof(v));
	return v;
}

static void put_codes(uint8_t *block, enum bb_dtype type, int lane, const uint32_t c[8]) {
	uint8_t *p = block + 4 * lane, *high = block + p16_high_at(type) + 4 * lane;
	if (type == BB_Q8_0) {
		for (int g = 0; g < 8; g++) {
			put_u32(p + 64 * g, c[g]);
		}
		return;
	}
	for (int z = 0; z < 4; z++) {
		put_u32(p + 64 * z, (c[2 * z] & 0x0f0f0f0fu) | (c[2 * z + 1] & 0x0f0f0f0fu) << 4);
	}
	if (type == BB_Q6_K) {
		uint32_t bits[2] = { 0 };
		for (int g = 0; g < 8; g++) {
			bits[g / 4] |= (c[g] >> 4 & 0x03030303u) << g % 4 * 2;
		}
		put_u32(high, bits[0]);
		put_u32(high + 64, bits[1]);
	} else if (p16_scale_at(type) != p16_high_at(type)) {
		uint32_t bits = 0;
		for (int g = 0; g < 8; g++) {
			bits |= (c[g] >> 4 & 0x01010101u) << g;
		}
		put_u32(high, bits);
	}
}

static void get_codes(uint32_t c[8], const uint8_t *block, enum bb_dtype type, int lane) {
	const uint8_t *p = block + 4 * lane, *high = block + p16_high_at(type) + 4 * lane;
	const bool has_fifth = type != BB_Q6_K && p16_scale_at(type) != p16_high_at(type);
	for (int g = 0; g < 8; g++) {
		if (type == BB_Q8_0) {
			c[g] = get_u32(p + 64 * g);
			continue;
		}
		c[g] = get_u32(p + g / 2 * 64) >> g % 2 * 4 & 0x0f0f0f0fu;
		if (type == BB_Q6_K) {
			c[g] |= (get_u32(high + g / 4 * 64) >> g % 4 * 2 & 0x03030303u) << 4;
		} else if (has_fifth) {
			c[g] |= (get_u32(high) >> g & 0x01010101u) << 4;
		}
	}
}

static void put_quant_row(uint8_t *panel, enum bb_dtype type, int k, int lane, const void *row) {
	struct quant_block b = { 0 };
	for (int i = 0; i < k / 32; i++) {
		size_t at_header;
		uint8_t *block = panel + block_at(type, i, &at_header);
		uint8_t *scales = block + p16_scale_at(type);
		if (row != NULL) {
			quant_get(&b, type, row, i);
		}
		put_codes(block, type, lane, b.codes);
		uint8_t *d = scales;
		if (quant_is_k(type)) {
			d = panel + at_header;
			scales[lane] = b.scales[0];
			scales[16 + lane] = type == BB_Q6_K ? b.scales[1] : b.min;
		}
		memcpy(d + 2 * lane, &b.d, 2);
		if (quant_has_min(type)) {
			memcpy(d + 32 + 2 * lane, &b.m, 2);
		}
	}
}

static void get_quant_row(void *row, const uint8_t *panel, enum bb_dtype type, int k, int lane) {
	for (int i = 0; i < k / 32; i++) {
		struct quant_block b = { 0 };
		size_t at_header;
		const uint8_t *block = panel + block_at(type, i, &at_header);
		const uint8_t *scales = block + p16_scale_at(type), *d = scales;
		get_codes(b.codes, block, type, lane);
		if (quant_is_k(type)) {
			d = panel + at_header;
			b.scales[0] = scales[lane];
			*(type == BB_Q6_K ? &b.scales[1] : &b.min) = scales[16 + lane];
		}
		memcpy(&b.d, d + 2 * lane, 2);
		if (quant_has_min(type)) {
			memcpy(&b.m, d + 32 + 2 * lane, 2);
		}
		quant_put(row, type, i, &b);
	}
}

/* ---- float types ---- */

/* Where element (i, lane) of a panel lies. */
static size_t element_at(const struct packing *p, int i, int lane) {
	const size_t bytes = p->type == BB_F32 ? 4 : 2;
	if (p->is_pairs) {
		return ((size_t)(i / 2) * P16_ROWS + (size_t)lane) * 4 + (size_t)(i % 2) * 2;
	}
	return ((size_t)i * P16_ROWS + (size_t)lane) * bytes;
}

static void put_float_row(const struct packing *p, uint8_t *panel, int lane, const uint8_t *row) {
	const uint32_t zero = 0;
	const size_t bytes = p->type == BB_F32 ? 4 : 2;
	for (int i = 0; i < p->k; i++) {
		const void *from = row != NULL ? (const void *)(row + (size_t)i * bytes) : &zero;
		if (bytes == 4) {
			memcpy(panel + element_at(p, i, lane), from, 4);
		} else {
			memcpy(panel + element_at(p, i, lane), from, 2);
		}
	}
	if (p->is_pairs && p->k % 2 != 0) {
		memcpy(panel + element_at(p, p->k, lane), &zero, 2);
	}
}

/* ---- both ---- */

static void put_row(const struct packing *p, uint8_t *panel, int lane, const uint8_t *row) {
	if (quant_is_block(p->type)) {
		put_quant_row(panel, p->type, p->k, lane, row);
	} else {
		put_float_row(p, panel, lane, row);
	}
}

static void pack_panels(const void *arg, int begin, int end) {
	const struct packing *p = arg;
	for (int i = begin; i < end; i++) {
		const int row0 = (p->first / P16_ROWS + i) * P16_ROWS;
		uint8_t *panel = p->dst + (size_t)(row0 / P16_ROWS) * p->panel_bytes;
		for (int lane = 0; lane < P16_ROWS; lane++) {
			const int row = row0 + lane, from = row - p->first;
			if (from >= 0 && from < p->n_rows) {
				const size_t mapped = (size_t)(p->map != NULL ? p->map[from] : from);
				put_row(p, panel, lane, p->src + mapped * p->row_bytes);
			} else if (row >= p->n && p->first + p->n_rows == p->n) {
				put_row(p, panel, lane, NULL);
			}
		}
	}
}

static void pack(bb_queue *q, struct packing *p) {
	assert(p->first >= 0 && p->n_rows >= 0 && p->first + p->n_rows <= p->n);
	if (p->n_rows == 0) {
		return;
	}
	p->row_bytes = dtype_row_bytes(p->type, p->k);
	const int last = (p->first + p->n_rows - 1) / P16_ROWS;
	queue_run(q, pack_panels, p, last - p->first / P16_ROWS + 1, 4);
}

static void unpack_row(void *dst, const struct packing *p, int row) {
	const uint8_t *panel = p->dst + (size_t)(row / P16_ROWS) * p->panel_bytes;
	const int lane = row % P16_ROWS;
	if (quant_is_block(p->type)) {
		get_quant_row(dst, panel, p->type, p->k, lane);
		return;
	}
	const size_t bytes = p->type == BB_F32 ? 4 : 2;
	for (int i = 0; i < p->k; i++) {
		memcpy((uint8_t *)dst + (size_t)i * bytes, panel + element_at(p, i, lane), bytes);
	}
}

static size_t n_panels(int n) {
	return ((size_t)n + P16_ROWS - 1) / P16_ROWS;
}

size_t p16_panel_bytes(enum bb_dtype type, int k) {
	if (!quant_is_block(type)) {
		return (size_t)k * P16_ROWS * (type == BB_F32 ? 4 : 2);
	}
	const int per = p16_header_blocks(type), n_blocks = k / 32;
	assert(k % 32 == 0 && n_blocks % per == 0);
	return (size_t)n_blocks * (size_t)p16_block_bytes(type)
		+ (size_t)(n_blocks / per) * (size_t)p16_header_bytes(type);
}

size_t p16_pairs_panel_bytes(enum bb_dtype type, int k) {
	assert(type == BB_BF16);
	return ((size_t)k + 1) / 2 * P16_ROWS * 4;
}

size_t p16_x_row_bytes(enum bb_dtype type, int k) {
	return quant_is_block(type) ? (size_t)(k / 32) * (size_t)p16_x_block_bytes(type)
		: (size_t)k * sizeof(float);
}

size_t p16_pairs_x_row_bytes(enum bb_dtype type, int k) {
	return ((size_t)k + 1) / 2 * 4;
}

size_t p16_weight_bytes(enum bb_dtype type, int n, int k) {
	return n_panels(n) * p16_panel_bytes(type, k);
}

void p16_pack(bb_queue *q, void *dst, enum bb_dtype type, int n, int k, const void *src, int first,
	int n_rows, const int32_t *map) {
	struct packing p = { .type = type, .n = n, .k = k, .dst = dst, .src = src, .first = first,
		.n_rows = n_rows, .map = map, .panel_bytes = p16_panel_bytes(type, k) };
	pack(q, &p);
}

void p16_unpack_row(void *dst, const void *packed, enum bb_dtype type, int n, int k, int row) {
	const struct packing p = { .type = type, .n = n, .k = k, .dst = (uint8_t *)packed,
		.panel_bytes = p16_panel_bytes(type, k) };
	unpack_row(dst, &p, row);
}

size_t p16_prep_bytes(enum bb_dtype type, int n_rows, int k) {
	return (size_t)n_rows * p16_x_row_bytes(type, k);
}

size_t p16_pairs_weight_bytes(enum bb_dtype type, int n, int k) {
	return n_panels(n) * p16_pairs_panel_bytes(type, k);
}

void p16_pairs_pack(bb_queue *q, void *dst, enum bb_dtype type, int n, int k, const void *src,
	int first, int n_rows, const int32_t *map) {
	struct packing p = { .type = type, .is_pairs = true, .n = n, .k = k, .dst = dst, .src = src,
		.first = first, .n_rows = n_rows, .map = map,
		.panel_bytes = p16_pairs_panel_bytes(type, k) };
	pack(q, &p);
}

void p16_pairs_unpack_row(void *dst, const void *packed, enum bb_dtype type, int n, int k,
	int row) {
	const struct packing p = { .type = type, .is_pairs = true, .n = n, .k = k,
		.dst = (uint8_t *)packed, .panel_bytes = p16_pairs_panel_bytes(type, k) };
	unpack_row(dst, &p, row);
}

size_t p16_pairs_prep_bytes(enum bb_dtype type, int n_rows, int k) {
	return (size_t)n_rows * p16_pairs_x_row_bytes(type, k);
}
