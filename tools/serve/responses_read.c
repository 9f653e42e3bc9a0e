/* SPDX-License-Identifier: Apache-2.0
 *
 * Requests of the Responses API in the words of chat completions. */
#include "fields.h"
#include "responses.h"
#include "server.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static bool refuse(struct exchange *x, const char *param, const char *what) {
	return reply_error(x, 400, param, "invalid_value", "'%s' %s", param, what);
}

/* ---- input ---- */

struct reading {
	json_t *messages;
	json_t *thought;    /* of a reasoning item, for the message behind it; or NULL */
};

static bool is_role(const json_t *message, const char *role) {
	const char *its = json_string_value(json_object_get(message, "role"));
	return its != NULL && strcmp(its, role) == 0;
}

/* The assistant's message that calls and texts belong to: the last one, or a new one. */
static json_t *assistant(struct reading *r) {
	json_t *last = json_array_get(r->messages, json_array_size(r->messages) - 1);
	if (!is_role(last, "assistant")) {
		last = json_pack("{s:s, s:s}", "role", "assistant", "content", "");
		json_array_append_new(r->messages, last);
	}
	if (r->thought != NULL) {
		json_object_set(last, "reasoning_content", r->thought);
		json_decref(r->thought);
		r->thought = NULL;
	}
	return last;
}

static bool add_call(struct reading *r, const json_t *item) {
	json_t *message = assistant(r), *calls = json_object_get(message, "tool_calls");
	if (calls == NULL) {
		calls = json_array();
		json_object_set_new(message, "tool_calls", calls);
	}
	return json_is_string(json_object_get(item, "name")) &&
		json_array_append_new(calls, json_pack("{s:O?, s:s, s:{s:O, s:O?}}", "id",
			json_object_get(item, "call_id"), "type", "function", "function", "name",
			json_object_get(item, "name"), "arguments", json_object_get(item, "arguments"))) == 0;
}

static bool add_thought(struct reading *r, const json_t *item) {
	struct buf text = { 0 };
	size_t i;
	const json_t *part;
	json_array_foreach(json_object_get(item, "content"), i, part) {
		const json_t *words = json_object_get(part, "text");
		buf_add(&text, json_string_value(words), json_string_length(words));
	}
	json_decref(r->thought);
	r->thought = text.bytes > 0 ? json_stringn(text.data, text.bytes) : NULL;
	buf_finish(&text);
	return true;
}

static bool add_message(struct reading *r, json_t *item) {
	json_t *role = json_object_get(item, "role"), *content = json_object_get(item, "content");
	if (!json_is_string(role) || content == NULL) {
		return false;
	}
	json_t *message = json_pack("{s:O, s:O}", "role", role, "content", content);
	if (is_role(message, "assistant") && r->thought != NULL) {
		json_object_set(message, "reasoning_content", r->thought);
		json_decref(r->thought);
		r->thought = NULL;
	}
	return json_array_append_new(r->messages, message) == 0;
}

static bool add_item(struct reading *r, json_t *item) {
	const char *type = json_string_value(json_object_get(item, "type"));
	if (!json_is_object(item)) {
		return false;
	}
	if (type == NULL || strcmp(type, "message") == 0) {
		return add_message(r, item);
	}
	if (strcmp(type, "function_call") == 0) {
		return add_call(r, item);
	}
	if (strcmp(type, "function_call_output") == 0) {
		json_t *output = json_object_get(item, "output");
		return output != NULL && json_array_append_new(r->messages, json_pack("{s:s, s:O?, s:O}",
			"role", "tool", "tool_call_id", json_object_get(item, "call_id"), "content",
			output)) == 0;
	}
	return strcmp(type, "reasoning") == 0 && add_thought(r, item);
}

static bool read_input(struct exchange *x, json_t *messages) {
	json_t *input = json_object_get(x->in, "input"), *item;
	struct reading r = { messages, NULL };
	size_t i;
	bool ok = true;
	if (json_is_string(input)) {
		return json_array_append_new(messages, json_pack("{s:s, s:O}", "role", "user", "content",
			input)) == 0;
	}
	if (!json_is_array(input)) {
		return refuse(x, "input", "must be a text or an array of items");
	}
	json_array_foreach(input, i, item) {
		ok = ok && add_item(&r, item);
	}
	json_decref(r.thought);
	return ok || refuse(x, "input", "has an item that isn't a message, function_call, "
		"function_call_output or reasoning of text");
}

