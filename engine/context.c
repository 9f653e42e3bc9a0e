/* SPDX-License-Identifier: Apache-2.0
 *
 * Contexts: a timeline of tokens and the pages every kind of layer keeps for it. Fork, rewind and
 * the freeing of pages behind windows; no arithmetic. */
#include "engine.h"

#include <assert.h>
#include <string.h>

/* Pages are freed this many tokens later than a window needs, so that a short rewind is
 * possible; with recurrent layers one that goes on from a checkpoint before it. */
enum { REWIND_SLACK = 4 * BB_PAGE, REWIND_SLACK_STATE = 2 * STATE_EVERY + 4 * BB_PAGE };

static struct kv_pool *pool_of(struct bb_engine *e, int i_kind, enum bb_kv_dtype type) {
	struct kv_pool *pool = &e->pools[i_kind][type];
	if (pool->memory == NULL) {
		const size_t slabs = (size_t)e->plan.kinds[i_kind].n_layers *
			(size_t)hparam_int(&e->plan.hp, H_KV_HEADS);
		kv_pool_init(pool, slabs * engine_slab_bytes(e, type), &e->memory, &e->budget);
	}
	return pool;
}

static bool create(struct bb_context **out, struct bb_engine *e, enum bb_kv_dtype kv_type,
	int max_len, struct bb_error *err) {
	*out = NULL;
	struct bb_context *c = base_alloc(1, sizeof(*c));
	if (c == NULL) {
		return base_no_memory(err, "context", sizeof(*c));
	}
	c->engine = e;
	c->kv_type = kv_type;
	c->max_len = max_len;
	c->timeline.vectors = e->vectors;
	c->after = e->contexts;
	*(c->after != NULL ? &c->after->before : &e->last_context) = c;
	e->contexts = c;
	e->n_contexts++;
	for (int i = 0; i < e->plan.n_paged; i++) {
		if (!kv_table_init(&c->tables[i], pool_of(e, i, kv_type), max_len, err)) {
			bb_context_destroy(c);
			return false;
		}
	}
	*out = c;
	return true;
}

bool bb_context_create(struct bb_context **out, struct bb_engine *e,
	const struct bb_context_params *params, struct bb_error *err) {
	assert(e->is_packed);
	const enum bb_kv_type kv_type = params != NULL ? params->kv_type : BB_KV_AUTO;
	return create(out, e, kv_type != BB_KV_AUTO ? engine_kv_dtype(kv_type) : e->kv_type,
		params != NULL && params->max_len > 0 ? params->max_len : e->max_len, err);
}

static void unlink_context(struct bb_context *c) {
	*(c->before != NULL ? &c->before->after : &c->engine->contexts) = c->after;
	*(c->after != NULL ? &c->after->before : &c->engine->last_context) = c->before;
}

void context_keep(struct bb_context *c) {
	struct bb_engine *e = c->engine;
	context_drop_ahead(c);
	c->is_kept = true;
	e->n_kept_changes++;
	unlink_context(c);
	c->before = e->last_context;
	c->after = NULL;
	*(c->before != NULL ? &c->before->after : &e->contexts) = c;
	e->last_context = c;
}

void bb_context_destroy(struct bb_context *c) {
	if (c == NULL) {
		return;
	}
	for (int i = 0; i < MAX_LAYER_KINDS; i++) {
		kv_table_finish(&c->tables[i]);
	}
	context_state_finish(c);
	timeline_finish(&c->timeline);
	unlink_context(c);
	c->engine->n_kept_changes += c->is_kept;
	c->engine->n_contexts--;
	base_free(c);
}

/* Takes back what bb_context_reserve promised. */
static void unpromise(struct bb_context *c) {
	struct bb_error never = { 0 };
	c->n_reserved = 0;
	context_state_promise(c, 0, &never);
}

bool bb_context_fork(struct bb_context **out, struct bb_context *c, struct bb_error *err) {
	context_drop_ahead(c);
	if (!create(out, c->engine, c->kv_type, c->max_len, err)) {
		return false;
	}
	if (!context_state_fork(*out, c, err)) {
		bb_context_destroy(*out);
		*out = NULL;
		return false;
	}
	unpromise(c);
	(*out)->domain = c->domain;
	timeline_fork(&(*out)->timeline, &c->timeline);
	for (int i = 0; i < c->engine->plan.n_paged; i++) {
		kv_fork(&(*out)->tables[i], &c->tables[i], bb_context_length(c));
	}
	return true;
}

