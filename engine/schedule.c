/* SPDX-License-Identifier: Apache-2.0
 *
 * The order of jobs, and one step's rows and bytes dealt out in that order. */
#include "schedule.h"

#include <assert.h>
#include <math.h>
#include <stdlib.h>

/* Rows of prompts that a step always may have: reading never stands still. Far into a prompt most
 * of the cost is its keys and values, which two rows read at the price of one: SmolLM2's at 6000
 * tokens are twice what a step of one decoded row takes, and four rows three times. */
enum { MIN_PREFILL = 2 };

/* ---- the order ---- */

/* Requests with deadlines go by the least predicted work that is left (SRPT: Schrage 1968), which
 * leaves most servers' time for the others, as Moore and Hodgson's rule for late jobs (1968) drops
 * the longest. A length is known within a factor of two or so, and a request that is almost done
 * is worth more than one like it that has yet to begin. Hence two numbers, chosen by
 * bench/goodput. */

/* What a job that is in still needs counts so much less: another has to be that much shorter to
 * take its place. */
static const double IN_FACTOR = 0.3;
/* Nobody is given up for late before less than this part of what it is predicted to need is
 * left. */
static const double LEAST_HOPE = 0.2;

/* By priority, then group, then rank. */
enum { GROUP_FEASIBLE, GROUP_NO_DEADLINE, GROUP_HOPELESS };

static double step_seconds(const struct schedule_cost *c, int n_decode) {
	return c->step_s + c->row_s * n_decode;
}

double schedule_needs(const struct schedule_state *s, const struct schedule_job *j) {
	const double pace = step_seconds(&s->cost,
		s->max_places < s->n_jobs ? s->max_places : s->n_jobs);
	return s->cost.prefill_s * (j->n_todo - 1) + pace * j->n_left;
}

bool schedule_copies(const struct schedule_cost *c, size_t bytes, int n_tokens) {
	return c->copy_s * (double)bytes <= c->prefill_s * n_tokens;
}

void schedule_rank(struct schedule_state *s, double now) {
	for (int i = 0; i < s->n_jobs; i++) {
		struct schedule_job *j = &s->jobs[i];
		const double needs = schedule_needs(s, j);
		j->rank = (double)j->order;
		j->group = GROUP_NO_DEADLINE;
		if (isfinite(j->deadline)) {
			j->group = now + LEAST_HOPE * needs <= j->deadline ? GROUP_FEASIBLE
				: GROUP_HOPELESS;
			j->rank = j->is_in ? IN_FACTOR * needs : needs;
		}
	}
}

static int compare(const void *a, const void *b, void *jobs) {
	const struct schedule_job *x = (const struct schedule_job *)jobs + *(const int *)a;
	const struct schedule_job *y = (const struct schedule_job *)jobs + *(const int *)b;
	if (x->priority != y->priority) {
		return x->priority < y->priority ? -1 : 1;
	}
	if (x->group != y->group) {
		return x->group < y->group ? -1 : 1;
	}
	if (x->rank != y->rank) {
		return x->rank < y->rank ? -1 : 1;
	}
	return x->order < y->order ? -1 : x->order > y->order;
}

void schedule_sort(struct schedule_state *s) {
	for (int i = 0; i < s->n_jobs; i++) {
		s->order[i] = i;
	}
	qsort_r(s->order, (size_t)s->n_jobs, sizeof(*s->order), compare, s->jobs);
}

/* The oldest job without a deadline has its place before all others; of one place the oldest of
 * all, or who has a deadline would wait for whoever comes. Nobody who waits for another is it: he
 * waits for an older one. Returns its place by rank; -1: there is none. */
static int elder_first(struct schedule_state *s) {
	int at = -1;
	for (int i = 0; i < s->n_jobs; i++) {
		const struct schedule_job *j = &s->jobs[s->order[i]];
		if ((isinf(j->deadline) || s->max_places == 1) && j->max_rows > 0 &&
			(at < 0 || j->order < s->jobs[s->order[at]].order)) {
			at = i;
		}
	}
	for (int i = at; i > 0; i--) {
		const int moved = s->order[i];
		s->order[i] = s->order[i - 1];
		s->order[i - 1] = moved;
	}
	return at;
}

/* ---- who is in ---- */

/* What the jobs taken so far hold: in this step with a row each, and soon, with all that they have
 * to append and what they are predicted to draw next. */
struct taken {
	size_t now, soon;
	int n_places;
};

