/* SPDX-License-Identifier: Apache-2.0
 *
 * The two ways Python's str formats values: format % values and format.format(values). */
#include "template/interp.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#define MAX_PRECISION 300
#define MAX_WIDTH 1000000

struct spec {
	uint32_t fill;
	char align; /* < > ^ =, or 0 */
	char sign;  /* + - space, or 0 */
	char group; /* , or _ between thousands, or 0 */
	char type;  /* 0 = by the value */
	bool alternate;
	size_t width;
	int precision; /* -1 = by the type */
};

static bool is_one_of(char c, const char *set) {
	return c != '\0' && strchr(set, c) != NULL;
}

/* ---- padding ---- */

/* body[bytes], of which `head` bytes (sign, prefix) stay before zeros that fill it up. */
static void out_padded(struct job *j, struct out *o, const char *body, size_t bytes, size_t head,
	const struct spec *s, char default_align) {
	const size_t chars = text_count(body, bytes);
	const size_t pad = s->width > chars ? s->width - chars : 0;
	const char align = s->align != 0 ? s->align : default_align;
	const uint32_t fill = s->fill != 0 ? s->fill : ' ';
	const size_t left = align == '>' ? pad : align == '^' ? pad / 2 : 0;
	if (align == '=') {
		out_bytes(j, o, body, head);
		out_fill(j, o, fill, pad);
		out_bytes(j, o, body + head, bytes - head);
		return;
	}
	out_fill(j, o, fill, left);
	out_bytes(j, o, body, bytes);
	out_fill(j, o, fill, pad - left);
}

/* The digits of an integer part with separators every three. */
static size_t group_digits(const char *digits, size_t n, char group, char *to) {
	size_t at = 0;
	for (size_t i = 0; i < n; i++) {
		if (i > 0 && (n - i) % 3 == 0) {
			to[at++] = group;
		}
		to[at++] = digits[i];
	}
	return at;
}

static void out_number(struct job *j, struct out *o, bool is_negative, const char *prefix,
	const char *digits, const struct spec *s) {
	char body[1200];
	size_t n = 0;
	if (is_negative || s->sign == '+' || s->sign == ' ') {
		body[n++] = is_negative ? '-' : s->sign;
	}
	for (; *prefix != '\0'; prefix++) {
		body[n++] = *prefix;
	}
	const size_t head = n;
	const size_t whole = strspn(digits, "0123456789");
	if (s->group != 0) {
		n += group_digits(digits, whole, s->group, body + n);
		digits += whole;
	}
	const size_t rest = strlen(digits);
	memcpy(body + n, digits, rest);
	out_padded(j, o, body, n + rest, head, s, '>');
}

static void out_int(struct job *j, struct out *o, int64_t value, const struct spec *s) {
	char digits[400];
	char *p = digits + 350;
	*p = '\0';
	const int base = s->type == 'x' || s->type == 'X' ? 16 : s->type == 'o' ? 8
		: s->type == 'b' ? 2 : 10;
	const char *const letters = s->type == 'X' ? "0123456789ABCDEF" : "0123456789abcdef";
	uint64_t left = value < 0 ? 0 - (uint64_t)value : (uint64_t)value;
	do {
		*--p = letters[left % (unsigned)base];
		left /= (unsigned)base;
	} while (left > 0);
	/* Only % formats have a precision here: at least so many digits. */
	while (digits + 350 - p < s->precision) {
		*--p = '0';
	}
	const char *prefix = !s->alternate || base == 10 ? "" : base == 8 ? "0o" : base == 2 ? "0b"
		: s->type == 'X' ? "0X" : "0x";
	out_number(j, o, value < 0, prefix, p, s);
}

