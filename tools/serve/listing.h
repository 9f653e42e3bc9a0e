/* SPDX-License-Identifier: Apache-2.0
 *
 * Lists that clients read page by page. */
#ifndef LISTING_H
#define LISTING_H

#include "exchange.h"

struct listing {
	const char *after, *before; /* fields of the query: ids, of what the page stands behind or
	                             * before; the latter may be NULL */
	int max_limit;              /* of the query's "limit", which is 20 otherwise */
	const char *object;         /* what the reply calls itself, or NULL */
};

/* Replies with a page of items, which have ids. Takes all; NULL: no memory. */
void listing_reply(struct exchange *x, const struct listing *l, json_t *all);

#endif
