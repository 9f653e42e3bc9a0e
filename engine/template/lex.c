/* SPDX-License-Identifier: Apache-2.0
 *
 * The lexer. One pass over the source with its line ends made "\n" and one at the end dropped. */
#include "template/lex.h"

#include <stdlib.h>
#include <string.h>

#define MAX_BRACKETS 200

struct lexer {
	struct job *job;
	const char *at, *end; /* what is left of the source */
	struct token *tokens; /* [n_tokens] */
	size_t n_tokens, cap;
	int line;
	bool at_line_start; /* the last thing before `at` was a line end that a tag took */
	char brackets[MAX_BRACKETS]; /* [n_brackets], the closing ones awaited */
	int n_brackets;
};

static struct token *push(struct lexer *l, enum token_kind kind) {
	if (l->n_tokens == l->cap) {
		const size_t cap = 2 * l->cap + 64;
		l->tokens = job_grow(l->job, l->tokens, l->n_tokens * sizeof(*l->tokens),
			cap * sizeof(*l->tokens));
		l->cap = cap;
	}
	struct token *t = &l->tokens[l->n_tokens++];
	*t = (struct token){ .kind = kind, .line = l->line };
	return t;
}

static void advance(struct lexer *l, const char *to) {
	for (; l->at < to; l->at++) {
		l->line += *l->at == '\n';
	}
	l->job->line = l->line;
}

static bool looking_at(const struct lexer *l, const char *at, const char *what) {
	const size_t n = strlen(what);
	return (size_t)(l->end - at) >= n && memcmp(at, what, n) == 0;
}

static const char *skip_space(const struct lexer *l, const char *at) {
	size_t n;
	while (at < l->end && char_is_space(text_next(at, l->end, &n))) {
		at += n;
	}
	return at;
}

/* ---- text and the ends of tags ---- */

/* Where a tag's end at `at` ends, or NULL if there is none: -END eats white space, END one line end
 * when `trims`, +END nothing (only where `trims`). */
static const char *match_end(const struct lexer *l, const char *at, const char *end, bool trims) {
	if (at < l->end && *at == '-' && looking_at(l, at + 1, end)) {
		return skip_space(l, at + 1 + strlen(end));
	}
	if (trims && at < l->end && *at == '+' && looking_at(l, at + 1, end)) {
		return at + 1 + strlen(end);
	}
	if (!looking_at(l, at, end)) {
		return NULL;
	}
	at += strlen(end);
	return trims && at < l->end && *at == '\n' ? at + 1 : at;
}

static void finish_tag(struct lexer *l, const char *to) {
	l->at_line_start = to > l->at && to[-1] == '\n';
	advance(l, to);
}

/* Text up to `to`, where a tag begins; sign is the character after its two first. */
static void push_text(struct lexer *l, const char *to, char sign, bool is_print) {
	const char *stop = to;
	if (sign == '-') {
		struct string *s = text_view(l->job, l->at, (size_t)(to - l->at));
		stop = l->at + text_strip(l->job, s, NULL, TEXT_RIGHT)->bytes;
	} else if (sign != '+' && !is_print) {
		const char *line = to;
		while (line > l->at && line[-1] != '\n') {
			line--;
		}
		const bool starts_line = line > l->at || l->at_line_start;
		if (starts_line && line < to && skip_space(l, line) >= to) {
			stop = line;
		}
	}
	if (stop > l->at) {
		push(l, TOKEN_DATA)->text = text_view(l->job, l->at, (size_t)(stop - l->at));
	}
	advance(l, to);
}

static char sign_at(const struct lexer *l, const char *at) {
	return at < l->end && (*at == '-' || *at == '+') ? *at : '\0';
}

/* `{% raw %}` or `{% endraw %}` at `at`: where it ends, or NULL. */
static const char *match_raw(const struct lexer *l, const char *at, const char *name) {
	at += 2;
	at = skip_space(l, at + (sign_at(l, at) != '\0'));
	if (!looking_at(l, at, name)) {
		return NULL;
	}
	at = skip_space(l, at + strlen(name));
	if (strcmp(name, "endraw") == 0) {
		return match_end(l, at, "%}", true);
	}
	return match_end(l, at, "%}", false);
}

static void lex_raw(struct lexer *l, const char *body) {
	finish_tag(l, body);
	const char *at = body;
	for (;; at++) {
		at = l->end - at < 2 ? NULL : memmem(at, (size_t)(l->end - at), "{%", 2);
		if (at == NULL) {
			job_fail(l->job, "a raw block has no {%% endraw %%}");
		}
		job_work_bytes(l->job, 16);
		const char *end = match_raw(l, at, "endraw");
		if (end != NULL) {
			push_text(l, at, sign_at(l, at + 2), false);
			finish_tag(l, end);
			return;
		}
	}
}

