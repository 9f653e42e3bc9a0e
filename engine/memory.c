/* SPDX-License-Identifier: Apache-2.0
 *
 * Memory of the host and of devices behind one face. */
#include "memory.h"

#include <string.h>

/* What one of the device's own sentences fits into. */
enum { WHY = 400 };

bool memory_open(struct memory *m, const char *device, size_t max_bytes, bb_queue *pool,
	struct bb_error *err) {
	char why[sizeof(err->text)];
	memset(m, 0, sizeof(*m));
	if (!device_open(&m->device, device != NULL ? device : "cpu", max_bytes, why, sizeof(why))) {
		return base_fail(err, BB_ERR_UNSUPPORTED, "%s", why);
	}
	snprintf(m->why_not, sizeof(m->why_not), "%.255s", why);
	m->queue = memory_is_host(m) ? pool : m->device.module->queue_create(m->device.d);
	return m->queue != NULL || base_fail(err, BB_ERR_MEMORY, "device %s: no queue can be had",
		device_kind(&m->device));
}

void memory_close(struct memory *m) {
	if (!memory_is_host(m)) {
		m->device.module->queue_destroy(m->queue);
	}
	device_close(&m->device);
	memset(m, 0, sizeof(*m));
}

void *memory_map(const struct memory *m, size_t bytes, const char *what, struct bb_error *err) {
	if (memory_is_host(m)) {
		void *p = base_map(bytes);
		if (p == NULL) {
			base_no_memory(err, what, bytes);
		}
		return p;
	}
	char why[WHY];
	void *p = m->device.module->alloc(m->device.d, bytes, why, sizeof(why));
	if (p == NULL) {
		base_fail(err, BB_ERR_MEMORY, "%s: %s", what, why);
	}
	return p;
}

void memory_unmap(const struct memory *m, void *p, size_t bytes) {
	if (memory_is_host(m)) {
		base_unmap(p, bytes);
	} else {
		m->device.module->free(m->device.d, p);
	}
}

void *memory_take(const struct memory *m, void *array, size_t bytes, const char *what,
	struct bb_error *err) {
	if (memory_is_host(m)) {
		return array;
	}
	void *p = memory_map(m, bytes, what, err);
	bool ok = p != NULL;
	if (ok) {
		memory_in(m, p, array, bytes);
		ok = memory_wait(m, err);
	}
	base_free(array);
	if (!ok) {
		memory_unmap(m, p, bytes);
	}
	return ok ? p : NULL;
}

void memory_drop(const struct memory *m, void *taken) {
	if (memory_is_host(m)) {
		base_free(taken);
	} else {
		m->device.module->free(m->device.d, taken);
	}
}

void *memory_pin(const struct memory *m, size_t bytes, bool *is_pinned) {
	void *p = memory_is_host(m) ? NULL : m->device.module->host_alloc(m->device.d, bytes);
	*is_pinned = p != NULL;
	return p != NULL ? p : base_alloc(bytes, 1);
}

void memory_unpin(const struct memory *m, void *p, bool is_pinned) {
	if (is_pinned) {
		m->device.module->host_free(m->device.d, p);
	} else {
		base_free(p);
	}
}

void staging_destroy(const struct memory *m, struct staging *s) {
	memory_unpin(m, s->host, s->is_pinned);
	memory_unmap(m, s->there, s->bytes);
	*s = (struct staging){ 0 };
}

bool staging_resize(const struct memory *m, struct staging *s, size_t bytes, const char *what,
	struct bb_error *err) {
	struct staging made = { .bytes = bytes };
	made.there = memory_map(m, bytes, what, err);
	if (made.there == NULL) {
		return false;
	}
	made.host = memory_pin(m, bytes, &made.is_pinned);
	if (made.host == NULL) {
		memory_unmap(m, made.there, bytes);
		return base_no_memory(err, what, bytes);
	}
	staging_destroy(m, s);
	*s = made;
	return true;
}

void memory_in(const struct memory *m, void *dst, const void *host, size_t bytes) {
	if (memory_is_host(m)) {
		memcpy(dst, host, bytes);
	} else {
		m->device.module->copy_in(m->queue, dst, host, bytes);
	}
}

void memory_out(const struct memory *m, void *host, const void *src, size_t bytes) {
	if (memory_is_host(m)) {
		memcpy(host, src, bytes);
	} else {
		m->device.module->copy_out(m->queue, host, src, bytes);
	}
}

void memory_copy(const struct memory *m, void *dst, const void *src, size_t bytes) {
	if (memory_is_host(m)) {
		memcpy(dst, src, bytes);
	} else {
		m->device.module->copy(m->queue, dst, src, bytes);
	}
}

bool memory_wait(const struct memory *m, struct bb_error *err) {
	char why[WHY];
	if (memory_is_host(m) || m->device.module->wait(m->queue, why, sizeof(why))) {
		return true;
	}
	return base_fail(err, BB_ERR_DEVICE, "device %s: %s", device_kind(&m->device), why);
}

double memory_copy_bandwidth(const struct memory *m, size_t bytes) {
	enum { N_COPIES = 10 };
	struct bb_error ignored = { 0 };
	if (memory_is_host(m) || strcmp(device_kind(&m->device), "simt") == 0) {
		return 0;
	}
	const size_t half = bytes / 2;
	void *from = memory_map(m, half, "bandwidth", &ignored);
	void *to = memory_map(m, half, "bandwidth", &ignored);
	double seconds = 0;
	if (from != NULL && to != NULL) {
		memory_copy(m, to, from, half); /* warms up */
		memory_wait(m, &ignored);
		const double start = base_seconds();
		for (int i = 0; i < N_COPIES; i++) {
			memory_copy(m, to, from, half);
		}
		seconds = memory_wait(m, &ignored) ? base_seconds() - start : 0;
	}
	memory_unmap(m, from, half);
	memory_unmap(m, to, half);
	return seconds > 0 ? 2.0 * (double)half * N_COPIES / seconds : 0;
}
