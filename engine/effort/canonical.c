/* SPDX-License-Identifier: Apache-2.0
 *
 * The canonical form of answers. What is left out is what people and models write in several ways
 * and mean as one; nothing is computed. */
#include "answer.h"

#include <string.h>
#include <utf8proc.h>

/* ---- letters and LaTeX ---- */

/* What becomes of a sequence at the beginning of a text. */
static const struct {
	const char *from, *to;
} rewrites[] = {
	{ "\\left", "" }, { "\\right", "" }, { "\\!", "" }, { "\\,", "" }, { "\\;", "" },
	{ "\\:", "" }, { "\\ ", " " }, { "\\(", "" }, { "\\)", "" }, { "\\[", "" }, { "\\]", "" },
	{ "\\dfrac", "\\frac" }, { "\\tfrac", "\\frac" }, { "\\$", "$" }, { "\\%", "%" },
	{ "{,}", "," }, { "\u2212", "-" }, { "\u00A0", " " }, { "\u2009", " " }, { "\u202F", " " },
};

static size_t n_digits(const char *p, size_t bytes) {
	size_t n = 0;
	while (n < bytes && p[n] >= '0' && p[n] <= '9') {
		n++;
	}
	return n;
}

/* Bytes of "{digits}" at p, or 0. */
static size_t braced_digits(const char *p, size_t bytes) {
	const size_t n = bytes > 0 && p[0] == '{' ? n_digits(p + 1, bytes - 1) : 0;
	return n > 0 && n + 1 < bytes && p[n + 1] == '}' ? n + 2 : 0;
}

/* \frac{1}{2}, \dfrac and \tfrac, as 1/2; the bytes that it takes, 0: it's none. */
static size_t add_fraction(const char *p, size_t bytes, struct bb_text *out, struct bb_error *err,
	bool *ok) {
	const size_t is_sized = bytes > 1 && (p[1] == 'd' || p[1] == 't');
	const size_t n_mark = strlen("\\frac") + is_sized;
	if (bytes <= n_mark || memcmp(p + 1 + is_sized, "frac", 4) != 0) {
		return 0;
	}
	const size_t over = braced_digits(p + n_mark, bytes - n_mark);
	const size_t under = over == 0 ? 0
		: braced_digits(p + n_mark + over, bytes - n_mark - over);
	if (under == 0) {
		return 0;
	}
	*ok = base_append(out, p + n_mark + 1, over - 2, err) && base_append(out, "/", 1, err) &&
		base_append(out, p + n_mark + over + 1, under - 2, err);
	return n_mark + over + under;
}

/* \text{...} is what it holds; the bytes before and behind it are passed over. */
static bool passes_text(const char *p, size_t bytes, size_t *n, int *n_open) {
	static const char *const marks[] = { "\\text{", "\\mathrm{", "\\textbf{", "\\mathbf{" };
	for (size_t i = 0; i < COUNT(marks); i++) {
		if (bytes >= strlen(marks[i]) && memcmp(p, marks[i], strlen(marks[i])) == 0) {
			*n = strlen(marks[i]);
			++*n_open;
			return true;
		}
	}
	if (*n_open > 0 && p[0] == '}') {
		*n = 1;
		--*n_open;
		return true;
	}
	return false;
}

static bool add_blank(struct bb_text *out, struct bb_error *err) {
	return out->bytes == 0 || out->data[out->bytes - 1] == ' ' || base_append(out, " ", 1, err);
}

/* A character, in lower case. */
static size_t add_char(const char *p, size_t bytes, struct bb_text *out, struct bb_error *err,
	bool *ok) {
	utf8proc_int32_t code;
	utf8proc_uint8_t lower[4];
	const utf8proc_ssize_t n = utf8proc_iterate((const utf8proc_uint8_t *)p,
		(utf8proc_ssize_t)bytes, &code);
	if (n <= 0) { /* half a character */
		*ok = base_append(out, p, 1, err);
		return 1;
	}
	if (code == ' ' || (code >= '\t' && code <= '\r')) {
		*ok = add_blank(out, err);
	} else {
		const utf8proc_ssize_t n_lower = utf8proc_encode_char(utf8proc_tolower(code), lower);
		*ok = base_append(out, lower, (size_t)n_lower, err);
	}
	return (size_t)n;
}

