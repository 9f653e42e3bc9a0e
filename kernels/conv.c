/* SPDX-License-Identifier: Apache-2.0
 *
 * Causal depthwise convolution with a state, the reference. */
#include "kernels.h"

#include <math.h>

/* Channel c of a stretch. */
static void conv_channel(const struct bb_conv *a, const struct bb_stretch *s, int c) {
	const int n_past = a->width - 1;
	float past[BB_CONV_WIDTH - 1]; /* oldest first */
	for (int j = 0; j < n_past; j++) {
		past[j] = s->from != NULL ? s->from[(size_t)j * a->dim + c] : 0;
	}
	for (int r = s->row0; r < s->row0 + s->n_rows; r++) {
		const float x = a->x[(size_t)r * a->ld_x + c];
		double y = a->bias != NULL ? a->bias[c] : 0;
		for (int j = 0; j < n_past; j++) {
			y += (double)a->w[(size_t)j * a->dim + c] * past[j];
		}
		y += (double)a->w[(size_t)n_past * a->dim + c] * x;
		a->y[(size_t)r * a->ld_y + c] = (float)(a->silu ? y / (1 + exp(-y)) : y);
		for (int j = 0; j + 1 < n_past; j++) {
			past[j] = past[j + 1];
		}
		past[n_past - 1] = x;
	}
	for (int j = 0; j < n_past; j++) {
		s->to[(size_t)j * a->dim + c] = past[j];
	}
}

void conv_c(bb_queue *q, const struct bb_conv *a) {
	for (int i = 0; i < a->n_seqs; i++) {
		for (int k = 0; k <= a->seqs[i].n_saves; k++) {
			const struct bb_stretch s = state_stretch(&a->seqs[i], k, a->state_at);
			for (int c = 0; c < a->dim; c++) {
				conv_channel(a, &s, c);
			}
		}
	}
}
