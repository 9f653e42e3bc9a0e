/* SPDX-License-Identifier: Apache-2.0
 *
 * The product of each head with a matrix of its own: the reference. */
#include "kernels.h"

void heads_matmul_c(bb_queue *q, float *y, int ld_y, const float *x, int ld_x, const float *w,
	const float *bias, int n_rows, int n_heads, int dim) {
	for (int r = 0; r < n_rows; r++) {
		for (int h = 0; h < n_heads; h++) {
			const float *head = x + (size_t)r * ld_x + (size_t)h * dim;
			for (int j = 0; j < dim; j++) {
				const size_t at = (size_t)h * dim + j;
				double sum = bias != NULL ? bias[at] : 0;
				for (int i = 0; i < dim; i++) {
					sum += (double)head[i] * w[((size_t)h * dim + i) * dim + j];
				}
				y[(size_t)r * ld_y + at] = (float)sum;
			}
		}
	}
}
