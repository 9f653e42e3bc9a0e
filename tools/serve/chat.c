/* SPDX-License-Identifier: Apache-2.0
 *
 * Chat completions: their fields, their bodies, their chunks. */
#include "fields.h"
#include "routes.h"
#include "server.h"
#include "talk.h"

#include <string.h>

/* ---- the body ---- */

static json_t *message_of(const struct answer_text *a) {
	const bool has_calls = json_array_size(a->calls) > 0;
	json_t *content = a->content.bytes == 0 && has_calls ? json_null()
		: json_stringn(buf_string(&a->content), a->content.bytes);
	json_t *message = json_pack("{s:s, s:o, s:n}", "role", "assistant", "content", content,
		"refusal");
	if (a->reasoning.bytes > 0) {
		/* Both names are in use: vLLM has taken to the second one. */
		json_t *text = json_stringn(a->reasoning.data, a->reasoning.bytes);
		json_object_set(message, "reasoning_content", text);
		json_object_set_new(message, "reasoning", text);
	}
	if (has_calls) {
		json_object_set_new(message, "tool_calls", talk_tool_calls(a));
	}
	return message;
}

static json_t *stop_reason(const struct talk *t, int i) {
	const struct answer_text *a = &t->answers[i];
	return stops_reason(&t->stops, t->server->engine, &t->asked.stop_ids, a->finish, a->last_id,
		&a->tail);
}

static json_t *wrap_logprobs(json_t *content) {
	return content != NULL ? json_pack("{s:O, s:n}", "content", content, "refusal") : json_null();
}

static json_t *body(struct talk *t) {
	json_t *choices = json_array();
	for (int i = 0; i < t->n_answers; i++) {
		const struct answer_text *a = &t->answers[i];
		if (a->content.has_failed || a->reader.held.has_failed) {
			json_decref(choices);
			return NULL;
		}
		json_t *choice = json_pack("{s:i, s:o, s:o, s:s, s:o}", "index", i, "message",
			message_of(a), "logprobs", wrap_logprobs(a->logprobs), "finish_reason",
			talk_reason(t, i), "stop_reason", stop_reason(t, i));
		if (a->ids != NULL) {
			json_object_set(choice, "token_ids", a->ids);
		}
		json_array_append_new(choices, choice);
	}
	json_t *all = json_pack("{s:s, s:s, s:I, s:s, s:s, s:o, s:o, s:o}", "id", t->id, "object",
		"chat.completion", "created", (json_int_t)t->created, "model", t->server->names[0],
		"system_fingerprint", "bobbin-" BB_VERSION, "choices", choices, "usage", talk_usage(t),
		"timings", talk_timings(t));
	talk_decisions(t, all);
	if (t->prompt_logprobs != NULL) {
		json_object_set(all, "prompt_logprobs", t->prompt_logprobs);
	}
	if (t->asked.with_ids) {
		json_t *ids = json_array();
		for (size_t i = 0; i < t->conversation.prompt.n; i++) {
			const int32_t id = t->conversation.prompt.ids[i];
			json_array_append_new(ids, id >= 0 ? json_integer(id) : json_null()); /* a vector */
		}
		json_object_set_new(all, "prompt_token_ids", ids);
	}
	return all;
}

/* ---- chunks ---- */

static json_t *new_chunk(const struct talk *t, json_t *choices) {
	return json_pack("{s:s, s:s, s:I, s:s, s:s, s:o}", "id", t->id, "object",
		"chat.completion.chunk", "created", (json_int_t)t->created, "model",
		t->server->names[0], "system_fingerprint", "bobbin-" BB_VERSION, "choices", choices);
}

/* Takes the delta and, with the first one of a token, what is to be told about that. */
static void send_delta(struct talk *t, int i, json_t *delta, const char *reason, struct buf *out) {
	json_t *choice = json_pack("{s:i, s:o, s:o, s:s?}", "index", i, "delta", delta, "logprobs",
		t->entry != NULL ? json_pack("{s:[O], s:n}", "content", t->entry, "refusal")
			: json_null(), "finish_reason", reason);
	if (t->token_id != NULL) {
		json_object_set_new(choice, "token_ids", json_pack("[O]", t->token_id));
	}
	json_decref(t->entry);
	json_decref(t->token_id);
	t->entry = NULL;
	t->token_id = NULL;
	if (reason != NULL) {
		json_object_set_new(choice, "stop_reason", stop_reason(t, i));
	}
	json_t *chunk = new_chunk(t, json_pack("[o]", choice));
	if (t->asked.usage_always) {
		json_object_set_new(chunk, "usage", talk_usage(t));
	} else if (t->asked.with_usage) {
		json_object_set_new(chunk, "usage", json_null());
	}
	const bool is_last = reason != NULL && t->n_open == 0 && (i + 1 == t->n_answers ||
		!asked_effort_chooses(&t->asked.effort));
	if (is_last && !t->asked.with_usage) {
		talk_decisions(t, chunk);
	}
	buf_event_take(out, chunk);
}

