/* SPDX-License-Identifier: Apache-2.0
 *
 * The fixed state of a context: which state a step reads and which it writes, and the checkpoints
 * of all contexts within what the state cache may hold. */
#include "engine.h"

#include <assert.h>
#include <string.h>

static struct state_pool *pool_of(const struct bb_context *c) {
	return &c->engine->states;
}

static bool has_state(const struct bb_context *c) {
	return pool_of(c)->bytes > 0;
}

/* ---- the cache ---- */

/* Of the contexts that have checkpoints of a kind the one that has most of them, so that none is
 * dense where another is bare. Those of kept contexts count for more the longer ago these were
 * kept: once more for each doubling of the number of contexts kept since. NULL: there is none. */
static struct bb_context *richest(const struct bb_engine *e, enum checkpoint_kind kind) {
	struct bb_context *most = NULL;
	int n_most = 0, n_newer = 0, weight = 1;
	for (struct bb_context *c = e->last_context; c != NULL; c = c->before) {
		weight = c->is_kept ? weight + (n_newer >= 1 << weight) : 1;
		n_newer += c->is_kept;
		const int n = weight * checkpoints_count(&c->checkpoints, kind);
		most = n > n_most ? c : most;
		n_most = n > n_most ? n : n_most;
	}
	return most;
}

/* Drops the checkpoint that is worth least, of the lowest kind that there is, in all contexts that
 * share its state, since nothing is gained before. */
static void evict(struct bb_engine *e) {
	for (enum checkpoint_kind kind = CHECKPOINT_GRID; kind < N_CHECKPOINT_KINDS; kind++) {
		struct bb_context *most = richest(e, kind);
		if (most == NULL) {
			continue;
		}
		const struct state *s = checkpoints_thin(&most->checkpoints, e->kept_states, kind,
			bb_context_length(most));
		for (struct bb_context *c = e->contexts; c != NULL && s->n_kept > 0; c = c->after) {
			checkpoints_drop(&c->checkpoints, e->kept_states, kind, s);
		}
		return;
	}
	assert(!"states are kept that no checkpoint refers to");
}

/* Makes room in the cache for n more states, as far as it's as large as that. */
static void make_room(struct bb_engine *e, int n) {
	const struct state_pool *p = e->kept_states;
	while (p->n_kept > 0 && p->n_kept + n > p->max_kept) {
		evict(e);
	}
}

/* What a checkpoint keeps of a state, with a reference; NULL: no room. In a step it's taken of what
 * bb_context_reserve promised. */
static struct state *kept_form(struct bb_context *c, struct state *s, bool in_step,
	struct bb_error *err) {
	struct bb_engine *e = c->engine;
	if (e->kept_states == &e->states) {
		state_ref(&e->states, s);
		return s;
	}
	const bool promised = in_step && c->n_promised_kept > 0;
	struct state *packed = state_take(&e->packed_states, promised, err);
	c->n_promised_kept -= promised && packed != NULL;
	if (packed != NULL) {
		engine_pack_state(e, packed, s);
	}
	return packed;
}

/* Room in the cache for one more state is made; where it's as large as that, the context gets a
 * checkpoint, for which its list has room. */
static bool keep(struct bb_context *c, int n_tokens, enum checkpoint_kind kind, struct state *s,
	bool in_step, struct bb_error *err) {
	struct state_pool *p = c->engine->kept_states;
	const struct checkpoint *there = checkpoints_find(&c->checkpoints, n_tokens);
	if (there != NULL && there->n_tokens == n_tokens) {
		checkpoints_add(&c->checkpoints, p, n_tokens, kind, there->state);
		return true;
	}
	make_room(c->engine, s->n_kept > 0 ? 0 : 1);
	if (s->n_kept == 0 && p->n_kept >= p->max_kept) {
		return true;
	}
	struct state *kept = kept_form(c, s, in_step, err);
	if (kept != NULL) {
		checkpoints_add(&c->checkpoints, p, n_tokens, kind, kept);
		state_unref(p, kept);
	}
	return kept != NULL;
}

bool context_state_keep(struct bb_context *c, int n_tokens, enum checkpoint_kind kind,
	struct state *s, struct bb_error *err) {
	/* where steps have a promise, the next one can't write to a state that is kept */
	const bool is_shared = c->n_promised > 0 && s == c->state && s->n_refs == 1 &&
		c->engine->kept_states == pool_of(c);
	if (!checkpoints_reserve(&c->checkpoints, 1 + c->n_promised, err) ||
		(is_shared && !state_promise(pool_of(c), 1, err))) {
		return false;
	}
	c->n_promised += is_shared;
	return keep(c, n_tokens, kind, s, false, err);
}

