/* SPDX-License-Identifier: Apache-2.0
 *
 * One step of the scheduler: who is due is asked of schedule_plan, contexts come and go as it says,
 * the engine computes, and what was drawn is given out. */
#include "requests.h"

#include <assert.h>
#include <limits.h>
#include <string.h>

/* Steps beside decoding requests take at most so many times what they take without prompts: what
 * is promised is 3 at the 99th percentile. */
static const double STRETCH = 2.25;
/* After so many that read prompts one step shows what decoding takes by itself. */
enum { PROBE_EVERY = 16 };

/* ---- events ---- */

static void tell(struct bb_request *r, struct bb_event *event) {
	event->request = r;
	r->params.event(r->params.user, event);
}

static void tell_finish(struct bb_request *r, int i_branch, enum bb_finish finish) {
	struct bb_event event = {
		.kind = BB_EVENT_FINISHED, .branch = i_branch, .finish = finish, .text = "",
		.usage = r->n_live == 0 ? &r->usage : NULL,
	};
	tell(r, &event);
}

/* ---- the ends of requests ---- */

static void tally_times(struct bb_scheduler *s, struct bb_request *r) {
	const double now = requests_now(s);
	r->usage.queued_s = (r->is_started ? r->started : now) - r->arrived;
	r->usage.prompt_s = !r->is_started ? 0 : (r->first > 0 ? r->first : now) - r->started;
	r->usage.output_s = r->first > 0 ? r->last - r->first : 0;
}

static void unlink_request(struct bb_scheduler *s, struct bb_request *r) {
	struct bb_request **link = &s->requests;
	while (*link != r) {
		link = &(*link)->next;
	}
	*link = r->next;
	if (s->requests_end == &r->next) {
		s->requests_end = link;
	}
	/* the branches' contexts are gone, or have references of their own */
	vectors_unref(s->engine->vectors, r->branches[0].ids.ids, r->params.n_prompt);
	pthread_mutex_lock(&s->lock);
	s->n_open--;
	s->n_begun -= r->is_started;
	pthread_mutex_unlock(&s->lock);
	atomic_store(&r->has_ended, true);
	s->squeeze = 0;
}

static void end_branch(struct bb_scheduler *s, struct branch *b, enum bb_finish finish) {
	struct bb_request *r = b->request;
	const bool is_whole = finish == BB_FINISH_STOP || finish == BB_FINISH_LENGTH ||
		finish == BB_FINISH_CONTEXT;
	if (is_whole && !r->params.wants_hidden) {
		turns_keep(s, b);
	} else {
		turns_drop(s, b);
	}
	b->is_live = false;
	b->finish = finish;
	r->n_live--;
	if (r->n_live == 0) {
		tally_times(s, r);
		s->now.n_finished += is_whole;
		s->now.n_cancelled += finish == BB_FINISH_CANCELLED;
		s->now.n_expired += finish == BB_FINISH_DEADLINE;
		unlink_request(s, r);
	}
	tell_finish(r, b->index, finish);
	if (atomic_load(&r->has_ended)) {
		requests_unref(r);
	}
}

static void end_request(struct bb_scheduler *s, struct bb_request *r, enum bb_finish finish) {
	atomic_fetch_add(&r->n_refs, 1);
	for (int i = 0; i < r->params.n; i++) {
		if (r->branches[i].finish == BB_FINISH_NONE) {
			end_branch(s, &r->branches[i], finish);
		}
	}
	requests_unref(r);
}

static void fail_request(struct bb_scheduler *s, struct bb_request *r, const struct bb_error *err) {
	for (int i = 0; i < r->params.n; i++) {
		if (r->branches[i].finish == BB_FINISH_NONE) {
			turns_drop(s, &r->branches[i]);
			r->branches[i].is_live = false;
			r->branches[i].finish = BB_FINISH_CANCELLED;
		}
	}
	r->n_live = 0;
	tally_times(s, r);
	s->now.n_failed++;
	unlink_request(s, r);
	struct bb_event event = {
		.kind = BB_EVENT_FAILED, .text = "", .error = err, .usage = &r->usage,
	};
	tell(r, &event);
	requests_unref(r);
}

