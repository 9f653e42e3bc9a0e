/* SPDX-License-Identifier: Apache-2.0
 *
 * The files that commands write: whole under their name at the end, or not there at all. */
#ifndef OUTPUT_H
#define OUTPUT_H

#include "bobbin.h"

#include <stdio.h>

struct output { /* zeroed = closed */
	FILE *file;
	char *path; /* what errors call it; the file that is replaced at the end */
	char *temp; /* beside it, until then; NULL: written in place (stdout, a pipe, a device) */
};

/* path "-" is stdout. */
bool output_open(struct output *o, const char *path, struct bb_error *err);
/* A failed write to stdout is reported at the end of the process, as any other is. */
bool output_write(struct output *o, const void *data, size_t bytes, struct bb_error *err);
/* With ok the file appears under its name; else what was written is removed. Returns whether it is
 * there. */
bool output_close(struct output *o, bool ok, struct bb_error *err);

#endif
