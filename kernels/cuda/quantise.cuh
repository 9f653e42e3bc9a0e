/* SPDX-License-Identifier: Apache-2.0
 *
 * Writing rows of x for products of block types (matmul_panel.h), a warp for each block of 32. */
#pragma once

#include "device.cuh"

/* A lane's element of block b of a row [k], quantised with the arithmetic of quant_x
 * (kernels/matmul.c) by a warp. row: in memory of the device or of the block. */
DEVICE void put_block(uint8_t *row, int k, int b, float x) {
	const int lane = (int)threadIdx.x % WARP;
	const uint32_t max = __reduce_max_sync(ALL_LANES, __float_as_uint(x) & 0x7fffffffu);
	const float s = __uint_as_float(max) / 127.0f;
	float v = x / (s == 0.0f ? 1.0f : s);
	v = v < 127.0f ? v : 127.0f;
	v = v > -127.0f ? v : -127.0f;
	const int q = __float2int_rn(v);
	const int sum = __reduce_add_sync(ALL_LANES, q);
	const int first = __reduce_add_sync(ALL_LANES, lane < 16 ? q : 0);
	row[b * 32 + lane] = (uint8_t)q;
	if (lane == 0) {
		const uint32_t sums = (uint32_t)(uint16_t)first | (uint32_t)(sum - first) << 16;
		st_vec((uint2 *)(row + k + 8 * b), make_uint2(__float_as_uint(s), sums));
	}
}

/* What fills a row up behind its last block. */
DEVICE void put_end(uint8_t *row, int k) {
	if (k / 32 % 2 != 0) {
		st_vec((uint2 *)(row + k + 8 * (k / 32)), make_uint2(0, 0));
	}
}
