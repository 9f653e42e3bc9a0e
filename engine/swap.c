/* SPDX-License-Identifier: Apache-2.0
 *
 * Contexts put aside: page by page to the host's memory, and back into fresh pages. Checkpoints
 * stay where they are: the state cache has a budget of its own. */
#include "swap.h"

#include <assert.h>
#include <string.h>

size_t swap_bytes(const struct bb_context *c) {
	return bb_context_kv_bytes(c) + (c->state != NULL ? c->engine->states.bytes : 0);
}

void swap_drop(struct swapped *s) {
	base_unmap(s->data, s->bytes);
	if (s->space != NULL) {
		s->space->used_bytes -= s->bytes;
	}
	memset(s, 0, sizeof(*s));
}

/* Reserved pages are given back: what remains is what the tokens need. */
static void unreserve(struct bb_context *c) {
	struct bb_error never = { 0 };
	c->n_reserved = 0;
	context_state_promise(c, 0, &never);
	context_unreserve(c);
}

/* All pages, then the state: between the context and the copy, in its order. */
static void move(const struct bb_context *c, const struct swapped *s, bool out) {
	const struct memory *m = &c->engine->memory;
	uint8_t *at = s->data;
	for (int i = 0; i < c->engine->plan.n_paged; i++) {
		const struct kv_table *t = &c->tables[i];
		for (int page = t->first_page; page < t->n_pages; page++) {
			if (out) {
				memory_out(m, at, kv_page(t, page), t->pool->page_bytes);
			} else {
				memory_in(m, kv_page(t, page), at, t->pool->page_bytes);
			}
			at += t->pool->page_bytes;
		}
	}
	if (s->has_state && out) {
		memory_out(m, at, c->state->data, c->engine->states.bytes);
	} else if (s->has_state) {
		memory_in(m, c->state->data, at, c->engine->states.bytes);
	}
}

/* Pages and state are nobody's of this context. */
static void release(struct bb_context *c) {
	for (int i = 0; i < c->engine->plan.n_paged; i++) {
		kv_truncate(&c->tables[i], 0);
	}
	state_unref(&c->engine->states, c->state);
	c->state = NULL;
	c->engine->n_kept_changes += c->is_kept;
}

bool swap_out(struct bb_context *c, struct swap_space *space, struct swapped *s,
	struct bb_error *err) {
	if (!context_state_check(c, err)) {
		return false;
	}
	unreserve(c);
	*s = (struct swapped){ .bytes = swap_bytes(c), .has_state = c->state != NULL };
	for (int i = 0; i < c->engine->plan.n_paged; i++) {
		s->first_page[i] = c->tables[i].first_page;
		s->n_pages[i] = c->tables[i].n_pages;
	}
	if (s->bytes == 0) {
		return true;
	}
	assert(s->bytes <= space->max_bytes - space->used_bytes);
	s->data = base_map(s->bytes);
	if (s->data == NULL) {
		base_no_memory(err, "a context put aside", s->bytes);
		memset(s, 0, sizeof(*s));
		return false;
	}
	s->space = space;
	space->used_bytes += s->bytes;
	move(c, s, true);
	if (!memory_wait(&c->engine->memory, err)) {
		swap_drop(s);
		return false;
	}
	release(c);
	return true;
}

bool swap_in(struct bb_context *c, struct swapped *s, struct bb_error *err) {
	for (int i = 0; i < c->engine->plan.n_paged; i++) {
		if (!kv_restore(&c->tables[i], s->first_page[i], s->n_pages[i], err)) {
			release(c);
			return false;
		}
	}
	if (s->has_state) {
		c->state = state_take(&c->engine->states, false, err);
		if (c->state == NULL) {
			release(c);
			return false;
		}
	}
	move(c, s, false);
	if (!memory_wait(&c->engine->memory, err)) {
		release(c);
		return false;
	}
	swap_drop(s);
	return true;
}

/* ---- forks ---- */

bool swap_holds(const struct bb_context *c, const struct swapped *s, int n_tokens) {
	for (int i = 0; i < c->engine->plan.n_paged && n_tokens > 0; i++) {
		if (engine_first_needed(c->engine, i, n_tokens) < s->first_page[i] * BB_PAGE) {
			return false;
		}
	}
	return true;
}

/* The end of the pages of a kind that n_tokens have. */
static int end_page(const struct swapped *s, int i_kind, int n_tokens) {
	const int end = n_tokens / BB_PAGE + (n_tokens % BB_PAGE != 0), most = s->n_pages[i_kind];
	return end < s->first_page[i_kind] ? s->first_page[i_kind] : end < most ? end : most;
}

size_t swap_fork_bytes(const struct bb_context *c, const struct swapped *s, int n_tokens) {
	size_t bytes = 0;
	for (int i = 0; i < c->engine->plan.n_paged; i++) {
		bytes += (size_t)(end_page(s, i, n_tokens) - s->first_page[i]) *
			c->tables[i].pool->page_bytes;
	}
	return bytes;
}

/* Pages, and the state where nothing is cut off, from the copy to a fork that has none. */
static bool fill(struct bb_context *f, const struct swapped *s, int n_tokens,
	struct bb_error *err) {
	const struct memory *m = &f->engine->memory;
	const uint8_t *at = s->data;
	for (int i = 0; i < f->engine->plan.n_paged; i++) {
		struct kv_table *t = &f->tables[i];
		const size_t bytes = t->pool->page_bytes;
		const int end = end_page(s, i, n_tokens);
		if (!kv_restore(t, s->first_page[i], end, err)) {
			return false;
		}
		for (int page = s->first_page[i]; page < end; page++) {
			memory_in(m, kv_page(t, page), at + (size_t)(page - s->first_page[i]) * bytes, bytes);
		}
		at += (size_t)(s->n_pages[i] - s->first_page[i]) * bytes;
	}
	if (s->has_state && n_tokens == bb_context_length(f)) {
		f->state = state_take(&f->engine->states, false, err);
		if (f->state == NULL) {
			return false;
		}
		memory_in(m, f->state->data, at, f->engine->states.bytes);
	}
	return memory_wait(m, err);
}

bool swap_fork(struct bb_context **out, struct bb_context *c, const struct swapped *s,
	int n_tokens, struct bb_error *err) {
	if (!bb_context_fork(out, c, err)) {
		return false;
	}
	if (!fill(*out, s, n_tokens, err) || !bb_context_rewind(*out, n_tokens, err)) {
		bb_context_destroy(*out);
		*out = NULL;
		return false;
	}
	return true;
}
