/* SPDX-License-Identifier: Apache-2.0
 *
 * Reading safetensors. The file is hostile until shown otherwise: no number of the header is used
 * before it was held against the file, every byte of the data belongs to one tensor, and none to
 * two. */
#include "safetensors.h"

#include "json.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

enum {
	LENGTH_BYTES = 8,
	/* Of a header. The reference takes 100 MB, which parsed may be gigabytes; 20000 tensors of a
	 * large mixture of experts take 3. */
	MAX_HEADER = 32 << 20,
	MAX_NAME_BYTES = 255,
};

/* What is being read, for the sentence of an error. */
struct reader {
	const uint8_t *data; /* [bytes], behind the header */
	uint64_t bytes;
	struct bb_error *err;
};

/* Where a tensor's data is, from the data's beginning. */
struct span {
	uint64_t start, end;
	size_t i_tensor;
};

static const struct {
	const char *name;
	enum bb_dtype type;
} dtypes[] = {
	{ "F32", BB_F32 }, { "F16", BB_F16 }, { "BF16", BB_BF16 },
};

/* Those of the format that have no kernels here. */
static const char *const foreign_dtypes[] = {
	"BOOL", "U8", "I8", "U16", "I16", "U32", "I32", "U64", "I64", "F64", "F4", "F6_E2M3", "F6_E3M2",
	"F8_E5M2", "F8_E4M3", "F8_E8M0", "C64",
};

static bool read_dtype(struct reader *r, struct bb_tensor *t, const json_t *value) {
	const char *name = json_string_value(value);
	if (name == NULL) {
		return base_fail(r->err, BB_ERR_FORMAT, "tensor '%s' has no string as dtype", t->name);
	}
	for (size_t i = 0; i < COUNT(dtypes); i++) {
		if (strcmp(name, dtypes[i].name) == 0) {
			t->type = dtypes[i].type;
			return true;
		}
	}
	for (size_t i = 0; i < COUNT(foreign_dtypes); i++) {
		if (strcmp(name, foreign_dtypes[i]) == 0) {
			return base_fail(r->err, BB_ERR_UNSUPPORTED,
				"tensor '%s' has dtype %s, expected F32, F16 or BF16", t->name, name);
		}
	}
	char shown[BASE_SHOWN];
	return base_fail(r->err, BB_ERR_FORMAT, "tensor '%s' has the unknown dtype '%s'", t->name,
		base_show(name, strlen(name), shown, sizeof(shown)));
}

static bool read_shape(struct reader *r, struct bb_tensor *t, const json_t *value) {
	const size_t n_dims = json_array_size(value);
	if (!json_is_array(value) || n_dims > COUNT(t->dims)) {
		return base_fail(r->err, BB_ERR_FORMAT,
			"tensor '%s' has no array of 0 to %zu dimensions as shape", t->name, COUNT(t->dims));
	}
	t->n_dims = n_dims > 0 ? (int)n_dims : 1; /* a scalar is [1] */
	int64_t n_elems = 1;
	for (size_t i = 0; i < COUNT(t->dims); i++) {
		t->dims[i] = 1;
	}
	for (size_t i = 0; i < n_dims; i++) {
		const json_t *dim = json_array_get(value, i);
		if (!json_is_integer(dim) || json_integer_value(dim) < 1) {
			return base_fail(r->err, BB_ERR_FORMAT,
				"tensor '%s' has something else than a number from 1 on as dimension %zu", t->name,
				i + 1);
		}
		t->dims[i] = json_integer_value(dim);
		if (__builtin_mul_overflow(n_elems, t->dims[i], &n_elems)) {
			return base_fail(r->err, BB_ERR_FORMAT, "tensor '%s' has more elements than 2^63 - 1",
				t->name);
		}
	}
	if (!base_mul((size_t)n_elems, (size_t)tensor_block_bytes(t->type), &t->bytes)) {
		return base_fail(r->err, BB_ERR_FORMAT, "tensor '%s' has more bytes than 2^64 - 1",
			t->name);
	}
	return true;
}

static bool read_offsets(struct reader *r, struct bb_tensor *t, const json_t *value,
	struct span *span) {
	const json_t *start = json_array_get(value, 0), *end = json_array_get(value, 1);
	if (json_array_size(value) != 2 || !json_is_integer(start) || !json_is_integer(end) ||
		json_integer_value(start) < 0 || json_integer_value(end) < json_integer_value(start)) {
		return base_fail(r->err, BB_ERR_FORMAT,
			"tensor '%s' has no two data_offsets, the first not above the second", t->name);
	}
	span->start = (uint64_t)json_integer_value(start);
	span->end = (uint64_t)json_integer_value(end);
	if (span->end > r->bytes) {
		return base_fail(r->err, BB_ERR_FORMAT, "tensor '%s' needs bytes %" PRIu64 "..%" PRIu64
			" of the data but it ends at %" PRIu64 " (truncated?)", t->name, span->start, span->end,
			r->bytes);
	}
	if (span->end - span->start != t->bytes) {
		char shape[96];
		return base_fail(r->err, BB_ERR_FORMAT,
			"tensor '%s' has data_offsets of %" PRIu64 " bytes, but %s %s has %zu", t->name,
			span->end - span->start, tensor_type_name(t->type),
			tensor_shape_text(t, shape, sizeof(shape)), t->bytes);
	}
	t->data = r->data + span->start;
	return true;
}

