/* SPDX-License-Identifier: Apache-2.0
 *
 * Scans of state-space models, the references: states are rounded to f32 after each row, all else
 * is double. */
#include "kernels.h"

#include <math.h>

static double softplus(double x) {
	return fmax(x, 0) + log1p(exp(-fabs(x)));
}

/* Channel c of one row, whose state is S[n * dim]. */
static double scan_row(const struct bb_scan *a, float *S, int r, int c) {
	const double x = a->x[(size_t)r * a->ld_x + c];
	const double bias = a->dt_bias != NULL ? a->dt_bias[c] : 0;
	const double d = softplus(a->dt[(size_t)r * a->ld_dt + c] + bias);
	double y = a->skip != NULL ? a->skip[c] * x : 0;
	for (int n = 0; n < a->n_state; n++) {
		const double keep = exp(d * a->a[(size_t)n * a->dim + c]);
		float *s = &S[(size_t)n * a->dim];
		*s = (float)(keep * *s + d * x * a->b[(size_t)r * a->ld_bc + n]);
		y += (double)*s * a->c[(size_t)r * a->ld_bc + n];
	}
	return y;
}

static void copy_state(float *to, const float *from, size_t n) {
	for (size_t i = 0; i < n; i++) {
		to[i] = from != NULL ? from[i] : 0;
	}
}

void scan_c(bb_queue *q, const struct bb_scan *a) {
	for (int i = 0; i < a->n_seqs; i++) {
		for (int k = 0; k <= a->seqs[i].n_saves; k++) {
			const struct bb_stretch s = state_stretch(&a->seqs[i], k, a->state_at);
			copy_state(s.to, s.from, (size_t)a->n_state * a->dim);
			for (int r = s.row0; r < s.row0 + s.n_rows; r++) {
				for (int c = 0; c < a->dim; c++) {
					a->y[(size_t)r * a->ld_y + c] = (float)scan_row(a, s.to + c, r, c);
				}
			}
		}
	}
}

/* Head h of one row, whose state is S[n_state, head_dim]. */
static void ssd_row(const struct bb_ssd *a, float *S, int r, int h) {
	const int g = h / (a->n_heads / a->n_groups);
	const size_t bc = (size_t)r * a->ld_bc + (size_t)g * a->n_state;
	const double bias = a->dt_bias != NULL ? a->dt_bias[h] : 0;
	double d = softplus(a->dt[(size_t)r * a->ld_dt + h] + bias);
	d = fmin(fmax(d, a->dt_min), a->dt_max);
	const double keep = exp(d * a->a[h]);
	for (int p = 0; p < a->head_dim; p++) {
		const size_t at = (size_t)h * a->head_dim + p;
		const double x = a->x[(size_t)r * a->ld_x + at];
		double y = a->skip != NULL ? a->skip[h] * x : 0;
		for (int n = 0; n < a->n_state; n++) {
			float *s = &S[(size_t)n * a->head_dim + p];
			*s = (float)(keep * *s + d * x * a->b[bc + n]);
			y += (double)*s * a->c[bc + n];
		}
		a->y[(size_t)r * a->ld_y + at] = (float)y;
	}
}

void ssd_c(bb_queue *q, const struct bb_ssd *a) {
	const size_t head = (size_t)a->n_state * a->head_dim;
	for (int i = 0; i < a->n_seqs; i++) {
		for (int k = 0; k <= a->seqs[i].n_saves; k++) {
			const struct bb_stretch s = state_stretch(&a->seqs[i], k, a->state_at);
			copy_state(s.to, s.from, head * a->n_heads);
			for (int r = s.row0; r < s.row0 + s.n_rows; r++) {
				for (int h = 0; h < a->n_heads; h++) {
					ssd_row(a, s.to + (size_t)h * head, r, h);
				}
			}
		}
	}
}
