/* SPDX-License-Identifier: Apache-2.0
 *
 * From fields to the parameters of a generation: the names of the OpenAI API, and those that vLLM
 * and llama-server have added to it. */
#include "asked.h"

#include "constraint.h"
#include "fields.h"
#include "server.h"

#include <limits.h>
#include <stdlib.h>
#include <string.h>

/* Of a request's lists of tokens, which are gone through for every token of its answer. */
enum { MOST_IDS = 1024 };

/* They would change the answer. */
static const char *const unsupported[] = {
	"bad_words", "allowed_token_ids", "repetition_detection", "include_stop_str_in_output",
	"truncate_prompt_tokens", "use_beam_search", "length_penalty", "session_id",
	"append_only", "session_params", "dry_multiplier", "xtc_probability", "mirostat",
	"dynatemp_range", "typical_p", "top_n_sigma", "logits_processors", "lora_path", "adapter",
	"ebnf", "structural_tag", "moderation", NULL,
};

static bool read_stops(struct exchange *x, struct asked *a) {
	const json_t *stop = field(x->in, "stop");
	const size_t n = json_is_array(stop) ? json_array_size(stop) : stop != NULL;
	if (n > ASKED_STOPS) {
		return reply_error(x, 400, "stop", "invalid_value",
			"'stop' has %zu strings, expected at most %d", n, ASKED_STOPS);
	}
	for (size_t i = 0; i < n; i++) {
		const json_t *item = json_is_array(stop) ? json_array_get(stop, i) : stop;
		if (!json_is_string(item) || json_string_length(item) == 0) {
			return reply_error(x, 400, "stop", "invalid_value",
				"'stop' must be a string or an array of strings, none of them empty");
		}
		a->stop[i] = json_string_value(item);
	}
	a->generation.stop = a->stop;
	a->generation.n_stop = (int)n;
	const json_t *ids = field(x->in, "stop_token_ids");
	if (json_array_size(ids) > MOST_IDS) {
		return reply_error(x, 400, "stop_token_ids", "invalid_value",
			"'stop_token_ids' has %zu ids, expected at most %d", json_array_size(ids), MOST_IDS);
	}
	if (ids != NULL && !field_ids(x, ids, "stop_token_ids", x->server->info.n_vocab,
		&a->stop_ids)) {
		return false;
	}
	a->generation.stop_token_ids = a->stop_ids.ids;
	a->generation.n_stop_token_ids = (int)a->stop_ids.n;
	return true;
}

static bool wrong_bias(struct exchange *x) {
	return reply_error(x, 400, "logit_bias", "invalid_value",
		"'logit_bias' must be an object of token ids below %d and numbers from -100 to 100",
		x->server->info.n_vocab);
}

static bool read_bias(struct exchange *x, struct asked *a) {
	json_t *bias = json_object_get(x->in, "logit_bias");
	if (bias == NULL || json_is_null(bias)) {
		return true;
	}
	if (!json_is_object(bias)) {
		return wrong_bias(x);
	}
	if (json_object_size(bias) > MOST_IDS) {
		return reply_error(x, 400, "logit_bias", "invalid_value",
			"'logit_bias' has %zu entries, expected at most %d", json_object_size(bias), MOST_IDS);
	}
	a->bias = calloc(json_object_size(bias) + 1, sizeof(*a->bias));
	if (a->bias == NULL) {
		return reply_no_memory(x);
	}
	int n = 0;
	const char *key;
	json_t *value;
	json_object_foreach(bias, key, value) {
		char *end;
		const long id = strtol(key, &end, 10);
		const double number = json_number_value(value);
		if (end == key || *end != '\0' || id < 0 || id >= x->server->info.n_vocab ||
			!json_is_number(value) || !(number >= -100 && number <= 100)) {
			return wrong_bias(x);
		}
		a->bias[n++] = (struct bb_logit_bias){ (int32_t)id, (float)number };
	}
	a->generation.sampling.logit_bias = a->bias;
	a->generation.sampling.n_logit_bias = n;
	return true;
}

static bool read_seed(struct exchange *x, struct asked *a) {
	const json_t *seed = field(x->in, "seed");
	if (seed != NULL && !json_is_integer(seed)) {
		return reply_error(x, 400, "seed", "invalid_type", "'seed' must be a whole number");
	}
	const json_int_t value = json_integer_value(seed);
	/* llama-server's -1 */
	a->generation.sampling.seed = seed != NULL && value != -1 ? (uint64_t)value : bb_random_seed();
	return true;
}

static bool read_stream(struct exchange *x, struct asked *a) {
	const json_t *options = field(x->in, "stream_options");
	if (!field_bool(x, x->in, "stream", &a->is_stream)) {
		return false;
	}
	if (options != NULL && (!a->is_stream || !json_is_object(options))) {
		return reply_error(x, 400, "stream_options", "invalid_value",
			"'stream_options' must be an object, and needs 'stream' to be true");
	}
	return field_bool(x, options, "stream_options.include_usage", &a->with_usage) &&
		field_bool(x, options, "stream_options.continuous_usage_stats", &a->usage_always);
}

