/* SPDX-License-Identifier: Apache-2.0
 *
 * GBNF, llama.cpp's notation: rules `name ::= ...` of texts in quotes, classes of characters, '.',
 * names, groups, alternatives and repeats. A rule ends with its line, unless a group is open or an
 * alternative has to come. */
#include "chars.h"
#include "regex.h"
#include "sources.h"

#include <string.h>

enum { MAX_BYTES = 1 << 20, MAX_DEPTH = 100, MAX_COUNT = 1 << 16, MAX_REPEATS = 4 };

struct parser {
	struct rules *r;
	const char *source;
	size_t bytes, at;
	int depth;
	bool *is_defined; /* [cap_defined] by rule */
	uint32_t cap_defined;
	uint32_t *slots;  /* [mask + 1]: 1 + a rule by its name */
	uint32_t mask;
	struct bb_error *err;
};

static int line_of(const struct parser *p) {
	int line = 1;
	for (size_t i = 0; i < p->at && i < p->bytes; i++) {
		line += p->source[i] == '\n';
	}
	return line;
}

static bool wrong(struct parser *p, const char *expected) {
	char shown[24];
	const size_t left = p->bytes - p->at;
	base_show(p->source + p->at, left < 12 ? left : 12, shown, sizeof(shown));
	return base_fail(p->err, BB_ERR_INPUT, "GBNF, line %d: expected %s before '%s'", line_of(p),
		expected, shown);
}

static int peek(const struct parser *p) {
	return p->at < p->bytes ? (uint8_t)p->source[p->at] : -1;
}

static void skip(struct parser *p, bool over_lines) {
	for (int c = peek(p);; c = peek(p)) {
		if (c == '#') {
			while (peek(p) >= 0 && peek(p) != '\n' && peek(p) != '\r') {
				p->at++;
			}
		} else if (c == ' ' || c == '\t' || (over_lines && (c == '\n' || c == '\r'))) {
			p->at++;
		} else {
			return;
		}
	}
}

/* ---- names ---- */

static bool is_name(int c) {
	return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' ||
		c == '_';
}

static uint32_t name_hash(const char *name, size_t bytes) {
	uint32_t h = 2166136261u;
	for (size_t i = 0; i < bytes; i++) {
		h = (h ^ (uint8_t)name[i]) * 16777619u;
	}
	return h;
}

static bool grow_names(struct parser *p) {
	const uint32_t mask = p->mask == 0 ? 63 : 2 * p->mask + 1; /* all ones, to go round by */
	uint32_t *slots = base_alloc((size_t)mask + 1, sizeof(*slots));
	if (slots == NULL) {
		return base_no_memory(p->err, "grammar", ((size_t)mask + 1) * sizeof(*slots));
	}
	for (uint32_t i = 0; i < p->r->n_rules; i++) {
		const char *name = p->r->rules[i].name;
		uint32_t at = name_hash(name, strlen(name)) & mask;
		while (slots[at] != 0) {
			at = (at + 1) & mask;
		}
		slots[at] = i + 1;
	}
	base_free(p->slots);
	p->slots = slots;
	p->mask = mask;
	return true;
}

static bool mark(struct parser *p, uint32_t rule) {
	if (rule >= p->cap_defined) {
		const uint32_t cap = 2 * rule + 16;
		bool *grown = base_realloc(p->is_defined, cap, sizeof(*grown));
		if (grown == NULL) {
			return base_no_memory(p->err, "grammar", cap);
		}
		memset(grown + p->cap_defined, 0, (cap - p->cap_defined) * sizeof(*grown));
		p->is_defined = grown;
		p->cap_defined = cap;
	}
	return true;
}

static bool rule_of(struct parser *p, const char *name, size_t bytes, uint32_t *rule) {
	if (2 * p->r->n_rules >= p->mask && !grow_names(p)) {
		return false;
	}
	uint32_t at = name_hash(name, bytes) & p->mask;
	for (; p->slots[at] != 0; at = (at + 1) & p->mask) {
		const char *known = p->r->rules[p->slots[at] - 1].name;
		if (strlen(known) == bytes && memcmp(known, name, bytes) == 0) {
			*rule = p->slots[at] - 1;
			return true;
		}
	}
	*rule = rules_rule(p->r, name, bytes);
	if (p->r->x.trouble.code != BB_OK) {
		return base_fail(p->err, p->r->x.trouble.code, "%s", p->r->x.trouble.text);
	}
	p->slots[at] = *rule + 1;
	return mark(p, *rule);
}

static size_t name_bytes(const struct parser *p) {
	size_t n = 0;
	while (p->at + n < p->bytes && is_name((uint8_t)p->source[p->at + n])) {
		n++;
	}
	return n;
}

/* ---- elements ---- */

