/* SPDX-License-Identifier: Apache-2.0
 *
 * Reader of GGUF v2/v3 files (ggml's docs/gguf.md): metadata and tensor views over an mmap. Every
 * length, count and offset is checked against the file before it is used; a refused file gives one
 * sentence that names the key or tensor, what was expected and what came. Knows no architecture. */
#ifndef GGUF_H
#define GGUF_H

#include "tensor.h"

enum gguf_type { /* value types, numbered as in the file */
	GGUF_U8, GGUF_I8, GGUF_U16, GGUF_I16, GGUF_U32, GGUF_I32, GGUF_F32, GGUF_BOOL,
	GGUF_STRING, GGUF_ARRAY, GGUF_U64, GGUF_I64, GGUF_F64,
};
/* "u8", "string", … */
const char *gguf_type_name(enum gguf_type type);

struct gguf_string {
	const char *data; /* not NUL-terminated: a view into the file */
	size_t bytes;
};

struct gguf_kv {
	char *key;               /* NUL-terminated copy */
	enum gguf_type type;     /* GGUF_ARRAY for arrays */
	enum gguf_type elem;     /* of an array; a scalar's own type */
	uint64_t n;              /* elements of an array, 1 for a scalar */
	const uint8_t *data;     /* scalar or first element, unaligned, little-endian */
	struct gguf_string *strings; /* [n] for string and array of string, else NULL */
};

struct gguf_index { /* open addressing; at most half full */
	uint32_t *slots; /* [n_slots] 1 + place of an entry, 0 = free */
	size_t n_slots;  /* a power of two */
};

struct gguf {
	struct base_file file;      /* zeroed when opened from memory */
	uint32_t version;
	uint64_t alignment;
	struct gguf_kv *kvs;        /* [n_kvs] */
	size_t n_kvs;
	struct bb_tensor *tensors;  /* [n_tensors] */
	size_t n_tensors;
	struct gguf_index key_index, name_index;
	uint64_t hash_seed;         /* random, so that no file can choose keys that collide */
};

/* init on caller's memory; finish accepts zeroed memory. The file stays mapped until finish. On a
 * failure *g is zeroed and nothing stays mapped. */
bool gguf_open(struct gguf *g, const char *path, struct bb_error *err);
/* The same over bytes that the caller keeps alive (fuzzer, tests). */
bool gguf_open_memory(struct gguf *g, const void *data, size_t bytes, struct bb_error *err);
void gguf_finish(struct gguf *g);

const struct gguf_kv *gguf_find(const struct gguf *g, const char *key);
const struct bb_tensor *gguf_tensor(const struct gguf *g, const char *name);

/* Typed access. `found` false and true returned when the key is absent (*out is left alone); a key
 * of another type or out of range is an error. Integers of any width and sign are widened with a
 * range check; gguf_float takes integers too. */
bool gguf_int(const struct gguf *g, const char *key, int64_t *out, bool *found,
	struct bb_error *err);
bool gguf_float(const struct gguf *g, const char *key, double *out, bool *found,
	struct bb_error *err);
bool gguf_bool(const struct gguf *g, const char *key, bool *out, bool *found, struct bb_error *err);
bool gguf_str(const struct gguf *g, const char *key, struct gguf_string *out, bool *found,
	struct bb_error *err);
/* Element i of an array of any integer/float/bool type (or of a scalar, i = 0), widened; i < n
 * asserted. To an integer: floats are cut, what is out of range saturates, NaN is 0. */
int64_t gguf_array_int(const struct gguf_kv *kv, uint64_t i);
double gguf_array_float(const struct gguf_kv *kv, uint64_t i);

#endif
