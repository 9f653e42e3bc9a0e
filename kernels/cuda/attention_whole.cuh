/* SPDX-License-Identifier: Apache-2.0
 *
 * Attention page by page: a block is 128 or 64 rows, which walk their pages together through memory
 * of the block. For many rows (prefill).
 *
 * A warp takes two tiles of 16 rows, so that each fragment of K and V that it reads is of use
 * twice; the running O of a split fills half of its registers then. It takes one where that is all
 * there is room for, or where blocks would be too few for the device. What the splits before
 * gave waits in `out` meanwhile, to be joined once in 256 tokens.
 *
 * K and V lie in memory of the block as f16 or bf16. The next K is on its way while a page's scores
 * become values, and V while they are computed. Pages of int8 are copied as they are, a page
 * ahead, and made f16 by all threads once, not by each warp again. */
#pragma once

#include "attention_page.cuh"

/* Rows of K are read eight lanes at a time, from two rows; those of V from eight. Strides of 4 and
 * 1 modulo 8 pieces keep these on different banks. */
static __host__ __device__ constexpr int k_stride(int n_chunks) {
	return (n_chunks + 3) / 8 * 8 + 4;
}

static __host__ __device__ constexpr int v_stride(int n_chunks) {
	return n_chunks | 1;
}

/* How a head of up to n * GROUP channels is worked on, by warps of n_tiles tiles. */
template <enum bb_kv_dtype type, int n, int n_tiles> struct whole_shape {
	enum {
		TILES = n_tiles,
		ROWS = WARPS * TILES * TILE,          /* of a block */
		BLOCKS = n * GROUP / 8,               /* of eight channels, mma columns */
		STEPS = n * GROUP / 16,               /* of 16 channels, mma steps */
		K_STRIDE = k_stride(BLOCKS) * 16,     /* bytes of a row */
		V_STRIDE = v_stride(BLOCKS) * 16,
		RAW_CHUNKS = n * GROUP / 16,          /* pieces of a row of int8 */
		RAW_BYTES = type == KV_INT8 ? BB_PAGE * RAW_CHUNKS * 16 : 0,
		QUERY_BYTES = WARPS * TILES * STEPS * WARP * 16,
		O_STRIDE = n * GROUP + 8,             /* floats of a row of results: off the banks */
	};
};

/* This thread, looked up where it is used: what is computed from it would else be kept in registers
 * through all pages, and there are none left. */
DEVICE int thread_afresh(void) {
	return (int)(afresh(threadIdx.x) % THREADS);
}

/* ---- memory ---- */

/* What a block of the whole way looks up page by page: the running results leave no registers for
 * it. */
template <int n_rows> struct whole_tile {
	struct tile t;
	const uint8_t *pages[2]; /* a page, and the next one */
	int2 rows[n_rows];       /* the first token that a row sees, and how many */
	int4 warps[WARPS];       /* [x, y): tokens that some row of a warp sees; [z, w): that all see */
	int parts[n_rows];       /* part_of, or -1 behind the last row */
	size_t out[n_rows];      /* where it begins in `out` */
	int at[THREADS];         /* the page that a thread is at */
	float2 ml[n_rows];       /* M and L of the splits before */
	/* M and L of the split so far, of the lane's rows i * 8 + g of a warp */
	float2 split[n_rows / WARPS / 8][THREADS];
};

/* Dynamic memory of a block. */
struct whole_memory {
	uint8_t *k, *v;          /* [64][K_STRIDE], [64][V_STRIDE] */
	uint32_t *q;             /* fragments of the block's tiles */
	uint8_t *raw_k, *raw_v;  /* int8: [64][RAW_CHUNKS * 16] */
	float *k_scales, *v_scales; /* int8: [64][scale_stride], [64] */
};

