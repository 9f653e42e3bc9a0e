/* SPDX-License-Identifier: Apache-2.0
 *
 * What one step works on, as its kernels want to have it. */
#ifndef BATCH_H
#define BATCH_H

#include "draw.h"
#include "plan.h"

/* The arrays that kernels read. */
struct batch_arrays {
	int32_t *ids, *pos;                             /* [n_rows] */
	int32_t *out_row;                               /* [n_out]: rows with wanted logits, then
	                                                 * [n_hidden] */
	struct bb_kv_head *kv_heads;                    /* [n_layers, n_kv_heads] */
	struct bb_attention_seq *seqs[MAX_LAYER_KINDS]; /* [n_seqs] each */
	struct bb_kept *kept[MAX_LAYER_KINDS];          /* [n_seqs]: a head group per kind */
	struct bb_attention_seq *shares[MAX_LAYER_KINDS]; /* [n_shares] each, see bb_attention */
	struct bb_state_seq *states;                    /* [n_seqs], of models that keep states */
	struct bb_state_save *saves;                    /* [n_saves], of all sequences */
};

/* A device's copy of a step's arrays and page tables: made in `host`, sent in one piece. A page
 * table is sent whole, 8 bytes for each page that the step reads. */
struct batch_image {
	struct staging copy;
	size_t used;
};

/* Planned for max_rows rows. A step allocates nothing but room that its contexts don't have yet,
 * and on a device room for their page tables and a first capture, before it computes. */
struct batch {
	int n_rows, n_seqs, n_out;
	int n_saves;
	int n_single;           /* sequences of one row, which come first; 0: the order is the items' */
	int n_shares, n_shared_rows; /* runs of contexts with common pages among them, and contexts in
	                              * these */
	int n_hidden;           /* rows that are wanted before the head: out_row's behind n_out */
	int *hidden_rows;       /* [n_hidden] */
	float **hidden;         /* [n_hidden]: of [n_embd] each */
	int *order;             /* [n_seqs]: the item of each sequence */
	/* Vectors in the step's rows, in order, and which rows: there the id of some token stands. */
	int n_vectors;
	int *vector_rows;       /* [n_vectors] */
	float *vectors_at;      /* [n_vectors, width of X], where kernels are given them */
	int32_t *vector_order;  /* [n_vectors]: 0, 1, 2, …; there too */
	struct staging vector_room;
	int max_vectors;        /* that it holds */
	int max_kept;           /* at least the tokens that any context keeps, this step's included */
	enum bb_kv_dtype kv_type;
	float **logits;         /* [n_out]: of [n_vocab] each; NULL: they stay where they are */
	struct draw *draws;     /* [n_out]: who draws from them */
	int n_draws;
	int n_draft_rows;       /* of draws.rows, in use */
	struct batch_arrays on_host, at; /* at: what kernels are given */
	struct batch_image image;
	void *scratch;          /* of attention */
	size_t scratch_bytes;
};

struct bb_engine;
struct bb_step_item;
bool batch_create(struct bb_engine *e, struct bb_error *err);
void batch_finish(struct bb_engine *e); /* zeroed is fine */
/* Bytes of attention's scratch. */
size_t batch_scratch_bytes(const struct bb_engine *e);
/* Makes room for the page tables of these items, whose pages exist, and for their vectors. */
bool batch_reserve(struct bb_engine *e, const struct bb_step_item *items, int n_items,
	struct bb_error *err);
/* Fills e->batch, and sends it. */
void batch_compose(struct bb_engine *e, const struct bb_step_item *items, int n_items);

#endif
