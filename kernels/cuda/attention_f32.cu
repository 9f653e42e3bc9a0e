/* SPDX-License-Identifier: Apache-2.0
 *
 * Attention over pages of f32, which no tensor core multiplies: fused multiply-adds along
 * channels and tokens in index order. For goldens; made to be exact rather than fast. A block is
 * a tile and a split, and walks the split's pages; partials are joined as those of the other
 * types. */
#include "attention_join.cuh"
#include "module.h"

enum {
	PAD = 4,                     /* floats after a row in memory of the block: off the banks */
	KEYS_ROWS = TILE * BB_PAGE / THREADS, /* rows that a thread scores with its token */
	PIECES = BB_SPLIT / 32,      /* of four channels, 32 apart: a thread's of a row of o */
};

struct f32_memory {
	float *q;  /* [TILE][width + PAD] */
	float *kv; /* [BB_PAGE][width + PAD]: K, then V */
	float *p;  /* [TILE][BB_PAGE + PAD]: scores, then p */
	float2 *ml; /* [TILE] of the page */
};

static size_t f32_bytes(int width) {
	return sizeof(float) * ((TILE + BB_PAGE) * ((size_t)width + PAD) + TILE * (BB_PAGE + PAD))
		+ TILE * sizeof(float2);
}

DEVICE struct f32_memory f32_memory_of(float *at, int width) {
	struct f32_memory m;
	m.q = at;
	m.kv = m.q + TILE * (width + PAD);
	m.p = m.kv + BB_PAGE * (width + PAD);
	m.ml = (float2 *)(m.p + TILE * (BB_PAGE + PAD));
	return m;
}

DEVICE void stage_page(float *to, int width, const uint8_t *from, int begin, int end) {
	const int n = width / 4;
	for (int i = (int)threadIdx.x; i < BB_PAGE * n; i += THREADS) {
		const int row = i / n, chunk = i - row * n;
		const bool is_seen = row >= begin && row < end;
		cp_async16_zfill(to + row * (width + PAD) + 4 * chunk,
			from + (is_seen ? (size_t)i * 16 : 0),
			is_seen ? 16 : 0);
	}
	cp_async_commit();
}

DEVICE float dot4(float sum, float4 x, float4 y) {
	return fmaf(x.w, y.w, fmaf(x.z, y.z, fmaf(x.y, y.y, fmaf(x.x, y.x, sum))));
}

/* Scores of 8 rows with one token a thread; those that a row can't see become NOTHING. */
DEVICE void f32_scores(const struct attention_job &job, const struct tile &t,
	const struct f32_memory &m, int token0) {
	const int stride = job.width + PAD, slot = (int)threadIdx.x % BB_PAGE;
	const int row0 = (int)threadIdx.x / BB_PAGE * KEYS_ROWS;
	float s[KEYS_ROWS] = { 0 };
	for (int d = 0; d < job.width; d += 4) {
		const float4 k = ld_vec((const float4 *)(m.kv + slot * stride + d));
#pragma unroll
		for (int r = 0; r < KEYS_ROWS; r++) {
			s[r] = dot4(s[r], ld_vec((const float4 *)(m.q + (row0 + r) * stride + d)), k);
		}
	}
#pragma unroll
	for (int r = 0; r < KEYS_ROWS; r++) {
		const int row = row0 + r, last = last_seen(job, t, row);
		const bool is_seen = row < t.n_rows && token0 + slot <= last
			&& token0 + slot >= first_seen(job, last);
		m.p[row * (BB_PAGE + PAD) + slot] = is_seen ? capped(job, s[r]) : NOTHING;
	}
}

/* A warp takes four rows, a lane two of their scores. */
DEVICE void f32_softmax(const struct f32_memory &m, float scale) {
	const int lane = (int)threadIdx.x % WARP, warp = (int)threadIdx.x / WARP;
	for (int row = warp * (TILE / WARPS); row < (warp + 1) * (TILE / WARPS); row++) {
		float *p = m.p + row * (BB_PAGE + PAD);
		const float x0 = p[lane], x1 = p[lane + WARP];
		float best = fmaxf(x0, x1);
		for (int d = WARP / 2; d > 0; d /= 2) {
			best = fmaxf(best, __shfl_xor_sync(ALL_LANES, best, d));
		}
		const float top = best == NOTHING ? 0.0f : best * scale;
		const float p0 = exp2_approx(fmaf(x0, scale, -top));
		const float p1 = exp2_approx(fmaf(x1, scale, -top));
		float sum = p0 + p1;
		for (int d = WARP / 2; d > 0; d /= 2) {
			sum += __shfl_xor_sync(ALL_LANES, sum, d);
		}
		p[lane] = p0;
		p[lane + WARP] = p1;
		if (lane == 0) {
			st_vec(m.ml + row, make_float2(best == NOTHING ? NOTHING : top, sum));
		}
	}
}

