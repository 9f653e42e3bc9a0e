/* SPDX-License-Identifier: Apache-2.0
 *
 * The Responses API: its objects and endpoints. */
#include "responses.h"

#include "fields.h"
#include "listing.h"
#include "routes.h"
#include "server.h"

#include <stdlib.h>
#include <string.h>

void response_free(struct response *r) {
	if (r != NULL) {
		json_decref(r->echo);
		json_decref(r->messages);
		json_decref(r->input);
		json_decref(r->pending);
		json_decref(r->output);
		json_decref(r->logprobs);
		buf_finish(&r->text);
		free(r);
	}
}

void response_forget(struct response *r) {
	json_array_clear(r->output);
	json_decref(r->logprobs);
	r->logprobs = NULL;
	buf_finish(&r->text);
	r->is_open = false;
}

/* ---- objects ---- */

json_t *response_message(const char *id, const char *text, size_t bytes, json_t *logprobs,
	const char *status) {
	const bool has_text = strcmp(status, "in_progress") != 0;
	json_t *content = !has_text ? json_array() : json_pack("[{s:s, s:s%, s:[], s:o}]", "type",
		"output_text", "text", text, bytes, "annotations", "logprobs",
		logprobs != NULL ? json_incref(logprobs) : json_array());
	return json_pack("{s:s, s:s, s:s, s:s, s:o}", "id", id, "type", "message", "status", status,
		"role", "assistant", "content", content);
}

json_t *response_reasoning(const char *id, const char *text, size_t bytes) {
	json_t *content = bytes == 0 ? json_array() : json_pack("[{s:s, s:s%}]", "type",
		"reasoning_text", "text", text, bytes);
	return json_pack("{s:s, s:s, s:[], s:o}", "id", id, "type", "reasoning", "summary", "content",
		content);
}

json_t *response_call(const char *id, const json_t *call, bool is_whole) {
	return json_pack("{s:s, s:s, s:s, s:O, s:O, s:o}", "id", id, "type", "function_call", "status",
		is_whole ? "completed" : "in_progress", "call_id", json_object_get(call, "id"), "name",
		json_object_get(call, "name"), "arguments",
		is_whole ? json_incref(json_object_get(call, "arguments")) : json_string(""));
}

static json_t *usage_of(const struct talk *t) {
	json_t *usage = json_pack("{s:i, s:{s:i, s:i}, s:i, s:{s:i}, s:i}", "input_tokens",
		t->n_prompt, "input_tokens_details", "cached_tokens", t->usage.n_cached,
		"cache_write_tokens", 0, "output_tokens", t->n_output, "output_tokens_details",
		"reasoning_tokens", talk_thinking(t), "total_tokens", t->n_prompt + t->n_output);
	asked_effort_count(usage, &t->usage);
	return usage;
}

const char *response_status(const struct talk *t) {
	return t->answers[0].finish == BB_FINISH_STOP ? "completed" : "incomplete";
}

/* The API's own words know but two reasons; clients show others as they are. */
static const char *why_incomplete(const struct talk *t) {
	switch (t->answers[0].finish) {
	case BB_FINISH_CONTEXT:
		return "max_context_length";
	case BB_FINISH_CANCELLED:
		return "cancelled";
	case BB_FINISH_DEADLINE:
		return "deadline";
	case BB_FINISH_DROPPED:
		return "dropped";
	default:
		return "max_output_tokens";
	}
}

json_t *response_object(const struct talk *t, const char *status, const struct bb_error *err) {
	const struct response *r = t->own;
	const bool has_ended = strcmp(status, "in_progress") != 0;
	json_t *object = json_pack("{s:s, s:s, s:I, s:s, s:s, s:O}", "id", t->id, "object", "response",
		"created_at", (json_int_t)t->created, "status", status, "model", t->server->names[0],
		"output", r->output);
	json_object_update(object, r->echo);
	json_object_set_new(object, "error", err == NULL ? json_null() : json_pack("{s:s, s:s}",
		"code", "server_error", "message", err->text));
	json_object_set_new(object, "incomplete_details", strcmp(status, "incomplete") == 0
		? json_pack("{s:s}", "reason", why_incomplete(t)) : json_null());
	json_object_set_new(object, "usage", has_ended && err == NULL ? usage_of(t) : json_null());
	if (has_ended) {
		talk_decisions(t, object);
	}
	return object;
}

void response_keep(struct talk *t, const json_t *object) {
	struct response *r = t->own;
	const struct answer_text *a = &t->answers[0];
	if (!r->is_kept || object == NULL) {
		return;
	}
	json_t *message = json_pack("{s:s, s:s%}", "role", "assistant", "content",
		buf_string(&a->content), a->content.bytes);
	if (json_array_size(a->calls) > 0) {
		json_object_set_new(message, "tool_calls", talk_tool_calls(a));
	}
	if (a->reasoning.bytes > 0) {
		json_object_set_new(message, "reasoning_content",
			json_stringn(a->reasoning.data, a->reasoning.bytes));
	}
	json_array_append_new(r->messages, message);
	store_put(&t->server->store, t->id, r->messages, object, r->input);
}

