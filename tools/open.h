/* SPDX-License-Identifier: Apache-2.0
 *
 * The options that say which model runs how, shared by the commands that open one. */
#ifndef OPEN_H
#define OPEN_H

#include "args.h"
#include "bobbin.h"

struct open_options { /* zeroed = defaults */
	const char *path, *device, *isa, *gemm, *kv_type, *state_cache_type;
	int n_threads, max_len, window;
	size_t max_device_bytes;
	struct arg_limit max_kv_bytes, state_cache_bytes;
	bool deterministic; /* as it is anyway, but for gemm "fast" */
	int max_batch_tokens; /* set by the command, not by an option of this group, as `taps` */
	bool taps;
};

extern const struct arg_option open_model_only[]; /* -m */
extern const struct arg_option open_engine[];     /* -m and how to run it */
/* What other versions have, for arg_command.later. */
#define OPEN_LATER "--kv-policy,--session-dir"
/* -c; bench and perplexity set the length themselves */
extern const struct arg_option open_context[];

enum open_what { OPEN_VOCAB, OPEN_INSPECT, OPEN_ALL };

/* Opens the engine. Returns -1, or the exit status after the reason was reported. */
int open_model(const struct open_options *o, enum open_what what, struct bb_engine **out);

#endif
