/* SPDX-License-Identifier: Apache-2.0
 *
 * JSON Schema: numbers, arrays and objects, and what a set of schemas says of each. */
#include "schema.h"

#include <math.h>
#include <string.h>

enum { MAX_COUNT = 1 << 16, FAR_COUNT = 1 << 24 };

/* ---- keywords of a set ---- */

static unsigned type_named(struct schema *c, const json_t *name) {
	static const struct {
		const char *name;
		unsigned types;
	} all[] = { { "null", TYPE_NULL }, { "boolean", TYPE_BOOLEAN }, { "integer", TYPE_INTEGER },
		{ "number", TYPE_INTEGER | TYPE_NUMBER }, { "string", TYPE_STRING },
		{ "array", TYPE_ARRAY }, { "object", TYPE_OBJECT } };
	const char *text = json_is_string(name) ? json_string_value(name) : "";
	for (size_t i = 0; i < COUNT(all); i++) {
		if (strcmp(all[i].name, text) == 0) {
			return all[i].types;
		}
	}
	char shown[BASE_SHOWN];
	schema_fail(c, BB_ERR_INPUT, "type '%s' isn't one of JSON's types",
		schema_show(text, shown, sizeof(shown)));
	return 0;
}

unsigned schema_types(struct schema *c, const struct schema_set *set) {
	unsigned types = TYPE_ANY;
	for (size_t i = 0; i < set->n && !c->failed; i++) {
		const json_t *type = json_object_get(set->items[i].schema, "type");
		unsigned own = type == NULL ? TYPE_ANY : 0;
		if (json_is_array(type)) {
			for (size_t j = 0; j < json_array_size(type) && !c->failed; j++) {
				own |= type_named(c, json_array_get(type, j));
			}
		} else if (type != NULL) {
			own = type_named(c, type);
		}
		types &= own;
	}
	return types;
}

static int64_t count_at(struct schema *c, const json_t *schema, const char *key, int64_t none) {
	const json_t *value = json_object_get(schema, key);
	const double number = json_number_value(value);
	if (value == NULL) {
		return none;
	}
	if (!json_is_number(value) || number < 0 || floor(number) != number) {
		schema_fail(c, BB_ERR_INPUT, "'%s' isn't a whole number", key);
		return none;
	}
	return number < FAR_COUNT ? (int64_t)number : FAR_COUNT;
}

struct schema_bounds schema_count(struct schema *c, const struct schema_set *set, const char *min,
	const char *max) {
	struct schema_bounds b = { 0, SCHEMA_NO_MAX };
	for (size_t i = 0; i < set->n && !c->failed; i++) {
		const int64_t low = count_at(c, set->items[i].schema, min, 0);
		const int64_t high = count_at(c, set->items[i].schema, max, SCHEMA_NO_MAX);
		b.min = low > b.min ? low : b.min;
		if (high != SCHEMA_NO_MAX && high < FAR_COUNT && (b.max == SCHEMA_NO_MAX || high < b.max)) {
			b.max = high;
		}
	}
	if (b.min > MAX_COUNT) {
		schema_fail(c, BB_ERR_UNSUPPORTED, "'%s' is expected to be at most %d", min, MAX_COUNT);
	}
	return b;
}

/* One bound as a whole number: the least (or largest) that is allowed. */
static void add_bound(struct schema *c, const json_t *schema, const char *key, bool is_min,
	bool is_exclusive, struct int_range *r) {
	const json_t *value = json_object_get(schema, key);
	if (value == NULL || c->failed) {
		return;
	}
	if (!json_is_number(value)) {
		schema_fail(c, BB_ERR_INPUT, "'%s' isn't a number", key);
		return;
	}
	int64_t bound;
	bool steps = is_exclusive;
	if (json_is_integer(value)) {
		bound = json_integer_value(value);
	} else {
		const double number = json_real_value(value);
		const double whole = is_min ? ceil(number) : floor(number);
		steps = steps && whole == number;
		if (fabs(whole) > 9e18) {
			schema_fail(c, BB_ERR_UNSUPPORTED, "'%s' is %g, expected 64 bits", key, number);
			return;
		}
		bound = (int64_t)whole;
	}
	if (steps && (is_min ? bound == INT64_MAX : bound == INT64_MIN)) {
		schema_fail(c, BB_ERR_UNSUPPORTED, "'%s' is beyond 64 bits", key);
		return;
	}
	bound += steps ? (is_min ? 1 : -1) : 0;
	if (is_min) {
		r->min = !r->has_min || bound > r->min ? bound : r->min;
		r->has_min = true;
	} else {
		r->max = !r->has_max || bound < r->max ? bound : r->max;
		r->has_max = true;
	}
}

