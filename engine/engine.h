/* SPDX-License-Identifier: Apache-2.0
 *
 * The two objects behind the public API: an engine (model, device, page pools) and a context
 * (timeline and page tables). Shared by the engine's own files only. */
#ifndef ENGINE_H
#define ENGINE_H

#include "batch.h"
#include "capture.h"
#include "cost.h"
#include "cot.h"
#include "kv.h"
#include "plan.h"
#include "state.h"
#include "taps.h"
#include "template.h"
#include "timeline.h"
#include "token/token.h"
#include "vectors.h"

enum { N_KV_TYPES = KV_INT8 + 1 };

struct grammar_trees;

/* Bytes in use. */
struct used_bytes {
	size_t live; /* of pages, and of states that contexts go on from: what max_kv_bytes limits */
	size_t all;  /* those of checkpoints too, which state_cache_bytes limits */
};

struct bb_engine {
	struct model_file file;
	char *name, *chat_template;
	struct bb_sampling sampling; /* what the file recommends */
	bool cot_each_token;         /* each token is a CoT step */
	const struct bb_model *model;
	struct tokenizer *tokenizer;
	struct grammar_trees *grammar_trees; /* the vocabulary for grammars */
	struct memory memory;       /* where steps are computed */
	struct bb_kernels kernels;  /* that compute them */
	struct bb_kernels cpu_kernels; /* that sample; without a device those of steps */
	const char *isa;
	char cpu[64];               /* what it is called */
	struct bb_device_info device; /* what the device says of itself */
	bool is_fast;               /* large products by cuBLASLt, as was asked for */
	bool is_wgmma;              /* those of 16-bit weights by wgmma */
	bb_queue *pool;             /* of the CPU's threads */
	int n_threads, max_len;
	enum bb_kv_dtype kv_type;
	int kv_group;               /* channels of K per scale, in contexts of int8 */
	struct plan plan;           /* zeroed when vocab_only */
	struct cost cost;           /* of the plan */
	bool is_planned, is_packed;
	struct batch batch;
	struct captures captures;   /* of steps on a device */
	struct draw_room draws;     /* of steps on a device */
	struct kv_budget budget;
	struct kv_pool pools[MAX_LAYER_KINDS][N_KV_TYPES];
	struct vectors *vectors;    /* that stand in contexts where tokens would */
	struct state_pool states;   /* of models with recurrent layers */
	struct state_pool packed_states; /* as checkpoints have them where they are of int8 */
	struct state_pool *kept_states;  /* which of the two pools checkpoints are of */
	struct bb_context *contexts; /* all there are; those that the prefix cache keeps come last */
	struct bb_context *last_context;
	int n_contexts;
	struct bb_engine_stats stats;
	uint64_t model_hash;         /* of snapshots; 0: not made yet */
	unsigned mark;               /* of the last tally of pages and states */
	struct used_bytes kept_bytes; /* as of `kept_at` changes of what contexts share */
	uint64_t kept_at, n_kept_changes; /* the second: contexts kept, and what kept ones gave back */
	bool can_tap;                /* each op of a step is computed by itself */
	struct taps *taps;           /* NULL: nobody looks */
};

/* What the last step has computed behind a context's last token. It's there until the next step, or
 * until the context is changed or forked. */
struct ahead {
	int n;            /* tokens; 0: nothing */
	int row, out;     /* of the batch: of the first of them, and of its wanted logits */
	uint64_t n_steps; /* of the engine, that step included */
};

struct bb_context {
	struct bb_engine *engine;
	enum bb_kv_dtype kv_type;
	int max_len;
	int n_reserved;                            /* tokens that have room by bb_context_reserve */
	struct timeline timeline;
	struct kv_table tables[MAX_LAYER_KINDS];   /* by kind of layer */
	struct state *state;                       /* behind the last token; NULL: all zero */
	struct state *next_state;                  /* which the step that is prepared will write */
	struct checkpoint *saves;                  /* [n_saves] that it will write on the way, or has
	                                            * written ahead */
	int n_saves, max_saves;
	struct ahead ahead;
	struct checkpoints checkpoints;
	int n_promised;                            /* states that bb_context_reserve set aside */
	int n_promised_kept;                       /* packed ones */
	bool is_lost;                              /* a step failed while it wrote `state` */
	int wanted;                                /* a step that passes this token keeps the state
	                                            * there; 0: none */
	uint64_t domain;                           /* contexts of two domains tell each other nothing */
	bool is_kept;                              /* it was given to the prefix cache */
	struct bb_context *before, *after;         /* in the engine's list */
};

/* Ids that may come from outside are below this: rows of the embedding, or tokens without one. */
int engine_n_vocab(const struct bb_engine *e);
/* In what order the slabs of its contexts of a type lie. */
const struct bb_kv_layout *engine_kv_layout(const struct bb_engine *e, enum bb_kv_dtype type);
/* Bytes of the slab of one (layer, kv head) in a page. */
size_t engine_slab_bytes(const struct bb_engine *e, enum bb_kv_dtype type);
/* Bytes of pages that a context of n tokens holds, windows and what they keep for a rewind
 * included. */
size_t engine_kv_bytes(const struct bb_engine *e, int n_tokens);
enum bb_kv_dtype engine_kv_dtype(enum bb_kv_type type);
const char *engine_kv_name(enum bb_kv_dtype type); /* "f16" */

/* The first token that layers of this kind need of a context that is rewound to n_tokens. */
int engine_first_needed(const struct bb_engine *e, int i_kind, int n_tokens);
/* Whether sliding windows still hold what a rewind to n_tokens needs. */
bool context_holds(const struct bb_context *c, int n_tokens);
/* Makes room for n_new more tokens, of which the last n_drafts may come to nothing; on failure the
 * context is as it was. */
