/* SPDX-License-Identifier: Apache-2.0
 *
 * The host's half of the layout `panels` (see matmul_panel.h): sizes, and taking a row out of a
 * copy of the packed bytes. */
#include "matmul_panel.h"
extern "C" {
#include "../quant.h"
}

#include <assert.h>
#include <string.h>

static size_t panels_weight_bytes(enum bb_dtype type, int n, int k) {
	assert(k % dtype_block_elems(type) == 0);
	return (size_t)n_panels(n) * panel_bytes(type, k);
}

static size_t panels_prep_bytes(enum bb_dtype type, int n_rows, int k) {
	return (size_t)n_rows * panel_x_row_bytes(type, k);
}

static uint32_t load_u32(const uint8_t *p) {
	uint32_t v;
	memcpy(&v, p, sizeof(v));
	return v;
}

/* Codes as quant.h has them. */
static void get_codes(uint32_t c[8], const uint8_t *span, enum bb_dtype type, int n_blocks, int b,
	int lane) {
	const uint8_t *codes = span + b * PANEL * panel_code_bytes(type) + lane * 16;
	const int high_bytes = panel_high_bytes(type);
	const uint8_t *high = span + panel_high_at(type, n_blocks) + (b * PANEL + lane) * high_bytes;
	for (int g = 0; g < 8; g++) {
		if (type == BB_Q8_0) {
			c[g] = load_u32(codes + g / 4 * PANEL * 16 + g % 4 * 4) ^ 0x80808080u;
			continue;
		}
		c[g] = load_u32(codes + g % 4 * 4) >> g / 4 * 4 & 0x0f0f0f0fu;
		if (high_bytes == 4) {
			c[g] |= (load_u32(high) >> g & 0x01010101u) << 4;
		} else if (high_bytes == 8) {
			c[g] |= (load_u32(high + g / 4 * 4) >> g % 4 * 2 & 0x03030303u) << 4;
		}
	}
}

static void get_scales(struct quant_block *out, const uint8_t *span, enum bb_dtype type,
	int n_blocks, int b, int lane) {
	const uint8_t *scales = span + panel_scale_at(type, n_blocks);
	if (type == BB_Q6_K) {
		memcpy(out->scales, scales + lane * 16 + 2 * b, 2);
		memcpy(&out->d, span + panel_d_at(type, n_blocks) + 2 * lane, 2);
		return;
	}
	if (!panel_is_k(type)) {
		scales += (b * PANEL + lane) * panel_scale_bytes(type);
		memcpy(&out->d, scales, 2);
		if (panel_has_min(type)) {
			memcpy(&out->m, scales + 2, 2);
		}
		return;
	}
	scales += lane * 16;
	memcpy(&out->d, scales, 2);
	memcpy(&out->m, scales + 2, 2);
	scales += 4;
	if (b < 4) {
		out->scales[0] = scales[b] & 63;
		out->min = scales[b + 4] & 63;
	} else {
		out->scales[0] = (uint8_t)((scales[b + 4] & 15) | scales[b - 4] >> 6 << 4);
		out->min = (uint8_t)(scales[b + 4] >> 4 | scales[b] >> 6 << 4);
	}
}

static void panels_unpack_row(void *dst, const void *packed, enum bb_dtype type, int n, int k,
	int row) {
	assert(row >= 0 && row < n);
	const int lane = row % PANEL;
	const uint8_t *panel = (const uint8_t *)packed + (size_t)(row / PANEL) * panel_bytes(type, k);
	if (panel_is_float(type)) {
		const size_t row_bytes = dtype_row_bytes(type, k);
		for (size_t at = 0; at < row_bytes; at += 16) {
			const size_t place = (size_t)panel_place(type, (int)(at / 16), lane);
			memcpy((uint8_t *)dst + at, panel + at * PANEL + place * 16,
				row_bytes - at < 16 ? row_bytes - at : 16);
		}
		return;
	}
	const int n_blocks = k / 32;
	for (int i = 0; i < n_blocks; i++) {
		const int left = n_blocks - i / SPAN * SPAN, in_span = left < SPAN ? left : SPAN;
		const uint8_t *span = panel + (size_t)(i / SPAN) * (size_t)panel_span_bytes(type, SPAN);
		struct quant_block b = {};
		get_codes(b.codes, span, type, in_span, i % SPAN, lane);
		get_scales(&b, span, type, in_span, i % SPAN, lane);
		quant_put(dst, type, i, &b);
	}
}

const struct bb_layout layout_panels = {
	"panels", panels_weight_bytes, panels_pack, panels_unpack_row, panels_prep_bytes, panels_prep,
	panels_fuses, panels_prep_fused, panels_product,
};
const struct bb_layout layout_panels_pairs = {
	"panels_pairs", panels_weight_bytes, panels_pack, panels_unpack_row, panels_prep_bytes,
	panels_prep, panels_fuses, panels_prep_fused, panels_product,
};
const struct bb_layout layout_panels_wgmma = {
	"panels_wgmma", panels_weight_bytes, panels_pack, panels_unpack_row, panels_prep_bytes,
	panels_prep_steps, panels_fuses, panels_prep_fused, panels_product,
};
const struct bb_layout layout_panels_wgmma_pairs = {
	"panels_wgmma_pairs", panels_weight_bytes, panels_pack, panels_unpack_row, panels_prep_bytes,
	panels_prep_steps, panels_fuses, panels_prep_fused, panels_product,
};