static const char *const bounds[] = {
	"minimum", "exclusiveMinimum", "maximum", "exclusiveMaximum",
};

struct int_range schema_range(struct schema *c, const struct schema_set *set) {
	struct int_range r = { 0 };
	for (size_t i = 0; i < set->n && !c->failed; i++) {
		const json_t *schema = set->items[i].schema;
		for (int k = 0; k < 4; k++) {
			add_bound(c, schema, bounds[k], k < 2, k % 2 == 1, &r);
		}
	}
	return r;
}

static const json_t *object_at(struct schema *c, const json_t *schema, const char *key) {
	const json_t *value = json_object_get(schema, key);
	if (value != NULL && !json_is_object(value)) {
		schema_fail(c, BB_ERR_INPUT, "'%s' isn't an object", key);
	}
	return value;
}

struct schema_set schema_property(struct schema *c, const struct schema_set *set,
	const char *name) {
	struct schema_set all = { 0 };
	for (size_t i = 0; i < set->n && !c->failed; i++) {
		const json_t *schema = set->items[i].schema;
		const json_t *own = name == NULL ? NULL
			: json_object_get(object_at(c, schema, "properties"), name);
		own = own != NULL ? own : json_object_get(schema, "additionalProperties");
		if (own != NULL) {
			schema_add(c, &all, own);
		}
	}
	return all;
}

struct schema_set schema_element(struct schema *c, const struct schema_set *set, size_t i) {
	struct schema_set all = { 0 };
	for (size_t j = 0; j < set->n && !c->failed; j++) {
		const json_t *schema = set->items[j].schema;
		const json_t *first = json_object_get(schema, "prefixItems");
		const json_t *rest = json_object_get(schema, "items");
		const json_t *own = i < json_array_size(first) ? json_array_get(first, i) : rest;
		if (first != NULL && !json_is_array(first)) {
			schema_fail(c, BB_ERR_INPUT, "'prefixItems' isn't an array");
		} else if (json_is_array(rest)) {
			schema_fail(c, BB_ERR_UNSUPPORTED, "'items' is an array; expected one schema, and "
				"those of places in 'prefixItems'");
		} else if (own != NULL) {
			schema_add(c, &all, own);
		}
	}
	return all;
}

bool schema_is_required(const struct schema_set *set, const char *name) {
	for (size_t i = 0; i < set->n; i++) {
		const json_t *required = json_object_get(set->items[i].schema, "required");
		for (size_t j = 0; j < json_array_size(required); j++) {
			const char *one = json_string_value(json_array_get(required, j));
			if (one != NULL && strcmp(one, name) == 0) {
				return true;
			}
		}
	}
	return false;
}

/* ---- arrays ---- */

static uint32_t compile_inside(struct schema *c, struct schema_set *set) {
	c->level++;
	const uint32_t node = schema_compile(c, set);
	c->level--;
	return node;
}

static uint32_t compile_element(struct schema *c, const struct schema_set *set, size_t i) {
	struct schema_set all = schema_element(c, set, i);
	return compile_inside(c, &all);
}

