/* SPDX-License-Identifier: Apache-2.0
 *
 * llama-server's own endpoints: /completion, and what /props and /slots tell of this server. */
#include "fields.h"
#include "logprobs.h"
#include "peers.h"
#include "ration.h"
#include "routes.h"
#include "server.h"
#include "talk.h"
#include "terminal.h"

#include <limits.h>
#include <stdlib.h>
#include <string.h>

/* ---- /completion ---- */

/* llama-server's words, and one more: it has no deadlines. */
static const char *stop_type(const struct peer_job *j, int i, const char *word) {
	switch (j->answers[i].finish) {
	case BB_FINISH_STOP:
		return word != NULL ? "word" : "eos";
	case BB_FINISH_DEADLINE:
		return "deadline";
	case BB_FINISH_DROPPED:
		return "dropped";
	default:
		return "limit";
	}
}

/* The settings that were asked for, as they apply. The stop strings are those that are kept:
 * `asked` borrows its own from a body that may be gone. */
static json_t *settings_of(const struct asked *a, const struct stops *stops) {
	const struct bb_sampling *s = &a->generation.sampling;
	json_t *stop = json_array();
	for (int i = 0; i < stops->n; i++) {
		json_array_append_new(stop, json_string(stops->v[i]));
	}
	return json_pack("{s:I, s:f, s:i, s:f, s:f, s:f, s:f, s:f, s:b, s:i, s:i, s:i, s:o, s:b}",
		"seed", (json_int_t)s->seed, "temperature", (double)s->temperature, "top_k", s->top_k,
		"top_p", (double)s->top_p, "min_p", (double)s->min_p, "repeat_penalty",
		(double)s->repetition_penalty, "presence_penalty", (double)s->presence_penalty,
		"frequency_penalty", (double)s->frequency_penalty, "ignore_eos", s->ignore_eos, "n_predict",
		a->generation.max_tokens, "max_tokens", a->generation.max_tokens, "n_probs", s->n_logprobs,
		"stop", stop, "stream", a->is_stream);
}

static json_t *ids_of(const struct peer_answer *a) {
	json_t *list = json_array();
	for (size_t i = a->ids_told; i < json_array_size(a->ids); i++) {
		json_array_append(list, json_array_get(a->ids, i));
	}
	return list;
}

static json_t *object(const struct peer_job *j, int i) {
	const struct peer_answer *a = &j->answers[i];
	const int i_prompt = i / j->asked.n;
	const struct bb_usage *u = &j->usages[i_prompt];
	json_t *all = json_pack("{s:i, s:s%, s:o, s:i, s:b, s:I, s:I}", "index", i, "content",
		buf_string(&a->text) + a->text_told, a->text.bytes - a->text_told, "tokens", ids_of(a),
		"id_slot", -1, "stop", a->has_ended, "tokens_predicted",
		(json_int_t)json_array_size(a->ids), "tokens_evaluated",
		(json_int_t)j->prompts[i_prompt].n);
	json_t *probs = json_array();
	for (size_t k = a->ids_told; k < json_array_size(a->entries); k++) {
		json_array_append(probs, json_array_get(a->entries, k));
	}
	if (json_array_size(probs) > 0) {
		json_object_set(all, "completion_probabilities", probs);
	}
	json_decref(probs);
	if (a->has_ended) {
		const char *word = peer_stop(j, i);
		json_t *last = json_pack("{s:s, s:b, s:b, s:s, s:s, s:i, s:o, s:o}", "model",
			j->x->server->names[0], "truncated", 0, "has_new_line",
			a->text.bytes > 0 && memchr(a->text.data, '\n', a->text.bytes) != NULL, "stop_type",
			stop_type(j, i, word), "stopping_word", word != NULL ? word : "", "tokens_cached",
			u->n_cached, "generation_settings", settings_of(&j->asked, &j->stops), "timings",
			talk_timings_of(u));
		json_object_update(all, last);
		json_decref(last);
		peer_decisions(j, i, all);
	}
	return all;
}

/* [[id, bias], ...], where false is never, as an object of them. */
static bool read_bias(struct exchange *x, json_t *in) {
	const json_t *list = json_object_get(in, "logit_bias"), *pair;
	size_t i;
	if (!json_is_array(list)) {
		return true;
	}
	json_t *all = json_object();
	json_array_foreach(list, i, pair) {
		const json_t *id = json_array_get(pair, 0), *bias = json_array_get(pair, 1);
		char key[24];
		if (!json_is_integer(id) || !(json_is_number(bias) || json_is_false(bias))) {
			json_decref(all);
			return reply_error(x, 400, "logit_bias", "invalid_value", "'logit_bias' must be an "
				"array of pairs of a token's id and a number or false, or an object of numbers");
		}
		snprintf(key, sizeof(key), "%lld", (long long)json_integer_value(id));
		json_object_set_new(all, key, json_is_false(bias) ? json_integer(-100)
			: json_deep_copy(bias));
	}
	json_object_set_new(in, "logit_bias", all);
	return true;
}

