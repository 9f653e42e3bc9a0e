/* SPDX-License-Identifier: Apache-2.0
 *
 * One step of the scheduler: who is due is asked of schedule_plan, contexts come and go as it says,
 * the engine computes, and what was drawn is given out. */
#include "requests.h"

#include <assert.h>
#include <limits.h>
#include <string.h>

/* ---- events ---- */

void run_tell(struct bb_request *r, struct bb_event *event) {
	event->request = r;
	r->params.event(r->params.user, event);
}

static void tell_finish(struct bb_request *r, int i_branch, enum bb_finish finish) {
	struct bb_event event = {
		.kind = BB_EVENT_FINISHED, .branch = i_branch, .finish = finish, .text = "",
		.usage = r->n_live == 0 ? &r->usage : NULL,
	};
	run_tell(r, &event);
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
	turns_drop_stem(r);
	vectors_unref(s->engine->vectors, r->branches[0].ids.ids, r->params.n_prompt);
	pthread_mutex_lock(&s->lock);
	s->n_open--;
	s->n_begun -= r->is_started;
	pthread_mutex_unlock(&s->lock);
	atomic_store(&r->has_ended, true);
	s->squeeze = 0;
}

/* Those that haven't ended, begun or not, end. */
void run_end_rest(struct bb_scheduler *s, struct bb_request *r) {
	if (!r->ends_rest || r->is_ending_rest || r->n_live == 0) {
		return;
	}
	r->is_ending_rest = true;
	for (int i = 0; i < r->params.n; i++) {
		struct branch *b = &r->branches[i];
		if (b->finish == BB_FINISH_NONE) {
			decide_tell_rest(b);
			run_end_branch(s, b, BB_FINISH_DROPPED);
		}
	}
}

/* The last event of a request is that of the branch that ends last: what becomes of the others is
 * decided before it is told. */
void run_end_branch(struct bb_scheduler *s, struct branch *b, enum bb_finish finish) {
	struct bb_request *r = b->request;
	struct bb_error err = { 0 };
	const bool is_whole = finish == BB_FINISH_STOP || finish == BB_FINISH_LENGTH ||
		finish == BB_FINISH_CONTEXT;
	const bool is_decided = is_whole || finish == BB_FINISH_DROPPED;
	const bool has_choice = r->effort != NULL && (is_decided || finish == BB_FINISH_DEADLINE);
	const bool is_dropped = b->is_live && finish == BB_FINISH_DROPPED;
	r->usage.n_dropped += is_dropped;
	r->usage.n_branches += is_dropped && !b->has_begun; /* it was about to draw */
	turns_end_probe(s, turns_probe_of(b));
	spec_end(s->spec, b, is_whole);
	if (is_whole && !r->params.wants_hidden) {
		turns_keep(s, b);
	} else {
		turns_drop(s, b);
	}
	b->is_live = false;
	b->finish = finish;
	r->n_live--;
	if (has_choice && !decide_ended(b, &err)) {
		run_fail(s, r, &err);
		return;
	}
	const bool is_last = r->n_live == 0;
	if (is_last) {
		if (has_choice) {
			decide_choice(r);
		}
		tally_times(s, r);
		s->now.n_finished += is_decided;
		s->now.n_cancelled += finish == BB_FINISH_CANCELLED;
		s->now.n_expired += finish == BB_FINISH_DEADLINE;
		unlink_request(s, r);
	}
	atomic_fetch_add(&r->n_refs, 1);
	tell_finish(r, b->index, finish);
	if (is_last) {
		requests_unref(r);
	} else {
		run_end_rest(s, r);
	}
	requests_unref(r);
}

static void end_request(struct bb_scheduler *s, struct bb_request *r, enum bb_finish finish) {
	atomic_fetch_add(&r->n_refs, 1);
	for (int i = 0; i < r->params.n; i++) {
		if (r->branches[i].finish == BB_FINISH_NONE) {
			run_end_branch(s, &r->branches[i], finish);
		}
	}
	requests_unref(r);
}

