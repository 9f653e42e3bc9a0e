/* SPDX-License-Identifier: Apache-2.0
 *
 * What says of K and V in a device's pages how much they matter: bounds of pages, what a page can
 * give a query, norms of tokens. Bounds are found by comparing whole numbers, in any order. Sums
 * have a tree that depends on head_dim and the type alone: lane l takes pieces l, l + 32, ... of a
 * row in order, lanes are joined by xor 16, 8, 4, 2, 1. A piece is 16 bytes of f32 of the bounds,
 * or of what is stored. */
#include "fused.cuh"
#include "kv_rows.cuh"
#include "module.h"

#include <assert.h>

enum { THREADS = 128, WARPS = THREADS / WARP, MAX_WIDTH = 512, ROWS = 4 };

DEVICE float ordered(float score) {
	return score != score ? INFINITY : score;
}

/* The page of a run for block or warp i; n_slots is 0 where there is none. */
struct run_page {
	uint8_t *page;
	int i, n_slots; /* slots up to the run's end */
};

DEVICE struct run_page run_page_of(const struct bb_kv_run &run, int i) {
	struct run_page p = { NULL, run.kept.n_before / BB_PAGE + i, 0 };
	const int end = run.kept.n_before + run.n_tokens;
	if (run.n_tokens > 0 && p.i * BB_PAGE < end) {
		p.page = page_of(run.kept.chunks, p.i);
		p.n_slots = min(end - p.i * BB_PAGE, (int)BB_PAGE);
	}
	return p;
}

/* ---- kv_bounds ---- */

#define QUIET_NAN 0x7fc00000u

/* Numbers in the order of floats: -inf ... +inf, then the one NaN. */
DEVICE int key_of(float x) {
	const int bits = x != x ? (int)QUIET_NAN : __float_as_int(x + 0.0f); /* -0 to +0 */
	return bits ^ (bits >> 31 & 0x7fffffff);
}

DEVICE float float_of_key(int key) {
	return __int_as_float(key ^ (key >> 31 & 0x7fffffff));
}

struct bounds_job {
	struct bb_kv_runs a;
	const size_t *bounds;
	struct slab_shape shape;
};

/* least, largest: keys of the channels of a piece so far. */
template <int n> DEVICE void widen_keys(int *least, int *largest, const float4 *x) {
#pragma unroll
	for (int k = 0; k < n / 4; k++) {
		const int keys[4] = { key_of(x[k].x), key_of(x[k].y), key_of(x[k].z), key_of(x[k].w) };
#pragma unroll
		for (int j = 0; j < 4; j++) {
			least[4 * k + j] = min(least[4 * k + j], keys[j]);
			largest[4 * k + j] = max(largest[4 * k + j], keys[j]);
		}
	}
}

/* grid: pages, kv heads, sequences; a thread takes one piece of every so many rows */
template <enum bb_kv_dtype type>
__global__ void __launch_bounds__(THREADS)
	kv_bounds_kernel(const __grid_constant__ struct bounds_job job) {
	enum { PER = per_piece<type>() };
	SHARED(int, least, [MAX_WIDTH]);
	SHARED(int, largest, [MAX_WIDTH]);
	const struct bb_kv_runs &a = job.a;
	const struct bb_kv_head &head = a.kv_heads[blockIdx.y];
	const struct bb_kv_run &run = a.runs[(int)blockIdx.z * a.n_groups + head.i_group];
	const struct run_page page = run_page_of(run, (int)blockIdx.x);
	const int t = (int)threadIdx.x, width = job.shape.width;
	if (page.n_slots == 0) {
		return; /* the whole block */
	}
	for (int d = t; d < width; d += THREADS) {
		least[d] = INT32_MAX;
		largest[d] = INT32_MIN;
	}
	__syncthreads();
	const int per_row = width / PER, together = THREADS / per_row, piece = t % per_row;
	if (t / per_row < together && t / per_row < page.n_slots) {
		const struct stored_rows rows = stored_rows_of(page.page + head.slab_offset, job.shape,
			false);
		int low[PER], high[PER];
#pragma unroll
		for (int k = 0; k < PER; k++) {
			low[k] = INT32_MAX;
			high[k] = INT32_MIN;
		}
		for (int slot = t / per_row; slot < page.n_slots; slot += together) {
			float4 x[PER / 4];
			load_piece<type>(x, rows, slot, piece);
			widen_keys<PER>(low, high, x);
		}
#pragma unroll
		for (int k = 0; k < PER; k++) {
			atomicMin(&least[k * per_row + piece], low[k]); /* lanes side by side */
			atomicMax(&largest[k * per_row + piece], high[k]);
		}
	}
	__syncthreads();
	float *bounds = (float *)(page.page + job.bounds[blockIdx.y]);
	for (int d = t; d < width; d += THREADS) {
		const int at = d % PER * per_row + d / PER;
		const float high = float_of_key(largest[at]);
		const bool is_padding = d >= a.head_dim;
		bounds[d] = is_padding ? 0.0f : high != high ? high : float_of_key(least[at]);
		bounds[width + d] = is_padding ? 0.0f : high;
	}
}

