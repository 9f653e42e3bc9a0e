/* SPDX-License-Identifier: Apache-2.0
 *
 * What a server has written before, to be found again: an index for each cache salt, since what
 * one wrote must not show in another's times. Within a limit on bytes: the salt that wasn't used
 * for the longest time goes first; within one the oldest text does. A text that comes again is
 * added again. */
#ifndef SPEC_HISTORY_H
#define SPEC_HISTORY_H

#include "index.h"

struct history_texts { /* of one salt */
	char *salt;
	struct spec_index index;
	int n_users;               /* who have it; it stays until then */
	struct history_texts *next;
};
struct history {
	struct history_texts *first; /* the last used first */
	size_t bytes, max_bytes;
	int n;
};

void spec_history_init(struct history *h, size_t max_bytes); /* 0: nothing is kept */
void spec_history_finish(struct history *h); /* nobody has any */
/* The texts of a salt, to be given back; NULL: no memory. */
struct history_texts *spec_history_get(struct history *h, const char *salt);
void spec_history_put(struct history *h, struct history_texts *t); /* NULL is fine */
/* A text of n tokens. Where memory is short a part of it may be missing. */
void spec_history_add(struct history *h, struct history_texts *t, const int32_t *ids, size_t n);

#endif