void run_end_all(struct bb_scheduler *s, enum bb_finish finish, const struct bb_error *err) {
	while (s->requests != NULL) {
		if (err != NULL) {
			fail_request(s, s->requests, err);
		} else {
			end_request(s, s->requests, finish);
		}
	}
}

void run_take_inbox(struct bb_scheduler *s) {
	pthread_mutex_lock(&s->lock);
	if (s->inbox != NULL) {
		*s->requests_end = s->inbox;
		s->requests_end = s->inbox_end;
		s->inbox = NULL;
		s->inbox_end = &s->inbox;
	}
	pthread_mutex_unlock(&s->lock);
}

/* Those that nobody wants any more. */
static void end_unwanted(struct bb_scheduler *s, double now) {
	for (struct bb_request *r = s->requests, *next; r != NULL; r = next) {
		next = r->next;
		if (atomic_load(&r->is_cancelled)) {
			end_request(s, r, BB_FINISH_CANCELLED);
		} else if (now >= r->deadline) {
			end_request(s, r, BB_FINISH_DEADLINE);
		}
	}
}

/* ---- jobs ---- */

/* Tokens of its timeline that the context has, or will have when it's brought in. */
static int length_of(const struct branch *b) {
	return b->context != NULL ? bb_context_length(b->context)
		: b->source != NULL ? b->n_common : 0;
}

/* Up to where it reads before it draws, or before it parts. */
static int end_of(const struct branch *b) {
	return b->n_places == 1 || b->ids.n == 1 ? (int)b->ids.n : (int)b->ids.n - 1;
}

static bool tells_prompt(const struct branch *b) {
	const struct bb_request *r = b->request;
	return r->params.n_prompt_logprobs > 0 && r->n_prompt_told < (int)r->params.n_prompt - 1;
}

/* Whether the next rows are those of a prompt whose logits are wanted: for one at a time there is
 * room. */
static bool reads_aloud(const struct branch *b) {
	return tells_prompt(b) && length_of(b) < (int)b->request->params.n_prompt - 1;
}

/* Rows until something has to happen: a state kept where a segment begins, logits of the prompt
 * given out. */
static int most_rows(const struct bb_scheduler *s, const struct branch *b, int length) {
	const struct bb_request_params *p = &b->request->params;
	int most = end_of(b) - length;
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
	const double most = p->generation.max_tokens > 0 ? p->generation.max_tokens : 1e9;
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
	const int todo = end_of(b) - length;
	b->i_job = i;
	s->of_job[i] = b;
	s->plan.jobs[i] = (struct schedule_job){
		.order = r->id * (uint64_t)s->params.max_running + (uint64_t)b->index,
		.priority = r->params.priority, .deadline = r->deadline, .n_todo = todo > 1 ? todo : 1,
		.n_left = left_of(s, b), .max_rows = most_rows(s, b, length), .n_places = b->n_places,
		.reads_aloud = reads_aloud(b), .is_in = turns_is_in(b), .bytes = turns_bytes_of(b),
	};
	if (atomic_load(&r->is_paused)) { /* it stays where it is while nobody needs the room */
		s->plan.jobs[i].max_rows = 0;
		s->plan.jobs[i].priority = INT_MAX;
	}
}

static int n_jobs_of(const struct bb_scheduler *s) {
	int n = 0;
	for (const struct bb_request *r = s->requests; r != NULL; r = r->next) {
		n += r->params.n;
	}
	return n;
}

