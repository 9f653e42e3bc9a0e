/* SPDX-License-Identifier: Apache-2.0
 *
 * Attention page by page: a block is 64 rows (32 of heads above 128 channels), which walk their
 * pages together through memory of the block, and join as they go. For many rows (prefill). */
#pragma once

#include "attention_smem.cuh"

/* Rows of K are read eight lanes at a time, from two rows; those of V from four. Strides of 4 and 1
 * modulo 8 pieces keep these on different banks. Known to the compiler, which else keeps the place
 * of each of a lane's rows in a register. */
static __host__ __device__ constexpr int k_stride(int n_chunks) {
	return (n_chunks + 3) / 8 * 8 + 4;
}

static __host__ __device__ constexpr int v_stride(int n_chunks) {
	return n_chunks | 1;
}

/* Pieces of 16 bytes of a row in memory of the block, for n groups of channels. */
template <enum bb_kv_dtype type> static __host__ __device__ constexpr int chunks_of(int n) {
	return n * GROUP / page_type<type>::PIECE;
}

/* Rows of K or V of a page to memory of the block, n_chunks pieces a row; what no row of the tile
 * sees and what lies behind the stored row become zeros. */
template <int n_chunks> DEVICE void stage_plane(const struct plane &to, const uint8_t *from) {
#pragma unroll 1
	for (int i = (int)threadIdx.x; i < BB_PAGE * n_chunks; i += THREADS) {
		const int row = i / n_chunks, chunk = i % n_chunks;
		const bool is_seen = row >= to.begin && row < to.end && chunk < to.n_chunks;
		cp_async16_zfill((void *)(to.base + row * to.stride + chunk * 16),
			from + (is_seen ? (row * to.n_chunks + chunk) * 16 : 0), is_seen ? 16 : 0);
	}
	cp_async_commit();
}

/* O of a lane's two rows in registers; M and L in memory of the block, ml[0] and ml[THREADS], which
 * this thread alone has. */
template <int n> struct running {
	float o[n][8][4];
	float2 *ml;
};

template <int n> DEVICE void start(struct running<n> *r) {
#pragma unroll
	for (int i = 0; i < n * 32; i++) {
		r->o[i / 32][i / 4 % 8][i % 4] = 0.0f;
	}
	st_vec(r->ml, make_float2(NOTHING, 0.0f));
	st_vec(r->ml + THREADS, make_float2(NOTHING, 0.0f));
}

DEVICE void join_ml(float2 *ml, float m, float l, float *keep, float *add) {
	float2 x = ld_vec(ml);
	join(&x.x, &x.y, m, l, keep, add);
	st_vec(ml, x);
}

DEVICE void join_group(float O[8][4], const float keep[2], const float o[8][4],
	const float add[2]) {
#pragma unroll
	for (int i = 0; i < 8; i++) {
#pragma unroll
		for (int e = 0; e < 4; e++) {
			O[i][e] = join_value(O[i][e], keep[e / 2], o[i][e], add[e / 2]);
		}
	}
}

/* What a block of the whole way looks up page by page: the running results leave no registers for
 * it. */
struct whole_tile {
	struct tile t;
	int2 rows[WARPS * TILE]; /* the first token that a row sees, and how many */
	int2 warps[WARPS];       /* [first, end) of the tokens that some row of a warp sees */
	float2 split[2][THREADS], all[2][THREADS]; /* M and L */
};

/* What a warp of the whole way works on: rows from row0 of the tile, groups of channels from c0. */
struct whole_warp {
	int row0, c0;
	const uint32_t *q;
};

/* Sets `w` for the block; false when it has no rows. n_side warps share 16 rows. All threads call
 * it, and wait for each other before they read. */
DEVICE bool find_whole_tile(struct whole_tile *w, const struct attention_job &job, int n_side) {
	const int rows = WARPS / n_side * TILE;
	struct tile t;
	if (!find_tile(&t, job, job.a.seqs, job.a.n_seqs, (int)(gridDim.x - 1 - blockIdx.x), rows,
			(int)blockIdx.y)) {
		return false;
	}
	const int i = (int)threadIdx.x;
	if (i == 0) {
		w->t = t;
	}
	if (i < rows) {
		const int last = last_seen(job, t, i), first = first_seen(job, last);
		st_vec(w->rows + i, make_int2(first, i < t.n_rows ? last + 1 - first : 0));
	}
	if (i < WARPS) {
		const int row0 = i / n_side * TILE;
		const int last = last_seen(job, t, min(row0 + TILE, t.n_rows) - 1);
		st_vec(w->warps + i, make_int2(first_seen(job, last_seen(job, t, row0)),
			row0 < t.n_rows ? last + 1 : 0));
	}
	return true;
}

