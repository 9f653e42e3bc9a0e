/* SPDX-License-Identifier: Apache-2.0
 *
 * Log-probabilities of tokens in the shapes of the API. */
#ifndef LOGPROBS_H
#define LOGPROBS_H

#include "bobbin.h"

#include <jansson.h>

/* The bytes of a token as a JSON string, or "token_id:N". */
json_t *logprobs_token(const struct bb_engine *e, int32_t id, bool as_id);
/* Chat: {token, logprob, bytes, top_logprobs} with at most n_top of them. is_end: a token that ends
 * the answer has no text. */
json_t *logprobs_entry(const struct bb_engine *e, const struct bb_sampled *t, int n_top,
	bool is_end, bool as_id);
/* vLLM's prompt_logprobs: {id: {logprob, rank, decoded_token}}, the token's own among them. */
json_t *logprobs_of_prompt(const struct bb_engine *e, const struct bb_sampled *t);

#endif
