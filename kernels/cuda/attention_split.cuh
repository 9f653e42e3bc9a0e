/* SPDX-License-Identifier: Apache-2.0
 *
 * Attention split by split: a block is a tile and a split, a warp takes a page of it. Partials go
 * to scratch, and the tile's last block joins them in order. For few rows (decode): all the
 * device's bandwidth.
 *
 * K and V come by async copies that nobody waits for until they are wanted, in slices: 128 bytes of
 * each of a page's 64 rows, 8 KiB. A warp has two slots for slices of its page, and the slices of
 * K, then of V, go through them in turn: what a slice of K leaves free, one of V fills. So a block
 * has up to 64 KiB in flight whatever the type and the width, and three blocks, of about 74 KiB
 * with queries and scales, share the 227 KiB of a multiprocessor (sm_90): one computes while two
 * load. Where K and V of a page are one slice each (up to 64 channels, 128 of int8), both are on
 * their way from the start.
 *
 * Scores are a warp's own page; then the warps tell each other m, and share P through memory of the
 * block: each takes its part of the channels of V and walks all pages in order, so that O stays in
 * registers.
 *
 * What works on the tile works on n_tiles of them as well, rows 16 i to 16 i + 15 of a
 * `struct tile` each, over one copy of the pages: attention_share.cuh. */
#pragma once

#include "attention_join.cuh"
#include "attention_page.cuh"

enum {
	SLICE = 128,                  /* bytes of a row in a slice: all banks */
	SLICE_CHUNKS = SLICE / 16,
	SLICE_SPANS = SLICE / 64,     /* of 64 bytes, four pieces */
	SLOT_BYTES = BB_PAGE * SLICE,
	FEW_GROUPS = 8,               /* scales of K a row that leave room for two slots a warp */
	SPREAD = 8,                   /* loads of spread_scales in flight a thread */
	P_BYTES = 4 * WARP * 16,      /* of a page, as A of four steps */
	SPLIT_BLOCKS = 3,             /* of a multiprocessor */
};

template <enum bb_kv_dtype type> struct slice_type {
	enum {
		WIDTH = SLICE / 16 * page_type<type>::PIECE, /* channels */
		PART = WIDTH / WARPS,                         /* a warp's of V */
		COLUMNS = PART / 8,                           /* of an mma: results of eight channels */
	};
};

template <enum bb_kv_dtype type> __host__ __device__ inline int n_slices_of(int width) {
	return (width + slice_type<type>::WIDTH - 1) / slice_type<type>::WIDTH;
}

/* Slots of a warp. */
template <enum bb_kv_dtype type> __host__ __device__ inline int n_slots_of(int n_groups) {
	return type == KV_INT8 && n_groups > FEW_GROUPS ? 1 : 2;
}

/* Memory of a block that runs a split of n_tiles tiles. P has the place of the queries and the
 * scales of K, which are done with before. */
struct split_memory {
	uint8_t *slots;  /* [WARPS][n_slots][64][SLICE], pieces of 16 bytes as slot_chunk says */
	uint32_t *q;     /* fragments: [n_tiles][n_steps][WARP][4] */
	float *k_scales; /* this warp's: [64][split_stride] */
	uint32_t *p;     /* [n_tiles][WARPS][4 steps][WARP][4] */
	float *v_scales; /* [WARPS][64] */
	float *m, *l;    /* [n_tiles][WARPS][TILE] */
};

/* From a row's scales of K to the next one's: few lie as in the page, where no more than two rows
 * of eight meet on a bank. */
__host__ __device__ inline int split_stride(int n_groups) {
	return n_groups <= FEW_GROUPS ? n_groups : n_groups | 1;
}

template <enum bb_kv_dtype type> __host__ __device__ inline size_t k_scale_floats(int n_groups) {
	return type == KV_INT8 ? (size_t)BB_PAGE * split_stride(n_groups) : 0;
}

/* Of a tile's queries. */
template <enum bb_kv_dtype type> __host__ __device__ inline size_t query_bytes(int width) {
	return (size_t)n_steps_of<type>(width) * WARP * 16;
}

/* Of queries and scales of K, or of P. */
template <enum bb_kv_dtype type, int n_tiles>
__host__ __device__ inline size_t passing_bytes(int width, int n_groups) {
	const size_t before = n_tiles * query_bytes<type>(width)
		+ WARPS * k_scale_floats<type>(n_groups) * sizeof(float);
	const size_t p = (size_t)n_tiles * WARPS * P_BYTES;
	return before > p ? before : p;
}