void llama_completion(struct exchange *x) {
	static const struct peer_shape shape = { object, false };
	static const char *const own[] = { "logprobs", "top_logprobs", "max_tokens", NULL };
	static const char *const unsupported[] = { "post_sampling_probs", "n_indent",
		"t_max_predict_ms", "lora", "image_data", "multimodal_data", "prompt_embeds", NULL };
	const json_t *samplers = field(x->in, "samplers");
	int max_tokens = -1, n_probs = 0;
	if (samplers != NULL && field_asks(samplers)) {
		reply_error(x, 400, "samplers", "unsupported_parameter", "'samplers' isn't supported: "
			"their order is fixed, and each is off where its own field says so");
		return;
	}
	if (!fields_unsupported(x, x->in, unsupported) ||
		!field_int(x, x->in, "max_tokens", -1, INT_MAX, &max_tokens) ||
		!field_int(x, x->in, "n_predict", -1, INT_MAX, &max_tokens) ||
		!field_int(x, x->in, "n_probs", 0, BB_MAX_LOGPROBS, &n_probs)) {
		return;
	}
	if (max_tokens == 0) {
		reply_error(x, 400, "n_predict", "invalid_value", "'n_predict' is 0, expected -1 or at "
			"least 1: prompts aren't read for nothing");
		return;
	}
	json_t *in = fields_copy(x, own);
	if (in != NULL && !read_bias(x, in)) {
		json_decref(in);
		return;
	}
	peer_run(x, in, &shape, max_tokens, false, n_probs > 0 ? n_probs : -1);
}

/* ---- what the server is ---- */

static json_t *token_text(const struct bb_engine *e, int id) {
	return id >= 0 ? logprobs_token(e, id, false) : json_string("");
}

void llama_props(struct exchange *x) {
	const struct server *s = x->server;
	const struct stops none = { 0 };
	struct asked a = { .generation.max_tokens = -1 };
	bb_sampling_default(s->engine, &a.generation.sampling);
	reply_json_take(x, 200, json_pack("{s:{s:i, s:o}, s:i, s:s, s:s, s:o, s:o, s:s, s:{s:b, s:b}, "
		"s:b, s:b, s:b, s:s}", "default_generation_settings", "n_ctx", s->info.max_len, "params",
		settings_of(&a, &none), "total_slots", s->options.max_running, "model_path", s->names[0],
		"model_alias", s->names[0], "bos_token", token_text(s->engine, bb_token_bos(s->engine)),
		"eos_token", token_text(s->engine, bb_token_eos(s->engine)), "chat_template",
		s->template_source != NULL ? s->template_source : "", "modalities", "vision", 0, "audio", 0,
		"endpoint_slots", 1, "endpoint_props", 0, "endpoint_metrics", 1, "build_info",
		"bobbin-" BB_VERSION));
}

/* Those that are at work. */
static json_t *busy_slots(const struct server *s, const struct bb_request_info *list, int n) {
	json_t *slots = json_array();
	for (int i = 0; i < n; i++) {
		const struct bb_request_info *r = &list[i];
		if (r->state != BB_REQUEST_READING && r->state != BB_REQUEST_WRITING) {
			continue;
		}
		json_array_append_new(slots, json_pack("{s:I, s:I, s:i, s:b, s:b, s:i, s:i, s:[{s:i}]}",
			"id", (json_int_t)json_array_size(slots), "id_task", (json_int_t)r->id, "n_ctx",
			s->info.max_len, "speculative", 0, "is_processing", 1, "n_prompt_tokens", r->n_prompt,
			"n_prompt_tokens_cache", r->n_cached, "next_token", "n_decoded", r->n_output));
	}
	return slots;
}

/* A slot is a place in a step: those at work first, then the free ones. */
void llama_slots(struct exchange *x) {
	const struct server *s = x->server;
	const int most = bb_scheduler_requests(s->scheduler, NULL, 0);
	const size_t bytes = (size_t)(most > 0 ? most : 1) * sizeof(struct bb_request_info);
	struct bb_request_info *list = ration_take(bytes) ? malloc(bytes) : NULL;
	if (list == NULL) {
		reply_no_memory(x);
		return;
	}
	const int n = bb_scheduler_requests(s->scheduler, list, most);
	json_t *slots = busy_slots(s, list, n < most ? n : most);
	free(list);
	ration_give(bytes);
	for (int i = (int)json_array_size(slots); i < s->options.max_running; i++) {
		json_array_append_new(slots, json_pack("{s:i, s:i, s:b, s:b}", "id", i, "n_ctx",
			s->info.max_len, "speculative", 0, "is_processing", 0));
	}
	const char *fail = exchange_query(x, "fail_on_no_slot");
	const bool is_full = json_array_size(slots) > 0 && json_is_true(json_object_get(
		json_array_get(slots, json_array_size(slots) - 1), "is_processing"));
	if (fail != NULL && is_full) {
		json_decref(slots);
		reply_error(x, 503, NULL, "no_slot", "no slot is free");
		return;
	}
	reply_json_take(x, 200, slots);
}
