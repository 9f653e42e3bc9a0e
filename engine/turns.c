/* SPDX-License-Identifier: Apache-2.0
 *
 * The contexts of branches: where they come from (a copy put aside, a branch whose prompt begins
 * alike, or nothing), how one becomes several, and what is left of them. */
#include "requests.h"

#include <assert.h>
#include <string.h>

/* For fewer tokens than this nobody waits. */
enum { MIN_COMMON = 32 };

/* ---- bytes ---- */

static size_t page_bytes(const struct bb_engine *e, int i_kind) {
	return (size_t)e->plan.kinds[i_kind].n_layers * (size_t)hparam_int(&e->plan.hp, H_KV_HEADS) *
		engine_slab_bytes(e, e->kv_type);
}

/* One page of each kind. */
static size_t row_of_pages(const struct bb_engine *e) {
	size_t bytes = 0;
	for (int i = 0; i < e->plan.n_paged; i++) {
		bytes += page_bytes(e, i);
	}
	return bytes;
}

size_t turns_bytes(const struct bb_engine *e, int n_tokens) {
	return engine_kv_bytes(e, n_tokens) + e->states.bytes;
}

bool turns_is_in(const struct branch *b) {
	return b->context != NULL && !b->is_swapped;
}

size_t turns_bytes_for(const struct branch *b, int n_rows) {
	const struct bb_engine *e = b->request->scheduler->engine;
	const struct bb_context *c = b->context;
	if (!turns_is_in(b)) {
		const int length = c != NULL ? bb_context_length(c) : 0;
		const size_t shared = b->source != NULL ? engine_kv_bytes(e, b->n_common) : 0;
		const int before = length + (b->source != NULL ? b->n_common : 0);
		const size_t all = turns_bytes(e, before + n_rows) + row_of_pages(e);
		const size_t more = all > shared ? all - shared : 0;
		const size_t least = c == NULL && b->source == NULL ? b->apart_bytes + row_of_pages(e) : 0;
		return more > least ? more : least;
	}
	/* what a checkpoint alone shares with it is the state cache's from then on */
	size_t bytes = c->state == NULL || state_n_live(c->state) > 1 ? e->states.bytes : 0;
	for (int i = 0; i < e->plan.n_paged; i++) {
		bytes += (size_t)kv_wants(&c->tables[i], bb_context_length(c), n_rows) * page_bytes(e, i);
	}
	return bytes;
}

size_t turns_bytes_of(const struct branch *b) {
	if (!turns_is_in(b)) {
		return 0;
	}
	const struct state *state = b->context->state;
	double bytes = state != NULL
		? (double)b->context->engine->states.bytes / state_n_live(state) : 0;
	for (int i = 0; i < b->context->engine->plan.n_paged; i++) {
		struct kv_table *t = &b->context->tables[i];
		bytes += kv_share(t) * (double)t->pool->page_bytes;
	}
	return (size_t)bytes;
}

/* ---- common beginnings ---- */

static const char *salt_of(const struct branch *b) {
	return b->request->params.cache_salt != NULL ? b->request->params.cache_salt : "";
}

static int common(const struct bb_tokens *a, const struct bb_tokens *b) {
	const size_t most = a->n < b->n ? a->n : b->n;
	size_t n = 0;
	while (n < most && a->ids[n] == b->ids[n]) {
		n++;
	}
	return (int)n;
}

/* Whether o has its first n tokens to give, now or when it has read them. One that has read beyond
 * them does where layers only grow and no window has let them go. */
static bool can_give(const struct branch *o, int n) {
	return bb_context_length(o->context) <= n ||
		(o->context->state == NULL && context_holds(o->context, n));
}

struct branch *turns_probe_of(const struct branch *b) {
	const struct bb_request *r = b->request;
	struct branch *probe = b->parent == NULL && r->n_all > r->params.n
		? &r->branches[r->params.n + b->index] : NULL;
	return probe != NULL && probe->is_live ? probe : NULL;
}

