/* SPDX-License-Identifier: Apache-2.0
 *
 * Making values and asking about them: truth, equality, order, membership, iteration. */
#include "template/value.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

/* ---- making ---- */

struct value value_none(void) {
	return (struct value){ .kind = VALUE_NONE };
}

struct value value_bool(bool b) {
	return (struct value){ .kind = VALUE_BOOL, .boolean = b };
}

struct value value_int(int64_t i) {
	return (struct value){ .kind = VALUE_INT, .integer = i };
}

struct value value_float(double f) {
	return (struct value){ .kind = VALUE_FLOAT, .real = f };
}

struct value value_string(const struct string *s) {
	return (struct value){ .kind = VALUE_STRING, .string = s };
}

struct value value_text(struct job *j, const char *s) {
	return value_string(text_literal(j, s));
}

struct value value_list(enum value_kind kind, struct list *list) {
	return (struct value){ .kind = kind, .list = list };
}

struct value value_undefined(struct job *j, const char *fmt, ...) {
	char text[256];
	va_list args;
	va_start(args, fmt);
	vsnprintf(text, sizeof(text), fmt, args);
	va_end(args);
	return (struct value){ .kind = VALUE_UNDEFINED, .string = text_copy(j, text, strlen(text)) };
}

struct list *list_create(struct job *j, size_t cap) {
	struct list *list = job_alloc(j, 1, sizeof(*list));
	list->items = job_alloc(j, cap, sizeof(*list->items));
	list->cap = cap;
	return list;
}

void list_push(struct job *j, struct list *list, struct value v) {
	if (list->n == list->cap) {
		const size_t cap = 2 * list->cap + 4;
		list->items = job_grow(j, list->items, list->n * sizeof(v), cap * sizeof(v));
		list->cap = cap;
	}
	list->items[list->n++] = v;
	job_work(j, 1);
}

struct value value_pair(struct job *j, struct value a, struct value b) {
	struct list *pair = list_create(j, 2);
	pair->n = 2;
	pair->items[0] = a;
	pair->items[1] = b;
	return value_list(VALUE_TUPLE, pair);
}

/* ---- dicts ---- */

#define SMALL_DICT 8

struct dict *dict_create(struct job *j) {
	return job_alloc(j, 1, sizeof(struct dict));
}

static bool is_key(struct job *j, const struct entry *e, struct value key, uint64_t hash) {
	return e->hash == hash && value_equal(j, e->key, key);
}

static struct entry *find_entry(struct job *j, const struct dict *d, struct value key,
	uint64_t hash) {
	if (d->slots == NULL) {
		for (size_t i = 0; i < d->n; i++) {
			if (is_key(j, &d->entries[i], key, hash)) {
				return &d->entries[i];
			}
		}
		return NULL;
	}
	for (size_t at = hash & (d->n_slots - 1); d->slots[at] != 0; at = (at + 1) & (d->n_slots - 1)) {
		struct entry *e = &d->entries[d->slots[at] - 1];
		job_work(j, 1);
		if (is_key(j, e, key, hash)) {
			return e;
		}
	}
	return NULL;
}

static void put_slot(struct dict *d, size_t i_entry) {
	size_t at = d->entries[i_entry].hash & (d->n_slots - 1);
	while (d->slots[at] != 0) {
		at = (at + 1) & (d->n_slots - 1);
	}
	d->slots[at] = (uint32_t)i_entry + 1;
}

static void grow_dict(struct job *j, struct dict *d) {
	const size_t cap = 2 * d->cap + 4;
	d->entries = job_grow(j, d->entries, d->n * sizeof(*d->entries), cap * sizeof(*d->entries));
	d->cap = cap;
	if (cap <= SMALL_DICT) {
		return;
	}
	for (d->n_slots = 16; d->n_slots < 2 * cap;) {
		d->n_slots *= 2;
	}
	d->slots = job_alloc(j, d->n_slots, sizeof(*d->slots));
	for (size_t i = 0; i < d->n; i++) {
		put_slot(d, i);
	}
}

void dict_set(struct job *j, struct dict *d, struct value key, struct value value) {
	const uint64_t hash = value_hash(j, key);
	struct entry *old = find_entry(j, d, key, hash);
	if (old != NULL) {
		old->value = value;
		return;
	}
	if (d->n == d->cap) {
		grow_dict(j, d);
	}
	d->entries[d->n] = (struct entry){ key, value, hash };
	d->n++;
	if (d->slots != NULL) {
		put_slot(d, d->n - 1);
	}
}

const struct value *dict_get(struct job *j, const struct dict *d, struct value key) {
	const struct entry *e = find_entry(j, d, key, value_hash(j, key));
	return e == NULL ? NULL : &e->value;
}

