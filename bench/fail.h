/* SPDX-License-Identifier: Apache-2.0
 *
 * What a benchmark says when something is wrong. */
#ifndef FAIL_H
#define FAIL_H

#include <errno.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>

/* "NAME: ...", a line on stderr; always false. */
static inline bool fail(const char *format, ...) {
	va_list args;
	va_start(args, format);
	fprintf(stderr, "%s: ", program_invocation_short_name);
	vfprintf(stderr, format, args);
	fputc('\n', stderr);
	va_end(args);
	return false;
}

/* For what a program that only ever runs for minutes can't go on without. */
static inline void *must(void *p) {
	if (p == NULL) {
		fail("no memory");
		exit(1);
	}
	return p;
}

#endif
