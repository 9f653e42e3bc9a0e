/* SPDX-License-Identifier: Apache-2.0
 *
 * Writes GGUF metadata from config.json and generation_config.json. */
#include "folder_text.h"

#include "config.h"
#include "folder.h"
#include "gguf.h"

#include <limits.h>
#include <stdlib.h>
#include <string.h>

/* A GGUF file that grows by keys. */
struct writer {
	struct bb_text *out;
	uint64_t n_keys;
	bool ok;
	struct bb_error *err;
};

static void put(struct writer *w, const void *data, size_t bytes) {
	w->ok = w->ok && base_append(w->out, data, bytes, w->err);
}

static void put_u32(struct writer *w, uint32_t v) {
	put(w, &v, sizeof(v));
}

static void put_u64(struct writer *w, uint64_t v) {
	put(w, &v, sizeof(v));
}

static void put_text(struct writer *w, const char *s) {
	put_u64(w, strlen(s));
	put(w, s, strlen(s));
}

static void put_key(struct writer *w, const char *key, enum gguf_type type) {
	w->n_keys++;
	put_text(w, key);
	put_u32(w, type);
}

static void key_text(struct writer *w, const char *key, const char *value) {
	put_key(w, key, GGUF_STRING);
	put_text(w, value);
}

static void key_int(struct writer *w, const char *key, int64_t value) {
	put_key(w, key, GGUF_I64);
	put(w, &value, sizeof(value));
}

static void key_float(struct writer *w, const char *key, double value) {
	put_key(w, key, GGUF_F64);
	put(w, &value, sizeof(value));
}

enum { AT_N_KEYS = 4 + 4 + 8 };

static void begin(struct writer *w) {
	put(w, "GGUF", 4);
	put_u32(w, 3);
	put_u64(w, 0);
	put_u64(w, 0);
}

static bool end(struct writer *w) {
	if (w->ok) {
		memcpy(w->out->data + AT_N_KEYS, &w->n_keys, sizeof(w->n_keys));
	}
	return w->ok;
}

/* ---- names ---- */

/* The folder's own name, also where the path is "." or ends with slashes. */
static void key_name(struct writer *w, const char *path) {
	char *real = realpath(path, NULL);
	const char *slash = real != NULL ? strrchr(real, '/') : NULL;
	key_text(w, "general.name", slash != NULL && slash[1] != '\0' ? slash + 1 : path);
	free(real);
}

static bool key_arch(struct writer *w, const json_t *config, char *arch, size_t bytes) {
	const char *name = config_arch(config);
	if (name == NULL || strlen(name) >= bytes || *name == '\0') {
		return base_fail(w->err, BB_ERR_FORMAT,
			"config.json: expected 'architectures', a list of one name of up to %zu bytes",
			bytes - 1);
	}
	for (const char *c = name; *c != '\0'; c++) {
		if (*c < 0x21 || *c > 0x7e) {
			return base_fail(w->err, BB_ERR_FORMAT,
				"config.json: expected printable ASCII as name in 'architectures'");
		}
	}
	snprintf(arch, bytes, "%s", name);
	key_text(w, "general.architecture", arch);
	return true;
}

/* ---- tokens ---- */

/* Entry `name` of the generation's configuration, else of the model's. */
static const json_t *token_entry(const json_t *config, const json_t *generation, const char *name) {
	const json_t *value = json_object_get(generation, name);
	return value != NULL && !json_is_null(value) ? value : json_object_get(config, name);
}

/* One id, or a list of which the first three are used: a GGUF file has names for three. */
static void keys_ends(struct writer *w, const json_t *value) {
	static const char *const keys[] = { "tokenizer.ggml.eos_token_id",
		"tokenizer.ggml.eot_token_id", "tokenizer.ggml.eom_token_id" };
	for (int i = 0; i < (int)COUNT(keys); i++) {
		const json_t *id = json_is_array(value) ? json_array_get(value, (size_t)i)
			: i == 0 ? value : NULL;
		if (json_is_integer(id)) {
			key_int(w, keys[i], json_integer_value(id));
		}
	}
}

static void keys_roles(struct writer *w, const json_t *config, const json_t *generation) {
	const json_t *bos = token_entry(config, generation, "bos_token_id");
	if (json_is_integer(bos)) {
		key_int(w, "tokenizer.ggml.bos_token_id", json_integer_value(bos));
	}
	keys_ends(w, token_entry(config, generation, "eos_token_id"));
}

static bool keys_ids_only(struct writer *w, const json_t *config, const char *arch) {
	char key[160], used[64];
	double n = 0;
	bool found;
	if (!config_number(config, "vocab_size", &n, &found, used, sizeof(used), w->err)) {
		return false;
	}
	if (!(n >= 1 && n <= 1 << 24)) {
		return base_fail(w->err, BB_ERR_FORMAT,
			"config.json: 'vocab_size' is %s, expected 1 to %d", found ? "out of range" : "missing",
			1 << 24);
	}
	key_text(w, "tokenizer.ggml.model", "no_vocab");
	snprintf(key, sizeof(key), "%s.vocab_size", arch);
	key_int(w, key, (int64_t)n);
	return true;
}

/* ---- sampling ---- */

static void keys_sampling(struct writer *w, const json_t *generation) {
	static const struct {
		const char *from, *to;
	} numbers[] = {
		{ "temperature", "general.sampling.temp" },
		{ "top_p", "general.sampling.top_p" },
		{ "min_p", "general.sampling.min_p" },
		{ "repetition_penalty", "general.sampling.penalty_repeat" },
	};
	for (size_t i = 0; i < COUNT(numbers); i++) {
		const json_t *value = json_object_get(generation, numbers[i].from);
		if (json_is_number(value)) {
			key_float(w, numbers[i].to, json_number_value(value));
		}
	}
	const json_t *top_k = json_object_get(generation, "top_k");
	if (json_is_integer(top_k)) {
		key_int(w, "general.sampling.top_k", json_integer_value(top_k));
	}
}

static bool write_all(struct writer *w, const char *path, const json_t *config,
	const json_t *generation) {
	char arch[96];
	begin(w);
	key_name(w, path);
	if (!key_arch(w, config, arch, sizeof(arch)) || !keys_ids_only(w, config, arch)) {
		return false;
	}
	keys_roles(w, config, generation);
	keys_sampling(w, generation);
	return end(w);
}

bool folder_text(struct bb_text *out, const char **no_tokenizer, const char *path,
	const json_t *config, struct bb_error *err) {
	json_t *generation;
	if (!folder_json(path, "generation_config.json", &generation, err)) {
		return false;
	}
	struct writer w = { .out = out, .ok = true, .err = err };
	const bool ok = write_all(&w, path, config, generation);
	json_decref(generation);
	*no_tokenizer = "the folder has no tokenizer that this build reads";
	return ok;
}
