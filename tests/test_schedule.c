/* SPDX-License-Identifier: Apache-2.0
 *
 * The scheduler's decisions under a virtual clock, over 10,000 requests of all sorts: budgets hold,
 * nobody starves, what is urgent begins in the next step, nothing idles that could run, and the
 * same trace gives the same decisions. Then the order by itself, the measured cost of steps, and
 * how many deadlines are met beside a bound that is held against all choices there are. */
#include "bound.h"

#include <criterion/criterion.h>

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { N = 10000, PLACES = 16, ROWS = 128 };

static const struct virtual_server server = {
	.cost = { .step_s = 0.010, .row_s = 0.001, .prefill_s = 0.0004, .copy_s = 2 / 1e8 },
	.max_places = PLACES, .max_rows = ROWS, .max_bytes = 60 << 10, .page_bytes = 1 << 10,
	.stretch = 2.25,
};

/* Most that a step takes here: with all rows, and every context moved both ways. */
static const double LONGEST_STEP = 0.010 + PLACES * 0.001 + ROWS * 0.0004 + 2 * 60e3 / 1e8;

/* Lognormal lengths, a fifth with deadlines, few of a priority below 0 (urgent) or above, some
 * cancelled on their way. */
static struct virtual_request *make_trace(int n, double load, uint64_t seed) {
	struct virtual_request *q = calloc((size_t)n, sizeof(*q));
	uint64_t random = seed;
	double work = 0, now = 0;
	for (int i = 0; i < n; i++) {
		const double kind = virtual_unit(&random);
		q[i].n_prompt = 1 + (int)fmin(2000, 100 * exp(virtual_normal(&random)));
		q[i].n_output = 1 + (int)fmin(1000, 40 * exp(virtual_normal(&random)));
		q[i].n_predicted = q[i].n_output * exp(0.5 * virtual_normal(&random));
		q[i].priority = kind < 0.02 ? -1 : kind < 0.3 ? 1 : 0;
		q[i].deadline = q[i].cancelled = INFINITY;
		work += virtual_work(&server, q[i].n_prompt, q[i].n_output);
	}
	for (int i = 0; i < n; i++) {
		now += -log(1 - virtual_unit(&random)) * (work / n) / load;
		q[i].arrived = now;
		if (q[i].priority >= 0 && i % 5 == 0) {
			q[i].deadline = now + 4 * virtual_alone(&server, q[i].n_prompt, q[i].n_output);
		}
		if (i % 11 == 0) {
			q[i].cancelled = now + 2 * virtual_unit(&random);
		}
	}
	return q;
}

/* ---- what holds in every step ---- */

struct watch {
	const struct virtual_request *q;
	double last_plan;  /* when; what arrived since must be urgent in this one */
	uint64_t hash;
	long n_plans, n_urgent;
};

static void hash_in(struct watch *w, uint64_t x) {
	w->hash = (w->hash ^ x) * 0x100000001B3u;
}

static size_t bytes_after(const struct schedule_state *s, int i) {
	const struct schedule_job *j = &s->jobs[i];
	return j->bytes + s->bytes_for(s->user, i, j->n_rows > 1 ? j->n_rows : 1);
}

static void check_budgets(const struct schedule_state *s) {
	int n_places = 0, n_rows = 0, n_decode = 0;
	size_t bytes = 0;
	for (int i = 0; i < s->n_jobs; i++) {
		const struct schedule_job *j = &s->jobs[i];
		cr_assert(j->runs || j->n_rows == 0);
		cr_assert(j->n_rows >= 0 && j->n_rows <= j->n_todo);
		cr_assert(!j->runs || j->n_todo > 1 || j->n_rows == 1, "a job that decodes was left out");
		n_places += j->runs ? j->n_places : 0;
		n_rows += j->n_rows;
		n_decode += j->runs && j->n_todo == 1;
		bytes += j->runs ? bytes_after(s, i) : 0;
	}
	cr_assert_leq(n_places, s->max_places);
	cr_assert_leq(n_rows, s->max_rows);
	cr_assert_leq(bytes, s->max_bytes);
	cr_assert_gt(n_rows, 0, "jobs are there, and nobody runs");
	/* the time that decoding jobs wait for prompts */
	const struct schedule_cost *c = &s->cost;
	const double idle = c->step_s + c->row_s * n_decode;
	const double least = 4 * c->prefill_s + 1e-9; /* rows that a prompt always may have */
	cr_assert(n_decode == 0 || idle + c->prefill_s * (n_rows - n_decode) <=
		fmax(s->stretch * idle, idle + least) + 1e-9);
}

