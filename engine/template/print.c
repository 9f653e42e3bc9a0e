/* SPDX-License-Identifier: Apache-2.0
 *
 * Values as text: Python's str() and repr(), and JSON. */
#include "template/interp.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- floats ---- */

void out_float(struct job *j, struct out *o, double f) {
	if (isnan(f) || isinf(f)) {
		out_text(j, o, isnan(f) ? "nan" : f > 0 ? "inf" : "-inf");
		return;
	}
	char buf[40];
	int digits = 0;
	do {
		snprintf(buf, sizeof(buf), "%.*e", digits, f);
	} while (strtod(buf, NULL) != f && ++digits <= 17);
	const int exponent = atoi(strchr(buf, 'e') + 1);
	if (exponent >= -4 && exponent < 16) {
		const int decimals = digits - exponent > 1 ? digits - exponent : 1;
		snprintf(buf, sizeof(buf), "%.*f", decimals, f);
	} else {
		snprintf(buf, sizeof(buf), "%.*e", digits, f);
	}
	out_text(j, o, buf);
}

/* ---- str and repr ---- */

static void out_escaped_char(struct job *j, struct out *o, uint32_t c) {
	if (c < 0x100) {
		out_format(j, o, "\\x%02x", c);
	} else if (c < 0x10000) {
		out_format(j, o, "\\u%04x", c);
	} else {
		out_format(j, o, "\\U%08x", c);
	}
}

static void out_quoted(struct job *j, struct out *o, const struct string *s) {
	const bool has_single = s->bytes > 0 && memchr(s->data, '\'', s->bytes) != NULL;
	const bool has_double = s->bytes > 0 && memchr(s->data, '"', s->bytes) != NULL;
	const uint32_t quote = has_single && !has_double ? '"' : '\'';
	out_char(j, o, quote);
	size_t n;
	for (const char *p = s->data, *end = p + s->bytes; p < end; p += n) {
		const uint32_t c = text_next(p, end, &n);
		if (c == quote || c == '\\') {
			out_char(j, o, '\\');
			out_char(j, o, c);
		} else if (c == '\n' || c == '\r' || c == '\t') {
			out_text(j, o, c == '\n' ? "\\n" : c == '\r' ? "\\r" : "\\t");
		} else if (char_is_printable(c)) {
			out_bytes(j, o, p, n);
		} else {
			out_escaped_char(j, o, c);
		}
	}
	out_char(j, o, quote);
}

static void out_items(struct job *j, struct out *o, const struct list *list, const char *open,
	const char *close) {
	out_text(j, o, open);
	for (size_t i = 0; i < list->n; i++) {
		out_text(j, o, i > 0 ? ", " : "");
		out_repr(j, o, list->items[i]);
	}
	out_text(j, o, close);
}

static void out_dict(struct job *j, struct out *o, const struct dict *d) {
	out_text(j, o, "{");
	for (size_t i = 0; i < d->n; i++) {
		out_text(j, o, i > 0 ? ", " : "");
		out_repr(j, o, d->entries[i].key);
		out_text(j, o, ": ");
		out_repr(j, o, d->entries[i].value);
	}
	out_text(j, o, "}");
}

static void out_range(struct job *j, struct out *o, const struct range *r) {
	out_format(j, o, "range(%lld, %lld", (long long)r->start, (long long)r->stop);
	if (r->step != 1) {
		out_format(j, o, ", %lld", (long long)r->step);
	}
	out_text(j, o, ")");
}

static void out_object(struct job *j, struct out *o, struct value v) {
	switch (v.kind) {
	case VALUE_NAMESPACE:
		out_text(j, o, "<Namespace ");
		out_dict(j, o, v.dict);
		out_text(j, o, ">");
		break;
	case VALUE_MACRO:
		out_text(j, o, "<Macro ");
		out_quoted(j, o, v.macro->name);
		out_text(j, o, ">");
		break;
	case VALUE_LOOP:
		out_format(j, o, "<LoopContext %zu/%zu>", v.loop->i_item + 1, v.loop->items->n);
		break;
	case VALUE_FUNCTION:
		out_format(j, o, "<function %s>", v.function->builtin->name);
		break;
	default:
		out_format(j, o, "<%s object>", value_type(v));
	}
}

