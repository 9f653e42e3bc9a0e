/* SPDX-License-Identifier: Apache-2.0
 *
 * How the attention kernels cut the memory of a block, and fill it. */
#pragma once

#include "attention_page.cuh"

DEVICE uint8_t *take(uint8_t **at, size_t bytes) {
	uint8_t *taken = *at;
	*at += (bytes + 15) / 16 * 16;
	return taken;
}

template <enum bb_kv_dtype type> static inline size_t query_bytes(int width) {
	return (size_t)n_steps_of<type>(width) * WARP * 16;
}

static inline size_t scale_bytes(const struct attention_job *job) {
	return ((size_t)(job->n_groups | 1) + 1) * BB_PAGE * sizeof(float);
}

/* Scales of slots [begin, end), others 0: to[slot * stride + group], by threads i, i + n, ... */
DEVICE void stage_scales(float *to, int stride, const uint8_t *from, int n_groups, int begin,
	int end, int i, int n) {
#pragma unroll 1
	for (; i < BB_PAGE / 4 * n_groups; i += n) {
		const bool is_seen = 4 * i < end * n_groups && 4 * i + 4 > begin * n_groups;
		const float4 x = is_seen ? ld_nc((const float4 *)from + i) : make_float4(0, 0, 0, 0);
		const float each[4] = { x.x, x.y, x.z, x.w };
		for (int k = 0; k < 4; k++) {
			const int slot = (4 * i + k) / n_groups, group = (4 * i + k) % n_groups;
			to[slot * stride + group] = slot >= begin && slot < end ? each[k] : 0.0f;
		}
	}
}
