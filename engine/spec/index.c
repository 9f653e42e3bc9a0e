/* SPDX-License-Identifier: Apache-2.0
 *
 * N-grams by their hashes. An n-gram goes into the table with the token behind it, so that the
 * suffix of a text doesn't find itself. What is found is compared before it is believed. */
#include "index.h"

#include <assert.h>
#include <string.h>

enum { FIRST_CAP = 256 };

void spec_index_init(struct spec_index *x, size_t most) {
	assert(most >= FIRST_CAP && (most & (most - 1)) == 0);
	*x = (struct spec_index){ .most = most };
}

void spec_index_finish(struct spec_index *x) {
	base_free(x->ids);
	for (int i = 0; i < SPEC_GRAMS; i++) {
		base_free(x->last[i]);
	}
	memset(x, 0, sizeof(*x));
}

size_t spec_index_bytes(const struct spec_index *x) {
	return x->cap * (sizeof(*x->ids) + SPEC_GRAMS * sizeof(*x->last[0]));
}

static int32_t id_at(const struct spec_index *x, uint64_t i) {
	return x->ids[i & (x->cap - 1)];
}

/* Of the n tokens before `end` in a ring of cap; false: they are of two texts. */
static bool hash(const int32_t *ids, size_t mask, uint64_t end, int n, size_t *out) {
	uint64_t h = 0;
	for (uint64_t i = end - (uint64_t)n; i < end; i++) {
		const int32_t id = ids[i & mask];
		if (id < 0) {
			return false;
		}
		h = (h ^ (uint64_t)(uint32_t)id) * 0x9E3779B97F4A7C15u;
		h ^= h >> 32;
	}
	*out = (size_t)h;
	return true;
}

/* The n-grams that end before token `at`, which is there. */
static void note(struct spec_index *x, uint64_t at) {
	for (int i = 0; i < SPEC_GRAMS; i++) {
		const int n = SPEC_GRAM << i;
		size_t h;
		if (at < (uint64_t)n || !hash(x->ids, x->cap - 1, at, n, &h)) {
			return; /* nor has a longer one room */
		}
		x->last[i][h & (x->cap - 1)] = (uint32_t)at;
	}
}

static bool grow(struct spec_index *x) {
	const size_t cap = x->cap > 0 ? 2 * x->cap : FIRST_CAP;
	int32_t *ids = base_realloc(x->ids, cap, sizeof(*ids));
	if (ids == NULL) {
		return false;
	}
	x->ids = ids;
	for (int i = 0; i < SPEC_GRAMS; i++) {
		uint32_t *last = base_realloc(x->last[i], cap, sizeof(*last));
		if (last == NULL) {
			return false;
		}
		x->last[i] = last;
	}
	for (int i = 0; i < SPEC_GRAMS; i++) {
		memset(x->last[i], 0, cap * sizeof(*x->last[i]));
	}
	x->cap = cap;
	for (uint64_t at = 1; at < x->n; at++) {
		note(x, at);
	}
	return true;
}

bool spec_index_add(struct spec_index *x, const int32_t *ids, size_t n) {
	for (size_t i = 0; i < n; i++) {
		if (x->n == x->cap && x->cap < x->most && !grow(x)) {
			return false;
		}
		x->ids[x->n & (x->cap - 1)] = ids[i];
		note(x, x->n++);
	}
	return true;
}

/* Tokens that agree before `at` and at the tail's end. */
static int agree(const struct spec_index *x, uint64_t at, const int32_t *tail, size_t n) {
	const uint64_t first = x->n > x->cap ? x->n - x->cap : 0;
	int most = n < SPEC_LOOK ? (int)n : SPEC_LOOK, k = 0;
	most = at - first < (uint64_t)most ? (int)(at - first) : most;
	while (k < most && tail[n - 1 - (size_t)k] >= 0 &&
		id_at(x, at - 1 - (uint64_t)k) == tail[n - 1 - (size_t)k]) {
		k++;
	}
	return k;
}

int spec_index_find(const struct spec_index *x, const int32_t *tail, size_t n, int least,
	uint64_t *at) {
	int best = 0;
	for (int i = SPEC_GRAMS - 1; i >= 0 && x->cap > 0; i--) {
		const int gram = SPEC_GRAM << i;
		size_t h;
		if (n < (size_t)gram || !hash(tail, SIZE_MAX, n, gram, &h)) {
			continue;
		}
		/* numbers are kept modulo 2^32: the ring is shorter */
		const uint32_t entry = x->last[i][h & (x->cap - 1)];
		const uint64_t age = (uint32_t)((uint32_t)x->n - entry);
		if (entry == 0 || age == 0 || age >= x->cap || age > x->n) {
			continue;
		}
		const int k = agree(x, x->n - age, tail, n);
		if (k > best && k >= least) {
			best = k;
			*at = x->n - age;
		}
		if (k >= gram) {
			break; /* a shorter one's newest place may be nearer, but agrees in less */
		}
	}
	return best;
}

int spec_index_read(const struct spec_index *x, uint64_t at, int32_t *out, int n) {
	int i = 0;
	for (; i < n; i++) {
		const uint64_t from = at + (uint64_t)i;
		out[i] = from < x->n ? id_at(x, from) : out[from - x->n];
		if (out[i] < 0) {
			break;
		}
	}
	return i;
}
