/* SPDX-License-Identifier: Apache-2.0
 *
 * Rotary position embedding, the references. Which frequencies a model has is the engine's
 * matter. */
#include "kernels.h"

#include <math.h>

struct table_job {
	float *cs;               /* [n_rows, n_pairs, 2] */
	const int32_t *pos;      /* [n_rows] */
	const double *inv_freq;  /* [n_pairs] */
	int n_pairs;
	float scale;
};

static void table_rows(const void *arg, int begin, int end) {
	const struct table_job *job = arg;
	for (int r = begin; r < end; r++) {
		float *cs = job->cs + (size_t)r * job->n_pairs * 2;
		for (int i = 0; i < job->n_pairs; i++) {
			/* In f64 the angle is right to 2^-22 at position 2^31; in f32 it is lost near 2^24. */
			const double angle = job->pos[r] * job->inv_freq[i];
			cs[2 * i] = (float)(job->scale * cos(angle));
			cs[2 * i + 1] = (float)(job->scale * sin(angle));
		}
	}
}

void rope_table_c(bb_queue *q, float *cs, const int32_t *pos, const double *inv_freq, int n_rows,
	int n_pairs, float scale) {
	const struct table_job job = { cs, pos, inv_freq, n_pairs, scale };
	queue_run(q, table_rows, &job, n_rows, 4);
}

void rope_c(bb_queue *q, float *x, int ld, const float *cs, int n_rows, int n_heads, int head_dim,
	int n_pairs) {
	for (int r = 0; r < n_rows; r++) {
		const float *turn = cs + (size_t)r * n_pairs * 2;
		for (int h = 0; h < n_heads; h++) {
			float *head = x + (size_t)r * ld + (size_t)h * head_dim;
			for (int i = 0; i < n_pairs; i++) {
				const double a = head[i], b = head[i + n_pairs];
				const double c = turn[2 * i], s = turn[2 * i + 1];
				head[i] = (float)(a * c - b * s);
				head[i + n_pairs] = (float)(a * s + b * c);
			}
		}
	}
}