/* The oldest without a deadline has at least a row: so the next one begins, at the latest, when
 * it's done, and so on. */
static void check_elder(const struct schedule_state *s) {
	const struct schedule_job *oldest = NULL;
	for (int i = 0; i < s->n_jobs; i++) {
		const struct schedule_job *j = &s->jobs[i];
		if (isinf(j->deadline) && (oldest == NULL || j->order < oldest->order)) {
			oldest = j;
		}
	}
	cr_assert(oldest == NULL || oldest->n_rows > 0, "the oldest job starves");
}

/* Who isn't in couldn't be: no place, or no bytes for what he is about to need. */
static void check_work_conserving(const struct schedule_state *s) {
	int n_places = 0, n_prefill = 0, n_decode = 0;
	size_t soon = 0, after = 0;
	for (int i = 0; i < s->n_jobs; i++) {
		const struct schedule_job *j = &s->jobs[i];
		const int ahead = j->n_todo + (int)fmin(j->n_left, SCHEDULE_AHEAD);
		soon += j->runs ? j->bytes + s->bytes_for(s->user, i, ahead) : 0;
		after += j->runs ? bytes_after(s, i) : 0;
		n_places += j->runs;
		n_prefill += j->runs && j->n_todo > 1 ? j->n_rows : 0;
		n_decode += j->runs && j->n_todo == 1;
	}
	for (int i = 0; i < s->n_jobs && n_places < s->max_places; i++) {
		const struct schedule_job *j = &s->jobs[i];
		const int ahead = j->n_todo + (int)fmin(j->n_left, SCHEDULE_AHEAD);
		cr_assert(j->runs || soon + j->bytes + s->bytes_for(s->user, i, ahead) > s->max_bytes ||
			(j->is_in && after + bytes_after(s, i) > s->max_bytes), "job %d could run", i);
	}
	for (int i = 0; i < s->n_jobs; i++) {
		const struct schedule_job *j = &s->jobs[i];
		const double idle = s->cost.step_s + s->cost.row_s * n_decode;
		const bool is_stretched = n_decode > 0 &&
			idle + s->cost.prefill_s * (n_prefill + 1) > s->stretch * idle;
		cr_assert(!j->runs || j->n_rows > 0 || is_stretched || n_prefill + n_decode == s->max_rows,
			"a prompt could be read further");
	}
}

/* Requests of priority -1 that came since the last plan have rows now, while there are few. */
static void check_urgent(struct watch *w, const struct schedule_state *s, const int *of_job) {
	int n = 0;
	for (int i = 0; i < s->n_jobs; i++) {
		n += s->jobs[i].priority < 0;
	}
	for (int i = 0; i < s->n_jobs; i++) {
		const struct virtual_request *r = &w->q[of_job[i]];
		if (r->priority < 0 && r->arrived > w->last_plan && n == 1) {
			cr_assert_gt(s->jobs[i].n_rows, 0, "an urgent request waits");
			w->n_urgent++;
		}
	}
}

static void look(void *user, const struct schedule_state *s, const int *of_job, double now) {
	struct watch *w = user;
	check_budgets(s);
	check_elder(s);
	check_work_conserving(s);
	check_urgent(w, s, of_job);
	for (int i = 0; i < s->n_jobs; i++) {
		hash_in(w, (uint64_t)of_job[i]);
		hash_in(w, (uint64_t)s->jobs[i].n_rows * 2 + s->jobs[i].runs);
	}
	w->last_plan = now;
	w->n_plans++;
}

static struct virtual_result play(struct virtual_request *q, int n, struct watch *w) {
	struct virtual_server v = server;
	struct virtual_result r;
	*w = (struct watch){ .q = q, .last_plan = -1 };
	v.look = look;
	v.user = w;
	cr_assert(virtual_run(&v, q, n, &r));
	return r;
}

