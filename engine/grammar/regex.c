/* SPDX-License-Identifier: Apache-2.0
 *
 * The usual syntax of Perl, Python and ECMAScript, as far as it is regular: one pass, from left to
 * right, by recursion over groups. */
#include "regex.h"

#include <string.h>

enum {
	MAX_BYTES = 1 << 16,
	MAX_DEPTH = 100,
	MAX_REPEATS = 4, /* of repeats, without groups */
	MAX_COUNT = 1 << 20,
	MAX_SIZE = 1 << 20, /* places of characters with repeats written out */
};

struct parser {
	struct exprs *x;
	const char *what, *source;
	size_t bytes, at;
	enum chars_form form;
	enum regex_match match;
	int depth;
	struct bb_error *err;
};

/* A part of the regex: what it is, and how large it would be written out. */
struct part {
	uint32_t expr;
	double size;
};

static bool wrong(struct parser *p, const char *why) {
	return base_fail(p->err, BB_ERR_INPUT, "%s: %s at byte %zu", p->what, why, p->at);
}

static bool refuse(struct parser *p, const char *name) {
	return base_fail(p->err, BB_ERR_UNSUPPORTED, "%s: %s at byte %zu can't be had, for it isn't "
		"regular or isn't known here", p->what, name, p->at);
}

static int peek(const struct parser *p) {
	return p->at < p->bytes ? (uint8_t)p->source[p->at] : -1;
}

static bool starts(const struct parser *p, const char *text) {
	const size_t n = strlen(text);
	return p->bytes - p->at >= n && memcmp(p->source + p->at, text, n) == 0;
}

/* ---- characters ---- */

static bool read_hex(const char *s, size_t bytes, size_t *at, int n, uint32_t *c) {
	*c = 0;
	for (int i = 0; i < n; i++, (*at)++) {
		const int b = *at < bytes ? (uint8_t)s[*at] : 0, lower = b | 0x20;
		if (!(b >= '0' && b <= '9') && !(lower >= 'a' && lower <= 'f')) {
			return false;
		}
		*c = *c << 4 | (uint32_t)(b <= '9' ? b - '0' : lower - 'a' + 10);
	}
	return *c <= 0x10FFFF && (*c < 0xD800 || *c > 0xDFFF || n == 4);
}

static bool read_braced(const char *s, size_t bytes, size_t *at, uint32_t *c) {
	size_t end = ++*at;
	while (end < bytes && s[end] != '}') {
		end++;
	}
	const size_t n = end - *at;
	if (end == bytes || n < 1 || n > 6 || !read_hex(s, bytes, at, (int)n, c)) {
		return false;
	}
	++*at;
	return true;
}

/* \uXXXX, and a second one where the first is half a pair. */
static bool read_unit(const char *s, size_t bytes, size_t *at, uint32_t *c) {
	uint32_t low = 0;
	if (!read_hex(s, bytes, at, 4, c)) {
		return false;
	}
	if (*c >= 0xD800 && *c < 0xDC00 && bytes - *at >= 6 && s[*at] == '\\' && s[*at + 1] == 'u') {
		*at += 2;
		if (!read_hex(s, bytes, at, 4, &low) || low < 0xDC00 || low > 0xDFFF) {
			return false;
		}
		*c = 0x10000 + ((*c - 0xD800) << 10) + (low - 0xDC00);
	}
	return *c < 0xD800 || *c > 0xDFFF;
}

bool regex_escape(const char *s, size_t bytes, size_t *at, uint32_t *c) {
	static const char letters[] = "abefnrtv0", values[] = "\a\b\033\f\n\r\t\v";
	if (*at >= bytes) {
		return false;
	}
	const char letter = s[(*at)++];
	const bool has_brace = *at < bytes && s[*at] == '{';
	const char *known = letter != '\0' ? strchr(letters, letter) : NULL;
	if (letter == 'x' || letter == 'u') {
		return has_brace ? read_braced(s, bytes, at, c)
			: letter == 'x' ? read_hex(s, bytes, at, 2, c) : read_unit(s, bytes, at, c);
	}
	if (letter == 'U') {
		return read_hex(s, bytes, at, 8, c);
	}
	if (known != NULL && letter != 'b') {
		*c = (uint8_t)values[known - letters];
		return letter != '0' || *at >= bytes || s[*at] < '0' || s[*at] > '9';
	}
	if (letter == 'c' && *at < bytes && ((s[*at] | 0x20) >= 'a' && (s[*at] | 0x20) <= 'z')) {
		*c = (uint32_t)(s[(*at)++] & 0x1F);
		return true;
	}
	*c = (uint8_t)letter;
	return strchr("^$\\.*+?()[]{}|/-,:;=!<>#&%@'\"`~_ ", letter) != NULL && letter != '\0';
}

