/* SPDX-License-Identifier: Apache-2.0
 *
 * Attention split by split: a block is a tile and a split, a warp takes a page of it. Partials go
 * to scratch, and the tile's last block joins them in order. For few rows (decode): all the
 * device's bandwidth. */
#pragma once

#include "attention_join.cuh"
#include "attention_smem.cuh"

/* Of a row of o in memory of the block: 16-byte rows, off the banks. */
enum { O_STRIDE = GROUP + 4 };

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
		page_max(m, s, rows, job, page * BB_PAGE);
		page_exp<type>(p, l, s, m, job);
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
