/* SPDX-License-Identifier: Apache-2.0
 *
 * Branches of requests as jobs of a plan: what each needs, and what memory there is. Puts aside who
 * has to go. */
#include "requests.h"

#include <limits.h>

/* Steps beside decoding requests take at most so many times what they take without prompts: what
 * is promised is 3 at the 99th percentile. */
static const double STRETCH = 2.25;
/* After so many that read prompts one step shows what decoding takes by itself. */
enum { PROBE_EVERY = 16 };

/* Tokens of its timeline that the context has, or will have when it's brought in. */
static int length_of(const struct branch *b) {
	return b->context != NULL ? bb_context_length(b->context)
		: b->source != NULL ? b->n_common : 0;
}

int jobs_end_of(const struct branch *b) {
	return !b->has_to_part || b->ids.n == 1 ? (int)b->ids.n : (int)b->ids.n - 1;
}

static bool tells_prompt(const struct branch *b) {
	const struct bb_request *r = b->request;
	return r->params.n_prompt_logprobs > 0 && r->n_prompt_told < (int)r->params.n_prompt - 1;
}

bool jobs_reads_aloud(const struct branch *b) {
	return tells_prompt(b) && length_of(b) < (int)b->request->params.n_prompt - 1;
}

/* Rows until something has to happen: a state kept where a segment begins, logits of the prompt
 * given out. */
static int most_rows(const struct bb_scheduler *s, const struct branch *b, int length) {
	const struct bb_request_params *p = &b->request->params;
	int most = jobs_end_of(b) - length;
	if (tells_prompt(b)) {
		const int left = (int)p->n_prompt - 1 - length;
		const int room = left < PROMPT_ROWS ? left : PROMPT_ROWS;
		most = room > 0 && room < most ? room : most;
	}
	for (int i = b->n_segments; s->engine->states.bytes > 0 && i < p->n_segments; i++) {
		const int rows = p->segments[i].first - length;
		most = rows > 0 && rows < most ? rows : most;
	}
	return most > 1 ? most : 1;
}

/* Tokens that a branch is predicted to draw. */
static double left_of(const struct bb_scheduler *s, const struct branch *b) {
	const struct bb_request_params *p = &b->request->params;
	const double most = b->parent != NULL ? b->n_probe
		: p->generation.max_tokens > 0 ? p->generation.max_tokens : 1e9;
	double predicted = p->n_predicted > 0 ? p->n_predicted : s->mean_output > 0 ? s->mean_output
		: 128;
	predicted = predicted < most ? predicted : most;
	const double left = predicted - b->n_output, least = 1 + 0.25 * b->n_output;
	return left > least ? left : least < most - b->n_output ? least : most - b->n_output;
}

static void make_job(struct bb_scheduler *s, struct branch *b) {
	const struct bb_request *r = b->request;
	const int length = length_of(b), i = s->plan.n_jobs++;
	turns_look_aside(s, b);
	const int todo = jobs_end_of(b) - length;
	b->i_job = i;
	s->of_job[i] = b;
	s->plan.jobs[i] = (struct schedule_job){
		.order = r->id * (uint64_t)s->params.max_running * 2 + (uint64_t)b->index,
		.priority = r->params.priority, .deadline = r->deadline, .n_todo = todo > 1 ? todo : 1,
		.n_left = left_of(s, b), .max_rows = most_rows(s, b, length), .n_places = b->n_places,
		.reads_aloud = jobs_reads_aloud(b), .is_in = turns_is_in(b), .bytes = turns_bytes_of(b),
	};
	spend_add_job(s, b, length, &s->plan.jobs[i]);
	if (atomic_load(&r->is_paused)) { /* it stays where it is while nobody needs the room */
		s->plan.jobs[i].max_rows = 0;
		s->plan.jobs[i].priority = INT_MAX;
	}
	if (turns_probe_of(b) != NULL) { /* which has its place in the step meanwhile */
		s->plan.jobs[i].max_rows = s->plan.jobs[i].n_places = 0;
	}
}

static int n_jobs_of(const struct bb_scheduler *s) {
	int n = 0;
	for (const struct bb_request *r = s->requests; r != NULL; r = r->next) {
		n += r->n_all;
	}
	return n;
}

bool jobs_reserve(struct bb_scheduler *s, struct bb_error *err) {
	const int n = n_jobs_of(s);
	if (!spend_reserve(s, n, err)) {
		return false;
	}
	if (n <= s->max_jobs) {
		return true;
	}
	const size_t cap = (size_t)n + (size_t)n / 2 + 16;
	void *jobs = base_realloc(s->plan.jobs, cap, sizeof(*s->plan.jobs));
	s->plan.jobs = jobs != NULL ? jobs : s->plan.jobs;
	void *order = base_realloc(s->plan.order, cap, sizeof(*s->plan.order));
	s->plan.order = order != NULL ? order : s->plan.order;
	void *of_job = base_realloc(s->of_job, cap, sizeof(*s->of_job));
	s->of_job = of_job != NULL ? of_job : s->of_job;
	if (jobs == NULL || order == NULL || of_job == NULL) {
		return base_no_memory(err, "jobs", cap * sizeof(*s->plan.jobs));
	}
	s->max_jobs = (int)cap;
	return true;
}

