/* SPDX-License-Identifier: Apache-2.0
 *
 * The sampling options, shared by the commands that generate. */
#ifndef SAMPLING_H
#define SAMPLING_H

#include "args.h"
#include "bobbin.h"

struct sampling_options { /* SAMPLING_UNSET = defaults */
	int max_tokens, min_tokens, top_k;
	float temperature, top_p, min_p, repetition, presence, frequency;
	struct arg_texts logit_bias, stop;
	struct arg_ints stop_ids;
	struct arg_seed seed;
	bool ignore_eos;
};

enum { TOP_K_UNSET = -2 };
/* -3 is a value no penalty, temperature or probability may have. */
#define SAMPLING_UNSET { .max_tokens = -1, .top_k = TOP_K_UNSET, .temperature = -3, .top_p = -3, \
	.min_p = -3, .repetition = -3, .presence = -3, .frequency = -3 }

extern const struct arg_option sampling_table[];

struct sampling_storage {
	struct bb_logit_bias bias[ARG_LIST_MAX]; /* [sampling.n_logit_bias] */
};

/* The model's defaults, overridden by the options; an unset seed is drawn. Pointers go into *o and
 * *storage. Returns -1, or the exit status after the reason was reported. */
int sampling_params(const struct bb_engine *e, const struct sampling_options *o,
	struct sampling_storage *storage, struct bb_generation_params *out);

#endif
