/* SPDX-License-Identifier: Apache-2.0
 *
 * Classes of characters and case, with the rules of Python's str over utf8proc's tables. */
#include "template/text.h"

#include <utf8proc.h>

static utf8proc_category_t category(uint32_t c) {
	return utf8proc_category((utf8proc_int32_t)c);
}

bool char_is_space(uint32_t c) {
	return (c >= 0x09 && c <= 0x0D) || (c >= 0x1C && c <= 0x20) || c == 0x85 || c == 0xA0
		|| c == 0x1680 || (c >= 0x2000 && c <= 0x200A) || c == 0x2028 || c == 0x2029 || c == 0x202F
		|| c == 0x205F || c == 0x3000;
}

bool char_is_alpha(uint32_t c) {
	switch (category(c)) {
	case UTF8PROC_CATEGORY_LU: case UTF8PROC_CATEGORY_LL: case UTF8PROC_CATEGORY_LT:
	case UTF8PROC_CATEGORY_LM: case UTF8PROC_CATEGORY_LO:
		return true;
	default:
		return false;
	}
}

bool char_is_decimal(uint32_t c) {
	return category(c) == UTF8PROC_CATEGORY_ND;
}

/* Numeric_Type=Digit beyond the decimals: superscripts, subscripts, circled and similar digits. */
bool char_is_digit(uint32_t c) {
	return char_is_decimal(c) || c == 0xB2 || c == 0xB3 || c == 0xB9 || (c >= 0x1369 && c <= 0x1371)
		|| c == 0x19DA || c == 0x2070 || (c >= 0x2074 && c <= 0x2079)
		|| (c >= 0x2080 && c <= 0x2089)
		|| (c >= 0x2460 && c <= 0x2468) || (c >= 0x2474 && c <= 0x247C)
		|| (c >= 0x2488 && c <= 0x2490) || c == 0x24EA || (c >= 0x24F5 && c <= 0x24FD)
		|| c == 0x24FF
		|| (c >= 0x2776 && c <= 0x277E) || (c >= 0x2780 && c <= 0x2788)
		|| (c >= 0x278A && c <= 0x2792);
}

bool char_is_numeric(uint32_t c) {
	const utf8proc_category_t k = category(c);
	return k == UTF8PROC_CATEGORY_ND || k == UTF8PROC_CATEGORY_NL || k == UTF8PROC_CATEGORY_NO
		|| char_is_digit(c);
}

bool char_is_upper(uint32_t c) {
	return category(c) == UTF8PROC_CATEGORY_LU;
}

bool char_is_lower(uint32_t c) {
	return category(c) == UTF8PROC_CATEGORY_LL || c == 0xAA || c == 0xBA;
}

bool char_is_title(uint32_t c) {
	return category(c) == UTF8PROC_CATEGORY_LT;
}

bool char_is_printable(uint32_t c) {
	if (c == ' ') {
		return true;
	}
	switch (category(c)) {
	case UTF8PROC_CATEGORY_CC: case UTF8PROC_CATEGORY_CF: case UTF8PROC_CATEGORY_CS:
	case UTF8PROC_CATEGORY_CO: case UTF8PROC_CATEGORY_CN: case UTF8PROC_CATEGORY_ZL:
	case UTF8PROC_CATEGORY_ZP: case UTF8PROC_CATEGORY_ZS:
		return false;
	default:
		return true;
	}
}

/* Letters whose capital is more than one letter: the ones met in text (SpecialCasing.txt). */
static const struct {
	uint32_t letter;
	const char *upper, *title;
} long_capitals[] = {
	{ 0x00DF, "SS", "Ss" }, { 0x0149, "\u02BCN", "\u02BCN" }, { 0x01F0, "J\u030C", "J\u030C" },
	{ 0x0587, "\u0535\u0552", "\u0535\u0582" }, { 0xFB00, "FF", "Ff" }, { 0xFB01, "FI", "Fi" },
	{ 0xFB02, "FL", "Fl" }, { 0xFB03, "FFI", "Ffi" }, { 0xFB04, "FFL", "Ffl" },
	{ 0xFB05, "ST", "St" }, { 0xFB06, "ST", "St" },
};

