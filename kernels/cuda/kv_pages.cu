/* SPDX-License-Identifier: Apache-2.0
 *
 * What is done to a device's pages when a context is forked or compressed: copying, rewriting as
 * another KV type, gathering what is kept, turning K to new positions. A row is stored as
 * kv_append_rows stores it, by the same words (kv_rows.cuh). */
#include "kv_rows.cuh"
#include "module.h"

#include <assert.h>

/* A warp that takes rows apart has four, whose loads are under way together. */
enum { THREADS = 128, WARPS = THREADS / WARP, ROWS = 4 };

/* Launches what takes rows apart, with the shared memory for it. */
#define LAUNCH_ROWS(kernel, type, grid, width, stream, job)                                        \
	LAUNCH((kernel<type>), grid, THREADS, WARPS * apart_bytes<type>(ROWS, width), stream, job)

/* ---- kv_copy ---- */

/* Pieces of 16 bytes that a thread has under way, and a block copies. */
enum { IN_FLIGHT = 4, BLOCK_PIECES = THREADS * IN_FLIGHT };

/* A block's pieces [0, n) of 16 bytes, at most BLOCK_PIECES of them. */
DEVICE void copy_pieces(uint4 *to, const uint4 *from, int n) {
	uint4 w[IN_FLIGHT];
#pragma unroll
	for (int k = 0; k < IN_FLIGHT; k++) { /* beyond the last one that one again */
		w[k] = ld_nc(from + min(k * THREADS + (int)threadIdx.x, n - 1));
	}
#pragma unroll
	for (int k = 0; k < IN_FLIGHT; k++) {
		const int i = k * THREADS + (int)threadIdx.x;
		if (i < n) {
			st_vec(to + i, w[k]);
		}
	}
}

/* grid: blocks of a page, one page after the other */
__global__ void __launch_bounds__(THREADS) kv_copy_kernel(void *const *to, void *const *from,
	unsigned per_page, size_t n_pieces) {
	const unsigned i = blockIdx.x / per_page;
	const size_t first = (size_t)(blockIdx.x % per_page) * BLOCK_PIECES;
	const size_t rest = n_pieces - first;
	copy_pieces((uint4 *)to[i] + first, (const uint4 *)from[i] + first,
		rest < BLOCK_PIECES ? (int)rest : (int)BLOCK_PIECES);
}

extern "C" void kv_copy_sm80(bb_queue *q, void *const *to, void *const *from, int n,
	size_t bytes) {
	const unsigned per_page = blocks_for(bytes / 16, BLOCK_PIECES);
	assert(bytes % 16 == 0);
	if (n == 0 || bytes == 0) {
		return;
	}
	LAUNCH(kv_copy_kernel, (unsigned)n * per_page, THREADS, 0, q->stream, to, from, per_page,
		bytes / 16);
	queue_launched(q, "kv_copy");
}

/* ---- kv_quantise ---- */

struct quantise_job {
	const struct bb_kv_slab *slabs;
	struct slab_shape to, from;
};

enum { PLANE_BLOCKS = BB_PAGE / (WARPS * ROWS) };

/* grid: blocks of K, then of V of a slab, one slab after the other */
template <enum bb_kv_dtype from>
__global__ void __launch_bounds__(THREADS)
	kv_quantise_kernel(const __grid_constant__ struct quantise_job job) {
	DYN_SHARED(float, all_rows);
	const int warp = (int)threadIdx.x / WARP, part = (int)blockIdx.x % (2 * PLANE_BLOCKS);
	const struct bb_kv_slab &slab = job.slabs[blockIdx.x / (2 * PLANE_BLOCKS)];
	const bool is_v = part >= PLANE_BLOCKS;
	const int slot = (part % PLANE_BLOCKS * WARPS + warp) * ROWS;
	const int n = min(slab.n_tokens - slot, (int)ROWS), width = job.from.width;
	if (n <= 0) {
		return; /* a whole warp */
	}
	float *rows = all_rows + warp * (apart_bytes<from>(ROWS, width) / 4);
	take_apart<from>(rows, ROWS, stored_rows_of((const uint8_t *)slab.from, job.from, is_v), slot,
		n);
	__syncwarp();
	for (int i = 0; i < n; i++) {
		const struct source x = { rows + i * width, NULL, job.to.head_dim, 0 };
		store_row((uint8_t *)slab.to, job.to, job.to.type, is_v, slot + i, x);
	}
}

