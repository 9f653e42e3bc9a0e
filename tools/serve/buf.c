/* SPDX-License-Identifier: Apache-2.0
 *
 * Growing by doubling. */
#include "buf.h"

#include "ration.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void buf_finish(struct buf *b) {
	ration_give(b->cap);
	free(b->data);
	memset(b, 0, sizeof(*b));
}

void buf_clear(struct buf *b) {
	b->bytes = 0;
	if (b->data != NULL) {
		b->data[0] = '\0';
	}
}

static bool reserve(struct buf *b, size_t more) {
	if (b->cap - b->bytes > more) {
		return true;
	}
	size_t cap = b->cap > 0 ? b->cap : 256;
	while (cap - b->bytes <= more) {
		cap *= 2;
	}
	const bool may = ration_take(cap - b->cap);
	char *data = may ? realloc(b->data, cap) : NULL;
	if (data == NULL) {
		ration_give(may ? cap - b->cap : 0);
		b->has_failed = true;
		ration_lose();
		return false;
	}
	b->data = data;
	b->cap = cap;
	return true;
}

void buf_add(struct buf *b, const void *data, size_t bytes) {
	if (bytes > 0 && reserve(b, bytes)) {
		memcpy(b->data + b->bytes, data, bytes);
		b->bytes += bytes;
		b->data[b->bytes] = '\0';
	}
}

void buf_text(struct buf *b, const char *text) {
	buf_add(b, text, strlen(text));
}

void buf_vprint(struct buf *b, const char *format, va_list args) {
	va_list again;
	va_copy(again, args);
	const int n = vsnprintf(NULL, 0, format, args);
	if (n > 0 && reserve(b, (size_t)n)) {
		vsnprintf(b->data + b->bytes, (size_t)n + 1, format, again);
		b->bytes += (size_t)n;
	}
	va_end(again);
}

void buf_print(struct buf *b, const char *format, ...) {
	va_list args;
	va_start(args, format);
	buf_vprint(b, format, args);
	va_end(args);
}

static int add(const char *data, size_t bytes, void *user) {
	struct buf *b = user;
	buf_add(b, data, bytes);
	return b->has_failed ? -1 : 0;
}

void buf_json(struct buf *b, const json_t *value) {
	if (value == NULL ||
		json_dump_callback(value, add, b, JSON_COMPACT | JSON_ENCODE_ANY) != 0) {
		b->has_failed = true;
	}
}

void buf_json_take(struct buf *b, json_t *value) {
	buf_json(b, value);
	json_decref(value);
}

void buf_event_take(struct buf *b, json_t *value) {
	buf_text(b, "data: ");
	buf_json_take(b, value);
	buf_text(b, "\n\n");
}

void buf_drop(struct buf *b, size_t n) {
	if (n > 0) {
		memmove(b->data, b->data + n, b->bytes - n + 1);
		b->bytes -= n;
	}
}

char *buf_release(struct buf *b) {
	char *data = b->bytes > 0 ? realloc(b->data, b->bytes + 1) : NULL;
	ration_give(b->cap);
	if (data == NULL) {
		free(b->data);
	}
	memset(b, 0, sizeof(*b));
	return data;
}

const char *buf_string(const struct buf *b) {
	return b->bytes > 0 ? b->data : "";
}
