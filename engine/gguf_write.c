/* SPDX-License-Identifier: Apache-2.0
 *
 * Putting GGUF files together: metadata and the table of tensors in memory, their data straight
 * into the file. */
#include "gguf_write.h"

#include "aside.h"
#include "metadata.h"

#include <assert.h>
#include <string.h>

enum { ALIGNMENT = 32, AT_N_TENSORS = 4 + 4, PIECE = 1 << 14 };

struct written_tensor {
	char *name;
	enum bb_dtype type;
	int64_t dims[GGUF_WRITE_DIMS]; /* [n_dims], outermost first */
	int n_dims;
	float *values;   /* [n] */
	size_t n;
};

struct gguf_writer {
	struct bb_text head;     /* the file up to the table of tensors */
	struct metadata keys;
	struct written_tensor *tensors; /* [n_tensors] */
	size_t n_tensors, cap;
	struct bb_error failure; /* the first call that failed */
};

bool gguf_writer_create(struct gguf_writer **out, struct bb_error *err) {
	struct gguf_writer *w = *out = base_alloc(1, sizeof(*w));
	if (w == NULL) {
		return base_no_memory(err, "GGUF file", sizeof(*w));
	}
	metadata_begin(&w->keys, &w->head, &w->failure);
	return true;
}

void gguf_writer_destroy(struct gguf_writer *w) {
	if (w == NULL) {
		return;
	}
	for (size_t i = 0; i < w->n_tensors; i++) {
		base_free(w->tensors[i].name);
		base_unmap(w->tensors[i].values, w->tensors[i].n * sizeof(float));
	}
	base_free(w->tensors);
	bb_text_finish(&w->head);
	base_free(w);
}

/* ---- metadata ---- */

void gguf_writer_string(struct gguf_writer *w, const char *key, const char *text) {
	metadata_string(&w->keys, key, text);
}

void gguf_writer_strings(struct gguf_writer *w, const char *key, const char *const *texts,
	size_t n) {
	metadata_strings(&w->keys, key, n);
	for (size_t i = 0; i < n; i++) {
		metadata_element(&w->keys, texts[i], strlen(texts[i]));
	}
}

void gguf_writer_u32(struct gguf_writer *w, const char *key, uint32_t value) {
	metadata_u32(&w->keys, key, value);
}

void gguf_writer_f32(struct gguf_writer *w, const char *key, float value) {
	metadata_f32(&w->keys, key, value);
}

void gguf_writer_bool(struct gguf_writer *w, const char *key, bool value) {
	metadata_bool(&w->keys, key, value);
}

/* ---- tensors ---- */

static struct written_tensor *add_tensor(struct gguf_writer *w) {
	if (w->n_tensors == w->cap) {
		const size_t cap = w->cap + w->cap / 2 + 16;
		struct written_tensor *grown = base_realloc(w->tensors, cap, sizeof(*grown));
		if (grown == NULL) {
			base_no_memory(&w->failure, "table of tensors", cap * sizeof(*grown));
			return NULL;
		}
		w->tensors = grown;
		w->cap = cap;
	}
	struct written_tensor *t = &w->tensors[w->n_tensors++];
	memset(t, 0, sizeof(*t));
	return t;
}

float *gguf_writer_shaped(struct gguf_writer *w, const char *name, enum gguf_write_type type,
	int n_dims, const int64_t *dims) {
	static const enum bb_dtype types[] = {
		[GGUF_WRITE_F32] = BB_F32, [GGUF_WRITE_F16] = BB_F16, [GGUF_WRITE_BF16] = BB_BF16,
	};
	size_t bytes;
	assert(n_dims >= 1 && n_dims <= GGUF_WRITE_DIMS);
	struct written_tensor *t = add_tensor(w);
	if (t == NULL) {
		return NULL;
	}
	t->type = types[type];
	t->n_dims = n_dims;
	t->n = 1;
	bool fits = true;
	for (int i = 0; i < n_dims; i++) {
		assert(dims[i] >= 1);
		t->dims[i] = dims[i];
		fits = fits && base_mul(t->n, (size_t)dims[i], &t->n);
	}
	fits = fits && base_mul(t->n, sizeof(float), &bytes);
	t->name = base_strdup(name);
	t->values = fits && t->name != NULL ? base_map(bytes) : NULL;
	if (t->values == NULL) {
		base_no_memory(&w->failure, name, fits ? bytes : SIZE_MAX);
		return NULL;
	}
	return t->values;
}

