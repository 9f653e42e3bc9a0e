/* SPDX-License-Identifier: Apache-2.0
 *
 * Growable bytes: bodies, events, texts in the making. Memory that can't be had is remembered, and
 * found out once, where the bytes are used. */
#ifndef BUF_H
#define BUF_H

#include <jansson.h>

#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>

struct buf { /* zeroed = empty */
	char *data; /* [bytes], a NUL behind when not empty */
	size_t bytes, cap;
	bool has_failed; /* something is missing: there was no memory */
};
void buf_finish(struct buf *b);
/* Forgets the bytes and keeps the memory. */
void buf_clear(struct buf *b);
void buf_add(struct buf *b, const void *data, size_t bytes);
void buf_text(struct buf *b, const char *text);
void buf_print(struct buf *b, const char *format, ...) __attribute__((format(printf, 2, 3)));
void buf_vprint(struct buf *b, const char *format, va_list args)
	__attribute__((format(printf, 2, 0)));
/* One line; NULL, for which there was no memory, is remembered as such. */
void buf_json(struct buf *b, const json_t *value);
void buf_json_take(struct buf *b, json_t *value);
/* The same as a server-sent event. */
void buf_event_take(struct buf *b, json_t *value);
/* Takes n bytes off the front. */
void buf_drop(struct buf *b, size_t n);
/* The bytes are the caller's, to be freed, and count for no request any more; b is empty. NULL when
 * it was. */
char *buf_release(struct buf *b);
/* "" when empty. */
const char *buf_string(const struct buf *b);

#endif
