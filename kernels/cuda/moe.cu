/* SPDX-License-Identifier: Apache-2.0
 *
 * Choosing experts, listing their rows, and joining what the experts gave, with the bits of
 * kernels/moe.c. A warp chooses for a row. The lists are made without atomics, by counting: a place
 * follows from how many pairs stand before. */
#include "fused.cuh"
#include "module.h"

#include <assert.h>

enum { THREADS = 256, WARPS = THREADS / WARP };
static_assert((int)BB_MOE_USED <= (int)WARP, "a lane for each slot");

/* ---- one row ---- */

/* A number that grows with x; 0, below all others, for NaN. */
DEVICE uint32_t order_of(float x) {
	const uint32_t bits = __float_as_uint(x + 0.0f); /* -0 becomes 0: they are equals */
	return x == x ? bits ^ ((int32_t)bits < 0 ? 0xffffffffu : 0x80000000u) : 0;
}

DEVICE float value_of(uint32_t order) {
	return __uint_as_float(order ^ ((int32_t)order < 0 ? 0x80000000u : 0xffffffffu));
}

/* As in kernels/moe.c. */
struct scoring {
	enum bb_moe_score score;
	float max, sum;
};

DEVICE float score_of(const struct scoring *s, float x) {
	if (s->score == MOE_SIGMOID) {
		return sigmoid_f32(x);
	}
	const float e = exp_f32(x - s->max);
	return s->score == MOE_SOFTMAX ? e / s->sum : e;
}

DEVICE struct scoring scoring_of(const struct bb_moe_route *a, const float *x, int lane) {
	struct scoring s = { a->score, 0.0f, 0.0f };
	if (s.score != MOE_SIGMOID) {
		uint32_t largest = order_of(-INFINITY);
		for (int i = lane; i < a->n_experts; i += WARP) {
			largest = max(largest, order_of(x[i]));
		}
		s.max = value_of(__reduce_max_sync(ALL_LANES, largest));
	}
	if (s.score == MOE_SOFTMAX) {
		float sum = 0.0f;
		for (int i = lane; i < a->n_experts; i += WARP) {
			sum += exp_f32(x[i] - s.max);
		}
		s.sum = warp_sum(sum);
	}
	return s;
}

/* The expert of the lane's slot, by falling key, equals by index. */
DEVICE int choose(const uint32_t *keys, int n_experts, int n_used, int lane) {
	const unsigned none = 0xffffffffu;
	uint32_t last_key = 0xffffffffu;
	int last = -1, mine = 0;
	for (int slot = 0; slot < n_used; slot++) {
		uint32_t best_key = 0;
		unsigned best = none; /* of those after the last one */
		for (int i = lane; i < n_experts; i += WARP) {
			const uint32_t key = keys[i];
			const bool is_after = key < last_key || (key == last_key && i > last);
			if (is_after && (best == none || key > best_key)) {
				best_key = key;
				best = (unsigned)i;
			}
		}
		last_key = __reduce_max_sync(ALL_LANES, best_key);
		last = (int)__reduce_min_sync(ALL_LANES, best_key == last_key ? best : none);
		mine = lane == slot ? last : mine;
	}
	return mine;
}

/* The sum of the first n lanes' numbers, in order. */
DEVICE float sum_in_order(float w, int n) {
	float sum = 0.0f;
	for (int i = 0; i < n; i++) {
		sum += __shfl_sync(ALL_LANES, w, i);
	}
	return sum;
}

/* A warp routes a row; keys: [n_experts] in shared memory, its own. Returns the expert of the
 * lane's slot. */
