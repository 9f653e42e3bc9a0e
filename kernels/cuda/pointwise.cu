/* SPDX-License-Identifier: Apache-2.0
 *
 * What happens to each element by itself: gated activations, sums. A thread takes four neighbours;
 * only the width of its accesses depends on where they lie. */
#include "fused.cuh"
#include "module.h"

enum { THREADS = 256, PER_BLOCK = 4 * THREADS };

/* ---- gated activations ---- */

template <int kind>
__global__ void __launch_bounds__(THREADS) gated_kernel(float *y, int ld_y, const float *gate,
	const float *up, int ld, int dim, bool wide) {
	const int i = (int)(blockIdx.x * PER_BLOCK + 4 * threadIdx.x), n = dim - i;
	const size_t row = blockIdx.y;
	if (n <= 0) {
		return;
	}
	const float4 g = load4(gate + row * ld + i, n, wide), u = load4(up + row * ld + i, n, wide);
	const float4 v = make_float4(gated<kind>(g.x, u.x), gated<kind>(g.y, u.y),
		gated<kind>(g.z, u.z), gated<kind>(g.w, u.w));
	store4(y + row * ld_y + i, v, n, wide);
}

/* Rows are the grid's second dimension, which ends at 65535. */
enum { MAX_GRID_ROWS = 65535 };

template <int kind>
static void run_gated(bb_queue *q, float *y, int ld_y, const float *gate, const float *up, int ld,
	int n_rows, int dim, const char *name) {
	const bool wide = is_wide(y, ld_y) && is_wide(gate, ld) && is_wide(up, ld);
	for (int row = 0; row < n_rows; row += MAX_GRID_ROWS) {
		const int n = n_rows - row < MAX_GRID_ROWS ? n_rows - row : MAX_GRID_ROWS;
		LAUNCH((gated_kernel<kind>), dim3(blocks_for(dim, PER_BLOCK), n), THREADS, 0, q->stream,
			y + (size_t)row * ld_y, ld_y, gate + (size_t)row * ld, up + (size_t)row * ld, ld, dim,
			wide);
		queue_launched(q, name);
	}
}

extern "C" void silu_mul_sm80(bb_queue *q, float *y, int ld_y, const float *gate, const float *up,
	int ld, int n_rows, int dim) {
	run_gated<GATE_SILU>(q, y, ld_y, gate, up, ld, n_rows, dim, "silu_mul");
}

extern "C" void gelu_mul_sm80(bb_queue *q, float *y, int ld_y, const float *gate, const float *up,
	int ld, int n_rows, int dim) {
	run_gated<GATE_GELU>(q, y, ld_y, gate, up, ld, n_rows, dim, "gelu_mul");
}

extern "C" void gelu_erf_mul_sm80(bb_queue *q, float *y, int ld_y, const float *gate,
	const float *up, int ld, int n_rows, int dim) {
	run_gated<GATE_GELU_ERF>(q, y, ld_y, gate, up, ld, n_rows, dim, "gelu_erf_mul");
}

extern "C" void mul_sm80(bb_queue *q, float *y, int ld_y, const float *a, const float *b, int ld,
	int n_rows, int dim) {
	run_gated<GATE_NONE>(q, y, ld_y, a, b, ld, n_rows, dim, "mul");
}

/* A gate that is no part of what it gates. */
__global__ void __launch_bounds__(THREADS) sigmoid_kernel(float *y, int ld_y, const float *gate,
	const float *up, int ld, int dim, bool wide) {
	const int i = (int)(blockIdx.x * PER_BLOCK + 4 * threadIdx.x), n = dim - i;
	const size_t row = blockIdx.y;
	if (n <= 0) {
		return;
	}
	const float4 g = load4(gate + row * ld + i, n, wide), u = load4(up + row * ld + i, n, wide);
	const float4 v = make_float4(sigmoid_f32(g.x) * u.x, sigmoid_f32(g.y) * u.y,
		sigmoid_f32(g.z) * u.z, sigmoid_f32(g.w) * u.w);
	store4(y + row * ld_y + i, v, n, wide);
}

extern "C" void sigmoid_mul_sm80(bb_queue *q, float *y, int ld_y, const float *gate,
	const float *up, int ld, int n_rows, int dim) {
	const bool wide = is_wide(y, ld_y) && is_wide(gate, ld) && is_wide(up, ld);
	for (int row = 0; row < n_rows; row += MAX_GRID_ROWS) {
		const int n = n_rows - row < MAX_GRID_ROWS ? n_rows - row : MAX_GRID_ROWS;
		LAUNCH(sigmoid_kernel, dim3(blocks_for(dim, PER_BLOCK), n), THREADS, 0, q->stream,
			y + (size_t)row * ld_y, ld_y, gate + (size_t)row * ld, up + (size_t)row * ld, ld, dim,
			wide);
		queue_launched(q, "sigmoid_mul");
	}
}

/* ---- y = cap tanh(y / cap) ---- */

__global__ void __launch_bounds__(THREADS) softcap_kernel(float *y, size_t n, float cap,
	bool wide) {
	const size_t i = (size_t)blockIdx.x * PER_BLOCK + 4 * threadIdx.x;
	if (i >= n) {
		return;
	}
	const int left = n - i < 4 ? (int)(n - i) : 4;
	const float4 x = load4(y + i, left, wide);
	store4(y + i, make_float4(softcap_f32(x.x, cap), softcap_f32(x.y, cap), softcap_f32(x.z, cap),
		softcap_f32(x.w, cap)), left, wide);
}

