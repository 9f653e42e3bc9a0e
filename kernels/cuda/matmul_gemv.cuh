/* SPDX-License-Identifier: Apache-2.0
 *
 * The product of block types for one row or two, of experts for up to 8. A block of threads takes
 * one panel of 32 columns, or two, and walks along k in steps of one, two or four spans of 256,
 * which cp.async brings to shared memory several steps ahead; then the next panels, whose weights
 * are on their way by then: as many blocks as fit the device share all panels. Each of the 8 warps
 * takes one block of 32 of a span, a lane per column, and leaves the exact integers of all rows
 * (dp4a) in shared memory; then a warp for each row and panel adds them to its outputs in block
 * order, while the next step's integers are made. So k is cut for the loads and the integers, where
 * no order counts, and never for the sums in f32.
 *
 * With fused_args a block first normalises and quantises x for itself, while its first weights are
 * on their way: a launch costs more than x from the cache. Of a gated activation it owns a panel of
 * the gate and that of the same columns of up, which give a block of 32 of the next product's x. */
#pragma once

#include "fused.cuh"
#include "matmul_quant.cuh"
#include "quantise.cuh"

enum {
	GEMV_THREADS = 256,           /* that copy and multiply */
	GEMV_WARPS = GEMV_THREADS / WARP,
	GEMV_ROWS = 8,
	FUSED_ROWS = 2,               /* at most, where each block computes x */
	GEMV_ROOM = 93 * 1024,        /* of two blocks on a multiprocessor of 9.0, without x */
	GEMV_ROOM_OF_MANY = 72 * 1024, /* of three, for more than FUSED_ROWS rows */
	STEP_BYTES = 18 * 1024 + 512,
	HELD = 4,
};
static_assert((int)GEMV_WARPS == (int)SPAN, "a warp for each block of a span");

/* What a kernel is made for, and how a block's shared memory is cut: a ring of steps { of each
 * panel its spans, and unless has_own_x: q [rows][spans][256], meta [rows][spans][8] }, then the
 * integers of two steps, as f32 [spans][rows][panels][8 blocks][parts][32 columns], then with
 * has_own_x whole rows of x. may_add: there may be warps that only add up. */
template <int type_, int rows_, int panels_, bool own_x_, bool may_add = true> struct gemv_shape {
	static constexpr int type = type_, rows = rows_, panels = panels_;
	static constexpr bool has_own_x = own_x_, is_few = rows <= FUSED_ROWS;
	static constexpr int parts = type == BB_Q6_K ? 2 : 1;
	static constexpr int span_bytes = panel_span_bytes(type, SPAN);
	/* Spans of a step. A small product has a block on each processor, whose time goes by in waits
	 * between steps: with few rows, fewer and larger ones are faster. */
	static constexpr int most_depth = is_few ? STEP_BYTES / (panels * span_bytes) : 1;
	static constexpr int depth = most_depth >= 4 ? 4 : most_depth >= 2 ? 2 : 1;
	static constexpr int dots = depth * rows * panels * SPAN * parts * PANEL;
	static constexpr int q_at = panels * depth * span_bytes;
	static constexpr int meta_at = q_at + rows * depth * SPAN_K;
	static constexpr int step_bytes = has_own_x ? q_at : meta_at + rows * depth * SPAN * 8;
	/* A processor has to have about 40 KB on their way from memory to be served at its full rate,
	 * and not every product is large enough for two blocks on each. Two steps are being read. */
	static constexpr int room = (is_few ? GEMV_ROOM : GEMV_ROOM_OF_MANY) - 2 * dots * 4;
	static constexpr int n_slots = room / step_bytes;
	static_assert(n_slots >= 3, "a step is on its way");
	static constexpr int dots_at = n_slots * step_bytes, x_at = dots_at + 2 * dots * 4;
	/* Sums of a few rows and panels are made by warps that do nothing else: one that multiplies as
	 * well would keep all others waiting. */
	static constexpr bool has_adders = may_add && rows * panels <= 2;
	static constexpr int first_adder = has_adders ? GEMV_WARPS : 0;
	static constexpr int threads = GEMV_THREADS + (has_adders ? rows * panels * WARP : 0);
	static constexpr int blocks = is_few ? 2 : 3; /* of a multiprocessor */
	static_assert(rows * panels <= GEMV_WARPS, "a warp for each row and panel");

	static constexpr int smem_bytes(int k) {
		return x_at + (has_own_x ? rows * (int)panel_x_row_bytes(type, k) : 0);
	}
};

