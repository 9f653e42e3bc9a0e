/* SPDX-License-Identifier: Apache-2.0
 *
 * Anthropic's messages: what is answered, at once and as a stream of events. How their requests
 * become ours is in anthropic_read.c. */
#include "anthropic.h"

#include "fields.h"
#include "routes.h"
#include "server.h"
#include "talk.h"

#include <stdlib.h>

/* What the stream has open. */
struct blocks {
	int n;                 /* that were begun */
	bool is_open;
	enum part_kind kind;   /* of the open one */
};

static json_t *usage_of(const struct talk *t) {
	json_t *usage = json_pack("{s:i, s:i, s:i, s:i}", "input_tokens",
		t->n_prompt - t->usage.n_cached, "cache_read_input_tokens", t->usage.n_cached,
		"cache_creation_input_tokens", 0, "output_tokens", t->n_output);
	if (t->has_usage) {
		json_object_set_new(usage, "reasoning_tokens", json_integer(talk_thinking(t)));
		asked_effort_count(usage, &t->usage);
	}
	return usage;
}

/* Their API knows no deadlines, and so no word for one: who asks for it knows ours. */
static const char *reason_of(const struct talk *t) {
	switch (t->answers[0].finish) {
	case BB_FINISH_STOP:
		return t->answers[0].reader.n_calls > 0 ? "tool_use"
			: talk_stop_string(t, 0) != NULL ? "stop_sequence" : "end_turn";
	case BB_FINISH_CONTEXT:
		return "model_context_window_exceeded";
	case BB_FINISH_DEADLINE:
		return "deadline";
	case BB_FINISH_DROPPED:
		return "dropped";
	default:
		return "max_tokens";
	}
}

/* A call's id as their clients know them. */
static json_t *call_id(const json_t *call) {
	return json_sprintf("toolu_%s", json_string_value(json_object_get(call, "id")) + 5);
}

static json_t *call_block(const json_t *call, json_t *input) {
	return json_pack("{s:s, s:o, s:O, s:o}", "type", "tool_use", "id", call_id(call), "name",
		json_object_get(call, "name"), "input", input);
}

static json_t *message_of(const struct talk *t, json_t *content, bool is_whole) {
	json_t *message = json_pack("{s:s, s:s, s:s, s:s, s:o, s:s?, s:s?, s:o}", "id", t->id, "type",
		"message", "role", "assistant", "model", t->server->names[0], "content", content,
		"stop_reason", is_whole ? reason_of(t) : NULL, "stop_sequence",
		is_whole ? talk_stop_string(t, 0) : NULL, "usage", usage_of(t));
	if (is_whole) {
		talk_decisions(t, message);
	}
	return message;
}

static json_t *body(struct talk *t) {
	const struct answer_text *a = &t->answers[0];
	json_t *content = json_array();
	size_t i;
	const json_t *call;
	if (a->reasoning.bytes > 0) {
		json_array_append_new(content, json_pack("{s:s, s:s%, s:s}", "type", "thinking",
			"thinking", a->reasoning.data, a->reasoning.bytes, "signature", ""));
	}
	if (a->content.bytes > 0) {
		json_array_append_new(content, json_pack("{s:s, s:s%}", "type", "text", "text",
			a->content.data, a->content.bytes));
	}
	json_array_foreach(a->calls, i, call) {
		const json_t *text = json_object_get(call, "arguments");
		json_array_append_new(content, call_block(call,
			json_loadb(json_string_value(text), json_string_length(text),
				JSON_ALLOW_NUL, NULL)));
	}
	return message_of(t, content, true);
}

/* ---- events ---- */

static void send_event(struct buf *out, const char *type, json_t *data) {
	buf_print(out, "event: %s\ndata: ", type);
	if (data != NULL) {
		json_object_set_new(data, "type", json_string(type));
	}
	buf_json_take(out, data);
	buf_text(out, "\n\n");
}