static void out_real(struct job *j, struct out *o, double value, const struct spec *s) {
	char digits[700];
	const bool is_percent = s->type == '%';
	const double f = fabs(is_percent ? value * 100 : value);
	const int precision = s->precision < 0 ? 6 : s->precision;
	const char type = is_percent ? 'f' : s->type == 'n' ? 'g' : s->type;
	if (isnan(f) || isinf(f)) {
		const bool is_upper = type == 'E' || type == 'F' || type == 'G';
		snprintf(digits, sizeof(digits), "%s", isnan(f) ? (is_upper ? "NAN" : "nan")
			: (is_upper ? "INF" : "inf"));
	} else if (type == 0 && s->precision < 0) {
		struct out text = { 0 };
		out_float(j, &text, f);
		snprintf(digits, sizeof(digits), "%.*s", (int)text.bytes, text.data);
	} else {
		char fmt[8];
		snprintf(fmt, sizeof(fmt), "%%%s.*%c", s->alternate ? "#" : "", type == 0 ? 'g' : type);
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral"
		snprintf(digits, sizeof(digits), fmt, precision, f);
#pragma GCC diagnostic pop
		if (type == 0 && strpbrk(digits, ".e") == NULL) {
			strcat(digits, ".0");
		}
	}
	if (is_percent) {
		strcat(digits, "%");
	}
	out_number(j, o, signbit(value) && !isnan(value), "", digits, s);
}

static void out_padded_string(struct job *j, struct out *o, const struct string *text,
	const struct spec *s, char default_align) {
	if (s->precision >= 0 && (size_t)s->precision < text->chars) {
		text = text_slice(j, text, 0, (size_t)s->precision);
	}
	out_padded(j, o, text->data, text->bytes, 0, s, default_align);
}

/* ---- format % values ---- */

struct percent {
	struct interp *in;
	const char *at, *end;
	const struct list *values; /* of a tuple, or the one value */
	size_t i_value;
	struct value all;
};

static struct value next_value(struct percent *p) {
	if (p->i_value >= p->values->n) {
		job_fail(&p->in->job, "not enough arguments for format string");
	}
	return p->values->items[p->i_value++];
}

static struct value named_value(struct percent *p) {
	struct job *j = &p->in->job;
	const char *close = memchr(p->at, ')', (size_t)(p->end - p->at));
	if (close == NULL) {
		job_fail(j, "incomplete format key");
	}
	if (p->all.kind != VALUE_DICT) {
		job_fail(j, "format requires a mapping");
	}
	const struct string *key = text_view(j, p->at + 1, (size_t)(close - p->at) - 1);
	const struct value *v = dict_get_string(j, p->all.dict, key);
	if (v == NULL) {
		job_fail(j, "the format's key '%.*s' is missing", (int)(key->bytes < 99 ? key->bytes : 99),
			key->data);
	}
	p->at = close + 1;
	return *v;
}

static size_t read_number(struct interp *in, const char **at, const char *end, size_t max) {
	size_t n = 0;
	for (; *at < end && **at >= '0' && **at <= '9'; (*at)++) {
		n = n * 10 + (size_t)(**at - '0');
		if (n > max) {
			job_fail(&in->job, "a format's width or precision is beyond %zu", max);
		}
	}
	return n;
}

static int64_t width_or_star(struct percent *p, size_t max) {
	if (p->at < p->end && *p->at == '*') {
		p->at++;
		const int64_t n = arg_int(p->in, next_value(p), 0);
		if (n > (int64_t)max || n < -(int64_t)max) {
			job_fail(&p->in->job, "a format's width or precision is beyond %zu", max);
		}
		return n;
	}
	return (int64_t)read_number(p->in, &p->at, p->end, max);
}

static struct spec percent_spec(struct percent *p) {
	struct spec s = { .precision = -1, .align = '>' };
	bool is_zero = false;
	for (; p->at < p->end && is_one_of(*p->at, "#0- +"); p->at++) {
		is_zero |= *p->at == '0';
		s.alternate |= *p->at == '#';
		s.align = *p->at == '-' ? '<' : s.align;
		s.sign = *p->at == '+' || (*p->at == ' ' && s.sign == 0) ? *p->at : s.sign;
	}
	const int64_t width = width_or_star(p, MAX_WIDTH);
	s.align = width < 0 ? '<' : s.align;
	s.width = (size_t)(width < 0 ? -width : width);
	if (p->at < p->end && *p->at == '.') {
		p->at++;
		const int64_t precision = width_or_star(p, MAX_PRECISION);
		s.precision = precision < 0 ? 0 : (int)precision;
	}
	while (p->at < p->end && (*p->at == 'l' || *p->at == 'L' || *p->at == 'h')) {
		p->at++;
	}
	if (p->at >= p->end) {
		job_fail(&p->in->job, "incomplete format");
	}
	s.type = *p->at++;
	if (is_zero && s.align != '<' && is_one_of(s.type, "diuoxXeEfFgG")) {
		s.align = '=';
		s.fill = '0';
	}
	return s;
}

