/* SPDX-License-Identifier: Apache-2.0
 *
 * Where messages begin in a rendered prompt: where the rendering of those before them ends, as far
 * as the whole one begins with it. A few of the last ones are looked for, and the one behind the
 * first, which conversations share: earlier turns have marked the others. */
#include "marks.h"

#include "messages.h"
#include "server.h"

#include <string.h>

enum { LAST_ONES = 4 };

void marks_add(struct conversation *c, size_t first, enum bb_role role) {
	struct bb_segment_mark *before = c->n_marks > 0 ? &c->marks[c->n_marks - 1] : NULL;
	if (before != NULL && (size_t)before->first >= first) {
		before->role = (size_t)before->first == first ? role : before->role;
	} else if (c->n_marks < MOST_MARKS) {
		c->marks[c->n_marks++] = (struct bb_segment_mark){ (int)first, role };
	}
}

enum bb_role marks_role(const json_t *messages, size_t i) {
	enum bb_role role = BB_ROLE_ASSISTANT; /* the answer comes behind the last message */
	const json_t *message = json_array_get(messages, i);
	const char *name = json_string_value(json_object_get(message, "role"));
	if (message != NULL && (name == NULL || !bb_role_parse(name, &role))) {
		role = BB_ROLE_NONE;
	}
	return role;
}

/* The bytes of the whole rendering that the first n messages have; 0: it doesn't begin with
 * theirs, or the template wants more of a conversation. */
static size_t end_of(struct exchange *x, const struct conversation *c, const json_t *messages,
	size_t n) {
	struct bb_text text = { 0 };
	struct bb_error ignored = { 0 };
	json_t *some = json_array();
	bool ok = some != NULL;
	for (size_t i = 0; ok && i < n; i++) {
		ok = json_array_append(some, json_array_get(messages, i)) == 0;
	}
	ok = ok && conversation_render(x, c, some, false, &text, &ignored) &&
		text.bytes <= c->rendered.bytes && text.bytes > 0 &&
		memcmp(text.data, c->rendered.data, text.bytes) == 0;
	const size_t bytes = ok ? text.bytes : 0;
	json_decref(some);
	bb_text_finish(&text);
	return bytes;
}

struct place { /* where a message begins */
	size_t bytes;
	enum bb_role role;
};

/* Tokens at which the places are, or that they lie in. A token without bytes of the rendering, as
 * one that the tokenizer puts before all, counts for none; from where tokens spell something else
 * nothing is marked. */
static void mark(struct exchange *x, struct conversation *c, const struct place *places, int n) {
	struct bb_text piece = { 0 };
	struct bb_error ignored = { 0 };
	const struct bb_text *all = &c->rendered;
	size_t at = 0;
	int i = 0;
	for (size_t t = 0; t < c->prompt.n && i < n; t++) {
		piece.bytes = 0;
		if (!bb_detokenize(x->server->engine, &c->prompt.ids[t], 1, &piece, &ignored)) {
			break;
		}
		const bool fits = piece.bytes <= all->bytes - at && (piece.bytes == 0 ||
			memcmp(all->data + at, piece.data, piece.bytes) == 0);
		if (!fits && t > 0) {
			break;
		}
		for (; fits && i < n && places[i].bytes < at + piece.bytes; i++) {
			marks_add(c, t, places[i].role);
		}
		at += fits ? piece.bytes : 0;
	}
	if (i < n && places[i].bytes == at && at == all->bytes) {
		marks_add(c, c->prompt.n, places[i].role);
	}
	bb_text_finish(&piece);
}

void marks_find(struct exchange *x, struct conversation *c, const json_t *messages) {
	const size_t n = json_array_size(messages);
	struct place places[LAST_ONES + 2];
	int n_places = 0;
	places[n_places++] = (struct place){ 0, marks_role(messages, 0) };
	for (size_t i = 1; i <= n; i++) {
		if (i > 1 && i + LAST_ONES <= n) {
			continue;
		}
		const size_t bytes = end_of(x, c, messages, i);
		if (bytes > places[n_places - 1].bytes) {
			places[n_places++] = (struct place){ bytes, marks_role(messages, i) };
		}
	}
	mark(x, c, places, n_places);
}
