/* SPDX-License-Identifier: Apache-2.0
 *
 * Parsing JSON of files: limits, one sentence for what is wrong. */
#ifndef JSON_H
#define JSON_H

#include "base.h"

#include <jansson.h>

/* What stands for Infinity after json_read; Python's writers print that word, which isn't JSON. */
#define JSON_INFINITY 1.7e+308

/* data[bytes] as an object, its keys in their order and none twice; no string in it holds a NUL.
 * The word Infinity, where a value may stand, is read as JSON_INFINITY. `what` begins the sentence
 * of an error: "config.json". NULL on an error. */
json_t *json_read(const char *what, const void *data, size_t bytes, struct bb_error *err);
/* Whether an object has no other keys than these, NULL-terminated; BB_ERR_INPUT names one that it
 * has. */
bool json_check_keys(const char *what, const json_t *object, const char *const *keys,
	struct bb_error *err);

#endif
