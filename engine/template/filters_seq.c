/* SPDX-License-Identifier: Apache-2.0
 *
 * Filters over sequences and mappings. Those that Python makes lazy give a stream: it can be
 * iterated once, and has no length. */
#include "template/interp.h"

#define FILTER(id) \
	static struct value id(struct interp *in, struct value v, const struct value *a, \
		const struct args *args)

static struct value stream(struct list *list) {
	return value_list(VALUE_STREAM, list);
}

static const struct value absent;

/* A copy that may be sorted or cut. */
static struct list *copy_of(struct interp *in, struct value v) {
	const struct list *items = value_iterate(&in->job, v);
	struct list *copy = list_create(&in->job, items->n);
	for (size_t i = 0; i < items->n; i++) {
		list_push(&in->job, copy, items->items[i]);
	}
	return copy;
}

FILTER(filter_length) {
	return value_int((int64_t)value_length(&in->job, v));
}

FILTER(filter_default) {
	const bool is_missing = v.kind == VALUE_UNDEFINED
		|| (arg_bool(a[1], false) && !value_is_true(v));
	return !is_missing ? v : a[0].kind == VALUE_ABSENT ? value_text(&in->job, "") : a[0];
}

FILTER(filter_first) {
	if (v.kind == VALUE_STREAM && v.list->next < v.list->n) {
		return v.list->items[v.list->next++];
	}
	const struct list *items = value_iterate(&in->job, v);
	return items->n > 0 ? items->items[0]
		: value_undefined(&in->job, "No first item, sequence was empty.");
}

static void need_reversible(struct interp *in, struct value v) {
	if (v.kind == VALUE_STREAM) {
		job_fail(&in->job, "'%s' object is not reversible", value_type(v));
	}
}

FILTER(filter_last) {
	need_reversible(in, v);
	const struct list *items = value_iterate(&in->job, v);
	return items->n > 0 ? items->items[items->n - 1]
		: value_undefined(&in->job, "No last item, sequence was empty.");
}

FILTER(filter_list) {
	return value_list(VALUE_LIST, copy_of(in, v));
}

FILTER(filter_join) {
	struct job *j = &in->job;
	const struct list *items = value_iterate(j, v);
	const struct string *between = a[0].kind == VALUE_ABSENT ? text_literal(j, "")
		: value_str(j, a[0]);
	struct out o = { 0 };
	for (size_t i = 0; i < items->n; i++) {
		if (i > 0) {
			out_string(j, &o, between);
		}
		out_str(j, &o, path_get(in, items->items[i], a[1], absent));
	}
	return value_string(out_done(j, &o));
}

FILTER(filter_items) {
	if (v.kind == VALUE_UNDEFINED) {
		return stream(list_create(&in->job, 0));
	}
	if (v.kind != VALUE_DICT) {
		job_fail(&in->job, "Can only get item pairs from a mapping.");
	}
	v.kind = VALUE_ITEMS;
	return stream(value_iterate(&in->job, v));
}

FILTER(filter_reverse) {
	struct job *j = &in->job;
	if (v.kind == VALUE_STRING) {
		const struct value parts[3] = { value_none(), value_none(), value_int(-1) };
		return eval_slice(in, v, parts);
	}
	struct list *items = copy_of(in, v);
	for (size_t i = 0; i < items->n / 2; i++) {
		const struct value x = items->items[i];
		items->items[i] = items->items[items->n - 1 - i];
		items->items[items->n - 1 - i] = x;
	}
	job_work(j, items->n);
	/* What Python's reversed() refuses is reversed as a list. */
	return v.kind == VALUE_STREAM ? value_list(VALUE_LIST, items) : stream(items);
}

/* ---- sorting and grouping ---- */

/* Strings in lower case, unless case counts. */
static struct value sort_key(struct interp *in, struct value v, bool is_case_sensitive) {
	if (v.kind == VALUE_STRING && !is_case_sensitive) {
		return value_string(text_lower(&in->job, v.string));
	}
	return v;
}