static void stream_begin(struct talk *t, struct buf *out) {
	for (int i = 0; i < t->n_answers; i++) {
		send_delta(t, i, json_pack("{s:s, s:s}", "role", "assistant", "content", ""), NULL, out);
	}
}

static void stream_part(struct talk *t, int i, const struct part *part, struct buf *out) {
	const struct answer_text *a = &t->answers[i];
	json_t *text = json_stringn(part->text, part->bytes), *delta;
	if (part->kind == PART_CALL) {
		const size_t n = json_array_size(a->calls);
		delta = json_pack("{s:[{s:I, s:O, s:s, s:{s:s, s:o}}]}", "tool_calls", "index",
			(json_int_t)(n - 1), "id", json_object_get(json_array_get(a->calls, n - 1), "id"),
			"type", "function", "function", "name", part->name, "arguments", text);
	} else if (part->kind == PART_REASONING) {
		delta = json_pack("{s:O, s:o}", "reasoning_content", text, "reasoning", text);
	} else {
		delta = json_pack("{s:o}", "content", text);
	}
	send_delta(t, i, delta, NULL, out);
}

/* Log-probabilities come with their token, though its text may still be held back. */
static void stream_token(struct talk *t, int i, struct buf *out) {
	if (t->entry != NULL || t->token_id != NULL) {
		send_delta(t, i, json_pack("{s:s}", "content", ""), NULL, out);
	}
}

static void stream_finish(struct talk *t, int i, struct buf *out) {
	send_delta(t, i, json_object(), talk_reason(t, i), out);
}

static void stream_end(struct talk *t, struct buf *out) {
	if (t->asked.with_usage) {
		json_t *chunk = new_chunk(t, json_array());
		json_object_set_new(chunk, "usage", talk_usage(t));
		json_object_set_new(chunk, "timings", talk_timings(t));
		talk_decisions(t, chunk);
		buf_event_take(out, chunk);
	}
	buf_text(out, "data: [DONE]\n\n");
}

static void stream_fail(struct talk *t, const struct bb_error *err, struct buf *out) {
	(void)t;
	buf_event_take(out, error_of_engine(DIALECT_OPENAI, err));
	buf_text(out, "data: [DONE]\n\n");
}

static void stream_idle(struct talk *t, struct buf *out) {
	turn_idle(t, out);
}

static const struct talk_shape shape = {
	.begin = stream_begin, .part = stream_part, .token = stream_token, .finish = stream_finish,
	.end = stream_end, .fail = stream_fail, .idle = stream_idle, .body = body,
};

/* ---- fields ---- */

bool chat_read(struct talk *t) {
	static const char *const lengths[] = { "max_completion_tokens", "max_tokens", "n_predict",
		NULL };
	struct exchange *x = t->x;
	bool shows = true, separates = true;
	if (!field_model(x) || !asked_read(x, &t->asked) ||
		!asked_length(x, &t->asked, lengths, 1) ||
		!conversation_read(x, &t->conversation) ||
		!field_bool(x, x->in, "logprobs", &t->wants_logprobs) ||
		!field_int(x, x->in, "top_logprobs", 0, BB_MAX_LOGPROBS, &t->n_top) ||
		!field_bool(x, x->in, "include_reasoning", &shows) ||
		!field_bool(x, x->in, "separate_reasoning", &separates)) {
		return false;
	}
	t->conversation.thinking = t->asked.effort.effort.thinking;
	if (t->n_top > 0 && !t->wants_logprobs) {
		return reply_error(x, 400, "top_logprobs", "invalid_value",
			"'top_logprobs' needs 'logprobs' to be true");
	}
	const json_t *modalities = field(x->in, "modalities");
	if (modalities != NULL && (json_array_size(modalities) != 1 ||
		strcmp(json_is_string(json_array_get(modalities, 0))
			? json_string_value(json_array_get(modalities, 0)) : "", "text") != 0)) {
		return reply_error(x, 400, "modalities", "unsupported_parameter",
			"'modalities' must be [\"text\"]: this server writes nothing else");
	}
	if (!separates) {
		return reply_error(x, 400, "separate_reasoning", "unsupported_parameter",
			"thinking can't be left in the content; --reasoning-parser none does it for all");
	}
	bool many = true;
	t->hides_reasoning = !shows;
	if (!field_bool(x, x->in, "parallel_tool_calls", &many)) {
		return false;
	}
	t->conversation.one_call = !many;
	return true;
}

void chat_handle(struct exchange *x) {
	struct talk *t = talk_create(x, &shape, "chatcmpl-");
	if (t == NULL) {
		return;
	}
	t->conversation.takes_vectors = true;
	if (chat_read(t)) {
		talk_run(t);
	} else {
		talk_destroy(t);
	}
}
