/* SPDX-License-Identifier: Apache-2.0
 *
 * Filters that make text or numbers of one value. */
#include "template/interp.h"

#include <math.h>
#include <string.h>

#define FILTER(id) \
	static struct value id(struct interp *in, struct value v, const struct value *a, \
		const struct args *args)

static struct value as_string(struct interp *in, struct value v) {
	return value_string(value_str(&in->job, v));
}

FILTER(filter_string) {
	return v.kind == VALUE_STRING ? v : as_string(in, v);
}

FILTER(filter_upper) {
	return value_string(text_upper(&in->job, value_str(&in->job, v)));
}

FILTER(filter_lower) {
	return value_string(text_lower(&in->job, value_str(&in->job, v)));
}

FILTER(filter_capitalize) {
	return value_string(text_capitalize(&in->job, value_str(&in->job, v)));
}

/* Characters before which a word ends, for title. */
static bool ends_word(uint32_t c) {
	return char_is_space(c) || c == '-' || c == '(' || c == '{' || c == '[' || c == '<';
}

/* Each run of other characters begins with a capital; unlike str.title, digits don't part words. */
FILTER(filter_title) {
	struct job *j = &in->job;
	const struct string *s = value_str(j, v);
	const char *const end = s->data + s->bytes;
	struct out o = { 0 };
	bool in_word = false;
	size_t n;
	for (const char *p = s->data; p < end; p += n) {
		const uint32_t c = text_next(p, end, &n);
		if (ends_word(c) || !in_word) {
			out_upper(j, &o, c);
		} else {
			out_lower(j, &o, s, p);
		}
		in_word = !ends_word(c);
	}
	return value_string(out_done(j, &o));
}

FILTER(filter_trim) {
	const struct string *chars = a[0].kind == VALUE_ABSENT || a[0].kind == VALUE_NONE ? NULL
		: arg_string(in, a[0], "strip arg");
	return value_string(text_strip(&in->job, value_str(&in->job, v), chars, TEXT_BOTH));
}

FILTER(filter_replace) {
	struct job *j = &in->job;
	return value_string(string_replace(in, value_str(j, v), value_str(j, a[0]), value_str(j, a[1]),
		arg_int(in, a[2], -1)));
}

FILTER(filter_escape) {
	if (v.kind == VALUE_STRING && v.string->is_safe) {
		return v;
	}
	return value_string(text_escape(&in->job, value_str(&in->job, v)));
}

FILTER(filter_forceescape) {
	return value_string(text_escape(&in->job, value_str(&in->job, v)));
}

FILTER(filter_safe) {
	const struct string *s = value_str(&in->job, v);
	struct string *safe = text_view(&in->job, s->data, s->bytes);
	safe->is_safe = true;
	return value_string(safe);
}

FILTER(filter_format) {
	struct job *j = &in->job;
	if (args->n > 0 && args->n_named > 0) {
		job_fail(j, "can't handle positional and keyword arguments at the same time");
	}
	if (args->n_named > 0) {
		struct dict *d = dict_create(j);
		for (size_t i = 0; i < args->n_named; i++) {
			dict_set(j, d, value_string(args->names[i]), args->named[i]);
		}
		return format_percent(in, value_str(j, v), (struct value){ .kind = VALUE_DICT, .dict = d });
	}
	struct list *list = list_create(j, args->n);
	for (size_t i = 0; i < args->n; i++) {
		list_push(j, list, args->positional[i]);
	}
	return format_percent(in, value_str(j, v), value_list(VALUE_TUPLE, list));
}

static bool is_word_char(uint32_t c) {
	return char_is_alpha(c) || char_is_numeric(c) || c == '_';
}

FILTER(filter_wordcount) {
	const struct string *s = value_str(&in->job, v);
	const char *const end = s->data + s->bytes;
	int64_t words = 0;
	bool in_word = false;
	size_t n;
	job_work_bytes(&in->job, s->bytes);
	for (const char *p = s->data; p < end; p += n) {
		const bool is_word = is_word_char(text_next(p, end, &n));
		words += is_word && !in_word;
		in_word = is_word;
	}
	return value_int(words);
}

