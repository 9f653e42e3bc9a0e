/* SPDX-License-Identifier: Apache-2.0
 *
 * A context's pages and state, copied to memory of the host that no budget of pages counts, and
 * back: the same bytes, so the context goes on with the same bits. */
#ifndef SWAP_H
#define SWAP_H

#include "engine.h"

struct swapped { /* zeroed = nothing */
	uint8_t *data; /* [bytes]: pages by kind of layer, then the state */
	size_t bytes;
	int first_page[MAX_LAYER_KINDS], n_pages[MAX_LAYER_KINDS];
	bool has_state;
};

/* Bytes that a copy of the context takes. */
size_t swap_bytes(const struct bb_context *c);
/* The context gives its pages and state away; until swap_in it may only be destroyed.
 * BB_ERR_MEMORY, BB_ERR_DEVICE: then it is as it was. */
bool swap_out(struct bb_context *c, struct swapped *s, struct bb_error *err);
/* It has them again, and s is nothing. On an error s stays, and the context without. */
bool swap_in(struct bb_context *c, struct swapped *s, struct bb_error *err);
void swap_drop(struct swapped *s);

#endif