extern "C" void kv_bounds_sm80(bb_queue *q, const struct bb_kv_runs *a, const size_t *bounds) {
	const struct bounds_job job = { *a, bounds, slab_shape_of(a->type, a->head_dim, a->kv_group) };
	const dim3 grid(max_pages(a->max_tokens), (unsigned)a->n_kv_heads, (unsigned)a->n_seqs);
	assert(a->head_dim <= MAX_WIDTH);
	if (is_empty(a)) {
		return;
	}
	switch (a->type) {
	case KV_F32:
		LAUNCH((kv_bounds_kernel<KV_F32>), grid, THREADS, 0, q->stream, job);
		break;
	case KV_F16:
		LAUNCH((kv_bounds_kernel<KV_F16>), grid, THREADS, 0, q->stream, job);
		break;
	case KV_BF16:
		LAUNCH((kv_bounds_kernel<KV_BF16>), grid, THREADS, 0, q->stream, job);
		break;
	case KV_INT8:
		LAUNCH((kv_bounds_kernel<KV_INT8>), grid, THREADS, 0, q->stream, job);
		break;
	}
	queue_launched(q, "kv_bounds");
}

/* ---- kv_score ---- */

struct score_job {
	struct bb_kv_query s;
	struct bb_kv_runs a;
	const size_t *bounds;
	int width, per_kv;
	bool wide; /* the queries */
};

DEVICE float larger_product(float q, float least, float largest) {
	const float a = q * least, b = q * largest;
	return a > b || a != a ? a : b;
}

/* What a lane has of a page's bounds: four channels of every 128. */
enum { BOUND_PIECES = MAX_WIDTH / (4 * WARP) };

/* What the warp's page can give a query of n channels. */
DEVICE float page_score(const float4 *least, const float4 *largest, const float *query, int n,
	bool wide) {
	float sum = 0.0f;
#pragma unroll
	for (int k = 0; k < BOUND_PIECES; k++) {
		const int d = 4 * (k * WARP + (int)threadIdx.x % WARP);
		if (d < n) {
			const float4 q = load4(query + d, n - d, wide);
			sum += larger_product(q.x, least[k].x, largest[k].x);
			sum += larger_product(q.y, least[k].y, largest[k].y);
			sum += larger_product(q.z, least[k].z, largest[k].z);
			sum += larger_product(q.w, least[k].w, largest[k].w);
		}
	}
	return ordered(warp_sum(sum));
}

/* grid: pages, one a warp, kv heads, sequences */
__global__ void __launch_bounds__(THREADS)
	kv_score_kernel(const __grid_constant__ struct score_job job) {
	const struct bb_kv_runs &a = job.a;
	const struct bb_kv_query &s = job.s;
	const int h = (int)blockIdx.y, i_seq = (int)blockIdx.z, lane = (int)threadIdx.x % WARP;
	const struct bb_kv_run &run = a.runs[i_seq * a.n_groups + a.kv_heads[h].i_group];
	const struct run_page page = run_page_of(run,
		(int)blockIdx.x * WARPS + (int)threadIdx.x / WARP);
	if (page.n_slots == 0) {
		return; /* a whole warp */
	}
	const float *bounds = (const float *)(page.page + job.bounds[h]);
	float4 least[BOUND_PIECES], largest[BOUND_PIECES];
#pragma unroll
	for (int k = 0; k < BOUND_PIECES; k++) {
		const int d = 4 * (k * WARP + lane);
		if (d < job.width) {
			least[k] = ld_nc((const float4 *)(bounds + d));
			largest[k] = ld_nc((const float4 *)(bounds + job.width + d));
		}
	}
	const int row = s.rows != NULL ? s.rows[i_seq] : i_seq;
	const float *query = s.queries + (size_t)row * s.ld_q + (size_t)h * job.per_kv * a.head_dim;
	float most = -INFINITY;
	for (int j = 0; j < job.per_kv; j++) {
		most = fmaxf(most, page_score(least, largest, query + (size_t)j * a.head_dim, a.head_dim,
			job.wide));
	}
	if (lane == 0) {
		s.scores[((size_t)i_seq * a.n_kv_heads + h) * s.ld_scores + page.i] = most;
	}
}

