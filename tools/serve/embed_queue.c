/* SPDX-License-Identifier: Apache-2.0
 *
 * Embeddings by a tap: the vector is the row that the model's head is multiplied with, behind the
 * last token, scaled to length 1. */
#include "embed_queue.h"

#include "exchange.h"
#include "server.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

enum { MOST_WAITING = 4096 };

struct embed_job {
	struct embed_job *next;
	int32_t *ids;                /* [n] */
	size_t n, n_read;
	float *out;                  /* [n_embd] */
	struct bb_context *context;
	struct bb_error error;
	bool is_done, is_left;       /* under the queue's lock; left: its exchange is gone */
	int fd;                      /* readable: done */
};

/* The last site of the tail before the logits. */
static bool find_site(struct embed_queue *q) {
	struct bb_tap_site site;
	const bool can_tap = q->server->options.can_tap;
	for (int i = 0; can_tap && bb_tap_site(q->server->engine, BB_TAP_UNEMBED, i, &site); i++) {
		if (site.width == q->server->info.n_embd && site.n_parts == 1) {
			q->site = site;
			q->has_site = true;
		}
	}
	return q->has_site;
}

bool embed_queue_init(struct embed_queue *q, struct server *s, struct bb_error *err) {
	q->server = s;
	q->last = &q->first;
	pthread_mutex_init(&q->lock, NULL);
	find_site(q);
	q->logits = calloc((size_t)s->info.n_vocab, sizeof(*q->logits));
	return q->logits != NULL ||
		server_fail(err, BB_ERR_MEMORY, "no memory for %d logits", s->info.n_vocab);
}

static void free_job(struct embed_job *j) {
	bb_context_destroy(j->context);
	if (j->fd >= 0) {
		close(j->fd);
	}
	free(j->ids);
	free(j->out);
	free(j);
}

void embed_queue_finish(struct embed_queue *q) {
	while (q->first != NULL) {
		struct embed_job *next = q->first->next;
		free_job(q->first);
		q->first = next;
	}
	free(q->logits);
	if (q->server != NULL) {
		pthread_mutex_destroy(&q->lock);
	}
}

/* ---- the engine's thread ---- */

static void take_row(void *user, const struct bb_tap_rows *rows) {
	struct embed_job *j = user;
	const int width = rows->site->width;
	const float *row = rows->rows + (size_t)(rows->n_rows - 1) * (size_t)width;
	double sum = 0;
	for (int i = 0; i < width; i++) {
		sum += (double)row[i] * (double)row[i];
	}
	const double scale = sum > 0 ? 1 / sqrt(sum) : 0;
	for (int i = 0; i < width; i++) {
		j->out[i] = (float)((double)row[i] * scale);
	}
}

static bool read_piece(struct embed_queue *q, struct embed_job *j) {
	struct bb_engine *e = q->server->engine;
	struct bb_error *err = &j->error;
	if (j->context == NULL && !bb_context_create(&j->context, e, NULL, err)) {
		return false;
	}
	const size_t most = (size_t)q->server->info.max_batch_tokens, left = j->n - j->n_read;
	const bool is_last = left <= most;
	const struct bb_tap tap = { .at = q->site.full, .fn = take_row, .user = j };
	const struct bb_taps taps = { .taps = &tap, .n_taps = 1 };
	const struct bb_step_item item = { .context = j->context, .tokens = j->ids + j->n_read,
		.n_tokens = (int)(is_last ? left : most), .logits = is_last ? q->logits : NULL };
	if (is_last && !bb_taps_attach(e, &taps, err)) {
		return false;
	}
	bool ok = bb_step(e, &item, 1, err);
	if (is_last) {
		struct bb_error ignored = { 0 };
		bb_taps_attach(e, NULL, &ignored);
	}
	j->n_read += (size_t)item.n_tokens;
	return ok;
}

bool embed_queue_step(struct embed_queue *q) {
	pthread_mutex_lock(&q->lock);
	struct embed_job *j = q->first;
	const bool is_left = j != NULL && j->is_left;
	pthread_mutex_unlock(&q->lock);
	if (j == NULL) {
		return false;
	}
	if (!is_left && read_piece(q, j) && j->n_read < j->n) {
		return true;
	}
	bb_context_destroy(j->context);
	j->context = NULL;
	pthread_mutex_lock(&q->lock);
	q->first = j->next;
	q->last = q->first != NULL ? q->last : &q->first;
	q->n--;
	j->is_done = true;
	const bool is_mine = j->is_left;
	const uint64_t one = 1;
	const ssize_t written = write(j->fd, &one, sizeof(one));
	(void)written;
	pthread_mutex_unlock(&q->lock);
	if (is_mine) {
		free_job(j);
	}
	return true;
}

/* ---- an exchange's thread ---- */

static struct embed_job *new_job(const struct bb_tokens *ids, int n_embd) {
	struct embed_job *j = calloc(1, sizeof(*j));
	if (j == NULL) {
		return NULL;
	}
	j->fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	j->ids = malloc(ids->n * sizeof(*j->ids));
	j->out = calloc((size_t)n_embd, sizeof(*j->out));
	if (j->fd < 0 || j->ids == NULL || j->out == NULL) {
		free_job(j);
		return NULL;
	}
	memcpy(j->ids, ids->ids, ids->n * sizeof(*j->ids));
	j->n = ids->n;
	return j;
}

static bool add(struct embed_queue *q, struct embed_job *j) {
	pthread_mutex_lock(&q->lock);
	const bool has_room = q->n < MOST_WAITING;
	if (has_room) {
		*q->last = j;
		q->last = &j->next;
		q->n++;
	}
	pthread_mutex_unlock(&q->lock);
	bb_scheduler_wake(q->server->scheduler);
	return has_room;
}

bool embed_queue_run(struct exchange *x, const struct bb_tokens *ids, float *out) {
	struct embed_queue *q = &x->server->embeds;
	const int n_embd = x->server->info.n_embd;
	if (!x->server->options.can_tap) {
		return reply_error(x, 400, "model", "unsupported",
			"embeddings need a server with --device cpu, this one has another");
	}
	if (!q->has_site) {
		return reply_error(x, 400, "model", "unsupported", "the model has no such vectors");
	}
	struct embed_job *j = new_job(ids, n_embd);
	if (j == NULL) {
		return reply_no_memory(x);
	}
	if (!add(q, j)) {
		free_job(j);
		return reply_error(x, 429, NULL, "queue_full", "%d texts wait already", MOST_WAITING);
	}
	const int ready = exchange_wait(x, j->fd, -1);
	pthread_mutex_lock(&q->lock);
	const bool is_done = j->is_done;
	j->is_left = true;
	pthread_mutex_unlock(&q->lock);
	if (!is_done) {
		return reply_error(x, 499, NULL, "client_left", "the client has left");
	}
	(void)ready;
	const bool ok = j->error.code == BB_OK;
	if (ok) {
		memcpy(out, j->out, (size_t)n_embd * sizeof(*out));
	} else {
		reply_engine_error(x, "input", &j->error);
	}
	free_job(j);
	return ok;
}
