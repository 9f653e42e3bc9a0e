/* SPDX-License-Identifier: Apache-2.0
 *
 * The methods of strings. Indices and widths count code points. */
#include "template/interp.h"

#include <string.h>

#define METHOD(id) \
	static struct value id(struct interp *in, struct value self, const struct value *a, \
		const struct args *args)

/* ---- finding ---- */

/* The bytes that start and stop (code points, or None) select; false when there is nothing. */
static bool select_bytes(struct interp *in, const struct string *s, struct value start,
	struct value stop, size_t *from, size_t *to) {
	const int64_t n = (int64_t)s->chars;
	int64_t a = arg_int(in, start, 0), b = arg_int(in, stop, n);
	a = a < 0 ? a + n : a;
	b = b < 0 ? b + n : b;
	a = a < 0 ? 0 : a;
	b = b < 0 ? 0 : b > n ? n : b;
	if (a > b) {
		return false;
	}
	*from = text_offset(s, (size_t)a);
	*to = text_offset(s, (size_t)b);
	return true;
}

static int64_t find(struct interp *in, struct value self, const struct value *a, bool is_last) {
	const struct string *s = self.string, *what = arg_string(in, a[0], "the substring");
	size_t from, to;
	if (!select_bytes(in, s, a[1], a[2], &from, &to)) {
		return -1;
	}
	const int64_t hit = is_last ? text_rfind(&in->job, s, what, from, to)
		: text_find(&in->job, s, what, from, to);
	return hit < 0 ? -1 : (int64_t)text_count(s->data, (size_t)hit);
}

METHOD(str_find) {
	return value_int(find(in, self, a, false));
}

METHOD(str_rfind) {
	return value_int(find(in, self, a, true));
}

METHOD(str_index) {
	const int64_t i = find(in, self, a, false);
	if (i < 0) {
		job_fail(&in->job, "substring not found");
	}
	return value_int(i);
}

METHOD(str_rindex) {
	const int64_t i = find(in, self, a, true);
	if (i < 0) {
		job_fail(&in->job, "substring not found");
	}
	return value_int(i);
}

METHOD(str_count) {
	const struct string *s = self.string, *what = arg_string(in, a[0], "the substring");
	size_t from, to;
	if (!select_bytes(in, s, a[1], a[2], &from, &to)) {
		return value_int(0);
	}
	if (what->bytes == 0) {
		return value_int((int64_t)text_count(s->data + from, to - from) + 1);
	}
	int64_t n = 0;
	const char *const end = s->data + to;
	job_work_bytes(&in->job, to - from);
	for (const char *p = s->data + from; p < end; n++) {
		p = memmem(p, (size_t)(end - p), what->data, what->bytes);
		if (p == NULL) {
			break;
		}
		job_work(&in->job, 1);
		p += what->bytes;
	}
	return value_int(n);
}

static bool has_affix(const struct string *s, size_t from, size_t to, const struct string *affix,
	bool at_end) {
	if (affix->bytes > to - from) {
		return false;
	}
	return memcmp(s->data + (at_end ? to - affix->bytes : from), affix->data, affix->bytes) == 0;
}

static struct value has_one_affix(struct interp *in, struct value self, const struct value *a,
	bool at_end) {
	size_t from, to;
	const bool any = select_bytes(in, self.string, a[1], a[2], &from, &to);
	if (a[0].kind != VALUE_TUPLE) {
		const struct string *affix = arg_string(in, a[0], "the affix");
		return value_bool(any && has_affix(self.string, from, to, affix, at_end));
	}
	for (size_t i = 0; i < a[0].list->n; i++) {
		const struct string *affix = arg_string(in, a[0].list->items[i], "the affix");
		job_work_bytes(&in->job, affix->bytes);
		if (any && has_affix(self.string, from, to, affix, at_end)) {
			return value_bool(true);
		}
	}
	return value_bool(false);
}

METHOD(str_startswith) {
	return has_one_affix(in, self, a, false);
}

METHOD(str_endswith) {
	return has_one_affix(in, self, a, true);
}

/* ---- cutting ---- */

