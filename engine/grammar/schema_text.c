/* SPDX-License-Identifier: Apache-2.0
 *
 * JSON Schema: strings. One without a pattern may be written with any escapes; where its text
 * matters, each character is written in one way. */
#include "schema.h"

#include "regex.h"

#include <string.h>

enum { MAX_TEXT = 1 << 16 }; /* bytes */

static uint32_t quoted(struct exprs *x, uint32_t text) {
	const uint32_t quote = expr_text(x, "\"", 1);
	return expr_seq(x, quote, expr_seq(x, text, quote));
}

uint32_t schema_known_text(struct schema *c, const char *what, const char *text, size_t bytes) {
	if (bytes > MAX_TEXT) {
		schema_fail(c, BB_ERR_UNSUPPORTED, "%s is expected to be at most %d bytes, one has %zu",
			what, MAX_TEXT, bytes);
		return EXPR_NONE;
	}
	return quoted(&c->r->x, chars_text(&c->r->x, text, bytes, CHARS_JSON));
}

static uint32_t pattern_of(struct schema *c, const json_t *value) {
	uint32_t out = EXPR_NONE;
	if (!json_is_string(value)) {
		schema_fail(c, BB_ERR_INPUT, "'pattern' isn't a string");
	} else if (!regex_parse(&c->r->x, "JSON schema: 'pattern'", json_string_value(value),
		json_string_length(value), CHARS_JSON, REGEX_SEARCH, &out, c->err)) {
		c->failed = true;
	}
	return out;
}

static uint32_t format_of(struct schema *c, const json_t *value) {
	const char *name = json_is_string(value) ? json_string_value(value) : "";
	char shown[BASE_SHOWN];
	bool known;
	const uint32_t out = numbers_format(&c->r->x, name, &known, &c->r->x.trouble);
	if (!known) {
		schema_fail(c, BB_ERR_UNSUPPORTED, "the format '%s' isn't supported",
			schema_show(name, shown, sizeof(shown)));
	}
	return out;
}

uint32_t schema_string(struct schema *c, const struct schema_set *set) {
	struct exprs *const x = &c->r->x;
	const struct schema_bounds n = schema_count(c, set, "minLength", "maxLength");
	uint32_t all = EXPR_NONE;
	bool is_plain = true;
	for (size_t i = 0; i < set->n && !c->failed; i++) {
		const json_t *pattern = json_object_get(set->items[i].schema, "pattern");
		const json_t *format = json_object_get(set->items[i].schema, "format");
		if (pattern != NULL) {
			const uint32_t own = pattern_of(c, pattern);
			all = is_plain ? own : expr_and(x, all, own);
			is_plain = false;
		}
		if (format != NULL && !c->failed) {
			const uint32_t own = format_of(c, format);
			all = is_plain ? own : expr_and(x, all, own);
			is_plain = false;
		}
	}
	if (c->failed || (n.max != SCHEMA_NO_MAX && n.max < n.min)) {
		return EXPR_NONE;
	}
	const bool has_bounds = n.min > 0 || n.max != SCHEMA_NO_MAX;
	if (is_plain || has_bounds) {
		const uint32_t any = chars_any(x, is_plain ? CHARS_JSON_FREE : CHARS_JSON);
		const uint32_t length = expr_repeat(x, any, (int)n.min, (int)n.max);
		all = is_plain ? length : expr_and(x, all, length);
	}
	return quoted(x, all);
}

uint32_t schema_other_name(struct schema *c, const char *const *names, size_t n) {
	struct exprs *const x = &c->r->x;
	if (n == 0) {
		return quoted(x, expr_repeat(x, chars_any(x, CHARS_JSON_FREE), 0, -1));
	}
	uint32_t known = EXPR_NONE;
	for (size_t i = 0; i < n; i++) {
		known = expr_or(x, known, chars_text(x, names[i], strlen(names[i]), CHARS_JSON));
	}
	return quoted(x, expr_and(x, expr_not(x, known),
		expr_repeat(x, chars_any(x, CHARS_JSON), 0, -1)));
}
