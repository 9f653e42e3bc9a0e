/* SPDX-License-Identifier: Apache-2.0
 *
 * The CPU queue. */
#include "queue.h"

#include <assert.h>
#include <stdlib.h>

struct bb_queue {
	int n_threads;
	struct queue_stats stats;
};

bb_queue *queue_create(int n_threads) {
	bb_queue *q = calloc(1, sizeof(*q));
	if (q != NULL) {
		q->n_threads = n_threads;
	}
	return q;
}

void queue_destroy(bb_queue *q) {
	free(q);
}

int queue_threads(const bb_queue *q) {
	return q != NULL ? q->n_threads : 1;
}

void queue_run(bb_queue *q, queue_fn *fn, const void *arg, int n_units, int grain) {
	assert(grain > 0);
	for (int begin = 0; begin < n_units;) {
		const int end = n_units - begin > grain ? begin + grain : n_units;
		fn(arg, begin, end);
		begin = end;
	}
	if (q != NULL) {
		q->stats.n_runs++;
		q->stats.n_solo++;
	}
}

void queue_stats(const bb_queue *q, struct queue_stats *out) {
	*out = q->stats;
}
