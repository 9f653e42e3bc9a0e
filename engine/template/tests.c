/* SPDX-License-Identifier: Apache-2.0
 *
 * The tests of `x is …`. */
#include "template/interp.h"

#define TEST(id, condition) \
	static struct value id(struct interp *in, struct value v, const struct value *a, \
		const struct args *args) { \
		return value_bool(condition); \
	}

/* v % n == rest, with the errors of %. */
static bool leaves(struct interp *in, struct value v, struct value n, int64_t rest) {
	return value_equal(&in->job, operate(in, TOKEN_MOD, v, n), value_int(rest));
}

static bool is_same(struct value a, struct value b) {
	if (a.kind != b.kind) {
		return false;
	}
	switch (a.kind) {
	case VALUE_NONE: return true;
	case VALUE_BOOL: return a.boolean == b.boolean;
	case VALUE_INT: return a.integer == b.integer;
	case VALUE_FLOAT: return a.real == b.real;
	case VALUE_STRING: return text_equal(a.string, b.string);
	case VALUE_UNDEFINED: return false;
	default: return a.list == b.list;
	}
}

static bool has_filter(struct interp *in, struct value v) {
	return v.kind == VALUE_STRING && filter_find(v.string) != NULL;
}

static bool has_test(struct interp *in, struct value v) {
	return v.kind == VALUE_STRING && test_find(v.string) != NULL;
}

static int order(struct interp *in, struct value a, struct value b, const char *op) {
	return value_compare(&in->job, a, b, op);
}

static bool is_sequence(struct value v) {
	return value_has_length(v) && v.kind != VALUE_KEYS && v.kind != VALUE_VALUES
		&& v.kind != VALUE_ITEMS;
}

TEST(test_odd, leaves(in, v, value_int(2), 1))
TEST(test_even, leaves(in, v, value_int(2), 0))
TEST(test_divisible, leaves(in, v, a[0], 0))
TEST(test_defined, v.kind != VALUE_UNDEFINED)
TEST(test_undefined, v.kind == VALUE_UNDEFINED)
TEST(test_filter, has_filter(in, v))
TEST(test_test, has_test(in, v))
TEST(test_none, v.kind == VALUE_NONE)
TEST(test_boolean, v.kind == VALUE_BOOL)
TEST(test_false, v.kind == VALUE_BOOL && !v.boolean)
TEST(test_true, v.kind == VALUE_BOOL && v.boolean)
TEST(test_integer, v.kind == VALUE_INT)
TEST(test_float, v.kind == VALUE_FLOAT)
TEST(test_number, value_is_number(v))
TEST(test_lower, string_has_case(in, value_str(&in->job, v), false))
TEST(test_upper, string_has_case(in, value_str(&in->job, v), true))
TEST(test_string, v.kind == VALUE_STRING)
TEST(test_mapping, v.kind == VALUE_DICT)
TEST(test_sequence, is_sequence(v))
TEST(test_iterable, value_is_iterable(v) || v.kind == VALUE_LOOP)
TEST(test_callable, value_is_callable(v))
TEST(test_sameas, is_same(v, a[0]))
TEST(test_escaped, v.kind == VALUE_STRING && v.string->is_safe)
TEST(test_in, value_contains(&in->job, a[0], v))
TEST(test_eq, value_equal(&in->job, v, a[0]))
TEST(test_ne, !value_equal(&in->job, v, a[0]))
TEST(test_gt, order(in, v, a[0], ">") == 1)
TEST(test_lt, order(in, v, a[0], "<") == -1)
TEST(test_ge, (order(in, v, a[0], ">=") & ~1) == 0)
TEST(test_le, order(in, v, a[0], "<=") <= 0)

static const struct builtin tests[] = {
	{ "odd", test_odd, 0, { NULL } },
	{ "even", test_even, 0, { NULL } },
	{ "divisibleby", test_divisible, 1, { "num" } },
	{ "defined", test_defined, 0, { NULL } },
	{ "undefined", test_undefined, 0, { NULL } },
	{ "filter", test_filter, 0, { NULL } },
	{ "test", test_test, 0, { NULL } },
	{ "none", test_none, 0, { NULL } },
	{ "boolean", test_boolean, 0, { NULL } },
	{ "false", test_false, 0, { NULL } },
	{ "true", test_true, 0, { NULL } },
	{ "integer", test_integer, 0, { NULL } },
	{ "float", test_float, 0, { NULL } },
	{ "number", test_number, 0, { NULL } },
	{ "lower", test_lower, 0, { NULL } },
	{ "upper", test_upper, 0, { NULL } },
	{ "string", test_string, 0, { NULL } },
	{ "mapping", test_mapping, 0, { NULL } },
	{ "sequence", test_sequence, 0, { NULL } },
	{ "iterable", test_iterable, 0, { NULL } },
	{ "callable", test_callable, 0, { NULL } },
	{ "sameas", test_sameas, 1, { "other" } },
	{ "escaped", test_escaped, 0, { NULL } },
	{ "in", test_in, 1, { "seq" } },
	{ "==", test_eq, 1, { "other" } },
	{ "eq", test_eq, 1, { "other" } },
	{ "equalto", test_eq, 1, { "other" } },
	{ "!=", test_ne, 1, { "other" } },
	{ "ne", test_ne, 1, { "other" } },
	{ ">", test_gt, 1, { "other" } },
	{ "gt", test_gt, 1, { "other" } },
	{ "greaterthan", test_gt, 1, { "other" } },
	{ ">=", test_ge, 1, { "other" } },
	{ "ge", test_ge, 1, { "other" } },
	{ "<", test_lt, 1, { "other" } },
	{ "lt", test_lt, 1, { "other" } },
	{ "lessthan", test_lt, 1, { "other" } },
	{ "<=", test_le, 1, { "other" } },
	{ "le", test_le, 1, { "other" } },
};

const struct builtin *test_find(const struct string *name) {
	return builtin_find(tests, COUNT(tests), name);
}
