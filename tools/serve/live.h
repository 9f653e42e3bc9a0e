/* SPDX-License-Identifier: Apache-2.0
 *
 * Requests under way, for who looks at them and who steers them: a list of exchanges, the
 * scheduler's requests of each, and the endpoints over it. */
#ifndef LIVE_H
#define LIVE_H

#include "decisions.h"

struct live_request {
	struct bb_request *request;
	struct decisions *decisions; /* borrowed */
	int n_branches;
};

/* Of an exchange: live_begin .. live_end. What is in it is written by the exchange's thread, under
 * the server's lock, and read by that thread without. */
struct live {
	struct server *server;
	struct live *next, **at;
	char id[48];                 /* of the reply */
	char exchange[40];           /* x-request-id */
	char path[64];
	int key;                     /* whose it is */
	struct live_request *requests; /* [n] */
	int n, cap;
};
void live_begin(struct live *l, const struct exchange *x, const char *id);
/* Room for one more; false: no memory. */
bool live_reserve(struct live *l);
void live_add(struct live *l, struct bb_request *r, struct decisions *d, int n_branches);
/* Nobody sees them any more: they may be released. */
void live_end(struct live *l);

#endif
