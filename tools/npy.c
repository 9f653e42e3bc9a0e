/* SPDX-License-Identifier: Apache-2.0
 *
 * The NumPy file: a magic string, a header padded to 128 bytes, rows. */
#include "npy.h"

#include "input.h"

#include <stdlib.h>
#include <string.h>

enum { HEADER_BYTES = 128 };

static const char magic[] = "\x93NUMPY\x01";

/* ---- writing ---- */

static bool open_shape(struct output *out, const char *path, const size_t *shape, int n_axes,
	struct bb_error *err) {
	char header[HEADER_BYTES], axes[96] = "", text[HEADER_BYTES + 96];
	for (int i = 0; i < n_axes; i++) {
		snprintf(axes + strlen(axes), sizeof(axes) - strlen(axes), "%zu%s", shape[i],
			n_axes == 1 ? "," : i + 1 < n_axes ? ", " : "");
	}
	memset(header, ' ', sizeof(header));
	memcpy(header, magic, 8); /* with minor version 0 */
	header[8] = HEADER_BYTES - 10; /* little-endian, 16 bits */
	header[9] = 0;
	const int n = snprintf(text, sizeof(text),
		"{'descr': '<f4', 'fortran_order': False, 'shape': (%s), }", axes);
	memcpy(header + 10, text, n < HEADER_BYTES - 11 ? (size_t)n : HEADER_BYTES - 11);
	header[HEADER_BYTES - 1] = '\n';
	return output_open(out, path, err) && output_write(out, header, sizeof(header), err);
}

bool npy_open(struct npy *f, const char *path, size_t n_rows, size_t n_columns,
	struct bb_error *err) {
	const size_t shape[] = { n_rows, n_columns };
	f->n_columns = n_columns;
	return open_shape(&f->out, path, shape, 2, err);
}

bool npy_write(struct npy *f, const float *rows, size_t n_rows, struct bb_error *err) {
	return output_write(&f->out, rows, n_rows * f->n_columns * sizeof(*rows), err);
}

bool npy_close(struct npy *f, bool ok, struct bb_error *err) {
	return output_close(&f->out, ok, err);
}

bool npy_save(const struct npy_array *a, const char *path, struct bb_error *err) {
	struct output out = { 0 };
	const bool ok = open_shape(&out, path, a->shape, a->n_axes, err) &&
		output_write(&out, a->data, a->n * sizeof(*a->data), err);
	return output_close(&out, ok, err) && ok;
}

/* ---- reading ---- */

static bool refuse(const char *path, struct bb_error *err) {
	return input_fail(err, BB_ERR_FORMAT, "%s: expected a NumPy array of float32 or float64, "
		"little-endian, in C order, of 1 to %d axes", input_name(path), NPY_AXES);
}

/* The axes behind "'shape': (" of a header. */
static bool read_shape(struct npy_array *a, const char *text) {
	a->n = 1;
	for (; *text != ')'; text += strspn(text, ", ")) {
		char *end;
		const unsigned long long n = strtoull(text, &end, 10);
		if (end == text || a->n_axes == NPY_AXES || n == 0 || n > (1u << 30) / a->n) {
			return false;
		}
		a->shape[a->n_axes++] = (size_t)n;
		a->n *= (size_t)n;
		text = end;
	}
	return a->n_axes > 0;
}

/* The header is text that NumPy writes in one way. */
static bool parse(struct npy_array *a, const struct input *in) {
	static const char shape_key[] = "'shape': (";
	const size_t n_header = in->bytes < 10 || memcmp(in->data, magic, 7) != 0 ? 0
		: (size_t)(uint8_t)in->data[8] + ((size_t)(uint8_t)in->data[9] << 8);
	char header[1024];
	if (n_header == 0 || n_header >= sizeof(header) || n_header > in->bytes - 10) {
		return false;
	}
	memcpy(header, in->data + 10, n_header);
	header[n_header] = '\0';
	const bool is_double = strstr(header, "'descr': '<f8'") != NULL;
	const char *shape = strstr(header, shape_key);
	if ((!is_double && strstr(header, "'descr': '<f4'") == NULL) || shape == NULL ||
		strstr(header, "'fortran_order': False") == NULL ||
		!read_shape(a, shape + sizeof(shape_key) - 1) ||
		in->bytes - 10 - n_header != a->n * (is_double ? sizeof(double) : sizeof(float))) {
		return false;
	}
	a->data = malloc(a->n * sizeof(*a->data));
	const char *from = in->data + 10 + n_header;
	for (size_t i = 0; i < a->n && a->data != NULL && is_double; i++) {
		double x;
		memcpy(&x, from + i * sizeof(x), sizeof(x));
		a->data[i] = (float)x;
	}
	if (!is_double && a->data != NULL) {
		memcpy(a->data, from, a->n * sizeof(*a->data));
	}
	return true;
}

bool npy_load(struct npy_array *a, const char *path, struct bb_error *err) {
	struct input in;
	*a = (struct npy_array){ 0 };
	if (!input_read(path, &in, err)) {
		return false;
	}
	bool ok = parse(a, &in) || refuse(path, err);
	input_finish(&in);
	if (ok && a->data == NULL) {
		ok = input_fail(err, BB_ERR_MEMORY, "%s: no memory for %zu numbers", path, a->n);
	}
	if (!ok) {
		*a = (struct npy_array){ 0 };
	}
	return ok;
}

void npy_array_finish(struct npy_array *a) {
	free(a->data);
	*a = (struct npy_array){ 0 };
}
