/* SPDX-License-Identifier: Apache-2.0
 *
 * The CPU queue: a pool of threads that claim pieces of a run from one counter. Nothing here knows
 * what the pieces compute. Made for hundreds of runs of 5 to 100 us with little serial work
 * between.
 *
 * A run is open while units are left in `claim`. A worker takes units by compare-and-swap and adds
 * them to `n_done` when they are computed; the caller takes part, then waits for the units that
 * others took. It never waits for a worker that took none: one that sleeps, comes late or was
 * preempted between runs costs nothing.
 *
 * Waits spin for a while, then sleep in the kernel. Where somebody else computes on one of our
 * CPUs, a thread preempted inside a piece makes the others wait for a time slice. The pool adds up
 * what that costs and what the workers save; while they cost more, it runs on the caller's thread
 * alone, longer each time that a probe of all threads fails. */
#include "queue.h"

#include <assert.h>
#include <limits.h>
#include <linux/futex.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

enum {
	WORKER_SPIN_NS = 100 * 1000, /* before a worker without work sleeps */
	STALL_NS = 60 * 1000,        /* beyond the caller's own share: a worker was preempted */
	SPINS_PER_LOOK = 32,         /* pauses (25 to 60 ns each) between looks at the clock */
	WINDOW_NS = 8 * 1000000,     /* of runs with workers, between looks at how it goes */
	BAD_WINDOWS = 2,             /* in a row before the caller goes on alone */
	CLEAN_WINDOWS = 4,           /* in a row make a neighbour forgotten */
	MIN_SOLO_NS = 20 * 1000000, MAX_SOLO_NS = 640 * 1000000,
};

struct worker {
	struct bb_queue *q;
	pthread_t thread;
	int index; /* 1 .. n_threads - 1; 0 is the caller */
};

struct bb_queue {
	/* What the workers watch, on one cache line. claim: number of the run << 32 | units not yet
	 * taken. The other three may change only while no units are left and none is being computed, so
	 * that whoever takes units has read the values of that run. */
	_Alignas(64) _Atomic uint64_t claim;
	_Atomic(queue_fn *) fn;
	_Atomic(const void *) arg;
	_Atomic uint32_t n_units, grain;

	/* What the caller watches. */
	_Alignas(64) _Atomic uint32_t n_done; /* units computed by workers; a futex */
	_Atomic uint32_t caller_sleeps;

	/* How workers sleep. */
	_Alignas(64) _Atomic uint32_t bell; /* a futex, changed to wake */
	_Atomic uint32_t n_asleep;          /* may be too large, never too small */
	_Atomic int caller_cpu;
	_Atomic uint32_t n_moves;           /* raised to ask the workers for CPUs of their own */
	atomic_bool is_stopping;

	/* The caller's own. */
	_Alignas(64) uint32_t n_runs;
	int64_t tick;         /* coarse time of the last run */
	struct window {
		int64_t busy, waited, slept, saved; /* ns of the caller in runs with workers: add_run() */
		int64_t cpu;                        /* the caller's CPU time when the window began */
		pid_t caller;                       /* whose that is */
	} window;
	int n_bad, n_clean;   /* windows in a row */
	int64_t solo_until, solo_ns;
	bool is_solo;

	int n_threads;
	struct worker *workers; /* [n_threads], 0 unused */
	int n_started;
	_Atomic uint64_t total_runs, total_solo, total_sleeps;
};

/* ---- the system ---- */

