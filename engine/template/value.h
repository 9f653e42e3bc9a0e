/* SPDX-License-Identifier: Apache-2.0
 *
 * The values that expressions have: Python's, as far as a chat template meets them. Lists and dicts
 * are never changed once made (the sandbox forbids it); a namespace is the one thing that is. */
#ifndef TEMPLATE_VALUE_H
#define TEMPLATE_VALUE_H

#include "template/text.h"

enum value_kind {
	VALUE_ABSENT, /* an argument that wasn't given; templates never see one */
	VALUE_UNDEFINED,
	VALUE_NONE,
	VALUE_BOOL,
	VALUE_INT,
	VALUE_FLOAT,
	VALUE_STRING,
	VALUE_LIST,
	VALUE_TUPLE,
	VALUE_STREAM, /* an iterator: what is left of it in list->items[next ..] */
	VALUE_DICT,
	VALUE_KEYS,   /* dict.keys(), .values(), .items() */
	VALUE_VALUES,
	VALUE_ITEMS,
	VALUE_RANGE,
	VALUE_NAMESPACE,
	VALUE_FUNCTION, /* builtin, free or bound to `self` */
	VALUE_MACRO,
	VALUE_LOOP,
	VALUE_CYCLER,
	VALUE_JOINER,
};

struct value {
	enum value_kind kind;
	union {
		bool boolean;
		int64_t integer;
		double real;
		const struct string *string; /* STRING; UNDEFINED: why, or NULL */
		struct list *list;
		struct dict *dict;
		struct range *range;
		struct function *function;
		struct macro *macro;
		struct loop *loop;
	};
};

struct list {
	struct value *items; /* [n] */
	size_t n, cap;
	size_t next;         /* of a stream or cycler */
	bool is_group;       /* a tuple of groupby, with .grouper and .list */
};

struct entry {
	struct value key, value;
	uint64_t hash;
};

struct dict {
	struct entry *entries; /* [n], in the order of insertion */
	size_t n, cap;
	uint32_t *slots; /* [n_slots]: index into entries + 1, or 0; NULL while small */
	size_t n_slots;  /* a power of two */
};

struct range {
	int64_t start, stop, step;
	size_t n;
};

/* ---- making ---- */

struct value value_none(void);
struct value value_bool(bool b);
struct value value_int(int64_t i);
struct value value_float(double f);
struct value value_string(const struct string *s);
struct value value_text(struct job *j, const char *s);
struct value value_list(enum value_kind kind, struct list *list);
/* printf-style reason; printing it gives "", using it fails with the reason. */
struct value value_undefined(struct job *j, const char *fmt, ...)
	__attribute__((format(printf, 2, 3)));

struct list *list_create(struct job *j, size_t cap);
void list_push(struct job *j, struct list *list, struct value v);
struct value value_pair(struct job *j, struct value a, struct value b); /* a tuple */

struct dict *dict_create(struct job *j);
/* Fails for a key that can't be hashed. An old key keeps its place. */
void dict_set(struct job *j, struct dict *d, struct value key, struct value value);
const struct value *dict_get(struct job *j, const struct dict *d, struct value key);
const struct value *dict_get_string(struct job *j, const struct dict *d, const struct string *key);

/* ---- asking ---- */

bool value_is_number(struct value v); /* bool, int or float */
bool value_is_int(struct value v);    /* bool or int */
int64_t value_as_int(struct value v); /* of a bool or int */
double value_as_float(struct value v); /* of a number */
bool value_is_true(struct value v);
bool value_is_callable(struct value v);
bool value_is_iterable(struct value v);
const char *value_type(struct value v); /* Python's name of its type */

/* Fails with the reason when v is undefined. */
void value_need_defined(struct job *j, struct value v);
bool value_equal(struct job *j, struct value a, struct value b);
/* Fails when there is no order between the two; `op` is for the message. */
int value_compare(struct job *j, struct value a, struct value b, const char *op);
bool value_is_hashable(struct job *j, struct value v);
uint64_t value_hash(struct job *j, struct value v);
bool value_contains(struct job *j, struct value container, struct value item);
bool value_has_length(struct value v);
size_t value_length(struct job *j, struct value v);
/* What iterating gives, as a list that must not be changed. A stream is used up by it. */
struct list *value_iterate(struct job *j, struct value v);
struct value value_range_item(const struct range *r, size_t i);
/* Stable; by keys[i], or by the items themselves when keys is NULL. */
void value_sort(struct job *j, struct value *items, const struct value *keys, size_t n,
	bool reverse);

/* ---- text ---- */

struct string *value_str(struct job *j, struct value v);
void out_str(struct job *j, struct out *o, struct value v);
void out_repr(struct job *j, struct out *o, struct value v);
/* The shortest decimal that reads back as f, as Python writes it. */
void out_float(struct job *j, struct out *o, double f);

struct json_style {
	bool ensure_ascii, sort_keys;
	const struct string *indent; /* NULL: one line */
	const struct string *item_separator, *key_separator;
};
void out_json(struct job *j, struct out *o, struct value v, const struct json_style *style);

#endif
