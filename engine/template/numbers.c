/* SPDX-License-Identifier: Apache-2.0
 *
 * Numbers from text and rounding, by Python's rules. */
#include "template/interp.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int digit_value(char c) {
	return c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'z' ? c - 'a' + 10
		: c >= 'A' && c <= 'Z' ? c - 'A' + 10 : 99;
}

/* Skips 0x, 0o or 0b where the base asks for it, or (base 0) takes the base from it. */
static size_t skip_prefix(const struct string *s, size_t at, int *base) {
	if (at + 1 < s->bytes && s->data[at] == '0') {
		const char c = s->data[at + 1] | 0x20;
		const int b = c == 'x' ? 16 : c == 'o' ? 8 : c == 'b' ? 2 : 0;
		if (b != 0 && (*base == b || *base == 0)) {
			*base = b;
			at += 2;
			return at + (at < s->bytes && s->data[at] == '_');
		}
	}
	*base = *base == 0 ? 10 : *base;
	return at;
}

bool parse_python_int(struct interp *in, const struct string *s, int base, int64_t *out) {
	if (base != 0 && (base < 2 || base > 36)) {
		return false;
	}
	s = text_strip(&in->job, s, NULL, TEXT_BOTH);
	size_t at = s->bytes > 0 && (s->data[0] == '-' || s->data[0] == '+');
	const bool is_negative = at == 1 && s->data[0] == '-';
	at = skip_prefix(s, at, &base);
	bool overflow = false, after_digit = false;
	int64_t value = 0;
	for (; at < s->bytes; at++) {
		if (s->data[at] == '_' && after_digit) {
			after_digit = false;
			continue;
		}
		const int digit = digit_value(s->data[at]);
		if (digit >= base) {
			return false;
		}
		after_digit = true;
		overflow |= __builtin_mul_overflow(value, base, &value)
			|| __builtin_sub_overflow(value, digit, &value);
	}
	if (!after_digit) {
		return false;
	}
	if (overflow || (!is_negative && value == INT64_MIN)) {
		job_fail(&in->job, "the integer %.*s is beyond 64 bits",
			(int)(s->bytes < 40 ? s->bytes : 40), s->data);
	}
	*out = is_negative ? value : -value;
	return true;
}

static bool is_float_text(const char *p) {
	p += *p == '-' || *p == '+';
	if (strcasecmp(p, "inf") == 0 || strcasecmp(p, "infinity") == 0 || strcasecmp(p, "nan") == 0) {
		return true;
	}
	size_t digits = strspn(p, "0123456789");
	p += digits;
	if (*p == '.') {
		const size_t more = strspn(p + 1, "0123456789");
		digits += more;
		p += 1 + more;
	}
	if (digits > 0 && (*p == 'e' || *p == 'E')) {
		p += 1 + (p[1] == '-' || p[1] == '+');
		const size_t more = strspn(p, "0123456789");
		p += more;
		return more > 0 && *p == '\0';
	}
	return digits > 0 && *p == '\0';
}

bool parse_python_float(struct interp *in, const struct string *s, double *out) {
	s = text_strip(&in->job, s, NULL, TEXT_BOTH);
	char *text = job_alloc(&in->job, s->bytes + 1, 1);
	size_t n = 0;
	for (size_t i = 0; i < s->bytes; i++) {
		const bool between = i > 0 && i + 1 < s->bytes && digit_value(s->data[i - 1]) < 10
			&& digit_value(s->data[i + 1]) < 10;
		if (s->data[i] != '_' || !between) {
			text[n++] = s->data[i];
		}
	}
	job_work_bytes(&in->job, s->bytes);
	if (strlen(text) != n || !is_float_text(text)) {
		return false;
	}
	*out = strtod(text, NULL);
	return true;
}

int64_t int_of_float(struct interp *in, double f) {
	if (isnan(f)) {
		job_fail(&in->job, "cannot convert float NaN to integer");
	}
	if (isinf(f)) {
		job_fail(&in->job, "cannot convert float infinity to integer");
	}
	if (f < -9223372036854775808.0 || f >= 9223372036854775808.0) {
		job_fail(&in->job, "the float %g is beyond 64 bits as an integer", f);
	}
	return (int64_t)f;
}

double round_decimal(double f, int digits) {
	if (isnan(f) || isinf(f) || digits > 100) {
		return f;
	}
	if (digits < -308) {
		return copysign(0, f);
	}
	if (digits < 0) {
		const double unit = pow(10, -digits);
		return nearbyint(f / unit) * unit;
	}
	char buf[512];
	snprintf(buf, sizeof(buf), "%.*f", digits, f);
	return strtod(buf, NULL);
}
