/* SPDX-License-Identifier: Apache-2.0
 *
 * Responses that were given, for previous_response_id: in memory, the one longest unused goes when
 * there are too many or too many bytes. */
#ifndef STORE_H
#define STORE_H

#include <jansson.h>
#include <pthread.h>
#include <stdbool.h>

struct stored {
	char id[48];
	char *data;           /* [bytes]: JSON of {messages, response, input} */
	size_t bytes;
	unsigned long used;   /* when: the store's count then */
};
struct store {
	pthread_mutex_t lock;
	struct stored *items; /* [n] of max_n */
	int n, max_n;
	size_t bytes, max_bytes;
	unsigned long now;
};
void store_init(struct store *s, int max_n, size_t max_bytes);
void store_finish(struct store *s);
/* messages: the conversation up to and with the answer; input: the request's own items. What can't
 * be kept isn't there later. */
void store_put(struct store *s, const char *id, const json_t *messages, const json_t *response,
	const json_t *input);
/* New references of the reader's own; NULL: there is none of that id. */
json_t *store_get(struct store *s, const char *id);
bool store_delete(struct store *s, const char *id);

#endif