/* A step of a group of panels, the block's t-th, and its slot in the ring. */
struct gemv_place {
	int group, step, slot, t;
};

template <class shape> DEVICE void advance(gemv_place &at, int n_steps) {
	at.t++;
	at.slot = at.slot + 1 == shape::n_slots ? 0 : at.slot + 1;
	if (++at.step == n_steps) {
		at.step = 0;
		at.group += (int)gridDim.x;
	}
}

/* ---- what differs with x of one's own ---- */

/* Groups of panels that a block takes at once; and the j-th panel of one. */
template <class shape> DEVICE int n_groups_of(const matmul_args &p) {
	return (n_panels(p.n) + shape::panels - 1) / shape::panels;
}

template <class shape> DEVICE int panel_at(const matmul_args &p, int group, int j) {
	return group * shape::panels + j;
}

/* Of a gated activation: the gate's, then up's of the same columns. */
template <class shape> DEVICE int n_groups_of(const fused_args &p) {
	return p.gated != NULL ? p.n / 2 / PANEL : n_groups_of<shape>((const matmul_args &)p);
}

template <class shape> DEVICE int panel_at(const fused_args &p, int group, int j) {
	return p.gated != NULL ? group + j * (p.n / 2 / PANEL) : group * shape::panels + j;
}

/* The block's first row. */
template <class shape> DEVICE int first_row(const matmul_args &p) {
	return (int)blockIdx.y * shape::rows;
}

/* A step's part of the rows of x in shared memory. */
struct x_part {
	const uint8_t *q, *meta;
	int q_stride, meta_stride; /* bytes from row to row */
};

template <class shape>
DEVICE x_part x_part_of(const uint8_t *smem, const gemv_place &at, int k) {
	if (shape::has_own_x) {
		const uint8_t *x = smem + shape::x_at;
		const int stride = (int)panel_x_row_bytes(shape::type, k);
		const int first = at.step * shape::depth * SPAN;
		return { x + first * 32, x + k + first * 8, stride, stride };
	}
	const uint8_t *slot = smem + at.slot * shape::step_bytes;
	return { slot + shape::q_at, slot + shape::meta_at, shape::depth * SPAN_K,
		shape::depth * SPAN * 8 };
}

/* Starts the copies of a step's x: of each span 16 units of q and 4 of meta a row. Rows beyond the
 * last are that one again. */
template <class shape, class args>
DEVICE void load_x(const args &p, uint8_t *smem, const gemv_place &at) {
	constexpr int q = shape::depth * 16, each = shape::depth * 20; /* units of a row */
	static_assert(shape::rows * each <= GEMV_THREADS, "a unit a thread");
	const int r = (int)threadIdx.x / each, v = (int)threadIdx.x % each;
	const int first = at.step * shape::depth * SPAN, n_blocks = p.k / 32 - first;
	uint8_t *slot = smem + at.slot * shape::step_bytes;
	if (r < shape::rows) {
		const uint8_t *from = x_of(p, min(first_row<shape>(p) + r, p.n_rows - 1),
			panel_x_row_bytes(shape::type, p.k));
		if (v < q && v < n_blocks * 2) {
			cp_async16(slot + shape::q_at + 16 * (r * q + v), from + first * 32 + 16 * v);
		} else if (v >= q && (v - q) * 2 < n_blocks) {
			cp_async16(slot + shape::meta_at + 16 * (r * (each - q) + v - q),
				from + p.k + first * 8 + 16 * (v - q));
		}
	}
}

template <class shape>
DEVICE void load_x(const fused_args &p, uint8_t *smem, const gemv_place &at) {
}

/* What is done before the first step, where x isn't prepared. */
template <class shape, class args> DEVICE void make_x(const args &p, uint8_t *smem) {
	await_launches();
}

DEVICE float normed(const fused_args &p, const float *x, float inverse, int i) {
	const float v = x[i] * inverse;
	return p.norm != NULL ? v * p.norm[i] : v;
}

