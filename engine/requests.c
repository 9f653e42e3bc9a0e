/* SPDX-License-Identifier: Apache-2.0
 *
 * The scheduler as other threads see it: requests are checked and copied where they are submitted,
 * and wait in the inbox for the next step. Only what stands under the lock is touched here, and
 * what never changes. */
#include "requests.h"

#include <assert.h>
#include <math.h>
#include <string.h>
#include <time.h>

double requests_now(const struct bb_scheduler *s) {
	return s->params.clock != NULL ? s->params.clock(s->params.clock_user) : base_seconds();
}

uint64_t bb_branch_seed(uint64_t seed, int branch) {
	return branch == 0 ? seed : sampler_key(seed + (uint64_t)branch) >> 11;
}

/* ---- a request's copies ---- */

static void *copy(const void *from, size_t n, size_t bytes, bool *ok) {
	void *p = *ok ? base_alloc(n, bytes) : NULL;
	*ok = p != NULL;
	if (p != NULL && n > 0) {
		memcpy(p, from, n * bytes);
	}
	return p;
}

static const char *copy_text(const char *text, bool *ok) {
	char *p = text != NULL && *ok ? base_strdup(text) : NULL;
	*ok = *ok && (text == NULL || p != NULL);
	return p;
}

static void request_destroy(struct bb_request *r) {
	struct bb_request_params *p = &r->params;
	for (int i = 0; r->branches != NULL && i < r->n_all; i++) {
		bb_generation_destroy(r->branches[i].generation);
		bb_tokens_finish(&r->branches[i].ids);
		bb_text_finish(&r->branches[i].said);
	}
	effort_destroy(r->effort);
	base_free(r->views);
	base_free(r->branches);
	base_free((void *)(uintptr_t)p->segments);
	base_free((void *)(uintptr_t)p->cache_salt);
	base_free((void *)(uintptr_t)p->conversation);
	base_free((void *)(uintptr_t)p->generation.stop_token_ids);
	base_free((void *)(uintptr_t)p->generation.sampling.logit_bias);
	generation_free_stops((char **)(uintptr_t)p->generation.stop, p->generation.n_stop);
	base_free(r);
}

void requests_unref(struct bb_request *r) {
	if (atomic_fetch_sub(&r->n_refs, 1) == 1) {
		request_destroy(r);
	}
}

static bool copy_branches(struct bb_request *r, const struct bb_request_params *from) {
	const int n = r->params.n;
	bool ok = true;
	r->n_all = r->effort != NULL && r->effort->params.probe_every > 0 ? 2 * n : n;
	r->n_first = r->effort != NULL ? effort_n_first(r->effort) : n;
	r->branches = base_alloc((size_t)r->n_all, sizeof(*r->branches));
	r->views = base_alloc((size_t)n, sizeof(*r->views));
	if (r->branches == NULL || r->views == NULL) {
		return false;
	}
	for (int i = 0; i < r->n_all; i++) {
		r->branches[i] = (struct branch){ .request = r, .index = i, .is_live = i == 0,
			.n_places = 1, .parent = i >= n ? &r->branches[i - n] : NULL,
			.effort = r->effort != NULL && i < n ? &r->effort->branches[i] : NULL };
	}
	for (int i = 0; i < n; i++) {
		r->views[i] = infos_view(&r->branches[i]);
	}
	struct branch *first = &r->branches[0];
	first->has_to_part = n > 1;
	first->ids.ids = copy(from->prompt, from->n_prompt, sizeof(int32_t), &ok);
	if (!ok) {
		return false;
	}
	first->ids.n = first->ids.cap = from->n_prompt;
	first->n_places = r->n_first;
	r->params.prompt = first->ids.ids;
	return true;
}