/* One path, or the tuple of several with commas between them. */
static struct value paths_key(struct interp *in, struct value item, struct value paths,
	bool is_case_sensitive) {
	struct job *j = &in->job;
	if (paths.kind != VALUE_STRING) {
		return sort_key(in, path_get(in, item, paths, absent), is_case_sensitive);
	}
	const struct args comma = { .positional = (struct value[]){ value_text(j, ",") }, .n = 1 };
	const struct string *name = text_literal(j, "split");
	const struct value parts = builtin_call(in, method_find(VALUE_STRING, name), paths, &comma);
	struct list *key = list_create(j, parts.list->n);
	for (size_t i = 0; i < parts.list->n; i++) {
		const struct value v = path_get(in, item, parts.list->items[i], absent);
		list_push(j, key, sort_key(in, v, is_case_sensitive));
	}
	return value_list(VALUE_LIST, key);
}

FILTER(filter_sort) {
	struct job *j = &in->job;
	struct list *items = copy_of(in, v);
	struct value *keys = job_alloc(j, items->n, sizeof(*keys));
	for (size_t i = 0; i < items->n; i++) {
		keys[i] = paths_key(in, items->items[i], a[2], arg_bool(a[1], false));
	}
	value_sort(j, items->items, keys, items->n, arg_bool(a[0], false));
	return value_list(VALUE_LIST, items);
}

FILTER(filter_dictsort) {
	struct job *j = &in->job;
	const struct string *by = a[1].kind == VALUE_ABSENT ? text_literal(j, "key")
		: arg_string(in, a[1], "by");
	if (!text_is(by, "key") && !text_is(by, "value")) {
		job_fail(j, "You can only sort by either \"key\" or \"value\"");
	}
	value_need_defined(j, v);
	if (v.kind != VALUE_DICT) {
		job_fail(j, "'%s' object has no attribute 'items'", value_type(v));
	}
	v.kind = VALUE_ITEMS;
	struct list *items = copy_of(in, v);
	struct value *keys = job_alloc(j, items->n, sizeof(*keys));
	for (size_t i = 0; i < items->n; i++) {
		const struct value of = items->items[i].list->items[text_is(by, "value")];
		keys[i] = sort_key(in, of, arg_bool(a[0], false));
	}
	value_sort(j, items->items, keys, items->n, arg_bool(a[2], false));
	return value_list(VALUE_LIST, items);
}

FILTER(filter_unique) {
	struct job *j = &in->job;
	const struct list *items = value_iterate(j, v);
	struct dict *seen = dict_create(j);
	struct list *kept = list_create(j, 0);
	for (size_t i = 0; i < items->n; i++) {
		const struct value key = sort_key(in, path_get(in, items->items[i], a[1], absent),
			arg_bool(a[0], false));
		if (dict_get(j, seen, key) == NULL) {
			dict_set(j, seen, key, value_none());
			list_push(j, kept, items->items[i]);
		}
	}
	return stream(kept);
}

static struct value extreme(struct interp *in, struct value v, const struct value *a, int sign) {
	struct job *j = &in->job;
	const struct list *items = value_iterate(j, v);
	if (items->n == 0) {
		return value_undefined(j, "No aggregated item, sequence was empty.");
	}
	size_t best = 0;
	struct value best_key = absent;
	for (size_t i = 0; i < items->n; i++) {
		const struct value key = sort_key(in, path_get(in, items->items[i], a[1], absent),
			arg_bool(a[0], false));
		if (i == 0 || value_compare(j, key, best_key, sign < 0 ? "<" : ">") == sign) {
			best = i;
			best_key = key;
		}
	}
	return items->items[best];
}

FILTER(filter_min) {
	return extreme(in, v, a, -1);
}

FILTER(filter_max) {
	return extreme(in, v, a, 1);
}

FILTER(filter_sum) {
	struct job *j = &in->job;
	const struct list *items = value_iterate(j, v);
	struct value total = a[1].kind == VALUE_ABSENT ? value_int(0) : a[1];
	if (total.kind == VALUE_STRING) {
		job_fail(j, "sum() can't sum strings [use ''.join(seq) instead]");
	}
	for (size_t i = 0; i < items->n; i++) {
		total = operate(in, TOKEN_ADD, total, path_get(in, items->items[i], a[0], absent));
	}
	return total;
}

static struct value new_group(struct interp *in, struct value grouper) {
	struct list *members = list_create(&in->job, 0);
	struct value group = value_pair(&in->job, grouper, value_list(VALUE_LIST, members));
	group.list->is_group = true;
	return group;
}

