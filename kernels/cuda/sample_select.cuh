/* SPDX-License-Identifier: Apache-2.0
 *
 * How a block of 1024 threads finds its way in a row of logits: places in the falling order, the
 * first of them sorted, the first at which a count or a sum of weights reaches a number. All sums
 * are of whole numbers, so that neither order nor partition can change a bit. What is done with it
 * is in sample_token.cu.
 *
 * A place is a number of 51 bits, different for every token of a row: the larger, the earlier in
 * the order of falling logits, equals by rising id.
 *
 * Functions are called by the whole block. Those that use the room begin when nobody needs it and
 * end behind a barrier. */
#pragma once

#include "math.cuh"
#include "module.h"

#include <float.h>

enum {
	THREADS = 1024,
	WARPS = THREADS / WARP,
	QUAD = 4 * WARP, /* what a warp reads at once */
	ID_BITS = 19,
	LAST_ID = (1 << ID_BITS) - 1,
	PLACE_BITS = 32 + ID_BITS,
	DIGIT_BITS = 11,
	BINS = 1 << DIGIT_BITS,
};
static_assert(BB_SAMPLE_VOCAB == LAST_ID + 1, "ids in places");
static_assert(BINS == 2 * THREADS, "a thread has two bins");

/* The block's shared memory. */
struct room {
	uint64_t warps[WARPS];    /* a number of each warp */
	uint64_t list[THREADS];
	uint32_t low[BINS], high[BINS];
	uint64_t place, sum;      /* what one thread found for all */
	int n_listed;
};

/* A row, with the range that is this thread's warp's; of it a lane takes four elements in every
 * QUAD. Ranges are contiguous, so that sums of warps tell where in the row a running sum is. */
struct row {
	const float *x; /* [n] */
	int n, begin, end;
	bool wide;
	float best, scale, min_p; /* what weights are made of */
};

/* ---- places ---- */

DEVICE uint64_t place_of(float x, int id) {
	const uint32_t bits = __float_as_uint(x + 0.0f); /* -0 becomes 0: they are equals */
	const uint32_t key = bits ^ ((int32_t)bits < 0 ? 0xffffffffu : 0x80000000u);
	return (uint64_t)key << ID_BITS | (uint64_t)(LAST_ID - id);
}

DEVICE int id_of(uint64_t place) {
	return LAST_ID - (int)(place & LAST_ID);
}

DEVICE float logit_of(uint64_t place) {
	const uint32_t key = (uint32_t)(place >> ID_BITS);
	return __uint_as_float(key ^ ((int32_t)key < 0 ? 0x80000000u : 0xffffffffu));
}

/* ---- weights: multiples of 2^-44, at most 1, so that 2^19 of them fit 63 bits ---- */

DEVICE uint64_t whole_of(float w) {
	return (uint64_t)llrintf(w * 0x1p44f);
}

DEVICE float share_of(const struct row *r, float x) {
	return exp_f32(r->scale * (x - r->best));
}

DEVICE uint64_t weight_of(const struct row *r, float x) {
	const float w = share_of(r, x);
	return w >= r->min_p ? whole_of(w) : 0;
}

/* ---- reading a row ---- */

/* Elements that each warp gets of n. */
DEVICE int part_of(int n) {
	return (n + WARPS * QUAD - 1) / (WARPS * QUAD) * QUAD;
}

DEVICE struct row row_of(const float *x, int n, bool wide) {
	struct row r;
	const int part = part_of(n), warp = (int)threadIdx.x / WARP;
	r.x = x;
	r.n = n;
	r.begin = min(warp * part, n);
	r.end = min(r.begin + part, n);
	r.wide = wide;
	r.best = 0.0f;
	r.scale = 1.0f;
	r.min_p = 0.0f;
	return r;
}

DEVICE int first_of(const struct row *r) {
	return r->begin + 4 * ((int)threadIdx.x % WARP);
}

DEVICE void load_four(float x[4], const struct row *r, int i) {
	const float4 v = load4(r->x + i, r->end - i, r->wide);
	x[0] = v.x;
	x[1] = v.y;
	x[2] = v.z;
	x[3] = v.w;
}

/* ---- whole numbers of a block ---- */

DEVICE uint64_t warp_sum(uint64_t v) {
	for (int bits = WARP / 2; bits > 0; bits /= 2) {
		v += __shfl_xor_sync(ALL_LANES, v, bits);
	}
	return v;
}

DEVICE uint64_t warp_largest(uint64_t v) {
	for (int bits = WARP / 2; bits > 0; bits /= 2) {
		const uint64_t other = __shfl_xor_sync(ALL_LANES, v, bits);
		v = other > v ? other : v;
	}
	return v;
}

