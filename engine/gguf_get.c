/* SPDX-License-Identifier: Apache-2.0
 *
 * Typed access to GGUF metadata: integers of any width as int64, floats as double, range checked.
 * Everything here was bounds-checked when the file was read. */
#include "gguf.h"

#include <assert.h>
#include <inttypes.h>
#include <string.h>

/* ---- single values: unaligned, little-endian as this machine ---- */

static uint64_t load_uint(const uint8_t *p, int bytes) {
	uint64_t v = 0;
	memcpy(&v, p, (size_t)bytes);
	return v;
}

static int64_t load_int(const uint8_t *p, int bytes) {
	const int unused_bits = 64 - 8 * bytes;
	return (int64_t)(load_uint(p, bytes) << unused_bits) >> unused_bits;
}

static double load_float(const uint8_t *p, int bytes) {
	double d;
	float f;
	if (bytes == 8) {
		memcpy(&d, p, sizeof(d));
		return d;
	}
	memcpy(&f, p, sizeof(f));
	return f;
}

enum class { NOT_A_NUMBER, UNSIGNED, SIGNED, FLOAT };

static enum class class_of(enum gguf_type type, int *bytes) {
	static const struct {
		enum class class;
		int bytes;
	} numbers[] = {
		[GGUF_U8] = { UNSIGNED, 1 },
		[GGUF_I8] = { SIGNED, 1 },
		[GGUF_U16] = { UNSIGNED, 2 },
		[GGUF_I16] = { SIGNED, 2 },
		[GGUF_U32] = { UNSIGNED, 4 },
		[GGUF_I32] = { SIGNED, 4 },
		[GGUF_F32] = { FLOAT, 4 },
		[GGUF_BOOL] = { UNSIGNED, 1 },
		[GGUF_U64] = { UNSIGNED, 8 },
		[GGUF_I64] = { SIGNED, 8 },
		[GGUF_F64] = { FLOAT, 8 },
	};
	assert((unsigned)type < COUNT(numbers));
	*bytes = numbers[type].bytes;
	return numbers[type].class;
}

/* (int64_t)d is defined only inside the range. */
static int64_t saturate(double d) {
	if (d >= 0x1p63) {
		return INT64_MAX;
	}
	if (d < -0x1p63) {
		return INT64_MIN;
	}
	return d == d ? (int64_t)d : 0;
}

int64_t gguf_array_int(const struct gguf_kv *kv, uint64_t i) {
	int bytes;
	const enum class class = class_of(kv->elem, &bytes);
	assert(class != NOT_A_NUMBER && i < kv->n);
	const uint8_t *p = kv->data + i * (uint64_t)bytes;
	if (class == FLOAT) {
		return saturate(load_float(p, bytes));
	}
	if (class == SIGNED) {
		return load_int(p, bytes);
	}
	const uint64_t u = load_uint(p, bytes);
	return u > INT64_MAX ? INT64_MAX : (int64_t)u;
}

double gguf_array_float(const struct gguf_kv *kv, uint64_t i) {
	int bytes;
	const enum class class = class_of(kv->elem, &bytes);
	assert(class != NOT_A_NUMBER && i < kv->n);
	const uint8_t *p = kv->data + i * (uint64_t)bytes;
	if (class == FLOAT) {
		return load_float(p, bytes);
	}
	return class == SIGNED ? (double)load_int(p, bytes) : (double)load_uint(p, bytes);
}

/* ---- by key ---- */

static bool is_integer(enum gguf_type type) {
	return type <= GGUF_I32 || type == GGUF_U64 || type == GGUF_I64;
}

static bool wrong_type(const struct gguf_kv *kv, const char *expected, struct bb_error *err) {
	if (kv->type == GGUF_ARRAY) {
		return base_fail(err, BB_ERR_FORMAT,
			"key '%.100s' is an array of %" PRIu64 " %s, expected %s", kv->key, kv->n,
			gguf_type_name(kv->elem), expected);
	}
	return base_fail(err, BB_ERR_FORMAT, "key '%.100s' is of type %s, expected %s", kv->key,
		gguf_type_name(kv->type), expected);
}

bool gguf_int(const struct gguf *g, const char *key, int64_t *out, bool *found,
		struct bb_error *err) {
	const struct gguf_kv *kv = gguf_find(g, key);
	*found = kv != NULL;
	if (kv == NULL) {
		return true;
	}
	if (!is_integer(kv->type)) {
		return wrong_type(kv, "an integer", err);
	}
	if (kv->type == GGUF_U64 && load_uint(kv->data, 8) > INT64_MAX) {
		return base_fail(err, BB_ERR_FORMAT,
			"key '%.100s' is %" PRIu64 ", expected at most %" PRId64, key, load_uint(kv->data, 8),
			INT64_MAX);
	}
	*out = gguf_array_int(kv, 0);
	return true;
}

bool gguf_float(const struct gguf *g, const char *key, double *out, bool *found,
		struct bb_error *err) {
	const struct gguf_kv *kv = gguf_find(g, key);
	*found = kv != NULL;
	if (kv == NULL) {
		return true;
	}
	if (kv->type == GGUF_BOOL) {
		*out = kv->data[0] != 0;
		return true;
	}
	if (kv->type != GGUF_F32 && kv->type != GGUF_F64 && !is_integer(kv->type)) {
		return wrong_type(kv, "a number", err);
	}
	*out = gguf_array_float(kv, 0);
	return true;
}

bool gguf_bool(const struct gguf *g, const char *key, bool *out, bool *found,
		struct bb_error *err) {
	const struct gguf_kv *kv = gguf_find(g, key);
	*found = kv != NULL;
	if (kv == NULL) {
		return true;
	}
	if (kv->type != GGUF_BOOL) {
		return wrong_type(kv, "a bool", err);
	}
	*out = kv->data[0] != 0;
	return true;
}

bool gguf_str(const struct gguf *g, const char *key, struct gguf_string *out, bool *found,
		struct bb_error *err) {
	const struct gguf_kv *kv = gguf_find(g, key);
	*found = kv != NULL;
	if (kv == NULL) {
		return true;
	}
	if (kv->type != GGUF_STRING) {
		return wrong_type(kv, "a string", err);
	}
	*out = kv->strings[0];
	return true;
}