FILTER(filter_groupby) {
	struct job *j = &in->job;
	struct list *items = copy_of(in, v);
	const bool is_case_sensitive = arg_bool(a[2], false);
	struct value *keys = job_alloc(j, items->n, sizeof(*keys));
	const struct value fallback = a[1].kind == VALUE_NONE ? absent : a[1];
	for (size_t i = 0; i < items->n; i++) {
		keys[i] = sort_key(in, path_get(in, items->items[i], a[0], fallback), is_case_sensitive);
	}
	value_sort(j, items->items, keys, items->n, false);
	struct list *groups = list_create(j, 0);
	struct value last = absent;
	for (size_t i = 0; i < items->n; i++) {
		const struct value of = path_get(in, items->items[i], a[0], fallback);
		const struct value key = sort_key(in, of, is_case_sensitive);
		if (i == 0 || !value_equal(j, key, last)) {
			list_push(j, groups, new_group(in, of));
			last = key;
		}
		list_push(j, groups->items[groups->n - 1].list->items[1].list, items->items[i]);
	}
	return value_list(VALUE_LIST, groups);
}

/* ---- cutting in pieces ---- */

FILTER(filter_batch) {
	struct job *j = &in->job;
	const struct list *items = value_iterate(j, v);
	const int64_t n = arg_int(in, a[0], 0);
	struct list *rows = list_create(j, 0), *row = NULL;
	for (size_t i = 0; i < items->n; i++) {
		if (row == NULL || (int64_t)row->n == n) {
			row = list_create(j, 0);
			list_push(j, rows, value_list(VALUE_LIST, row));
		}
		list_push(j, row, items->items[i]);
	}
	const bool fills = a[1].kind != VALUE_ABSENT && a[1].kind != VALUE_NONE;
	while (fills && row != NULL && (int64_t)row->n < n) {
		list_push(j, row, a[1]);
	}
	return stream(rows);
}

FILTER(filter_slice) {
	struct job *j = &in->job;
	const struct list *items = value_iterate(j, v);
	const int64_t n = arg_int(in, a[0], 0);
	if (n == 0) {
		job_fail(j, "division by zero");
	}
	const bool fills = a[1].kind != VALUE_ABSENT && a[1].kind != VALUE_NONE;
	struct list *columns = list_create(j, 0);
	size_t at = 0;
	for (int64_t i = 0; i < n; i++) {
		const bool has_extra = i < (int64_t)items->n % n;
		struct list *column = list_create(j, 0);
		for (size_t k = items->n / (size_t)n + has_extra; k > 0; k--) {
			list_push(j, column, items->items[at++]);
		}
		if (fills && !has_extra) {
			list_push(j, column, a[1]);
		}
		list_push(j, columns, value_list(VALUE_LIST, column));
	}
	return stream(columns);
}

/* ---- mapping and selecting ---- */

FILTER(filter_attr) {
	const struct string *name = arg_string(in, a[0], "the attribute's name");
	struct value found = attribute_get(in, v, name);
	/* Unlike v.name, never an item of a mapping. */
	if (v.kind == VALUE_DICT && method_find(VALUE_DICT, name) == NULL) {
		found = value_undefined(&in->job, "'dict object' has no attribute '%.*s'",
			(int)(name->bytes < 100 ? name->bytes : 100), name->data);
	}
	return found;
}

/* Arguments from the i-th on. */
static struct args rest_of(const struct args *args, size_t i) {
	struct args rest = *args;
	rest.positional += i;
	rest.n -= i;
	return rest;
}

static const struct builtin *named_builtin(struct interp *in, struct value name, bool is_test) {
	const struct string *s = arg_string(in, name, "the name of a filter or test");
	const struct builtin *b = is_test ? test_find(s) : filter_find(s);
	if (b == NULL) {
		job_fail(&in->job, "there is no %s named '%.*s'", is_test ? "test" : "filter",
			(int)(s->bytes < 100 ? s->bytes : 100), s->data);
	}
	return b;
}

static struct value named_arg(const struct args *args, const char *name) {
	for (size_t i = 0; i < args->n_named; i++) {
		if (text_is(args->names[i], name)) {
			return args->named[i];
		}
	}
	return absent;
}

static struct value map_attribute(struct interp *in, const struct list *items,
	const struct args *args) {
	struct value fallback = named_arg(args, "default");
	for (size_t i = 0; i < args->n_named; i++) {
		if (!text_is(args->names[i], "attribute") && !text_is(args->names[i], "default")) {
			job_fail(&in->job, "Unexpected keyword argument '%.*s'", (int)args->names[i]->bytes,
				args->names[i]->data);
		}
	}
	fallback = fallback.kind == VALUE_NONE ? absent : fallback;
	struct list *mapped = list_create(&in->job, items->n);
	for (size_t i = 0; i < items->n; i++) {
		list_push(&in->job, mapped,
			path_get(in, items->items[i], named_arg(args, "attribute"), fallback));
	}
	return stream(mapped);
}

