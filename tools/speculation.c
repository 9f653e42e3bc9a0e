/* SPDX-License-Identifier: Apache-2.0
 *
 * From options of speculation, flat ones and vLLM's JSON, to what the scheduler is told. */
#include "speculation.h"

#include "terminal.h"

#include <string.h>

#define AT(member) offsetof(struct speculation_options, member)

const struct arg_option speculation_table[] = {
	{ "--spec-type", "NAME", "what tokens are guessed by, to be computed ahead: none; ngram, the "
		"request's own text; suffix, that and what was written before (default); draft_model, "
		"these and --draft-model", ARG_TEXT, AT(type), 0, 0, "none|ngram|suffix|draft_model" },
	{ "-md,--draft-model,--model-draft", "MODEL", "a smaller model of the same vocabulary, which "
		"guesses where texts don't", ARG_TEXT, AT(draft) },
	{ "--spec-draft-n-max,--draft-max", "N", "guesses of an answer in a step, at most (default 16)",
		ARG_INT, AT(max_drafts), 1, 64 },
	{ "--speculative-config", "JSON", "the same as vLLM has it: an object with method, model, "
		"num_speculative_tokens, prompt_lookup_min, prompt_lookup_max", ARG_TEXT, AT(config) },
	{ 0 },
};

bool speculation_given(const struct speculation_options *o) {
	return o->config != NULL || o->type != NULL || o->draft != NULL || o->max_drafts > 0;
}

static const struct method {
	const char *name;
	unsigned sources;
} methods[] = {
	{ "none", 0 },
	{ "ngram", 1u << BB_SPEC_PROMPT | 1u << BB_SPEC_GRAMMAR },
	{ "suffix", 1u << BB_SPEC_PROMPT | 1u << BB_SPEC_HISTORY | 1u << BB_SPEC_GRAMMAR },
	{ "draft_model", (1u << BB_SPEC_SOURCES) - 1 },
};

static int set_method(const char *name, struct bb_speculation *out) {
	for (size_t i = 0; i < sizeof(methods) / sizeof(methods[0]); i++) {
		if (strcmp(methods[i].name, name) == 0) {
			out->is_off = methods[i].sources == 0;
			out->sources = methods[i].sources;
			return -1;
		}
	}
	return usage_error("option '--speculative-config' has the method '%.40s', expected none, "
		"ngram, suffix or draft_model", name);
}

static int set_number(const char *key, const json_t *value, int *out) {
	if (!json_is_integer(value) || json_integer_value(value) < 1 ||
		json_integer_value(value) > 64) {
		return usage_error("option '--speculative-config': '%.40s' isn't a number from 1 to 64",
			key);
	}
	*out = (int)json_integer_value(value);
	return -1;
}

/* *model points into the object. */
static int read_object(const json_t *object, struct bb_speculation *out, const char **model,
	bool *has_method) {
	const char *key;
	json_t *value;
	int status = -1;
	json_object_foreach((json_t *)(uintptr_t)object, key, value) {
		const bool is_method = strcmp(key, "method") == 0;
		if (status >= 0) {
			break;
		}
		if ((is_method || strcmp(key, "model") == 0) && !json_is_string(value)) {
			status = usage_error("option '--speculative-config': '%s' isn't a string", key);
		} else if (is_method) {
			*has_method = true;
			status = set_method(json_string_value(value), out);
		} else if (strcmp(key, "model") == 0) {
			*model = json_string_value(value);
		} else if (strcmp(key, "num_speculative_tokens") == 0) {
			status = set_number(key, value, &out->max_drafts);
		} else if (strcmp(key, "prompt_lookup_min") == 0) {
			status = set_number(key, value, &out->min_match);
		} else if (strcmp(key, "prompt_lookup_max") == 0) {
			status = set_number(key, value, &out->max_match);
		} else {
			status = usage_error("option '--speculative-config' has '%.40s', expected method, "
				"model, num_speculative_tokens, prompt_lookup_min and prompt_lookup_max", key);
		}
	}
	return status;
}

static int open_draft(const char *path, const struct open_options *open, struct bb_engine **draft) {
	struct open_options o = *open;
	o.path = path;
	o.max_kv_bytes = o.state_cache_bytes = (struct arg_limit){ 0 };
	o.max_device_bytes = 0;
	return open_model(&o, OPEN_ALL, draft);
}

/* A model says by itself that it is to draft; the kind that drafts by one has to have it. */
static int settle(struct bb_speculation *out, const char *model, bool has_method) {
	if (model != NULL && !has_method) {
		out->sources = methods[3].sources;
	}
	const bool by_model = (out->sources >> BB_SPEC_MODEL & 1) != 0;
	if (by_model != (model != NULL)) {
		return usage_error(by_model ? "drafts come of a draft model, and none is given"
			: "a draft model is given, but drafts don't come of one");
	}
	return -1;
}

int speculation_params(const struct speculation_options *o, const struct open_options *open,
	struct bb_speculation *out, struct bb_engine **draft) {
	json_error_t why;
	const char *model = NULL;
	bool has_method = false;
	int status = -1;
	*out = (struct bb_speculation){ 0 };
	*draft = NULL;
	json_t *object = o->config != NULL ? json_loads(o->config, 0, &why) : json_object();
	if (!json_is_object(object)) {
		status = usage_error("option '--speculative-config' is '%.60s', expected a JSON object",
			o->config);
	}
	status = status < 0 ? read_object(object, out, &model, &has_method) : status;
	if (status < 0 && o->type != NULL) { /* flat options go before the object */
		has_method = true;
		status = set_method(o->type, out);
	}
	model = o->draft != NULL ? o->draft : model;
	out->max_drafts = o->max_drafts > 0 ? o->max_drafts : out->max_drafts;
	status = status < 0 ? settle(out, model, has_method) : status;
	if (status < 0 && model != NULL) {
		status = open_draft(model, open, draft);
		out->draft = *draft;
	}
	json_decref(object);
	return status;
}

json_t *speculation_counts(const struct bb_spec_count counts[BB_SPEC_SOURCES]) {
	json_t *all = json_object();
	for (int i = 0; i < BB_SPEC_SOURCES; i++) {
		json_object_set_new(all, bb_spec_source_name((enum bb_spec_source)i), json_pack(
			"{s:I, s:I}", "drafted", (json_int_t)counts[i].n_drafted, "accepted",
			(json_int_t)counts[i].n_accepted));
	}
	return all;
}