void out_repr(struct job *j, struct out *o, struct value v) {
	job_enter(j);
	job_work(j, 1);
	switch (v.kind) {
	case VALUE_ABSENT: break;
	case VALUE_UNDEFINED: out_text(j, o, "Undefined"); break;
	case VALUE_NONE: out_text(j, o, "None"); break;
	case VALUE_BOOL: out_text(j, o, v.boolean ? "True" : "False"); break;
	case VALUE_INT: out_format(j, o, "%lld", (long long)v.integer); break;
	case VALUE_FLOAT: out_float(j, o, v.real); break;
	case VALUE_STRING:
		out_text(j, o, v.string->is_safe ? "Markup(" : "");
		out_quoted(j, o, v.string);
		out_text(j, o, v.string->is_safe ? ")" : "");
		break;
	case VALUE_LIST: out_items(j, o, v.list, "[", "]"); break;
	case VALUE_TUPLE: out_items(j, o, v.list, "(", v.list->n == 1 ? ",)" : ")"); break;
	case VALUE_DICT: out_dict(j, o, v.dict); break;
	case VALUE_KEYS: out_items(j, o, value_iterate(j, v), "dict_keys([", "])"); break;
	case VALUE_VALUES: out_items(j, o, value_iterate(j, v), "dict_values([", "])"); break;
	case VALUE_ITEMS: out_items(j, o, value_iterate(j, v), "dict_items([", "])"); break;
	case VALUE_RANGE: out_range(j, o, v.range); break;
	default: out_object(j, o, v); break;
	}
	job_leave(j);
}

void out_str(struct job *j, struct out *o, struct value v) {
	if (v.kind == VALUE_STRING) {
		out_string(j, o, v.string);
	} else if (v.kind != VALUE_UNDEFINED) {
		out_repr(j, o, v);
	}
}

struct string *value_str(struct job *j, struct value v) {
	if (v.kind == VALUE_STRING && !v.string->is_safe) {
		return (struct string *)(uintptr_t)v.string;
	}
	struct out o = { 0 };
	out_str(j, &o, v);
	return out_done(j, &o);
}

/* ---- JSON ---- */

static void out_json_string(struct job *j, struct out *o, const struct string *s,
	bool ensure_ascii) {
	out_char(j, o, '"');
	size_t n;
	for (const char *p = s->data, *end = p + s->bytes; p < end; p += n) {
		const uint32_t c = text_next(p, end, &n);
		switch (c) {
		case '"': out_text(j, o, "\\\""); break;
		case '\\': out_text(j, o, "\\\\"); break;
		case '\n': out_text(j, o, "\\n"); break;
		case '\r': out_text(j, o, "\\r"); break;
		case '\t': out_text(j, o, "\\t"); break;
		case '\b': out_text(j, o, "\\b"); break;
		case '\f': out_text(j, o, "\\f"); break;
		default:
			if (c >= 0x10000 && ensure_ascii) {
				out_format(j, o, "\\u%04x\\u%04x", 0xD7C0 + (c >> 10), 0xDC00 + (c & 0x3FF));
			} else if (c < 0x20 || (ensure_ascii && c > 0x7E)) {
				out_format(j, o, "\\u%04x", c);
			} else {
				out_bytes(j, o, p, n);
			}
		}
	}
	out_char(j, o, '"');
}

static void out_json_float(struct job *j, struct out *o, double f) {
	if (isnan(f) || isinf(f)) {
		out_text(j, o, isnan(f) ? "NaN" : f > 0 ? "Infinity" : "-Infinity");
	} else {
		out_float(j, o, f);
	}
}

