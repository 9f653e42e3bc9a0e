/* SPDX-License-Identifier: Apache-2.0
 *
 * rmsnorm and layernorm over vectors. The sum of squares of rmsnorm is kept in four vectors of f32;
 * element i goes to vector i / VEC % 4, lane i % VEC. The sums of layernorm are kept in two; what
 * the mean lost by rounding is found in the second pass and taken off there (the corrected two-pass
 * algorithm: Chan, Golub and LeVeque, 1983). */
#include "../kernels.h"
#include "vec_math.h"

#include <math.h>

struct norm_job {
	float *y;           /* [n_rows, ld_y] */
	const float *x;     /* [n_rows, ld_x] */
	const float *w, *b; /* [dim] or NULL */
	int ld_y, ld_x, n_groups, dim;
	float eps;
};

static float sum_of_squares(const float *x, int n) {
	vec s0 = vec_set(0), s1 = s0, s2 = s0, s3 = s0;
	int i = 0;
	for (; i + 4 * VEC <= n; i += 4 * VEC) {
		const vec a = vec_load(x + i), b = vec_load(x + i + VEC);
		const vec c = vec_load(x + i + 2 * VEC), d = vec_load(x + i + 3 * VEC);
		s0 = vec_fma(a, a, s0);
		s1 = vec_fma(b, b, s1);
		s2 = vec_fma(c, c, s2);
		s3 = vec_fma(d, d, s3);
	}
	for (; i < n; i += VEC) {
		const vec a = vec_load_part(x + i, n - i < VEC ? n - i : VEC);
		s0 = vec_fma(a, a, s0);
	}
	return vec_sum(vec_add(vec_add(s0, s1), vec_add(s2, s3)));
}

static void rmsnorm_group(float *y, const float *x, const float *w, int dim, float eps) {
	const vec inverse = vec_set(1 / sqrtf(sum_of_squares(x, dim) / (float)dim + eps));
	int i = 0;
	for (; i + VEC <= dim; i += VEC) {
		const vec a = vec_mul(vec_load(x + i), inverse);
		vec_store(y + i, w != NULL ? vec_mul(a, vec_load(w + i)) : a);
	}
	if (i < dim) {
		const int n = dim - i;
		const vec a = vec_mul(vec_load_part(x + i, n), inverse);
		vec_store_part(y + i, w != NULL ? vec_mul(a, vec_load_part(w + i, n)) : a, n);
	}
}

static void rmsnorm_rows(const void *arg, int begin, int end) {
	const struct norm_job *job = arg;
	for (int r = begin; r < end; r++) {
		for (int g = 0; g < job->n_groups; g++) {
			const size_t at = (size_t)g * job->dim;
			rmsnorm_group(job->y + (size_t)r * job->ld_y + at, job->x + (size_t)r * job->ld_x + at,
				job->w, job->dim, job->eps);
		}
	}
}

void TAG(rmsnorm)(bb_queue *q, float *y, int ld_y, const float *x, int ld_x, const float *w,
	int n_rows, int n_groups, int dim, float eps) {
	const struct norm_job job = { y, x, w, NULL, ld_y, ld_x, n_groups, dim, eps };
	queue_run(q, rmsnorm_rows, &job, n_rows, vec_grain((size_t)n_groups * dim));
}

/* The part of x - shift, zeros beyond. */
static vec shifted(const float *x, vec shift, int n) {
	return n >= VEC ? vec_sub(vec_load(x), shift)
		: vec_keep_part(vec_sub(vec_load_part(x, n), shift), vec_set(0), n);
}

/* Sums of d = x[n] - shift and of d^2. */
static void sums_of_shifted(const float *x, int n, float shift, float *sum, float *squares) {
	const vec at = vec_set(shift);
	vec s0 = vec_set(0), s1 = s0, q0 = s0, q1 = s0;
	int i = 0;
	for (; i + 2 * VEC <= n; i += 2 * VEC) {
		const vec a = shifted(x + i, at, VEC), b = shifted(x + i + VEC, at, VEC);
		s0 = vec_add(s0, a);
		s1 = vec_add(s1, b);
		q0 = vec_fma(a, a, q0);
		q1 = vec_fma(b, b, q1);
	}
	for (; i < n; i += VEC) {
		const vec a = shifted(x + i, at, n - i);
		s0 = vec_add(s0, a);
		q0 = vec_fma(a, a, q0);
	}
	*sum = vec_sum(vec_add(s0, s1));
	*squares = vec_sum(vec_add(q0, q1));
}

static void layernorm_group(float *y, const float *x, const struct norm_job *job) {
	const int dim = job->dim;
	float sum, squares;
	sums_of_shifted(x, dim, 0, &sum, &squares);
	const float mean = sum / (float)dim;
	sums_of_shifted(x, dim, mean, &sum, &squares);
	const float lost = sum / (float)dim, deviation = squares - sum * lost;
	const float variance = deviation > 0 ? deviation / (float)dim : deviation * 0; /* keeps a NaN */
	const vec inverse = vec_set(1 / sqrtf(variance + job->eps));
	for (int i = 0; i < dim; i += VEC) {
		const int n = dim - i < VEC ? dim - i : VEC;
		vec v = vec_sub(shifted(x + i, vec_set(mean), n), vec_set(lost));
		v = vec_mul(v, inverse);
		v = job->w != NULL ? vec_mul(v, vec_load_part(job->w + i, n)) : v;
		v = job->b != NULL ? vec_add(v, vec_load_part(job->b + i, n)) : v;
		vec_store_part(y + i, v, n);
	}
}

static void layernorm_rows(const void *arg, int begin, int end) {
	const struct norm_job *job = arg;
	for (int r = begin; r < end; r++) {
		for (int g = 0; g < job->n_groups; g++) {
			const size_t at = (size_t)g * job->dim;
			layernorm_group(job->y + (size_t)r * job->ld_y + at,
				job->x + (size_t)r * job->ld_x + at, job);
		}
	}
}

void TAG(layernorm)(bb_queue *q, float *y, int ld_y, const float *x, int ld_x, const float *w,
	const float *b, int n_rows, int n_groups, int dim, float eps) {
	const struct norm_job job = { y, x, w, b, ld_y, ld_x, n_groups, dim, eps };
	queue_run(q, layernorm_rows, &job, n_rows, vec_grain((size_t)n_groups * dim));
}