static bool copy_params(struct bb_request *r, const struct bb_request_params *from) {
	struct bb_request_params *p = &r->params;
	struct bb_generation_params *g = &p->generation;
	const struct bb_generation_params *from_g = &from->generation;
	bool ok = true;
	*p = *from;
	if (from->wants_hidden) { /* what would be drawn ends it */
		*g = (struct bb_generation_params){ .max_tokens = 1 };
		from_g = g;
	}
	p->n = from->n > 0 ? from->n : 1;
	p->effort = NULL; /* the request has its own */
	g->sampling.wants_confidence = g->sampling.wants_confidence || r->effort != NULL;
	p->weight = from->weight > 0 ? from->weight : 1;
	p->account = NULL; /* its number is all that is needed */
	r->account = spend_account(from->account);
	p->segments = copy(from->segments, (size_t)from->n_segments, sizeof(*p->segments), &ok);
	g->stop_token_ids = copy(from_g->stop_token_ids, (size_t)from_g->n_stop_token_ids,
		sizeof(*g->stop_token_ids), &ok);
	g->sampling.logit_bias = copy(from_g->sampling.logit_bias,
		(size_t)from_g->sampling.n_logit_bias, sizeof(*g->sampling.logit_bias), &ok);
	char **stops = ok ? generation_copy_stops(from_g->stop, from_g->n_stop) : NULL;
	g->stop = (const char *const *)stops;
	ok = stops != NULL;
	p->cache_salt = copy_text(from->cache_salt, &ok);
	p->conversation = copy_text(from->conversation, &ok);
	return ok && copy_branches(r, from);
}

/* ---- submitting ---- */

static bool check_marks(const struct bb_request_params *p, struct bb_error *err) {
	int before = -1;
	for (int i = 0; i < p->n_segments; i++) {
		const int first = p->segments[i].first;
		if (first <= before || (size_t)first > p->n_prompt ||
			p->segments[i].role > BB_ROLE_TOOL) {
			return base_fail(err, BB_ERR_USAGE, "segment %d begins at token %d, expected %d to %zu",
				i, first, before + 1, p->n_prompt);
		}
		before = first;
	}
	return true;
}

/* How much thought goes into it, beside what else is wanted. */
static bool check_effort(const struct bb_scheduler *s, const struct bb_request_params *p,
	struct bb_error *err) {
	const struct bb_effort *effort = p->effort;
	const struct bb_grammar *grammar = p->generation.sampling.grammar;
	const bool acts = effort->has_budget || effort->min_thinking > 0 || effort->answer_by_ms > 0 ||
		effort->probe_every > 0;
	const bool thinks_first = effort->thinking.end != NULL &&
		(effort->thinking.starts_inside || effort->thinking.begin == NULL);
	if (!bb_effort_check(s->engine, effort, p->n > 0 ? p->n : 1, p->generation.max_tokens, err)) {
		return false;
	}
	if (acts && thinks_first && grammar != NULL &&
		grammar_kind(grammar) != BB_GRAMMAR_STRUCTURE) {
		return base_fail(err, BB_ERR_USAGE, "the grammar is of all the text, which leaves no place "
			"for thinking to close or extend");
	}
	return p->deadline_ms == 0 || effort->answer_by_ms <= p->deadline_ms || base_fail(err,
		BB_ERR_USAGE, "answer_by_ms is %g, expected at most deadline_ms, %g",
		effort->answer_by_ms, p->deadline_ms);
}

