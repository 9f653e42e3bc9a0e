/* SPDX-License-Identifier: Apache-2.0
 *
 * What `bobbin bench` measures (bench.c) and how it is printed (bench_print.c). */
#ifndef BENCH_H
#define BENCH_H

#include "bobbin.h"

enum { BENCH_MAX_REPEATS = 1000 };

/* One row: n_prompt tokens read, or n_gen generated, by each of n_parallel sequences, each of which
 * holds n_depth tokens before. */
struct bench_test {
	int n_prompt, n_gen, n_depth, n_parallel;
	int n_samples;
	double ns[BENCH_MAX_REPEATS]; /* [n_samples] */
	double step_bytes;            /* read by one generation step, on average; 0 = a prompt test */
	double bandwidth;             /* bytes/s measured on a buffer of that size; 0 = not known */
	char time[32];                /* ISO 8601, when it began */
};

struct bench_settings {
	const char *path;
	int n_batch, n_ubatch;
	struct bb_engine_info info;
};

enum bench_format { BENCH_MD, BENCH_CSV, BENCH_JSON, BENCH_JSONL };

void bench_print_start(enum bench_format format);
void bench_print_row(enum bench_format format, const struct bench_settings *s,
	const struct bench_test *t, bool is_first);
void bench_print_end(enum bench_format format, bool is_empty);
/* Share of the measured bandwidth in percent; negative = not known. */
double bench_percent(const struct bench_test *t);

#endif
