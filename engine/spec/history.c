/* SPDX-License-Identifier: Apache-2.0
 *
 * Texts by salt, in a list that the last use orders. */
#include "history.h"

#include <assert.h>
#include <string.h>

/* Salts that are known, whatever little each has. */
enum { MAX_SALTS = 1024, LEAST_TOKENS = 256 };

void spec_history_init(struct history *h, size_t max_bytes) {
	*h = (struct history){ .max_bytes = max_bytes };
}

static size_t bytes_of(const struct history_texts *t) {
	return sizeof(*t) + strlen(t->salt) + 1 + spec_index_bytes(&t->index);
}

static void destroy(struct history *h, struct history_texts **link) {
	struct history_texts *t = *link;
	*link = t->next;
	h->bytes -= bytes_of(t);
	h->n--;
	spec_index_finish(&t->index);
	base_free(t->salt);
	base_free(t);
}

void spec_history_finish(struct history *h) {
	while (h->first != NULL) {
		assert(h->first->n_users == 0);
		destroy(h, &h->first);
	}
}

/* The last one that nobody has; NULL: there is none. */
static struct history_texts **oldest(struct history *h) {
	struct history_texts **found = NULL;
	for (struct history_texts **link = &h->first; *link != NULL; link = &(*link)->next) {
		found = (*link)->n_users == 0 ? link : found;
	}
	return found;
}

static void evict(struct history *h) {
	while (h->bytes > h->max_bytes || h->n > MAX_SALTS) {
		struct history_texts **last = oldest(h);
		if (last == NULL) {
			return;
		}
		destroy(h, last);
	}
}

/* The largest power of two of tokens whose index stays within half of the limit. */
static size_t most_tokens(const struct history *h) {
	size_t n = LEAST_TOKENS;
	while (2 * n * (1 + SPEC_GRAMS) * sizeof(int32_t) <= h->max_bytes / 2) {
		n *= 2;
	}
	return n;
}

static struct history_texts *create(struct history *h, const char *salt) {
	struct history_texts *t = base_alloc(1, sizeof(*t));
	char *copy = t != NULL ? base_strdup(salt) : NULL;
	if (copy == NULL) {
		base_free(t);
		return NULL;
	}
	t->salt = copy;
	spec_index_init(&t->index, most_tokens(h));
	h->bytes += bytes_of(t);
	h->n++;
	return t;
}

struct history_texts *spec_history_get(struct history *h, const char *salt) {
	struct history_texts **link = &h->first;
	while (*link != NULL && strcmp((*link)->salt, salt) != 0) {
		link = &(*link)->next;
	}
	struct history_texts *t = *link;
	if (t != NULL) {
		*link = t->next;
	} else {
		t = create(h, salt);
	}
	if (t != NULL) {
		t->next = h->first;
		h->first = t;
		t->n_users++;
	}
	return t;
}

void spec_history_put(struct history *h, struct history_texts *t) {
	if (t != NULL) {
		t->n_users--;
		evict(h);
	}
}

void spec_history_add(struct history *h, struct history_texts *t, const int32_t *ids, size_t n) {
	static const int32_t end = -1;
	const size_t before = bytes_of(t);
	if (h->max_bytes > 0 && n > 0) {
		spec_index_add(&t->index, ids, n);
		spec_index_add(&t->index, &end, 1);
		h->bytes += bytes_of(t) - before;
	}
}
