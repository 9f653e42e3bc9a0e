/* SPDX-License-Identifier: Apache-2.0
 *
 * What /metrics tells: counts and histograms that requests leave here, and the scheduler's own. */
#ifndef METRICS_H
#define METRICS_H

#include "bobbin.h"

#include <pthread.h>

struct exchange;

enum { METRICS_BUCKETS = 24, METRICS_STATUSES = 16 };
enum histogram {
	HIST_TTFT, HIST_ITL, HIST_E2E, HIST_QUEUE, HIST_PREFILL, HIST_DECODE, HIST_TPOT,
	HIST_PROMPT_TOKENS, HIST_OUTPUT_TOKENS, N_HISTOGRAMS,
};
enum finished { FINISHED_STOP, FINISHED_LENGTH, FINISHED_ABORT, FINISHED_ERROR, N_FINISHED };

struct metrics {
	pthread_mutex_t lock;
	struct histogram_counts {
		uint64_t n[METRICS_BUCKETS + 1]; /* not above the bound; the last: above all of them */
		double sum;
	} histograms[N_HISTOGRAMS];
	uint64_t finished[N_FINISHED], n_refused, n_busy;
	struct {
		int status;
		uint64_t n;
	} replies[METRICS_STATUSES];
};
void metrics_init(struct metrics *m);
void metrics_destroy(struct metrics *m);
void metrics_first(struct metrics *m, double seconds);   /* the first token came after so long */
void metrics_between(struct metrics *m, double seconds); /* one token after the other */
void metrics_finish(struct metrics *m, enum bb_finish finish);
void metrics_request(struct metrics *m, const struct bb_usage *usage, bool has_failed,
	double seconds);
void metrics_refuse(struct metrics *m, bool is_busy);
void metrics_reply(struct metrics *m, const struct exchange *x);

#endif