float *gguf_writer_tensor(struct gguf_writer *w, const char *name, enum gguf_write_type type,
	int64_t n0, int64_t n1) {
	const int64_t dims[2] = { n0, n1 };
	return gguf_writer_shaped(w, name, type, n1 > 0 ? 2 : 1, dims);
}

/* ---- the file ---- */

static size_t padding(size_t bytes) {
	return (ALIGNMENT - bytes % ALIGNMENT) % ALIGNMENT;
}

static size_t stored_bytes(const struct written_tensor *t) {
	return t->n * (size_t)tensor_block_bytes(t->type);
}

/* Name, number of dimensions, dimensions (the innermost first), type, offset in the data. */
static bool put_entry(struct bb_text *out, const struct written_tensor *t, uint64_t offset,
	struct bb_error *err) {
	const uint64_t name_bytes = strlen(t->name);
	const uint32_t n_dims = (uint32_t)t->n_dims, type = t->type;
	bool ok = base_append(out, &name_bytes, sizeof(name_bytes), err) &&
		base_append(out, t->name, name_bytes, err) &&
		base_append(out, &n_dims, sizeof(n_dims), err);
	for (uint32_t i = n_dims; ok && i-- > 0;) {
		ok = base_append(out, &t->dims[i], sizeof(t->dims[i]), err);
	}
	return ok && base_append(out, &type, sizeof(type), err) &&
		base_append(out, &offset, sizeof(offset), err);
}

/* Everything before the data. */
static bool put_head(struct gguf_writer *w, struct bb_text *out, struct bb_error *err) {
	static const char zeros[ALIGNMENT];
	const uint64_t n = w->n_tensors;
	bool ok = metadata_end(&w->keys) && base_append(out, w->head.data, w->head.bytes, err);
	if (ok) {
		memcpy(out->data + AT_N_TENSORS, &n, sizeof(n));
	}
	uint64_t offset = 0;
	for (size_t i = 0; ok && i < w->n_tensors; i++) {
		ok = put_entry(out, &w->tensors[i], offset, err);
		offset += stored_bytes(&w->tensors[i]);
		offset += padding(offset);
	}
	return ok && base_append(out, zeros, padding(out->bytes), err);
}

static void round_to(uint16_t *out, const float *values, size_t n, enum bb_dtype type) {
	for (size_t i = 0; i < n; i++) {
		out[i] = type == BB_F16 ? f32_to_f16(values[i]) : f32_to_bf16(values[i]);
	}
}

static bool put_values(struct aside *file, const struct written_tensor *t) {
	static const char zeros[ALIGNMENT];
	uint16_t piece[PIECE];
	bool ok = t->type != BB_F32 || aside_write(file, t->values, stored_bytes(t));
	for (size_t i = 0; t->type != BB_F32 && ok && i < t->n; i += PIECE) {
		const size_t n = t->n - i < PIECE ? t->n - i : PIECE;
		round_to(piece, t->values + i, n, t->type);
		ok = aside_write(file, piece, n * sizeof(*piece));
	}
	return ok && aside_write(file, zeros, padding(stored_bytes(t)));
}

static bool put_file(struct gguf_writer *w, struct aside *file, const struct bb_text *head) {
	bool ok = aside_write(file, head->data, head->bytes);
	for (size_t i = 0; ok && i < w->n_tensors; i++) {
		ok = put_values(file, &w->tensors[i]);
	}
	return ok;
}

bool gguf_writer_save(struct gguf_writer *w, const char *path, struct bb_error *err) {
	struct bb_text head = { 0 };
	struct aside file;
	if (w->failure.code != BB_OK) {
		return base_fail(err, w->failure.code, "%s", w->failure.text);
	}
	const bool ok = put_head(w, &head, err) && aside_open(&file, path, 0666, err) &&
		aside_close(&file, put_file(w, &file, &head));
	bb_text_finish(&head);
	return ok;
}
