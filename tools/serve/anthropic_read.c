/* SPDX-License-Identifier: Apache-2.0
 *
 * Anthropic's requests in the words of chat completions: blocks become contents, calls and results
 * of tools. */
#include "anthropic.h"

#include "fields.h"
#include "server.h"

#include <stdlib.h>
#include <string.h>

static bool refuse(struct exchange *x, const char *param, const char *what) {
	return reply_error(x, 400, param, "invalid_value", "'%s' %s", param, what);
}

static const char *type_of(const json_t *block) {
	const char *type = json_string_value(json_object_get(block, "type"));
	return type != NULL ? type : "";
}

/* A text, or a list of text blocks, added to `out`. */
static bool add_text(const json_t *content, struct buf *out) {
	size_t i;
	const json_t *block;
	if (json_is_string(content)) {
		buf_add(out, json_string_value(content), json_string_length(content));
		return true;
	}
	json_array_foreach(content, i, block) {
		const json_t *text = json_object_get(block, "text");
		if (strcmp(type_of(block), "text") != 0 || !json_is_string(text)) {
			return false;
		}
		buf_text(out, out->bytes > 0 ? "\n" : "");
		buf_add(out, json_string_value(text), json_string_length(text));
	}
	return json_is_array(content);
}

static json_t *take_text(struct buf *text) {
	json_t *value = text->has_failed ? NULL : json_stringn(buf_string(text), text->bytes);
	buf_finish(text);
	return value;
}

/* ---- messages ---- */

static bool add_call(json_t *calls, const json_t *block) {
	json_t *input = json_object_get(block, "input");
	return json_is_string(json_object_get(block, "name")) &&
		json_array_append_new(calls, json_pack("{s:O?, s:s, s:{s:O, s:o}}", "id",
			json_object_get(block, "id"), "type", "function", "function", "name",
			json_object_get(block, "name"), "arguments",
			json_is_object(input) ? json_incref(input) : json_object())) == 0;
}

static bool add_assistant(json_t *out, const json_t *blocks) {
	struct buf text = { 0 }, thought = { 0 };
	json_t *calls = json_array();
	bool ok = true;
	size_t i;
	const json_t *block;
	json_array_foreach(blocks, i, block) {
		const char *type = type_of(block);
		const json_t *thinking = json_object_get(block, "thinking");
		const json_t *words = json_object_get(block, "text");
		if (strcmp(type, "tool_use") == 0) {
			ok = ok && add_call(calls, block);
		} else if (strcmp(type, "thinking") == 0 && json_is_string(thinking)) {
			buf_add(&thought, json_string_value(thinking), json_string_length(thinking));
		} else if (strcmp(type, "text") == 0 && json_is_string(words)) {
			buf_add(&text, json_string_value(words), json_string_length(words));
		} else {
			ok = ok && strcmp(type, "redacted_thinking") == 0;
		}
	}
	json_t *message = json_pack("{s:s, s:o}", "role", "assistant", "content", take_text(&text));
	if (thought.bytes > 0) {
		json_object_set_new(message, "reasoning_content", take_text(&thought));
	}
	if (json_array_size(calls) > 0) {
		json_object_set(message, "tool_calls", calls);
	}
	buf_finish(&thought);
	json_decref(calls);
	return json_array_append_new(out, message) == 0 && ok;
}