/* Where rows may be read by 16 bytes: a thread keeps what it reads first, HELD times 4 columns from
 * 4 threadIdx.x on; columns behind them are read again. Warps that add have none. */
DEVICE bool is_held(const fused_args &p) {
	return p.wide && p.k > RMS_SHORT;
}

DEVICE void read_held(float4 v[HELD], const float *x, int k) {
	UNROLL
	for (int j = 0; j < HELD; j++) {
		const int i = 4 * ((int)threadIdx.x + j * GEMV_THREADS);
		const bool is_there = threadIdx.x < GEMV_THREADS && i < k;
		v[j] = is_there ? ld_vec((const float4 *)(x + i)) : make_float4(0, 0, 0, 0);
	}
}

DEVICE float4 scaled(float4 v, float by, float4 w) {
	return make_float4(v.x * by * w.x, v.y * by * w.y, v.z * by * w.z, v.w * by * w.w);
}

/* norm: of the columns held. */
DEVICE void make_row(const fused_args &p, uint8_t *to, const float *x, const float4 norm[HELD],
	float *sums) {
	const int tid = threadIdx.x, step = 4 * GEMV_THREADS;
	const int n = tid < GEMV_THREADS ? p.k : 0; /* columns */
	float4 v[HELD];
	read_held(v, x, p.k);
	float sum = 0.0f;
	UNROLL
	for (int j = 0; j < HELD; j++) {
		sum = add_squares(sum, v[j]);
	}
	UNROLL_BY(1)
	for (int i = 4 * tid + HELD * step; i < n; i += step) {
		sum = add_squares(sum, ld_vec((const float4 *)(x + i)));
	}
	const float inverse = rms_joined<GEMV_WARPS>(sum, p.k, p.eps, tid, sums);
	if (n == 0) {
		return;
	}
	UNROLL
	for (int j = 0; j < HELD; j++) {
		put_quarter(to, p.k, 4 * tid + j * step, scaled(v[j], inverse, norm[j]));
	}
	UNROLL_BY(1)
	for (int i = 4 * tid + HELD * step; i - 4 * tid < p.k; i += step) {
		const bool is_there = i < p.k;
		const float4 w = is_there && p.norm != NULL ? ld_vec((const float4 *)(p.norm + i))
			: make_float4(1, 1, 1, 1);
		put_quarter(to, p.k, i, scaled(is_there ? ld_vec((const float4 *)(x + i))
			: make_float4(0, 0, 0, 0), inverse, w));
	}
}

/* Normalises and quantises the rows, as prep_norm does it. */
template <class shape> DEVICE void make_x(const fused_args &p, uint8_t *smem) {
	SHARED(float, sums, [GEMV_WARPS]);
	const int lane = (int)threadIdx.x % WARP, warp = (int)threadIdx.x / WARP, n_blocks = p.k / 32;
	uint8_t *to = smem + shape::x_at;
	float4 norm[HELD];
	UNROLL
	for (int j = 0; j < HELD; j++) {
		norm[j] = make_float4(1, 1, 1, 1);
	}
	if (p.norm != NULL && is_held(p)) {
		read_held(norm, p.norm, p.k); /* nobody writes weights */
	}
	await_launches();
	UNROLL_BY(1)
	for (int r = 0; r < shape::rows; r++) {
		const float *x = p.from + (size_t)min(r, p.n_rows - 1) * p.ld;
		if (is_held(p)) {
			make_row(p, to, x, norm, sums);
		} else {
			const float inverse = p.k <= RMS_SHORT
				? rms_inverse<1>(x, p.k, p.eps, p.wide, lane, sums)
				: rms_inverse<GEMV_WARPS>(x, p.k, p.eps, p.wide, (int)threadIdx.x, sums);
			UNROLL_BY(1)
			for (int b = warp; warp < GEMV_WARPS && b < n_blocks; b += GEMV_WARPS) {
				put_block(to, p.k, b, normed(p, x, inverse, b * 32 + lane));
			}
		}
		__syncthreads(); /* sums are read */
		to += panel_x_row_bytes(shape::type, p.k);
	}
}