static void percent_int(struct percent *p, struct out *o, struct value v, struct spec *s) {
	value_need_defined(&p->in->job, v);
	const bool is_decimal = is_one_of(s->type, "diu");
	if (!value_is_int(v) && !(is_decimal && v.kind == VALUE_FLOAT)) {
		job_fail(&p->in->job, "%%%c format: %s is required, not %s", s->type,
			is_decimal ? "a real number" : "an integer", value_type(v));
	}
	const int64_t i = v.kind == VALUE_FLOAT ? int_of_float(p->in, v.real) : value_as_int(v);
	s->type = is_decimal ? 'd' : s->type;
	out_int(&p->in->job, o, i, s);
}

static void percent_char(struct percent *p, struct out *o, struct value v, const struct spec *s) {
	struct job *j = &p->in->job;
	struct out c = { 0 };
	if (value_is_int(v)) {
		const int64_t i = value_as_int(v);
		if (i < 0 || i > 0x10FFFF || (i >= 0xD800 && i <= 0xDFFF)) {
			job_fail(j, "%%c arg not in range(0x110000)");
		}
		out_char(j, &c, (uint32_t)i);
	} else if (v.kind == VALUE_STRING && v.string->chars == 1) {
		out_string(j, &c, v.string);
	} else {
		job_fail(j, "%%c requires int or char");
	}
	out_padded(j, o, c.data, c.bytes, 0, s, '>');
}

static void percent_one(struct percent *p, struct out *o) {
	struct job *j = &p->in->job;
	struct value v = { 0 };
	if (p->at < p->end && *p->at == '%') {
		out_bytes(j, o, p->at++, 1);
		return;
	}
	const bool is_named = p->at < p->end && *p->at == '(';
	if (is_named) {
		v = named_value(p);
	}
	struct spec s = percent_spec(p);
	v = is_named ? v : next_value(p);
	if (is_one_of(s.type, "diuoxX")) {
		percent_int(p, o, v, &s);
	} else if (is_one_of(s.type, "eEfFgG")) {
		value_need_defined(j, v);
		if (!value_is_number(v)) {
			job_fail(j, "must be real number, not %s", value_type(v));
		}
		out_real(j, o, value_as_float(v), &s);
	} else if (s.type == 'c') {
		percent_char(p, o, v, &s);
	} else if (s.type == 's') {
		out_padded_string(j, o, value_str(j, v), &s, '>');
	} else if (s.type == 'r' || s.type == 'a') {
		struct out repr = { 0 };
		out_repr(j, &repr, v);
		out_padded_string(j, o, out_done(j, &repr), &s, '>');
	} else {
		job_fail(j, "unsupported format character '%c'",
			s.type > ' ' && s.type < 127 ? s.type : '?');
	}
}

struct value format_percent(struct interp *in, const struct string *format, struct value v) {
	struct job *j = &in->job;
	struct list one = { .items = &v, .n = 1, .cap = 1 };
	struct percent p = { .in = in, .at = format->data, .end = format->data + format->bytes,
		.values = v.kind == VALUE_TUPLE ? v.list : &one, .all = v };
	struct out o = { 0 };
	while (p.at < p.end) {
		const char *sign = memchr(p.at, '%', (size_t)(p.end - p.at));
		const char *stop = sign == NULL ? p.end : sign;
		out_bytes(j, &o, p.at, (size_t)(stop - p.at));
		p.at = stop;
		if (sign != NULL) {
			p.at++;
			percent_one(&p, &o);
		}
	}
	/* Python lets anything with [] pass as a mapping whose items nobody has to use. */
	const bool is_mapping = v.kind == VALUE_DICT || v.kind == VALUE_LIST || v.kind == VALUE_RANGE
		|| v.kind == VALUE_UNDEFINED;
	if (!is_mapping && p.i_value < p.values->n) {
		job_fail(j, "not all arguments converted during string formatting");
	}
	return value_string(out_done(j, &o));
}