static int soon_rows(const struct schedule_job *j) {
	const double ahead = j->n_left < SCHEDULE_AHEAD ? j->n_left : SCHEDULE_AHEAD;
	return j->n_todo + (int)ahead;
}

static bool take(struct schedule_state *s, int i, int n_places, struct taken *t) {
	const struct schedule_job *j = &s->jobs[i];
	if (t->n_places + n_places > s->max_places) {
		return false;
	}
	const size_t now = j->bytes + s->bytes_for(s->user, i, 1);
	const size_t soon = j->bytes + s->bytes_for(s->user, i, soon_rows(j)) * (size_t)j->n_places;
	if (now > s->max_bytes - t->now) {
		return false;
	}
	/* coming in has to be worth it; who is alone has no room to wait for */
	if (!j->is_in && t->n_places > 0 && (t->soon > s->max_bytes || soon > s->max_bytes - t->soon)) {
		return false;
	}
	t->now += now;
	t->soon += soon;
	t->n_places += n_places;
	return true;
}

/* The elder needs one place to go on. Those of the branches that it will have are kept for it from
 * who comes behind it by rank alone; where others have them then, its branches take turns. */
static bool take_next(struct schedule_state *s, int i, int elder, struct taken *t) {
	const struct schedule_job *first = &s->jobs[s->order[0]];
	if (i == elder + 1 && elder >= 0 && first->runs) {
		t->n_places += first->n_places - 1;
	}
	return take(s, s->order[i], i == 0 && elder >= 0 ? 1 : s->jobs[s->order[i]].n_places, t);
}

/* ---- rows ---- */

/* Rows of prompts beside n_decode decoding ones. */
static int prefill_rows(const struct schedule_state *s, int n_decode) {
	const int most = s->max_rows - n_decode;
	if (n_decode == 0 || s->cost.prefill_s <= 0) {
		return most;
	}
	const double n = (s->stretch - 1) * step_seconds(&s->cost, n_decode) / s->cost.prefill_s;
	const int rows = n < MIN_PREFILL ? MIN_PREFILL : n < most ? (int)n : most;
	return rows < most ? rows : most;
}

/* As many of n rows as there are bytes for beyond those it has; for one there are. */
static int rows_that_fit(struct schedule_state *s, int i, int n, int before, size_t *left) {
	const int least = before > 1 ? before : 1;
	const size_t has = s->bytes_for(s->user, i, least);
	for (;; n = least + (n - least) / 2) {
		const size_t more = s->bytes_for(s->user, i, n) - has;
		if (more <= *left || n == least) {
			*left -= more <= *left ? more : 0;
			return n;
		}
	}
}

static void give_rows(struct schedule_state *s, int i, int most, int *rows, size_t *left) {
	struct schedule_job *j = &s->jobs[i];
	const int wants = j->n_todo < j->max_rows ? j->n_todo : j->max_rows;
	const int n = wants < most ? wants : most;
	if (j->runs && j->n_todo > 1 && n > j->n_rows) {
		const int before = j->n_rows;
		j->n_rows = rows_that_fit(s, i, n, before, left);
		*rows -= j->n_rows - before;
	}
}

static bool measures(const struct schedule_state *s, int n_decode) {
	for (int i = 0; i < s->n_jobs; i++) {
		if (s->jobs[i].runs && !s->jobs[i].is_in) {
			return false;
		}
	}
	return s->probes && n_decode > 0;
}

/* What the elder reads before all others; no more than half, where somebody else may be urgent. */
enum { ELDER_ROWS = 4 };

static int elder_rows(int rows) {
	return rows >= 2 * ELDER_ROWS ? ELDER_ROWS : (rows + 1) / 2;
}

/* Prompts are read in the order of rank; the elder, at `elder` of it, a little before all. */
static void deal_rows(struct schedule_state *s, int n_decode, int elder, size_t left) {
	const bool has_elder = elder >= 0;
	int rows = measures(s, n_decode) ? 0 : prefill_rows(s, n_decode);
	if (has_elder) {
		give_rows(s, s->order[0], elder_rows(rows), &rows, &left);
	}
	for (int i = has_elder; i <= s->n_jobs; i++) {
		if (has_elder && i == elder + 1) {
			give_rows(s, s->order[0], rows + s->jobs[s->order[0]].n_rows, &rows, &left);
		}
		if (i < s->n_jobs) {
			give_rows(s, s->order[i], rows, &rows, &left);
		}
	}
}