/* Results of tools come first, as messages of their own, then what the user says. */
static bool add_user(json_t *out, const json_t *blocks) {
	struct buf text = { 0 };
	bool ok = true;
	size_t i;
	const json_t *block;
	json_array_foreach(blocks, i, block) {
		const json_t *content = json_object_get(block, "content");
		const json_t *words = json_object_get(block, "text");
		if (strcmp(type_of(block), "tool_result") == 0) {
			struct buf result = { 0 };
			ok = ok && (content == NULL || add_text(content, &result));
			ok = json_array_append_new(out, json_pack("{s:s, s:O?, s:o}", "role", "tool",
				"tool_call_id", json_object_get(block, "tool_use_id"), "content",
				take_text(&result))) == 0 && ok;
		} else if (strcmp(type_of(block), "text") == 0 && json_is_string(words)) {
			buf_text(&text, text.bytes > 0 ? "\n" : "");
			buf_add(&text, json_string_value(words), json_string_length(words));
		} else {
			ok = false;
		}
	}
	if (text.bytes > 0 || json_array_size(blocks) == 0) {
		ok = json_array_append_new(out, json_pack("{s:s, s:o}", "role", "user", "content",
			take_text(&text))) == 0 && ok;
	}
	buf_finish(&text);
	return ok;
}

static json_t *read_messages(struct exchange *x) {
	const json_t *list = field(x->in, "messages"), *system = field(x->in, "system");
	json_t *out = json_array();
	struct buf text = { 0 };
	size_t i;
	const json_t *message;
	bool ok = true;
	if (system != NULL) {
		ok = add_text(system, &text) || refuse(x, "system", "must be a text or text blocks");
		json_t *content = take_text(&text);
		json_array_append_new(out, json_pack("{s:s, s:o}", "role", "system", "content", content));
	}
	if (ok && (!json_is_array(list) || json_array_size(list) == 0)) {
		ok = refuse(x, "messages", "must be an array of at least one message");
	}
	for (i = 0; ok && (message = json_array_get(list, i)) != NULL; i++) {
		const char *role = json_string_value(json_object_get(message, "role"));
		json_t *content = json_object_get(message, "content");
		const bool is_user = role != NULL && strcmp(role, "user") == 0;
		const bool is_model = role != NULL && strcmp(role, "assistant") == 0;
		if (!is_user && !is_model) {
			ok = refuse(x, "messages", "must have the roles user and assistant");
		} else if (json_is_string(content)) {
			json_array_append_new(out, json_pack("{s:s, s:O}", "role", role, "content", content));
		} else if (!json_is_array(content) || !(is_user ? add_user(out, content)
			: add_assistant(out, content))) {
			ok = refuse(x, "messages", "has content that isn't text, thinking, tool_use or "
				"tool_result, which this model can't read");
		}
	}
	if (!ok) {
		json_decref(out);
		return NULL;
	}
	return out;
}

/* ---- tools ---- */

static void pass(json_t *out, const json_t *from, const char *name, const char *ours) {
	json_t *value = json_object_get(from, name);
	if (value != NULL && !json_is_null(value)) {
		json_object_set(out, ours, value);
	}
}

static bool read_tools(struct exchange *x, json_t *out) {
	const json_t *tools = field(x->in, "tools"), *choice = field(x->in, "tool_choice");
	const char *how = type_of(choice);
	json_t *list = json_array(), *name = json_object_get(choice, "name");
	size_t i;
	json_t *tool;
	json_array_foreach(tools, i, tool) {
		json_t *schema = json_object_get(tool, "input_schema");
		if (!json_is_object(schema) || !json_is_string(json_object_get(tool, "name"))) {
			json_decref(list);
			return refuse(x, "tools", "must have a name and an input_schema each");
		}
		json_t *function = json_pack("{s:O, s:O}", "name", json_object_get(tool, "name"),
			"parameters", schema);
		static const char *const more[] = { "description", "strict" };
		for (size_t k = 0; k < sizeof(more) / sizeof(more[0]); k++) {
			pass(function, tool, more[k], more[k]);
		}
		json_array_append_new(list, json_pack("{s:s, s:o}", "type", "function", "function",
			function));
	}
	if (json_array_size(list) > 0) {
		json_object_set(out, "tools", list);
	}
	json_decref(list);
	if (json_is_true(json_object_get(choice, "disable_parallel_tool_use"))) {
		json_object_set_new(out, "parallel_tool_calls", json_false());
	}
	if (choice == NULL) {
		return true;
	}
	json_t *ours = strcmp(how, "tool") == 0 && json_is_string(name)
		? json_pack("{s:s, s:{s:O}}", "type", "function", "function", "name", name)
		: strcmp(how, "any") == 0 ? json_string("required")
		: strcmp(how, "auto") == 0 || strcmp(how, "none") == 0 ? json_string(how) : NULL;
	return ours != NULL ? json_object_set_new(out, "tool_choice", ours) == 0
		: refuse(x, "tool_choice", "must have the type auto, any, none, or tool with a name");
}