template <enum bb_kv_dtype type, int n, int n_tiles>
DEVICE struct whole_memory whole_memory_of(uint8_t *at, const struct attention_job &job) {
	typedef whole_shape<type, n, n_tiles> S;
	struct whole_memory m;
	m.k = take(&at, BB_PAGE * S::K_STRIDE);
	m.v = take(&at, BB_PAGE * S::V_STRIDE);
	m.q = (uint32_t *)take(&at, S::QUERY_BYTES);
	m.raw_k = take(&at, S::RAW_BYTES);
	m.raw_v = take(&at, S::RAW_BYTES);
	m.k_scales = (float *)at;
	m.v_scales = m.k_scales + BB_PAGE * scale_stride(job);
	return m;
}

static inline size_t scale_bytes(const struct attention_job *job) {
	return ((size_t)(job->n_groups | 1) + 1) * BB_PAGE * sizeof(float);
}

template <enum bb_kv_dtype type, int n, int n_tiles>
static size_t whole_bytes(const struct attention_job *job) {
	typedef whole_shape<type, n, n_tiles> S;
	return (size_t)BB_PAGE * (S::K_STRIDE + S::V_STRIDE) + S::QUERY_BYTES + 2 * S::RAW_BYTES
		+ (type == KV_INT8 ? scale_bytes(job) : 0);
}

/* ---- rows ---- */

/* Sets `w` for the block; false when it has no rows. All threads call it, and wait for each other
 * before they read. */
template <int n_rows>
DEVICE bool find_whole_tile(struct whole_tile<n_rows> *w, const struct attention_job &job) {
	struct tile t;
	if (!find_tile(&t, job, job.a.seqs, job.a.n_seqs, (int)(gridDim.x - 1 - blockIdx.x), n_rows,
			(int)blockIdx.y)) {
		return false;
	}
	const int i = (int)threadIdx.x;
	if (i == 0) {
		const int page = t.first / BB_PAGE;
		w->t = t;
		w->pages[page % 2] = (const uint8_t *)t.kept->chunks[page / BB_CHUNK][page % BB_CHUNK];
	}
	if (i < n_rows) {
		const int last = last_seen(job, t, i), first = first_seen(job, last);
		const bool is_row = i < t.n_rows;
		st_vec(w->rows + i, make_int2(first, is_row ? last + 1 - first : 0));
		w->parts[i] = is_row ? (int)part_of(job, t, i) : -1;
		w->out[i] = (size_t)(out_of(job, t, i) - job.a.out);
		st_vec(w->ml + i, make_float2(NOTHING, 0.0f));
	}
	if (i < WARPS) {
		const int row0 = i * (n_rows / WARPS);
		const int first = last_seen(job, t, row0);
		const int last = last_seen(job, t, min(row0 + n_rows / WARPS, t.n_rows) - 1);
		const bool has_rows = row0 < t.n_rows;
		st_vec(w->warps + i, make_int4(first_seen(job, first), has_rows ? last + 1 : 0,
			first_seen(job, last), has_rows ? first + 1 : 0));
	}
	return true;
}

/* Whether some row of the warp sees a page that begins with token0; whether all see all of it. */
template <int n_rows> DEVICE bool sees(const struct whole_tile<n_rows> &w, int token0) {
	const int4 seen = ld_vec(w.warps + thread_afresh() / WARP);
	return token0 < seen.y && token0 + BB_PAGE > seen.x;
}

template <int n_rows> DEVICE bool sees_all(const struct whole_tile<n_rows> &w, int token0) {
	const int4 seen = ld_vec(w.warps + thread_afresh() / WARP);
	return token0 >= seen.z && token0 + BB_PAGE <= seen.w;
}

/* The warp's first row. */
template <int n_rows> DEVICE int row0_of(const struct whole_tile<n_rows> &w) {
	return thread_afresh() / WARP * (n_rows / WARPS);
}

/* M and L of the split so far of the lane's i-th row: this thread alone has them. */
template <int n_rows> DEVICE float2 *split_ml(struct whole_tile<n_rows> *w, int i) {
	return w->split[i] + thread_afresh();
}

/* The page that this thread is at, and its first token. In a register, with what the compiler makes
 * of it, it would spill. */
template <int n_rows> DEVICE int page_of(const struct whole_tile<n_rows> &w) {
	return w.at[thread_afresh()];
}

template <int n_rows> DEVICE int token0_of(const struct whole_tile<n_rows> &w) {
	return page_of(w) * BB_PAGE;
}