void run_fail(struct bb_scheduler *s, struct bb_request *r, const struct bb_error *err) {
	for (int i = 0; i < r->params.n; i++) {
		turns_end_probe(s, turns_probe_of(&r->branches[i]));
		if (r->branches[i].finish == BB_FINISH_NONE) {
			spec_end(s->spec, &r->branches[i], false);
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
	run_tell(r, &event);
	requests_unref(r);
}

void run_end_all(struct bb_scheduler *s, enum bb_finish finish, const struct bb_error *err) {
	while (s->requests != NULL) {
		if (err != NULL) {
			run_fail(s, s->requests, err);
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

/* ---- the step ---- */

bool run_begin_generation(struct bb_scheduler *s, struct branch *b, struct bb_error *err) {
	const struct bb_request *r = b->request;
	struct bb_generation_params p = r->params.generation;
	p.sampling.seed = bb_branch_seed(p.sampling.seed, b->index);
	if (!generation_create(&b->generation, s->engine, &p, s->max_len, err)) {
		return false;
	}
	generation_prompt(b->generation, r->branches[0].ids.ids, r->params.n_prompt);
	return true;
}

static void begin_request(struct bb_scheduler *s, struct bb_request *r) {
	r->is_started = true;
	r->started = requests_now(s);
	pthread_mutex_lock(&s->lock);
	s->n_begun++;
	pthread_mutex_unlock(&s->lock);
	struct bb_event event = { .kind = BB_EVENT_STARTED, .text = "" };
	run_tell(r, &event);
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
	const int left = jobs_end_of(b) - bb_context_length(b->context);
	return n_rows < left ? n_rows : left;
}

/* Whether what it wants comes of the rows of this step: it draws, or is done. */
static bool draws_now(const struct branch *b, int n_rows) {
	return n_rows > 0 && !jobs_reads_aloud(b) &&
		bb_context_length(b->context) + rows_of(b, n_rows) == (int)b->ids.n;
}

static void add_item(struct bb_scheduler *s, struct branch *b, int n_rows) {
	struct bb_step_item *item = &s->items[s->n_items];
	*item = (struct bb_step_item){
		.context = b->context, .tokens = b->ids.ids + bb_context_length(b->context),
		.n_tokens = rows_of(b, n_rows),
	};
	if (jobs_reads_aloud(b)) {
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

static bool begin_drawing(struct bb_scheduler *s, struct branch *b, struct bb_error *err) {
	if (b->has_begun || b->parent != NULL) {
		return true;
	}
	if (!decide_begin(s, b, err)) {
		return false;
	}
	b->has_begun = b->finish == BB_FINISH_NONE;
	b->request->usage.n_branches += b->has_begun;
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
	if (b->generation == NULL && !r->params.wants_hidden && !run_begin_generation(s, b, err)) {
		return false;
	}
	if (!r->is_started) {
		begin_request(s, r);
	}
	if (b->has_to_part && bb_context_length(b->context) == (int)r->params.n_prompt - 1 &&
		!turns_split(b, err)) {
		return false;
	}
	if (jobs_reads_aloud(b)) {
		return reserve_prompt_logits(s, err);
	}
	if (r->params.wants_hidden) {
		return reserve_hidden(s, err);
	}
	/* a grammar that can't go on is found here, where it is its own request's fault: in the step
	 * it would be everyone's */
	return !draws_now(b, n_rows) || (begin_drawing(s, b, err) &&
		(b->finish != BB_FINISH_NONE || generation_prepare(b->generation, err)));
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
	if (is_short && (jobs_find_memory(s) || !is_alone(s, b))) {
		if (turns_is_in(b)) {
			turns_drop(s, b);
		}
		if (!is_alone(s, b)) {
			jobs_learn_limit(s);
		}
		return;
	}
	run_fail(s, b->request, err);
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
		if (!j->runs || !b->is_live) {
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
		run_tell(r, &event);
	}
}

static void take_probed(struct bb_scheduler *s, struct branch *probe) {
	struct bb_error err = { 0 };
	bool is_over;
	struct branch *b = probe->parent;
	if (!probes_take(s, probe, &is_over, &err) ||
		(is_over && b->effort != NULL && !decide_probed(b, &probe->said, &err))) {
		run_fail(s, probe->request, &err);
	} else if (is_over) {
		turns_end_probe(s, probe);
	}
}

static void tell_token(struct bb_scheduler *s, struct branch *b) {
	struct bb_request *r = b->request;
	struct bb_sampled token;
	struct bb_error err = { 0 };
	struct bb_event event = {
		.kind = BB_EVENT_TOKEN, .branch = b->index, .index = b->n_output, .token = &token,
	};
	if ((b->effort != NULL && !decide_drawn(b, &err)) ||
		!generation_take(b->generation, &token, &event.text, &event.bytes, &event.finish, &err) ||
		!bb_tokens_push(&b->ids, token.id, &err)) {
		run_fail(s, r, &err);
		return;
	}
	b->n_output++;
	b->logprob += (double)token.logprob;
	r->usage.n_cot_steps += b->effort == NULL && b->generation->cot.n_tokens == 1;
	r->usage.n_output++;
	s->now.n_output_tokens++;
	spec_see(s->spec, b, token.id);
	r->last = requests_now(s);
	r->first = r->first > 0 ? r->first : r->last;
	run_tell(r, &event);
	if (b->effort != NULL && !decide_token(s, b, &token, event.finish, &err)) {
		run_fail(s, r, &err);
		return;
	}
	if (event.finish != BB_FINISH_NONE) {
		s->mean_output += (s->mean_output > 0 ? 0.05 : 1) * (b->n_output - s->mean_output);
		run_end_branch(s, b, event.finish);
	}
}

/* What the step computed for the branch's drafts, as far as they were right, and until it has to
 * stop where it is: it has ended, waits for its probe, or the logits of its next token are
 * wanted. */
static void follow_drafts(struct bb_scheduler *s, struct branch *b) {
	struct bb_request *r = b->request;
	bool follows = true;
	while (follows && b->finish == BB_FINISH_NONE && turns_probe_of(b) == NULL &&
		!b->generation->keeps_row && !atomic_load(&r->is_cancelled)) {
		struct bb_error err = { 0 };
		if (!generation_follow(b->generation, &follows, &err)) {
			run_fail(s, r, &err);
		} else if (follows) {
			b->n_seen = bb_context_length(b->context);
			spec_took(s, b);
			tell_token(s, b);
		}
	}
	if (b->context != NULL) {
		context_drop_ahead(b->context);
	}
}

static void tell_hidden(struct bb_scheduler *s, struct branch *b, const float *hidden) {
	struct bb_request *r = b->request;
	struct bb_event event = { .kind = BB_EVENT_HIDDEN, .hidden = hidden, .text = "" };
	r->first = r->last = requests_now(s);
	run_tell(r, &event);
	run_end_branch(s, b, BB_FINISH_STOP);
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

static double flops_of(const struct bb_scheduler *s, const struct bb_step_item *item) {
	const int first = bb_context_length(item->context) + item->n_drafts - item->n_tokens;
	return cost_flops(s->engine, first, item->n_tokens, item->all_logits ? item->n_tokens
		: item->n_drafts + (item->logits != NULL || item->sampler != NULL));
}

static void give_out(struct bb_scheduler *s, int i, const struct bb_error *step_err) {
	const struct bb_step_item *item = &s->items[i];
	struct branch *b = s->of_item[i];
	struct bb_request *r = b->request;
	struct bb_error err = { 0 };
	if (!b->is_live || atomic_load(&r->has_ended)) {
		return; /* a branch beside it has failed */
	}
	count_rows(s, b, item->n_tokens - item->n_drafts);
	if (item->sampler != NULL && item->sampled->id < 0) {
		run_fail(s, r, step_err);
		return;
	}
	if (!begin_segments(b, &err)) {
		run_fail(s, r, &err);
		return;
	}
	if (item->all_logits) {
		tell_prompt(s, b, bb_context_length(b->context) - item->n_tokens, item->n_tokens);
	}
	if (item->sampler != NULL && b->parent != NULL) {
		take_probed(s, b);
	} else if (item->sampler != NULL) {
		tell_token(s, b);
		if (item->n_drafts > 0) {
			follow_drafts(s, b);
		}
	} else if (item->hidden != NULL) {
		tell_hidden(s, b, item->hidden);
	} else if (b->has_to_part && bb_context_length(b->context) == (int)r->params.n_prompt - 1 &&
		!turns_split(b, &err)) {
		run_fail(s, r, &err);
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
	if (why->code == BB_ERR_MEMORY && (spec_gives_way(s) || jobs_find_memory(s))) {
		return true; /* that may be enough */
	}
	if (why->code == BB_ERR_MEMORY && !is_alone(s, s->of_item[0])) {
		jobs_learn_limit(s);
		turns_put_aside(s, last_in(s));
		return true;
	}
	for (int i = 0; i < s->n_items; i++) {
		if (!atomic_load(&s->of_item[i]->request->has_ended)) {
			run_fail(s, s->of_item[i]->request, why);
		}
	}
	return true;
}

static void measure(struct bb_scheduler *s, double seconds) {
	int n_decode = 0, n_rows = 0, n_drafts = 0;
	for (int i = 0; i < s->n_items; i++) {
		n_rows += s->items[i].n_tokens - s->items[i].n_drafts;
		n_drafts += s->items[i].n_drafts;
		n_decode += s->plan.jobs[s->of_item[i]->i_job].n_todo == 1;
	}
	if (n_rows == n_decode) {
		spec_measure(s->spec, n_decode, n_drafts, seconds);
	}
	schedule_meter_add(&s->meter, n_decode, n_rows - n_decode,
		spec_without(s->spec, n_decode, n_drafts, seconds));
	s->n_mixed = n_decode > 0 && n_rows > n_decode ? s->n_mixed + 1 : 0;
	s->now.n_steps++;
	s->now.step_s = seconds;
	s->now.busy_s += seconds;
	s->now.step_rows = (uint64_t)(n_rows + n_drafts);
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
	/* before anything is given out: who ends a request ends branches that the step has computed */
	for (int i = 0; i < s->n_items; i++) {
		const double flops = flops_of(s, &s->items[i]);
		s->now.flops += flops;
		s->of_item[i]->request->usage.flops += flops;
		spend_charge(s, s->of_item[i], s->items[i].n_tokens, flops);
	}
	for (int i = 0; i < s->n_items; i++) {
		give_out(s, i, &why);
	}
	return true;
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
		infos_publish(s);
		return base_fail(err, s->broken.code, "%s", s->broken.text);
	}
	const double now = requests_now(s);
	end_unwanted(s, now);
	decide_step(s, now);
	struct bb_error why = { 0 };
	if (!jobs_reserve(s, &why)) {
		run_end_all(s, BB_FINISH_NONE, &why);
	}
	jobs_plan(s, now);
	for (int i = 0; i < s->plan.n_jobs; i++) { /* until the step is given out */
		atomic_fetch_add(&s->of_job[i]->request->n_refs, 1);
	}
	make_room(s);
	gather(s);
	spec_draft(s);
	*idle = is_idle(s) || s->hold_s > 0;
	const bool ok = s->n_items == 0 || compute(s, err);
	infos_publish(s);
	for (int i = 0; i < s->plan.n_jobs; i++) {
		requests_unref(s->of_job[i]->request);
	}
	s->plan.n_jobs = s->n_items = 0;
	return ok;
}