/* Printable ASCII, so that a name can stand in a sentence. */
static bool check_name(struct reader *r, const char *name) {
	const size_t bytes = strlen(name);
	char shown[BASE_SHOWN];
	for (size_t i = 0; i < bytes; i++) {
		if (name[i] < 0x20 || name[i] > 0x7e) {
			return base_fail(r->err, BB_ERR_FORMAT,
				"tensor '%s' has byte 0x%02x at place %zu of its name, expected printable ASCII",
				base_show(name, bytes, shown, sizeof(shown)), (uint8_t)name[i], i);
		}
	}
	return (bytes >= 1 && bytes <= MAX_NAME_BYTES) || base_fail(r->err, BB_ERR_FORMAT,
		"tensor '%s' has a name of %zu bytes, expected 1..%d",
		base_show(name, bytes, shown, sizeof(shown)), bytes, MAX_NAME_BYTES);
}

static bool read_tensor(struct safetensors *s, struct reader *r, const char *name,
	const json_t *entry, struct span *span) {
	if (!check_name(r, name)) {
		return false;
	}
	struct bb_tensor *t = &s->tensors[s->n_tensors];
	t->name = base_strdup(name);
	if (t->name == NULL) {
		return base_no_memory(r->err, "a name in the file", strlen(name) + 1);
	}
	span->i_tensor = s->n_tensors++;
	const json_t *dtype = json_object_get(entry, "dtype");
	const json_t *shape = json_object_get(entry, "shape");
	const json_t *offsets = json_object_get(entry, "data_offsets");
	if (json_object_size(entry) != 3 || dtype == NULL || shape == NULL || offsets == NULL) {
		return base_fail(r->err, BB_ERR_FORMAT,
			"tensor '%s' has other fields than dtype, shape and data_offsets", name);
	}
	return read_dtype(r, t, dtype) && read_shape(r, t, shape) && read_offsets(r, t, offsets, span);
}

/* ---- where tensors lie ---- */

static int by_start(const void *a, const void *b) {
	const struct span *x = a, *y = b;
	if (x->start != y->start) {
		return x->start < y->start ? -1 : 1;
	}
	return (x->i_tensor > y->i_tensor) - (x->i_tensor < y->i_tensor);
}

static bool refuse_hole(struct reader *r, uint64_t start, uint64_t end) {
	return base_fail(r->err, BB_ERR_FORMAT,
		"bytes %" PRIu64 "..%" PRIu64 " of the data belong to no tensor", start, end);
}

/* Every byte of the data belongs to one tensor, and none to two. */
static bool check_spans(const struct safetensors *s, struct reader *r, struct span *spans) {
	qsort(spans, s->n_tensors, sizeof(*spans), by_start);
	uint64_t at = 0;
	for (size_t i = 0; i < s->n_tensors; i++) {
		const struct span *b = &spans[i];
		if (b->start < at) { /* no tensor is empty, so the one before is there */
			const struct span *a = &spans[i - 1];
			return base_fail(r->err, BB_ERR_FORMAT, "tensor '%s' begins at byte %" PRIu64
				" of the data, inside tensor '%s' of bytes %" PRIu64 "..%" PRIu64,
				s->tensors[b->i_tensor].name, b->start, s->tensors[a->i_tensor].name, a->start,
				a->end);
		}
		if (b->start > at) {
			return refuse_hole(r, at, b->start);
		}
		at = b->end;
	}
	return at == r->bytes || refuse_hole(r, at, r->bytes);
}

/* The format promises no alignment, kernels want that of an element. */
static bool align(struct safetensors *s, struct bb_error *err) {
	for (size_t i = 0; i < s->n_tensors; i++) {
		struct bb_tensor *t = &s->tensors[i];
		if ((uintptr_t)t->data % (uintptr_t)tensor_block_bytes(t->type) == 0) {
			continue;
		}
		if (s->copies == NULL) {
			s->copies = base_alloc(s->n_tensors, sizeof(*s->copies));
		}
		void *copy = s->copies != NULL ? base_alloc(t->bytes, 1) : NULL;
		if (copy == NULL) {
			return base_no_memory(err, "tensors that lie unaligned in the file", t->bytes);
		}
		t->data = s->copies[i] = memcpy(copy, t->data, t->bytes);
	}
	return true;
}

