/* SPDX-License-Identifier: Apache-2.0
 *
 * Decisions as text and JSON. */
#include "decision.h"

#include "input.h"
#include "terminal.h"

#include <limits.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

void decision_print(FILE *out, const struct bb_decision *d) {
	fprintf(out, "[%s] ", bb_decision_name(d->kind));
	if (d->branch >= 0) {
		fprintf(out, "answer %d at token %d", d->branch + 1, d->token);
	} else {
		fputs("all answers", out);
	}
	fprintf(out, ", %s%s: %s\n", d->policy, d->is_load_dependent ? " (by the load)" : "", d->why);
}

static json_t *number(double value) { /* JSON has no infinity */
	return isfinite(value) ? json_real(value) : json_null();
}

json_t *decision_json(const struct bb_decision *d) {
	return json_pack("{s:s, s:i, s:i, s:s, s:o, s:o, s:o, s:b}", "kind", bb_decision_name(d->kind),
		"branch", d->branch, "token", d->token, "policy", d->policy, "value", number(d->value),
		"bar", number(d->bar), "why", json_bytes(d->why, strnlen(d->why, sizeof(d->why))),
		"load_dependent", (int)d->is_load_dependent);
}

static bool read_int(const json_t *object, const char *name, int least, int *out) {
	const json_t *v = json_object_get(object, name);
	if (!json_is_integer(v) || json_integer_value(v) < least || json_integer_value(v) > INT_MAX) {
		return false;
	}
	*out = (int)json_integer_value(v);
	return true;
}

/* Numbers may be left out; kind and place may not. */
static bool read_one(const json_t *object, struct bb_decision *d) {
	const char *kind = json_string_value(json_object_get(object, "kind"));
	const char *policy = json_string_value(json_object_get(object, "policy"));
	const char *why = json_string_value(json_object_get(object, "why"));
	if (kind == NULL || policy == NULL || !bb_decision_parse(kind, &d->kind) ||
		!read_int(object, "branch", -1, &d->branch) || !read_int(object, "token", 0, &d->token)) {
		return false;
	}
	d->policy = policy;
	d->is_load_dependent = json_is_true(json_object_get(object, "load_dependent"));
	d->value = json_number_value(json_object_get(object, "value"));
	d->bar = json_number_value(json_object_get(object, "bar"));
	snprintf(d->why, sizeof(d->why), "%s", why != NULL ? why : "");
	return true;
}

bool decision_list(json_t *json, struct bb_decision **out, int *n, struct bb_error *err) {
	const json_t *list = json_is_object(json) ? json_object_get(json, "decisions") : json;
	if (!json_is_array(list)) {
		return input_fail(err, BB_ERR_INPUT,
			"expected a list of decisions, or an object with one as \"decisions\"");
	}
	*n = (int)json_array_size(list);
	*out = calloc((size_t)*n + 1, sizeof(**out));
	if (*out == NULL) {
		return input_fail(err, BB_ERR_MEMORY, "no memory for %d decisions", *n);
	}
	for (int i = 0; i < *n; i++) {
		if (!read_one(json_array_get(list, (size_t)i), &(*out)[i])) {
			return input_fail(err, BB_ERR_INPUT, "decision %d is expected to have a kind, a "
				"policy, and a branch and token as whole numbers", i);
		}
	}
	return true;
}
