/* SPDX-License-Identifier: Apache-2.0
 *
 * Kept as text, so that its size is known and no two threads share a value. */
#include "store.h"

#include "buf.h"
#include "ration.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void store_init(struct store *s, int max_n, size_t max_bytes) {
	*s = (struct store){ .max_n = max_n, .max_bytes = max_bytes };
	pthread_mutex_init(&s->lock, NULL);
	s->items = calloc((size_t)max_n + 1, sizeof(*s->items));
	s->max_n = s->items != NULL ? max_n : 0;
}

void store_finish(struct store *s) {
	for (int i = 0; i < s->n; i++) {
		free(s->items[i].data);
	}
	free(s->items);
	pthread_mutex_destroy(&s->lock);
	memset(s, 0, sizeof(*s));
}

static void drop(struct store *s, int i) {
	s->bytes -= s->items[i].bytes;
	free(s->items[i].data);
	s->items[i] = s->items[--s->n];
}

static int oldest(const struct store *s) {
	int best = 0;
	for (int i = 1; i < s->n; i++) {
		best = s->items[i].used < s->items[best].used ? i : best;
	}
	return best;
}

static int find(const struct store *s, const char *id) {
	int i = 0;
	while (i < s->n && strcmp(s->items[i].id, id) != 0) {
		i++;
	}
	return i < s->n ? i : -1;
}

void store_put(struct store *s, const char *id, const json_t *messages, const json_t *response,
	const json_t *input) {
	struct buf text = { 0 };
	buf_json_take(&text, json_pack("{s:O, s:O, s:O}", "messages", messages, "response", response,
		"input", input));
	const bool is_whole = !text.has_failed && !ration_has_gap();
	const size_t bytes = text.bytes;
	char *data = buf_release(&text);
	pthread_mutex_lock(&s->lock);
	if (!is_whole || data == NULL || bytes > s->max_bytes || s->max_n == 0) {
		pthread_mutex_unlock(&s->lock);
		free(data);
		return;
	}
	while (s->n == s->max_n || s->bytes + bytes > s->max_bytes) {
		drop(s, oldest(s));
	}
	struct stored *item = &s->items[s->n++];
	*item = (struct stored){ .data = data, .bytes = bytes, .used = ++s->now };
	snprintf(item->id, sizeof(item->id), "%s", id);
	s->bytes += bytes;
	pthread_mutex_unlock(&s->lock);
}

json_t *store_get(struct store *s, const char *id) {
	json_t *both = NULL;
	pthread_mutex_lock(&s->lock);
	const int i = find(s, id);
	if (i >= 0 && ration_take(2 * s->items[i].bytes)) { /* what is made of it, as of a body */
		s->items[i].used = ++s->now;
		both = json_loadb(s->items[i].data, s->items[i].bytes,
			JSON_ALLOW_NUL, NULL); /* a model may write it */
	}
	pthread_mutex_unlock(&s->lock);
	return both;
}

bool store_delete(struct store *s, const char *id) {
	pthread_mutex_lock(&s->lock);
	const int i = find(s, id);
	if (i >= 0) {
		drop(s, i);
	}
	pthread_mutex_unlock(&s->lock);
	return i >= 0;
}
