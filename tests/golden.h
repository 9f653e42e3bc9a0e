/* SPDX-License-Identifier: Apache-2.0
 *
 * What the goldens of tests/goldens/make.py are compared by: its prompt, and how far logits may be
 * off. */
#ifndef TESTS_GOLDEN_H
#define TESTS_GOLDEN_H

#include "npy.h"

#include <math.h>
#include <stdint.h>

/* Largest difference allowed, as a share of the golden's range (largest minus smallest logit). The
 * float32 run of the official code itself is off by up to 3e-6. */
#define GOLDEN_TOLERANCE 1e-4

enum { GOLDEN_VOCAB = 199 };

/* The formula of make.py's prompt(). */
static inline void golden_prompt(int32_t *ids, int n_tokens) {
	for (int i = 0; i < n_tokens; i++) {
		ids[i] = (17 + 31 * i + 7 * i * i + i / 5) % GOLDEN_VOCAB;
	}
}

static inline double golden_range(const struct npy *a) {
	float low = a->data[0];
	float high = a->data[0];
	for (size_t i = 1; i < a->rows * a->cols; i++) {
		low = fminf(low, a->data[i]);
		high = fmaxf(high, a->data[i]);
	}
	return (double)high - (double)low;
}

/* got: [rows, GOLDEN_VOCAB], the logits after the last `rows` tokens. The largest difference as a
 * share of the range, and where it is. */
static inline double golden_off(const float *got, const struct npy *want, size_t *at) {
	double worst = 0;
	*at = 0;
	for (size_t i = 0; i < want->rows * want->cols; i++) {
		const double off = fabs((double)got[i] - (double)want->data[i]);
		if (!(off <= worst)) {
			worst = isnan(off) ? (double)INFINITY : off;
			*at = i;
		}
	}
	return worst / golden_range(want);
}

#endif
