/* SPDX-License-Identifier: Apache-2.0
 *
 * rmsnorm over vectors. The sum of squares is kept in four vectors of f32; element i goes to vector
 * i / VEC % 4, lane i % VEC. */
#include "../kernels.h"
#include "vec_math.h"

#include <math.h>

struct rmsnorm_job {
	float *y;       /* [n_rows, ld_y] */
	const float *x; /* [n_rows, ld_x] */
	const float *w; /* [dim] or NULL */
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
	const struct rmsnorm_job *job = arg;
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
	const struct rmsnorm_job job = { y, x, w, ld_y, ld_x, n_groups, dim, eps };
	queue_run(q, rmsnorm_rows, &job, n_rows, vec_grain((size_t)n_groups * dim));
}