DEVICE int route_row(const struct bb_moe_route *a, int row, uint32_t *keys) {
	const int lane = (int)threadIdx.x % WARP;
	const float *x = a->logits + (size_t)row * a->ld;
	const struct scoring s = scoring_of(a, x, lane);
	for (int i = lane; i < a->n_experts; i += WARP) {
		keys[i] = order_of(a->bias != NULL ? score_of(&s, x[i]) + a->bias[i] : x[i]);
	}
	__syncwarp();
	const int expert = choose(keys, a->n_experts, a->n_used, lane);
	float w = score_of(&s, x[expert]);
	if (a->score == MOE_SOFTMAX_CHOSEN) {
		w /= sum_in_order(w, a->n_used);
	}
	if (a->is_normalised) {
		w /= sum_in_order(w, a->n_used) + 1e-20f;
	}
	if (lane < a->n_used) {
		a->experts[(size_t)row * a->n_used + lane] = expert;
		a->weights[(size_t)row * a->n_used + lane] = w * a->scale;
	}
	return expert;
}

/* ---- a few rows: all in one block ---- */

__global__ void __launch_bounds__(THREADS) moe_route_few(struct bb_moe_route a) {
	SHARED(uint32_t, keys, [WARPS][BB_MOE_EXPERTS]);
	SHARED(int, experts, [WARPS * BB_MOE_USED]);
	const int lane = threadIdx.x % WARP, row = threadIdx.x / WARP, n_pairs = a.n_rows * a.n_used;
	if (row < a.n_rows) {
		const int expert = route_row(&a, row, keys[row]);
		if (lane < a.n_used) {
			experts[row * a.n_used + lane] = expert;
		}
	}
	__syncthreads();
	for (int e = threadIdx.x; e < a.n_experts; e += THREADS) {
		int at = 0;
		for (int i = 0; i < n_pairs; i++) {
			at += experts[i] < e ? 1 : 0;
		}
		a.offsets[e] = at;
		for (int i = 0; i < n_pairs; i++) {
			if (experts[i] == e) {
				a.pairs[at++] = i;
			}
		}
	}
	if (threadIdx.x == 0) {
		a.offsets[a.n_experts] = n_pairs;
	}
}

/* ---- any number of rows ---- */

__global__ void __launch_bounds__(THREADS) moe_route_rows(struct bb_moe_route a) {
	SHARED(uint32_t, keys, [WARPS][BB_MOE_EXPERTS]);
	const int warp = threadIdx.x / WARP, row = blockIdx.x * WARPS + warp;
	if (row < a.n_rows) {
		route_row(&a, row, keys[warp]);
	}
}

/* A block lists the pairs of one expert. Each warp has a stretch of all pairs: it counts those of
 * lower experts and of this one, and then puts the latter where they belong. */
__global__ void __launch_bounds__(THREADS) moe_list(struct bb_moe_route a) {
	SHARED(int, below, [WARPS]);
	SHARED(int, own, [WARPS]);
	const int lane = threadIdx.x % WARP, warp = threadIdx.x / WARP, e = blockIdx.x;
	const int n_pairs = a.n_rows * a.n_used, part = (n_pairs + THREADS - 1) / THREADS * WARP;
	const int begin = min(warp * part, n_pairs), end = min(begin + part, n_pairs);
	int n_below = 0, n_own = 0;
	for (int i = begin; i < end; i += WARP) {
		const int expert = i + lane < end ? a.experts[i + lane] : a.n_experts;
		n_below += __popc(__ballot_sync(ALL_LANES, expert < e));
		n_own += __popc(__ballot_sync(ALL_LANES, expert == e));
	}
	if (lane == 0) {
		below[warp] = n_below;
		own[warp] = n_own;
	}
	__syncthreads();
	int first = 0, at = 0;
	for (int i = 0; i < WARPS; i++) {
		first += below[i];
		at += i < warp ? own[i] : 0;
	}
	at += first;
	for (int i = begin; i < end; i += WARP) {
		const bool is_own = i + lane < end && a.experts[i + lane] == e;
		const unsigned who = __ballot_sync(ALL_LANES, is_own);
		if (is_own) {
			a.pairs[at + __popc(who & ((1u << lane) - 1))] = i + lane;
		}
		at += __popc(who);
	}
	if (threadIdx.x == 0) {
		a.offsets[e] = first;
		if (e == a.n_experts - 1) {
			a.offsets[e + 1] = n_pairs;
		}
	}
}

