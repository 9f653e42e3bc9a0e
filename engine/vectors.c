/* SPDX-License-Identifier: Apache-2.0
 *
 * The table of vectors: counted rows, found by their bytes in chains of a hash table. */
#include "vectors.h"

#include "engine.h"

#include <assert.h>
#include <float.h>
#include <math.h>
#include <pthread.h>
#include <string.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

enum { NONE = -1, FIRST_ID = -2, FIRST_CAP = 64 };

struct vector {
	float *row;      /* [width]; NULL: the place is free */
	uint64_t hash, n_refs;
	int next;        /* in the bucket, or of those that are free; NONE: the last */
};

struct vectors {
	pthread_mutex_t lock;
	int width;
	uint64_t seed;      /* of hashes: nobody outside can know what falls together */
	struct vector *all; /* [cap]: the vector of id FIRST_ID - i */
	int *buckets;       /* [cap], a power of 2 */
	int cap, first_free;
};

static int place_of(int32_t id) {
	return FIRST_ID - id;
}

bool vectors_create(struct vectors **out, int width, struct bb_error *err) {
	struct vectors *v = base_alloc(1, sizeof(*v));
	*out = v;
	if (v == NULL) {
		return base_no_memory(err, "vectors", sizeof(*v));
	}
	v->width = width;
	v->seed = bb_random_seed();
	v->first_free = NONE;
	pthread_mutex_init(&v->lock, NULL);
	return true;
}

void vectors_destroy(struct vectors *v) {
	if (v == NULL) {
		return;
	}
	for (int i = 0; i < v->cap; i++) {
		assert(v->all[i].row == NULL); /* who refers to vectors goes before their engine */
	}
	base_free(v->all);
	base_free(v->buckets);
	pthread_mutex_destroy(&v->lock);
	base_free(v);
}

/* ---- the table, under the lock ---- */

static int *bucket_of(struct vectors *v, uint64_t hash) {
	return &v->buckets[hash & (uint64_t)(v->cap - 1)];
}

/* Twice as many places. */
static bool grow(struct vectors *v, struct bb_error *err) {
	const int cap = v->cap > 0 ? 2 * v->cap : FIRST_CAP;
	if (v->cap > INT32_MAX / 4) {
		return base_fail(err, BB_ERR_MEMORY, "%d vectors are in use, which is the most", v->cap);
	}
	int *buckets = base_alloc((size_t)cap, sizeof(*buckets));
	struct vector *all = buckets != NULL
		? base_realloc(v->all, (size_t)cap, sizeof(*all)) : NULL;
	if (all == NULL) {
		base_free(buckets);
		return base_no_memory(err, "vectors", (size_t)cap * sizeof(*all));
	}
	base_free(v->buckets);
	v->all = all;
	v->buckets = buckets;
	for (int i = 0; i < cap; i++) {
		buckets[i] = NONE;
	}
	for (int i = cap - 1; i >= v->cap; i--) {
		all[i] = (struct vector){ .next = v->first_free };
		v->first_free = i;
	}
	const int n = v->cap;
	v->cap = cap;
	for (int i = 0; i < n; i++) { /* all of them are in use */
		int *bucket = bucket_of(v, all[i].hash);
		all[i].next = *bucket;
		*bucket = i;
	}
	return true;
}

static int find(struct vectors *v, const float *row, uint64_t hash) {
	int i = v->cap > 0 ? *bucket_of(v, hash) : NONE;
	while (i != NONE && (v->all[i].hash != hash ||
		memcmp(v->all[i].row, row, (size_t)v->width * sizeof(*row)) != 0)) {
		i = v->all[i].next;
	}
	return i;
}

static bool take(struct vectors *v, const float *row, int32_t *id, struct bb_error *err) {
	const size_t bytes = (size_t)v->width * sizeof(*row);
	const uint64_t hash = XXH3_64bits_withSeed(row, bytes, v->seed);
	int i = find(v, row, hash);
	if (i == NONE) {
		float *copy = base_alloc((size_t)v->width, sizeof(*copy));
		if (copy == NULL) {
			return base_no_memory(err, "vectors", bytes);
		}
		if (v->first_free == NONE && !grow(v, err)) {
			base_free(copy);
			return false;
		}
		memcpy(copy, row, bytes);
		i = v->first_free;
		v->first_free = v->all[i].next;
		int *bucket = bucket_of(v, hash);
		v->all[i] = (struct vector){ copy, hash, 0, *bucket };
		*bucket = i;
	}
	v->all[i].n_refs++;
	*id = FIRST_ID - i;
	return true;
}

static void drop(struct vectors *v, int32_t id) {
	const int i = place_of(id);
	struct vector *x = &v->all[i];
	assert(i < v->cap && x->n_refs > 0);
	if (--x->n_refs > 0) {
		return;
	}
	int *link = bucket_of(v, x->hash);
	while (*link != i) {
		link = &v->all[*link].next;
	}
	*link = x->next;
	base_free(x->row);
	*x = (struct vector){ .next = v->first_free };
	v->first_free = i;
}

