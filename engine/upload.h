/* SPDX-License-Identifier: Apache-2.0
 *
 * A file's bytes on their way to a device: in pieces, which take turns on lanes, each of them a
 * queue with pinned memory of its own. While the device copies and works on one lane, the host
 * fills the next. */
#ifndef UPLOAD_H
#define UPLOAD_H

#include "memory.h"

enum { UPLOAD_LANES = 2 };

struct upload_lane {
	bb_queue *queue;
	uint8_t *host, *there; /* the piece on the host, and where the device may work on it */
	bool is_pinned;
};

struct upload { /* zeroed: none */
	const struct memory *where;
	struct upload_lane lanes[UPLOAD_LANES];
	size_t piece_bytes;
	int turn;
};

/* Of a device, with pieces of so many bytes, a multiple of 256, in memory of the device
 * [UPLOAD_LANES, piece_bytes] that is the caller's. */
bool upload_create(struct upload *u, const struct memory *where, void *there, size_t piece_bytes,
	struct bb_error *err);
/* The next lane, which has done all that it was given, so that its piece may be filled. NULL, with
 * a sentence, when that went wrong. */
struct upload_lane *upload_next(struct upload *u, struct bb_error *err);
/* Copies the first bytes of the lane's piece on the host to dst, which may be lane->there. */
void upload_send(const struct upload *u, const struct upload_lane *lane, void *dst, size_t bytes);
/* Waits for all lanes. */
bool upload_finish(struct upload *u, struct bb_error *err);
/* Waits too, and gives everything back; zeroed is fine. */
void upload_destroy(struct upload *u);

#endif
