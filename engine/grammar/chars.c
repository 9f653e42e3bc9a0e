/* SPDX-License-Identifier: Apache-2.0
 *
 * Sets of code points, and what bytes they are. Runs are cut where the number of digits or bytes
 * changes and at whole blocks of 64 (UTF-8) or 16 (hex digits), so that each piece is a sequence of
 * ranges. */
#include "chars.h"

#include <string.h>
#include <utf8proc.h>

enum { LAST_CHAR = 0x10FFFF, FIRST_SURROGATE = 0xD800, LAST_SURROGATE = 0xDFFF };

/* ---- sets ---- */

static bool push(struct char_set *s, uint32_t first, uint32_t last, struct bb_error *err) {
	if (s->n == s->cap) {
		const size_t cap = 2 * s->cap + 8;
		struct char_run *runs = base_realloc(s->runs, cap, sizeof(*runs));
		if (runs == NULL) {
			return base_no_memory(err, "grammar", cap * sizeof(*runs));
		}
		s->runs = runs;
		s->cap = cap;
	}
	s->runs[s->n++] = (struct char_run){ first, last };
	return true;
}

bool chars_add(struct char_set *s, uint32_t first, uint32_t last, struct bb_error *err) {
	if (s->n == 0 || first > s->runs[s->n - 1].last + 1) {
		return push(s, first, last, err);
	}
	size_t at = s->n; /* behind all runs that end before this one */
	while (at > 0 && s->runs[at - 1].last + 1 >= first) {
		at--;
	}
	size_t end = at;
	for (; end < s->n && s->runs[end].first <= last + 1; end++) {
		first = s->runs[end].first < first ? s->runs[end].first : first;
		last = s->runs[end].last > last ? s->runs[end].last : last;
	}
	if (end == at && !push(s, 0, 0, err)) {
		return false;
	}
	const size_t n_behind = (end == at ? s->n - 1 : s->n) - end;
	memmove(s->runs + at + 1, s->runs + end, n_behind * sizeof(*s->runs));
	s->runs[at] = (struct char_run){ first, last };
	s->n = at + 1 + n_behind;
	return true;
}

bool chars_add_set(struct char_set *s, const struct char_set *more, struct bb_error *err) {
	for (size_t i = 0; i < more->n; i++) {
		if (!chars_add(s, more->runs[i].first, more->runs[i].last, err)) {
			return false;
		}
	}
	return true;
}

bool chars_invert(struct char_set *s, struct bb_error *err) {
	struct char_set out = { 0 };
	uint32_t next = 0;
	bool ok = chars_add(s, FIRST_SURROGATE, LAST_SURROGATE, err);
	for (size_t i = 0; ok && i < s->n; i++) {
		ok = s->runs[i].first <= next || push(&out, next, s->runs[i].first - 1, err);
		next = s->runs[i].last + 1;
	}
	ok = ok && (next > LAST_CHAR || push(&out, next, LAST_CHAR, err));
	chars_finish(s);
	*s = out;
	return ok;
}

void chars_finish(struct char_set *s) {
	base_free(s->runs);
	memset(s, 0, sizeof(*s));
}

/* Which categories; ASCII only below 128. */
static bool add_categories(struct char_set *s, uint32_t mask, uint32_t from, struct bb_error *err) {
	uint32_t first = 0;
	bool inside = false;
	for (uint32_t c = from; c <= LAST_CHAR + 1; c++) {
		const bool is = c <= LAST_CHAR && (c < FIRST_SURROGATE || c > LAST_SURROGATE) &&
			(mask >> utf8proc_category((utf8proc_int32_t)c) & 1) != 0;
		if (is && !inside) {
			first = c;
		}
		if (!is && inside && !chars_add(s, first, c - 1, err)) {
			return false;
		}
		inside = is;
	}
	return true;
}

