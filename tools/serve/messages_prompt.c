/* SPDX-License-Identifier: Apache-2.0
 *
 * From a conversation to the ids of its prompt. A template that knows nothing of tools gets them in
 * the words that models of the Hermes kind were trained on. */
#include "messages.h"

#include "force.h"
#include "marks.h"
#include "prompt_embeds.h"
#include "ration.h"
#include "server.h"

#include <stdlib.h>
#include <string.h>

/* ---- tools for templates without them ---- */

static json_t *text_message(const char *role, struct buf *text) {
	json_t *message = text->has_failed ? NULL : json_pack("{s:s, s:s%}", "role", role, "content",
		buf_string(text), text->bytes);
	buf_finish(text);
	return message;
}

static void add_content(struct buf *text, const json_t *message) {
	const json_t *content = json_object_get(message, "content");
	buf_add(text, json_string_value(content), json_string_length(content));
}

static json_t *system_with_tools(const json_t *first, const json_t *tools) {
	struct buf text = { 0 };
	size_t i;
	const json_t *tool;
	if (first != NULL) {
		add_content(&text, first);
		buf_text(&text, "\n\n");
	}
	buf_text(&text, "# Tools\n\nYou may call these functions to help the user:\n<tools>");
	json_array_foreach(tools, i, tool) {
		buf_text(&text, "\n");
		buf_json(&text, tool);
	}
	buf_text(&text, "\n</tools>\n\nTo call one, write its name and its arguments as JSON:\n"
		"<tool_call>\n{\"name\": \"NAME\", \"arguments\": {\"KEY\": \"VALUE\"}}\n</tool_call>");
	return text_message("system", &text);
}

static json_t *call_as_text(const json_t *message) {
	struct buf text = { 0 };
	size_t i;
	const json_t *call;
	add_content(&text, message);
	json_array_foreach(json_object_get(message, "tool_calls"), i, call) {
		const json_t *function = json_object_get(call, "function");
		buf_text(&text, text.bytes > 0 ? "\n" : "");
		buf_text(&text, "<tool_call>\n{\"name\": ");
		buf_json(&text, json_object_get(function, "name"));
		buf_text(&text, ", \"arguments\": ");
		buf_json(&text, json_object_get(function, "arguments"));
		buf_text(&text, "}\n</tool_call>");
	}
	return text_message("assistant", &text);
}

static bool has_role(const json_t *message, const char *role) {
	const char *its = json_string_value(json_object_get(message, "role"));
	return its != NULL && strcmp(its, role) == 0;
}

/* Results that follow each other are one message of the user. */
static json_t *results_as_text(const json_t *messages, size_t *i) {
	struct buf text = { 0 };
	const json_t *message;
	while ((message = json_array_get(messages, *i)) != NULL && has_role(message, "tool")) {
		buf_text(&text, text.bytes > 0 ? "\n" : "");
		buf_text(&text, "<tool_response>\n");
		add_content(&text, message);
		buf_text(&text, "\n</tool_response>");
		(*i)++;
	}
	return text_message("user", &text);
}

static json_t *without_tools(const struct conversation *c) {
	json_t *list = json_array();
	const json_t *first = json_array_get(c->messages, 0);
	size_t i = 0;
	bool ok = list != NULL;
	if (c->tools != NULL && c->choice != TOOLS_NONE) {
		i = has_role(first, "system");
		ok = json_array_append_new(list, system_with_tools(i > 0 ? first : NULL, c->tools)) == 0;
	}
	while (ok && i < json_array_size(c->messages)) {
		json_t *message = json_array_get(c->messages, i);
		if (has_role(message, "tool")) {
			ok = json_array_append_new(list, results_as_text(c->messages, &i)) == 0;
			continue;
		}
		const bool calls = json_object_get(message, "tool_calls") != NULL;
		ok = json_array_append_new(list, calls ? call_as_text(message)
			: json_incref(message)) == 0;
		i++;
	}
	if (!ok) {
		json_decref(list);
		return NULL;
	}
	return list;
}

/* ---- rendering ---- */

static const char *source_of(const struct exchange *x, const struct conversation *c) {
	return c->source != NULL ? c->source : x->server->template_source;
}

/* Some templates print the arguments of calls as they are, and want them to be a text. */
static json_t *with_text_arguments(const json_t *messages) {
	json_t *copy = json_deep_copy(messages);
	size_t i, k;
	json_t *message, *call;
	json_array_foreach(copy, i, message) {
		json_array_foreach(json_object_get(message, "tool_calls"), k, call) {
			json_t *function = json_object_get(call, "function");
			char *text = json_dumps(json_object_get(function, "arguments"), JSON_ENCODE_ANY);
			json_object_set_new(function, "arguments", json_string(text != NULL ? text : ""));
			ration_free_text(text);
		}
	}
	return copy;
}

