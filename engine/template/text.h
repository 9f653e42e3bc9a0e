/* SPDX-License-Identifier: Apache-2.0
 *
 * Strings as Python sees them: immutable, measured in code points; stored as UTF-8 in the arena of
 * a job. Case, classes of characters and searching; nothing here knows values. */
#ifndef TEMPLATE_TEXT_H
#define TEMPLATE_TEXT_H

#include "template/job.h"

struct text_room;

struct string {
	const char *data; /* [bytes], valid UTF-8, not NUL-terminated */
	size_t bytes;
	size_t chars;           /* code points */
	struct text_room *room; /* NULL, or memory behind the string that an append may use */
	bool is_safe;           /* Markup: escaping leaves it alone */
};

/* Text under construction; zeroed = empty. */
struct out {
	char *data; /* [bytes] */
	size_t bytes, cap;
};

void out_bytes(struct job *j, struct out *o, const char *data, size_t bytes);
void out_text(struct job *j, struct out *o, const char *s);
void out_string(struct job *j, struct out *o, const struct string *s);
void out_char(struct job *j, struct out *o, uint32_t c);
void out_fill(struct job *j, struct out *o, uint32_t c, size_t n);
void out_format(struct job *j, struct out *o, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));
/* The finished text (not copied). */
struct string *out_done(struct job *j, const struct out *o);

/* A string over data[bytes], which must stay; the text must be UTF-8. */
struct string *text_view(struct job *j, const char *data, size_t bytes);
struct string *text_copy(struct job *j, const char *data, size_t bytes);
struct string *text_literal(struct job *j, const char *s);
/* data[bytes] is valid UTF-8 without surrogates. */
bool text_is_valid(const char *data, size_t bytes);

/* The code point at s (end > s), and the bytes it takes. */
uint32_t text_next(const char *s, const char *end, size_t *bytes);
/* Offset in bytes of code point i <= s->chars. */
size_t text_offset(const struct string *s, size_t i);
/* Code points in data[bytes]. */
size_t text_count(const char *data, size_t bytes);

bool text_equal(const struct string *a, const struct string *b);
bool text_is(const struct string *a, const char *s);
int text_compare(const struct string *a, const struct string *b); /* by code points */
uint64_t text_hash(const struct string *s);

/* Left to right; appends to a's own room where it can, so that x = x + y in a loop is linear. */
struct string *text_concat(struct job *j, const struct string *a, const struct string *b);
struct string *text_repeat(struct job *j, const struct string *s, int64_t times);
/* Code points [start, end). */
struct string *text_slice(struct job *j, const struct string *s, size_t start, size_t end);
/* Byte offset of the first (last) occurrence in bytes [from, to), or -1. */
int64_t text_find(struct job *j, const struct string *s, const struct string *what, size_t from,
	size_t to);
int64_t text_rfind(struct job *j, const struct string *s, const struct string *what, size_t from,
	size_t to);

/* As str.isspace, .isalpha, … of one character. */
bool char_is_space(uint32_t c);
bool char_is_alpha(uint32_t c);
bool char_is_decimal(uint32_t c);
bool char_is_digit(uint32_t c);
bool char_is_numeric(uint32_t c);
bool char_is_upper(uint32_t c);
bool char_is_lower(uint32_t c);
bool char_is_title(uint32_t c);
bool char_is_printable(uint32_t c);

void out_upper(struct job *j, struct out *o, uint32_t c);
void out_title(struct job *j, struct out *o, uint32_t c);
/* c = the code point at s; text before and after it decides about a final sigma. */
void out_lower(struct job *j, struct out *o, const struct string *in, const char *s);
struct string *text_upper(struct job *j, const struct string *s);
struct string *text_lower(struct job *j, const struct string *s);
/* First character in title case, the rest in lower case. */
struct string *text_capitalize(struct job *j, const struct string *s);

enum text_side { TEXT_LEFT = 1, TEXT_RIGHT = 2, TEXT_BOTH = 3 };
/* Without characters of `chars` (NULL: white space) at the sides. */
struct string *text_strip(struct job *j, const struct string *s, const struct string *chars,
	enum text_side side);
/* HTML escapes of & < > ' ". */
struct string *text_escape(struct job *j, const struct string *s);

#endif
