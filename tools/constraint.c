/* SPDX-License-Identifier: Apache-2.0
 *
 * From options about the generated text to a grammar. */
#include "constraint.h"

#include "input.h"
#include "terminal.h"

#include <stdlib.h>
#include <string.h>

#define AT(member) offsetof(struct constraint_options, member)

const struct arg_option constraint_table[] = {
	{ "--json-schema", "FILE|TEXT", "JSON that is valid by this schema; text begins with '{'",
		ARG_TEXT, AT(json_schema) },
	{ "--json-indent", "N", "with --json-schema or --json-object: over many lines, N spaces a level"
		" (default: one line)", ARG_INT, AT(json_indent), 0, BB_MAX_INDENT },
	{ "--json-object", NULL, "any JSON object", ARG_FLAG, AT(json_object) },
	{ "--regex", "REGEX", "a text that matches as a whole", ARG_TEXT, AT(regex) },
	{ "--choice", "TEXT", "one of these texts; may be repeated", ARG_TEXTS, AT(choice) },
	{ "--grammar", "FILE", "what a grammar in GBNF derives from its rule 'root'", ARG_TEXT,
		AT(grammar) },
	{ 0 },
};

int constraint_check(const struct constraint_options *o) {
	const int n = (o->json_schema != NULL) + o->json_object + (o->regex != NULL) +
		(o->choice.n > 0) + (o->grammar != NULL);
	if (o->json_indent != CONSTRAINT_ONE_LINE && o->json_schema == NULL && !o->json_object) {
		return usage_error("option '--json-indent' needs --json-schema or --json-object");
	}
	return n <= 1 ? -1 : usage_error("of --json-schema, --json-object, --regex, --choice and "
		"--grammar %d are given; one is enough", n);
}

static bool create_json(const struct constraint_options *o, const struct bb_engine *e,
	enum bb_grammar_kind kind, const char *text, size_t bytes, struct bb_grammar **out,
	struct bb_error *err) {
	return o->json_indent == CONSTRAINT_ONE_LINE
		? bb_grammar_create(out, e, kind, text, bytes, err)
		: bb_grammar_create_indented(out, e, kind, text, bytes, o->json_indent, err);
}

static bool create_of_schema(const struct constraint_options *o, const struct bb_engine *e,
	struct bb_grammar **out, struct bb_error *err) {
	const char *text = o->json_schema + strspn(o->json_schema, " \t\r\n");
	if (text[0] == '{') {
		return create_json(o, e, BB_GRAMMAR_JSON_SCHEMA, text, strlen(text), out, err);
	}
	struct input in = { 0 };
	const bool ok = input_read(o->json_schema, &in, err) && create_json(o, e,
		BB_GRAMMAR_JSON_SCHEMA, in.data != NULL ? in.data : "", in.bytes, out, err);
	input_finish(&in);
	return ok;
}

/* Of a file's bytes. */
static bool create_of_file(const char *path, const struct bb_engine *e, enum bb_grammar_kind kind,
	struct bb_grammar **out, struct bb_error *err) {
	struct input in = { 0 };
	const bool ok = input_read(path, &in, err) &&
		bb_grammar_create(out, e, kind, in.data != NULL ? in.data : "", in.bytes, err);
	input_finish(&in);
	return ok;
}

static bool create_of_choices(const struct arg_texts *choice, const struct bb_engine *e,
	struct bb_grammar **out, struct bb_error *err) {
	json_t *list = json_array();
	bool ok = true;
	for (int i = 0; ok && i < choice->n; i++) {
		ok = json_array_append_new(list, json_string(choice->v[i])) == 0 || input_fail(err,
			BB_ERR_INPUT, "option '--choice' is expected to be UTF-8, number %d isn't", i + 1);
	}
	char *text = ok ? json_dumps(list, JSON_COMPACT) : NULL;
	if (ok && text == NULL) {
		ok = input_fail(err, BB_ERR_MEMORY, "choices: no memory");
	}
	ok = ok && bb_grammar_create(out, e, BB_GRAMMAR_CHOICE, text, strlen(text), err);
	free(text);
	json_decref(list);
	return ok;
}

bool constraint_create(const struct constraint_options *o, const struct bb_engine *e,
	struct bb_grammar **out, struct bb_error *err) {
	*out = NULL;
	if (o->json_schema != NULL) {
		return create_of_schema(o, e, out, err);
	}
	if (o->json_object) {
		return create_json(o, e, BB_GRAMMAR_JSON_OBJECT, "", 0, out, err);
	}
	if (o->regex != NULL) {
		return bb_grammar_create(out, e, BB_GRAMMAR_REGEX, o->regex, strlen(o->regex), err);
	}
	if (o->grammar != NULL) {
		return create_of_file(o->grammar, e, BB_GRAMMAR_GBNF, out, err);
	}
	return o->choice.n == 0 || create_of_choices(&o->choice, e, out, err);
}