bool conversation_render(struct exchange *x, const struct conversation *c, json_t *messages,
	bool for_answer, struct bb_text *out, struct bb_error *err) {
	json_t *vars = c->variables != NULL ? json_copy(c->variables) : json_object();
	struct buf json = { 0 };
	json_object_set(vars, "messages", messages);
	json_object_set_new(vars, "add_generation_prompt", json_boolean(for_answer));
	if (c->tools != NULL && c->choice != TOOLS_NONE) {
		json_object_set(vars, "tools", c->tools);
	}
	buf_json_take(&json, vars);
	out->bytes = 0;
	const bool ok = json.has_failed
		? server_fail(err, BB_ERR_MEMORY, "no memory for the messages")
		: bb_template_render(x->server->engine, source_of(x, c), json.data, json.bytes, out, err);
	buf_finish(&json);
	return ok;
}

/* *messages become what the template could take. */
static bool render(struct exchange *x, struct conversation *c, json_t **messages) {
	struct bb_error err = { 0 }, second = { 0 };
	const bool for_answer = !c->continues && !c->no_answer;
	if (conversation_render(x, c, *messages, for_answer, &c->rendered, &err)) {
		return true;
	}
	json_t *texts = with_text_arguments(*messages);
	const bool ok = err.code == BB_ERR_TEMPLATE && texts != NULL &&
		!json_equal(texts, *messages) &&
		conversation_render(x, c, texts, for_answer, &c->rendered, &second);
	if (ok) {
		json_decref(*messages);
		*messages = texts;
		return true;
	}
	json_decref(texts);
	return reply_engine_error(x, "messages", &err);
}

static char *backwards(const char *text, size_t bytes) {
	char *out = malloc(bytes + 1);
	for (size_t i = 0; out != NULL && i < bytes; i++) {
		out[i] = text[bytes - 1 - i];
	}
	return out;
}

/* Where a text stands for the last time. *at becomes NULL where it doesn't; false: no memory. One
 * search from the end, for a text that repeats itself may stand at all of its bytes. */
static bool find_last(const struct bb_text *all, const char *text, size_t bytes, const char **at) {
	char *back = backwards(all->data, all->bytes), *text_back = backwards(text, bytes);
	const bool ok = back != NULL && text_back != NULL;
	const char *found = ok && bytes > 0 ? memmem(back, all->bytes, text_back, bytes) : NULL;
	*at = found != NULL ? all->data + (all->bytes - (size_t)(found - back) - bytes) : NULL;
	free(back);
	free(text_back);
	return ok;
}

/* The last message goes on: what the template writes behind its content is cut off. */
static bool cut_final(struct exchange *x, struct conversation *c, const json_t *messages) {
	const json_t *last = json_array_get(messages, json_array_size(messages) - 1);
	const json_t *content = json_object_get(last, "content");
	const char *text = json_string_value(content);
	size_t bytes = json_string_length(content);
	while (bytes > 0 && strchr(" \t\r\n", text[bytes - 1]) != NULL) {
		bytes--; /* some templates trim */
	}
	const char *found, *end = c->rendered.data + c->rendered.bytes;
	if (!find_last(&c->rendered, text, bytes, &found)) {
		return reply_no_memory(x);
	}
	if (found == NULL) {
		return reply_error(x, 400, "continue_final_message", "invalid_value",
			"the last message isn't in the prompt as it stands, so it can't be continued");
	}
	const size_t whole = json_string_length(content);
	const size_t left = (size_t)(end - found);
	const bool is_whole = left >= whole && memcmp(found, text, whole) == 0;
	c->rendered.bytes = (size_t)(found - c->rendered.data) + (is_whole ? whole : bytes);
	c->rendered.data[c->rendered.bytes] = '\0';
	return true;
}

static bool ends_with(const struct bb_text *text, const char *word) {
	size_t bytes = text->bytes;
	const size_t n = strlen(word);
	while (bytes > 0 && strchr(" \t\r\n", text->data[bytes - 1]) != NULL) {
		bytes--;
	}
	return bytes >= n && memcmp(text->data + bytes - n, word, n) == 0;
}

/* The last message goes on, and a text that it has begun: whether that is thinking. */
static bool goes_on_thinking(const struct conversation *c, const json_t *messages) {
	const struct bb_thinking *t = &c->thinking;
	const json_t *last = json_array_get(messages, json_array_size(messages) - 1);
	const char *text = json_string_value(json_object_get(last, "content"));
	const char *begin = t->begin == NULL || text == NULL ? text : strstr(text, t->begin);
	return begin != NULL && strstr(begin, t->end) == NULL;
}

