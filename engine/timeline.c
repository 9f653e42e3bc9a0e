/* SPDX-License-Identifier: Apache-2.0
 *
 * Timelines: arrays of token ids that forks share. Knows nothing of pages. */
#include "timeline.h"

#include <assert.h>
#include <string.h>

struct timeline_array {
	int32_t *ids; /* [cap] */
	size_t cap;
	int end;      /* ids below are tokens or room of some context */
	int n_refs;
};

static void array_unref(struct timeline_array *a) {
	if (a != NULL && --a->n_refs == 0) {
		base_free(a->ids);
		base_free(a);
	}
}

void timeline_finish(struct timeline *t) {
	array_unref(t->array);
	memset(t, 0, sizeof(*t));
}

static bool no_memory(size_t cap, struct bb_error *err) {
	return base_no_memory(err, "timeline", cap * sizeof(int32_t));
}

/* The tokens again, in an array of this context alone. */
static bool copy_array(struct timeline *t, size_t cap, struct bb_error *err) {
	struct timeline_array *copy = base_alloc(1, sizeof(*copy));
	int32_t *ids = copy != NULL ? base_alloc(cap, sizeof(*ids)) : NULL;
	if (ids == NULL) {
		base_free(copy);
		return no_memory(cap, err);
	}
	if (t->n > 0) {
		memcpy(ids, t->array->ids, (size_t)t->n * sizeof(*ids));
	}
	*copy = (struct timeline_array){ ids, cap, t->n, 1 };
	array_unref(t->array);
	t->array = copy;
	return true;
}

bool timeline_reserve(struct timeline *t, int n_new, struct bb_error *err) {
	if (n_new <= t->end - t->n) {
		return true;
	}
	struct timeline_array *a = t->array;
	const size_t need = (size_t)t->n + (size_t)n_new, cap = need + need / 2 + 64;
	const bool is_alone = a != NULL && a->n_refs == 1;
	const bool has_end = is_alone || (a != NULL && a->end == t->end);
	if (is_alone && need > a->cap) {
		int32_t *grown = base_realloc(a->ids, cap, sizeof(*grown));
		if (grown == NULL) {
			return no_memory(cap, err);
		}
		a->ids = grown;
		a->cap = cap;
	} else if ((!has_end || need > a->cap) && !copy_array(t, cap, err)) {
		return false;
	}
	t->array->end = t->end = (int)need;
	return true;
}

void timeline_append(struct timeline *t, const int32_t *ids, int n) {
	assert(n <= t->end - t->n);
	memcpy(t->array->ids + t->n, ids, (size_t)n * sizeof(*ids));
	t->n += n;
}

void timeline_truncate(struct timeline *t, int n) {
	assert(n <= t->n);
	if (n < t->n) {
		t->n = t->end = n; /* the ids from n on may be tokens of a fork */
	}
}

void timeline_fork(struct timeline *dst, const struct timeline *src) {
	assert(dst->array == NULL);
	*dst = (struct timeline){ src->array, src->n, src->n };
	if (src->array != NULL) {
		if (src->array->n_refs == 1) {
			src->array->end = src->end; /* what lies behind was forgotten */
		}
		src->array->n_refs++;
	}
}

const int32_t *timeline_ids(const struct timeline *t) {
	return t->array != NULL ? t->array->ids : NULL;
}