/* ---- input as it is listed ---- */

/* Content of a message as parts: a text is one of the kind that the role has. */
static json_t *parts_of(const json_t *content, bool is_model) {
	if (!json_is_string(content)) {
		return json_deep_copy(content);
	}
	json_t *part = json_pack("{s:s, s:O}", "type", is_model ? "output_text" : "input_text", "text",
		content);
	if (is_model) {
		json_object_set_new(part, "annotations", json_array());
	}
	return json_pack("[o]", part);
}

json_t *response_input_items(const json_t *input) {
	json_t *list = json_array(), *one = json_is_array(input) ? json_copy((json_t *)(size_t)input)
		: json_pack("[{s:s, s:O}]", "role", "user", "content", input);
	size_t i;
	const json_t *item;
	json_array_foreach(one, i, item) {
		json_t *copy = json_deep_copy(item);
		const char *type = json_string_value(json_object_get(item, "type"));
		const bool is_message = type == NULL || strcmp(type, "message") == 0;
		char id[48];
		talk_new_id(id, sizeof(id), is_message ? "msg_"
			: strcmp(type, "reasoning") == 0 ? "rs_" : "fc_");
		if (is_message) {
			json_object_set_new(copy, "type", json_string("message"));
			json_object_set_new(copy, "content", parts_of(json_object_get(item, "content"),
				is_role(item, "assistant")));
		}
		if (!json_is_string(json_object_get(copy, "id"))) {
			json_object_set_new(copy, "id", json_string(id));
		}
		if (!json_is_string(json_object_get(copy, "status"))) {
			json_object_set_new(copy, "status", json_string("completed"));
		}
		if (copy == NULL || json_array_append_new(list, copy) != 0) {
			json_decref(list);
			list = NULL;
			break;
		}
	}
	json_decref(one);
	return list;
}

static bool read_previous(struct exchange *x, json_t *messages) {
	const char *id = NULL;
	if (!field_string(x, x->in, "previous_response_id", &id) || id == NULL) {
		return x->status == 0;
	}
	json_t *both = store_get(&x->server->store, id);
	if (both == NULL) {
		return reply_error(x, 400, "previous_response_id", "previous_response_not_found",
			"there is no response '%.100s' here (any more)", id);
	}
	json_array_extend(messages, json_object_get(both, "messages"));
	json_decref(both);
	return true;
}

/* ---- tools and the rest ---- */

static bool read_tools(struct exchange *x, json_t *out) {
	const json_t *tools = field(x->in, "tools"), *choice = field(x->in, "tool_choice");
	json_t *list = json_array(), *tool;
	size_t i;
	json_array_foreach(tools, i, tool) {
		const char *type = json_string_value(json_object_get(tool, "type"));
		if (type == NULL || strcmp(type, "function") != 0) {
			json_decref(list);
			return refuse(x, "tools", "must be functions: this server runs no tools of its own");
		}
		json_t *function = json_copy(tool);
		json_object_del(function, "type");
		json_array_append_new(list, json_pack("{s:s, s:o}", "type", "function", "function",
			function));
	}
	if (json_array_size(list) > 0) {
		json_object_set(out, "tools", list);
	}
	json_decref(list);
	json_t *name = json_object_get(choice, "name");
	if (json_is_object(choice) && json_is_string(name)) {
		json_object_set_new(out, "tool_choice", json_pack("{s:s, s:{s:O}}", "type", "function",
			"function", "name", name));
	} else if (choice != NULL) {
		json_object_set(out, "tool_choice", json_object_get(x->in, "tool_choice"));
	}
	return true;
}

static void pass(json_t *out, const json_t *from, const char *name, const char *ours) {
	json_t *value = json_object_get(from, name);
	if (value != NULL && !json_is_null(value)) {
		json_object_set(out, ours, value);
	}
}