/* What is in brackets: nothing, where it may be empty, or what was made. */
static uint32_t enclose(struct schema *c, const char *open, const char *close, bool may_be_empty,
	uint32_t inside) {
	struct rules *const r = c->r;
	const bool is_indented = schema_is_indented(c); /* then nothing is between empty ones */
	uint32_t all = rules_seq(r, inside, rules_term(r, schema_close(c, close)));
	if (is_indented) {
		all = rules_seq(r, rules_term(r, schema_open(c, "")), all);
	}
	if (may_be_empty) {
		all = rules_either(r, all, rules_text(r, close));
	}
	return rules_seq(r, is_indented ? rules_text(r, open) : rules_term(r, schema_open(c, open)),
		all);
}

static uint32_t make_array(struct schema *c, const struct schema_set *set) {
	struct rules *const r = c->r;
	const struct schema_bounds n = schema_count(c, set, "minItems", "maxItems");
	int64_t n_first = 0;
	for (size_t i = 0; i < set->n; i++) {
		const json_t *first = json_object_get(set->items[i].schema, "prefixItems");
		const int64_t own = (int64_t)json_array_size(first);
		n_first = own > n_first ? own : n_first;
	}
	if (c->failed || (n.max != SCHEMA_NO_MAX && n.max < n.min)) {
		return RULES_NOTHING;
	}
	const uint32_t comma = rules_term(r, schema_comma(c));
	const int64_t most = n.max == SCHEMA_NO_MAX ? FAR_COUNT : n.max;
	uint32_t inside = RULES_NOTHING, rest = RULES_NOTHING; /* from element i on, i > 0 */
	if (most > n_first) {
		const uint32_t one = compile_element(c, set, (size_t)n_first);
		const int64_t done = n_first > 0 ? n_first : 1;
		rest = rules_repeat(r, rules_seq(r, comma, one),
			(int)(n.min > done ? n.min - done : 0), n.max == SCHEMA_NO_MAX ? -1
			: (int)(n.max - done));
		inside = n_first == 0 ? rules_seq(r, one, rest) : RULES_NOTHING;
	} else if (n.min <= n_first) {
		rest = RULES_EMPTY;
	}
	for (int64_t i = n_first; i-- > 0 && !c->failed;) {
		const uint32_t one = i < most ? compile_element(c, set, (size_t)i) : RULES_NOTHING;
		const uint32_t from = rules_seq(r, one, rest);
		inside = i == 0 ? from : inside;
		rest = rules_seq(r, comma, from);
		rest = i >= n.min ? rules_either(r, rest, RULES_EMPTY) : rest;
		rest = i > most ? RULES_NOTHING : rest;
	}
	return enclose(c, "[", "]", n.min == 0, inside);
}

/* ---- objects ---- */

struct names {
	const char **all; /* [n], of the schema */
	size_t n, cap;
};

static void add_name(struct schema *c, struct names *names, const char *name) {
	for (size_t i = 0; i < names->n; i++) {
		if (strcmp(names->all[i], name) == 0) {
			return;
		}
	}
	if (names->n == names->cap) {
		const size_t cap = 2 * names->cap + 8;
		const char **all = base_realloc(names->all, cap, sizeof(*all));
		if (all == NULL) {
			c->failed = true;
			base_no_memory(c->err, "grammar", cap * sizeof(*all));
			return;
		}
		names->all = all;
		names->cap = cap;
	}
	names->all[names->n++] = name;
}

/* Declared ones in their order, then those that are only required. */
static void list_names(struct schema *c, const struct schema_set *set, struct names *names) {
	const char *key;
	json_t *value;
	for (size_t i = 0; i < set->n && !c->failed; i++) {
		const json_t *own = object_at(c, set->items[i].schema, "properties");
		json_object_foreach((json_t *)(uintptr_t)own, key, value) {
			add_name(c, names, key);
		}
	}
	for (size_t i = 0; i < set->n && !c->failed; i++) {
		const json_t *required = json_object_get(set->items[i].schema, "required");
		if (required != NULL && !json_is_array(required)) {
			schema_fail(c, BB_ERR_INPUT, "'required' isn't an array");
		}
		for (size_t j = 0; j < json_array_size(required) && !c->failed; j++) {
			const char *name = json_string_value(json_array_get(required, j));
			if (name == NULL) {
				schema_fail(c, BB_ERR_INPUT, "'required' has what isn't a string");
			} else {
				add_name(c, names, name);
			}
		}
	}
}