FILTER(filter_map) {
	struct job *j = &in->job;
	struct list *mapped = list_create(j, 0);
	if (!value_is_true(v)) {
		return stream(mapped);
	}
	const struct list *items = value_iterate(j, v);
	if (args->n == 0 && named_arg(args, "attribute").kind != VALUE_ABSENT) {
		return map_attribute(in, items, args);
	}
	if (args->n == 0) {
		job_fail(j, "map requires a filter argument");
	}
	const struct builtin *b = named_builtin(in, args->positional[0], false);
	const struct args rest = rest_of(args, 1);
	for (size_t i = 0; i < items->n; i++) {
		list_push(j, mapped, builtin_call(in, b, items->items[i], &rest));
	}
	return stream(mapped);
}

static struct value select(struct interp *in, struct value v, const struct args *args,
	bool by_attribute, bool wanted) {
	struct job *j = &in->job;
	struct list *kept = list_create(j, 0);
	if (!value_is_true(v)) {
		return stream(kept);
	}
	const struct list *items = value_iterate(j, v);
	if (by_attribute && args->n == 0) {
		job_fail(j, "Missing parameter for attribute name");
	}
	const struct value path = by_attribute ? args->positional[0] : absent;
	const bool has_test = args->n > by_attribute;
	const struct builtin *b = !has_test ? NULL
		: named_builtin(in, args->positional[by_attribute], true);
	const struct args rest = rest_of(args, has_test ? (size_t)by_attribute + 1 : args->n);
	for (size_t i = 0; i < items->n; i++) {
		struct value x = path_get(in, items->items[i], path, absent);
		x = b == NULL ? x : builtin_call(in, b, x, &rest);
		if (value_is_true(x) == wanted) {
			list_push(j, kept, items->items[i]);
		}
	}
	return stream(kept);
}

FILTER(filter_select) {
	return select(in, v, args, false, true);
}

FILTER(filter_reject) {
	return select(in, v, args, false, false);
}

FILTER(filter_selectattr) {
	return select(in, v, args, true, true);
}

FILTER(filter_rejectattr) {
	return select(in, v, args, true, false);
}

static const struct builtin filters_seq[] = {
	{ "length", filter_length, 0, { NULL } },
	{ "count", filter_length, 0, { NULL } },
	{ "default", filter_default, 0, { "default_value", "boolean" } },
	{ "d", filter_default, 0, { "default_value", "boolean" } },
	{ "first", filter_first, 0, { NULL } },
	{ "last", filter_last, 0, { NULL } },
	{ "list", filter_list, 0, { NULL } },
	{ "join", filter_join, 0, { "d", "attribute" } },
	{ "items", filter_items, 0, { NULL } },
	{ "reverse", filter_reverse, 0, { NULL } },
	{ "sort", filter_sort, 0, { "reverse", "case_sensitive", "attribute" } },
	{ "dictsort", filter_dictsort, 0, { "case_sensitive", "by", "reverse" } },
	{ "unique", filter_unique, 0, { "case_sensitive", "attribute" } },
	{ "min", filter_min, 0, { "case_sensitive", "attribute" } },
	{ "max", filter_max, 0, { "case_sensitive", "attribute" } },
	{ "sum", filter_sum, 0, { "attribute", "start" } },
	{ "groupby", filter_groupby, 1, { "attribute", "default", "case_sensitive" } },
	{ "batch", filter_batch, 1, { "linecount", "fill_with" } },
	{ "slice", filter_slice, 1, { "slices", "fill_with" } },
	{ "attr", filter_attr, 1, { "name" } },
	{ "map", filter_map, VARIADIC, { NULL } },
	{ "select", filter_select, VARIADIC, { NULL } },
	{ "reject", filter_reject, VARIADIC, { NULL } },
	{ "selectattr", filter_selectattr, VARIADIC, { NULL } },
	{ "rejectattr", filter_rejectattr, VARIADIC, { NULL } },
};

const struct builtin *filter_find(const struct string *name) {
	const struct builtin *b = builtin_find(filters_seq, COUNT(filters_seq), name);
	return b != NULL ? b : builtin_find(filters_text, n_filters_text, name);
}