static bool read_char(struct parser *p, uint32_t *c) {
	if (peek(p) == '\\') {
		p->at++;
		return regex_escape(p->source, p->bytes, &p->at, c) || wrong(p, "an escape");
	}
	const int n = peek(p) < 0 ? 0 : base_char(p->source + p->at, p->bytes - p->at);
	if (n == 0) {
		return wrong(p, "a character of UTF-8");
	}
	*c = chars_decode(p->source + p->at, n);
	p->at += (size_t)n;
	return true;
}

static bool read_text(struct parser *p, uint32_t *out) {
	uint32_t *list = NULL;
	size_t n = 0, cap = 0;
	bool ok = true;
	for (p->at++; ok && peek(p) != '"';) {
		uint32_t c = 0;
		ok = read_char(p, &c);
		if (ok && n == cap) {
			cap = 2 * cap + 32;
			uint32_t *grown = base_realloc(list, cap, sizeof(*list));
			ok = grown != NULL || base_no_memory(p->err, "grammar", cap * sizeof(*list));
			list = grown != NULL ? grown : list;
		}
		if (ok) {
			list[n++] = c;
		}
	}
	p->at++;
	uint32_t all = EXPR_EMPTY;
	while (ok && n > 0) {
		all = expr_seq(&p->r->x, chars_one(&p->r->x, list[--n], CHARS_UTF8), all);
	}
	base_free(list);
	*out = rules_term(p->r, all);
	return ok;
}

static bool read_class(struct parser *p, struct char_set *set) {
	p->at++;
	const bool is_not = peek(p) == '^';
	p->at += is_not;
	while (peek(p) != ']') {
		uint32_t first, last;
		if (!read_char(p, &first)) {
			return false;
		}
		last = first;
		if (peek(p) == '-' && p->at + 1 < p->bytes && p->source[p->at + 1] != ']') {
			p->at++;
			if (!read_char(p, &last)) {
				return false;
			}
		}
		if (last < first) {
			return wrong(p, "a range of characters that rises");
		}
		if (!chars_add(set, first, last, p->err)) {
			return false;
		}
	}
	p->at++;
	return !is_not || chars_invert(set, p->err);
}

static bool read_either(struct parser *p, bool is_nested, uint32_t *out);

static bool read_group(struct parser *p, uint32_t *out) {
	if (++p->depth > MAX_DEPTH) {
		return base_fail(p->err, BB_ERR_UNSUPPORTED,
			"GBNF, line %d: expected groups of at most %d in each other", line_of(p), MAX_DEPTH);
	}
	p->at++;
	skip(p, true);
	if (!read_either(p, true, out)) {
		return false;
	}
	if (peek(p) != ')') {
		return wrong(p, "')'");
	}
	p->at++;
	p->depth--;
	return true;
}

static bool read_number(struct parser *p, int *n) {
	const size_t begin = p->at;
	int value = 0;
	while (peek(p) >= '0' && peek(p) <= '9') {
		value = value <= MAX_COUNT ? 10 * value + (peek(p) - '0') : value;
		p->at++;
	}
	*n = value;
	return p->at > begin;
}

static bool read_bounds(struct parser *p, int *min, int *max) {
	p->at++;
	skip(p, true);
	const bool has_min = read_number(p, min);
	*max = *min;
	skip(p, true);
	if (peek(p) == ',') {
		p->at++;
		skip(p, true);
		*max = read_number(p, max) ? *max : -1;
		skip(p, true);
	} else if (!has_min) {
		return wrong(p, "a number");
	}
	if (peek(p) != '}') {
		return wrong(p, "'}'");
	}
	p->at++;
	if (*min > MAX_COUNT || *max > MAX_COUNT || (*max >= 0 && *max < *min)) {
		return base_fail(p->err, BB_ERR_UNSUPPORTED, "GBNF, line %d: expected bounds of a repeat "
			"that rise, up to %d", line_of(p), MAX_COUNT);
	}
	return true;
}

static bool read_repeats(struct parser *p, bool is_nested, uint32_t *node) {
	for (int n = 0;; n++) {
		const int c = peek(p);
		int min = c == '+' ? 1 : 0, max = c == '?' ? 1 : -1;
		if (n == MAX_REPEATS && c > 0 && strchr("*+?{", c) != NULL) {
			return base_fail(p->err, BB_ERR_UNSUPPORTED, "GBNF, line %d: expected at most %d "
				"repeats on one another", line_of(p), MAX_REPEATS);
		}
		if (c == '*' || c == '+' || c == '?') {
			p->at++;
		} else if (c != '{') {
			return true;
		} else if (!read_bounds(p, &min, &max)) {
			return false;
		}
		*node = rules_repeat(p->r, *node, min, max);
		skip(p, is_nested);
	}
}

static bool read_set(struct parser *p, bool is_any, uint32_t *out) {
	struct char_set set = { 0 };
	p->at += is_any;
	const bool ok = is_any ? chars_invert(&set, p->err) : read_class(p, &set);
	*out = rules_term(p->r, ok ? chars_expr(&p->r->x, &set, CHARS_UTF8) : EXPR_NONE);
	chars_finish(&set);
	return ok;
}