/* Tokens of b that are better had from o; 0: none. */
static int worth(const struct branch *b, const struct branch *o) {
	const bool is_older = o->request->id < b->request->id ||
		(o->request == b->request && o->index < b->index);
	if (o == b || !o->is_live || !turns_is_in(o) || !is_older || o->parent != NULL ||
		atomic_load(&o->request->is_paused) ||
		o->request->params.priority > b->request->params.priority ||
		strcmp(salt_of(b), salt_of(o)) != 0) {
		return 0;
	}
	const int all = common(&b->ids, &o->ids);
	int n = all < (int)b->ids.n ? all : (int)b->ids.n - 1;
	if (turns_probe_of(o) != NULL && n > bb_context_length(o->context)) {
		n = bb_context_length(o->context); /* it waits itself */
	}
	return n >= MIN_COMMON && can_give(o, n) ? n : 0;
}

static void find_source(struct bb_scheduler *s, struct branch *b) {
	b->source = NULL;
	b->n_common = 0;
	for (struct bb_request *r = s->requests; r != NULL; r = r->next) {
		for (int i = 0; i < r->n_all; i++) {
			const int n = worth(b, &r->branches[i]);
			if (n > b->n_common) {
				b->source = &r->branches[i];
				b->n_common = n;
			}
		}
	}
}

/* Its marks that a context of so many tokens has. */
static int n_marks(const struct bb_request *r, int n_tokens) {
	int n = 0;
	while (n < r->params.n_segments && r->params.segments[n].first < n_tokens) {
		n++;
	}
	return n;
}

/* b has this context from now on, with tokens that need not be computed for it; NULL: nothing. */
static void begin(struct bb_scheduler *s, struct branch *b, struct bb_context *c) {
	const int length = c != NULL ? bb_context_length(c) : 0;
	b->context = c;
	b->source = NULL;
	b->n_segments = n_marks(b->request, length);
	if (b->n_seen == 0) {
		b->request->usage.n_cached = length;
		s->now.n_cached_tokens += (uint64_t)length;
		b->n_seen = length;
	}
}

void turns_find_beginning(struct bb_scheduler *s, struct branch *b) {
	struct bb_context *kept = NULL;
	assert(b->context == NULL && b->source == NULL);
	if (b->request->params.n_prompt_logprobs > 0) {
		return; /* every row is wanted */
	}
	/* what the cache learns from being asked outlives a probe */
	const int n = s->prefix == NULL || b->ids.n == 1 || b->parent != NULL ? 0
		: prefix_find(s->prefix, salt_of(b), b->ids.ids, (int)b->ids.n - 1, &kept);
	find_source(s, b);
	if (b->source != NULL && b->n_common < n + MIN_COMMON) {
		b->source = NULL;
	}
	if (b->source == NULL) {
		begin(s, b, kept);
	} else {
		bb_context_destroy(kept);
	}
}

void turns_look_aside(const struct bb_scheduler *s, struct branch *b) {
	const bool may = s->prefix != NULL && b->context == NULL && b->source == NULL &&
		b->parent == NULL && b->request->params.n_prompt_logprobs == 0;
	if (may && b->apart_epoch != prefix_epoch(s->prefix)) {
		b->apart_epoch = prefix_epoch(s->prefix);
		b->apart_bytes = prefix_apart_bytes(s->prefix, salt_of(b), b->ids.ids,
			(int)b->ids.n - 1);
	}
}

void turns_check_source(struct branch *b) {
	if (b->source != NULL && (atomic_load(&b->source->request->is_paused) ||
		!can_give(b->source, b->n_common))) {
		b->source = NULL;
	}
}

/* Nobody waits for b any more. */
static void forsake(struct bb_scheduler *s, const struct branch *b) {
	for (struct bb_request *r = s->requests; r != NULL; r = r->next) {
		for (int i = 0; i < r->n_all; i++) {
			if (r->branches[i].source == b) {
				r->branches[i].source = NULL;
			}
		}
	}
}