static struct value strip(struct interp *in, struct value self, struct value chars,
	enum text_side side) {
	const struct string *set = chars.kind == VALUE_ABSENT || chars.kind == VALUE_NONE ? NULL
		: arg_string(in, chars, "the characters");
	return value_string(text_strip(&in->job, self.string, set, side));
}

METHOD(str_strip) {
	return strip(in, self, a[0], TEXT_BOTH);
}

METHOD(str_lstrip) {
	return strip(in, self, a[0], TEXT_LEFT);
}

METHOD(str_rstrip) {
	return strip(in, self, a[0], TEXT_RIGHT);
}

METHOD(str_removeprefix) {
	const struct string *s = self.string, *affix = arg_string(in, a[0], "the prefix");
	if (!has_affix(s, 0, s->bytes, affix, false)) {
		return self;
	}
	return value_string(text_view(&in->job, s->data + affix->bytes, s->bytes - affix->bytes));
}

METHOD(str_removesuffix) {
	const struct string *s = self.string, *affix = arg_string(in, a[0], "the suffix");
	if (!has_affix(s, 0, s->bytes, affix, true)) {
		return self;
	}
	return value_string(text_view(&in->job, s->data, s->bytes - affix->bytes));
}

static void push_part(struct interp *in, struct list *parts, const char *from, const char *to) {
	list_push(&in->job, parts, value_string(text_view(&in->job, from, (size_t)(to - from))));
}

static void reverse_items(struct list *list) {
	for (size_t i = 0; i < list->n / 2; i++) {
		const struct value v = list->items[i];
		list->items[i] = list->items[list->n - 1 - i];
		list->items[list->n - 1 - i] = v;
	}
}

static const char *last_char(const char *from, const char *to) {
	do {
		to--;
	} while (to > from && ((unsigned char)*to & 0xC0) == 0x80);
	return to;
}

static bool space_at(const char *p, const char *end, size_t *n) {
	return char_is_space(text_next(p, end, n));
}

/* At runs of white space; max < 0: no limit. */
static struct list *split_spaces(struct interp *in, const struct string *s, int64_t max) {
	struct list *parts = list_create(&in->job, 0);
	const char *p = s->data, *const end = p + s->bytes;
	size_t n;
	for (;;) {
		while (p < end && space_at(p, end, &n)) {
			p += n;
		}
		if (p == end) {
			return parts;
		}
		const char *from = p;
		if (max >= 0 && (int64_t)parts->n >= max) {
			push_part(in, parts, from, end);
			return parts;
		}
		while (p < end && !space_at(p, end, &n)) {
			p += n;
		}
		push_part(in, parts, from, p);
	}
}

static struct list *rsplit_spaces(struct interp *in, const struct string *s, int64_t max) {
	struct list *parts = list_create(&in->job, 0);
	const char *const start = s->data;
	const char *end = start + s->bytes;
	size_t n;
	for (;;) {
		while (end > start && space_at(last_char(start, end), end, &n)) {
			end = last_char(start, end);
		}
		if (end == start) {
			break;
		}
		const char *from = end;
		if (max >= 0 && (int64_t)parts->n >= max) {
			push_part(in, parts, start, end);
			break;
		}
		while (from > start && !space_at(last_char(start, from), from, &n)) {
			from = last_char(start, from);
		}
		push_part(in, parts, from, end);
		end = from;
	}
	reverse_items(parts);
	return parts;
}

static struct list *split_at(struct interp *in, const struct string *s, const struct string *sep,
	int64_t max) {
	struct list *parts = list_create(&in->job, 0);
	const char *p = s->data, *const end = p + s->bytes;
	job_work_bytes(&in->job, s->bytes);
	while (max < 0 || (int64_t)parts->n < max) {
		const char *hit = p == end ? NULL : memmem(p, (size_t)(end - p), sep->data, sep->bytes);
		if (hit == NULL) {
			break;
		}
		push_part(in, parts, p, hit);
		p = hit + sep->bytes;
	}
	push_part(in, parts, p, end);
	return parts;
}

