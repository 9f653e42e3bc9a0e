/* SPDX-License-Identifier: Apache-2.0
 *
 * Ranges of integers digit by digit, and formats as regexes. */
#include "numbers.h"

#include "regex.h"

#include <string.h>

static uint32_t digit(struct exprs *x, char first, char last) {
	return first <= last ? expr_range(x, first, last) : EXPR_NONE;
}

static uint32_t any_digits(struct exprs *x, int min, int max) {
	return expr_repeat(x, digit(x, '0', '9'), min, max);
}

/* As many digits as s has, at least s (or at most). */
static uint32_t beyond(struct exprs *x, const char *s, bool at_least) {
	const int n = (int)strlen(s);
	if (n == 0) {
		return EXPR_EMPTY;
	}
	const uint32_t other = at_least ? digit(x, (char)(s[0] + 1), '9')
		: digit(x, '0', (char)(s[0] - 1));
	return expr_or(x, expr_seq(x, digit(x, s[0], s[0]), beyond(x, s + 1, at_least)),
		expr_seq(x, other, any_digits(x, n - 1, n - 1)));
}

/* Between two numbers of as many digits. */
static uint32_t between(struct exprs *x, const char *low, const char *high) {
	const int n = (int)strlen(low);
	if (n == 0) {
		return EXPR_EMPTY;
	}
	if (low[0] == high[0]) {
		return expr_seq(x, digit(x, low[0], low[0]), between(x, low + 1, high + 1));
	}
	const uint32_t middle = digit(x, (char)(low[0] + 1), (char)(high[0] - 1));
	uint32_t all = expr_seq(x, middle, any_digits(x, n - 1, n - 1));
	all = expr_or(x, all, expr_seq(x, digit(x, low[0], low[0]), beyond(x, low + 1, true)));
	return expr_or(x, all, expr_seq(x, digit(x, high[0], high[0]), beyond(x, high + 1, false)));
}

/* low..high, or without an end, of numbers without a sign. */
static uint32_t magnitudes(struct exprs *x, uint64_t low, uint64_t high, bool has_end) {
	char a[24], b[24];
	uint32_t all = EXPR_NONE;
	for (bool is_last = false; !is_last;) {
		const int n = snprintf(a, sizeof(a), "%llu", (unsigned long long)low);
		const int m = snprintf(b, sizeof(b), "%llu", (unsigned long long)high);
		is_last = !has_end || n == m;
		if (has_end && n < m) { /* the largest of n digits */
			memset(b, '9', (size_t)n);
			b[n] = '\0';
		}
		all = expr_or(x, all, has_end ? between(x, a, b) : beyond(x, a, true));
		if (!has_end) {
			all = expr_or(x, all, expr_seq(x, digit(x, '1', '9'), any_digits(x, n, -1)));
		}
		low = 1;
		for (int i = 0; !is_last && i < n; i++) {
			low *= 10;
		}
	}
	return all;
}

uint32_t numbers_integer(struct exprs *x, const struct int_range *r) {
	uint32_t all = EXPR_NONE;
	if (r->has_min && r->has_max && r->min > r->max) {
		return EXPR_NONE;
	}
	if (!r->has_max || r->max >= 0) {
		const uint64_t low = r->has_min && r->min > 0 ? (uint64_t)r->min : 0;
		all = low > 0 ? EXPR_NONE : expr_text(x, "0", 1);
		if (!r->has_max || r->max > 0) {
			all = expr_or(x, all, magnitudes(x, low > 0 ? low : 1,
				r->has_max ? (uint64_t)r->max : 0, r->has_max));
		}
	}
	if (!r->has_min || r->min < 0) {
		const uint64_t low = r->has_max && r->max < 0 ? 0 - (uint64_t)r->max : 1;
		const uint32_t below = magnitudes(x, low, r->has_min ? 0 - (uint64_t)r->min : 0,
			r->has_min);
		all = expr_or(x, all, expr_seq(x, expr_text(x, "-", 1), below));
	}
	return all;
}

uint32_t numbers_any(struct exprs *x) {
	static const char source[] = "-?(0|[1-9][0-9]*)(\\.[0-9]+)?([eE][+-]?[0-9]+)?";
	uint32_t out = EXPR_NONE;
	regex_parse(x, "number", source, sizeof(source) - 1, CHARS_UTF8, REGEX_WHOLE, &out,
		&x->trouble);
	return out;
}

/* ---- formats ---- */

/* Years 0001 to 9999; of February 29th those that are leap years: multiples of 4, and of 400 where
 * they are multiples of 100. */
#define MONTH_DAY "((0[13578]|1[02])-(0[1-9]|[12][0-9]|3[01])|(0[469]|11)-(0[1-9]|[12][0-9]|30)|" \
	"02-(0[1-9]|1[0-9]|2[0-8]))"
#define YEAR "(000[1-9]|00[1-9][0-9]|0[1-9][0-9]{2}|[1-9][0-9]{3})"
#define FOURTH "(0[48]|[2468][048]|[13579][26])"
#define LEAP "([0-9]{2}" FOURTH "|(0[48]|[2468][048]|[13579][26])00)"
#define DATE "(" YEAR "-" MONTH_DAY "|" LEAP "-02-29)"
#define CLOCK "([01][0-9]|2[0-3]):[0-5][0-9]"
#define TIME CLOCK ":[0-5][0-9](\\.[0-9]{1,9})?(Z|[+-]" CLOCK ")"

uint32_t numbers_format(struct exprs *x, const char *name, bool *known, struct bb_error *err) {
	static const struct {
		const char *name, *source;
	} formats[] = {
		{ "date", DATE },
		{ "date-time", DATE "T" TIME },
		{ "uuid", "[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}" },
	};
	uint32_t out = EXPR_NONE;
	*known = false;
	for (size_t i = 0; i < COUNT(formats); i++) {
		if (strcmp(formats[i].name, name) == 0) {
			*known = true;
			regex_parse(x, name, formats[i].source, strlen(formats[i].source), CHARS_UTF8,
				REGEX_WHOLE, &out, err);
		}
	}
	return out;
}
