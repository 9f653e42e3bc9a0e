/* SPDX-License-Identifier: Apache-2.0
 *
 * Steps of a server without a model: rows are counted, pages are numbers. */
#include "virtual.h"

#include <math.h>
#include <stdlib.h>

enum { PAGE = 64 };

struct live {
	int i_request, n_kept, n_drawn; /* tokens in its context; tokens that it has given */
	bool is_in;
};

struct run {
	const struct virtual_server *server;
	struct virtual_request *requests;
	struct live *live; /* [plan.n_jobs], beside the jobs */
	int *of_job;
	struct schedule_state plan;
	double now;
};

double virtual_unit(uint64_t *random) { /* xorshift64*, arXiv:1402.6246 */
	*random ^= *random >> 12;
	*random ^= *random << 25;
	*random ^= *random >> 27;
	return (double)((*random * 0x2545F4914F6CDD1Du) >> 11) * 0x1p-53;
}

double virtual_normal(uint64_t *random) { /* Box and Muller */
	const double u = 1 - virtual_unit(random), v = virtual_unit(random);
	return sqrt(-2 * log(u)) * cos(6.283185307179586 * v);
}

double virtual_alone(const struct virtual_server *v, int n_prompt, int n_output) {
	const int n_steps = (n_prompt + v->max_rows - 1) / v->max_rows;
	return n_steps * v->cost.step_s + n_prompt * v->cost.prefill_s +
		(n_output - 1) * (v->cost.step_s + v->cost.row_s);
}

/* At most what steps take for its rows: no more than max_places decode in each, and the last token
 * of a prompt that is left alone is read as if it did. */
double virtual_work(const struct virtual_server *v, int n_prompt, int n_output) {
	const double decode = v->cost.step_s / v->max_places + v->cost.row_s;
	return (n_prompt - 1) * v->cost.prefill_s + fmin(v->cost.prefill_s, decode) +
		(n_output - 1) * decode;
}

static size_t pages_of(int n_tokens) {
	return (size_t)((n_tokens + PAGE - 1) / PAGE);
}

static size_t bytes_for(void *user, int i, int n_rows) {
	const struct run *r = user;
	const struct live *l = &r->live[i];
	const size_t has = l->is_in ? pages_of(l->n_kept) : 0;
	return (pages_of(l->n_kept + n_rows) - has) * r->server->page_bytes;
}

static void make_job(struct run *r, int i) {
	const struct live *l = &r->live[i];
	const struct virtual_request *q = &r->requests[l->i_request];
	const int todo = q->n_prompt + l->n_drawn - l->n_kept;
	const double left = q->n_predicted - l->n_drawn, least = 1 + 0.25 * l->n_drawn;
	r->of_job[i] = l->i_request;
	r->plan.jobs[i] = (struct schedule_job){
		.order = (uint64_t)l->i_request, .priority = q->priority, .deadline = q->deadline,
		.n_todo = todo, .n_left = left > least ? left : least, .max_rows = todo, .n_places = 1,
		.is_in = l->is_in, .bytes = l->is_in ? pages_of(l->n_kept) * r->server->page_bytes : 0,
	};
}

/* Who is done, too late or unwanted leaves. */
static void leave(struct run *r) {
	int n = 0;
	for (int i = 0; i < r->plan.n_jobs; i++) {
		const struct live *l = &r->live[i];
		struct virtual_request *q = &r->requests[l->i_request];
		const bool is_done = l->n_drawn == q->n_output;
		q->is_met = is_done && r->now <= q->deadline;
		if (is_done || r->now > q->deadline || r->now >= q->cancelled) {
			q->ended = r->now;
		} else {
			r->live[n++] = *l;
		}
	}
	r->plan.n_jobs = n;
}

/* Contexts move; returns the seconds that it takes. */
static double move(struct run *r, struct virtual_result *out) {
	size_t bytes = 0;
	for (int i = 0; i < r->plan.n_jobs; i++) {
		struct live *l = &r->live[i];
		const bool runs = r->plan.jobs[i].runs;
		const size_t copied = pages_of(l->n_kept) * r->server->page_bytes;
		if (l->is_in && !runs) {
			r->requests[l->i_request].n_asides++;
			out->n_asides++;
			if (!schedule_copies(&r->server->cost, copied, l->n_kept)) {
				out->n_dropped++;
				l->n_kept = 0;
			}
		}
		if (l->is_in != runs && l->n_kept > 0) {
			bytes += copied;
		}
		l->is_in = runs;
	}
	return (double)bytes * r->server->cost.copy_s / 2;
}

static void step(struct run *r, struct virtual_result *out) {
	const struct virtual_server *v = r->server;
	for (int i = 0; i < r->plan.n_jobs; i++) {
		make_job(r, i);
	}
	schedule_plan(&r->plan, r->now);
	if (v->look != NULL) {
		v->look(v->user, &r->plan, r->of_job, r->now);
	}
	double seconds = move(r, out) + v->cost.step_s;
	for (int i = 0; i < r->plan.n_jobs; i++) {
		const struct schedule_job *j = &r->plan.jobs[i];
		struct live *l = &r->live[i];
		struct virtual_request *q = &r->requests[l->i_request];
		if (j->n_rows > 0 && q->begun < 0) {
			q->begun = r->now;
		}
		seconds += j->n_rows * (j->n_todo == 1 ? v->cost.row_s : v->cost.prefill_s);
		l->n_kept += j->n_rows;
		l->n_drawn += j->n_rows > 0 && l->n_kept == q->n_prompt + l->n_drawn;
		out->n_rows += j->n_rows;
	}
	out->n_steps++;
	out->busy_s += seconds;
	r->now += seconds;
}

static void run(struct run *r, int n, struct virtual_result *out) {
	for (int next = 0; next < n || r->plan.n_jobs > 0;) {
		if (r->plan.n_jobs == 0 && r->requests[next].arrived > r->now) {
			r->now = r->requests[next].arrived;
		}
		for (; next < n && r->requests[next].arrived <= r->now; next++) {
			r->live[r->plan.n_jobs++] = (struct live){ .i_request = next };
			r->requests[next].begun = r->requests[next].ended = -1;
		}
		leave(r);
		if (r->plan.n_jobs > 0) {
			step(r, out);
			leave(r);
		}
	}
	out->seconds = r->now;
	for (int i = 0; i < n; i++) {
		out->n_met += r->requests[i].is_met;
	}
}

bool virtual_run(const struct virtual_server *v, struct virtual_request *requests, int n,
	struct virtual_result *out) {
	struct run r = { .server = v, .requests = requests };
	*out = (struct virtual_result){ 0 };
	r.plan = (struct schedule_state){
		.max_places = v->max_places, .max_rows = v->max_rows, .max_bytes = v->max_bytes,
		.stretch = v->stretch, .cost = v->cost, .bytes_for = bytes_for, .user = &r,
		.rank = v->rank,
	};
	r.live = calloc((size_t)n, sizeof(*r.live));
	r.of_job = calloc((size_t)n, sizeof(*r.of_job));
	r.plan.jobs = calloc((size_t)n, sizeof(*r.plan.jobs));
	r.plan.order = calloc((size_t)n, sizeof(*r.plan.order));
	const bool ok = r.live != NULL && r.of_job != NULL && r.plan.jobs != NULL &&
		r.plan.order != NULL;
	if (ok) {
		run(&r, n, out);
	}
	free(r.live);
	free(r.of_job);
	free(r.plan.jobs);
	free(r.plan.order);
	return ok;
}