const struct value *dict_get_string(struct job *j, const struct dict *d,
	const struct string *key) {
	return dict_get(j, d, value_string(key));
}

/* ---- asking ---- */

bool value_is_int(struct value v) {
	return v.kind == VALUE_INT || v.kind == VALUE_BOOL;
}

bool value_is_number(struct value v) {
	return value_is_int(v) || v.kind == VALUE_FLOAT;
}

int64_t value_as_int(struct value v) {
	return v.kind == VALUE_BOOL ? v.boolean : v.integer;
}

double value_as_float(struct value v) {
	return v.kind == VALUE_FLOAT ? v.real : (double)value_as_int(v);
}

bool value_is_true(struct value v) {
	switch (v.kind) {
	case VALUE_ABSENT: case VALUE_UNDEFINED: case VALUE_NONE: return false;
	case VALUE_BOOL: return v.boolean;
	case VALUE_INT: return v.integer != 0;
	case VALUE_FLOAT: return v.real != 0;
	case VALUE_STRING: return v.string->bytes > 0;
	case VALUE_LIST: case VALUE_TUPLE: return v.list->n > 0;
	case VALUE_DICT: case VALUE_KEYS: case VALUE_VALUES: case VALUE_ITEMS: return v.dict->n > 0;
	case VALUE_RANGE: return v.range->n > 0;
	default: return true;
	}
}

bool value_is_callable(struct value v) {
	/* An Undefined has a __call__ (that fails), so Python's callable() says yes. */
	return v.kind == VALUE_FUNCTION || v.kind == VALUE_MACRO || v.kind == VALUE_LOOP
		|| v.kind == VALUE_JOINER || v.kind == VALUE_UNDEFINED;
}

bool value_is_iterable(struct value v) {
	switch (v.kind) {
	case VALUE_UNDEFINED: case VALUE_STRING: case VALUE_LIST: case VALUE_TUPLE: case VALUE_STREAM:
	case VALUE_DICT: case VALUE_KEYS: case VALUE_VALUES: case VALUE_ITEMS: case VALUE_RANGE:
		return true;
	default:
		return false;
	}
}

const char *value_type(struct value v) {
	static const char *const names[] = {
		[VALUE_ABSENT] = "absent", [VALUE_UNDEFINED] = "Undefined", [VALUE_NONE] = "NoneType",
		[VALUE_BOOL] = "bool", [VALUE_INT] = "int", [VALUE_FLOAT] = "float", [VALUE_STRING] = "str",
		[VALUE_LIST] = "list", [VALUE_TUPLE] = "tuple", [VALUE_STREAM] = "generator",
		[VALUE_DICT] = "dict", [VALUE_KEYS] = "dict_keys", [VALUE_VALUES] = "dict_values",
		[VALUE_ITEMS] = "dict_items", [VALUE_RANGE] = "range", [VALUE_NAMESPACE] = "Namespace",
		[VALUE_FUNCTION] = "function", [VALUE_MACRO] = "Macro", [VALUE_LOOP] = "LoopContext",
		[VALUE_CYCLER] = "Cycler", [VALUE_JOINER] = "Joiner",
	};
	return names[v.kind];
}

void value_need_defined(struct job *j, struct value v) {
	if (v.kind == VALUE_UNDEFINED) {
		job_fail(j, "%.*s", v.string == NULL ? 15 : (int)v.string->bytes,
			v.string == NULL ? "undefined value" : v.string->data);
	}
}

/* ---- equality and order ---- */

/* long double holds every int64_t and every double. */
static long double exact(struct value v) {
	return v.kind == VALUE_FLOAT ? (long double)v.real : (long double)value_as_int(v);
}

static bool lists_equal(struct job *j, const struct list *a, const struct list *b) {
	if (a == b) {
		return true;
	}
	if (a->n != b->n) {
		return false;
	}
	job_enter(j);
	bool same = true;
	for (size_t i = 0; i < a->n && same; i++) {
		same = value_equal(j, a->items[i], b->items[i]);
	}
	job_leave(j);
	return same;
}

static bool dicts_equal(struct job *j, const struct dict *a, const struct dict *b) {
	if (a == b) {
		return true;
	}
	if (a->n != b->n) {
		return false;
	}
	job_enter(j);
	bool same = true;
	for (size_t i = 0; i < a->n && same; i++) {
		const struct entry *e = find_entry(j, b, a->entries[i].key, a->entries[i].hash);
		same = e != NULL && value_equal(j, a->entries[i].value, e->value);
	}
	job_leave(j);
	return same;
}

static bool ranges_equal(const struct range *a, const struct range *b) {
	return a->n == b->n && (a->n == 0 || a->start == b->start) && (a->n < 2 || a->step == b->step);
}

