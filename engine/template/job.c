/* SPDX-License-Identifier: Apache-2.0
 *
 * Arena, limits and failure of one job. */
#include "template/job.h"

#include <stdalign.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <utf8proc.h>

#define CHUNK_BYTES ((size_t)32 << 10)
#define MAX_CHUNK_BYTES ((size_t)1 << 20)

struct job_chunk {
	struct job_chunk *next;
	size_t used, cap;
	alignas(16) unsigned char data[]; /* [cap] */
};

void job_init(struct job *j, struct bb_error *err) {
	memset(j, 0, sizeof(*j));
	j->err = err;
	j->bytes_left = JOB_MAX_BYTES;
	j->work_left = JOB_MAX_WORK;
}

void job_free_chunks(struct job_chunk *chunks) {
	while (chunks != NULL) {
		struct job_chunk *next = chunks->next;
		base_free(chunks);
		chunks = next;
	}
}

void job_finish(struct job *j) {
	job_free_chunks(j->chunks);
	j->chunks = NULL;
}

/* No line ends or other controls, and no half of a character where the text was cut. */
static void make_sentence(char *text) {
	size_t n = 0;
	for (const char *p = text; *p != '\0';) {
		utf8proc_int32_t c;
		const utf8proc_ssize_t bytes = utf8proc_iterate((const utf8proc_uint8_t *)p, -1, &c);
		if (bytes <= 0) {
			p++;
			continue;
		}
		memmove(text + n, p, (size_t)bytes);
		text[n] = c < 0x20 || c == 0x7F ? ' ' : text[n];
		n += (size_t)bytes;
		p += bytes;
	}
	text[n] = '\0';
}

void job_fail(struct job *j, const char *fmt, ...) {
	char text[400];
	va_list args;
	va_start(args, fmt);
	vsnprintf(text, sizeof(text), fmt, args);
	va_end(args);
	make_sentence(text);
	if (j->line > 0) {
		base_fail(j->err, BB_ERR_TEMPLATE, "line %d of the template: %s", j->line, text);
	} else {
		base_fail(j->err, BB_ERR_TEMPLATE, "template: %s", text);
	}
	longjmp(j->way_out, 1);
}

static _Noreturn void fail_memory(struct job *j, size_t bytes) {
	base_no_memory(j->err, "template", bytes);
	longjmp(j->way_out, 1);
}

static struct job_chunk *add_chunk(struct job *j, size_t bytes) {
	size_t cap = j->chunks == NULL ? CHUNK_BYTES : j->chunks->cap * 2;
	cap = cap > MAX_CHUNK_BYTES ? MAX_CHUNK_BYTES : cap;
	cap = bytes > cap ? bytes : cap;
	if (cap > j->bytes_left) {
		job_fail(j, "more than %zu MiB of memory are needed", JOB_MAX_BYTES >> 20);
	}
	struct job_chunk *c = base_alloc(1, sizeof(*c) + cap);
	if (c == NULL) {
		fail_memory(j, cap);
	}
	j->bytes_left -= cap;
	c->cap = cap;
	/* A block of its own doesn't end the chunk that small blocks still fit in. */
	if (j->chunks != NULL && bytes > MAX_CHUNK_BYTES / 2) {
		c->next = j->chunks->next;
		j->chunks->next = c;
	} else {
		c->next = j->chunks;
		j->chunks = c;
	}
	return c;
}

void *job_alloc(struct job *j, size_t n, size_t bytes) {
	size_t total;
	if (!base_mul(n, bytes, &total) || total > JOB_MAX_BYTES) {
		job_fail(j, "more than %zu MiB of memory are needed", JOB_MAX_BYTES >> 20);
	}
	total = (total + 15) & ~(size_t)15;
	struct job_chunk *c = j->chunks;
	if (c == NULL || c->cap - c->used < total) {
		c = add_chunk(j, total);
	}
	void *p = c->data + c->used;
	c->used += total;
	return p;
}

void *job_grow(struct job *j, void *p, size_t old_bytes, size_t new_bytes) {
	void *grown = job_alloc(j, new_bytes, 1);
	if (old_bytes > 0) {
		memcpy(grown, p, old_bytes);
	}
	return grown;
}

void job_work(struct job *j, size_t steps) {
	if (steps >= j->work_left) {
		job_fail(j, "more than %u steps are needed", JOB_MAX_WORK);
	}
	j->work_left -= steps;
}

void job_work_bytes(struct job *j, size_t bytes) {
	job_work(j, bytes / 16 + 1);
}

void job_enter(struct job *j) {
	if (j->depth >= JOB_MAX_DEPTH) {
		job_fail(j, "nested deeper than %d levels", JOB_MAX_DEPTH);
	}
	j->depth++;
}

void job_leave(struct job *j) {
	j->depth--;
}