/* The tokens that a lane's rows see. */
DEVICE struct lane_rows whole_rows(const int2 *rows) {
	struct lane_rows r;
#pragma unroll
	for (int h = 0; h < 2; h++) {
		const int2 x = ld_vec(rows + thread_afresh() % WARP / 4 + 8 * h);
		r.first[h] = x.x;
		r.count[h] = x.y;
	}
	return r;
}

/* ---- copies ---- */

/* A page's K or V to rows of n_chunks pieces; what no row of the tile sees and what lies behind the
 * stored row, of n_stored pieces, become zeros. A thread copies the same piece of rows a constant
 * apart. */
template <int n_chunks, int stride>
DEVICE void stage_plane(uint8_t *to, const uint8_t *from, int n_stored, int begin, int end) {
	constexpr int step = THREADS / n_chunks;
	const int row0 = thread_afresh() / n_chunks, chunk = thread_afresh() % n_chunks;
	to += row0 * stride + chunk * 16;
	if (begin == 0 && end == BB_PAGE && n_stored == n_chunks) {
		from = afresh(from + (unsigned)(row0 * n_chunks + chunk) * 16);
#pragma unroll
		for (int i = 0; i < BB_PAGE / step; i++) {
			cp_async16(to + i * step * stride, from + i * step * n_chunks * 16);
		}
		return;
	}
#pragma unroll 1
	for (int i = 0; i < BB_PAGE / step; i++) {
		const int row = row0 + i * step;
		const bool is_seen = row >= begin && row < end && chunk < n_stored;
		cp_async16_zfill(to + i * step * stride,
			from + (is_seen ? (row * n_stored + chunk) * 16 : 0), is_seen ? 16 : 0);
	}
}

/* Scales of slots [begin, end): to[slot * stride + group]. */
DEVICE void stage_scales_async(float *to, int stride, const uint8_t *from, int n_groups, int begin,
	int end) {
	for (int i = begin * n_groups + thread_afresh(); i < end * n_groups; i += THREADS) {
		const int slot = n_groups == 1 ? i : i / n_groups;
		cp_async4(to + slot * stride + i - slot * n_groups, (const float *)from + i);
	}
}

/* The codes and scales of a page of int8. */
template <int n>
DEVICE void stage_raw(const struct whole_memory &mem, const struct attention_job &job,
	const uint8_t *slab, int begin, int end) {
	typedef whole_shape<KV_INT8, n, 1> S;
	constexpr int chunks = S::RAW_CHUNKS;
	const int n_stored = job.width / 16;
	const uint8_t *v = slab + job.k_bytes;
	stage_plane<chunks, chunks * 16>(mem.raw_k, slab, n_stored, begin, end);
	stage_plane<chunks, chunks * 16>(mem.raw_v, v, n_stored, begin, end);
	stage_scales_async(mem.k_scales, scale_stride(job), slab + job.k_scales, job.n_groups, begin,
		end);
	stage_scales_async(mem.v_scales, 1, v + job.v_scales, 1, begin, end);
	cp_async_commit();
}

/* A code, exactly: 2^23 + 128 + code, less what is not the code. w: codes with their signs
 * flipped. */
DEVICE float code_of(uint32_t w, int i) {
	return __uint_as_float(__byte_perm(w, 0x4b000000, (unsigned)(0x7440 + i))) - 8388736.0f;
}

/* Four codes times their scale, to f16. */
DEVICE uint2 scaled_codes(uint32_t w, float scale) {
	w ^= 0x80808080u;
	return make_uint2(f16x2_of(code_of(w, 0) * scale, code_of(w, 1) * scale),
		f16x2_of(code_of(w, 2) * scale, code_of(w, 3) * scale));
}

/* The scale of K's group of four channels from channel on. scales: the slot's. */
DEVICE float key_scale(const struct attention_job &job, const float *scales, int channel) {
	return scales[job.n_groups == 1 ? 0 : min(channel / job.group_width, job.n_groups - 1)];
}

