/* SPDX-License-Identifier: Apache-2.0
 *
 * From a source of any kind to rules. */
#include "regex.h"
#include "sources.h"

#include "../json.h"

enum { MAX_CHOICE = 1 << 20 }; /* bytes */

static bool read_choice(struct rules *r, const char *source, size_t bytes, uint32_t *root,
	struct bb_error *err) {
	json_error_t problem;
	if (bytes > MAX_CHOICE) {
		return base_fail(err, BB_ERR_UNSUPPORTED, "choice: expected at most %d bytes, has %zu",
			MAX_CHOICE, bytes);
	}
	json_t *list = json_loadb(source, bytes, JSON_DECODE_ANY | JSON_ALLOW_NUL, &problem);
	const size_t n = json_array_size(list);
	struct expr_text *texts = base_alloc(n, sizeof(*texts));
	bool ok = n > 0 || base_fail(err, BB_ERR_INPUT,
		"choice: expected a JSON array of strings, at least one");
	if (ok && texts == NULL) {
		ok = base_no_memory(err, "choice", n * sizeof(*texts));
	}
	for (size_t i = 0; ok && i < n; i++) {
		const json_t *text = json_array_get(list, i);
		ok = json_is_string(text) || base_fail(err, BB_ERR_INPUT,
			"choice: expected a JSON array of strings, element %zu is none", i);
		texts[i] = ok ? (struct expr_text){ json_string_value(text), json_string_length(text) }
			: (struct expr_text){ "", 0 };
	}
	if (ok) {
		*root = rules_term(r, expr_texts(&r->x, texts, n));
	}
	base_free(texts);
	json_decref(list);
	return ok;
}

static bool read_regex(struct rules *r, const char *source, size_t bytes, uint32_t *root,
	struct bb_error *err) {
	uint32_t expr;
	if (!regex_parse(&r->x, "regex", source, bytes, CHARS_UTF8, REGEX_WHOLE, &expr, err)) {
		return false;
	}
	*root = rules_term(r, expr);
	return true;
}

bool source_compile(struct rules *r, enum bb_grammar_kind kind, const char *source, size_t bytes,
	struct bb_error *err) {
	return source_compile_indented(r, kind, source, bytes, SOURCE_ONE_LINE, err);
}

bool source_compile_indented(struct rules *r, enum bb_grammar_kind kind, const char *source,
	size_t bytes, int indent, struct bb_error *err) {
	bool ok;
	switch (kind) {
	case BB_GRAMMAR_JSON_SCHEMA:
		ok = schema_read(r, source, bytes, indent, &r->root, err);
		break;
	case BB_GRAMMAR_JSON_OBJECT:
		ok = schema_any_object(r, indent, &r->root, err);
		break;
	case BB_GRAMMAR_STRUCTURE:
		ok = structure_read(r, source, bytes, &r->root, err);
		break;
	case BB_GRAMMAR_REGEX:
		ok = read_regex(r, source, bytes, &r->root, err);
		break;
	case BB_GRAMMAR_CHOICE:
		ok = read_choice(r, source, bytes, &r->root, err);
		break;
	default:
		ok = gbnf_read(r, source, bytes, &r->root, err);
		if (ok) {
			rules_flatten(r);
		}
	}
	return ok && rules_finish(r, kind == BB_GRAMMAR_JSON_SCHEMA ? "JSON schema: no JSON fits it"
		: "expected a grammar that some text fits, none fits this one", err);
}
