/* SPDX-License-Identifier: Apache-2.0
 *
 * From fields to one grammar. */
#include "constraint.h"

#include "fields.h"
#include "server.h"

#include <string.h>

enum { ONE_LINE = -1 };

struct wanted {
	const char *param;
	enum bb_grammar_kind kind;
	const json_t *source; /* a string where the kind takes one, else JSON */
	int indent;           /* of JSON, spaces a level; ONE_LINE */
};

static bool refuse(struct exchange *x, const char *param, const char *what) {
	return reply_error(x, 400, param, "invalid_value", "'%s' %s", param, what);
}

static bool add(struct exchange *x, struct wanted *w, int *n, const char *param,
	enum bb_grammar_kind kind, const json_t *source) {
	if (source == NULL || json_is_null(source)) {
		return true;
	}
	if (++*n > 1) {
		return refuse(x, param, "comes beside another field that says what the text must be");
	}
	*w = (struct wanted){ param, kind, source, w->indent };
	return true;
}

static bool add_format(struct exchange *x, struct wanted *w, int *n) {
	static const char param[] = "response_format";
	const json_t *format = field(x->in, param);
	const char *type = json_string_value(json_object_get(format, "type"));
	if (format == NULL) {
		return true;
	}
	if (type == NULL) {
		return refuse(x, param, "must have a type of text, json_object or json_schema");
	}
	const json_t *schema = json_object_get(format, "schema"); /* llama-server's, and responses' */
	if (strcmp(type, "json_schema") == 0) {
		const json_t *inner = json_object_get(json_object_get(format, "json_schema"), "schema");
		schema = inner != NULL ? inner : schema;
		return json_is_object(schema) || json_is_boolean(schema)
			? add(x, w, n, param, BB_GRAMMAR_JSON_SCHEMA, schema)
			: refuse(x, param, "has no json_schema.schema that is an object");
	}
	if (strcmp(type, "json_object") == 0) {
		return json_is_object(schema) ? add(x, w, n, param, BB_GRAMMAR_JSON_SCHEMA, schema)
			: add(x, w, n, param, BB_GRAMMAR_JSON_OBJECT, format);
	}
	return strcmp(type, "text") == 0 || reply_error(x, 400, param, "unsupported_parameter",
		"'response_format' is of type '%.40s', expected text, json_object or json_schema", type);
}

static bool add_all(struct exchange *x, struct wanted *w, int *n) {
	static const struct {
		const char *name, *inner; /* inner: in structured_outputs */
		enum bb_grammar_kind kind;
	} rows[] = {
		{ "guided_json", "json", BB_GRAMMAR_JSON_SCHEMA },
		{ "json_schema", NULL, BB_GRAMMAR_JSON_SCHEMA },
		{ "guided_regex", "regex", BB_GRAMMAR_REGEX }, { "regex", NULL, BB_GRAMMAR_REGEX },
		{ "guided_choice", "choice", BB_GRAMMAR_CHOICE },
		{ "guided_grammar", "grammar", BB_GRAMMAR_GBNF }, { "grammar", NULL, BB_GRAMMAR_GBNF },
	};
	const json_t *outputs = field(x->in, "structured_outputs");
	bool ok = add_format(x, w, n);
	for (size_t i = 0; ok && i < sizeof(rows) / sizeof(rows[0]); i++) {
		ok = add(x, w, n, rows[i].name, rows[i].kind, json_object_get(x->in, rows[i].name)) &&
			(rows[i].inner == NULL || add(x, w, n, "structured_outputs", rows[i].kind,
				json_object_get(outputs, rows[i].inner)));
	}
	if (ok && json_is_true(json_object_get(outputs, "json_object"))) {
		ok = add(x, w, n, "structured_outputs", BB_GRAMMAR_JSON_OBJECT, outputs);
	}
	return ok;
}

/* indent is xgrammar's name. Other white space is for the grammar to choose. */
static bool read_indent(struct exchange *x, struct wanted *w) {
	static const char *const unsupported[] = {
		"structured_outputs.whitespace_pattern", NULL };
	static const char param[] = "structured_outputs";
	const json_t *outputs = field(x->in, param);
	if (outputs != NULL && !json_is_object(outputs)) {
		return refuse(x, param, "must be an object");
	}
	if (!fields_unsupported(x, x->in, (const char *const[]){ "guided_whitespace_pattern", NULL }) ||
		!fields_unsupported(x, outputs, unsupported) ||
		!field_int(x, outputs, "structured_outputs.indent", 0, BB_MAX_INDENT, &w->indent)) {
		return false;
	}
	return w->indent == ONE_LINE || w->kind == BB_GRAMMAR_JSON_SCHEMA ||
		w->kind == BB_GRAMMAR_JSON_OBJECT ||
		refuse(x, param, "has an indent, which only JSON can have");
}

static bool create(const struct bb_engine *e, const struct wanted *w, const struct buf *text,
	struct bb_grammar **out, struct bb_error *err) {
	const char *source = buf_string(text);
	return w->indent == ONE_LINE
		? bb_grammar_create(out, e, w->kind, source, text->bytes, err)
		: bb_grammar_create_indented(out, e, w->kind, source, text->bytes, w->indent, err);
}

static bool make(const struct bb_engine *e, const struct wanted *w, struct bb_grammar **out,
	struct bb_error *err) {
	const json_t *source = w->source;
	struct buf text = { 0 };
	/* vLLM takes schemas as texts, too. */
	const bool is_text = json_is_string(source) && w->kind != BB_GRAMMAR_CHOICE;
	if (is_text) {
		buf_add(&text, json_string_value(source), json_string_length(source));
	} else {
		buf_json(&text, source);
	}
	const bool ok = text.has_failed ? server_fail(err, BB_ERR_MEMORY, "no memory for a grammar")
		: create(e, w, &text, out, err);
	buf_finish(&text);
	return ok;
}

bool constraint_read(struct exchange *x, struct bb_grammar **out, const json_t **schema) {
	struct wanted w = { .kind = BB_GRAMMAR_CHOICE, .indent = ONE_LINE };
	struct bb_error err = { 0 };
	int n = 0;
	*out = NULL;
	*schema = NULL;
	if (!add_all(x, &w, &n) || !read_indent(x, &w) || n == 0) {
		return x->status == 0;
	}
	const bool wants_text = w.kind == BB_GRAMMAR_REGEX || w.kind == BB_GRAMMAR_GBNF;
	if (wants_text && !json_is_string(w.source)) {
		return refuse(x, w.param, "must be a string");
	}
	if (!bb_has_vocab(x->server->engine)) {
		return refuse(x, w.param, "needs a model with a vocabulary");
	}
	if (w.kind == BB_GRAMMAR_JSON_SCHEMA && w.indent == ONE_LINE && !json_is_string(w.source)) {
		*schema = w.source;
	}
	return make(x->server->engine, &w, out, &err) ||
		reply_engine_error(x, w.param, &err);
}

bool constraint_of_schema(const struct bb_engine *e, const json_t *schema, struct bb_grammar **out,
	struct bb_error *err) {
	const struct wanted w = { NULL, BB_GRAMMAR_JSON_SCHEMA, schema, ONE_LINE };
	return make(e, &w, out, err);
}

bool constraint_of_structure(const struct bb_engine *e, const json_t *structure,
	struct bb_grammar **out, struct bb_error *err) {
	const struct wanted w = { NULL, BB_GRAMMAR_STRUCTURE, structure, ONE_LINE };
	return make(e, &w, out, err);
}
