/* SPDX-License-Identifier: Apache-2.0
 *
 * Checking messages and tools. */
#include "messages.h"

#include "fields.h"
#include "prompt_embeds.h"
#include "server.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void conversation_finish(struct conversation *c) {
	json_decref(c->messages);
	json_decref(c->tools);
	json_decref(c->strict);
	json_decref(c->variables);
	bb_text_finish(&c->rendered);
	buf_finish(&c->lines);
	for (int i = 0; i < c->n_vectors; i++) {
		prompt_embeds_free(c->server, c->vectors[i]);
	}
	free(c->vectors);
	bb_tokens_finish(&c->prompt);
	buf_finish(&c->forced);
	buf_finish(&c->closing);
	bb_grammar_destroy(c->grammar);
	memset(c, 0, sizeof(*c));
}

static bool refuse(struct exchange *x, size_t i, const char *what) {
	char param[40];
	snprintf(param, sizeof(param), "messages[%zu]", i);
	return reply_error(x, 400, param, "invalid_value", "'%s' %s", param, what);
}

/* ---- messages ---- */

/* A part that is an embedding: what is written in its place. */
static bool add_vectors(struct exchange *x, struct conversation *c, const json_t *part,
	struct buf *text) {
	struct bb_vectors **list = realloc(c->vectors, (size_t)(c->n_vectors + 1) * sizeof(*list));
	char place[64];
	if (list == NULL) {
		return reply_no_memory(x);
	}
	c->vectors = list;
	c->server = x->server;
	if (!prompt_embeds_read(x, json_object_get(part, "data"), "prompt_embeds",
		&list[c->n_vectors])) {
		return false;
	}
	if (c->n_vectors == 0) {
		snprintf(c->mark, sizeof(c->mark), "vectors%016llx",
			(unsigned long long)bb_random_seed());
	}
	snprintf(place, sizeof(place), "%s%d.", c->mark, c->n_vectors++);
	buf_text(text, place);
	return true;
}

static bool is_vectors(const struct conversation *c, const json_t *part) {
	const char *type = json_string_value(json_object_get(part, "type"));
	return c->takes_vectors && type != NULL && strcmp(type, "prompt_embeds") == 0;
}

/* A list of parts becomes one text, a newline between them. NULL: replied, or they aren't text. */
static json_t *join_parts(struct exchange *x, struct conversation *c, const json_t *parts) {
	struct buf text = { 0 };
	size_t i;
	const json_t *part;
	json_array_foreach(parts, i, part) {
		if (is_vectors(c, part)) {
			buf_text(&text, i > 0 ? "\n" : "");
			if (!add_vectors(x, c, part, &text)) {
				buf_finish(&text);
				return NULL;
			}
			continue;
		}
		const json_t *piece = json_is_string(part) ? part : json_object_get(part, "text");
		const json_t *refusal = json_object_get(part, "refusal");
		piece = piece == NULL ? refusal : piece;
		if (!json_is_string(piece)) {
			buf_finish(&text);
			return NULL;
		}
		buf_text(&text, i > 0 ? "\n" : "");
		buf_add(&text, json_string_value(piece), json_string_length(piece));
	}
	json_t *joined = text.has_failed ? NULL : json_stringn(buf_string(&text), text.bytes);
	buf_finish(&text);
	return joined;
}

/* Templates print arguments as JSON, so they get them as a value, not as a text. */
static bool open_arguments(json_t *message) {
	size_t i;
	json_t *call;
	json_t *calls = json_object_get(message, "tool_calls");
	if (calls != NULL && !json_is_null(calls) && !json_is_array(calls)) {
		return false;
	}
	json_array_foreach(calls, i, call) {
		json_t *function = json_object_get(call, "function");
		const json_t *arguments = json_object_get(function, "arguments");
		if (!json_is_string(json_object_get(function, "name"))) {
			return false;
		}
		if (json_is_string(arguments) && json_string_length(arguments) > 0) {
			json_t *value = json_loadb(json_string_value(arguments),
				json_string_length(arguments), JSON_DECODE_ANY, NULL);
			if (value != NULL) {
				json_object_set_new(function, "arguments", value);
			}
		} else if (!json_is_object(arguments)) {
			json_object_set_new(function, "arguments", json_object());
		}
	}
	if (json_array_size(calls) == 0) {
		json_object_del(message, "tool_calls");
	}
	return true;
}