/* ---- in and out ---- */

static bool fork_source(struct branch *b, struct bb_context **out, struct bb_error *err) {
	if (!bb_context_fork(out, b->source->context, err)) {
		return false;
	}
	if (bb_context_length(*out) > b->n_common && !bb_context_rewind(*out, b->n_common, err)) {
		bb_context_destroy(*out);
		*out = NULL;
		return false;
	}
	return true;
}

bool turns_bring_in(struct bb_scheduler *s, struct branch *b, struct bb_error *err) {
	if (b->is_swapped) {
		const size_t bytes = b->swapped.bytes;
		const double start = requests_now(s);
		if (!swap_in(b->context, &b->swapped, err)) {
			return false;
		}
		schedule_meter_add_copy(&s->meter, bytes, true, requests_now(s) - start);
		b->is_swapped = false;
		return true;
	}
	struct bb_context *c = b->context; /* of the prefix cache */
	if (b->source != NULL && !fork_source(b, &c, err)) {
		return false;
	}
	if (c == NULL) {
		if (!bb_context_create(&c, s->engine, NULL, err)) {
			return false;
		}
		if (s->prefix != NULL && b->parent == NULL) {
			prefix_enter(s->prefix, salt_of(b), c);
		}
	}
	begin(s, b, c);
	return true;
}

void turns_drop(struct bb_scheduler *s, struct branch *b) {
	forsake(s, b);
	if (b->is_swapped) {
		swap_drop(&b->swapped);
		b->is_swapped = false;
	}
	bb_context_destroy(b->context);
	b->context = NULL;
}

/* The cache's limit counts pages and states: a context with more bytes of vectors than of those,
 * as one of recurrent layers alone may have, isn't kept. */
static bool may_be_kept(const struct bb_context *c) {
	const struct bb_engine *e = c->engine;
	const size_t n = vectors_count(bb_context_tokens(c), (size_t)bb_context_length(c));
	const size_t bytes = n * (size_t)hparam_int(&e->plan.hp, H_EMBD) * sizeof(float);
	return bytes == 0 || bytes <= bb_context_kv_bytes(c) + e->states.bytes;
}

void turns_keep(struct bb_scheduler *s, struct branch *b) {
	if (s->prefix != NULL && turns_is_in(b) && may_be_kept(b->context)) {
		prefix_keep(s->prefix, salt_of(b), b->request->params.conversation, b->context);
		b->context = NULL;
	}
	turns_drop(s, b);
}

static bool copy_away(struct bb_scheduler *s, struct branch *b) {
	struct bb_error ignored = { 0 };
	const size_t bytes = swap_bytes(b->context);
	if (!schedule_meter_copies(&s->meter, bytes, bb_context_length(b->context))) {
		return false;
	}
	if (s->prefix != NULL) {
		prefix_make_space(s->prefix, bytes);
	}
	if (bytes > s->space.max_bytes - s->space.used_bytes) {
		return false;
	}
	const double start = requests_now(s);
	if (!swap_out(b->context, &s->space, &b->swapped, &ignored)) {
		return false;
	}
	schedule_meter_add_copy(&s->meter, bytes, false, requests_now(s) - start);
	b->is_swapped = true;
	return true;
}

void turns_put_aside(struct bb_scheduler *s, struct branch *b) {
	assert(turns_is_in(b));
	forsake(s, b);
	b->request->usage.n_preempted++;
	if (copy_away(s, b)) {
		s->now.n_swapped++;
		return;
	}
	turns_drop(s, b);
	s->now.n_dropped++;
}

/* ---- further branches ---- */

static void unsplit(struct bb_request *r, int n) {
	for (int i = 1; i < n; i++) {
		bb_context_destroy(r->branches[i].context);
		r->branches[i].context = NULL;
		bb_tokens_finish(&r->branches[i].ids);
	}
}