/* Stores the output that a lane of a warp of `row` and the group's j-th panel has summed. */
template <class shape, class args>
DEVICE void finish(const args &p, int group, int row, int j, bool adds, float acc) {
	if (adds) {
		const int at = first_row<shape>(p) + row;
		finish_output(p, at, panel_at<shape>(p, group, j) * PANEL + (int)threadIdx.x % WARP, acc);
	}
}

template <class shape> DEVICE void finish(const fused_args &p, int group, int row, int j, bool adds,
	float acc) {
	SHARED(float, ups, [FUSED_ROWS * PANEL]);
	const int lane = (int)threadIdx.x % WARP, panel = panel_at<shape>(p, group, j);
	if (p.gated == NULL) {
		finish<shape>((const matmul_args &)p, group, row, j, adds, acc);
		return;
	}
	acc = adds && p.bias != NULL ? acc + p.bias[panel * PANEL + lane] : acc;
	if (adds && j == 1) {
		ups[row * PANEL + lane] = acc;
	}
	__syncthreads();
	if (adds && j == 0 && row < p.n_rows) {
		uint8_t *to = p.gated + row * p.gated_bytes;
		const float up = ups[row * PANEL + lane];
		put_block(to, p.n / 2, panel,
			p.is_gelu ? gated<GATE_GELU>(acc, up) : gated<GATE_SILU>(acc, up));
		if (panel == p.n / 2 / PANEL - 1 && lane == 0) {
			put_end(to, p.n / 2);
		}
	}
}

/* ---- what doesn't ---- */

/* Starts the copies of a step's weights. A panel's spans follow one another, in memory as in the
 * slot. */
template <class shape, class args>
DEVICE void load_w(const args &p, uint8_t *smem, const gemv_place &at) {
	constexpr int units = shape::depth * shape::span_bytes / 16; /* of a panel */
	const size_t bytes = panel_bytes(shape::type, p.k);
	const int there = (int)(bytes / 16) - at.step * units;
	const int u = (int)threadIdx.x;
	uint8_t *to = smem + at.slot * shape::step_bytes + 16 * u;
	const uint8_t *from = p.w + (size_t)at.step * units * 16 + 16 * u;
	UNROLL
	for (int j = 0; j < shape::panels; j++) {
		const int panel = panel_at<shape>(p, at.group, j);
		const int n = panel < n_panels(p.n) ? there : 0;
		const uint8_t *of_panel = from + panel * bytes;
		UNROLL
		for (int u0 = 0; u0 < units; u0 += GEMV_THREADS) {
			if ((units - u0 >= GEMV_THREADS || u < units - u0) && u < n - u0) {
				cp_async16(to + (j * units + u0) * 16, of_panel + u0 * 16);
			}
		}
	}
}

/* The first copies of a block: as many steps as can be on their way, of weights or of x. */
template <class shape, bool is_of_w, class args>
DEVICE void start(const args &p, uint8_t *smem, gemv_place &to, int n_groups, int n_steps) {
	UNROLL_BY(1) /* a kernel this short waits for its own instructions */
	for (int i = 0; i < shape::n_slots - 2; i++) {
		if (to.group < n_groups) {
			if (threadIdx.x < GEMV_THREADS && is_of_w) {
				load_w<shape>(p, smem, to);
			} else if (threadIdx.x < GEMV_THREADS) {
				load_x<shape>(p, smem, to);
			}
			advance<shape>(to, n_steps);
		}
		cp_async_commit();
	}
}

/* The integers of one block for all rows. span: the panel's, of n_blocks; x: the step's, whose b-th
 * block in the span is x's first + b; to: [rows][panels][8][parts][32], of the panel and span. */
