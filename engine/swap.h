/* SPDX-License-Identifier: Apache-2.0
 *
 * A context's pages and state, copied to memory of the host that no budget of pages counts, and
 * back, or into a fork: the same bytes, so the context goes on with the same bits. */
#ifndef SWAP_H
#define SWAP_H

#include "engine.h"

/* The host's memory for copies. */
struct swap_space {
	size_t used_bytes, max_bytes;
};

struct swapped { /* zeroed = nothing */
	struct swap_space *space; /* which its bytes are of */
	uint8_t *data; /* [bytes]: pages by kind of layer, then the state */
	size_t bytes;
	int first_page[MAX_LAYER_KINDS], n_pages[MAX_LAYER_KINDS];
	bool has_state;
};

/* Bytes that a copy of the context takes. */
size_t swap_bytes(const struct bb_context *c);
/* The context gives its pages and state away, for which `space` has room; until swap_in it may only
 * be destroyed, or forked by swap_fork. BB_ERR_MEMORY, BB_ERR_DEVICE: then it is as it was. */
bool swap_out(struct bb_context *c, struct swap_space *space, struct swapped *s,
	struct bb_error *err);
/* It has them again, and s is nothing. On an error s stays, and the context without. */
bool swap_in(struct bb_context *c, struct swapped *s, struct bb_error *err);
/* Whether sliding windows had what a rewind of the context to n_tokens needs. */
bool swap_holds(const struct bb_context *c, const struct swapped *s, int n_tokens);
/* Bytes of pages that swap_fork takes. */
size_t swap_fork_bytes(const struct bb_context *c, const struct swapped *s, int n_tokens);
/* *out: a fork of the context whose copy s is, rewound to n_tokens, which swap_holds and
 * context_state_reach can give. Only what it needs is copied, and s stays. On an error *out is
 * NULL. */
bool swap_fork(struct bb_context **out, struct bb_context *c, const struct swapped *s,
	int n_tokens, struct bb_error *err);
void swap_drop(struct swapped *s);

#endif
