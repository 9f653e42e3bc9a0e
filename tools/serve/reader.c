/* SPDX-License-Identifier: Apache-2.0
 *
 * A machine over the text that is held back: as little as may still turn out to be a mark, and the
 * blanks before it. */
#include "reader.h"

#include "ration.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

struct job {
	struct reader *r;
	bool is_last;
	part_fn *fn;
	void *user;
};

static void set_mark(char mark[READER_MARK], const char *text) {
	const size_t n = text != NULL ? strlen(text) : 0;
	assert(n < READER_MARK);
	memcpy(mark, text != NULL ? text : "", n + 1);
}

void reader_init(struct reader *r, const struct tool_format *tools, const json_t *known,
	const struct bb_thinking *thinking) {
	const bool reasons = thinking->end != NULL, is_inside = reasons && thinking->starts_inside;
	*r = (struct reader){ .tools = tools, .known = known, .at_start = true,
		.state = is_inside ? READER_THINKING
			: reasons && thinking->begin != NULL ? READER_START : READER_CONTENT,
		.skips_blanks = is_inside };
	set_mark(r->think, thinking->begin);
	set_mark(r->end_think, thinking->end);
}

void reader_finish(struct reader *r) {
	buf_finish(&r->held);
}

static size_t n_blanks(const struct reader *r) {
	return strspn(buf_string(&r->held), " \t\r\n");
}

/* Bytes at the end of the held text that may begin the mark, and the blanks before them. */
static size_t n_open(const struct reader *r, const char *mark) {
	const size_t whole = strlen(mark), bytes = r->held.bytes;
	size_t n = whole - 1 < bytes ? whole - 1 : bytes;
	while (n > 0 && memcmp(r->held.data + bytes - n, mark, n) != 0) {
		n--;
	}
	while (n < bytes && strchr(" \t\r\n", r->held.data[bytes - n - 1]) != NULL) {
		n++;
	}
	return n;
}

static void give(const struct job *j, enum part_kind kind, size_t bytes) {
	if (bytes > 0) {
		j->fn(j->user, &(struct part){ kind, j->r->held.data, bytes, NULL });
		buf_drop(&j->r->held, bytes);
	}
}

/* Gives out what comes before the mark, and takes both off; false: it isn't there (yet), and what
 * can't belong to it has been given out. */
static bool give_until(const struct job *j, enum part_kind kind, const char *mark) {
	struct reader *r = j->r;
	const char *found = r->held.bytes > 0
		? memmem(r->held.data, r->held.bytes, mark, strlen(mark)) : NULL;
	if (found == NULL) {
		give(j, kind, r->held.bytes - (j->is_last ? 0 : n_open(r, mark)));
		return false;
	}
	const size_t at = (size_t)(found - r->held.data);
	size_t n = at;
	while (n > 0 && strchr(" \t\r\n", r->held.data[n - 1]) != NULL) {
		n--;
	}
	give(j, kind, n);
	buf_drop(&r->held, at - n + strlen(mark));
	return true;
}

/* -1: not yet known. */
static int begins_with(const struct job *j, size_t skip, const char *mark) {
	const size_t bytes = j->r->held.bytes - skip, n = strlen(mark);
	const char *text = buf_string(&j->r->held) + skip;
	if (bytes >= n) {
		return memcmp(text, mark, n) == 0;
	}
	return j->is_last || memcmp(text, mark, bytes) != 0 ? 0 : -1;
}

/* ---- calls ---- */

static void give_calls(const struct job *j, const json_t *calls) {
	size_t i;
	const json_t *call;
	json_array_foreach(calls, i, call) {
		char *text = json_dumps(json_object_get(call, "arguments"), 0);
		if (text == NULL) {
			j->r->held.has_failed = true;
			return;
		}
		j->r->n_calls++;
		j->fn(j->user, &(struct part){ PART_CALL, text, strlen(text),
			json_string_value(json_object_get(call, "name")) });
		ration_free_text(text);
	}
}

static bool is_known(const struct reader *r, const json_t *name) {
	size_t i;
	const json_t *tool;
	json_array_foreach(r->known, i, tool) {
		if (json_equal(json_object_get(json_object_get(tool, "function"), "name"), name)) {
			return true;
		}
	}
	return false;
}

/* Without marks a text that looks like calls may be just that: a text. */
static bool are_known(const struct reader *r, const json_t *calls) {
	size_t i;
	const json_t *call;
	json_array_foreach(calls, i, call) {
		if (!is_known(r, json_object_get(call, "name"))) {
			return false;
		}
	}
	return true;
}

/* What strict_structure holds to the tools' schemas, and no other object that happens to read as a
 * call. */