template <enum bb_kv_dtype type, int n_tiles>
DEVICE struct split_memory split_memory_of(uint8_t *at, const struct attention_job &job) {
	struct split_memory m;
	m.slots = take(&at, (size_t)WARPS * n_slots_of<type>(job.n_groups) * SLOT_BYTES);
	uint8_t *passing = take(&at, passing_bytes<type, n_tiles>(job.width, job.n_groups));
	m.p = m.q = (uint32_t *)passing;
	m.k_scales = (float *)(passing + n_tiles * query_bytes<type>(job.width))
		+ (int)threadIdx.x / WARP * k_scale_floats<type>(job.n_groups);
	m.v_scales = (float *)take(&at, type == KV_INT8 ? WARPS * BB_PAGE * sizeof(float) : 0);
	m.m = (float *)take(&at, n_tiles * WARPS * TILE * sizeof(float));
	m.l = (float *)at;
	return m;
}

/* At least what the join takes. */
template <enum bb_kv_dtype type, int n_tiles>
static size_t split_bytes(const struct attention_job *job) {
	const size_t bytes = (size_t)WARPS * n_slots_of<type>(job->n_groups) * SLOT_BYTES
		+ passing_bytes<type, n_tiles>(job->width, job->n_groups)
		+ (type == KV_INT8 ? WARPS * BB_PAGE * sizeof(float) : 0)
		+ 2 * n_tiles * WARPS * TILE * sizeof(float);
	return bytes > join_bytes(job->width) ? bytes : join_bytes(job->width);
}

/* ---- slices ---- */

/* The page of a warp; slab is NULL where it has none. */
struct own_page {
	const uint8_t *slab;
	int begin, end; /* slots that some row of the tiles sees */
};

/* Where in a row of a slice a piece of 16 bytes lies. Eight lanes are served at once: of K they
 * read four pieces of two rows that follow one another, of V one piece of eight rows (ldmatrix), or
 * a word of two pieces of each second row (int8). */
template <bool is_v> DEVICE int slot_chunk(int row, int chunk) {
	return chunk ^ (is_v ? row % 8 : row % 2 * 4 + row % 8 / 2);
}

/* Sends a slice of a plane; what no row of the tiles sees and what lies behind the stored row
 * become zeros. The scores of several tiles leave no registers for what is computed from the lane,
 * through all slices. */
template <enum bb_kv_dtype type, int n_tiles, bool is_v>
DEVICE void send_slice(uint8_t *slot, const struct attention_job &job, const struct own_page &page,
	int slice) {
	const int lane = (int)((n_tiles == 1 ? threadIdx.x : afresh(threadIdx.x)) % WARP);
	const int n_chunks = job.width / page_type<type>::PIECE;
	const int chunk = slice * SLICE_CHUNKS + lane % SLICE_CHUNKS;
	const uint8_t *plane = page.slab + (is_v ? job.k_bytes : 0);
#pragma unroll 8
	for (int row = lane / SLICE_CHUNKS; row < BB_PAGE; row += WARP / SLICE_CHUNKS) {
		const bool is_seen = chunk < n_chunks && row >= page.begin && row < page.end;
		cp_async16_zfill(slot + row * SLICE + slot_chunk<is_v>(row, lane % SLICE_CHUNKS) * 16,
			plane + (is_seen ? (row * n_chunks + chunk) * 16 : 0), is_seen ? 16 : 0);
	}
}

/* Sends the i-th slice of the page's K and V to its slot, if there is one; a group of copies
 * either way. slots: the warp's. */
template <enum bb_kv_dtype type, int n_tiles>
DEVICE void stage_slice(uint8_t *slots, const struct attention_job &job,
	const struct own_page &page, int i) {
	const int n = n_slices_of<type>(job.width);
	uint8_t *slot = slots + i % n_slots_of<type>(job.n_groups) * SLOT_BYTES;
	if (i < n) {
		send_slice<type, n_tiles, false>(slot, job, page, i);
	} else if (i < 2 * n) {
		send_slice<type, n_tiles, true>(slot, job, page, i - n);
	}
	cp_async_commit();
}

/* ---- scales ---- */

/* Sends the page's scales [64][n_groups]; those of slots before the seen ones may be anything until
 * clear_scales has been called behind the wait for them. */