extern "C" void kv_quantise_sm80(bb_queue *q, const struct bb_kv_quantise *a) {
	const struct quantise_job job = { a->slabs, slab_shape_of(a->to, a->head_dim, a->kv_group),
		slab_shape_of(a->from, a->head_dim, 0) };
	const unsigned grid = (unsigned)a->n_slabs * 2 * PLANE_BLOCKS;
	assert(a->from != KV_INT8 && a->kv_group % 4 == 0);
	if (grid == 0) {
		return;
	}
	if (a->from == KV_F32) {
		LAUNCH_ROWS(kv_quantise_kernel, KV_F32, grid, job.from.width, q->stream, job);
	} else if (a->from == KV_F16) {
		LAUNCH_ROWS(kv_quantise_kernel, KV_F16, grid, job.from.width, q->stream, job);
	} else {
		LAUNCH_ROWS(kv_quantise_kernel, KV_BF16, grid, job.from.width, q->stream, job);
	}
	queue_launched(q, "kv_quantise");
}

/* ---- kv_compact ---- */

struct compact_job {
	struct bb_kv_runs a;
	const struct bb_kv_source *from;
	const size_t *from_offsets;
	struct slab_shape shape;
	int row_pieces; /* of 16 bytes */
};

/* Where the rows of a page come from. */
struct gathered {
	const uint8_t *slabs[BB_PAGE];
	int slots[BB_PAGE];
};

/* Rows [0, n) of a plane at `plane` bytes from its slab, to slots from `slot` on. */
DEVICE void gather_rows(uint8_t *slab, const struct gathered &from, size_t plane, int slot, int n,
	int row_pieces) {
	uint4 *to = (uint4 *)(slab + plane) + slot * row_pieces;
	const int n_pieces = n * row_pieces;
	for (int first = (int)threadIdx.x; first < n_pieces; first += BLOCK_PIECES) {
		uint4 w[IN_FLIGHT];
#pragma unroll
		for (int k = 0; k < IN_FLIGHT; k++) { /* beyond the last one that one again */
			const int i = min(first + k * THREADS, n_pieces - 1), row = i / row_pieces;
			w[k] = ld_nc((const uint4 *)(from.slabs[row] + plane) + from.slots[row] * row_pieces
				+ i % row_pieces);
		}
#pragma unroll
		for (int k = 0; k < IN_FLIGHT; k++) {
			const int i = first + k * THREADS;
			if (i < n_pieces) {
				st_vec(to + i, w[k]);
			}
		}
	}
}

/* The same of scales [64][n_groups] at `scales` bytes from a slab. */
DEVICE void gather_scales(uint8_t *slab, const struct gathered &from, size_t scales, int slot,
	int n, int n_groups) {
	uint32_t *to = (uint32_t *)(slab + scales) + slot * n_groups;
	for (int i = (int)threadIdx.x; i < n * n_groups; i += THREADS) {
		const int row = i / n_groups;
		to[i] = ld_nc((const uint32_t *)(from.slabs[row] + scales) + from.slots[row] * n_groups
			+ i % n_groups);
	}
}

/* grid: pages that are written, kv heads, sequences */
__global__ void __launch_bounds__(THREADS)
	kv_compact_kernel(const __grid_constant__ struct compact_job job) {
	SHARED(struct gathered, from, [1]);
	const struct bb_kv_runs &a = job.a;
	const struct bb_kv_head &head = a.kv_heads[blockIdx.y];
	const int i_run = (int)blockIdx.z * a.n_groups + head.i_group, t = (int)threadIdx.x;
	const struct bb_kv_run &run = a.runs[i_run];
	const struct bb_kv_source &source = job.from[i_run];
	const int n_before = run.kept.n_before, i_page = n_before / BB_PAGE + (int)blockIdx.x;
	const int begin = max(i_page * BB_PAGE, n_before);
	const int n = min((i_page + 1) * BB_PAGE, n_before + run.n_tokens) - begin;
	if (n <= 0) {
		return; /* the whole block */
	}
	if (t < n) {
		const int i = begin - n_before + t, old = source.tokens != NULL ? source.tokens[i] : i;
		from->slabs[t] = page_of(source.chunks, old / BB_PAGE) + job.from_offsets[blockIdx.y];
		from->slots[t] = old % BB_PAGE;
	}
	__syncthreads();
	uint8_t *slab = page_of(run.kept.chunks, i_page) + head.slab_offset;
	const struct slab_shape &shape = job.shape;
	const int slot = begin % BB_PAGE;
#pragma unroll 1
	for (int i = 0; i < 2; i++) { /* both at once would spill */
		gather_rows(slab, *from, i == 0 ? 0 : shape.k_bytes, slot, n, job.row_pieces);
	}
	if (shape.type == KV_INT8) {
		gather_scales(slab, *from, shape.k_scales, slot, n, shape.n_groups);
		gather_scales(slab, *from, (size_t)shape.k_bytes + shape.v_scales, slot, n, 1);
	}
}

