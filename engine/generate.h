/* SPDX-License-Identifier: Apache-2.0
 *
 * A generation as those see it who run its steps themselves: what a step needs to draw the next
 * token, and what becomes of the token. bb_generation_* runs them one by one. */
#ifndef GENERATE_H
#define GENERATE_H

#include "sample.h"

struct bb_generation {
	struct bb_engine *engine;
	struct bb_context *context; /* NULL: not yet */
	struct bb_sampler sampler;
	struct token_stream stream;
	struct bb_text held;       /* text that may still become a stop string */
	struct bb_text ready;      /* what the last call gave out */
	char **stop;               /* [n_stop], owned */
	int32_t *stop_ids;         /* [n_stop_ids], owned */
	int n_stop, n_stop_ids, max_tokens, min_tokens, n_tokens;
	int max_len;               /* of the context; 0: its own */
	bool special, is_done, allows_ends; /* the last: the draws that min_tokens binds are over */
	struct cot cot;            /* of all tokens given out */
	struct bb_sampled next;    /* drawn from what the context holds, not given out yet */
	bool has_next;
	struct bb_tokens forced;   /* from i_forced on: what the next draws give */
	size_t i_forced, n_must;   /* those before n_must a grammar has to take */
	bool keeps_row, is_replaced; /* logits come to the host; next isn't what was drawn */
	struct bb_error refused;   /* why a step failed behind which nothing can follow */
	struct bb_tokens pending;  /* the last one given out, and what was fed behind it */
};

/* Copies of n strings, for generation_free_stops, which takes NULL too; NULL: no memory. */
char **generation_copy_stops(const char *const *stop, int n);
void generation_free_stops(char **stop, int n);
/* One without a context, whose prompt is not known yet, and that ends with BB_FINISH_CONTEXT where
 * its context has max_len tokens; 0: as many as that one holds. */
bool generation_create(struct bb_generation **out, struct bb_engine *e,
	const struct bb_generation_params *params, int max_len, struct bb_error *err);
/* Tokens that penalties count as prompt. */
void generation_prompt(struct bb_generation *g, const int32_t *ids, size_t n);
/* Makes ready what g's next draw needs and may fail, which a step would do for all of its items and
 * fail for all. */
bool generation_prepare(struct bb_generation *g, struct bb_error *err);
/* The last tokens of an item that draws g's next one: where it goes, who draws. The item's context
 * holds what comes before, and is g's from now on. */
void generation_draws(struct bb_generation *g, struct bb_step_item *item);
/* The next n draws give these ids, instead of what was left of others. Where a grammar doesn't take
 * one of the first n_must, generation_prepare fails; where it doesn't take a later one, draws go on
 * without the rest. */
bool generation_force(struct bb_generation *g, const int32_t *ids, size_t n, size_t n_must,
	struct bb_error *err);
bool generation_is_forced(const struct bb_generation *g);
/* What is added to the logit of one id in draws from now on; 0: nothing. */
void generation_lean(struct bb_generation *g, int32_t id, float bias);
/* Whether what a draw gives may be replaced: its logits come to a row of its own for that. */
bool generation_keep_row(struct bb_generation *g, bool keeps, struct bb_error *err);
/* In place of what the step drew, which wasn't given out yet, comes this id, and the other n - 1
 * are forced. The grammar must take it. */
bool generation_replace(struct bb_generation *g, const int32_t *ids, size_t n,
	struct bb_error *err);
/* How many drafts its next step may have: as many draws as it may still make behind the first. */
int generation_most_drafts(const struct bb_generation *g);
/* Where what was given out last is the next draft of that step: draws the next one. */
bool generation_follow(struct bb_generation *g, bool *follows, struct bb_error *err);
/* What the step drew is given out, as bb_generation_next does; the context holds what it was drawn
 * behind. On an error, which BB_ERR_MEMORY alone can be, it's still to be given out. */
bool generation_take(struct bb_generation *g, struct bb_sampled *token, const char **text,
	size_t *bytes, enum bb_finish *finish, struct bb_error *err);
/* How likely token->id is by these logits [n_vocab], as the model has them, and the n_top most
 * likely. */
void generation_judge(struct bb_generation *g, const float *logits, int n_top,
	struct bb_sampled *token);

#endif
