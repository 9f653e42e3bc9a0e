/* SPDX-License-Identifier: Apache-2.0
 *
 * Finds a mark, a text such as "</think>", in the bytes of tokens that come one by one, wherever
 * tokens begin and end in it (Knuth, Morris, Pratt 1977). Knows which of the last tokens may be
 * its beginning. */
#ifndef MARKS_H
#define MARKS_H

#include "base.h"

struct mark { /* zeroed = one that is never found */
	char *text;      /* [bytes], owned */
	size_t bytes;
	size_t *border;  /* [bytes + 1]: of the text's first i bytes, the longest shorter beginning of
	                  * the text that they end with */
};

/* How far a text has come in a mark. Zeroed = nothing of it. */
struct mark_place {
	size_t n;        /* bytes at the end of the text that the mark begins with */
	int n_seen;      /* tokens so far */
	int first;       /* the token, of n_seen, in which these bytes begin, or those of the mark that
	                  * was found; else n_seen */
	int *token_of;   /* [bytes of the mark], owned: the token of each of these bytes */
};

/* text [bytes], at least one. */
bool mark_init(struct mark *m, const char *text, size_t bytes, struct bb_error *err);
void mark_finish(struct mark *m);
/* For marks of at most so many bytes. */
bool mark_place_init(struct mark_place *at, size_t bytes, struct bb_error *err);
void mark_place_finish(struct mark_place *at);

/* The text goes on by a token's bytes. True: the mark ends in it, and what follows in the token is
 * not looked at. */
bool mark_follow(const struct mark *m, struct mark_place *at, const char *token, size_t bytes);
/* What comes next begins anew. */
void mark_forget(struct mark_place *at);

#endif
