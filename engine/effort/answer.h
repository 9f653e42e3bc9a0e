/* SPDX-License-Identifier: Apache-2.0
 *
 * What a text gives as its answer: the last match of a pattern, in a form in which equal answers
 * are equal bytes. */
#ifndef ANSWER_H
#define ANSWER_H

#include "base.h"

enum answer_kind { ANSWER_REGEX, ANSWER_NUMBER, ANSWER_BOXED, ANSWER_CHOICE, ANSWER_LINE };

/* Of a text so many bytes at its end are looked at, and a pattern has so many. */
enum { ANSWER_LOOKED_AT = 16384, ANSWER_MAX_PATTERN = 4096 };

struct answer_pattern;

/* A regular expression of PCRE2, or one of the names number, boxed, choice and line. BB_ERR_INPUT
 * for one that doesn't compile, BB_ERR_MEMORY. */
bool answer_pattern_create(struct answer_pattern **out, const char *pattern, struct bb_error *err);
void answer_pattern_destroy(struct answer_pattern *p); /* NULL is fine */
enum answer_kind answer_pattern_kind(const struct answer_pattern *p);

/* The answer of text[bytes] into out, which is empty when there is none: what matches nowhere, or
 * takes more work than a sensible pattern, or lies within the first n_asked bytes, which only ask
 * for it, has none. BB_ERR_MEMORY. */
bool answer_find(const struct answer_pattern *p, const char *text, size_t bytes, size_t n_asked,
	struct bb_text *out, struct bb_error *err);

/* The canonical form of text[bytes], appended to out: without case, blanks at its ends and twice in
 * a row, marks of emphasis round it, a full stop behind it; a number has no separators of
 * thousands, needless zeros and signs of money or percent; of LaTeX, spaces and sizes go, and a
 * fraction of two numbers is written with a stroke. */
bool answer_canonical(const char *text, size_t bytes, struct bb_text *out, struct bb_error *err);

#endif