/* One character of the source, of UTF-8. */
static bool read_char(struct parser *p, uint32_t *c) {
	const int n = base_char(p->source + p->at, p->bytes - p->at);
	if (n == 0) {
		return wrong(p, "expected UTF-8");
	}
	*c = chars_decode(p->source + p->at, n);
	p->at += (size_t)n;
	return true;
}

static bool read_category(struct parser *p, struct char_set *set) {
	const bool is_not = p->source[p->at] == 'P';
	const size_t begin = p->at + 2;
	size_t end = begin;
	while (end < p->bytes && p->source[end] != '}') {
		end++;
	}
	bool known = false;
	struct char_set those = { 0 };
	bool ok = end < p->bytes && p->source[begin - 1] == '{' && end - begin < 3
		? chars_add_category(&those, p->source + begin, end - begin, &known, p->err) : true;
	if (ok && !known) {
		ok = refuse(p, "a class of Unicode that is no general category, as \\p{Lu} is,");
	}
	p->at = end + 1;
	ok = ok && (!is_not || chars_invert(&those, p->err)) && chars_add_set(set, &those, p->err);
	chars_finish(&those);
	return ok;
}

/* Behind a backslash, in a class or not: adds to the set; *one: it was this character. */
static bool read_escape(struct parser *p, struct char_set *set, bool in_class, uint32_t *one) {
	*one = UINT32_MAX;
	const int letter = peek(p);
	if (letter > 0 && strchr("dDwWsS", letter) != NULL) {
		p->at++;
		return chars_add_perl(set, (char)letter, p->err);
	}
	if (letter == 'p' || letter == 'P') {
		return read_category(p, set);
	}
	if (in_class && letter == 'b') {
		p->at++;
		*one = '\b';
		return chars_add(set, '\b', '\b', p->err);
	}
	if (letter == 'b' || letter == 'B') {
		return refuse(p, "a word boundary");
	}
	if ((letter >= '1' && letter <= '9') || letter == 'k') {
		return refuse(p, "a backreference");
	}
	if (letter == 'A' || letter == 'Z' || letter == 'z' || letter == 'G') {
		return refuse(p, "an anchor other than ^ and $");
	}
	const size_t begin = p->at;
	if (letter < 0x80 && regex_escape(p->source, p->bytes, &p->at, one)) {
		return chars_add(set, *one, *one, p->err);
	}
	p->at = begin;
	return wrong(p, "expected an escape that is known");
}

/* One character of a class, or several by an escape. */
static bool read_member(struct parser *p, struct char_set *set, uint32_t *one) {
	if (peek(p) == '\\') {
		p->at++;
		return read_escape(p, set, true, one);
	}
	return read_char(p, one) && chars_add(set, *one, *one, p->err);
}

static bool read_class(struct parser *p, struct char_set *set) {
	const bool is_not = peek(p) == '^';
	p->at += is_not;
	for (bool is_first = true; is_first || peek(p) != ']'; is_first = false) {
		uint32_t first, last;
		if (peek(p) < 0) {
			return wrong(p, "expected ']'");
		}
		if (starts(p, "[:") || starts(p, "&&") || starts(p, "--")) {
			return refuse(p, "an operation in a class");
		}
		if (!read_member(p, set, &first)) {
			return false;
		}
		if (peek(p) != '-' || first == UINT32_MAX || p->at + 1 >= p->bytes ||
			p->source[p->at + 1] == ']') {
			continue;
		}
		p->at++;
		if (!read_member(p, set, &last)) {
			return false;
		}
		if (last == UINT32_MAX || last < first) {
			return wrong(p, "expected a range of characters that rises");
		}
		if (!chars_add(set, first, last, p->err)) {
			return false;
		}
	}
	p->at++;
	return !is_not || chars_invert(set, p->err);
}

