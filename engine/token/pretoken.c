/* SPDX-License-Identifier: Apache-2.0
 *
 * Pre-tokenizers of byte-level BPE: the regular expression, one per family, that cuts a text into
 * the words inside which merges happen. Compiled by PCRE2, just in time where it can. */
#include "pretoken.h"

#include <string.h>

/* White_Space of Unicode: PCRE2's own \s has U+180E too, which left that set in 6.3. */
#define SPACES "\\t-\\r \\x{85}\\x{A0}\\x{1680}\\x{2000}-\\x{200A}\\x{2028}" \
	"\\x{2029}\\x{202F}\\x{205F}\\x{3000}"
/* Letters and numbers, with those that came after the Unicode 14 of PCRE2 10.42 (as of 15.1). */
#define LETTERS "\\p{L}\\x{1123F}-\\x{11240}\\x{11F02}\\x{11F04}-\\x{11F10}\\x{11F12}-\\x{11F33}" \
	"\\x{1342F}\\x{13441}-\\x{13446}\\x{1B132}\\x{1B155}\\x{1DF25}-\\x{1DF2A}" \
	"\\x{1E030}-\\x{1E06D}\\x{1E4D0}-\\x{1E4EB}\\x{2B739}\\x{2EBF0}-\\x{2EE5D}\\x{31350}-\\x{323AF}"
#define NUMBERS "\\p{N}\\x{11F50}-\\x{11F59}\\x{1D2C0}-\\x{1D2D3}\\x{1E4F0}-\\x{1E4F9}"

#define L "[" LETTERS "]"
#define N "[" NUMBERS "]"
#define S "[" SPACES "]"
#define OTHER "[^" SPACES LETTERS NUMBERS "]" /* neither space nor letter nor number */

#define WORDS "'(?:[stmd]|re|ve|ll)| ?" L "+| ?" OTHER "+|"
#define GPT2 WORDS " ?" N "+|" S "+(?![^" SPACES "])|" S "+"
/* Digits are cut out one by one first and GPT-2's expression runs on what is between them, so that
 * a digit ends a text for it: spaces before one stay together. */
#define SMOLLM WORDS N "|" S "+(?![^" SPACES NUMBERS "])|" S "+"
#define LLAMA3(numbers) "(?i:'(?:[stmd]|re|ve|ll))|[^\\r\\n" LETTERS NUMBERS "]?" L "+|" numbers \
	"| ?" OTHER "+[\\r\\n]*|" S "*[\\r\\n]+|" S "+(?![^" SPACES "])|" S "+"

struct family {
	const char *name; /* tokenizer.ggml.pre */
	const char *regex;
	bool ignores_merges, adds_bos;
};

static const struct family families[] = {
	{ "gpt-2", GPT2, false, false },
	{ "gpt2", GPT2, false, false },
	{ "llama-bpe", LLAMA3(N "{1,3}"), true, true },
	{ "llama-v3", LLAMA3(N "{1,3}"), true, true },
	{ "llama3", LLAMA3(N "{1,3}"), true, true },
	{ "qwen2", LLAMA3(N), false, false },
	{ "smollm", SMOLLM, false, false },
};

struct pretoken {
	const struct family *family;
	pcre2_general_context *memory;
	pcre2_code *code;
	bool is_jit;
};

static void *allocate(size_t bytes, void *user) {
	return base_alloc(bytes, 1);
}

static void release(void *p, void *user) {
	base_free(p);
}

static const struct family *find_family(struct gguf_string name) {
	for (size_t i = 0; i < COUNT(families); i++) {
		if (strlen(families[i].name) == name.bytes
			&& memcmp(families[i].name, name.data, name.bytes) == 0) {
			return &families[i];
		}
	}
	return NULL;
}

