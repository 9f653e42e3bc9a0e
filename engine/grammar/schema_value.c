/* SPDX-License-Identifier: Apache-2.0
 *
 * JSON Schema: values of enum and const: whether they satisfy the other keywords, and how they are
 * written. */
#include "schema.h"

#include "regex.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_DEPTH = 64 };

unsigned schema_type_of(const json_t *value) {
	switch (json_typeof(value)) {
	case JSON_OBJECT: return TYPE_OBJECT;
	case JSON_ARRAY: return TYPE_ARRAY;
	case JSON_STRING: return TYPE_STRING;
	case JSON_INTEGER: return TYPE_INTEGER;
	case JSON_REAL: {
		const double number = json_real_value(value);
		return floor(number) == number ? TYPE_INTEGER : TYPE_NUMBER;
	}
	case JSON_NULL: return TYPE_NULL;
	default: return TYPE_BOOLEAN;
	}
}

/* As JSON Schema compares: 1 is 1.0. */
static bool is_equal(const json_t *a, const json_t *b) {
	const char *key;
	json_t *value;
	if (json_is_number(a) && json_is_number(b)) {
		return json_is_integer(a) && json_is_integer(b)
			? json_integer_value(a) == json_integer_value(b)
			: json_number_value(a) == json_number_value(b);
	}
	if (json_is_array(a) && json_is_array(b)) {
		bool same = json_array_size(a) == json_array_size(b);
		for (size_t i = 0; same && i < json_array_size(a); i++) {
			same = is_equal(json_array_get(a, i), json_array_get(b, i));
		}
		return same;
	}
	if (json_is_object(a) && json_is_object(b)) {
		bool same = json_object_size(a) == json_object_size(b);
		json_object_foreach((json_t *)(uintptr_t)a, key, value) {
			const json_t *other = json_object_get(b, key);
			same = same && other != NULL && is_equal(value, other);
		}
		return same;
	}
	return json_equal((json_t *)(uintptr_t)a, (json_t *)(uintptr_t)b);
}

const json_t *schema_values(const json_t *schema, const json_t **one) {
	*one = json_object_get(schema, "const");
	return json_object_get(schema, "enum");
}

static bool is_listed(struct schema *c, const json_t *schema, const json_t *value) {
	const json_t *one, *list = schema_values(schema, &one);
	if (list != NULL && !json_is_array(list)) {
		return schema_fail(c, BB_ERR_INPUT, "'enum' isn't an array");
	}
	bool found = list == NULL;
	for (size_t i = 0; !found && i < json_array_size(list); i++) {
		found = is_equal(json_array_get(list, i), value);
	}
	return found && (one == NULL || is_equal(one, value));
}

static bool string_holds(struct schema *c, const struct schema_set *set, const json_t *value) {
	struct exprs *const x = &c->r->x;
	const json_t *pattern = json_object_get(set->items[0].schema, "pattern");
	const json_t *format = json_object_get(set->items[0].schema, "format");
	const struct schema_bounds n = schema_count(c, set, "minLength", "maxLength");
	const char *text = json_string_value(value);
	const size_t bytes = json_string_length(value);
	int64_t length = 0;
	for (size_t i = 0; i < bytes; i++) {
		length += (text[i] & 0xC0) != 0x80;
	}
	bool ok = length >= n.min && (n.max == SCHEMA_NO_MAX || length <= n.max) && !c->failed;
	if (ok && json_is_string(pattern)) {
		uint32_t expr = EXPR_NONE;
		if (!regex_parse(x, "JSON schema: 'pattern'", json_string_value(pattern),
			json_string_length(pattern), CHARS_UTF8, REGEX_SEARCH, &expr, c->err)) {
			c->failed = true;
		}
		ok = expr_matches(x, expr, text, bytes);
	}
	if (ok && json_is_string(format)) {
		bool known;
		const uint32_t expr = numbers_format(x, json_string_value(format), &known, &x->trouble);
		ok = known ? expr_matches(x, expr, text, bytes)
			: schema_fail(c, BB_ERR_UNSUPPORTED, "the format isn't supported");
	}
	return ok;
}

