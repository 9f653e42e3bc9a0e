/* SPDX-License-Identifier: Apache-2.0
 *
 * Lanes of an upload: filled in turn, each waiting for its own work alone. */
#include "upload.h"

#include <string.h>

static bool lane_create(const struct memory *m, struct upload_lane *lane, size_t bytes,
	struct bb_error *err) {
	lane->queue = m->device.module->queue_create(m->device.d);
	if (lane->queue == NULL) {
		return base_fail(err, BB_ERR_MEMORY, "device %s: no queue can be had for loading",
			device_kind(&m->device));
	}
	lane->host = memory_pin(m, bytes, &lane->is_pinned);
	return lane->host != NULL || base_no_memory(err, "loading", bytes);
}

bool upload_create(struct upload *u, const struct memory *where, void *there, size_t piece_bytes,
	struct bb_error *err) {
	*u = (struct upload){ .where = where, .piece_bytes = piece_bytes };
	for (int i = 0; i < UPLOAD_LANES; i++) {
		u->lanes[i].there = (uint8_t *)there + (size_t)i * piece_bytes;
		if (!lane_create(where, &u->lanes[i], piece_bytes, err)) {
			upload_destroy(u);
			return false;
		}
	}
	return true;
}

static bool wait_for(const struct upload *u, const struct upload_lane *lane,
	struct bb_error *err) {
	const struct device *d = &u->where->device;
	char why[256];
	return d->module->wait(lane->queue, why, sizeof(why)) ||
		base_fail(err, BB_ERR_DEVICE, "device %s: %s", device_kind(d), why);
}

struct upload_lane *upload_next(struct upload *u, struct bb_error *err) {
	struct upload_lane *lane = &u->lanes[u->turn];
	u->turn = (u->turn + 1) % UPLOAD_LANES;
	return wait_for(u, lane, err) ? lane : NULL;
}

void upload_send(const struct upload *u, const struct upload_lane *lane, void *dst, size_t bytes) {
	u->where->device.module->copy_in(lane->queue, dst, lane->host, bytes);
}

bool upload_finish(struct upload *u, struct bb_error *err) {
	for (int i = 0; i < UPLOAD_LANES; i++) {
		if (!wait_for(u, &u->lanes[i], err)) {
			return false;
		}
	}
	return true;
}

void upload_destroy(struct upload *u) {
	for (int i = 0; u->where != NULL && i < UPLOAD_LANES; i++) {
		u->where->device.module->queue_destroy(u->lanes[i].queue);
		memory_unpin(u->where, u->lanes[i].host, u->lanes[i].is_pinned);
	}
	memset(u, 0, sizeof(*u));
}
