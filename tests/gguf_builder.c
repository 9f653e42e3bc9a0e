/* SPDX-License-Identifier: Apache-2.0
 *
 * Writes GGUF files in memory: see gguf_builder.h. Numbers are stored as this little-endian machine
 * holds them. */
#include "gguf_builder.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

static void put(struct gguf_builder_bytes *b, const void *data, size_t bytes) {
	if (b->bytes + bytes > b->cap) {
		b->cap = 2 * (b->bytes + bytes) + 256;
		b->data = realloc(b->data, b->cap);
		assert(b->data != NULL);
	}
	if (bytes > 0) {
		memcpy(b->data + b->bytes, data, bytes);
	}
	b->bytes += bytes;
}

static void put_u32(struct gguf_builder_bytes *b, uint32_t v) {
	put(b, &v, sizeof(v));
}

static void put_u64(struct gguf_builder_bytes *b, uint64_t v) {
	put(b, &v, sizeof(v));
}

static void put_string(struct gguf_builder_bytes *b, const void *text, size_t bytes) {
	put_u64(b, bytes);
	put(b, text, bytes);
}

static void pad(struct gguf_builder_bytes *b, uint64_t alignment) {
	while (b->bytes % alignment != 0) {
		put(b, "", 1);
	}
}

static void add_mark(struct gguf_builder_mark **marks, size_t *n, const char *name, size_t at) {
	if ((*n & (*n - 1)) == 0) { /* 0 or a power of two: full */
		*marks = realloc(*marks, (*n > 0 ? 2 * *n : 1) * sizeof(**marks));
		assert(*marks != NULL);
	}
	char *copy = malloc(strlen(name) + 1);
	assert(copy != NULL);
	strcpy(copy, name);
	(*marks)[*n] = (struct gguf_builder_mark){ .name = copy, .at = at };
	*n += 1;
}

void gguf_builder_init(struct gguf_builder *b) {
	memset(b, 0, sizeof(*b));
	b->version = 3;
	b->alignment = 32;
}

void gguf_builder_finish(struct gguf_builder *b) {
	for (size_t i = 0; i < b->n_kvs; i++) {
		free(b->keys[i].name);
	}
	for (size_t i = 0; i < b->n_tensors; i++) {
		free(b->tensors[i].name);
	}
	free(b->keys);
	free(b->tensors);
	free(b->kvs.data);
	free(b->infos.data);
	free(b->data.data);
	free(b->image.data);
	memset(b, 0, sizeof(*b));
}

/* ---- metadata ---- */

static void put_key(struct gguf_builder *b, const char *key, enum gguf_type type) {
	add_mark(&b->keys, &b->n_kvs, key, b->kvs.bytes);
	put_string(&b->kvs, key, strlen(key));
	put_u32(&b->kvs, (uint32_t)type);
}

void gguf_builder_raw(struct gguf_builder *b, const char *key, enum gguf_type type,
		const void *value, size_t bytes) {
	put_key(b, key, type);
	put(&b->kvs, value, bytes);
}

static size_t type_bytes(enum gguf_type type) {
	switch (type) {
	case GGUF_U8:
	case GGUF_I8:
	case GGUF_BOOL:
		return 1;
	case GGUF_U16:
	case GGUF_I16:
		return 2;
	case GGUF_U32:
	case GGUF_I32:
	case GGUF_F32:
		return 4;
	case GGUF_U64:
	case GGUF_I64:
	case GGUF_F64:
		return 8;
	default:
		assert(!"a number type");
		return 0;
	}
}

void gguf_builder_int(struct gguf_builder *b, const char *key, enum gguf_type type, int64_t v) {
	assert(type != GGUF_F32 && type != GGUF_F64);
	gguf_builder_raw(b, key, type, &v, type_bytes(type));
}

void gguf_builder_float(struct gguf_builder *b, const char *key, enum gguf_type type, double v) {
	assert(type == GGUF_F32 || type == GGUF_F64);
	const float f = (float)v;
	gguf_builder_raw(b, key, type, type == GGUF_F32 ? (const void *)&f : &v, type_bytes(type));
}

void gguf_builder_bool(struct gguf_builder *b, const char *key, bool v) {
	gguf_builder_int(b, key, GGUF_BOOL, v);
}

void gguf_builder_bytes_str(struct gguf_builder *b, const char *key, const void *text,
		size_t bytes) {
	put_key(b, key, GGUF_STRING);
	put_string(&b->kvs, text, bytes);
}

void gguf_builder_str(struct gguf_builder *b, const char *key, const char *text) {
	gguf_builder_bytes_str(b, key, text, strlen(text));
}

static void put_array(struct gguf_builder *b, const char *key, enum gguf_type elem, size_t n) {
	put_key(b, key, GGUF_ARRAY);
	put_u32(&b->kvs, (uint32_t)elem);
	put_u64(&b->kvs, n);
}

void gguf_builder_array(struct gguf_builder *b, const char *key, enum gguf_type elem, size_t n,
		const void *data) {
	put_array(b, key, elem, n);
	put(&b->kvs, data, n * type_bytes(elem));
}

