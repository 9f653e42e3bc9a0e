/* SPDX-License-Identifier: Apache-2.0
 *
 * GGUF file or Hugging Face folder: who is asked for what. */
#include "file.h"

#include "config.h"
#include "folder_text.h"
#include "plan.h"

#include <string.h>

/* ---- life ---- */

bool file_open(struct model_file *f, const char *path, bool needs_weights, struct bb_error *err) {
	memset(f, 0, sizeof(*f));
	f->is_folder = folder_is_at(path);
	if (!f->is_folder) {
		if (!gguf_open(&f->gguf, path, err)) {
			return false;
		}
		f->tensors = f->gguf.tensors;
		f->n_tensors = f->gguf.n_tensors;
		return true;
	}
	if (!folder_open(&f->folder, path, needs_weights, err) ||
		!folder_text(&f->text, &f->no_tokenizer, path, f->folder.config, err) ||
		!gguf_open_memory(&f->gguf, f->text.data, f->text.bytes, err)) {
		file_finish(f);
		return false;
	}
	f->tensors = f->folder.tensors;
	f->n_tensors = f->folder.n_tensors;
	return true;
}

void file_finish(struct model_file *f) {
	gguf_finish(&f->gguf);
	folder_finish(&f->folder);
	bb_text_finish(&f->text);
	memset(f, 0, sizeof(*f));
}

/* ---- the architecture ---- */

bool file_is_of(const struct model_file *f, const struct bb_model *m) {
	struct gguf_string arch = { "", 0 };
	bool found;
	char name[128];
	if (!gguf_str(&f->gguf, "general.architecture", &arch, &found, NULL) || !found ||
		arch.bytes >= sizeof(name)) {
		return false;
	}
	memcpy(name, arch.data, arch.bytes);
	name[arch.bytes] = '\0';
	if (strlen(name) != arch.bytes) {
		return false;
	}
	return f->is_folder ? m->hf_name != NULL && config_names(m->hf_name, name)
		: strcmp(name, m->name) == 0;
}

const char *file_arch_name(const struct model_file *f, const struct bb_model *m) {
	return f->is_folder ? m->hf_name : m->name;
}

/* ---- tensors ---- */

const struct bb_tensor *file_tensor(const struct model_file *f, const char *name) {
	return f->is_folder ? folder_tensor(&f->folder, name) : gguf_tensor(&f->gguf, name);
}

const struct bb_weight_name *file_column(const struct model_file *f, const struct bb_weight *w) {
	return f->is_folder ? &w->hf : &w->gguf;
}

bool file_is_ballast(const struct model_file *f, const char *name) {
	/* RoPE's frequencies, which transformers once saved and now computes */
	static const char ending[] = ".rotary_emb.inv_freq";
	/* layers that draft tokens, which transformers hasn't got */
	static const char drafts[] = "mtp.";
	const size_t n = strlen(name), n_ending = sizeof(ending) - 1;
	return f->is_folder && ((n > n_ending && strcmp(name + n - n_ending, ending) == 0) ||
		strncmp(name, drafts, sizeof(drafts) - 1) == 0);
}

bool file_check_tie(const struct model_file *f, const struct bb_tensor *embed,
	const struct bb_tensor *output, struct bb_error *err) {
	const json_t *tie = json_object_get(f->folder.config, "tie_word_embeddings");
	if (embed == NULL || !json_is_boolean(tie)) {
		return true;
	}
	if (output == NULL) {
		return json_is_true(tie) || base_fail(err, BB_ERR_FORMAT, "config.json says that "
			"tie_word_embeddings is false, but there is no output matrix beside '%s'", embed->name);
	}
	const bool is_one = output->type == embed->type && output->bytes == embed->bytes &&
		memcmp(output->data, embed->data, embed->bytes) == 0;
	return json_is_false(tie) || is_one || base_fail(err, BB_ERR_FORMAT, "config.json says that "
		"tie_word_embeddings is true, but '%s' and '%s' differ", output->name, embed->name);
}

/* ---- hyper-parameters ---- */