FILTER(filter_center) {
	const struct string *s = value_str(&in->job, v);
	return value_string(string_pad(in, s, arg_int(in, a[0], 80), ' ', TEXT_BOTH));
}

/* s up to its last space, or all of it. */
static const struct string *drop_last_word(struct interp *in, const struct string *s) {
	const struct string *space = text_literal(&in->job, " ");
	const int64_t hit = text_rfind(&in->job, s, space, 0, s->bytes);
	return hit < 0 ? s : text_view(&in->job, s->data, (size_t)hit);
}

FILTER(filter_truncate) {
	struct job *j = &in->job;
	const int64_t length = arg_int(in, a[0], 255), leeway = arg_int(in, a[3], 5);
	const struct string *end = a[2].kind == VALUE_ABSENT ? text_literal(j, "...")
		: arg_string(in, a[2], "the end");
	if (length < (int64_t)end->chars || leeway < 0) {
		job_fail(j, "truncate: expected length >= %zu and leeway >= 0, got %lld and %lld",
			end->chars, (long long)length, (long long)leeway);
	}
	if ((int64_t)value_length(j, v) - leeway <= length) {
		return v;
	}
	const struct string *s = arg_string(in, v, "the text to truncate");
	const struct string *kept = text_slice(j, s, 0, (size_t)length - end->chars);
	if (!arg_bool(a[1], false)) {
		kept = drop_last_word(in, kept);
	}
	return value_string(text_concat(j, kept, end));
}

/* Comments and tags out, runs of white space made one space, then the five common entities. */
static const char *skip_markup(const char *p, const char *end) {
	const size_t left = (size_t)(end - p);
	if (left >= 4 && memcmp(p, "<!--", 4) == 0) {
		const char *close = memmem(p + 4, left - 4, "-->", 3);
		return close == NULL ? NULL : close + 3;
	}
	const char *close = memchr(p, '>', left);
	return close == NULL ? NULL : close + 1;
}

static const struct string *unescape(struct interp *in, const struct string *s) {
	static const char *const entities[][2] = { { "&lt;", "<" }, { "&gt;", ">" }, { "&quot;", "\"" },
		{ "&#34;", "\"" }, { "&#39;", "'" }, { "&nbsp;", "\u00A0" }, { "&amp;", "&" } };
	for (size_t i = 0; i < COUNT(entities); i++) {
		s = string_replace(in, s, text_literal(&in->job, entities[i][0]),
			text_literal(&in->job, entities[i][1]), -1);
	}
	return s;
}

FILTER(filter_striptags) {
	struct job *j = &in->job;
	const struct string *s = value_str(j, v);
	const char *p = s->data, *const end = p + s->bytes;
	struct out o = { 0 };
	bool is_pending = false;
	size_t n;
	while (p < end) {
		const char *after = *p == '<' ? skip_markup(p, end) : NULL;
		if (after != NULL) {
			job_work_bytes(j, (size_t)(after - p));
			p = after;
			continue;
		}
		/* An unclosed < is text; so is every one after it. */
		const uint32_t c = text_next(p, end, &n);
		if (*p == '<') {
			job_work_bytes(j, (size_t)(end - p));
		}
		if (char_is_space(c)) {
			is_pending = true;
		} else {
			out_text(j, &o, is_pending && o.bytes > 0 ? " " : "");
			is_pending = false;
			out_bytes(j, &o, p, n);
		}
		p += n;
	}
	return value_string(unescape(in, out_done(j, &o)));
}