static bool all_hold(struct schema *c, struct schema_set *set, const json_t *value, int depth) {
	bool ok = !set->is_false;
	for (size_t i = 0; ok && i < set->n; i++) {
		ok = schema_holds(c, set->items[i].schema, value, depth);
	}
	schema_set_finish(set);
	return ok;
}

static bool array_holds(struct schema *c, const struct schema_set *set, const json_t *value,
	int depth) {
	const struct schema_bounds n = schema_count(c, set, "minItems", "maxItems");
	const int64_t size = (int64_t)json_array_size(value);
	bool ok = size >= n.min && (n.max == SCHEMA_NO_MAX || size <= n.max);
	for (size_t i = 0; ok && i < json_array_size(value); i++) {
		struct schema_set own = schema_element(c, set, i);
		ok = all_hold(c, &own, json_array_get(value, i), depth + 1);
	}
	return ok;
}

static bool object_holds(struct schema *c, const struct schema_set *set, const json_t *value,
	int depth) {
	const json_t *required = json_object_get(set->items[0].schema, "required");
	bool ok = true;
	const char *key;
	json_t *member;
	for (size_t i = 0; ok && i < json_array_size(required); i++) {
		const char *name = json_string_value(json_array_get(required, i));
		ok = name != NULL && json_object_get(value, name) != NULL;
	}
	json_object_foreach((json_t *)(uintptr_t)value, key, member) {
		struct schema_set own = { 0 };
		if (ok) {
			own = schema_property(c, set, key);
			ok = all_hold(c, &own, member, depth + 1);
		}
	}
	return ok;
}

static bool branches_hold(struct schema *c, const json_t *schema, const json_t *value, int depth) {
	static const char *const keys[] = { "allOf", "anyOf", "oneOf" };
	for (size_t k = 0; k < COUNT(keys); k++) {
		const json_t *list = json_object_get(schema, keys[k]);
		size_t n_hold = 0;
		for (size_t i = 0; i < json_array_size(list); i++) {
			const json_t *one = json_array_get(list, i);
			n_hold += schema_holds(c, one, value, depth + 1);
		}
		if (list != NULL && (k == 0 ? n_hold < json_array_size(list) : k == 1 ? n_hold == 0
			: n_hold != 1)) {
			return false;
		}
	}
	const json_t *ref = json_object_get(schema, "$ref");
	if (!json_is_string(ref)) {
		return true;
	}
	const json_t *target = schema_resolve(c, json_string_value(ref));
	return target != NULL && schema_holds(c, target, value, depth + 1);
}

static bool number_holds(struct schema *c, const struct schema_set *set, const json_t *value) {
	const struct int_range r = schema_range(c, set);
	if (json_is_integer(value)) {
		const int64_t number = json_integer_value(value);
		return (!r.has_min || number >= r.min) && (!r.has_max || number <= r.max);
	}
	const double number = json_real_value(value);
	return (!r.has_min || number >= (double)r.min) && (!r.has_max || number <= (double)r.max);
}

bool schema_holds(struct schema *c, const json_t *schema, const json_t *value, int depth) {
	if (c->failed || !json_is_object(schema)) {
		return !c->failed && json_is_true(schema);
	}
	if (depth > MAX_DEPTH) {
		return schema_fail(c, BB_ERR_UNSUPPORTED, "a value of enum or const is more than %d "
			"schemas deep", MAX_DEPTH);
	}
	struct schema_item item = { .schema = schema };
	const struct schema_set set = { .items = &item, .n = 1 };
	unsigned types = schema_types(c, &set);
	const unsigned own = schema_type_of(value);
	if ((types & own) == 0 || !is_listed(c, schema, value) ||
		!branches_hold(c, schema, value, depth)) {
		return false;
	}
	switch (own) {
	case TYPE_STRING: return string_holds(c, &set, value);
	case TYPE_ARRAY: return array_holds(c, &set, value, depth);
	case TYPE_OBJECT: return object_holds(c, &set, value, depth);
	case TYPE_INTEGER:
	case TYPE_NUMBER: return number_holds(c, &set, value);
	default: return true;
	}
}

