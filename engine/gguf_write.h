/* SPDX-License-Identifier: Apache-2.0
 *
 * Writes GGUF files, version 3: metadata, and tensors that are filled in memory as f32. What the
 * reader in gguf.c takes back, and llama.cpp too. Knows no architecture. */
#ifndef GGUF_WRITE_H
#define GGUF_WRITE_H

#include "bobbin.h"

enum gguf_write_type { GGUF_WRITE_F32, GGUF_WRITE_F16, GGUF_WRITE_BF16 };
enum { GGUF_WRITE_DIMS = 4 };

struct gguf_writer;

/* An empty file. BB_ERR_MEMORY; then *out is NULL. destroy accepts NULL. */
bool gguf_writer_create(struct gguf_writer **out, struct bb_error *err);
void gguf_writer_destroy(struct gguf_writer *w);

/* Metadata: each key once, whatever its order; keys and names are printable ASCII, strings any
 * bytes, and all are copied. An allocation that fails here shows in gguf_writer_save. */
void gguf_writer_string(struct gguf_writer *w, const char *key, const char *text);
void gguf_writer_strings(struct gguf_writer *w, const char *key, const char *const *texts,
	size_t n); /* an array of n strings */
void gguf_writer_u32(struct gguf_writer *w, const char *key, uint32_t value);
void gguf_writer_f32(struct gguf_writer *w, const char *key, float value);
void gguf_writer_bool(struct gguf_writer *w, const char *key, bool value);

/* A tensor of that shape, each name once; its values, zeroed and for the caller to fill until the
 * file is saved: [n0, n1] row-major, outermost first; n1 = 0: a vector [n0]. They are rounded to
 * the nearest even of `type` in the file and belong to the writer. n0 >= 1, n1 >= 0. NULL when
 * there is no memory, which gguf_writer_save reports too. */
float *gguf_writer_tensor(struct gguf_writer *w, const char *name, enum gguf_write_type type,
	int64_t n0, int64_t n1);
/* The same of any shape: dims [n_dims], outermost first. */
float *gguf_writer_shaped(struct gguf_writer *w, const char *name, enum gguf_write_type type,
	int n_dims, const int64_t *dims);

/* Writes the file aside and renames it when it's on the disk: on an error what stood there stays.
 * BB_ERR_IO; BB_ERR_MEMORY, also of an earlier call. May be called again. */
bool gguf_writer_save(struct gguf_writer *w, const char *path, struct bb_error *err);

#endif
