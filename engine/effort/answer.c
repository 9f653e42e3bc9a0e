/* SPDX-License-Identifier: Apache-2.0
 *
 * Finding answers. A pattern comes from a request and a text from a model, so both may be made to
 * take for ever: the steps of a search are counted, across all places where a match may begin, and
 * the text is bounded. */
#include "answer.h"

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>
#include <stdlib.h>
#include <string.h>

/* Items of a pattern that may be tried, and bytes passed over, for one answer, and KiB that a match
 * may remember. The first takes some forty milliseconds. */
enum { WORK = 2000000, HEAP_KIB = 4096 };

/* A sign counts where nothing stands before it that it would be taken from. */
#define NUMBER \
	"(?:(?<![\\w)\\]])[-+\\x{2212}])?(?:(?<![\\w.])(?:\\d{1,3}(?:,\\d{3})+(?![,\\d])|\\d+)" \
	"(?:\\.\\d+)?|(?<![\\w.])\\.\\d+)(?:/\\d+(?!\\.?\\d))*"
/* A letter by itself. A and I are words too: before another word they count in brackets, in bold
 * and behind "is" or a colon alone. */
#define CHOICE \
	"(?<![\\w'\\x{2019}])(?:([B-HJ])|(?<=[(\\[{*:]|\\bis |: )([AI])|([AI])(?! [\\p{Ll}\\d]))" \
	"(?![\\w'\\x{2019}])|\\(([a-j])\\)"

static const struct {
	const char *name, *regex; /* NULL: found by hand */
	enum answer_kind kind;
} named[] = {
	{ "number", NUMBER, ANSWER_NUMBER },
	{ "boxed", NULL, ANSWER_BOXED },
	{ "choice", CHOICE, ANSWER_CHOICE },
	{ "line", NULL, ANSWER_LINE },
};

struct answer_pattern {
	enum answer_kind kind;
	pcre2_general_context *memory;
	pcre2_match_context *limits;
	pcre2_code *code; /* NULL: of a kind that is found by hand */
	char *regex;      /* of the code */
};

static void *allocate(size_t bytes, void *user) {
	return base_alloc(bytes, 1);
}

static void release(void *p, void *user) {
	base_free(p);
}

struct work {
	const char *regex;
	size_t left, at; /* where the text was at the item before */
};

/* Bytes that an item may look at before it fails, which no later callout shows: those of its least
 * repeats, and all where it is what stood before, again. */
static size_t unseen(const char *item, size_t n, size_t all) {
	const char *const brace = memrchr(item, '{', n);
	if (n > 1 && item[0] == '\\' && ((item[1] >= '1' && item[1] <= '9') || item[1] == 'g' ||
		item[1] == 'k')) {
		return all;
	}
	const bool is_code = brace != NULL && brace - item >= 2 && brace[-2] == '\\' &&
		(brace[-1] == 'x' || brace[-1] == 'o'); /* of a character */
	const size_t least = brace != NULL && !is_code ? strtoul(brace + 1, NULL, 10) : 0;
	return least < all ? least : all;
}

/* Called before each item of a pattern that is tried. */
static int count_work(pcre2_callout_block *block, void *user) {
	struct work *w = user;
	const size_t at = block->current_position;
	size_t units = 1 + (at > w->at ? at - w->at : w->at - at);
	units += unseen(w->regex + block->pattern_position, block->next_item_length,
		block->subject_length - at);
	w->at = at;
	w->left = w->left > units ? w->left - units : 0;
	return w->left > 0 ? 0 : PCRE2_ERROR_MATCHLIMIT;
}

static bool compile(struct answer_pattern *p, const char *regex, struct bb_error *err) {
	int code;
	PCRE2_SIZE at;
	p->memory = pcre2_general_context_create(allocate, release, NULL);
	pcre2_compile_context *how = p->memory == NULL ? NULL : pcre2_compile_context_create(p->memory);
	p->limits = how == NULL ? NULL : pcre2_match_context_create(p->memory);
	if (p->limits == NULL) {
		pcre2_compile_context_free(how);
		return base_no_memory(err, "answer pattern", sizeof(*p));
	}
	pcre2_set_heap_limit(p->limits, HEAP_KIB);
	pcre2_set_max_pattern_length(how, ANSWER_MAX_PATTERN);
	p->code = pcre2_compile((PCRE2_SPTR)regex, PCRE2_ZERO_TERMINATED, PCRE2_UTF | PCRE2_UCP |
		PCRE2_MULTILINE | PCRE2_AUTO_CALLOUT | PCRE2_MATCH_INVALID_UTF | PCRE2_NEVER_BACKSLASH_C,
		&code, &at, how);
	pcre2_compile_context_free(how);
	if (p->code != NULL) {
		return true;
	}
	if (code == PCRE2_ERROR_HEAP_FAILED) {
		return base_no_memory(err, "answer pattern", strlen(regex));
	}
	PCRE2_UCHAR why[128];
	char shown[BASE_SHOWN];
	pcre2_get_error_message(code, why, sizeof(why));
	return base_fail(err, BB_ERR_INPUT, "the answer pattern \"%s\" is no regular expression: %s, "
		"at byte %zu", base_show(regex, strlen(regex), shown, sizeof(shown)), (const char *)why,
		(size_t)at);
}