/* What is to come of the prompt. */
static bool check_answer(const struct bb_scheduler *s, const struct bb_request_params *p,
	struct bb_error *err) {
	if (p->wants_hidden) {
		assert(p->n <= 1 && p->n_prompt_logprobs == 0 && p->effort == NULL);
		return true;
	}
	if (p->generation.max_tokens == 0 || p->generation.max_tokens < -1) {
		return base_fail(err, BB_ERR_USAGE, "max_tokens is %d, expected 1 or more, or -1",
			p->generation.max_tokens);
	}
	if (p->n < 0 || p->n > s->params.max_running) {
		return base_fail(err, BB_ERR_USAGE, "n is %d, expected 1 to %d", p->n,
			s->params.max_running);
	}
	if (p->n_prompt_logprobs < 0 || p->n_prompt_logprobs > BB_MAX_LOGPROBS) {
		return base_fail(err, BB_ERR_USAGE, "prompt_logprobs is %d, expected 0 to %d",
			p->n_prompt_logprobs, BB_MAX_LOGPROBS);
	}
	if (p->n_prompt_logprobs > 0 && vectors_count(p->prompt, p->n_prompt) > 0) {
		return base_fail(err, BB_ERR_USAGE, "prompt_logprobs is %d, expected 0 for a prompt with "
			"vectors, which have no probability", p->n_prompt_logprobs);
	}
	return bb_generation_check(s->engine, &p->generation, err) &&
		(p->effort == NULL || check_effort(s, p, err));
}

static bool check(const struct bb_scheduler *s, const struct bb_request_params *p,
	struct bb_error *err) {
	const struct bb_engine *e = s->engine;
	const size_t all = p->n_prompt + !p->wants_hidden;
	const char *with = p->wants_hidden ? "" : ", with at least one of an answer";
	assert(p->n_prompt >= 1 && p->event != NULL);
	if (!check_answer(s, p, err)) {
		return false;
	}
	if (!(p->deadline_ms >= 0)) {
		return base_fail(err, BB_ERR_USAGE, "the deadline is in %g ms, expected 0 or more",
			p->deadline_ms);
	}
	if (!(p->weight >= 0) || !isfinite(p->weight)) {
		return base_fail(err, BB_ERR_USAGE, "the weight is %g, expected a number above 0, or 0 for "
			"1", p->weight);
	}
	if (all > (size_t)e->max_len) {
		return base_fail(err, BB_ERR_CONTEXT, "the prompt has %zu tokens, and contexts hold at "
			"most %d%s", p->n_prompt, e->max_len, with);
	}
	if (all > (size_t)s->max_len) {
		return base_fail(err, BB_ERR_CONTEXT, "the prompt has %zu tokens, and the KV cache of %zu "
			"bytes holds at most %d%s", p->n_prompt, e->budget.max_bytes, s->max_len, with);
	}
	return check_marks(p, err) && engine_check_ids(e, p->prompt, p->n_prompt, err);
}

static bool enter(struct bb_scheduler *s, struct bb_request *r, struct bb_error *err) {
	bool ok = true;
	pthread_mutex_lock(&s->lock);
	const int n_waiting = s->n_open - s->n_begun;
	if (n_waiting >= s->params.max_waiting) {
		s->stats.n_refused++;
		ok = base_fail(err, BB_ERR_BUSY, "the queue is full: %d of at most %d requests wait",
			n_waiting, s->params.max_waiting);
	} else {
		r->id = ++s->last_id;
		s->n_open++;
		*s->inbox_end = r;
		s->inbox_end = &r->next;
		pthread_cond_signal(&s->changed);
	}
	pthread_mutex_unlock(&s->lock);
	return ok;
}

bool bb_request_submit(struct bb_request **out, struct bb_scheduler *s,
	const struct bb_request_params *params, struct bb_error *err) {
	*out = NULL;
	if (!check(s, params, err)) {
		return false;
	}
	struct bb_request *r = base_alloc(1, sizeof(*r));
	if (r == NULL) {
		return base_no_memory(err, "request", sizeof(*r));
	}
	r->scheduler = s;
	atomic_init(&r->n_refs, 2);
	r->arrived = requests_now(s);
	r->deadline = params->deadline_ms > 0 ? r->arrived + params->deadline_ms / 1000 : INFINITY;
	if (params->effort != NULL && !effort_create(&r->effort, s->engine, params->effort,
		params->n > 0 ? params->n : 1, err)) {
		base_free(r);
		return false;
	}
	if (r->effort != NULL) {
		r->effort->answer_by = r->arrived + params->effort->answer_by_ms / 1000;
	}
	if (!copy_params(r, params)) {
		request_destroy(r);
		return base_no_memory(err, "request", params->n_prompt * sizeof(int32_t));
	}
	r->n_live = r->params.n;
	r->usage.n_prompt = (int)params->n_prompt;
	*out = r; /* its events may come at once */
	vectors_ref(s->engine->vectors, r->params.prompt, params->n_prompt);
	if (!enter(s, r, err)) {
		*out = NULL;
		vectors_unref(s->engine->vectors, r->params.prompt, params->n_prompt);
		request_destroy(r);
		return false;
	}
	return true;
}