int engine_first_needed(const struct bb_engine *e, int i_kind, int n_tokens) {
	const int window = e->plan.kinds[i_kind].window;
	return window > 0 && n_tokens + 1 > window ? n_tokens + 1 - window : 0;
}

/* The first token whose page a context of n tokens keeps. */
static int first_kept(const struct bb_engine *e, int i_kind, int n_tokens) {
	const int slack = e->plan.state_floats > 0 ? REWIND_SLACK_STATE : REWIND_SLACK;
	const int first = engine_first_needed(e, i_kind, n_tokens) - slack;
	return first > 0 ? first : 0;
}

size_t engine_kv_bytes(const struct bb_engine *e, int n_tokens) {
	size_t bytes = 0;
	for (int i = 0; i < e->plan.n_paged; i++) {
		const int first_page = first_kept(e, i, n_tokens) / BB_PAGE;
		const int n_pages = n_tokens / BB_PAGE + (n_tokens % BB_PAGE != 0) - first_page;
		bytes += (size_t)n_pages * (size_t)e->plan.kinds[i].n_layers *
			(size_t)hparam_int(&e->plan.hp, H_KV_HEADS) * engine_slab_bytes(e, e->kv_type);
	}
	return bytes;
}

bool context_holds(const struct bb_context *c, int n_tokens) {
	for (int i = 0; i < c->engine->plan.n_paged && n_tokens > 0; i++) {
		if (engine_first_needed(c->engine, i, n_tokens) < c->tables[i].first_page * BB_PAGE) {
			return false;
		}
	}
	return true;
}

/* Forgets the tokens from n_tokens on, behind which the layers have what they need. */
static bool cut(struct bb_context *c, int n_tokens, struct bb_error *err) {
	const int length = bb_context_length(c);
	for (int i = 0; i < c->engine->plan.n_paged && n_tokens > 0 && n_tokens < length; i++) {
		const int held = c->tables[i].first_page * BB_PAGE;
		if (engine_first_needed(c->engine, i, n_tokens) < held) {
			return base_fail(err, BB_ERR_CONTEXT,
				"a rewind to token %d, but the sliding window keeps what a rewind to "
				"%d or later needs", n_tokens, held + c->engine->plan.kinds[i].window - 1);
		}
	}
	for (int i = 0; i < c->engine->plan.n_paged; i++) {
		if (!kv_own_cut(&c->tables[i], n_tokens, err)) {
			return false;
		}
	}
	if (!context_state_cut(c, n_tokens, err)) {
		return false;
	}
	timeline_truncate(&c->timeline, n_tokens);
	unpromise(c);
	context_unreserve(c);
	return true;
}

/* What two contexts of one timeline keep for it changes hands. */
static void swap_states(struct bb_context *a, struct bb_context *b) {
	for (int i = 0; i < a->engine->plan.n_paged; i++) {
		const struct kv_table t = a->tables[i];
		a->tables[i] = b->tables[i];
		b->tables[i] = t;
	}
	const struct checkpoints kept = a->checkpoints;
	struct state *const state = a->state;
	a->checkpoints = b->checkpoints;
	a->state = b->state;
	a->is_lost = b->is_lost;
	b->checkpoints = kept;
	b->state = state;
}

/* A fork goes back to token `reach` and computes the tokens up to n_tokens again; then it's c. */
static bool replay(struct bb_context *c, int reach, int n_tokens, struct bb_error *err) {
	struct bb_context *f;
	if (!bb_context_fork(&f, c, err)) {
		return false;
	}
	const bool ok = cut(f, reach, err) && bb_prefill(f, bb_context_tokens(c) + reach,
		(size_t)(n_tokens - reach), NULL, NULL, NULL, err) &&
		context_state_mark(f, CHECKPOINT_DIVERGENCE, err);
	if (ok) {
		swap_states(c, f);
		timeline_truncate(&c->timeline, n_tokens);
		unpromise(c);
		context_state_tell(c, reach);
	}
	bb_context_destroy(f);
	return ok;
}