/* The tokens that a lane's rows see. */
DEVICE struct lane_rows whole_rows(const struct whole_tile &w, int row0) {
	struct lane_rows r;
#pragma unroll
	for (int h = 0; h < 2; h++) {
		const int2 x = ld_vec(w.rows + row0 + (int)threadIdx.x % WARP / 4 + 8 * h);
		r.first[h] = x.x;
		r.count[h] = x.y;
	}
	return r;
}

template <int n>
DEVICE void store_rows(const struct attention_job &job, const struct tile &t,
	const struct whole_warp &w, const struct running<n> &all) {
	const int lane = (int)threadIdx.x % WARP;
#pragma unroll
	for (int h = 0; h < 2; h++) {
		const int row = w.row0 + lane / 4 + 8 * h;
		if (row >= t.n_rows) {
			continue;
		}
		float *out = out_of(job, t, row);
		float2 ml = ld_vec(all.ml + h * THREADS);
		const float keep = join_sink(job, head_of(job, t, row), &ml);
#pragma unroll
		for (int i = 0; i < n * 16; i++) {
			const int channel = (w.c0 + i / 16) * GROUP + lane % 4 * 16 + i % 16;
			if (channel < job.a.head_dim) {
				out[channel] = finish(all.o[i / 16][i % 8][2 * h + i / 8 % 2] * keep, ml.y);
			}
		}
	}
}

/* Groups of channels behind the stored rows are left out. The branch also keeps one group's work
 * out of the next one's, for whose results there would be no registers. */
template <enum bb_kv_dtype type, int n>
DEVICE void add_page(struct running<n> *split, uint32_t p[4][4], const float m[2], const float l[2],
	const struct plane &v, const float *v_scales, int c0, int width) {
	float keep[2], add[2];
	join_ml(split->ml, m[0], l[0], &keep[0], &add[0]);
	join_ml(split->ml + THREADS, m[1], l[1], &keep[1], &add[1]);
#pragma unroll
	for (int c = 0; c < n; c++) {
		if ((c0 + c) * GROUP < width) {
			float o[8][4];
			page_values<type, true>(o, v, v_scales, p, c0 + c);
			join_group(split->o[c], keep, o, add);
		}
	}
}

template <int n> DEVICE void add_split(struct running<n> *all, const struct running<n> &split) {
	float keep[2], add[2];
#pragma unroll
	for (int h = 0; h < 2; h++) {
		const float2 x = ld_vec(split.ml + h * THREADS);
		join_ml(all->ml + h * THREADS, x.x, x.y, &keep[h], &add[h]);
	}
#pragma unroll
	for (int c = 0; c < n; c++) {
		join_group(all->o[c], keep, split.o[c], add);
	}
}

/* Memory of a block of the whole way: planes, scales, and the fragments of its tiles. */
struct whole_memory {
	struct plane k, v;
	float *k_scales, *v_scales;
	uint32_t *q;
};

/* n: groups of channels that the block has room for. */
template <enum bb_kv_dtype type, int n>
DEVICE struct whole_memory whole_memory_of(uint8_t *at, const struct attention_job &job) {
	struct whole_memory m;
	const int n_chunks = job.width / page_type<type>::PIECE;
	m.k = { NULL, k_stride(chunks_of<type>(n)) * 16, n_chunks, 0, 0 };
	m.v = { NULL, v_stride(chunks_of<type>(n)) * 16, n_chunks, 0, 0 };
	m.k.base = take(&at, (size_t)BB_PAGE * m.k.stride);
	m.v.base = take(&at, (size_t)BB_PAGE * m.v.stride);
	m.k_scales = (float *)at;
	if (type == KV_INT8) {
		m.k_scales = (float *)take(&at, (size_t)BB_PAGE * scale_stride(job) * sizeof(float));
		m.v_scales = (float *)take(&at, BB_PAGE * sizeof(float));
	} else {
		m.v_scales = m.k_scales;
	}
	m.q = (uint32_t *)at;
	return m;
}

template <enum bb_kv_dtype type, int n>
static size_t whole_bytes(const struct attention_job *job, int n_tiles) {
	constexpr int n_chunks = chunks_of<type>(n);
	return (size_t)BB_PAGE * 16 * (k_stride(n_chunks) + v_stride(n_chunks))
		+ (type == KV_INT8 ? scale_bytes(job) : 0) + n_tiles * query_bytes<type>(job->width);
}

