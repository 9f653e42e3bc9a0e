/* SPDX-License-Identifier: Apache-2.0
 *
 * The table of formats, and those whose calls are JSON. */
#include "tool_format.h"

#include "pythonic.h"

#include <stdlib.h>
#include <string.h>

/* ---- cutting ---- */

struct cut { /* what is left to read */
	const char *at;
	size_t bytes;
};

static void skip_blanks(struct cut *c) {
	while (c->bytes > 0 && strchr(" \t\r\n", *c->at) != NULL) {
		c->at++;
		c->bytes--;
	}
}

static bool take(struct cut *c, const char *word) {
	const size_t n = strlen(word);
	skip_blanks(c);
	if (c->bytes < n || memcmp(c->at, word, n) != 0) {
		return false;
	}
	c->at += n;
	c->bytes -= n;
	return true;
}

/* What comes before the word, which is taken too. */
static bool take_until(struct cut *c, const char *word, struct cut *before) {
	const char *end = c->bytes > 0 ? memmem(c->at, c->bytes, word, strlen(word)) : NULL;
	if (end == NULL) {
		return false;
	}
	*before = (struct cut){ c->at, (size_t)(end - c->at) };
	c->bytes -= before->bytes + strlen(word);
	c->at = end + strlen(word);
	return true;
}

static void trim(struct cut *c) {
	skip_blanks(c);
	while (c->bytes > 0 && strchr(" \t\r\n", c->at[c->bytes - 1]) != NULL) {
		c->bytes--;
	}
}

static json_t *take_json(struct cut *c) {
	json_error_t problem;
	skip_blanks(c);
	json_t *value = c->bytes > 0
		? json_loadb(c->at, c->bytes, JSON_DISABLE_EOF_CHECK | JSON_ALLOW_NUL, &problem) : NULL;
	if (value != NULL) {
		c->at += problem.position;
		c->bytes -= (size_t)problem.position;
	}
	return value;
}

/* ---- calls ---- */

/* arguments: taken; an object, or the text of one. */
static bool add_call(json_t *calls, const struct cut *name, json_t *arguments) {
	if (json_is_string(arguments)) {
		json_t *inner = json_loadb(json_string_value(arguments),
			json_string_length(arguments), 0, NULL);
		json_decref(arguments);
		arguments = inner;
	}
	if (!json_is_object(arguments) || name->bytes == 0) {
		json_decref(arguments);
		return false;
	}
	json_t *call = json_pack("{s:s%, s:o}", "name", name->at, name->bytes, "arguments", arguments);
	return call != NULL && json_array_append_new(calls, call) == 0;
}

static bool add_object(json_t *calls, const json_t *object) {
	const json_t *function = json_object_get(object, "function");
	object = json_is_object(function) ? function : object;
	const json_t *name = json_object_get(object, "name");
	json_t *arguments = json_object_get(object, "arguments");
	arguments = arguments != NULL ? arguments : json_object_get(object, "parameters");
	const struct cut cut = { json_string_value(name), json_string_length(name) };
	return json_is_string(name) && arguments != NULL &&
		add_call(calls, &cut, json_incref(arguments));
}

/* An object, or an array of them. */
static bool add_value(json_t *calls, const json_t *value) {
	bool ok = value != NULL && (!json_is_array(value) || json_array_size(value) > 0);
	for (size_t i = 0; ok && i < json_array_size(value); i++) {
		ok = add_object(calls, json_array_get(value, i));
	}
	return ok && (json_is_array(value) || add_object(calls, value));
}

static json_t *only_whole(json_t *calls, bool ok) {
	if (ok && json_array_size(calls) > 0) {
		return calls;
	}
	json_decref(calls);
	return NULL;
}

/* Values one after the other, with blanks and perhaps semicolons between them. */
static bool add_values(json_t *calls, struct cut *c) {
	bool ok = true;
	skip_blanks(c);
	while (ok && c->bytes > 0) {
		json_t *value = take_json(c);
		ok = add_value(calls, value);
		json_decref(value);
		take(c, ";");
		skip_blanks(c);
	}
	return ok;
}

