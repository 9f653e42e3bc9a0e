/* SPDX-License-Identifier: Apache-2.0
 *
 * Reading files, stdin and arrays of token ids. */
#include "input.h"

#include "terminal.h"

#include <errno.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

bool input_fail(struct bb_error *err, enum bb_code code, const char *format, ...) {
	va_list args;
	va_start(args, format);
	err->code = code;
	vsnprintf(err->text, sizeof(err->text), format, args);
	va_end(args);
	return false;
}

/* Room for `more` bytes and a NUL behind what is there. */
static bool grow(struct input *t, size_t more, struct bb_error *err) {
	if (t->cap - t->bytes > more) {
		return true;
	}
	const size_t cap = t->cap * 2 + more + 1;
	char *data = realloc(t->data, cap);
	if (data == NULL) {
		return input_fail(err, BB_ERR_MEMORY, "no memory for %zu bytes of input", cap);
	}
	t->data = data;
	t->cap = cap;
	return true;
}

static bool read_all(FILE *f, const char *path, size_t most, struct input *out,
	struct bb_error *err) {
	size_t n = 1;
	while (n > 0 && out->bytes <= most) {
		if (!grow(out, 1 << 16, err)) {
			return false;
		}
		errno = 0;
		interrupt_ends_reads(true);
		/* One pressed before would not end the read. */
		n = interrupted() ? 0 : fread(out->data + out->bytes, 1, 1 << 16, f);
		interrupt_ends_reads(false);
		out->bytes += n;
		out->data[out->bytes] = '\0';
		if (interrupted()) {
			return input_fail(err, BB_ERR_CANCELLED, "reading '%s' was stopped", path);
		}
		if (ferror(f)) {
			return input_fail(err, BB_ERR_IO, "'%s' could not be read: %s", path, strerror(errno));
		}
	}
	return true;
}

const char *input_name(const char *path) {
	return strcmp(path, "-") == 0 ? "stdin" : path;
}

/* Reads on until the end, or until it is more than `most` bytes. */
static bool read_path(const char *path, size_t most, struct input *out, struct bb_error *err) {
	memset(out, 0, sizeof(*out));
	const bool is_stdin = input_name(path) != path;
	FILE *f = is_stdin ? stdin : fopen(path, "rbe");
	if (f == NULL) {
		return input_fail(err, BB_ERR_IO, "'%s' could not be opened: %s", path, strerror(errno));
	}
	const bool ok = read_all(f, input_name(path), most, out, err);
	if (!is_stdin) {
		fclose(f);
	}
	if (!ok) {
		input_finish(out);
	}
	return ok;
}

bool input_read(const char *path, struct input *out, struct bb_error *err) {
	return read_path(path, SIZE_MAX, out, err);
}

bool input_read_most(const char *path, const char *what, size_t most, struct input *out,
	struct bb_error *err) {
	if (!read_path(path, most, out, err)) {
		return false;
	}
	if (out->bytes > most) {
		input_finish(out);
		return input_fail(err, BB_ERR_INPUT, "'%s' is longer than %zu MiB, the most that %s may be",
			input_name(path), most >> 20, what);
	}
	return true;
}

void input_finish(struct input *in) {
	free(in->data);
	memset(in, 0, sizeof(*in));
}

bool input_ids(const struct input *json, const char *what, struct bb_tokens *out,
	struct bb_error *err) {
	json_error_t problem;
	json_t *list = json_loadb(json->data, json->bytes, 0, &problem);
	if (list == NULL) {
		return input_fail(err, BB_ERR_INPUT, "%s: line %d, column %d: %s", what, problem.line,
			problem.column, problem.text);
	}
	bool ok = json_is_array(list) ||
		input_fail(err, BB_ERR_INPUT, "%s: expected a JSON array of token ids", what);
	for (size_t i = 0; ok && i < json_array_size(list); i++) {
		const json_t *value = json_array_get(list, i);
		const json_int_t id = json_integer_value(value);
		if (!json_is_integer(value) || id < 0 || id > INT32_MAX) {
			ok = input_fail(err, BB_ERR_INPUT, "%s: element %zu isn't a token id", what, i);
		} else {
			ok = bb_tokens_push(out, (int32_t)id, err);
		}
	}
	json_decref(list);
	return ok;
}
