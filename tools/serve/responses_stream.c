/* SPDX-License-Identifier: Apache-2.0
 *
 * The events of the Responses API. An item opens with its first part, and closes when one of
 * another kind comes. */
#include "responses.h"

#include <stdlib.h>
#include <string.h>

static void send_event(struct talk *t, struct buf *out, const char *type, json_t *data) {
	struct response *r = t->own;
	buf_print(out, "event: %s\ndata: ", type);
	if (data != NULL) {
		json_object_set_new(data, "type", json_string(type));
		json_object_set_new(data, "sequence_number", json_integer(r->sequence++));
	}
	buf_json_take(out, data);
	buf_text(out, "\n\n");
}

static void send_object(struct talk *t, struct buf *out, const char *type, json_t *object) {
	send_event(t, out, type, json_pack("{s:o}", "response", object));
}

void response_begin(struct talk *t, struct buf *out) {
	send_object(t, out, "response.created", response_object(t, "in_progress", NULL));
	send_object(t, out, "response.in_progress", response_object(t, "in_progress", NULL));
}

/* Its place in the output. */
static int place(const struct response *r) {
	return (int)json_array_size(r->output);
}

static json_t *about(const struct response *r) {
	return json_pack("{s:s, s:i, s:i}", "item_id", r->item, "output_index", place(r),
		"content_index", 0);
}

static void send_item(struct talk *t, struct buf *out, const char *type, json_t *item) {
	send_event(t, out, type, json_pack("{s:i, s:O}", "output_index", place(t->own), "item", item));
}

static json_t *part_object(const struct response *r, bool is_whole) {
	const char *text = is_whole ? buf_string(&r->text) : "";
	const size_t bytes = is_whole ? r->text.bytes : 0;
	if (r->kind == PART_REASONING) {
		return json_pack("{s:s, s:s%}", "type", "reasoning_text", "text", text, bytes);
	}
	return json_pack("{s:s, s:s%, s:[], s:o}", "type", "output_text", "text", text, bytes,
		"annotations", "logprobs", is_whole && r->logprobs != NULL ? json_incref(r->logprobs)
			: json_array());
}

static void send_part(struct talk *t, struct buf *out, const char *type, bool is_whole) {
	json_t *data = about(t->own);
	json_object_set_new(data, "part", part_object(t->own, is_whole));
	send_event(t, out, type, data);
}

/* An entry for each token, in their order: also of those whose text is thinking, a mark or held
 * back, which come with what is written next. That is what chat completions have. */
static json_t *take_logprobs(struct response *r) {
	json_t *list = r->pending != NULL ? r->pending : json_array();
	r->pending = NULL;
	r->logprobs = r->logprobs != NULL ? r->logprobs : json_array();
	json_array_extend(r->logprobs, list);
	return list;
}

static void note_entry(struct talk *t) {
	struct response *r = t->own;
	if (t->entry != NULL) {
		r->pending = r->pending != NULL ? r->pending : json_array();
		json_array_append_new(r->pending, t->entry);
		t->entry = NULL;
	}
}

static void send_text(struct talk *t, const char *text, size_t bytes, struct buf *out) {
	struct response *r = t->own;
	json_t *delta = about(r);
	json_object_set_new(delta, "delta", json_stringn(text, bytes));
	if (r->kind == PART_CONTENT) {
		json_object_set_new(delta, "logprobs", take_logprobs(r));
	}
	send_event(t, out, r->kind == PART_CONTENT ? "response.output_text.delta"
		: "response.reasoning_text.delta", delta);
}

/* Behind the parts of a token: what it left behind of itself. */
void response_token(struct talk *t, int i, struct buf *out) {
	(void)i, (void)out;
	note_entry(t);
}

