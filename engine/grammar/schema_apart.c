/* SPDX-License-Identifier: Apache-2.0
 *
 * JSON Schema: whether two sets can't hold for one value, by what is easily seen: types, values,
 * bounds, and properties that one of them requires. "No" means that it doesn't show. */
#include "schema.h"

#include <string.h>

enum { MAX_DEPTH = 6 };

static unsigned types_of(struct schema *c, const struct schema_set *set) {
	unsigned types = schema_types(c, set);
	for (size_t i = 0; i < set->n; i++) {
		const json_t *one, *list = schema_values(set->items[i].schema, &one);
		unsigned own = one != NULL ? schema_type_of(one) : 0;
		for (size_t j = 0; one == NULL && j < json_array_size(list); j++) {
			own |= schema_type_of(json_array_get(list, j));
		}
		types &= one != NULL || list != NULL ? own : TYPE_ANY;
	}
	return types;
}

/* Whether a has few values, none of which satisfies b. */
static bool misses(struct schema *c, const struct schema_set *a, const struct schema_set *b) {
	for (size_t i = 0; i < a->n; i++) {
		const json_t *one, *list = schema_values(a->items[i].schema, &one);
		bool hits = one != NULL && schema_set_holds(c, b, one);
		for (size_t j = 0; one == NULL && !hits && j < json_array_size(list); j++) {
			hits = schema_set_holds(c, b, json_array_get(list, j));
		}
		if ((one != NULL || list != NULL) && !hits) {
			return true;
		}
	}
	return false;
}

static bool counts_apart(struct schema *c, const struct schema_set *a, const struct schema_set *b,
	const char *min, const char *max) {
	const struct schema_bounds s = schema_count(c, a, min, max), t = schema_count(c, b, min, max);
	return (s.max != SCHEMA_NO_MAX && s.max < t.min) || (t.max != SCHEMA_NO_MAX && t.max < s.min);
}

static bool ranges_apart(struct schema *c, const struct schema_set *a,
	const struct schema_set *b) {
	const struct int_range s = schema_range(c, a), t = schema_range(c, b);
	return (s.has_max && t.has_min && s.max < t.min) || (t.has_max && s.has_min && t.max < s.min);
}

/* What must hold for a property in either; spread. */
static bool property_apart(struct schema *c, const struct schema_set *a,
	const struct schema_set *b, const char *name, int depth) {
	struct schema_set s = schema_property(c, a, name), t = schema_property(c, b, name);
	schema_spread(c, &s);
	schema_spread(c, &t);
	const bool apart = schema_apart(c, &s, &t, depth + 1);
	schema_set_finish(&s);
	schema_set_finish(&t);
	return apart;
}

/* By a property that `of` requires. */
static bool objects_apart(struct schema *c, const struct schema_set *of, const struct schema_set *a,
	const struct schema_set *b, int depth) {
	for (size_t i = 0; i < of->n && !c->failed; i++) {
		const json_t *required = json_object_get(of->items[i].schema, "required");
		for (size_t j = 0; j < json_array_size(required) && !c->failed; j++) {
			const char *name = json_string_value(json_array_get(required, j));
			if (name != NULL && property_apart(c, a, b, name, depth)) {
				return true;
			}
		}
	}
	return false;
}

bool schema_apart(struct schema *c, const struct schema_set *a, const struct schema_set *b,
	int depth) {
	if (a->is_false || b->is_false || c->failed) {
		return !c->failed;
	}
	if (depth > MAX_DEPTH) {
		return false;
	}
	const unsigned both = types_of(c, a) & types_of(c, b);
	if (both == 0 || misses(c, a, b) || misses(c, b, a)) {
		return true;
	}
	return (both & (TYPE_NULL | TYPE_BOOLEAN)) == 0 &&
		((both & (TYPE_INTEGER | TYPE_NUMBER)) == 0 || ranges_apart(c, a, b)) &&
		((both & TYPE_STRING) == 0 || counts_apart(c, a, b, "minLength", "maxLength")) &&
		((both & TYPE_ARRAY) == 0 || counts_apart(c, a, b, "minItems", "maxItems")) &&
		((both & TYPE_OBJECT) == 0 || objects_apart(c, a, a, b, depth) ||
			objects_apart(c, b, a, b, depth));
}