/* b, which has nothing yet, has these tokens [n], and room for `more` behind them. */
static bool take_ids(struct branch *b, const int32_t *ids, size_t n, size_t more,
	struct bb_error *err) {
	b->ids.ids = base_alloc(n + more, sizeof(*b->ids.ids));
	if (b->ids.ids == NULL) {
		return base_no_memory(err, "branch", (n + more) * sizeof(*b->ids.ids));
	}
	memcpy(b->ids.ids, ids, n * sizeof(*b->ids.ids));
	b->ids.n = n;
	b->ids.cap = n + more;
	return true;
}

/* What b has read is known to its request already. */
static void join_in(struct branch *b, int n_seen) {
	b->is_live = true;
	b->n_places = 1;
	b->n_seen = n_seen;
}

bool turns_split(struct branch *b, struct bb_error *err) {
	struct bb_request *r = b->request;
	for (int i = 1; i < r->n_first; i++) {
		struct branch *o = &r->branches[i];
		if (!take_ids(o, b->ids.ids, b->ids.n, 0, err) ||
			!bb_context_fork(&o->context, b->context, err)) {
			unsplit(r, i + 1);
			return false;
		}
	}
	for (int i = 1; i < r->n_first; i++) {
		join_in(&r->branches[i], b->n_seen);
		r->branches[i].n_segments = b->n_segments;
	}
	struct bb_error ignored = { 0 };
	if (r->n_first < r->params.n && !bb_context_fork(&r->stem, b->context, &ignored)) {
		r->stem = NULL; /* who comes later computes the prompt again, or finds it */
	}
	b->n_places = 1;
	b->has_to_part = false;
	return true;
}

bool turns_begin_late(struct branch *b, struct bb_error *err) {
	struct bb_request *r = b->request;
	const size_t n = r->params.n_prompt;
	assert(!b->is_live && b->context == NULL && b->ids.n == 0);
	if (!take_ids(b, r->branches[0].ids.ids, n, 0, err)) {
		return false;
	}
	struct bb_error ignored = { 0 };
	if (r->stem != NULL && !bb_context_fork(&b->context, r->stem, &ignored)) {
		b->context = NULL; /* as without a stem */
	}
	join_in(b, (int)n - 1);
	b->n_segments = b->context != NULL ? n_marks(r, (int)n - 1) : 0;
	if (b->index == r->params.n - 1) {
		turns_drop_stem(r);
	}
	return true;
}

void turns_drop_stem(struct bb_request *r) {
	bb_context_destroy(r->stem);
	r->stem = NULL;
}

bool turns_give_up_stem(struct bb_scheduler *s) {
	struct bb_request *last = NULL;
	for (struct bb_request *r = s->requests; r != NULL; r = r->next) {
		last = r->stem != NULL ? r : last;
	}
	if (last != NULL) {
		turns_drop_stem(last);
	}
	return last != NULL;
}

/* ---- probes ---- */

bool turns_begin_probe(struct branch *b, const int32_t *ids, size_t n, struct bb_error *err) {
	struct bb_request *r = b->request;
	struct branch *probe = &r->branches[r->params.n + b->index];
	assert(b->parent == NULL && r->n_all > r->params.n && !probe->is_live);
	if (!take_ids(probe, b->ids.ids, b->ids.n, n, err)) {
		return false;
	}
	memcpy(probe->ids.ids + probe->ids.n, ids, n * sizeof(*ids));
	probe->ids.n += n;
	if (turns_is_in(b)) {
		probe->source = b;
		probe->n_common = bb_context_length(b->context);
	}
	join_in(probe, (int)b->ids.n - 1);
	probe->n_output = 0;
	probe->has_begun = true;
	return true;
}

void turns_end_probe(struct bb_scheduler *s, struct branch *probe) {
	if (probe == NULL) {
		return;
	}
	turns_drop(s, probe);
	bb_generation_destroy(probe->generation);
	probe->generation = NULL;
	bb_tokens_finish(&probe->ids);
	bb_text_finish(&probe->said);
	probe->source = NULL;
	probe->is_live = false;
}