bool value_equal(struct job *j, struct value a, struct value b) {
	job_work(j, 1);
	if (value_is_number(a) && value_is_number(b)) {
		return exact(a) == exact(b);
	}
	if (a.kind != b.kind) {
		return false;
	}
	switch (a.kind) {
	case VALUE_UNDEFINED: case VALUE_NONE:
		return true;
	case VALUE_STRING:
		job_work_bytes(j, a.string->bytes == b.string->bytes ? a.string->bytes : 0);
		return text_equal(a.string, b.string);
	case VALUE_LIST: case VALUE_TUPLE:
		return lists_equal(j, a.list, b.list);
	case VALUE_DICT: case VALUE_KEYS:
		return dicts_equal(j, a.dict, b.dict);
	case VALUE_RANGE:
		return ranges_equal(a.range, b.range);
	default:
		return a.list == b.list;
	}
}

int value_compare(struct job *j, struct value a, struct value b, const char *op) {
	job_work(j, 1);
	value_need_defined(j, a);
	value_need_defined(j, b);
	if (value_is_number(a) && value_is_number(b)) {
		const long double x = exact(a), y = exact(b);
		/* NaN is neither; 2 makes every ordered question false. */
		return isnan(x) || isnan(y) ? 2 : (x > y) - (x < y);
	}
	if (a.kind == VALUE_STRING && b.kind == VALUE_STRING) {
		job_work_bytes(j, a.string->bytes < b.string->bytes ? a.string->bytes : b.string->bytes);
		const int order = text_compare(a.string, b.string);
		return (order > 0) - (order < 0);
	}
	if (a.kind != b.kind || (a.kind != VALUE_LIST && a.kind != VALUE_TUPLE)) {
		job_fail(j, "'%s' not supported between instances of '%s' and '%s'", op, value_type(a),
			value_type(b));
	}
	const size_t n = a.list->n < b.list->n ? a.list->n : b.list->n;
	for (size_t i = 0; i < n; i++) {
		if (!value_equal(j, a.list->items[i], b.list->items[i])) {
			job_enter(j);
			const int order = value_compare(j, a.list->items[i], b.list->items[i], op);
			job_leave(j);
			return order;
		}
	}
	return (a.list->n > b.list->n) - (a.list->n < b.list->n);
}

bool value_is_hashable(struct job *j, struct value v) {
	bool is_hashable = v.kind != VALUE_LIST && v.kind != VALUE_DICT && v.kind != VALUE_KEYS
		&& v.kind != VALUE_ITEMS;
	if (v.kind == VALUE_TUPLE) {
		job_enter(j);
		job_work(j, v.list->n);
		for (size_t i = 0; i < v.list->n && is_hashable; i++) {
			is_hashable = value_is_hashable(j, v.list->items[i]);
		}
		job_leave(j);
	}
	return is_hashable;
}

static uint64_t mix(uint64_t h) {
	h = (h ^ (h >> 30)) * 0xbf58476d1ce4e5b9u;
	h = (h ^ (h >> 27)) * 0x94d049bb133111ebu;
	return h ^ (h >> 31);
}

static uint64_t hash_float(double f) {
	if (f >= -9.2e18 && f <= 9.2e18 && f == (double)(int64_t)f) {
		return mix((uint64_t)(int64_t)f);
	}
	uint64_t bits;
	memcpy(&bits, &f, sizeof(bits));
	return mix(bits + 1);
}

uint64_t value_hash(struct job *j, struct value v) {
	job_work(j, 1);
	switch (v.kind) {
	case VALUE_BOOL: case VALUE_INT:
		return mix((uint64_t)value_as_int(v));
	case VALUE_FLOAT:
		return hash_float(v.real);
	case VALUE_STRING:
		job_work_bytes(j, v.string->bytes);
		return text_hash(v.string);
	case VALUE_TUPLE: {
		uint64_t h = v.list->n;
		job_enter(j);
		for (size_t i = 0; i < v.list->n; i++) {
			h = mix(h ^ value_hash(j, v.list->items[i])) + 1;
		}
		job_leave(j);
		return h;
	}
	case VALUE_UNDEFINED: case VALUE_NONE: case VALUE_RANGE:
		return mix(v.kind);
	default:
		if (!value_is_hashable(j, v)) {
			job_fail(j, "unhashable type: '%s'", value_type(v));
		}
		return mix((uint64_t)(uintptr_t)v.list);
	}
}