template <enum bb_kv_dtype type, int n>
DEVICE void stage_keys(struct whole_memory *mem, const struct attention_job &job,
	const struct tile &t, int page) {
	const uint8_t *slab = open_page(job, t, page, &mem->k.begin, &mem->k.end);
	if (type == KV_INT8) {
		stage_scales(mem->k_scales, scale_stride(job), slab + job.k_scales, job.n_groups,
			mem->k.begin, mem->k.end, (int)threadIdx.x, THREADS);
	}
	stage_plane<chunks_of<type>(n)>(mem->k, slab);
}

template <enum bb_kv_dtype type, int n>
DEVICE void stage_values(struct whole_memory *mem, const struct attention_job &job,
	const struct tile &t, int page) {
	const uint8_t *slab = open_page(job, t, page, &mem->v.begin, &mem->v.end) + job.k_bytes;
	if (type == KV_INT8) {
		stage_scales(mem->v_scales, 1, slab + job.v_scales, 1, mem->v.begin, mem->v.end,
			(int)threadIdx.x, THREADS);
	}
	stage_plane<chunks_of<type>(n)>(mem->v, slab);
}

/* Blocks of a multiprocessor that the compiler is to make room for at least. Registers allow two.
 * Unasked it tries for three where only 64 channels are wanted; with int8 that would spill. */
template <enum bb_kv_dtype type, int n>
static __host__ __device__ constexpr int whole_blocks(void) {
	return type == KV_INT8 && n == 1 ? 2 : 1;
}

/* grid: blocks of rows, last first because those see the most; kv heads. A warp takes a tile of 16
 * rows and n groups of channels; n_side warps share a tile. */
template <enum bb_kv_dtype type, int n, int n_side>
__global__ void __launch_bounds__(THREADS, whole_blocks<type, n>())
	attention_whole(const __grid_constant__ struct attention_job job) {
	DYN_SHARED(uint8_t, bytes);
	SHARED(struct whole_tile, tiles, [1]);
	constexpr int n_groups = n * n_side, n_tiles = WARPS / n_side;
	struct whole_memory mem = whole_memory_of<type, n_groups>(bytes, job);
	if (!find_whole_tile(tiles, job, n_side)) {
		return;
	}
	__syncthreads();
	const struct tile &t = tiles[0].t;
	stage_queries<type>(mem.q, job, t, n_tiles);
	const int warp = (int)threadIdx.x / WARP;
	struct whole_warp w;
	w.row0 = warp / n_side * TILE;
	w.c0 = warp % n_side * n;
	w.q = mem.q + warp / n_side * n_steps_of<type>(job.width) * WARP * 4;
	struct running<n> all, split;
	all.ml = tiles[0].all[0] + threadIdx.x;
	split.ml = tiles[0].split[0] + threadIdx.x;
	start(&all);
	start(&split);
	stage_keys<type, n_groups>(&mem, job, t, t.first / BB_PAGE);
#pragma unroll 1
	for (int page = t.first / BB_PAGE; page * BB_PAGE < t.end; page++) {
		const int2 seen = ld_vec(tiles[0].warps + warp);
		const bool is_seen = page * BB_PAGE < seen.y && (page + 1) * BB_PAGE > seen.x;
		const bool is_last = (page + 1) * BB_PAGE >= t.end;
		uint32_t p[4][4];
		float m[2], l[2];
		cp_async_wait<0>();
		__syncthreads();
		stage_values<type, n_groups>(&mem, job, t, page);
		if (is_seen) {
			float s[8][4];
			page_scores<type, true>(s, job, mem.k, mem.k_scales, w.q);
			const struct lane_rows rows = whole_rows(tiles[0], w.row0);
			page_max(m, s, rows, job, page * BB_PAGE);
			page_exp<type>(p, l, s, m, job);
		}
		cp_async_wait<0>();
		__syncthreads();
		if (!is_last) {
			stage_keys<type, n_groups>(&mem, job, t, page + 1);
		}
		if (is_seen) {
			add_page<type, n>(&split, p, m, l, mem.v, mem.v_scales, w.c0, job.width);
		}
		if (page % SPLIT_PAGES == SPLIT_PAGES - 1 || is_last) {
			add_split(&all, split);
			start(&split);
		}
	}
	store_rows<n>(job, t, w, all);
}