extern "C" void kv_score_sm80(bb_queue *q, const struct bb_kv_query *s, const struct bb_kv_runs *a,
	const size_t *bounds) {
	const struct score_job job = { *s, *a, bounds, kv_vd(a->head_dim),
		a->n_kv_heads > 0 ? s->n_heads / a->n_kv_heads : 0,
		is_wide(s->queries, s->ld_q) && a->head_dim % 4 == 0 };
	assert(a->head_dim <= MAX_WIDTH);
	if (is_empty(a)) {
		return;
	}
	const unsigned blocks = blocks_for(max_pages(a->max_tokens), WARPS);
	LAUNCH(kv_score_kernel, dim3(blocks, (unsigned)a->n_kv_heads, (unsigned)a->n_seqs), THREADS, 0,
		q->stream, job);
	queue_launched(q, "kv_score");
}

/* ---- kv_norms ---- */

struct norms_job {
	struct bb_kv_runs a;
	float *norms[2]; /* of K, of V: [n_kv_heads, ld] or NULL */
	int ld;
	struct slab_shape shape;
};

/* A lane's sums of squares of rows [slot, slot + n), whose loads are under way together. */
template <enum bb_kv_dtype type> DEVICE void squares_of(float sums[ROWS],
	const struct stored_rows &rows, int slot, int n) {
	enum { PER = per_piece<type>() };
#pragma unroll
	for (int r = 0; r < ROWS; r++) {
		sums[r] = 0.0f;
	}
	for (int i = (int)threadIdx.x % WARP; i < rows.width / PER; i += WARP) {
#pragma unroll
		for (int r = 0; r < ROWS; r++) {
			if (r < n) {
				float4 x[PER / 4];
				load_piece<type>(x, rows, slot + r, i);
#pragma unroll
				for (int k = 0; k < PER / 4; k++) {
					sums[r] = add_squares(sums[r], x[k]);
				}
			}
		}
	}
}

/* grid: rows, ROWS a warp, kv heads times K and V, sequences */
template <enum bb_kv_dtype type>
__global__ void __launch_bounds__(THREADS)
	kv_norms_kernel(const __grid_constant__ struct norms_job job) {
	const struct bb_kv_runs &a = job.a;
	const int h = (int)blockIdx.y / 2, lane = (int)threadIdx.x % WARP;
	const bool is_v = blockIdx.y % 2 != 0;
	const struct bb_kv_head &head = a.kv_heads[h];
	const struct bb_kv_run &run = a.runs[(int)blockIdx.z * a.n_groups + head.i_group];
	const int n_before = run.kept.n_before;
	const int first = (n_before / ROWS + (int)blockIdx.x * WARPS + (int)threadIdx.x / WARP) * ROWS;
	const int begin = max(first, n_before);
	const int n = min(first + (int)ROWS, n_before + run.n_tokens) - begin;
	float *norms = job.norms[is_v];
	if (n <= 0 || norms == NULL) {
		return; /* a whole warp */
	}
	const uint8_t *slab = page_of(run.kept.chunks, begin / BB_PAGE) + head.slab_offset;
	const struct stored_rows rows = stored_rows_of(slab, job.shape, is_v);
	float sums[ROWS];
	squares_of<type>(sums, rows, begin % BB_PAGE, n);
#pragma unroll
	for (int i = 0; i < ROWS; i++) {
		const float norm = ordered(sqrtf(warp_sum(sums[i])));
		if (lane == 0 && i < n) {
			norms[(size_t)h * job.ld + (size_t)(run.row0 + begin - n_before + i)] = norm;
		}
	}
}

extern "C" void kv_norms_sm80(bb_queue *q, float *k_norms, float *v_norms, int ld,
	const struct bb_kv_runs *a) {
	const struct norms_job job = { *a, { k_norms, v_norms }, ld,
		slab_shape_of(a->type, a->head_dim, a->kv_group) };
	/* a run may begin inside of ROWS */
	const unsigned blocks = blocks_for((size_t)a->max_tokens + ROWS - 1, ROWS * WARPS);
	const dim3 grid(blocks, 2 * (unsigned)a->n_kv_heads, (unsigned)a->n_seqs);
	if (is_empty(a)) {
		return;
	}
	switch (a->type) {
	case KV_F32:
		LAUNCH((kv_norms_kernel<KV_F32>), grid, THREADS, 0, q->stream, job);
		break;
	case KV_F16:
		LAUNCH((kv_norms_kernel<KV_F16>), grid, THREADS, 0, q->stream, job);
		break;
	case KV_BF16:
		LAUNCH((kv_norms_kernel<KV_BF16>), grid, THREADS, 0, q->stream, job);
		break;
	case KV_INT8:
		LAUNCH((kv_norms_kernel<KV_INT8>), grid, THREADS, 0, q->stream, job);
		break;
	}
	queue_launched(q, "kv_norms");
}
