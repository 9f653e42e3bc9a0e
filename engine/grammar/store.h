/* SPDX-License-Identifier: Apache-2.0
 *
 * Masks that grammars of one vocabulary have in common: the inside of a JSON string is the same in
 * all schemas, so its walk through the vocabulary, some milliseconds, is done once. They are found
 * by fingerprints of expressions and stay as long as the vocabulary does. Any thread may call. */
#ifndef STORE_H
#define STORE_H

#include "counts.h"

#include <pthread.h>

/* Which tokens fit an expression whatever follows. */
struct head {
	uint32_t *bits;      /* [n_words]; NULL: few, and in ids */
	int32_t *ids;        /* [n_ids] */
	uint32_t *crossings; /* [n_crossings] nodes of the tree with more below, where the text of the
	                      * expression may end and what follows it begins */
	uint32_t n_ids, n_crossings;
	bool is_narrow;      /* few nodes are reached: nothing is kept but this */
	bool is_stored;      /* belongs to the store */
};

/* By keys that nobody outside can know: a source can't be made to get another one's mask. */
struct fingerprint {
	uint64_t a, b;
};

struct store_entry {
	struct fingerprint key;
	struct head head;
	struct count_family family; /* parts NULL: it's a head */
};

struct store {
	pthread_mutex_t lock;
	struct fingerprint seed;
	struct store_entry *entries; /* [n] */
	uint32_t *slots;             /* [STORE_SLOTS]: 1 + an entry, 0: free */
	uint32_t n, cap;
	size_t bytes;
};

bool store_create(struct store **out, struct bb_error *err);
void store_destroy(struct store *s);

/* Of an expression, as deep as tokens are asked about and within a family's reach; false: it is too
 * large for that. salt: what else the mask depends on. */
bool store_fingerprint(const struct store *s, const struct exprs *x, uint32_t expr, uint64_t salt,
	struct fingerprint *out);
/* A copy of the struct; what it points to stays the store's. */
bool store_find_head(struct store *s, struct fingerprint key, struct head *out);
bool store_find_family(struct store *s, struct fingerprint key, struct count_family *out);
/* From now on it is the store's, and says so, if there is room for it. bytes: that it takes. */
void store_add_head(struct store *s, struct fingerprint key, struct head *head, size_t bytes);
void store_add_family(struct store *s, struct fingerprint key, struct count_family *family);

#endif
