/* SPDX-License-Identifier: Apache-2.0
 *
 * Normalisations. The sum of squares of a row has a fixed tree that depends on its length alone
 * (rms_inverse). y = x * (1 / sqrt(sum / dim + eps)) * w, all in f32, correctly rounded. So have
 * the sums of layernorm; what its mean lost by rounding is found in the second pass and taken off
 * there (the corrected two-pass algorithm: Chan, Golub and LeVeque, 1983). */
#include "fused.cuh"
#include "module.h"

struct rmsnorm_args {
	float *y;       /* [n_rows, ld_y] */
	const float *x; /* [n_rows, ld_x] */
	const float *w; /* [dim] or NULL */
	int ld_y, ld_x, n_units, n_groups, dim; /* a unit is a group of a row */
	float eps;
	bool wide;
};

/* n_warps take a unit, `per` units a block. */
template <int n_warps, int per>
__global__ void __launch_bounds__(32 * n_warps * per) rmsnorm_kernel(struct rmsnorm_args a) {
	enum { THREADS = 32 * n_warps };
	const int t = (int)threadIdx.x % THREADS;
	const int unit = (int)blockIdx.x * per + (int)threadIdx.x / THREADS;
	SHARED(float, sums, [n_warps]);
	if (unit >= a.n_units) {
		return; /* a whole warp; with more than one a unit is a block */
	}
	const size_t row = (size_t)(unit / a.n_groups), at = (size_t)(unit % a.n_groups) * a.dim;
	const float *x = a.x + row * a.ld_x + at;
	float *y = a.y + row * a.ld_y + at;
	const float inverse = rms_inverse<n_warps>(x, a.dim, a.eps, a.wide, t, sums);
	for (int i = 4 * t; i < a.dim; i += 4 * THREADS) {
		float4 v = load4(x + i, a.dim - i, a.wide);
		v = make_float4(v.x * inverse, v.y * inverse, v.z * inverse, v.w * inverse);
		if (a.w != NULL) {
			const float4 w = load4(a.w + i, a.dim - i, a.wide);
			v = make_float4(v.x * w.x, v.y * w.y, v.z * w.z, v.w * w.w);
		}
		store4(y + i, v, a.dim - i, a.wide);
	}
}

extern "C" void rmsnorm_sm80(bb_queue *q, float *y, int ld_y, const float *x, int ld_x,
	const float *w, int n_rows, int n_groups, int dim, float eps) {
	const int n = n_rows * n_groups;
	if (n == 0) {
		return;
	}
	const bool wide = is_wide(y, ld_y) && is_wide(x, ld_x) && is_wide(w) && dim % 4 == 0;
	const struct rmsnorm_args a = { y, x, w, ld_y, ld_x, n, n_groups, dim, eps, wide };
	if (dim <= RMS_SHORT) {
		LAUNCH((rmsnorm_kernel<1, 4>), blocks_for(n, 4), 128, 0, q->stream, a);
	} else {
		LAUNCH((rmsnorm_kernel<8, 1>), n, 256, 0, q->stream, a);
	}
	queue_launched(q, "rmsnorm");
}

/* ---- layernorm ---- */

struct layernorm_args {
	float *y;           /* [n_rows, ld_y] */
	const float *x;     /* [n_rows, ld_x] */
	const float *w, *b; /* [dim] or NULL */
	int ld_y, ld_x, n_units, n_groups, dim; /* a unit is a group of a row */
	float eps;
	bool wide;
};

/* x[0..3] - shift, zeros from n on. */
DEVICE float4 shifted(float4 x, float shift, int n) {
	return make_float4(n > 0 ? x.x - shift : 0.0f, n > 1 ? x.y - shift : 0.0f,
		n > 2 ? x.z - shift : 0.0f, n > 3 ? x.w - shift : 0.0f);
}

/* Sums of d = x[dim] - shift (.x) and of d^2 (.y) in all T = 32 n_warps threads; columns, lanes and
 * warps in the order of rms_inverse. sums: [n_warps], shared by the block. */
