/* SPDX-License-Identifier: Apache-2.0
 *
 * Building, measuring, cutting and searching strings. */
#include "template/text.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <utf8proc.h>

struct text_room {
	char *data; /* [cap] */
	size_t used, cap;
};

/* ---- building ---- */

static char *make_room(struct job *j, struct out *o, size_t bytes) {
	if (bytes > JOB_MAX_OUTPUT || o->bytes + bytes > JOB_MAX_OUTPUT) {
		job_fail(j, "a text longer than %zu MiB is made", JOB_MAX_OUTPUT >> 20);
	}
	const size_t need = o->bytes + bytes;
	if (need > o->cap || o->data == NULL) {
		const size_t cap = need + need / 2 + 48;
		o->data = job_grow(j, o->data, o->bytes, cap);
		o->cap = cap;
	}
	return o->data + o->bytes;
}

void out_bytes(struct job *j, struct out *o, const char *data, size_t bytes) {
	char *at = make_room(j, o, bytes);
	if (bytes > 0) {
		memcpy(at, data, bytes);
	}
	o->bytes += bytes;
	job_work_bytes(j, bytes);
}

void out_text(struct job *j, struct out *o, const char *s) {
	out_bytes(j, o, s, strlen(s));
}

void out_string(struct job *j, struct out *o, const struct string *s) {
	out_bytes(j, o, s->data, s->bytes);
}

void out_char(struct job *j, struct out *o, uint32_t c) {
	utf8proc_uint8_t *at = (utf8proc_uint8_t *)make_room(j, o, 4);
	o->bytes += (size_t)utf8proc_encode_char((utf8proc_int32_t)c, at);
}

void out_fill(struct job *j, struct out *o, uint32_t c, size_t n) {
	for (size_t i = 0; i < n; i++) {
		out_char(j, o, c);
	}
	job_work_bytes(j, n);
}

void out_format(struct job *j, struct out *o, const char *fmt, ...) {
	char buf[512];
	va_list args;
	va_start(args, fmt);
	const int n = vsnprintf(buf, sizeof(buf), fmt, args);
	va_end(args);
	if (n > 0) {
		out_bytes(j, o, buf, (size_t)n < sizeof(buf) ? (size_t)n : sizeof(buf) - 1);
	}
}

struct string *out_done(struct job *j, const struct out *o) {
	return text_view(j, o->data == NULL ? "" : o->data, o->bytes);
}

/* ---- measuring ---- */

size_t text_count(const char *data, size_t bytes) {
	size_t n = 0;
	for (size_t i = 0; i < bytes; i++) {
		n += ((unsigned char)data[i] & 0xC0) != 0x80;
	}
	return n;
}

struct string *text_view(struct job *j, const char *data, size_t bytes) {
	struct string *s = job_alloc(j, 1, sizeof(*s));
	s->data = data;
	s->bytes = bytes;
	s->chars = text_count(data, bytes);
	return s;
}

struct string *text_copy(struct job *j, const char *data, size_t bytes) {
	char *copy = job_alloc(j, bytes, 1);
	if (bytes > 0) {
		memcpy(copy, data, bytes);
	}
	return text_view(j, copy, bytes);
}

struct string *text_literal(struct job *j, const char *s) {
	return text_view(j, s, strlen(s));
}

bool text_is_valid(const char *data, size_t bytes) {
	const utf8proc_uint8_t *s = (const utf8proc_uint8_t *)data;
	for (size_t i = 0; i < bytes;) {
		if (s[i] < 0x80) {
			i++;
			continue;
		}
		utf8proc_int32_t c;
		const utf8proc_ssize_t n = utf8proc_iterate(s + i, (utf8proc_ssize_t)(bytes - i), &c);
		if (n <= 0) {
			return false;
		}
		i += (size_t)n;
	}
	return true;
}

uint32_t text_next(const char *s, const char *end, size_t *bytes) {
	if ((unsigned char)*s < 0x80) {
		*bytes = 1;
		return (unsigned char)*s;
	}
	utf8proc_int32_t c;
	const utf8proc_ssize_t n = utf8proc_iterate((const utf8proc_uint8_t *)s, end - s, &c);
	*bytes = n > 0 ? (size_t)n : 1;
	return n > 0 ? (uint32_t)c : 0xFFFD;
}

size_t text_offset(const struct string *s, size_t i) {
	if (s->chars == s->bytes || i == 0) {
		return i;
	}
	if (i >= s->chars) {
		return s->bytes;
	}
	size_t at = 0;
	for (size_t left = i + 1; at < s->bytes; at++) {
		if (((unsigned char)s->data[at] & 0xC0) != 0x80 && --left == 0) {
			break;
		}
	}
	return at;
}

bool text_equal(const struct string *a, const struct string *b) {
	return a == b || (a->bytes == b->bytes && memcmp(a->data, b->data, a->bytes) == 0);
}

bool text_is(const struct string *a, const char *s) {
	return a->bytes == strlen(s) && memcmp(a->data, s, a->bytes) == 0;
}

int text_compare(const struct string *a, const struct string *b) {
	const size_t n = a->bytes < b->bytes ? a->bytes : b->bytes;
	const int order = memcmp(a->data, b->data, n);
	return order != 0 ? order : (a->bytes > b->bytes) - (a->bytes < b->bytes);
}