/* ---- format.format(values) ---- */

struct braces {
	struct interp *in;
	const struct args *args;
	size_t n_automatic; /* {} so far */
	bool has_manual;    /* a {0} was met */
};

static bool is_align(uint32_t c) {
	return c == '<' || c == '>' || c == '^' || c == '=';
}

static struct spec brace_spec(struct interp *in, const struct string *text) {
	struct spec s = { .precision = -1 };
	const char *at = text->data, *const end = at + text->bytes;
	size_t n = 0;
	if (at < end) {
		const uint32_t c = text_next(at, end, &n);
		if (at + n < end && is_align((unsigned char)at[n])) {
			s.fill = c;
			s.align = at[n];
			at += n + 1;
		} else if (is_align(c)) {
			s.align = *at++;
		}
	}
	if (at < end && (*at == '+' || *at == '-' || *at == ' ')) {
		s.sign = *at++;
	}
	if (at < end && *at == '#') {
		s.alternate = true;
		at++;
	}
	if (at < end && *at == '0') {
		s.fill = s.fill == 0 ? '0' : s.fill;
		s.align = s.align == 0 ? '=' : s.align;
		at++;
	}
	s.width = read_number(in, &at, end, MAX_WIDTH);
	if (at < end && (*at == ',' || *at == '_')) {
		s.group = *at++;
	}
	if (at < end && *at == '.') {
		at++;
		s.precision = (int)read_number(in, &at, end, MAX_PRECISION);
	}
	if (at < end) {
		s.type = *at++;
	}
	if (at != end || (s.type != 0 && !is_one_of(s.type, "sdbcoxXneEfFgG%"))) {
		job_fail(&in->job, "invalid format specifier '%.*s'",
			(int)(text->bytes < 99 ? text->bytes : 99), text->data);
	}
	return s;
}

static _Noreturn void fail_type(struct interp *in, const struct spec *s, struct value v) {
	job_fail(&in->job, "unknown format code '%c' for object of type '%s'", s->type, value_type(v));
}

static void out_formatted(struct interp *in, struct out *o, struct value v,
	const struct string *spec) {
	struct job *j = &in->job;
	if (spec->bytes == 0) {
		out_str(j, o, v);
		return;
	}
	struct spec s = brace_spec(in, spec);
	const bool wants_float = is_one_of(s.type, "eEfFgG%");
	if (v.kind == VALUE_STRING) {
		if ((s.type != 0 && s.type != 's') || s.align == '=') {
			fail_type(in, &s, v);
		}
		out_padded_string(j, o, v.string, &s, '<');
	} else if (value_is_number(v) && (wants_float || (v.kind == VALUE_FLOAT
			&& (s.type == 0 || s.type == 'n')))) {
		out_real(j, o, value_as_float(v), &s);
	} else if (value_is_int(v) && s.type != 's') {
		if (s.precision >= 0) {
			job_fail(j, "Precision not allowed in integer format specifier");
		}
		s.type = s.type == 0 || s.type == 'n' ? 'd' : s.type;
		if (s.type == 'c') {
			fail_type(in, &s, v);
		}
		out_int(j, o, value_as_int(v), &s);
	} else if (value_is_number(v)) {
		fail_type(in, &s, v);
	} else {
		job_fail(j, "unsupported format string passed to %s.__format__", value_type(v));
	}
}

static struct value first_of_field(struct braces *b, const struct string *name) {
	struct job *j = &b->in->job;
	int64_t i = (int64_t)b->n_automatic;
	if (name->bytes == 0 || parse_python_int(b->in, name, 10, &i)) {
		b->n_automatic += name->bytes == 0;
		b->has_manual |= name->bytes > 0;
		if (b->n_automatic > 0 && b->has_manual) {
			job_fail(j, "cannot switch between automatic and manual field numbering");
		}
		if (i < 0 || (size_t)i >= b->args->n) {
			job_fail(j, "Replacement index %lld out of range for positional args", (long long)i);
		}
		return b->args->positional[i];
	}
	for (size_t k = 0; k < b->args->n_named; k++) {
		if (text_equal(b->args->names[k], name)) {
			return b->args->named[k];
		}
	}
	job_fail(j, "the format's key '%.*s' is missing", (int)(name->bytes < 99 ? name->bytes : 99),
		name->data);
}