void context_state_forget(struct bb_context *c) {
	if (has_state(c)) {
		checkpoints_truncate(&c->checkpoints, c->engine->kept_states, -1);
	}
}

/* ---- a step ---- */

/* A state that nobody refers to, of those promised to the context while there are any. */
static struct state *take(struct bb_context *c, struct bb_error *err) {
	const bool promised = c->n_promised > 0;
	struct state *s = state_take(pool_of(c), promised, err);
	c->n_promised -= promised && s != NULL;
	return s;
}

/* Multiples of STATE_EVERY in (first, last]. */
static int n_grid(int first, int last) {
	return last / STATE_EVERY - first / STATE_EVERY;
}

/* Whether a state has to be kept at the wanted token, because the grid wouldn't. */
static bool wants(const struct bb_context *c, int first, int last) {
	return c->wanted > first && c->wanted <= last && c->wanted % STATE_EVERY != 0;
}

static int n_saves_within(const struct bb_context *c, int first, int last) {
	return n_grid(first, last) + wants(c, first, last);
}

/* The first token behind `at` of the grid, or the wanted one. */
static int next_save(const struct bb_context *c, int at) {
	const int grid = (at / STATE_EVERY + 1) * STATE_EVERY;
	return wants(c, at, grid) ? c->wanted : grid;
}

static enum checkpoint_kind kind_at(const struct bb_context *c, int at) {
	return at == c->wanted ? CHECKPOINT_DIVERGENCE : CHECKPOINT_GRID;
}

static bool reserve_saves(struct bb_context *c, int n, struct bb_error *err) {
	if (n > c->max_saves) {
		struct checkpoint *saves = base_realloc(c->saves, (size_t)n, sizeof(*saves));
		if (saves == NULL) {
			return base_no_memory(err, "checkpoints", (size_t)n * sizeof(*saves));
		}
		c->saves = saves;
		c->max_saves = n;
	}
	return checkpoints_reserve(&c->checkpoints, n + 1, err);
}

bool context_state_check(const struct bb_context *c, struct bb_error *err) {
	return !c->is_lost || base_fail(err, BB_ERR_DEVICE, "a step that failed left the context "
		"without the state behind token %d; a rewind to it, or before, computes it again",
		bb_context_length(c));
}

/* Adds the saves of the grid in (from, end), or, `all`, those behind each token of [from, end). */
static bool take_saves(struct bb_context *c, int from, int end, bool all, struct bb_error *err) {
	int at = all ? from : next_save(c, from);
	while (at < end) {
		struct state *s = all ? state_take(pool_of(c), false, err) : take(c, err);
		if (s == NULL) {
			return false;
		}
		c->saves[c->n_saves++] = (struct checkpoint){ at, kind_at(c, at), s };
		at = all ? at + 1 : next_save(c, at);
	}
	return true;
}

bool context_state_reserve(struct bb_context *c, int n_new, int n_drafts, struct bb_error *err) {
	struct bb_engine *e = c->engine;
	const int length = bb_context_length(c);
	if (!has_state(c)) {
		return true;
	}
	if (!context_state_check(c, err)) {
		return false;
	}
	assert(c->n_saves == 0 && c->next_state == NULL);
	const int end = length + n_new, sure = end - n_drafts;
	const bool keeps = e->kept_states->max_kept > 0;
	const int n = keeps ? n_saves_within(c, length, end) : 0;
	if (!reserve_saves(c, n + n_drafts, err)) {
		return false;
	}
	make_room(e, n);
	if ((keeps && !take_saves(c, length, sure, false, err)) ||
		!take_saves(c, sure, end, true, err)) {
		return false;
	}
	const bool in_place = c->state != NULL && c->state->n_refs == 1;
	c->next_state = in_place ? c->state : take(c, err);
	return c->next_state != NULL;
}

void context_state_unreserve(struct bb_context *c) {
	for (int i = 0; i < c->n_saves; i++) {
		state_unref(pool_of(c), c->saves[i].state);
	}
	c->n_saves = 0;
	if (c->next_state != c->state) {
		state_unref(pool_of(c), c->next_state);
	}
	c->next_state = NULL;
}

static void go_on_from(struct bb_context *c, struct state *s) {
	if (c->state != s) {
		state_unref(pool_of(c), c->state);
		c->state = s;
	}
}

