/* SPDX-License-Identifier: Apache-2.0
 *
 * One rendering: the evaluator's state, and what its parts (expressions, statements, calls,
 * attributes, filters, tests, methods) offer each other. */
#ifndef TEMPLATE_INTERP_H
#define TEMPLATE_INTERP_H

#include "template/ast.h"

struct binding {
	const struct string *name;
	struct value value;
};

struct scope {
	struct scope *parent;
	struct binding *bindings; /* [n] */
	size_t n, cap;
	bool is_captured; /* a macro may look into it later */
};

struct interp {
	struct job job;
	const struct dict *vars; /* what the caller gave */
	struct scope *scope;
	struct out *out;
	struct value block_text; /* what the filters of a block apply to */
};

/* ---- builtins ---- */

struct args { /* of one call, evaluated */
	struct value *positional; /* [n] */
	size_t n;
	const struct string **names; /* [n_named] */
	struct value *named;         /* [n_named] */
	size_t n_named;
};

/* a: the arguments in the order of the builtin's params, VALUE_ABSENT where not given. `args` is
 * what a variadic one gets instead. `self`: what a filter, test or method applies to. */
typedef struct value builtin_fn(struct interp *in, struct value self, const struct value *a,
	const struct args *args);

#define MAX_PARAMS 6
#define VARIADIC 255

struct builtin {
	const char *name;
	builtin_fn *fn;
	uint8_t n_required;             /* VARIADIC: takes `args` as they are */
	const char *params[MAX_PARAMS]; /* names, up to the first NULL; "/…" can't be given by name */
};

struct function {
	const struct builtin *builtin;
	struct value self;
};

struct macro {
	const struct string *name;
	const struct params *params;
	const struct node *body;
	struct scope *scope; /* where it was defined */
};

struct loop {
	const struct node *node;
	struct scope *scope;      /* around the loop */
	const struct list *items;
	size_t i_item;
	int depth0;               /* recursive calls around this one */
	struct value last_changed; /* ABSENT until loop.changed() was called */
};

/* By name, or NULL. */
const struct builtin *filter_find(const struct string *name);
const struct builtin *test_find(const struct string *name);
const struct builtin *global_find(const struct string *name);
const struct builtin *method_find(enum value_kind kind, const struct string *name);

/* rows[n] sorted or not; the one of that name, or NULL. */
const struct builtin *builtin_find(const struct builtin *rows, size_t n, const struct string *name);
struct value builtin_call(struct interp *in, const struct builtin *b, struct value self,
	const struct args *args);
struct value value_function(struct interp *in, const struct builtin *b, struct value self);

/* Arguments of builtins, or what is left where they are absent; fail for a wrong type. */
int64_t arg_int(struct interp *in, struct value v, int64_t fallback);
bool arg_bool(struct value v, bool fallback);
const struct string *arg_string(struct interp *in, struct value v, const char *what);

/* ---- evaluating ---- */

struct value eval(struct interp *in, const struct node *n);
/* A slice [start:stop:step] of a sequence; absent or None parts mean Python's defaults. */
struct value eval_slice(struct interp *in, struct value of, const struct value parts[3]);
/* a op b for the arithmetic token kinds. */
struct value operate(struct interp *in, int op, struct value a, struct value b);
struct value operate_negate(struct interp *in, struct value a, bool is_plus);

/* a.name (attribute first) and a[key] (item first), as the sandbox resolves them. */
struct value attribute_get(struct interp *in, struct value of, const struct string *name);
struct value item_get(struct interp *in, struct value of, struct value key);
/* "a.b.0" step by step, with item_get; `fallback` (or ABSENT) replaces undefined results. */
struct value path_get(struct interp *in, struct value of, struct value path,
	struct value fallback);

struct value call_value(struct interp *in, struct value f, const struct args *args);
/* Evaluates args and calls f; caller: what a call block passes on, or NULL. */
struct value call_node(struct interp *in, const struct node *call, const struct value *caller);
void eval_args(struct interp *in, const struct call_args *nodes, struct args *args);

/* ---- running ---- */

enum flow { FLOW_NEXT, FLOW_BREAK, FLOW_CONTINUE };
enum flow exec(struct interp *in, const struct node *n);
/* The text that a body writes, in the scope that is current. */
struct string *exec_capture(struct interp *in, const struct node *body);
/* The loop once more over other items: loop(items) of a recursive one. */
struct value exec_recursive(struct interp *in, struct loop *outer, struct value items);

struct scope *scope_push(struct interp *in, struct scope *parent);
void scope_set(struct interp *in, struct scope *s, const struct string *name, struct value v);
struct value scope_get(struct interp *in, const struct string *name);

/* ---- text formats ---- */

/* format % value, as Python's str does it. */
struct value format_percent(struct interp *in, const struct string *format, struct value v);
/* format.format(args). */
struct value format_braces(struct interp *in, const struct string *format, const struct args *args);
/* Python's int(s, base) and float(s); false when s is no such number. */
bool parse_python_int(struct interp *in, const struct string *s, int base, int64_t *out);
bool parse_python_float(struct interp *in, const struct string *s, double *out);
/* Fails when f is beyond 64 bits. */
int64_t int_of_float(struct interp *in, double f);
/* round(f, digits) as Python does it: exact decimal, ties to even. */
double round_decimal(double f, int digits);

/* ---- strings ---- */

bool string_has_case(struct interp *in, const struct string *s, bool upper);
struct list *string_lines(struct interp *in, const struct string *s, bool keep_ends);
/* The first max occurrences (max < 0: all). */
struct string *string_replace(struct interp *in, const struct string *s, const struct string *old,
	const struct string *new, int64_t max);
/* Filled up to width characters at a side, or both. */
struct string *string_pad(struct interp *in, const struct string *s, int64_t width, uint32_t fill,
	enum text_side side);
builtin_fn string_upper, string_lower, string_casefold, string_title, string_capitalize,
	string_swapcase, string_isalnum, string_isalpha, string_isascii, string_isdecimal,
	string_isdigit, string_isnumeric, string_isprintable, string_isspace, string_islower,
	string_isupper, string_istitle;

/* Rows of the tables that one file alone can't hold. */
extern const struct builtin string_methods[];
extern const size_t n_string_methods;
extern const struct builtin filters_text[];
extern const size_t n_filters_text;

#endif