void schedule_plan(struct schedule_state *s, double now) {
	assert(s->max_rows >= s->max_places && s->max_places >= 1);
	if (s->n_jobs == 0) {
		return; /* there may be no arrays either */
	}
	(s->rank != NULL ? s->rank : schedule_rank)(s, now);
	schedule_sort(s);
	const int elder = elder_first(s);
	struct taken t = { 0 };
	int n_decode = 0;
	bool is_any_aloud = false;
	for (int i = 0; i < s->n_jobs; i++) {
		struct schedule_job *j = &s->jobs[s->order[i]];
		j->n_rows = 0;
		j->max_rows = j->reads_aloud && is_any_aloud ? 0 : j->max_rows;
		j->runs = (j->is_in || j->max_rows > 0) && take_next(s, i, elder, &t);
		is_any_aloud = is_any_aloud || (j->runs && j->reads_aloud);
		if (j->runs && j->n_todo == 1 && j->max_rows > 0) {
			j->n_rows = 1;
			n_decode++;
		}
	}
	deal_rows(s, n_decode, elder, s->max_bytes - t.now);
}

/* ---- the cost of steps ---- */

/* A step without prompts weighs half after ten others: a neighbour's load changes as fast. What a
 * prompt's row costs grows with each that is read, as attention looks at them. */
static const double DECAY = 0.93, FOLLOW = 0.25;
/* What copies cost is taken for so much of it each time that none is made. */
static const double FADE = 0.95;
/* What the first step is taken for: so many rows more than it has, none of which cost more. */
static const double STEP_ROWS = 8, PRIOR_WEIGHT = 0.01;

static void add(struct schedule_meter *m, const double x[2], double s, double weight) {
	for (int i = 0; i < 2; i++) {
		for (int j = 0; j < 2; j++) {
			m->a[i][j] += weight * x[i] * x[j] / (s * s);
		}
		m->b[i] += weight * x[i] / s;
	}
}

static void add_decoded(struct schedule_meter *m, int n_decode, double s) {
	const double step[2] = { 1, 0 }, row[2] = { 0, 1 }, all[2] = { 1, n_decode };
	for (int i = 0; i < 2; i++) {
		m->b[i] *= DECAY;
		for (int j = 0; j < 2; j++) {
			m->a[i][j] *= DECAY;
		}
	}
	/* where all steps are alike they don't tell one cost from the other: a little is said to */
	add(m, step, s * STEP_ROWS / (STEP_ROWS + n_decode), PRIOR_WEIGHT);
	add(m, row, s / (STEP_ROWS + n_decode), PRIOR_WEIGHT);
	add(m, all, s, 1);
}

void schedule_meter_add(struct schedule_meter *m, int n_decode, int n_prefill, double s) {
	if (!(s > 0)) {
		return; /* the clock stood still */
	}
	if (n_prefill == 0) {
		add_decoded(m, n_decode, s);
		return;
	}
	const struct schedule_cost c = schedule_meter_cost(m);
	double others = step_seconds(&c, n_decode);
	if (others == 0) {
		others = s * (STEP_ROWS + n_decode) / (STEP_ROWS + n_decode + n_prefill);
	}
	const double row = fmax(s - others, 0.1 * s) / n_prefill;
	m->prefill_s += (m->prefill_s > 0 ? FOLLOW : 1) * (row - m->prefill_s);
}

void schedule_meter_add_copy(struct schedule_meter *m, size_t bytes, bool is_in, double s) {
	double *average = is_in ? &m->in_s : &m->out_s;
	if (bytes > 0 && s > 0) {
		*average += (*average > 0 ? FOLLOW : 1) * (s / (double)bytes - *average);
	}
}

bool schedule_meter_copies(struct schedule_meter *m, size_t bytes, int n_tokens) {
	const struct schedule_cost c = schedule_meter_cost(m);
	const bool copies = schedule_copies(&c, bytes, n_tokens);
	if (!copies) {
		m->out_s *= FADE;
		m->in_s *= FADE;
	}
	return copies;
}

/* By coordinates, none below 0: the matrix is positive definite, so this converges. */
struct schedule_cost schedule_meter_cost(const struct schedule_meter *m) {
	double x[2] = { 0 };
	for (int pass = 0; pass < 50 && m->a[0][0] > 0; pass++) {
		for (int i = 0; i < 2; i++) {
			const double left = m->b[i] - m->a[i][1 - i] * x[1 - i];
			x[i] = left > 0 ? left / m->a[i][i] : 0;
		}
	}
	return (struct schedule_cost){
		.step_s = x[0], .row_s = x[1], .prefill_s = m->prefill_s,
		.copy_s = m->out_s + (m->in_s > 0 ? m->in_s : m->out_s),
	};
}
