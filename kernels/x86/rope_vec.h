/* SPDX-License-Identifier: Apache-2.0
 *
 * rope over vectors of pairs. */
#include "../kernels.h"
#include "vec_math.h"

struct rope_job {
	float *x;        /* [n_rows, ld] */
	const float *cs; /* [n_rows, n_pairs, 2] */
	int ld, n_heads, head_dim, n_pairs;
};

static inline void turn(float *a, float *b, vec cosine, vec sine) {
	const vec x = vec_load(a), y = vec_load(b);
	vec_store(a, vec_fnma(y, sine, vec_mul(x, cosine)));
	vec_store(b, vec_fma(x, sine, vec_mul(y, cosine)));
}

static inline void turn_part(float *a, float *b, vec cosine, vec sine, int n) {
	const vec x = vec_load_part(a, n), y = vec_load_part(b, n);
	vec_store_part(a, vec_fnma(y, sine, vec_mul(x, cosine)), n);
	vec_store_part(b, vec_fma(x, sine, vec_mul(y, cosine)), n);
}

static void rope_rows(const void *arg, int begin, int end) {
	const struct rope_job *job = arg;
	const int n_pairs = job->n_pairs;
	for (int r = begin; r < end; r++) {
		for (int i = 0; i < n_pairs; i += VEC) {
			const int n = n_pairs - i < VEC ? n_pairs - i : VEC;
			vec cosine, sine;
			vec_load_pairs(job->cs + ((size_t)r * n_pairs + i) * 2, n, &cosine, &sine);
			float *head = job->x + (size_t)r * job->ld + i;
			for (int h = 0; h < job->n_heads; h++, head += job->head_dim) {
				if (n == VEC) {
					turn(head, head + n_pairs, cosine, sine);
				} else {
					turn_part(head, head + n_pairs, cosine, sine, n);
				}
			}
		}
	}
}

void TAG(rope)(bb_queue *q, float *x, int ld, const float *cs, int n_rows, int n_heads,
	int head_dim, int n_pairs) {
	const struct rope_job job = { x, cs, ld, n_heads, head_dim, n_pairs };
	queue_run(q, rope_rows, &job, n_rows, vec_grain((size_t)n_heads * n_pairs * 2));
}