/* ---- the formats ---- */

/* Qwen3-Coder's: <function=NAME> <parameter=KEY> VALUE </parameter> ... </function> */
static bool add_tagged(json_t *calls, struct cut *c) {
	struct cut name, body, key, value;
	if (!take(c, "<function=") || !take_until(c, ">", &name) ||
		!take_until(c, "</function>", &body)) {
		return false;
	}
	json_t *arguments = json_object();
	while (take(&body, "<parameter=")) {
		if (!take_until(&body, ">", &key) || !take_until(&body, "</parameter>", &value)) {
			json_decref(arguments);
			return false;
		}
		trim(&value);
		/* A value that is JSON is meant as such; a text has no quotes. */
		json_t *item = json_loadb(value.at, value.bytes, JSON_DECODE_ANY, NULL);
		item = item != NULL ? item : json_stringn(value.at, value.bytes);
		json_object_setn_new(arguments, key.at, key.bytes, item);
	}
	skip_blanks(&body);
	if (body.bytes > 0) {
		json_decref(arguments);
		return false;
	}
	return add_call(calls, &name, arguments);
}

static json_t *read_hermes(const char *text, size_t bytes) {
	struct cut c = { text, bytes };
	json_t *calls = json_array();
	skip_blanks(&c);
	const bool ok = c.bytes > 0 && *c.at == '<' ? add_tagged(calls, &c) : add_values(calls, &c);
	skip_blanks(&c);
	return only_whole(calls, ok && c.bytes == 0);
}

static json_t *read_llama(const char *text, size_t bytes) {
	struct cut c = { text, bytes };
	json_t *calls = json_array();
	take(&c, "<|python_tag|>");
	return only_whole(calls, add_values(calls, &c));
}

/* An array of calls, or NAME[CALL_ID]...[ARGS]{...}, where the marks may be missing. */
static json_t *read_mistral(const char *text, size_t bytes) {
	struct cut c = { text, bytes };
	json_t *calls = json_array();
	skip_blanks(&c);
	if (c.bytes > 0 && *c.at == '[') {
		return only_whole(calls, add_values(calls, &c));
	}
	bool ok = true;
	while (ok && c.bytes > 0) {
		const char *end = memchr(c.at, '{', c.bytes);
		struct cut name = { c.at, end != NULL ? (size_t)(end - c.at) : 0 };
		const char *mark = name.bytes > 0 ? memchr(name.at, '[', name.bytes) : NULL;
		c.at += name.bytes;
		c.bytes -= name.bytes;
		name.bytes = mark != NULL ? (size_t)(mark - name.at) : name.bytes;
		trim(&name);
		ok = end != NULL && add_call(calls, &name, take_json(&c));
		take(&c, "[TOOL_CALLS]");
		skip_blanks(&c);
	}
	return only_whole(calls, ok);
}

/* V3 and R1: type SEP NAME, then the arguments as a block of code; V3.1: NAME SEP arguments. */
static json_t *read_deepseek(const char *text, size_t bytes) {
	struct cut c = { text, bytes }, call, left, name;
	json_t *calls = json_array();
	bool ok = true;
	skip_blanks(&c);
	while (ok && c.bytes > 0) {
		ok = take(&c, DEEPSEEK("call\u2581begin")) &&
			take_until(&c, DEEPSEEK("call\u2581end"), &call) &&
			take_until(&call, DEEPSEEK("sep"), &left);
		name = left;
		if (ok && memmem(call.at, call.bytes, "```", 3) != NULL) {
			ok = take_until(&call, "```", &name);
			take(&call, "json");
		}
		if (ok) {
			trim(&name);
			ok = add_call(calls, &name, take_json(&call));
		}
		skip_blanks(&c);
	}
	return only_whole(calls, ok);
}