/* A page of int8 to f16, times the scales. Halves of K's pieces go where they are in the steps of
 * attention_page.cuh. Slots outside [begin, end) have zeros for codes, and no scales. */
template <int n>
DEVICE void convert_page(const struct whole_memory &mem, const struct attention_job &job, int begin,
	int end) {
	typedef whole_shape<KV_INT8, n, 1> S;
	constexpr int step = THREADS / S::RAW_CHUNKS;
	const int row0 = thread_afresh() / S::RAW_CHUNKS, chunk = thread_afresh() % S::RAW_CHUNKS;
#pragma unroll 2
	for (int row = row0; row < BB_PAGE; row += step) {
		const bool is_seen = row >= begin && row < end;
		const float *scales = mem.k_scales + row * scale_stride(job);
		const uint4 k = ld_vec((const uint4 *)mem.raw_k + row * S::RAW_CHUNKS + chunk);
		const uint4 v = ld_vec((const uint4 *)mem.raw_v + row * S::RAW_CHUNKS + chunk);
		uint2 x[4];
#pragma unroll
		for (int i = 0; i < 4; i++) {
			x[i] = scaled_codes(word_of(k, i),
				is_seen ? key_scale(job, scales, 16 * chunk + 4 * i) : 0.0f);
		}
		uint4 *to = (uint4 *)(mem.k + row * S::K_STRIDE) + chunk / 4 * 8 + chunk % 4;
		st_vec(to, make_uint4(x[0].x, x[0].y, x[1].x, x[1].y));
		st_vec(to + 4, make_uint4(x[2].x, x[2].y, x[3].x, x[3].y));
		const float scale = is_seen ? mem.v_scales[row] : 0.0f;
#pragma unroll
		for (int i = 0; i < 4; i++) {
			x[i] = scaled_codes(word_of(v, i), scale);
		}
		to = (uint4 *)(mem.v + row * S::V_STRIDE) + chunk * 2;
		st_vec(to, make_uint4(x[0].x, x[0].y, x[1].x, x[1].y));
		st_vec(to + 1, make_uint4(x[2].x, x[2].y, x[3].x, x[3].y));
	}
}

/* ---- a page ---- */

/* A warp's results of a split so far. o[.][i]: row g of channels 8i + 2t, + 1, then row g + 8 of
 * them. M and L are in memory of the block. */
template <enum bb_kv_dtype type, int n, int n_tiles> struct running {
	typedef whole_shape<type, n, n_tiles> S;
	float o[S::TILES][S::BLOCKS][4];
};

template <enum bb_kv_dtype type, int n, int n_tiles, int n_rows>
DEVICE void start(struct running<type, n, n_tiles> *r, struct whole_tile<n_rows> *w) {
	typedef whole_shape<type, n, n_tiles> S;
#pragma unroll
	for (int i = 0; i < S::TILES; i++) {
#pragma unroll
		for (int k = 0; k < S::BLOCKS * 4; k++) {
			r->o[i][k / 4][k % 4] = 0.0f;
		}
		st_vec(split_ml(w, 2 * i), make_float2(NOTHING, 0.0f));
		st_vec(split_ml(w, 2 * i + 1), make_float2(NOTHING, 0.0f));
	}
}

