/* SPDX-License-Identifier: Apache-2.0
 *
 * Histograms: names, buckets. */
#ifndef METRICS_TABLE_H
#define METRICS_TABLE_H

#include "metrics.h"

struct histogram_row {
	const char *name, *vllm, *help; /* vllm NULL: it has none such */
	const double *bounds;           /* [n_bounds], rising */
	int n_bounds;
};
extern const struct histogram_row metrics_histograms[N_HISTOGRAMS];

#endif