/* ---- over a whole trace ---- */

static void check_trace(double load, uint64_t seed) {
	struct virtual_request *q = make_trace(N, load, seed);
	struct watch w, again;
	const struct virtual_result r = play(q, N, &w);
	cr_assert_gt(w.n_urgent, 50);
	cr_assert(load < 1 || r.n_asides > 0);
	double all_done = 0; /* when those that came before and have no deadline were */
	for (int i = 0; i < N; i++) {
		cr_assert_geq(q[i].ended, 0, "request %d never ended", i);
		cr_assert(q[i].begun < 0 || q[i].begun >= q[i].arrived);
		if (isinf(q[i].deadline)) {
			cr_assert(isfinite(q[i].cancelled) || q[i].begun >= 0);
			const double latest = fmax(all_done, q[i].arrived) + LONGEST_STEP;
			cr_assert(q[i].begun <= latest, "request %d began at %g, bound %g", i, q[i].begun,
				latest);
			all_done = fmax(all_done, q[i].ended);
		} else {
			cr_assert_leq(q[i].ended, q[i].deadline + LONGEST_STEP);
		}
		cr_assert(q[i].ended <= q[i].cancelled + LONGEST_STEP || q[i].cancelled < q[i].arrived);
	}
	play(q, N, &again);
	cr_assert_eq(w.hash, again.hash, "the same trace, other decisions");
	free(q);
}

Test(schedule, light, .timeout = 120) {
	check_trace(0.7, 1);
}

Test(schedule, full, .timeout = 120) {
	check_trace(1.0, 2);
}

/* Late ones end by their deadlines and cancellations, the rest waits longer and longer. */
Test(schedule, overload, .timeout = 240) {
	struct virtual_request *q = make_trace(2000, 1.3, 3);
	struct watch w;
	const struct virtual_result r = play(q, 2000, &w);
	cr_assert_gt(r.n_asides, 0);
	cr_assert_gt(r.busy_s, 0.99 * r.seconds);
	free(q);
}

/* ---- by themselves ---- */

static size_t no_bytes(void *user, int i, int n_rows) {
	(void)user;
	(void)i;
	(void)n_rows;
	return 0;
}

static struct schedule_job job(uint64_t order, int n_todo, bool is_in) {
	return (struct schedule_job){ .order = order, .deadline = INFINITY, .n_todo = n_todo,
		.n_left = 10, .max_rows = n_todo, .n_places = 1, .is_in = is_in };
}

static struct schedule_state state_of(struct schedule_job *jobs, int n, int *order) {
	return (struct schedule_state){ .jobs = jobs, .n_jobs = n, .order = order, .max_places = 2,
		.max_rows = 64, .max_bytes = 1000, .stretch = 2,
		.cost = { .step_s = 0.01, .row_s = 0.001, .prefill_s = 0.001 }, .bytes_for = no_bytes };
}

/* Who is put aside is copied where that takes less time than to compute it again. */
Test(schedule, copies_or_computes_again) {
	enum { N_LATE = 1500 };
	static const double seconds_per_byte[] = { 2 / 1e8, 2 / 1e3 };
	for (int slow = 0; slow < 2; slow++) {
		struct virtual_request *q = make_trace(N_LATE, 1.3, 4);
		struct virtual_server v = server;
		struct virtual_result r;
		v.cost.copy_s = seconds_per_byte[slow];
		cr_assert(virtual_run(&v, q, N_LATE, &r));
		cr_assert_gt(r.n_asides, 10);
		/* at 2 ms a byte none is copied but those that have no page yet */
		const double share = (double)r.n_dropped / (double)r.n_asides;
		cr_assert(slow ? share > 0.8 : share == 0, "%g are computed again", share);
		free(q);
	}
}