/* s of all tiles of a warp. k: the plane; q: the block's fragments. */
template <enum bb_kv_dtype type, int n, int n_tiles>
DEVICE void whole_scores(float s[][8][4], const uint8_t *k, const uint32_t *q) {
	typedef whole_shape<type, n, n_tiles> S;
	constexpr int PER = 2; /* pieces of K at once: for more there are no registers */
	const int i_thread = thread_afresh(), lane = i_thread % WARP;
	k += lane / 4 * S::K_STRIDE + lane % 4 * 16;
	q += (i_thread / WARP * S::TILES * S::STEPS * WARP + lane) * 4;
#pragma unroll
	for (int i = 0; i < S::TILES * 32; i++) {
		s[i / 32][i / 4 % 8][i % 4] = 0.0f;
	}
#pragma unroll 4
	for (int c = 0; c < S::STEPS / 2; c++) {
		uint4 a[S::TILES][2];
#pragma unroll
		for (int i = 0; i < S::TILES * 2; i++) {
			a[i / 2][i % 2] = ld_vec((const uint4 *)(q
				+ (i / 2 * S::STEPS + 2 * c + i % 2) * WARP * 4));
		}
#pragma unroll
		for (int n0 = 0; n0 < 8; n0 += PER) {
			uint4 x[PER];
#pragma unroll
			for (int i = 0; i < PER; i++) {
				x[i] = ld_vec((const uint4 *)(k + 8 * (n0 + i) * S::K_STRIDE + c * 64));
			}
#pragma unroll
			for (int i = 0; i < 2 * PER * S::TILES; i++) {
				const int step = i / (PER * S::TILES), at = i / S::TILES % PER, tile = i % S::TILES;
				const uint4 w = a[tile][step];
				const uint32_t A[4] = { w.x, w.y, w.z, w.w };
				const uint32_t B[2] = { word_of(x[at], 2 * step), word_of(x[at], 2 * step + 1) };
				mma<type>(s[tile][n0 + at], A, B);
			}
		}
	}
}

/* Scores to p; M, L and O of the split are then those of this page, too, but for its values.
 * token0: of the page. */
template <enum bb_kv_dtype type, int n, int n_tiles, int n_rows>
DEVICE void whole_softmax(struct running<type, n, n_tiles> *r, uint32_t p[][4][4],
	float s[][8][4], const struct attention_job &job, struct whole_tile<n_rows> *w, int token0) {
	typedef whole_shape<type, n, n_tiles> S;
	float m[S::TILES][2], keep[S::TILES][2];
	bool is_same = true;
#pragma unroll
	for (int i = 0; i < S::TILES; i++) {
		cap_scores(s[i], job);
	}
	if (sees_all(*w, token0)) {
#pragma unroll
		for (int i = 0; i < S::TILES; i++) {
			page_max<false, false>(m[i], s[i], lane_rows(), job, token0);
		}
	} else {
#pragma unroll
		for (int i = 0; i < S::TILES; i++) {
			const int2 *rows = w->rows + row0_of(*w) + i * TILE;
			page_max<true, false>(m[i], s[i], whole_rows(rows), job, token0);
		}
	}
#pragma unroll
	for (int i = 0; i < S::TILES; i++) {
		float l[2];
		float2 before[2];
#pragma unroll
		for (int h = 0; h < 2; h++) {
			before[h] = ld_vec(split_ml(w, 2 * i + h));
			m[i][h] = fmaxf(before[h].x, m[i][h]);
			keep[i][h] = exp2_approx(before[h].x - m[i][h]);
			is_same = is_same && (keep[i][h] == 1.0f || before[h].x == NOTHING);
		}
		page_exp<type>(p[i], l, s[i], m[i], job);
#pragma unroll
		for (int h = 0; h < 2; h++) {
			st_vec(split_ml(w, 2 * i + h),
				make_float2(m[i][h], fmaf(before[h].y, keep[i][h], l[h])));
		}
	}
	if (__all_sync(ALL_LANES, is_same)) {
		return; /* O times 1, or 0 times 0 in the first page of a split */
	}
#pragma unroll
	for (int i = 0; i < S::TILES; i++) {
#pragma unroll
		for (int k = 0; k < S::BLOCKS * 4; k++) {
			r->o[i][k / 4][k % 4] *= keep[i][k / 2 % 2];
		}
	}
}

/* O += p V. v: the plane. A lane's row of a matrix is that of the token in the order of p. */
template <enum bb_kv_dtype type, int n, int n_tiles>
DEVICE void whole_values(struct running<type, n, n_tiles> *r, const uint8_t *v,
	const uint32_t p[][4][4]) {
	typedef whole_shape<type, n, n_tiles> S;
	const int lane = thread_afresh() % WARP;
	v += lane % 16 * S::V_STRIDE + lane / 16 * 16;
#pragma unroll
	for (int j = 0; j < 4; j++) {
#pragma unroll
		for (int i = 0; i < S::BLOCKS; i += 2) {
			uint32_t b[4];
			ldmatrix_x4_trans(b, v + 16 * j * S::V_STRIDE + i * 16);
#pragma unroll
			for (int k = 0; k < S::TILES; k++) {
				mma<type>(r->o[k][i], p[k][j], b);
				mma<type>(r->o[k][i + 1], p[k][j], b + 2);
			}
		}
	}
}

