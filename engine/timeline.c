/* SPDX-License-Identifier: Apache-2.0
 *
 * Timelines: arrays of token ids and of segments that forks share. Knows nothing of pages. */
#include "timeline.h"

#include <assert.h>
#include <string.h>

/* References to vectors, one for each that was appended. Some may be forgotten since: those go with
 * the array, or when its only owner makes room. */
struct held {
	struct vectors *of;
	int32_t *ids; /* [cap] */
	size_t n, cap;
};

struct timeline_array {
	char *items;  /* [cap] */
	size_t cap;
	struct held held; /* of ids */
	int end;      /* items below are some context's, or its room */
	int n_refs;
};

struct segment {
	int32_t first; /* its first token */
	enum bb_role role;
};

/* ---- arrays ---- */

static void array_unref(struct timeline_array *a) {
	if (a != NULL && --a->n_refs == 0) {
		if (a->held.n > 0) {
			vectors_unref(a->held.of, a->held.ids, a->held.n);
		}
		base_free(a->held.ids);
		base_free(a->items);
		base_free(a);
	}
}

static bool no_memory(size_t cap, size_t item_bytes, struct bb_error *err) {
	return base_no_memory(err, "timeline", cap * item_bytes);
}

/* Refers to the vectors among ids, for which there is room. */
static void hold(struct held *h, struct vectors *of, const int32_t *ids, size_t n) {
	h->of = of;
	vectors_ref(of, ids, n);
	for (size_t i = 0; i < n; i++) {
		if (vectors_is(ids[i])) {
			assert(h->n < h->cap);
			h->ids[h->n++] = ids[i];
		}
	}
}

/* References of its own to the vectors among the first n items of an array. */
static bool copy_held(struct held *copy, const struct timeline_array *from, int n,
	struct bb_error *err) {
	if (from == NULL || from->held.n == 0) {
		return true;
	}
	const int32_t *ids = (const int32_t *)(const void *)from->items;
	copy->cap = vectors_count(ids, (size_t)n);
	copy->ids = base_alloc(copy->cap, sizeof(*copy->ids));
	if (copy->ids == NULL) {
		return base_no_memory(err, "timeline", copy->cap * sizeof(*copy->ids));
	}
	hold(copy, from->held.of, ids, (size_t)n);
	return true;
}

/* The items again, in an array of this context alone. */
static bool copy_array(struct timeline_view *v, size_t item_bytes, size_t cap,
	struct bb_error *err) {
	struct timeline_array *copy = base_alloc(1, sizeof(*copy));
	char *items = copy != NULL ? base_alloc(cap, item_bytes) : NULL;
	struct held held = { 0 };
	if (items == NULL || !copy_held(&held, v->array, v->n, err)) {
		base_free(items);
		base_free(copy);
		return no_memory(cap, item_bytes, err);
	}
	if (v->n > 0) {
		memcpy(items, v->array->items, (size_t)v->n * item_bytes);
	}
	*copy = (struct timeline_array){ items, cap, held, v->n, 1 };
	array_unref(v->array);
	v->array = copy;
	return true;
}

static bool view_reserve(struct timeline_view *v, size_t item_bytes, int n_new,
	struct bb_error *err) {
	if (n_new <= v->end - v->n) {
		return true;
	}
	struct timeline_array *a = v->array;
	const size_t need = (size_t)v->n + (size_t)n_new, cap = need + need / 2 + 64;
	const bool is_alone = a != NULL && a->n_refs == 1;
	const bool has_end = is_alone || (a != NULL && a->end == v->end);
	if (is_alone && need > a->cap) {
		char *grown = base_realloc(a->items, cap, item_bytes);
		if (grown == NULL) {
			return no_memory(cap, item_bytes, err);
		}
		a->items = grown;
		a->cap = cap;
	} else if ((!has_end || need > a->cap) && !copy_array(v, item_bytes, cap, err)) {
		return false;
	}
	v->array->end = v->end = (int)need;
	return true;
}

static void view_append(struct timeline_view *v, size_t item_bytes, const void *items, int n) {
	assert(n <= v->end - v->n);
	memcpy(v->array->items + (size_t)v->n * item_bytes, items, (size_t)n * item_bytes);
	v->n += n;
}

static void view_truncate(struct timeline_view *v, int n) {
	assert(n <= v->n);
	if (n < v->n) {
		v->n = v->end = n; /* the items from n on may be a fork's too */
	}
}

