/* SPDX-License-Identifier: Apache-2.0
 *
 * How a block finds its rows in a ragged batch, whose sequences are listed in memory of the device.
 * Owns no kernel. */
#pragma once

#include "../kernels.h"
#include "device.cuh"

#ifndef __grid_constant__
#define __grid_constant__
#endif

/* Rows [row0, row0 + n_rows) of a sequence; seq is NULL when there are none. */
struct found_rows {
	const struct bb_attention_seq *seq;
	int row0, n_rows;
};

/* The i-th group of `per` rows, counting through the sequences; each row counts `times` times (once
 * for each head of a kv head), and a sequence's last group may be smaller. All lanes of a warp call
 * it together. */
DEVICE struct found_rows find_rows(const struct bb_attention_seq *seqs, int n_seqs, int times,
	int per, int i) {
	const int lane = (int)threadIdx.x % WARP;
	int before = 0;
	struct found_rows found = { NULL, 0, 0 };
	for (int base = 0; base < n_seqs; base += WARP) {
		const int n_rows = base + lane < n_seqs ? seqs[base + lane].n_rows * times : 0;
		const int n = (n_rows + per - 1) / per;
		int sum = n;
		for (int d = 1; d < WARP; d *= 2) {
			const int below = __shfl_up_sync(ALL_LANES, sum, d);
			sum += lane >= d ? below : 0;
		}
		const unsigned beyond = __ballot_sync(ALL_LANES, before + sum > i);
		if (beyond != 0) {
			const int who = __ffs(beyond) - 1;
			const int first = before + __shfl_sync(ALL_LANES, sum - n, who);
			found.seq = &seqs[base + who];
			found.row0 = (i - first) * per;
			found.n_rows = min(__shfl_sync(ALL_LANES, n_rows, who) - found.row0, per);
			return found;
		}
		before += __shfl_sync(ALL_LANES, sum, WARP - 1);
	}
	return found;
}
