/* SPDX-License-Identifier: Apache-2.0
 *
 * Grammars that were compiled lately, by their sources: who comes with a source that another
 * request had shares what it compiled, and what it has learnt since. Unused ones are kept within
 * limits, those used last the longest. Any thread may call. */
#ifndef GRAMMAR_CACHE_H
#define GRAMMAR_CACHE_H

#include "../base.h"

#include <pthread.h>

/* The first member of what is kept. */
struct grammar_entry {
	struct grammar_entry *newer, *older; /* in the cache; older also in lists that are returned */
	char *source;        /* [n_source]; owned */
	size_t n_source;
	uint64_t hash;       /* of kind and source */
	enum bb_grammar_kind kind;
	int indent;          /* of JSON; see source_compile_indented */
	int n_users;
	bool is_kept, is_made;
	struct bb_error err; /* why it couldn't be made */
	size_t bytes;        /* as its last user found */
};

struct grammar_cache {
	pthread_mutex_t lock;
	pthread_cond_t made;
	struct grammar_entry *newest, *oldest;
	size_t bytes, max_bytes;
	int n;
	uint64_t n_compiled, n_shared; /* since the start */
};

void grammar_cache_init(struct grammar_cache *c, size_t max_bytes);
void grammar_cache_finish(struct grammar_cache *c); /* without entries */
/* false: no memory. */
bool grammar_entry_init(struct grammar_entry *e, enum bb_grammar_kind kind, const char *source,
	size_t bytes);
void grammar_entry_finish(struct grammar_entry *e);

/* The entry of fresh's source: one that is there, made or failed by now, or else fresh, which the
 * caller has to make. Either way it has one user more. */
struct grammar_entry *grammar_cache_take(struct grammar_cache *c, struct grammar_entry *fresh);
/* An entry is made, or *err says why it can't be. Nobody else will get it then. */
void grammar_cache_made(struct grammar_cache *c, struct grammar_entry *e,
	const struct bb_error *err);
/* One user less, who found it to take so many bytes. Returns entries that are to be freed. */
struct grammar_entry *grammar_cache_leave(struct grammar_cache *c, struct grammar_entry *e,
	size_t bytes);
/* All entries that have no users. */
struct grammar_entry *grammar_cache_clear(struct grammar_cache *c);

#endif
