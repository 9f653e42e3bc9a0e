/* SPDX-License-Identifier: Apache-2.0
 *
 * From sampling options to the parameters of a generation. */
#include "sampling.h"

#include "terminal.h"

#include <stdlib.h>
#include <string.h>

#define AT(member) offsetof(struct sampling_options, member)

const struct arg_option sampling_table[] = {
	{ "-n,--max-tokens,--n-predict", "N",
		"tokens to generate; -1 = to the end of the context (default)",
		ARG_INT, AT(max_tokens), -1, 1 << 30 },
	{ "--temp,--temperature", "T", "0 = always the likeliest token (default: the model's, else 1)",
		ARG_FLOAT, AT(temperature), 0, 1e6 },
	{ "--top-k", "N", "only the N likeliest; 0 or -1 = all (default: the model's, else all)",
		ARG_INT, AT(top_k), -1, 1 << 30 },
	{ "--top-p", "P", "only the likeliest that add up to P (default: the model's, else 1)",
		ARG_FLOAT, AT(top_p), 1e-9, 1 },
	{ "--min-p", "P", "only those at least P times as likely as the likeliest (default: the "
		"model's, else 0)", ARG_FLOAT, AT(min_p), 0, 1 },
	{ "--repetition-penalty,--repeat-penalty", "R", "over prompt and output; 1 = off "
		"(default: the model's, else 1)", ARG_FLOAT, AT(repetition), 1e-6, 1e6 },
	{ "--presence-penalty", "P", "-2 to 2, over the output; 0 = off (default)", ARG_FLOAT,
		AT(presence), -2, 2 },
	{ "--frequency-penalty", "P", "-2 to 2, over the output; 0 = off (default)", ARG_FLOAT,
		AT(frequency), -2, 2 },
	{ "--logit-bias", "ID=BIAS", "add BIAS (-100 to 100) to a token's logit; may be repeated",
		ARG_TEXTS, AT(logit_bias) },
	{ "-s,--seed", "N", "same seed, same text; drawn at random and printed when not given",
		ARG_SEED, AT(seed) },
	{ "--stop", "TEXT", "end before this text; may be repeated", ARG_TEXTS, AT(stop) },
	{ "--stop-token-ids", "ID,ID", "end with any of these tokens", ARG_INTS, AT(stop_ids), 0,
		1 << 30 },
	{ "--min-tokens", "N", "nothing ends it before N tokens (default 0)", ARG_INT, AT(min_tokens),
		0, 1 << 30 },
	{ "--ignore-eos", NULL, "end tokens can't be sampled", ARG_FLAG, AT(ignore_eos) },
	{ 0 },
};

static bool read_bias(const char *text, struct bb_logit_bias *out) {
	char *end;
	const long id = strtol(text, &end, 10);
	if (end == text || (*end != '=' && *end != ':') || id < 0 || id > INT32_MAX) {
		return false;
	}
	const char *number = end + 1;
	const double bias = strtod(number, &end);
	*out = (struct bb_logit_bias){ (int32_t)id, (float)bias };
	return end != number && *end == '\0' && bias >= -100 && bias <= 100;
}

static void override(float *target, float option) {
	if (option > -2.5f) {
		*target = option;
	}
}

int sampling_params(const struct bb_engine *e, const struct sampling_options *o,
	struct sampling_storage *storage, struct bb_generation_params *out) {
	memset(out, 0, sizeof(*out));
	struct bb_sampling *s = &out->sampling;
	bb_sampling_default(e, s);
	override(&s->temperature, o->temperature);
	override(&s->top_p, o->top_p);
	override(&s->min_p, o->min_p);
	override(&s->repetition_penalty, o->repetition);
	override(&s->presence_penalty, o->presence);
	override(&s->frequency_penalty, o->frequency);
	s->top_k = o->top_k != TOP_K_UNSET ? o->top_k : s->top_k;
	s->seed = o->seed.is_set ? o->seed.value : bb_random_seed();
	s->ignore_eos = o->ignore_eos;
	s->logit_bias = storage->bias;
	for (int i = 0; i < o->logit_bias.n; i++) {
		if (!read_bias(o->logit_bias.v[i], &storage->bias[i])) {
			return usage_error("option '--logit-bias' is '%s', expected ID=BIAS with BIAS "
				"from -100 to 100", o->logit_bias.v[i]);
		}
	}
	s->n_logit_bias = o->logit_bias.n;
	out->max_tokens = o->max_tokens;
	out->stop = o->stop.v;
	out->n_stop = o->stop.n;
	out->min_tokens = o->min_tokens;
	out->stop_token_ids = o->stop_ids.v;
	out->n_stop_token_ids = o->stop_ids.n;
	for (int i = 0; i < o->stop.n; i++) {
		if (o->stop.v[i][0] == '\0') {
			return usage_error("option '--stop' is an empty text");
		}
	}
	struct bb_error err = { 0 };
	return bb_generation_check(e, out, &err) ? -1 : failure_of(&err);
}