DEVICE void send_scales(float *to, const uint8_t *from, const struct own_page &page,
	int n_groups) {
	const int begin = page.begin * n_groups, end = page.end * n_groups;
#pragma unroll 1
	for (int i = (int)threadIdx.x % WARP * 4; i < BB_PAGE * n_groups; i += WARP * 4) {
		const bool is_seen = i < end && i + 4 > begin;
		cp_async16_zfill(to + i, from + (is_seen ? 4 * i : 0), is_seen ? min(end - i, 4) * 4 : 0);
	}
}

DEVICE void clear_scales(float *scales, const struct own_page &page, int n_groups) {
	__syncwarp();
#pragma unroll 1
	for (int i = (int)threadIdx.x % WARP; i < page.begin * n_groups; i += WARP) {
		scales[i] = 0.0f;
	}
}

/* Many scales of K a row, to their rows off the banks: no async copy does that by 16 bytes. */
DEVICE void spread_scales(float *to, const uint8_t *from, const struct own_page &page,
	int n_groups) {
	const int begin = page.begin * n_groups, end = page.end * n_groups;
#pragma unroll 1
	for (int i0 = (int)threadIdx.x % WARP * 4; i0 < BB_PAGE * n_groups; i0 += SPREAD * WARP * 4) {
		float4 x[SPREAD];
#pragma unroll
		for (int k = 0; k < SPREAD; k++) {
			const int i = i0 + k * WARP * 4;
			x[k] = i < end && i + 4 > begin ? ld_vec((const float4 *)from + i / 4)
				: make_float4(0, 0, 0, 0);
		}
#pragma unroll
		for (int k = 0; k < SPREAD; k++) {
			const float each[4] = { x[k].x, x[k].y, x[k].z, x[k].w };
			const int i = i0 + k * WARP * 4;
#pragma unroll
			for (int e = 0; e < 4 && i < BB_PAGE * n_groups; e++) {
				const bool is_seen = i + e >= begin && i + e < end;
				to[i + e + (i + e) / n_groups * (split_stride(n_groups) - n_groups)] =
					is_seen ? each[e] : 0.0f;
			}
		}
	}
}

/* ---- queries ---- */

/* The queries of the tile from row0 on as A fragments, as stage_queries has them. A thread's two
 * rows are the same in all steps. */
template <enum bb_kv_dtype type>
DEVICE void stage_tile(uint32_t *q, const struct attention_job &job, const struct tile &t,
	int row0) {
	const int lane = (int)threadIdx.x % WARP, row = row0 + lane / 4;
	const float *lo = query_of(job, t, min(row, t.n_rows - 1));
	const float *hi = query_of(job, t, min(row + 8, t.n_rows - 1));
	const bool wide = rows_are_wide(job.a.queries, job.a.ld_q, job.a.head_dim);
#pragma unroll 2
	for (int step = (int)threadIdx.x / WARP; step < n_steps_of<type>(job.width); step += WARPS) {
		const int channel = query_channel<type>(step, lane), n = job.a.head_dim - channel;
		const float4 x = load4(lo + channel, row < t.n_rows ? n : 0, wide);
		const float4 y = load4(hi + channel, row + 8 < t.n_rows ? n : 0, wide);
		st_vec((uint4 *)q + step * WARP + lane, query_fragment<type>(x, y));
	}
}

/* The i-th fragment of those in memory of the block: A of a step. */
DEVICE void load_fragment(uint32_t a[4], const uint32_t *fragments, int i) {
	const uint4 w = ld_vec((const uint4 *)fragments + i * WARP + (int)threadIdx.x % WARP);
	a[0] = w.x;
	a[1] = w.y;
	a[2] = w.z;
	a[3] = w.w;
}

/* ---- scores ---- */

/* Adds a span of channels, the c-th of the row and one of those of the slice, to the scores of the
 * warp's page, in the steps of attention_page.cuh. */