void gguf_builder_strs(struct gguf_builder *b, const char *key, size_t n,
		const char *const *texts) {
	put_array(b, key, GGUF_STRING, n);
	for (size_t i = 0; i < n; i++) {
		put_string(&b->kvs, texts[i], strlen(texts[i]));
	}
}

void gguf_builder_views(struct gguf_builder *b, const char *key, size_t n,
		const struct gguf_string *texts) {
	put_array(b, key, GGUF_STRING, n);
	for (size_t i = 0; i < n; i++) {
		put_string(&b->kvs, texts[i].data, texts[i].bytes);
	}
}

void gguf_builder_alignment(struct gguf_builder *b, uint32_t alignment) {
	assert(b->n_tensors == 0);
	gguf_builder_int(b, "general.alignment", GGUF_U32, alignment);
	b->alignment = alignment;
}

/* ---- tensors ---- */

void gguf_builder_tensor(struct gguf_builder *b, const char *name, enum bb_dtype type, int n_dims,
		const int64_t *dims, const void *data) {
	pad(&b->data, b->alignment);
	add_mark(&b->tensors, &b->n_tensors, name, b->infos.bytes);
	put_string(&b->infos, name, strlen(name));
	put_u32(&b->infos, (uint32_t)n_dims);
	size_t bytes = dtype_row_bytes(type, dims[n_dims - 1]);
	for (int i = n_dims - 1; i >= 0; i--) {
		put_u64(&b->infos, (uint64_t)dims[i]);
		bytes *= i < n_dims - 1 ? (size_t)dims[i] : 1;
	}
	put_u32(&b->infos, (uint32_t)type);
	put_u64(&b->infos, b->data.bytes);
	if (data != NULL) {
		put(&b->data, data, bytes);
		return;
	}
	uint32_t x = (uint32_t)strlen(name) + (uint8_t)name[0];
	for (size_t i = 0; i < bytes; i++) {
		x = x * 1664525 + 1013904223;
		put(&b->data, &(uint8_t){ x >> 24 & 0x3f }, 1); /* small numbers in every type */
	}
}

void gguf_builder_f32(struct gguf_builder *b, const char *name, int n_dims, const int64_t *dims,
		const float *values) {
	gguf_builder_tensor(b, name, BB_F32, n_dims, dims, values);
}

static void add_every_value(struct gguf_builder *b) {
	gguf_builder_str(b, "general.architecture", "llama");
	gguf_builder_int(b, "a.u8", GGUF_U8, 255);
	gguf_builder_int(b, "a.i8", GGUF_I8, -128);
	gguf_builder_int(b, "a.u16", GGUF_U16, 65535);
	gguf_builder_int(b, "a.i16", GGUF_I16, -32768);
	gguf_builder_int(b, "a.u32", GGUF_U32, UINT32_MAX);
	gguf_builder_int(b, "a.i32", GGUF_I32, INT32_MIN);
	gguf_builder_float(b, "a.f32", GGUF_F32, 0.1f);
	gguf_builder_bool(b, "a.bool", true);
	gguf_builder_int(b, "a.u64", GGUF_U64, INT64_MAX);
	gguf_builder_int(b, "a.i64", GGUF_I64, INT64_MIN);
	gguf_builder_float(b, "a.f64", GGUF_F64, 0.1);
	gguf_builder_str(b, "a.empty", "");
	gguf_builder_bytes_str(b, "a.nul", "x\0y", 3);
	const char *const tokens[] = { "<s>", "", "hello", "\xe2\x96\x81world" };
	gguf_builder_strs(b, "tokenizer.ggml.tokens", COUNT(tokens), tokens);
	const float scores[] = { 0, -1, -2.5f, 1e30f };
	gguf_builder_array(b, "tokenizer.ggml.scores", GGUF_F32, COUNT(scores), scores);
	const int32_t types[] = { 3, 1, 1, -1 };
	gguf_builder_array(b, "tokenizer.ggml.token_type", GGUF_I32, COUNT(types), types);
	const uint8_t flags[] = { 0, 1, 1 };
	gguf_builder_array(b, "b.bools", GGUF_BOOL, COUNT(flags), flags);
	gguf_builder_array(b, "b.nothing", GGUF_U64, 0, NULL);
}

void gguf_builder_sample(struct gguf_builder *b) {
	add_every_value(b);
	gguf_builder_tensor(b, "one.weight", BB_F32, 1, (const int64_t[]){ 5 }, NULL);
	gguf_builder_tensor(b, "two.weight", BB_Q4_1, 2, (const int64_t[]){ 3, 64 }, NULL);
	gguf_builder_tensor(b, "three.weight", BB_F16, 3, (const int64_t[]){ 2, 3, 4 }, NULL);
	gguf_builder_tensor(b, "four.weight", BB_Q8_0, 4, (const int64_t[]){ 1, 2, 1, 32 }, NULL);
}