static void close_item(struct talk *t, const char *status, struct buf *out) {
	struct response *r = t->own;
	if (!r->is_open) {
		return;
	}
	if (r->kind == PART_CONTENT && json_array_size(r->pending) > 0) {
		send_text(t, "", 0, out);
	}
	const bool is_text = r->kind == PART_CONTENT;
	json_t *done = about(r);
	json_object_set_new(done, "text", json_stringn(buf_string(&r->text), r->text.bytes));
	if (is_text) {
		json_object_set_new(done, "logprobs", r->logprobs != NULL ? json_incref(r->logprobs)
			: json_array());
	}
	send_event(t, out, is_text ? "response.output_text.done" : "response.reasoning_text.done",
		done);
	send_part(t, out, "response.content_part.done", true);
	json_t *item = is_text
		? response_message(r->item, buf_string(&r->text), r->text.bytes, r->logprobs, status)
		: response_reasoning(r->item, buf_string(&r->text), r->text.bytes);
	send_item(t, out, "response.output_item.done", item);
	json_array_append_new(r->output, item);
	buf_clear(&r->text);
	json_decref(r->logprobs);
	r->logprobs = NULL;
	r->is_open = false;
}

static void open_item(struct talk *t, enum part_kind kind, struct buf *out) {
	struct response *r = t->own;
	r->is_open = true;
	r->kind = kind;
	talk_new_id(r->item, sizeof(r->item), kind == PART_CONTENT ? "msg_" : "rs_");
	json_t *item = kind == PART_CONTENT ? response_message(r->item, "", 0, NULL, "in_progress")
		: response_reasoning(r->item, "", 0);
	send_item(t, out, "response.output_item.added", item);
	json_decref(item);
	send_part(t, out, "response.content_part.added", false);
}

/* A call comes whole. */
static void send_call(struct talk *t, const json_t *call, struct buf *out) {
	struct response *r = t->own;
	talk_new_id(r->item, sizeof(r->item), "fc_");
	json_t *item = response_call(r->item, call, false);
	json_t *arguments = json_object_get(call, "arguments");
	send_item(t, out, "response.output_item.added", item);
	json_decref(item);
	send_event(t, out, "response.function_call_arguments.delta", json_pack("{s:s, s:i, s:O}",
		"item_id", r->item, "output_index", place(r), "delta", arguments));
	send_event(t, out, "response.function_call_arguments.done", json_pack("{s:s, s:i, s:O, s:O}",
		"item_id", r->item, "output_index", place(r), "arguments", arguments, "name",
		json_object_get(call, "name")));
	item = response_call(r->item, call, true);
	send_item(t, out, "response.output_item.done", item);
	json_array_append_new(r->output, item);
}

void response_part(struct talk *t, int i, const struct part *part, struct buf *out) {
	struct response *r = t->own;
	const json_t *calls = t->answers[i].calls;
	if (part->kind == PART_CALL) {
		close_item(t, "completed", out);
		send_call(t, json_array_get(calls, json_array_size(calls) - 1), out);
		return;
	}
	if (!r->is_open || r->kind != part->kind) {
		close_item(t, "completed", out);
		open_item(t, part->kind, out);
	}
	buf_add(&r->text, part->text, part->bytes);
	note_entry(t);
	send_text(t, part->text, part->bytes, out);
}

void response_end(struct talk *t, struct buf *out) {
	struct response *r = t->own;
	const char *status = response_status(t);
	close_item(t, status, out);
	if (json_array_size(r->output) == 0) { /* an answer of no words is a message, too */
		open_item(t, PART_CONTENT, out);
		close_item(t, status, out);
	}
	json_t *object = response_object(t, status, NULL);
	response_keep(t, object);
	send_object(t, out, strcmp(status, "completed") == 0 ? "response.completed"
		: "response.incomplete", object);
}

void response_fail(struct talk *t, const struct bb_error *err, struct buf *out) {
	if (err->code == BB_ERR_MEMORY) { /* the open item may be what there was no room for */
		response_forget(t->own);
	}
	close_item(t, "incomplete", out);
	send_object(t, out, "response.failed", response_object(t, "failed", err));
}

void response_idle(struct talk *t, struct buf *out) {
	turn_idle(t, out);
}
