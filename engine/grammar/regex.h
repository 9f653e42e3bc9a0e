/* SPDX-License-Identifier: Apache-2.0
 *
 * Regular expressions as people write them, to expressions over bytes. */
#ifndef REGEX_H
#define REGEX_H

#include "chars.h"

enum regex_match {
	REGEX_WHOLE,  /* the text as a whole matches, as Python's fullmatch */
	REGEX_SEARCH, /* some part of it does, as JSON Schema's pattern */
};

/* `what` the source is called in errors. BB_ERR_INPUT for what isn't a regex, BB_ERR_UNSUPPORTED
 * for what isn't regular, or is too large. Classes are of code points; '.' is all but ends of
 * lines. */
bool regex_parse(struct exprs *x, const char *what, const char *source, size_t bytes,
	enum chars_form form, enum regex_match match, uint32_t *out, struct bb_error *err);

/* What a backslash in a class or outside stands for, if one character: n, t, x41, u0041, u{1F600},
 * cJ, 0 and punctuation. *at stands behind the backslash and moves behind the escape. */
bool regex_escape(const char *source, size_t bytes, size_t *at, uint32_t *c);

#endif