bool answer_pattern_create(struct answer_pattern **out, const char *pattern, struct bb_error *err) {
	*out = NULL;
	struct answer_pattern *p = base_alloc(1, sizeof(*p));
	if (p == NULL) {
		return base_no_memory(err, "answer pattern", sizeof(*p));
	}
	const char *regex = pattern;
	for (size_t i = 0; i < COUNT(named); i++) {
		if (strcmp(pattern, named[i].name) == 0) {
			p->kind = named[i].kind;
			regex = named[i].regex;
		}
	}
	bool ok = true;
	if (pattern[0] == '\0') {
		ok = base_fail(err, BB_ERR_INPUT, "the answer pattern is empty, expected a regular "
			"expression, or number, boxed, choice or line");
	}
	p->regex = ok && regex != NULL ? base_strdup(regex) : NULL;
	if (ok && regex != NULL) {
		ok = p->regex != NULL ? compile(p, regex, err)
			: base_no_memory(err, "answer pattern", strlen(regex));
	}
	if (!ok) {
		answer_pattern_destroy(p);
		return false;
	}
	*out = p;
	return true;
}

void answer_pattern_destroy(struct answer_pattern *p) {
	if (p != NULL) {
		pcre2_code_free(p->code);
		pcre2_match_context_free(p->limits);
		pcre2_general_context_free(p->memory);
		base_free(p->regex);
		base_free(p);
	}
}

enum answer_kind answer_pattern_kind(const struct answer_pattern *p) {
	return p->kind;
}

/* ---- finding ---- */

struct span {
	const char *text;
	size_t bytes;
};

/* What a match says: its first group that took part, or all of it. */
static struct span said_by(const char *text, pcre2_match_data *match, int n_groups) {
	const PCRE2_SIZE *at = pcre2_get_ovector_pointer(match);
	int i = n_groups > 1 ? 1 : 0;
	while (i > 0 && at[2 * i] == PCRE2_UNSET) {
		i = i + 1 < n_groups ? i + 1 : 0;
	}
	/* by \K a match may begin behind its end */
	const size_t first = at[2 * i], end = at[2 * i + 1];
	return (struct span){ text + first, end > first ? end - first : 0 };
}

/* The last match. Where the work runs out there is none, be there earlier ones: what counted
 * would depend on how far a search came. */
static bool last_match(const struct answer_pattern *p, struct span in, struct span *out,
	struct bb_error *err) {
	struct work work = { .regex = p->regex, .left = WORK };
	int n;
	pcre2_match_data *match = pcre2_match_data_create_from_pattern(p->code, p->memory);
	if (match == NULL) {
		return base_no_memory(err, "answer", in.bytes);
	}
	pcre2_set_callout(p->limits, count_work, &work);
	*out = (struct span){ in.text, 0 };
	size_t from = 0;
	while ((n = pcre2_match(p->code, (PCRE2_SPTR)in.text, in.bytes, from, PCRE2_NOTEMPTY, match,
		p->limits)) > 0) {
		const struct span said = said_by(in.text, match, n);
		const size_t end = pcre2_get_ovector_pointer(match)[1];
		*out = said.bytes > 0 ? said : *out;
		if (end <= from) {
			break; /* \K, reached through a subroutine of a lookahead */
		}
		from = end;
	}
	pcre2_match_data_free(match);
	if (n < 0 && n != PCRE2_ERROR_NOMATCH) {
		out->bytes = 0;
	}
	return n != PCRE2_ERROR_NOMEMORY || base_no_memory(err, "answer", in.bytes);
}

/* What is in the braces of the last \boxed{...}, to the end of the text where they aren't
 * closed. */
static struct span last_boxed(struct span in) {
	static const char mark[] = "\\boxed{";
	const size_t n_mark = sizeof(mark) - 1;
	const char *const end = in.text + in.bytes, *first = NULL;
	for (const char *at = in.text; at != NULL;) {
		at = memmem(at, (size_t)(end - at), mark, n_mark);
		if (at != NULL) {
			first = at += n_mark;
		}
	}
	int depth = 1;
	const char *at = first;
	for (; at != NULL && at < end; at++) {
		depth += *at == '{' ? 1 : *at == '}' ? -1 : 0;
		if (depth == 0) {
			break;
		}
	}
	return (struct span){ first, first != NULL ? (size_t)(at - first) : 0 };
}

static bool is_blank(char c) {
	return c == ' ' || (c >= '\t' && c <= '\r');
}

static struct span last_line(struct span in) {
	while (in.bytes > 0 && is_blank(in.text[in.bytes - 1])) {
		in.bytes--;
	}
	size_t first = in.bytes;
	while (first > 0 && in.text[first - 1] != '\n' && in.text[first - 1] != '\r') {
		first--;
	}
	return (struct span){ in.text + first, in.bytes - first };
}

bool answer_find(const struct answer_pattern *p, const char *text, size_t bytes, size_t n_asked,
	struct bb_text *out, struct bb_error *err) {
	out->bytes = 0;
	struct span in = { text, bytes }, said = { 0 };
	if (bytes > ANSWER_LOOKED_AT) {
		in = (struct span){ text + bytes - ANSWER_LOOKED_AT, ANSWER_LOOKED_AT };
		while (in.bytes > 0 && ((uint8_t)in.text[0] & 0xC0) == 0x80) { /* a whole character */
			in.text++;
			in.bytes--;
		}
	}
	if (in.bytes == 0) {
		return true;
	}
	if (p->kind == ANSWER_BOXED) {
		said = last_boxed(in);
	} else if (p->kind == ANSWER_LINE) {
		said = last_line(in);
	} else if (!last_match(p, in, &said, err)) {
		return false;
	}
	return said.bytes == 0 || said.text + said.bytes <= text + n_asked ||
		answer_canonical(said.text, said.bytes, out, err);
}