/* ---- structure ---- */

static bool read_either(struct parser *p, struct part *out);

static bool read_group(struct parser *p, struct part *out) {
	if (starts(p, "?=") || starts(p, "?!") || starts(p, "?<=") || starts(p, "?<!")) {
		return refuse(p, "lookaround");
	}
	if (starts(p, "?P=")) {
		return refuse(p, "a backreference");
	}
	if (starts(p, "?:")) {
		p->at += 2;
	} else if (starts(p, "?<") || starts(p, "?P<")) {
		while (peek(p) >= 0 && peek(p) != '>') {
			p->at++;
		}
		p->at++;
	} else if (starts(p, "?")) {
		return refuse(p, "a flag or a group of an unknown kind");
	}
	if (++p->depth > MAX_DEPTH) {
		return base_fail(p->err, BB_ERR_UNSUPPORTED, "%s: expected groups of at most %d in each "
			"other", p->what, MAX_DEPTH);
	}
	if (!read_either(p, out)) {
		return false;
	}
	if (peek(p) != ')') {
		return wrong(p, "expected ')'");
	}
	p->at++;
	p->depth--;
	return true;
}

static bool read_atom(struct parser *p, struct part *out) {
	struct char_set set = { 0 };
	uint32_t one;
	bool ok;
	const int c = peek(p);
	if (c == '(') {
		p->at++;
		return read_group(p, out);
	}
	if (c == '^' || c == '$') {
		return refuse(p, "an anchor that isn't at an end");
	}
	if (c == '*' || c == '+' || c == '?') {
		return wrong(p, "nothing to repeat");
	}
	if (c == '.') {
		p->at++;
		ok = chars_add(&set, '\n', '\n', p->err) && chars_add(&set, '\r', '\r', p->err) &&
			chars_add(&set, 0x2028, 0x2029, p->err) && chars_invert(&set, p->err);
	} else if (c == '[') {
		p->at++;
		ok = read_class(p, &set);
	} else if (c == '\\') {
		p->at++;
		ok = read_escape(p, &set, false, &one);
	} else {
		ok = read_char(p, &one) && chars_add(&set, one, one, p->err);
	}
	*out = (struct part){ ok ? chars_expr(p->x, &set, p->form) : EXPR_NONE, 1 };
	chars_finish(&set);
	return ok;
}

static bool read_number(struct parser *p, int *n) {
	const size_t begin = p->at;
	long value = 0;
	while (peek(p) >= '0' && peek(p) <= '9') {
		value = value < MAX_COUNT ? 10 * value + (peek(p) - '0') : value;
		p->at++;
	}
	*n = (int)(value < MAX_COUNT ? value : MAX_COUNT);
	return p->at > begin;
}

/* {m}, {m,}, {m,n}, {,n}; what isn't one of these is text, and nothing has moved. */
static bool read_bounds(struct parser *p, int *min, int *max) {
	const size_t begin = p->at++;
	const bool has_min = read_number(p, min);
	bool has_max = has_min;
	*min = has_min ? *min : 0;
	*max = *min;
	if (peek(p) == ',') {
		p->at++;
		const bool has_number = read_number(p, max);
		*max = has_number ? *max : -1;
		has_max = has_min || has_number;
	}
	if (has_max && peek(p) == '}') {
		p->at++;
		return true;
	}
	p->at = begin;
	return false;
}

