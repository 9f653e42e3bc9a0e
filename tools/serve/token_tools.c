/* SPDX-License-Identifier: Apache-2.0
 *
 * Text to ids and back, and prompts as the model sees them: the bodies of vLLM and llama-server. */
#include "fields.h"
#include "logprobs.h"
#include "messages.h"
#include "ration.h"
#include "routes.h"
#include "server.h"
#include "terminal.h"

#include <string.h>

static json_t *ids_of(const struct bb_tokens *tokens) {
	json_t *list = json_array();
	for (size_t i = 0; i < tokens->n; i++) {
		json_array_append_new(list, json_integer(tokens->ids[i]));
	}
	return list;
}

/* What isn't UTF-8 by itself is told by its bytes, as llama-server does. */
static json_t *piece(const struct bb_engine *e, int32_t id) {
	struct bb_text text = { 0 };
	struct bb_error err = { 0 };
	if (!bb_detokenize(e, &id, 1, &text, &err)) {
		ration_lose_by(&err);
	}
	json_t *value = json_stringn(text.bytes > 0 ? text.data : "", text.bytes);
	if (value == NULL) {
		value = json_array();
		for (size_t i = 0; i < text.bytes; i++) {
			json_array_append_new(value, json_integer((unsigned char)text.data[i]));
		}
	}
	bb_text_finish(&text);
	return value;
}

static json_t *pieces_of(const struct bb_engine *e, const struct bb_tokens *tokens) {
	json_t *list = json_array();
	for (size_t i = 0; i < tokens->n; i++) {
		json_array_append_new(list, json_pack("{s:i, s:o}", "id", (int)tokens->ids[i], "piece",
			piece(e, tokens->ids[i])));
	}
	return list;
}

static bool read_text(struct exchange *x, const char *name, struct bb_tokens *out) {
	const json_t *text = field(x->in, name);
	bool special = strcmp(name, "prompt") == 0; /* the defaults of each */
	bool parses = true;
	struct bb_error err = { 0 };
	if (!json_is_string(text)) {
		return reply_error(x, 400, name, "invalid_type", "'%s' must be a string", name);
	}
	return field_bool(x, x->in, "add_special_tokens", &special) &&
		field_bool(x, x->in, "add_special", &special) &&
		field_bool(x, x->in, "parse_special", &parses) &&
		(bb_tokenize(x->server->engine, json_string_value(text), json_string_length(text),
			special, parses, out, &err) || reply_engine_error(x, name, &err));
}

static bool read_messages(struct exchange *x, struct bb_tokens *out) {
	struct conversation c = { 0 };
	const bool ok = conversation_read(x, &c) && conversation_prompt(x, &c);
	if (ok) {
		*out = c.prompt;
		c.prompt = (struct bb_tokens){ 0 };
	}
	conversation_finish(&c);
	return ok;
}

void tokens_tokenize(struct exchange *x) {
	struct bb_tokens tokens = { 0 };
	const struct bb_engine *e = x->server->engine;
	bool with_strings = false, with_pieces = false;
	const bool is_llama = field(x->in, "content") != NULL;
	if (field_model(x) && field_bool(x, x->in, "return_token_strs", &with_strings) &&
		field_bool(x, x->in, "with_pieces", &with_pieces) &&
		(field(x->in, "messages") != NULL ? read_messages(x, &tokens)
			: read_text(x, is_llama ? "content" : "prompt", &tokens))) {
		json_t *reply = json_pack("{s:I, s:i, s:o}", "count", (json_int_t)tokens.n,
			"max_model_len", x->server->info.max_len, "tokens",
			with_pieces ? pieces_of(e, &tokens) : ids_of(&tokens));
		if (with_strings) {
			json_t *list = json_array();
			for (size_t i = 0; i < tokens.n; i++) {
				json_array_append_new(list, logprobs_token(e, tokens.ids[i], false));
			}
			json_object_set_new(reply, "token_strs", list);
		}
		reply_json_take(x, 200, reply);
	}
	bb_tokens_finish(&tokens);
}

void tokens_detokenize(struct exchange *x) {
	struct bb_tokens tokens = { 0 };
	struct bb_text text = { 0 };
	struct bb_error err = { 0 };
	if (field_model(x) && field_ids(x, json_object_get(x->in, "tokens"), "tokens",
		x->server->info.n_vocab, &tokens)) {
		if (!bb_detokenize(x->server->engine, tokens.ids, tokens.n, &text, &err)) {
			reply_engine_error(x, "tokens", &err);
		} else {
			json_t *string = json_bytes(text.bytes > 0 ? text.data : "", text.bytes);
			reply_json_take(x, 200, json_pack("{s:O, s:o}", "prompt", string, "content", string));
		}
	}
	bb_tokens_finish(&tokens);
	bb_text_finish(&text);
}

void tokens_render(struct exchange *x) {
	struct conversation c = { 0 };
	struct buf text = { 0 };
	if (field_model(x) && conversation_read(x, &c) && conversation_prompt(x, &c)) {
		conversation_text(&c, &text);
		reply_json_take(x, 200, json_pack("{s:o, s:o}", "prompt", json_bytes(buf_string(&text),
			text.bytes), "token_ids", ids_of(&c.prompt)));
	}
	buf_finish(&text);
	conversation_finish(&c);
}