bool context_rewind(struct bb_context *c, int n_tokens, struct bb_error *err) {
	if (n_tokens < 0 || n_tokens > bb_context_length(c)) {
		return base_fail(err, BB_ERR_CONTEXT, "a rewind to token %d of a context of %d tokens",
			n_tokens, bb_context_length(c));
	}
	context_drop_ahead(c);
	const int reach = context_state_reach(c, n_tokens);
	if (reach == n_tokens) {
		return cut(c, n_tokens, err);
	}
	return replay(c, reach, n_tokens, err);
}

bool bb_context_rewind(struct bb_context *c, int n_tokens, struct bb_error *err) {
	if (!context_rewind(c, n_tokens, err)) {
		return false;
	}
	timeline_drop_empty(&c->timeline);
	return true;
}

int bb_context_length(const struct bb_context *c) {
	return c->timeline.ids.n;
}

const int32_t *bb_context_tokens(const struct bb_context *c) {
	return timeline_ids(&c->timeline);
}

bool bb_context_begin_segment(struct bb_context *c, int first, enum bb_role role,
	struct bb_error *err) {
	assert(role <= BB_ROLE_TOOL);
	return (first < bb_context_length(c) || context_state_mark(c, CHECKPOINT_BOUNDARY, err)) &&
		timeline_begin(&c->timeline, first, role, err);
}

int bb_context_n_segments(const struct bb_context *c) {
	return timeline_n_segments(&c->timeline);
}

struct bb_segment bb_context_segment(const struct bb_context *c, int i) {
	return timeline_segment(&c->timeline, i);
}

static const char *const role_names[] = {
	"none", "system", "user", "assistant", "thinking", "tool",
};

const char *bb_role_name(enum bb_role role) {
	assert((size_t)role < COUNT(role_names));
	return role_names[role];
}

bool bb_role_parse(const char *name, enum bb_role *out) {
	for (size_t i = 0; i < COUNT(role_names); i++) {
		if (strcmp(role_names[i], name) == 0) {
			*out = (enum bb_role)i;
			return true;
		}
	}
	return false;
}

size_t bb_context_kv_bytes(const struct bb_context *c) {
	size_t bytes = 0;
	for (int i = 0; i < c->engine->plan.n_paged; i++) {
		bytes += (size_t)kv_count(&c->tables[i]) * c->tables[i].pool->page_bytes;
	}
	return bytes;
}

size_t context_alone_page_bytes(const struct bb_context *c) {
	size_t bytes = 0;
	for (int i = 0; i < c->engine->plan.n_paged; i++) {
		bytes += (size_t)kv_count_alone(&c->tables[i]) * c->tables[i].pool->page_bytes;
	}
	return bytes;
}

size_t context_alone_bytes(const struct bb_context *c) {
	return context_state_alone_bytes(c) + context_alone_page_bytes(c);
}

/* Bytes of pages in use, and how often it changed who shares which, states included. */
static size_t page_bytes_used(const struct bb_engine *e, uint64_t *n_changes) {
	size_t bytes = 0;
	*n_changes = e->states.n_changes + e->packed_states.n_changes;
	for (int i = 0; i < e->plan.n_paged; i++) {
		for (int type = 0; type < N_KV_TYPES; type++) {
			bytes += e->pools[i][type].n_used * e->pools[i][type].page_bytes;
			*n_changes += e->pools[i][type].n_changes;
		}
	}
	return bytes;
}

struct used_bytes engine_used_bytes(const struct bb_engine *e) {
	const struct state_pool *s = &e->states, *packed = &e->packed_states;
	uint64_t ignored;
	const size_t pages = page_bytes_used(e, &ignored);
	return (struct used_bytes){
		.live = pages + (size_t)s->n_live * s->bytes,
		.all = pages + (size_t)(s->n_all - s->n_free) * s->bytes +
			(size_t)(packed->n_all - packed->n_free) * packed->bytes,
	};
}

