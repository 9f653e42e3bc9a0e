/* SPDX-License-Identifier: Apache-2.0
 *
 * Looking up a description's names in config.json. */
#include "config.h"

#include <math.h>
#include <string.h>

enum { MAX_NAME = 128 };

/* The part of *names before the next `end` or the string's end, into part[MAX_NAME]; *names moves
 * behind it. False when nothing is left. */
static bool next_part(const char **names, char end, char *part) {
	if (*names == NULL || **names == '\0') {
		return false;
	}
	const char *stop = strchr(*names, end);
	const size_t n = stop != NULL ? (size_t)(stop - *names) : strlen(*names);
	snprintf(part, MAX_NAME, "%.*s", (int)n, *names);
	*names += n + (stop != NULL);
	return true;
}

bool config_names(const char *names, const char *text) {
	char part[MAX_NAME];
	while (next_part(&names, '|', part)) {
		if (strcmp(part, text) == 0) {
			return true;
		}
	}
	return false;
}

/* What stands at a path of keys and numbers of elements; NULL: nothing, or null. */
static const json_t *value_at(const json_t *root, const char *path) {
	char part[MAX_NAME];
	while (root != NULL && next_part(&path, '.', part)) {
		if (json_is_array(root)) {
			const bool is_number = part[0] >= '0' && part[0] <= '9' && part[1] == '\0';
			root = is_number ? json_array_get(root, (size_t)(part[0] - '0')) : NULL;
		} else {
			root = json_object_get(root, part);
		}
	}
	return json_is_null(root) ? NULL : root;
}

const json_t *config_value(const json_t *root, const char *names) {
	char part[MAX_NAME];
	const json_t *value = NULL;
	while (value == NULL && next_part(&names, '|', part)) {
		value = value_at(root, part);
	}
	return value;
}

const char *config_arch(const json_t *root) {
	return json_string_value(json_array_get(json_object_get(root, "architectures"), 0));
}

static const char *type_text(const json_t *value) {
	switch (json_typeof(value)) {
	case JSON_OBJECT:
		return "an object";
	case JSON_ARRAY:
		return "an array";
	case JSON_STRING:
		return "a string";
	default:
		return "something else";
	}
}

/* transformers writes {"__float__": "Infinity"} for what JSON hasn't. */
static bool is_infinity(const json_t *value) {
	const char *tag = json_string_value(json_object_get(value, "__float__"));
	return (tag != NULL && strcmp(tag, "Infinity") == 0) ||
		json_number_value(value) >= JSON_INFINITY;
}

static bool number_of(const json_t *value, const char *path, double *out, struct bb_error *err) {
	if (is_infinity(value)) {
		*out = INFINITY;
	} else if (json_is_boolean(value)) {
		*out = json_is_true(value);
	} else if (json_is_number(value)) {
		*out = json_number_value(value);
	} else {
		return base_fail(err, BB_ERR_FORMAT, "config.json: '%s' is %s, expected a number", path,
			type_text(value));
	}
	return true;
}

/* path=text: 1 if the string there, or the first of the array, is text. */
static double test_of(const json_t *root, const char *test) {
	char path[MAX_NAME];
	const char *text = test;
	next_part(&text, '=', path);
	const json_t *value = value_at(root, path);
	const char *have = json_string_value(json_is_array(value) ? json_array_get(value, 0) : value);
	return have != NULL && strcmp(have, text) == 0;
}

/* A product of names; *found: all are there. */
static bool product_of(const json_t *root, const char *names, double *out, bool *found,
	struct bb_error *err) {
	char name[MAX_NAME];
	double product = 1, factor = 1;
	*found = true;
	while (next_part(&names, '*', name)) {
		const json_t *value = value_at(root, name);
		if (strchr(name, '=') != NULL) {
			factor = test_of(root, name);
		} else if (value == NULL) {
			*found = false;
			return true;
		} else if (!number_of(value, name, &factor, err)) {
			return false;
		}
		product *= factor;
	}
	*out = product;
	return true;
}

bool config_number(const json_t *root, const char *names, double *value, bool *found, char *used,
	size_t bytes, struct bb_error *err) {
	char alternative[MAX_NAME];
	double product = 0;
	*found = false;
	snprintf(used, bytes, "%s", names);
	while (!*found && next_part(&names, '|', alternative)) {
		if (!product_of(root, alternative, &product, found, err)) {
			return false;
		}
	}
	if (*found) {
		*value = product;
		snprintf(used, bytes, "%s", alternative);
	}
	return true;
}
