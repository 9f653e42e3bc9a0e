/* SPDX-License-Identifier: Apache-2.0
 *
 * Turns logits into one token: penalties, bias, temperature, min-p, top-k, top-p, and a draw whose
 * randomness depends on the seed and the token's absolute index alone. */
#ifndef SAMPLE_H
#define SAMPLE_H

#include "engine.h"
#include "grammar/grammar.h"

struct bb_sampler {
	struct bb_sampling params;
	struct bb_logit_bias *wanted; /* [params.n_logit_bias], owned */
	int n_vocab;
	int32_t *ends;              /* [n_ends]: the model's end tokens [n_eog], then stop tokens */
	int n_eog, n_ends, n_banned; /* the first n_banned of ends can't be drawn */
	struct bb_token_bias *bias; /* [n_bias]: what is wanted, the lean and what is banned, by id;
	                             * behind it as much room, to sort them */
	int n_bias;
	struct bb_token_bias lean;  /* with a bias of 0: none */
	struct bb_token_bias forced; /* the one token that the next draw gives; id -1: none */
	struct bb_token_count *counts; /* [n_counts]: tokens of prompt and output; NULL: no penalties */
	int32_t *place;             /* [n_vocab]: 1 + where a token is counted, or 0 */
	int n_counts;
	bool has_new_count;         /* the last one drawn hadn't been counted before */
	float *row;                 /* [n_vocab] for logits that are drawn from, where steps leave them
	                             * on the host; on a device NULL until sampler_keep_row */
	const float *from;          /* [n_vocab]: what was drawn from last, where it's on the host */
	float *logits, *probs;      /* [n_vocab] */
	int32_t *order;             /* [n_vocab]: candidates */
	struct matcher matcher;     /* of params.grammar: where the text stands */
	uint32_t *mask;             /* [(n_vocab + 31) / 32]: may a token be drawn; NULL: any may */
	bool is_led;                /* between two draws a policy may say what the next one gives */
	int32_t last;               /* the token that was drawn last, or -1 */
	int32_t drawn;              /* the same, if the matcher hasn't seen it yet */
	bool has_mask, has_ended;   /* mask is for the next draw; an end token was drawn */
};

/* The defaults of every command, then what the file recommends, which must be in range. */
bool sampling_read(struct bb_sampling *s, const struct gguf *g, struct bb_error *err);

bool sampler_init(struct bb_sampler *s, const struct bb_engine *e, const struct bb_sampling *params,
	struct bb_error *err);
/* What can't come until sampler_allow_ends: the model's end tokens and these. */
bool sampler_ban_ends(struct bb_sampler *s, const struct bb_engine *e, const int32_t *ids, int n,
	struct bb_error *err);
/* From now on only ignore_eos bans. */
void sampler_allow_ends(struct bb_sampler *s);
/* Draws give this id from now on, whatever else is wanted or forbidden; BB_SAMPLE_ID_NONE: what
 * they like. */
void sampler_force(struct bb_sampler *s, int32_t id);
/* Added to the logit of one id, besides what is wanted; 0: nothing. */
void sampler_lean(struct bb_sampler *s, int32_t id, float bias);
/* Whether the grammar's mask of the next draw has the token. */
bool sampler_allows(const struct bb_sampler *s, int32_t id);
/* Room for the row of logits that sampler_replace needs, on a device too. */
bool sampler_keep_row(struct bb_sampler *s, struct bb_error *err);
/* In place of *out, the last one drawn, which counts as if it had not been, comes id: how likely
 * that was is reported. s->from has the logits. */
void sampler_replace(struct bb_sampler *s, const struct bb_engine *e, int32_t id,
	struct bb_sampled *out);
void sampler_finish(struct bb_sampler *s);
/* Whether its next draws differ in nothing but their logits and random numbers, whatever is drawn
 * on the way. */
bool sampler_is_steady(const struct bb_sampler *s);
/* Makes the mask of the next draw, where there is a grammar. What a draw needs and may fail is done
 * here. */
bool sampler_prepare(struct bb_sampler *s, const struct bb_engine *e, struct bb_error *err);
/* The text that the grammar forces next, up to a control token: [most] bytes at most. Behind
 * sampler_prepare. */
size_t sampler_forced_text(struct bb_sampler *s, char *out, size_t most);
/* Draws the token that will stand at token_index; BB_SAMPLE_ID_NONE when a logit is NaN or
 * infinite: a sound model has none, and no draw from them means anything. sampler_refuse is the
 * sentence about that, where edits may be why too; sampler_count makes the token count as
 * output. */
void sampler_choose(struct bb_sampler *s, const struct bb_engine *e, const float *logits,
	int token_index, struct bb_sampled *out);
/* How likely out->id is by these logits, how sure the model is where that is wanted, and the n_top
 * most likely. */
void sampler_report(struct bb_sampler *s, const struct bb_engine *e, const float *logits, int n_top,
	struct bb_sampled *out);
bool sampler_refuse(bool is_edited, int token_index, struct bb_error *err);
void sampler_count(struct bb_sampler *s, int32_t id);
/* The same for the kernel `sample`, with lists on the host. */
void sampler_params(const struct bb_sampler *s, int token_index, struct bb_sample_params *p);

/* The key of Philox (philox_unit of kernels.h) for a seed. */
uint64_t sampler_key(uint64_t seed);

#endif