static void stream_begin(struct talk *t, struct buf *out) {
	send_event(out, "message_start", json_pack("{s:o}", "message",
		message_of(t, json_array(), false)));
}

static void close_block(struct talk *t, struct buf *out) {
	struct blocks *b = t->own;
	if (b->is_open) {
		send_event(out, "content_block_stop", json_pack("{s:i}", "index", b->n - 1));
	}
	b->is_open = false;
}

static void open_block(struct talk *t, enum part_kind kind, json_t *block, struct buf *out) {
	struct blocks *b = t->own;
	close_block(t, out);
	*b = (struct blocks){ b->n + 1, true, kind };
	send_event(out, "content_block_start", json_pack("{s:i, s:o}", "index", b->n - 1,
		"content_block", block));
}

static void stream_part(struct talk *t, int i, const struct part *part, struct buf *out) {
	static const struct {
		const char *type, *delta, *field;
	} names[] = {
		[PART_REASONING] = { "thinking", "thinking_delta", "thinking" },
		[PART_CONTENT] = { "text", "text_delta", "text" },
		[PART_CALL] = { "tool_use", "input_json_delta", "partial_json" },
	};
	struct blocks *b = t->own;
	const json_t *calls = t->answers[i].calls;
	if (part->kind == PART_CALL) {
		const json_t *call = json_array_get(calls, json_array_size(calls) - 1);
		open_block(t, part->kind, call_block(call, json_object()), out);
	} else if (!b->is_open || b->kind != part->kind) {
		json_t *block = json_pack("{s:s, s:s}", "type", names[part->kind].type,
			names[part->kind].field, "");
		if (part->kind == PART_REASONING) {
			json_object_set_new(block, "signature", json_string(""));
		}
		open_block(t, part->kind, block, out);
	}
	send_event(out, "content_block_delta", json_pack("{s:i, s:{s:s, s:s%}}", "index", b->n - 1,
		"delta", "type", names[part->kind].delta, names[part->kind].field, part->text,
		part->bytes));
}

static void stream_end(struct talk *t, struct buf *out) {
	close_block(t, out);
	json_t *delta = json_pack("{s:{s:s, s:s?}, s:o}", "delta", "stop_reason", reason_of(t),
		"stop_sequence", talk_stop_string(t, 0), "usage", usage_of(t));
	talk_decisions(t, delta);
	send_event(out, "message_delta", delta);
	send_event(out, "message_stop", json_object());
}

static void stream_fail(struct talk *t, const struct bb_error *err, struct buf *out) {
	(void)t;
	send_event(out, "error", error_of_engine(DIALECT_ANTHROPIC, err));
}

static void stream_idle(struct talk *t, struct buf *out) {
	(void)t;
	send_event(out, "ping", json_object());
}

static void drop(struct talk *t) {
	free(t->own);
}

static const struct talk_shape shape = {
	.begin = stream_begin, .part = stream_part, .end = stream_end, .fail = stream_fail,
	.idle = stream_idle, .body = body, .drop = drop,
};

/* ---- the endpoints ---- */

void anthropic_handle(struct exchange *x) {
	struct talk *t = talk_create(x, &shape, "msg_");
	if (t == NULL) {
		return;
	}
	bool shows = false;
	t->own = calloc(1, sizeof(struct blocks));
	if (t->own == NULL) {
		reply_no_memory(x);
	} else if (anthropic_read(x, true, &shows) && chat_read(t)) {
		t->hides_reasoning = !shows;
		talk_run(t);
		return;
	}
	talk_destroy(t);
}

void anthropic_count(struct exchange *x) {
	struct conversation c = { 0 };
	bool shows;
	if (anthropic_read(x, false, &shows) && field_model(x) && conversation_read(x, &c) &&
		conversation_prompt(x, &c)) {
		reply_json_take(x, 200, json_pack("{s:I}", "input_tokens", (json_int_t)c.prompt.n));
	}
	conversation_finish(&c);
}
