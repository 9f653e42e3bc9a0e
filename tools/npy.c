/* SPDX-License-Identifier: Apache-2.0
 *
 * The NumPy file: a magic string, a header padded to 128 bytes, rows. */
#include "npy.h"

#include "input.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { HEADER_BYTES = 128 };

struct npy {
	FILE *file;
	char *path;
	size_t n_rows, n_promised, n_columns;
};

static bool fail(const struct npy *f, struct bb_error *err) {
	return input_fail(err, BB_ERR_IO, "'%s' could not be written: %s", f->path, strerror(errno));
}

static bool write_header(struct npy *f, size_t n_rows, struct bb_error *err) {
	char header[HEADER_BYTES];
	memset(header, ' ', sizeof(header));
	memcpy(header, "\x93NUMPY\x01\x00", 8);
	header[8] = HEADER_BYTES - 10; /* little-endian, 16 bits */
	header[9] = 0;
	char text[HEADER_BYTES];
	const int n = snprintf(text, sizeof(text),
		"{'descr': '<f4', 'fortran_order': False, 'shape': (%zu, %zu), }", n_rows, f->n_columns);
	memcpy(header + 10, text, (size_t)n);
	header[HEADER_BYTES - 1] = '\n';
	return fwrite(header, 1, sizeof(header), f->file) == sizeof(header) || fail(f, err);
}

bool npy_create(struct npy **out, const char *path, size_t n_rows, size_t n_columns,
	struct bb_error *err) {
	*out = NULL;
	struct npy *f = calloc(1, sizeof(*f));
	char *name = strdup(path);
	if (f == NULL || name == NULL) {
		free(f);
		free(name);
		return input_fail(err, BB_ERR_MEMORY, "no memory for '%s'", path);
	}
	f->path = name;
	f->file = fopen(path, "wbe");
	f->n_promised = n_rows;
	f->n_columns = n_columns;
	if (f->file == NULL || !write_header(f, n_rows, err)) {
		if (f->file == NULL) {
			fail(f, err);
		}
		return npy_close(f, false, err);
	}
	*out = f;
	return true;
}

bool npy_write(struct npy *f, const float *rows, size_t n_rows, struct bb_error *err) {
	f->n_rows += n_rows;
	return fwrite(rows, f->n_columns * sizeof(*rows), n_rows, f->file) == n_rows || fail(f, err);
}

bool npy_close(struct npy *f, bool ok, struct bb_error *err) {
	if (f == NULL) {
		return ok;
	}
	if (ok && f->n_rows != f->n_promised && fseek(f->file, 0, SEEK_SET) == 0) {
		ok = write_header(f, f->n_rows, err);
	}
	if (f->file != NULL) {
		struct stat info;
		const bool is_plain = fstat(fileno(f->file), &info) == 0 && S_ISREG(info.st_mode);
		if (fclose(f->file) != 0 && ok) {
			ok = fail(f, err);
		}
		if (!ok && is_plain) {
			unlink(f->path);
		}
	}
	free(f->path);
	free(f);
	return ok;
}