static bool rewrite(const char *text, size_t bytes, struct bb_text *out, struct bb_error *err) {
	bool ok = true;
	int n_open = 0;
	for (size_t at = 0, n; ok && at < bytes; at += n) {
		const char *const p = text + at;
		const size_t left = bytes - at;
		if (passes_text(p, left, &n, &n_open)) {
			continue;
		}
		n = p[0] == '\\' ? add_fraction(p, left, out, err, &ok) : 0;
		for (size_t i = 0; i < COUNT(rewrites) && n == 0; i++) {
			const size_t n_from = strlen(rewrites[i].from), n_to = strlen(rewrites[i].to);
			if (left >= n_from && memcmp(p, rewrites[i].from, n_from) == 0) {
				n = n_from;
				ok = strcmp(rewrites[i].to, " ") == 0 ? add_blank(out, err)
					: base_append(out, rewrites[i].to, n_to, err);
			}
		}
		n = n > 0 ? n : add_char(p, left, out, err, &ok);
	}
	return ok;
}

/* ---- ends ---- */

static bool has(const char *set, char c) {
	return c != '\0' && strchr(set, c) != NULL;
}

/* [*first, *end) without blanks, emphasis, a full stop, and pairs of quotes. */
static void trim(const char *text, size_t *first, size_t *end) {
	for (size_t before = SIZE_MAX; *end > *first && before != *end - *first;) {
		before = *end - *first;
		if (has(" *`_$", text[*first]) && (text[*first] != '$' || text[*end - 1] == '$')) {
			++*first;
		}
		if (*end > *first && has(" *`_$.", text[*end - 1])) {
			--*end;
		}
		if (*end - *first >= 2 && has("\"'", text[*first]) && text[*end - 1] == text[*first]) {
			++*first;
			--*end;
		}
	}
	if (*end - *first == 3 && text[*first] == '(' && text[*end - 1] == ')') { /* of a choice */
		++*first;
		--*end;
	}
}

/* ---- numbers ---- */

/* Digits with separators of thousands where they belong, or without any; the bytes they take. */
static size_t whole_part(const char *p, size_t bytes) {
	size_t n = n_digits(p, bytes);
	if (n >= 1 && n <= 3) {
		while (n < bytes && p[n] == ',' && n_digits(p + n + 1, bytes - n - 1) >= 3 &&
			(n + 4 == bytes || n_digits(p + n + 4, 1) == 0)) {
			n += 4;
		}
	}
	return n;
}

/* The part behind a whole number, `end` of a point and n digits, and a zero before it where that is
 * nothing; there is room for one byte more than the number had. The bytes of both. */
static size_t write_end(char *to, const char *end, bool needs_zero, size_t n) {
	if (n > 0) {
		memmove(to + needs_zero, end, n + 1);
	}
	if (needs_zero) {
		*to = '0';
	}
	return needs_zero + (n > 0 ? n + 1 : 0);
}

/* Writes the number that text[*bytes] is over it, in its plain form; else it stays. There is room
 * for a byte more. */
static void write_number(char *text, size_t *bytes) {
	static const char *const money[] = { "$", "\u20AC", "\u00A3" };
	size_t at = 0, end = *bytes;
	const bool is_negative = end > 0 && text[0] == '-';
	at += is_negative || (end > 0 && text[0] == '+');
	for (size_t i = 0; i < COUNT(money); i++) {
		const size_t n = strlen(money[i]);
		at += end - at > n && memcmp(text + at, money[i], n) == 0 ? n : 0;
	}
	end -= end > at && text[end - 1] == '%';
	end -= end > at && text[end - 1] == ' '; /* "50 %" */
	const size_t n_whole = whole_part(text + at, end - at), point = at + n_whole;
	size_t n_behind = 0;
	if (point < end && text[point] == '.') {
		n_behind = n_digits(text + point + 1, end - point - 1);
	}
	if (n_whole + n_behind == 0 || point + (n_behind > 0 ? n_behind + 1 : 0) != end) {
		return;
	}
	while (n_behind > 0 && text[point + n_behind] == '0') {
		n_behind--;
	}
	size_t from = at, to;
	while (from < point && (text[from] == '0' || text[from] == ',')) {
		from++;
	}
	to = is_negative && (from < point || n_behind > 0); /* no sign of a zero */
	for (; from < point; from++) {
		text[to] = text[from];
		to += text[from] != ',';
	}
	*bytes = to + write_end(text + to, text + point, to == 0 || text[to - 1] == '-', n_behind);
}

bool answer_canonical(const char *text, size_t bytes, struct bb_text *out, struct bb_error *err) {
	const size_t before = out->bytes;
	const size_t most = bytes < ANSWER_LOOKED_AT ? bytes : ANSWER_LOOKED_AT;
	if (!rewrite(text, most, out, err) || !base_reserve(out, 2, err)) {
		return false;
	}
	if (out->bytes == before) {
		return true;
	}
	size_t first = before, end = out->bytes;
	trim(out->data, &first, &end);
	memmove(out->data + before, out->data + first, end - first);
	size_t n = end - first;
	write_number(out->data + before, &n);
	out->bytes = before + n;
	out->data[out->bytes] = '\0';
	return true;
}
