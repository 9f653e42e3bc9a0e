/* SPDX-License-Identifier: Apache-2.0
 *
 * Attention of what sequences share: a split of up to SHARE_TILES tiles, over one copy of its
 * pages, as attention_split.cuh has it. The sequences' own splits follow in a launch of that
 * kernel, which joins all of them.
 *
 * A page is so read once for 64 rows: the heads of a kv head times sequences. For more there are no
 * registers. The scores of a warp's page, 32 a tile in each thread, wait there until the warps have
 * told each other m, and of the 255 that two blocks leave a thread four tiles take half. */
#pragma once

#include "attention_split.cuh"

enum { SHARE_BLOCKS = 2 }; /* of a multiprocessor */

/* Sets t and *token0 as find_split does, to rows of several sequences: whole ones, so that their
 * heads are in one block. */
DEVICE bool find_share(struct tile *t, const struct attention_job &job, int *token0) {
	if (!find_tile(t, job, job.a.shares, job.a.n_shares, (int)blockIdx.x, job.share_rows,
			(int)blockIdx.y)) {
		return false;
	}
	*token0 = (job.split0 + (int)blockIdx.z) * BB_SPLIT;
	t->first = 0;
	t->end = t->seq->n_shared;
	return *token0 < t->end;
}

/* The end of a block whose partials are stored. Where all splits of the round are shared, nobody
 * comes behind to join them: the block that arrives last does it for its sequences. memory: as for
 * end_split. */
DEVICE void end_share(const struct attention_job &job, const struct tile &t, void *memory) {
	const int n_splits = (int)gridDim.z;
	if (t.end / BB_SPLIT - job.split0 < n_splits || !arrives_last(
			job.arrivals + blockIdx.y * gridDim.x + blockIdx.x, (unsigned)n_splits)) {
		return;
	}
#pragma unroll 1
	for (int r = 0; r < t.n_rows; r += job.heads_per_kv) {
		__syncthreads();
		join_tile(job, tile_of_sequence(job, t, step_row(job, t, r)), (float *)memory, n_splits,
			false);
	}
}

/* grid: tiles of shares, kv heads, splits of the round */
template <enum bb_kv_dtype type>
__global__ void __launch_bounds__(THREADS, SHARE_BLOCKS)
	attention_share(const __grid_constant__ struct attention_job job) {
	DYN_SHARED(uint8_t, bytes);
	struct tile t;
	int token0;
	if (find_share(&t, job, &token0)) {
		run_split<type, SHARE_TILES>(job, t, token0, bytes);
		end_share(job, t, bytes);
	} else if (is_first_block()) {
		await_launches();
	}
}