static bool check_message(struct exchange *x, struct conversation *c, size_t i,
	json_t *message) {
	static const char *const roles[] = { "system", "developer", "user", "assistant", "tool" };
	const char *role = json_string_value(json_object_get(message, "role"));
	bool is_known = false;
	for (size_t k = 0; role != NULL && k < sizeof(roles) / sizeof(roles[0]); k++) {
		is_known = is_known || strcmp(role, roles[k]) == 0;
	}
	if (!is_known) {
		return refuse(x, i, "has no role of system, developer, user, assistant or tool");
	}
	const bool is_assistant = strcmp(role, "assistant") == 0;
	json_t *content = json_object_get(message, "content");
	if (json_is_array(content)) {
		json_t *joined = join_parts(x, c, content);
		if (joined == NULL) {
			return x->status == 0 &&
				refuse(x, i, "has content that isn't text, which this model can't read");
		}
		json_object_set_new(message, "content", joined);
	} else if (!json_is_string(content)) {
		if (!is_assistant || (content != NULL && !json_is_null(content))) {
			return refuse(x, i, "has no content that is a text or a list of parts");
		}
		json_object_set_new(message, "content", json_string(""));
	}
	if (is_assistant && !open_arguments(message)) {
		return refuse(x, i, "has tool_calls that aren't a list of functions with names");
	}
	const json_t *thought = json_object_get(message, "reasoning");
	if (is_assistant && json_is_string(thought) &&
		json_object_get(message, "reasoning_content") == NULL) {
		json_object_set_new(message, "reasoning_content", json_deep_copy(thought));
	}
	const char *source = x->server->template_source;
	if (strcmp(role, "developer") == 0 && (source == NULL || !strstr(source, "developer"))) {
		json_object_set_new(message, "role", json_string("system"));
	}
	return true;
}

/* ---- tools ---- */

/* As OpenAI has them, and dots: names go into the prompt and into forced JSON as they are. */
static bool is_name(const json_t *name) {
	static const char letters[] =
		"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_.-";
	const size_t n = json_string_length(name);
	return n >= 1 && n <= 256 && strspn(json_string_value(name), letters) == n;
}

static bool check_tools(struct exchange *x, const json_t *tools) {
	size_t i;
	const json_t *tool;
	if (!json_is_array(tools)) {
		return reply_error(x, 400, "tools", "invalid_type", "'tools' must be an array");
	}
	json_array_foreach(tools, i, tool) {
		const json_t *function = json_object_get(tool, "function");
		const json_t *name = json_object_get(function, "name");
		const json_t *schema = field(function, "parameters");
		if (!json_is_string(name)) {
			return reply_error(x, 400, "tools", "invalid_value",
				"'tools[%zu]' must be {\"type\": \"function\", \"function\": {\"name\": ...}}", i);
		}
		if (!is_name(name)) {
			return reply_error(x, 400, "tools", "invalid_value",
				"the name of 'tools[%zu]' must be 1 to 256 of the characters A-Z a-z 0-9 _ . -", i);
		}
		if (schema != NULL && !json_is_object(schema)) {
			return reply_error(x, 400, "tools", "invalid_value",
				"'tools[%zu].function.parameters' must be an object", i);
		}
	}
	return true;
}

/* Takes `strict` out of the tools: it is for us, templates would show it to the model. */
static bool read_strict(struct exchange *x, struct conversation *c) {
	size_t i;
	json_t *tool;
	bool any = false;
	json_t *list = json_array();
	json_array_foreach(c->tools, i, tool) {
		json_t *function = json_object_get(tool, "function");
		bool is_strict = false;
		if (!field_bool(x, function, "strict", &is_strict)) {
			json_decref(list);
			return false;
		}
		any = any || is_strict;
		json_object_del(function, "strict");
		json_array_append_new(list, json_boolean(is_strict));
	}
	if (json_array_size(list) < json_array_size(c->tools)) {
		json_decref(list);
		return reply_no_memory(x);
	}
	json_decref(c->strict);
	c->strict = any ? list : NULL;
	if (!any) {
		json_decref(list);
	}
	return true;
}

static const char *find_tool(const json_t *tools, const char *name) {
	size_t i;
	const json_t *tool;
	json_array_foreach(tools, i, tool) {
		const char *its = json_string_value(
			json_object_get(json_object_get(tool, "function"), "name"));
		if (its != NULL && strcmp(its, name) == 0) {
			return its;
		}
	}
	return NULL;
}