static bool add_ascii(struct char_set *s, char lower, struct bb_error *err) {
	switch (lower) {
	case 'd':
		return chars_add(s, '0', '9', err);
	case 'w':
		return chars_add(s, '0', '9', err) && chars_add(s, 'A', 'Z', err) &&
			chars_add(s, '_', '_', err) && chars_add(s, 'a', 'z', err);
	default:
		return chars_add(s, '\t', '\r', err) && chars_add(s, ' ', ' ', err);
	}
}

#define BIT(category) (1u << UTF8PROC_CATEGORY_##category)

bool chars_add_perl(struct char_set *s, char letter, struct bb_error *err) {
	const char lower = (char)(letter | 0x20);
	if (letter == lower) {
		return add_ascii(s, lower, err);
	}
	const uint32_t letters = BIT(LU) | BIT(LL) | BIT(LT) | BIT(LM) | BIT(LO) | BIT(MN) | BIT(MC) |
		BIT(ME) | BIT(PC);
	const uint32_t digits = BIT(ND) | BIT(NL) | BIT(NO);
	const uint32_t mask = lower == 'd' ? digits : lower == 'w' ? letters | digits
		: BIT(ZS) | BIT(ZL) | BIT(ZP);
	struct char_set those = { 0 };
	bool ok = add_ascii(&those, lower, err) && add_categories(&those, mask, 128, err);
	if (ok && lower == 's') { /* what Python and ECMAScript call space besides */
		ok = chars_add(&those, 0x1C, 0x1F, err) && chars_add(&those, 0x85, 0x85, err) &&
			chars_add(&those, 0xFEFF, 0xFEFF, err);
	}
	ok = ok && chars_invert(&those, err) && chars_add_set(s, &those, err);
	chars_finish(&those);
	return ok;
}

bool chars_add_category(struct char_set *s, const char *name, size_t bytes, bool *known,
	struct bb_error *err) {
	static const char *const names[] = { "Cn", "Lu", "Ll", "Lt", "Lm", "Lo", "Mn", "Mc", "Me", "Nd",
		"Nl", "No", "Pc", "Pd", "Ps", "Pe", "Pi", "Pf", "Po", "Sm", "Sc", "Sk", "So", "Zs", "Zl",
		"Zp", "Cc", "Cf", "Cs", "Co" };
	uint32_t mask = 0;
	for (size_t i = 0; i < COUNT(names); i++) {
		if ((bytes == 1 || bytes == 2) && strncmp(names[i], name, bytes) == 0) {
			mask |= 1u << i;
		}
	}
	*known = mask != 0;
	return add_categories(s, mask, 0, err);
}

/* ---- UTF-8 ---- */

static int utf8_length(uint32_t c) {
	return c < 0x80 ? 1 : c < 0x800 ? 2 : c < 0x10000 ? 3 : 4;
}

static int utf8_byte(uint32_t c, int n, int i) {
	static const uint8_t lead[] = { 0, 0, 0xC0, 0xE0, 0xF0 };
	const int shift = 6 * (n - 1 - i);
	return n == 1 ? (int)c : i == 0 ? lead[n] | (int)(c >> shift)
		: 0x80 | (int)(c >> shift & 0x3F);
}

static uint32_t seq_of(struct exprs *x, const uint32_t *parts, int n) {
	uint32_t all = EXPR_EMPTY;
	while (n-- > 0) {
		all = expr_seq(x, parts[n], all);
	}
	return all;
}

/* first..last, both of n bytes. */
static uint32_t utf8_run(struct exprs *x, uint32_t first, uint32_t last, int n) {
	for (int i = 1; i < n; i++) {
		const uint32_t low = (1u << 6 * i) - 1; /* of the last i bytes */
		if ((first & ~low) == (last & ~low)) {
			continue;
		}
		if ((first & low) != 0) {
			return expr_or(x, utf8_run(x, first, first | low, n),
				utf8_run(x, (first | low) + 1, last, n));
		}
		if ((last & low) != low) {
			return expr_or(x, utf8_run(x, first, (last & ~low) - 1, n),
				utf8_run(x, last & ~low, last, n));
		}
	}
	uint32_t parts[4];
	for (int i = 0; i < n; i++) {
		parts[i] = expr_range(x, utf8_byte(first, n, i), utf8_byte(last, n, i));
	}
	return seq_of(x, parts, n);
}