static void read_logprobs(const struct exchange *x, json_t *out) {
	size_t i;
	const json_t *what;
	json_array_foreach(field(x->in, "include"), i, what) {
		const char *name = json_string_value(what);
		if (name != NULL && strcmp(name, "message.output_text.logprobs") == 0) {
			json_object_set_new(out, "logprobs", json_true());
			pass(out, x->in, "top_logprobs", "top_logprobs");
		}
	}
}

/* As it would be written: not 0.699999988 for 0.7. */
static json_t *short_real(float value) {
	char digits[32];
	snprintf(digits, sizeof(digits), "%.7g", (double)value);
	return json_real(strtod(digits, NULL));
}

/* What the response repeats, with the values that apply. */
static json_t *echo_of(const struct exchange *x, bool is_kept) {
	static const struct {
		const char *name, *otherwise; /* JSON */
	} rows[] = {
		{ "instructions", "null" }, { "max_output_tokens", "null" }, { "metadata", "{}" },
		{ "parallel_tool_calls", "true" }, { "previous_response_id", "null" },
		{ "reasoning", "{\"effort\": null, \"summary\": null}" },
		{ "text", "{\"format\": {\"type\": \"text\"}}" }, { "tool_choice", "\"auto\"" },
		{ "tools", "[]" }, { "truncation", "\"disabled\"" }, { "user", "null" },
		{ "background", "false" },
	};
	json_t *echo = json_object();
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		json_t *value = json_object_get(x->in, rows[i].name);
		json_object_set_new(echo, rows[i].name, value != NULL && !json_is_null(value)
			? json_incref(value) : json_loads(rows[i].otherwise, JSON_DECODE_ANY, NULL));
	}
	struct bb_sampling s;
	bb_sampling_default(x->server->engine, &s);
	const json_t *temperature = field(x->in, "temperature"), *top_p = field(x->in, "top_p");
	json_object_set_new(echo, "temperature", temperature != NULL ? json_deep_copy(temperature)
		: short_real(s.temperature));
	json_object_set_new(echo, "top_p", top_p != NULL ? json_deep_copy(top_p)
		: short_real(s.top_p));
	json_object_set_new(echo, "store", json_boolean(is_kept));
	return echo;
}

static bool translate(struct exchange *x, struct response *r, json_t *out) {
	const char *instructions = NULL;
	int n = 1;
	json_t *messages = json_array();
	json_object_set_new(out, "messages", messages);
	if (!read_previous(x, r->messages) || !read_input(x, r->messages) ||
		!field_string(x, x->in, "instructions", &instructions) ||
		!field_int(x, x->in, "n", 1, 1, &n)) {
		return false;
	}
	if (instructions != NULL) {
		json_array_append_new(messages, json_pack("{s:s, s:s}", "role", "system", "content",
			instructions));
	}
	json_array_extend(messages, r->messages);
	pass(out, x->in, "max_output_tokens", "max_completion_tokens");
	pass(out, json_object_get(x->in, "text"), "format", "response_format");
	pass(out, json_object_get(x->in, "reasoning"), "effort", "reasoning_effort");
	read_logprobs(x, out);
	return read_tools(x, out);
}

bool response_read(struct exchange *x, struct response *r) {
	static const char *const unsupported[] = { "background", "conversation", "prompt",
		"context_management", NULL };
	static const char *const own[] = { "input", "instructions", "previous_response_id", "store",
		"max_output_tokens", "text", "reasoning", "include", "logprobs", "top_logprobs", "tools",
		"tool_choice", "messages", NULL };
	r->is_kept = true;
	r->messages = json_array();
	r->output = json_array();
	json_t *out = fields_copy(x, own);
	if (r->messages == NULL || r->output == NULL || out == NULL) {
		json_decref(out);
		return reply_no_memory(x);
	}
	if (!fields_unsupported(x, x->in, unsupported) ||
		!field_bool(x, x->in, "store", &r->is_kept) || !translate(x, r, out)) {
		json_decref(out);
		return x->status != 0 ? false : reply_no_memory(x);
	}
	r->echo = echo_of(x, r->is_kept);
	r->input = response_input_items(field(x->in, "input"));
	json_decref(x->in);
	x->in = out;
	return true;
}
