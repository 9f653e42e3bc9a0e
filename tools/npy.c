/* SPDX-License-Identifier: Apache-2.0
 *
 * The NumPy file: a magic string, a header padded to 128 bytes, rows. */
#include "npy.h"

#include "input.h"

#include <math.h>
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
	return input_fail(err, BB_ERR_FORMAT, "%s: expected a NumPy array of floats of 16, 32 or 64 "
		"bits or of integers, little-endian, of 1 to %d axes", input_name(path), NPY_AXES);
}

static double half(uint16_t h) {
	const int exponent = h >> 10 & 31, fraction = h & 1023;
	const double x = exponent == 0 ? ldexp(fraction, -24) : exponent < 31
		? ldexp(1024 + fraction, exponent - 25) : fraction == 0 ? (double)INFINITY : (double)NAN;
	return h >> 15 ? -x : x;
}

/* An element, of `bytes` bytes at any address. */
#define READER(name, type, value) \
	static double name(const char *at) { \
		type x; \
		memcpy(&x, at, sizeof(x)); \
		return value; \
	}
READER(read_f2, uint16_t, half(x))
READER(read_f4, float, (double)x)
READER(read_f8, double, x)
READER(read_i1, int8_t, x)
READER(read_i2, int16_t, x)
READER(read_i4, int32_t, x)
READER(read_i8, int64_t, (double)x)
READER(read_u1, uint8_t, x)
READER(read_u2, uint16_t, x)
READER(read_u4, uint32_t, x)
READER(read_u8, uint64_t, (double)x)
#undef READER

static const struct element {
	const char *descr; /* as NumPy writes it */
	size_t bytes;
	double (*read)(const char *at);
} elements[] = { { "'<f2'", 2, read_f2 }, { "'<f4'", 4, read_f4 }, { "'<f8'", 8, read_f8 },
	{ "'|i1'", 1, read_i1 }, { "'<i2'", 2, read_i2 }, { "'<i4'", 4, read_i4 },
	{ "'<i8'", 8, read_i8 }, { "'|u1'", 1, read_u1 }, { "'<u2'", 2, read_u2 },
	{ "'<u4'", 4, read_u4 }, { "'<u8'", 8, read_u8 } };

static const struct element *element_of(const char *header) {
	static const char key[] = "'descr': ";
	const char *descr = strstr(header, key);
	for (size_t i = 0; descr != NULL && i < sizeof(elements) / sizeof(*elements); i++) {
		const char *known = elements[i].descr;
		if (strncmp(descr + sizeof(key) - 1, known, strlen(known)) == 0) {
			return &elements[i];
		}
	}
	return NULL;
}

/* Where element i of the array, counted in row-major order, lies in Fortran's, which turns the axes
 * round. */
static size_t fortran_place(const struct npy_array *a, size_t i) {
	size_t place = 0, stride = a->n;
	for (int axis = a->n_axes - 1; axis >= 0; axis--) {
		stride /= a->shape[axis];
		place += i % a->shape[axis] * stride;
		i /= a->shape[axis];
	}
	return place;
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
	const struct element *element = element_of(header);
	const char *shape = strstr(header, shape_key);
	const bool is_fortran = strstr(header, "'fortran_order': True") != NULL;
	if (element == NULL || shape == NULL ||
		(!is_fortran && strstr(header, "'fortran_order': False") == NULL) ||
		!read_shape(a, shape + sizeof(shape_key) - 1) ||
		in->bytes - 10 - n_header != a->n * element->bytes) {
		return false;
	}
	a->data = malloc(a->n * sizeof(*a->data));
	const char *from = in->data + 10 + n_header;
	for (size_t i = 0; i < a->n && a->data != NULL; i++) {
		const size_t place = is_fortran ? fortran_place(a, i) : i;
		a->data[i] = (float)element->read(from + place * element->bytes);
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