static bool read_choice(struct exchange *x, struct conversation *c) {
	const json_t *choice = field(x->in, "tool_choice");
	const char *word = json_string_value(choice);
	c->choice = c->tools != NULL ? TOOLS_AUTO : TOOLS_NONE;
	if (choice == NULL || (word != NULL && strcmp(word, "auto") == 0)) {
		return true;
	}
	if (word != NULL && strcmp(word, "none") == 0) {
		c->choice = TOOLS_NONE;
		return true;
	}
	const json_t *name = json_object_get(json_object_get(choice, "function"), "name");
	if (!(word != NULL && strcmp(word, "required") == 0) && !json_is_string(name)) {
		return reply_error(x, 400, "tool_choice", "invalid_value",
			"'tool_choice' must be none, auto, required or the name of a function");
	}
	c->tool = name != NULL ? find_tool(c->tools, json_string_value(name)) : NULL;
	if (c->tools == NULL || (name != NULL && c->tool == NULL)) {
		return reply_error(x, 400, "tool_choice", "invalid_value",
			"'tool_choice' asks for a function that isn't in 'tools'");
	}
	c->choice = TOOLS_REQUIRED;
	return true;
}

/* ---- all of it ---- */

bool conversation_check(struct exchange *x, struct conversation *c) {
	size_t i;
	json_t *message;
	if (!json_is_array(c->messages) || json_array_size(c->messages) == 0) {
		return reply_error(x, 400, "messages", "invalid_value",
			"'messages' must be an array of at least one message");
	}
	json_array_foreach(c->messages, i, message) {
		if (!json_is_object(message)) {
			return refuse(x, i, "isn't an object");
		}
		if (!check_message(x, c, i, message)) {
			return false;
		}
	}
	if (json_array_size(c->tools) == 0) {
		json_decref(c->tools);
		c->tools = NULL;
	}
	return c->tools == NULL || (check_tools(x, c->tools) && read_strict(x, c));
}

static bool read_variables(struct exchange *x, struct conversation *c) {
	const json_t *kwargs = field(x->in, "chat_template_kwargs");
	if (kwargs != NULL && !json_is_object(kwargs)) {
		return reply_error(x, 400, "chat_template_kwargs", "invalid_type",
			"'chat_template_kwargs' must be an object");
	}
	c->variables = kwargs != NULL ? json_copy((json_t *)(size_t)kwargs) : json_object();
	static const char *const passed[] = { "documents", "reasoning_effort" };
	for (size_t i = 0; i < sizeof(passed) / sizeof(passed[0]); i++) {
		json_t *value = json_object_get(x->in, passed[i]);
		if (value != NULL && !json_is_null(value)) {
			json_object_set(c->variables, passed[i], value);
		}
	}
	const char *level = x->server->options.reasoning_effort;
	if (level != NULL && json_object_get(c->variables, "reasoning_effort") == NULL) {
		json_object_set_new(c->variables, "reasoning_effort", json_string(level));
	}
	const char *asked = json_string_value(json_object_get(c->variables, "reasoning_effort"));
	if (asked != NULL && strcmp(asked, "none") == 0 &&
		json_object_get(c->variables, "enable_thinking") == NULL) {
		json_object_set_new(c->variables, "enable_thinking", json_false());
	}
	return c->variables != NULL || reply_no_memory(x);
}

bool conversation_read(struct exchange *x, struct conversation *c) {
	static const char *const unsupported[] = { "functions", "function_call", "mm_processor_kwargs",
		"audio", "web_search_options", "prompt_embeds", NULL };
	const json_t *asks = field(x->in, "add_generation_prompt");
	c->thinking = x->server->thinking;
	c->messages = json_incref(json_object_get(x->in, "messages"));
	c->tools = field(x->in, "tools") != NULL ? json_incref(json_object_get(x->in, "tools")) : NULL;
	bool adds = true;
	if (!fields_unsupported(x, x->in, unsupported) || !conversation_check(x, c) ||
		!read_choice(x, c) || !read_variables(x, c) ||
		!field_string(x, x->in, "chat_template", &c->source) ||
		!field_bool(x, x->in, "continue_final_message", &c->continues) ||
		!field_bool(x, x->in, "add_generation_prompt", &adds)) {
		return false;
	}
	if (c->continues && adds && asks != NULL) {
		return reply_error(x, 400, "continue_final_message", "invalid_value",
			"'continue_final_message' and 'add_generation_prompt' can't both be true");
	}
	c->no_answer = !adds;
	return true;
}
