/* SPDX-License-Identifier: Apache-2.0
 *
 * The NumPy file: a magic string, a header padded to 128 bytes, rows. */
#include "npy.h"

#include <string.h>

enum { HEADER_BYTES = 128 };

bool npy_open(struct npy *f, const char *path, size_t n_rows, size_t n_columns,
	struct bb_error *err) {
	char header[HEADER_BYTES], text[HEADER_BYTES];
	memset(header, ' ', sizeof(header));
	memcpy(header, "\x93NUMPY\x01\x00", 8);
	header[8] = HEADER_BYTES - 10; /* little-endian, 16 bits */
	header[9] = 0;
	const int n = snprintf(text, sizeof(text),
		"{'descr': '<f4', 'fortran_order': False, 'shape': (%zu, %zu), }", n_rows, n_columns);
	memcpy(header + 10, text, (size_t)n);
	header[HEADER_BYTES - 1] = '\n';
	f->n_columns = n_columns;
	return output_open(&f->out, path, err) && output_write(&f->out, header, sizeof(header), err);
}

bool npy_write(struct npy *f, const float *rows, size_t n_rows, struct bb_error *err) {
	return output_write(&f->out, rows, n_rows * f->n_columns * sizeof(*rows), err);
}

bool npy_close(struct npy *f, bool ok, struct bb_error *err) {
	return output_close(&f->out, ok, err);
}