static void view_fork(struct timeline_view *dst, const struct timeline_view *src) {
	assert(dst->array == NULL);
	*dst = (struct timeline_view){ src->array, src->n, src->n };
	if (src->array != NULL) {
		if (src->array->n_refs == 1) {
			src->array->end = src->end; /* what lies behind was forgotten */
		}
		src->array->n_refs++;
	}
}

/* ---- tokens ---- */

void timeline_finish(struct timeline *t) {
	array_unref(t->ids.array);
	array_unref(t->segments.array);
	memset(t, 0, sizeof(*t));
}

bool timeline_reserve(struct timeline *t, int n_new, struct bb_error *err) {
	return view_reserve(&t->ids, sizeof(int32_t), n_new, err);
}

bool timeline_reserve_vectors(struct timeline *t, const int32_t *ids, int n,
	struct bb_error *err) {
	const size_t n_new = vectors_count(ids, (size_t)n);
	if (n_new == 0) {
		return true;
	}
	struct timeline_array *a = t->ids.array;
	struct held *h = &a->held;
	if (a->n_refs == 1 && h->n > 0) { /* what was forgotten */
		const size_t n_left = vectors_count(timeline_ids(t), (size_t)t->ids.n);
		vectors_ref(h->of, timeline_ids(t), (size_t)t->ids.n);
		vectors_unref(h->of, h->ids, h->n);
		for (size_t i = 0, k = 0; k < n_left; i++) {
			if (vectors_is(timeline_ids(t)[i])) {
				h->ids[k++] = timeline_ids(t)[i];
			}
		}
		h->n = n_left;
	}
	if (h->n + n_new <= h->cap) {
		return true;
	}
	const size_t cap = h->n + n_new + h->cap / 2;
	int32_t *grown = base_realloc(h->ids, cap, sizeof(*grown));
	if (grown == NULL) {
		return no_memory(cap, sizeof(*grown), err);
	}
	h->ids = grown;
	h->cap = cap;
	return true;
}

void timeline_append(struct timeline *t, const int32_t *ids, int n) {
	if (vectors_count(ids, (size_t)n) > 0) {
		hold(&t->ids.array->held, t->vectors, ids, (size_t)n);
	}
	view_append(&t->ids, sizeof(*ids), ids, n);
}

void timeline_fork(struct timeline *dst, const struct timeline *src) {
	dst->vectors = src->vectors;
	view_fork(&dst->ids, &src->ids);
	view_fork(&dst->segments, &src->segments);
}

const int32_t *timeline_ids(const struct timeline *t) {
	return t->ids.array != NULL ? (const int32_t *)t->ids.array->items : NULL;
}

/* ---- segments ---- */

static struct segment segment_at(const struct timeline *t, int i) {
	return ((const struct segment *)t->segments.array->items)[i];
}

/* How many begin before token n. */
static int n_before(const struct timeline *t, int n) {
	int n_segments = t->segments.n;
	while (n_segments > 0 && segment_at(t, n_segments - 1).first >= n) {
		n_segments--;
	}
	return n_segments;
}

void timeline_truncate(struct timeline *t, int n) {
	view_truncate(&t->ids, n);
	view_truncate(&t->segments, n_before(t, n + 1));
}

void timeline_drop_empty(struct timeline *t) {
	view_truncate(&t->segments, n_before(t, t->ids.n));
}

bool timeline_begin(struct timeline *t, int first, enum bb_role role, struct bb_error *err) {
	struct timeline_view *v = &t->segments;
	const struct timeline_view before = *v;
	const struct segment s = { first, role };
	assert(first >= 0 && first <= t->ids.n);
	assert(v->n == 0 || first >= segment_at(t, v->n - 1).first);
	view_truncate(v, n_before(t, first));
	if (!view_reserve(v, sizeof(s), 1, err)) {
		*v = before;
		return false;
	}
	view_append(v, sizeof(s), &s, 1);
	return true;
}

/* Whether there are tokens before the first segment that was begun. */
static bool has_lead(const struct timeline *t) {
	return t->ids.n > 0 && (t->segments.n == 0 || segment_at(t, 0).first > 0);
}

int timeline_n_segments(const struct timeline *t) {
	return t->segments.n + has_lead(t);
}

struct bb_segment timeline_segment(const struct timeline *t, int i) {
	assert(i >= 0 && i < timeline_n_segments(t));
	const int begun = i - has_lead(t);
	const struct segment s = begun >= 0 ? segment_at(t, begun)
		: (struct segment){ 0, BB_ROLE_NONE };
	const int end = begun + 1 < t->segments.n ? segment_at(t, begun + 1).first : t->ids.n;
	return (struct bb_segment){ s.role, s.first, end - s.first };
}
