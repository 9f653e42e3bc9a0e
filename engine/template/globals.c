/* SPDX-License-Identifier: Apache-2.0
 *
 * The functions every template can call, and the methods of dicts, lists and the interpreter's own
 * objects. */
#include "template/interp.h"

#include <string.h>
#include <time.h>

#define MAX_RANGE 100000 /* items, as in the sandbox */

/* ---- globals ---- */

static struct value global_raise(struct interp *in, struct value self, const struct value *a,
	const struct args *args) {
	const struct string *message = value_str(&in->job, a[0]);
	job_fail(&in->job, "%.*s", (int)(message->bytes < 380 ? message->bytes : 380), message->data);
}

static struct value global_strftime(struct interp *in, struct value self, const struct value *a,
	const struct args *args) {
	const struct string *format = arg_string(in, a[0], "strftime_now() argument");
	char fmt[200], text[400];
	if (format->bytes + 2 > sizeof(fmt) || memchr(format->data, '\0', format->bytes) != NULL) {
		job_fail(&in->job, "strftime_now() takes formats up to %zu bytes", sizeof(fmt) - 2);
	}
	/* A mark at the end tells an empty result from one that didn't fit. */
	memcpy(fmt, format->data, format->bytes);
	memcpy(fmt + format->bytes, "|", 2);
	const time_t now = time(NULL);
	struct tm tm;
	localtime_r(&now, &tm);
	const size_t n = strftime(text, sizeof(text), fmt, &tm);
	if (n == 0 || !text_is_valid(text, n)) {
		job_fail(&in->job, "strftime_now() made a text that is too long or not UTF-8");
	}
	return value_string(text_copy(&in->job, text, n - 1));
}

static struct value global_range(struct interp *in, struct value self, const struct value *a,
	const struct args *args) {
	const bool has_stop = a[1].kind != VALUE_ABSENT;
	struct range *r = job_alloc(&in->job, 1, sizeof(*r));
	for (int i = 0; i < 3; i++) {
		if (a[i].kind == VALUE_NONE) {
			job_fail(&in->job, "'NoneType' object cannot be interpreted as an integer");
		}
	}
	r->start = has_stop ? arg_int(in, a[0], 0) : 0;
	r->stop = arg_int(in, has_stop ? a[1] : a[0], 0);
	r->step = arg_int(in, a[2], 1);
	if (r->step == 0) {
		job_fail(&in->job, "range() arg 3 must not be zero");
	}
	const long double width = r->step > 0 ? (long double)r->stop - (long double)r->start
		: (long double)r->start - (long double)r->stop;
	const long double step = r->step > 0 ? (long double)r->step : -(long double)r->step;
	if (width / step > MAX_RANGE) {
		job_fail(&in->job, "range too big: the maximum is %d items", MAX_RANGE);
	}
	if (width > 0) {
		const uint64_t w = r->step > 0 ? (uint64_t)r->stop - (uint64_t)r->start
			: (uint64_t)r->start - (uint64_t)r->stop;
		const uint64_t s = r->step > 0 ? (uint64_t)r->step : 0 - (uint64_t)r->step;
		r->n = (size_t)((w - 1) / s + 1);
	}
	return (struct value){ .kind = VALUE_RANGE, .range = r };
}

static void add_pairs(struct interp *in, struct dict *d, struct value from) {
	struct job *j = &in->job;
	if (from.kind == VALUE_DICT) {
		for (size_t i = 0; i < from.dict->n; i++) {
			dict_set(j, d, from.dict->entries[i].key, from.dict->entries[i].value);
		}
		return;
	}
	const struct list *pairs = value_iterate(j, from);
	for (size_t i = 0; i < pairs->n; i++) {
		const struct list *pair = value_iterate(j, pairs->items[i]);
		if (pair->n != 2) {
			job_fail(j, "dictionary update sequence element #%zu has length %zu; 2 is required", i,
				pair->n);
		}
		dict_set(j, d, pair->items[0], pair->items[1]);
	}
}

