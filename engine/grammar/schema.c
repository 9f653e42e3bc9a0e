/* SPDX-License-Identifier: Apache-2.0
 *
 * JSON Schema: sets of schemas, references, branches. */
#include "schema.h"

#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

enum {
	MAX_BYTES = 1 << 20,
	MAX_DEPTH = 100,  /* of schemas in each other */
	MAX_JSON = 500,   /* of arrays and objects in each other, values of enum and const among them */
	MAX_SET = 400,    /* schemas that must hold together */
	MAX_ONE_OF = 256,
};

/* The JSON pointer (RFC 6901) from `in` to the value, behind what is in text; false: it isn't
 * there, or has no room. */
static bool point(const json_t *in, const json_t *value, char *text, size_t cap) {
	const size_t n = strlen(text);
	const char *key;
	json_t *item;
	size_t i;
	if (in == value) {
		return true;
	}
	json_object_foreach((json_t *)(uintptr_t)in, key, item) {
		char shown[BASE_SHOWN];
		snprintf(text + n, cap - n, "/%s", schema_show(key, shown, sizeof(shown)));
		if (strpbrk(key, "/~") == NULL && strlen(text) < cap - 1 && point(item, value, text, cap)) {
			return true;
		}
	}
	json_array_foreach(in, i, item) {
		snprintf(text + n, cap - n, "/%zu", i);
		if (strlen(text) < cap - 1 && point(item, value, text, cap)) {
			return true;
		}
	}
	text[n] = '\0';
	return false;
}

bool schema_fail(struct schema *c, enum bb_code code, const char *fmt, ...) {
	char text[400], place[160] = "";
	va_list args;
	va_start(args, fmt);
	vsnprintf(text, sizeof(text), fmt, args);
	va_end(args);
	const bool has_place = c->at != NULL && c->at != c->root &&
		point(c->root, c->at, place, sizeof(place));
	c->failed = true;
	return base_fail(c->err, code, "JSON schema: %s%s%s", text, has_place ? ", at #" : "",
		has_place ? place : "");
}

const char *schema_show(const char *text, char *buf, size_t cap) {
	return base_show(text, strlen(text), buf, cap);
}

/* ---- keywords ---- */

static bool is_one_of(const char *key, const char *const *names, size_t n) {
	for (size_t i = 0; i < n; i++) {
		if (strcmp(key, names[i]) == 0) {
			return true;
		}
	}
	return false;
}

static void check_keywords(struct schema *c, const json_t *schema) {
	static const char *const known[] = { "type", "enum", "const", "properties", "required",
		"additionalProperties", "items", "prefixItems", "minItems", "maxItems", "anyOf", "oneOf",
		"allOf", "$ref", "$defs", "minLength", "maxLength", "pattern", "minimum", "maximum",
		"exclusiveMinimum", "exclusiveMaximum", "format", "definitions",
		/* what only describes */
		"title", "description", "default", "examples", "$schema", "$comment", "deprecated",
		"readOnly", "writeOnly",
		"discriminator" /* OpenAPI's, which pydantic writes beside oneOf */ };
	const char *key;
	json_t *value;
	c->at = schema;
	json_object_foreach((json_t *)(uintptr_t)schema, key, value) {
		char shown[BASE_SHOWN];
		if (!is_one_of(key, known, COUNT(known))) {
			schema_fail(c, BB_ERR_UNSUPPORTED, "the keyword '%s' isn't supported",
				schema_show(key, shown, sizeof(shown)));
			return;
		}
		if (is_one_of(key, (const char *const[]){ "anyOf", "oneOf", "allOf" }, 3) &&
			(!json_is_array(value) || json_array_size(value) == 0)) {
			schema_fail(c, BB_ERR_INPUT, "'%s' isn't an array of schemas", key);
			return;
		}
	}
}

/* In all places where a schema stands, also where no value comes to it: a definition that nobody
 * names, properties of what is no object. */
static void check_all_keywords(struct schema *c, const json_t *schema) {
	static const char *const one[] = { "items", "additionalProperties" };
	static const char *const many[] = { "prefixItems", "anyOf", "oneOf", "allOf", "properties",
		"$defs", "definitions" };
	if (!json_is_object(schema)) {
		return;
	}
	check_keywords(c, schema);
	for (size_t i = 0; i < COUNT(one) && !c->failed; i++) {
		check_all_keywords(c, json_object_get(schema, one[i]));
	}
	for (size_t i = 0; i < COUNT(many) && !c->failed; i++) {
		json_t *const group = json_object_get(schema, many[i]);
		const char *name;
		json_t *member;
		for (size_t j = 0; j < json_array_size(group) && !c->failed; j++) {
			check_all_keywords(c, json_array_get(group, j));
		}
		json_object_foreach(group, name, member) {
			if (!c->failed) {
				check_all_keywords(c, member);
			}
		}
	}
}

