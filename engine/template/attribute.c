/* SPDX-License-Identifier: Apache-2.0
 *
 * What `a.b`, `a[b]` and `a[i:j:k]` find. */
#include "template/interp.h"

#include <string.h>

/* "dict object", "jinja2.utils.Namespace object": as Jinja's messages call a value. */
static const char *object_name(struct job *j, struct value v) {
	if (v.kind == VALUE_NONE) {
		return "None";
	}
	const bool is_runtime = v.kind == VALUE_LOOP || v.kind == VALUE_MACRO;
	const bool is_utils = v.kind == VALUE_NAMESPACE || v.kind == VALUE_CYCLER
		|| v.kind == VALUE_JOINER;
	struct out o = { 0 };
	out_text(j, &o, is_runtime ? "jinja2.runtime." : is_utils ? "jinja2.utils." : "");
	out_format(j, &o, "%s object", value_type(v));
	out_bytes(j, &o, "", 1);
	return o.data;
}

static struct value no_attribute(struct interp *in, struct value of, const struct string *name) {
	return value_undefined(&in->job, "'%s' has no attribute '%.*s'", object_name(&in->job, of),
		(int)(name->bytes < 100 ? name->bytes : 100), name->data);
}

static struct value no_element(struct interp *in, struct value of, struct value key) {
	if (key.kind == VALUE_STRING) {
		return no_attribute(in, of, key.string);
	}
	struct out o = { 0 };
	out_repr(&in->job, &o, key);
	return value_undefined(&in->job, "%s has no element %.*s", object_name(&in->job, of),
		(int)(o.bytes < 100 ? o.bytes : 100), o.data);
}

/* ---- attributes ---- */

static struct value loop_item(const struct loop *l, size_t i) {
	return l->items->items[i];
}

static struct value loop_attribute(struct interp *in, struct value v, const struct string *name) {
	const struct loop *l = v.loop;
	const int64_t index0 = (int64_t)l->i_item, n = (int64_t)l->items->n;
	const struct {
		const char *name;
		struct value value;
	} fields[] = {
		{ "index", value_int(index0 + 1) },
		{ "index0", value_int(index0) },
		{ "revindex", value_int(n - index0) },
		{ "revindex0", value_int(n - index0 - 1) },
		{ "first", value_bool(index0 == 0) },
		{ "last", value_bool(index0 + 1 == n) },
		{ "length", value_int(n) },
		{ "depth", value_int(l->depth0 + 1) },
		{ "depth0", value_int(l->depth0) },
	};
	for (size_t i = 0; i < COUNT(fields); i++) {
		if (text_is(name, fields[i].name)) {
			return fields[i].value;
		}
	}
	if (text_is(name, "previtem")) {
		return index0 > 0 ? loop_item(l, l->i_item - 1)
			: value_undefined(&in->job, "there is no previous item");
	}
	if (text_is(name, "nextitem")) {
		return index0 + 1 < n ? loop_item(l, l->i_item + 1)
			: value_undefined(&in->job, "there is no next item");
	}
	return (struct value){ 0 };
}

static struct value macro_attribute(struct interp *in, struct value v, const struct string *name) {
	const struct macro *m = v.macro;
	if (text_is(name, "name")) {
		return value_string(m->name);
	}
	if (text_is(name, "caller")) {
		return value_bool(m->params->takes_caller);
	}
	if (text_is(name, "catch_kwargs")) {
		return value_bool(m->params->takes_kwargs);
	}
	if (text_is(name, "catch_varargs")) {
		return value_bool(m->params->takes_varargs);
	}
	if (!text_is(name, "arguments")) {
		return (struct value){ 0 };
	}
	struct list *names = list_create(&in->job, m->params->n);
	for (size_t i = 0; i < m->params->n; i++) {
		list_push(&in->job, names, value_string(m->params->names[i]));
	}
	return value_list(VALUE_TUPLE, names);
}

static bool changes_its_object(enum value_kind kind, const struct string *name) {
	static const char *const of_list[] = { "append", "clear", "extend", "insert", "pop", "remove",
		"reverse", "sort" };
	static const char *const of_dict[] = { "clear", "pop", "popitem", "setdefault", "update" };
	const char *const *names = kind == VALUE_LIST ? of_list : of_dict;
	const size_t n = kind == VALUE_LIST ? COUNT(of_list) : kind == VALUE_DICT ? COUNT(of_dict) : 0;
	for (size_t i = 0; i < n; i++) {
		if (text_is(name, names[i])) {
			return true;
		}
	}
	return false;
}