static struct list *rsplit_at(struct interp *in, const struct string *s, const struct string *sep,
	int64_t max) {
	struct list *parts = list_create(&in->job, 0);
	size_t end = s->bytes;
	while (max < 0 || (int64_t)parts->n < max) {
		size_t at = end;
		bool is_hit = false;
		while (!is_hit && at >= sep->bytes) {
			is_hit = memcmp(s->data + at - sep->bytes, sep->data, sep->bytes) == 0;
			at -= !is_hit;
		}
		job_work(&in->job, (end - at) * (1 + sep->bytes / 64) / 8);
		if (!is_hit) {
			break;
		}
		push_part(in, parts, s->data + at, s->data + end);
		end = at - sep->bytes;
	}
	push_part(in, parts, s->data, s->data + end);
	reverse_items(parts);
	return parts;
}

static struct value split(struct interp *in, struct value self, const struct value *a,
	bool from_right) {
	const int64_t max = arg_int(in, a[1], -1);
	if (a[0].kind == VALUE_ABSENT || a[0].kind == VALUE_NONE) {
		return value_list(VALUE_LIST, from_right ? rsplit_spaces(in, self.string, max)
			: split_spaces(in, self.string, max));
	}
	const struct string *sep = arg_string(in, a[0], "the separator");
	if (sep->bytes == 0) {
		job_fail(&in->job, "empty separator");
	}
	return value_list(VALUE_LIST, from_right ? rsplit_at(in, self.string, sep, max)
		: split_at(in, self.string, sep, max));
}

METHOD(str_split) {
	return split(in, self, a, false);
}

METHOD(str_rsplit) {
	return split(in, self, a, true);
}

static bool is_line_end(uint32_t c) {
	return (c >= 0x0A && c <= 0x0D) || (c >= 0x1C && c <= 0x1E) || c == 0x85 || c == 0x2028
		|| c == 0x2029;
}

struct list *string_lines(struct interp *in, const struct string *s, bool keep_ends) {
	struct list *lines = list_create(&in->job, 0);
	const char *const end = s->data + s->bytes;
	const char *from = s->data;
	size_t n;
	job_work_bytes(&in->job, s->bytes);
	for (const char *p = from; p < end;) {
		const uint32_t c = text_next(p, end, &n);
		if (!is_line_end(c)) {
			p += n;
			continue;
		}
		const char *stop = p + n;
		stop += c == '\r' && stop < end && *stop == '\n';
		push_part(in, lines, from, keep_ends ? stop : p);
		from = p = stop;
	}
	if (from < end) {
		push_part(in, lines, from, end);
	}
	return lines;
}

METHOD(str_splitlines) {
	return value_list(VALUE_LIST, string_lines(in, self.string, arg_int(in, a[0], 0) != 0));
}

static struct value partition(struct interp *in, struct value self, struct value sep,
	bool is_last) {
	struct job *j = &in->job;
	const struct string *s = self.string, *what = arg_string(in, sep, "the separator");
	if (what->bytes == 0) {
		job_fail(j, "empty separator");
	}
	const int64_t hit = is_last ? text_rfind(j, s, what, 0, s->bytes)
		: text_find(j, s, what, 0, s->bytes);
	struct list *parts = list_create(j, 3);
	const size_t cut = hit >= 0 ? (size_t)hit : is_last ? 0 : s->bytes;
	const size_t after = hit >= 0 ? cut + what->bytes : cut;
	push_part(in, parts, s->data, s->data + cut);
	list_push(j, parts, hit >= 0 ? sep : value_text(j, ""));
	push_part(in, parts, s->data + after, s->data + s->bytes);
	return value_list(VALUE_TUPLE, parts);
}

METHOD(str_partition) {
	return partition(in, self, a[0], false);
}

METHOD(str_rpartition) {
	return partition(in, self, a[0], true);
}

/* ---- putting together ---- */

METHOD(str_join) {
	struct job *j = &in->job;
	const struct list *items = value_iterate(j, a[0]);
	struct out o = { 0 };
	for (size_t i = 0; i < items->n; i++) {
		if (items->items[i].kind != VALUE_STRING) {
			job_fail(j, "sequence item %zu: expected str instance, %s found", i,
				value_type(items->items[i]));
		}
		if (i > 0) {
			out_string(j, &o, self.string);
		}
		out_string(j, &o, items->items[i].string);
	}
	return value_string(out_done(j, &o));
}