void out_upper(struct job *j, struct out *o, uint32_t c) {
	for (size_t i = 0; c >= 0x80 && i < COUNT(long_capitals); i++) {
		if (long_capitals[i].letter == c) {
			out_text(j, o, long_capitals[i].upper);
			return;
		}
	}
	out_char(j, o, (uint32_t)utf8proc_toupper((utf8proc_int32_t)c));
}

void out_title(struct job *j, struct out *o, uint32_t c) {
	for (size_t i = 0; c >= 0x80 && i < COUNT(long_capitals); i++) {
		if (long_capitals[i].letter == c) {
			out_text(j, o, long_capitals[i].title);
			return;
		}
	}
	out_char(j, o, (uint32_t)utf8proc_totitle((utf8proc_int32_t)c));
}

static bool is_cased(uint32_t c) {
	return char_is_upper(c) || char_is_lower(c) || char_is_title(c);
}

/* Marks and signs that a word's end looks through (Case_Ignorable, by category). */
static bool is_case_ignorable(uint32_t c) {
	switch (category(c)) {
	case UTF8PROC_CATEGORY_MN: case UTF8PROC_CATEGORY_ME: case UTF8PROC_CATEGORY_CF:
	case UTF8PROC_CATEGORY_LM: case UTF8PROC_CATEGORY_SK:
		return true;
	default:
		return c == '\'' || c == '.' || c == ':' || c == 0xB7 || c == 0x2019;
	}
}

/* A sigma that ends a word: a cased letter before it, none after. */
static bool is_final_sigma(const struct string *in, const char *s) {
	size_t n;
	bool before = false;
	for (const char *p = s; p > in->data && !before;) {
		do {
			p--;
		} while (p > in->data && ((unsigned char)*p & 0xC0) == 0x80);
		const uint32_t c = text_next(p, s, &n);
		before = is_cased(c);
		if (!before && !is_case_ignorable(c)) {
			return false;
		}
	}
	const char *end = in->data + in->bytes;
	for (const char *p = s + 2; p < end; p += n) {
		const uint32_t c = text_next(p, end, &n);
		if (is_cased(c)) {
			return false;
		}
		if (!is_case_ignorable(c)) {
			break;
		}
	}
	return before;
}

void out_lower(struct job *j, struct out *o, const struct string *in, const char *s) {
	size_t n;
	const uint32_t c = text_next(s, in->data + in->bytes, &n);
	if (c == 0x0130) {
		out_text(j, o, "i\u0307");
	} else if (c == 0x03A3) {
		out_char(j, o, is_final_sigma(in, s) ? 0x03C2 : 0x03C3);
	} else {
		out_char(j, o, (uint32_t)utf8proc_tolower((utf8proc_int32_t)c));
	}
}

struct string *text_upper(struct job *j, const struct string *s) {
	struct out o = { 0 };
	size_t n;
	job_work(j, s->chars / 4);
	for (const char *p = s->data, *end = p + s->bytes; p < end; p += n) {
		out_upper(j, &o, text_next(p, end, &n));
	}
	return out_done(j, &o);
}

struct string *text_lower(struct job *j, const struct string *s) {
	struct out o = { 0 };
	size_t n;
	job_work(j, s->chars / 4);
	for (const char *p = s->data, *end = p + s->bytes; p < end; p += n) {
		text_next(p, end, &n);
		out_lower(j, &o, s, p);
	}
	return out_done(j, &o);
}

struct string *text_capitalize(struct job *j, const struct string *s) {
	struct out o = { 0 };
	size_t n;
	job_work(j, s->chars / 4);
	for (const char *p = s->data, *end = p + s->bytes; p < end; p += n) {
		const uint32_t c = text_next(p, end, &n);
		if (p == s->data) {
			out_title(j, &o, c);
		} else {
			out_lower(j, &o, s, p);
		}
	}
	return out_done(j, &o);
}
