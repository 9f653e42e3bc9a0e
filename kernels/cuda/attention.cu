/* SPDX-License-Identifier: Apache-2.0
 *
 * Attention over pages of f16, bf16 and int8, on tensor cores. Two loops round one arithmetic
 * (attention.cuh, attention_page.cuh):
 *
 *   split   a block is a tile and a split, a warp takes a page of it; partials go to scratch, and
 *           the tile's last block joins them in order (decode: few rows, all the device's
 *           bandwidth)
 *   whole   a block is 64 rows (32 of heads above 128 channels), which walk their pages together
 *           through memory of the block, and join as they go (prefill)
 *
 * Which one runs is chosen by the shape of the step, and changes no bit. */
#include "attention_join.cuh"
#include "attention_page.cuh"
#include "module.h"

enum {
	O_STRIDE = GROUP + 4,    /* of a row of o in memory of the block: 16-byte rows, off the banks */
	MIN_WHOLE_BLOCKS = 128,  /* as many as a device is wide, about */
};

/* ---- memory of a block ---- */

DEVICE uint8_t *take(uint8_t **at, size_t bytes) {
	uint8_t *taken = *at;
	*at += (bytes + 15) / 16 * 16;
	return taken;
}

template <enum bb_kv_dtype type> static inline size_t query_bytes(int width) {
	return (size_t)n_steps_of<type>(width) * WARP * 16;
}

static inline size_t scale_bytes(const struct attention_job *job) {
	return ((size_t)(job->n_groups | 1) + 1) * BB_PAGE * sizeof(float);
}

/* Scales of slots [begin, end), others 0: to[slot * stride + group], by threads i, i + n, ... */
DEVICE void stage_scales(float *to, int stride, const uint8_t *from, int n_groups, int begin,
	int end, int i, int n) {
#pragma unroll 1
	for (; i < BB_PAGE / 4 * n_groups; i += n) {
		const bool is_seen = 4 * i < end * n_groups && 4 * i + 4 > begin * n_groups;
		const float4 x = is_seen ? ld_nc((const float4 *)from + i) : make_float4(0, 0, 0, 0);
		const float each[4] = { x.x, x.y, x.z, x.w };
		for (int k = 0; k < 4; k++) {
			const int slot = (4 * i + k) / n_groups, group = (4 * i + k) % n_groups;
			to[slot * stride + group] = slot >= begin && slot < end ? each[k] : 0.0f;
		}
	}
}

/* ---- split ---- */

/* Memory of a block that runs a split. */
struct split_memory {
	uint32_t *q;    /* fragments of a tile */
	float *o;       /* [WARPS][TILE][O_STRIDE] */
	float2 *ml;     /* [WARPS][TILE] */
	float *k_scales, *v_scales; /* this warp's: [64][scale_stride], [64] */
};

template <enum bb_kv_dtype type>
DEVICE struct split_memory split_memory_of(uint8_t *at, const struct attention_job &job) {
	struct split_memory m;
	m.q = (uint32_t *)take(&at, (size_t)n_steps_of<type>(job.width) * WARP * 16);
	m.o = (float *)take(&at, WARPS * TILE * O_STRIDE * sizeof(float));
	m.ml = (float2 *)take(&at, WARPS * TILE * sizeof(float2));
	const int floats = (scale_stride(job) + 1) * BB_PAGE;
	m.k_scales = (float *)at + (int)threadIdx.x / WARP * floats;
	m.v_scales = m.k_scales + scale_stride(job) * BB_PAGE;
	return m;
}

template <enum bb_kv_dtype type> static size_t split_bytes(const struct attention_job *job) {
	return query_bytes<type>(job->width)
		+ WARPS * TILE * (O_STRIDE * sizeof(float) + sizeof(float2))
		+ (type == KV_INT8 ? WARPS * scale_bytes(job) : 0);
}