static int64_t now_ns(clockid_t clock) {
	struct timespec t;
	clock_gettime(clock, &t);
	return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

static void futex_wait(_Atomic uint32_t *word, uint32_t seen) {
	syscall(SYS_futex, word, FUTEX_WAIT_PRIVATE, seen, NULL, NULL, 0);
}

static void futex_wake(_Atomic uint32_t *word, int n) {
	syscall(SYS_futex, word, FUTEX_WAKE_PRIVATE, n, NULL, NULL, 0);
}

static void pause_cpu(void) {
	__builtin_ia32_pause();
}

static void count(_Atomic uint64_t *n) {
	atomic_store_explicit(n, atomic_load_explicit(n, memory_order_relaxed) + 1,
		memory_order_relaxed);
}

/* Moves this thread `step` places on from CPU `from` in the list of those it may use. The mask is
 * restored at once: the thread only has to start there. (Linux likes to wake a thread on its
 * waker's CPU, and then two threads share one while another idles.) */
static void move_on(int from, int step) {
	cpu_set_t allowed, one;
	if (sched_getaffinity(0, sizeof(allowed), &allowed) != 0 || CPU_COUNT(&allowed) < 2) {
		return;
	}
	int cpu = from >= 0 ? from : 0;
	for (step %= CPU_COUNT(&allowed); step > 0;) {
		cpu = (cpu + 1) % CPU_SETSIZE;
		step -= CPU_ISSET(cpu, &allowed) ? 1 : 0;
	}
	if (!CPU_ISSET(cpu, &allowed)) {
		return;
	}
	CPU_ZERO(&one);
	CPU_SET(cpu, &one);
	if (sched_setaffinity(0, sizeof(one), &one) == 0) {
		sched_setaffinity(0, sizeof(allowed), &allowed);
	}
}

/* ---- taking pieces ---- */

static uint32_t run_of(uint64_t claim) {
	return (uint32_t)(claim >> 32);
}

/* Takes pieces of run `number` until none is left; returns how many units that were. */
static uint32_t take_pieces(struct bb_queue *q, uint32_t number) {
	uint32_t n_taken = 0;
	uint64_t claim = atomic_load_explicit(&q->claim, memory_order_acquire);
	while (run_of(claim) == number && (uint32_t)claim != 0) {
		queue_fn *fn = atomic_load_explicit(&q->fn, memory_order_relaxed);
		const void *arg = atomic_load_explicit(&q->arg, memory_order_relaxed);
		const uint32_t n_units = atomic_load_explicit(&q->n_units, memory_order_relaxed);
		const uint32_t grain = atomic_load_explicit(&q->grain, memory_order_relaxed);
		const uint32_t left = (uint32_t)claim, n = left < grain ? left : grain;
		/* Release keeps the loads above in front: they are of this run if the exchange succeeds. */
		if (!atomic_compare_exchange_weak_explicit(&q->claim, &claim, claim - n,
			memory_order_acq_rel, memory_order_acquire)) {
			continue;
		}
		const uint32_t begin = n_units - left;
		fn(arg, (int)begin, (int)(begin + n));
		n_taken += n;
		claim = atomic_load_explicit(&q->claim, memory_order_acquire);
	}
	return n_taken;
}

/* ---- workers ---- */

static bool is_new(struct bb_queue *q, uint32_t seen, memory_order order) {
	return run_of(atomic_load_explicit(&q->claim, order)) != seen;
}

static void worker_sleep(struct bb_queue *q, uint32_t seen) {
	const uint32_t bell = atomic_load(&q->bell);
	atomic_fetch_add(&q->n_asleep, 1);
	/* The caller opens a run, then reads n_asleep: one of the two sees the other. */
	if (!is_new(q, seen, memory_order_seq_cst)) {
		futex_wait(&q->bell, bell);
	}
}

static void wait_for_run(struct bb_queue *q, uint32_t seen) {
	int64_t deadline = 0;
	for (;;) {
		for (int i = 0; i < SPINS_PER_LOOK; i++) {
			if (is_new(q, seen, memory_order_acquire)) {
				return;
			}
			pause_cpu();
		}
		const int64_t now = now_ns(CLOCK_MONOTONIC);
		if (deadline == 0) {
			deadline = now + WORKER_SPIN_NS;
		} else if (now > deadline) {
			worker_sleep(q, seen);
			deadline = 0;
		}
	}
}

static void *work(void *arg) {
	const struct worker *w = arg;
	struct bb_queue *q = w->q;
	uint32_t seen = 0, n_moves = 0;
	for (;;) {
		wait_for_run(q, seen);
		const int caller_cpu = atomic_load_explicit(&q->caller_cpu, memory_order_relaxed);
		const uint32_t asked = atomic_load_explicit(&q->n_moves, memory_order_relaxed);
		if (asked != n_moves || sched_getcpu() == caller_cpu) {
			n_moves = asked;
			move_on(caller_cpu, w->index);
		}
		seen = run_of(atomic_load_explicit(&q->claim, memory_order_acquire));
		/* After `seen`: the last run may have been opened since wait_for_run() saw the one
		 * before. */
		if (atomic_load_explicit(&q->is_stopping, memory_order_acquire)) {
			return NULL;
		}
		const uint32_t n = take_pieces(q, seen);
		if (n > 0) {
			atomic_fetch_add(&q->n_done, n);
			if (atomic_load(&q->caller_sleeps) != 0) {
				futex_wake(&q->n_done, 1);
			}
		}
	}
}

bb_queue *queue_create(int n_threads) {
	assert(n_threads > 0);
	bb_queue *q = aligned_alloc(_Alignof(bb_queue), sizeof(*q));
	struct worker *workers = calloc((size_t)n_threads, sizeof(*workers));
	if (q == NULL || workers == NULL) {
		free(q);
		free(workers);
		return NULL;
	}
	*q = (bb_queue){ .n_threads = n_threads, .workers = workers, .solo_ns = MIN_SOLO_NS,
		.caller_cpu = -1 };
	for (q->n_started = 0; q->n_started < n_threads - 1; q->n_started++) {
		struct worker *w = &workers[q->n_started + 1];
		*w = (struct worker){ .q = q, .index = q->n_started + 1 };
		if (pthread_create(&w->thread, NULL, work, w) != 0) {
			queue_destroy(q);
			return NULL;
		}
	}
	return q;
}

/* Opens run number n_runs + 1 with `left` units, and wakes who sleeps. */
static void open_run(struct bb_queue *q, uint32_t left) {
	q->n_runs++;
	atomic_store(&q->claim, (uint64_t)q->n_runs << 32 | left);
	if (atomic_load(&q->n_asleep) != 0) {
		atomic_store(&q->n_asleep, 0);
		atomic_fetch_add(&q->bell, 1);
		futex_wake(&q->bell, INT_MAX);
	}
}

void queue_destroy(bb_queue *q) {
	if (q == NULL) {
		return;
	}
	atomic_store(&q->is_stopping, true);
	open_run(q, 0);
	for (int i = 1; i <= q->n_started; i++) {
		pthread_join(q->workers[i].thread, NULL);
	}
	free(q->workers);
	free(q);
}

int queue_threads(const bb_queue *q) {
	return q != NULL ? q->n_threads : 1;
}

/* ---- how it goes ---- */

/* Adds a run in which the caller computed n of n_units in `busy` ns, then waited; `slept` ns of
 * that in the kernel. What the workers computed would have cost the caller as much again, in
 * proportion. */
static void add_run(struct window *w, int64_t busy, int64_t waited, int64_t slept, uint32_t n,
	uint32_t n_units) {
	w->busy += busy;
	w->waited += waited;
	w->slept += slept;
	w->saved += n > 0 ? busy * (int64_t)(n_units - n) / n : waited / 2;
}

static void start_window(struct bb_queue *q) {
	q->window = (struct window){ .cpu = now_ns(CLOCK_THREAD_CPUTIME_ID), .caller = gettid() };
}

/* The caller's time in runs while somebody else had its CPU: at least so much, since its CPU time
 * includes what lies between runs. */
static int64_t lost_ns(const struct window *w) {
	const int64_t cpu = now_ns(CLOCK_THREAD_CPUTIME_ID) - w->cpu;
	const int64_t lost = w->busy + w->waited - w->slept - cpu;
	return lost > 0 && w->caller == gettid() ? lost : 0;
}

static void probe(struct bb_queue *q) {
	q->is_solo = false;
	q->n_bad = BAD_WINDOWS - 1; /* the next bad window ends the probe */
	q->n_clean = 0;
	atomic_fetch_add_explicit(&q->n_moves, 1, memory_order_relaxed);
	start_window(q);
}

static void go_solo(struct bb_queue *q, int64_t now, bool was_preempted) {
	q->is_solo = true;
	q->solo_until = now + q->solo_ns;
	q->solo_ns = q->solo_ns * 2 < MAX_SOLO_NS ? q->solo_ns * 2 : MAX_SOLO_NS;
	if (was_preempted) {
		move_on(sched_getcpu(), 1); /* the worker's CPU is about to be free */
	}
}

/* At the end of a window. */
static void judge(struct bb_queue *q, int64_t now) {
	const struct window *w = &q->window;
	const bool is_preempted = lost_ns(w) > (w->busy + w->waited) / 4;
	if (!is_preempted && w->waited <= w->saved) {
		q->n_bad = 0;
		if (++q->n_clean >= CLEAN_WINDOWS) {
			q->solo_ns = MIN_SOLO_NS;
		}
	} else {
		q->n_clean = 0;
		if (++q->n_bad >= BAD_WINDOWS) {
			go_solo(q, now, is_preempted);
		} else {
			atomic_fetch_add_explicit(&q->n_moves, 1, memory_order_relaxed);
		}
	}
	start_window(q);
}

/* Once in a tick of the coarse clock (1 to 4 ms). */
static void look(struct bb_queue *q, int64_t now) {
	q->tick = now;
	if (q->is_solo) {
		if (now >= q->solo_until) {
			probe(q);
		}
	} else if (q->window.busy + q->window.waited >= WINDOW_NS) {
		judge(q, now);
	}
}

/* ---- runs ---- */

/* Until workers have computed n units. A piece of theirs may fairly take as long again as the
 * caller was `busy`. Returns the time that the caller slept. */
static int64_t wait_for_workers(struct bb_queue *q, uint32_t n, int64_t busy) {
	int64_t deadline = 0, now = 0;
	while (now <= deadline) {
		for (int i = 0; i < SPINS_PER_LOOK; i++) {
			if (atomic_load_explicit(&q->n_done, memory_order_acquire) == n) {
				return 0;
			}
			pause_cpu();
		}
		now = now_ns(CLOCK_MONOTONIC);
		deadline = deadline == 0 ? now + busy + STALL_NS : deadline;
	}
	count(&q->total_sleeps);
	atomic_store(&q->caller_sleeps, 1);
	for (uint32_t done; (done = atomic_load(&q->n_done)) != n;) {
		futex_wait(&q->n_done, done);
	}
	atomic_store(&q->caller_sleeps, 0);
	return now_ns(CLOCK_MONOTONIC) - now;
}

static void run_alone(queue_fn *fn, const void *arg, int n_units, int grain) {
	for (int begin = 0; begin < n_units;) {
		const int n = n_units - begin < grain ? n_units - begin : grain;
		fn(arg, begin, begin + n);
		begin += n;
	}
}

void queue_run(bb_queue *q, queue_fn *fn, const void *arg, int n_units, int grain) {
	assert(grain > 0);
	if (q == NULL) {
		run_alone(fn, arg, n_units, grain);
		return;
	}
	count(&q->total_runs);
	if (q->n_threads > 1 && n_units > grain) {
		const int64_t now = now_ns(CLOCK_MONOTONIC_COARSE);
		if (now != q->tick) {
			look(q, now);
		}
	}
	if (q->n_threads == 1 || n_units <= grain || q->is_solo) {
		count(&q->total_solo);
		run_alone(fn, arg, n_units, grain);
		return;
	}
	const int64_t started = now_ns(CLOCK_MONOTONIC);
	atomic_store_explicit(&q->fn, fn, memory_order_relaxed);
	atomic_store_explicit(&q->arg, arg, memory_order_relaxed);
	atomic_store_explicit(&q->n_units, (uint32_t)n_units, memory_order_relaxed);
	atomic_store_explicit(&q->grain, (uint32_t)grain, memory_order_relaxed);
	atomic_store_explicit(&q->n_done, 0, memory_order_relaxed);
	atomic_store_explicit(&q->caller_cpu, sched_getcpu(), memory_order_relaxed);
	open_run(q, (uint32_t)n_units);
	const uint32_t n = take_pieces(q, q->n_runs);
	const int64_t computed = now_ns(CLOCK_MONOTONIC);
	int64_t waited = 0, slept = 0;
	if (n < (uint32_t)n_units) {
		slept = wait_for_workers(q, (uint32_t)n_units - n, computed - started);
		waited = now_ns(CLOCK_MONOTONIC) - computed;
	}
	add_run(&q->window, computed - started, waited, slept, n, (uint32_t)n_units);
}

void queue_stats(const bb_queue *q, struct queue_stats *out) {
	*out = (struct queue_stats){
		.n_runs = atomic_load_explicit(&q->total_runs, memory_order_relaxed),
		.n_solo = atomic_load_explicit(&q->total_solo, memory_order_relaxed),
		.n_sleeps = atomic_load_explicit(&q->total_sleeps, memory_order_relaxed),
	};
}