/* Where the answer stands, and whether it can have thoughts. */
static void find_thinking(struct conversation *c, const json_t *messages) {
	struct bb_thinking *t = &c->thinking;
	if (t->end == NULL) {
		return;
	}
	t->starts_inside = t->begin != NULL && c->rendered.bytes > 0 &&
		ends_with(&c->rendered, t->begin);
	t->starts_inside |= c->continues ? goes_on_thinking(c, messages) : t->begin == NULL;
	const bool has_no_place = c->choice == TOOLS_REQUIRED || c->is_constrained;
	if ((c->continues && !t->starts_inside) || (t->begin == NULL && has_no_place)) {
		t->end = NULL;
	}
	c->may_think = t->end != NULL && !has_no_place;
}

/* Where a call must come, or the text is constrained, there is no place for thinking. */
static bool begin_answer(struct exchange *x, struct conversation *c, const json_t *messages) {
	const struct bb_thinking *t = &c->thinking;
	find_thinking(c, messages);
	if (t->end != NULL && t->starts_inside && !c->may_think) {
		buf_print(&c->forced, "\n%s\n\n", t->end);
	}
	return c->choice != TOOLS_REQUIRED || force_call(x, c);
}

/* The ids of a text, and vectors in their places. */
static bool add_ids(struct exchange *x, struct conversation *c, const char *text, size_t bytes,
	bool special) {
	const size_t n_mark = strlen(c->mark);
	struct bb_error err = { 0 };
	for (const char *at = text, *end = text + bytes;;) {
		const char *mark = c->n_vectors > 0 ? memmem(at, (size_t)(end - at), c->mark, n_mark)
			: NULL;
		const char *stop = mark != NULL ? mark : end;
		if (!bb_tokenize(x->server->engine, at, (size_t)(stop - at), special && at == text, true,
			&c->prompt, &err)) {
			return reply_engine_error(x, "messages", &err);
		}
		if (mark == NULL) {
			return true;
		}
		char *dot;
		const long i = strtol(mark + n_mark, &dot, 10);
		if (*dot != '.' || i < 0 || i >= c->n_vectors) {
			return reply_error(x, 400, "chat_template", "invalid_value",
				"the chat template doesn't leave the places of 'prompt_embeds' as they are");
		}
		if (!prompt_embeds_push(x, c->vectors[i], &c->prompt)) {
			return false;
		}
		at = dot + 1;
	}
}

static bool tokenize(struct exchange *x, struct conversation *c) {
	const struct bb_text *r = &c->rendered;
	return add_ids(x, c, r->bytes > 0 ? r->data : "", r->bytes, false) &&
		add_ids(x, c, buf_string(&c->forced), c->forced.bytes, false);
}

/* Without a template the contents follow each other, a newline behind each. What tokens of words
 * are made of may reach beyond one; ids in decimal don't, and so each message has its own. */
static bool join_lines(struct exchange *x, struct conversation *c, const json_t *messages) {
	const bool has_vocab = bb_has_vocab(x->server->engine);
	struct buf *text = &c->lines;
	const size_t n = json_array_size(messages);
	size_t first = 0; /* of what has no tokens yet */
	bool ok = true;
	for (size_t i = 0; i < n && ok; i++) {
		const bool is_last = i + 1 == n;
		add_content(text, json_array_get(messages, i));
		buf_text(text, !is_last || !c->continues ? "\n" : "");
		if (is_last || !has_vocab) {
			marks_add(c, c->prompt.n, marks_role(messages, i));
			ok = add_ids(x, c, buf_string(text) + first, text->bytes - first, c->prompt.n == 0);
			first = text->bytes;
		}
	}
	if (!c->continues && !has_vocab) {
		marks_add(c, c->prompt.n, BB_ROLE_ASSISTANT);
	}
	return ok;
}

void conversation_text(const struct conversation *c, struct buf *out) {
	buf_add(out, c->rendered.data, c->rendered.bytes);
	buf_add(out, c->lines.data, c->lines.bytes);
	buf_add(out, c->forced.data, c->forced.bytes);
}

bool conversation_prompt(struct exchange *x, struct conversation *c) {
	const char *source = source_of(x, c);
	/* ids in decimal have no words for them either */
	const bool knows_tools = !bb_has_vocab(x->server->engine) ||
		(source != NULL && strstr(source, "tools") != NULL);
	json_t *messages = knows_tools ? json_incref(c->messages) : without_tools(c);
	if (messages == NULL) {
		return reply_no_memory(x);
	}
	bool ok;
	if (source == NULL || !bb_has_vocab(x->server->engine)) {
		ok = join_lines(x, c, messages) && begin_answer(x, c, messages) &&
			add_ids(x, c, buf_string(&c->forced), c->forced.bytes, false);
	} else {
		ok = render(x, c, &messages) && (!c->continues || cut_final(x, c, messages));
		ok = ok && begin_answer(x, c, messages) && tokenize(x, c);
		if (ok) {
			marks_find(x, c, messages);
		}
	}
	json_decref(messages);
	return ok;
}
