/* SPDX-License-Identifier: Apache-2.0
 *
 * Parsing JSON of files by jansson, which recurses 2048 levels deep at most and seeds the hash of
 * its objects at random. */
#include "json.h"

#include <string.h>

/* A copy in which Infinity outside of strings is a number of as many bytes; NULL: no memory. */
static char *without_infinity(const char *data, size_t bytes) {
	static const char word[] = "Infinity", number[] = "1.7e+308";
	_Static_assert(sizeof(word) == sizeof(number), "places in the file stay what they are");
	const size_t n = sizeof(word) - 1;
	char *copy = base_alloc(bytes + 1, 1);
	if (copy == NULL) {
		return NULL;
	}
	memcpy(copy, data, bytes);
	bool in_string = false;
	for (size_t i = 0; i < bytes; i++) {
		if (in_string && copy[i] == '\\') {
			i++;
		} else if (copy[i] == '"') {
			in_string = !in_string;
		} else if (!in_string && bytes - i >= n && memcmp(copy + i, word, n) == 0) {
			memcpy(copy + i, number, n);
		}
	}
	return copy;
}

static json_t *parse(const char *what, const char *data, size_t bytes, struct bb_error *err) {
	json_error_t problem;
	json_t *root = json_loadb(data, bytes, JSON_REJECT_DUPLICATES, &problem);
	if (root == NULL && json_error_code(&problem) == json_error_out_of_memory) {
		base_no_memory(err, what, bytes);
	} else if (root == NULL) {
		char shown[sizeof(problem.text)]; /* quotes what it stumbled on */
		base_fail(err, BB_ERR_FORMAT, "%s isn't JSON: line %d, column %d: %s", what, problem.line,
			problem.column, base_show(problem.text, strlen(problem.text), shown, sizeof(shown)));
	} else if (!json_is_object(root)) {
		base_fail(err, BB_ERR_FORMAT, "%s isn't a JSON object", what);
		json_decref(root);
		root = NULL;
	}
	return root;
}

json_t *json_read(const char *what, const void *data, size_t bytes, struct bb_error *err) {
	if (memmem(data, bytes, "Infinity", 8) == NULL) {
		return parse(what, data, bytes, err);
	}
	char *copy = without_infinity(data, bytes);
	if (copy == NULL) {
		base_no_memory(err, what, bytes);
		return NULL;
	}
	json_t *root = parse(what, copy, bytes, err);
	base_free(copy);
	return root;
}

static bool is_among(const char *key, const char *const *keys) {
	while (*keys != NULL && strcmp(*keys, key) != 0) {
		keys++;
	}
	return *keys != NULL;
}

bool json_check_keys(const char *what, const json_t *object, const char *const *keys,
	struct bb_error *err) {
	char expected[128] = "", shown[80];
	for (int i = 0; keys[i] != NULL; i++) {
		snprintf(expected + strlen(expected), sizeof(expected) - strlen(expected), "%s\"%s\"",
			i == 0 ? "" : keys[i + 1] != NULL ? ", " : " and ", keys[i]);
	}
	const char *key;
	json_t *value;
	json_object_foreach((json_t *)object, key, value) {
		if (!is_among(key, keys)) {
			return base_fail(err, BB_ERR_INPUT, "%.160s has the key \"%s\", expected none but %s",
				what, base_show(key, strlen(key), shown, sizeof(shown)), expected);
		}
	}
	return true;
}
