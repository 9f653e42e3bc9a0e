/* SPDX-License-Identifier: Apache-2.0
 *
 * The format: "\x93NUMPY", version, length of the header, the header as a Python dictionary, then
 * the elements (numpy.lib.format). Little-endian, like everything else here. */
#include "npy.h"

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void quit(const char *path, const char *why) {
	fprintf(stderr, "%s: %s\n", path, why);
	abort();
}

static char *read_header(FILE *f, const char *path) {
	uint8_t lead[12] = { 0 };
	if (fread(lead, 1, 10, f) != 10 || memcmp(lead, "\x93NUMPY", 6) != 0) {
		quit(path, "is no .npy file");
	}
	size_t bytes = lead[8] | (size_t)lead[9] << 8;
	if (lead[6] > 1) { /* versions 2 and 3: four bytes of length */
		if (fread(lead + 10, 1, 2, f) != 2) {
			quit(path, "ends in its header");
		}
		bytes |= (size_t)lead[10] << 16 | (size_t)lead[11] << 24;
	}
	char *header = bytes < 65536 ? malloc(bytes + 1) : NULL;
	if (!header || fread(header, 1, bytes, f) != bytes) {
		quit(path, "ends in its header");
	}
	header[bytes] = 0;
	return header;
}

void npy_init(struct npy *a, const char *path) {
	FILE *f = fopen(path, "rb");
	if (!f) {
		quit(path, "can't be opened");
	}
	char *header = read_header(f, path);
	const char *shape = strstr(header, "'shape': (");
	if (!strstr(header, "'descr': '<f4'") || !strstr(header, "'fortran_order': False") || !shape) {
		quit(path, "holds no C-ordered float32 array");
	}
	unsigned long n[2] = { 0, 0 };
	const int n_dims = sscanf(shape, "'shape': (%lu, %lu", &n[0], &n[1]);
	free(header);
	if (n_dims < 1 || n[0] > 1u << 24 || n[1] > 1u << 24) {
		quit(path, "must have one or two dimensions");
	}
	a->rows = n_dims == 2 ? n[0] : 1;
	a->cols = n_dims == 2 ? n[1] : n[0];
	const size_t count = a->rows * a->cols;
	a->data = malloc((count ? count : 1) * sizeof(float));
	if (!a->data || fread(a->data, sizeof(float), count, f) != count) {
		quit(path, "ends before its last element");
	}
	fclose(f);
}

void npy_finish(struct npy *a) {
	free(a->data);
	memset(a, 0, sizeof(*a));
}