/* ---- the file ---- */

const uint8_t *gguf_builder_end(struct gguf_builder *b, size_t *bytes) {
	b->image.bytes = 0;
	put(&b->image, "GGUF", 4);
	put_u32(&b->image, b->version);
	put_u64(&b->image, b->n_tensors);
	put_u64(&b->image, b->n_kvs);
	put(&b->image, b->kvs.data, b->kvs.bytes);
	put(&b->image, b->infos.data, b->infos.bytes);
	if (b->n_tensors > 0) {
		pad(&b->image, b->alignment);
		put(&b->image, b->data.data, b->data.bytes);
	}
	*bytes = b->image.bytes;
	return b->image.data;
}

bool gguf_builder_write(struct gguf_builder *b, const char *path) {
	size_t bytes;
	const uint8_t *data = gguf_builder_end(b, &bytes);
	FILE *f = fopen(path, "wb");
	if (f == NULL) {
		return false;
	}
	const bool written = fwrite(data, 1, bytes, f) == bytes;
	return fclose(f) == 0 && written;
}

/* ---- spoiling ---- */

static const struct gguf_builder_mark *find(const struct gguf_builder_mark *marks, size_t n,
		const char *name) {
	for (size_t i = 0; i < n; i++) {
		if (strcmp(marks[i].name, name) == 0) {
			return &marks[i];
		}
	}
	assert(!"a key or tensor of this builder");
	return NULL;
}

size_t gguf_builder_at_key(const struct gguf_builder *b, const char *key) {
	return GGUF_AT_KVS + find(b->keys, b->n_kvs, key)->at;
}

size_t gguf_builder_at_type(const struct gguf_builder *b, const char *key) {
	return gguf_builder_at_key(b, key) + 8 + strlen(key);
}

size_t gguf_builder_at_tensor(const struct gguf_builder *b, const char *name) {
	return GGUF_AT_KVS + b->kvs.bytes + find(b->tensors, b->n_tensors, name)->at;
}

size_t gguf_builder_at_shape(const struct gguf_builder *b, const char *name) {
	return gguf_builder_at_tensor(b, name) + 8 + strlen(name);
}

size_t gguf_builder_at_data(const struct gguf_builder *b) {
	const size_t end = GGUF_AT_KVS + b->kvs.bytes + b->infos.bytes;
	return (end + b->alignment - 1) / b->alignment * b->alignment;
}

static void poke(struct gguf_builder *b, size_t at, const void *v, size_t bytes) {
	assert(at + bytes <= b->image.bytes);
	memcpy(b->image.data + at, v, bytes);
}

void gguf_builder_poke_u8(struct gguf_builder *b, size_t at, uint8_t v) {
	poke(b, at, &v, sizeof(v));
}

void gguf_builder_poke_u32(struct gguf_builder *b, size_t at, uint32_t v) {
	poke(b, at, &v, sizeof(v));
}

void gguf_builder_poke_u64(struct gguf_builder *b, size_t at, uint64_t v) {
	poke(b, at, &v, sizeof(v));
}

/* ---- using what was read ---- */

static uint64_t visit_kv(const struct gguf_kv *kv) {
	uint64_t sum = kv->n;
	for (uint64_t i = 0; i < kv->n; i++) {
		if (kv->elem != GGUF_STRING) {
			const double d = gguf_array_float(kv, i);
			sum += (uint64_t)gguf_array_int(kv, i) + (d > 0);
			continue;
		}
		for (size_t j = 0; j < kv->strings[i].bytes; j++) {
			sum += (uint8_t)kv->strings[i].data[j];
		}
	}
	return sum;
}

static uint64_t visit_access(const struct gguf *g, const char *key) {
	struct bb_error err = { .code = BB_OK };
	int64_t i = 0;
	double d = 0;
	bool flag = false, found;
	struct gguf_string s = { .bytes = 0 };
	const int n_ok = gguf_int(g, key, &i, &found, &err) + gguf_float(g, key, &d, &found, &err)
		+ gguf_bool(g, key, &flag, &found, &err) + gguf_str(g, key, &s, &found, &err);
	assert(found && n_ok <= 2 && err.code == BB_ERR_FORMAT);
	return (uint64_t)i + (d > 0) + flag + s.bytes;
}

uint64_t gguf_builder_visit(const struct gguf *g) {
	uint64_t sum = g->version + g->alignment;
	for (size_t i = 0; i < g->n_kvs; i++) {
		const struct gguf_kv *kv = &g->kvs[i];
		assert(gguf_find(g, kv->key) == kv);
		sum += visit_kv(kv) + visit_access(g, kv->key);
	}
	for (size_t i = 0; i < g->n_tensors; i++) {
		const struct bb_tensor *t = &g->tensors[i];
		assert(gguf_tensor(g, t->name) == t && t->n_dims >= 1 && t->n_dims <= 4);
		const uint8_t *data = t->data;
		for (size_t j = 0; j < t->bytes; j++) {
			sum += data[j];
		}
	}
	return sum;
}