/* ---- sets ---- */

void schema_set_finish(struct schema_set *set) {
	base_free(set->items);
	memset(set, 0, sizeof(*set));
}

static void push(struct schema *c, struct schema_set *set, struct schema_item item) {
	for (size_t i = 0; i < set->n; i++) {
		if (set->items[i].schema == item.schema) {
			set->items[i].took_any |= item.took_any;
			set->items[i].took_one |= item.took_one;
			return;
		}
	}
	if (set->n >= MAX_SET) {
		schema_fail(c, BB_ERR_UNSUPPORTED, "more than %d schemas must hold together", MAX_SET);
		return;
	}
	if (set->n == set->cap) {
		const size_t cap = 2 * set->cap + 4;
		struct schema_item *items = base_realloc(set->items, cap, sizeof(*items));
		if (items == NULL) {
			c->failed = true;
			base_no_memory(c->err, "grammar", cap * sizeof(*items));
			return;
		}
		set->items = items;
		set->cap = cap;
	}
	set->items[set->n++] = item;
}

void schema_add(struct schema *c, struct schema_set *set, const json_t *schema) {
	if (json_is_object(schema)) {
		push(c, set, (struct schema_item){ .schema = schema });
	} else if (json_is_false(schema)) {
		set->is_false = true;
	} else if (!json_is_true(schema)) {
		schema_fail(c, BB_ERR_INPUT, "expected a schema to be an object, true or false");
	}
}

/* One step of a JSON pointer (RFC 6901), with %XX of URIs; false: too long or wrong. */
static bool pointer_part(const char **at, char *part, size_t cap) {
	size_t n = 0;
	const char *p = *at;
	for (; *p != '\0' && *p != '/'; p++) {
		char byte = *p;
		unsigned number;
		if (byte == '~') {
			byte = *++p == '0' ? '~' : *p == '1' ? '/' : '\0';
		} else if (byte == '%') {
			if (sscanf(p + 1, "%2x", &number) != 1 || p[1] == '\0' || p[2] == '\0') {
				return false;
			}
			byte = (char)number;
			p += 2;
		}
		if (byte == '\0' || n + 1 >= cap) {
			return false;
		}
		part[n++] = byte;
	}
	part[n] = '\0';
	*at = p;
	return true;
}

const json_t *schema_resolve(struct schema *c, const char *ref) {
	char part[512], shown[BASE_SHOWN];
	const json_t *at = ref[0] == '#' && (ref[1] == '\0' || ref[1] == '/') ? c->root : NULL;
	if (at == NULL) {
		schema_fail(c, BB_ERR_UNSUPPORTED, "$ref '%s' isn't '#' or '#/...'",
			schema_show(ref, shown, sizeof(shown)));
		return NULL;
	}
	for (const char *p = ref + 1; at != NULL && *p == '/';) {
		p++;
		if (!pointer_part(&p, part, sizeof(part))) {
			at = NULL;
		} else if (json_is_array(at)) {
			char *end;
			const unsigned long i = strtoul(part, &end, 10);
			at = *end == '\0' && part[0] != '\0' ? json_array_get(at, i) : NULL;
		} else {
			at = json_object_get(at, part);
		}
	}
	if (at == NULL) {
		schema_fail(c, BB_ERR_INPUT, "nothing is at $ref '%s'",
			schema_show(ref, shown, sizeof(shown)));
	}
	return at;
}

void schema_spread(struct schema *c, struct schema_set *set) {
	for (size_t i = 0; i < set->n && !c->failed; i++) {
		const json_t *schema = set->items[i].schema;
		const json_t *ref = json_object_get(schema, "$ref");
		check_keywords(c, schema);
		if (ref != NULL && !json_is_string(ref)) {
			schema_fail(c, BB_ERR_INPUT, "$ref isn't a string");
		} else if (ref != NULL && !c->failed) {
			const json_t *target = schema_resolve(c, json_string_value(ref));
			if (target != NULL) {
				schema_add(c, set, target);
			}
		}
		const json_t *all = json_object_get(schema, "allOf");
		for (size_t j = 0; j < json_array_size(all) && !c->failed; j++) {
			schema_add(c, set, json_array_get(all, j));
		}
	}
}

static struct schema_set copy_of(struct schema *c, const struct schema_set *set) {
	struct schema_set copy = { .is_false = set->is_false };
	for (size_t i = 0; i < set->n && !c->failed; i++) {
		push(c, &copy, set->items[i]);
	}
	return copy;
}

