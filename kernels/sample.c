/* SPDX-License-Identifier: Apache-2.0
 *
 * Reductions over a row of logits, the references. Choosing a token is the engine's matter. */
#include "kernels.h"

#include <math.h>

void argmax_c(bb_queue *q, int32_t *index, const float *x, int n) {
	int best = -1;
	for (int i = 0; i < n; i++) {
		if (!isnan(x[i]) && (best < 0 || x[i] > x[best])) {
			best = i;
		}
	}
	*index = best < 0 ? 0 : best;
}

void softmax_c(bb_queue *q, float *p, float *log_sum, const float *x, int n, float scale) {
	float max = -INFINITY;
	for (int i = 0; i < n; i++) {
		max = x[i] > max ? x[i] : max;
	}
	double sum = 0;
	for (int i = 0; i < n; i++) {
		sum += exp((double)scale * ((double)x[i] - max));
	}
	*log_sum = (float)log(sum);
	for (int i = 0; p != NULL && i < n; i++) {
		p[i] = (float)(exp((double)scale * ((double)x[i] - max)) / sum);
	}
}