static bool reserve_jobs(struct bb_scheduler *s, struct bb_error *err) {
	const int n = n_jobs_of(s);
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
	size_t bytes = 0;
	for (struct bb_request *r = s->requests; r != NULL; r = r->next) {
		for (int i = 0; i < r->params.n; i++) {
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

/* Puts aside who has to go. What is shared with others counts in parts, so that it may take more of
 * them than it seemed. A limit that was learnt, and that who goes first has outgrown, puts nobody
 * aside: it would come in again, to grow as far again. Where steps fail without it he has all. */
static void plan(struct bb_scheduler *s, double now) {
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
}

/* Whether there is memory again, of prefixes, or of pages and states that nobody uses: what lacks
 * it may be neither. A step that fails all the same leaves pages that it had asked for, which help
 * nobody a second time. */
static bool find_memory(struct bb_scheduler *s) {
	const bool has_trimmed = s->prefix != NULL && prefix_trim(s->prefix, SIZE_MAX) > 0;
	const bool has_given = engine_give_back(s->engine) && !s->is_short;
	s->is_short = true;
	return has_trimmed || has_given;
}

/* Memory ran out before the budget did: bytes beyond those in use now aren't counted on until a
 * request has ended. */
static void learn_limit(struct bb_scheduler *s) {
	const size_t used = engine_used_bytes(s->engine).all;
	s->squeeze = used > 1 ? used : 1;
}

/* ---- the step ---- */

static bool begin_request(struct bb_scheduler *s, struct bb_request *r, struct bb_error *err) {
	struct bb_generation_params p = r->params.generation;
	for (int i = 0; i < r->params.n && !r->params.wants_hidden; i++) {
		struct branch *b = &r->branches[i];
		p.sampling.seed = bb_branch_seed(r->params.generation.sampling.seed, i);
		if (b->generation == NULL && !generation_create(&b->generation, s->engine, &p,
			s->max_len, err)) {
			return false;
		}
		generation_prompt(b->generation, r->branches[0].ids.ids, r->params.n_prompt);
	}
	r->is_started = true;
	r->started = requests_now(s);
	pthread_mutex_lock(&s->lock);
	s->n_begun++;
	pthread_mutex_unlock(&s->lock);
	struct bb_event event = { .kind = BB_EVENT_STARTED, .text = "" };
	tell(r, &event);
	return true;
}

static bool reserve_prompt_logits(struct bb_scheduler *s, struct bb_error *err) {
	const size_t n = (size_t)PROMPT_ROWS * (size_t)engine_n_vocab(s->engine);
	s->prompt_logits = s->prompt_logits != NULL ? s->prompt_logits
		: base_alloc(n, sizeof(float));
	return s->prompt_logits != NULL || base_no_memory(err, "logits", n * sizeof(float));
}

static bool reserve_hidden(struct bb_scheduler *s, struct bb_error *err) {
	const size_t width = (size_t)hparam_int(&s->engine->plan.hp, H_EMBD);
	const size_t n = (size_t)s->params.max_running * width;
	s->hidden = s->hidden != NULL ? s->hidden : base_alloc(n, sizeof(float));
	return s->hidden != NULL || base_no_memory(err, "hidden rows", n * sizeof(float));
}

/* How many of these rows there are until it has to stop. */
static int rows_of(const struct branch *b, int n_rows) {
	const int left = end_of(b) - bb_context_length(b->context);
	return n_rows < left ? n_rows : left;
}

/* Whether what it wants comes of the rows of this step: it draws, or is done. */
static bool draws_now(const struct branch *b, int n_rows) {
	return n_rows > 0 && !reads_aloud(b) &&
		bb_context_length(b->context) + rows_of(b, n_rows) == (int)b->ids.n;
}

static void add_item(struct bb_scheduler *s, struct branch *b, int n_rows) {
	struct bb_step_item *item = &s->items[s->n_items];
	*item = (struct bb_step_item){
		.context = b->context, .tokens = b->ids.ids + bb_context_length(b->context),
		.n_tokens = rows_of(b, n_rows),
	};
	if (reads_aloud(b)) {
		item->logits = s->prompt_logits;
		item->all_logits = true;
	} else if (draws_now(b, n_rows) && b->request->params.wants_hidden) {
		item->hidden = s->hidden + (size_t)s->n_items *
			(size_t)hparam_int(&s->engine->plan.hp, H_EMBD);
	} else if (draws_now(b, n_rows)) {
		generation_draws(b->generation, item);
	}
	s->of_item[s->n_items++] = b;
}

static bool begin_segments(struct branch *b, struct bb_error *err) {
	const struct bb_request_params *p = &b->request->params;
	while (b->n_segments < p->n_segments &&
		p->segments[b->n_segments].first <= bb_context_length(b->context)) {
		const struct bb_segment_mark *m = &p->segments[b->n_segments];
		if (!bb_context_begin_segment(b->context, m->first, m->role, err)) {
			return false;
		}
		b->n_segments++;
	}
	return true;
}

/* What a branch needs to take part with so many rows. It may have no context behind it: then it
 * waits for another whose prompt begins alike. */
static bool join(struct bb_scheduler *s, struct branch *b, int n_rows, struct bb_error *err) {
	struct bb_request *r = b->request;
	if (!turns_is_in(b)) {
		if (b->source != NULL && bb_context_length(b->source->context) < b->n_common) {
			return true; /* waits */
		}
		if (!turns_bring_in(s, b, err)) {
			return false;
		}
	}
	/* a beginning that others left may end where a segment begins */
	if (b->n_segments < r->params.n_segments && !begin_segments(b, err)) {
		return false;
	}
	if (!r->is_started && !begin_request(s, r, err)) {
		return false;
	}
	if (b->n_places > 1 && bb_context_length(b->context) == (int)r->params.n_prompt - 1 &&
		!turns_split(b, err)) {
		return false;
	}
	if (reads_aloud(b)) {
		return reserve_prompt_logits(s, err);
	}
	if (r->params.wants_hidden) {
		return reserve_hidden(s, err);
	}
	/* a grammar that can't go on is found here, where it is its own request's fault: in the step
	 * it would be everyone's */
	return !draws_now(b, n_rows) || generation_prepare(b->generation, err);
}

static bool is_alone(const struct bb_scheduler *s, const struct branch *b) {
	for (int i = 0; i < s->plan.n_jobs; i++) {
		const struct branch *o = s->of_job[i];
		if (o != b && o->finish == BB_FINISH_NONE && turns_is_in(o)) {
			return false;
		}
	}
	return true;
}

/* Why b can't take part. Where memory is short and others hold some, it waits for theirs; else it
 * fails. */
static void give_up(struct bb_scheduler *s, struct branch *b, struct bb_error *err) {
	const bool is_short = err->code == BB_ERR_MEMORY;
	if (is_short && (find_memory(s) || !is_alone(s, b))) {
		if (turns_is_in(b)) {
			turns_drop(s, b);
		}
		if (!is_alone(s, b)) {
			learn_limit(s);
		}
		return;
	}
	fail_request(s, b->request, err);
}

/* Who comes in takes what there is of its prompt; then the prefix cache gives up what the step
 * needs. */
static void make_room(struct bb_scheduler *s) {
	size_t wanted = 0;
	for (int i = 0; i < s->plan.n_jobs; i++) {
		struct branch *b = s->of_job[s->plan.order[i]];
		if (s->plan.jobs[s->plan.order[i]].runs && b->context == NULL && b->source == NULL) {
			turns_find_beginning(s, b);
		}
	}
	for (int i = 0; i < s->plan.n_jobs; i++) {
		const int n_rows = s->plan.jobs[i].n_rows;
		wanted += s->plan.jobs[i].runs ? turns_bytes_for(s->of_job[i], n_rows > 0 ? n_rows : 1) : 0;
	}
	if (s->prefix != NULL) {
		prefix_make_room(s->prefix, wanted);
	}
}

/* Brings in who is to run, and makes the items. */
static void gather(struct bb_scheduler *s) {
	int n = 0;
	for (int i = 0; i < s->plan.n_jobs; i++) {
		const struct schedule_job *j = &s->plan.jobs[s->plan.order[i]];
		struct branch *b = s->of_job[s->plan.order[i]];
		struct bb_error err = { 0 };
		if (!j->runs || b->finish != BB_FINISH_NONE) {
			continue;
		}
		if (!join(s, b, j->n_rows, &err)) {
			give_up(s, b, &err);
		} else if (j->n_rows > 0 && b->context != NULL) {
			s->of_item[n++] = b;
		}
	}
	s->n_items = 0;
	for (int i = 0; i < n; i++) {
		struct branch *b = s->of_item[i];
		if (b->context != NULL) { /* a request may have failed for a later branch of it */
			add_item(s, b, s->plan.jobs[b->i_job].n_rows);
		}
	}
}

/* ---- what a step has given ---- */

/* How likely the tokens of the prompt were behind those before them: rows [n, n_vocab]. */
static void tell_prompt(struct bb_scheduler *s, struct branch *b, int first, int n) {
	struct bb_request *r = b->request;
	const size_t n_vocab = (size_t)engine_n_vocab(s->engine);
	for (int i = 0; i < n; i++) {
		const int index = first + i + 1;
		if (index <= r->n_prompt_told) {
			continue; /* computed again */
		}
		struct bb_sampled token = { .id = b->ids.ids[index] };
		generation_judge(b->generation, s->prompt_logits + (size_t)i * n_vocab,
			r->params.n_prompt_logprobs, &token);
		r->n_prompt_told = index;
		struct bb_event event = {
			.kind = BB_EVENT_PROMPT, .index = index, .token = &token, .text = "",
		};
		tell(r, &event);
	}
}

static void tell_token(struct bb_scheduler *s, struct branch *b) {
	struct bb_request *r = b->request;
	struct bb_sampled token;
	struct bb_error err = { 0 };
	struct bb_event event = {
		.kind = BB_EVENT_TOKEN, .branch = b->index, .index = b->n_output, .token = &token,
	};
	if (!generation_take(b->generation, &token, &event.text, &event.bytes, &event.finish, &err) ||
		!bb_tokens_push(&b->ids, token.id, &err)) {
		fail_request(s, r, &err);
		return;
	}
	b->n_output++;
	r->usage.n_output++;
	s->now.n_output_tokens++;
	r->last = requests_now(s);
	r->first = r->first > 0 ? r->first : r->last;
	tell(r, &event);
	if (event.finish != BB_FINISH_NONE) {
		s->mean_output += (s->mean_output > 0 ? 0.05 : 1) * (b->n_output - s->mean_output);
		end_branch(s, b, event.finish);
	}
}

static void tell_hidden(struct bb_scheduler *s, struct branch *b, const float *hidden) {
	struct bb_request *r = b->request;
	struct bb_event event = { .kind = BB_EVENT_HIDDEN, .hidden = hidden, .text = "" };
	r->first = r->last = requests_now(s);
	tell(r, &event);
	end_branch(s, b, BB_FINISH_STOP);
}

static void count_rows(struct bb_scheduler *s, struct branch *b, int n) {
	const int length = bb_context_length(b->context), first = length - n;
	const int n_prompt = (int)b->request->params.n_prompt;
	const int n_again = (b->n_seen < length ? b->n_seen : length) - first;
	const int from = b->n_seen > first ? b->n_seen : first;
	const int n_new = (length < n_prompt ? length : n_prompt) - from;
	s->now.n_computed_again += n_again > 0 ? (uint64_t)n_again : 0;
	s->now.n_prompt_tokens += n_new > 0 ? (uint64_t)n_new : 0;
	b->n_seen = length > b->n_seen ? length : b->n_seen;
}

static void give_out(struct bb_scheduler *s, int i, const struct bb_error *step_err) {
	const struct bb_step_item *item = &s->items[i];
	struct branch *b = s->of_item[i];
	struct bb_request *r = b->request;
	struct bb_error err = { 0 };
	if (b->finish != BB_FINISH_NONE || atomic_load(&r->has_ended)) {
		return; /* a branch beside it has failed */
	}
	count_rows(s, b, item->n_tokens);
	if (item->sampler != NULL && item->sampled->id < 0) {
		fail_request(s, r, step_err);
		return;
	}
	if (!begin_segments(b, &err)) {
		fail_request(s, r, &err);
		return;
	}
	if (item->all_logits) {
		tell_prompt(s, b, bb_context_length(b->context) - item->n_tokens, item->n_tokens);
	}
	if (item->sampler != NULL) {
		tell_token(s, b);
	} else if (item->hidden != NULL) {
		tell_hidden(s, b, item->hidden);
	} else if (b->n_places > 1 && bb_context_length(b->context) == (int)r->params.n_prompt - 1 &&
		!turns_split(b, &err)) {
		fail_request(s, r, &err);
	}
}

/* Of those that hold memory, with rows of the step or not, who comes last. */
static struct branch *last_in(const struct bb_scheduler *s) {
	struct branch *last = s->of_item[0];
	for (int i = 0; i < s->plan.n_jobs; i++) {
		struct branch *b = s->of_job[s->plan.order[i]];
		last = b->finish == BB_FINISH_NONE && turns_bytes_of(b) > 0 ? b : last;
	}
	return last;
}

/* The step has computed nothing. Who comes last makes room where memory ran out; a device that
 * failed can't be trusted any more; else those that took part have failed. */
static bool fail_step(struct bb_scheduler *s, const struct bb_error *why, struct bb_error *err) {
	if (why->code == BB_ERR_DEVICE) {
		s->broken = *why;
		*err = *why;
		run_end_all(s, BB_FINISH_NONE, why);
		return false;
	}
	if (why->code == BB_ERR_MEMORY && find_memory(s)) {
		return true; /* that may be enough */
	}
	if (why->code == BB_ERR_MEMORY && !is_alone(s, s->of_item[0])) {
		learn_limit(s);
		turns_put_aside(s, last_in(s));
		return true;
	}
	for (int i = 0; i < s->n_items; i++) {
		if (!atomic_load(&s->of_item[i]->request->has_ended)) {
			fail_request(s, s->of_item[i]->request, why);
		}
	}
	return true;
}

static void measure(struct bb_scheduler *s, double seconds) {
	int n_decode = 0, n_rows = 0;
	for (int i = 0; i < s->n_items; i++) {
		n_rows += s->items[i].n_tokens;
		n_decode += s->plan.jobs[s->of_item[i]->i_job].n_todo == 1;
	}
	schedule_meter_add(&s->meter, n_decode, n_rows - n_decode, seconds);
	s->n_mixed = n_decode > 0 && n_rows > n_decode ? s->n_mixed + 1 : 0;
	s->now.n_steps++;
	s->now.step_s = seconds;
	s->now.busy_s += seconds;
	s->now.step_rows = (uint64_t)n_rows;
}

static bool compute(struct bb_scheduler *s, struct bb_error *err) {
	struct bb_error why = { 0 };
	const int before = bb_context_length(s->items[0].context);
	const double start = requests_now(s);
	if (!bb_step(s->engine, s->items, s->n_items, &why) &&
		bb_context_length(s->items[0].context) == before) {
		return fail_step(s, &why, err);
	}
	s->is_short = false;
	measure(s, requests_now(s) - start);
	for (int i = 0; i < s->n_items; i++) {
		give_out(s, i, &why);
	}
	return true;
}

/* ---- what others see ---- */

static void fill_info(const struct bb_scheduler *s, const struct bb_request *r, double now,
	struct bb_request_info *out) {
	*out = (struct bb_request_info){
		.id = r->id, .priority = r->params.priority, .n_branches = r->params.n,
		.n_prompt = (int)r->params.n_prompt, .n_cached = r->usage.n_cached,
		.n_output = r->usage.n_output, .age_s = now - r->arrived,
	};
	bool is_any_in = false;
	int n_rows = 0;
	for (int i = 0; i < r->params.n; i++) {
		const struct branch *b = &r->branches[i];
		if (turns_is_in(b)) {
			is_any_in = true;
			out->kv_bytes += swap_bytes(b->context);
		}
		out->n_read = b->n_seen > out->n_read ? b->n_seen : out->n_read;
	}
	out->n_read = out->n_read < out->n_prompt ? out->n_read : out->n_prompt;
	for (int i = 0; r->is_started && i < s->n_items; i++) {
		n_rows += s->of_item[i]->request == r ? s->items[i].n_tokens : 0;
	}
	out->share = s->now.step_rows > 0 ? n_rows / (double)s->now.step_rows : 0;
	out->tokens_per_s = r->last > r->first ? (r->usage.n_output - 1) / (r->last - r->first) : 0;
	out->state = !r->is_started ? BB_REQUEST_WAITING : !is_any_in ? BB_REQUEST_ASIDE
		: r->first > 0 ? BB_REQUEST_WRITING : BB_REQUEST_READING;
}

static void publish(struct bb_scheduler *s) {
	struct bb_scheduler_stats *now = &s->now;
	const double time = requests_now(s);
	pthread_mutex_lock(&s->lock);
	if (s->n_open > s->max_infos) {
		void *grown = base_realloc(s->infos, (size_t)s->n_open * 2, sizeof(*s->infos));
		s->infos = grown != NULL ? grown : s->infos;
		s->max_infos = grown != NULL ? s->n_open * 2 : s->max_infos;
	}
	s->n_infos = s->n_paused = 0;
	now->n_running = now->n_aside = 0;
	for (const struct bb_request *r = s->requests; r != NULL; r = r->next) {
		struct bb_request_info info;
		fill_info(s, r, time, &info);
		now->n_running += info.state == BB_REQUEST_READING || info.state == BB_REQUEST_WRITING;
		now->n_aside += info.state == BB_REQUEST_ASIDE;
		s->n_paused += atomic_load(&r->is_paused);
		if (s->n_infos < s->max_infos) {
			s->infos[s->n_infos++] = info;
		}
	}
	now->n_requests = s->last_id;
	now->n_refused = s->stats.n_refused;
	now->kv_bytes = engine_used_bytes(s->engine).live;
	now->max_kv_bytes = s->engine->budget.max_bytes;
	now->swap_bytes = s->space.used_bytes;
	now->prefix_bytes = s->prefix != NULL ? engine_kept_bytes(s->engine).all : 0;
	s->stats = *now;
	pthread_mutex_unlock(&s->lock);
}

/* Whether nobody is here but those who are paused: who lacked memory in this step may have it in
 * the next. */
static bool is_idle(const struct bb_scheduler *s) {
	int n = 0;
	for (int i = 0; i < s->plan.n_jobs; i++) {
		n += !atomic_load(&s->of_job[i]->request->is_paused);
	}
	return n == 0;
}

bool bb_scheduler_step(struct bb_scheduler *s, bool *idle, struct bb_error *err) {
	*idle = true;
	run_take_inbox(s);
	if (s->broken.code != BB_OK) {
		run_end_all(s, BB_FINISH_NONE, &s->broken);
		publish(s);
		return base_fail(err, s->broken.code, "%s", s->broken.text);
	}
	const double now = requests_now(s);
	end_unwanted(s, now);
	struct bb_error why = { 0 };
	if (!reserve_jobs(s, &why)) {
		run_end_all(s, BB_FINISH_NONE, &why);
	}
	plan(s, now);
	for (int i = 0; i < s->plan.n_jobs; i++) { /* until the step is given out */
		atomic_fetch_add(&s->of_job[i]->request->n_refs, 1);
	}
	make_room(s);
	gather(s);
	*idle = is_idle(s);
	const bool ok = s->n_items == 0 || compute(s, err);
	publish(s);
	for (int i = 0; i < s->plan.n_jobs; i++) {
		requests_unref(s->of_job[i]->request);
	}
	s->plan.n_jobs = s->n_items = 0;
	return ok;
}