/* v of this lane and of those before it. */
DEVICE uint64_t warp_scan(uint64_t v) {
	const int lane = (int)threadIdx.x % WARP;
	for (int distance = 1; distance < WARP; distance *= 2) {
		const uint64_t other = __shfl_up_sync(ALL_LANES, v, (unsigned)distance);
		v += lane >= distance ? other : 0;
	}
	return v;
}

/* What each warp has, in the lane of its number. */
DEVICE uint64_t of_warps(uint64_t v, struct room *m) {
	const int t = (int)threadIdx.x;
	if (t % WARP == WARP - 1) {
		m->warps[t / WARP] = v;
	}
	__syncthreads();
	v = m->warps[t % WARP];
	__syncthreads();
	return v;
}

DEVICE uint64_t block_sum(uint64_t v, struct room *m) {
	return warp_sum(of_warps(warp_sum(v), m));
}

DEVICE uint64_t block_largest(uint64_t v, struct room *m) {
	return warp_largest(of_warps(warp_largest(v), m));
}

/* v of this thread and of those before it. */
DEVICE uint64_t block_scan(uint64_t v, struct room *m) {
	const int t = (int)threadIdx.x;
	v = warp_scan(v);
	const uint64_t sums = of_warps(v, m);
	return v + warp_sum(t % WARP < t / WARP ? sums : 0);
}

/* place and sum of the one thread for which is_it holds. */
struct found {
	uint64_t place, sum;
};

DEVICE struct found of_one(bool is_it, uint64_t place, uint64_t sum, struct room *m) {
	struct found f;
	if (is_it) {
		m->place = place;
		m->sum = sum;
	}
	__syncthreads();
	f.place = m->place;
	f.sum = m->sum;
	__syncthreads();
	return f;
}

/* ---- the first of the falling order ---- */

/* Sorts one number a thread, the largest first (Batcher's bitonic network, 1968). n, a power of two
 * from WARP to THREADS: threads from there on have zeros. */
DEVICE uint64_t block_sort(uint64_t v, int n, struct room *m) {
	const int t = (int)threadIdx.x;
#pragma unroll 1
	for (int size = 2; size <= n; size *= 2) {
#pragma unroll 1
		for (int stride = size / 2; stride > 0; stride /= 2) {
			uint64_t other = 0;
			if (stride >= WARP) {
				m->list[t] = v;
				__syncthreads();
				other = m->list[t ^ stride];
				__syncthreads();
			} else if (t < n) {
				other = __shfl_xor_sync(ALL_LANES, v, stride);
			}
			const bool wants_larger = ((t & stride) == 0) == ((t & size) == 0);
			v = (other > v) == wants_larger ? other : v;
		}
	}
	return v;
}

/* Puts all places from `least` on into the list, in any order, as far as there is room; how many
 * there are. */
DEVICE int gather(const struct row *r, uint64_t least, struct room *m) {
	if (threadIdx.x == 0) {
		m->n_listed = 0;
	}
	__syncthreads();
#pragma unroll 1
	for (int i = first_of(r); i < r->end; i += QUAD) {
		float x[4];
		load_four(x, r, i);
		for (int j = 0; j < 4; j++) {
			const uint64_t place = place_of(x[j], i + j);
			if (i + j < r->end && place >= least) {
				const int at = atomicAdd(&m->n_listed, 1);
				if (at < THREADS) {
					m->list[at] = place;
				}
			}
		}
	}
	__syncthreads();
	const int n = m->n_listed;
	__syncthreads();
	return n;
}

/* ---- radix select ---- */

/* The bins' 64-bit sums in halves: shared memory adds 32 bits at once. */
DEVICE void add_to_bin(struct room *m, int bin, uint64_t v) {
	const uint32_t low = (uint32_t)v;
	const uint32_t before = atomicAdd(&m->low[bin], low);
	const uint32_t high = (uint32_t)(v >> 32) + (before + low < before ? 1u : 0u);
	if (high != 0) {
		atomicAdd(&m->high[bin], high);
	}
}

DEVICE uint64_t bin_of(const struct room *m, int bin) {
	return (uint64_t)m->high[bin] << 32 | m->low[bin];
}

/* Adds up what the tokens measure whose place begins with the bits of `prefix`, all above bit
 * `high`, by the digit from bit `shift` to there. */
