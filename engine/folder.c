/* SPDX-License-Identifier: Apache-2.0
 *
 * Opening Hugging Face folders: which files belong to the model, and that every tensor is in one of
 * them, and in the one that the index says. */
#include "folder.h"

#include <inttypes.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define INDEX "model.safetensors.index.json"
#define SINGLE "model.safetensors"

enum {
	MAX_TEXT = 64 << 20, /* bytes of a file that isn't weights; a tokenizer of 256k tokens: 33 MB */
	MAX_SHARDS = 4096,
};

bool folder_is_at(const char *path) {
	struct stat st;
	return stat(path, &st) == 0 && S_ISDIR(st.st_mode);
}

static bool join(const char *path, const char *name, char *out, struct bb_error *err) {
	const size_t n = strlen(path);
	const char *slash = n > 0 && path[n - 1] == '/' ? "" : "/";
	return snprintf(out, PATH_MAX, "%s%s%s", path, slash, name) < PATH_MAX ||
		base_fail(err, BB_ERR_IO, "%.150s: the path is too long", path);
}

static bool is_there(const char *path, const char *name) {
	char full[PATH_MAX];
	return join(path, name, full, NULL) && access(full, F_OK) == 0;
}

bool folder_file(const char *path, const char *name, struct base_file *file, bool *found,
	struct bb_error *err) {
	char full[PATH_MAX];
	*found = is_there(path, name);
	if (!*found) {
		return true;
	}
	if (!join(path, name, full, err) || !base_file_open(file, full, err)) {
		return false;
	}
	if (file->bytes > MAX_TEXT) {
		base_fail(err, BB_ERR_FORMAT, "%s has %zu bytes, expected at most %d", name, file->bytes,
			MAX_TEXT);
		base_file_close(file);
		return false;
	}
	return true;
}

bool folder_json(const char *path, const char *name, json_t **out, struct bb_error *err) {
	struct base_file file;
	bool found;
	*out = NULL;
	if (!folder_file(path, name, &file, &found, err) || !found) {
		return !found;
	}
	*out = json_read(name, file.data, file.bytes, err);
	base_file_close(&file);
	return *out != NULL;
}

/* ---- shards ---- */

/* A name of a file in this folder: none that leads elsewhere. */
static bool check_shard_name(const char *tensor, const json_t *value, struct bb_error *err) {
	const char *name = json_string_value(value);
	const size_t n = name != NULL ? strlen(name) : 0;
	const char ending[] = ".safetensors";
	const size_t n_ending = sizeof(ending) - 1;
	char shown[2][BASE_SHOWN];
	if (n > n_ending && n <= NAME_MAX && strchr(name, '/') == NULL && name[0] != '.' &&
		strcmp(name + n - n_ending, ending) == 0) {
		return true;
	}
	return base_fail(err, BB_ERR_FORMAT,
		INDEX " puts tensor '%s' into '%s', expected a file NAME.safetensors of the folder",
		base_show(tensor, strlen(tensor), shown[0], sizeof(shown[0])),
		name == NULL ? "(no string)" : base_show(name, n, shown[1], sizeof(shown[1])));
}

static int by_text(const void *a, const void *b) {
	return strcmp(*(const char *const *)a, *(const char *const *)b);
}

/* The different files of a weight map. */
static bool list_shards(struct folder *f, const json_t *map, struct bb_error *err) {
	const char *tensor;
	json_t *value;
	const size_t n = json_object_size(map);
	if (n == 0) {
		return base_fail(err, BB_ERR_FORMAT, INDEX " has no weight_map with tensors");
	}
	f->shard_names = base_alloc(n, sizeof(*f->shard_names));
	if (f->shard_names == NULL) {
		return base_no_memory(err, "list of shards", n * sizeof(*f->shard_names));
	}
	size_t i = 0;
	json_object_foreach((json_t *)(uintptr_t)map, tensor, value) {
		if (!check_shard_name(tensor, value, err)) {
			return false;
		}
		f->shard_names[i++] = json_string_value(value);
	}
	qsort(f->shard_names, n, sizeof(*f->shard_names), by_text);
	for (i = 0; i < n; i++) {
		if (f->n_shards == 0 ||
			strcmp(f->shard_names[f->n_shards - 1], f->shard_names[i]) != 0) {
			f->shard_names[f->n_shards++] = f->shard_names[i];
		}
	}
	return f->n_shards <= MAX_SHARDS || base_fail(err, BB_ERR_FORMAT,
		INDEX " names %zu files, expected at most %d", f->n_shards, MAX_SHARDS);
}

static bool open_shards(struct folder *f, const char *path, struct bb_error *err) {
	const size_t n = f->n_shards;
	char full[PATH_MAX];
	f->n_shards = 0; /* those that are open */
	f->shards = base_alloc(n, sizeof(*f->shards));
	if (f->shards == NULL) {
		return base_no_memory(err, "list of shards", n * sizeof(*f->shards));
	}
	for (size_t i = 0; i < n; i++) {
		if (!join(path, f->shard_names[i], full, err) ||
			!safetensors_open(&f->shards[i], full, err)) {
			return false;
		}
		f->n_shards++;
	}
	return true;
}