static bool begins_as_call(const struct reader *r, size_t n) {
	static const char name[] = "\"name\"";
	const char *text = buf_string(&r->held);
	const char *quote = n > 0 ? memchr(text, '"', n) : NULL;
	return !r->is_strict || r->tools->starts[0][0] != '{' ||
		(quote != NULL && (size_t)(text + n - quote) >= sizeof(name) &&
		memcmp(quote, name, sizeof(name) - 1) == 0);
}

/* The first n bytes of what is held as calls; what isn't any is content, marks and all. */
static void read_calls(const struct job *j, size_t n, bool has_begin, bool has_end) {
	struct reader *r = j->r;
	const struct tool_format *f = r->tools;
	json_t *calls = f->read(buf_string(&r->held), n);
	const char *brace = has_begin && n > 0 ? memrchr(r->held.data, '}', n) : NULL;
	if (calls == NULL && brace != NULL) { /* what models write behind a whole one is left out */
		calls = f->read(r->held.data, (size_t)(brace + 1 - r->held.data));
	}
	if (calls != NULL && !has_begin && (!are_known(r, calls) || !begins_as_call(r, n))) {
		json_decref(calls);
		calls = NULL;
	}
	if (calls != NULL) {
		give_calls(j, calls);
		json_decref(calls);
		buf_drop(&r->held, n);
	} else {
		if (has_begin) {
			j->fn(j->user, &(struct part){ PART_CONTENT, f->begin, strlen(f->begin), NULL });
		}
		give(j, PART_CONTENT, n);
		if (has_end) {
			j->fn(j->user, &(struct part){ PART_CONTENT, f->end, strlen(f->end), NULL });
		}
	}
	buf_drop(&r->held, has_end ? strlen(f->end) : 0);
	r->skips_blanks = calls != NULL;
	r->state = READER_CONTENT;
	r->at_start = false;
}

/* ---- states; each says whether the machine goes on ---- */

static bool start(const struct job *j) {
	struct reader *r = j->r;
	const size_t skip = n_blanks(r);
	const int is_think = begins_with(j, skip, r->think);
	if (is_think < 0) {
		return false;
	}
	if (is_think) {
		buf_drop(&r->held, skip + strlen(r->think));
	}
	r->state = is_think ? READER_THINKING : READER_CONTENT;
	r->skips_blanks = is_think;
	return true;
}

static bool think(const struct job *j) {
	if (!give_until(j, PART_REASONING, j->r->end_think)) {
		return false;
	}
	j->r->state = READER_CONTENT;
	j->r->skips_blanks = true;
	return true;
}

static bool write_content(const struct job *j) {
	struct reader *r = j->r;
	const struct tool_format *f = r->tools;
	if (f == NULL) {
		give(j, PART_CONTENT, r->held.bytes);
		return false;
	}
	for (int i = 0; r->at_start && i < TOOL_FORMAT_WORDS && f->starts[i] != NULL; i++) {
		const int is_start = begins_with(j, n_blanks(r), f->starts[i]);
		if (is_start != 0) {
			r->state = is_start > 0 ? READER_WHOLE : r->state;
			return is_start > 0;
		}
	}
	r->at_start = false;
	if (f->begin == NULL) {
		give(j, PART_CONTENT, r->held.bytes);
		return false;
	}
	if (!give_until(j, PART_CONTENT, f->begin)) {
		return false;
	}
	r->state = READER_CALL;
	return true;
}

static bool call(const struct job *j) {
	struct reader *r = j->r;
	const char *end = r->tools->end;
	const char *found = end != NULL && r->held.bytes > 0
		? memmem(r->held.data, r->held.bytes, end, strlen(end)) : NULL;
	if (found == NULL && !j->is_last) {
		return false;
	}
	read_calls(j, found != NULL ? (size_t)(found - r->held.data) : r->held.bytes, true,
		found != NULL);
	return r->held.bytes > 0;
}

static bool step(const struct job *j) {
	struct reader *r = j->r;
	if (r->skips_blanks) {
		buf_drop(&r->held, n_blanks(r));
		r->skips_blanks = r->held.bytes == 0;
	}
	switch (r->state) {
	case READER_START:
		return start(j);
	case READER_THINKING:
		return think(j);
	case READER_CONTENT:
		return r->held.bytes > 0 && write_content(j);
	case READER_CALL:
		return call(j);
	case READER_WHOLE:
		if (j->is_last) {
			read_calls(j, r->held.bytes, false, false);
		}
		return false;
	}
	return false;
}

void reader_feed(struct reader *r, const char *text, size_t bytes, bool is_last, part_fn *fn,
	void *user) {
	const struct job j = { r, is_last, fn, user };
	buf_add(&r->held, text, bytes);
	while (step(&j)) {
	}
}
