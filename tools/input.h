/* SPDX-License-Identifier: Apache-2.0
 *
 * What commands read: whole files or stdin, JSON arrays of token ids. */
#ifndef INPUT_H
#define INPUT_H

#include "bobbin.h"

#include <jansson.h>

struct input { /* zeroed = empty */
	char *data; /* [bytes], a NUL behind */
	size_t bytes, cap;
};
/* The bytes of a file, of stdin where path is "-"; zeroed and false after an error. */
bool input_read(const char *path, struct input *out, struct bb_error *err);
/* The same, and refuses more than `most` bytes, a number of MiB; `what` says of whom that is asked:
 * "a table". */
bool input_read_most(const char *path, const char *what, size_t most, struct input *out,
	struct bb_error *err);
/* What errors call it: "stdin" where path is "-". */
const char *input_name(const char *path);
void input_finish(struct input *in);
/* A JSON array of whole numbers -> ids; `what` names it in errors. */
bool input_ids(const struct input *json, const char *what, struct bb_tokens *out,
	struct bb_error *err);
/* Fills *err and returns false. */
bool input_fail(struct bb_error *err, enum bb_code code, const char *format, ...)
	__attribute__((format(printf, 3, 4)));

#endif