/* ---- rules of sets ---- */

static int by_schema(const void *a, const void *b) {
	const struct schema_item *s = a, *t = b;
	return ((uintptr_t)s->schema > (uintptr_t)t->schema) -
		((uintptr_t)s->schema < (uintptr_t)t->schema);
}

static bool equals(const struct schema_set *a, const struct schema_set *b) {
	for (size_t i = 0; a->n == b->n && i < a->n; i++) {
		const struct schema_item *s = &a->items[i], *t = &b->items[i];
		if (s->schema != t->schema || s->took_any != t->took_any || s->took_one != t->took_one) {
			return false;
		}
	}
	return a->n == b->n;
}

/* Where the rule of a set is kept; a new one where it isn't yet. *set, in its own order, goes on
 * being the caller's. */
static struct schema_memo *find_memo(struct schema *c, const struct schema_set *set,
	bool *is_new) {
	struct schema_set key = copy_of(c, set);
	const int level = schema_level(c);
	uint64_t h = (uint64_t)level;
	if (key.n > 0) {
		qsort(key.items, key.n, sizeof(*key.items), by_schema);
	}
	for (size_t i = 0; i < key.n; i++) {
		h = (h ^ (uintptr_t)key.items[i].schema) * 0x9E3779B97F4A7C15u;
		h = (h ^ (h >> 32)) + (unsigned)(2 * key.items[i].took_any + key.items[i].took_one);
	}
	struct schema_memo **bucket = &c->memos[h % SCHEMA_BUCKETS], *m = *bucket;
	while (m != NULL && (m->level != level || !equals(&m->set, &key))) {
		m = m->next;
	}
	*is_new = m == NULL;
	if (m == NULL && !c->failed) {
		m = base_alloc(1, sizeof(*m));
		if (m == NULL) {
			c->failed = true;
			base_no_memory(c->err, "grammar", sizeof(*m));
		} else {
			const json_t *ref = json_object_get(c->root, "title");
			const char *name = json_is_string(ref) ? json_string_value(ref) : "schema";
			*m = (struct schema_memo){ .next = *bucket, .set = key, .level = level,
				.rule = rules_rule(c->r, name, strlen(name)) };
			*bucket = m;
			c->failed = c->r->x.trouble.code != BB_OK;
			return c->failed ? NULL : m;
		}
	}
	schema_set_finish(&key);
	return c->failed ? NULL : m;
}

static uint32_t compile_branch(struct schema *c, const struct schema_set *set, size_t i,
	const json_t *branch, bool is_one) {
	struct schema_set more = copy_of(c, set);
	if (!c->failed) {
		more.items[i].took_any |= !is_one;
		more.items[i].took_one |= is_one;
		schema_add(c, &more, branch);
	}
	return schema_compile(c, &more);
}

/* That no two branches of oneOf can hold at once, beside the rest of the set. */
static void check_one_of(struct schema *c, const struct schema_set *set, size_t i,
	const json_t *branches) {
	const size_t n = json_array_size(branches);
	struct schema_set *sets = base_alloc(n, sizeof(*sets));
	if (sets == NULL || n > MAX_ONE_OF) {
		base_free(sets);
		schema_fail(c, BB_ERR_UNSUPPORTED, "oneOf has more than %d branches", MAX_ONE_OF);
		return;
	}
	for (size_t j = 0; j < n && !c->failed; j++) {
		sets[j] = copy_of(c, set);
		sets[j].items[i].took_one = true;
		schema_add(c, &sets[j], json_array_get(branches, j));
		schema_spread(c, &sets[j]);
	}
	for (size_t j = 0; j < n && !c->failed; j++) {
		for (size_t k = 0; k < j && !c->failed; k++) {
			if (!schema_apart(c, &sets[k], &sets[j], 0) && !c->failed) {
				schema_fail(c, BB_ERR_UNSUPPORTED, "branches %zu and %zu of oneOf might both hold, "
					"as far as can be seen; expected ones that exclude each other by type, const, "
					"enum or a required property, or anyOf", k + 1, j + 1);
			}
		}
	}
	for (size_t j = 0; j < n; j++) {
		schema_set_finish(&sets[j]);
	}
	base_free(sets);
}

static uint32_t build(struct schema *c, const struct schema_set *set) {
	for (size_t i = 0; i < set->n; i++) {
		const struct schema_item *item = &set->items[i];
		const json_t *any = item->took_any ? NULL : json_object_get(item->schema, "anyOf");
		const json_t *one = item->took_one ? NULL : json_object_get(item->schema, "oneOf");
		const json_t *branches = any != NULL ? any : one;
		if (branches == NULL) {
			continue;
		}
		if (any == NULL) {
			check_one_of(c, set, i, one);
		}
		uint32_t all = RULES_NOTHING;
		for (size_t j = json_array_size(branches); j-- > 0 && !c->failed;) {
			all = rules_either(c->r, compile_branch(c, set, i, json_array_get(branches, j),
				any == NULL), all);
		}
		return all;
	}
	uint32_t node;
	return schema_listed(c, set, &node) ? node : schema_typed(c, set);
}

