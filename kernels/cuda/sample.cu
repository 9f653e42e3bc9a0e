/* SPDX-License-Identifier: Apache-2.0
 *
 * Reductions over a row of logits: one block of 1024 threads; thread t takes elements
 * 4 (t + 1024 j) + 0..3 for j = 0, 1, ... in order; lanes are joined by xor 16, 8, 4, 2, 1, then the 32 warps in
 * the same way. The order depends on n alone. */
#include "math.cuh"
#include "module.h"

enum { THREADS = 1024, WARPS = THREADS / WARP };

/* ---- argmax ---- */

struct best {
	float value;
	int index; /* INT32_MAX: none yet */
};

/* Equal values: the lower index. A NaN wins against nothing. */
DEVICE struct best better(struct best a, float value, int index) {
	const bool wins = value > a.value || (value == a.value && index < a.index);
	a.value = wins ? value : a.value;
	a.index = wins ? index : a.index;
	return a;
}

DEVICE struct best warp_best(struct best a) {
	for (int bits = 16; bits > 0; bits /= 2) {
		const float value = __shfl_xor_sync(ALL_LANES, a.value, bits);
		const int index = __shfl_xor_sync(ALL_LANES, a.index, bits);
		a = better(a, value, index);
	}
	return a;
}

__global__ void __launch_bounds__(THREADS) argmax_kernel(int32_t *index, const float *x, int n,
	bool wide) {
	const int t = (int)threadIdx.x;
	SHARED(float, values, [WARPS]);
	SHARED(int, indices, [WARPS]);
	struct best a = { -INFINITY, INT32_MAX };
	for (int i = 4 * t; i < n; i += 4 * THREADS) {
		const int left = n - i;
		const float4 v = load4(x + i, left, wide);
		a = better(a, v.x, i);
		a = left > 1 ? better(a, v.y, i + 1) : a;
		a = left > 2 ? better(a, v.z, i + 2) : a;
		a = left > 3 ? better(a, v.w, i + 3) : a;
	}
	a = warp_best(a);
	if (t % WARP == 0) {
		values[t / WARP] = a.value;
		indices[t / WARP] = a.index;
	}
	__syncthreads();
	if (t < WARP) {
		a.value = values[t];
		a.index = indices[t];
		a = warp_best(a);
		if (t == 0) {
			*index = a.index == INT32_MAX ? 0 : a.index;
		}
	}
}

extern "C" void argmax_sm80(bb_queue *q, int32_t *index, const float *x, int n) {
	LAUNCH(argmax_kernel, 1, THREADS, 0, q->stream, index, x, n, is_wide(x));
	queue_launched(q, "argmax");
}

/* ---- softmax ---- */

DEVICE float warp_max(float v) {
	for (int bits = 16; bits > 0; bits /= 2) {
		const float other = __shfl_xor_sync(ALL_LANES, v, bits);
		v = other > v ? other : v;
	}
	return v;
}

/* hi += v; returns what that loses (Knuth's two-sum), the same for v += hi. */
DEVICE float add_losing(float *hi, float v) {
	const float sum = *hi + v, back = sum - *hi;
	const float lost = (*hi - (sum - back)) + (v - back);
	*hi = sum;
	return lost;
}

DEVICE void warp_sum(float *hi, float *lo) {
	for (int bits = 16; bits > 0; bits /= 2) {
		const float other_hi = __shfl_xor_sync(ALL_LANES, *hi, bits);
		const float other_lo = __shfl_xor_sync(ALL_LANES, *lo, bits);
		const float lost = add_losing(hi, other_hi);
		*lo = *lo + other_lo + lost; /* the same in both partners */
	}
}

DEVICE float row_max(const float *x, int n, bool wide, float *shared) {
	const int t = (int)threadIdx.x;
	float max = -INFINITY;
	for (int i = 4 * t; i < n; i += 4 * THREADS) {
		const int left = n - i;
		const float4 v = load4(x + i, left, wide);
		max = v.x > max ? v.x : max;
		max = left > 1 && v.y > max ? v.y : max;
		max = left > 2 && v.z > max ? v.z : max;
		max = left > 3 && v.w > max ? v.w : max;
	}
	max = warp_max(max);
	if (t % WARP == 0) {
		shared[t / WARP] = max;
	}
	__syncthreads();
	return warp_max(shared[t % WARP]);
}

/* The terms are e^(scale (x - max)) in f32, their sum is kept in two f32: the sum, and what its
 * roundings lost. */
__global__ void __launch_bounds__(THREADS) softmax_kernel(float *p, float *log_sum, const float *x,
	int n, float scale, bool wide) {
	const int t = (int)threadIdx.x;
	SHARED(float, maxima, [WARPS]);
	SHARED(float, his, [WARPS]);
	SHARED(float, los, [WARPS]);
	const float max = row_max(x, n, wide, maxima);
	float hi = 0.0f, lo = 0.0f;
	for (int i = 4 * t; i < n; i += 4 * THREADS) {
		const int left = n - i;
		const float4 v = load4(x + i, left, wide);
		lo += add_losing(&hi, exp_f32(scale * (v.x - max)));
		lo += add_losing(&hi, left > 1 ? exp_f32(scale * (v.y - max)) : 0.0f);
		lo += add_losing(&hi, left > 2 ? exp_f32(scale * (v.z - max)) : 0.0f);
		lo += add_losing(&hi, left > 3 ? exp_f32(scale * (v.w - max)) : 0.0f);
	}
	warp_sum(&hi, &lo);
	if (t % WARP == 0) {
		his[t / WARP] = hi;
		los[t / WARP] = lo;
	}
	__syncthreads();
	hi = his[t % WARP];
	lo = los[t % WARP];
	warp_sum(&hi, &lo);
	const float sum = hi + lo, inverse = 1.0f / sum;
	if (t == 0) {
		*log_sum = (float)log((double)hi + (double)lo);
	}
	for (int i = 4 * t; p != NULL && i < n; i += 4 * THREADS) {
		const float4 v = load4(x + i, n - i, wide);
		store4(p + i, make_float4(exp_f32(scale * (v.x - max)) * inverse,
			exp_f32(scale * (v.y - max)) * inverse, exp_f32(scale * (v.z - max)) * inverse,
			exp_f32(scale * (v.w - max)) * inverse), n - i, wide);
	}
}

extern "C" void softmax_sm80(bb_queue *q, float *p, float *log_sum, const float *x, int n,
	float scale) {
	LAUNCH(softmax_kernel, 1, THREADS, 0, q->stream, p, log_sum, x, n, scale,
		is_wide(x) && is_wide(p));
	queue_launched(q, "softmax");
}
