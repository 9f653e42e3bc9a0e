/* SPDX-License-Identifier: Apache-2.0
 *
 * What all matrix products of the device are given, and how they all end. */
#pragma once

#include "matmul_panel.h"
#include "module.h"

struct matmul_args {
	static constexpr bool has_own_x = false; /* x is prepared */
	float *y;
	const uint8_t *w, *x;
	const float *bias;
	int ld_y, n_rows, n, k;
	bool accumulate;
};

/* Of a product that computes its x itself, the normalised rows of `from` [n_rows, ld]; and that,
 * where `gated` is not NULL, leaves the gated activation prepared there. */
struct fused_args : matmul_args {
	static constexpr bool has_own_x = true;
	const float *from, *norm;
	float eps;
	int ld;
	bool wide;
	uint8_t *gated;
	size_t gated_bytes; /* of a row */
	bool is_gelu;
};

/* Where the x and the y of an output row are. What else products run over has its own of these
 * two: see matmul_grouped.cuh. */
DEVICE const uint8_t *x_of(const matmul_args &p, int row, size_t row_bytes) {
	return p.x + (size_t)row * row_bytes;
}

DEVICE float *y_of(const matmul_args &p, int row) {
	return p.y + (size_t)row * p.ld_y;
}

/* from + n * bytes in one instruction. */
DEVICE const uint8_t *ahead(const uint8_t *from, unsigned n, unsigned bytes) {
	return from + (size_t)n * bytes;
}

/* What the row's numbers were divided by. */
template <int type, class args> DEVICE float row_scale(const args &p, int row) {
	if (type != BB_F16 || row >= p.n_rows) {
		return 1.0f;
	}
	const size_t row_bytes = panel_x_row_bytes(type, p.k);
	return ld_nc((const float *)(x_of(p, row, row_bytes) + row_bytes - 16));
}

template <class args> DEVICE void finish_output(const args &p, int row, int col, float acc) {
	if (row < p.n_rows && col < p.n) {
		float *y = y_of(p, row) + col;
		acc = p.bias != NULL ? acc + p.bias[col] : acc;
		*y = p.accumulate ? *y + acc : acc;
	}
}
