/* SPDX-License-Identifier: Apache-2.0
 *
 * jansson behind limits. */
#include "fields.h"

#include "ration.h"
#include "server.h"

#include <limits.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

/* Brackets outside of strings, whatever else is wrong with them. */
static int depth(const char *text, size_t bytes) {
	int now = 0, most = 0;
	bool is_string = false;
	for (size_t i = 0; i < bytes; i++) {
		const char c = text[i];
		if (is_string) {
			i += c == '\\';
			is_string = c != '"';
		} else if (c == '"') {
			is_string = true;
		} else if (c == '{' || c == '[') {
			now++;
			most = now > most ? now : most;
		} else if (c == '}' || c == ']') {
			now--;
		}
	}
	return most;
}

bool fields_parse(struct exchange *x) {
	const int most = x->server->options.max_depth;
	if (x->body.bytes == 0) {
		return reply_error(x, 400, NULL, "invalid_json", "the body is empty, expected an object");
	}
	if (depth(x->body.data, x->body.bytes) > most) {
		return reply_error(x, 400, NULL, "invalid_json",
			"the body is nested more than %d levels deep", most);
	}
	json_error_t problem;
	x->in = json_loadb(x->body.data, x->body.bytes, JSON_REJECT_DUPLICATES, &problem);
	const bool is_short = ration_has_gap() ||
		json_error_code(&problem) == json_error_out_of_memory;
	if (x->in == NULL && is_short) {
		return reply_no_memory(x);
	}
	const enum json_error_code code = json_error_code(&problem);
	if (x->in == NULL && (code == json_error_null_character ||
		code == json_error_null_byte_in_key)) {
		return reply_error(x, 400, NULL, "invalid_value",
			"a string of the body has the character \\u0000, which can't be part of a request "
			"(line %d, column %d)", problem.line, problem.column);
	}
	if (x->in == NULL) {
		return reply_error(x, 400, NULL, "invalid_json",
			"the body isn't JSON: %s (line %d, column %d)", problem.text, problem.line,
			problem.column);
	}
	return json_is_object(x->in) || reply_error(x, 400, NULL, "invalid_json",
		"the body isn't an object");
}

const json_t *field(const json_t *in, const char *name) {
	const char *dot = strrchr(name, '.');
	const json_t *value = json_object_get(in, dot != NULL ? dot + 1 : name);
	return json_is_null(value) ? NULL : value;
}

static bool wrong_type(struct exchange *x, const char *name, const char *expected) {
	return reply_error(x, 400, name, "invalid_type", "'%s' must be %s", name, expected);
}

bool field_bool(struct exchange *x, const json_t *in, const char *name, bool *out) {
	const json_t *value = field(in, name);
	if (value != NULL && !json_is_boolean(value)) {
		return wrong_type(x, name, "true or false");
	}
	*out = value != NULL ? json_is_true(value) : *out;
	return true;
}

bool field_int(struct exchange *x, const json_t *in, const char *name, int min, int max,
	int *out) {
	const json_t *value = field(in, name);
	if (value == NULL) {
		return true;
	}
	/* Some clients write 16.0 for 16. */
	const double number = json_number_value(value);
	if (!json_is_number(value) || number != floor(number)) {
		return wrong_type(x, name, "a whole number");
	}
	if (number < min || number > max) {
		return number < min && max == INT_MAX
			? reply_error(x, 400, name, "invalid_value", "'%s' is %.10g, expected at least %d",
				name, number, min)
			: reply_error(x, 400, name, "invalid_value", "'%s' is %.10g, expected %d to %d", name,
				number, min, max);
	}
	*out = (int)number;
	return true;
}

bool field_double(struct exchange *x, const json_t *in, const char *name, double min, double max,
	double *out) {
	const json_t *value = field(in, name);
	if (value == NULL) {
		return true;
	}
	if (!json_is_number(value)) {
		return wrong_type(x, name, "a number");
	}
	const double number = json_number_value(value);
	if (!(number >= min && number <= max)) {
		return reply_error(x, 400, name, "invalid_value", "'%s' is %.9g, expected %.9g to %.9g",
			name, number, min, max);
	}
	*out = number;
	return true;
}

bool field_float(struct exchange *x, const json_t *in, const char *name, double min, double max,
	float *out) {
	double number = (double)*out;
	const bool ok = field_double(x, in, name, min, max, &number);
	*out = (float)number;
	return ok;
}

bool field_string(struct exchange *x, const json_t *in, const char *name, const char **out) {
	const json_t *value = field(in, name);
	if (value != NULL && !json_is_string(value)) {
		return wrong_type(x, name, "a string");
	}
	*out = value != NULL ? json_string_value(value) : *out;
	return true;
}

bool field_id(struct exchange *x, const json_t *item, const char *name, int n_vocab,
	struct bb_tokens *out) {
	const json_int_t id = json_integer_value(item);
	struct bb_error err = { 0 };
	if (!json_is_integer(item)) {
		return wrong_type(x, name, "an array of token ids");
	}
	if (id < 0 || id >= n_vocab) {
		return reply_error(x, 400, name, "invalid_value",
			"'%s' has token id %" JSON_INTEGER_FORMAT ", expected 0 to %d", name, id, n_vocab - 1);
	}
	return bb_tokens_push(out, (int32_t)id, &err) || reply_no_memory(x);
}

bool field_ids(struct exchange *x, const json_t *list, const char *name, int n_vocab,
	struct bb_tokens *out) {
	size_t i;
	const json_t *item;
	if (!json_is_array(list)) {
		return wrong_type(x, name, "an array of token ids");
	}
	json_array_foreach(list, i, item) {
		if (!field_id(x, item, name, n_vocab, out)) {
			return false;
		}
	}
	return true;
}

bool reply_no_model(struct exchange *x, const char *name) {
	char names[600] = "";
	size_t n = 0;
	for (int i = 0; i < x->server->n_names && n < sizeof(names); i++) {
		n += (size_t)snprintf(names + n, sizeof(names) - n, "%s'%.200s'", i > 0 ? ", " : "",
			x->server->names[i]);
	}
	return reply_error(x, 404, "model", "model_not_found",
		"the model '%.200s' doesn't exist; this server has %s", name, names);
}

bool field_model(struct exchange *x) {
	const char *name = NULL;
	if (!field_string(x, x->in, "model", &name)) {
		return false;
	}
	return server_has_model(x->server, name) || reply_no_model(x, name);
}

bool field_asks(const json_t *value) {
	switch (json_typeof(value)) {
	case JSON_OBJECT:
		return json_object_size(value) > 0;
	case JSON_ARRAY:
		return json_array_size(value) > 0;
	case JSON_STRING:
		return json_string_length(value) > 0;
	case JSON_INTEGER:
	case JSON_REAL:
		return json_number_value(value) != 0;
	default:
		return json_is_true(value);
	}
}

json_t *fields_copy(const struct exchange *x, const char *const *names) {
	json_t *copy = json_copy(x->in);
	for (; copy != NULL && *names != NULL; names++) {
		json_object_del(copy, *names);
	}
	return copy;
}

bool fields_unsupported(struct exchange *x, const json_t *in, const char *const *names) {
	for (; *names != NULL; names++) {
		const json_t *value = field(in, *names);
		if (value != NULL && field_asks(value)) {
			return reply_error(x, 400, *names, "unsupported_parameter",
				"'%s' isn't supported by this server", *names);
		}
	}
	return true;
}
