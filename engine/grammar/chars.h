/* SPDX-License-Identifier: Apache-2.0
 *
 * Characters as bytes: sets of code points as expressions, in UTF-8 or as a JSON string writes
 * them. */
#ifndef CHARS_H
#define CHARS_H

#include "expr.h"

/* How characters are written. */
enum chars_form {
	CHARS_UTF8,
	CHARS_JSON,      /* inside a JSON string, each in one way: escaped only where it must be */
	CHARS_JSON_FREE, /* ... in every way, \u0041 and surrogate pairs included */
};

/* Code points first..last, each run behind the one before it, no two touching. */
struct char_run {
	uint32_t first, last;
};
struct char_set {
	struct char_run *runs; /* [n] */
	size_t n, cap;
};

bool chars_add(struct char_set *s, uint32_t first, uint32_t last, struct bb_error *err);
bool chars_add_set(struct char_set *s, const struct char_set *more, struct bb_error *err);
/* All code points but these; surrogates are in neither. */
bool chars_invert(struct char_set *s, struct bb_error *err);
void chars_finish(struct char_set *s);

/* What \d, \w, \s and, inverted, \D, \W, \S stand for: ASCII's, and of others those that no reading
 * counts: a character that Unicode calls a digit is neither in \d nor in \D. */
bool chars_add_perl(struct char_set *s, char letter, struct bb_error *err);
/* A general category of Unicode: "L", "Lu", ...; *known: is it one? */
bool chars_add_category(struct char_set *s, const char *name, size_t bytes, bool *known,
	struct bb_error *err);

uint32_t chars_expr(struct exprs *x, const struct char_set *s, enum chars_form form);
/* One character; any character. */
uint32_t chars_one(struct exprs *x, uint32_t c, enum chars_form form);
uint32_t chars_any(struct exprs *x, enum chars_form form);
/* A text of UTF-8, character by character. */
uint32_t chars_text(struct exprs *x, const char *text, size_t bytes, enum chars_form form);
/* The code point at p, of n bytes (base_char). */
uint32_t chars_decode(const char *p, int n);

#endif