/* Copies are measured; what a slow one taught fades while none is made. */
Test(schedule, meter_of_copies) {
	struct schedule_meter m = { .prefill_s = 0.001 };
	cr_assert(schedule_meter_copies(&m, 1 << 20, 10), "one is made to know what it takes");
	schedule_meter_add_copy(&m, 1 << 20, false, 0.003);
	cr_assert(schedule_meter_copies(&m, 1 << 20, 7));
	cr_assert(!schedule_meter_copies(&m, 1 << 20, 5));
	schedule_meter_add_copy(&m, 1 << 20, true, 0.010);
	cr_assert(!schedule_meter_copies(&m, 1 << 20, 7));
	int n = 0;
	while (!schedule_meter_copies(&m, 1 << 20, 7)) {
		n++;
	}
	cr_assert(n > 5 && n < 20, "%d times", n);
}

Test(schedule, any_order_of_jobs) {
	struct schedule_job a[5], b[5];
	int order[5];
	for (int i = 0; i < 5; i++) {
		a[i] = job((uint64_t)i, i % 2 == 0 ? 30 : 1, i > 2);
		a[i].priority = i % 3;
		b[4 - i] = a[i];
	}
	struct schedule_state s = state_of(a, 5, order), t = state_of(b, 5, order);
	schedule_plan(&s, 0);
	schedule_plan(&t, 0);
	for (int i = 0; i < 5; i++) {
		cr_assert(a[i].runs == b[4 - i].runs && a[i].n_rows == b[4 - i].n_rows);
	}
}

Test(schedule, urgent_takes_a_place) {
	struct schedule_job jobs[3] = { job(0, 1, true), job(1, 1, true), job(2, 20, false) };
	int order[3];
	struct schedule_state s = state_of(jobs, 3, order);
	schedule_plan(&s, 0);
	cr_assert(jobs[0].runs && jobs[1].runs && !jobs[2].runs);
	jobs[2].priority = -1;
	schedule_plan(&s, 0);
	cr_assert(jobs[0].runs && !jobs[1].runs && jobs[2].runs, "the oldest keeps its place");
	cr_assert_gt(jobs[2].n_rows, 0);
}

/* Else a deadline would be put off by everybody who comes without one. */
Test(schedule, one_place_is_the_oldest_ones) {
	struct schedule_job jobs[3] = { job(0, 1, true), job(1, 20, false), job(2, 20, false) };
	int order[3];
	struct schedule_state s = state_of(jobs, 3, order);
	s.max_places = 1;
	jobs[0].deadline = 1e9;
	jobs[2].priority = -1;
	schedule_plan(&s, 0);
	cr_assert(jobs[0].runs && !jobs[1].runs && !jobs[2].runs);
}

/* Where decoding leaves two rows for prompts, the oldest doesn't take both. */
Test(schedule, urgent_begins_beside_the_oldest_prompt) {
	struct schedule_job jobs[3] = { job(0, 40, true), job(1, 1, true), job(2, 20, false) };
	int order[3];
	struct schedule_state s = state_of(jobs, 3, order);
	s.max_places = 3;
	s.cost.prefill_s = 1;
	jobs[2].priority = -1;
	schedule_plan(&s, 0);
	cr_assert(jobs[0].n_rows == 1 && jobs[1].n_rows == 1 && jobs[2].n_rows == 1);
	s.max_rows = 4; /* three of them for prompts */
	s.cost.prefill_s = 0;
	schedule_plan(&s, 0);
	cr_assert(jobs[0].n_rows == 2 && jobs[1].n_rows == 1 && jobs[2].n_rows == 1);
}

/* Of those that can still be in time the shortest goes first; hopeless ones wait behind all. */
Test(schedule, deadlines) {
	struct schedule_job jobs[4] = {
		job(0, 1, false), job(1, 1, false), job(2, 1, false), job(3, 1, false),
	};
	int order[4];
	struct schedule_state s = state_of(jobs, 4, order);
	jobs[0].deadline = 0.001; /* 10 tokens take 0.12 s */
	jobs[1].deadline = 5;
	jobs[1].n_left = 100;
	jobs[2].deadline = 5;
	jobs[3].deadline = 5;
	jobs[3].n_left = 20;
	schedule_plan(&s, 0);
	cr_assert(order[0] == 2 && order[1] == 3 && order[2] == 1 && order[3] == 0);
}