static const char *field_stop(const char *at, const char *end, const char *stops) {
	while (at < end && !is_one_of(*at, stops)) {
		at++;
	}
	return at;
}

/* "0.name[key]": the value it names. */
static struct value field_value(struct braces *b, const char *at, const char *end) {
	struct job *j = &b->in->job;
	const char *stop = field_stop(at, end, ".[");
	struct value v = first_of_field(b, text_view(j, at, (size_t)(stop - at)));
	while (stop < end) {
		at = stop + 1;
		if (*stop == '.') {
			stop = field_stop(at, end, ".[");
			v = attribute_get(b->in, v, text_view(j, at, (size_t)(stop - at)));
			continue;
		}
		stop = field_stop(at, end, "]");
		if (stop >= end) {
			job_fail(j, "Missing ']' in format string");
		}
		const struct string *key = text_view(j, at, (size_t)(stop - at));
		int64_t i;
		const bool is_index = parse_python_int(b->in, key, 10, &i);
		v = item_get(b->in, v, is_index ? value_int(i) : value_string(key));
		stop++;
	}
	return v;
}

static void out_braces(struct braces *b, struct out *o, const char *at, const char *end, int depth);

static struct value converted(struct braces *b, struct value v, char conversion) {
	struct out o = { 0 };
	if (conversion == 'r' || conversion == 'a') {
		out_repr(&b->in->job, &o, v);
	} else if (conversion == 's') {
		out_str(&b->in->job, &o, v);
	} else {
		job_fail(&b->in->job, "unknown conversion after '!' in a format string");
	}
	return value_string(out_done(&b->in->job, &o));
}

/* The field between { and }. */
static void out_field(struct braces *b, struct out *o, const char *at, const char *end, int depth) {
	struct job *j = &b->in->job;
	const char *name_end = field_stop(at, end, "!:");
	struct value v = field_value(b, at, name_end);
	if (name_end < end && *name_end == '!') {
		v = converted(b, v, name_end + 1 < end ? name_end[1] : '\0');
		name_end += 2;
		if (name_end < end && *name_end != ':') {
			job_fail(j, "expected ':' after conversion specifier");
		}
	}
	struct out spec = { 0 };
	if (name_end < end) {
		out_braces(b, &spec, name_end + 1, end, depth + 1);
	}
	out_formatted(b->in, o, v, out_done(j, &spec));
}

static void out_braces(struct braces *b, struct out *o, const char *at, const char *end,
	int depth) {
	struct job *j = &b->in->job;
	if (depth > 1) {
		job_fail(j, "Max string recursion exceeded");
	}
	while (at < end) {
		const char *stop = field_stop(at, end, "{}");
		out_bytes(j, o, at, (size_t)(stop - at));
		if (stop == end) {
			return;
		}
		if (depth == 0 && stop + 1 < end && stop[1] == *stop) {
			out_char(j, o, (unsigned char)*stop);
			at = stop + 2;
			continue;
		}
		if (*stop == '}') {
			job_fail(j, "Single '}' encountered in format string");
		}
		int nesting = 1;
		for (at = stop + 1; at < end && nesting > 0; at++) {
			nesting += (*at == '{') - (*at == '}');
		}
		if (nesting > 0) {
			job_fail(j, "expected '}' before end of string");
		}
		out_field(b, o, stop + 1, at - 1, depth);
	}
}

struct value format_braces(struct interp *in, const struct string *format,
	const struct args *args) {
	struct braces b = { .in = in, .args = args };
	struct out o = { 0 };
	out_braces(&b, &o, format->data, format->data + format->bytes, 0);
	return value_string(out_done(&in->job, &o));
}
