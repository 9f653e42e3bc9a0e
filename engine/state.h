/* SPDX-License-Identifier: Apache-2.0
 *
 * Fixed states: what the recurrent layers of a context remember, all layers in one array of f32,
 * laid out by the planner. States are counted: a context, its forks and its checkpoints refer to
 * the same one until somebody goes on, who then writes to another. A checkpoint is the state behind
 * one token of a timeline, to which a rewind can go back. */
#ifndef STATE_H
#define STATE_H

#include "memory.h"

/* A checkpoint stands at least at every so many tokens of the newest part of a context. */
enum { STATE_EVERY = 512 };

struct state {
	float *data;        /* [floats of the pool] */
	int n_refs, n_kept; /* all references; those of checkpoints among them */
	unsigned mark;      /* of the last tally that found it, see kv_tally */
	struct state *next; /* in the pool's list */
};

/* Hands out states of one size. */
struct state_pool {
	size_t bytes;                /* of a state; 0: the model has none */
	const struct memory *memory; /* which they are of */
	struct state *free;          /* list of states that nobody refers to */
	int n_free, n_all;
	int n_promised;              /* free ones that reserves have promised to contexts */
	int n_kept, max_kept;        /* states that checkpoints refer to, and how many may be */
	int n_live;                  /* states that somebody else refers to: contexts go on from them */
	uint64_t n_changes;          /* how often it changed who shares a state with whom */
};

void state_pool_init(struct state_pool *p, size_t bytes, const struct memory *memory,
	size_t max_kept_bytes);
void state_pool_finish(struct state_pool *p); /* all states must have been given back */
/* Gives back the memory of free states that nobody was promised; how many bytes. */
size_t state_pool_trim(struct state_pool *p);
/* A state with one reference, its content undefined; NULL with a sentence. `promised`: one of those
 * that state_promise made. */
struct state *state_take(struct state_pool *p, bool promised, struct bb_error *err);
/* References of contexts; those of checkpoints are counted by checkpoints_*. */
void state_ref(struct state_pool *p, struct state *s);
void state_unref(struct state_pool *p, struct state *s); /* NULL is fine */
/* References that aren't a checkpoint's. */
static inline int state_n_live(const struct state *s) {
	return s->n_refs - s->n_kept;
}
/* Makes n more states lie ready; on failure nothing has changed. */
bool state_promise(struct state_pool *p, int n, struct bb_error *err);
void state_break_promise(struct state_pool *p, int n);

/* Why a checkpoint stands where it does; the more it's worth, the later it goes. */
enum checkpoint_kind {
	CHECKPOINT_GRID,       /* every STATE_EVERY tokens */
	CHECKPOINT_DIVERGENCE, /* somebody went back to it */
	CHECKPOINT_BOUNDARY,   /* a segment begins there */
	N_CHECKPOINT_KINDS,
};

struct checkpoint {
	int n_tokens;
	enum checkpoint_kind kind;
	struct state *state;
};

/* Of one context, by n_tokens. */
struct checkpoints { /* zeroed = none */
	struct checkpoint *items; /* [n] */
	int n, cap;
};

bool checkpoints_reserve(struct checkpoints *c, int n_new, struct bb_error *err);
/* Adds one, for which there is room, with a reference of its own to the state. One that stands
 * there already becomes of the higher kind. */
void checkpoints_add(struct checkpoints *c, struct state_pool *p, int n_tokens,
	enum checkpoint_kind kind, struct state *s);
/* The last one at or before n_tokens; NULL: none. */
const struct checkpoint *checkpoints_find(const struct checkpoints *c, int n_tokens);
/* Drops those behind n_tokens; -1: all. */
void checkpoints_truncate(struct checkpoints *c, struct state_pool *p, int n_tokens);
/* dst (zeroed) gets the same. */
bool checkpoints_fork(struct checkpoints *dst, const struct checkpoints *src, struct state_pool *p,
	struct bb_error *err);
void checkpoints_finish(struct checkpoints *c, struct state_pool *p);
/* How many of a kind. */
int checkpoints_count(const struct checkpoints *c, enum checkpoint_kind kind);
/* Drops one of the kind, of which there is one, seen from a context of n_tokens: of those that
 * share the oldest octave of distances (d to 2 d tokens back) the second oldest, so that the oldest
 * grows old enough for the octave behind: old ones end up log-spaced, and young ones stay dense.
 * Where none share one, the oldest of all. Returns whose it was, to be compared only. */
const struct state *checkpoints_thin(struct checkpoints *c, struct state_pool *p,
	enum checkpoint_kind kind, int n_tokens);
/* Drops the checkpoint of a state, if there is one that is worth no more than that kind. */
void checkpoints_drop(struct checkpoints *c, struct state_pool *p, enum checkpoint_kind kind,
	const struct state *s);
/* How many of its newest tokens a context of n_tokens, read without segments, can be rewound by and
 * compute no more than STATE_EVERY again, where max_kept checkpoints may be. */
bool checkpoints_reach(int max_kept, int n_tokens, int *out, struct bb_error *err);

#endif