/* The one number of a list that isn't 0; a list of zeros gives 0. */
static bool list_number(const struct gguf_kv *kv, double *value, struct bb_error *err) {
	if (kv->strings != NULL) {
		return base_fail(err, BB_ERR_FORMAT, "key '%.100s' lists strings, expected numbers",
			kv->key);
	}
	*value = 0;
	for (uint64_t i = 0; i < kv->n; i++) {
		const double v = gguf_array_float(kv, i);
		if (v != 0 && *value != 0 && v != *value) {
			return base_fail(err, BB_ERR_UNSUPPORTED, "key '%.100s' is %g in some layers and %g in "
				"others; expected one number, and 0", kv->key, *value, v);
		}
		*value = v != 0 ? v : *value;
	}
	return true;
}

static bool gguf_number(const struct gguf *g, const char *key, bool may_list, double *value,
	bool *found, struct bb_error *err) {
	const struct gguf_kv *kv = may_list ? gguf_find(g, key) : NULL;
	if (kv != NULL && kv->type == GGUF_ARRAY) {
		*found = true;
		return list_number(kv, value, err);
	}
	return gguf_float(g, key, value, found, err);
}

bool file_number(const struct model_file *f, const struct bb_model *m, const struct bb_key *k,
	double *value, bool *found, char *name, size_t bytes, struct bb_error *err) {
	const char *key = f->is_folder ? k->hf : k->gguf;
	*found = false;
	snprintf(name, bytes, "%s", hparam_name(k->h));
	if (key == NULL || *key == '\0') {
		return true;
	}
	if (f->is_folder) {
		char used[128];
		const bool ok = config_number(f->folder.config, key, value, found, used, sizeof(used), err);
		snprintf(name, bytes, "config.json: '%s'", used);
		return ok;
	}
	if (*key == '?') {
		*found = true;
		*value = file_tensor(f, key + 1) != NULL;
		return true;
	}
	bool ok = true;
	for (size_t n; ok && !*found && *key != '\0'; key += n + (key[n] == '|')) {
		char full[128];
		n = strcspn(key, "|");
		const bool is_list = n > 2 && strncmp(key + n - 2, "[]", 2) == 0;
		snprintf(full, sizeof(full), "%s.%.*s", m->name, (int)(is_list ? n - 2 : n), key);
		snprintf(name, bytes, "metadata key '%s'", full);
		ok = gguf_number(&f->gguf, full, is_list, value, found, err);
	}
	return ok;
}

bool file_rope_type(const struct model_file *f, const struct bb_model *m, struct gguf_string *type,
	bool *found, char *name, size_t bytes, struct bb_error *err) {
	if (!f->is_folder) {
		char full[128];
		snprintf(full, sizeof(full), "%s.rope.scaling.type", m->name);
		snprintf(name, bytes, "metadata key '%s'", full);
		return gguf_str(&f->gguf, full, type, found, err);
	}
	const json_t *value = config_value(f->folder.config, CONFIG_ROPE_TYPE);
	snprintf(name, bytes, "config.json: the rope_type");
	*found = value != NULL;
	if (*found && !json_is_string(value)) {
		return base_fail(err, BB_ERR_FORMAT, "%s isn't a string", name);
	}
	*type = (struct gguf_string){ json_string_value(value), json_string_length(value) };
	return true;
}

static bool kind_by_name(const struct bb_model *m, const char *name, int i_layer, int *kind,
	struct bb_error *err) {
	for (int i = 0; i < MAX_LAYER_KINDS && m->kinds[i].ops != NULL; i++) {
		if (m->kinds[i].hf != NULL && config_names(m->kinds[i].hf, name)) {
			*kind = i;
			return true;
		}
	}
	char shown[BASE_SHOWN];
	return base_fail(err, BB_ERR_UNSUPPORTED,
		"config.json: layer %d is of type '%s', which this build's %s hasn't", i_layer,
		base_show(name, strlen(name), shown, sizeof(shown)), m->name);
}