bool context_reserve(struct bb_context *c, int n_new, int n_drafts, struct bb_error *err);
/* Bytes of pages and states that destroying it would give back: nobody else refers to them. */
size_t context_alone_bytes(const struct bb_context *c);
size_t context_alone_page_bytes(const struct bb_context *c); /* of pages alone */
/* The context is the prefix cache's from now on. */
void context_keep(struct bb_context *c);
struct used_bytes engine_used_bytes(const struct bb_engine *e);
/* Of them, what only such contexts refer to. Looks at all contexts, but not where none came, went
 * or shared anything since it last did. */
struct used_bytes engine_kept_bytes(struct bb_engine *e);
/* Gives back memory of pages and states that nobody uses; whether there was any. */
bool engine_give_back(struct bb_engine *e);
/* As bb_context_rewind, but an empty segment that begins there stays. */
bool context_rewind(struct bb_context *c, int n_tokens, struct bb_error *err);
/* ---- context_state.c: the fixed state of a context; nothing to do for models without ---- */

/* Whether the state behind the last token is there; BB_ERR_DEVICE where a failed step lost it. */
bool context_state_check(const struct bb_context *c, struct bb_error *err);
/* Room for the state behind n_new more tokens, and for those to keep on the way: also behind each
 * token before the last n_drafts, and each of these. */
bool context_state_reserve(struct bb_context *c, int n_new, int n_drafts, struct bb_error *err);
void context_state_unreserve(struct bb_context *c);
/* The step's states become the context's, which has the step's tokens by now, but for n_drafts. */
void context_state_commit(struct bb_context *c, int n_drafts);
/* The same for the first token ahead. */
void context_state_follow(struct bb_context *c);
/* What bb_context_reserve does for n_new more tokens; 0 takes it back. */
bool context_state_promise(struct bb_context *c, int n_new, struct bb_error *err);
/* A fork's state, and the other way round all that a context has given back. */
bool context_state_fork(struct bb_context *dst, const struct bb_context *src,
	struct bb_error *err);
void context_state_finish(struct bb_context *c);
/* Keeps the state of now, as that where a segment begins. */
bool context_state_mark(struct bb_context *c, enum checkpoint_kind kind, struct bb_error *err);
/* Keeps a state, which stays the caller's to give back, as that behind n_tokens; or doesn't, where
 * the cache has no room for any. Allocates in the context's list alone. */
bool context_state_keep(struct bb_context *c, int n_tokens, enum checkpoint_kind kind,
	struct state *s, struct bb_error *err);
/* Drops all checkpoints: others need the room more. */
void context_state_forget(struct bb_context *c);
/* The token behind which the context could go on if it were rewound to n_tokens; the rest has to
 * be computed again. */
int context_state_reach(const struct bb_context *c, int n_tokens);
/* As context_alone_bytes, of states alone. */
size_t context_state_alone_bytes(const struct bb_context *c);
/* As kv_tally: bytes of the context's states that were not yet found; and of the one alone that it
 * goes on from. */
size_t context_state_tally(const struct bb_context *c, unsigned mark);
size_t context_state_live_tally(const struct bb_context *c, unsigned mark);
/* A rewind computed c's last tokens again, from `reach` on: all contexts of its domain that begin
 * with c's tokens get the checkpoint at their end, so that nobody computes them once more. */
void context_state_tell(const struct bb_context *c, int reach);
/* Goes back to where context_state_reach said. On a failure nothing has changed. */
bool context_state_cut(struct bb_context *c, int n_tokens, struct bb_error *err);

/* ---- state_pack.c: states of checkpoints in int8 ---- */

size_t engine_packed_state_bytes(const struct bb_engine *e);
/* On the queue. */
void engine_pack_state(const struct bb_engine *e, struct state *packed, struct state *s);
void engine_unpack_state(const struct bb_engine *e, struct state *s, struct state *packed);

/* Gives back room, but not what bb_context_reserve promised. */
void context_unreserve(struct bb_context *c);
/* The n tokens of a finished step become part of the timeline; pages behind windows are freed.
 * `ahead` says what else it has computed. */
void context_commit(struct bb_context *c, const int32_t *tokens, int n, struct ahead ahead);
/* The first token ahead becomes part of the timeline. */
void context_follow(struct bb_context *c, int32_t token);
/* Forgets what is ahead, with the room for it. */
void context_drop_ahead(struct bb_context *c);

/* bb_prefill, which may draw, as bb_step does, from the logits of the last token. */
bool engine_prefill(struct bb_context *c, const int32_t *tokens, size_t n_tokens, float *logits,
	struct bb_sampler *sampler, struct bb_sampled *sampled, bb_progress_fn *progress, void *user,
	struct bb_error *err);

/* Runs every operation of the plan on e->batch. Allocates nothing. Logits go to the callers'
 * arrays, or, `keeps_logits`, stay in planned memory, which must hold them all. */
void graph_run(struct bb_engine *e, bool keeps_logits);
/* Rows [i, i + n) of the wanted logits from planned memory to the callers' arrays. */
void graph_give_logits(struct bb_engine *e, int i, int n);

/* How often the head's weights are read for the batch's logits: for some rows at a time. */
int graph_head_reads(const struct bb_engine *e);

/* Kernels and name of an ISA level (NULL = the best); false when this machine lacks it. */
bool engine_isa(const char *name, struct bb_kernels *k, const char **used, struct bb_error *err);

/* A JSON string of bytes from a file; "(not UTF-8)" where they aren't. */
json_t *engine_json_text(const char *data, size_t bytes);

/* Ids of tokens and of vectors -> error sentence; used wherever ids come from outside. */
bool engine_check_ids(const struct bb_engine *e, const int32_t *ids, size_t n,
	struct bb_error *err);

#endif
