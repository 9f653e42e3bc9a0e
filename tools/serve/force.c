/* SPDX-License-Identifier: Apache-2.0
 *
 * One tool: the prompt goes on to its arguments, which its schema constrains. One of several: the
 * prompt goes on to a call, an object that says which. */
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

bool force_call(struct exchange *x, struct conversation *c) {
	const struct tool_format *f = x->server->tools;
	const json_t *tool = the_tool(c);
	if (f == NULL) {
		return true;
	}
	if (tool == NULL && f->arguments != NULL) {
		if (!constrain(x, c, any_call(c, f->arguments))) {
			return false;
		}
		buf_text(&c->forced, f->before);
		buf_text(&c->closing, f->after);
		return true;
	}
	if (tool != NULL && f->closing != NULL && !constrain(x, c, parameters_of(tool))) {
		return false;
	}
	buf_text(&c->forced, f->opening);
	if (tool != NULL) {
		buf_text(&c->forced, json_string_value(json_object_get(function_of(tool), "name")));
		buf_text(&c->forced, f->naming);
		buf_text(&c->closing, c->grammar != NULL ? f->closing : "");
	}
	return true;
}

bool force_strict(struct exchange *x, struct conversation *c, const json_t *schema, bool is_one) {
	const struct server *s = x->server;
	const char *source = c->source != NULL ? c->source : s->template_source;
	struct strict j = { .format = s->tools, .tools = c->tools, .strict = c->strict,
		.source = source != NULL ? source : "", .schema = schema, .is_one = is_one,
		.is_thinking = c->is_thinking, .may_think = s->reasons && !c->continues };
	struct bb_error err = { 0 };
	if ((c->strict == NULL && schema == NULL) || s->tools == NULL || c->choice != TOOLS_AUTO) {
		return true;
	}
	json_t *structure = strict_structure(&j);
	bool ok = structure != NULL || reply_no_memory(x);
	if (ok && j.refused != NULL) {
		ok = reply_error(x, 400, "tools", "unsupported_parameter", "'strict' %s", j.refused);
	}
	ok = ok && (constraint_of_structure(s->engine, structure, &c->grammar, &err) ||
		reply_engine_error(x, "tools", &err));
	json_decref(structure);
	return ok;
}
