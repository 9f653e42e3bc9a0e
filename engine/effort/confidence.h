/* SPDX-License-Identifier: Apache-2.0
 *
 * How sure a branch is of what it writes: its tokens' confidences in groups, as DeepConf has them
 * (arXiv:2508.15260). */
#ifndef CONFIDENCE_H
#define CONFIDENCE_H

#include "base.h"

struct confidence { /* of a branch; zeroed until confidence_init */
	float *ring;     /* [group]: those of the last tokens */
	int group, n;    /* tokens of a group, and so far */
	double sum;      /* of those in the ring */
	double lowest;   /* group so far; of less than a group: INFINITY */
};
bool confidence_init(struct confidence *c, int group, struct bb_error *err);
void confidence_finish(struct confidence *c);
/* One more token with bb_sampled's confidence. */
void confidence_add(struct confidence *c, float token);
/* The mean of the last group; before there is one, of all tokens; 0: there are none. */
double confidence_now(const struct confidence *c);
/* Whether the last token completed a group, this one or an earlier one. */
bool confidence_has_group(const struct confidence *c);
/* The lowest mean of a group; before there is one, the mean of all tokens. */
double confidence_lowest(const struct confidence *c);

/* What `share` of values[n], n >= 1, lie above, between two of them in proportion (the percentile
 * 100 * (1 - share) with linear interpolation). Sorts values. */
double confidence_bar(double *values, int n, double share);

#endif
