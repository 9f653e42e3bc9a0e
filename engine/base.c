/* SPDX-License-Identifier: Apache-2.0
 *
 * Errors, allocation, growable arrays, characters and file mapping for the engine. */
#include "base.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

bool base_fail(struct bb_error *err, enum bb_code code, const char *fmt, ...) {
	if (err != NULL && err->code == BB_OK) {
		va_list args;
		va_start(args, fmt);
		vsnprintf(err->text, sizeof(err->text), fmt, args);
		va_end(args);
		err->code = code;
	}
	return false;
}

bool base_no_memory(struct bb_error *err, const char *what, size_t bytes) {
	return base_fail(err, BB_ERR_MEMORY, "%s: %zu bytes of memory could not be allocated", what,
		bytes);
}

bool base_mul(size_t a, size_t b, size_t *out) {
	return !__builtin_mul_overflow(a, b, out);
}

bool base_add(size_t a, size_t b, size_t *out) {
	return !__builtin_add_overflow(a, b, out);
}

/* ---- allocation ---- */

static atomic_long n_allocs;
static atomic_long fail_at; /* value of n_allocs that fails; 0 = none */
static atomic_bool is_forbidden;

void base_fail_alloc_at(long n) {
	atomic_store(&fail_at, n > 0 ? atomic_load(&n_allocs) + n : 0);
}

long base_count_allocs(void) {
	return atomic_load(&n_allocs);
}

void base_forbid_alloc(bool forbidden) {
	atomic_store(&is_forbidden, forbidden);
}

static bool may_allocate(void) {
	assert(!atomic_load(&is_forbidden));
	const long n = atomic_fetch_add(&n_allocs, 1) + 1;
	return n != atomic_load(&fail_at);
}

void *base_alloc(size_t n, size_t bytes) {
	size_t total;
	if (!base_mul(n, bytes, &total) || !may_allocate()) {
		return NULL;
	}
	return calloc(1, total > 0 ? total : 1);
}

void *base_realloc(void *p, size_t n, size_t bytes) {
	size_t total;
	if (!base_mul(n, bytes, &total) || !may_allocate()) {
		return NULL;
	}
	return realloc(p, total > 0 ? total : 1);
}

char *base_strndup(const char *s, size_t n) {
	char *copy = base_alloc(n + 1, 1);
	if (copy != NULL) {
		memcpy(copy, s, n);
	}
	return copy;
}

char *base_strdup(const char *s) {
	return base_strndup(s, strlen(s));
}

void base_free(void *p) {
	free(p);
}

enum { HUGE_PAGE = 2 << 20 };

void *base_map(size_t bytes) {
	if (bytes == 0 || !may_allocate()) {
		return NULL;
	}
	void *p = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (p == MAP_FAILED) {
		return NULL;
	}
	if (bytes >= HUGE_PAGE) {
		madvise(p, bytes, MADV_HUGEPAGE);
	}
	return p;
}

void base_unmap(void *p, size_t bytes) {
	if (p != NULL) {
		munmap(p, bytes);
	}
}

/* ---- growable text and token ids ---- */

bool base_reserve(struct bb_text *t, size_t bytes, struct bb_error *err) {
	size_t need;
	if (!base_add(t->bytes, bytes, &need) || !base_add(need, 1, &need)) {
		return base_no_memory(err, "text", SIZE_MAX);
	}
	if (need > t->cap) {
		const size_t cap = need + need / 2 + 32;
		char *grown = base_realloc(t->data, cap, 1);
		if (grown == NULL) {
			return base_no_memory(err, "text", cap);
		}
		t->data = grown;
		t->cap = cap;
	}
	return true;
}

bool base_append(struct bb_text *t, const void *data, size_t bytes, struct bb_error *err) {
	if (!base_reserve(t, bytes, err)) {
		return false;
	}
	if (bytes > 0) {
		memcpy(t->data + t->bytes, data, bytes);
	}
	t->bytes += bytes;
	t->data[t->bytes] = '\0';
	return true;
}

void bb_text_finish(struct bb_text *t) {
	if (t != NULL) {
		base_free(t->data);
		memset(t, 0, sizeof(*t));
	}
}

