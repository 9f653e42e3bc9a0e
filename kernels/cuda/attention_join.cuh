/* SPDX-License-Identifier: Apache-2.0
 *
 * How a block that computed a split of a tile ends: the one that arrives last joins the tile's
 * partials, in the order of the splits, whoever made them when. */
#pragma once

#include "attention.cuh"
#include "math.cuh"
#include "quantise.cuh"

enum { AHEAD = 4 }; /* partials in flight a thread */

/* Four channels of a row: what the rounds before gave, joined by this round's splits in order. */
DEVICE float4 join_row(const struct attention_job &job, size_t part, int channel, int n_splits,
	float4 O, float2 *ml) {
	const size_t n_parts = (size_t)job.a.n_rows * job.a.n_heads;
	for (int s = 0; s < n_splits; s += AHEAD) {
		float2 x[AHEAD];
		float4 o[AHEAD];
#pragma unroll
		for (int i = 0; i < AHEAD; i++) {
			const size_t at = (size_t)min(s + i, n_splits - 1) * n_parts + part;
			x[i] = ld_vec(job.part_ml + at);
			o[i] = ld_vec((const float4 *)(job.parts + at * job.width + channel));
		}
#pragma unroll
		for (int i = 0; i < AHEAD; i++) {
			if (s + i < n_splits) {
				float keep, add;
				join(&ml->x, &ml->y, x[i].x, x[i].y, &keep, &add);
				O.x = join_value(O.x, keep, o[i].x, add);
				O.y = join_value(O.y, keep, o[i].y, add);
				O.z = join_value(O.z, keep, o[i].z, add);
				O.w = join_value(O.w, keep, o[i].w, add);
			}
		}
	}
	return O;
}

/* The rows [n_rows][width] of a tile to their places in the prepared x of the next product. */
DEVICE void prepare_rows(const struct attention_job &job, const struct tile &t, const float *rows) {
	const int lane = (int)threadIdx.x % WARP, per = job.a.head_dim / 32;
	const int k = job.a.n_heads * job.a.head_dim;
	for (int i = (int)threadIdx.x / WARP; i < t.n_rows * per; i += WARPS) {
		const int row = i / per, b = i % per, block = head_of(job, t, row) * per + b;
		uint8_t *to = job.prepared + (size_t)step_row(job, t, row) * job.prepared_bytes;
		put_block(to, k, block, rows[row * job.width + 32 * b + lane]);
		if (block == k / 32 - 1 && lane == 0) {
			put_end(to, k);
		}
	}
}

/* For the end of a split of a tile whose partials are stored; count: the tile's. */
DEVICE void join_splits(const struct attention_job &job, const struct tile &t, unsigned *count,
	float *rows) {
	const int left = (t.end - 1) / BB_SPLIT + 1 - (t.first / BB_SPLIT + job.split0);
	const int n_splits = min(left, (int)gridDim.z), n = job.width / 4;
	const bool is_done = left == n_splits;
	if (!arrives_last(count, (unsigned)n_splits)) {
		return;
	}
	for (int i = (int)threadIdx.x; i < t.n_rows * n; i += THREADS) {
		const int row = i / n, channel = i % n * 4, here = job.a.head_dim - channel;
		const size_t part = part_of(job, t, row);
		float *out = out_of(job, t, row) + channel;
		float2 ml = make_float2(NOTHING, 0);
		float4 O = make_float4(0, 0, 0, 0);
		if (job.split0 > 0) {
			ml = ld_vec(job.before + part);
			O = load4(out, here, false);
		}
		O = join_row(job, part, channel, n_splits, O, &ml);
		if (!is_done) {
			store4(out, O, here, false);
			if (channel == 0) {
				st_vec(job.after + part, ml);
			}
			continue;
		}
		const float keep = join_sink(job, head_of(job, t, row), &ml);
		O = make_float4(finish(O.x * keep, ml.y), finish(O.y * keep, ml.y),
			finish(O.z * keep, ml.y), finish(O.w * keep, ml.y));
		if (job.prepared != NULL) {
			st_vec((float4 *)(rows + row * job.width + channel), O);
		} else {
			store4(out, O, here, false);
		}
	}
	if (is_done && job.prepared != NULL) {
		__syncthreads();
		prepare_rows(job, t, rows);
	}
}

/* All threads of a block of a split call it when they have stored its partials. rows: memory of the
 * block for TILE rows, which nobody uses any more. */
DEVICE void end_split(const struct attention_job &job, const struct tile &t, float *rows) {
	const int n_tiles = (int)gridDim.x - job.n_share_tiles;
	unsigned *counts = job.arrivals + blockIdx.y * n_tiles;
	if (!t.is_shared) {
		join_splits(job, t, counts + blockIdx.x - job.n_share_tiles, rows);
		return;
	}
	/* the tiles of the sequences whose rows these are: one each, counted as they are */
	for (int r = 0; r < t.n_rows; r += job.heads_per_kv) {
		const int i = step_row(job, t, r);
		struct tile own = t;
		own.seq = &job.a.seqs[i];
		own.kept = &own.seq->groups[job.a.kv_heads[t.kv_head].i_group];
		own.row0 = 0;
		own.n_rows = job.heads_per_kv;
		own.end = own.kept->n_before + 1;
		join_splits(job, own, counts + i, rows);
	}
}