static uint32_t utf8_of(struct exprs *x, uint32_t first, uint32_t last) {
	static const uint32_t ends[] = { 0x7F, 0x7FF, 0xFFFF, LAST_CHAR };
	uint32_t all = EXPR_NONE;
	for (size_t i = 0; i < COUNT(ends) && first <= last; i++) {
		if (first <= ends[i]) {
			const uint32_t end = last < ends[i] ? last : ends[i];
			all = expr_or(x, all, utf8_run(x, first, end, utf8_length(first)));
			first = end + 1;
		}
	}
	return all;
}

/* ---- JSON ---- */

static uint32_t hex_digit(struct exprs *x, uint32_t first, uint32_t last) {
	struct byte_set set = { { 0 } };
	for (uint32_t d = first; d <= last; d++) {
		static const char lower[] = "0123456789abcdef", upper[] = "0123456789ABCDEF";
		set.bits[lower[d] >> 6] |= (uint64_t)1 << (lower[d] & 63);
		set.bits[upper[d] >> 6] |= (uint64_t)1 << (upper[d] & 63);
	}
	return expr_set(x, &set);
}

/* \uXXXX for numbers first..last of 16 bits. */
static uint32_t hex_run(struct exprs *x, uint32_t first, uint32_t last) {
	for (int i = 1; i < 4; i++) {
		const uint32_t low = (1u << 4 * i) - 1;
		if ((first & ~low) == (last & ~low)) {
			continue;
		}
		if ((first & low) != 0) {
			return expr_or(x, hex_run(x, first, first | low), hex_run(x, (first | low) + 1, last));
		}
		if ((last & low) != low) {
			return expr_or(x, hex_run(x, first, (last & ~low) - 1), hex_run(x, last & ~low, last));
		}
	}
	uint32_t parts[5] = { expr_text(x, "\\u", 2) };
	for (int i = 0; i < 4; i++) {
		const int shift = 4 * (3 - i);
		parts[i + 1] = hex_digit(x, first >> shift & 15, last >> shift & 15);
	}
	return seq_of(x, parts, 5);
}

/* Two \uXXXX for characters first..last above U+FFFF: high surrogates whose low ones are all of
 * them go in one piece. */
static uint32_t pair_run(struct exprs *x, uint32_t first, uint32_t last) {
	const uint32_t a = first - 0x10000, b = last - 0x10000, low = 0x3FF;
	if ((a & ~low) != (b & ~low)) {
		if ((a & low) != 0) {
			return expr_or(x, pair_run(x, first, (a | low) + 0x10000),
				pair_run(x, (a | low) + 0x10001, last));
		}
		if ((b & low) != low) {
			return expr_or(x, pair_run(x, first, (b & ~low) + 0xFFFF),
				pair_run(x, (b & ~low) + 0x10000, last));
		}
	}
	return expr_seq(x, hex_run(x, 0xD800 + (a >> 10), 0xD800 + (b >> 10)),
		hex_run(x, 0xDC00 + (a & low), 0xDC00 + (b & low)));
}

static char short_escape(uint32_t c) {
	switch (c) {
	case '"': case '\\': return (char)c;
	case '\b': return 'b';
	case '\f': return 'f';
	case '\n': return 'n';
	case '\r': return 'r';
	case '\t': return 't';
	default: return '\0';
	}
}

static uint32_t escaped(struct exprs *x, char letter) {
	const char text[2] = { '\\', letter };
	return expr_text(x, text, 2);
}

static bool must_escape(uint32_t c) {
	return c < 0x20 || c == '"' || c == '\\';
}

