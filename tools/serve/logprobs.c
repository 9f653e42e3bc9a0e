/* SPDX-License-Identifier: Apache-2.0
 *
 * Tokens and numbers into objects. */
#include "logprobs.h"

#include "ration.h"
#include "terminal.h"

#include <stdio.h>

static json_t *piece(const struct bb_engine *e, int32_t id, json_t **bytes) {
	struct bb_text text = { 0 };
	struct bb_error err = { 0 };
	if (!bb_detokenize(e, &id, 1, &text, &err)) {
		text.bytes = 0;
		ration_lose_by(&err);
	}
	json_t *token = json_bytes(text.bytes > 0 ? text.data : "", text.bytes);
	if (bytes != NULL) {
		*bytes = json_array();
		for (size_t i = 0; i < text.bytes; i++) {
			json_array_append_new(*bytes, json_integer((unsigned char)text.data[i]));
		}
	}
	bb_text_finish(&text);
	return token;
}

json_t *logprobs_token(const struct bb_engine *e, int32_t id, bool as_id) {
	return as_id ? json_sprintf("token_id:%d", id) : piece(e, id, NULL);
}

static json_t *alternative(const struct bb_engine *e, int32_t id, double logprob, bool is_end,
	bool as_id) {
	json_t *bytes = NULL;
	json_t *token = is_end ? json_string("") : piece(e, id, &bytes);
	if (as_id) {
		json_decref(token);
		token = json_sprintf("token_id:%d", id);
	}
	return json_pack("{s:o, s:f, s:o}", "token", token, "logprob", logprob, "bytes",
		bytes != NULL ? bytes : json_array());
}

json_t *logprobs_entry(const struct bb_engine *e, const struct bb_sampled *t, int n_top,
	bool is_end, bool as_id) {
	json_t *entry = alternative(e, t->id, (double)t->logprob, is_end, as_id);
	json_t *top = json_array();
	for (int i = 0; i < t->n_top && i < n_top; i++) {
		json_array_append_new(top,
			alternative(e, t->top_ids[i], (double)t->top_logprobs[i], false, as_id));
	}
	json_object_set_new(entry, "top_logprobs", top);
	return entry;
}

static void add(json_t *object, const struct bb_engine *e, int32_t id, double logprob, int rank) {
	char key[16];
	snprintf(key, sizeof(key), "%d", id);
	json_object_set_new(object, key, json_pack("{s:f, s:o, s:o}", "logprob", logprob, "rank",
		rank > 0 ? json_integer(rank) : json_null(), "decoded_token", piece(e, id, NULL)));
}

json_t *logprobs_of_prompt(const struct bb_engine *e, const struct bb_sampled *t) {
	json_t *object = json_object();
	add(object, e, t->id, (double)t->logprob, 0);
	for (int i = 0; i < t->n_top; i++) {
		add(object, e, t->top_ids[i], (double)t->top_logprobs[i], i + 1);
	}
	return object;
}
