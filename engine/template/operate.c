/* SPDX-License-Identifier: Apache-2.0
 *
 * Arithmetic with Python's rules: floor division, sequences that add and repeat, 64-bit integers
 * (beyond them is an error, where Python would go on). */
#include "template/interp.h"

#include <math.h>

static const char *symbol(int op) {
	switch (op) {
	case TOKEN_ADD: return "+";
	case TOKEN_SUB: return "-";
	case TOKEN_MUL: return "*";
	case TOKEN_DIV: return "/";
	case TOKEN_FLOORDIV: return "//";
	case TOKEN_MOD: return "%";
	default: return "** or pow()";
	}
}

static _Noreturn void fail_overflow(struct interp *in, int op) {
	job_fail(&in->job, "the result of %s is beyond 64 bits", op == TOKEN_POW ? "**" : symbol(op));
}

static _Noreturn void fail_zero(struct interp *in) {
	job_fail(&in->job, "division by zero");
}

static int64_t floor_divide(struct interp *in, int64_t a, int64_t b) {
	if (a == INT64_MIN && b == -1) {
		fail_overflow(in, TOKEN_FLOORDIV);
	}
	const int64_t q = a / b;
	return q - (a % b != 0 && (a < 0) != (b < 0));
}

static int64_t floor_modulo(int64_t a, int64_t b) {
	if (b == -1) {
		return 0;
	}
	const int64_t r = a % b;
	return r != 0 && (r < 0) != (b < 0) ? r + b : r;
}

static double float_floor_divide(double a, double b) {
	const double mod = fmod(a, b);
	double div = (a - mod) / b;
	if (mod != 0 && (b < 0) != (mod < 0)) {
		div -= 1;
	}
	if (div == 0) {
		return copysign(0, a / b);
	}
	const double floored = floor(div);
	return div - floored > 0.5 ? floored + 1 : floored;
}

static double float_modulo(double a, double b) {
	const double mod = fmod(a, b);
	if (mod == 0) {
		return copysign(0, b);
	}
	return (b < 0) != (mod < 0) ? mod + b : mod;
}

static int64_t int_power(struct interp *in, int64_t base, int64_t exponent) {
	int64_t result = 1;
	while (exponent > 0) {
		if ((exponent & 1) && __builtin_mul_overflow(result, base, &result)) {
			fail_overflow(in, TOKEN_POW);
		}
		exponent >>= 1;
		if (exponent > 0 && __builtin_mul_overflow(base, base, &base)) {
			fail_overflow(in, TOKEN_POW);
		}
	}
	return result;
}

static double float_power(struct interp *in, double a, double b) {
	if (a == 0 && b < 0) {
		job_fail(&in->job, "0.0 cannot be raised to a negative power");
	}
	const double result = pow(a, b);
	if (isnan(result) && !isnan(a) && !isnan(b)) {
		job_fail(&in->job, "a negative number to a fractional power is complex, not supported");
	}
	if (isinf(result) && !isinf(a) && !isinf(b)) {
		job_fail(&in->job, "the result of ** is too large");
	}
	return result;
}

/* Rounded once: doubles hold both, or else the 64 bits of long double do. */
static double true_divide(int64_t a, int64_t b) {
	const int64_t exact = (int64_t)1 << 53;
	if (a >= -exact && a <= exact && b >= -exact && b <= exact) {
		return (double)a / (double)b;
	}
	return (double)((long double)a / (long double)b);
}

static struct value on_ints(struct interp *in, int op, int64_t a, int64_t b) {
	int64_t result = 0;
	bool overflow = false;
	if (b == 0 && (op == TOKEN_DIV || op == TOKEN_FLOORDIV || op == TOKEN_MOD)) {
		fail_zero(in);
	}
	switch (op) {
	case TOKEN_ADD: overflow = __builtin_add_overflow(a, b, &result); break;
	case TOKEN_SUB: overflow = __builtin_sub_overflow(a, b, &result); break;
	case TOKEN_MUL: overflow = __builtin_mul_overflow(a, b, &result); break;
	case TOKEN_DIV: return value_float(true_divide(a, b));
	case TOKEN_FLOORDIV: result = floor_divide(in, a, b); break;
	case TOKEN_MOD: result = floor_modulo(a, b); break;
	default:
		if (b < 0) {
			return value_float(float_power(in, (double)a, (double)b));
		}
		result = int_power(in, a, b);
	}
	if (overflow) {
		fail_overflow(in, op);
	}
	return value_int(result);
}

