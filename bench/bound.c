/* SPDX-License-Identifier: Apache-2.0
 *
 * The bound on deadlines met. A server of real steps can't do more than the fluid one, which does a
 * second of work in a second: by virtual_work the rows of a step are work for at most its time, and
 * a request that is met has had all its rows within its window. So any schedule of real steps, the
 * work of each step spread over its time, is one of the fluid server, which may do better, as it
 * gives one request its whole speed, and knows all that will come.
 * Where a part of a request's work counts as that part of it, the best is a linear program, and at
 * least the best with whole requests. Amounts of work that can be done within their windows by a
 * preemptive server are a polymatroid (Horn 1974; Edmonds 1970), so the greedy way is exact:
 * requests by work, least first, each as much of it as leaves those before it what they have.
 *
 * What is left for a request in [r, d]: earliest deadline first up to r leaves least to do later;
 * of that, and of what arrives later, as much as can is done behind d, by the same rule backwards
 * (latest arrival first). What then has to be done within [r, d] is lost to the request. */
#include "bound.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

struct bound {
	const struct virtual_request *q;
	double *amount, *left;        /* [n] seconds of work: taken for good; not done yet */
	double *work;                 /* [n] */
	int *by_arrival, *by_deadline; /* [n_taken]; the latter from the last on */
	int *heap;
	int n_taken, n_heap;
	bool is_back;                 /* time runs backwards */
	double start;                 /* what came earlier counts as of then, backwards */
};

/* Who goes first, the least first. */
static double key(const struct bound *b, int i) {
	return b->is_back ? -fmax(b->q[i].arrived, b->start) : b->q[i].deadline;
}

static void swap(int *a, int *b) {
	const int c = *a;
	*a = *b;
	*b = c;
}

static void heap_push(struct bound *b, int i) {
	int at = b->n_heap++;
	b->heap[at] = i;
	for (; at > 0 && key(b, b->heap[at]) < key(b, b->heap[(at - 1) / 2]); at = (at - 1) / 2) {
		swap(&b->heap[at], &b->heap[(at - 1) / 2]);
	}
}

static void heap_pop(struct bound *b) {
	b->heap[0] = b->heap[--b->n_heap];
	for (int at = 0, least; ; at = least) {
		least = at;
		for (int child = 2 * at + 1; child <= 2 * at + 2 && child < b->n_heap; child++) {
			least = key(b, b->heap[child]) < key(b, b->heap[least]) ? child : least;
		}
		if (least == at) {
			return;
		}
		swap(&b->heap[at], &b->heap[least]);
	}
}

/* So many seconds for those that are there. */
static void work_for(struct bound *b, double seconds) {
	while (b->n_heap > 0 && seconds > 0) {
		const int i = b->heap[0];
		const double done = fmin(b->left[i], seconds);
		b->left[i] -= done;
		seconds -= done;
		if (b->left[i] <= 0) {
			heap_pop(b);
		}
	}
}

static void work_forward(struct bound *b, double until) {
	double now = 0;
	b->is_back = false;
	b->n_heap = 0;
	int k = 0;
	for (; k < b->n_taken && b->q[b->by_arrival[k]].arrived < until; k++) {
		const int i = b->by_arrival[k];
		work_for(b, b->q[i].arrived - now);
		now = b->q[i].arrived;
		b->left[i] = b->amount[i];
		heap_push(b, i);
	}
	work_for(b, until - now);
	for (; k < b->n_taken; k++) {
		b->left[b->by_arrival[k]] = b->amount[b->by_arrival[k]];
	}
}

static void work_backward(struct bound *b, double until, double start) {
	double now = INFINITY;
	b->is_back = true;
	b->start = start;
	b->n_heap = 0;
	for (int k = 0; k < b->n_taken && b->q[b->by_deadline[k]].deadline > until; k++) {
		const int i = b->by_deadline[k];
		work_for(b, now - b->q[i].deadline);
		now = b->q[i].deadline;
		if (b->left[i] > 0) {
			heap_push(b, i);
		}
	}
	work_for(b, now - until);
}

static void insert(int *list, int n, int at, int i) {
	memmove(list + at + 1, list + at, (size_t)(n - at) * sizeof(*list));
	list[at] = i;
}

static void take(struct bound *b, int i, double amount) {
	int at = 0, at_deadline = 0;
	while (at < b->n_taken && b->q[b->by_arrival[at]].arrived <= b->q[i].arrived) {
		at++;
	}
	while (at_deadline < b->n_taken &&
		b->q[b->by_deadline[at_deadline]].deadline >= b->q[i].deadline) {
		at_deadline++;
	}
	insert(b->by_arrival, b->n_taken, at, i);
	insert(b->by_deadline, b->n_taken, at_deadline, i);
	b->n_taken++;
	b->amount[i] = amount;
}

static double bound_add(struct bound *b, int i) {
	const double from = b->q[i].arrived, to = b->q[i].deadline;
	double must = 0;
	work_forward(b, from);
	work_backward(b, to, from);
	for (int k = 0; k < b->n_taken; k++) {
		must += b->left[b->by_arrival[k]];
	}
	const double amount = fmin(b->work[i], to - from - must);
	if (amount <= 0) {
		return 0;
	}
	take(b, i, amount);
	return amount / b->work[i];
}

static int by_work_of(const void *x, const void *y, void *work) {
	const double a = ((const double *)work)[*(const int *)x];
	const double c = ((const double *)work)[*(const int *)y];
	return (a > c) - (a < c);
}

double bound_met(const struct virtual_server *v, const struct virtual_request *q, int n) {
	double *numbers = calloc((size_t)n, 3 * sizeof(*numbers));
	int *lists = calloc((size_t)n, 4 * sizeof(*lists));
	double met = numbers != NULL && lists != NULL ? 0 : -1;
	struct bound b = {
		.q = q, .amount = numbers, .left = numbers + n, .work = numbers + 2 * n,
		.by_arrival = lists, .by_deadline = lists + n, .heap = lists + 2 * n,
	};
	int *order = lists + 3 * n;
	for (int i = 0; met >= 0 && i < n; i++) {
		b.work[i] = virtual_work(v, q[i].n_prompt, q[i].n_output);
		order[i] = i;
	}
	if (met >= 0) {
		qsort_r(order, (size_t)n, sizeof(*order), by_work_of, b.work);
	}
	for (int i = 0; met >= 0 && i < n; i++) {
		met += bound_add(&b, order[i]);
	}
	free(numbers);
	free(lists);
	return met;
}