bool schema_set_holds(struct schema *c, const struct schema_set *set, const json_t *value) {
	bool ok = !set->is_false;
	for (size_t i = 0; ok && i < set->n; i++) {
		ok = schema_holds(c, set->items[i].schema, value, 0);
	}
	return ok;
}

/* ---- written ---- */

static uint32_t text_of(struct schema *c, const json_t *value) {
	struct exprs *const x = &c->r->x;
	if (json_is_string(value)) {
		return schema_known_text(c, "a text in enum or const", json_string_value(value),
			json_string_length(value));
	}
	char number[40];
	if (json_is_integer(value)) {
		snprintf(number, sizeof(number), "%lld", (long long)json_integer_value(value));
	} else if (json_is_real(value)) { /* as short as gives the same number again */
		const double d = json_real_value(value);
		for (int digits = 1; digits <= 17; digits++) {
			snprintf(number, sizeof(number), "%.*g", digits, d);
			if (strtod(number, NULL) == d) {
				break;
			}
		}
	} else {
		snprintf(number, sizeof(number), "%s", json_is_null(value) ? "null"
			: json_is_true(value) ? "true" : "false");
	}
	return expr_text(x, number, strlen(number));
}

static uint32_t expr_of(struct schema *c, const json_t *value);

/* Of a value in a container at c->level. */
static uint32_t expr_inside(struct schema *c, const json_t *value) {
	c->level++;
	const uint32_t expr = expr_of(c, value);
	c->level--;
	return expr;
}

static uint32_t array_of(struct schema *c, const json_t *value) {
	struct exprs *const x = &c->r->x;
	uint32_t all = schema_close(c, "]");
	for (size_t i = json_array_size(value); i-- > 0;) {
		all = expr_seq(x, expr_inside(c, json_array_get(value, i)), all);
		all = expr_seq(x, i > 0 ? schema_comma(c) : schema_open(c, "["), all);
	}
	return json_array_size(value) > 0 ? all : expr_text(x, "[]", 2);
}

static uint32_t object_of(struct schema *c, const json_t *value) {
	struct exprs *const x = &c->r->x;
	uint32_t all = EXPR_EMPTY;
	const char *key;
	json_t *member;
	json_object_foreach((json_t *)(uintptr_t)value, key, member) {
		const uint32_t name = schema_known_text(c, "a name in enum or const", key, strlen(key));
		const uint32_t before = all == EXPR_EMPTY ? schema_open(c, "{") : schema_comma(c);
		const uint32_t one = expr_seq(x, name,
			expr_seq(x, schema_colon(c), expr_inside(c, member)));
		all = expr_seq(x, all, expr_seq(x, before, one));
	}
	return all == EXPR_EMPTY ? expr_text(x, "{}", 2) : expr_seq(x, all, schema_close(c, "}"));
}

static uint32_t expr_of(struct schema *c, const json_t *value) {
	return json_is_array(value) ? array_of(c, value) : json_is_object(value) ? object_of(c, value)
		: text_of(c, value);
}

/* Halves are joined, so that long lists take no more than n log n. */
static uint32_t either_of(struct schema *c, const struct schema_set *set, const json_t *list,
	size_t begin, size_t end) {
	if (end - begin > 1) {
		const size_t middle = begin + (end - begin) / 2;
		const uint32_t first = either_of(c, set, list, begin, middle);
		return expr_or(&c->r->x, first, either_of(c, set, list, middle, end));
	}
	const json_t *value = begin < end ? json_array_get(list, begin) : NULL;
	return value != NULL && schema_set_holds(c, set, value) ? expr_of(c, value) : EXPR_NONE;
}

bool schema_listed(struct schema *c, const struct schema_set *set, uint32_t *node) {
	for (size_t i = 0; i < set->n; i++) {
		const json_t *one, *list = schema_values(set->items[i].schema, &one);
		if (one != NULL) {
			*node = schema_set_holds(c, set, one) ? rules_term(c->r, expr_of(c, one))
				: RULES_NOTHING;
			return true;
		}
		if (list != NULL) {
			if (!json_is_array(list)) {
				schema_fail(c, BB_ERR_INPUT, "'enum' isn't an array");
			}
			*node = rules_term(c->r, either_of(c, set, list, 0, json_array_size(list)));
			return true;
		}
	}
	return false;
}
