/* SPDX-License-Identifier: Apache-2.0
 *
 * What the small kernels share: four floats at a time, and functions whose every rounding is
 * written out, so that a GPU and the emulator give the same bits. */
#pragma once

#include "device.cuh"

#include <math.h>

/* All of p are at multiples of 16 bytes, and rows stay there: 16-byte accesses are allowed. */
static inline bool is_wide(const void *p, int ld = 0) {
	return ((uintptr_t)p & 15) == 0 && ld % 4 == 0;
}

/* p[0..3], zeros from n on. */
DEVICE float4 load4(const float *p, int n, bool wide) {
	if (wide && n >= 4) {
		return ld_vec((const float4 *)p);
	}
	return make_float4(n > 0 ? p[0] : 0.0f, n > 1 ? p[1] : 0.0f, n > 2 ? p[2] : 0.0f,
		n > 3 ? p[3] : 0.0f);
}

/* p[0..3] = v, up to n. */
DEVICE void store4(float *p, float4 v, int n, bool wide) {
	if (wide && n >= 4) {
		st_vec((float4 *)p, v);
		return;
	}
	if (n > 0) {
		p[0] = v.x;
	}
	if (n > 1) {
		p[1] = v.y;
	}
	if (n > 2) {
		p[2] = v.z;
	}
	if (n > 3) {
		p[3] = v.w;
	}
}

/* 2^n for -252 <= n <= 254, times x, rounded once. */
DEVICE float scale_by_power(float x, int n) {
	const int half = n / 2;
	const float a = __int_as_float((half + 127) << 23);
	const float b = __int_as_float((n - half + 127) << 23);
	return x * a * b;
}

/* e^x for x <= 88, 0 below -104, NaN for NaN; the relative error is below 1.5e-7 where the result
 * is normal. x = n ln 2 + r with |r| <= ln 2 / 2, and Taylor's series of e^r up to r^7 / 7!, whose
 * remainder is 5e-9. ln 2 is in two parts, the first short enough that n times it is exact. The
 * bits are those of the AVX variants. */
DEVICE float exp_f32(float x) {
	x = x < -110.0f ? -110.0f : x;
	const float n = rintf(x * 1.44269504f);
	const float r = fmaf(n, 2.12194440e-4f, fmaf(n, -0.693359375f, x));
	float p = 1.0f / 5040;
	p = fmaf(p, r, 1.0f / 720);
	p = fmaf(p, r, 1.0f / 120);
	p = fmaf(p, r, 1.0f / 24);
	p = fmaf(p, r, 1.0f / 6);
	p = fmaf(p, r, 0.5f);
	p = fmaf(p, r, 1.0f);
	p = fmaf(p, r, 1.0f);
	return x <= 88.0f ? scale_by_power(p, __float2int_rn(n)) : p; /* p is NaN where x is */
}

/* 1 / (1 + e^-x) without overflow: e^-|x| is at most 1. */
DEVICE float sigmoid_f32(float x) {
	const float e = exp_f32(-fabsf(x));
	return (x < 0.0f ? e : 1.0f) / (1.0f + e);
}

/* log(1 + e^x); see vec_softplus of the AVX variants. */
DEVICE float softplus_f32(float x) {
	const float e = exp_f32(-fabsf(x)), s = e / (e + 2.0f), t = s * s;
	float p = 1.0f / 15;
	p = fmaf(p, t, 1.0f / 13);
	p = fmaf(p, t, 1.0f / 11);
	p = fmaf(p, t, 1.0f / 9);
	p = fmaf(p, t, 1.0f / 7);
	p = fmaf(p, t, 1.0f / 5);
	p = fmaf(p, t, 1.0f / 3);
	p = fmaf(p, t, 1.0f);
	return fmaf(s + s, p, x < 0.0f ? 0.0f : x);
}

/* The normal distribution's integral up to x; see vec_normal of the AVX variants. */
DEVICE float normal_f32(float x) {
	const float size = fabsf(x), t = 1.0f / fmaf(0.24f, size, 1.0f);
	float p = 0.0254733546f;
	p = fmaf(p, t, -0.124334602f);
	p = fmaf(p, t, 0.204723741f);
	p = fmaf(p, t, -0.14319323f);
	p = fmaf(p, t, 0.140487851f);
	p = fmaf(p, t, 0.0287142797f);
	p = fmaf(p, t, 0.0875517736f);
	p = fmaf(p, t, 0.0889836182f);
	p = fmaf(p, t, 0.0958507774f);
	p = fmaf(p, t, 0.0957424386f);
	const float tail = t * p * exp_f32(-0.5f * size * size);
	return x < 0.0f ? tail : 1.0f - tail;
}

/* 1 - e^-x for x >= 0; see vec_one_less_exp of the AVX variants. */
DEVICE float one_less_exp_f32(float x) {
	float p = 1.0f / 362880;
	p = fmaf(-p, x, 1.0f / 40320);
	p = fmaf(-p, x, 1.0f / 5040);
	p = fmaf(-p, x, 1.0f / 720);
	p = fmaf(-p, x, 1.0f / 120);
	p = fmaf(-p, x, 1.0f / 24);
	p = fmaf(-p, x, 1.0f / 6);
	p = fmaf(-p, x, 0.5f);
	p = fmaf(-p, x, 1.0f);
	return x < 0.5f ? p * x : 1.0f - exp_f32(-x);
}

/* cap tanh(x / cap), as 2 sigmoid(2 z) - 1 = tanh(z); see vec_softcap of the AVX variants. */
DEVICE float softcap_f32(float x, float cap) {
	const float s = sigmoid_f32(x * (2.0f / cap));
	return cap * (s + s - 1.0f);
}

DEVICE float4 fma4(float a, float4 b, float4 c) {
	return make_float4(fmaf(a, b.x, c.x), fmaf(a, b.y, c.y), fmaf(a, b.z, c.z), fmaf(a, b.w, c.w));
}

DEVICE float4 mul4(float a, float4 b) {
	return make_float4(a * b.x, a * b.y, a * b.z, a * b.w);
}

DEVICE float4 sum_across(float4 v, int mask) {
	return make_float4(v.x + __shfl_xor_sync(ALL_LANES, v.x, mask),
		v.y + __shfl_xor_sync(ALL_LANES, v.y, mask), v.z + __shfl_xor_sync(ALL_LANES, v.z, mask),
		v.w + __shfl_xor_sync(ALL_LANES, v.w, mask));
}