/* Every gap between characters, and both ends, for an empty `old`. */
static struct string *fill_gaps(struct interp *in, const struct string *s, const struct string *new,
	int64_t max) {
	struct out o = { 0 };
	size_t n;
	const char *p = s->data, *const end = p + s->bytes;
	for (int64_t i = 0; i < max || max < 0; i++) {
		out_string(&in->job, &o, new);
		if (p == end) {
			break;
		}
		text_next(p, end, &n);
		out_bytes(&in->job, &o, p, n);
		p += n;
	}
	out_bytes(&in->job, &o, p, (size_t)(end - p));
	return out_done(&in->job, &o);
}

struct string *string_replace(struct interp *in, const struct string *s, const struct string *old,
	const struct string *new, int64_t max) {
	if (old->bytes == 0) {
		return fill_gaps(in, s, new, max);
	}
	struct out o = { 0 };
	const char *p = s->data, *const end = p + s->bytes;
	job_work_bytes(&in->job, s->bytes);
	for (int64_t i = 0; (i < max || max < 0) && p < end; i++) {
		const char *hit = memmem(p, (size_t)(end - p), old->data, old->bytes);
		if (hit == NULL) {
			break;
		}
		out_bytes(&in->job, &o, p, (size_t)(hit - p));
		out_string(&in->job, &o, new);
		p = hit + old->bytes;
	}
	out_bytes(&in->job, &o, p, (size_t)(end - p));
	return out_done(&in->job, &o);
}

METHOD(str_replace) {
	const struct string *old = arg_string(in, a[0], "replace() argument 1");
	const struct string *new = arg_string(in, a[1], "replace() argument 2");
	return value_string(string_replace(in, self.string, old, new, arg_int(in, a[2], -1)));
}

METHOD(str_format) {
	return format_braces(in, self.string, args);
}

struct string *string_pad(struct interp *in, const struct string *s, int64_t width, uint32_t fill,
	enum text_side side) {
	struct job *j = &in->job;
	const int64_t pad = width > (int64_t)s->chars ? width - (int64_t)s->chars : 0;
	/* Of an odd number the larger half goes left when the width is odd, as in CPython. */
	const int64_t left = side == TEXT_LEFT ? pad : side == TEXT_RIGHT ? 0
		: pad / 2 + (pad & width & 1);
	if (pad > (int64_t)JOB_MAX_OUTPUT) {
		job_fail(j, "a text longer than %zu MiB is made", JOB_MAX_OUTPUT >> 20);
	}
	struct out o = { 0 };
	out_fill(j, &o, fill, (size_t)left);
	out_string(j, &o, s);
	out_fill(j, &o, fill, (size_t)(pad - left));
	return out_done(j, &o);
}

static struct value pad(struct interp *in, struct value self, const struct value *a,
	enum text_side side) {
	uint32_t fill = ' ';
	if (a[1].kind != VALUE_ABSENT) {
		const struct string *s = arg_string(in, a[1], "the fill character");
		if (s->chars != 1) {
			job_fail(&in->job, "the fill character must be exactly one character long");
		}
		size_t n;
		fill = text_next(s->data, s->data + s->bytes, &n);
	}
	return value_string(string_pad(in, self.string, arg_int(in, a[0], 0), fill, side));
}

METHOD(str_center) {
	return pad(in, self, a, TEXT_BOTH);
}

METHOD(str_ljust) {
	return pad(in, self, a, TEXT_RIGHT);
}

METHOD(str_rjust) {
	return pad(in, self, a, TEXT_LEFT);
}

METHOD(str_zfill) {
	struct job *j = &in->job;
	const struct string *s = self.string;
	const size_t sign = s->bytes > 0 && (s->data[0] == '-' || s->data[0] == '+');
	const struct string *digits = text_view(j, s->data + sign, s->bytes - sign);
	digits = string_pad(in, digits, arg_int(in, a[0], 0) - (int64_t)sign, '0', TEXT_LEFT);
	return value_string(text_concat(j, text_view(j, s->data, sign), digits));
}