static uint32_t json_of(struct exprs *x, uint32_t first, uint32_t last, bool is_free) {
	uint32_t all = EXPR_NONE, raw = first;
	for (uint32_t c = first; c <= last && c <= '\\'; c++) {
		if (!must_escape(c)) {
			continue;
		}
		all = c > raw ? expr_or(x, all, utf8_of(x, raw, c - 1)) : all;
		raw = c + 1;
		const char letter = short_escape(c);
		all = letter != '\0' ? expr_or(x, all, escaped(x, letter)) : all;
		all = letter == '\0' && !is_free ? expr_or(x, all, hex_run(x, c, c)) : all;
	}
	all = raw <= last ? expr_or(x, all, utf8_of(x, raw, last)) : all;
	if (!is_free) {
		return all;
	}
	if (first <= '/' && last >= '/') {
		all = expr_or(x, all, escaped(x, '/'));
	}
	const uint32_t end = last < 0xFFFF ? last : 0xFFFF, begin = first > 0x10000 ? first : 0x10000;
	all = first <= end ? expr_or(x, all, hex_run(x, first, end)) : all;
	return begin <= last ? expr_or(x, all, pair_run(x, begin, last)) : all;
}

/* ---- both ---- */

static uint32_t run_expr(struct exprs *x, uint32_t first, uint32_t last, enum chars_form form) {
	if (first < FIRST_SURROGATE && last > LAST_SURROGATE) {
		return expr_or(x, run_expr(x, first, FIRST_SURROGATE - 1, form),
			run_expr(x, LAST_SURROGATE + 1, last, form));
	}
	return form == CHARS_UTF8 ? utf8_of(x, first, last)
		: json_of(x, first, last, form == CHARS_JSON_FREE);
}

uint32_t chars_expr(struct exprs *x, const struct char_set *s, enum chars_form form) {
	uint32_t all = EXPR_NONE;
	for (size_t i = 0; i < s->n; i++) {
		uint32_t first = s->runs[i].first, last = s->runs[i].last;
		last = last > LAST_CHAR ? LAST_CHAR : last;
		if (first >= FIRST_SURROGATE && first <= LAST_SURROGATE) {
			first = LAST_SURROGATE + 1;
		}
		if (last >= FIRST_SURROGATE && last <= LAST_SURROGATE) {
			last = FIRST_SURROGATE - 1;
		}
		all = first <= last ? expr_or(x, all, run_expr(x, first, last, form)) : all;
	}
	return all;
}

uint32_t chars_one(struct exprs *x, uint32_t c, enum chars_form form) {
	return run_expr(x, c, c, form);
}

uint32_t chars_any(struct exprs *x, enum chars_form form) {
	return run_expr(x, 0, LAST_CHAR, form);
}

uint32_t chars_decode(const char *p, int n) {
	static const uint8_t mask[] = { 0, 0x7F, 0x1F, 0x0F, 0x07 };
	uint32_t c = (uint8_t)p[0] & mask[n];
	for (int i = 1; i < n; i++) {
		c = c << 6 | ((uint8_t)p[i] & 0x3F);
	}
	return c;
}

uint32_t chars_text(struct exprs *x, const char *text, size_t bytes, enum chars_form form) {
	struct bb_text out = { 0 };
	for (size_t i = 0; form != CHARS_UTF8 && i < bytes; i++) {
		char escape[8] = { text[i] };
		const uint32_t c = (uint8_t)text[i];
		const char letter = short_escape(c);
		size_t n = 1;
		if (letter != '\0') {
			n = (size_t)snprintf(escape, sizeof(escape), "\\%c", letter);
		} else if (c < 0x20) {
			n = (size_t)snprintf(escape, sizeof(escape), "\\u%04x", c);
		}
		base_append(&out, escape, n, &x->trouble);
	}
	const uint32_t all = form == CHARS_UTF8 ? expr_text(x, text, bytes)
		: expr_text(x, out.data, out.bytes);
	bb_text_finish(&out);
	return all;
}
