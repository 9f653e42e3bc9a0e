/* SPDX-License-Identifier: Apache-2.0
 *
 * Looking inside a model while it steps, and changing what flows there: a part of bobbin.h, which
 * includes it. */
#ifndef BOBBIN_TAPS_H
#define BOBBIN_TAPS_H

#include "bobbin.h"

#ifdef __cplusplus
extern "C" {
#endif

/* The op lists before the first and behind the last layer. */
enum { BB_TAP_EMBED = -1, BB_TAP_UNEMBED = -2 };

/* What an op writes: an activation, named as in the op lists (`bobbin inspect`), in small letters.
 * One that a list writes several times is numbered in order: "q.1" is what the product gives, "q.2"
 * the same turned by RoPE. What lies side by side and is computed at once has a site each.
 *
 * In a request a site is "3:q.2" or "blk.3.q.2", "embed:x", "unembed:logits", with "*" for all
 * layers and "4-7" for some (those that have it). Without its number a name means the last of its
 * list: "3:x" is the residual stream as layer 3 leaves it. The op's own name does where it writes
 * one site of the list: "3:attention". Capital letters are the same. */
struct bb_tap_site {
	int layer;           /* 0 to n_layers - 1, BB_TAP_EMBED or BB_TAP_UNEMBED */
	char name[32];       /* "q.2", "att" */
	char full[48];       /* "blk.3.q.2", "embed.x", "unembed.logits" */
	const char *op;      /* that writes it: "rope" */
	int n_parts, width;  /* a row is [n_parts, width]; parts: of experts that it chose, else 1 */
	int n_heads;         /* side by side in the width, equally wide; 0: it isn't made of heads */
};
/* Site i (>= 0) of the list of a layer, or of BB_TAP_EMBED or BB_TAP_UNEMBED, in the order in which
 * they are computed; false: there are no more. Of engines that aren't vocab_only, as all that asks
 * for sites. */
bool bb_tap_site(const struct bb_engine *e, int layer, int i, struct bb_tap_site *out);
/* How many sites a request means, and the first of them. BB_ERR_USAGE with what would do instead
 * where there is none. */
bool bb_tap_find(const struct bb_engine *e, const char *at, struct bb_tap_site *first, int *n,
	struct bb_error *err);

/* Rows of one context that a step has computed at a site. Those of unembed are rows whose logits
 * were asked for. */
struct bb_tap_rows {
	const struct bb_tap_site *site;
	const struct bb_context *context;
	int first, n_rows;   /* they are of tokens [first, first + n_rows) of its timeline */
	const float *rows;   /* [n_rows, n_parts, width] */
};
/* Called within bb_step, in the order of the ops, for each context once or, where memory is short,
 * for some of its rows at a time, in order. What it's given lasts until it returns. Of functions
 * that take the engine or a context of it, it may call bb_engine_info, bb_tap_site, bb_tap_find,
 * bb_attention_shape and bb_state_part, and bb_context_length and bb_context_tokens, which tell
 * what was before the step: no others, for what contexts keep is changing. So may a
 * bb_attention_fn. */
typedef void bb_tap_fn(void *user, const struct bb_tap_rows *rows);

/* The weights of a head's attention: what the token looks at. Computed by the host in double from
 * the queries of the step and the keys as they are kept, so after their rounding to the KV type, by
 * the model's scale and window. Kernels may round queries and weights in their own way, and attend
 * a little differently then: on the models of the tests, weights times values give `att` to 1e-5
 * with KV of f32, to 1e-4 with f16, to 6e-2 with int8. With f16 and bf16 the ISA level avx512_bf16
 * rounds q, k, the weights and v to bf16 on their way into its products, which on real models shows
 * where keys are large (docs/taps.md); --isa avx512 shows f16 unrounded. */
struct bb_attention_row {
	const struct bb_context *context;
	int layer, head, token;
	int first, n_kept;    /* of the tokens [first, first + n_kept), the last of which is `token` */
	const float *weights; /* [n_kept]; their sum is 1 */
};
typedef void bb_attention_fn(void *user, const struct bb_attention_row *row);

/* n_tokens 0: of all tokens from `first` on; neither is negative, nor is fn NULL. */
struct bb_tap {
	const char *at;
	int first, n_tokens;
	bb_tap_fn *fn;
	void *user;
};
struct bb_attention_tap {
	int layer, head;      /* >= -1, which is all that there are */
	int first, n_tokens;  /* queries */
	bb_attention_fn *fn;  /* rows come layer by layer, then context by context, then head by head */
	void *user;
};

enum bb_edit_kind { BB_EDIT_ADD = 1, BB_EDIT_SCALE };
/* Changes a site's rows of these tokens before anything reads them, and before taps see them; those
 * of a list in its order. To set a value: times 0, then add. A step fails with BB_ERR_INPUT where
 * an edit leaves a row that the arithmetic behind it can't take: a number that isn't finite, or,
 * but for logits, squares whose sum is beyond float. */
struct bb_edit {
	const char *at;
	enum bb_edit_kind kind; /* must be said */
	int first, n_tokens;
	const float *add;       /* of ADD: what is added to each row, [n_parts, width] */
	int n_add;              /* its floats */
	int head;               /* of SCALE, >= -1: which head is multiplied, -1 all of the row; where
	                         * the site isn't made of heads, there is no head 0 either */
	float factor;           /* … by this */
};

struct bb_taps {
	const struct bb_tap *taps;                 /* [n_taps] */
	int n_taps;
	const struct bb_attention_tap *attention;  /* [n_attention] */
	int n_attention;
	const struct bb_edit *edits;               /* [n_edits] */
	int n_edits;
	/* Tokens that contexts may have where attention is looked at, for which room is made now; a
	 * step beyond fails with BB_ERR_CONTEXT. 0: the engine's max_len. */
	int max_tokens;
};
/* From now on all steps of the engine, which was opened with params.taps and neither vocab_only nor
 * inspect_only, are looked at and edited so, those of a rewind that computes tokens again too.
 * Takes the place of what was attached; NULL takes it off. What is given here is copied, but for
 * `user`. All memory is had here: a step allocates no more than without. Rows have the same bits
 * however they are batched; taps alone change none. What edits have changed stays in the keys,
 * values and states that came of it.
 * BB_ERR_USAGE for a site, head, layer or width that isn't there, for an edit without a kind and
 * for one whose numbers aren't finite, BB_ERR_MEMORY; then what was attached stays. */
bool bb_taps_attach(struct bb_engine *e, const struct bb_taps *taps, struct bb_error *err);
/* Rows that edit i of the list that is attached has changed in all steps since, those of failed
 * steps too; 0: it was for tokens that didn't come, or for rows of unembed that nobody wanted. */
int64_t bb_taps_edited(const struct bb_engine *e, int i);

/* Keys and values of tokens [first, first + n_tokens) as a layer keeps them, with RoPE and after
 * rounding: k and v [n_kv_heads, n_tokens, head_dim] each, or NULL; first >= 0, n_tokens >= 1. Not
 * within a step, as bb_context_state. BB_ERR_USAGE for a layer that
 * keeps none, BB_ERR_CONTEXT for tokens that aren't there or that a window has let go,
 * BB_ERR_MEMORY, BB_ERR_DEVICE. */
bool bb_context_kv(const struct bb_context *c, int layer, int first, int n_tokens, float *k,
	float *v, struct bb_error *err);
/* The numbers of a layer that attends; false, and all 0, for one that keeps no tokens. Of engines
 * that aren't vocab_only. */
struct bb_attention_shape {
	int n_heads, n_kv_heads, head_dim;
	int window;           /* tokens seen, itself included; 0: all */
};
bool bb_attention_shape(const struct bb_engine *e, int layer, struct bb_attention_shape *out);

/* A part of what a recurrent layer remembers. Convolutions keep their last inputs [width - 1,
 * channels], oldest first; scans S [n_state, channels] (Mamba) or [n_heads, n_state, head_dim]
 * (Mamba-2); the mLSTM C [n_heads, dim_k, dim_v], n [n_heads, dim_k] and m [n_heads]; delta rule
 * and RWKV S [n_heads, dim_k, dim_v]; the RG-LRU [channels]; a token shift its last input
 * [channels]. */
struct bb_state_part {
	int layer;
	char name[32];        /* the op's, "ssd"; "mlstm.c"; "shift.2" where there are several */
	char full[48];        /* "blk.3.ssd" */
	int shape[3], n_axes;
};
/* Part i (>= 0) of a layer's; false: there are no more. Of engines that aren't vocab_only. */
bool bb_state_part(const struct bb_engine *e, int layer, int i, struct bb_state_part *out);
/* The same behind the context's last token, in the part's shape; 0 in a context without tokens.
 * The part must be there. BB_ERR_DEVICE. */
bool bb_context_state(const struct bb_context *c, int layer, int i, float *out,
	struct bb_error *err);

#ifdef __cplusplus
}
#endif

#endif
