/* SPDX-License-Identifier: Apache-2.0
 *
 * A list under a lock. The library doesn't say when a request's first byte has come; what the
 * kernel counts of a connection's bytes does. */
#include "clients.h"

#include "terminal.h"

#include <linux/tcp.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <sys/socket.h>

struct client {
	int fd;
	bool is_served;
	unsigned long long n_before; /* bytes that had come when nothing was owed */
	double since;                /* when more had; < 0: nothing is owed */
};

/* Bytes that have come so far. */
static unsigned long long received(int fd) {
	struct tcp_info info = { 0 };
	socklen_t bytes = sizeof(info);
	return getsockopt(fd, IPPROTO_TCP, TCP_INFO, &info, &bytes) == 0 ? info.tcpi_bytes_received : 0;
}

void clients_init(struct clients *c) {
	*c = (struct clients){ 0 };
	pthread_mutex_init(&c->lock, NULL);
}

void clients_finish(struct clients *c) {
	pthread_mutex_destroy(&c->lock);
	free(c->items);
	*c = (struct clients){ 0 };
}

/* Without memory for it a client is just not watched. */
void clients_add(struct clients *c, int fd) {
	pthread_mutex_lock(&c->lock);
	if (c->n == c->cap) {
		const int cap = c->cap > 0 ? 2 * c->cap : 64;
		struct client *items = realloc(c->items, (size_t)cap * sizeof(*items));
		c->items = items != NULL ? items : c->items;
		c->cap = items != NULL ? cap : c->cap;
	}
	if (c->n < c->cap) {
		c->items[c->n++] = (struct client){ .fd = fd, .since = -1 };
	}
	pthread_mutex_unlock(&c->lock);
}

static struct client *find(struct clients *c, int fd) {
	for (int i = 0; i < c->n; i++) {
		if (c->items[i].fd == fd) {
			return &c->items[i];
		}
	}
	return NULL;
}

void clients_remove(struct clients *c, int fd) {
	pthread_mutex_lock(&c->lock);
	struct client *item = find(c, fd);
	if (item != NULL) {
		*item = c->items[--c->n];
	}
	pthread_mutex_unlock(&c->lock);
}

void clients_mark(struct clients *c, int fd, bool is_served) {
	pthread_mutex_lock(&c->lock);
	struct client *item = find(c, fd);
	if (item != NULL) {
		item->is_served = is_served;
		item->n_before = received(fd);
		item->since = -1;
	}
	pthread_mutex_unlock(&c->lock);
}

void clients_sweep(struct clients *c, int seconds) {
	const double now = seconds_now();
	pthread_mutex_lock(&c->lock);
	for (int i = 0; i < c->n; i++) {
		struct client *item = &c->items[i];
		if (!item->is_served && item->since < 0 && received(item->fd) > item->n_before) {
			item->since = now;
		}
		if (!item->is_served && item->since >= 0 && now - item->since > seconds) {
			shutdown(item->fd, SHUT_RDWR);
		}
	}
	pthread_mutex_unlock(&c->lock);
}