static void lex_comment(struct lexer *l) {
	const char *at = l->at + 2;
	at += sign_at(l, at) != '\0';
	for (; at < l->end; at++) {
		const char *end = match_end(l, at, "#}", true);
		if (end != NULL) {
			finish_tag(l, end);
			return;
		}
	}
	job_fail(l->job, "a comment has no #}");
}

/* ---- inside tags ---- */

static bool is_digit(char c) {
	return c >= '0' && c <= '9';
}

/* Past digits with single underscores between them. */
static const char *skip_digits(const struct lexer *l, const char *at) {
	while (at < l->end && (is_digit(*at) || (*at == '_' && at + 1 < l->end && is_digit(at[1])))) {
		at++;
	}
	return at;
}

static bool digit_at(const struct lexer *l, const char *at) {
	return at < l->end && is_digit(*at);
}

/* Where the float at `at` ends, or NULL if it is none. */
static const char *match_float(const struct lexer *l, const char *at) {
	const char *p = skip_digits(l, at);
	bool is_float = false;
	if (p < l->end && *p == '.' && digit_at(l, p + 1)) {
		p = skip_digits(l, p + 1);
		is_float = true;
	}
	if (p < l->end && (*p == 'e' || *p == 'E')) {
		const char *e = p + 1;
		e += sign_at(l, e) != '\0';
		if (digit_at(l, e)) {
			p = skip_digits(l, e);
			is_float = true;
		}
	}
	return is_float ? p : NULL;
}

static int digit_value(char c) {
	return is_digit(c) ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10
		: c >= 'A' && c <= 'F' ? c - 'A' + 10 : 99;
}

static const char *match_int(const struct lexer *l, const char *at, int *base) {
	*base = 10;
	if (*at == '0' && at + 1 < l->end) {
		const char c = at[1] | 0x20;
		const int b = c == 'x' ? 16 : c == 'o' ? 8 : c == 'b' ? 2 : 10;
		const char *p = at + 2;
		p += p < l->end && *p == '_';
		if (b != 10 && p < l->end && digit_value(*p) < b) {
			*base = b;
			while (p < l->end && (digit_value(*p) < b
					|| (*p == '_' && p + 1 < l->end && digit_value(p[1]) < b))) {
				p++;
			}
			return p;
		}
		p = at + 1;
		while (p < l->end && (*p == '0' || (*p == '_' && p + 1 < l->end && p[1] == '0'))) {
			p++;
		}
		return p;
	}
	return skip_digits(l, at);
}

static void lex_float(struct lexer *l, const char *end) {
	char buf[400];
	size_t n = 0;
	for (const char *p = l->at; p < end && n + 1 < sizeof(buf); p++) {
		if (*p != '_') {
			buf[n++] = *p;
		}
	}
	buf[n] = '\0';
	push(l, TOKEN_FLOAT)->real = strtod(buf, NULL);
	advance(l, end);
}

static void lex_int(struct lexer *l) {
	int base;
	const char *end = match_int(l, l->at, &base);
	int64_t value = 0;
	for (const char *p = l->at + (base == 10 ? 0 : 2); p < end; p++) {
		if (*p != '_' && (__builtin_mul_overflow(value, base, &value)
				|| __builtin_add_overflow(value, digit_value(*p), &value))) {
			job_fail(l->job, "the integer %.*s is beyond 64 bits", (int)(end - l->at), l->at);
		}
	}
	push(l, TOKEN_INT)->integer = value;
	advance(l, end);
}

static bool is_name_char(char c) {
	return is_digit(c) || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_'
		|| (unsigned char)c >= 0x80;
}

static uint32_t hex_escape(struct lexer *l, const char **at, const char *end, int digits) {
	uint32_t c = 0;
	for (int i = 0; i < digits; i++, (*at)++) {
		if (*at >= end || digit_value(**at) >= 16) {
			job_fail(l->job, "a string has an escape with fewer than %d hex digits", digits);
		}
		c = c * 16 + (uint32_t)digit_value(**at);
	}
	if (c > 0x10FFFF || (c >= 0xD800 && c <= 0xDFFF)) {
		job_fail(l->job, "a string has an escape for U+%04X, which is no character", c);
	}
	return c;
}

