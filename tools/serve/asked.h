/* SPDX-License-Identifier: Apache-2.0
 *
 * How to generate: sampling, lengths, stops and the rest of what the endpoints that generate have
 * in common, as fields of the request. */
#ifndef ASKED_H
#define ASKED_H

#include "asked_effort.h"
#include "exchange.h"

enum { ASKED_STOPS = 64 };
/* Prompts that one request may have. */
enum { ASKED_PROMPTS = 1024 };

struct asked { /* asked_read .. asked_finish */
	struct bb_generation_params generation; /* its pointers go into this struct and into x->in */
	int n, n_given;             /* answers that are drawn; that the client gets */
	struct asked_effort effort;
	int priority, n_prompt_logprobs; /* the last -1: not asked for */
	float deadline_ms;
	const char *cache_salt; /* of x->in, or NULL */
	bool has_max_tokens, is_stream, with_usage, usage_always, with_ids, ids_as_tokens;
	const char *stop[ASKED_STOPS]; /* of x->in, as cache_salt */
	struct bb_tokens stop_ids;
	struct bb_logit_bias *bias;
	struct bb_grammar *grammar; /* own, or NULL */
	const json_t *schema;       /* what it was made of, of x->in; NULL: no schema, or indented */
};

/* What every endpoint that generates reads; the number of tokens and log-probabilities are read by
 * each in its way. False: replied. */
bool asked_read(struct exchange *x, struct asked *a);
void asked_finish(struct asked *a);
/* max_tokens, max_completion_tokens or the like: the first of the names that is there. */
bool asked_length(struct exchange *x, struct asked *a, const char *const *names, int min);
/* Whether it can be for so many prompts. */
bool asked_prompts(struct exchange *x, const struct asked *a, size_t n);
/* Checks the prompt and max_tokens against the context, and the rest as the engine does; behind
 * asked_effort_place. */
bool asked_check(struct exchange *x, struct asked *a, size_t n_prompt);
/* The request for a prompt, without its events. */
struct bb_request_params asked_request(const struct asked *a, const struct bb_tokens *prompt);

#endif
