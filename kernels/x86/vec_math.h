/* SPDX-License-Identifier: Apache-2.0
 *
 * Functions and loops over the vectors of vec_avx2.h or vec_avx512.h, which the including file has
 * chosen. */
#ifndef VEC_MATH_H
#define VEC_MATH_H

/* e^x for x <= 88, 0 below -104, NaN for NaN; the relative error is below 1.5e-7 where the result
 * is normal. x = n ln 2 + r with |r| <= ln 2 / 2, and Taylor's series of e^r up to r^7 / 7!, whose
 * remainder is 5e-9. ln 2 is in two parts, the first short enough that n times it is exact. */
static inline vec vec_exp(vec x) {
	x = vec_max(vec_set(-110.0f), x);
	const vec n = vec_round(vec_mul(x, vec_set(1.44269504f)));
	const vec r = vec_fnma(n, vec_set(-2.12194440e-4f), vec_fnma(n, vec_set(0.693359375f), x));
	vec p = vec_set(1.0f / 5040);
	p = vec_fma(p, r, vec_set(1.0f / 720));
	p = vec_fma(p, r, vec_set(1.0f / 120));
	p = vec_fma(p, r, vec_set(1.0f / 24));
	p = vec_fma(p, r, vec_set(1.0f / 6));
	p = vec_fma(p, r, vec_set(0.5f));
	p = vec_fma(p, r, vec_set(1.0f));
	p = vec_fma(p, r, vec_set(1.0f));
	return vec_scale_by_power(p, n);
}

/* 1 / (1 + e^-x) without overflow: e^-|x| is at most 1. */
static inline vec vec_sigmoid(vec x) {
	const vec one = vec_set(1.0f), e = vec_exp(vec_negative(x));
	return vec_div(vec_if_below_zero(x, e, one), vec_add(one, e));
}

/* log(1 + e^x) = max(x, 0) + log1p(e^-|x|), with log1p(z) = 2 atanh(z / (2 + z)), whose argument is
 * at most 1/3: the terms left out are below 2e-8 of the result. */
static inline vec vec_softplus(vec x) {
	const vec e = vec_exp(vec_negative(x)), s = vec_div(e, vec_add(e, vec_set(2.0f)));
	const vec t = vec_mul(s, s);
	vec p = vec_set(1.0f / 15);
	p = vec_fma(p, t, vec_set(1.0f / 13));
	p = vec_fma(p, t, vec_set(1.0f / 11));
	p = vec_fma(p, t, vec_set(1.0f / 9));
	p = vec_fma(p, t, vec_set(1.0f / 7));
	p = vec_fma(p, t, vec_set(1.0f / 5));
	p = vec_fma(p, t, vec_set(1.0f / 3));
	p = vec_fma(p, t, vec_set(1.0f));
	return vec_fma(vec_add(s, s), p, vec_max(vec_set(0), x));
}

/* cap tanh(x / cap), as 2 sigmoid(2 z) - 1 = tanh(z): the absolute error is below 2e-7 cap. */
static inline vec vec_softcap(vec x, float cap) {
	const vec s = vec_sigmoid(vec_mul(x, vec_set(2 / cap)));
	return vec_mul(vec_set(cap), vec_sub(vec_add(s, s), vec_set(1.0f)));
}

/* The normal distribution's integral up to x. Of -|x| it is t e^(-x^2 / 2) p(t), t = 1 / (1 + 0.24
 * |x|), with a polynomial p of degree 9 that is off by 4e-9 of it up to |x| = 14. */
static inline vec vec_normal(vec x) {
	const vec one = vec_set(1.0f), below = vec_negative(x);
	const vec t = vec_div(one, vec_fnma(vec_set(0.24f), below, one));
	vec p = vec_set(0.0254733546f);
	p = vec_fma(p, t, vec_set(-0.124334602f));
	p = vec_fma(p, t, vec_set(0.204723741f));
	p = vec_fma(p, t, vec_set(-0.14319323f));
	p = vec_fma(p, t, vec_set(0.140487851f));
	p = vec_fma(p, t, vec_set(0.0287142797f));
	p = vec_fma(p, t, vec_set(0.0875517736f));
	p = vec_fma(p, t, vec_set(0.0889836182f));
	p = vec_fma(p, t, vec_set(0.0958507774f));
	p = vec_fma(p, t, vec_set(0.0957424386f));
	const vec e = vec_exp(vec_mul(vec_mul(vec_set(-0.5f), below), below));
	const vec tail = vec_mul(vec_mul(t, p), e);
	return vec_if_below_zero(x, tail, vec_sub(one, tail));
}

/* 1 - e^-x for x >= 0, of small x by Taylor's series up to x^9 / 9!: the relative error is below
 * 3e-7. */
static inline vec vec_one_less_exp(vec x) {
	vec p = vec_set(1.0f / 362880);
	p = vec_fnma(p, x, vec_set(1.0f / 40320));
	p = vec_fnma(p, x, vec_set(1.0f / 5040));
	p = vec_fnma(p, x, vec_set(1.0f / 720));
	p = vec_fnma(p, x, vec_set(1.0f / 120));
	p = vec_fnma(p, x, vec_set(1.0f / 24));
	p = vec_fnma(p, x, vec_set(1.0f / 6));
	p = vec_fnma(p, x, vec_set(0.5f));
	p = vec_fnma(p, x, vec_set(1.0f));
	return vec_if_below_zero(vec_sub(x, vec_set(0.5f)), vec_mul(p, x),
		vec_sub(vec_set(1.0f), vec_exp(vec_negative(x))));
}

/* n floats, or VEC of more. */
static inline vec load_n(const float *p, int n) {
	return n >= VEC ? vec_load(p) : vec_load_part(p, n);
}

static inline void store_n(float *p, vec x, int n) {
	if (n >= VEC) {
		vec_store(p, x);
	} else {
		vec_store_part(p, x, n);
	}
}

/* Units for queue_run so that a piece is about 16384 elements: a few microseconds. */
static inline int vec_grain(size_t elems_per_unit) {
	return elems_per_unit >= 16384 ? 1 : (int)(16384 / (elems_per_unit + 1)) + 1;
}

#endif
