/* SPDX-License-Identifier: Apache-2.0
 *
 * Finding the messages in a prompt, by the prompts of fewer messages. From the last one back to
 * what the context holds, so that a turn of a long conversation renders few of these. */
#include "parts.h"

#include "input.h"
#include "prompt.h"

#include <stdlib.h>
#include <string.h>

void parts_finish(struct parts *p) {
	free(p->items);
	memset(p, 0, sizeof(*p));
}

/* ---- finding ---- */

struct conversation {
	const struct bb_engine *engine;
	const char *source;             /* of the template, or NULL */
	json_t *messages;
	const struct bb_tokens *prompt;
	const struct bb_context *context; /* may be NULL */
	int n_common;                   /* tokens of prompt and context; not all of the prompt */
};

/* The answer comes behind the last message. */
static enum bb_role role_of(const struct conversation *v, size_t i) {
	enum bb_role role = BB_ROLE_ASSISTANT;
	const json_t *message = json_array_get(v->messages, i);
	if (message != NULL &&
		!bb_role_parse(json_string_value(json_object_get(message, "role")), &role)) {
		role = BB_ROLE_NONE;
	}
	return role;
}

static bool shows(const struct bb_text *text, const json_t *message) {
	const char *content = json_string_value(json_object_get(message, "content"));
	content += strspn(content, " \t\r\n");
	size_t bytes = strlen(content);
	while (bytes > 0 && strchr(" \t\r\n", content[bytes - 1]) != NULL) {
		bytes--;
	}
	return bytes == 0 || (text->bytes > 0 &&
		memmem(text->data, text->bytes, content, bytes) != NULL);
}

/* The prompt of the first n messages has *first tokens; -1 where the whole one doesn't begin with
 * them. */
static bool find_end(const struct conversation *v, size_t n, int *first, struct bb_error *err) {
	struct bb_text text = { 0 };
	struct bb_tokens tokens = { 0 };
	struct bb_error problem = { 0 };
	json_t *some = json_array();
	bool has_all = some != NULL;
	for (size_t i = 0; has_all && i < n; i++) {
		has_all = json_array_append(some, json_array_get(v->messages, i)) == 0;
	}
	if (!has_all) {
		json_decref(some);
		return input_fail(err, BB_ERR_MEMORY, "no memory for the parts of a prompt");
	}
	const bool ok = prompt_chat(v->engine, v->source, some, false, &text, &tokens, &problem);
	const bool is_beginning = ok && tokens.n <= v->prompt->n && (tokens.n == 0 ||
		memcmp(tokens.ids, v->prompt->ids, tokens.n * sizeof(tokens.ids[0])) == 0);
	const bool is_told = role_of(v, n - 1) != BB_ROLE_SYSTEM ||
		!prompt_has_template(v->engine, v->source) ||
		shows(&text, json_array_get(v->messages, n - 1));
	*first = is_beginning && is_told ? (int)tokens.n : -1;
	json_decref(some);
	bb_tokens_finish(&tokens);
	bb_text_finish(&text);
	if (!ok && problem.code == BB_ERR_MEMORY) {
		*err = problem;
		return false;
	}
	return true; /* a template may refuse a part of a conversation */
}

/* The context's segment that begins at this token; its number of segments where none does. */
static int segment_at(const struct conversation *v, int first) {
	const int n = v->context != NULL ? bb_context_n_segments(v->context) : 0;
	int i = n - 1;
	while (i >= 0 && bb_context_segment(v->context, i).first > first) {
		i--;
	}
	return i >= 0 && bb_context_segment(v->context, i).first == first ? i : n;
}

static bool holds(const struct conversation *v, const struct part *part) {
	const int i = segment_at(v, part->first);
	return part->first < v->n_common && i < bb_context_n_segments(v->context) &&
		bb_context_segment(v->context, i).role == part->role;
}

static bool find(struct parts *p, const struct conversation *v, struct bb_error *err) {
	const size_t n = json_array_size(v->messages);
	parts_finish(p);
	p->items = calloc(n + 1, sizeof(*p->items));
	if (p->items == NULL) {
		return input_fail(err, BB_ERR_MEMORY, "no memory for the parts of a prompt");
	}
	bool is_held = false;
	size_t at = n + 1;
	for (size_t i = n + 1; i-- > 0 && !is_held;) {
		struct part part = { .role = role_of(v, i) };
		if (i > 0 && !find_end(v, i, &part.first, err)) {
			return false;
		}
		/* What a template writes nothing for is no part. */
		if (part.first >= 0 && (at > n || part.first < p->items[at].first)) {
			p->items[--at] = part;
			is_held = holds(v, &part);
		}
	}
	p->n = n + 1 - at;
	memmove(p->items, p->items + at, p->n * sizeof(*p->items));
	return true;
}

bool parts_find(struct parts *p, const struct bb_engine *e, const char *source, json_t *messages,
	const struct bb_tokens *prompt, struct bb_error *err) {
	const struct conversation v = { e, source, messages, prompt, NULL, 0 };
	return find(p, &v, err);
}

/* ---- keeping ---- */

static int count_common(const struct bb_context *c, const struct bb_tokens *prompt) {
	const int32_t *held = bb_context_tokens(c);
	const int length = bb_context_length(c);
	int n = 0;
	while (n < length && (size_t)n + 1 < prompt->n && held[n] == prompt->ids[n]) {
		n++;
	}
	return n;
}

/* How many of the common tokens are cut into the same segments. Parts and segments are in step
 * from the first part on: it is one that the context holds, or begins at token 0. */
static int count_agreed(const struct parts *p, const struct conversation *v) {
	const int n_segments = bb_context_n_segments(v->context);
	int n = v->n_common, s = segment_at(v, p->items[0].first);
	size_t i = 0;
	while (i < p->n && s < n_segments) {
		const struct bb_segment held = bb_context_segment(v->context, s);
		if (held.first != p->items[i].first || held.role != p->items[i].role) {
			break;
		}
		i++;
		s++;
	}
	if (i < p->n && p->items[i].first < n) {
		n = p->items[i].first;
	}
	if (s < n_segments && bb_context_segment(v->context, s).first < n) {
		n = bb_context_segment(v->context, s).first;
	}
	return n;
}

bool parts_keep(struct parts *p, struct bb_context *c, const struct bb_engine *e,
	const char *source, json_t *messages, const struct bb_tokens *prompt, struct bb_error *err) {
	struct conversation v = { e, source, messages, prompt, c, count_common(c, prompt) };
	struct bb_error ignored = { 0 }; /* *err would keep it, and so hide what fails later */
	if (!find(p, &v, err)) {
		return false;
	}
	if (bb_context_rewind(c, count_agreed(p, &v), &ignored)) {
		return true;
	}
	v.n_common = 0;
	return bb_context_rewind(c, 0, err) && find(p, &v, err);
}

bool parts_begin(const struct parts *p, struct bb_context *c, int n_kept, struct bb_error *err) {
	for (size_t i = 0; i < p->n; i++) {
		if (p->items[i].first >= n_kept &&
			!bb_context_begin_segment(c, p->items[i].first, p->items[i].role, err)) {
			return false;
		}
	}
	return true;
}
