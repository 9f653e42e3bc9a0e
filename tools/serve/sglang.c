/* SPDX-License-Identifier: Apache-2.0
 *
 * SGLang's own endpoint, /generate: text or ids, and sampling_params. Streams repeat all of the
 * text each time, as its clients expect. */
#include "fields.h"
#include "peers.h"
#include "routes.h"
#include "server.h"
#include "terminal.h"

#include <limits.h>
#include <string.h>

static json_t *reason_of(const struct peer_job *j, int i) {
	const struct peer_answer *a = &j->answers[i];
	if (!a->has_ended) {
		return json_null();
	}
	if (a->finish == BB_FINISH_CANCELLED || a->finish == BB_FINISH_DEADLINE ||
		a->finish == BB_FINISH_DROPPED) {
		return json_pack("{s:s}", "type", "abort");
	}
	if (a->finish != BB_FINISH_STOP) {
		return json_pack("{s:s, s:I}", "type", "length", "length",
			(json_int_t)json_array_size(a->ids));
	}
	const char *stop = peer_stop(j, i);
	return json_pack("{s:s, s:o}", "type", "stop", "matched",
		stop != NULL ? json_string(stop) : json_integer(a->last_id));
}

/* [log-probability, id, text]; the last as it was asked for, or null. */
static json_t *triple(const json_t *entry, json_t *id, bool with_text) {
	json_t *text = with_text ? json_object_get(entry, "token") : NULL;
	return json_pack("[O, O, o]", json_object_get(entry, "logprob"), id,
		text != NULL ? json_incref(text) : json_null());
}

static void add_logprobs(const struct peer_job *j, const struct peer_answer *a, json_t *meta) {
	const bool with_text = j->shape->tells_tokens_text;
	json_t *own = json_array();
	size_t i;
	const json_t *entry;
	json_array_foreach(a->entries, i, entry) {
		json_array_append_new(own, triple(entry, json_object_get(entry, "id"), with_text));
	}
	json_object_set_new(meta, "output_token_logprobs", own);
}

static json_t *object(const struct peer_job *j, int i) {
	const struct peer_answer *a = &j->answers[i];
	const int i_prompt = i / j->asked.n;
	json_t *meta = json_pack("{s:s, s:o, s:I, s:I, s:i, s:f}", "id", j->id, "finish_reason",
		reason_of(j, i), "prompt_tokens", (json_int_t)j->prompts[i_prompt].n, "completion_tokens",
		(json_int_t)json_array_size(a->ids), "cached_tokens", j->usages[i_prompt].n_cached,
		"e2e_latency", seconds_now() - j->x->start);
	if (a->entries != NULL) {
		add_logprobs(j, a, meta);
	}
	if (a->has_ended) {
		peer_decisions(j, i, meta);
	}
	json_t *all = json_pack("{s:s%, s:O, s:o}", "text", buf_string(&a->text), a->text.bytes,
		"output_ids", a->ids, "meta_info", meta);
	if (j->n_prompts * j->asked.n > 1) {
		json_object_set_new(all, "index", json_integer(i));
	}
	return all;
}

/* Their names for what we have others for. */
static void rename_field(json_t *in, const char *theirs, const char *ours) {
	json_t *value = json_object_get(in, theirs);
	if (value != NULL) {
		json_object_set(in, ours, value);
		json_object_del(in, theirs);
	}
}

void sglang_generate(struct exchange *x) {
	static const struct peer_shape shapes[] = { { object, true, false }, { object, true, true } };
	static const char *const own[] = { "text", "input_ids", "sampling_params", "prompt", NULL };
	static const char *const unsupported[] = { "input_embeds", "image_data", "audio_data",
		"video_data", "return_hidden_states", "top_logprobs_num", "token_ids_logprob",
		"prompt_embeds", NULL };
	const json_t *text = field(x->in, "text"), *ids = field(x->in, "input_ids");
	json_t *params = json_object_get(x->in, "sampling_params");
	bool wants_logprobs = false, wants_text = false;
	int max_tokens = 128, start = -1; /* as SGLang has it */
	if ((text == NULL) == (ids == NULL)) {
		reply_error(x, 400, "text", "invalid_value",
			"expected either 'text' or 'input_ids'%s", text != NULL ? ", not both" : "");
		return;
	}
	if (params != NULL && !json_is_null(params) && !json_is_object(params)) {
		reply_error(x, 400, "sampling_params", "invalid_type",
			"'sampling_params' must be an object, which is for all prompts");
		return;
	}
	if (!fields_unsupported(x, x->in, unsupported) ||
		!field_bool(x, x->in, "return_logprob", &wants_logprobs) ||
		!field_bool(x, x->in, "return_text_in_logprobs", &wants_text) ||
		!field_int(x, x->in, "logprob_start_len", -1, INT_MAX, &start) ||
		!field_int(x, params, "max_new_tokens", 1, INT_MAX, &max_tokens)) {
		return;
	}
	if (start >= 0 && wants_logprobs) {
		reply_error(x, 400, "logprob_start_len", "unsupported_parameter",
			"'logprob_start_len' isn't supported: log-probabilities are of the output alone");
		return;
	}
	json_t *in = fields_copy(x, own);
	if (in != NULL) {
		json_object_update(in, params);
		json_object_set(in, "prompt", (json_t *)(size_t)(text != NULL ? text : ids));
		rename_field(in, "min_new_tokens", "min_tokens");
		rename_field(in, "sampling_seed", "seed");
	}
	peer_run(x, in, &shapes[wants_text], max_tokens, field(params, "max_new_tokens") == NULL,
		wants_logprobs ? 0 : -1);
}
