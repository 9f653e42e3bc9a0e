/* SPDX-License-Identifier: Apache-2.0
 *
 * From tools and a format to a structure (BB_GRAMMAR_STRUCTURE). All functions that make a part of
 * it take theirs, and give NULL where there was no memory. */
#include "strict.h"

#include <stdarg.h>
#include <string.h>

/* ---- parts ---- */

static json_t *join(const char *how, int n, ...) {
	json_t *list = json_array();
	bool ok = list != NULL;
	va_list parts;
	va_start(parts, n);
	for (int i = 0; i < n; i++) {
		json_t *part = va_arg(parts, json_t *);
		ok = ok && part != NULL;
		if (ok) {
			ok = json_array_append_new(list, part) == 0;
		} else {
			json_decref(part);
		}
	}
	va_end(parts);
	if (!ok) {
		json_decref(list);
		return NULL;
	}
	return json_pack("{s:o}", how, list);
}

#define SEQ(n, ...) join("seq", n, __VA_ARGS__)
#define ANY(n, ...) join("any", n, __VA_ARGS__)

static json_t *regex(const char *source) {
	return json_pack("{s:s}", "regex", source);
}

static json_t *blank(void) { /* as much as models write; a bound, so that they come to an end */
	return regex("[ \\t\\r\\n]{0,4}");
}

static json_t *space(void) {
	return regex(" ?");
}

static json_t *mark(const char *text) {
	return json_pack("{s:s}", "mark", text);
}

static json_t *maybe(json_t *part) {
	return ANY(2, part, json_string(""));
}

static json_t *list(json_t *part, json_t *between) {
	return part != NULL && between != NULL
		? json_pack("{s:o, s:o}", "list", part, "between", between)
		: (json_decref(part), json_decref(between), NULL);
}

/* ---- tools ---- */

static const json_t *function_of(const json_t *tool) {
	return json_object_get(tool, "function");
}

static const char *name_of(const json_t *tool) {
	return json_string_value(json_object_get(function_of(tool), "name"));
}

/* One of all tools' calls, each made by a function. */
typedef json_t *call_fn(struct strict *j, const json_t *tool, bool is_strict);

static json_t *any_tool(struct strict *j, call_fn *fn) {
	json_t *all = json_array();
	size_t i;
	const json_t *tool;
	json_array_foreach(j->tools, i, tool) {
		json_t *one = fn(j, tool, j->must_call || json_is_true(json_array_get(j->strict, i)));
		if (one == NULL || json_array_append_new(all, one) != 0) {
			json_decref(all);
			return NULL;
		}
	}
	return json_pack("{s:o}", "any", all);
}

/* What isn't strict is an object all the same: without that it's no call. */
static json_t *schema_of(const json_t *tool, bool is_strict) {
	json_t *schema = json_object_get(function_of(tool), "parameters");
	return is_strict && json_is_object(schema) ? json_incref(schema)
		: json_pack("{s:s}", "type", "object");
}

static json_t *arguments_of(const json_t *tool, bool is_strict) {
	return json_pack("{s:o}", "schema", schema_of(tool, is_strict));
}

/* {"name": NAME, "arguments": {...}} */
static json_t *json_call(struct strict *j, const json_t *tool, bool is_strict) {
	(void)j;
	return SEQ(10, json_string("{"), space(), json_string("\"name\":"), space(),
		json_sprintf("\"%s\"", name_of(tool)), regex(" ?, ?\"(arguments|parameters)\" ?:"), space(),
		arguments_of(tool, is_strict), space(), json_string("}"));
}

/* ---- arguments one by one, in formats that don't write an object ---- */

/* A property's schema by itself, with what its references mean. */
static json_t *property_schema(const json_t *whole, const json_t *property) {
	static const char *const shared[] = { "$defs", "definitions" };
	json_t *schema = json_is_object(property) ? json_copy((json_t *)(size_t)property)
		: json_deep_copy(property);
	for (size_t i = 0; i < sizeof(shared) / sizeof(shared[0]); i++) {
		json_t *defs = json_object_get(whole, shared[i]);
		if (defs != NULL && json_is_object(schema)) {
			json_object_set(schema, shared[i], defs);
		}
	}
	return json_pack("{s:o}", "schema", schema);
}

/* {name: true} of what is required. */
static json_t *required_of(const json_t *schema) {
	json_t *all = json_object();
	size_t i;
	const json_t *item;
	json_array_foreach(json_object_get(schema, "required"), i, item) {
		if (json_is_string(item) &&
			json_object_set_new(all, json_string_value(item), json_true()) != 0) {
			json_decref(all);
			return NULL;
		}
	}
	return all;
}

/* Whether an object's properties say all of a schema. */
static bool is_plain(const json_t *schema) {
	static const char *const others[] = { "$ref", "allOf", "anyOf", "oneOf", "enum", "const" };
	for (size_t i = 0; i < sizeof(others) / sizeof(others[0]); i++) {
		if (json_object_get(schema, others[i]) != NULL) {
			return false;
		}
	}
	size_t i;
	const json_t *item;
	json_array_foreach(json_object_get(schema, "required"), i, item) {
		const char *name = json_string_value(item);
		if (name == NULL || json_object_get(json_object_get(schema, "properties"), name) == NULL) {
			return false;
		}
	}
	return true;
}

