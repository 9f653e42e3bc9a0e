/* SPDX-License-Identifier: Apache-2.0
 *
 * The methods of strings that change or ask about case and classes of characters. */
#include "template/interp.h"

#include <utf8proc.h>

#define METHOD(id) \
	struct value id(struct interp *in, struct value self, const struct value *a, \
		const struct args *args)

METHOD(string_upper) {
	return value_string(text_upper(&in->job, self.string));
}

METHOD(string_lower) {
	return value_string(text_lower(&in->job, self.string));
}

METHOD(string_casefold) {
	struct job *j = &in->job;
	struct out o = { 0 };
	size_t n;
	for (const char *p = self.string->data, *end = p + self.string->bytes; p < end; p += n) {
		utf8proc_int32_t folded[8];
		int boundary = 0;
		const utf8proc_ssize_t k = utf8proc_decompose_char((utf8proc_int32_t)text_next(p, end, &n),
			folded, 8, UTF8PROC_CASEFOLD, &boundary);
		for (utf8proc_ssize_t i = 0; i < k && i < 8; i++) {
			out_char(j, &o, (uint32_t)folded[i]);
		}
	}
	job_work_bytes(j, self.string->bytes);
	return value_string(out_done(j, &o));
}

METHOD(string_capitalize) {
	return value_string(text_capitalize(&in->job, self.string));
}

static bool is_cased(uint32_t c) {
	return char_is_upper(c) || char_is_lower(c) || char_is_title(c);
}

METHOD(string_title) {
	struct job *j = &in->job;
	struct out o = { 0 };
	size_t n;
	bool in_word = false;
	for (const char *p = self.string->data, *end = p + self.string->bytes; p < end; p += n) {
		const uint32_t c = text_next(p, end, &n);
		if (in_word) {
			out_lower(j, &o, self.string, p);
		} else {
			out_title(j, &o, c);
		}
		in_word = is_cased(c);
	}
	job_work_bytes(j, self.string->bytes);
	return value_string(out_done(j, &o));
}

METHOD(string_swapcase) {
	struct job *j = &in->job;
	struct out o = { 0 };
	size_t n;
	for (const char *p = self.string->data, *end = p + self.string->bytes; p < end; p += n) {
		const uint32_t c = text_next(p, end, &n);
		if (char_is_upper(c)) {
			out_lower(j, &o, self.string, p);
		} else if (char_is_lower(c)) {
			out_upper(j, &o, c);
		} else {
			out_char(j, &o, c);
		}
	}
	job_work_bytes(j, self.string->bytes);
	return value_string(out_done(j, &o));
}

/* Every character is of the class, and there is one (if empty is not allowed). */
static struct value all_are(struct interp *in, struct value self, bool (*is_class)(uint32_t),
	bool when_empty) {
	size_t n;
	job_work_bytes(&in->job, self.string->bytes);
	for (const char *p = self.string->data, *end = p + self.string->bytes; p < end; p += n) {
		if (!is_class(text_next(p, end, &n))) {
			return value_bool(false);
		}
	}
	return value_bool(when_empty || self.string->bytes > 0);
}

static bool is_alnum(uint32_t c) {
	return char_is_alpha(c) || char_is_numeric(c);
}

METHOD(string_isalnum) {
	return all_are(in, self, is_alnum, false);
}

METHOD(string_isalpha) {
	return all_are(in, self, char_is_alpha, false);
}

METHOD(string_isascii) {
	return value_bool(self.string->bytes == self.string->chars);
}

METHOD(string_isdecimal) {
	return all_are(in, self, char_is_decimal, false);
}

METHOD(string_isdigit) {
	return all_are(in, self, char_is_digit, false);
}

METHOD(string_isnumeric) {
	return all_are(in, self, char_is_numeric, false);
}

METHOD(string_isprintable) {
	return all_are(in, self, char_is_printable, true);
}

METHOD(string_isspace) {
	return all_are(in, self, char_is_space, false);
}

bool string_has_case(struct interp *in, const struct string *s, bool upper) {
	bool any = false;
	size_t n;
	job_work_bytes(&in->job, s->bytes);
	for (const char *p = s->data, *end = p + s->bytes; p < end; p += n) {
		const uint32_t c = text_next(p, end, &n);
		if (char_is_title(c) || (upper ? char_is_lower(c) : char_is_upper(c))) {
			return false;
		}
		any |= upper ? char_is_upper(c) : char_is_lower(c);
	}
	return any;
}

METHOD(string_islower) {
	return value_bool(string_has_case(in, self.string, false));
}

METHOD(string_isupper) {
	return value_bool(string_has_case(in, self.string, true));
}

METHOD(string_istitle) {
	bool any = false, in_word = false;
	size_t n;
	job_work_bytes(&in->job, self.string->bytes);
	for (const char *p = self.string->data, *end = p + self.string->bytes; p < end; p += n) {
		const uint32_t c = text_next(p, end, &n);
		const bool starts = char_is_upper(c) || char_is_title(c);
		if ((starts && in_word) || (char_is_lower(c) && !in_word)) {
			return value_bool(false);
		}
		in_word = is_cased(c);
		any |= starts;
	}
	return value_bool(any);
}