static size_t bytes_for(void *user, int i, int n_rows) {
	const struct bb_scheduler *s = user;
	return turns_bytes_for(s->of_job[i], n_rows);
}

/* a - b, or none where that's below. */
static size_t beyond(size_t a, size_t b) {
	return a > b ? a - b : 0;
}

/* Pages and states that are none of a branch's are beyond the plan, but for those that the prefix
 * cache alone has, which it gives up. Checkpoints count where memory itself ran out. */
static size_t plan_bytes(const struct bb_scheduler *s, size_t of_jobs) {
	const size_t max = s->engine->budget.max_bytes, none = SIZE_MAX / 2;
	const struct used_bytes used = engine_used_bytes(s->engine);
	size_t limit = max > 0 ? max : none;
	if (s->squeeze > 0) {
		const size_t squeezed = beyond(s->squeeze, used.all - used.live);
		limit = squeezed < limit ? squeezed : limit;
	}
	if (limit == none) {
		return none;
	}
	return beyond(limit, beyond(used.live, of_jobs + engine_kept_bytes(s->engine).live));
}

static void make_jobs(struct bb_scheduler *s) {
	s->plan.n_jobs = 0;
	spend_begin(s);
	size_t bytes = 0;
	for (struct bb_request *r = s->requests; r != NULL; r = r->next) {
		for (int i = 0; i < r->n_all; i++) {
			if (r->branches[i].is_live) {
				turns_check_source(&r->branches[i]);
				make_job(s, &r->branches[i]);
				bytes += s->plan.jobs[s->plan.n_jobs - 1].bytes;
			}
		}
	}
	/* who waits for a beginning stops its source where that ends */
	for (int i = 0; i < s->plan.n_jobs; i++) {
		const struct branch *b = s->of_job[i];
		if (b->source != NULL) {
			const int left = b->n_common - length_of(b->source);
			struct schedule_job *source = &s->plan.jobs[b->source->i_job];
			s->plan.jobs[i].max_rows = left > 0 ? 0 : s->plan.jobs[i].max_rows;
			source->max_rows = left > 0 && left < source->max_rows ? left : source->max_rows;
		}
	}
	s->plan.max_bytes = plan_bytes(s, bytes);
}

/* Where even who goes first of those that could run has no room within a learnt limit: the one that
 * he needs. 0: he has. */
static size_t limit_for_first(const struct bb_scheduler *s) {
	const struct used_bytes used = engine_used_bytes(s->engine);
	for (int i = 0; i < s->plan.n_jobs; i++) {
		const struct schedule_job *j = &s->plan.jobs[s->plan.order[i]];
		if (j->is_in || j->max_rows > 0) {
			return j->runs ? 0 : used.all + turns_bytes_for(s->of_job[s->plan.order[i]], 1);
		}
	}
	return 0;
}

/* Whether somebody stays out for whom there is a place: for want of bytes. */
static bool lacks_bytes(const struct bb_scheduler *s) {
	int n_places = 0;
	for (int i = 0; i < s->plan.n_jobs; i++) {
		n_places += s->plan.jobs[i].runs ? s->plan.jobs[i].n_places : 0;
	}
	for (int i = 0; i < s->plan.n_jobs; i++) {
		const struct schedule_job *j = &s->plan.jobs[i];
		if (!j->runs && (j->is_in || j->max_rows > 0) &&
			n_places + j->n_places <= s->plan.max_places) {
			return true;
		}
	}
	return false;
}

void jobs_plan(struct bb_scheduler *s, double now) {
	s->plan.max_places = s->params.max_running;
	s->plan.max_rows = s->params.max_step_tokens;
	s->plan.stretch = STRETCH;
	s->plan.cost = schedule_meter_cost(&s->meter);
	s->plan.probes = s->n_mixed >= PROBE_EVERY;
	s->plan.bytes_for = bytes_for;
	s->plan.user = s;
	for (bool again = true; again;) {
		make_jobs(s);
		schedule_plan(&s->plan, now);
		again = lacks_bytes(s) && turns_give_up_stem(s);
		if (again) {
			continue;
		}
		const size_t limit = s->squeeze > 0 ? limit_for_first(s) : 0;
		again = limit > 0;
		if (again) {
			s->squeeze = s->is_short && s->squeeze < limit ? limit : 0;
			continue;
		}
		for (int i = 0; i < s->plan.n_jobs; i++) {
			if (s->plan.jobs[i].is_in && !s->plan.jobs[i].runs) {
				turns_put_aside(s, s->of_job[i]);
				again = true;
			}
		}
	}
	spend_cut(s, now);
}

bool jobs_find_memory(struct bb_scheduler *s) {
	const bool has_stem = turns_give_up_stem(s);
	const bool has_trimmed = s->prefix != NULL && prefix_trim(s->prefix, SIZE_MAX) > 0;
	const bool has_given = engine_give_back(s->engine) && !s->is_short;
	s->is_short = true;
	return has_stem || has_trimmed || has_given;
}

void jobs_learn_limit(struct bb_scheduler *s) {
	const size_t used = engine_used_bytes(s->engine).all;
	s->squeeze = used > 1 ? used : 1;
}