static void out_json_key(struct job *j, struct out *o, struct value key,
	const struct json_style *style) {
	switch (key.kind) {
	case VALUE_STRING:
		out_json_string(j, o, key.string, style->ensure_ascii);
		break;
	case VALUE_NONE: case VALUE_BOOL: case VALUE_INT: case VALUE_FLOAT:
		out_char(j, o, '"');
		out_json(j, o, key, style);
		out_char(j, o, '"');
		break;
	default:
		job_fail(j, "keys must be str, int, float, bool or None, not %s", value_type(key));
	}
}

/* `depth` newlines and indents; nothing in one-line style. */
static void out_json_break(struct job *j, struct out *o, const struct json_style *style,
	int depth) {
	if (style->indent != NULL) {
		out_char(j, o, '\n');
		for (int i = 0; i < depth; i++) {
			out_string(j, o, style->indent);
		}
	}
}

static void out_json_at(struct job *j, struct out *o, struct value v,
	const struct json_style *style, int depth);

static void out_json_list(struct job *j, struct out *o, const struct list *list,
	const struct json_style *style, int depth) {
	out_char(j, o, '[');
	for (size_t i = 0; i < list->n; i++) {
		if (i > 0) {
			out_string(j, o, style->item_separator);
		}
		out_json_break(j, o, style, depth + 1);
		out_json_at(j, o, list->items[i], style, depth + 1);
	}
	if (list->n > 0) {
		out_json_break(j, o, style, depth);
	}
	out_char(j, o, ']');
}

static const struct entry *sorted_entries(struct job *j, const struct dict *d) {
	struct value *order = job_alloc(j, d->n, sizeof(*order));
	struct value *keys = job_alloc(j, d->n, sizeof(*keys));
	for (size_t i = 0; i < d->n; i++) {
		order[i] = value_int((int64_t)i);
		keys[i] = d->entries[i].key;
	}
	value_sort(j, order, keys, d->n, false);
	struct entry *sorted = job_alloc(j, d->n, sizeof(*sorted));
	for (size_t i = 0; i < d->n; i++) {
		sorted[i] = d->entries[order[i].integer];
	}
	return sorted;
}

static void out_json_dict(struct job *j, struct out *o, const struct dict *d,
	const struct json_style *style, int depth) {
	const struct entry *entries = style->sort_keys ? sorted_entries(j, d) : d->entries;
	out_char(j, o, '{');
	for (size_t i = 0; i < d->n; i++) {
		if (i > 0) {
			out_string(j, o, style->item_separator);
		}
		out_json_break(j, o, style, depth + 1);
		out_json_key(j, o, entries[i].key, style);
		out_string(j, o, style->key_separator);
		out_json_at(j, o, entries[i].value, style, depth + 1);
	}
	if (d->n > 0) {
		out_json_break(j, o, style, depth);
	}
	out_char(j, o, '}');
}

static void out_json_at(struct job *j, struct out *o, struct value v,
	const struct json_style *style, int depth) {
	job_enter(j);
	job_work(j, 1);
	switch (v.kind) {
	case VALUE_NONE: out_text(j, o, "null"); break;
	case VALUE_BOOL: out_text(j, o, v.boolean ? "true" : "false"); break;
	case VALUE_INT: out_format(j, o, "%lld", (long long)v.integer); break;
	case VALUE_FLOAT: out_json_float(j, o, v.real); break;
	case VALUE_STRING: out_json_string(j, o, v.string, style->ensure_ascii); break;
	case VALUE_LIST: case VALUE_TUPLE: out_json_list(j, o, v.list, style, depth); break;
	case VALUE_DICT: out_json_dict(j, o, v.dict, style, depth); break;
	default: job_fail(j, "Object of type %s is not JSON serializable", value_type(v));
	}
	job_leave(j);
}

void out_json(struct job *j, struct out *o, struct value v, const struct json_style *style) {
	out_json_at(j, o, v, style, 0);
}