/* Each tensor of a shard is where the map says. */
static bool check_shard(const struct folder *f, const json_t *map, size_t i_shard,
	struct bb_error *err) {
	const struct safetensors *s = &f->shards[i_shard];
	for (size_t i = 0; i < s->n_tensors; i++) {
		const char *name = s->tensors[i].name;
		const char *said = json_string_value(json_object_get(map, name));
		if (said == NULL || strcmp(said, f->shard_names[i_shard]) != 0) {
			return base_fail(err, BB_ERR_FORMAT,
				"tensor '%.80s' is in %.80s, but " INDEX " says %.80s", name,
				f->shard_names[i_shard], said != NULL ? said : "nothing of it");
		}
	}
	return true;
}

static int by_name(const void *a, const void *b) {
	return strcmp(((const struct bb_tensor *)a)->name, ((const struct bb_tensor *)b)->name);
}

static bool merge(struct folder *f, struct bb_error *err) {
	size_t n = 0;
	for (size_t i = 0; i < f->n_shards; i++) {
		n += f->shards[i].n_tensors;
	}
	f->tensors = base_alloc(n, sizeof(*f->tensors));
	if (f->tensors == NULL) {
		return base_no_memory(err, "tensor table", n * sizeof(*f->tensors));
	}
	for (size_t i = 0; i < f->n_shards; i++) {
		for (size_t j = 0; j < f->shards[i].n_tensors; j++) {
			f->tensors[f->n_tensors++] = f->shards[i].tensors[j];
		}
	}
	qsort(f->tensors, n, sizeof(*f->tensors), by_name);
	return true;
}

/* No tensor of the map is missing; and none is in two shards, since each is where the map says. */
static bool check_map(const struct folder *f, const json_t *map, struct bb_error *err) {
	const char *name;
	json_t *value;
	for (size_t i = 0; i < f->n_shards; i++) {
		if (!check_shard(f, map, i, err)) {
			return false;
		}
	}
	json_object_foreach((json_t *)(uintptr_t)map, name, value) {
		if (folder_tensor(f, name) == NULL) {
			char shown[BASE_SHOWN];
			return base_fail(err, BB_ERR_FORMAT,
				INDEX " puts tensor '%s' into %.80s, which hasn't got it",
				base_show(name, strlen(name), shown, sizeof(shown)), json_string_value(value));
		}
	}
	return true;
}

const struct bb_tensor *folder_tensor(const struct folder *f, const char *name) {
	const struct bb_tensor key = { .name = name };
	return f->n_tensors == 0 ? NULL
		: bsearch(&key, f->tensors, f->n_tensors, sizeof(*f->tensors), by_name);
}

/* One file, else the shards of an index, as transformers chooses. */
static bool open_weights(struct folder *f, const char *path, bool needs_weights,
	struct bb_error *err) {
	if (is_there(path, SINGLE)) {
		f->shard_names = base_alloc(1, sizeof(*f->shard_names));
		if (f->shard_names == NULL) {
			return base_no_memory(err, "list of shards", sizeof(*f->shard_names));
		}
		f->shard_names[f->n_shards++] = SINGLE;
		return open_shards(f, path, err) && merge(f, err);
	}
	if (!folder_json(path, INDEX, &f->index, err)) {
		return false;
	}
	if (f->index == NULL && !needs_weights) {
		return true;
	}
	if (f->index == NULL) {
		return base_fail(err, BB_ERR_IO,
			"the folder has neither " SINGLE " nor " INDEX "%s", is_there(path, "pytorch_model.bin")
			? "; pytorch_model.bin isn't read, since opening it may run code" : "");
	}
	const json_t *map = json_object_get(f->index, "weight_map");
	return list_shards(f, map, err) && open_shards(f, path, err) && merge(f, err) &&
		check_map(f, map, err);
}

bool folder_open(struct folder *f, const char *path, bool needs_weights, struct bb_error *err) {
	memset(f, 0, sizeof(*f));
	bool ok = folder_json(path, "config.json", &f->config, err);
	if (ok && f->config == NULL) {
		ok = base_fail(err, BB_ERR_IO, "the folder has no config.json");
	}
	if (!ok || !open_weights(f, path, needs_weights, err)) {
		folder_finish(f);
		return false;
	}
	return true;
}

void folder_finish(struct folder *f) {
	for (size_t i = 0; i < f->n_shards && f->shards != NULL; i++) {
		safetensors_finish(&f->shards[i]);
	}
	base_free(f->shards);
	base_free(f->shard_names);
	base_free(f->tensors);
	json_decref(f->config);
	json_decref(f->index);
	memset(f, 0, sizeof(*f));
}