extern "C" void softcap_sm80(bb_queue *q, float *y, size_t n, float cap) {
	if (n == 0) {
		return;
	}
	LAUNCH(softcap_kernel, blocks_for(n, PER_BLOCK), THREADS, 0, q->stream, y, n, cap, is_wide(y));
	queue_launched(q, "softcap");
}

/* ---- y = y + scale x ---- */

__global__ void __launch_bounds__(THREADS) add_kernel(float *y, const float *x, size_t n,
	float scale, bool wide) {
	const size_t i = (size_t)blockIdx.x * PER_BLOCK + 4 * threadIdx.x;
	if (i >= n) {
		return;
	}
	const int left = n - i < 4 ? (int)(n - i) : 4;
	const float4 a = load4(y + i, left, wide), b = load4(x + i, left, wide);
	store4(y + i, make_float4(a.x + scale * b.x, a.y + scale * b.y, a.z + scale * b.z,
		a.w + scale * b.w), left, wide);
}

extern "C" void add_sm80(bb_queue *q, float *y, const float *x, size_t n, float scale) {
	if (n == 0) {
		return;
	}
	LAUNCH(add_kernel, blocks_for(n, PER_BLOCK), THREADS, 0, q->stream, y, x, n, scale,
		is_wide(y) && is_wide(x));
	queue_launched(q, "add");
}

/* ---- y = f(x) ---- */

DEVICE float map_one(float x, int f) {
	switch (f) {
	case BB_MAP_TANH: /* 2 sigmoid(2 x) - 1 */
		return 2.0f * sigmoid_f32(x + x) - 1.0f;
	case BB_MAP_SIGMOID:
		return sigmoid_f32(x);
	case BB_MAP_RELU2:
		return x <= 0.0f ? 0.0f : x * x; /* a NaN stays one */
	case BB_MAP_SILU:
		return x * sigmoid_f32(x);
	case BB_MAP_HALF:
		return 0.5f * x;
	case BB_MAP_DECAY6: /* 0 from 5 on, and e^x of much more isn't defined */
		return exp_f32(-exp_f32(x > 5.0f ? 5.0f : x));
	case BB_MAP_DECAY7:
		return exp_f32(-0.60653066f * sigmoid_f32(x));
	default:
		return x;
	}
}

__global__ void __launch_bounds__(THREADS) map_kernel(float *y, int ld_y, const float *x, int ld_x,
	int dim, int f, bool wide) {
	const int i = (int)(blockIdx.x * PER_BLOCK + 4 * threadIdx.x), n = dim - i;
	const size_t row = blockIdx.y;
	if (n <= 0) {
		return;
	}
	const float4 v = load4(x + row * ld_x + i, n, wide);
	store4(y + row * ld_y + i, make_float4(map_one(v.x, f), map_one(v.y, f), map_one(v.z, f),
		map_one(v.w, f)), n, wide);
}

extern "C" void map_sm80(bb_queue *q, float *y, int ld_y, const float *x, int ld_x, int n_rows,
	int dim, enum bb_map f) {
	const bool wide = is_wide(y, ld_y) && is_wide(x, ld_x);
	for (int row = 0; row < n_rows; row += MAX_GRID_ROWS) {
		const int n = n_rows - row < MAX_GRID_ROWS ? n_rows - row : MAX_GRID_ROWS;
		LAUNCH(map_kernel, dim3(blocks_for(dim, PER_BLOCK), n), THREADS, 0, q->stream,
			y + (size_t)row * ld_y, ld_y, x + (size_t)row * ld_x, ld_x, dim, (int)f, wide);
		queue_launched(q, "map");
	}
}

/* ---- y = from + (to - from) by ---- */

__global__ void __launch_bounds__(THREADS) lerp_kernel(float *y, int ld_y, const float *from,
	int ld_from, const float *to, int ld_to, const float *by, int ld_by, int dim, bool wide) {
	const int i = (int)(blockIdx.x * PER_BLOCK + 4 * threadIdx.x), n = dim - i;
	const size_t row = blockIdx.y;
	if (n <= 0) {
		return;
	}
	const float4 a = load4(from + row * ld_from + i, n, wide);
	const float4 b = load4(to + row * ld_to + i, n, wide);
	const float4 s = load4(by + row * ld_by + i, n, wide);
	store4(y + row * ld_y + i, make_float4(fmaf(b.x - a.x, s.x, a.x), fmaf(b.y - a.y, s.y, a.y),
		fmaf(b.z - a.z, s.z, a.z), fmaf(b.w - a.w, s.w, a.w)), n, wide);
}

extern "C" void lerp_sm80(bb_queue *q, float *y, int ld_y, const float *from, int ld_from,
	const float *to, int ld_to, const float *by, int ld_by, int n_rows, int dim) {
	const bool wide = is_wide(y, ld_y) && is_wide(from, ld_from) && is_wide(to, ld_to) &&
		is_wide(by, ld_by);
	for (int row = 0; row < n_rows; row += MAX_GRID_ROWS) {
		const int n = n_rows - row < MAX_GRID_ROWS ? n_rows - row : MAX_GRID_ROWS;
		LAUNCH(lerp_kernel, dim3(blocks_for(dim, PER_BLOCK), n), THREADS, 0, q->stream,
			y + (size_t)row * ld_y, ld_y, from + (size_t)row * ld_from, ld_from,
			to + (size_t)row * ld_to, ld_to, by + (size_t)row * ld_by, ld_by, dim, wide);
		queue_launched(q, "lerp");
	}
}