/* One element; *is_end: there is none. */
static bool read_element(struct parser *p, uint32_t *out, bool *is_end) {
	const int c = peek(p);
	if (c == '"') {
		return read_text(p, out);
	}
	if (c == '[' || c == '.') {
		return read_set(p, c == '.', out);
	}
	if (c == '(') {
		return read_group(p, out);
	}
	if (c == '<' || c == '!') {
		return base_fail(p->err, BB_ERR_UNSUPPORTED, "GBNF, line %d: tokens ('<...>') can't be "
			"named, for a grammar is about text", line_of(p));
	}
	const size_t n = name_bytes(p);
	*is_end = n == 0;
	if (n > 0) {
		uint32_t rule;
		if (!rule_of(p, p->source + p->at, n, &rule)) {
			return false;
		}
		p->at += n;
		*out = rules_call(p->r, rule);
	}
	return true;
}

struct nodes {
	uint32_t *all; /* [n] */
	size_t n, cap;
};

static bool push(struct parser *p, struct nodes *list, uint32_t node) {
	if (list->n == list->cap) {
		const size_t cap = 2 * list->cap + 16;
		uint32_t *all = base_realloc(list->all, cap, sizeof(*all));
		if (all == NULL) {
			return base_no_memory(p->err, "grammar", cap * sizeof(*all));
		}
		list->all = all;
		list->cap = cap;
	}
	list->all[list->n++] = node;
	return true;
}

static bool read_sequence(struct parser *p, bool is_nested, uint32_t *out) {
	struct nodes list = { 0 };
	bool ok = true, is_end = false;
	while (ok && !is_end) {
		uint32_t node = RULES_NOTHING;
		ok = read_element(p, &node, &is_end);
		if (ok && !is_end) {
			skip(p, is_nested);
			ok = read_repeats(p, is_nested, &node) && push(p, &list, node);
		}
	}
	*out = RULES_EMPTY;
	while (ok && list.n > 0) {
		*out = rules_seq(p->r, list.all[--list.n], *out);
	}
	base_free(list.all);
	return ok;
}

static bool read_either(struct parser *p, bool is_nested, uint32_t *out) {
	struct nodes list = { 0 };
	bool ok = true, is_last = false;
	while (ok && !is_last) {
		uint32_t node;
		ok = read_sequence(p, is_nested, &node) && push(p, &list, node);
		is_last = peek(p) != '|';
		p->at += !is_last;
		if (!is_last) {
			skip(p, true);
		}
	}
	*out = RULES_NOTHING;
	while (ok && list.n > 0) {
		*out = rules_either(p->r, list.all[--list.n], *out);
	}
	base_free(list.all);
	return ok;
}

static bool read_rule(struct parser *p) {
	uint32_t rule;
	const size_t n = name_bytes(p), begin = p->at;
	if (n == 0) {
		return wrong(p, "a rule's name");
	}
	if (!rule_of(p, p->source + p->at, n, &rule)) {
		return false;
	}
	p->at += n;
	skip(p, false);
	if (p->bytes - p->at < 3 || memcmp(p->source + p->at, "::=", 3) != 0) {
		return wrong(p, "'::='");
	}
	if (p->is_defined[rule]) {
		p->at = begin;
		return wrong(p, "rules of different names");
	}
	p->at += 3;
	p->is_defined[rule] = true;
	skip(p, true);
	uint32_t body;
	if (!read_either(p, false, &body)) {
		return false;
	}
	p->r->rules[rule].body = body;
	if (peek(p) >= 0 && peek(p) != '\n' && peek(p) != '\r') {
		return wrong(p, "the end of the rule");
	}
	skip(p, true);
	return true;
}

static bool read_all(struct parser *p, uint32_t *root) {
	char shown[BASE_SHOWN];
	skip(p, true);
	while (peek(p) >= 0) {
		if (!read_rule(p)) {
			return false;
		}
	}
	bool has_root = false;
	for (uint32_t i = 0; i < p->r->n_rules; i++) {
		const char *name = p->r->rules[i].name;
		if (!p->is_defined[i]) {
			return base_fail(p->err, BB_ERR_INPUT, "GBNF: no rule '%s' is there",
				base_show(name, strlen(name), shown, sizeof(shown)));
		}
		if (strcmp(name, "root") == 0) {
			*root = rules_call(p->r, i);
			has_root = true;
		}
	}
	return has_root || base_fail(p->err, BB_ERR_INPUT, "GBNF: expected a rule 'root'");
}

bool gbnf_read(struct rules *r, const char *source, size_t bytes, uint32_t *root,
	struct bb_error *err) {
	struct parser p = { .r = r, .source = source, .bytes = bytes, .err = err };
	if (bytes > MAX_BYTES) {
		return base_fail(err, BB_ERR_UNSUPPORTED, "GBNF: expected at most %d bytes, has %zu",
			MAX_BYTES, bytes);
	}
	const bool ok = read_all(&p, root);
	base_free(p.is_defined);
	base_free(p.slots);
	return ok;
}
