/* SPDX-License-Identifier: Apache-2.0
 *
 * A bucket that fills at a rate, and virtual times that say whose turn it is. */
#include "shares.h"

#include "base.h"

#include <assert.h>
#include <limits.h>
#include <math.h>
#include <string.h>

/* Rows of a prompt that an account gets before it is another's turn; what its oldest job reads at
 * once before those of its own account that go before it. */
enum { PROMPT_ROWS_AT_ONCE = 16, ELDER_ROWS = 4 };
/* Of what an account gets its oldest job has at least this part, whoever goes before it. */
static const double ELDER_SHARE = 0.125;
/* Who can't take its share, for it draws one token a step, may catch up on so many seconds. */
static const double LAG_S = 0.25;

void shares_init(struct shares *s, double rate, double burst_s) {
	assert(rate > 0 && burst_s > 0);
	*s = (struct shares){ .rate = rate, .burst = rate * burst_s };
}

void shares_finish(struct shares *s) {
	base_free(s->accounts);
	base_free(s->turns);
	*s = (struct shares){ 0 };
}

bool shares_reserve(struct shares *s, int n_jobs, struct bb_error *err) {
	if (n_jobs <= s->max_jobs) {
		return true;
	}
	const int cap = n_jobs + n_jobs / 2 + 16;
	void *turns = base_realloc(s->turns, (size_t)cap, sizeof(*s->turns));
	s->turns = turns != NULL ? turns : s->turns;
	/* as many again of those that have no jobs now, but have had more than their share */
	void *accounts = base_realloc(s->accounts, 2 * (size_t)cap, sizeof(*s->accounts));
	s->accounts = accounts != NULL ? accounts : s->accounts;
	if (turns == NULL || accounts == NULL) {
		return base_no_memory(err, "accounts", 2 * (size_t)cap * sizeof(*s->accounts));
	}
	s->max_jobs = cap;
	s->cap = 2 * cap;
	return true;
}

/* ---- accounts ---- */

int shares_account(struct shares *s, uint64_t key, int hint) {
	if (hint >= 0 && hint < s->n && s->accounts[hint].key == key) {
		return hint;
	}
	int at = -1;
	for (int i = 0; i < s->n; i++) {
		if (s->accounts[i].key == key) {
			return i;
		}
		/* of those without jobs who is least ahead gives up its place */
		const struct shares_account *a = &s->accounts[i];
		if (a->weight == 0 && (at < 0 || a->time < s->accounts[at].time)) {
			at = i;
		}
	}
	if (s->n < s->cap) {
		at = s->n++;
	}
	assert(at >= 0);
	s->accounts[at] = (struct shares_account){ .key = key };
	return at;
}

void shares_begin(struct shares *s) {
	for (int i = 0; i < s->n; i++) {
		s->accounts[i].weight = 0;
	}
}

void shares_add_job(struct shares *s, int i_account, double weight) {
	struct shares_account *a = &s->accounts[i_account];
	assert(weight > 0);
	a->weight = weight > a->weight ? weight : a->weight;
}

/* ---- the order ---- */

void shares_rank(struct shares *s, struct schedule_state *plan, double now) {
	schedule_rank(plan, now);
	schedule_sort(plan);
	for (int i = 0; i < s->n; i++) {
		s->accounts[i].rank = 0;
	}
	for (int i = 0; i < plan->n_jobs; i++) {
		struct schedule_job *j = &plan->jobs[plan->order[i]];
		if (j->priority != INT_MAX) {
			struct shares_account *a = &s->accounts[j->i_account];
			a->rank += j->n_places / a->weight;
			j->priority = 0;
			j->group = 0;
			j->rank = a->rank;
		}
	}
}

/* ---- the rows ---- */

double shares_level(const struct shares *s, double now) {
	if (!s->has_begun) {
		return s->burst;
	}
	return fmin(s->burst, s->level + s->rate * fmax(0, now - s->at));
}

/* Job i is the next one of its account, if it has rows. */
static void list(struct shares *s, const struct schedule_state *plan, int i) {
	const struct schedule_job *j = &plan->jobs[i];
	struct shares_account *a = &s->accounts[j->i_account];
	s->turns[i] = (struct shares_turn){ .next = -1 };
	if (j->n_rows == 0) {
		return;
	}
	assert(j->row_cost > 0);
	if (a->last >= 0) {
		s->turns[a->last].next = i;
	} else {
		a->first = a->head = i;
	}
	a->last = i;
	if (isinf(j->deadline) && (a->elder < 0 || j->order < plan->jobs[a->elder].order)) {
		a->elder = i;
	}
}

static bool goes_before(const struct schedule_job *a, const struct schedule_job *b) {
	return a->rank < b->rank || (a->rank == b->rank && a->order < b->order);
}

/* Lists the jobs that have rows in this plan by account. Returns what the dearest row takes; 0:
 * there is none. */
static double list_jobs(struct shares *s, const struct schedule_state *plan) {
	double dearest = 0;
	for (int i = 0; i < s->n; i++) {
		struct shares_account *a = &s->accounts[i];
		a->first = a->last = a->head = a->elder = -1;
		a->granted = 0;
	}
	/* a plan has its elder first, whatever its rank: here it has a part of its account's */
	const int elder = plan->n_jobs > 0 ? plan->order[0] : -1;
	bool is_listed = false;
	for (int k = 1; k <= plan->n_jobs; k++) {
		const int i = k < plan->n_jobs ? plan->order[k] : elder;
		if (!is_listed && (i == elder || goes_before(&plan->jobs[elder], &plan->jobs[i]))) {
			list(s, plan, elder);
			is_listed = true;
		}
		if (i != elder) {
			list(s, plan, i);
		}
	}
	for (int i = 0; i < plan->n_jobs; i++) {
		dearest = plan->jobs[i].n_rows > 0 ? fmax(dearest, plan->jobs[i].row_cost) : dearest;
	}
	return dearest;
}

