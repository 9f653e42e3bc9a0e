/* SPDX-License-Identifier: Apache-2.0
 *
 * The prefix cache: finished contexts, kept as long as memory lasts, of which later requests that
 * begin alike take a fork. A radix tree over their timelines, one for each salt. It works with
 * forks and rewinds of contexts alone, and knows nothing of pages but what they weigh. What has no
 * room is put aside in the host's memory while there is some, and found there. Nothing here makes a
 * request fail: a cache that has no memory finds nothing and keeps nothing. One cache of an
 * engine. */
#ifndef PREFIX_H
#define PREFIX_H

#include "base.h"

struct bb_context;
struct bb_engine;
struct prefix;
struct swap_space;

/* max_bytes: of pages and states that kept contexts alone hold. What running contexts, their forks,
 * refer to isn't counted, for to evict would not free it. Checkpoints are, so for recurrent models
 * it has to be well above what the state cache may hold. space: for what is put aside, shared with
 * others; NULL: there is none. */
bool prefix_create(struct prefix **out, struct bb_engine *e, size_t max_bytes,
	struct swap_space *space, struct bb_error *err);
/* Destroys what is kept. NULL is fine. */
void prefix_destroy(struct prefix *p);

/* *out: a fork of the kept context of this salt (NULL: "") with which the fewest of ids [n] remain
 * to be computed, rewound to what can be used of it; returns how many tokens that are. 0: there is
 * nothing, and *out is NULL. Computes nothing: with recurrent layers the fork ends at a checkpoint,
 * and when it comes to the token at which ids leave all timelines known it keeps the state there,
 * so that the next one needn't start as early. At most n: who wants the logits behind the last
 * token asks for n - 1. Takes a time that depends on n alone, not on how many contexts are kept.
 * What lies aside is copied into pages of the fork's own, for which prefix_make_room is called. */
int prefix_find(struct prefix *p, const char *salt, const int32_t *ids, int n,
	struct bb_context **out);
/* Bytes of such pages that prefix_find would take. */
size_t prefix_apart_bytes(const struct prefix *p, const char *salt, const int32_t *ids, int n);
/* Counts what may change the answer, from 1. */
uint64_t prefix_epoch(const struct prefix *p);
/* A context that prefix_find didn't make becomes one of this salt: what rewinds compute again is
 * told to contexts of the same salt only, which have it cheaper later. */
void prefix_enter(const struct prefix *p, const char *salt, struct bb_context *c);
/* Takes c, which was found or entered with this salt, to be found by later requests; it may be gone
 * at once. An older context of the same timeline is destroyed. Others are superseded, and go first:
 * those of the same conversation, where both say which (not NULL); else, but not where they say
 * different ones, those with whose whole timeline c begins, or with all of it but the last turn (a
 * segment, or what the model wrote, thinking and answer). */
void prefix_keep(struct prefix *p, const char *salt, const char *conversation,
	struct bb_context *c);
/* Evicts until so many bytes are free that weren't, those of the host counted, or nothing is left
 * that would free any; returns how many are: superseded contexts first, then those not used for the
 * longest time. What running contexts share with kept ones stays theirs. */
size_t prefix_trim(struct prefix *p, size_t bytes);
/* Until the engine's limit on pages has so many bytes left: superseded contexts are evicted, then
 * those not used for the longest time are put aside, or evicted where they can't be. */
void prefix_make_room(struct prefix *p, size_t bytes);
/* Evicts what lies aside until so many bytes are free there, or none does; nothing where there is
 * never room for so many. */
void prefix_make_space(struct prefix *p, size_t bytes);

struct prefix_stats {
	int n_contexts, n_superseded, n_aside; /* kept now; the others are of the first */
	size_t bytes, max_bytes;             /* as prefix_create has it */
	uint64_t n_finds, n_hits;            /* since the cache was made */
	uint64_t n_wanted_tokens, n_found_tokens;
	uint64_t n_kept, n_evicted, n_put_aside;
};
void prefix_stats(const struct prefix *p, struct prefix_stats *out);

#endif