template <class shape> DEVICE void gemv_dots(float *to, const uint8_t *span, const x_part &x,
	int first, int n_blocks, int b, int lane) {
	constexpr int type = shape::type;
	uint32_t c[8];
	read_codes<type>(c, span, n_blocks, b, lane);
	UNROLL
	for (int r = 0; r < shape::rows; r++) {
		const uint4 *q = (const uint4 *)(x.q + r * x.q_stride + (first + b) * 32);
		const uint4 lo = ld_vec(q), hi = ld_vec(q + 1);
		int d0 = dp4a_s8(c[0], lo.x, 0), d1 = dp4a_s8(c[4], hi.x, 0);
		d0 = dp4a_s8(c[1], lo.y, d0);
		d1 = dp4a_s8(c[5], hi.y, d1);
		d0 = dp4a_s8(c[2], lo.z, d0);
		d1 = dp4a_s8(c[6], hi.z, d1);
		d0 = dp4a_s8(c[3], lo.w, d0);
		d1 = dp4a_s8(c[7], hi.w, d1);
		if (panel_offset(type) != 0) {
			const uint2 meta = ld_vec((const uint2 *)(x.meta + r * x.meta_stride) + first + b);
			d0 -= panel_offset(type) * x_sum0(meta);
			d1 -= panel_offset(type) * x_sum1(meta);
		}
		float *at = to + (r * shape::panels * SPAN + b) * shape::parts * PANEL + lane;
		at[0] = (float)(shape::parts == 2 ? d0 : d0 + d1);
		if (shape::parts == 2) {
			at[PANEL] = (float)d1;
		}
	}
}

/* Adds a span's integers, from[8][parts][32], to the output of one row and column, in block order.
 * metas: the row's, of the span. */
template <class shape, bool is_whole> DEVICE float gemv_add(float acc, const float *from,
	const uint8_t *span, const uint8_t *metas, int n_blocks, int lane) {
	constexpr int type = shape::type, parts = shape::parts;
	const scale_header header = read_header<type>(span, n_blocks, lane);
	const int n_single = is_whole ? 0 : n_blocks, n_paired = is_whole ? SPAN : 0;
	from += lane;
	UNROLL_BY(1)
	for (int b = 0; b < n_single; b++) {
		acc = add_block<type>(acc, from[b * parts * PANEL], 0.0f,
			read_scale<type>(header, span, n_blocks, b, lane), ld_vec((const uint2 *)metas + b));
	}
	UNROLL
	for (int b = 0; b < n_paired; b++) {
		const uint4 both = ld_vec((const uint4 *)metas + b / 2);
		acc = add_block<type>(acc, from[b * parts * PANEL],
			parts == 2 ? from[(b * parts + 1) * PANEL] : 0.0f,
			read_scale<type>(header, span, n_blocks, b, lane),
			b % 2 == 0 ? make_uint2(both.x, both.y) : make_uint2(both.z, both.w));
	}
	return acc;
}

/* The row and panel of the group whose outputs a warp adds up. */
struct gemv_sum {
	int row, panel;
	bool adds; /* the warp has one */
	float acc;
};

/* The d-th span of a panel in a slot, and its integers. */
template <class shape> DEVICE const uint8_t *span_of(const uint8_t *smem, const gemv_place &at,
	int panel, int d) {
	return smem + at.slot * shape::step_bytes + (panel * shape::depth + d) * shape::span_bytes;
}

template <class shape>
DEVICE float *dots_of(uint8_t *smem, const gemv_place &at, int row, int panel, int d) {
	constexpr int of_panel = SPAN * shape::parts * PANEL;
	return (float *)(smem + shape::dots_at) + at.t % 2 * shape::dots
		+ ((d * shape::rows + row) * shape::panels + panel) * of_panel;
}

/* Adds up a step. is_whole: all its spans have all their blocks. Places in a span are constants
 * then, and all that a warp reads is on its way at once: one after the other, these reads would
 * take longer than the weights. */
template <class shape, bool is_whole>
DEVICE void gemv_sum_step(gemv_sum &sum, uint8_t *smem, const gemv_place &at, int k) {
	const int lane = threadIdx.x % WARP;
	const x_part x = x_part_of<shape>(smem, at, k);
	UNROLL_BY(is_whole ? shape::depth : 1)
	for (int d = 0; d < shape::depth; d++) {
		const int here = is_whole ? SPAN
			: min((int)SPAN, k / 32 - (at.step * shape::depth + d) * SPAN);
		if (here > 0) {
			sum.acc = gemv_add<shape, is_whole || panel_is_k(shape::type)>(sum.acc,
				dots_of<shape>(smem, at, sum.row, sum.panel, d),
				span_of<shape>(smem, at, sum.panel, d),
				x.meta + sum.row * x.meta_stride + d * SPAN * 8, here, lane);
		}
	}
}