/* What is neither a running context's nor in common with one. */
static struct used_bytes count_kept(struct bb_engine *e) {
	struct used_bytes bytes = engine_used_bytes(e);
	const unsigned live = ++e->mark, all = ++e->mark;
	for (const struct bb_context *c = e->contexts; c != NULL && !c->is_kept; c = c->after) {
		size_t pages = 0;
		for (int i = 0; i < e->plan.n_paged; i++) {
			pages += (size_t)kv_tally(&c->tables[i], live) * c->tables[i].pool->page_bytes;
		}
		bytes.live -= pages + context_state_live_tally(c, live);
		bytes.all -= pages;
	}
	for (const struct bb_context *c = e->contexts; c != NULL && !c->is_kept; c = c->after) {
		bytes.all -= context_state_tally(c, all);
	}
	return bytes;
}

/* What a running context takes or gives back for itself alone changes nothing of it. */
struct used_bytes engine_kept_bytes(struct bb_engine *e) {
	uint64_t n_changes;
	page_bytes_used(e, &n_changes);
	n_changes += e->n_kept_changes;
	if (n_changes != e->kept_at) {
		e->kept_bytes = count_kept(e);
		e->kept_at = n_changes;
	}
	return e->kept_bytes;
}

bool engine_give_back(struct bb_engine *e) {
	size_t bytes = state_pool_trim(&e->states) + state_pool_trim(&e->packed_states);
	for (int i = 0; i < e->plan.n_paged; i++) {
		for (int type = 0; type < N_KV_TYPES; type++) {
			bytes += kv_pool_trim(&e->pools[i][type]);
		}
	}
	return bytes > 0;
}

bool context_reserve(struct bb_context *c, int n_new, int n_drafts, struct bb_error *err) {
	const int length = bb_context_length(c);
	context_drop_ahead(c);
	if (n_new > c->max_len - length) {
		return base_fail(err, BB_ERR_CONTEXT,
			"the context holds %d of at most %d tokens; %d more don't fit", length, c->max_len,
			n_new);
	}
	if (!timeline_reserve(&c->timeline, n_new, err) ||
		!context_state_reserve(c, n_new, n_drafts, err)) {
		context_state_unreserve(c);
		return false;
	}
	for (int i = 0; i < c->engine->plan.n_paged; i++) {
		const int first = first_kept(c->engine, i, length + n_new);
		if (!kv_reserve(&c->tables[i], length, n_new, first, err)) {
			context_unreserve(c);
			return false;
		}
	}
	return true;
}

void context_unreserve(struct bb_context *c) {
	const int length = bb_context_length(c);
	c->ahead.n = 0;
	context_state_unreserve(c);
	for (int i = 0; i < c->engine->plan.n_paged; i++) {
		kv_truncate(&c->tables[i], c->n_reserved > length ? c->n_reserved : length);
	}
}

bool bb_context_reserve(struct bb_context *c, int n_tokens, struct bb_error *err) {
	assert(n_tokens >= 1);
	if (!context_reserve(c, n_tokens, 0, err)) {
		return false;
	}
	context_state_unreserve(c);
	if (!context_state_promise(c, n_tokens, err)) {
		context_unreserve(c);
		return false;
	}
	const int end = bb_context_length(c) + n_tokens;
	c->n_reserved = end > c->n_reserved ? end : c->n_reserved;
	return true;
}

static void release_pages(struct bb_context *c) {
	for (int i = 0; i < c->engine->plan.n_paged; i++) {
		kv_release_before(&c->tables[i], first_kept(c->engine, i, bb_context_length(c)));
	}
}

void context_commit(struct bb_context *c, const int32_t *tokens, int n, struct ahead ahead) {
	timeline_append(&c->timeline, tokens, n);
	c->ahead = ahead;
	context_state_commit(c, ahead.n);
	release_pages(c);
}

void context_follow(struct bb_context *c, int32_t token) {
	assert(c->ahead.n > 0);
	timeline_append(&c->timeline, &token, 1);
	c->ahead.n--;
	c->ahead.row++;
	c->ahead.out++;
	context_state_follow(c);
	release_pages(c);
}

void context_drop_ahead(struct bb_context *c) {
	if (c->ahead.n > 0) {
		context_unreserve(c);
	}
}
