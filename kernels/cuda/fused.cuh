/* SPDX-License-Identifier: Apache-2.0
 *
 * Arithmetic that is done by itself, or on the way into the next product: the inverse norm of a
 * row, gated activations. */
#pragma once

#include "math.cuh"

/* Rows up to this long are summed by one warp, longer ones by 8. */
enum { RMS_SHORT = 256 };

DEVICE float warp_sum(float v) {
	for (int bits = 16; bits > 0; bits /= 2) {
		v += __shfl_xor_sync(ALL_LANES, v, bits);
	}
	return v;
}

DEVICE float add_squares(float sum, float4 v) {
	sum = fmaf(v.x, v.x, sum);
	sum = fmaf(v.y, v.y, sum);
	sum = fmaf(v.z, v.z, sum);
	return fmaf(v.w, v.w, sum);
}

/* The end of rms_inverse: from the sum of each thread's columns. Threads from 32 n_warps on have
 * none. */
template <int n_warps> DEVICE float rms_joined(float sum, int dim, float eps, int t, float *sums) {
	sum = warp_sum(sum);
	if (n_warps > 1) {
		if (t % WARP == 0 && t / WARP < n_warps) {
			sums[t / WARP] = sum;
		}
		__syncthreads();
		sum = sums[0];
		for (int i = 1; i < n_warps; i++) {
			sum += sums[i];
		}
	}
	return 1.0f / sqrtf(sum / (float)dim + eps);
}

/* 1 / sqrt(mean(x^2) + eps) of x[dim] in all T = 32 n_warps threads; t: this one's number. Thread t
 * takes columns 4 (t + j T) + 0..3 for j = 0, 1, ... in order by fmaf; lanes are joined by xor 16,
 * 8, 4, 2, 1, warps in index order. sums: [n_warps], shared by the block. */
template <int n_warps> DEVICE float rms_inverse(const float *x, int dim, float eps, bool wide,
	int t, float *sums) {
	float sum = 0.0f;
	if (wide && dim % 4 == 0) {
		UNROLL_BY(4) /* as many reads on their way */
		for (int i = 4 * t; i < dim; i += 4 * WARP * n_warps) {
			sum = add_squares(sum, ld_vec((const float4 *)(x + i)));
		}
	} else {
		UNROLL_BY(1)
		for (int i = 4 * t; i < dim; i += 4 * WARP * n_warps) {
			sum = add_squares(sum, load4(x + i, dim - i, false));
		}
	}
	return rms_joined<n_warps>(sum, dim, eps, t, sums);
}

enum gate_kind { GATE_SILU, GATE_GELU, GATE_GELU_ERF, GATE_NONE };

/* silu: g sigmoid(g). gelu: 0.5 (1 + tanh(z)) is sigmoid(2 z), so g sigmoid(2 z) with
 * 2 z = g (2 s + g^2 2 s 0.044715), s = sqrt(2 / pi). */
template <int kind> DEVICE float gated(float g, float up) {
	if (kind == GATE_NONE) {
		return g * up;
	}
	if (kind == GATE_GELU_ERF) {
		return g * normal_f32(g) * up;
	}
	const float twice = 2 * 0.797884561f;
	const float at = kind == GATE_SILU ? g : g * fmaf(g * g, twice * 0.044715f, twice);
	return g * sigmoid_f32(at) * up;
}
