/* SPDX-License-Identifier: Apache-2.0
 *
 * Confidences of groups of tokens: a ring, and its running sum. */
#include "confidence.h"

#include <assert.h>
#include <math.h>
#include <stdlib.h>

bool confidence_init(struct confidence *c, int group, struct bb_error *err) {
	assert(group >= 1);
	*c = (struct confidence){ .group = group, .lowest = INFINITY };
	c->ring = base_alloc((size_t)group, sizeof(*c->ring));
	return c->ring != NULL || base_no_memory(err, "confidences", (size_t)group * sizeof(*c->ring));
}

void confidence_finish(struct confidence *c) {
	base_free(c->ring);
	*c = (struct confidence){ 0 };
}

void confidence_add(struct confidence *c, float token) {
	float *const place = &c->ring[c->n % c->group];
	c->sum += (double)token - (double)(c->n >= c->group ? *place : 0);
	*place = token;
	c->n++;
	if (c->n >= c->group) {
		c->lowest = fmin(c->lowest, c->sum / c->group);
	}
}

double confidence_now(const struct confidence *c) {
	const int n = c->n < c->group ? c->n : c->group;
	return n > 0 ? c->sum / n : 0;
}

bool confidence_has_group(const struct confidence *c) {
	return c->n >= c->group;
}

double confidence_lowest(const struct confidence *c) {
	return confidence_has_group(c) ? c->lowest : confidence_now(c);
}

static int by_value(const void *a, const void *b) {
	const double x = *(const double *)a, y = *(const double *)b;
	return x < y ? -1 : x > y;
}

double confidence_bar(double *values, int n, double share) {
	assert(n >= 1);
	qsort(values, (size_t)n, sizeof(*values), by_value);
	const double at = (1 - share) * (n - 1);
	const int below = (int)floor(at) < n - 1 ? (int)floor(at) : n - 1;
	const int above = below + 1 < n ? below + 1 : n - 1;
	return values[below] + (at - below) * (values[above] - values[below]);
}
