/* SPDX-License-Identifier: Apache-2.0
 *
 * What the attention kernels share: which rows and tokens a block works on, where a page lies,
 * and how partial results are joined. Owns no kernel.
 *
 * The arithmetic, the same for every kernel here, one row or a thousand: a split of 256 tokens
 * gives a row M, L and O; it starts from nothing and takes its pages of 64 tokens in order. A page
 * has m = max of the visible scores (times scale and log2 e), and then
 *
 *   M' = max(M, m), keep = 2^(M - M'), p = 2^(score - M'), L = L keep + sum of p, O = O keep + p v
 *
 * where tensor cores add p v to O, 16 tokens at a time. (Pages of f32 are computed each from
 * nothing, and joined.) The splits are joined in order, starting from nothing. What a row can't see
 * changes no bit, page or split, so that a row may share a tile with any others.
 *
 * The rows of a sequence are counted as token * heads_per_kv + head; a tile is 16 of them that
 * follow one another, of one kv head. */
#pragma once

#include "../kv_slab.h"
#include "rows.cuh"

enum {
	THREADS = 128,
	WARPS = THREADS / WARP,
	TILE = 16,              /* rows of an mma */
	SHARE_TILES = 4,        /* of a block of attention_share.cuh */
	GROUP = 64,             /* channels of V that a warp takes at once */
	SPLIT_PAGES = BB_SPLIT / BB_PAGE,
};

/* Nothing seen yet: finite, so that 2^(x - x) is 1 and no branch is needed. */
#define NOTHING (-1e30f)
#define LOG2_E 1.44269504f

/* What a launch passes. */
struct attention_job {
	struct bb_attention a;
	int heads_per_kv, width;           /* width: head_dim padded to 16, elements of a stored row */
	int n_groups, group_width;         /* int8 scales of K */
	unsigned k_bytes, k_scales, v_scales; /* of a plane; offsets of scales in their planes */
	float scale;                       /* times log2 e */
	float cap, cap_scale;              /* softcap times log2 e, or 0; 2 log2 e scale / softcap */
	int n_splits;                      /* at most, of any tile, from the tile's first on */
	/* of tiles from tile0 on: partials of splits [split0, split0 + blocks in z) of each */
	int tile0, split0;
	float *parts;                      /* [splits, n_rows * n_heads, width] */
	float2 *part_ml;                   /* [splits, n_rows * n_heads] */
	/* [n_rows * n_heads]: m and l that the splits before split0 gave, and that these give; o is in
	 * `out` meanwhile */
	const float2 *before;
	float2 *after;
	/* What sequences share is made for several at once, of up to share_rows rows: by the first
	 * n_share_tiles blocks of a split, or by n_wide of a launch before (attention_share.cuh). */
	bool has_shares;
	int n_share_tiles, n_wide, share_rows;
	unsigned *arrivals;                /* [kv heads, tiles]: counts of blocks, 0 between launches */
	uint8_t *prepared;                 /* where rows go instead of to `out`, or NULL */
	size_t prepared_bytes;             /* of a row */
};

/* ---- rows ---- */

struct tile {
	const struct bb_kept *kept;
	const struct bb_attention_seq *seq;
	size_t slab;             /* offset in a page */
	int kv_head, row0, n_rows;
	bool is_shared;          /* the rows are of so many sequences, whose first tokens these are */
	int first, end;          /* kept tokens that any row sees */
};

DEVICE int last_seen(const struct attention_job &job, const struct tile &t, int row) {
	return t.kept->n_before + (t.row0 + row) / job.heads_per_kv;
}

DEVICE int first_seen(const struct attention_job &job, int last) {
	return job.a.window > 0 && job.a.window <= last ? last + 1 - job.a.window : 0;
}

/* Row of the step, and query head. */
DEVICE int step_row(const struct attention_job &job, const struct tile &t, int row) {
	return t.seq->row0 + (t.row0 + row) / job.heads_per_kv;
}

DEVICE int head_of(const struct attention_job &job, const struct tile &t, int row) {
	return t.kv_head * job.heads_per_kv + (t.row0 + row) % job.heads_per_kv;
}

DEVICE size_t part_of(const struct attention_job &job, const struct tile &t, int row) {
	return (size_t)step_row(job, t, row) * job.a.n_heads + head_of(job, t, row);
}

DEVICE float *out_of(const struct attention_job &job, const struct tile &t, int row) {
	return job.a.out + (size_t)step_row(job, t, row) * job.a.ld_out
		+ (size_t)head_of(job, t, row) * job.a.head_dim;
}

DEVICE const float *query_of(const struct attention_job &job, const struct tile &t, int row) {
	return job.a.queries + (size_t)step_row(job, t, row) * job.a.ld_q
		+ (size_t)head_of(job, t, row) * job.a.head_dim;
}

/* Sets t to the i-th group of `rows` rows of a kv head, counting through these sequences; false
 * when there are fewer. All lanes of a warp call it together. */
DEVICE bool find_tile(struct tile *t, const struct attention_job &job,
	const struct bb_attention_seq *seqs, int n_seqs, int i, int rows, int kv_head) {
	const struct found_rows found = find_rows(seqs, n_seqs, job.heads_per_kv, rows, i);
	if (found.seq == NULL) {
		return false;
	}
	const struct bb_kv_head *place = &job.a.kv_heads[kv_head];
	t->seq = found.seq;
	t->kept = &t->seq->groups[place->i_group];
	t->slab = place->slab_offset;
	t->kv_head = kv_head;
	t->row0 = found.row0;
	t->n_rows = found.n_rows;
	t->is_shared = false;
	t->first = first_seen(job, last_seen(job, *t, 0));
	t->end = last_seen(job, *t, t->n_rows - 1) + 1;
	return true;
}

