/* SPDX-License-Identifier: Apache-2.0
 *
 * Writes GGUF files in memory for tests: well-formed ones, and the places in them to be spoiled.
 * Uses plain malloc, so that a test may count or fail the engine's own allocations. */
#ifndef GGUF_BUILDER_H
#define GGUF_BUILDER_H

#include "gguf.h"

struct gguf_builder_bytes {
	uint8_t *data; /* [bytes] */
	size_t bytes, cap;
};

struct gguf_builder_mark {
	char *name;
	size_t at; /* of the entry in its section */
};

struct gguf_builder {
	uint32_t version;     /* 3 */
	uint64_t alignment;   /* 32; see gguf_builder_alignment */
	struct gguf_builder_bytes kvs, infos, data, image;
	struct gguf_builder_mark *keys, *tensors; /* [n_kvs], [n_tensors] */
	size_t n_kvs, n_tensors;
};

void gguf_builder_init(struct gguf_builder *b);
void gguf_builder_finish(struct gguf_builder *b);

/* ---- metadata: one call per key ---- */

/* Any value type, from its bytes in the file. */
void gguf_builder_raw(struct gguf_builder *b, const char *key, enum gguf_type type,
	const void *value, size_t bytes);
/* Integer types and bool; the low bytes of v. */
void gguf_builder_int(struct gguf_builder *b, const char *key, enum gguf_type type, int64_t v);
/* GGUF_F32 or GGUF_F64. */
void gguf_builder_float(struct gguf_builder *b, const char *key, enum gguf_type type, double v);
void gguf_builder_bool(struct gguf_builder *b, const char *key, bool v);
void gguf_builder_str(struct gguf_builder *b, const char *key, const char *text);
void gguf_builder_bytes_str(struct gguf_builder *b, const char *key, const void *text,
	size_t bytes);
/* n elements of a number type or bool; data: [n] as C holds them. */
void gguf_builder_array(struct gguf_builder *b, const char *key, enum gguf_type elem, size_t n,
	const void *data);
void gguf_builder_strs(struct gguf_builder *b, const char *key, size_t n,
	const char *const *texts);
void gguf_builder_views(struct gguf_builder *b, const char *key, size_t n,
	const struct gguf_string *texts);
/* Writes general.alignment and pads with it; before the first tensor. */
void gguf_builder_alignment(struct gguf_builder *b, uint32_t alignment);

/* ---- tensors ---- */

/* dims: [n_dims], outermost first, rows a multiple of the block. data: the bytes as stored, or NULL
 * for a pattern that depends on the name. */
void gguf_builder_tensor(struct gguf_builder *b, const char *name, enum bb_dtype type, int n_dims,
	const int64_t *dims, const void *data);
/* The same with f32 values, stored as F32. */
void gguf_builder_f32(struct gguf_builder *b, const char *name, int n_dims, const int64_t *dims,
	const float *values);

/* Every value type, arrays, and tensors of 1..4 dimensions; the last one ends the file. */
void gguf_builder_sample(struct gguf_builder *b);

/* ---- the file ---- */

/* Puts the file together; borrowed until the next end or finish. */
const uint8_t *gguf_builder_end(struct gguf_builder *b, size_t *bytes);
/* The same into a file. false when it can't be written. */
bool gguf_builder_write(struct gguf_builder *b, const char *path);

/* ---- spoiling: places in the image that gguf_builder_end made ---- */

enum { GGUF_AT_VERSION = 4, GGUF_AT_N_TENSORS = 8, GGUF_AT_N_KVS = 16, GGUF_AT_KVS = 24 };
/* Place of a key's entry: u64 bytes of the key, the key, u32 type, value. */
size_t gguf_builder_at_key(const struct gguf_builder *b, const char *key);
/* Place of that key's type number; its value follows at + 4. */
size_t gguf_builder_at_type(const struct gguf_builder *b, const char *key);
/* Place of a tensor's entry: u64 bytes of the name, the name, u32 n_dims, u64 dims[n_dims], u32
 * type, u64 offset; and of its n_dims. */
size_t gguf_builder_at_tensor(const struct gguf_builder *b, const char *name);
size_t gguf_builder_at_shape(const struct gguf_builder *b, const char *name);
/* Place of the data section. */
size_t gguf_builder_at_data(const struct gguf_builder *b);
void gguf_builder_poke_u8(struct gguf_builder *b, size_t at, uint8_t v);
void gguf_builder_poke_u32(struct gguf_builder *b, size_t at, uint32_t v);
void gguf_builder_poke_u64(struct gguf_builder *b, size_t at, uint64_t v);

/* Uses everything that was read: each key and name finds itself, each value, string and tensor byte
 * is loaded. Returns a sum over it. */
uint64_t gguf_builder_visit(const struct gguf *g);

#endif
