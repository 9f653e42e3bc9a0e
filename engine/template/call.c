/* SPDX-License-Identifier: Apache-2.0
 *
 * Calls: arguments, builtins, macros. */
#include "template/interp.h"

#include <string.h>

/* ---- arguments ---- */

static void add_star(struct interp *in, const struct node *star, struct args *args) {
	const struct list *more = value_iterate(&in->job, eval(in, star));
	args->positional = job_grow(&in->job, args->positional, args->n * sizeof(struct value),
		(args->n + more->n) * sizeof(struct value));
	for (size_t i = 0; i < more->n; i++) {
		args->positional[args->n++] = more->items[i];
	}
}

static void add_named(struct interp *in, struct args *args, const struct string *name,
	struct value v) {
	for (size_t i = 0; i < args->n_named; i++) {
		if (text_equal(args->names[i], name)) {
			job_fail(&in->job, "got multiple values for keyword argument '%.*s'", (int)name->bytes,
				name->data);
		}
	}
	args->names[args->n_named] = name;
	args->named[args->n_named++] = v;
}

void eval_args(struct interp *in, const struct call_args *nodes, struct args *args) {
	struct job *j = &in->job;
	memset(args, 0, sizeof(*args));
	args->positional = job_alloc(j, nodes->n, sizeof(struct value));
	for (; args->n < nodes->n; args->n++) {
		args->positional[args->n] = eval(in, nodes->positional[args->n]);
	}
	if (nodes->star != NULL) {
		add_star(in, nodes->star, args);
	}
	const struct value more = nodes->star_star == NULL ? value_none() : eval(in, nodes->star_star);
	if (nodes->star_star != NULL && more.kind != VALUE_DICT) {
		job_fail(j, "argument after ** must be a mapping, not %s", value_type(more));
	}
	/* One place more, for the caller of a call block. */
	const size_t n = nodes->n_named + (more.kind == VALUE_DICT ? more.dict->n : 0) + 1;
	args->names = job_alloc(j, n, sizeof(*args->names));
	args->named = job_alloc(j, n, sizeof(*args->named));
	for (size_t i = 0; i < nodes->n_named; i++) {
		add_named(in, args, nodes->names[i], eval(in, nodes->named[i]));
	}
	for (size_t i = 0; more.kind == VALUE_DICT && i < more.dict->n; i++) {
		const struct entry *e = &more.dict->entries[i];
		job_work(j, args->n_named);
		add_named(in, args, arg_string(in, e->key, "keywords"), e->value);
	}
}

int64_t arg_int(struct interp *in, struct value v, int64_t fallback) {
	if (v.kind == VALUE_ABSENT || v.kind == VALUE_NONE) {
		return fallback;
	}
	value_need_defined(&in->job, v);
	if (!value_is_int(v)) {
		job_fail(&in->job, "'%s' object cannot be interpreted as an integer", value_type(v));
	}
	return value_as_int(v);
}

bool arg_bool(struct value v, bool fallback) {
	return v.kind == VALUE_ABSENT ? fallback : value_is_true(v);
}

const struct string *arg_string(struct interp *in, struct value v, const char *what) {
	value_need_defined(&in->job, v);
	if (v.kind != VALUE_STRING) {
		job_fail(&in->job, "%s must be str, not %s", what, value_type(v));
	}
	return v.string;
}

/* ---- builtins ---- */

const struct builtin *builtin_find(const struct builtin *rows, size_t n,
	const struct string *name) {
	for (size_t i = 0; i < n; i++) {
		if (text_is(name, rows[i].name)) {
			return &rows[i];
		}
	}
	return NULL;
}

static size_t count_params(const struct builtin *b) {
	size_t n = 0;
	while (n < MAX_PARAMS && b->params[n] != NULL) {
		n++;
	}
	return n;
}

static void bind_named(struct interp *in, const struct builtin *b, size_t n_params,
	const struct args *args, struct value *a) {
	for (size_t i = 0; i < args->n_named; i++) {
		size_t at = 0;
		while (at < n_params && !text_is(args->names[i], b->params[at])) {
			at++;
		}
		if (at == n_params) {
			job_fail(&in->job, "%s() got an unexpected keyword argument '%.*s'", b->name,
				(int)args->names[i]->bytes, args->names[i]->data);
		}
		if (a[at].kind != VALUE_ABSENT) {
			job_fail(&in->job, "%s() got multiple values for argument '%s'", b->name,
				b->params[at]);
		}
		a[at] = args->named[i];
	}
}

struct value builtin_call(struct interp *in, const struct builtin *b, struct value self,
	const struct args *args) {
	job_work(&in->job, 1);
	if (b->n_required == VARIADIC) {
		return b->fn(in, self, NULL, args);
	}
	struct value a[MAX_PARAMS] = { 0 };
	const size_t n_params = count_params(b);
	if (args->n > n_params) {
		job_fail(&in->job, "%s() takes at most %zu arguments (%zu given)", b->name, n_params,
			args->n);
	}
	for (size_t i = 0; i < args->n; i++) {
		a[i] = args->positional[i];
	}
	bind_named(in, b, n_params, args, a);
	for (size_t i = 0; i < b->n_required; i++) {
		if (a[i].kind == VALUE_ABSENT) {
			job_fail(&in->job, "%s() lacks the argument '%s'", b->name,
				b->params[i] + (b->params[i][0] == '/'));
		}
	}
	return b->fn(in, self, a, args);
}