bool pretoken_create(struct tokenizer *t, struct gguf_string name, struct bb_error *err) {
	const struct family *family = find_family(name);
	if (family == NULL) {
		char shown[BASE_SHOWN];
		return base_fail(err, BB_ERR_UNSUPPORTED,
			"tokenizer.ggml.pre: expected smollm, qwen2, gpt-2 or llama-bpe, has \"%s\"",
			base_show(name.data, name.bytes, shown, sizeof(shown)));
	}
	struct pretoken *p = t->pretoken = base_alloc(1, sizeof(*p));
	if (p == NULL) {
		return base_no_memory(err, "pre-tokenizer", sizeof(*p));
	}
	p->family = family;
	t->pre = family->name;
	p->memory = pcre2_general_context_create(allocate, release, NULL);
	pcre2_compile_context *how = p->memory == NULL ? NULL : pcre2_compile_context_create(p->memory);
	if (how == NULL) {
		return base_no_memory(err, "pre-tokenizer", sizeof(*p));
	}
	int code;
	PCRE2_SIZE at;
	p->code = pcre2_compile((PCRE2_SPTR)family->regex, PCRE2_ZERO_TERMINATED,
		PCRE2_UTF | PCRE2_UCP | PCRE2_ANCHORED | PCRE2_NO_AUTO_CAPTURE, &code, &at, how);
	pcre2_compile_context_free(how);
	if (p->code == NULL) {
		return base_fail(err,
			code == PCRE2_ERROR_HEAP_FAILED ? BB_ERR_MEMORY : BB_ERR_UNSUPPORTED,
			"%s: the pre-tokenizer doesn't compile: PCRE2 error %d at %zu", family->name, code, at);
	}
	p->is_jit = pcre2_jit_compile(p->code, PCRE2_JIT_COMPLETE) == 0;
	return true;
}

void pretoken_destroy(struct pretoken *p) {
	if (p != NULL) {
		pcre2_code_free(p->code);
		pcre2_general_context_free(p->memory);
		base_free(p);
	}
}

bool pretoken_ignores_merges(const struct pretoken *p) {
	return p->family->ignores_merges;
}

bool pretoken_adds_bos(const struct pretoken *p) {
	return p->family->adds_bos;
}

/* Invalid bytes count as U+FFFD would, a character that is neither space, letter nor number; so
 * does U+0001, which is one byte long. The copy is only read by the expression. */
static bool patch(struct pretoken_scan *s, struct bb_error *err) {
	char *copy = base_alloc(s->bytes, 1);
	if (copy == NULL) {
		return base_no_memory(err, "tokenizer", s->bytes);
	}
	for (size_t i = 0; i < s->bytes;) {
		const int step = base_char(s->text + i, s->bytes - i);
		if (step == 0) {
			copy[i++] = 1;
		} else {
			memcpy(copy + i, s->text + i, (size_t)step);
			i += (size_t)step;
		}
	}
	s->text = s->copy = copy;
	return true;
}

static bool is_valid(const char *p, size_t bytes) {
	for (size_t i = 0; i < bytes;) {
		const int step = base_char(p + i, bytes - i);
		if (step == 0) {
			return false;
		}
		i += (size_t)step;
	}
	return true;
}

bool pretoken_start(struct pretoken_scan *s, const struct pretoken *p, const char *text,
	size_t bytes, struct bb_error *err) {
	*s = (struct pretoken_scan){ .pretoken = p, .text = text, .bytes = bytes };
	if (!is_valid(text, bytes) && !patch(s, err)) {
		return false;
	}
	s->match = pcre2_match_data_create(1, p->memory);
	return s->match != NULL || base_no_memory(err, "pre-tokenizer", bytes);
}

void pretoken_stop(struct pretoken_scan *s) {
	pcre2_match_data_free(s->match);
	base_free(s->copy);
	*s = (struct pretoken_scan){ 0 };
}

bool pretoken_next(struct pretoken_scan *s, size_t *end, struct bb_error *err) {
	const struct pretoken *p = s->pretoken;
	const PCRE2_SPTR text = (PCRE2_SPTR)s->text;
	const int rc = p->is_jit
		? pcre2_jit_match(p->code, text, s->bytes, s->at, 0, s->match, NULL)
		: pcre2_match(p->code, text, s->bytes, s->at, PCRE2_NO_UTF_CHECK, s->match, NULL);
	if (rc < 0) {
		return base_fail(err, BB_ERR_MEMORY,
			"%s: the pre-tokenizer gave up at byte %zu: PCRE2 error %d", p->family->name, s->at,
			rc);
	}
	const size_t next = pcre2_get_ovector_pointer(s->match)[1];
	s->at = *end = next > s->at ? next : s->bytes;
	return true;
}
