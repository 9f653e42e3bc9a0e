/* SPDX-License-Identifier: Apache-2.0
 *
 * Keys and values on their way into a device's pages: the order of a slab there, kv_padded
 * (kv_slab.h), and the kernel that appends the rows of a step. */
#include "attention.cuh"
#include "kv_rows.cuh"
#include "matmul_panel.h"
#include "module.h"

#include <assert.h>

enum { APPEND_WARPS = 4 };

struct append_job {
	struct bb_kv_append a;
	struct slab_shape shape;
};

/* A warp turns a head of q in place. */
DEVICE void turn(float *x, const struct source &s) {
	for (int i = (int)threadIdx.x % WARP; i < s.n_pairs; i += WARP) {
		const float a = value_of(s, i), b = value_of(s, i + s.n_pairs);
		x[i] = a;
		x[i + s.n_pairs] = b;
	}
}

/* grid: rows, pieces of kv heads times K and V, then of heads of q to be turned; a warp takes one
 * row of one of them */
__global__ void __launch_bounds__(APPEND_WARPS *WARP)
	kv_append_rows(const __grid_constant__ struct append_job job) {
	const struct bb_kv_append &a = job.a;
	const int item = (int)blockIdx.y * APPEND_WARPS + (int)threadIdx.x / WARP;
	const int head = item / 2, n_kv = 2 * a.n_kv_heads, n_items = n_kv + (a.cs ? a.n_heads : 0);
	const bool is_v = item % 2 != 0;
	const struct found_rows found = find_rows(a.seqs, a.n_seqs, 1, 1, (int)blockIdx.x);
	if (found.seq == NULL || item >= n_items) {
		return;
	}
	const size_t at = (size_t)(found.seq->row0 + found.row0);
	struct source s = { NULL, a.cs ? a.cs + at * a.n_pairs * 2 : NULL, a.head_dim, a.n_pairs };
	if (item >= n_kv) {
		float *q = a.q + at * a.ld + (size_t)(item - n_kv) * a.head_dim;
		s.x = q;
		await_launches();
		turn(q, s);
		return;
	}
	/* the tables of a step's pages are there before its first launch */
	const struct bb_kept *kept = &found.seq->groups[a.kv_heads[head].i_group];
	const int token = kept->n_before + found.row0, page = token / BB_PAGE, slot = token % BB_PAGE;
	uint8_t *slab = page_of(kept->chunks, page) + a.kv_heads[head].slab_offset;
	s.x = (is_v ? a.v : a.k) + at * a.ld + (size_t)head * a.head_dim;
	await_launches();
	s.cs = is_v ? NULL : s.cs;
	store_row(slab, job.shape, job.shape.type, is_v, slot, s);
}

static void append_rows(bb_queue *q, const struct bb_kv_append *a) {
	assert(a->kv_group % 4 == 0);
	const struct append_job job = { *a, slab_shape_of(a->type, a->head_dim, a->kv_group) };
	const int n_items = 2 * a->n_kv_heads + (a->cs != NULL ? a->n_heads : 0);
	if (a->n_rows > 0) {
		const dim3 grid((unsigned)a->n_rows, blocks_for((size_t)n_items, APPEND_WARPS));
		LAUNCH_EARLY(kv_append_rows, grid, APPEND_WARPS * WARP, 0, q->stream, job);
		queue_launched(q, "kv_append_rows");
	}
}

/* ---- the layout ---- */

const struct bb_kv_layout layout_kv_padded = {
	"kv_padded", kv_padded_bytes, kv_padded_append, kv_padded_read, append_rows, true,
	&layout_panels, attention_device_scratch_bytes, kv_padded_copy,
};