uint32_t schema_compile(struct schema *c, struct schema_set *set) {
	uint32_t node = RULES_NOTHING;
	const json_t *outer = c->at;
	c->at = set->n > 0 ? set->items[0].schema : outer;
	schema_spread(c, set);
	if (c->depth >= MAX_DEPTH) {
		schema_fail(c, BB_ERR_UNSUPPORTED, "expected schemas of at most %d in each other",
			MAX_DEPTH);
	}
	if (!c->failed && !set->is_false) {
		bool is_new;
		const struct schema_memo *m = find_memo(c, set, &is_new);
		if (m != NULL && is_new) {
			c->depth++;
			const uint32_t body = build(c, set);
			c->r->rules[m->rule].body = body;
			c->depth--;
		}
		node = m != NULL && c->r->x.trouble.code == BB_OK ? rules_call(c->r, m->rule)
			: RULES_NOTHING;
	}
	c->at = outer;
	c->failed |= c->r->x.trouble.code != BB_OK;
	schema_set_finish(set);
	return node;
}

static void finish(struct schema *c) {
	for (size_t i = 0; i < SCHEMA_BUCKETS; i++) {
		while (c->memos[i] != NULL) {
			struct schema_memo *m = c->memos[i];
			c->memos[i] = m->next;
			schema_set_finish(&m->set);
			base_free(m);
		}
	}
	json_decref(c->root);
	base_free(c);
}

static bool compile_root(struct schema *c, uint32_t *root) {
	struct schema_set set = { 0 };
	check_all_keywords(c, c->root);
	c->at = NULL;
	schema_add(c, &set, c->root);
	*root = schema_compile(c, &set);
	const struct bb_error trouble = c->r->x.trouble;
	if (trouble.code != BB_OK) {
		base_fail(c->err, trouble.code, "%s", trouble.text);
	}
	const bool ok = !c->failed;
	finish(c);
	return ok;
}

static bool is_deep(const json_t *value, int depth) {
	const char *key;
	json_t *member;
	if (json_is_array(value) || json_is_object(value)) {
		bool found = depth == 0;
		for (size_t i = 0; !found && i < json_array_size(value); i++) {
			found = is_deep(json_array_get(value, i), depth - 1);
		}
		json_object_foreach((json_t *)(uintptr_t)value, key, member) {
			found = found || is_deep(member, depth - 1);
		}
		return found;
	}
	return false;
}

static struct schema *create(struct rules *r, int indent, struct bb_error *err) {
	struct schema *c = base_alloc(1, sizeof(*c));
	if (c == NULL) {
		base_no_memory(err, "grammar", sizeof(*c));
		return NULL;
	}
	c->r = r;
	c->indent = indent;
	c->err = err;
	return c;
}

bool schema_read(struct rules *r, const char *source, size_t bytes, int indent, uint32_t *root,
	struct bb_error *err) {
	json_error_t problem;
	if (bytes > MAX_BYTES) {
		return base_fail(err, BB_ERR_UNSUPPORTED, "JSON schema: expected at most %d bytes, has %zu",
			MAX_BYTES, bytes);
	}
	struct schema *c = create(r, indent, err);
	if (c == NULL) {
		return false;
	}
	c->root = json_loadb(source, bytes, JSON_REJECT_DUPLICATES | JSON_DECODE_ANY, &problem);
	if (c->root == NULL) {
		char shown[sizeof(problem.text)];
		const bool no_memory = json_error_code(&problem) == json_error_out_of_memory;
		schema_fail(c, no_memory ? BB_ERR_MEMORY : BB_ERR_INPUT, "line %d, column %d: %s",
			problem.line, problem.column, schema_show(problem.text, shown, sizeof(shown)));
		finish(c);
		return false;
	}
	if (is_deep(c->root, MAX_JSON)) {
		schema_fail(c, BB_ERR_UNSUPPORTED, "expected arrays and objects of at most %d in each "
			"other", MAX_JSON);
		finish(c);
		return false;
	}
	return compile_root(c, root);
}

bool schema_any_object(struct rules *r, int indent, uint32_t *root, struct bb_error *err) {
	static const char source[] = "{\"type\": \"object\"}";
	return schema_read(r, source, sizeof(source) - 1, indent, root, err);
}