/* Joins the page to what eight threads a row have of O. */
DEVICE void f32_values(float O[PIECES][4], float *M, float *L, const struct f32_memory &m,
	int width) {
	const int row = (int)threadIdx.x / 8;
	const float2 ml = ld_vec(m.ml + row);
	float keep, add;
	join(M, L, ml.x, ml.y, &keep, &add);
#pragma unroll
	for (int i = 0; i < PIECES; i++) {
		const int channel = (int)threadIdx.x % 8 * 4 + 32 * i;
		if (channel >= width) {
			continue;
		}
		float o[4] = { 0, 0, 0, 0 };
		for (int k = 0; k < BB_PAGE; k++) {
			const float p = m.p[row * (BB_PAGE + PAD) + k];
			const float4 v = ld_vec((const float4 *)(m.kv + k * (width + PAD) + channel));
			o[0] = fmaf(p, v.x, o[0]);
			o[1] = fmaf(p, v.y, o[1]);
			o[2] = fmaf(p, v.z, o[2]);
			o[3] = fmaf(p, v.w, o[3]);
		}
		for (int k = 0; k < 4; k++) {
			O[i][k] = join_value(O[i][k], keep, o[k], add);
		}
	}
}

/* The split's partial. */
DEVICE void f32_store(const struct attention_job &job, const struct tile &t,
	const float O[PIECES][4], float M, float L) {
	const int row = (int)threadIdx.x / 8;
	if (row >= t.n_rows) {
		return;
	}
	const size_t at = (size_t)blockIdx.z * job.a.n_rows * job.a.n_heads + part_of(job, t, row);
#pragma unroll
	for (int i = 0; i < PIECES; i++) {
		const int channel = (int)threadIdx.x % 8 * 4 + 32 * i;
		if (channel < job.width) {
			st_vec((float4 *)(job.parts + at * job.width + channel),
				make_float4(O[i][0], O[i][1], O[i][2], O[i][3]));
		}
	}
	if ((int)threadIdx.x % 8 == 0) {
		st_vec(job.part_ml + at, make_float2(M, L));
	}
}

/* grid: tiles, kv heads, splits of the round. Two blocks: for three, unasked, the compiler would
 * spill. */
__global__ void __launch_bounds__(THREADS, 2)
	attention_split_f32(const __grid_constant__ struct attention_job job) {
	DYN_SHARED(float, floats);
	const struct f32_memory m = f32_memory_of(floats, job.width);
	struct tile t;
	int token0;
	if (!find_split(&t, job, &token0)) {
		return;
	}
	for (int i = (int)threadIdx.x; i < TILE * job.width; i += THREADS) {
		const int row = i / job.width, d = i - row * job.width;
		const bool is_there = row < t.n_rows && d < job.a.head_dim;
		m.q[row * (job.width + PAD) + d] = is_there ? query_of(job, t, row)[d] : 0;
	}
	float O[PIECES][4] = { { 0 } }, M = NOTHING, L = 0;
	for (int i = 0; i < SPLIT_PAGES; i++) {
		int begin, end;
		const int page = token0 / BB_PAGE + i;
		const uint8_t *slab = open_page(job, t, page, &begin, &end);
		if (slab == NULL) {
			continue;
		}
		stage_page(m.kv, job.width, slab, begin, end);
		cp_async_wait<0>();
		__syncthreads();
		f32_scores(job, t, m, page * BB_PAGE);
		__syncthreads();
		stage_page(m.kv, job.width, slab + job.k_bytes, begin, end);
		f32_softmax(m, unit_of(job));
		cp_async_wait<0>();
		__syncthreads();
		f32_values(O, &M, &L, m, job.width);
		__syncthreads();
	}
	f32_store(job, t, O, M, L);
	end_split(job, t, m.q);
}

static void launch(const struct attention_job *job, dim3 grid, cudaStream_t stream) {
	const size_t pages = f32_bytes(job->width), joins = join_bytes(job->width);
	const size_t bytes = pages > joins ? pages : joins;
	ALLOW_SMEM(attention_split_f32, bytes);
	LAUNCH(attention_split_f32, grid, THREADS, bytes, stream, *job);
}

void attention_f32_sm80(bb_queue *q, const struct bb_attention *a) {
	struct attention_job job;
	attention_prepare(&job, a, KV_F32);
	attention_rounds(q, &job, launch, NULL, "attention_split_f32");
}