void bb_request_cancel(struct bb_request *r) {
	atomic_store(&r->is_cancelled, true);
	if (!atomic_load(&r->has_ended)) {
		bb_scheduler_wake(r->scheduler);
	}
}

void bb_request_pause(struct bb_request *r, bool is_paused) {
	if (atomic_exchange(&r->is_paused, is_paused) && !is_paused) {
		bb_scheduler_wake(r->scheduler);
	}
}

void bb_request_release(struct bb_request *r) {
	if (r != NULL) {
		requests_unref(r);
	}
}

uint64_t bb_request_id(const struct bb_request *r) {
	return r->id;
}

/* ---- the scheduler ---- */

static void pick_defaults(struct bb_scheduler *s) {
	const struct bb_engine *e = s->engine;
	struct bb_scheduler_params *p = &s->params;
	const int most = e->plan.max_rows;
	p->max_running = p->max_running > 0 ? p->max_running : 64;
	p->max_running = p->max_running < most ? p->max_running : most;
	p->max_waiting = p->max_waiting > 0 ? p->max_waiting : 1024;
	p->max_step_tokens = p->max_step_tokens > 0 && p->max_step_tokens < most
		? p->max_step_tokens : most;
	p->max_step_tokens = p->max_step_tokens > p->max_running ? p->max_step_tokens : p->max_running;
	p->max_swap_bytes = p->max_swap_bytes == BB_SWAP_NONE ? 0
		: p->max_swap_bytes > 0 ? p->max_swap_bytes : (size_t)4 << 30;
	if (p->prefix_cache_bytes == 0) { /* checkpoints, which have a limit, come on top */
		p->prefix_cache_bytes = (size_t)e->kept_states->max_kept * e->kept_states->bytes +
			(e->budget.max_bytes > 0 ? e->budget.max_bytes / 2 : (size_t)4 << 30);
	}
	s->space.max_bytes = p->max_swap_bytes;
}

/* The longest context whose pages, one more of each kind and state the budget holds. */
static int longest(const struct bb_engine *e) {
	if (e->budget.max_bytes == 0 || turns_bytes(e, e->max_len) <= e->budget.max_bytes) {
		return e->max_len;
	}
	int low = 0, high = e->max_len;
	while (high - low > 1) {
		const int n = low + (high - low) / 2;
		const bool fits = turns_bytes(e, n) + turns_bytes(e, 1) <= e->budget.max_bytes;
		low = fits ? n : low;
		high = fits ? high : n;
	}
	return low;
}