template <enum bb_kv_dtype type, int n_tiles>
DEVICE void add_span(float s[n_tiles][8][4], const struct attention_job &job, const uint8_t *slot,
	const float *scales, const uint32_t *q, int c) {
	typedef page_type<type> T;
	constexpr int n_at_once = n_tiles == 1 ? 8 : 4; /* of 8 tokens: sums leave few registers */
	const int lane = (int)threadIdx.x % WARP, g = lane / 4, t = lane % 4;
	const uint8_t *at = slot + g * SLICE + slot_chunk<false>(g, c % SLICE_SPANS * 4 + t) * 16;
#pragma unroll
	for (int n0 = 0; n0 < 8; n0 += n_at_once) {
		uint4 x[n_at_once];
#pragma unroll
		for (int n = 0; n < n_at_once; n++) {
			x[n] = ld_vec((const uint4 *)(at + 8 * (n0 + n) * SLICE));
		}
		float scale[n_at_once];
#pragma unroll
		for (int i = 0; i < T::STEPS; i++) {
			uint32_t a[n_tiles][4];
#pragma unroll
			for (int k = 0; k < n_tiles; k++) {
				const int step = k * n_steps_of<type>(job.width) + c * T::STEPS + i;
				load_fragment(a[k], q, step);
			}
			/* groups of whole pieces: the scales of the first step serve all */
			if (type == KV_INT8 && (i == 0 || job.group_width % T::PIECE != 0)) {
				const int group = job.n_groups == 1 ? 0
					: (c * T::SPAN + t * T::PIECE + 4 * i) / job.group_width;
				const int first = (8 * n0 + g) * split_stride(job.n_groups)
					+ min(group, job.n_groups - 1);
#pragma unroll
				for (int n = 0; n < n_at_once; n++) {
					scale[n] = scales[first + 8 * n * split_stride(job.n_groups)];
				}
			}
#pragma unroll
			for (int n = 0; n < n_at_once; n++) {
				uint32_t b[2];
				key_fragment<type>(b, x[n], i, type == KV_INT8 ? scale[n] : 1.0f);
#pragma unroll
				for (int k = 0; k < n_tiles; k++) {
					mma<type>(s[k][n0 + n], a[k], b);
				}
			}
		}
	}
}

/* s of the warp's page, whose first slices are on their way. Behind it the first slices of V
 * are. */
template <enum bb_kv_dtype type, int n_tiles>
DEVICE void split_scores(float s[n_tiles][8][4], const struct attention_job &job,
	const struct split_memory &mem, uint8_t *slots, const struct own_page &page) {
	const int n_slots = n_slots_of<type>(job.n_groups);
#pragma unroll
	for (int i = 0; i < n_tiles * 32; i++) {
		s[i / 32][i / 4 % 8][i % 4] = 0.0f;
	}
#pragma unroll 1
	for (int i = 0; i < n_slices_of<type>(job.width); i++) {
		if (n_slots > 1) {
			cp_async_wait<1>();
		} else {
			cp_async_wait<0>();
		}
		if (type == KV_INT8 && i == 0 && page.begin > 0) {
			clear_scales(mem.v_scales + (int)threadIdx.x / WARP * BB_PAGE, page, 1);
			if (job.n_groups <= FEW_GROUPS) {
				clear_scales(mem.k_scales, page, job.n_groups);
			}
		}
		__syncwarp();
#pragma unroll 1
		for (int c = 0; c < SLICE_SPANS; c++) {
			const int span = i * SLICE_SPANS + c;
			if (span * page_type<type>::SPAN < job.width) {
				add_span<type, n_tiles>(s, job, slots + i % n_slots * SLOT_BYTES, mem.k_scales,
					mem.q, span);
			}
		}
		__syncwarp();
		stage_slice<type, n_tiles>(slots, job, page, i + n_slots);
	}
}

/* ---- softmax ---- */

/* Raises the maximum of a row to a page's m; returns the factor of what was summed against the one
 * before. */
DEVICE float raise(float *M, float m) {
	const float top = fmaxf(*M, m), keep = exp2_approx(*M - top);
	*M = top;
	return keep;
}

/* P of the warp's page and a tile against the maximum up to it, and its sums, to where all warps
 * see them. */
