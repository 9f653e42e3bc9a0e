/* SPDX-License-Identifier: Apache-2.0
 *
 * Writing a file beside its place, and putting it there when it is whole. */
#include "aside.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static bool fail(const struct aside *a, const char *what) {
	return base_fail(a->err, BB_ERR_IO, "%.150s: can't be %s: %s", a->path, what, strerror(errno));
}

bool aside_open(struct aside *a, const char *path, unsigned mode, struct bb_error *err) {
	struct stat st;
	a->path = path;
	a->err = err;
	if (lstat(path, &st) == 0 && !S_ISREG(st.st_mode)) {
		return base_fail(err, BB_ERR_IO, "%.150s: expected a regular file, or none", path);
	}
	const int n = snprintf(a->temp, sizeof(a->temp), "%s.%d.part", path, (int)getpid());
	if (n >= (int)sizeof(a->temp)) {
		return base_fail(err, BB_ERR_IO, "%.150s...: the name of a file is too long", path);
	}
	a->fd = open(a->temp, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, mode);
	return a->fd >= 0 || fail(a, "created");
}

bool aside_write(struct aside *a, const void *data, size_t bytes) {
	const uint8_t *p = data;
	while (bytes > 0) {
		const ssize_t n = write(a->fd, p, bytes);
		if (n < 0 && errno != EINTR) {
			return fail(a, "written");
		}
		p += n > 0 ? n : 0;
		bytes -= n > 0 ? (size_t)n : 0;
	}
	return true;
}

/* The folder's entry of a renamed file must reach the disk too. */
static bool sync_folder(const struct aside *a) {
	char folder[PATH_MAX];
	const char *slash = strrchr(a->path, '/');
	const int n = slash == NULL ? 0 : slash == a->path ? 1 : (int)(slash - a->path);
	snprintf(folder, sizeof(folder), "%.*s", n > 0 ? n : 1, n > 0 ? a->path : ".");
	const int fd = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	const bool ok = (fd >= 0 && fsync(fd) == 0) || fail(a, "written");
	if (fd >= 0) {
		close(fd);
	}
	return ok;
}

bool aside_close(struct aside *a, bool ok) {
	ok = ok && (fsync(a->fd) == 0 || fail(a, "written"));
	close(a->fd);
	ok = ok && (rename(a->temp, a->path) == 0 || fail(a, "created"));
	if (!ok) {
		unlink(a->temp);
	}
	return ok && sync_folder(a);
}
