/* SPDX-License-Identifier: Apache-2.0
 *
 * Counting. What is written of it is in metrics_text.c. */
#include "metrics.h"

#include "exchange.h"
#include "metrics_table.h"

#include <string.h>

void metrics_init(struct metrics *m) {
	memset(m, 0, sizeof(*m));
	pthread_mutex_init(&m->lock, NULL);
}

void metrics_destroy(struct metrics *m) {
	pthread_mutex_destroy(&m->lock);
}

static void add(struct metrics *m, enum histogram h, double value) {
	const struct histogram_row *row = &metrics_histograms[h];
	int i = 0;
	while (i < row->n_bounds && value > row->bounds[i]) {
		i++;
	}
	m->histograms[h].n[i]++;
	m->histograms[h].sum += value;
}

void metrics_first(struct metrics *m, double seconds) {
	pthread_mutex_lock(&m->lock);
	add(m, HIST_TTFT, seconds);
	pthread_mutex_unlock(&m->lock);
}

void metrics_between(struct metrics *m, double seconds) {
	pthread_mutex_lock(&m->lock);
	add(m, HIST_ITL, seconds);
	pthread_mutex_unlock(&m->lock);
}

void metrics_finish(struct metrics *m, enum bb_finish finish) {
	const enum finished f = finish == BB_FINISH_STOP ? FINISHED_STOP
		: finish == BB_FINISH_CANCELLED || finish == BB_FINISH_DEADLINE ? FINISHED_ABORT
		: FINISHED_LENGTH;
	pthread_mutex_lock(&m->lock);
	m->finished[f]++;
	pthread_mutex_unlock(&m->lock);
}

void metrics_request(struct metrics *m, const struct bb_usage *usage, bool has_failed,
	double seconds) {
	pthread_mutex_lock(&m->lock);
	m->finished[FINISHED_ERROR] += has_failed;
	if (!has_failed) {
		add(m, HIST_E2E, seconds);
		add(m, HIST_QUEUE, usage->queued_s);
		add(m, HIST_PREFILL, usage->prompt_s);
		add(m, HIST_DECODE, usage->output_s);
		add(m, HIST_PROMPT_TOKENS, usage->n_prompt);
		add(m, HIST_OUTPUT_TOKENS, usage->n_output);
	}
	if (!has_failed && usage->n_output > 1) {
		add(m, HIST_TPOT, usage->output_s / (usage->n_output - 1));
	}
	pthread_mutex_unlock(&m->lock);
}

void metrics_refuse(struct metrics *m, bool is_busy) {
	pthread_mutex_lock(&m->lock);
	m->n_refused++;
	m->n_busy += is_busy;
	pthread_mutex_unlock(&m->lock);
}

void metrics_reply(struct metrics *m, const struct exchange *x) {
	if (x->status == 0) { /* it came by half, and got no reply */
		return;
	}
	pthread_mutex_lock(&m->lock);
	int i = 0;
	while (i < METRICS_STATUSES - 1 && m->replies[i].n > 0 && m->replies[i].status != x->status) {
		i++;
	}
	m->replies[i].status = x->status;
	m->replies[i].n++;
	pthread_mutex_unlock(&m->lock);
}
