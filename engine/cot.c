/* SPDX-License-Identifier: Apache-2.0
 *
 * CoT steps: a step of text ends with the token that completes a blank line behind words, or, once
 * it is long enough, a sentence or a line. */
#include "cot.h"

#include <string.h>

bool cot_read(const struct gguf *g, bool *each_token, struct bb_error *err) {
	static const char key[] = "bobbin.cot_step";
	struct gguf_string kind = { "text", 4 };
	bool found;
	if (!gguf_str(g, key, &kind, &found, err)) {
		return false;
	}
	*each_token = kind.bytes == 5 && memcmp(kind.data, "token", 5) == 0;
	if (*each_token || (kind.bytes == 4 && memcmp(kind.data, "text", 4) == 0)) {
		return true;
	}
	char shown[BASE_SHOWN];
	return base_fail(err, BB_ERR_FORMAT, "metadata key '%s' is '%s', expected text or token", key,
		base_show(kind.data, kind.bytes, shown, sizeof(shown)));
}

void cot_finish(struct cot *c) {
	bb_text_finish(&c->text);
}

static bool is_blank(char byte) {
	return byte == ' ' || byte == '\t' || byte == '\r';
}

static void look_at(struct cot *c, const char *text, size_t bytes) {
	for (size_t i = 0; i < bytes; i++) {
		if (text[i] == '\n') {
			c->n_newlines++;
			c->has_blank_line = c->has_blank_line || (c->has_words && c->n_newlines >= 2);
		} else if (!is_blank(text[i])) {
			c->n_newlines = 0;
			c->has_words = true;
		}
	}
}

/* Which of `ends` the text ends with: its bytes, 0 for none. */
static size_t bytes_of_end(const char *text, size_t bytes, const char *const *ends, size_t n_ends) {
	for (size_t i = 0; i < n_ends; i++) {
		const size_t n = strlen(ends[i]);
		if (bytes >= n && memcmp(text + bytes - n, ends[i], n) == 0) {
			return n;
		}
	}
	return 0;
}

/* A full stop behind a digit may be a decimal point, or of a list. */
static bool ends_sentence(const struct cot *c) {
	static const char *const closing[] = { "\"", "'", ")", "*", "\u201D", "\u2019" };
	static const char *const stops[] = { "!", "?", "\u2026", "\u3002", "\uFF01", "\uFF1F" };
	const char *text = c->text.data;
	size_t n = c->text.bytes, cut;
	do {
		cut = bytes_of_end(text, n, closing, COUNT(closing));
		n -= cut;
	} while (cut > 0);
	return bytes_of_end(text, n, stops, COUNT(stops)) > 0 ||
		(n >= 2 && text[n - 1] == '.' && (text[n - 2] < '0' || text[n - 2] > '9'));
}

bool cot_may_pause(const struct cot *c) {
	return c->each_token || (c->has_words && (c->n_newlines > 0 || ends_sentence(c)));
}

static bool has_ended(const struct cot *c) {
	return c->each_token || c->has_blank_line ||
		(c->n_tokens >= COT_MIN_TOKENS && cot_may_pause(c));
}

bool cot_add(struct cot *c, int place, double logprob, const char *text, size_t bytes,
	struct bb_error *err) {
	if (c->has_ended) {
		struct bb_text room = c->text;
		room.bytes = 0;
		*c = (struct cot){ .each_token = c->each_token, .i_step = c->i_step + 1, .text = room };
	}
	if (!base_append(&c->text, text, bytes, err)) {
		return false;
	}
	c->first = c->n_tokens == 0 ? place : c->first;
	c->n_tokens++;
	c->logprob += logprob;
	look_at(c, text, bytes);
	c->has_ended = has_ended(c);
	return true;
}
