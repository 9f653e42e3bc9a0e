/* SPDX-License-Identifier: Apache-2.0
 *
 * Normalisations, the references. */
#include "kernels.h"

#include <math.h>

void rmsnorm_c(bb_queue *q, float *y, int ld_y, const float *x, int ld_x, const float *w,
	int n_rows, int n_groups, int dim, float eps) {
	for (int r = 0; r < n_rows; r++) {
		for (int g = 0; g < n_groups; g++) {
			const float *in = x + (size_t)r * ld_x + (size_t)g * dim;
			float *out = y + (size_t)r * ld_y + (size_t)g * dim;
			double sum = 0;
			for (int i = 0; i < dim; i++) {
				sum += (double)in[i] * in[i];
			}
			const double inverse = 1 / sqrt(sum / dim + (double)eps);
			for (int i = 0; i < dim; i++) {
				out[i] = (float)(in[i] * inverse * (w != NULL ? (double)w[i] : 1.0));
			}
		}
	}
}

void layernorm_c(bb_queue *q, float *y, int ld_y, const float *x, int ld_x, const float *w,
	const float *b, int n_rows, int n_groups, int dim, float eps) {
	for (int r = 0; r < n_rows; r++) {
		for (int g = 0; g < n_groups; g++) {
			const float *in = x + (size_t)r * ld_x + (size_t)g * dim;
			float *out = y + (size_t)r * ld_y + (size_t)g * dim;
			double sum = 0, squares = 0;
			for (int i = 0; i < dim; i++) {
				sum += in[i];
			}
			const double mean = sum / dim;
			for (int i = 0; i < dim; i++) {
				squares += (in[i] - mean) * (in[i] - mean);
			}
			const double inverse = 1 / sqrt(squares / dim + (double)eps);
			for (int i = 0; i < dim; i++) {
				out[i] = (float)((in[i] - mean) * inverse * (w != NULL ? (double)w[i] : 1.0)
					+ (b != NULL ? (double)b[i] : 0.0));
			}
		}
	}
}