template <enum bb_kv_dtype type>
DEVICE void put_p(const struct split_memory &mem, const float s[8][4],
	const struct attention_job &job, int tile) {
	const int warp = (int)threadIdx.x / WARP, lane = (int)threadIdx.x % WARP;
	const float *of_pages = mem.m + tile * WARPS * TILE;
	float *sums = mem.l + (tile * WARPS + warp) * TILE;
	float top[2] = { NOTHING, NOTHING }, l[2];
	uint32_t p[4][4];
#pragma unroll 1
	for (int i = 0; i <= warp; i++) {
		top[0] = fmaxf(top[0], of_pages[i * TILE + lane / 4]);
		top[1] = fmaxf(top[1], of_pages[i * TILE + lane / 4 + 8]);
	}
	page_exp<type>(p, l, s, top, job);
#pragma unroll
	for (int j = 0; j < 4; j++) {
		st_vec((uint4 *)mem.p + ((tile * WARPS + warp) * 4 + j) * WARP + lane,
			make_uint4(p[j][0], p[j][1], p[j][2], p[j][3]));
	}
	if (lane % 4 == 0) {
		sums[lane / 4] = l[0];
		sums[lane / 4 + 8] = l[1];
	}
}

/* m and l of a tile and the split to its partial, by one warp. parts: of the lane's rows. */
DEVICE void store_ml(const struct attention_job &job, const struct split_memory &mem,
	const size_t parts[2], const struct tile &t, int n_pages, int tile) {
	const int lane = (int)threadIdx.x % WARP;
	if (lane % 4 >= 2) {
		return;
	}
	const int h = lane % 4, row = lane / 4 + 8 * h, first = tile * WARPS * TILE;
	float M = NOTHING, L = 0.0f;
#pragma unroll 1
	for (int i = 0; i < n_pages; i++) {
		const float keep = raise(&M, mem.m[first + i * TILE + row]);
		L = fmaf(L, keep, mem.l[first + i * TILE + row]);
	}
	if (tile * TILE + row < t.n_rows) {
		st_vec(job.part_ml + (h == 0 ? parts[0] : parts[1]), make_float2(M, L));
	}
}

/* ---- values ---- */

/* B of step j of a slice of V for the warp's part of its channels. Column g of result b is channel
 * 8b + g of the part; of int8, where a lane takes a word of each token, 4g + b. */
template <enum bb_kv_dtype type>
DEVICE void value_fragments(uint32_t b[slice_type<type>::COLUMNS][2], const uint8_t *slot,
	const float *scales, int j) {
	const int warp = (int)threadIdx.x / WARP, lane = (int)threadIdx.x % WARP;
	if (type != KV_INT8) {
		const int token = 16 * j + lane % 16, chunk = 2 * warp + lane / 16;
		uint32_t w[4];
		ldmatrix_x4_trans(w, slot + token * SLICE + slot_chunk<true>(lane % 8, chunk) * 16);
		b[0][0] = w[0];
		b[0][1] = w[1];
		b[1][0] = w[2];
		b[1][1] = w[3];
	} else {
		uint32_t w[4];
		float scale[4];
#pragma unroll
		for (int k = 0; k < 4; k++) {
			const int g = lane / 4, row = 2 * (lane % 4) + k % 2, token = 16 * j + row + k / 2 * 8;
			w[k] = ld_vec((const uint32_t *)(slot + token * SLICE
				+ slot_chunk<true>(row, 2 * warp + g / 4) * 16 + g % 4 * 4));
			scale[k] = scales[token];
		}
#pragma unroll
		for (int i = 0; i < slice_type<type>::COLUMNS; i++) {
			b[i][0] = pack<type>(byte_of(w[0], i) * scale[0], byte_of(w[1], i) * scale[1]);
			b[i][1] = pack<type>(byte_of(w[2], i) * scale[2], byte_of(w[3], i) * scale[3]);
		}
	}
}

/* A lane's channels of one row of a slice's part to the row's partial, up to `width`. e: 0 for row
 * g, 2 for row g + 8. */
template <enum bb_kv_dtype type>
DEVICE void store_part(float *to, const float o[slice_type<type>::COLUMNS][4], int e, int channel,
	int width) {
	typedef slice_type<type> T;
	const int t = (int)threadIdx.x % 4;
#pragma unroll
	for (int k = 0; k < 2; k++) {
		if (type != KV_INT8) {
			st_vec((float2 *)(to + channel + 8 * k + 2 * t), make_float2(o[k][e], o[k][e + 1]));
		} else if (channel + 8 * t + 4 * k < width) {
			st_vec((float4 *)(to + channel + 8 * t + 4 * k),
				make_float4(o[0][e + k], o[1][e + k], o[T::COLUMNS - 2][e + k],
					o[T::COLUMNS - 1][e + k]));
		}
	}
}