/* Makes the integers of a step. */
template <class shape, bool is_whole>
DEVICE void gemv_dot_step(uint8_t *smem, const gemv_place &at, int k, int n_panels_here) {
	const int lane = threadIdx.x % WARP, warp = threadIdx.x / WARP;
	const x_part x = x_part_of<shape>(smem, at, k);
	UNROLL_BY(is_whole ? shape::depth : 1)
	for (int d = 0; d < shape::depth; d++) {
		const int here = is_whole ? SPAN
			: min((int)SPAN, k / 32 - (at.step * shape::depth + d) * SPAN);
		UNROLL
		for (int j = 0; j < shape::panels; j++) {
			if ((is_whole || warp < here) && j < n_panels_here) {
				gemv_dots<shape>(dots_of<shape>(smem, at, 0, j, d), span_of<shape>(smem, at, j, d),
					x, d * SPAN, here, warp, lane);
			}
		}
	}
}

template <class shape, class args> DEVICE int n_panels_there(const args &p, int group) {
	return panel_at<shape>(p, group, shape::panels - 1) < n_panels(p.n) ? shape::panels : 1;
}

/* What a block does: its groups of panels, every gridDim.x-th, for the rows from first_row on.
 * Weights are on their way before the launches that make x have ended. Between two barriers the
 * integers of a step are made, and those of the one before are added up. */
template <class shape, class args> DEVICE void gemv_tile(const args &p) {
	DYN_SHARED(uint8_t, smem);
	constexpr int ahead = shape::n_slots - 2; /* steps on their way */
	const int warp = threadIdx.x / WARP, n_groups = n_groups_of<shape>(p);
	const int adder = warp - shape::first_adder;
	const bool multiplies = warp < GEMV_WARPS;
	const int n_spans = (p.k / 32 + SPAN - 1) / SPAN, n_whole = p.k / 32 / SPAN / shape::depth;
	const int n_steps = (n_spans + shape::depth - 1) / shape::depth;
	gemv_sum sum = { adder / shape::panels, adder % shape::panels, false, 0.0f };
	gemv_place to = { (int)blockIdx.x, 0, 0, 0 }, at = to, last = to;
	start<shape, true>(p, smem, to, n_groups, n_steps);
	make_x<shape>(p, smem);
	if (!shape::has_own_x) {
		gemv_place x = at;
		start<shape, false>(p, smem, x, n_groups, n_steps);
	}
	for (bool is_behind = false;; is_behind = true) {
		const bool is_there = at.group < n_groups;
		cp_async_wait<ahead - 1>();
		__syncthreads();
		/* The slot of the step before last is free, that of the last is read for scales. */
		if (to.group < n_groups) {
			if (multiplies) {
				load_w<shape>(p, smem, to);
				load_x<shape>(p, smem, to);
			}
			advance<shape>(to, n_steps);
		}
		cp_async_commit();
		if (is_behind) {
			sum.adds = adder >= 0 && sum.row < shape::rows
				&& sum.panel < n_panels_there<shape>(p, last.group);
			if (sum.adds && last.step < n_whole) {
				gemv_sum_step<shape, true>(sum, smem, last, p.k);
			} else if (sum.adds) {
				gemv_sum_step<shape, false>(sum, smem, last, p.k);
			}
			if (last.step == n_steps - 1) {
				finish<shape>(p, last.group, sum.row, sum.panel, sum.adds, sum.acc);
				sum.acc = 0.0f;
			}
		}
		if (!is_there) {
			break;
		}
		if (multiplies && at.step < n_whole) {
			gemv_dot_step<shape, true>(smem, at, p.k, n_panels_there<shape>(p, at.group));
		} else if (multiplies) {
			gemv_dot_step<shape, false>(smem, at, p.k, n_panels_there<shape>(p, at.group));
		}
		last = at;
		advance<shape>(at, n_steps);
	}
}

/* Grid: at most a block for each group of panels, by groups of `rows` rows. args: matmul_args or
 * fused_args. */
template <class shape, class args>
__global__ void __launch_bounds__(shape::threads, shape::blocks) matmul_gemv(args p) {
	gemv_tile<shape>(p);
}
