/* SPDX-License-Identifier: Apache-2.0
 *
 * Parts of a fixed state in int8 and back, with the bits of the reference (kernels/state_pack.c):
 * eight lanes have a block of 32, four elements each. */
#include "module.h"
#include "math.cuh"

enum { THREADS = 256, PER_BLOCK = 4 * THREADS, BLOCK = BB_STATE_BLOCK, LANES = BLOCK / 4 };

DEVICE unsigned magnitude(float x) {
	return __float_as_uint(x) & 0x7fffffffu;
}

/* x * inverse to the nearest even integer, as a byte: 1.5 * 2^23 is added. */
DEVICE uint32_t byte_of(float x, float inverse) {
	const float product = x * inverse;
	return __float_as_uint(product + 0x1.8p23f) & 255;
}

__global__ void __launch_bounds__(THREADS) pack_kernel(uint32_t *q, float *scales, const float *x,
	size_t n) {
	const size_t i = (size_t)blockIdx.x * PER_BLOCK + 4 * threadIdx.x;
	const int left = i >= n ? 0 : n - i < 4 ? (int)(n - i) : 4;
	const float4 v = left > 0 ? load4(x + i, left, true) : make_float4(0.0f, 0.0f, 0.0f, 0.0f);
	unsigned largest = max(max(magnitude(v.x), magnitude(v.y)),
		max(magnitude(v.z), magnitude(v.w)));
	for (int d = 1; d < LANES; d *= 2) {
		largest = max(largest, __shfl_xor_sync(ALL_LANES, largest, d));
	}
	const float most = __uint_as_float(largest);
	const bool is_normal = most >= 0x1p-100f && largest < 0x7f800000u;
	const float inverse = is_normal ? 127.0f / most : 0.0f;
	if (i < (n + BLOCK - 1) / BLOCK * BLOCK) {
		q[i / 4] = !is_normal ? 0 : byte_of(v.x, inverse) | byte_of(v.y, inverse) << 8 |
			byte_of(v.z, inverse) << 16 | byte_of(v.w, inverse) << 24;
		if (i % BLOCK == 0) {
			scales[i / BLOCK] = is_normal ? most / 127.0f
				: largest < 0x3f800000u ? 0.0f : __uint_as_float(0x7fc00000u);
		}
	}
}

DEVICE float value_of(uint32_t q, int i, float scale) {
	return (float)(int8_t)(q >> 8 * i & 255) * scale;
}

__global__ void __launch_bounds__(THREADS) unpack_kernel(float *x, const uint32_t *q,
	const float *scales, size_t n) {
	const size_t i = (size_t)blockIdx.x * PER_BLOCK + 4 * threadIdx.x;
	if (i >= n) {
		return;
	}
	const uint32_t word = q[i / 4];
	const float scale = scales[i / BLOCK];
	store4(x + i, make_float4(value_of(word, 0, scale), value_of(word, 1, scale),
		value_of(word, 2, scale), value_of(word, 3, scale)), n - i < 4 ? (int)(n - i) : 4, true);
}

/* Where the scales of n packed elements lie. */
static float *scales_of(const void *packed, size_t n) {
	return (float *)((uintptr_t)packed + (n + BLOCK - 1) / BLOCK * BLOCK);
}

extern "C" void state_pack_sm80(bb_queue *q, void *packed, const float *x, size_t n) {
	if (n == 0) {
		return;
	}
	LAUNCH(pack_kernel, blocks_for(n, PER_BLOCK), THREADS, 0, q->stream, (uint32_t *)packed,
		scales_of(packed, n), x, n);
	queue_launched(q, "state_pack");
}

extern "C" void state_unpack_sm80(bb_queue *q, float *x, const void *packed, size_t n) {
	if (n == 0) {
		return;
	}
	LAUNCH(unpack_kernel, blocks_for(n, PER_BLOCK), THREADS, 0, q->stream, x,
		(const uint32_t *)packed, (const float *)scales_of(packed, n), n);
	queue_launched(q, "state_unpack");
}
