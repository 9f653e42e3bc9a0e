/* SPDX-License-Identifier: Apache-2.0
 *
 * A hand-set model's file in the making: tensors, metadata, names of tokens. */
#include "build.h"

#include "base.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

enum { MAX_NAME = 128 };

static struct matrix add(struct handset_build *b, const char *name, enum gguf_write_type type,
	int rows, int columns) {
	return (struct matrix){ gguf_writer_tensor(b->w, name, type, rows, columns), rows, columns };
}

#define FORMAT(out, format) do { \
	va_list args; \
	va_start(args, format); \
	vsnprintf(out, sizeof(out), format, args); \
	va_end(args); \
} while (0)

struct matrix build_matrix(struct handset_build *b, int rows, int columns, const char *name, ...) {
	char text[MAX_NAME];
	FORMAT(text, name);
	return add(b, text, b->type, rows, columns);
}

struct matrix build_f32(struct handset_build *b, int rows, int columns, const char *name, ...) {
	char text[MAX_NAME];
	FORMAT(text, name);
	return add(b, text, GGUF_WRITE_F32, rows, columns);
}

struct matrix build_vector(struct handset_build *b, int n, float value, const char *name, ...) {
	char text[MAX_NAME];
	FORMAT(text, name);
	const struct matrix m = add(b, text, GGUF_WRITE_F32, n, 0);
	for (int i = 0; i < n; i++) {
		set(&m, i, 0, value);
	}
	return m;
}

static const char *key_of(const struct handset_build *b, const char *key, char *out, size_t cap) {
	snprintf(out, cap, "%s.%s", b->arch, key);
	return out;
}

void build_u32(struct handset_build *b, const char *key, uint32_t value) {
	char text[MAX_NAME];
	gguf_writer_u32(b->w, key_of(b, key, text, sizeof(text)), value);
}

void build_f32_key(struct handset_build *b, const char *key, float value) {
	char text[MAX_NAME];
	gguf_writer_f32(b->w, key_of(b, key, text, sizeof(text)), value);
}

void build_begin(struct handset_build *b, const char *arch, int n_vocab, int context_length,
	int eos) {
	static const uint32_t file_types[] = { 0, 1, 32 }; /* ggml's numbers for "mostly" of each */
	b->arch = arch;
	gguf_writer_string(b->w, "general.architecture", arch);
	gguf_writer_u32(b->w, "general.file_type", file_types[b->type]);
	gguf_writer_f32(b->w, "general.sampling.temp", 0);
	gguf_writer_string(b->w, "tokenizer.ggml.model", "no_vocab");
	if (eos >= 0) {
		gguf_writer_u32(b->w, "tokenizer.ggml.eos_token_id", (uint32_t)eos);
	}
	build_u32(b, "vocab_size", (uint32_t)n_vocab);
	build_u32(b, "context_length", (uint32_t)context_length);
	b->names = base_alloc((size_t)n_vocab, sizeof(*b->names));
	b->n_vocab = b->names != NULL ? n_vocab : 0;
}

void build_name(struct handset_build *b, int id, const char *name, ...) {
	char text[MAX_NAME];
	FORMAT(text, name);
	if (b->names != NULL) {
		assert(id >= 0 && id < b->n_vocab && b->names[id] == NULL);
		b->names[id] = base_strdup(text);
		b->lacks_names = b->lacks_names || b->names[id] == NULL;
	}
}

int build_example(struct bb_tokens *prompt, const int32_t *ids, size_t n, struct bb_error *err) {
	for (size_t i = 0; i < n; i++) {
		if (!bb_tokens_push(prompt, ids[i], err)) {
			return 0;
		}
	}
	return 1;
}

int build_width(int n) {
	int width = HANDSET_HEAD;
	while (width < n) {
		width *= 4;
	}
	return width;
}

/* Names, each there: those that nobody gave are the ids. */
static bool put_names(struct handset_build *b, struct bb_error *err) {
	for (int i = 0; i < b->n_vocab && !b->lacks_names; i++) {
		if (b->names[i] == NULL) {
			build_name(b, i, "%d", i);
		}
	}
	if (b->names == NULL || b->lacks_names) {
		return base_no_memory(err, "names of tokens", MAX_NAME);
	}
	gguf_writer_string(b->w, "bobbin.cot_step", "token");
	gguf_writer_strings(b->w, "bobbin.token_names", (const char *const *)b->names,
		(size_t)b->n_vocab);
	return true;
}

static void put_titles(struct handset_build *b, const struct handset_kind *kind,
	const struct handset_options *o) {
	char name[MAX_NAME] = "";
	size_t n = 0;
	for (int i = 0; i < o->n_tables; i++) {
		const int add_n = snprintf(name + n, sizeof(name) - n, "%s%s", i > 0 ? "+" : " ",
			o->tables[i].name);
		n = n + (size_t)add_n < sizeof(name) ? n + (size_t)add_n : sizeof(name) - 1;
	}
	char title[2 * MAX_NAME];
	snprintf(title, sizeof(title), "%s%s", kind->name, name);
	gguf_writer_string(b->w, "general.name", title);
	gguf_writer_string(b->w, "general.description", kind->summary);
	gguf_writer_string(b->w, "bobbin.handset.kind", kind->name);
}

void handset_names_finish(struct handset_names *names) {
	for (int i = 0; i < names->n; i++) {
		base_free(names->names[i]);
	}
	base_free(names->names);
	*names = (struct handset_names){ 0 };
}

bool handset_write_named(const struct handset_kind *kind, const struct handset_options *o,
	const char *path, struct handset_names *names, struct bb_error *err) {
	static const enum gguf_write_type types[] = {
		[HANDSET_F32] = GGUF_WRITE_F32, [HANDSET_F16] = GGUF_WRITE_F16,
		[HANDSET_BF16] = GGUF_WRITE_BF16,
	};
	struct handset_build b = { .kind = kind, .type = types[o->type] };
	*names = (struct handset_names){ 0 };
	if (!gguf_writer_create(&b.w, err)) {
		return false;
	}
	bool ok = kind->build(&b, o, err);
	if (ok) {
		put_titles(&b, kind, o);
		ok = put_names(&b, err) && gguf_writer_save(b.w, path, err);
	}
	*names = (struct handset_names){ b.names, b.n_vocab };
	if (!ok) {
		handset_names_finish(names);
	}
	gguf_writer_destroy(b.w);
	return ok;
}

bool handset_write(const struct handset_kind *kind, const struct handset_options *o,
	const char *path, struct bb_error *err) {
	struct handset_names names;
	const bool ok = handset_write_named(kind, o, path, &names, err);
	handset_names_finish(&names);
	return ok;
}
