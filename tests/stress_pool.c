/* SPDX-License-Identifier: Apache-2.0
 *
 * The thread pool under stress: every unit of every run computed exactly once, its results seen by
 * the caller and by the next run, with pauses that let the workers sleep. Made to run under
 * ThreadSanitizer too. `stress_pool --time` measures instead: an empty run, and a loop bound by
 * memory in runs of about 50 us as in decoding, printed once a second. */
#include "kernels.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum { MAX_UNITS = 1000 };

struct job {
	const uint64_t *in; /* [MAX_UNITS] results of the run before */
	uint64_t *out;      /* [MAX_UNITS] */
	int n_units;
};

/* Each unit reads its neighbours' results of the run before, which other threads may have
 * written. */
static void mix(const void *arg, int begin, int end) {
	const struct job *job = arg;
	for (int i = begin; i < end; i++) {
		const uint64_t a = job->in[i], b = job->in[(i + 1) % job->n_units];
		job->out[i] = (a ^ b >> 7) * 0x9e3779b97f4a7c15u + (uint64_t)i;
	}
}

static double seconds(void) {
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* Until n_runs runs went to all threads. On a busy machine the pool goes on alone now and then, and
 * the time it takes is limited. */
static int stress(int n_threads, uint64_t n_runs) {
	static uint64_t a[2][MAX_UNITS], b[2][MAX_UNITS];
	bb_queue *q = queue_create(n_threads);
	if (q == NULL) {
		printf("FAIL  no pool of %d threads\n", n_threads);
		return 1;
	}
	const double deadline = seconds() + 5;
	struct queue_stats stats = { 0 };
	uint32_t random = 1;
	for (unsigned r = 0; stats.n_runs - stats.n_solo < n_runs && seconds() < deadline; r++) {
		const uint64_t n_solo = stats.n_solo;
		random = random * 1664525u + 1013904223u;
		const int n_units = 1 + (int)(random >> 8) % MAX_UNITS,
			grain = 1 + (int)(random >> 20) % 40;
		const struct job pooled = { a[r % 2], a[1 - r % 2], n_units };
		const struct job alone = { b[r % 2], b[1 - r % 2], n_units };
		queue_run(q, mix, &pooled, n_units, grain);
		queue_run(NULL, mix, &alone, n_units, grain);
		if (memcmp(a, b, sizeof(a)) != 0) {
			printf("FAIL  run %u with %d threads, %d units, grain %d\n", r, n_threads, n_units,
				grain);
			queue_destroy(q);
			return 1;
		}
		queue_stats(q, &stats);
		if (r % 500 == 499) {
			usleep(random >> 30 == 0 ? 1000 : 120);
		} else if (n_threads > 1 && n_units > grain && stats.n_solo > n_solo) {
			usleep(1000);
		}
	}
	queue_destroy(q);
	printf("ok    %d threads: %llu runs, %llu alone, %llu sleeps\n", n_threads,
		(unsigned long long)stats.n_runs, (unsigned long long)stats.n_solo,
		(unsigned long long)stats.n_sleeps);
	return 0;
}

/* ---- measuring ---- */

enum { PIECE_BYTES = 1 << 16, N_PIECES = 16, MEMORY_BYTES = 256 << 20 };

struct reading {
	const uint64_t *memory; /* [N_PIECES, PIECE_BYTES / 8] */
	uint64_t *sums;         /* [N_PIECES] */
};

static void read_pieces(const void *arg, int begin, int end) {
	const struct reading *job = arg;
	for (int i = begin; i < end; i++) {
		const uint64_t *p = job->memory + (size_t)i * (PIECE_BYTES / 8);
		uint64_t sums[8] = { 0 };
		for (size_t j = 0; j < PIECE_BYTES / 8; j += 8) {
			for (size_t lane = 0; lane < 8; lane++) {
				sums[lane] += p[j + lane];
			}
		}
		for (size_t lane = 0; lane < 8; lane++) {
			job->sums[i] += sums[lane];
		}
	}
}

static void nothing(const void *arg, int begin, int end) {
}

static int measure(int n_seconds) {
	bb_queue *q = queue_create((int)sysconf(_SC_NPROCESSORS_ONLN));
	uint64_t *memory = malloc(MEMORY_BYTES);
	static uint64_t sums[N_PIECES];
	if (q == NULL || memory == NULL) {
		return 2;
	}
	memset(memory, 1, MEMORY_BYTES);
	for (int s = 0; s < n_seconds; s++) {
		struct queue_stats before, after;
		queue_stats(q, &before);
		const double start = seconds();
		size_t n_read = 0, at = 0;
		while (seconds() < start + 0.9) {
			const struct reading job = { memory + at / 8, sums };
			queue_run(q, read_pieces, &job, N_PIECES, 1);
			n_read += (size_t)PIECE_BYTES * N_PIECES;
			at = (at + (size_t)PIECE_BYTES * N_PIECES) % MEMORY_BYTES;
		}
		const double rate = (double)n_read / (seconds() - start);
		queue_stats(q, &after);
		double best = 1;
		for (int i = 0; i < 200; i++) {
			const double empty = seconds();
			for (int j = 0; j < 100; j++) {
				queue_run(q, nothing, NULL, 2, 1);
			}
			const double t = (seconds() - empty) / 100;
			best = t < best ? t : best;
		}
		printf("%6.1f GB/s, %llu runs, %llu alone, %llu sleeps; empty run %.0f ns\n", rate * 1e-9,
			(unsigned long long)(after.n_runs - before.n_runs),
			(unsigned long long)(after.n_solo - before.n_solo),
			(unsigned long long)(after.n_sleeps - before.n_sleeps), best * 1e9);
		fflush(stdout);
	}
	free(memory);
	queue_destroy(q);
	return 0;
}

int main(int argc, char **argv) {
	if (argc > 1 && strcmp(argv[1], "--time") == 0) {
		return measure(argc > 2 ? atoi(argv[2]) : 5);
	}
	static const int n_threads[] = { 2, 3, 4, 7 };
	const int n_checks = sizeof(n_threads) / sizeof(*n_threads);
	int n_failed = 0;
	for (int i = 0; i < n_checks; i++) {
		n_failed += stress(n_threads[i], argc > 1 ? (uint64_t)atoi(argv[1]) : 20000);
	}
	printf("%d passed, %d failed, 0 skipped\n", n_checks - n_failed, n_failed);
	return n_failed > 0;
}