/* What Python's getattr finds; ABSENT when there is no such attribute. */
static struct value plain_attribute(struct interp *in, struct value of, const struct string *name) {
	struct value found = { 0 };
	switch (of.kind) {
	case VALUE_NAMESPACE: {
		const struct value *v = dict_get_string(&in->job, of.dict, name);
		return v == NULL ? found : *v;
	}
	case VALUE_LOOP:
		found = loop_attribute(in, of, name);
		break;
	case VALUE_MACRO:
		found = macro_attribute(in, of, name);
		break;
	case VALUE_CYCLER:
		if (text_is(name, "current")) {
			found = of.list->items[of.list->next];
		}
		break;
	case VALUE_TUPLE:
		if (of.list->is_group && (text_is(name, "grouper") || text_is(name, "list"))) {
			found = of.list->items[text_is(name, "list")];
		}
		break;
	case VALUE_LIST: case VALUE_DICT:
		if (changes_its_object(of.kind, name)) {
			return value_undefined(&in->job, "access to attribute '%.*s' of '%s' object is unsafe.",
				(int)name->bytes, name->data, value_type(of));
		}
		break;
	default:
		break;
	}
	if (found.kind != VALUE_ABSENT) {
		return found;
	}
	const struct builtin *method = method_find(of.kind, name);
	return method == NULL ? found : value_function(in, method, of);
}

struct value attribute_get(struct interp *in, struct value of, const struct string *name) {
	const bool is_private = name->bytes >= 2 && memcmp(name->data, "__", 2) == 0;
	if (!is_private) {
		value_need_defined(&in->job, of);
	}
	const struct value found = plain_attribute(in, of, name);
	if (found.kind != VALUE_ABSENT) {
		return found;
	}
	const struct value *v = of.kind == VALUE_DICT ? dict_get_string(&in->job, of.dict, name) : NULL;
	return v == NULL ? no_attribute(in, of, name) : *v;
}

/* ---- items ---- */

/* i counted from the end when negative; false when outside [0, n). */
static bool resolve_index(int64_t i, size_t n, size_t *at) {
	i = i < 0 ? i + (int64_t)n : i;
	*at = (size_t)i;
	return i >= 0 && i < (int64_t)n;
}

static struct value sequence_item(struct interp *in, struct value of, struct value key) {
	size_t at;
	if (!resolve_index(value_as_int(key), value_length(&in->job, of), &at)) {
		return no_element(in, of, key);
	}
	if (of.kind == VALUE_STRING) {
		return value_string(text_slice(&in->job, of.string, at, at + 1));
	}
	return of.kind == VALUE_RANGE ? value_range_item(of.range, at) : of.list->items[at];
}

struct value item_get(struct interp *in, struct value of, struct value key) {
	value_need_defined(&in->job, of);
	if (of.kind == VALUE_DICT && value_is_hashable(&in->job, key)) {
		const struct value *v = dict_get(&in->job, of.dict, key);
		if (v != NULL) {
			return *v;
		}
	}
	const bool is_sequence = of.kind == VALUE_STRING || of.kind == VALUE_LIST
		|| of.kind == VALUE_TUPLE || of.kind == VALUE_RANGE;
	if (is_sequence && value_is_int(key)) {
		return sequence_item(in, of, key);
	}
	if (key.kind == VALUE_STRING) {
		const struct value v = plain_attribute(in, of, key.string);
		if (v.kind != VALUE_ABSENT) {
			return v;
		}
	}
	return no_element(in, of, key);
}

static bool is_all_digits(const struct string *s) {
	for (size_t i = 0; i < s->bytes; i++) {
		if (s->data[i] < '0' || s->data[i] > '9') {
			return false;
		}
	}
	return s->bytes > 0 && s->bytes < 18;
}

static struct value path_step(struct interp *in, const struct string *part) {
	if (!is_all_digits(part)) {
		return value_string(part);
	}
	int64_t i = 0;
	for (size_t k = 0; k < part->bytes; k++) {
		i = i * 10 + (part->data[k] - '0');
	}
	return value_int(i);
}

