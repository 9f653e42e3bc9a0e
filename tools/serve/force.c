/* SPDX-License-Identifier: Apache-2.0
 *
 * One tool: the prompt goes on to its arguments, which its schema constrains. One of several: the
 * prompt goes on to a call, an object that says which. Where calls aren't JSON, it goes on to the
 * mark before them, and a structure says what follows; so it does where a call isn't a must. */
#include "force.h"

#include "constraint.h"
#include "server.h"
#include "strict.h"

#include <stdlib.h>
#include <string.h>

static const json_t *function_of(const json_t *tool) {
	return json_object_get(tool, "function");
}

static json_t *parameters_of(const json_t *tool) {
	json_t *schema = json_object_get(function_of(tool), "parameters");
	return json_is_object(schema) ? json_deep_copy(schema) : json_pack("{s:s}", "type", "object");
}

static const json_t *the_tool(const struct conversation *c) {
	size_t i;
	const json_t *tool;
	json_array_foreach(c->tools, i, tool) {
		const char *name = json_string_value(json_object_get(function_of(tool), "name"));
		if (c->tool != NULL ? strcmp(name, c->tool) == 0 : json_array_size(c->tools) == 1) {
			return tool;
		}
	}
	return NULL;
}

/* A schema that becomes a part of another one: its references begin where it begins. */
static void move_refs(json_t *value, const char *place) {
	const char *key;
	json_t *item;
	size_t i;
	json_array_foreach(value, i, item) {
		move_refs(item, place);
	}
	json_object_foreach(value, key, item) {
		const char *to = json_string_value(item);
		if (strcmp(key, "$ref") == 0 && to != NULL && to[0] == '#') {
			json_object_set_new(value, key, json_sprintf("#%s%s", place, to + 1));
		} else {
			move_refs(item, place);
		}
	}
}

static json_t *any_call(const struct conversation *c, const char *arguments) {
	json_t *list = json_array();
	size_t i;
	const json_t *tool;
	json_array_foreach(c->tools, i, tool) {
		char place[64];
		json_t *schema = parameters_of(tool);
		snprintf(place, sizeof(place), "/anyOf/%zu/properties/%s", i, arguments);
		move_refs(schema, place);
		json_array_append_new(list, json_pack("{s:s, s:{s:{s:O}, s:o}, s:[s, s], s:b}", "type",
			"object", "properties", "name", "const", json_object_get(function_of(tool), "name"),
			arguments, schema, "required", "name", arguments, "additionalProperties", 0));
	}
	return json_pack("{s:o}", "anyOf", list);
}

/* Takes the schema. */
static bool constrain(struct exchange *x, struct conversation *c, json_t *schema) {
	struct bb_error err = { 0 };
	const bool ok = schema != NULL ? constraint_of_schema(x->server->engine, schema, &c->grammar,
		&err) || reply_engine_error(x, "tools", &err) : reply_no_memory(x);
	json_decref(schema);
	return ok;
}

static struct strict strict_of(const struct exchange *x, const struct conversation *c) {
	const char *source = c->source != NULL ? c->source : x->server->template_source;
	return (struct strict){ .format = x->server->tools, .tools = c->tools, .strict = c->strict,
		.source = source != NULL ? source : "", .is_one = c->one_call };
}

/* Takes the structure. */
static bool hold(struct exchange *x, struct conversation *c, const struct strict *s,
	json_t *structure) {
	struct bb_error err = { 0 };
	bool ok = structure != NULL || reply_no_memory(x);
	if (ok && s->refused != NULL) {
		ok = reply_error(x, 400, "tools", "unsupported_parameter", "'strict' %s", s->refused);
	}
	ok = ok && (constraint_of_structure(x->server->engine, structure, &c->grammar, &err) ||
		reply_engine_error(x, "tools", &err));
	json_decref(structure);
	return ok;
}

/* Where a call isn't JSON behind a name: the prompt goes on to where calls begin. */
static bool force_structure(struct exchange *x, struct conversation *c, const json_t *tool) {
	struct strict s = strict_of(x, c);
	json_t *only = tool != NULL ? json_pack("[O]", tool) : json_incref(c->tools);
	s.tools = only;
	s.is_one = c->one_call || c->tool != NULL;
	const bool ok = hold(x, c, &s, strict_calls(&s));
	json_decref(only);
	buf_text(&c->forced, s.format->begin != NULL ? s.format->begin : "");
	return ok;
}

bool force_call(struct exchange *x, struct conversation *c) {
	const struct tool_format *f = x->server->tools;
	const json_t *tool = the_tool(c);
	if (f == NULL) {
		return reply_error(x, 400, "tool_choice", "unsupported_parameter", "'tool_choice' asks for "
			"a call, but this server reads none (--tool-call-parser none)");
	}
	if (!bb_has_vocab(x->server->engine)) {
		return reply_error(x, 400, "tool_choice", "unsupported_parameter",
			"'tool_choice' asks for a call, which needs a model with a vocabulary");
	}
	if (tool == NULL && f->arguments != NULL) {
		if (!constrain(x, c, any_call(c, f->arguments))) {
			return false;
		}
		buf_text(&c->forced, f->before);
		buf_text(&c->closing, f->after);
		return true;
	}
	if (tool == NULL || f->closing == NULL) {
		return force_structure(x, c, tool);
	}
	if (!constrain(x, c, parameters_of(tool))) {
		return false;
	}
	buf_text(&c->forced, f->opening);
	buf_text(&c->forced, json_string_value(json_object_get(function_of(tool), "name")));
	buf_text(&c->forced, f->naming);
	buf_text(&c->closing, f->closing);
	return true;
}

bool force_strict(struct exchange *x, struct conversation *c, const json_t *schema) {
	struct strict s = strict_of(x, c);
	s.schema = schema;
	s.thinking = c->thinking;
	return (c->strict == NULL && schema == NULL) || s.format == NULL || c->choice != TOOLS_AUTO ||
		hold(x, c, &s, strict_structure(&s));
}
