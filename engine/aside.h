/* SPDX-License-Identifier: Apache-2.0
 *
 * Files that are whole under their name, or as they were before: written aside, and renamed when
 * they are on the disk. */
#ifndef ASIDE_H
#define ASIDE_H

#include "base.h"

#include <limits.h>

struct aside {
	int fd;
	const char *path;    /* borrowed: the file's name at the end */
	char temp[PATH_MAX]; /* its name until then */
	struct bb_error *err;
};

/* What stands at `path` and is no regular file, a link too, is refused. The file gets `mode`, less
 * the process's mask. After a failure there is nothing to close. */
bool aside_open(struct aside *a, const char *path, unsigned mode, struct bb_error *err);
bool aside_write(struct aside *a, const void *data, size_t bytes);
/* With ok the file gets its name, once its bytes are on the disk; else, and on a failure, what was
 * written is removed. Returns whether it has its name, for good. */
bool aside_close(struct aside *a, bool ok);

#endif
