/* SPDX-License-Identifier: Apache-2.0
 *
 * Texts with structured parts: free text up to a mark, behind it what a schema says, then free text
 * again. Free text is a regular expression too, of what a mark isn't in (by complement), so that no
 * token runs over the end of a mark into what may not follow it. */
#include "chars.h"
#include "regex.h"
#include "sources.h"
#include "tokens.h"

#include "../json.h"

#include <stdlib.h>
#include <string.h>

enum {
	MAX_BYTES = 1 << 20,
	MAX_DEPTH = 64, /* of nodes in each other */
};

struct structure {
	struct rules *r;
	bool failed;    /* *err says why, or r->x.trouble */
	struct bb_error *err;
};

static uint32_t fail(struct structure *s, const char *what) {
	if (!s->failed) {
		base_fail(s->err, BB_ERR_INPUT, "structure: %s", what);
	}
	s->failed = true;
	return 0; /* EXPR_NONE, RULES_NOTHING */
}

/* ---- regular parts ---- */

static uint32_t text_of(struct structure *s, const json_t *text) {
	if (!json_is_string(text)) {
		return fail(s, "expected a text");
	}
	return expr_text(&s->r->x, json_string_value(text), json_string_length(text));
}

/* A control token of this name, or ordinary ones that spell it. */
static uint32_t mark_of(struct structure *s, const json_t *text) {
	struct exprs *const x = &s->r->x;
	const uint32_t mark = expr_repeat(x, expr_text(x, TOKENS_MARK, 1), 0, 1);
	return expr_seq(x, mark, text_of(s, text));
}

static uint32_t regex_of(struct structure *s, const json_t *source) {
	uint32_t expr = EXPR_NONE;
	if (!json_is_string(source)) {
		return fail(s, "expected a regex as a text");
	}
	s->failed |= !regex_parse(&s->r->x, "structure", json_string_value(source),
		json_string_length(source), CHARS_UTF8, REGEX_WHOLE, &expr, s->err);
	return s->failed ? EXPR_NONE : expr;
}

static uint32_t expr_of(struct structure *s, const json_t *node, int depth);

/* Of seq and any. */
static uint32_t joined(struct structure *s, const json_t *list, bool is_any, int depth) {
	struct exprs *const x = &s->r->x;
	uint32_t all = is_any ? EXPR_NONE : EXPR_EMPTY;
	if (!json_is_array(list)) {
		return fail(s, "expected a list");
	}
	for (size_t i = json_array_size(list); i-- > 0 && !s->failed;) {
		const uint32_t one = expr_of(s, json_array_get(list, i), depth + 1);
		all = is_any ? expr_or(x, one, all) : expr_seq(x, one, all);
	}
	return all;
}

/* What must be one expression: the beginning that a free text may not have. */
static uint32_t expr_of(struct structure *s, const json_t *node, int depth) {
	const json_t *value;
	if (depth > MAX_DEPTH || s->failed) {
		return fail(s, "the parts are too deep in each other");
	}
	if (json_is_string(node)) {
		return text_of(s, node);
	}
	if ((value = json_object_get(node, "mark")) != NULL) {
		return mark_of(s, value);
	}
	if ((value = json_object_get(node, "regex")) != NULL) {
		return regex_of(s, value);
	}
	if ((value = json_object_get(node, "seq")) != NULL) {
		return joined(s, value, false, depth);
	}
	value = json_object_get(node, "any");
	return value != NULL ? joined(s, value, true, depth)
		: fail(s, "expected a text, mark, regex, seq or any");
}

/* ---- free text ---- */

/* Up to and with the first `until`; or any text without `without`, where that isn't null. A text
 * that begins with `not_first` is neither. */
static uint32_t free_text(struct structure *s, const json_t *node) {
	struct exprs *const x = &s->r->x;
	const json_t *until = json_object_get(node, "until"), *first = json_object_get(node,
		"not_first");
	const json_t *without = json_object_get(node, "without");
	const uint32_t byte = expr_range(x, 0, 255), any = expr_repeat(x, byte, 0, -1);
	uint32_t all = any;
	if (until != NULL) {
		const uint32_t ends = expr_seq(x, any, text_of(s, until));
		all = expr_and(x, ends, expr_not(x, expr_seq(x, ends, expr_seq(x, byte, any))));
	} else if (!json_is_null(without)) {
		all = expr_not(x, expr_seq(x, any, expr_seq(x, text_of(s, without), any)));
	}
	if (first != NULL && !json_is_null(first)) {
		all = expr_and(x, all, expr_not(x, expr_seq(x, expr_of(s, first, 0), any)));
	}
	return all;
}

/* ---- the whole ---- */

static uint32_t node_of(struct structure *s, const json_t *node, int depth);