extern "C" void kv_compact_sm80(bb_queue *q, const struct bb_kv_runs *to,
	const struct bb_kv_source *from, const size_t *from_offsets) {
	struct compact_job job = { *to, from, from_offsets,
		slab_shape_of(to->type, to->head_dim, to->kv_group), 0 };
	job.row_pieces = job.shape.width * kv_elem_bytes(to->type) / 16;
	if (is_empty(to)) {
		return;
	}
	LAUNCH(kv_compact_kernel, dim3(max_pages(to->max_tokens), (unsigned)to->n_kv_heads,
		(unsigned)to->n_seqs), THREADS, 0, q->stream, job);
	queue_launched(q, "kv_compact");
}

/* ---- kv_rerotate ---- */

struct rerotate_job {
	struct bb_kv_runs a;
	const float *cs;
	int n_pairs;
	struct slab_shape shape;
};

/* A warp turns a row by cs [n_pairs, 2] as rope_kernel does it. */
DEVICE void turn_row(float *x, const float *cs, int n_pairs) {
	for (int i = (int)threadIdx.x % WARP; i < n_pairs; i += WARP) {
		const float a = x[i], b = x[i + n_pairs], c = cs[2 * i], s = cs[2 * i + 1];
		x[i] = fmaf(a, c, -(b * s));
		x[i + n_pairs] = fmaf(a, s, b * c);
	}
}

/* grid: rows of K, ROWS a warp, kv heads, sequences */
template <enum bb_kv_dtype type>
__global__ void __launch_bounds__(THREADS)
	kv_rerotate_kernel(const __grid_constant__ struct rerotate_job job) {
	DYN_SHARED(float, all_rows);
	const struct bb_kv_runs &a = job.a;
	const struct bb_kv_head &head = a.kv_heads[blockIdx.y];
	const struct bb_kv_run &run = a.runs[(int)blockIdx.z * a.n_groups + head.i_group];
	const int warp = (int)threadIdx.x / WARP, width = job.shape.width;
	const int n_before = run.kept.n_before;
	const int first = (n_before / ROWS + (int)blockIdx.x * WARPS + warp) * ROWS;
	const int begin = max(first, n_before);
	const int n = min(first + (int)ROWS, n_before + run.n_tokens) - begin;
	if (n <= 0) {
		return; /* a whole warp */
	}
	float *rows = all_rows + warp * (apart_bytes<type>(ROWS, width) / 4);
	uint8_t *slab = page_of(run.kept.chunks, begin / BB_PAGE) + head.slab_offset;
	take_apart<type>(rows, ROWS, stored_rows_of(slab, job.shape, false), begin % BB_PAGE, n);
	__syncwarp();
	const float *cs = job.cs + (size_t)(run.row0 + begin - n_before) * job.n_pairs * 2;
	for (int i = 0; i < n; i++) {
		turn_row(rows + i * width, cs + (size_t)i * job.n_pairs * 2, job.n_pairs);
	}
	__syncwarp();
	for (int i = 0; i < n; i++) {
		const struct source x = { rows + i * width, NULL, a.head_dim, 0 };
		store_row(slab, job.shape, type, false, begin % BB_PAGE + i, x);
	}
}

extern "C" void kv_rerotate_sm80(bb_queue *q, const struct bb_kv_runs *a, const float *cs,
	int n_pairs) {
	const struct rerotate_job job = { *a, cs, n_pairs,
		slab_shape_of(a->type, a->head_dim, a->kv_group) };
	/* a run may begin inside of ROWS */
	const unsigned blocks = blocks_for((size_t)a->max_tokens + ROWS - 1, ROWS * WARPS);
	const dim3 grid(blocks, (unsigned)a->n_kv_heads, (unsigned)a->n_seqs);
	assert(2 * n_pairs <= a->head_dim && a->kv_group % 4 == 0);
	if (is_empty(a)) {
		return;
	}
	switch (a->type) {
	case KV_F32:
		LAUNCH_ROWS(kv_rerotate_kernel, KV_F32, grid, job.shape.width, q->stream, job);
		break;
	case KV_F16:
		LAUNCH_ROWS(kv_rerotate_kernel, KV_F16, grid, job.shape.width, q->stream, job);
		break;
	case KV_BF16:
		LAUNCH_ROWS(kv_rerotate_kernel, KV_BF16, grid, job.shape.width, q->stream, job);
		break;
	case KV_INT8:
		LAUNCH_ROWS(kv_rerotate_kernel, KV_INT8, grid, job.shape.width, q->stream, job);
		break;
	}
	queue_launched(q, "kv_rerotate");
}
