/* SPDX-License-Identifier: Apache-2.0
 *
 * Pools of states, and the checkpoints of a context. Knows bytes and token indices only. */
#include "state.h"

#include <assert.h>
#include <string.h>

/* ---- states ---- */

void state_pool_init(struct state_pool *p, size_t bytes, const struct memory *memory,
	size_t max_kept_bytes) {
	*p = (struct state_pool){ .bytes = bytes, .memory = memory };
	const size_t n = bytes > 0 ? max_kept_bytes / bytes : 0;
	p->max_kept = n < INT32_MAX ? (int)n : INT32_MAX;
}

void state_pool_finish(struct state_pool *p) {
	assert(p->n_free == p->n_all && p->n_promised == 0);
	state_pool_trim(p);
	memset(p, 0, sizeof(*p));
}

size_t state_pool_trim(struct state_pool *p) {
	size_t bytes = 0;
	for (; p->n_free > p->n_promised; p->n_free--, p->n_all--) {
		struct state *s = p->free;
		p->free = s->next;
		memory_unmap(p->memory, s->data, p->bytes);
		base_free(s);
		bytes += p->bytes;
	}
	return bytes;
}

static void give_back(struct state_pool *p, struct state *s) {
	s->next = p->free;
	p->free = s;
	p->n_free++;
}

/* One more free state. */
static bool make(struct state_pool *p, struct bb_error *err) {
	struct state *s = base_alloc(1, sizeof(*s));
	if (s == NULL) {
		return base_no_memory(err, "state", sizeof(*s));
	}
	s->data = memory_map(p->memory, p->bytes, "state of recurrent layers", err);
	if (s->data == NULL) {
		base_free(s);
		return false;
	}
	p->n_all++;
	give_back(p, s);
	return true;
}

struct state *state_take(struct state_pool *p, bool promised, struct bb_error *err) {
	assert(!promised || p->n_promised > 0);
	if (!promised && p->n_free <= p->n_promised && !make(p, err)) {
		return NULL;
	}
	p->n_promised -= promised;
	struct state *s = p->free;
	p->free = s->next;
	p->n_free--;
	s->n_refs = 1;
	s->n_kept = 0;
	p->n_live++;
	return s;
}

void state_ref(struct state_pool *p, struct state *s) {
	p->n_live += state_n_live(s) == 0;
	p->n_changes++;
	s->n_refs++;
}

void state_unref(struct state_pool *p, struct state *s) {
	if (s == NULL) {
		return;
	}
	p->n_changes += --s->n_refs > 0;
	p->n_live -= state_n_live(s) == 0;
	if (s->n_refs == 0) {
		give_back(p, s);
	}
}

bool state_promise(struct state_pool *p, int n, struct bb_error *err) {
	while (p->n_free < p->n_promised + n) {
		if (!make(p, err)) {
			return false;
		}
	}
	p->n_promised += n;
	return true;
}

void state_break_promise(struct state_pool *p, int n) {
	assert(n <= p->n_promised);
	p->n_promised -= n;
}

/* ---- checkpoints ---- */

static void keep(struct state_pool *p, struct state *s) {
	s->n_refs++;
	p->n_kept += s->n_kept++ == 0;
	p->n_changes++;
}

static void drop(struct state_pool *p, struct state *s) {
	p->n_kept -= --s->n_kept == 0;
	p->n_changes++;
	if (--s->n_refs == 0) {
		give_back(p, s);
	}
}

bool checkpoints_reserve(struct checkpoints *c, int n_new, struct bb_error *err) {
	if (c->n + n_new <= c->cap) {
		return true;
	}
	const int cap = (c->n + n_new) * 2;
	struct checkpoint *items = base_realloc(c->items, (size_t)cap, sizeof(*items));
	if (items == NULL) {
		return base_no_memory(err, "checkpoints", (size_t)cap * sizeof(*items));
	}
	c->items = items;
	c->cap = cap;
	return true;
}

/* How many stand at or before n_tokens. */
static int n_until(const struct checkpoints *c, int n_tokens) {
	int n = c->n;
	while (n > 0 && c->items[n - 1].n_tokens > n_tokens) {
		n--;
	}
	return n;
}

void checkpoints_add(struct checkpoints *c, struct state_pool *p, int n_tokens,
	enum checkpoint_kind kind, struct state *s) {
	const int i = n_until(c, n_tokens);
	struct checkpoint *last = i > 0 ? &c->items[i - 1] : NULL;
	if (last != NULL && last->n_tokens == n_tokens) {
		last->kind = kind > last->kind ? kind : last->kind;
		return;
	}
	assert(c->n < c->cap);
	memmove(&c->items[i + 1], &c->items[i], (size_t)(c->n - i) * sizeof(*c->items));
	c->items[i] = (struct checkpoint){ n_tokens, kind, s };
	c->n++;
	keep(p, s);
}