static void out_quoted(struct job *j, struct out *o, const struct string *s, bool is_query) {
	for (size_t i = 0; i < s->bytes; i++) {
		const unsigned char c = (unsigned char)s->data[i];
		const bool is_plain = (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z')
			|| (c >= 'A' && c <= 'Z') || c == '_' || c == '.' || c == '-' || c == '~'
			|| (c == '/' && !is_query);
		if (is_plain || (c == ' ' && is_query)) {
			out_char(j, o, c == ' ' ? '+' : c);
		} else {
			out_format(j, o, "%%%02X", c);
		}
	}
}

FILTER(filter_urlencode) {
	struct job *j = &in->job;
	struct out o = { 0 };
	if (v.kind == VALUE_STRING || !value_is_iterable(v)) {
		out_quoted(j, &o, value_str(j, v), false);
		return value_string(out_done(j, &o));
	}
	if (v.kind == VALUE_DICT) {
		v.kind = VALUE_ITEMS;
	}
	const struct list *pairs = value_iterate(j, v);
	for (size_t i = 0; i < pairs->n; i++) {
		const struct list *pair = value_iterate(j, pairs->items[i]);
		if (pair->n != 2) {
			job_fail(j, "urlencode takes pairs, got %zu values", pair->n);
		}
		out_text(j, &o, i > 0 ? "&" : "");
		out_quoted(j, &o, value_str(j, pair->items[0]), true);
		out_text(j, &o, "=");
		out_quoted(j, &o, value_str(j, pair->items[1]), true);
	}
	return value_string(out_done(j, &o));
}

static const struct string *spaces(struct interp *in, struct value width, int64_t fallback) {
	if (width.kind == VALUE_STRING) {
		return width.string;
	}
	if (width.kind == VALUE_NONE) {
		job_fail(&in->job, "the width is None, expected a number or text");
	}
	return text_repeat(&in->job, text_literal(&in->job, " "), arg_int(in, width, fallback));
}

FILTER(filter_indent) {
	struct job *j = &in->job;
	const struct string *indent = spaces(in, a[0], 4);
	const bool first = arg_bool(a[1], false), blank = arg_bool(a[2], false);
	/* With one line end more, the last line counts even when it is empty. */
	const struct string *s = text_concat(j, arg_string(in, v, "the text to indent"),
		text_literal(j, "\n"));
	const struct list *lines = string_lines(in, s, false);
	struct out o = { 0 };
	for (size_t i = 0; i < lines->n; i++) {
		const struct string *line = lines->items[i].string;
		if (i > 0) {
			out_text(j, &o, "\n");
		}
		if (i == 0 ? first : blank || line->bytes > 0) {
			out_string(j, &o, indent);
		}
		out_string(j, &o, line);
	}
	return value_string(out_done(j, &o));
}

/* ---- numbers ---- */

FILTER(filter_int) {
	int64_t i;
	double f;
	const struct value fallback = a[0].kind == VALUE_ABSENT ? value_int(0) : a[0];
	value_need_defined(&in->job, v);
	if (value_is_number(v)) {
		if (v.kind == VALUE_FLOAT && isnan(v.real)) {
			return fallback;
		}
		return value_int(v.kind == VALUE_FLOAT ? int_of_float(in, v.real) : value_as_int(v));
	}
	if (v.kind != VALUE_STRING) {
		return fallback;
	}
	const bool has_base = a[1].kind == VALUE_ABSENT || value_is_int(a[1]);
	const int64_t base = has_base ? arg_int(in, a[1], 10) : 1;
	if (base >= 0 && base <= 36 && parse_python_int(in, v.string, (int)base, &i)) {
		return value_int(i);
	}
	if (!parse_python_float(in, v.string, &f) || isnan(f) || isinf(f)) {
		return fallback;
	}
	return value_int(int_of_float(in, f));
}

FILTER(filter_float) {
	double f;
	value_need_defined(&in->job, v);
	if (value_is_number(v)) {
		return value_float(value_as_float(v));
	}
	if (v.kind == VALUE_STRING && parse_python_float(in, v.string, &f)) {
		return value_float(f);
	}
	return a[0].kind == VALUE_ABSENT ? value_float(0) : a[0];
}

FILTER(filter_abs) {
	value_need_defined(&in->job, v);
	if (v.kind == VALUE_FLOAT) {
		return value_float(fabs(v.real));
	}
	if (!value_is_int(v)) {
		job_fail(&in->job, "bad operand type for abs(): '%s'", value_type(v));
	}
	return value_as_int(v) < 0 ? operate_negate(in, v, false) : value_int(value_as_int(v));
}

/* To a multiple of 10^digits, ties to the even one. */
static int64_t round_int(struct interp *in, int64_t i, int64_t digits) {
	if (digits > 18) {
		return 0;
	}
	int64_t unit = 1;
	while (digits-- > 0) {
		unit *= 10;
	}
	int64_t low = i - i % unit - (i % unit < 0 ? unit : 0);
	const uint64_t rest = (uint64_t)i - (uint64_t)low;
	const bool is_up = rest > (uint64_t)unit / 2
		|| (rest == (uint64_t)unit / 2 && unit > 1 && low / unit % 2 != 0);
	if (is_up && __builtin_add_overflow(low, unit, &low)) {
		job_fail(&in->job, "the result of round is beyond 64 bits");
	}
	return low;
}

FILTER(filter_round) {
	const int64_t wanted = arg_int(in, a[0], 0);
	const int digits = wanted > 1000 ? 1000 : wanted < -1000 ? -1000 : (int)wanted;
	const struct string *method = a[1].kind == VALUE_ABSENT ? text_literal(&in->job, "common")
		: arg_string(in, a[1], "the method");
	value_need_defined(&in->job, v);
	if (!value_is_number(v)) {
		job_fail(&in->job, "type %s can't be rounded", value_type(v));
	}
	if (text_is(method, "common")) {
		if (value_is_int(v)) {
			const int64_t i = value_as_int(v);
			return value_int(digits < 0 ? round_int(in, i, -digits) : i);
		}
		return value_float(round_decimal(v.real, digits));
	}
	if (!text_is(method, "ceil") && !text_is(method, "floor")) {
		job_fail(&in->job, "method must be common, ceil or floor");
	}
	const double unit = pow(10, digits), scaled = value_as_float(v) * unit;
	int_of_float(in, scaled);
	return value_float((text_is(method, "ceil") ? ceil(scaled) : floor(scaled)) / unit);
}

/* ---- JSON ---- */

static void json_separators(struct interp *in, struct value v, struct json_style *style) {
	struct job *j = &in->job;
	if (v.kind == VALUE_ABSENT || v.kind == VALUE_NONE) {
		style->item_separator = text_literal(j, style->indent == NULL ? ", " : ",");
		style->key_separator = text_literal(j, ": ");
		return;
	}
	const struct list *two = value_iterate(j, v);
	if (two->n != 2) {
		job_fail(j, "tojson: separators are two strings, got %zu values", two->n);
	}
	style->item_separator = arg_string(in, two->items[0], "the item separator");
	style->key_separator = arg_string(in, two->items[1], "the key separator");
}

FILTER(filter_tojson) {
	struct json_style style = { .ensure_ascii = arg_bool(a[0], false),
		.sort_keys = arg_bool(a[3], false) };
	if (a[1].kind != VALUE_ABSENT && a[1].kind != VALUE_NONE) {
		style.indent = spaces(in, a[1], 0);
	}
	json_separators(in, a[2], &style);
	struct out o = { 0 };
	out_json(&in->job, &o, v, &style);
	return value_string(out_done(&in->job, &o));
}

const struct builtin filters_text[] = {
	{ "string", filter_string, 0, { NULL } },
	{ "upper", filter_upper, 0, { NULL } },
	{ "lower", filter_lower, 0, { NULL } },
	{ "capitalize", filter_capitalize, 0, { NULL } },
	{ "title", filter_title, 0, { NULL } },
	{ "trim", filter_trim, 0, { "chars" } },
	{ "replace", filter_replace, 2, { "old", "new", "count" } },
	{ "escape", filter_escape, 0, { NULL } },
	{ "e", filter_escape, 0, { NULL } },
	{ "forceescape", filter_forceescape, 0, { NULL } },
	{ "safe", filter_safe, 0, { NULL } },
	{ "format", filter_format, VARIADIC, { NULL } },
	{ "wordcount", filter_wordcount, 0, { NULL } },
	{ "center", filter_center, 0, { "width" } },
	{ "truncate", filter_truncate, 0, { "length", "killwords", "end", "leeway" } },
	{ "striptags", filter_striptags, 0, { NULL } },
	{ "urlencode", filter_urlencode, 0, { NULL } },
	{ "indent", filter_indent, 0, { "width", "first", "blank" } },
	{ "int", filter_int, 0, { "default", "base" } },
	{ "float", filter_float, 0, { "default" } },
	{ "abs", filter_abs, 0, { NULL } },
	{ "round", filter_round, 0, { "precision", "method" } },
	{ "tojson", filter_tojson, 0, { "ensure_ascii", "indent", "separators", "sort_keys" } },
};
const size_t n_filters_text = COUNT(filters_text);