Test(schedule, waits_for_another) {
	struct schedule_job jobs[2] = { job(0, 40, true), job(1, 20, false) };
	int order[2];
	struct schedule_state s = state_of(jobs, 2, order);
	jobs[0].max_rows = 7;
	jobs[1].max_rows = 0;
	schedule_plan(&s, 0);
	cr_assert(jobs[0].n_rows == 7 && !jobs[1].runs);
}

/* Prompts get what a step can take longer: 11 ms once more, at 1 ms a row. */
Test(schedule, prompts_beside_decoding) {
	struct schedule_job jobs[2] = { job(0, 1, true), job(1, 50, true) };
	int order[2];
	struct schedule_state s = state_of(jobs, 2, order);
	schedule_plan(&s, 0);
	cr_assert(jobs[0].n_rows == 1);
	cr_assert_eq(jobs[1].n_rows, 11);
	s.probes = true;
	schedule_plan(&s, 0);
	cr_assert(jobs[0].n_rows == 1 && jobs[1].n_rows == 0);
	jobs[1].is_in = false; /* it has yet to begin */
	schedule_plan(&s, 0);
	cr_assert_eq(jobs[1].n_rows, 11);
	jobs[0].n_todo = 2; /* nobody decodes: as much as a step holds */
	jobs[0].max_rows = 2;
	schedule_plan(&s, 0);
	cr_assert(jobs[0].n_rows == 2 && jobs[1].n_rows == 50);
}

Test(schedule, meter) {
	struct schedule_meter m = { 0 };
	uint64_t random = 1;
	cr_assert_eq(schedule_meter_cost(&m).prefill_s, 0);
	for (int i = 0; i < 500; i++) {
		const int n_decode = (int)(20 * virtual_unit(&random));
		const int n_prefill = i % 3 == 0 ? i % 60 : 0;
		const double noise = 1 + 0.1 * virtual_normal(&random);
		if (n_decode + n_prefill > 0) {
			schedule_meter_add(&m, n_decode, n_prefill,
				noise * (0.008 + 0.0007 * n_decode + 0.0003 * n_prefill));
		}
	}
	const struct schedule_cost c = schedule_meter_cost(&m);
	cr_assert_float_eq(c.step_s, 0.008, 0.003, "%g", c.step_s);
	cr_assert_float_eq(c.row_s, 0.0007, 0.0002, "%g", c.row_s);
	cr_assert_float_eq(c.prefill_s, 0.0003, 0.0001, "%g", c.prefill_s);
}

/* Steps that are all alike tell the time of one like them; the meter follows when it changes. */
Test(schedule, meter_of_equal_steps) {
	struct schedule_meter m = { 0 };
	for (int i = 0; i < 2000; i++) {
		schedule_meter_add(&m, 4, 0, i < 1000 ? 0.020 : 0.040);
	}
	const struct schedule_cost c = schedule_meter_cost(&m);
	cr_assert_float_eq(c.step_s + 4 * c.row_s, 0.040, 0.002, "%g", c.step_s + 4 * c.row_s);
	cr_assert(c.step_s > 0 && c.row_s >= 0);
}

/* ---- deadlines met, and the bound ---- */

/* Whether a fluid server does so much of each in time: earliest deadline first does if anyone
 * can. */
static bool fits(const struct virtual_request *q, const double *amounts, int n) {
	double left[8] = { 0 }, now = 0;
	memcpy(left, amounts, (size_t)n * sizeof(*left));
	for (;;) {
		int first = -1;
		double next = INFINITY;
		for (int i = 0; i < n; i++) {
			if (left[i] > 0 && q[i].arrived > now) {
				next = fmin(next, q[i].arrived);
			} else if (left[i] > 0 && (first < 0 || q[i].deadline < q[first].deadline)) {
				first = i;
			}
		}
		if (first < 0 && isinf(next)) {
			return true;
		}
		const double done = first < 0 ? 0 : fmin(left[first], next - now);
		now = first < 0 ? next : now + done;
		if (first >= 0) {
			left[first] = done == left[first] ? 0 : left[first] - done;
			if (now > q[first].deadline + 1e-9) {
				return false;
			}
		}
	}
}