const struct checkpoint *checkpoints_find(const struct checkpoints *c, int n_tokens) {
	const int n = n_until(c, n_tokens);
	return n > 0 ? &c->items[n - 1] : NULL;
}

void checkpoints_truncate(struct checkpoints *c, struct state_pool *p, int n_tokens) {
	while (c->n > 0 && c->items[c->n - 1].n_tokens > n_tokens) {
		drop(p, c->items[--c->n].state);
	}
}

bool checkpoints_fork(struct checkpoints *dst, const struct checkpoints *src, struct state_pool *p,
	struct bb_error *err) {
	if (!checkpoints_reserve(dst, src->n + 1, err)) {
		return false;
	}
	if (src->n > 0) {
		memcpy(dst->items, src->items, (size_t)src->n * sizeof(*src->items));
	}
	dst->n = src->n;
	for (int i = 0; i < dst->n; i++) {
		keep(p, dst->items[i].state);
	}
	return true;
}

void checkpoints_finish(struct checkpoints *c, struct state_pool *p) {
	checkpoints_truncate(c, p, -1);
	base_free(c->items);
	memset(c, 0, sizeof(*c));
}

int checkpoints_count(const struct checkpoints *c, enum checkpoint_kind kind) {
	int n = 0;
	for (int i = 0; i < c->n; i++) {
		n += c->items[i].kind == kind;
	}
	return n;
}

/* Of a distance in tokens: 0 for the nearest STATE_EVERY, then one more for each doubling. */
static int octave(int distance) {
	int k = 0;
	for (int64_t end = STATE_EVERY; end <= distance; end *= 2) {
		k++;
	}
	return k;
}

static void drop_at(struct checkpoints *c, struct state_pool *p, int i) {
	struct state *s = c->items[i].state;
	c->n--;
	memmove(&c->items[i], &c->items[i + 1], (size_t)(c->n - i) * sizeof(*c->items));
	drop(p, s);
}

void checkpoints_drop(struct checkpoints *c, struct state_pool *p, enum checkpoint_kind kind,
	const struct state *s) {
	for (int i = 0; i < c->n; i++) {
		if (c->items[i].state == s && c->items[i].kind <= kind) {
			drop_at(c, p, i);
			return;
		}
	}
}

const struct state *checkpoints_thin(struct checkpoints *c, struct state_pool *p,
	enum checkpoint_kind kind, int n_tokens) {
	int oldest = -1, victim = -1;
	for (int i = 0, before = -1; i < c->n && victim < 0; i++) {
		const int k = octave(n_tokens - c->items[i].n_tokens);
		if (c->items[i].kind != kind) {
			continue;
		}
		oldest = oldest < 0 ? i : oldest;
		if (before >= 0 && octave(n_tokens - c->items[before].n_tokens) == k) {
			victim = i;
		}
		before = i;
	}
	victim = victim >= 0 ? victim : oldest;
	assert(victim >= 0);
	const struct state *s = c->items[victim].state;
	drop_at(c, p, victim);
	return s;
}

enum { MOST_PLAYED = 1 << 22 };

bool checkpoints_reach(int max_kept, int n_tokens, int *out, struct bb_error *err) {
	struct state_pool p = { 0 };
	struct state any = { .n_refs = 1 };
	struct checkpoints c = { 0 };
	*out = n_tokens;
	if (max_kept >= n_tokens / STATE_EVERY) {
		return true;
	}
	if (!checkpoints_reserve(&c, max_kept + 1, err)) {
		return false;
	}
	/* of longer contexts the newest part is as long */
	const int end = n_tokens < MOST_PLAYED ? n_tokens : MOST_PLAYED;
	for (int at = STATE_EVERY; max_kept > 0 && at <= end; at += STATE_EVERY) {
		if (c.n == max_kept) {
			checkpoints_thin(&c, &p, CHECKPOINT_GRID, at);
		}
		checkpoints_add(&c, &p, at, CHECKPOINT_GRID, &any);
	}
	*out = max_kept > 0 ? n_tokens % STATE_EVERY : 0;
	for (int i = c.n - 1; i > 0 && c.items[i].n_tokens - c.items[i - 1].n_tokens <= STATE_EVERY;
		i--) {
		*out += STATE_EVERY;
	}
	checkpoints_finish(&c, &p);
	return true;
}
