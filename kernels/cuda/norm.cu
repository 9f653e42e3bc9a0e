/* SPDX-License-Identifier: Apache-2.0
 *
 * Normalisations. The sum of squares of a row has a fixed tree that depends on its length alone
 * (rms_inverse). y = x * (1 / sqrt(sum / dim + eps)) * w, all in f32, correctly rounded. */
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