bool bb_scheduler_create(struct bb_scheduler **out, struct bb_engine *e,
	const struct bb_scheduler_params *params, struct bb_error *err) {
	assert(e->is_packed);
	assert(params == NULL || params->max_running == 0 || params->max_running >= 1);
	*out = NULL;
	if (longest(e) < 1) {
		return base_fail(err, BB_ERR_USAGE, "the KV cache may have %zu bytes, expected at least "
			"%zu for a context of %d tokens", e->budget.max_bytes, 2 * turns_bytes(e, 1), BB_PAGE);
	}
	struct bb_scheduler *s = base_alloc(1, sizeof(*s));
	if (s == NULL) {
		return base_no_memory(err, "scheduler", sizeof(*s));
	}
	s->engine = e;
	s->params = params != NULL ? *params : (struct bb_scheduler_params){ 0 };
	pick_defaults(s);
	s->max_len = longest(e);
	s->inbox_end = &s->inbox;
	s->requests_end = &s->requests;
	const size_t n = (size_t)s->params.max_running;
	s->items = base_alloc(n, sizeof(*s->items));
	s->of_item = base_alloc(n, sizeof(*s->of_item));
	pthread_condattr_t monotonic;
	pthread_condattr_init(&monotonic);
	pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
	pthread_mutex_init(&s->lock, NULL);
	pthread_cond_init(&s->changed, &monotonic);
	pthread_condattr_destroy(&monotonic);
	if (s->items == NULL || s->of_item == NULL) {
		bb_scheduler_destroy(s);
		return base_no_memory(err, "scheduler", n * sizeof(*s->items));
	}
	const struct bb_speculation *spec = s->params.speculation;
	s->params.speculation = NULL;
	if (!spend_init(s, err) || (!s->params.no_prefix_cache &&
		!prefix_create(&s->prefix, e, s->params.prefix_cache_bytes, &s->space, err)) ||
		((spec == NULL || !spec->is_off) &&
			!spec_create(&s->spec, e, spec, s->params.max_running, err))) {
		bb_scheduler_destroy(s);
		return false;
	}
	*out = s;
	return true;
}

void bb_scheduler_destroy(struct bb_scheduler *s) {
	if (s == NULL) {
		return;
	}
	run_take_inbox(s);
	run_end_all(s, BB_FINISH_CANCELLED, NULL);
	prefix_destroy(s->prefix);
	spec_destroy(s->spec);
	spend_finish(s);
	base_free(s->items);
	base_free(s->of_item);
	base_free(s->plan.jobs);
	base_free(s->plan.order);
	base_free(s->of_job);
	base_free(s->infos);
	base_free(s->prompt_logits);
	base_free(s->hidden);
	pthread_cond_destroy(&s->changed);
	pthread_mutex_destroy(&s->lock);
	base_free(s);
}

void bb_scheduler_wake(struct bb_scheduler *s) {
	pthread_mutex_lock(&s->lock);
	s->is_woken = true;
	pthread_cond_signal(&s->changed);
	pthread_mutex_unlock(&s->lock);
}

bool bb_scheduler_wait(struct bb_scheduler *s, double most_s) {
	struct timespec until;
	clock_gettime(CLOCK_MONOTONIC, &until);
	pthread_mutex_lock(&s->lock);
	const bool is_held = s->held_for_s > 0;
	const double s_most = fmin(is_held ? fmin(most_s, s->held_for_s) : most_s, 1e9);
	const double at = (double)until.tv_sec + 1e-9 * (double)until.tv_nsec + s_most;
	until.tv_sec = (time_t)at;
	until.tv_nsec = (long)((at - floor(at)) * 1e9);
	int timed_out = 0;
	while ((is_held || s->n_open <= s->n_paused) && !s->is_woken && timed_out == 0) {
		timed_out = pthread_cond_timedwait(&s->changed, &s->lock, &until);
	}
	const bool is_any_open = s->n_open > 0;
	s->is_woken = false;
	s->held_for_s = 0;
	pthread_mutex_unlock(&s->lock);
	return is_any_open;
}

void bb_scheduler_stats(struct bb_scheduler *s, struct bb_scheduler_stats *out) {
	pthread_mutex_lock(&s->lock);
	*out = s->stats;
	out->n_waiting = s->n_open - s->n_begun;
	pthread_mutex_unlock(&s->lock);
}

int bb_scheduler_requests(struct bb_scheduler *s, struct bb_request_info *out, int most) {
	pthread_mutex_lock(&s->lock);
	const int n = s->n_infos;
	if (n > 0 && most > 0) {
		memcpy(out, s->infos, (size_t)(n < most ? n : most) * sizeof(*out));
	}
	pthread_mutex_unlock(&s->lock);
	return n;
}