static double work_of(const struct virtual_request *q) {
	return virtual_work(&server, q->n_prompt, q->n_output);
}

static bool set_fits(const struct virtual_request *q, unsigned set, int n) {
	double amounts[8];
	for (int i = 0; i < n; i++) {
		amounts[i] = set >> i & 1 ? work_of(&q[i]) : 0;
	}
	return fits(q, amounts, n);
}

/* The bound as it's defined, with no more than fits() to go by: least work first, as much of each
 * as fits beside what those before it have. */
static double greedy(const struct virtual_request *q, int n) {
	double amounts[8] = { 0 }, met = 0;
	for (unsigned done = 0; done != (1u << n) - 1;) {
		int next = -1;
		for (int i = 0; i < n; i++) {
			if (!(done >> i & 1) && (next < 0 || work_of(&q[i]) < work_of(&q[next]))) {
				next = i;
			}
		}
		double low = 0, high = work_of(&q[next]);
		for (int k = 0; k < 40; k++) {
			amounts[next] = k == 0 ? high : 0.5 * (low + high);
			*(fits(q, amounts, n) ? &low : &high) = amounts[next];
		}
		amounts[next] = low;
		met += low / work_of(&q[next]);
		done |= 1u << next;
	}
	return met;
}

/* What the greedy way gives; at least what the best choice of whole requests does, and no more than
 * one part above it for each request that would be parted. Where all fit it's all. */
Test(schedule, bound) {
	uint64_t random = 5;
	int n_tight = 0, n_all = 0;
	for (int round = 0; round < 300; round++) {
		struct virtual_request q[8];
		int best = 0;
		for (int i = 0; i < 8; i++) {
			q[i] = (struct virtual_request){
				.n_prompt = 1 + (int)(400 * virtual_unit(&random)),
				.n_output = 1 + (int)(60 * virtual_unit(&random)),
				.arrived = (round % 2 == 0 ? 0.3 : 2) * virtual_unit(&random),
			};
			q[i].deadline = q[i].arrived + (1 + 2 * virtual_unit(&random)) *
				virtual_work(&server, q[i].n_prompt, q[i].n_output);
		}
		for (unsigned set = 0; set < 256; set++) {
			const int n = __builtin_popcount(set);
			best = n > best && set_fits(q, set, 8) ? n : best;
		}
		const double bound = bound_met(&server, q, 8);
		cr_assert(bound >= best - 1e-9 && bound <= 8, "bound %g, best %d", bound, best);
		cr_assert(best < 8 || bound > 8 - 1e-9);
		cr_assert_float_eq(bound, greedy(q, 8), 1e-5, "%g, greedily %g", bound, greedy(q, 8));
		cr_assert_leq(bound, best + 2);
		n_tight += bound < best + 1;
		n_all += best == 8;
	}
	cr_assert(n_tight > 200 && n_all > 10 && n_all < 200, "%d of 300 are tight, in %d all fit",
		n_tight, n_all);
}

static void by_deadline(struct schedule_state *s, double now) {
	(void)now;
	for (int i = 0; i < s->n_jobs; i++) {
		s->jobs[i].group = 0;
		s->jobs[i].rank = s->jobs[i].deadline;
	}
}

Test(schedule, meets_more_deadlines_than_the_earliest_first) {
	enum { N_LATE = 1500 };
	struct virtual_request *q = make_trace(N_LATE, 1.3, 9);
	struct virtual_server v = server;
	struct virtual_result ours, edf;
	for (int i = 0; i < N_LATE; i++) {
		q[i].priority = 0;
		q[i].cancelled = INFINITY;
		q[i].deadline = q[i].arrived + 4 * virtual_alone(&v, q[i].n_prompt, q[i].n_output);
	}
	const double most = bound_met(&v, q, N_LATE);
	cr_assert(virtual_run(&v, q, N_LATE, &ours));
	v.rank = by_deadline;
	cr_assert(virtual_run(&v, q, N_LATE, &edf));
	cr_assert(ours.n_met > edf.n_met && ours.n_met <= most, "%d, %d by EDF, bound %g", ours.n_met,
		edf.n_met, most);
	free(q);
}
