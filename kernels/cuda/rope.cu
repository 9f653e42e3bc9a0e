/* SPDX-License-Identifier: Apache-2.0
 *
 * Rotary position embedding. The angle is pos * inv_freq in f64, as on the CPU, and is reduced
 * exactly: k = rint(angle 2 / pi) is below 2^31, so angle - k P1 (P1 the upper 53 bits of pi / 2)
 * is exact in one fma, and the second part of pi / 2 adds one rounding. Sine and cosine of the rest
 * are fdlibm's polynomials in f64, rounded to f32 once. The turn is in f32: fmaf(a, c, -(b s)) and
 * fmaf(a, s, b c). */
#include "math.cuh"
#include "module.h"

enum { THREADS = 256 };

/* |r| <= pi / 4 and a little. */
DEVICE double sin_poly(double r) {
	const double z = r * r;
	double p = 1.58969099521155010221e-10;
	p = fma(p, z, -2.50507602534068634195e-08);
	p = fma(p, z, 2.75573137070700676789e-06);
	p = fma(p, z, -1.98412698298579493134e-04);
	p = fma(p, z, 8.33333333332248946124e-03);
	p = fma(p, z, -1.66666666666666324348e-01);
	return fma(r * z, p, r);
}

DEVICE double cos_poly(double r) {
	const double z = r * r;
	double p = -1.13596475577881948265e-11;
	p = fma(p, z, 2.08757232129817482790e-09);
	p = fma(p, z, -2.75573143513906633035e-07);
	p = fma(p, z, 2.48015872894767294178e-05);
	p = fma(p, z, -1.38888888888741095749e-03);
	p = fma(p, z, 4.16666666666666019037e-02);
	return fma(z * z, p, fma(-0.5, z, 1.0));
}

__global__ void __launch_bounds__(THREADS) rope_table_kernel(float *cs, const int32_t *pos,
	const double *inv_freq, int n_rows, int n_pairs, float scale) {
	const size_t i = (size_t)blockIdx.x * THREADS + threadIdx.x;
	if (i >= (size_t)n_rows * n_pairs) {
		return;
	}
	const double angle = (double)pos[i / n_pairs] * inv_freq[i % n_pairs];
	const double k = rint(angle * 0.63661977236758134308);
	const double r = fma(-k, 6.123233995736766035869e-17, fma(-k, 1.57079632679489661923, angle));
	const int quarter = (int)((long long)k & 3);
	const double a = cos_poly(r), b = sin_poly(r);
	const double c = quarter % 2 == 0 ? a : b, s = quarter % 2 == 0 ? b : a;
	cs[2 * i] = (float)((double)scale * (quarter == 1 || quarter == 2 ? -c : c));
	cs[2 * i + 1] = (float)((double)scale * (quarter >= 2 ? -s : s));
}

extern "C" void rope_table_sm80(bb_queue *q, float *cs, const int32_t *pos, const double *inv_freq,
	int n_rows, int n_pairs, float scale) {
	const size_t n = (size_t)n_rows * n_pairs;
	if (n == 0) {
		return;
	}
	LAUNCH(rope_table_kernel, blocks_for(n, THREADS), THREADS, 0, q->stream, cs, pos, inv_freq,
		n_rows, n_pairs, scale);
	queue_launched(q, "rope_table");
}

struct rope_args {
	float *x;        /* [n_rows, ld] */
	const float *cs; /* [n_rows, n_pairs, 2] */
	size_t n_units;  /* of four pairs of one head of one row */
	int ld, n_heads, head_dim, n_pairs;
	bool wide;
};

__global__ void __launch_bounds__(THREADS) rope_kernel(struct rope_args a) {
	const size_t unit = (size_t)blockIdx.x * THREADS + threadIdx.x;
	const int per_head = (a.n_pairs + 3) / 4;
	if (unit >= a.n_units) {
		return;
	}
	const int i = 4 * (int)(unit % per_head), n = a.n_pairs - i;
	const size_t head = unit / per_head, row = head / a.n_heads;
	float *x = a.x + row * a.ld + head % a.n_heads * a.head_dim + i;
	const float *cs = a.cs + (row * a.n_pairs + i) * 2;
	const float4 u = load4(x, n, a.wide), v = load4(x + a.n_pairs, n, a.wide);
	const float4 t0 = load4(cs, 2 * n, a.wide), t1 = load4(cs + 4, 2 * n - 4, a.wide);
	store4(x, make_float4(fmaf(u.x, t0.x, -(v.x * t0.y)), fmaf(u.y, t0.z, -(v.y * t0.w)),
		fmaf(u.z, t1.x, -(v.z * t1.y)), fmaf(u.w, t1.z, -(v.w * t1.w))), n, a.wide);
	store4(x + a.n_pairs, make_float4(fmaf(u.x, t0.y, v.x * t0.x), fmaf(u.y, t0.w, v.y * t0.z),
		fmaf(u.z, t1.y, v.z * t1.x), fmaf(u.w, t1.w, v.w * t1.z)), n, a.wide);
}

extern "C" void rope_sm80(bb_queue *q, float *x, int ld, const float *cs, int n_rows, int n_heads,
	int head_dim, int n_pairs) {
	const size_t n = (size_t)n_rows * n_heads * ((n_pairs + 3) / 4);
	if (n == 0) {
		return;
	}
	const bool wide = is_wide(x, ld) && is_wide(cs) && head_dim % 4 == 0 && n_pairs % 4 == 0;
	const struct rope_args a = { x, cs, n, ld, n_heads, head_dim, n_pairs, wide };
	LAUNCH(rope_kernel, blocks_for(n, THREADS), THREADS, 0, q->stream, a);
	queue_launched(q, "rope");
}
