/* SPDX-License-Identifier: Apache-2.0
 *
 * The loop that BPE and SPM share: a list of symbols in which the best adjacent pair is joined
 * until none is left. A binary heap over the pairs makes it n log n for any input. */
#ifndef MERGE_H
#define MERGE_H

#include "vocab.h"

struct merge_symbol {
	int32_t prev, next; /* -1: none */
	uint32_t start, bytes;
	int32_t id; /* -1: no token stands for it */
};

struct merge_entry {
	uint64_t key; /* smallest first */
	uint32_t bytes;
	int32_t id;
};

struct merge_heap {
	struct merge_entry *entries; /* [cap] */
	size_t n, cap;
};

struct merge_work { /* zeroed = empty */
	struct merge_symbol *symbols; /* [cap] */
	size_t n, cap;
	struct merge_heap heap;
};

void merge_finish(struct merge_work *w);
/* Room for n symbols and every pair they can make; the contents are lost. */
bool merge_reserve(struct merge_work *w, size_t n, struct bb_error *err);
bool merge_heap_reserve(struct merge_heap *h, size_t n, struct bb_error *err);

/* Four children a node: half the levels of two, and the four of 16 bytes share one cache line or
 * two. In words of a megabyte the misses are what a pop costs. */
static inline void merge_push(struct merge_heap *h, struct merge_entry e) {
	size_t i = h->n++;
	while (i > 0 && e.key < h->entries[(i - 1) / 4].key) {
		h->entries[i] = h->entries[(i - 1) / 4];
		i = (i - 1) / 4;
	}
	h->entries[i] = e;
}

static inline struct merge_entry merge_pop(struct merge_heap *h) {
	struct merge_entry *e = h->entries;
	const struct merge_entry top = e[0], last = e[--h->n];
	size_t i = 0;
	for (size_t child = 1; child < h->n; child = 4 * i + 1) {
		const size_t end = child + 4 < h->n ? child + 4 : h->n;
		for (size_t other = child + 1; other < end; other++) {
			child = e[other].key < e[child].key ? other : child;
		}
		if (last.key <= e[child].key) {
			break;
		}
		e[i] = e[child];
		i = child;
	}
	e[i] = last;
	return top;
}

static inline void merge_add(struct merge_work *w, uint32_t start, uint32_t bytes, int32_t id) {
	const int32_t i = (int32_t)w->n++;
	w->symbols[i] = (struct merge_symbol){ i - 1, i + 1, start, bytes, id };
}

/* Priority (smaller first) and id of l and r joined; false when no token stands for that. */
typedef bool merge_pair_fn(const struct tokenizer *t, const char *text,
	const struct merge_symbol *l, const struct merge_symbol *r, uint32_t *rank, int32_t *id);

static inline void merge_try(struct merge_work *w, const struct tokenizer *t, const char *text,
	int32_t left, merge_pair_fn *pair) {
	const struct merge_symbol *l = &w->symbols[left], *r = &w->symbols[l->next];
	uint32_t rank;
	int32_t id;
	if (pair(t, text, l, r, &rank, &id)) {
		merge_push(&w->heap, (struct merge_entry){
			(uint64_t)rank << 32 | (uint32_t)left, l->bytes + r->bytes, id });
	}
}

/* Joins the best pairs, leftmost first among equals. An entry is out of date when its left symbol
 * was consumed or the two no longer have the length they had: symbols only ever grow. Every symbol
 * makes at most two entries of each merge and each merge removes one, so 2n entries are enough. */
static inline void merge_run(struct merge_work *w, const struct tokenizer *t, const char *text,
	merge_pair_fn *pair) {
	w->symbols[w->n - 1].next = -1;
	w->heap.n = 0;
	for (size_t i = 0; i + 1 < w->n; i++) {
		merge_try(w, t, text, (int32_t)i, pair);
	}
	while (w->heap.n > 0) {
		const struct merge_entry e = merge_pop(&w->heap);
		const int32_t left = (int32_t)(uint32_t)e.key;
		struct merge_symbol *l = &w->symbols[left];
		if (l->bytes == 0 || l->next < 0 || l->bytes + w->symbols[l->next].bytes != e.bytes) {
			continue;
		}
		struct merge_symbol *r = &w->symbols[l->next];
		l->bytes = e.bytes;
		l->id = e.id;
		l->next = r->next;
		r->bytes = 0;
		if (l->next >= 0) {
			w->symbols[l->next].prev = left;
			merge_try(w, t, text, left, pair);
		}
		if (l->prev >= 0) {
			merge_try(w, t, text, l->prev, pair);
		}
	}
}

#endif