static json_t *read_pythonic(const char *text, size_t bytes) {
	return pythonic_read(text, bytes);
}

static const struct tool_format formats[] = {
	{ .name = "hermes", .begin = "<tool_call>", .end = "</tool_call>", .signs = { "<tool_call>" },
		.starts = { "{" }, /* small models forget the marks */
		.read = read_hermes, .opening = "<tool_call>\n{\"name\": \"",
		.naming = "\", \"arguments\": ", .closing = "}\n</tool_call>",
		.before = "<tool_call>\n", .after = "\n</tool_call>", .arguments = "arguments" },
	{ .name = "mistral", .begin = "[TOOL_CALLS]", .signs = { "[TOOL_CALLS]" }, .has_special = true,
		.read = read_mistral, .opening = "[TOOL_CALLS][{\"name\": \"",
		.naming = "\", \"arguments\": ", .closing = "}]", .before = "[TOOL_CALLS][",
		.after = "]", .arguments = "arguments" },
	{ .name = "deepseek", .begin = DEEPSEEK("calls\u2581begin"),
		.end = DEEPSEEK("calls\u2581end"), .signs = { "tool\u2581calls\u2581begin" },
		.has_special = true, .read = read_deepseek,
		.opening = DEEPSEEK("calls\u2581begin") DEEPSEEK("call\u2581begin") "function"
			DEEPSEEK("sep"),
		.naming = "\n```json\n", .closing = "\n```" DEEPSEEK("call\u2581end")
			DEEPSEEK("calls\u2581end") },
	{ .name = "lfm2", .begin = "<|tool_call_start|>", .end = "<|tool_call_end|>",
		.signs = { "<|tool_call_start|>", "<|tool_list_start|>" }, .has_special = true,
		.read = read_pythonic },
	{ .name = "pythonic", .starts = { "[" }, .signs = { "[func_name1(" },
		.read = read_pythonic },
	{ .name = "llama3_json", .starts = { "{", "<|python_tag|>" },
		.signs = { "{\"name\": function name, \"parameters\"", "<|python_tag|>" },
		.has_special = true, .read = read_llama, .opening = "{\"name\": \"",
		.naming = "\", \"parameters\": ", .closing = "}", .before = "",
		.after = "", .arguments = "parameters" },
};
enum { N_FORMATS = sizeof(formats) / sizeof(formats[0]) };

/* As other servers call them. */
static const struct {
	const char *alias, *name;
} aliases[] = {
	{ "qwen", "hermes" }, { "qwen25", "hermes" }, { "qwen3_coder", "hermes" },
	{ "qwen3_xml", "hermes" }, { "deepseek_v3", "deepseek" }, { "deepseekv3", "deepseek" },
	{ "deepseek_v31", "deepseek" }, { "deepseekv31", "deepseek" }, { "llama3", "llama3_json" },
	{ "llama4_pythonic", "pythonic" },
};

const struct tool_format *tool_format_find(const char *name) {
	for (size_t i = 0; i < sizeof(aliases) / sizeof(aliases[0]); i++) {
		name = strcmp(name, aliases[i].alias) == 0 ? aliases[i].name : name;
	}
	for (int i = 0; i < N_FORMATS; i++) {
		if (strcmp(name, formats[i].name) == 0) {
			return &formats[i];
		}
	}
	return NULL;
}

static bool has_sign(const char *source, const struct tool_format *f) {
	for (int i = 0; i < TOOL_FORMAT_WORDS && f->signs[i] != NULL; i++) {
		if (strstr(source, f->signs[i]) != NULL) {
			return true;
		}
	}
	return false;
}

const struct tool_format *tool_format_of(const char *chat_template) {
	for (int i = 0; chat_template != NULL && i < N_FORMATS; i++) {
		if (has_sign(chat_template, &formats[i])) {
			return &formats[i];
		}
	}
	return &formats[0];
}

const char *tool_format_names(void) {
	return "auto, none, hermes, mistral, deepseek, lfm2, pythonic, llama3_json";
}