METHOD(str_expandtabs) {
	struct job *j = &in->job;
	const int64_t width = arg_int(in, a[0], 8);
	struct out o = { 0 };
	int64_t column = 0;
	size_t n;
	for (const char *p = self.string->data, *end = p + self.string->bytes; p < end; p += n) {
		const uint32_t c = text_next(p, end, &n);
		if (c == '\t') {
			const int64_t gap = width > 0 ? width - column % width : 0;
			if (gap > (int64_t)JOB_MAX_OUTPUT) {
				job_fail(j, "a text longer than %zu MiB is made", JOB_MAX_OUTPUT >> 20);
			}
			out_fill(j, &o, ' ', (size_t)gap);
			column += gap;
		} else {
			out_bytes(j, &o, p, n);
			column = c == '\n' || c == '\r' ? 0 : column + 1;
		}
	}
	return value_string(out_done(j, &o));
}

const struct builtin string_methods[] = {
	{ "find", str_find, 1, { "/sub", "/start", "/end" } },
	{ "rfind", str_rfind, 1, { "/sub", "/start", "/end" } },
	{ "index", str_index, 1, { "/sub", "/start", "/end" } },
	{ "rindex", str_rindex, 1, { "/sub", "/start", "/end" } },
	{ "count", str_count, 1, { "/sub", "/start", "/end" } },
	{ "startswith", str_startswith, 1, { "/prefix", "/start", "/end" } },
	{ "endswith", str_endswith, 1, { "/suffix", "/start", "/end" } },
	{ "strip", str_strip, 0, { "/chars" } },
	{ "lstrip", str_lstrip, 0, { "/chars" } },
	{ "rstrip", str_rstrip, 0, { "/chars" } },
	{ "removeprefix", str_removeprefix, 1, { "/prefix" } },
	{ "removesuffix", str_removesuffix, 1, { "/suffix" } },
	{ "split", str_split, 0, { "sep", "maxsplit" } },
	{ "rsplit", str_rsplit, 0, { "sep", "maxsplit" } },
	{ "splitlines", str_splitlines, 0, { "keepends" } },
	{ "partition", str_partition, 1, { "/sep" } },
	{ "rpartition", str_rpartition, 1, { "/sep" } },
	{ "join", str_join, 1, { "/iterable" } },
	{ "replace", str_replace, 2, { "/old", "/new", "/count" } },
	{ "format", str_format, VARIADIC, { NULL } },
	{ "center", str_center, 1, { "/width", "/fillchar" } },
	{ "ljust", str_ljust, 1, { "/width", "/fillchar" } },
	{ "rjust", str_rjust, 1, { "/width", "/fillchar" } },
	{ "zfill", str_zfill, 1, { "/width" } },
	{ "expandtabs", str_expandtabs, 0, { "tabsize" } },
	{ "upper", string_upper, 0, { NULL } },
	{ "lower", string_lower, 0, { NULL } },
	{ "casefold", string_casefold, 0, { NULL } },
	{ "title", string_title, 0, { NULL } },
	{ "capitalize", string_capitalize, 0, { NULL } },
	{ "swapcase", string_swapcase, 0, { NULL } },
	{ "isalnum", string_isalnum, 0, { NULL } },
	{ "isalpha", string_isalpha, 0, { NULL } },
	{ "isascii", string_isascii, 0, { NULL } },
	{ "isdecimal", string_isdecimal, 0, { NULL } },
	{ "isdigit", string_isdigit, 0, { NULL } },
	{ "isnumeric", string_isnumeric, 0, { NULL } },
	{ "isprintable", string_isprintable, 0, { NULL } },
	{ "isspace", string_isspace, 0, { NULL } },
	{ "islower", string_islower, 0, { NULL } },
	{ "isupper", string_isupper, 0, { NULL } },
	{ "istitle", string_istitle, 0, { NULL } },
};
const size_t n_string_methods = COUNT(string_methods);