/* The lane's o of GROUP channels to its warp's place. */
DEVICE void park(float *o, const float x[8][4]) {
	const int lane = (int)threadIdx.x % WARP, g = lane / 4, t = lane % 4;
#pragma unroll
	for (int h = 0; h < 2; h++) {
#pragma unroll
		for (int i = 0; i < 4; i++) {
			const int e = 2 * h + i / 2, at = i % 2 * 4;
			st_vec((float4 *)(o + (g + 8 * h) * O_STRIDE + 16 * t) + i,
				make_float4(x[at][e], x[at + 1][e], x[at + 2][e], x[at + 3][e]));
		}
	}
}

/* What a thread joins: eight threads a row, four channels and four more 32 on. */
struct join_work {
	int row, column;
	float keep[SPLIT_PAGES], add[SPLIT_PAGES], m, l;
};

DEVICE struct join_work join_work_of(const float2 *ml, int n_pages) {
	struct join_work w;
	w.row = (int)threadIdx.x / 8;
	w.column = (int)threadIdx.x % 8 * 4;
	w.m = NOTHING;
	w.l = 0.0f;
#pragma unroll
	for (int i = 0; i < SPLIT_PAGES; i++) {
		w.keep[i] = w.add[i] = 0.0f;
		if (i < n_pages) {
			const float2 x = ld_vec(ml + i * TILE + w.row);
			join(&w.m, &w.l, x.x, x.y, &w.keep[i], &w.add[i]);
		}
	}
	return w;
}

/* Joins the pages' o of the GROUP channels from 64c on and stores them as a partial. */
DEVICE void join_pages(const struct attention_job &job, const struct tile &t,
	const struct join_work &w, const float *o, int n_pages, int c) {
	if (w.row >= t.n_rows) {
		return;
	}
	const size_t part = part_of(job, t, w.row);
	const size_t at = (size_t)blockIdx.z * job.a.n_rows * job.a.n_heads + part;
	for (int column = w.column; column < GROUP; column += GROUP / 2) {
		const int channel = c * GROUP + column;
		float O[4] = { 0, 0, 0, 0 };
#pragma unroll
		for (int i = 0; i < SPLIT_PAGES; i++) {
			if (i < n_pages) {
				const float *from = o + (i * TILE + w.row) * O_STRIDE + column;
				const float4 x = ld_vec((const float4 *)from);
				O[0] = join_value(O[0], w.keep[i], x.x, w.add[i]);
				O[1] = join_value(O[1], w.keep[i], x.y, w.add[i]);
				O[2] = join_value(O[2], w.keep[i], x.z, w.add[i]);
				O[3] = join_value(O[3], w.keep[i], x.w, w.add[i]);
			}
		}
		if (channel < job.width) {
			st_vec((float4 *)(job.parts + at * job.width + channel),
				make_float4(O[0], O[1], O[2], O[3]));
		}
	}
	if (c == 0 && w.column == 0) {
		st_vec(job.part_ml + at, make_float2(w.m, w.l));
	}
}

/* grid: tiles, kv heads, splits of the round. Warp w takes the w-th page that the tile sees of the
 * split. */
template <enum bb_kv_dtype type>
__global__ void __launch_bounds__(THREADS)
	attention_split(const __grid_constant__ struct attention_job job) {
	DYN_SHARED(uint8_t, bytes);
	const struct split_memory mem = split_memory_of<type>(bytes, job);
	const int warp = (int)threadIdx.x / WARP, lane = (int)threadIdx.x % WARP;
	struct tile t;
	int token0;
	if (!find_split(&t, job, &token0)) {
		return;
	}
	const int page0 = max(token0, t.first) / BB_PAGE;
	const int n_pages = (min(token0 + BB_SPLIT, t.end) - 1) / BB_PAGE + 1 - page0;
	const int page = page0 + warp;
	const bool has_page = warp < n_pages;
	struct plane k = { NULL, job.width * (type == KV_INT8 ? 1 : 2),
		job.width / page_type<type>::PIECE, 0, 0 };
	struct plane v = k;
	if (has_page) {
		k.base = open_page(job, t, page, &k.begin, &k.end);
		v = k;
		v.base = k.base + job.k_bytes;
	}
	if (type == KV_INT8 && has_page) {
		stage_scales(mem.k_scales, scale_stride(job), k.base + job.k_scales, job.n_groups, k.begin,
			k.end, lane, WARP);
		stage_scales(mem.v_scales, 1, v.base + job.v_scales, 1, k.begin, k.end, lane, WARP);
	}
	stage_queries<type>(mem.q, job, t, 1);
	__syncthreads();
	uint32_t p[4][4];
	if (has_page) {
		float s[8][4], m[2], l[2];
		const struct lane_rows rows = lane_rows_of(job, t, 0);
		page_scores<type, false>(s, job, k, mem.k_scales, mem.q);
		page_softmax<type>(p, m, l, s, rows, job, page * BB_PAGE);
		if (lane % 4 == 0) {
			st_vec(mem.ml + warp * TILE + lane / 4, make_float2(m[0], l[0]));
			st_vec(mem.ml + warp * TILE + lane / 4 + 8, make_float2(m[1], l[1]));
		}
	}
	__syncthreads();
	const struct join_work work = join_work_of(mem.ml, n_pages);
#pragma unroll 1
	for (int c = 0; c * GROUP < job.width; c++) {
		if (has_page) {
			float o[8][4];
			page_values<type, false>(o, v, mem.v_scales, p, c);
			park(mem.o + warp * TILE * O_STRIDE, o);
		}
		__syncthreads();
		join_pages(job, t, work, mem.o, n_pages, c);
		__syncthreads();
	}
	end_split(job, t, mem.o);
}

