/* SPDX-License-Identifier: Apache-2.0
 *
 * How many requests of an overloaded server meet their deadlines, by the scheduler's policy and by
 * others, beside a bound on what any could do. The trace follows from the seed alone: Poisson
 * arrivals at 1.3 times what the server can do, lognormal lengths, deadlines at three times what a
 * request takes alone, lengths predicted with an error of sigma 0.5. Only the clock is simulated:
 * the policy is the code that serves.
 *
 * goodput [SEED [REQUESTS [LOAD]]]      1 10000 1.3 */
#include "bound.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

/* Like an 8 B model of 16 bits on a GPU with 3 TB/s: a step reads the weights, and prompts cost
 * arithmetic. */
static const struct virtual_server server = {
	.cost = { .step_s = 8e-3, .row_s = 60e-6, .prefill_s = 50e-6, .copy_s = 2 / 20e9 },
	.max_places = 32, .max_rows = 1024, .max_bytes = (size_t)8 << 30,
	.page_bytes = (size_t)8 << 20, .stretch = 2.25,
};

static void make_trace(struct virtual_request *q, int n, double load, uint64_t seed) {
	uint64_t random = seed * 0x9E3779B97F4A7C15u + 1;
	double work = 0, now = 0;
	for (int i = 0; i < n; i++) {
		q[i] = (struct virtual_request){
			.n_prompt = 1 + (int)(256 * exp(virtual_normal(&random))),
			.n_output = 1 + (int)(128 * exp(virtual_normal(&random))),
			.cancelled = INFINITY,
		};
		q[i].n_predicted = q[i].n_output * exp(0.5 * virtual_normal(&random));
		work += virtual_work(&server, q[i].n_prompt, q[i].n_output);
	}
	const double rate = load / (work / n);
	for (int i = 0; i < n; i++) {
		now += -log(1 - virtual_unit(&random)) / rate;
		q[i].arrived = now;
		q[i].deadline = now + 3 * virtual_alone(&server, q[i].n_prompt, q[i].n_output);
	}
}

/* ---- the policies beside ours ---- */

static void by_deadline(struct schedule_state *s, double now) {
	(void)now;
	for (int i = 0; i < s->n_jobs; i++) {
		s->jobs[i].group = 0;
		s->jobs[i].rank = s->jobs[i].deadline;
	}
}

static void by_work(struct schedule_state *s, double now) {
	(void)now;
	for (int i = 0; i < s->n_jobs; i++) {
		s->jobs[i].group = 0;
		s->jobs[i].rank = schedule_needs(s, &s->jobs[i]);
	}
}

static void by_arrival(struct schedule_state *s, double now) {
	(void)now;
	for (int i = 0; i < s->n_jobs; i++) {
		s->jobs[i].group = 0;
		s->jobs[i].rank = (double)s->jobs[i].order;
	}
}

/* ---- the report ---- */

static const struct policy {
	const char *name;
	void (*rank)(struct schedule_state *s, double now);
} policies[] = {
	{ "ours", NULL }, { "EDF", by_deadline }, { "SRPT", by_work }, { "FCFS", by_arrival },
};
enum { N_POLICIES = sizeof(policies) / sizeof(policies[0]) };

int main(int argc, char **argv) {
	const uint64_t seed = argc > 1 ? strtoull(argv[1], NULL, 10) : 1;
	const int n = argc > 2 ? atoi(argv[2]) : 10000;
	const double load = argc > 3 ? atof(argv[3]) : 1.3;
	if (argc > 4 || n < 1 || !(load > 0)) {
		fprintf(stderr, "usage: goodput [SEED [REQUESTS [LOAD]]]\n");
		return 2;
	}
	struct virtual_request *q = calloc((size_t)n, sizeof(*q));
	if (q == NULL) {
		fprintf(stderr, "goodput: no memory for %d requests\n", n);
		return 1;
	}
	make_trace(q, n, load, seed);
	const double most = bound_met(&server, q, n);
	int met[N_POLICIES];
	printf("%d requests at %.2f x capacity, seed %llu\n", n, load, (unsigned long long)seed);
	printf("%-6s %8s %9s %9s %9s %9s\n", "policy", "met", "of bound", "rows/step", "put aside",
		"busy");
	for (int i = 0; i < N_POLICIES; i++) {
		struct virtual_server v = server;
		struct virtual_result r;
		v.rank = policies[i].rank;
		if (most < 0 || !virtual_run(&v, q, n, &r)) {
			fprintf(stderr, "goodput: no memory\n");
			free(q);
			return 1;
		}
		met[i] = r.n_met;
		printf("%-6s %8d %8.1f%% %9.1f %9ld %8.1f%%\n", policies[i].name, r.n_met,
			100 * r.n_met / most, (double)r.n_rows / (double)r.n_steps, r.n_asides,
			100 * r.busy_s / r.seconds);
	}
	printf("bound  %8.1f\n", most);
	free(q);
	bool is_best = met[0] >= 0.85 * most;
	for (int i = 1; i < N_POLICIES; i++) {
		is_best = is_best && met[0] >= met[i];
	}
	printf("at least 85 %% of the bound, and of the others none meets more: %s\n",
		is_best ? "yes" : "no");
	return is_best ? 0 : 1;
}
