/* SPDX-License-Identifier: Apache-2.0
 *
 * What every engine file needs: errors, an allocator that tests can make fail, checked size
 * arithmetic, whole-file mapping. Nothing here knows what a model is. */
#ifndef BASE_H
#define BASE_H

#include "bobbin.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define COUNT(a) (sizeof(a) / sizeof((a)[0]))

/* Fills *err (when not NULL and still BB_OK) with code and one printf-style sentence; always
 * returns false, so that a failure reads `return base_fail(err, ...)`. */
bool base_fail(struct bb_error *err, enum bb_code code, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));

/* Zeroed memory for n elements of `bytes` each, or NULL (also on overflow of the product, and
 * when a test asked for a failure). n * bytes == 0 gives a unique pointer. */
void *base_alloc(size_t n, size_t bytes);
/* As realloc, for n elements; the new part is not zeroed. On failure the old block stays. */
void *base_realloc(void *p, size_t n, size_t bytes);
char *base_strdup(const char *s);
char *base_strndup(const char *s, size_t n);
void base_free(void *p);
/* Large zeroed memory, page aligned, huge pages advised: weights, KV pages, activations. */
void *base_map(size_t bytes);
void base_unmap(void *p, size_t bytes);
/* BB_ERR_MEMORY with "what: B bytes could not be allocated"; returns false. */
bool base_no_memory(struct bb_error *err, const char *what, size_t bytes);

/* Test hooks. base_fail_alloc_at(n): the n-th call from now (1 = next) fails once; 0 = never.
 * base_count_allocs: calls since start. base_forbid_alloc(true): any allocation aborts. */
void base_fail_alloc_at(long n);
long base_count_allocs(void);
void base_forbid_alloc(bool forbidden);

/* *out = a * b or a + b; false on overflow. */
bool base_mul(size_t a, size_t b, size_t *out);
bool base_add(size_t a, size_t b, size_t *out);

/* A file mapped read-only as a whole. */
struct base_file {
	const uint8_t *data; /* [bytes] */
	size_t bytes;
};
bool base_file_open(struct base_file *f, const char *path, struct bb_error *err);
void base_file_close(struct base_file *f);

/* Room for so many bytes behind a text: appending them can't fail then. */
bool base_reserve(struct bb_text *t, size_t bytes, struct bb_error *err);
/* Appends bytes to a growable text (kept NUL-terminated). */
bool base_append(struct bb_text *t, const void *data, size_t bytes, struct bb_error *err);

/* Length of the UTF-8 character at p (1 to 4), 0 when p[bytes] starts with none (RFC 3629: no
 * overlong forms, no surrogates, nothing above U+10FFFF). bytes > 0. */
int base_char(const char *p, size_t bytes);
/* The beginning of a file's or request's bytes for a sentence, into buf[cap]: whole characters, '?'
 * for what doesn't print, so that no file can write to the terminal. Returns buf. */
enum { BASE_SHOWN = 48 };
const char *base_show(const char *data, size_t bytes, char *buf, size_t cap);

/* Seconds of a monotonic clock. */
double base_seconds(void);

#endif