/* ---- the rest ---- */

static bool is_prefill(const json_t *messages) {
	const json_t *last = json_array_get(messages, json_array_size(messages) - 1);
	const char *role = json_string_value(json_object_get(last, "role"));
	return role != NULL && strcmp(role, "assistant") == 0 &&
		json_object_get(last, "tool_calls") == NULL;
}

/* Conversations that the server would hold: refused in the words by which clients know to send all
 * of it instead, for what is left out then would be lost. */
static bool refuse_thread(struct exchange *x) {
	json_t *body = error_body(DIALECT_ANTHROPIC, 400, NULL, NULL,
		"'thread' isn't supported by this server, expected all messages in each request");
	json_object_set_new(json_object_get(body, "error"), "details", json_pack("{s:s, s:[]}",
		"error_code", "thread_unsupported_request", "unsupported"));
	x->error = "thread_unsupported_request";
	reply_json_take(x, 400, body);
	return false;
}

bool anthropic_read(struct exchange *x, bool needs_length, bool *shows_thinking) {
	static const char *const unsupported[] = { "mcp_servers", "container", "context_management",
		"compaction", NULL };
	static const char *const own[] = { "messages", "system", "stop_sequences", "output_config",
		"tools", "tool_choice", NULL };
	const char *thinking = type_of(field(x->in, "thinking"));
	const json_t *kwargs = field(x->in, "chat_template_kwargs");
	const json_t *thread = field(x->in, "thread");
	if (thread != NULL && field_asks(thread)) {
		return refuse_thread(x);
	}
	if (needs_length && field(x->in, "max_tokens") == NULL) {
		return reply_error(x, 400, "max_tokens", "missing", "'max_tokens' is missing");
	}
	json_t *messages = read_messages(x);
	if (messages == NULL) {
		return x->status != 0 ? false : reply_no_memory(x);
	}
	int n = 1;
	if (!fields_unsupported(x, x->in, unsupported) || !field_int(x, x->in, "n", 1, 1, &n)) {
		json_decref(messages);
		return false;
	}
	*shows_thinking = strcmp(thinking, "enabled") == 0 || strcmp(thinking, "adaptive") == 0;
	json_t *out = fields_copy(x, own);
	if (out == NULL) {
		json_decref(messages);
		return reply_no_memory(x);
	}
	json_object_set_new(out, "messages", messages);
	if (x->server->thinking.end == NULL && field(field(x->in, "effort"), "think_end") == NULL) {
		json_object_del(out, "thinking"); /* their clients ask all models for it */
	}
	if (kwargs == NULL || json_is_object(kwargs)) {
		json_t *all = json_pack("{s:b}", "enable_thinking", *shows_thinking);
		json_object_update(all, (json_t *)(size_t)kwargs);
		json_object_set_new(out, "chat_template_kwargs", all);
	}
	if (is_prefill(messages)) {
		json_object_set_new(out, "continue_final_message", json_true());
	}
	pass(out, x->in, "stop_sequences", "stop");
	pass(out, field(x->in, "output_config"), "format", "response_format");
	pass(out, field(x->in, "output_config"), "effort", "reasoning_effort");
	if (!read_tools(x, out)) {
		json_decref(out);
		return x->status != 0 ? false : reply_no_memory(x);
	}
	json_decref(x->in);
	x->in = out;
	return true;
}