template <int n_warps> DEVICE float2 sums_of_shifted(const float *x, int dim, float shift,
	bool wide, int t, float2 *sums) {
	float sum = 0.0f, squares = 0.0f;
	for (int i = 4 * t; i < dim; i += 4 * WARP * n_warps) {
		const float4 d = shifted(load4(x + i, dim - i, wide), shift, dim - i);
		sum = sum + d.x + d.y + d.z + d.w;
		squares = fmaf(d.w, d.w, fmaf(d.z, d.z, fmaf(d.y, d.y, fmaf(d.x, d.x, squares))));
	}
	float2 all = make_float2(warp_sum(sum), warp_sum(squares));
	if (n_warps > 1) {
		if (t % WARP == 0) {
			sums[t / WARP] = all;
		}
		__syncthreads();
		all = sums[0];
		for (int i = 1; i < n_warps; i++) {
			all = make_float2(all.x + sums[i].x, all.y + sums[i].y);
		}
	}
	return all;
}

/* n_warps take a unit, `per` units a block. */
template <int n_warps, int per>
__global__ void __launch_bounds__(32 * n_warps * per) layernorm_kernel(struct layernorm_args a) {
	enum { THREADS = 32 * n_warps };
	const int t = (int)threadIdx.x % THREADS;
	const int unit = (int)blockIdx.x * per + (int)threadIdx.x / THREADS;
	SHARED(float2, sums, [2][n_warps]); /* of the two passes */
	if (unit >= a.n_units) {
		return; /* a whole warp; with more than one a unit is a block */
	}
	const size_t row = (size_t)(unit / a.n_groups), at = (size_t)(unit % a.n_groups) * a.dim;
	const float *x = a.x + row * a.ld_x + at;
	float *y = a.y + row * a.ld_y + at;
	const float n = (float)a.dim;
	const float mean = sums_of_shifted<n_warps>(x, a.dim, 0.0f, a.wide, t, sums[0]).x / n;
	const float2 left = sums_of_shifted<n_warps>(x, a.dim, mean, a.wide, t, sums[1]);
	const float lost = left.x / n, deviation = left.y - left.x * lost;
	const float variance = deviation > 0.0f ? deviation / n : deviation * 0.0f; /* keeps a NaN */
	const float inverse = 1.0f / sqrtf(variance + a.eps);
	for (int i = 4 * t; i < a.dim; i += 4 * THREADS) {
		const int rest = a.dim - i;
		float4 v = shifted(shifted(load4(x + i, rest, a.wide), mean, rest), lost, rest);
		v = make_float4(v.x * inverse, v.y * inverse, v.z * inverse, v.w * inverse);
		if (a.w != NULL) {
			const float4 w = load4(a.w + i, rest, a.wide);
			v = make_float4(v.x * w.x, v.y * w.y, v.z * w.z, v.w * w.w);
		}
		if (a.b != NULL) {
			const float4 b = load4(a.b + i, rest, a.wide);
			v = make_float4(v.x + b.x, v.y + b.y, v.z + b.z, v.w + b.w);
		}
		store4(y + i, v, rest, a.wide);
	}
}

extern "C" void layernorm_sm80(bb_queue *q, float *y, int ld_y, const float *x, int ld_x,
	const float *w, const float *b, int n_rows, int n_groups, int dim, float eps) {
	const int n = n_rows * n_groups;
	if (n == 0) {
		return;
	}
	const bool wide = is_wide(y, ld_y) && is_wide(x, ld_x) && is_wide(w) && is_wide(b)
		&& dim % 4 == 0;
	const struct layernorm_args a = { y, x, w, b, ld_y, ld_x, n, n_groups, dim, eps, wide };
	if (dim <= RMS_SHORT) {
		LAUNCH((layernorm_kernel<1, 4>), blocks_for(n, 4), 128, 0, q->stream, a);
	} else {
		LAUNCH((layernorm_kernel<8, 1>), n, 256, 0, q->stream, a);
	}
	queue_launched(q, "layernorm");
}
