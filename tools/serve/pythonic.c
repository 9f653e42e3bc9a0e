/* SPDX-License-Identifier: Apache-2.0
 *
 * Literals of Python and of JSON, by recursive descent with a limit on its depth. */
#include "pythonic.h"

#include "buf.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>

enum { MOST_DEPTH = 32 };

struct source {
	const char *at, *end;
	int depth;
};

static void blanks(struct source *s) {
	while (s->at < s->end && strchr(" \t\r\n", *s->at) != NULL) {
		s->at++;
	}
}

static bool take(struct source *s, char c) {
	blanks(s);
	if (s->at == s->end || *s->at != c) {
		return false;
	}
	s->at++;
	return true;
}

static bool take_name(struct source *s, const char **name, size_t *bytes) {
	blanks(s);
	*name = s->at;
	while (s->at < s->end && (isalnum((unsigned char)*s->at) || strchr("_.-", *s->at) != NULL)) {
		s->at++;
	}
	*bytes = (size_t)(s->at - *name);
	return *bytes > 0;
}

static bool add_escape(struct source *s, struct buf *text) {
	static const char from[] = "ntrbf0", to[] = "\n\t\r\b\f";
	const char c = *s->at++;
	const char *known = strchr(from, c);
	if (c == 'u' && s->end - s->at >= 4) {
		const bool is_pair = s->end - s->at >= 10 && memcmp(s->at + 4, "\\u", 2) == 0 &&
			strchr("dD", s->at[0]) != NULL && strchr("89abAB", s->at[1]) != NULL; /* surrogates */
		char json[16];
		const int n = snprintf(json, sizeof(json), "\"\\u%.*s\"", is_pair ? 10 : 4, s->at);
		json_t *letter = json_loadb(json, (size_t)n, JSON_DECODE_ANY | JSON_ALLOW_NUL, NULL);
		s->at += is_pair ? 10 : 4;
		buf_add(text, json_string_value(letter), json_string_length(letter));
		json_decref(letter);
		return letter != NULL;
	}
	if (known != NULL && *known != '\0' && *known != '0') {
		buf_add(text, &to[known - from], 1);
	} else if (c != '\n') {
		buf_add(text, &c, 1);
	}
	return true;
}

static json_t *read_string(struct source *s) {
	const char quote = *s->at++;
	struct buf text = { 0 };
	bool ok = true;
	while (ok && s->at < s->end && *s->at != quote) {
		const char c = *s->at++;
		if (c == '\\' && s->at < s->end) {
			ok = add_escape(s, &text);
		} else {
			buf_add(&text, &c, 1);
		}
	}
	ok = ok && s->at < s->end;
	s->at += s->at < s->end;
	json_t *value = ok ? json_stringn(buf_string(&text), text.bytes) : NULL;
	buf_finish(&text);
	return value;
}

static json_t *read_number(struct source *s) {
	char digits[64];
	size_t n = 0;
	while (s->at < s->end && n < sizeof(digits) - 1 &&
		(isdigit((unsigned char)*s->at) || strchr("+-.eE_", *s->at) != NULL)) {
		digits[n] = *s->at++;
		n += digits[n] != '_';
	}
	digits[n] = '\0';
	char *end;
	const bool is_real = strpbrk(digits, ".eE") != NULL;
	json_t *value = is_real ? json_real(strtod(digits, &end))
		: json_integer(strtoll(digits, &end, 10));
	if (n == 0 || *end != '\0') {
		json_decref(value);
		return NULL;
	}
	return value;
}

static json_t *read_word(struct source *s) {
	const char *name;
	size_t bytes;
	static const struct {
		const char *word;
		int value;
	} words[] = { { "True", 1 }, { "true", 1 }, { "False", 0 }, { "false", 0 }, { "None", -1 },
		{ "null", -1 } };
	if (!take_name(s, &name, &bytes)) {
		return NULL;
	}
	for (size_t i = 0; i < sizeof(words) / sizeof(words[0]); i++) {
		if (strlen(words[i].word) == bytes && memcmp(words[i].word, name, bytes) == 0) {
			return words[i].value < 0 ? json_null() : json_boolean(words[i].value);
		}
	}
	return NULL;
}

static json_t *read_value(struct source *s);

static json_t *read_list(struct source *s, char close) {
	json_t *list = json_array();
	while (!take(s, close)) {
		json_t *item = read_value(s);
		if (item == NULL || json_array_append_new(list, item) != 0 ||
			(!take(s, ',') && (blanks(s), s->at == s->end || *s->at != close))) {
			json_decref(list);
			return NULL;
		}
	}
	return list;
}

static json_t *read_dict(struct source *s) {
	json_t *dict = json_object();
	while (!take(s, '}')) {
		json_t *key = read_value(s);
		json_t *value = json_is_string(key) && take(s, ':') ? read_value(s) : NULL;
		const bool ok = value != NULL &&
			json_object_set_new(dict, json_string_value(key), value) == 0;
		json_decref(key);
		if (!ok || (!take(s, ',') && (blanks(s), s->at == s->end || *s->at != '}'))) {
			json_decref(dict);
			return NULL;
		}
	}
	return dict;
}

static json_t *read_value(struct source *s) {
	blanks(s);
	if (s->at == s->end || s->depth == MOST_DEPTH) {
		return NULL;
	}
	json_t *value;
	s->depth++;
	if (*s->at == '"' || *s->at == '\'') {
		value = read_string(s);
	} else if (*s->at == '[' || *s->at == '(') {
		value = read_list(s, *s->at++ == '[' ? ']' : ')');
	} else if (*s->at == '{') {
		s->at++;
		value = read_dict(s);
	} else if (isdigit((unsigned char)*s->at) || *s->at == '-' || *s->at == '+') {
		value = read_number(s);
	} else {
		value = read_word(s);
	}
	s->depth--;
	return value;
}

static json_t *read_call(struct source *s) {
	const char *name, *key;
	size_t bytes, n_key;
	if (!take_name(s, &name, &bytes) || !take(s, '(')) {
		return NULL;
	}
	json_t *arguments = json_object();
	while (!take(s, ')')) {
		json_t *value = take_name(s, &key, &n_key) && take(s, '=') ? read_value(s) : NULL;
		if (value == NULL || json_object_setn_new(arguments, key, n_key, value) != 0 ||
			(!take(s, ',') && (blanks(s), s->at == s->end || *s->at != ')'))) {
			json_decref(arguments);
			return NULL;
		}
	}
	return json_pack("{s:s%, s:o}", "name", name, bytes, "arguments", arguments);
}

json_t *pythonic_read(const char *text, size_t bytes) {
	struct source s = { text, text + bytes, 0 };
	json_t *calls = json_array();
	bool ok = take(&s, '[');
	while (ok && !take(&s, ']')) {
		json_t *call = read_call(&s);
		ok = call != NULL && json_array_append_new(calls, call) == 0 &&
			(take(&s, ',') || (blanks(&s), s.at < s.end && *s.at == ']'));
	}
	blanks(&s);
	if (!ok || s.at != s.end || json_array_size(calls) == 0) {
		json_decref(calls);
		return NULL;
	}
	return calls;
}