/* The escape after a backslash; moves *at past it. Unknown ones stay as they are. */
static void lex_escape(struct lexer *l, struct out *o, const char **at, const char *end) {
	static const char plain[] = "\\\\''\"\"a\ab\bf\fn\nr\rt\tv\v";
	const char c = *(*at)++;
	for (size_t i = 0; i + 1 < sizeof(plain); i += 2) {
		if (plain[i] == c) {
			out_char(l->job, o, (unsigned char)plain[i + 1]);
			return;
		}
	}
	if (c == 'x' || c == 'u' || c == 'U') {
		out_char(l->job, o, hex_escape(l, at, end, c == 'x' ? 2 : c == 'u' ? 4 : 8));
	} else if (c >= '0' && c <= '7') {
		uint32_t value = (uint32_t)(c - '0');
		for (int i = 0; i < 2 && *at < end && **at >= '0' && **at <= '7'; i++) {
			value = value * 8 + (uint32_t)(*(*at)++ - '0');
		}
		out_char(l->job, o, value);
	} else if (c == 'N') {
		job_fail(l->job, "a string has a \\N{…} escape, which is not supported");
	} else if (c != '\n') {
		out_char(l->job, o, '\\');
		(*at)--;
		size_t n;
		text_next(*at, end, &n);
		out_bytes(l->job, o, *at, n);
		*at += n;
	}
}

static void lex_string(struct lexer *l) {
	const char quote = *l->at;
	const char *end = l->at + 1;
	while (end < l->end && *end != quote) {
		end += *end == '\\' && end + 1 < l->end ? 2 : 1;
	}
	if (end >= l->end) {
		job_fail(l->job, "a string has no closing %c", quote);
	}
	struct out o = { 0 };
	for (const char *p = l->at + 1; p < end;) {
		if (*p == '\\') {
			p++;
			lex_escape(l, &o, &p, end);
			continue;
		}
		const char *stop = memchr(p, '\\', (size_t)(end - p));
		stop = stop == NULL ? end : stop;
		out_bytes(l->job, &o, p, (size_t)(stop - p));
		p = stop;
	}
	push(l, TOKEN_STRING)->text = out_done(l->job, &o);
	advance(l, end + 1);
}

/* Two-character operators first. */
static const struct {
	char text[3];
	enum token_kind kind;
} operators[] = {
	{ "//", TOKEN_FLOORDIV }, { "**", TOKEN_POW }, { "==", TOKEN_EQ }, { "!=", TOKEN_NE },
	{ ">=", TOKEN_GE }, { "<=", TOKEN_LE }, { "+", TOKEN_ADD }, { "-", TOKEN_SUB },
	{ "/", TOKEN_DIV }, { "*", TOKEN_MUL }, { "%", TOKEN_MOD }, { "~", TOKEN_TILDE },
	{ "[", TOKEN_LBRACKET }, { "]", TOKEN_RBRACKET }, { "(", TOKEN_LPAREN }, { ")", TOKEN_RPAREN },
	{ "{", TOKEN_LBRACE }, { "}", TOKEN_RBRACE }, { ">", TOKEN_GT }, { "<", TOKEN_LT },
	{ "=", TOKEN_ASSIGN }, { ".", TOKEN_DOT }, { ":", TOKEN_COLON }, { "|", TOKEN_PIPE },
	{ ",", TOKEN_COMMA }, { ";", TOKEN_SEMICOLON },
};

static void track_bracket(struct lexer *l, char c) {
	if (c == '(' || c == '[' || c == '{') {
		if (l->n_brackets == MAX_BRACKETS) {
			job_fail(l->job, "brackets nest deeper than %d levels", MAX_BRACKETS);
		}
		l->brackets[l->n_brackets++] = c == '(' ? ')' : c == '[' ? ']' : '}';
	} else if (c == ')' || c == ']' || c == '}') {
		if (l->n_brackets == 0) {
			job_fail(l->job, "unexpected '%c'", c);
		}
		const char want = l->brackets[--l->n_brackets];
		if (want != c) {
			job_fail(l->job, "unexpected '%c', expected '%c'", c, want);
		}
	}
}

static void lex_operator(struct lexer *l) {
	for (size_t i = 0; i < COUNT(operators); i++) {
		if (looking_at(l, l->at, operators[i].text)) {
			track_bracket(l, *l->at);
			push(l, operators[i].kind);
			advance(l, l->at + strlen(operators[i].text));
			return;
		}
	}
	size_t n;
	text_next(l->at, l->end, &n);
	job_fail(l->job, "unexpected character '%.*s'", (int)n, l->at);
}

