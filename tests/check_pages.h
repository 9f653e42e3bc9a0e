/* SPDX-License-Identifier: Apache-2.0
 *
 * Pages that the checks of KV kernels work on: tables of several sequences and head groups, slabs
 * at odd places, room for bounds behind them, and the values that tokens have. */
#ifndef CHECK_PAGES_H
#define CHECK_PAGES_H

#include "check.h"

enum { MAX_PAGES_SEQS = 64, MAX_PAGES_HEADS = 8, MAX_PAGES_LAYOUTS = 3 };

struct pages_shape {
	int head_dim, group; /* group: channels of K per int8 scale */
	int n_kv_heads, n_groups; /* kv head h is of head group h % n_groups */
	int n_seqs, n_tokens[4]; /* of sequence i: n_tokens[i % 4] */
};

/* What tokens have before they are stored. */
struct values {
	const struct pages_shape *shape;
	float *k, *v; /* [tokens of all sequences, n_kv_heads, head_dim] */
	size_t first[MAX_PAGES_SEQS]; /* row of a sequence's token 0 */
};
/* None under --bench, where nothing is stored. */
void values_draw(struct check *c, struct values *v, const struct pages_shape *shape);
/* Index in k and v of token t of a sequence, kv head h. */
size_t values_at(const struct values *v, int i_seq, int t, int h);

/* Pages of one layout for all runs of a shape. */
struct pages {
	const struct pages_shape *shape;
	struct bb_kv_runs a;      /* runs [n_seqs, n_groups]: n_before 0, n_tokens the capacity */
	struct bb_kv_run *runs;   /* a.runs, to be changed */
	size_t *offsets, *bounds; /* [n_kv_heads] of slabs and bounds, from a page's address */
	size_t slab_bytes, page_bytes;
	uint8_t *bytes;           /* [n_bytes] all pages one after the other, filled with 0xff */
	size_t n_bytes;
};
/* capacity: [n_seqs, n_groups] tokens that the pages of a run have room for. */
void pages_make(struct check *c, struct pages *p, const struct pages_shape *shape, int n_groups,
	const int *capacity, enum bb_kv_dtype type, const struct bb_kv_layout *layout);
/* The slab of token t, in p->bytes or at the same place in a copy of them. */
uint8_t *pages_slab(const struct pages *p, uint8_t *bytes, int i_seq, int t, int h);
void pages_store(const struct pages *p, uint8_t *bytes, int i_seq, int t, int h, const float *k,
	const float *v);
void pages_read(const struct pages *p, int i_seq, int t, int h, float *k, float *v);
/* Gives every run of p a part of its room and stores the values of all tokens up to its end. */
void pages_fill(struct check *c, struct pages *p, const struct values *v);
/* Sequence i_seq by itself. */
struct bb_kv_runs pages_alone(const struct pages *p, int i_seq);
int pages_capacity(const struct pages_shape *shape, int *capacity, int n_groups);

/* The layouts over which a body plays a variant: its own; those of the fast attention variants too
 * where it is the CPU's, and the machine can. Returns how many. */
int check_kv_layouts(struct check *c, enum bb_kv_dtype type,
	const struct bb_kv_layout *layouts[MAX_PAGES_LAYOUTS]);
bool check_is_padded(struct check *c); /* the device's layout plays */

/* Shapes to check, then one that is timed: of a small model, or of an 8B model on a device. */
int check_pages_shapes(struct check *c);
struct pages_shape check_pages_shape(struct check *c, int i);

#endif
