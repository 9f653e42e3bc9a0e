/* SPDX-License-Identifier: Apache-2.0
 *
 * Writing rows of x for products of block types (matmul_panel.h), a warp for each block of 32, or
 * a quarter of a warp. */
#pragma once

#include "device.cuh"

/* Larger for larger |x|. */
DEVICE uint32_t size_bits(float x) {
	return __float_as_uint(x) & 0x7fffffffu;
}

DEVICE float block_scale(uint32_t most) {
	return __uint_as_float(most) / 127.0f;
}

DEVICE int quantised(float x, float s) {
	float v = x / (s == 0.0f ? 1.0f : s);
	v = v < 127.0f ? v : 127.0f;
	v = v > -127.0f ? v : -127.0f;
	return __float2int_rn(v);
}

/* A lane's element of block b of a row [k], quantised with the arithmetic of quant_x
 * (kernels/matmul.c) by a warp. row: in memory of the device or of the block. */
DEVICE void put_block(uint8_t *row, int k, int b, float x) {
	const int lane = (int)threadIdx.x % WARP;
	const float s = block_scale(__reduce_max_sync(ALL_LANES, size_bits(x)));
	const int q = quantised(x, s);
	const int sum = __reduce_add_sync(ALL_LANES, q);
	const int first = __reduce_add_sync(ALL_LANES, lane < 16 ? q : 0);
	row[b * 32 + lane] = (uint8_t)q;
	if (lane == 0) {
		const uint32_t sums = (uint32_t)(uint16_t)first | (uint32_t)(sum - first) << 16;
		st_vec((uint2 *)(row + k + 8 * b), make_uint2(__float_as_uint(s), sums));
	}
}

/* The same of four elements, from the i-th on, eight lanes a block; all lanes of a warp call it,
 * and behind the row's end it does nothing. */
DEVICE void put_quarter(uint8_t *row, int k, int i, float4 x) {
	uint32_t most = max(max(size_bits(x.x), size_bits(x.y)), max(size_bits(x.z), size_bits(x.w)));
	UNROLL
	for (int bit = 1; bit < 8; bit *= 2) {
		most = max(most, __shfl_xor_sync(ALL_LANES, most, bit));
	}
	const float s = block_scale(most);
	const int q[4] = { quantised(x.x, s), quantised(x.y, s), quantised(x.z, s), quantised(x.w, s) };
	int half = q[0] + q[1] + q[2] + q[3]; /* of 16 elements, in four lanes */
	half += __shfl_xor_sync(ALL_LANES, half, 1);
	half += __shfl_xor_sync(ALL_LANES, half, 2);
	const int other = __shfl_xor_sync(ALL_LANES, half, 4);
	if (i >= k) {
		return;
	}
	st_vec((uint32_t *)(row + i), (uint32_t)(q[0] & 255) | (uint32_t)(q[1] & 255) << 8
		| (uint32_t)(q[2] & 255) << 16 | (uint32_t)q[3] << 24);
	if (i % 32 == 0) {
		st_vec((uint2 *)(row + k + i / 4), make_uint2(__float_as_uint(s),
			(uint32_t)(uint16_t)half | (uint32_t)other << 16));
	}
}

/* What fills a row up behind its last block. */
DEVICE void put_end(uint8_t *row, int k) {
	if (k / 32 % 2 != 0) {
		st_vec((uint2 *)(row + k + 8 * (k / 32)), make_uint2(0, 0));
	}
}