/* `"name": ` with a comma in front, or not. */
static uint32_t key_node(struct schema *c, uint32_t name, bool has_comma) {
	struct exprs *const x = &c->r->x;
	const uint32_t all = expr_seq(x, name, schema_colon(c));
	return rules_term(c->r, has_comma ? expr_seq(x, schema_comma(c), all) : all);
}

static uint32_t make_object(struct schema *c, const struct schema_set *set) {
	struct rules *const r = c->r;
	struct names names = { 0 };
	list_names(c, set, &names);
	struct schema_set other = schema_property(c, set, NULL);
	const uint32_t value = compile_inside(c, &other);
	uint32_t rest = RULES_EMPTY, inside = RULES_NOTHING; /* after others; as the first */
	if (value != RULES_NOTHING && !c->failed) {
		const uint32_t name = schema_other_name(c, names.all, names.n);
		rest = rules_repeat(r, rules_seq(r, key_node(c, name, true), value), 0, -1);
		inside = rules_seq(r, key_node(c, name, false), rules_seq(r, value, rest));
	}
	bool may_be_empty = true;
	for (size_t i = names.n; i-- > 0 && !c->failed;) {
		struct schema_set own = schema_property(c, set, names.all[i]);
		const uint32_t from = rules_seq(r, compile_inside(c, &own), rest);
		const uint32_t name = schema_known_text(c, "a property's name", names.all[i],
			strlen(names.all[i]));
		const uint32_t first = rules_seq(r, key_node(c, name, false), from);
		const uint32_t later = rules_seq(r, key_node(c, name, true), from);
		const bool is_required = schema_is_required(set, names.all[i]);
		may_be_empty = may_be_empty && !is_required;
		inside = is_required ? first : rules_either(r, first, inside);
		rest = is_required ? later : rules_either(r, later, rest);
	}
	base_free(names.all);
	return c->failed ? RULES_NOTHING : enclose(c, "{", "}", may_be_empty, inside);
}

/* ---- all ---- */

static uint32_t make_number(struct schema *c, const struct schema_set *set, unsigned types) {
	const struct int_range range = schema_range(c, set);
	if ((types & TYPE_NUMBER) == 0) {
		return rules_term(c->r, numbers_integer(&c->r->x, &range));
	}
	for (size_t i = 0; i < 4 * set->n && !c->failed; i++) {
		if (json_object_get(set->items[i / 4].schema, bounds[i % 4]) != NULL) {
			schema_fail(c, BB_ERR_UNSUPPORTED, "'%s' is supported for \"type\": \"integer\" alone",
				bounds[i % 4]);
		}
	}
	return rules_term(c->r, numbers_any(&c->r->x));
}

uint32_t schema_typed(struct schema *c, const struct schema_set *set) {
	struct rules *const r = c->r;
	const unsigned types = schema_types(c, set);
	uint32_t all = RULES_NOTHING;
	if ((types & TYPE_OBJECT) != 0 && !c->failed) {
		all = make_object(c, set);
	}
	if ((types & TYPE_ARRAY) != 0 && !c->failed) {
		all = rules_either(r, make_array(c, set), all);
	}
	if ((types & TYPE_STRING) != 0 && !c->failed) {
		all = rules_either(r, rules_term(r, schema_string(c, set)), all);
	}
	if ((types & (TYPE_INTEGER | TYPE_NUMBER)) != 0 && !c->failed) {
		all = rules_either(r, make_number(c, set, types), all);
	}
	if ((types & TYPE_BOOLEAN) != 0) {
		all = rules_either(r, rules_text(r, "true"), rules_either(r, rules_text(r, "false"), all));
	}
	return (types & TYPE_NULL) != 0 ? rules_either(r, rules_text(r, "null"), all) : all;
}