struct value path_get(struct interp *in, struct value of, struct value path,
	struct value fallback) {
	struct job *j = &in->job;
	if (path.kind == VALUE_ABSENT || path.kind == VALUE_NONE) {
		return of;
	}
	if (path.kind != VALUE_STRING) {
		of = item_get(in, of, path);
		return of.kind == VALUE_UNDEFINED && fallback.kind != VALUE_ABSENT ? fallback : of;
	}
	const char *at = path.string->data, *const end = at + path.string->bytes;
	for (;;) {
		const char *dot = at < end ? memchr(at, '.', (size_t)(end - at)) : NULL;
		const char *stop = dot == NULL ? end : dot;
		of = item_get(in, of, path_step(in, text_view(j, at, (size_t)(stop - at))));
		if (of.kind == VALUE_UNDEFINED && fallback.kind != VALUE_ABSENT) {
			of = fallback;
		}
		if (dot == NULL) {
			return of;
		}
		at = dot + 1;
	}
}

/* ---- slices ---- */

struct bounds {
	int64_t start, step;
	size_t n;
};

static int64_t clamp(int64_t i, int64_t n, int64_t low, int64_t high) {
	i = i < 0 ? i + n : i;
	return i < low ? low : i > high ? high : i;
}

static int64_t slice_part(struct interp *in, struct value v, int64_t fallback) {
	if (v.kind != VALUE_ABSENT && v.kind != VALUE_NONE && !value_is_int(v)) {
		value_need_defined(&in->job, v);
		job_fail(&in->job, "slice indices must be integers or None, not %s", value_type(v));
	}
	return arg_int(in, v, fallback);
}

static struct bounds slice_bounds(struct interp *in, const struct value parts[3], size_t length) {
	const int64_t n = (int64_t)length;
	const int64_t step = slice_part(in, parts[2], 1);
	if (step == 0) {
		job_fail(&in->job, "slice step cannot be zero");
	}
	const int64_t low = step < 0 ? -1 : 0, high = step < 0 ? n - 1 : n;
	/* The defaults lie outside on purpose: clamp() counts them as ends, not from the end. */
	const bool has_start = parts[0].kind != VALUE_ABSENT && parts[0].kind != VALUE_NONE;
	const bool has_stop = parts[1].kind != VALUE_ABSENT && parts[1].kind != VALUE_NONE;
	const int64_t start = has_start ? clamp(slice_part(in, parts[0], 0), n, low, high)
		: step < 0 ? high : low;
	const int64_t stop = has_stop ? clamp(slice_part(in, parts[1], 0), n, low, high)
		: step < 0 ? low : high;
	struct bounds b = { .start = start, .step = step };
	if (step > 0 && stop > start) {
		b.n = (size_t)((stop - start - 1) / step + 1);
	} else if (step < 0 && stop < start) {
		b.n = (size_t)((start - stop - 1) / (step == INT64_MIN ? INT64_MAX : -step) + 1);
	}
	return b;
}

static struct value slice_string(struct interp *in, const struct string *s, struct bounds b) {
	struct job *j = &in->job;
	if (b.step == 1) {
		return value_string(text_slice(j, s, (size_t)b.start, (size_t)b.start + b.n));
	}
	const struct list *chars = value_iterate(j, value_string(s));
	struct out o = { 0 };
	for (size_t i = 0; i < b.n; i++) {
		out_string(j, &o, chars->items[b.start + (int64_t)i * b.step].string);
	}
	return value_string(out_done(j, &o));
}

static struct value slice_range(struct interp *in, const struct range *r, struct bounds b) {
	struct range *part = job_alloc(&in->job, 1, sizeof(*part));
	part->start = r->start + b.start * r->step;
	part->step = b.n > 1 ? r->step * b.step : r->step;
	part->n = b.n;
	part->stop = part->start + (int64_t)b.n * part->step;
	return (struct value){ .kind = VALUE_RANGE, .range = part };
}

struct value eval_slice(struct interp *in, struct value of, const struct value parts[3]) {
	struct job *j = &in->job;
	value_need_defined(j, of);
	if (of.kind == VALUE_STRING) {
		return slice_string(in, of.string, slice_bounds(in, parts, of.string->chars));
	}
	if (of.kind == VALUE_RANGE) {
		return slice_range(in, of.range, slice_bounds(in, parts, of.range->n));
	}
	if (of.kind != VALUE_LIST && of.kind != VALUE_TUPLE) {
		job_fail(j, "'%s' object can't be sliced", value_type(of));
	}
	const struct bounds b = slice_bounds(in, parts, of.list->n);
	struct list *part = list_create(j, b.n);
	for (size_t i = 0; i < b.n; i++) {
		list_push(j, part, of.list->items[b.start + (int64_t)i * b.step]);
	}
	return value_list(of.kind, part);
}