/* Who wasn't there has no credit for that; who couldn't take what was its own, for it draws one
 * token a step, has little. */
static void level_times(struct shares *s, double dearest) {
	double active = INFINITY, wanting = INFINITY, most = -INFINITY, weights = 0, least = INFINITY;
	for (int i = 0; i < s->n; i++) {
		const struct shares_account *a = &s->accounts[i];
		most = fmax(most, a->time);
		if (a->first >= 0) {
			weights += a->weight;
			least = fmin(least, a->weight);
		}
		if (a->first >= 0 && a->is_active) {
			active = fmin(active, a->time);
			wanting = a->is_wanting ? fmin(wanting, a->time) : wanting;
		}
	}
	const double lag = LAG_S * s->rate / weights + dearest / least;
	const double floor = (isfinite(wanting) ? wanting : most) - lag;
	const double new = fmax(isfinite(active) ? active : most, floor);
	for (int i = 0; i < s->n; i++) {
		struct shares_account *a = &s->accounts[i];
		if (a->first >= 0) {
			a->time = fmax(a->time, a->is_active ? floor : new);
		}
	}
}

/* Whose turn it is; NULL: all rows are granted. */
static struct shares_account *pick(struct shares *s, const struct schedule_state *plan) {
	struct shares_account *best = NULL;
	double least = INFINITY;
	for (int i = 0; i < s->n; i++) {
		struct shares_account *a = &s->accounts[i];
		const double time = a->time + a->granted / a->weight;
		if (a->head >= 0 && (best == NULL || time < least || (time == least &&
			plan->jobs[a->head].order < plan->jobs[best->head].order))) {
			least = time;
			best = a;
		}
	}
	return best;
}

/* Which of its jobs has the turn. */
static int next_job(const struct shares *s, const struct shares_account *a,
	const struct schedule_state *plan) {
	const int elder = a->elder;
	const bool is_due = elder >= 0 && s->turns[elder].n_granted == 0 &&
		a->elder_due >= plan->jobs[elder].row_cost;
	return is_due ? elder : a->head;
}

/* What there has to be before a row of the job is granted: one that takes more than can be saved
 * up is paid for afterwards. */
static double least_for(const struct shares *s, const struct schedule_job *j) {
	return fmin(j->row_cost, s->burst);
}

/* A turn of the account for its job i; *left is enough for a row. */
static void grant(struct shares *s, struct shares_account *a, const struct schedule_state *plan,
	int i, double *left) {
	const struct schedule_job *j = &plan->jobs[i];
	const int quantum = i != a->head ? ELDER_ROWS : PROMPT_ROWS_AT_ONCE;
	const int wanted = j->n_rows - s->turns[i].n_granted;
	int n = wanted < quantum ? wanted : quantum;
	if (n * j->row_cost > *left) {
		n = (int)fmax(*left / j->row_cost, 1);
	}
	s->turns[i].n_granted += n;
	*left -= n * j->row_cost;
	a->granted += n * j->row_cost;
	a->elder_due += (ELDER_SHARE - (i == a->elder)) * n * j->row_cost;
	while (a->head >= 0 && s->turns[a->head].n_granted == plan->jobs[a->head].n_rows) {
		a->head = s->turns[a->head].next;
	}
}

/* What was granted becomes the plan. */
static void apply(struct shares *s, struct schedule_state *plan) {
	s->n_held = 0;
	for (int i = 0; i < plan->n_jobs; i++) {
		struct schedule_job *j = &plan->jobs[i];
		j->is_held = j->n_rows > 0 && s->turns[i].n_granted == 0;
		j->n_rows = s->turns[i].n_granted;
		j->runs = j->runs && (j->is_in || !j->is_held);
		s->n_held += j->is_held;
	}
	for (int i = 0; i < s->n; i++) {
		struct shares_account *a = &s->accounts[i];
		a->is_active = a->first >= 0;
		a->is_wanting = a->head >= 0;
		/* who goes first anyway has nothing due */
		a->elder_due = a->elder < 0 || a->elder == a->first ? 0 : a->elder_due;
	}
}

double shares_cut(struct shares *s, struct schedule_state *plan, double now) {
	assert(plan->n_jobs <= s->max_jobs);
	s->level = shares_level(s, now);
	s->held_s += s->n_held > 0 ? fmax(0, now - s->at) : 0;
	s->at = now;
	s->has_begun = true;
	const double dearest = list_jobs(s, plan);
	if (dearest > 0) {
		level_times(s, dearest);
	}
	double left = s->level, wait = 0;
	bool is_any = false;
	for (struct shares_account *a; (a = pick(s, plan)) != NULL;) {
		const int i = next_job(s, a, plan);
		const double least = least_for(s, &plan->jobs[i]);
		if (left < least) {
			wait = is_any ? 0 : (least - left) / s->rate;
			break;
		}
		grant(s, a, plan, i, &left);
		is_any = true;
	}
	apply(s, plan);
	return wait;
}

void shares_charge(struct shares *s, int i_account, double units) {
	struct shares_account *a = &s->accounts[i_account];
	s->level -= units;
	s->spent += units;
	a->time += units / a->weight;
}
