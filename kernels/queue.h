/* SPDX-License-Identifier: Apache-2.0
 *
 * "Where this runs": a queue is a CPU thread pool today, a CUDA stream in the GPU module. Kernels
 * take one as their first argument; calls on one queue happen in order. */
#ifndef QUEUE_H
#define QUEUE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct bb_queue bb_queue;

#ifndef __cplusplus /* device modules have queues of their own */

/* A pool of n_threads (the caller's thread is one of them). NULL when threads can't be had. */
bb_queue *queue_create(int n_threads);
void queue_destroy(bb_queue *q); /* NULL is fine */
int queue_threads(const bb_queue *q);

/* Calls fn(arg, begin, end) over [0, n_units) in pieces of about `grain` units, on all threads of
 * the pool (or on the caller's alone: one piece, a single thread, or a neighbour is stalling the
 * pool); returns when all are done. A NULL q runs everything on the caller. Units must be
 * independent: which thread takes which is not defined. fn must not call queue_run. */
typedef void queue_fn(const void *arg, int begin, int end);
void queue_run(bb_queue *q, queue_fn *fn, const void *arg, int n_units, int grain);

struct queue_stats {
	uint64_t n_runs, n_solo, n_sleeps; /* calls; calls run alone; waits that ended in the kernel */
};
void queue_stats(const bb_queue *q, struct queue_stats *out);
#endif

#endif
