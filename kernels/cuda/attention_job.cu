/* SPDX-License-Identifier: Apache-2.0
 *
 * What the attention kernels are given: the job, scratch for partials, and the rounds in which
 * kernels that work split by split are launched. */
#include "attention.cuh"
#include "matmul_panel.h"
#include "module.h"

#include <assert.h>

static const size_t MAX_SCRATCH = (size_t)64 << 20;

void attention_prepare(struct attention_job *job, const struct bb_attention *a,
	enum bb_kv_dtype type) {
	const int width = kv_vd(a->head_dim), n_groups = kv_n_groups(a->head_dim, a->kv_group);
	const struct kv_plane k = kv_plane_of(type, width, n_groups), v = kv_plane_of(type, width, 1);
	assert(a->n_heads % a->n_kv_heads == 0 && a->head_dim <= BB_SPLIT && a->scale > 0);
	*job = {};
	job->a = *a;
	job->heads_per_kv = a->n_heads / a->n_kv_heads;
	job->width = width;
	job->n_groups = n_groups;
	job->group_width = kv_group_width(a->head_dim, a->kv_group);
	job->k_bytes = (unsigned)k.bytes;
	job->k_scales = (unsigned)k.scales;
	job->v_scales = (unsigned)v.scales;
	job->scale = a->scale * LOG2_E;
	job->cap = a->softcap * LOG2_E;
	job->cap_scale = a->softcap > 0 ? 2 * job->scale / a->softcap : 0;
	/* blocks of 32 lie within a head */
	job->prepared = a->head_dim % 32 == 0 ? (uint8_t *)a->prepared : NULL;
	job->prepared_bytes = panel_x_row_bytes(BB_Q8_0, a->n_heads * a->head_dim);
	const int all = (int)(((long long)a->max_kept + BB_SPLIT - 1) / BB_SPLIT);
	/* a tile's rows are at most TILE tokens apart */
	const int seen = a->window > 0 ? (a->window + TILE) / BB_SPLIT + 2 : all;
	job->n_splits = seen < all ? seen : all;
}

/* Scratch: m and l of the rounds before and of this one, then the partials of a round. */
static size_t running_bytes(size_t n_parts) {
	return n_parts * 2 * sizeof(float2);
}

static size_t partial_bytes(int width) {
	return (size_t)width * sizeof(float) + sizeof(float2);
}

size_t attention_device_scratch_bytes(int n_rows, int max_kept, int n_heads, int head_dim) {
	const size_t n_parts = (size_t)n_rows * (size_t)n_heads;
	const size_t split = n_parts * partial_bytes(kv_vd(head_dim));
	const size_t all = split * (size_t)((max_kept + BB_SPLIT - 1) / BB_SPLIT);
	const size_t some = split > MAX_SCRATCH ? split : MAX_SCRATCH;
	return running_bytes(n_parts) + (all < some ? all : some);
}

/* How what sequences share is made; returns whether anything is. May be wide: of more rows than a
 * tile. */
static bool plan_shares(struct attention_job *job, bool may_be_wide) {
	const struct bb_attention *a = &job->a;
	const int heads = job->heads_per_kv;
	if (a->n_shares == 0 || a->window > 0 || heads > TILE ||
		a->n_seqs > N_ARRIVALS / a->n_kv_heads) {
		return false;
	}
	assert(a->n_rows == a->n_seqs);
	const int largest = a->n_shared_rows - 2 * (a->n_shares - 1); /* at most; others are of two */
	const bool is_wide = may_be_wide && largest * heads > TILE;
	const int n_seqs = (is_wide ? SHARE_TILES * TILE : TILE) / heads; /* of a block */
	if (n_seqs < 2) {
		return false;
	}
	const int n_blocks = a->n_shared_rows / n_seqs + a->n_shares;
	job->has_shares = true;
	job->share_rows = n_seqs * heads;
	job->n_share_tiles = is_wide ? 0 : n_blocks;
	job->n_wide = is_wide ? n_blocks : 0;
	return true;
}

/* All rounds of the tiles from tile0 on. */
static void run_rounds(bb_queue *q, struct attention_job *job, unsigned n_tiles, int n_round,
	attention_split_fn *split, attention_split_fn *share, const char *name) {
	const unsigned n_kv_heads = (unsigned)job->a.n_kv_heads;
	const size_t n_parts = (size_t)job->a.n_rows * (size_t)job->a.n_heads;
	float2 *running = (float2 *)job->a.scratch;
	for (job->split0 = 0; job->split0 < job->n_splits; job->split0 += n_round) {
		const int left = job->n_splits - job->split0, i = job->split0 / n_round % 2;
		job->before = running + (size_t)i * n_parts;
		job->after = running + (size_t)(1 - i) * n_parts;
		const unsigned n_splits = (unsigned)(left < n_round ? left : n_round);
		if (job->n_wide > 0) {
			share(job, dim3((unsigned)job->n_wide, n_kv_heads, n_splits), q->stream);
			queue_launched(q, "attention_share");
		}
		split(job, dim3(n_tiles + (unsigned)job->n_share_tiles, n_kv_heads, n_splits), q->stream);
		queue_launched(q, name);
	}
}

void attention_rounds(bb_queue *q, struct attention_job *job, attention_split_fn *split,
	attention_split_fn *share, const char *name) {
	const struct bb_attention *a = &job->a;
	const size_t n_parts = (size_t)a->n_rows * (size_t)a->n_heads;
	const size_t before = running_bytes(n_parts), split_bytes = n_parts * partial_bytes(job->width);
	assert(a->scratch_bytes >= before + split_bytes);
	const size_t most_z = 65535, fit = (a->scratch_bytes - before) / split_bytes;
	const size_t room = fit < most_z ? fit : most_z;
	const int n_round = room < (size_t)job->n_splits ? (int)room : job->n_splits;
	const int most = N_ARRIVALS / a->n_kv_heads;
	assert(most > 0);
	const int n_tiles = plan_shares(job, share != NULL) ? a->n_seqs
		: a->n_rows * job->heads_per_kv / TILE + a->n_seqs;
	job->arrivals = q->arrivals;
	job->parts = (float *)((char *)a->scratch + before);
	job->part_ml = (float2 *)(job->parts + (size_t)n_round * n_parts * (size_t)job->width);
	for (job->tile0 = 0; job->tile0 < n_tiles; job->tile0 += most) {
		const int left = n_tiles - job->tile0;
		run_rounds(q, job, (unsigned)(left < most ? left : most), n_round, split, share, name);
	}
	if (job->prepared == NULL) {
		attention_prepare_rows(q, a);
	}
}

void attention_prepare_rows(bb_queue *q, const struct bb_attention *a) {
	if (a->prepared != NULL) {
		panels_prep(q, a->prepared, BB_Q8_0, a->out, a->ld_out, a->n_rows,
			a->n_heads * a->head_dim);
	}
}