/* ---- what others call ---- */

bool vectors_take(struct vectors *v, const float *rows, int n, int32_t *ids,
	struct bb_error *err) {
	int taken = 0;
	pthread_mutex_lock(&v->lock);
	while (taken < n && take(v, rows + (size_t)taken * (size_t)v->width, &ids[taken], err)) {
		taken++;
	}
	for (int i = 0; taken < n && i < taken; i++) {
		drop(v, ids[i]);
	}
	pthread_mutex_unlock(&v->lock);
	return taken == n;
}

size_t vectors_count(const int32_t *ids, size_t n) {
	size_t found = 0;
	for (size_t i = 0; i < n; i++) {
		found += vectors_is(ids[i]);
	}
	return found;
}

void vectors_ref(struct vectors *v, const int32_t *ids, size_t n) {
	if (vectors_count(ids, n) == 0) {
		return;
	}
	pthread_mutex_lock(&v->lock);
	for (size_t i = 0; i < n; i++) {
		if (vectors_is(ids[i])) {
			assert(place_of(ids[i]) < v->cap && v->all[place_of(ids[i])].n_refs > 0);
			v->all[place_of(ids[i])].n_refs++;
		}
	}
	pthread_mutex_unlock(&v->lock);
}

void vectors_unref(struct vectors *v, const int32_t *ids, size_t n) {
	if (vectors_count(ids, n) == 0) {
		return;
	}
	pthread_mutex_lock(&v->lock);
	for (size_t i = 0; i < n; i++) {
		if (vectors_is(ids[i])) {
			drop(v, ids[i]);
		}
	}
	pthread_mutex_unlock(&v->lock);
}

bool vectors_has(struct vectors *v, int32_t id) {
	pthread_mutex_lock(&v->lock);
	const bool has = vectors_is(id) && place_of(id) < v->cap && v->all[place_of(id)].row != NULL;
	pthread_mutex_unlock(&v->lock);
	return has;
}

void vectors_read(struct vectors *v, const int32_t *ids, size_t n, float *rows) {
	pthread_mutex_lock(&v->lock);
	for (size_t i = 0; i < n; i++) {
		assert(vectors_is(ids[i]) && place_of(ids[i]) < v->cap &&
			v->all[place_of(ids[i])].row != NULL);
		memcpy(rows + i * (size_t)v->width, v->all[place_of(ids[i])].row,
			(size_t)v->width * sizeof(*rows));
	}
	pthread_mutex_unlock(&v->lock);
}

/* ---- the public functions ---- */

struct bb_vectors {
	struct vectors *table;
	int32_t *ids; /* [n] */
	int n;
};

/* Norms sum squares of a row, times `scale`, in f32. An infinite sum would make a row of zeros of
 * it, and so finite logits that mean nothing. */
static bool check_rows(const float *rows, int n, int width, double scale, struct bb_error *err) {
	for (int r = 0; r < n; r++) {
		double sum = 0;
		for (int c = 0; c < width; c++) {
			const double x = (double)rows[(size_t)r * (size_t)width + (size_t)c];
			if (!isfinite(x)) {
				return base_fail(err, BB_ERR_INPUT, "vector %d has %g at index %d, expected finite "
					"numbers", r, x, c);
			}
			sum += scale * x * scale * x;
		}
		if (!(sum < (double)FLT_MAX)) {
			return base_fail(err, BB_ERR_INPUT, "vector %d is %.3g long, which times the model's "
				"%g is too much for f32", r, sqrt(sum) / scale, scale);
		}
	}
	return true;
}

bool bb_vectors_create(struct bb_vectors **out, struct bb_engine *e, const float *rows, int n,
	struct bb_error *err) {
	assert(e->is_planned && n >= 1);
	*out = NULL;
	if (!check_rows(rows, n, hparam_int(&e->plan.hp, H_EMBD), (double)plan_vector_scale(&e->plan),
		err)) {
		return false;
	}
	struct bb_vectors *v = base_alloc(1, sizeof(*v));
	int32_t *ids = base_alloc((size_t)n, sizeof(*ids));
	if (v == NULL || ids == NULL || !vectors_take(e->vectors, rows, n, ids, err)) {
		base_free(v);
		base_free(ids);
		return base_no_memory(err, "vectors", (size_t)n * sizeof(*ids));
	}
	*v = (struct bb_vectors){ e->vectors, ids, n };
	*out = v;
	return true;
}

void bb_vectors_destroy(struct bb_vectors *v) {
	if (v == NULL) {
		return;
	}
	vectors_unref(v->table, v->ids, (size_t)v->n);
	base_free(v->ids);
	base_free(v);
}

const int32_t *bb_vectors_ids(const struct bb_vectors *v) {
	return v->ids;
}

int bb_vectors_count(const struct bb_vectors *v) {
	return v->n;
}
