/* SPDX-License-Identifier: Apache-2.0
 *
 * Where an engine's steps are computed, the host or a device: its memory, and the queue that its
 * kernels and copies are given to. Copies happen in the queue's order. */
#ifndef MEMORY_H
#define MEMORY_H

#include "base.h"
#include "device.h"

struct memory {
	struct device device; /* all zero: the host */
	bb_queue *queue;      /* of the device, or a pool of threads */
	char why_not[256];    /* why "auto" passed a GPU over; empty: it didn't */
};

/* `device` as device_open has it (NULL: cpu), which may hold max_bytes (0: most of what is free).
 * The host's queue is the pool of threads, which remains its owner's. */
bool memory_open(struct memory *m, const char *device, size_t max_bytes, bb_queue *pool,
	struct bb_error *err);
void memory_close(struct memory *m); /* all that was taken must have been given back */
static inline bool memory_is_host(const struct memory *m) {
	return m->device.module == NULL;
}

/* Large memory, 64-byte aligned; the host's is zeroed. NULL with a sentence about `what`. */
void *memory_map(const struct memory *m, size_t bytes, const char *what, struct bb_error *err);
void memory_unmap(const struct memory *m, void *p, size_t bytes); /* NULL is fine */
/* Takes an array of base_alloc and returns it where kernels can read it: itself, or a copy. NULL,
 * the array being freed all the same, with a sentence about `what`. */
void *memory_take(const struct memory *m, void *array, size_t bytes, const char *what,
	struct bb_error *err);
void memory_drop(const struct memory *m, void *taken); /* NULL is fine */

/* Memory of the host for copies to and from a device, pinned where it can be; NULL: there is
 * none. */
void *memory_pin(const struct memory *m, size_t bytes, bool *is_pinned);
void memory_unpin(const struct memory *m, void *p, bool is_pinned); /* NULL is fine */

/* Memory of the device with the host's copy of it, pinned where it can be. Zeroed: none. */
struct staging {
	uint8_t *host, *there; /* [bytes] */
	size_t bytes;
	bool is_pinned;
};
/* Takes the place of what there was, whose content is lost; on failure that stays. */
bool staging_resize(const struct memory *m, struct staging *s, size_t bytes, const char *what,
	struct bb_error *err);
void staging_destroy(const struct memory *m, struct staging *s);

void memory_in(const struct memory *m, void *dst, const void *host, size_t bytes);
void memory_out(const struct memory *m, void *host, const void *src, size_t bytes);
void memory_copy(const struct memory *m, void *dst, const void *src, size_t bytes);
/* Waits until all that the queue was given is done; false with the sentence of what went wrong. */
bool memory_wait(const struct memory *m, struct bb_error *err);
/* Bytes per second that a device moves when it copies `bytes` within its memory, read and written
 * ones both counted; 0 where they can't be had, and on the emulator. */
double memory_copy_bandwidth(const struct memory *m, size_t bytes);

#endif