extern "C" void moe_route_sm80(bb_queue *q, const struct bb_moe_route *a) {
	assert(a->n_experts > 0 && a->n_experts <= BB_MOE_EXPERTS);
	assert(a->n_used > 0 && a->n_used <= BB_MOE_USED && a->n_used <= a->n_experts);
	assert(a->bias == NULL || a->score != MOE_SOFTMAX_CHOSEN);
	if (a->n_rows <= WARPS) {
		LAUNCH(moe_route_few, 1, THREADS, 0, q->stream, *a);
		queue_launched(q, "moe_route");
		return;
	}
	LAUNCH(moe_route_rows, blocks_for((size_t)a->n_rows, WARPS), THREADS, 0, q->stream, *a);
	queue_launched(q, "moe_route");
	LAUNCH(moe_list, (unsigned)a->n_experts, THREADS, 0, q->stream, *a);
	queue_launched(q, "moe_route");
}

/* ---- joining ---- */

enum { JOIN_THREADS = 128, JOIN_COLS = 4 * JOIN_THREADS, MAX_GRID_ROWS = 65535 };

struct combine_args {
	float *y;             /* [n_rows, ld_y] */
	const float *x;       /* [n_rows * n_used, ld_x] */
	const float *weights; /* [n_rows, n_used] */
	int ld_y, ld_x, n_used, dim;
	bool accumulate, wide;
};

/* acc + w x, both rounded. */
DEVICE float4 add_scaled(float4 acc, float w, float4 x) {
	return make_float4(acc.x + w * x.x, acc.y + w * x.y, acc.z + w * x.z, acc.w + w * x.w);
}

/* A thread takes four columns. Grid: columns by rows. */
__global__ void __launch_bounds__(JOIN_THREADS) combine_kernel(combine_args a) {
	const int i = (int)(blockIdx.x * JOIN_COLS + 4 * threadIdx.x), n = a.dim - i;
	if (n <= 0) {
		return;
	}
	const float *w = a.weights + (size_t)blockIdx.y * a.n_used;
	const float *x = a.x + (size_t)blockIdx.y * a.n_used * a.ld_x + i;
	float *y = a.y + (size_t)blockIdx.y * a.ld_y + i;
	const float4 first = load4(x, n, a.wide);
	float4 sum = make_float4(w[0] * first.x, w[0] * first.y, w[0] * first.z, w[0] * first.w);
	for (int s = 1; s < a.n_used; s++) {
		sum = add_scaled(sum, w[s], load4(x + (size_t)s * a.ld_x, n, a.wide));
	}
	if (a.accumulate) {
		const float4 old = load4(y, n, a.wide);
		sum = make_float4(old.x + sum.x, old.y + sum.y, old.z + sum.z, old.w + sum.w);
	}
	store4(y, sum, n, a.wide);
}

extern "C" void moe_combine_sm80(bb_queue *q, float *y, int ld_y, const float *x, int ld_x,
	const float *weights, int n_rows, int n_used, int dim, bool accumulate) {
	combine_args a = { y, x, weights, ld_y, ld_x, n_used, dim, accumulate,
		is_wide(y, ld_y) && is_wide(x, ld_x) };
	for (int row = 0; row < n_rows; row += MAX_GRID_ROWS) {
		const int n = n_rows - row < MAX_GRID_ROWS ? n_rows - row : MAX_GRID_ROWS;
		a.y = y + (size_t)row * ld_y;
		a.x = x + (size_t)row * n_used * ld_x;
		a.weights = weights + (size_t)row * n_used;
		LAUNCH(combine_kernel, dim3(blocks_for(dim, JOIN_COLS), n), JOIN_THREADS, 0, q->stream, a);
		queue_launched(q, "moe_combine");
	}
}