bool value_contains(struct job *j, struct value container, struct value item) {
	if (container.kind == VALUE_STRING) {
		if (item.kind != VALUE_STRING) {
			job_fail(j, "'in <string>' requires string as left operand, not %s", value_type(item));
		}
		return text_find(j, container.string, item.string, 0, container.string->bytes) >= 0;
	}
	if (container.kind == VALUE_DICT || container.kind == VALUE_KEYS) {
		return dict_get(j, container.dict, item) != NULL;
	}
	const struct list *list = value_iterate(j, container);
	for (size_t i = 0; i < list->n; i++) {
		if (value_equal(j, list->items[i], item)) {
			return true;
		}
	}
	return false;
}

/* ---- length and iteration ---- */

bool value_has_length(struct value v) {
	return value_is_iterable(v) && v.kind != VALUE_STREAM;
}

size_t value_length(struct job *j, struct value v) {
	switch (v.kind) {
	case VALUE_UNDEFINED: return 0;
	case VALUE_STRING: return v.string->chars;
	case VALUE_LIST: case VALUE_TUPLE: return v.list->n;
	case VALUE_DICT: case VALUE_KEYS: case VALUE_VALUES: case VALUE_ITEMS: return v.dict->n;
	case VALUE_RANGE: return v.range->n;
	default: job_fail(j, "object of type '%s' has no len()", value_type(v));
	}
}

struct value value_range_item(const struct range *r, size_t i) {
	return value_int(r->start + (int64_t)i * r->step);
}

static struct list *list_of_chars(struct job *j, const struct string *s) {
	struct list *list = list_create(j, s->chars);
	size_t n;
	for (const char *p = s->data, *end = p + s->bytes; p < end; p += n) {
		text_next(p, end, &n);
		list_push(j, list, value_string(text_view(j, p, n)));
	}
	return list;
}

static struct list *list_of_dict(struct job *j, struct value v) {
	struct list *list = list_create(j, v.dict->n);
	for (size_t i = 0; i < v.dict->n; i++) {
		const struct entry *e = &v.dict->entries[i];
		list_push(j, list, v.kind == VALUE_ITEMS ? value_pair(j, e->key, e->value)
			: v.kind == VALUE_VALUES ? e->value : e->key);
	}
	return list;
}

struct list *value_iterate(struct job *j, struct value v) {
	struct list *list;
	switch (v.kind) {
	case VALUE_UNDEFINED:
		return list_create(j, 0);
	case VALUE_LIST: case VALUE_TUPLE:
		return v.list;
	case VALUE_STREAM:
		list = list_create(j, 0);
		list->items = v.list->items + v.list->next;
		list->n = list->cap = v.list->n - v.list->next;
		v.list->next = v.list->n;
		return list;
	case VALUE_STRING:
		return list_of_chars(j, v.string);
	case VALUE_DICT: case VALUE_KEYS: case VALUE_VALUES: case VALUE_ITEMS:
		return list_of_dict(j, v);
	case VALUE_RANGE:
		list = list_create(j, v.range->n);
		for (size_t i = 0; i < v.range->n; i++) {
			list_push(j, list, value_range_item(v.range, i));
		}
		return list;
	default:
		job_fail(j, "'%s' object is not iterable", value_type(v));
	}
}

/* ---- sorting ---- */

struct sorting {
	struct job *job;
	const struct value *keys; /* [n] */
	bool reverse;
};

/* Merges order[from, middle) and order[middle, to) by way of spare. */
static void merge(const struct sorting *s, uint32_t *order, uint32_t *spare, size_t from,
	size_t middle, size_t to) {
	memcpy(spare + from, order + from, (to - from) * sizeof(*spare));
	for (size_t a = from, b = middle, at = from; at < to; at++) {
		bool take_b = a == middle;
		if (!take_b && b < to) {
			/* Equal items keep their order, in reverse too. */
			take_b = s->reverse
				? value_compare(s->job, s->keys[spare[a]], s->keys[spare[b]], "<") == -1
				: value_compare(s->job, s->keys[spare[b]], s->keys[spare[a]], "<") == -1;
		}
		order[at] = take_b ? spare[b++] : spare[a++];
	}
}

void value_sort(struct job *j, struct value *items, const struct value *keys, size_t n,
	bool reverse) {
	uint32_t *order = job_alloc(j, n, sizeof(*order));
	uint32_t *spare = job_alloc(j, n, sizeof(*spare));
	struct value *old = job_alloc(j, n, sizeof(*old));
	for (size_t i = 0; i < n; i++) {
		order[i] = (uint32_t)i;
		old[i] = items[i];
	}
	const struct sorting s = { j, keys == NULL ? old : keys, reverse };
	for (size_t width = 1; width < n; width *= 2) {
		for (size_t from = 0; from + width < n; from += 2 * width) {
			const size_t to = from + 2 * width < n ? from + 2 * width : n;
			merge(&s, order, spare, from, from + width, to);
		}
	}
	for (size_t i = 0; i < n; i++) {
		items[i] = old[order[i]];
	}
}
