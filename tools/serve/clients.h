/* SPDX-License-Identifier: Apache-2.0
 *
 * The open connections, and since when each has owed the rest of a request: one that sends a byte
 * now and then isn't idle, and yet must not stay for ever. Between requests nothing is owed. */
#ifndef CLIENTS_H
#define CLIENTS_H

#include <pthread.h>
#include <stdbool.h>

struct client;
struct clients {
	pthread_mutex_t lock;
	struct client *items; /* [n] */
	int n, cap;
};
void clients_init(struct clients *c);
void clients_finish(struct clients *c);
void clients_add(struct clients *c, int fd);
void clients_remove(struct clients *c, int fd);
/* Its request has come, or was answered. */
void clients_mark(struct clients *c, int fd, bool is_served);
/* Hangs up on those that have owed the rest of a request for longer; to be called often. */
void clients_sweep(struct clients *c, int seconds);

#endif