/* Of a GGUF file that lists numbers per layer; *listed is false where it doesn't. */
static bool kind_by_number(const struct gguf *g, const struct bb_model *m, int n_layers,
	int i_layer, int *kind, bool *listed, struct bb_error *err) {
	char full[128];
	const bool is_zero_first = m->gguf_layers[0] == '!';
	*listed = true;
	*kind = 0;
	for (const char *key = m->gguf_layers + is_zero_first; *key != '\0'; ++*kind) {
		const size_t n = strcspn(key, "|");
		snprintf(full, sizeof(full), "%s.%.*s", m->name, (int)n, key);
		const struct gguf_kv *kv = gguf_find(g, full);
		if (kv == NULL || kv->type != GGUF_ARRAY) {
			*listed = false;
			return true;
		}
		if (kv->n != (uint64_t)n_layers || kv->strings != NULL) {
			return base_fail(err, BB_ERR_FORMAT,
				"key '%s': expected a list of %d numbers, one per layer, has %llu elements", full,
				n_layers, (unsigned long long)kv->n);
		}
		if ((gguf_array_float(kv, (uint64_t)i_layer) != 0) != is_zero_first) {
			return true;
		}
		key += n + (key[n] == '|');
	}
	return true;
}

/* Of a folder that lists the layers of the first kind. */
static bool kind_by_index(const json_t *list, const struct bb_model *m, int n_layers, int i_layer,
	int *kind, struct bb_error *err) {
	*kind = 1;
	for (size_t i = 0; i < json_array_size(list); i++) {
		const json_t *entry = json_array_get(list, i);
		const json_int_t at = json_integer_value(entry);
		if (!json_is_integer(entry) || at < 0 || at >= n_layers) {
			return base_fail(err, BB_ERR_FORMAT, "config.json: expected numbers of layers, 0 to "
				"%d, in '%s'", n_layers - 1, m->hf_first_kind);
		}
		*kind = at == i_layer ? 0 : *kind;
	}
	return true;
}

bool file_layer_kind(const struct model_file *f, const struct bb_model *m,
	const struct bb_hparams *hp, int i_layer, int *kind, struct bb_error *err) {
	const json_t *list = f->is_folder ? config_value(f->folder.config, m->hf_layers) : NULL;
	const json_t *first = f->is_folder ? config_value(f->folder.config, m->hf_first_kind) : NULL;
	bool listed = false;
	if (!f->is_folder && m->gguf_layers != NULL && !kind_by_number(&f->gguf, m,
		hparam_int(hp, H_LAYERS), i_layer, kind, &listed, err)) {
		return false;
	}
	if (listed && m->gguf_second_kind != NULL) {
		char name[128];
		snprintf(name, sizeof(name), m->gguf_second_kind, i_layer);
		*kind = 2 * *kind + (file_tensor(f, name) != NULL);
	}
	if (listed) {
		return true;
	}
	if (first != NULL) {
		return kind_by_index(first, m, hparam_int(hp, H_LAYERS), i_layer, kind, err);
	}
	if (list == NULL) {
		*kind = m->pick != NULL ? m->pick(hp, i_layer) : 0;
		return true;
	}
	const bool is_text = json_is_string(list);
	const size_t n = is_text ? json_string_length(list) : json_array_size(list);
	const size_t i = m->hf_layers_repeat && n > 0 ? (size_t)i_layer % n : (size_t)i_layer;
	const char letter[2] = { is_text && i < n ? json_string_value(list)[i] : '\0' };
	const char *name = is_text ? letter : json_string_value(json_array_get(list, i));
	if ((n != (size_t)hparam_int(hp, H_LAYERS) && !m->hf_layers_repeat) || name == NULL) {
		return base_fail(err, BB_ERR_FORMAT,
			"config.json: expected a list of %d strings, one per layer, in '%s', has %zu elements",
			hparam_int(hp, H_LAYERS), m->hf_layers, n);
	}
	return kind_by_name(m, name, i_layer, kind, err);
}

bool file_unread_check(const struct model_file *f, const struct bb_model *m,
	const struct bb_hparams *hp, struct bb_error *err) {
	return f->is_folder ? config_unread_check(f->folder.config, m, hp, err)
		: unread_check(m, hp, &f->gguf, err);
}
