/* SPDX-License-Identifier: Apache-2.0
 *
 * Writes GGUF metadata from the small files of a folder: config.json, generation_config.json,
 * tokenizer_config.json and the chat template. */
#include "folder_text.h"

#include "config.h"
#include "folder.h"
#include "folder_tokens.h"

#include <limits.h>
#include <stdlib.h>
#include <string.h>

/* ---- names ---- */

/* The folder's own name, also where the path is "." or ends with slashes. */
static void key_name(struct metadata *m, const char *path) {
	char *real = realpath(path, NULL);
	const char *slash = real != NULL ? strrchr(real, '/') : NULL;
	metadata_string(m, "general.name", slash != NULL && slash[1] != '\0' ? slash + 1 : path);
	free(real);
}

static bool key_arch(struct metadata *m, const json_t *config, char *arch, size_t bytes) {
	const char *name = config_arch(config);
	if (name == NULL || strlen(name) >= bytes || *name == '\0') {
		return base_fail(m->err, BB_ERR_FORMAT,
			"config.json: expected 'architectures', a list of one name of up to %zu bytes",
			bytes - 1);
	}
	for (const char *c = name; *c != '\0'; c++) {
		if (*c < 0x21 || *c > 0x7e) {
			return base_fail(m->err, BB_ERR_FORMAT,
				"config.json: expected printable ASCII as name in 'architectures'");
		}
	}
	snprintf(arch, bytes, "%s", name);
	metadata_string(m, "general.architecture", arch);
	return true;
}

/* ---- tokens ---- */

/* Entry `name` of the generation's configuration, else of the model's. */
static const json_t *token_entry(const json_t *config, const json_t *generation, const char *name) {
	const json_t *value = json_object_get(generation, name);
	return value != NULL && !json_is_null(value) ? value : json_object_get(config, name);
}

/* One id, or a list of which the first three are used: a GGUF file has names for three. */
static void keys_ends(struct metadata *m, const json_t *value) {
	static const char *const keys[] = { "tokenizer.ggml.eos_token_id",
		"tokenizer.ggml.eot_token_id", "tokenizer.ggml.eom_token_id" };
	for (int i = 0; i < (int)COUNT(keys); i++) {
		const json_t *id = json_is_array(value) ? json_array_get(value, (size_t)i)
			: i == 0 ? value : NULL;
		if (json_is_integer(id)) {
			metadata_int(m, keys[i], json_integer_value(id));
		}
	}
}

/* bos: what the tokenizer puts before texts; -1: the configuration says which token it is. */
static void keys_roles(struct metadata *m, const json_t *config, const json_t *generation,
	int32_t bos) {
	const json_t *said = token_entry(config, generation, "bos_token_id");
	if (bos >= 0 || json_is_integer(said)) {
		metadata_int(m, "tokenizer.ggml.bos_token_id", bos >= 0 ? bos : json_integer_value(said));
	}
	keys_ends(m, token_entry(config, generation, "eos_token_id"));
}

static bool keys_ids_only(struct metadata *m, const json_t *config, const char *arch) {
	char key[160], used[64];
	double n = 0;
	bool found;
	if (!config_number(config, "vocab_size", &n, &found, used, sizeof(used), m->err)) {
		return false;
	}
	if (!(n >= 1 && n <= 1 << 24)) {
		return base_fail(m->err, BB_ERR_FORMAT,
			"config.json: 'vocab_size' is %s, expected 1 to %d", found ? "out of range" : "missing",
			1 << 24);
	}
	metadata_string(m, "tokenizer.ggml.model", "no_vocab");
	snprintf(key, sizeof(key), "%s.vocab_size", arch);
	metadata_int(m, key, (int64_t)n);
	return true;
}

/* ---- sampling ---- */

static void keys_sampling(struct metadata *m, const json_t *generation) {
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
			metadata_float(m, numbers[i].to, json_number_value(value));
		}
	}
	const json_t *top_k = json_object_get(generation, "top_k");
	if (json_is_integer(top_k)) {
		metadata_int(m, "general.sampling.top_k", json_integer_value(top_k));
	}
}

/* ---- the chat template ---- */

/* The template of a list that is called default, else the first. */
static const json_t *default_template(const json_t *list) {
	for (size_t i = 0; i < json_array_size(list); i++) {
		const char *name = json_string_value(json_object_get(json_array_get(list, i), "name"));
		if (name != NULL && strcmp(name, "default") == 0) {
			return json_object_get(json_array_get(list, i), "template");
		}
	}
	return json_object_get(json_array_get(list, 0), "template");
}

/* chat_template.jinja, else what tokenizer_config.json holds. */
static bool key_template(struct metadata *m, const char *path) {
	static const char key[] = "tokenizer.chat_template";
	struct base_file file;
	json_t *config;
	bool found;
	if (!folder_file(path, "chat_template.jinja", &file, &found, m->err)) {
		return false;
	}
	if (found) {
		metadata_text(m, key, (const char *)file.data, file.bytes);
		base_file_close(&file);
		return true;
	}
	if (!folder_json(path, "tokenizer_config.json", &config, m->err)) {
		return false;
	}
	const json_t *template = json_object_get(config, "chat_template");
	template = json_is_array(template) ? default_template(template) : template;
	if (json_is_string(template)) {
		metadata_text(m, key, json_string_value(template), json_string_length(template));
	}
	json_decref(config);
	return true;
}

static bool keys_tokens(struct metadata *m, const char *path, int32_t *bos,
	const char **no_tokenizer) {
	json_t *root;
	const bool ok = folder_json(path, "tokenizer.json", &root, m->err) &&
		folder_tokens(m, root, bos, no_tokenizer, m->err);
	json_decref(root);
	return ok;
}

static bool write_all(struct metadata *m, const char **no_tokenizer, const char *path,
	const json_t *config, const json_t *generation) {
	char arch[96];
	int32_t bos;
	key_name(m, path);
	if (!key_arch(m, config, arch, sizeof(arch)) || !keys_tokens(m, path, &bos, no_tokenizer) ||
		(*no_tokenizer != NULL && !keys_ids_only(m, config, arch)) ||
		(*no_tokenizer == NULL && !key_template(m, path))) {
		return false;
	}
	keys_roles(m, config, generation, bos);
	keys_sampling(m, generation);
	return metadata_end(m);
}

bool folder_text(struct bb_text *out, const char **no_tokenizer, const char *path,
	const json_t *config, struct bb_error *err) {
	json_t *generation;
	if (!folder_json(path, "generation_config.json", &generation, err)) {
		return false;
	}
	struct metadata m;
	metadata_begin(&m, out, err);
	const bool ok = write_all(&m, no_tokenizer, path, config, generation);
	json_decref(generation);
	return ok;
}