/* ---- splits ---- */

/* What the splits before gave a lane of a row, channels in the order of the lane's o: four of every
 * sixteen. */
DEVICE float *before_of(const struct attention_job &job, int part) {
	return job.parts + (size_t)part * job.width + thread_afresh() % 4 * 4;
}

/* The factors of a tile's two rows of a lane, whose M and L are joined to those of the splits
 * before. ml: the tile's; split: the lane's. */
DEVICE void join_whole_ml(float2 *ml, const float2 split[2], float keep[2], float add[2]) {
	const int lane = thread_afresh() % WARP;
#pragma unroll
	for (int h = 0; h < 2; h++) {
		float2 x = ld_vec(ml + lane / 4 + 8 * h);
		join(&x.x, &x.y, split[h].x, split[h].y, &keep[h], &add[h]);
		__syncwarp();
		if (lane % 4 == 0) {
			st_vec(ml + lane / 4 + 8 * h, x);
		}
	}
}

/* Of a lane's row, so many o[.][2h], o[.][2h + 1], of n_channels: joins them, in place. before:
 * what the splits before gave, if is_read; is_written: gets the result. */
template <int n_blocks>
DEVICE void join_whole_blocks(float *before, float o[][4], int h, float keep, float add,
	int n_channels, bool is_read, bool is_written) {
	float4 O[n_blocks / 2];
#pragma unroll
	for (int i = 0; i < n_blocks / 2; i++) {
		O[i] = make_float4(0.0f, 0.0f, 0.0f, 0.0f);
		if (is_read && 16 * i < n_channels) {
			O[i] = ld_vec((const float4 *)(before + 16 * i));
		}
	}
#pragma unroll
	for (int i = 0; i < n_blocks / 2; i++) {
		float *x = o[2 * i] + 2 * h, *y = o[2 * i + 1] + 2 * h;
		x[0] = join_value(O[i].x, keep, x[0], add);
		x[1] = join_value(O[i].y, keep, x[1], add);
		y[0] = join_value(O[i].z, keep, y[0], add);
		y[1] = join_value(O[i].w, keep, y[1], add);
		if (is_written && 16 * i < n_channels) {
			st_vec((float4 *)(before + 16 * i), make_float4(x[0], x[1], y[0], y[1]));
		}
	}
}

/* Joins a tile's o of a split to what the splits before gave; in place, and, unless it is the last,
 * to memory. A lane reads there what it wrote itself. parts: of the tile's rows. */
template <int n_blocks>
DEVICE void join_whole_tile(const struct attention_job &job, float o[][4], const int *parts,
	const float keep[2], const float add[2], bool is_first, bool is_last) {
#pragma unroll
	for (int at = 0; at < n_blocks; at += 8) {
#pragma unroll
		for (int h = 0; h < 2; h++) { /* more at once would spill */
			const int part = parts[thread_afresh() % WARP / 4 + 8 * h];
			float *before = before_of(job, max(part, 0));
			join_whole_blocks<8>(before + 8 * at, o + at, h, keep[h],
				add[h], job.width - 8 * at, !is_first && part >= 0, !is_last && part >= 0);
		}
	}
}

template <enum bb_kv_dtype type, int n, int n_tiles, int n_rows>
DEVICE void join_whole(struct whole_tile<n_rows> *w, const struct attention_job &job,
	struct running<type, n, n_tiles> *r, bool is_first, bool is_last) {
	typedef whole_shape<type, n, n_tiles> S;
#pragma unroll
	for (int i = 0; i < S::TILES; i++) {
		const int row0 = row0_of(*w) + i * TILE;
		const float2 ml[2] = { ld_vec(split_ml(w, 2 * i)), ld_vec(split_ml(w, 2 * i + 1)) };
		float keep[2], add[2];
		join_whole_ml(w->ml + row0, ml, keep, add);
		join_whole_tile<S::BLOCKS>(job, r->o[i], w->parts + row0, keep, add, is_first, is_last);
	}
}