/* The warp's part of n slices of V from the `first` on, over all pages, to the partials. */
template <enum bb_kv_dtype type, int n, int n_tiles>
DEVICE void add_slices(const struct attention_job &job, const struct split_memory &mem,
	const size_t parts[n_tiles][2], const struct tile &t, int n_pages, int first) {
	typedef slice_type<type> T;
	const int warp = (int)threadIdx.x / WARP, lane = (int)threadIdx.x % WARP;
	/* the first one's place among the slices of a page */
	const int n_slots = n_slots_of<type>(job.n_groups), i0 = n_slices_of<type>(job.width) + first;
	float o[n_tiles][n][T::COLUMNS][4] = { { { { 0 } } } }, M[n_tiles][2];
#pragma unroll
	for (int tile = 0; tile < n_tiles; tile++) {
		M[tile][0] = M[tile][1] = NOTHING;
	}
#pragma unroll 1
	for (int i = 0; i < n_pages; i++) {
#pragma unroll
		for (int tile = 0; tile < n_tiles; tile++) {
			const float *m = mem.m + (tile * WARPS + i) * TILE + lane / 4;
			const float keep[2] = { raise(&M[tile][0], m[0]), raise(&M[tile][1], m[8]) };
#pragma unroll
			for (int k = 0; k < n * T::COLUMNS * 4; k++) {
				o[tile][k / 4 / T::COLUMNS][k / 4 % T::COLUMNS][k % 4] *= keep[k % 4 / 2];
			}
		}
#pragma unroll
		for (int j = 0; j < 4; j++) {
			uint32_t a[n_tiles][4];
#pragma unroll
			for (int tile = 0; tile < n_tiles; tile++) {
				load_fragment(a[tile], mem.p, (tile * WARPS + i) * 4 + j);
			}
#pragma unroll
			for (int k = 0; k < n; k++) {
				uint32_t b[T::COLUMNS][2];
				value_fragments<type>(b, mem.slots
					+ (i * n_slots + (i0 + k) % n_slots) * SLOT_BYTES,
					mem.v_scales + i * BB_PAGE, j);
#pragma unroll
				for (int c = 0; c < n_tiles * T::COLUMNS; c++) {
					mma<type>(o[c / T::COLUMNS][k][c % T::COLUMNS], a[c / T::COLUMNS],
						b[c % T::COLUMNS]);
				}
			}
		}
	}
#pragma unroll
	for (int i = 0; i < n_tiles * 2; i++) {
		const int tile = i / 2, h = i % 2;
		if (tile * TILE + lane / 4 + 8 * h < t.n_rows) {
#pragma unroll
			for (int k = 0; k < n; k++) {
				store_part<type>(job.parts + parts[tile][h] * job.width, o[tile][k], 2 * h,
					(first + k) * T::WIDTH + warp * T::PART, job.width);
			}
		}
	}
}

/* Sums P V over the split's pages and stores them. Two slices at once where there are two slots. */
template <enum bb_kv_dtype type, int n_tiles>
DEVICE void split_values(const struct attention_job &job, const struct split_memory &mem,
	uint8_t *slots, const struct own_page &page, const struct tile &t, int n_pages) {
	typedef slice_type<type> T;
	constexpr bool are_few = n_tiles * T::COLUMNS <= 8; /* of two slices: sums */
	const int n_slots = n_slots_of<type>(job.n_groups), n_slices = n_slices_of<type>(job.width);
	const int warp = (int)threadIdx.x / WARP, lane = (int)threadIdx.x % WARP;
	const size_t part0 = (size_t)blockIdx.z * job.a.n_rows * job.a.n_heads;
	size_t parts[n_tiles][2]; /* of the lane's rows */
#pragma unroll
	for (int i = 0; i < n_tiles * 2; i++) {
		parts[i / 2][i % 2] = part0 + part_of(job, t, lane / 4 + 8 * i);
	}
#pragma unroll 1
	for (int first = 0; first < n_slices; first += n_slots) {
		if (first > 0) {
			__syncthreads();
			for (int i = first; page.slab != NULL && i < first + n_slots; i++) {
				stage_slice<type, n_tiles>(slots, job, page, n_slices + i);
			}
		}
		cp_async_wait<0>();
		__syncthreads();
		/* channels from the warp's part on */
		const int left = job.width - first * T::WIDTH - warp * T::PART;
		if (n_slots > 1 && left > T::WIDTH && are_few) {
			add_slices<type, 2, n_tiles>(job, mem, parts, t, n_pages, first);
		} else if (n_slots > 1 && left > T::WIDTH) {
#pragma unroll 1
			for (int k = 0; k < 2; k++) {
				add_slices<type, 1, n_tiles>(job, mem, parts, t, n_pages, first + k);
			}
		} else if (left > 0) {
			add_slices<type, 1, n_tiles>(job, mem, parts, t, n_pages, first);
		}
		if (first == 0 && warp == WARPS - 1) {
#pragma unroll
			for (int tile = 0; tile < n_tiles; tile++) {
				store_ml(job, mem, parts[tile], t, n_pages, tile);
			}
		}
	}
}

