/* SPDX-License-Identifier: Apache-2.0
 *
 * A Hugging Face folder: config.json, and the weights in model.safetensors or in the shards that
 * model.safetensors.index.json names. Knows no architecture. */
#ifndef FOLDER_H
#define FOLDER_H

#include "json.h"
#include "safetensors.h"

struct folder {
	json_t *config;
	struct safetensors *shards; /* [n_shards] */
	const char **shard_names;   /* [n_shards], borrowed from `index` */
	size_t n_shards;
	json_t *index;              /* NULL: one file */
	struct bb_tensor *tensors;  /* [n_tensors] of all shards, by name */
	size_t n_tensors;
};

/* Whether there is a folder at path. */
bool folder_is_at(const char *path);
/* init on caller's memory; finish accepts zeroed memory. Files stay mapped until finish. On a
 * failure *f is zeroed and nothing stays mapped. Where no weights are needed, a folder may have
 * none. */
bool folder_open(struct folder *f, const char *path, bool needs_weights, struct bb_error *err);
void folder_finish(struct folder *f);

/* Maps the file `name` of the folder at path, which isn't one of weights. *found: it is there. */
bool folder_file(const char *path, const char *name, struct base_file *file, bool *found,
	struct bb_error *err);
/* The file `name` of the folder as JSON; *out = NULL when there is none, and on an error. */
bool folder_json(const char *path, const char *name, json_t **out, struct bb_error *err);
const struct bb_tensor *folder_tensor(const struct folder *f, const char *name);

#endif