/* Gives the first n saves up, as checkpoints where they are of the grid. */
static void keep_saves(struct bb_context *c, int n) {
	struct bb_error ignored = { 0 }; /* a checkpoint less costs time only */
	for (int i = 0; i < n; i++) {
		keep(c, c->saves[i].n_tokens, c->saves[i].kind, c->saves[i].state, true, &ignored);
		state_unref(pool_of(c), c->saves[i].state);
	}
	c->n_saves -= n;
	if (n > 0) {
		memmove(c->saves, c->saves + n, (size_t)c->n_saves * sizeof(*c->saves));
	}
}

static void keep_last(struct bb_context *c) {
	const int length = bb_context_length(c);
	struct bb_error ignored = { 0 };
	if (length % STATE_EVERY == 0 || length == c->wanted) {
		keep(c, length, kind_at(c, length), c->state, true, &ignored);
	}
}

/* The state that was computed next, which the context goes on from now. */
static struct state *take_ahead(struct bb_context *c) {
	struct state *s = c->n_saves > 0 ? c->saves[0].state : c->next_state;
	if (c->n_saves > 0) {
		c->n_saves--;
		memmove(c->saves, c->saves + 1, (size_t)c->n_saves * sizeof(*c->saves));
	} else {
		c->next_state = NULL;
	}
	return s;
}

void context_state_commit(struct bb_context *c, int n_drafts) {
	if (!has_state(c)) {
		return;
	}
	if (n_drafts > 0 && c->next_state == c->state) {
		c->state = NULL; /* written in place: it's the one behind the last draft */
	}
	keep_saves(c, c->n_saves - n_drafts);
	go_on_from(c, take_ahead(c));
	keep_last(c);
}

void context_state_follow(struct bb_context *c) {
	if (has_state(c)) {
		go_on_from(c, take_ahead(c));
		keep_last(c);
	}
}

static void unpromise(struct bb_context *c) {
	state_break_promise(pool_of(c), c->n_promised);
	state_break_promise(&c->engine->packed_states, c->n_promised_kept);
	c->n_promised = c->n_promised_kept = 0;
}

bool context_state_promise(struct bb_context *c, int n_new, struct bb_error *err) {
	if (!has_state(c)) {
		return true;
	}
	unpromise(c);
	if (n_new == 0) {
		return true;
	}
	/* what the cache drops on the way can be used again */
	struct state_pool *kept = c->engine->kept_states;
	const int length = bb_context_length(c);
	const int n = n_saves_within(c, length, length + n_new);
	const int n_kept = n < kept->max_kept ? n : kept->max_kept;
	if (!checkpoints_reserve(&c->checkpoints, n_kept + 1, err) ||
		!state_promise(pool_of(c), n_kept + 1, err)) {
		return false;
	}
	c->n_promised = n_kept + 1;
	if (kept != pool_of(c)) {
		if (!state_promise(kept, n_kept, err)) {
			unpromise(c);
			return false;
		}
		c->n_promised_kept = n_kept;
	}
	return true;
}

/* ---- the life of a context ---- */

bool context_state_fork(struct bb_context *dst, const struct bb_context *src,
	struct bb_error *err) {
	if (!has_state(src)) {
		return true;
	}
	if (!checkpoints_fork(&dst->checkpoints, &src->checkpoints, src->engine->kept_states, err)) {
		return false;
	}
	dst->is_lost = src->is_lost;
	dst->state = src->state;
	if (dst->state != NULL) {
		state_ref(pool_of(dst), dst->state);
	}
	return true;
}

void context_state_finish(struct bb_context *c) {
	context_state_unreserve(c);
	if (has_state(c)) {
		unpromise(c);
		checkpoints_finish(&c->checkpoints, c->engine->kept_states);
		state_unref(pool_of(c), c->state);
	}
	base_free(c->saves);
}

bool context_state_mark(struct bb_context *c, enum checkpoint_kind kind, struct bb_error *err) {
	return !has_state(c) || c->state == NULL || c->is_lost ||
		context_state_keep(c, bb_context_length(c), kind, c->state, err);
}

/* ---- what it holds ---- */

/* References of the context to a state of a checkpoint. */
static int n_refs_of(const struct bb_context *c, const struct state *s) {
	return 1 + (s == c->state);
}

size_t context_state_alone_bytes(const struct bb_context *c) {
	size_t bytes = 0;
	bool is_kept = false;
	for (int i = 0; i < c->checkpoints.n; i++) {
		const struct state *s = c->checkpoints.items[i].state;
		bytes += s->n_refs == n_refs_of(c, s) ? c->engine->kept_states->bytes : 0;
		is_kept = is_kept || s == c->state;
	}
	return bytes + (c->state != NULL && !is_kept && c->state->n_refs == 1 ? pool_of(c)->bytes : 0);
}