static struct dict *dict_of_args(struct interp *in, const struct args *args, const char *what) {
	struct dict *d = dict_create(&in->job);
	if (args->n > 1) {
		job_fail(&in->job, "%s expected at most 1 argument, got %zu", what, args->n);
	}
	if (args->n == 1) {
		add_pairs(in, d, args->positional[0]);
	}
	for (size_t i = 0; i < args->n_named; i++) {
		dict_set(&in->job, d, value_string(args->names[i]), args->named[i]);
	}
	return d;
}

static struct value global_dict(struct interp *in, struct value self, const struct value *a,
	const struct args *args) {
	return (struct value){ .kind = VALUE_DICT, .dict = dict_of_args(in, args, "dict") };
}

static struct value global_namespace(struct interp *in, struct value self, const struct value *a,
	const struct args *args) {
	return (struct value){ .kind = VALUE_NAMESPACE, .dict = dict_of_args(in, args, "namespace") };
}

static struct value global_cycler(struct interp *in, struct value self, const struct value *a,
	const struct args *args) {
	struct list *items = list_create(&in->job, args->n);
	if (args->n == 0 || args->n_named > 0) {
		job_fail(&in->job, "cycler() takes one item or more");
	}
	for (size_t i = 0; i < args->n; i++) {
		list_push(&in->job, items, args->positional[i]);
	}
	return value_list(VALUE_CYCLER, items);
}

static struct value global_joiner(struct interp *in, struct value self, const struct value *a,
	const struct args *args) {
	struct list *items = list_create(&in->job, 1);
	list_push(&in->job, items, a[0].kind == VALUE_ABSENT ? value_text(&in->job, ", ") : a[0]);
	return value_list(VALUE_JOINER, items);
}

static const struct builtin globals[] = {
	{ "raise_exception", global_raise, 1, { "message" } },
	{ "strftime_now", global_strftime, 1, { "format" } },
	{ "range", global_range, 1, { "/start", "/stop", "/step" } },
	{ "dict", global_dict, VARIADIC, { NULL } },
	{ "namespace", global_namespace, VARIADIC, { NULL } },
	{ "cycler", global_cycler, VARIADIC, { NULL } },
	{ "joiner", global_joiner, 0, { "sep" } },
};

const struct builtin *global_find(const struct string *name) {
	return builtin_find(globals, COUNT(globals), name);
}

/* ---- methods of dicts ---- */

static struct value view(struct value self, enum value_kind kind) {
	return (struct value){ .kind = kind, .dict = self.dict };
}

static struct value dict_keys(struct interp *in, struct value self, const struct value *a,
	const struct args *args) {
	return view(self, VALUE_KEYS);
}

static struct value dict_values(struct interp *in, struct value self, const struct value *a,
	const struct args *args) {
	return view(self, VALUE_VALUES);
}

static struct value dict_items(struct interp *in, struct value self, const struct value *a,
	const struct args *args) {
	return view(self, VALUE_ITEMS);
}

static struct value dict_find(struct interp *in, struct value self, const struct value *a,
	const struct args *args) {
	const struct value *v = dict_get(&in->job, self.dict, a[0]);
	return v != NULL ? *v : a[1].kind == VALUE_ABSENT ? value_none() : a[1];
}

static struct value dict_copy(struct interp *in, struct value self, const struct value *a,
	const struct args *args) {
	return self;
}

static const struct builtin dict_methods[] = {
	{ "items", dict_items, 0, { NULL } },
	{ "keys", dict_keys, 0, { NULL } },
	{ "values", dict_values, 0, { NULL } },
	{ "get", dict_find, 1, { "/key", "/default" } },
	{ "copy", dict_copy, 0, { NULL } },
};

/* ---- methods of lists and tuples ---- */