/* FNV-1a. */
uint64_t text_hash(const struct string *s) {
	uint64_t h = 0xcbf29ce484222325u;
	for (size_t i = 0; i < s->bytes; i++) {
		h = (h ^ (unsigned char)s->data[i]) * 0x100000001b3u;
	}
	return h ^ (h >> 29);
}

/* ---- cutting and joining ---- */

static struct string *append_in_room(struct job *j, const struct string *a,
	const struct string *b) {
	struct text_room *room = a->room;
	if (b->bytes > 0) {
		memcpy(room->data + room->used, b->data, b->bytes);
	}
	room->used += b->bytes;
	struct string *s = job_alloc(j, 1, sizeof(*s));
	s->data = a->data;
	s->bytes = a->bytes + b->bytes;
	s->chars = a->chars + b->chars;
	s->room = room;
	return s;
}

struct string *text_concat(struct job *j, const struct string *a, const struct string *b) {
	job_work_bytes(j, b->bytes);
	struct text_room *room = a->room;
	if (room != NULL && a->data + a->bytes == room->data + room->used
			&& room->cap - room->used >= b->bytes) {
		return append_in_room(j, a, b);
	}
	job_work_bytes(j, a->bytes);
	const size_t bytes = a->bytes + b->bytes;
	if (bytes > JOB_MAX_OUTPUT) {
		job_fail(j, "a text longer than %zu MiB is made", JOB_MAX_OUTPUT >> 20);
	}
	room = job_alloc(j, 1, sizeof(*room));
	room->cap = bytes < 128 ? bytes : 2 * bytes;
	room->data = job_alloc(j, room->cap, 1);
	if (a->bytes > 0) {
		memcpy(room->data, a->data, a->bytes);
	}
	room->used = a->bytes;
	const struct string start = { .data = room->data, .bytes = a->bytes, .chars = a->chars,
		.room = room };
	return append_in_room(j, &start, b);
}

struct string *text_repeat(struct job *j, const struct string *s, int64_t times) {
	struct out o = { 0 };
	if (times > 0 && s->bytes > 0) {
		size_t bytes;
		if (!base_mul(s->bytes, (size_t)times, &bytes)) {
			bytes = SIZE_MAX;
		}
		make_room(j, &o, bytes);
		for (int64_t i = 0; i < times; i++) {
			out_string(j, &o, s);
		}
	}
	return out_done(j, &o);
}

struct string *text_slice(struct job *j, const struct string *s, size_t start, size_t end) {
	job_work_bytes(j, s->chars == s->bytes ? 0 : s->bytes);
	const size_t from = text_offset(s, start);
	const size_t to = text_offset(s, end);
	return text_view(j, s->data + from, to > from ? to - from : 0);
}

int64_t text_find(struct job *j, const struct string *s, const struct string *what, size_t from,
	size_t to) {
	job_work_bytes(j, to > from ? to - from : 0);
	if (from > to || what->bytes > to - from) {
		return -1;
	}
	if (what->bytes == 0) {
		return (int64_t)from;
	}
	const char *hit = memmem(s->data + from, to - from, what->data, what->bytes);
	return hit == NULL ? -1 : hit - s->data;
}

int64_t text_rfind(struct job *j, const struct string *s, const struct string *what, size_t from,
	size_t to) {
	job_work_bytes(j, to > from ? to - from : 0);
	if (from > to || what->bytes > to - from) {
		return -1;
	}
	for (size_t at = to - what->bytes + 1; at-- > from;) {
		if (what->bytes == 0 || s->data[at] == what->data[0]) {
			job_work_bytes(j, what->bytes);
			if (memcmp(s->data + at, what->data, what->bytes) == 0) {
				return (int64_t)at;
			}
		}
	}
	return -1;
}

static bool is_among(uint32_t c, const struct string *chars) {
	if (chars == NULL) {
		return char_is_space(c);
	}
	size_t n;
	for (const char *s = chars->data, *end = s + chars->bytes; s < end; s += n) {
		if (text_next(s, end, &n) == c) {
			return true;
		}
	}
	return false;
}

struct string *text_strip(struct job *j, const struct string *s, const struct string *chars,
	enum text_side side) {
	const char *from = s->data;
	const char *to = s->data + s->bytes;
	size_t n;
	const size_t cost = chars == NULL ? 1 : chars->bytes / 16 + 1;
	while (side & TEXT_LEFT && from < to && is_among(text_next(from, to, &n), chars)) {
		job_work(j, cost);
		from += n;
	}
	while (side & TEXT_RIGHT && from < to) {
		const char *last = to - 1;
		while (last > from && ((unsigned char)*last & 0xC0) == 0x80) {
			last--;
		}
		job_work(j, cost);
		if (!is_among(text_next(last, to, &n), chars)) {
			break;
		}
		to = last;
	}
	return text_view(j, from, (size_t)(to - from));
}

struct string *text_escape(struct job *j, const struct string *s) {
	struct out o = { 0 };
	for (size_t i = 0; i < s->bytes; i++) {
		switch (s->data[i]) {
		case '&': out_text(j, &o, "&amp;"); break;
		case '<': out_text(j, &o, "&lt;"); break;
		case '>': out_text(j, &o, "&gt;"); break;
		case '\'': out_text(j, &o, "&#39;"); break;
		case '"': out_text(j, &o, "&#34;"); break;
		default: out_bytes(j, &o, s->data + i, 1); break;
		}
	}
	struct string *escaped = out_done(j, &o);
	escaped->is_safe = true;
	return escaped;
}
