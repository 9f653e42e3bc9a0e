/* SPDX-License-Identifier: Apache-2.0
 *
 * How a block that computed a split of a tile ends: the one that arrives last joins the tile's
 * partials, in the order of the splits, whoever made them when. */
#pragma once

#include "attention.cuh"
#include "math.cuh"
#include "quantise.cuh"

enum {
	AHEAD = 16,    /* partials in flight a thread */
	FACTORS = 128, /* splits whose factors memory of the block has at once */
};

/* Memory of a block for end_split: rows [TILE][width], then factors [TILE][FACTORS]. */
static inline size_t join_bytes(int width) {
	return TILE * ((size_t)width * sizeof(float) + FACTORS * sizeof(float4));
}

/* m and l of a row before this round. */
DEVICE float2 ml_before(const struct attention_job &job, size_t part) {
	return job.split0 > 0 ? ld_vec(job.before + part) : make_float2(NOTHING, 0.0f);
}

/* Factors of the tile's rows for the n splits from s0 on: keep, add, l, and m joined so far. A warp
 * takes a row, a lane each 32nd split; a maximum is the same in any order. */
DEVICE void stage_factors(float4 *factors, const struct attention_job &job, const struct tile &t,
	int s0, int n) {
	const size_t n_parts = (size_t)job.a.n_rows * job.a.n_heads;
	const int lane = (int)threadIdx.x % WARP;
	for (int row = (int)threadIdx.x / WARP; row < t.n_rows; row += WARPS) {
		const size_t part = part_of(job, t, row);
		float4 *to = factors + row * FACTORS;
		float top = s0 > 0 ? to[FACTORS - 1].w : ml_before(job, part).x;
		float2 x[FACTORS / WARP];
#pragma unroll
		for (int i = 0; i < FACTORS / WARP; i++) {
			const int s = i * WARP + lane;
			x[i] = s < n ? ld_vec(job.part_ml + (s0 + s) * n_parts + part)
				: make_float2(NOTHING, 0.0f);
		}
		__syncwarp();
#pragma unroll
		for (int i = 0; i < FACTORS / WARP; i++) {
			float M = x[i].x;
#pragma unroll
			for (int d = 1; d < WARP; d *= 2) {
				const float below = __shfl_up_sync(ALL_LANES, M, d);
				M = lane >= d ? fmaxf(M, below) : M;
			}
			M = fmaxf(M, top);
			const float below = __shfl_up_sync(ALL_LANES, M, 1), before = lane == 0 ? top : below;
			if (i * WARP + lane < n) {
				st_vec(to + i * WARP + lane, make_float4(exp2_approx(before - M),
					exp2_approx(x[i].x - M), x[i].y, M));
			}
			top = __shfl_sync(ALL_LANES, M, WARP - 1);
		}
	}
}

/* AHEAD partials of four channels: the first n, which may be none. */
DEVICE void load_ahead(float4 o[AHEAD], const float *from, size_t stride, int n) {
#pragma unroll
	for (int i = 0; i < AHEAD; i++) {
		o[i] = i < n ? ld_vec((const float4 *)from) : make_float4(0, 0, 0, 0);
		from += stride;
	}
}