/* ---- the kernel ---- */

/* Stores the partials of the split from token0 on of t's tiles. Warp w takes the w-th page that
 * they see of it. memory: split_bytes of the block. */
template <enum bb_kv_dtype type, int n_tiles>
DEVICE void run_split(const struct attention_job &job, const struct tile &t, int token0,
	uint8_t *memory) {
	const struct split_memory mem = split_memory_of<type, n_tiles>(memory, job);
	const int warp = (int)threadIdx.x / WARP, lane = (int)threadIdx.x % WARP;
	uint8_t *slots = mem.slots + warp * n_slots_of<type>(job.n_groups) * SLOT_BYTES;
	float *v_scales = mem.v_scales + warp * BB_PAGE;
	const int page0 = max(token0, t.first) / BB_PAGE;
	const int n_pages = (min(token0 + BB_SPLIT, t.end) - 1) / BB_PAGE + 1 - page0;
	struct own_page page = { NULL, 0, 0 };
	/* what was kept before this step needs no waiting for */
	const bool is_kept = (page0 + warp + 1) * BB_PAGE <= t.kept->n_before;
	if (!is_kept) {
		await_launches();
	}
	if (warp < n_pages) {
		page.slab = open_page(job, t, page0 + warp, &page.begin, &page.end);
		if (type == KV_INT8) {
			send_scales(v_scales, page.slab + job.k_bytes + job.v_scales, page, 1);
		}
		if (type == KV_INT8 && job.n_groups <= FEW_GROUPS) {
			send_scales(mem.k_scales, page.slab + job.k_scales, page, job.n_groups);
		}
#pragma unroll 1
		for (int i = 0; i < n_slots_of<type>(job.n_groups); i++) {
			stage_slice<type, n_tiles>(slots, job, page, i);
		}
	}
	if (is_kept) {
		await_launches();
	}
#pragma unroll 1
	for (int tile = 0; tile < n_tiles; tile++) {
		stage_tile<type>(mem.q + tile * query_bytes<type>(job.width) / sizeof(uint32_t), job, t,
			tile * TILE);
	}
	if (type == KV_INT8 && job.n_groups > FEW_GROUPS && warp < n_pages) {
		spread_scales(mem.k_scales, page.slab + job.k_scales, page, job.n_groups);
	}
	__syncthreads();
	float s[n_tiles][8][4];
	if (warp < n_pages) {
		split_scores<type, n_tiles>(s, job, mem, slots, page);
#pragma unroll
		for (int tile = 0; tile < n_tiles; tile++) {
			float m[2], *to = mem.m + (tile * WARPS + warp) * TILE;
			const struct lane_rows rows = lane_rows_of(job, t, tile * TILE);
			/* rows of several tiles see all that they share */
			page_max<n_tiles == 1>(m, s[tile], rows, job, (page0 + warp) * BB_PAGE);
			if (lane % 4 == 0) {
				to[lane / 4] = m[0];
				to[lane / 4 + 8] = m[1];
			}
		}
	}
	__syncthreads();
#pragma unroll
	for (int tile = 0; tile < n_tiles && warp < n_pages; tile++) {
		put_p<type>(mem, s[tile], job, tile);
	}
	split_values<type, n_tiles>(job, mem, slots, page, t, n_pages);
}

/* grid: tiles, kv heads, splits of the round */
template <enum bb_kv_dtype type>
__global__ void __launch_bounds__(THREADS, SPLIT_BLOCKS)
	attention_split(const __grid_constant__ struct attention_job job) {
	DYN_SHARED(uint8_t, bytes);
	struct tile t;
	int token0;
	if (find_split(&t, job, &token0)) {
		run_split<type, 1>(job, t, token0, bytes);
		end_split(job, t, bytes);
	} else if (is_first_block()) {
		await_launches();
	}
}
