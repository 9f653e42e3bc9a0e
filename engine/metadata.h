/* SPDX-License-Identifier: Apache-2.0
 *
 * Writes a GGUF file without tensors into memory: metadata of another format, for those who read
 * GGUF's; and the beginning of files with tensors (gguf_write.h). */
#ifndef METADATA_H
#define METADATA_H

#include "gguf.h"

struct metadata {
	struct bb_text *out; /* the file so far; whole after metadata_end */
	uint64_t n_keys;
	bool ok;             /* no allocation has failed so far */
	struct bb_error *err;
};

/* Begins a file in *out, which is empty. Keys follow, each once; then the end. What fails is in
 * m->err and shows at the end. */
void metadata_begin(struct metadata *m, struct bb_text *out, struct bb_error *err);
bool metadata_end(struct metadata *m);

void metadata_text(struct metadata *m, const char *key, const char *text, size_t bytes);
void metadata_string(struct metadata *m, const char *key, const char *text); /* NUL-terminated */
void metadata_int(struct metadata *m, const char *key, int64_t value);
void metadata_float(struct metadata *m, const char *key, double value);
/* As llama.cpp demands most numbers. */
void metadata_u32(struct metadata *m, const char *key, uint32_t value);
void metadata_f32(struct metadata *m, const char *key, float value);
void metadata_bool(struct metadata *m, const char *key, bool value);
/* An array of n i32, or of n strings, whose bytes the caller appends one by one. */
void metadata_ints(struct metadata *m, const char *key, const int32_t *values, size_t n);
void metadata_strings(struct metadata *m, const char *key, size_t n);
void metadata_element(struct metadata *m, const char *text, size_t bytes);

#endif
