/* SPDX-License-Identifier: Apache-2.0
 *
 * Inside of the JSON Schema compiler. What a value must satisfy is a set of schemas, all of which
 * must hold: $ref and allOf add to it, anyOf and oneOf make several of it. So allOf is merged
 * keyword by keyword, each in its own schema's view. */
#ifndef SCHEMA_H
#define SCHEMA_H

#include "../json.h"
#include "numbers.h"
#include "rules.h"
#include "sources.h"

enum {
	TYPE_NULL = 1, TYPE_BOOLEAN = 2, TYPE_INTEGER = 4, TYPE_NUMBER = 8, TYPE_STRING = 16,
	TYPE_ARRAY = 32, TYPE_OBJECT = 64, TYPE_ANY = 127, /* a number may be an integer: 12 */
	SCHEMA_NO_MAX = -1,
};

struct schema_item {
	const json_t *schema; /* an object */
	bool took_any, took_one; /* a branch of its anyOf, oneOf is in the set */
};

struct schema_set {
	struct schema_item *items; /* [n] */
	size_t n, cap;
	bool is_false;             /* nothing can hold */
};

struct schema_memo {
	struct schema_memo *next;
	struct schema_set set; /* sorted */
	int level;             /* of its values; where it says how they are written */
	uint32_t rule;
};

enum { SCHEMA_BUCKETS = 1024 };

struct schema {
	struct rules *r;
	json_t *root;
	const json_t *at; /* the schema that is read, within root; NULL: none yet */
	struct schema_memo *memos[SCHEMA_BUCKETS];
	int indent;       /* spaces a level; SOURCE_ONE_LINE */
	int level;        /* how many containers the value in the making is in */
	int depth;
	bool failed;      /* *err says why */
	struct bb_error *err;
};

/* ---- schema.c ---- */
bool schema_fail(struct schema *c, enum bb_code code, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));
void schema_add(struct schema *c, struct schema_set *set, const json_t *schema);
void schema_set_finish(struct schema_set *set);
/* Adds what $ref and allOf name. */
void schema_spread(struct schema *c, struct schema_set *set);
const json_t *schema_resolve(struct schema *c, const char *ref);
/* The node of a set, which is freed. */
uint32_t schema_compile(struct schema *c, struct schema_set *set);
/* A name or text of the schema for a sentence. */
const char *schema_show(const char *text, char *buf, size_t cap);

/* ---- schema_types.c: what keywords say together, and values type by type ---- */
struct schema_bounds {
	int64_t min, max; /* SCHEMA_NO_MAX */
};
unsigned schema_types(struct schema *c, const struct schema_set *set);
struct schema_bounds schema_count(struct schema *c, const struct schema_set *set, const char *min,
	const char *max);
struct int_range schema_range(struct schema *c, const struct schema_set *set);
/* What must hold for the property of a name (NULL: for one without a name of its own), or for an
 * element. */
struct schema_set schema_property(struct schema *c, const struct schema_set *set,
	const char *name);
struct schema_set schema_element(struct schema *c, const struct schema_set *set, size_t i);
bool schema_is_required(const struct schema_set *set, const char *name);
/* Of a set without $ref, allOf, anyOf, oneOf and enum that weren't seen to. */
uint32_t schema_typed(struct schema *c, const struct schema_set *set);

/* ---- schema_text.c: strings ---- */
uint32_t schema_string(struct schema *c, const struct schema_set *set);
/* This one in quotes, each of its characters written in one way. what: for the sentence, where it
 * is too long. */
uint32_t schema_known_text(struct schema *c, const char *what, const char *text, size_t bytes);
/* A name in quotes that isn't one of these. */
uint32_t schema_other_name(struct schema *c, const char *const *names, size_t n);

/* ---- schema_space.c: white space between the tokens of a container at c->level ---- */
/* Which level's rules a value takes: all are one where everything is on one line. */
int schema_level(const struct schema *c);
bool schema_is_indented(const struct schema *c);
/* Brackets, commas and colons with the white space on their inner side, as expressions. */
uint32_t schema_open(struct schema *c, const char *bracket);
uint32_t schema_comma(struct schema *c);
uint32_t schema_close(struct schema *c, const char *bracket);
uint32_t schema_colon(struct schema *c);

/* ---- schema_value.c: values that are known ---- */
bool schema_holds(struct schema *c, const json_t *schema, const json_t *value, int depth);
bool schema_set_holds(struct schema *c, const struct schema_set *set, const json_t *value);
/* The array of enum, or NULL; *one: the value of const. */
const json_t *schema_values(const json_t *schema, const json_t **one);
/* The values of enum and const that satisfy the whole set; false: it has neither. */
bool schema_listed(struct schema *c, const struct schema_set *set, uint32_t *node);
unsigned schema_type_of(const json_t *value);

/* ---- schema_apart.c ---- */
/* Is it sure that no value satisfies both? */
bool schema_apart(struct schema *c, const struct schema_set *a, const struct schema_set *b,
	int depth);

#endif
