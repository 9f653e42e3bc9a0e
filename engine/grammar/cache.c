/* SPDX-License-Identifier: Apache-2.0
 *
 * A list from the newest to the oldest: there are so few that a look at all is nothing beside one
 * compilation. */
#include "cache.h"

#include <assert.h>
#include <string.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

enum { MAX_ENTRIES = 256 };

void grammar_cache_init(struct grammar_cache *c, size_t max_bytes) {
	memset(c, 0, sizeof(*c));
	c->max_bytes = max_bytes;
	pthread_mutex_init(&c->lock, NULL);
	pthread_cond_init(&c->made, NULL);
}

void grammar_cache_finish(struct grammar_cache *c) {
	assert(c->n == 0);
	pthread_cond_destroy(&c->made);
	pthread_mutex_destroy(&c->lock);
}

bool grammar_entry_init(struct grammar_entry *e, enum bb_grammar_kind kind, const char *source,
	size_t bytes) {
	memset(e, 0, sizeof(*e));
	e->source = base_alloc(bytes, 1);
	if (e->source == NULL) {
		return false;
	}
	if (bytes > 0) {
		memcpy(e->source, source, bytes);
	}
	e->n_source = bytes;
	e->kind = kind;
	e->hash = XXH3_64bits_withSeed(e->source, bytes, (uint64_t)kind);
	return true;
}

void grammar_entry_finish(struct grammar_entry *e) {
	base_free(e->source);
}

static void take_out(struct grammar_cache *c, struct grammar_entry *e) {
	*(e->newer != NULL ? &e->newer->older : &c->newest) = e->older;
	*(e->older != NULL ? &e->older->newer : &c->oldest) = e->newer;
	e->newer = e->older = NULL;
	e->is_kept = false;
	c->bytes -= e->bytes;
	c->n--;
}

static void put_first(struct grammar_cache *c, struct grammar_entry *e) {
	e->older = c->newest;
	e->newer = NULL;
	*(c->newest != NULL ? &c->newest->newer : &c->oldest) = e;
	c->newest = e;
	e->is_kept = true;
	c->bytes += e->bytes;
	c->n++;
}

static bool is_same(const struct grammar_entry *a, const struct grammar_entry *b) {
	return a->hash == b->hash && a->kind == b->kind && a->indent == b->indent &&
		a->n_source == b->n_source && memcmp(a->source, b->source, a->n_source) == 0;
}

struct grammar_entry *grammar_cache_take(struct grammar_cache *c, struct grammar_entry *fresh) {
	pthread_mutex_lock(&c->lock);
	struct grammar_entry *e = c->newest;
	while (e != NULL && !is_same(e, fresh)) {
		e = e->older;
	}
	if (e != NULL) {
		take_out(c, e);
	}
	e = e != NULL ? e : fresh;
	put_first(c, e);
	e->n_users++;
	*(e == fresh ? &c->n_compiled : &c->n_shared) += 1;
	while (e != fresh && !e->is_made) {
		pthread_cond_wait(&c->made, &c->lock);
	}
	pthread_mutex_unlock(&c->lock);
	return e;
}

void grammar_cache_made(struct grammar_cache *c, struct grammar_entry *e,
	const struct bb_error *err) {
	pthread_mutex_lock(&c->lock);
	e->is_made = true;
	e->err = *err;
	if (err->code != BB_OK) {
		take_out(c, e);
	}
	pthread_cond_broadcast(&c->made);
	pthread_mutex_unlock(&c->lock);
}

/* In front of `freed`: unused entries, oldest first, until the rest is within these limits. */
static struct grammar_entry *evict(struct grammar_cache *c, size_t max_bytes, int max_n,
	struct grammar_entry *freed) {
	for (struct grammar_entry *old = c->oldest, *newer; old != NULL; old = newer) {
		newer = old->newer;
		if ((c->bytes > max_bytes || c->n > max_n) && old->n_users == 0) {
			take_out(c, old);
			old->older = freed;
			freed = old;
		}
	}
	return freed;
}

struct grammar_entry *grammar_cache_leave(struct grammar_cache *c, struct grammar_entry *e,
	size_t bytes) {
	pthread_mutex_lock(&c->lock);
	if (e->is_kept) {
		c->bytes += bytes - e->bytes;
	}
	e->bytes = bytes;
	e->n_users--;
	/* one that has learnt so much begins anew with the next request, before it reaches limits */
	if (e->is_kept && e->bytes > c->max_bytes / 2) {
		take_out(c, e);
	}
	struct grammar_entry *freed = evict(c, c->max_bytes, MAX_ENTRIES,
		!e->is_kept && e->n_users == 0 ? e : NULL);
	pthread_mutex_unlock(&c->lock);
	return freed;
}

struct grammar_entry *grammar_cache_clear(struct grammar_cache *c) {
	pthread_mutex_lock(&c->lock);
	struct grammar_entry *const freed = evict(c, 0, 0, NULL);
	pthread_mutex_unlock(&c->lock);
	return freed;
}