static bool is_new(struct state *s, unsigned mark) {
	const bool found = s != NULL && s->mark != mark;
	if (found) {
		s->mark = mark;
	}
	return found;
}

size_t context_state_live_tally(const struct bb_context *c, unsigned mark) {
	const int n_ahead = c->n_saves + (c->next_state != NULL && c->next_state != c->state);
	return (size_t)(is_new(c->state, mark) + n_ahead) * pool_of(c)->bytes;
}

size_t context_state_tally(const struct bb_context *c, unsigned mark) {
	size_t bytes = context_state_live_tally(c, mark);
	for (int i = 0; i < c->checkpoints.n; i++) {
		bytes += is_new(c->checkpoints.items[i].state, mark) ? c->engine->kept_states->bytes : 0;
	}
	return bytes;
}

/* Whether b has the first n_tokens of a, which goes on from `reach`, and computed the same of them:
 * beside attention a state depends on how keys and values are stored. Contexts that share a state
 * have the same tokens before it. */
static bool begins_alike(const struct bb_context *a, const struct bb_context *b, int reach,
	int n_tokens) {
	if (a->kv_type != b->kv_type || a->domain != b->domain || bb_context_length(b) < n_tokens) {
		return false;
	}
	const struct checkpoint *of_a = checkpoints_find(&a->checkpoints, reach);
	const struct checkpoint *of_b = checkpoints_find(&b->checkpoints, reach);
	const bool is_shared = of_a != NULL && of_b != NULL && of_a->state == of_b->state;
	const int from = is_shared ? of_a->n_tokens : 0;
	return memcmp(bb_context_tokens(a) + from, bb_context_tokens(b) + from,
		(size_t)(n_tokens - from) * sizeof(int32_t)) == 0;
}

void context_state_tell(const struct bb_context *c, int reach) {
	const int n_tokens = bb_context_length(c);
	const struct checkpoint *k = checkpoints_find(&c->checkpoints, n_tokens);
	/* what came of a rounded state is this context's own */
	if (k == NULL || k->n_tokens != n_tokens || c->engine->kept_states != &c->engine->states) {
		return;
	}
	for (struct bb_context *o = c->engine->contexts; o != NULL; o = o->after) {
		struct bb_error ignored = { 0 };
		if (o != c && begins_alike(c, o, reach, n_tokens) &&
			checkpoints_reserve(&o->checkpoints, 1, &ignored)) {
			checkpoints_add(&o->checkpoints, o->engine->kept_states, n_tokens,
				CHECKPOINT_DIVERGENCE, k->state);
		}
	}
}

int context_state_reach(const struct bb_context *c, int n_tokens) {
	if (!has_state(c) || n_tokens == 0 || (n_tokens == bb_context_length(c) && !c->is_lost)) {
		return n_tokens;
	}
	const struct checkpoint *k = checkpoints_find(&c->checkpoints, n_tokens);
	return k != NULL && context_holds(c, k->n_tokens) ? k->n_tokens : 0;
}

/* The state that a context goes on from, of a checkpoint, with a reference. */
static struct state *restored(struct bb_context *c, struct state *kept, struct bb_error *err) {
	struct bb_engine *e = c->engine;
	if (e->kept_states == &e->states) {
		state_ref(&e->states, kept);
		return kept;
	}
	struct state *s = state_take(&e->states, false, err);
	if (s != NULL) {
		engine_unpack_state(e, s, kept);
	}
	return s;
}

bool context_state_cut(struct bb_context *c, int n_tokens, struct bb_error *err) {
	struct state *s = NULL;
	assert(context_state_reach(c, n_tokens) == n_tokens);
	if (!has_state(c) || (n_tokens == bb_context_length(c) && !c->is_lost)) {
		return true;
	}
	if (n_tokens > 0) {
		struct state *kept = checkpoints_find(&c->checkpoints, n_tokens)->state;
		s = restored(c, kept, err);
		if (s == NULL) {
			return false;
		}
		checkpoints_add(&c->checkpoints, c->engine->kept_states, n_tokens, CHECKPOINT_DIVERGENCE,
			kept);
	}
	checkpoints_truncate(&c->checkpoints, c->engine->kept_states, n_tokens > 0 ? n_tokens : -1);
	state_unref(pool_of(c), c->state);
	c->state = s;
	c->is_lost = false;
	return true;
}
