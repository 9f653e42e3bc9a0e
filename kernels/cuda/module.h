/* SPDX-License-Identifier: Apache-2.0
 *
 * What the sources of a device module share beside the words of device.cuh: the queue, which is a
 * stream and its first error, and the arena. Compiled by nvcc, or by the host's C++ compiler with
 * the emulator's runtime. */
#ifndef MODULE_H
#define MODULE_H

#include "../device.h"
#include "device.cuh"

enum { N_ARRIVALS = 4096 }; /* no fewer than any model has KV heads */

struct bb_queue {
	bb_device *device;
	cudaStream_t stream;
	cudaEvent_t event; /* for bb_module.after */
	cudaEvent_t clock[2]; /* of clock_start and clock_stop; NULL before the first */
	cudaError_t error; /* the first one since the last wait */
	const char *what;  /* what met it, such as a kernel's name */
	unsigned *arrivals; /* [N_ARRIVALS] in memory of the device, 0 between launches: arrives_last */
};

/* Keeps an error, unless one is kept already. */
static inline void queue_note(bb_queue *q, cudaError_t error, const char *what) {
	if (error != cudaSuccess && q->error == cudaSuccess) {
		q->error = error;
		q->what = what;
	}
}

/* After each launch: an error in its shape or in the work before it sticks to the queue. */
static inline void queue_launched(bb_queue *q, const char *kernel) {
	queue_note(q, cudaGetLastError(), kernel);
}

/* Multiprocessors of the queue's device. */
int queue_processors(const bb_queue *q);
/* Shared memory that a block may have. */
int queue_block_bytes(const bb_queue *q);
/* Blocks with so much shared memory each that the device has room for at once, at most `most` on a
 * multiprocessor. */
int queue_blocks(const bb_queue *q, int bytes, int most);

/* Blocks of `per` for n units, at least one. */
static inline unsigned blocks_for(size_t n, size_t per) {
	return n == 0 ? 1u : (unsigned)((n + per - 1) / per);
}

/* The order of KV pages in memory of the device. */
extern "C" const struct bb_kv_layout layout_kv_padded;

/* ---- the arena: first fit in segments of the driver's ---- */

struct arena_block {
	char *at;
	size_t bytes;
	bool is_used, is_first; /* is_first: of its segment */
};

struct arena {
	struct arena_block *blocks; /* [n_blocks], those of a segment together, in order */
	int n_blocks, capacity;
	size_t max_bytes, segment_bytes, used_bytes; /* allowed; taken from the driver; in use */
};

void arena_init(struct arena *a, size_t max_bytes);
void arena_finish(struct arena *a); /* gives the segments back */
/* NULL with a sentence in text[bytes]. */
void *arena_alloc(struct arena *a, size_t n, char *text, size_t bytes);
void arena_free(struct arena *a, void *p);

#endif
