/* SPDX-License-Identifier: Apache-2.0
 *
 * One pass of a pre-tokenizer over a text. */
#ifndef PRETOKEN_H
#define PRETOKEN_H

#include "vocab.h"

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

struct pretoken_scan {
	const struct pretoken *pretoken;
	const char *text; /* [bytes] valid UTF-8 */
	size_t bytes, at;
	char *copy;       /* of the text where it wasn't valid, else NULL */
	pcre2_match_data *match;
};

/* Stop accepts zeroed memory, and what a failed start left. */
bool pretoken_start(struct pretoken_scan *s, const struct pretoken *p, const char *text,
	size_t bytes, struct bb_error *err);
/* *end: where the word that starts at s->at ends; s->at moves there. s->at < s->bytes. */
bool pretoken_next(struct pretoken_scan *s, size_t *end, struct bb_error *err);
void pretoken_stop(struct pretoken_scan *s);

#endif
