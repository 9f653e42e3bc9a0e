/* SPDX-License-Identifier: Apache-2.0
 *
 * A text of tokens in a ring, and where each of its n-grams stood last: finds what came behind the
 * longest suffix of another text, or of itself, that it has seen. Prompt lookup (Saxena 2023,
 * "prompt lookup decoding") and suffix decoding (arXiv:2411.04975) with hashed n-grams in place of
 * a tree: memory is bounded, and an older place is forgotten where a newer one takes its slot. */
#ifndef SPEC_INDEX_H
#define SPEC_INDEX_H

#include "base.h"

/* Lengths of the n-grams: SPEC_GRAM << i. A suffix that was seen is found by the longest of them
 * that it holds, and then measured up to SPEC_LOOK tokens. */
enum { SPEC_GRAM = 2, SPEC_GRAMS = 3, SPEC_LOOK = 64 };

struct spec_index { /* zeroed = empty */
	int32_t *ids;               /* [cap]: token i stands at i % cap */
	uint32_t *last[SPEC_GRAMS]; /* [cap]: by an n-gram's hash, the token behind its newest place */
	size_t cap, most;           /* powers of two; it grows to `most`, then the oldest go */
	uint64_t n;                 /* tokens that were added */
};

/* most: a power of two. */
void spec_index_init(struct spec_index *x, size_t most);
void spec_index_finish(struct spec_index *x); /* zeroed is fine */
size_t spec_index_bytes(const struct spec_index *x);
/* Tokens below 0 part texts. False: no memory; what was added before is there. */
bool spec_index_add(struct spec_index *x, const int32_t *ids, size_t n);
/* The token behind the newest place where the longest suffix of tail [n] stood that was found, and
 * its length, at least `least`; 0: there is none. */
int spec_index_find(const struct spec_index *x, const int32_t *tail, size_t n, int least,
	uint64_t *at);
/* What stands from token `at` on, up to where texts part; where the index ends it begins again
 * there, as a text that repeats itself does. Returns how many of n. */
int spec_index_read(const struct spec_index *x, uint64_t at, int32_t *out, int n);

#endif