DEVICE void fill_bins(const struct row *r, bool by_weight, uint64_t prefix, int high, int shift,
	struct room *m) {
	for (int bin = (int)threadIdx.x; bin < BINS; bin += THREADS) {
		m->low[bin] = m->high[bin] = 0;
	}
	__syncthreads();
#pragma unroll 1
	for (int i = first_of(r); i < r->end; i += QUAD) {
		float x[4];
		load_four(x, r, i);
		for (int j = 0; j < 4; j++) {
			const uint64_t place = place_of(x[j], i + j);
			if (i + j < r->end && place >> high == prefix) {
				const int bin = (int)(place >> shift) & ((1 << (high - shift)) - 1);
				const uint64_t v = by_weight ? weight_of(r, x[j]) : 1;
				if (v != 0) {
					add_to_bin(m, bin, v);
				}
			}
		}
	}
	__syncthreads();
}

/* The first place of the falling order at which the number of tokens so far, or the sum of their
 * weights, reaches `need`, which is at least 1 and at most that of the row; and what it is
 * there. */
DEVICE struct found first_reaching(const struct row *r, bool by_weight, uint64_t need,
	struct room *m) {
	const int larger = BINS - 1 - 2 * (int)threadIdx.x, smaller = larger - 1;
	struct found f = { 0, 0 };
	uint64_t before = 0;
#pragma unroll 1
	for (int high = PLACE_BITS; high > 0;) {
		const int shift = high > DIGIT_BITS ? high - DIGIT_BITS : 0;
		fill_bins(r, by_weight, f.place, high, shift, m);
		const uint64_t a = bin_of(m, larger), b = bin_of(m, smaller);
		const uint64_t sum_b = before + block_scan(a + b, m), sum_a = sum_b - b;
		const bool is_a = sum_a >= need, is_here = sum_b >= need && sum_a - a < need;
		const struct found digit = of_one(is_here, (uint64_t)(is_a ? larger : smaller),
			is_a ? sum_a : sum_b, m);
		before = digit.sum - bin_of(m, (int)digit.place);
		__syncthreads();
		f.place = f.place << (high - shift) | digit.place;
		f.sum = digit.sum;
		high = shift;
	}
	return f;
}

/* The first `want` tokens of the falling order (at most THREADS, and at most those of the row) and
 * some more: one place a thread, sorted, zeros after the last; returns how many. `own` is the
 * largest place of this thread's elements: the want-th of these can't come after the want-th of
 * all, and seldom comes long before. Where it does, radix select finds the want-th of all. */
DEVICE int list_first(uint64_t *place, const struct row *r, uint64_t own, int want,
	struct room *m) {
	const int t = (int)threadIdx.x;
	own = block_sort(own, THREADS, m);
	uint64_t least = of_one(t == want - 1, own, 0, m).place;
	int n = gather(r, least, m);
	while (n > THREADS) {
		least = first_reaching(r, false, (uint64_t)want, m).place;
		n = gather(r, least, m);
	}
	int n_sorted = WARP;
	while (n_sorted < n) {
		n_sorted *= 2;
	}
	const uint64_t unsorted = t < n ? m->list[t] : 0;
	__syncthreads();
	*place = block_sort(unsorted, n_sorted, m);
	return n;
}

/* ---- in the order of ids ---- */

/* The first id at which the running sum of weights reaches need; sum: of this warp's range. */
DEVICE int first_id_reaching(const struct row *r, uint64_t sum, uint64_t need, struct room *m) {
	const int lane = (int)threadIdx.x % WARP, warp = (int)threadIdx.x / WARP;
	struct row part = *r;
	int begin = 0, end = r->n, size = part_of(r->n);
	for (;;) {
		const uint64_t own = of_warps(sum, m), scan = warp_scan(own);
		const int at = __ffs((int)__ballot_sync(ALL_LANES, scan >= need)) - 1;
		need -= __shfl_sync(ALL_LANES, scan - own, at);
		begin += at * size;
		end = min(begin + size, end);
		if (size == QUAD) {
			break;
		}
		size = part_of(end - begin);
		part.begin = min(begin + warp * size, end);
		part.end = min(part.begin + size, end);
		sum = 0;
		for (int i = first_of(&part); i < part.end; i += QUAD) {
			float x[4];
			load_four(x, &part, i);
			for (int j = 0; j < 4; j++) {
				sum += i + j < part.end ? weight_of(r, x[j]) : 0;
			}
		}
		sum = warp_sum(sum);
	}
	uint64_t sums[4], before = 0; /* of this lane's four, by every warp alike */
	for (int j = 0; j < 4; j++) {
		const int i = begin + 4 * lane + j;
		before += i < end ? weight_of(r, r->x[i]) : 0;
		sums[j] = before;
	}
	const uint64_t scan = warp_scan(sums[3]);
	before = scan - sums[3];
	int id = begin + 4 * lane;
	for (int j = 0; j < 3; j++) {
		id += before + sums[j] < need ? 1 : 0;
	}
	return __shfl_sync(ALL_LANES, id, __ffs((int)__ballot_sync(ALL_LANES, scan >= need)) - 1);
}