/* ---- whole ---- */

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
			page_softmax<type>(p, m, l, s, rows, job, page * BB_PAGE);
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

/* ---- launches ---- */

template <enum bb_kv_dtype type>
static void launch_split(const struct attention_job *job, dim3 grid, cudaStream_t stream) {
	static_assert(WARPS * O_STRIDE >= BB_SPLIT, "room for a tile's rows in join_splits");
	const size_t bytes = split_bytes<type>(job);
	ALLOW_SMEM((attention_split<type>), bytes);
	LAUNCH((attention_split<type>), grid, THREADS, bytes, stream, *job);
}

template <enum bb_kv_dtype type, int n, int n_side>
static void launch_whole(bb_queue *q, const struct attention_job *job) {
	const int rows = WARPS / n_side * TILE;
	const size_t bytes = whole_bytes<type, n * n_side>(job, WARPS / n_side);
	const dim3 grid((unsigned)(job->a.n_rows * job->heads_per_kv / rows + job->a.n_seqs),
		(unsigned)job->a.n_kv_heads);
	ALLOW_SMEM((attention_whole<type, n, n_side>), bytes);
	LAUNCH((attention_whole<type, n, n_side>), grid, THREADS, bytes, q->stream, *job);
	queue_launched(q, "attention_whole");
}

/* Whether the rows are enough to fill the blocks of the whole way, and these the device. */
static bool is_whole(const struct attention_job *job, int rows) {
	const int n_rows = job->a.n_rows * job->heads_per_kv;
	const int n_blocks = (n_rows + rows - 1) / rows * job->a.n_kv_heads;
	return n_rows >= rows / 2 * job->a.n_seqs &&
		(n_blocks >= MIN_WHOLE_BLOCKS || job->n_splits <= 2);
}

template <enum bb_kv_dtype type> static void run(bb_queue *q, const struct bb_attention *a) {
	struct attention_job job;
	attention_prepare(&job, a, type);
	if (!is_whole(&job, job.width > 2 * GROUP ? 2 * TILE : 4 * TILE)) {
		attention_rounds(q, &job, launch_split<type>, "attention_split");
		return;
	}
	if (job.width <= GROUP) {
		launch_whole<type, 1, 1>(q, &job);
	} else if (job.width <= 2 * GROUP) {
		launch_whole<type, 2, 1>(q, &job);
	} else {
		launch_whole<type, 2, 2>(q, &job);
	}
	attention_prepare_rows(q, a);
}

void attention_f16_sm80(bb_queue *q, const struct bb_attention *a) {
	run<KV_F16>(q, a);
}

void attention_bf16_sm80(bb_queue *q, const struct bb_attention *a) {
	run<KV_BF16>(q, a);
}

void attention_int8_sm80(bb_queue *q, const struct bb_attention *a) {
	run<KV_INT8>(q, a);
}
