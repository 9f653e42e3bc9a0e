/* SPDX-License-Identifier: Apache-2.0
 *
 * One compilation or one rendering of a template: its memory (an arena, freed at once), its limits,
 * and the way out of it on an error. Nothing here knows Jinja.
 *
 * A failure leaves by longjmp to the setjmp of template.c: nothing between the two owns anything
 * but arena memory, so there is nothing to unwind. */
#ifndef TEMPLATE_JOB_H
#define TEMPLATE_JOB_H

#include "base.h"

#include <setjmp.h>

#define JOB_MAX_BYTES ((size_t)256 << 20) /* arena memory of one job */
#define JOB_MAX_OUTPUT ((size_t)64 << 20) /* bytes of one text under construction */
#define JOB_MAX_WORK 20000000u            /* steps; bytes handled count by sixteens */
#define JOB_MAX_DEPTH 400                 /* nesting of syntax, calls and values together */

struct job_chunk;

struct job {
	jmp_buf way_out;
	struct bb_error *err;
	struct job_chunk *chunks; /* newest first */
	size_t bytes_left;
	uint64_t work_left;
	int depth;
	int line; /* of the template, for messages; 0 = none yet */
};

void job_init(struct job *j, struct bb_error *err);
/* Frees the arena. */
void job_finish(struct job *j);
void job_free_chunks(struct job_chunk *chunks);

/* Fills the error with "line N of the template: …", made one line of valid text, and leaves. */
_Noreturn void job_fail(struct job *j, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

/* Zeroed arena memory for n elements; never NULL. */
void *job_alloc(struct job *j, size_t n, size_t bytes);
/* The block at p (old_bytes of it in use) with room for new_bytes; moves it when it has to. */
void *job_grow(struct job *j, void *p, size_t old_bytes, size_t new_bytes);

/* Counts `steps` of work against the limit. */
void job_work(struct job *j, size_t steps);
/* As job_work, for a pass over `bytes` of text. */
void job_work_bytes(struct job *j, size_t bytes);

/* Around everything that recurses. */
void job_enter(struct job *j);
void job_leave(struct job *j);

#endif
