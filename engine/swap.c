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
}

bool swap_out(struct bb_context *c, struct swapped *s, struct bb_error *err) {
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
	s->data = base_map(s->bytes);
	if (s->data == NULL) {
		base_no_memory(err, "a context put aside", s->bytes);
		memset(s, 0, sizeof(*s));
		return false;
	}
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