/* Sets t and *token0, the first token of the block's split, for a kernel that works split by split;
 * false when the block has nothing to do. */
DEVICE bool find_split(struct tile *t, const struct attention_job &job, int *token0) {
	const int i = (int)blockIdx.x, split = job.split0 + (int)blockIdx.z;
	const bool is_shared = i < job.n_share_tiles;
	const bool found = is_shared
		? find_tile(t, job, job.a.shares, job.a.n_shares, i, job.share_rows, (int)blockIdx.y)
		: find_tile(t, job, job.a.seqs, job.a.n_seqs, job.tile0 + i - job.n_share_tiles, TILE,
			(int)blockIdx.y);
	if (!found) {
		return false;
	}
	*token0 = (t->first / BB_SPLIT + split) * BB_SPLIT;
	t->is_shared = is_shared;
	t->end = is_shared ? t->seq->n_shared : t->end;
	return *token0 < t->end &&
		(is_shared || !job.has_shares || *token0 >= t->seq->n_shared);
}

/* Whether rows [head_dim] of heads, `ld` elements from row to row, can be read by 16 bytes. */
DEVICE bool rows_are_wide(const float *p, int ld, int head_dim) {
	return ((uintptr_t)p & 15) == 0 && ld % 4 == 0 && head_dim % 4 == 0;
}

/* ---- pages ---- */

/* The i-th page of a tile's tokens: its slab, and the slots that some row sees; NULL when there are
 * none. */
DEVICE const uint8_t *open_page(const struct attention_job &job, const struct tile &t, int i,
	int *begin, int *end) {
	*begin = max(t.first - i * BB_PAGE, 0);
	*end = min(t.end - i * BB_PAGE, (int)BB_PAGE);
	if (*begin >= *end) {
		return NULL;
	}
	return (const uint8_t *)t.kept->chunks[i / BB_CHUNK][i % BB_CHUNK] + t.slab;
}

/* ---- memory of a block ---- */

DEVICE uint8_t *take(uint8_t **at, size_t bytes) {
	uint8_t *taken = *at;
	*at += (bytes + 15) / 16 * 16;
	return taken;
}

/* ---- scores ---- */

/* A product of q and k under the softcap: c tanh(z) = c - 2 c / (1 + e^2z). It is an exponent of 2
 * then, as `unit_of` says. */
DEVICE float capped(const struct attention_job &job, float s) {
	return job.cap > 0 ? fmaf(-2.0f * job.cap,
		rcp_approx(1.0f + exp2_approx(s * job.cap_scale)), job.cap) : s;
}

DEVICE float unit_of(const struct attention_job &job) {
	return job.cap > 0 ? 1.0f : job.scale;
}

/* ---- joins ---- */

/* Joins m, l to *M, *L; an element of o is then joined by join_value with the factors. */
DEVICE void join(float *M, float *L, float m, float l, float *keep, float *add) {
	const float top = fmaxf(*M, m);
	*keep = exp2_approx(*M - top);
	*add = exp2_approx(m - top);
	*M = top;
	*L = fmaf(l, *add, *L * *keep);
}

DEVICE float join_value(float O, float keep, float o, float add) {
	return fmaf(o, add, O * keep);
}

/* Joins a head's sink, if it has one; returns the factor of O. */
DEVICE float join_sink(const struct attention_job &job, int head, float2 *ml) {
	float keep = 1.0f, add;
	if (job.a.sinks != NULL) {
		join(&ml->x, &ml->y, job.a.sinks[head] * LOG2_E, 1.0f, &keep, &add);
	}
	return keep;
}

/* The result; a zero gets its plus sign, whatever it was joined to. */
DEVICE float finish(float O, float L) {
	return O / L + 0.0f;
}

/* ---- launches ---- */

/* A block without work leaves. The first one awaits the launch before even so, lest this one be
 * done earlier, and the next not wait for that. */
DEVICE bool is_first_block(void) {
	return blockIdx.x + blockIdx.y + blockIdx.z == 0;
}

/* ---- host ---- */

/* Fills the job but for what the rounds need. */
void attention_prepare(struct attention_job *job, const struct bb_attention *a,
	enum bb_kv_dtype type);
/* Room for the partials of all splits, or of as many as MAX_SCRATCH holds: the others come in later
 * rounds. */
size_t attention_device_scratch_bytes(int n_rows, int max_kept, int n_heads, int head_dim);
/* Runs `split(job, grid, stream)`, whose blocks end in join_splits, for all splits of all tiles: in
 * as many rounds as scratch asks for, of as many tiles as can be counted. Where a share may have
 * more rows than a tile, `share` makes what is shared, of up to SHARE_TILES tiles a block, in a
 * launch before; NULL: `split` makes that too, tile by tile. */
typedef void attention_split_fn(const struct attention_job *job, dim3 grid, cudaStream_t stream);
void attention_rounds(bb_queue *q, struct attention_job *job, attention_split_fn *split,
	attention_split_fn *share, const char *name);
/* Prepares what is in a->out, where a->prepared asks for it. */
void attention_prepare_rows(bb_queue *q, const struct bb_attention *a);
