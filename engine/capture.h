/* SPDX-License-Identifier: Apache-2.0
 *
 * Steps on a device that are captured once and launched again: a step in which every context
 * decodes one token, of up to plan.logits_rows contexts, is one launch, the draws of all of them
 * included. */
#ifndef CAPTURE_H
#define CAPTURE_H

#include "memory.h"

/* What the launches of a step follow from. */
struct capture_key {
	int n_rows, n_out, max_kept, n_shares, n_shared_rows;
	enum bb_kv_dtype kv_type;
	bool draws; /* from every row of logits */
};

/* Two kinds of steps for each number of contexts up to 64: the longest context's splits change
 * slowly, and the number with every context that comes or goes. A driver keeps about 10 KiB for a
 * launch of a graph: a kind costs 3.5 MiB where 36 layers have ten launches each, and all of them
 * 0.5 GiB, beside the engine's own limit of memory, and only under a load with that many kinds.
 * What can't be had is launched piece by piece. Looking through all keys is 5 KiB of reading, under
 * a microsecond; a step takes a thousand. */
enum { MAX_CAPTURES = 128 };
struct captures {
	struct {
		struct capture_key key;
		bb_graph *graph; /* NULL: free */
		uint64_t last_use;
	} entries[MAX_CAPTURES];
	uint64_t n_uses;
};

struct bb_engine;
/* The kept tokens that a capture of a step is made for: at least n_tokens, in whole splits and
 * at most a quarter more of them, so that one
 * serves many steps. A split without tokens costs an empty block, and
 * changes no bit. */
int capture_kept(int n_tokens);
/* Runs e->batch: captured where every context decodes one token and planned memory holds all
 * logits. False when the device failed, with its sentence. */
bool capture_step(struct bb_engine *e, struct bb_error *err);
void captures_drop(struct bb_engine *e); /* all of them */

#endif