/* A warp's joined results to its rows. o: memory for the block's, [rows][O_STRIDE]: it is how 16
 * bytes of a row come into one lane. */
template <enum bb_kv_dtype type, int n, int n_tiles, int n_rows>
DEVICE void store_rows(struct whole_tile<n_rows> *w, const struct attention_job &job,
	const struct running<type, n, n_tiles> &r, float *o) {
	typedef whole_shape<type, n, n_tiles> S;
	const int lane = thread_afresh() % WARP, row0 = row0_of(*w);
	o += row0 * S::O_STRIDE;
	const bool is_wide = rows_are_wide(job.a.out, job.a.ld_out, job.a.head_dim);
#pragma unroll
	for (int i = 0; i < S::TILES * S::BLOCKS * 2; i++) {
		const int tile = i / (2 * S::BLOCKS), block = i / 2 % S::BLOCKS, h = i % 2;
		const float *x = r.o[tile][block] + 2 * h;
		st_vec((float2 *)(o + (tile * TILE + lane / 4 + 8 * h) * S::O_STRIDE + 8 * block
			+ lane % 4 * 2), make_float2(x[0], x[1]));
	}
	for (int row = row0 + lane; row < min(row0 + S::TILES * TILE, w->t.n_rows); row += WARP) {
		float2 ml = ld_vec(w->ml + row);
		const float keep = join_sink(job, head_of(job, w->t, row), &ml);
		st_vec(w->ml + row, make_float2(keep, ml.y));
	}
	__syncwarp();
	constexpr int per = S::BLOCKS * 2;
#pragma unroll 2
	for (int i = lane; i < S::TILES * TILE * per; i += WARP) {
		const int row = i / per, channel = i % per * 4, here = job.a.head_dim - channel;
		if (row0 + row < w->t.n_rows && here > 0) {
			const float2 ml = ld_vec(w->ml + row0 + row); /* the factor of O, and L */
			const float4 x = ld_vec((const float4 *)(o + row * S::O_STRIDE + channel));
			store4(job.a.out + w->out[row0 + row] + channel,
				make_float4(finish(x.x * ml.x, ml.y), finish(x.y * ml.x, ml.y),
					finish(x.z * ml.x, ml.y), finish(x.w * ml.x, ml.y)), here, is_wide);
		}
	}
}

/* ---- the kernel ---- */

/* The slots of a page that some row of the tile sees. */
DEVICE int2 seen_slots(const struct tile &t, int page) {
	return make_int2(max(t.first - page * BB_PAGE, 0), min(t.end - page * BB_PAGE, (int)BB_PAGE));
}

DEVICE bool is_last_page(const struct tile &t, int page) {
	return (page + 1) * BB_PAGE >= t.end;
}

/* Looks a page up, in the next group of copies. */
template <int n_rows> DEVICE void look_up(struct whole_tile<n_rows> *w, int page) {
	if (threadIdx.x == 0) {
		const uint32_t *from = (const uint32_t *)(w->t.kept->chunks[page / BB_CHUNK]
			+ page % BB_CHUNK);
		uint32_t *to = (uint32_t *)(w->pages + page % 2);
		cp_async4(to, from);
		cp_async4(to + 1, from + 1);
	}
}

/* The slab of a page that has been looked up. */
template <int n_rows> DEVICE const uint8_t *slab_of(const struct whole_tile<n_rows> &w, int page) {
	return w.pages[page % 2] + w.t.slab;
}

/* Starts the copies that a page's scores wait for: K, or all of it where that is int8. */
template <enum bb_kv_dtype type, int n, int n_tiles>
DEVICE void stage_keys(const struct whole_memory &mem, const struct attention_job &job,
	const uint8_t *slab, int2 seen) {
	typedef whole_shape<type, n, n_tiles> S;
	if (type == KV_INT8) {
		stage_raw<n>(mem, job, slab, seen.x, seen.y);
		return;
	}
	stage_plane<S::BLOCKS, S::K_STRIDE>(mem.k, slab, job.width / 8, seen.x, seen.y);
	cp_async_commit();
}

