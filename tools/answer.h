/* SPDX-License-Identifier: Apache-2.0
 *
 * One answer of a model: the prompt is read, tokens are generated and shown or collected, times are
 * taken. What `run` and `chat` have in common. */
#ifndef ANSWER_H
#define ANSWER_H

#include "parts.h"
#include "trace.h"

#include <jansson.h>

struct answer { /* answer_init .. answer_finish */
	bool is_shown;            /* text goes to stdout as it comes */
	json_t *logprobs;         /* NULL = not asked for; one object per token */
	struct trace *trace;      /* of CoT steps, borrowed; NULL = not asked for */
	const struct bb_tokens *feed; /* one goes behind each token, until none is left; NULL = none */
	struct bb_tokens tokens;  /* sampled, the end token included */
	char *text;               /* [text_bytes], a NUL behind */
	size_t text_bytes;
	FILE *text_file;          /* writes to text */
	enum bb_finish finish;
	bool was_interrupted;
	size_t n_prompt, n_read;  /* tokens of the prompt; of these not in the context before */
	double read_s, first_s, generate_s; /* reading; until the first token was there; all tokens */
};

bool answer_init(struct answer *a, bool is_shown, bool with_logprobs, struct bb_error *err);
void answer_finish(struct answer *a);
/* The context holds a beginning of the prompt, but not all of it: reads the rest, begins its parts
 * and generates. Ctrl-C ends it early and is no error; neither is a failed write to stdout. */
bool answer_generate(struct answer *a, struct bb_engine *e, struct bb_context *c,
	const struct bb_generation_params *params, const struct bb_tokens *prompt,
	const struct parts *parts, struct bb_error *err);

/* For who draws tokens elsewhere: one more token and its text; a->finish tells if it's the last. */
bool answer_take(struct answer *a, const struct bb_engine *e, const struct bb_sampled *token,
	const char *text, size_t bytes, struct bb_error *err);
/* a->text is whole then. */
bool answer_close(struct answer *a, struct bb_error *err);

/* "stop", "length" or "abort", as the OpenAI API names them; "dropped" for what a policy ended. */
const char *answer_reason(const struct answer *a);
/* Tokens per second: after the first token, as that costs no step of its own. 0 = not known. */
double answer_read_rate(const struct answer *a);
double answer_generate_rate(const struct answer *a);
json_t *answer_ids(const struct answer *a);
json_t *answer_timings(const struct answer *a, size_t n_cached); /* as llama-server names them */
/* The counts and speeds on stderr. */
void answer_summary(const struct answer *a, uint64_t seed);

#endif