static struct value on_floats(struct interp *in, int op, double a, double b) {
	if (b == 0 && (op == TOKEN_DIV || op == TOKEN_FLOORDIV || op == TOKEN_MOD)) {
		fail_zero(in);
	}
	switch (op) {
	case TOKEN_ADD: return value_float(a + b);
	case TOKEN_SUB: return value_float(a - b);
	case TOKEN_MUL: return value_float(a * b);
	case TOKEN_DIV: return value_float(a / b);
	case TOKEN_FLOORDIV: return value_float(float_floor_divide(a, b));
	case TOKEN_MOD: return value_float(float_modulo(a, b));
	default: return value_float(float_power(in, a, b));
	}
}

static struct value add_lists(struct interp *in, struct value a, struct value b) {
	struct list *sum = list_create(&in->job, a.list->n + b.list->n);
	for (size_t i = 0; i < a.list->n; i++) {
		list_push(&in->job, sum, a.list->items[i]);
	}
	for (size_t i = 0; i < b.list->n; i++) {
		list_push(&in->job, sum, b.list->items[i]);
	}
	return value_list(a.kind, sum);
}

static struct value add_strings(struct interp *in, struct value a, struct value b) {
	struct job *j = &in->job;
	const struct string *x = a.string, *y = b.string;
	const bool is_safe = x->is_safe || y->is_safe;
	if (is_safe) {
		x = x->is_safe ? x : text_escape(j, x);
		y = y->is_safe ? y : text_escape(j, y);
	}
	struct string *sum = text_concat(j, x, y);
	sum->is_safe = is_safe;
	return value_string(sum);
}

static bool is_sequence(struct value v) {
	return v.kind == VALUE_STRING || v.kind == VALUE_LIST || v.kind == VALUE_TUPLE;
}

static struct value repeat(struct interp *in, struct value of, int64_t times) {
	if (of.kind == VALUE_STRING) {
		return value_string(text_repeat(&in->job, of.string, times));
	}
	struct list *all = list_create(&in->job, 0);
	for (int64_t i = 0; of.list->n > 0 && i < times; i++) {
		for (size_t k = 0; k < of.list->n; k++) {
			list_push(&in->job, all, of.list->items[k]);
		}
	}
	return value_list(of.kind, all);
}

struct value operate(struct interp *in, int op, struct value a, struct value b) {
	if (op == TOKEN_MOD && a.kind == VALUE_STRING) {
		return format_percent(in, a.string, b);
	}
	value_need_defined(&in->job, a);
	value_need_defined(&in->job, b);
	if (value_is_int(a) && value_is_int(b)) {
		return on_ints(in, op, value_as_int(a), value_as_int(b));
	}
	if (value_is_number(a) && value_is_number(b)) {
		return on_floats(in, op, value_as_float(a), value_as_float(b));
	}
	if (op == TOKEN_ADD && a.kind == b.kind && is_sequence(a)) {
		return a.kind == VALUE_STRING ? add_strings(in, a, b) : add_lists(in, a, b);
	}
	if (op == TOKEN_MUL && is_sequence(a) && value_is_int(b)) {
		return repeat(in, a, value_as_int(b));
	}
	if (op == TOKEN_MUL && value_is_int(a) && is_sequence(b)) {
		return repeat(in, b, value_as_int(a));
	}
	if (op == TOKEN_ADD && is_sequence(a)) {
		job_fail(&in->job, "can only concatenate %s (not \"%s\") to %s", value_type(a),
			value_type(b), value_type(a));
	}
	job_fail(&in->job, "unsupported operand type(s) for %s: '%s' and '%s'", symbol(op),
		value_type(a), value_type(b));
}

struct value operate_negate(struct interp *in, struct value a, bool is_plus) {
	value_need_defined(&in->job, a);
	if (a.kind == VALUE_FLOAT) {
		return value_float(is_plus ? a.real : -a.real);
	}
	if (!value_is_int(a)) {
		job_fail(&in->job, "bad operand type for unary %c: '%s'", is_plus ? '+' : '-',
			value_type(a));
	}
	int64_t i = value_as_int(a);
	if (!is_plus && __builtin_sub_overflow(0, i, &i)) {
		fail_overflow(in, TOKEN_SUB);
	}
	return value_int(i);
}