template <enum bb_kv_dtype type, int n, int n_tiles>
DEVICE void stage_values(const struct whole_memory &mem, const struct attention_job &job,
	const uint8_t *slab, int2 seen) {
	typedef whole_shape<type, n, n_tiles> S;
	stage_plane<S::BLOCKS, S::V_STRIDE>(mem.v, slab + job.k_bytes, job.width / 8, seen.x, seen.y);
	cp_async_commit();
}

/* grid: blocks of rows, last first because those see the most; kv heads. n: groups of channels that
 * a block has room for. */
template <enum bb_kv_dtype type, int n, int n_tiles>
__global__ void __launch_bounds__(THREADS, 2)
	attention_whole(const __grid_constant__ struct attention_job job) {
	typedef whole_shape<type, n, n_tiles> S;
	DYN_SHARED(uint8_t, bytes);
	SHARED(struct whole_tile<S::ROWS>, tiles, [1]);
	const struct whole_memory mem = whole_memory_of<type, n, n_tiles>(bytes, job);
	if (!find_whole_tile(tiles, job)) {
		return;
	}
	__syncthreads();
	const struct tile &t = tiles[0].t;
	stage_keys<type, n, n_tiles>(mem, job, slab_of(tiles[0], t.first / BB_PAGE),
		seen_slots(t, t.first / BB_PAGE));
	stage_queries<type>(mem.q, job, t, WARPS * S::TILES, S::STEPS);
	struct running<type, n, n_tiles> split;
	start(&split, tiles);
	tiles[0].at[threadIdx.x] = t.first / BB_PAGE;
#pragma unroll 1
	for (;; tiles[0].at[thread_afresh()]++) {
		uint32_t p[S::TILES][4][4];
		cp_async_wait<0>();
		__syncthreads();
		if (!is_last_page(t, page_of(tiles[0]))) {
			look_up(tiles, page_of(tiles[0]) + 1);
		}
		if (type == KV_INT8) {
			const int2 slots = seen_slots(t, page_of(tiles[0]));
			convert_page<n>(mem, job, slots.x, slots.y);
			cp_async_commit();
			cp_async_wait<0>();
			__syncthreads();
			if (!is_last_page(t, page_of(tiles[0]))) {
				stage_keys<type, n, n_tiles>(mem, job, slab_of(tiles[0], page_of(tiles[0]) + 1),
					seen_slots(t, page_of(tiles[0]) + 1));
			}
		} else {
			stage_values<type, n, n_tiles>(mem, job, slab_of(tiles[0], page_of(tiles[0])),
				seen_slots(t, page_of(tiles[0])));
		}
		if (sees(tiles[0], token0_of(tiles[0]))) {
			float s[S::TILES][8][4];
			whole_scores<type, n, n_tiles>(s, mem.k, mem.q);
			whole_softmax(&split, p, s, job, tiles, token0_of(tiles[0]));
		}
		if (type != KV_INT8) {
			cp_async_wait<0>();
			__syncthreads();
			if (!is_last_page(t, page_of(tiles[0]))) {
				stage_keys<type, n, n_tiles>(mem, job, slab_of(tiles[0], page_of(tiles[0]) + 1),
					seen_slots(t, page_of(tiles[0]) + 1));
			}
		}
		if (sees(tiles[0], token0_of(tiles[0]))) {
			whole_values(&split, mem.v, p);
		}
		const bool is_last = is_last_page(t, page_of(tiles[0]));
		if (page_of(tiles[0]) % SPLIT_PAGES == SPLIT_PAGES - 1 || is_last) {
			const bool is_first = page_of(tiles[0]) / SPLIT_PAGES == t.first / BB_SPLIT;
			join_whole(tiles, job, &split, is_first, is_last);
			if (is_last) {
				break;
			}
			start(&split, tiles);
		}
	}
	__syncthreads(); /* everyone is done with the pages, where the results go */
	store_rows(tiles, job, split, (float *)bytes);
}