/* ---- the whole file ---- */

static bool check_metadata(const json_t *metadata, struct bb_error *err) {
	const char *key;
	json_t *value;
	bool ok = metadata == NULL || json_is_object(metadata);
	json_object_foreach((json_t *)(uintptr_t)metadata, key, value) {
		ok = ok && json_is_string(value);
	}
	return ok ||
		base_fail(err, BB_ERR_FORMAT, "the header's __metadata__ isn't an object of strings");
}

static bool read_tensors(struct safetensors *s, struct reader *r, json_t *header) {
	const size_t n = json_object_size(header);
	s->tensors = base_alloc(n, sizeof(*s->tensors));
	struct span *spans = s->tensors != NULL ? base_alloc(n, sizeof(*spans)) : NULL;
	if (spans == NULL) {
		return base_no_memory(r->err, "tensor table", n * (sizeof(*s->tensors) + sizeof(*spans)));
	}
	const char *name;
	json_t *entry;
	bool ok = true;
	json_object_foreach(header, name, entry) {
		if (ok && strcmp(name, "__metadata__") != 0) {
			ok = read_tensor(s, r, name, entry, &spans[s->n_tensors]);
		}
	}
	ok = ok && check_spans(s, r, spans);
	base_free(spans);
	return ok && align(s, r->err);
}

/* The header's bytes, checked to be there; 0: they aren't. */
static uint64_t header_bytes(const uint8_t *data, size_t bytes, struct bb_error *err) {
	uint64_t n = 0;
	if (bytes < LENGTH_BYTES) {
		base_fail(err, BB_ERR_FORMAT,
			"the header needs bytes 0..%d but the file ends at %zu (truncated?)", LENGTH_BYTES,
			bytes);
		return 0;
	}
	for (int i = LENGTH_BYTES - 1; i >= 0; i--) {
		n = n << 8 | data[i];
	}
	if (n < 2 || n > MAX_HEADER) {
		base_fail(err, BB_ERR_FORMAT, "the header has %" PRIu64 " bytes, expected 2..%d (is this a "
			"safetensors file?)", n, MAX_HEADER);
		return 0;
	}
	if (n > bytes - LENGTH_BYTES) {
		base_fail(err, BB_ERR_FORMAT,
			"the header needs bytes %d..%" PRIu64 " but the file ends at %zu (truncated?)",
			LENGTH_BYTES, n + LENGTH_BYTES, bytes);
		return 0;
	}
	if (data[LENGTH_BYTES] != '{') {
		base_fail(err, BB_ERR_FORMAT, "the header begins with byte 0x%02x, expected 0x7b ('{')",
			data[LENGTH_BYTES]);
		return 0;
	}
	return n;
}

static bool read_file(struct safetensors *s, const uint8_t *data, size_t bytes,
	struct bb_error *err) {
	const uint64_t n = header_bytes(data, bytes, err);
	json_t *header = n > 0 ? json_read("the header", data + LENGTH_BYTES, n, err) : NULL;
	if (header == NULL) {
		return false;
	}
	struct reader r = { data + LENGTH_BYTES + n, bytes - LENGTH_BYTES - n, err };
	const bool ok = check_metadata(json_object_get(header, "__metadata__"), err) &&
		read_tensors(s, &r, header);
	json_decref(header);
	return ok;
}

bool safetensors_open_memory(struct safetensors *s, const void *data, size_t bytes,
	struct bb_error *err) {
	memset(s, 0, sizeof(*s));
	if (!read_file(s, data, bytes, err)) {
		safetensors_finish(s);
		return false;
	}
	return true;
}

bool safetensors_open(struct safetensors *s, const char *path, struct bb_error *err) {
	memset(s, 0, sizeof(*s));
	struct bb_error inner = { .code = BB_OK };
	if (!base_file_open(&s->file, path, err)) {
		return false;
	}
	if (!read_file(s, s->file.data, s->file.bytes, &inner)) {
		safetensors_finish(s);
		return base_fail(err, inner.code, "%.150s: %.350s", path, inner.text);
	}
	return true;
}

void safetensors_finish(struct safetensors *s) {
	if (s == NULL) {
		return;
	}
	for (size_t i = 0; i < s->n_tensors; i++) {
		base_free((char *)(uintptr_t)s->tensors[i].name);
		base_free(s->copies != NULL ? s->copies[i] : NULL);
	}
	base_free(s->tensors);
	base_free(s->copies);
	base_file_close(&s->file);
	memset(s, 0, sizeof(*s));
}
