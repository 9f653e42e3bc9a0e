/* SPDX-License-Identifier: Apache-2.0
 *
 * What goes before and after the attention kernels that work split by split: the shape of a launch,
 * scratch, and the kernel that joins partials in order. */
#include "attention.cuh"
#include "module.h"

#include <assert.h>

enum { AHEAD = 4 }; /* partials in flight a thread */

static const size_t MAX_SCRATCH = (size_t)64 << 20;

/* Joins the round's splits of one row and head to what the rounds before gave. grid: rows times
 * heads_per_kv, kv heads; thread i has channels i, i + blockDim, ... */
__global__ void __launch_bounds__(BB_SPLIT) attention_join(const __grid_constant__
	struct attention_job job, int n_here) {
	struct tile t;
	if (!find_tile(&t, job, (int)blockIdx.x, 1, (int)blockIdx.y)) {
		return;
	}
	/* splits are counted from the first of the tile */
	const int tile_last = t.kept->n_before + t.row0 / TILE * TILE / job.heads_per_kv;
	const int first = first_seen(job, tile_last) / BB_SPLIT + job.split0;
	const int end = min((t.end - 1) / BB_SPLIT + 1 - first, n_here);
	const size_t n_parts = (size_t)job.a.n_rows * job.a.n_heads, part = part_of(job, t, 0);
	const bool is_last = (t.end - 1) / BB_SPLIT + 1 - first <= n_here;
	if (end <= 0) {
		return;
	}
	float *out = out_of(job, t, 0);
	const int channel = (int)threadIdx.x;
	const bool is_there = channel < job.a.head_dim;
	float2 ml = job.split0 > 0 ? ld_vec(job.running + part) : make_float2(NOTHING, 0);
	float O = job.split0 > 0 && is_there ? out[channel] : 0;
	for (int s = 0; s < end; s += AHEAD) {
		float2 x[AHEAD];
		float o[AHEAD];
#pragma unroll
		for (int i = 0; i < AHEAD; i++) {
			const size_t at = (size_t)min(s + i, end - 1) * n_parts + part;
			x[i] = ld_vec(job.part_ml + at);
			o[i] = is_there ? ld_vec(job.parts + at * job.width + channel) : 0;
		}
#pragma unroll
		for (int i = 0; i < AHEAD; i++) {
			if (s + i < end) {
				float keep, add;
				join(&ml.x, &ml.y, x[i].x, x[i].y, &keep, &add);
				O = join_value(O, keep, o[i], add);
			}
		}
	}
	if (is_there) {
		out[channel] = is_last ? finish(O, ml.y) : O;
	}
	__syncthreads(); /* all have read `running` */
	if (channel == 0 && !is_last) {
		st_vec(job.running + part, ml);
	}
}

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
	job->scale = a->scale * 1.44269504f;
	const int all = (int)(((long long)a->max_kept + BB_SPLIT - 1) / BB_SPLIT);
	/* a tile's rows are at most TILE tokens apart */
	const int seen = a->window > 0 ? (a->window + TILE) / BB_SPLIT + 2 : all;
	job->n_splits = seen < all ? seen : all;
}

/* Scratch: m and l of the rounds before, then the partials of a round. */
static size_t running_bytes(size_t n_parts) {
	return (n_parts * sizeof(float2) + 15) / 16 * 16;
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

void attention_rounds(bb_queue *q, struct attention_job *job, attention_split_fn *split,
	const char *name) {
	const struct bb_attention *a = &job->a;
	const size_t n_parts = (size_t)a->n_rows * (size_t)a->n_heads;
	const size_t before = running_bytes(n_parts), split_bytes = n_parts * partial_bytes(job->width);
	assert(a->scratch_bytes >= before + split_bytes);
	const size_t room = (a->scratch_bytes - before) / split_bytes;
	const int n_round = room < (size_t)job->n_splits ? (int)room : job->n_splits;
	job->running = (float2 *)a->scratch;
	job->parts = (float *)((char *)a->scratch + before);
	job->part_ml = (float2 *)(job->parts + (size_t)n_round * n_parts * (size_t)job->width);
	const unsigned tiles = (unsigned)(a->n_rows * job->heads_per_kv / TILE + a->n_seqs);
	for (; job->split0 < job->n_splits; job->split0 += n_round) {
		const int left = job->n_splits - job->split0, n = left < n_round ? left : n_round;
		split(job, dim3(tiles, (unsigned)a->n_kv_heads, (unsigned)n), q->stream);
		queue_launched(q, name);
		if (job->n_splits > 1) {
			const dim3 grid((unsigned)(a->n_rows * job->heads_per_kv), (unsigned)a->n_kv_heads);
			LAUNCH(attention_join, grid,
				(unsigned)(a->head_dim + WARP - 1) / WARP * WARP, 0, q->stream, *job, n);
			queue_launched(q, "attention_join");
		}
	}
}