bool bb_tokens_push(struct bb_tokens *t, int32_t id, struct bb_error *err) {
	if (t->n == t->cap) {
		const size_t cap = t->cap + t->cap / 2 + 64;
		int32_t *grown = base_realloc(t->ids, cap, sizeof(*grown));
		if (grown == NULL) {
			return base_no_memory(err, "token ids", cap * sizeof(*grown));
		}
		t->ids = grown;
		t->cap = cap;
	}
	t->ids[t->n++] = id;
	return true;
}

void bb_tokens_finish(struct bb_tokens *t) {
	if (t != NULL) {
		base_free(t->ids);
		memset(t, 0, sizeof(*t));
	}
}

/* ---- characters ---- */

int base_char(const char *p, size_t bytes) {
	const uint8_t *u = (const uint8_t *)p;
	if (u[0] < 0x80) {
		return 1;
	}
	const int n = u[0] < 0xC2 ? 0 : u[0] < 0xE0 ? 2 : u[0] < 0xF0 ? 3 : u[0] < 0xF5 ? 4 : 0;
	if (n == 0 || bytes < (size_t)n) {
		return 0;
	}
	/* the second byte is where overlong forms, surrogates and too large numbers show */
	const uint8_t low = u[0] == 0xE0 ? 0xA0 : u[0] == 0xF0 ? 0x90 : 0x80;
	const uint8_t high = u[0] == 0xED ? 0x9F : u[0] == 0xF4 ? 0x8F : 0xBF;
	if (u[1] < low || u[1] > high) {
		return 0;
	}
	for (int i = 2; i < n; i++) {
		if ((u[i] & 0xC0) != 0x80) {
			return 0;
		}
	}
	return n;
}

/* Controls of ASCII and, as a terminal obeys them too, of Latin-1: U+0080 to U+009F. */
static bool is_control(const uint8_t *p, int bytes) {
	return p[0] < 0x20 || p[0] == 0x7F || (bytes == 2 && p[0] == 0xC2 && p[1] < 0xA0);
}

const char *base_show(const char *data, size_t bytes, char *buf, size_t cap) {
	size_t n = 0;
	while (n < bytes && n < cap - 1) {
		const int step = base_char(data + n, bytes - n);
		const bool prints = step > 0 && !is_control((const uint8_t *)data + n, step);
		if (n + (prints ? (size_t)step : 1) > cap - 1) {
			break;
		}
		if (!prints) {
			buf[n++] = '?';
			continue;
		}
		memcpy(buf + n, data + n, (size_t)step);
		n += (size_t)step;
	}
	buf[n] = '\0';
	return buf;
}

/* ---- files ---- */

bool base_file_open(struct base_file *f, const char *path, struct bb_error *err) {
	memset(f, 0, sizeof(*f));
	const int fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0) {
		return base_fail(err, BB_ERR_IO, "%.150s: can't be opened: %s", path, strerror(errno));
	}
	struct stat st;
	bool ok = false;
	if (fstat(fd, &st) != 0) {
		base_fail(err, BB_ERR_IO, "%.150s: can't be read: %s", path, strerror(errno));
	} else if (!S_ISREG(st.st_mode)) {
		base_fail(err, BB_ERR_IO, "%.150s: expected a regular file", path);
	} else if (st.st_size == 0) {
		base_fail(err, BB_ERR_FORMAT, "%.150s: the file is empty", path);
	} else {
		void *p = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_PRIVATE, fd, 0);
		if (p == MAP_FAILED) {
			base_fail(err, BB_ERR_IO, "%.150s: can't be mapped: %s", path, strerror(errno));
		} else {
			f->data = p;
			f->bytes = (size_t)st.st_size;
			ok = true;
		}
	}
	close(fd);
	return ok;
}

void base_file_close(struct base_file *f) {
	if (f->data != NULL) {
		munmap((void *)(uintptr_t)f->data, f->bytes);
	}
	memset(f, 0, sizeof(*f));
}

double base_seconds(void) {
	struct timespec ts;
	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (double)ts.tv_sec + 1e-9 * (double)ts.tv_nsec;
}
