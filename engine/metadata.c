/* SPDX-License-Identifier: Apache-2.0
 *
 * Writing GGUF metadata, version 3. */
#include "metadata.h"

#include <string.h>

enum { AT_N_KEYS = 4 + 4 + 8 };

static void put(struct metadata *m, const void *data, size_t bytes) {
	m->ok = m->ok && base_append(m->out, data, bytes, m->err);
}

static void put_u32(struct metadata *m, uint32_t v) {
	put(m, &v, sizeof(v));
}

static void put_u64(struct metadata *m, uint64_t v) {
	put(m, &v, sizeof(v));
}

static void put_key(struct metadata *m, const char *key, enum gguf_type type) {
	m->n_keys++;
	metadata_element(m, key, strlen(key));
	put_u32(m, type);
}

void metadata_begin(struct metadata *m, struct bb_text *out, struct bb_error *err) {
	*m = (struct metadata){ .out = out, .ok = true, .err = err };
	put(m, "GGUF", 4);
	put_u32(m, 3);
	put_u64(m, 0); /* tensors */
	put_u64(m, 0); /* keys, so far */
}

bool metadata_end(struct metadata *m) {
	if (m->ok) {
		memcpy(m->out->data + AT_N_KEYS, &m->n_keys, sizeof(m->n_keys));
	}
	return m->ok;
}

void metadata_element(struct metadata *m, const char *text, size_t bytes) {
	put_u64(m, bytes);
	put(m, text, bytes);
}

void metadata_text(struct metadata *m, const char *key, const char *text, size_t bytes) {
	put_key(m, key, GGUF_STRING);
	metadata_element(m, text, bytes);
}

void metadata_string(struct metadata *m, const char *key, const char *text) {
	metadata_text(m, key, text, strlen(text));
}

void metadata_int(struct metadata *m, const char *key, int64_t value) {
	put_key(m, key, GGUF_I64);
	put(m, &value, sizeof(value));
}

void metadata_float(struct metadata *m, const char *key, double value) {
	put_key(m, key, GGUF_F64);
	put(m, &value, sizeof(value));
}

void metadata_u32(struct metadata *m, const char *key, uint32_t value) {
	put_key(m, key, GGUF_U32);
	put_u32(m, value);
}

void metadata_f32(struct metadata *m, const char *key, float value) {
	put_key(m, key, GGUF_F32);
	put(m, &value, sizeof(value));
}

void metadata_bool(struct metadata *m, const char *key, bool value) {
	const uint8_t byte = value;
	put_key(m, key, GGUF_BOOL);
	put(m, &byte, sizeof(byte));
}

void metadata_ints(struct metadata *m, const char *key, const int32_t *values, size_t n) {
	put_key(m, key, GGUF_ARRAY);
	put_u32(m, GGUF_I32);
	put_u64(m, n);
	put(m, values, n * sizeof(*values));
}

void metadata_strings(struct metadata *m, const char *key, size_t n) {
	put_key(m, key, GGUF_ARRAY);
	put_u32(m, GGUF_STRING);
	put_u64(m, n);
}