static struct value list_index(struct interp *in, struct value self, const struct value *a,
	const struct args *args) {
	const int64_t n = (int64_t)self.list->n;
	int64_t from = arg_int(in, a[1], 0), to = arg_int(in, a[2], n);
	from = from < 0 ? from + n : from;
	to = to < 0 ? to + n : to;
	for (int64_t i = from < 0 ? 0 : from; i < n && i < to; i++) {
		if (value_equal(&in->job, self.list->items[i], a[0])) {
			return value_int(i);
		}
	}
	job_fail(&in->job, "the value is not in the %s", value_type(self));
}

static struct value list_count(struct interp *in, struct value self, const struct value *a,
	const struct args *args) {
	int64_t n = 0;
	for (size_t i = 0; i < self.list->n; i++) {
		n += value_equal(&in->job, self.list->items[i], a[0]);
	}
	return value_int(n);
}

static struct value list_copy(struct interp *in, struct value self, const struct value *a,
	const struct args *args) {
	return self;
}

static const struct builtin list_methods[] = {
	{ "index", list_index, 1, { "/value", "/start", "/stop" } },
	{ "count", list_count, 1, { "/value" } },
	{ "copy", list_copy, 0, { NULL } },
};

/* ---- methods of loops and cyclers ---- */

static struct value loop_cycle(struct interp *in, struct value self, const struct value *a,
	const struct args *args) {
	if (args->n == 0) {
		job_fail(&in->job, "no items for cycling given");
	}
	return args->positional[self.loop->i_item % args->n];
}

static struct value loop_changed(struct interp *in, struct value self, const struct value *a,
	const struct args *args) {
	struct list *now = list_create(&in->job, args->n);
	for (size_t i = 0; i < args->n; i++) {
		list_push(&in->job, now, args->positional[i]);
	}
	const struct value v = value_list(VALUE_TUPLE, now);
	const bool is_changed = !value_equal(&in->job, self.loop->last_changed, v);
	self.loop->last_changed = v;
	return value_bool(is_changed);
}

static const struct builtin loop_methods[] = {
	{ "cycle", loop_cycle, VARIADIC, { NULL } },
	{ "changed", loop_changed, VARIADIC, { NULL } },
};

static struct value cycler_next(struct interp *in, struct value self, const struct value *a,
	const struct args *args) {
	const struct value v = self.list->items[self.list->next];
	self.list->next = (self.list->next + 1) % self.list->n;
	return v;
}

static struct value cycler_reset(struct interp *in, struct value self, const struct value *a,
	const struct args *args) {
	self.list->next = 0;
	return value_none();
}

static const struct builtin cycler_methods[] = {
	{ "next", cycler_next, 0, { NULL } },
	{ "reset", cycler_reset, 0, { NULL } },
};

static struct value float_is_integer(struct interp *in, struct value self, const struct value *a,
	const struct args *args) {
	return value_bool(self.real == (double)(long long)self.real);
}

static const struct builtin float_methods[] = {
	{ "is_integer", float_is_integer, 0, { NULL } },
};

const struct builtin *method_find(enum value_kind kind, const struct string *name) {
	switch (kind) {
	case VALUE_STRING: return builtin_find(string_methods, n_string_methods, name);
	case VALUE_DICT: return builtin_find(dict_methods, COUNT(dict_methods), name);
	case VALUE_LIST: return builtin_find(list_methods, COUNT(list_methods), name);
	/* A tuple has no copy(). */
	case VALUE_TUPLE: return builtin_find(list_methods, COUNT(list_methods) - 1, name);
	case VALUE_LOOP: return builtin_find(loop_methods, COUNT(loop_methods), name);
	case VALUE_CYCLER: return builtin_find(cycler_methods, COUNT(cycler_methods), name);
	case VALUE_FLOAT: return builtin_find(float_methods, COUNT(float_methods), name);
	default: return NULL;
	}
}