struct value value_function(struct interp *in, const struct builtin *b, struct value self) {
	struct function *f = job_alloc(&in->job, 1, sizeof(*f));
	*f = (struct function){ b, self };
	return (struct value){ .kind = VALUE_FUNCTION, .function = f };
}

/* ---- macros ---- */

static bool take_named(const struct args *args, bool *is_taken, const struct string *name,
	struct value *v) {
	for (size_t i = 0; i < args->n_named; i++) {
		if (!is_taken[i] && text_equal(args->names[i], name)) {
			is_taken[i] = true;
			*v = args->named[i];
			return true;
		}
	}
	return false;
}

/* varargs, kwargs and caller, for a body that speaks of them; what nothing takes is an error. */
static void bind_rest(struct interp *in, const struct macro *m, const struct args *args,
	bool *is_taken, bool has_caller) {
	static const struct string caller = { .data = "caller", .bytes = 6, .chars = 6 };
	static const struct string kwargs = { .data = "kwargs", .bytes = 6, .chars = 6 };
	static const struct string varargs = { .data = "varargs", .bytes = 7, .chars = 7 };
	struct job *j = &in->job;
	const struct params *p = m->params;
	if (p->takes_caller && !has_caller) {
		struct value v;
		if (!take_named(args, is_taken, &caller, &v)) {
			v = value_undefined(j, "No caller defined");
		}
		scope_set(in, in->scope, &caller, v);
	}
	struct dict *rest = dict_create(j);
	for (size_t i = 0; i < args->n_named; i++) {
		if (!is_taken[i] && !p->takes_kwargs) {
			job_fail(j, "macro '%.*s' takes no keyword argument '%.*s'", (int)m->name->bytes,
				m->name->data, (int)args->names[i]->bytes, args->names[i]->data);
		}
		if (!is_taken[i]) {
			dict_set(j, rest, value_string(args->names[i]), args->named[i]);
		}
	}
	if (p->takes_kwargs) {
		scope_set(in, in->scope, &kwargs, (struct value){ .kind = VALUE_DICT, .dict = rest });
	}
	if (args->n > p->n && !p->takes_varargs) {
		job_fail(j, "macro '%.*s' takes not more than %zu argument(s)", (int)m->name->bytes,
			m->name->data, p->n);
	}
	if (p->takes_varargs) {
		struct list *more = list_create(j, 0);
		for (size_t i = p->n; i < args->n; i++) {
			list_push(j, more, args->positional[i]);
		}
		scope_set(in, in->scope, &varargs, value_list(VALUE_TUPLE, more));
	}
}

static struct value call_macro(struct interp *in, const struct macro *m, const struct args *args) {
	struct job *j = &in->job;
	struct scope *const outer = in->scope;
	const struct params *p = m->params;
	bool *is_taken = job_alloc(j, args->n_named, sizeof(*is_taken));
	struct value *values = job_alloc(j, p->n, sizeof(*values));
	bool has_caller = false;
	for (size_t i = 0; i < p->n; i++) {
		has_caller |= text_is(p->names[i], "caller");
		if (i < args->n) {
			values[i] = args->positional[i];
		} else {
			take_named(args, is_taken, p->names[i], &values[i]);
		}
	}
	struct scope *scope = scope_push(in, m->scope);
	bind_rest(in, m, args, is_taken, has_caller);
	for (size_t i = 0; i < p->n; i++) {
		if (values[i].kind == VALUE_ABSENT) {
			values[i] = p->defaults[i] != NULL ? eval(in, p->defaults[i])
				: value_undefined(j, "parameter '%.*s' was not provided", (int)p->names[i]->bytes,
					p->names[i]->data);
		}
		scope_set(in, scope, p->names[i], values[i]);
	}
	const struct value text = value_string(exec_capture(in, m->body));
	in->scope = outer;
	return text;
}

/* ---- anything ---- */

static struct value call_joiner(struct value v) {
	if (v.list->next++ == 0) {
		static const struct string nothing = { .data = "" };
		return value_string(&nothing);
	}
	return v.list->items[0];
}

struct value call_value(struct interp *in, struct value f, const struct args *args) {
	switch (f.kind) {
	case VALUE_FUNCTION:
		return builtin_call(in, f.function->builtin, f.function->self, args);
	case VALUE_MACRO:
		return call_macro(in, f.macro, args);
	case VALUE_LOOP:
		if (args->n != 1 || args->n_named != 0) {
			job_fail(&in->job, "loop() takes one argument");
		}
		return exec_recursive(in, f.loop, args->positional[0]);
	case VALUE_JOINER:
		return call_joiner(f);
	case VALUE_UNDEFINED:
		value_need_defined(&in->job, f);
		/* fall through */
	default:
		job_fail(&in->job, "'%s' object is not callable", value_type(f));
	}
}

struct value call_node(struct interp *in, const struct node *call, const struct value *caller) {
	static const struct string name = { .data = "caller", .bytes = 6, .chars = 6 };
	const struct value f = eval(in, call->a);
	struct args args;
	eval_args(in, call->args, &args);
	if (caller != NULL) {
		add_named(in, &args, &name, *caller);
	}
	in->job.line = call->line;
	return call_value(in, f, &args);
}
