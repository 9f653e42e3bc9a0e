/* SPDX-License-Identifier: Apache-2.0
 *
 * Texts that are to become vectors. The engine's thread reads them between its steps, a piece at a
 * time, so that answers go on meanwhile. */
#ifndef EMBED_QUEUE_H
#define EMBED_QUEUE_H

#include "bobbin.h"

#include <pthread.h>

struct exchange;
struct server;
struct embed_job;

struct embed_queue {
	struct server *server;
	pthread_mutex_t lock;
	struct embed_job *first, **last;
	int n;
	struct bb_tap_site site; /* of the normalised last hidden state */
	bool has_site;
	float *logits;           /* [n_vocab]: that they are asked for makes the tail compute its row */
};
bool embed_queue_init(struct embed_queue *q, struct server *s, struct bb_error *err);
void embed_queue_finish(struct embed_queue *q);
/* The engine's thread: a piece of the first text; false: there is none. */
bool embed_queue_step(struct embed_queue *q);
/* out [n_embd], of length 1: what the model holds behind the last of the ids. False: replied. */
bool embed_queue_run(struct exchange *x, const struct bb_tokens *ids, float *out);

#endif