static bool read_repeat(struct parser *p, struct part *out) {
	for (int n = 0;; n++) {
		const int c = peek(p);
		int min = c == '+' ? 1 : 0, max = c == '?' ? 1 : -1;
		if (c == '*' || c == '+' || c == '?') {
			p->at++;
		} else if (c != '{' || !read_bounds(p, &min, &max)) {
			return true;
		}
		if (n == MAX_REPEATS) {
			return base_fail(p->err, BB_ERR_UNSUPPORTED, "%s: expected at most %d repeats on one "
				"another, has more at byte %zu", p->what, MAX_REPEATS, p->at);
		}
		if (peek(p) == '+') {
			return refuse(p, "a possessive repeat");
		}
		p->at += peek(p) == '?';
		if (max >= 0 && max < min) {
			return wrong(p, "expected bounds of a repeat that rise");
		}
		out->size *= max > 0 ? max : min > 0 ? min : 1;
		if (out->size > MAX_SIZE || min >= MAX_COUNT || max >= MAX_COUNT) {
			return base_fail(p->err, BB_ERR_UNSUPPORTED,
				"%s: expected at most %d characters when repeats are written out, has more at "
				"byte %zu", p->what, MAX_SIZE, p->at);
		}
		out->expr = expr_repeat(p->x, out->expr, min, max);
	}
}

/* Sequences are joined from their end, so that each join is short. */
struct parts {
	uint32_t *all; /* [n] */
	size_t n, cap;
};

static bool push(struct parser *p, struct parts *list, uint32_t expr) {
	if (list->n == list->cap) {
		const size_t cap = 2 * list->cap + 16;
		uint32_t *all = base_realloc(list->all, cap, sizeof(*all));
		if (all == NULL) {
			return base_no_memory(p->err, p->what, cap * sizeof(*all));
		}
		list->all = all;
		list->cap = cap;
	}
	list->all[list->n++] = expr;
	return true;
}

static bool read_sequence(struct parser *p, struct part *out) {
	struct parts list = { 0 };
	const bool is_top = p->depth == 0, searches = is_top && p->match == REGEX_SEARCH;
	const uint32_t any = searches
		? expr_repeat(p->x, chars_any(p->x, p->form), 0, -1) : EXPR_EMPTY;
	bool has_begin = false, has_end = false, ok = true;
	while (is_top && peek(p) == '^') {
		has_begin = true;
		p->at++;
	}
	*out = (struct part){ EXPR_EMPTY, 1 };
	while (ok && !has_end && peek(p) >= 0 && peek(p) != '|' && peek(p) != ')') {
		const bool is_last = p->at + 1 == p->bytes || p->source[p->at + 1] == '|';
		if (is_top && peek(p) == '$' && is_last) {
			has_end = true;
			p->at++;
			continue;
		}
		struct part one;
		ok = read_atom(p, &one) && read_repeat(p, &one) && push(p, &list, one.expr);
		out->size += ok ? one.size : 0;
	}
	uint32_t all = searches && !has_end ? any : EXPR_EMPTY;
	while (ok && list.n > 0) {
		all = expr_seq(p->x, list.all[--list.n], all);
	}
	out->expr = searches && !has_begin ? expr_seq(p->x, any, all) : all;
	base_free(list.all);
	return ok;
}

static bool read_either(struct parser *p, struct part *out) {
	if (!read_sequence(p, out)) {
		return false;
	}
	while (peek(p) == '|') {
		struct part more;
		p->at++;
		if (!read_sequence(p, &more)) {
			return false;
		}
		out->expr = expr_or(p->x, out->expr, more.expr);
		out->size += more.size;
	}
	return true;
}

bool regex_parse(struct exprs *x, const char *what, const char *source, size_t bytes,
	enum chars_form form, enum regex_match match, uint32_t *out, struct bb_error *err) {
	struct parser p = { .x = x, .what = what, .source = source, .bytes = bytes, .form = form,
		.match = match, .err = err };
	struct part all;
	if (bytes > MAX_BYTES) {
		return base_fail(err, BB_ERR_UNSUPPORTED, "%s: expected at most %d bytes, has %zu", what,
			MAX_BYTES, bytes);
	}
	if (!read_either(&p, &all)) {
		return false;
	}
	if (p.at < bytes) {
		return wrong(&p, "a ')' without '('");
	}
	*out = all.expr;
	if (x->trouble.code != BB_OK) {
		return base_fail(err, x->trouble.code, "%s", x->trouble.text);
	}
	return true;
}