static uint32_t schema_of(struct structure *s, const json_t *schema) {
	uint32_t node = RULES_NOTHING;
	char *text = json_dumps(schema, JSON_COMPACT | JSON_ENCODE_ANY);
	if (text == NULL) {
		s->failed = true;
		base_no_memory(s->err, "grammar", 0);
		return RULES_NOTHING;
	}
	s->failed |= !schema_read(s->r, text, strlen(text), SOURCE_ONE_LINE, &node, s->err);
	free(text);
	return s->failed ? RULES_NOTHING : node;
}

static uint32_t all_of(struct structure *s, const json_t *list, bool is_any, int depth) {
	uint32_t all = is_any ? RULES_NOTHING : RULES_EMPTY;
	if (!json_is_array(list)) {
		return fail(s, "expected a list");
	}
	for (size_t i = json_array_size(list); i-- > 0 && !s->failed;) {
		const uint32_t one = node_of(s, json_array_get(list, i), depth + 1);
		all = is_any ? rules_either(s->r, one, all) : rules_seq(s->r, one, all);
	}
	return all;
}

/* One or more of `list`, `between` between them; at most `max` where that is there. */
static uint32_t list_of(struct structure *s, const json_t *node, int depth) {
	const json_t *between = json_object_get(node, "between"), *max = json_object_get(node, "max");
	const uint32_t one = node_of(s, json_object_get(node, "list"), depth + 1);
	const uint32_t next = between == NULL ? one
		: rules_seq(s->r, node_of(s, between, depth + 1), one);
	const json_int_t most = json_integer_value(max);
	if (max != NULL && (most < 1 || most > MAX_BYTES)) {
		return fail(s, "expected 'max' to be a number from 1 on");
	}
	return rules_seq(s->r, one, rules_repeat(s->r, next, 0, max != NULL ? (int)most - 1 : -1));
}

/* Some of `some` in their order, `between` between them, and all that are required; each is an
 * array of a node and whether it is. As JSON Schema's properties of an object are made. */
static uint32_t some_of(struct structure *s, const json_t *node, int depth) {
	const json_t *list = json_object_get(node, "some"), *gap = json_object_get(node, "between");
	const uint32_t between = gap != NULL ? node_of(s, gap, depth + 1) : RULES_EMPTY;
	uint32_t first = RULES_EMPTY, rest = RULES_EMPTY; /* nothing before them; something */
	if (!json_is_array(list)) {
		return fail(s, "expected a list");
	}
	for (size_t i = json_array_size(list); i-- > 0 && !s->failed;) {
		const json_t *item = json_array_get(list, i), *required = json_array_get(item, 1);
		if (json_array_size(item) != 2 || !json_is_boolean(required)) {
			return fail(s, "expected pairs of a part and whether it is required");
		}
		const uint32_t from = rules_seq(s->r, node_of(s, json_array_get(item, 0), depth + 1),
			rest);
		const uint32_t later = rules_seq(s->r, between, from);
		first = json_is_true(required) ? from : rules_either(s->r, from, first);
		rest = json_is_true(required) ? later : rules_either(s->r, later, rest);
	}
	return first;
}

static uint32_t node_of(struct structure *s, const json_t *node, int depth) {
	const json_t *value;
	if (depth > MAX_DEPTH || s->failed) {
		return fail(s, "the parts are too deep in each other");
	}
	if ((value = json_object_get(node, "schema")) != NULL) {
		return schema_of(s, value);
	}
	if ((value = json_object_get(node, "seq")) != NULL) {
		return all_of(s, value, false, depth);
	}
	if ((value = json_object_get(node, "any")) != NULL) {
		return all_of(s, value, true, depth);
	}
	if (json_object_get(node, "list") != NULL) {
		return list_of(s, node, depth);
	}
	if (json_object_get(node, "some") != NULL) {
		return some_of(s, node, depth);
	}
	const bool is_free = json_object_get(node, "until") != NULL ||
		json_object_get(node, "without") != NULL;
	return rules_term(s->r, is_free ? free_text(s, node) : expr_of(s, node, depth));
}

bool structure_read(struct rules *r, const char *source, size_t bytes, uint32_t *root,
	struct bb_error *err) {
	json_error_t problem;
	struct structure s = { .r = r, .err = err };
	if (bytes > MAX_BYTES) {
		return base_fail(err, BB_ERR_UNSUPPORTED, "structure: expected at most %d bytes, has %zu",
			MAX_BYTES, bytes);
	}
	json_t *node = json_loadb(source, bytes, JSON_REJECT_DUPLICATES | JSON_DECODE_ANY, &problem);
	if (node == NULL) {
		return json_error_code(&problem) == json_error_out_of_memory
			? base_no_memory(err, "structure", bytes)
			: base_fail(err, BB_ERR_INPUT, "structure: line %d, column %d: %s", problem.line,
				problem.column, problem.text);
	}
	*root = node_of(&s, node, 0);
	json_decref(node);
	const struct bb_error trouble = r->x.trouble;
	if (!s.failed && trouble.code != BB_OK) {
		return base_fail(err, trouble.code, "%s", trouble.text);
	}
	return !s.failed;
}