/* Joins them to O and ml. factors: of the row, from the first of them on. */
DEVICE void join_ahead(float4 *O, float2 *ml, const float4 o[AHEAD], const float4 *factors, int n) {
#pragma unroll
	for (int i = 0; i < AHEAD; i++) {
		if (i < n) {
			const float4 f = ld_vec(factors + i);
			ml->x = f.w;
			ml->y = fmaf(f.z, f.y, ml->y * f.x);
			O->x = join_value(O->x, f.x, o[i].x, f.y);
			O->y = join_value(O->y, f.x, o[i].y, f.y);
			O->z = join_value(O->z, f.x, o[i].z, f.y);
			O->w = join_value(O->w, f.x, o[i].w, f.y);
		}
	}
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

/* Four channels of a row of a tile: the work of a thread. */
struct join_work {
	bool is_there;
	int row, channel;
	size_t part;
	float2 ml;
	float4 O;
};

/* The i-th work of a tile, with what the rounds before gave. */
DEVICE struct join_work join_work_of(const struct attention_job &job, const struct tile &t, int i,
	bool wide) {
	struct join_work w;
	const int n = job.width / 4;
	w.is_there = i < t.n_rows * n;
	w.row = w.is_there ? i / n : 0;
	w.channel = w.is_there ? i % n * 4 : 0;
	w.part = part_of(job, t, w.row);
	w.ml = ml_before(job, w.part);
	w.O = job.split0 > 0 && w.is_there ? load4(out_of(job, t, w.row) + w.channel,
		job.a.head_dim - w.channel, wide) : make_float4(0, 0, 0, 0);
	return w;
}

/* Joins the round's splits in order. The first partials are on their way while factors are made.
 * All threads of the block call it; has_factors: those of the call before are this tile's. */
DEVICE void join_round(struct join_work *w, const struct attention_job &job, const struct tile &t,
	float4 *factors, int n_splits, bool has_factors) {
	const size_t stride = (size_t)job.a.n_rows * job.a.n_heads * job.width;
	const float *from = job.parts + w->part * job.width + w->channel;
	const int n_mine = w->is_there ? n_splits : 0;
	float4 o[AHEAD];
	load_ahead(o, from, stride, n_mine);
	for (int s0 = 0; s0 < n_splits; s0 += FACTORS) {
		const int n = min(n_splits - s0, (int)FACTORS);
		if (!has_factors || n_splits > FACTORS) {
			__syncthreads();
			stage_factors(factors, job, t, s0, n);
			__syncthreads();
		}
#pragma unroll 1
		for (int s = s0; s < s0 + n && w->is_there; s += AHEAD) {
			join_ahead(&w->O, &w->ml, o, factors + w->row * FACTORS + s - s0, n_splits - s);
			load_ahead(o, from + (s + AHEAD) * stride, stride, n_mine - s - AHEAD);
		}
	}
}

/* Stores a work's result, or what the next round joins to. */
DEVICE void store_work(struct join_work *w, const struct attention_job &job, const struct tile &t,
	float *rows, bool is_done, bool wide) {
	const int here = job.a.head_dim - w->channel;
	float *out = out_of(job, t, w->row) + w->channel;
	if (!is_done) {
		store4(out, w->O, here, wide);
		if (w->channel == 0) {
			st_vec(job.after + w->part, w->ml);
		}
		return;
	}
	const float keep = join_sink(job, head_of(job, t, w->row), &w->ml);
	const float4 O = make_float4(finish(w->O.x * keep, w->ml.y), finish(w->O.y * keep, w->ml.y),
		finish(w->O.z * keep, w->ml.y), finish(w->O.w * keep, w->ml.y));
	if (job.prepared != NULL) {
		st_vec((float4 *)(rows + w->row * job.width + w->channel), O);
	} else {
		store4(out, O, here, wide);
	}
}

/* Joins the round's splits of a tile, whose partials are there. */
DEVICE void join_tile(const struct attention_job &job, const struct tile &t, float *rows,
	int n_splits, bool is_done) {
	const int n_works = t.n_rows * job.width / 4;
	const bool wide = rows_are_wide(job.a.out, job.a.ld_out, job.a.head_dim);
	float4 *factors = (float4 *)(rows + TILE * job.width);
#pragma unroll 1
	for (int i = 0; i < n_works; i += THREADS) {
		struct join_work w = join_work_of(job, t, i + (int)threadIdx.x, wide);
		join_round(&w, job, t, factors, n_splits, i > 0);
		if (w.is_there) {
			store_work(&w, job, t, rows, is_done, wide);
		}
	}
	if (is_done && job.prepared != NULL) {
		__syncthreads();
		prepare_rows(job, t, rows);
	}
}

/* For the end of a split of a tile whose partials are stored; count: the tile's. */
DEVICE void join_splits(const struct attention_job &job, const struct tile &t, unsigned *count,
	float *rows) {
	const int left = (t.end - 1) / BB_SPLIT + 1 - (t.first / BB_SPLIT + job.split0);
	const int n_splits = min(left, (int)gridDim.z);
	/* what a launch before has made is not counted */
	const int n_made = job.n_wide > 0 ? max(t.seq->n_shared / BB_SPLIT - job.split0, 0) : 0;
	if (arrives_last(count, (unsigned)(n_splits - n_made))) {
		join_tile(job, t, rows, n_splits, left == n_splits);
	}
}

/* The tile of a kv head that is sequence i's, the only one: one row of no more than TILE heads. */
DEVICE struct tile tile_of_sequence(const struct attention_job &job, const struct tile &share,
	int i) {
	struct tile own = share;
	own.seq = &job.a.seqs[i];
	own.kept = &own.seq->groups[job.a.kv_heads[own.kv_head].i_group];
	own.row0 = 0;
	own.n_rows = job.heads_per_kv;
	own.end = own.kept->n_before + 1;
	return own;
}

/* All threads of a block of a split call it when they have stored its partials. memory: join_bytes
 * of the block, which nobody uses any more. */
DEVICE void end_split(const struct attention_job &job, const struct tile &t, void *memory) {
	float *rows = (float *)memory;
	const int n_tiles = (int)gridDim.x - job.n_share_tiles;
	unsigned *counts = job.arrivals + blockIdx.y * n_tiles;
	/* of a shared tile: the tiles of the sequences whose rows these are, one each, counted as they
	 * are */
	const int step = t.is_shared ? job.heads_per_kv : TILE;
#pragma unroll 1
	for (int r = 0; r < t.n_rows; r += step) {
		int i = (int)blockIdx.x - job.n_share_tiles;
		struct tile own = t;
		if (t.is_shared) {
			i = step_row(job, t, r);
			own = tile_of_sequence(job, t, i);
		}
		join_splits(job, own, counts + i, rows);
	}
}