static bool read_sampling(struct exchange *x, struct bb_sampling *s) {
	const json_t *in = x->in;
	return field_float(x, in, "temperature", 0, 1e6, &s->temperature) &&
		field_int(x, in, "top_k", -1, INT_MAX, &s->top_k) &&
		field_float(x, in, "top_p", 1e-9, 1, &s->top_p) &&
		field_float(x, in, "min_p", 0, 1, &s->min_p) &&
		field_float(x, in, "repeat_penalty", 1e-6, 1e6, &s->repetition_penalty) &&
		field_float(x, in, "repetition_penalty", 1e-6, 1e6, &s->repetition_penalty) &&
		field_float(x, in, "presence_penalty", -2, 2, &s->presence_penalty) &&
		field_float(x, in, "frequency_penalty", -2, 2, &s->frequency_penalty) &&
		field_bool(x, in, "ignore_eos", &s->ignore_eos);
}

bool asked_read(struct exchange *x, struct asked *a) {
	memset(a, 0, sizeof(*a));
	a->n_prompt_logprobs = -1;
	bb_sampling_default(x->server->engine, &a->generation.sampling);
	bool skip_special = true;
	const bool ok = fields_unsupported(x, x->in, unsupported) &&
		read_sampling(x, &a->generation.sampling) && read_seed(x, a) &&
		asked_effort_read(x, &a->effort, &a->n, &a->n_given) &&
		read_stops(x, a) && read_bias(x, a) && read_stream(x, a) &&
		field_int(x, x->in, "min_tokens", 0, INT_MAX, &a->generation.min_tokens) &&
		field_int(x, x->in, "priority", INT_MIN, INT_MAX, &a->priority) &&
		field_float(x, x->in, "deadline_ms", 0, 1e12, &a->deadline_ms) &&
		field_int(x, x->in, "prompt_logprobs", 0, BB_MAX_LOGPROBS, &a->n_prompt_logprobs) &&
		field_string(x, x->in, "cache_salt", &a->cache_salt) &&
		field_bool(x, x->in, "skip_special_tokens", &skip_special) &&
		field_bool(x, x->in, "return_token_ids", &a->with_ids) &&
		field_bool(x, x->in, "return_tokens_as_token_ids", &a->ids_as_tokens) &&
		constraint_read(x, &a->grammar, &a->schema);
	a->generation.sampling.grammar = a->grammar;
	a->generation.special = !skip_special;
	a->generation.max_tokens = -1;
	return ok || (asked_finish(a), false);
}

void asked_finish(struct asked *a) {
	bb_tokens_finish(&a->stop_ids);
	free(a->bias);
	a->bias = NULL;
	bb_grammar_destroy(a->grammar);
	a->grammar = NULL;
	asked_effort_finish(&a->effort);
}

bool asked_length(struct exchange *x, struct asked *a, const char *const *names, int min) {
	for (; *names != NULL; names++) {
		if (field(x->in, *names) != NULL) {
			a->has_max_tokens = true;
			return field_int(x, x->in, *names, min, INT_MAX, &a->generation.max_tokens);
		}
	}
	return true;
}

bool asked_prompts(struct exchange *x, const struct asked *a, size_t n) {
	if (n > 1 && a->effort.effort.replays) {
		return reply_error(x, 400, "effort.replay", "invalid_value", "'effort.replay' is of one "
			"prompt, but there are %zu", n);
	}
	return n <= ASKED_PROMPTS || reply_error(x, 400, "prompt", "invalid_value",
		"there are %zu prompts, expected at most %d", n, ASKED_PROMPTS);
}

bool asked_check(struct exchange *x, struct asked *a, size_t n_prompt) {
	const int most = x->server->info.max_len;
	const char *name = field(x->in, "messages") != NULL ? "messages"
		: field(x->in, "prompt") != NULL ? "prompt" : "input";
	if (n_prompt == 0) {
		return reply_error(x, 400, name, "invalid_value", "the prompt has no tokens");
	}
	if (n_prompt >= (size_t)most) {
		return reply_error(x, 400, name, "context_length_exceeded",
			"this model's maximum context length is %d tokens, and the prompt has %zu", most,
			n_prompt);
	}
	if (a->has_max_tokens && a->generation.max_tokens > most - (int)n_prompt) {
		return reply_error(x, 400, "max_tokens", "context_length_exceeded",
			"this model's maximum context length is %d tokens, and %zu of the prompt and %d to be "
			"generated were asked for", most, n_prompt, a->generation.max_tokens);
	}
	struct bb_error err = { 0 };
	if (!bb_generation_check(x->server->engine, &a->generation, &err)) {
		return reply_engine_error(x, NULL, &err);
	}
	const struct bb_effort *effort = asked_effort_of(&a->effort);
	return effort == NULL || bb_effort_check(x->server->engine, effort, a->n,
		a->generation.max_tokens, &err) || asked_effort_refuse(x, &err);
}

struct bb_request_params asked_request(const struct asked *a, const struct bb_tokens *prompt) {
	return (struct bb_request_params){
		.prompt = prompt->ids, .n_prompt = prompt->n, .generation = a->generation, .n = a->n,
		.effort = asked_effort_of(&a->effort), .priority = a->priority,
		.deadline_ms = (double)a->deadline_ms, .cache_salt = a->cache_salt,
		.n_prompt_logprobs = a->n_prompt_logprobs > 0 ? a->n_prompt_logprobs
			: a->n_prompt_logprobs == 0, /* the token's own comes with any number */
	};
}