/* before KEY behind VALUE end, one for each property in order, with `between` between them; of a
 * tool that isn't strict any of them. */
struct style {
	const char *before, *behind, *end;
	bool is_python; /* True and False are words, too */
};

static json_t *argument(const struct style *st, const char *name, json_t *value) {
	return SEQ(3, json_sprintf("%s%s%s", st->before, name, st->behind), value,
		json_string(st->end));
}

static json_t *named_arguments(struct strict *j, const json_t *tool, bool is_strict,
	const struct style *st, json_t *between) {
	const json_t *schema = json_object_get(function_of(tool), "parameters");
	json_t *all = json_array();
	const char *name;
	const json_t *property;
	is_strict = is_strict && (!j->must_call || is_plain(schema));
	if (is_strict && !is_plain(schema)) {
		j->refused = "can't be enforced: this model writes arguments one by one, which needs "
			"parameters that are an object with 'properties' and no $ref, allOf, anyOf, oneOf, "
			"enum or const beside them";
	}
	json_t *required = required_of(is_strict ? schema : NULL);
	bool ok = between != NULL && required != NULL;
	json_object_foreach((json_t *)(size_t)json_object_get(schema, "properties"), name, property) {
		const char *type = json_string_value(json_object_get(property, "type"));
		json_t *value = is_strict ? property_schema(schema, property)
			: json_pack("{s:b}", "schema", 1);
		if (st->is_python && type != NULL && strcmp(type, "boolean") == 0) {
			value = ANY(2, regex("True|False"), value);
		}
		json_t *one = argument(st, name, value);
		const bool must = json_object_get(required, name) != NULL;
		ok = one != NULL && json_array_append_new(all, json_pack("[o, b]", one, must)) == 0 && ok;
		if (!ok) {
			break;
		}
	}
	json_decref(required);
	if (!ok) {
		json_decref(all);
		json_decref(between);
		return NULL;
	}
	return json_pack("{s:o, s:o}", "some", all, "between", between);
}

/* NAME(KEY=VALUE, ...) */
static json_t *python_call(struct strict *j, const json_t *tool, bool is_strict) {
	static const struct style st = { "", "=", "", true };
	return SEQ(3, json_sprintf("%s(", name_of(tool)),
		named_arguments(j, tool, is_strict, &st, json_string(", ")), json_string(")"));
}

/* Qwen3-Coder's. Values are JSON, which its reader takes as such. */
static json_t *tagged_call(struct strict *j, const json_t *tool, bool is_strict) {
	static const struct style st = { "<parameter=", ">\n", "\n</parameter>", false };
	return SEQ(5, json_sprintf("<function=%s>", name_of(tool)), blank(),
		named_arguments(j, tool, is_strict, &st, json_string("\n")), blank(),
		json_string("</function>"));
}

/* ---- formats: what stands behind the mark that begins calls, with the mark that ends them ---- */

static json_t *hermes(struct strict *j) {
	json_t *call = strstr(j->source, "<function=") != NULL ? any_tool(j, tagged_call)
		: any_tool(j, json_call);
	return SEQ(4, blank(), call, blank(), mark(j->format->end));
}

/* NAME[CALL_ID]...[ARGS]{...} */
static json_t *mistral_call(struct strict *j, const json_t *tool, bool is_strict) {
	(void)j;
	return SEQ(4, json_string(name_of(tool)),
		maybe(SEQ(2, mark("[CALL_ID]"), regex("[A-Za-z0-9_-]{1,40}"))), maybe(mark("[ARGS]")),
		arguments_of(tool, is_strict));
}

static json_t *mistral(struct strict *j) {
	if (strstr(j->source, "[ARGS]") != NULL) {
		json_t *call = any_tool(j, mistral_call);
		return j->is_one ? call : list(call, mark(j->format->begin));
	}
	json_t *call = any_tool(j, json_call);
	call = j->is_one ? call : list(call, SEQ(2, json_string(","), blank()));
	return SEQ(5, json_string("["), blank(), call, blank(), json_string("]"));
}

/* As V3 and R1 write it, or V3.1. */
static json_t *deepseek_call(struct strict *j, const json_t *tool, bool is_strict) {
	const bool is_new = j->source[0] != '\0' && strstr(j->source, "```json") == NULL;
	json_t *call = is_new
		? SEQ(3, json_string(name_of(tool)), mark(DEEPSEEK("sep")), arguments_of(tool, is_strict))
		: SEQ(5, json_string("function"), mark(DEEPSEEK("sep")),
			json_sprintf("%s\n```json\n", name_of(tool)), arguments_of(tool, is_strict),
			json_string("\n```"));
	return SEQ(3, mark(DEEPSEEK("call\u2581begin")), call, mark(DEEPSEEK("call\u2581end")));
}

static json_t *deepseek(struct strict *j) {
	json_t *call = any_tool(j, deepseek_call);
	return SEQ(4, blank(), j->is_one ? call : list(call, blank()), blank(), mark(j->format->end));
}

