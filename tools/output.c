/* SPDX-License-Identifier: Apache-2.0
 *
 * Writing beside the file and renaming at the end, so that nobody finds half of one. */
#include "output.h"

#include "input.h"
#include "terminal.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static bool fail(const struct output *o, struct bb_error *err) {
	return input_fail(err, BB_ERR_IO, "'%s' could not be written: %s", o->path, strerror(errno));
}

/* The mode that open would give a new file. */
static mode_t new_mode(void) {
	const mode_t mask = umask(0);
	umask(mask);
	return 0666 & ~mask;
}

static bool open_temp(struct output *o, mode_t mode, struct bb_error *err) {
	const char *slash = strrchr(o->path, '/');
	const int n_folder = slash != NULL ? (int)(slash + 1 - o->path) : 0;
	if (asprintf(&o->temp, "%.*s.bobbin-XXXXXX", n_folder, o->path) < 0) {
		o->temp = NULL;
		return fail(o, err);
	}
	const int fd = mkostemp(o->temp, O_CLOEXEC);
	if (fd < 0) {
		fail(o, err);
		free(o->temp);
		o->temp = NULL;
		return false;
	}
	interrupt_removes(o->temp);
	fchmod(fd, mode);
	o->file = fdopen(fd, "w");
	if (o->file == NULL) {
		close(fd);
		return fail(o, err);
	}
	return true;
}

static bool open_named(struct output *o, const char *path, struct bb_error *err) {
	struct stat info;
	const bool is_there = stat(path, &info) == 0;
	/* A link stays: what it points at is replaced. */
	o->path = is_there ? realpath(path, NULL) : strdup(path);
	if (o->path == NULL) {
		return input_fail(err, BB_ERR_IO, "'%s' could not be written: %s", path, strerror(errno));
	}
	if (is_there && !S_ISREG(info.st_mode)) {
		o->file = fopen(path, "we");
		return o->file != NULL || fail(o, err);
	}
	if (is_there && access(path, W_OK) != 0) {
		return fail(o, err);
	}
	return open_temp(o, is_there ? info.st_mode & 07777 : new_mode(), err);
}

bool output_open(struct output *o, const char *path, struct bb_error *err) {
	*o = (struct output){ 0 };
	if (strcmp(path, "-") == 0) {
		o->file = stdout;
		o->path = strdup("stdout");
		return o->path != NULL ||
			input_fail(err, BB_ERR_MEMORY, "no memory for the name of stdout");
	}
	return open_named(o, path, err) || output_close(o, false, err);
}

bool output_write(struct output *o, const void *data, size_t bytes, struct bb_error *err) {
	const bool ok = o->file == stdout ? out_write(data, bytes)
		: fwrite(data, 1, bytes, o->file) == bytes;
	return ok || fail(o, err);
}

bool output_close(struct output *o, bool ok, struct bb_error *err) {
	if (o->file == stdout) {
		ok = (out_flush() || !ok || fail(o, err)) && ok;
	} else if (o->file != NULL && fclose(o->file) != 0 && ok) {
		ok = fail(o, err);
	}
	if (ok && o->temp != NULL && rename(o->temp, o->path) != 0) {
		ok = fail(o, err);
	}
	interrupt_removes(NULL);
	if (!ok && o->temp != NULL) {
		unlink(o->temp);
	}
	free(o->temp);
	free(o->path);
	*o = (struct output){ 0 };
	return ok;
}
