/* SPDX-License-Identifier: Apache-2.0
 *
 * Marks in tokens: one automaton a mark, a place a text. */
#include "marks.h"

#include <string.h>

static void find_borders(struct mark *m) {
	size_t n = 0;
	m->border[0] = m->border[1] = 0;
	for (size_t i = 1; i < m->bytes; i++) {
		while (n > 0 && m->text[i] != m->text[n]) {
			n = m->border[n];
		}
		n += m->text[i] == m->text[n];
		m->border[i + 1] = n;
	}
}

bool mark_init(struct mark *m, const char *text, size_t bytes, struct bb_error *err) {
	*m = (struct mark){ .bytes = bytes, .text = base_strndup(text, bytes),
		.border = base_alloc(bytes + 1, sizeof(*m->border)) };
	if (m->text == NULL || m->border == NULL) {
		mark_finish(m);
		return base_no_memory(err, "mark", bytes * sizeof(*m->border));
	}
	find_borders(m);
	return true;
}

void mark_finish(struct mark *m) {
	base_free(m->text);
	base_free(m->border);
	*m = (struct mark){ 0 };
}

bool mark_place_init(struct mark_place *at, size_t bytes, struct bb_error *err) {
	*at = (struct mark_place){ .token_of = base_alloc(bytes, sizeof(*at->token_of)) };
	return at->token_of != NULL || base_no_memory(err, "mark", bytes * sizeof(*at->token_of));
}

void mark_place_finish(struct mark_place *at) {
	base_free(at->token_of);
	*at = (struct mark_place){ 0 };
}

/* The first `by` of the bytes aren't the mark's beginning. */
static void shift(struct mark_place *at, size_t by) {
	at->n -= by;
	memmove(at->token_of, at->token_of + by, at->n * sizeof(*at->token_of));
}

bool mark_follow(const struct mark *m, struct mark_place *at, const char *token, size_t bytes) {
	const int index = at->n_seen++;
	for (size_t i = 0; i < bytes && m->bytes > 0; i++) {
		while (at->n > 0 && token[i] != m->text[at->n]) {
			shift(at, at->n - m->border[at->n]);
		}
		if (token[i] == m->text[at->n]) {
			at->token_of[at->n++] = index;
		}
		if (at->n == m->bytes) {
			at->first = at->token_of[0];
			at->n = 0;
			return true;
		}
	}
	at->first = at->n > 0 ? at->token_of[0] : at->n_seen;
	return false;
}

void mark_forget(struct mark_place *at) {
	at->n = 0;
	at->first = at->n_seen;
}