static json_t *pythonic(struct strict *j) {
	json_t *call = any_tool(j, python_call);
	return SEQ(6, blank(), json_string("["), j->is_one ? call : list(call, json_string(", ")),
		json_string("]"), blank(), j->format->end != NULL ? mark(j->format->end) : json_string(""));
}

/* Calls as objects that are the whole text. */
static json_t *objects(struct strict *j) {
	json_t *call = any_tool(j, json_call);
	return SEQ(4, maybe(mark("<|python_tag|>")), blank(),
		j->is_one ? call : list(call, SEQ(3, blank(), regex(";?"), blank())), blank());
}

static json_t *behind_begin(struct strict *j) {
	return strcmp(j->format->name, "mistral") == 0 ? mistral(j)
		: strcmp(j->format->name, "deepseek") == 0 ? deepseek(j)
		: strcmp(j->format->name, "lfm2") == 0 ? pythonic(j) : hermes(j);
}

/* Whether a text may begin with a call without a mark before it. */
static bool starts_with_call(const struct strict *j) {
	return j->format->starts[0] != NULL;
}

/* Of a format that starts_with_call: the calls. */
static json_t *as_whole(struct strict *j) {
	return j->format->starts[0][0] == '[' ? pythonic(j) : objects(j);
}

/* What shows that a text begins with a call. */
static json_t *sign(struct strict *j) {
	if (!starts_with_call(j)) {
		return NULL;
	}
	if (j->format->starts[0][0] == '{') {
		return SEQ(4, regex("[ \\t\\r\\n]*"), maybe(mark("<|python_tag|>")), regex("[ \\t\\r\\n]*"),
			regex("\\{[ \\t\\r\\n]*\"(name|function|type|id|arguments|parameters)\""));
	}
	json_t *names = json_array();
	size_t i;
	const json_t *tool;
	json_array_foreach(j->tools, i, tool) {
		json_array_append_new(names, json_string(name_of(tool)));
	}
	return SEQ(3, regex("[ \\t\\r\\n]*\\[[ \\t\\r\\n]*"), json_pack("{s:o}", "any", names),
		regex("[ \\t\\r\\n]*\\("));
}

/* ---- the whole ---- */

/* Free text that hasn't the mark, or ends with its first. first: as what it may not begin, kept by
 * the caller; or NULL. */
static json_t *free_text(const char *how, const char *text, json_t *first) {
	return json_pack("{s:s?, s:O?}", how, text, "not_first", first);
}

/* Text and calls. */
static json_t *answer(struct strict *j, json_t *first) {
	const char *begin = j->format->begin;
	json_t *text = free_text("without", begin, first);
	if (begin == NULL) {
		return ANY(2, text, as_whole(j));
	}
	json_t *one = SEQ(2, free_text("until", begin, first), behind_begin(j));
	/* Without a mark for their end, calls are all that there is. */
	json_t *calls = j->is_one || j->format->end == NULL ? SEQ(2, one, blank())
		: SEQ(2, json_pack("{s:o}", "list", one), json_incref(text));
	return starts_with_call(j) ? ANY(3, text, calls, as_whole(j)) : ANY(2, text, calls);
}

static json_t *whole_thought(const struct strict *j) {
	return free_text("until", j->thinking.end, NULL);
}

static json_t *open_thought(const struct strict *j) { /* the answer may end before it does */
	return free_text("without", j->thinking.end, NULL);
}

/* Calls and nothing else, or what follows the schema. */
static json_t *schema_or_calls(struct strict *j) {
	json_t *schema = json_pack("{s:O}", "schema", j->schema);
	if (j->format->begin == NULL) {
		return ANY(2, schema, as_whole(j));
	}
	json_t *one = SEQ(3, blank(), mark(j->format->begin), behind_begin(j));
	json_t *calls = j->is_one || j->format->end == NULL ? one : list(one, json_string(""));
	calls = SEQ(2, calls, blank());
	return starts_with_call(j) ? ANY(3, schema, calls, as_whole(j)) : ANY(2, schema, calls);
}

json_t *strict_calls(struct strict *j) {
	j->must_call = true;
	return j->format->begin != NULL ? behind_begin(j) : as_whole(j);
}

json_t *strict_structure(struct strict *j) {
	if (j->schema != NULL) {
		return schema_or_calls(j);
	}
	json_t *first = sign(j), *all;
	if (starts_with_call(j) && first == NULL) {
		return NULL;
	}
	const struct bb_thinking *t = &j->thinking;
	if (t->end != NULL && t->starts_inside) {
		all = ANY(2, open_thought(j), SEQ(2, whole_thought(j), answer(j, first)));
	} else if (t->end != NULL && t->begin != NULL) {
		json_t *think = SEQ(2, regex("[ \t\r\n]*"), mark(t->begin));
		first = first != NULL ? ANY(2, first, json_incref(think)) : json_incref(think);
		all = ANY(2, SEQ(2, json_incref(think), open_thought(j)),
			SEQ(2, maybe(SEQ(2, think, whole_thought(j))), answer(j, first)));
	} else {
		all = answer(j, first);
	}
	json_decref(first);
	return all;
}