static json_t *body(struct talk *t) {
	struct response *r = t->own;
	const struct answer_text *a = &t->answers[0];
	char id[48];
	size_t i;
	const json_t *call;
	if (a->reasoning.bytes > 0) {
		talk_new_id(id, sizeof(id), "rs_");
		json_array_append_new(r->output,
			response_reasoning(id, a->reasoning.data, a->reasoning.bytes));
	}
	if (a->content.bytes > 0 || json_array_size(a->calls) == 0) {
		talk_new_id(id, sizeof(id), "msg_");
		json_array_append_new(r->output, response_message(id, buf_string(&a->content),
			a->content.bytes, a->logprobs,
			json_array_size(a->calls) > 0 ? "completed" : response_status(t)));
	}
	json_array_foreach(a->calls, i, call) {
		talk_new_id(id, sizeof(id), "fc_");
		json_array_append_new(r->output, response_call(id, call, true));
	}
	json_t *object = response_object(t, response_status(t), NULL);
	response_keep(t, object);
	return object;
}

static void drop(struct talk *t) {
	response_free(t->own);
}

static const struct talk_shape shape = {
	.begin = response_begin, .part = response_part, .token = response_token, .end = response_end,
	.fail = response_fail, .idle = response_idle, .body = body, .drop = drop,
};

/* ---- the endpoints ---- */

void responses_handle(struct exchange *x) {
	struct talk *t = talk_create(x, &shape, "resp_");
	if (t == NULL) {
		return;
	}
	t->own = calloc(1, sizeof(struct response));
	if (t->own == NULL) {
		reply_no_memory(x);
	} else if (response_read(x, t->own) && chat_read(t)) {
		talk_run(t);
		return;
	}
	talk_destroy(t);
}

void responses_count(struct exchange *x) {
	struct conversation c = { 0 };
	struct response *r = calloc(1, sizeof(*r));
	if (r == NULL) {
		reply_no_memory(x);
	} else if (response_read(x, r) && field_model(x) && conversation_read(x, &c) &&
		conversation_prompt(x, &c)) {
		reply_json_take(x, 200, json_pack("{s:s, s:I}", "object", "response.input_tokens",
			"input_tokens", (json_int_t)c.prompt.n));
	}
	conversation_finish(&c);
	response_free(r);
}

static void not_there(struct exchange *x, const char *id) {
	reply_error(x, 404, "response_id", "response_not_found",
		"there is no response '%.100s' here (any more)", id);
}

/* The id in front of a path's last part, which is `tail`; NULL: that isn't its last part. */
static char *id_before(const struct exchange *x, const char *tail) {
	const char *rest = exchange_rest(x, "/v1/responses/");
	const size_t n = strlen(rest), n_tail = strlen(tail);
	return n > n_tail && strcmp(rest + n - n_tail, tail) == 0 ? strndup(rest, n - n_tail) : NULL;
}

/* Of a request's own items; what previous_response_id brought is in that one's list. */
static void list_input(struct exchange *x, const char *id) {
	static const struct listing pages = { "after", NULL, 100, "list" };
	json_t *kept = store_get(&x->server->store, id);
	const char *order = exchange_query(x, "order");
	if (kept == NULL) {
		not_there(x, id);
		return;
	}
	if (order != NULL && strcmp(order, "asc") != 0 && strcmp(order, "desc") != 0) {
		reply_error(x, 400, "order", "invalid_value", "'order' is '%.40s', expected asc or desc",
			order);
		json_decref(kept);
		return;
	}
	const json_t *input = json_object_get(kept, "input");
	json_t *items = json_array();
	for (size_t i = 0, n = json_array_size(input); i < n; i++) {
		const bool is_rising = order != NULL && strcmp(order, "asc") == 0;
		json_array_append(items, json_array_get(input, is_rising ? i : n - 1 - i));
	}
	json_decref(kept);
	listing_reply(x, &pages, items);
}

void responses_get(struct exchange *x) {
	const char *id = exchange_rest(x, "/v1/responses/");
	const char *stream = exchange_query(x, "stream");
	char *of_items = id_before(x, "/input_items");
	if (of_items != NULL) {
		list_input(x, of_items);
		free(of_items);
		return;
	}
	if (stream != NULL && strcmp(stream, "true") == 0) {
		reply_error(x, 400, "stream", "unsupported_parameter",
			"a response that is there already isn't streamed again; ask without 'stream'");
		return;
	}
	json_t *kept = store_get(&x->server->store, id);
	if (kept == NULL) {
		not_there(x, id);
		return;
	}
	reply_json_take(x, 200, json_incref(json_object_get(kept, "response")));
	json_decref(kept);
}

void responses_delete(struct exchange *x) {
	const char *id = exchange_rest(x, "/v1/responses/");
	if (!store_delete(&x->server->store, id)) {
		not_there(x, id);
		return;
	}
	reply_json_take(x, 200, json_pack("{s:s, s:s, s:b}", "id", id, "object", "response",
		"deleted", 1));
}

/* Who asks for a response waits for it, and what is kept has ended. */
void responses_cancel(struct exchange *x) {
	char *id = id_before(x, "/cancel");
	json_t *kept = id != NULL ? store_get(&x->server->store, id) : NULL;
	if (id == NULL) {
		reply_error(x, 404, NULL, "not_found", "there is nothing at '%.200s'", x->path);
	} else if (kept == NULL) {
		not_there(x, id);
	} else {
		reply_error(x, 400, "response_id", "invalid_value", "'%.100s' has ended; only responses "
			"with 'background', which this server doesn't have, could be cancelled: one that is "
			"written ends when its client leaves", id);
	}
	json_decref(kept);
	free(id);
}