static void lex_one(struct lexer *l) {
	const char *space = skip_space(l, l->at);
	if (space > l->at) {
		advance(l, space);
		return;
	}
	if (is_digit(*l->at)) {
		const char *end = l->at[-1] == '.' ? NULL : match_float(l, l->at);
		if (end != NULL) {
			lex_float(l, end);
		} else {
			lex_int(l);
		}
	} else if (is_name_char(*l->at)) {
		const char *end = l->at;
		while (end < l->end && is_name_char(*end)) {
			end++;
		}
		push(l, TOKEN_NAME)->text = text_view(l->job, l->at, (size_t)(end - l->at));
		advance(l, end);
	} else if (*l->at == '\'' || *l->at == '"') {
		lex_string(l);
	} else {
		lex_operator(l);
	}
}

static void lex_tag(struct lexer *l, bool is_print) {
	push(l, is_print ? TOKEN_PRINT_BEGIN : TOKEN_TAG_BEGIN);
	const int line = l->line;
	advance(l, l->at + 2 + (sign_at(l, l->at + 2) != '\0'));
	for (;;) {
		if (l->at >= l->end) {
			l->job->line = line;
			job_fail(l->job, "a tag has no closing %s", is_print ? "}}" : "%}");
		}
		const char *end = l->n_brackets > 0 ? NULL
			: match_end(l, l->at, is_print ? "}}" : "%}", !is_print);
		if (end != NULL) {
			push(l, is_print ? TOKEN_PRINT_END : TOKEN_TAG_END);
			finish_tag(l, end);
			return;
		}
		lex_one(l);
	}
}

/* The next {{, {% or {#, or NULL. */
static const char *find_tag(const struct lexer *l) {
	for (const char *p = l->at; l->end - p >= 2; p++) {
		p = memchr(p, '{', (size_t)(l->end - p) - 1);
		if (p == NULL) {
			return NULL;
		}
		if (p[1] == '{' || p[1] == '%' || p[1] == '#') {
			return p;
		}
	}
	return NULL;
}

/* Every line end as "\n", and none at the very end. */
static void normalise(struct lexer *l, const char *source, size_t bytes) {
	char *copy = job_alloc(l->job, bytes, 1);
	size_t n = 0;
	for (size_t i = 0; i < bytes; i++) {
		if (source[i] != '\r') {
			copy[n++] = source[i];
		} else {
			copy[n++] = '\n';
			i += i + 1 < bytes && source[i + 1] == '\n';
		}
	}
	n -= n > 0 && copy[n - 1] == '\n';
	l->at = copy;
	l->end = copy + n;
}

const struct token *lex_source(struct job *j, const char *source, size_t bytes) {
	struct lexer l = { .job = j, .line = 1, .at_line_start = true };
	if (!text_is_valid(source, bytes)) {
		job_fail(j, "the source is not valid UTF-8");
	}
	j->line = 1;
	normalise(&l, source, bytes);
	for (const char *tag; (tag = find_tag(&l)) != NULL;) {
		const char *body = tag[1] == '%' ? match_raw(&l, tag, "raw") : NULL;
		push_text(&l, tag, sign_at(&l, tag + 2), tag[1] == '{');
		if (body != NULL) {
			lex_raw(&l, body);
		} else if (tag[1] == '#') {
			lex_comment(&l);
		} else {
			lex_tag(&l, tag[1] == '{');
		}
	}
	if (l.at < l.end) {
		push(&l, TOKEN_DATA)->text = text_view(j, l.at, (size_t)(l.end - l.at));
		advance(&l, l.end);
	}
	push(&l, TOKEN_END);
	return l.tokens;
}

const char *lex_describe(struct job *j, const struct token *t) {
	static const char *const fixed[] = {
		[TOKEN_END] = "the end of the template", [TOKEN_DATA] = "text",
		[TOKEN_PRINT_BEGIN] = "'{{'",
		[TOKEN_PRINT_END] = "'}}'", [TOKEN_TAG_BEGIN] = "'{%'", [TOKEN_TAG_END] = "'%}'",
		[TOKEN_NAME] = "a name", [TOKEN_STRING] = "a string", [TOKEN_INT] = "an integer",
		[TOKEN_FLOAT] = "a float",
	};
	struct out o = { 0 };
	if (t->kind == TOKEN_NAME && t->text != NULL) {
		const int shown = t->text->bytes < 100 ? (int)t->text->bytes : 100;
		out_format(j, &o, "'%.*s'", shown, t->text->data);
	} else if (t->kind < COUNT(fixed)) {
		return fixed[t->kind];
	}
	for (size_t i = 0; i < COUNT(operators); i++) {
		if (operators[i].kind == t->kind) {
			out_format(j, &o, "'%s'", operators[i].text);
		}
	}
	out_bytes(j, &o, "", 1);
	return o.data;
}
