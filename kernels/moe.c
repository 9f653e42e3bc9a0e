/* SPDX-License-Identifier: Apache-2.0
 *
 * Mixtures of experts: choosing experts, listing their rows, products over those lists and joining
 * what the experts gave. The references; kernels.h has the definitions. Routing and joining define
 * the bits, the products have those of the matmul that they are given. */
#include "kernels.h"

#include <assert.h>
#include <math.h>
#include <string.h>

/* ---- functions of f32, each rounding as it is written ---- */

/* 2^n x for -252 <= n <= 254, rounded once. */
static float scale_by_power(float x, int n) {
	const int half = n / 2;
	const uint32_t bits[2] = { (uint32_t)(half + 127) << 23, (uint32_t)(n - half + 127) << 23 };
	float powers[2];
	memcpy(powers, bits, sizeof(powers));
	return x * powers[0] * powers[1];
}

/* e^x for x <= 0, 0 below -104, NaN for NaN; the relative error is below 1.5e-7 where the result is
 * normal. ln 2 is in two parts, the first short enough that n times it is exact. */
static float exp_f32(float x) {
	x = x < -110.0f ? -110.0f : x;
	const float n = rintf(x * 1.44269504f);
	const float r = fmaf(n, 2.12194440e-4f, fmaf(n, -0.693359375f, x));
	float p = 1.0f / 5040;
	p = fmaf(p, r, 1.0f / 720);
	p = fmaf(p, r, 1.0f / 120);
	p = fmaf(p, r, 1.0f / 24);
	p = fmaf(p, r, 1.0f / 6);
	p = fmaf(p, r, 0.5f);
	p = fmaf(p, r, 1.0f);
	p = fmaf(p, r, 1.0f);
	return x <= 0.0f ? scale_by_power(p, (int)n) : p; /* p is NaN where x is */
}

static float sigmoid_f32(float x) {
	const float e = exp_f32(-fabsf(x));
	return (x < 0.0f ? e : 1.0f) / (1.0f + e);
}

/* ---- moe_route ---- */

/* What makes scores of a row's logits. */
struct scoring {
	enum bb_moe_score score;
	float max, sum; /* of the softmax over all experts */
};

static float score_of(const struct scoring *s, float x) {
	switch (s->score) {
	case MOE_SIGMOID:
		return sigmoid_f32(x);
	case MOE_SOFTMAX:
		return exp_f32(x - s->max) / s->sum;
	default: /* the sum comes when the chosen ones are known */
		return exp_f32(x - s->max);
	}
}

static struct scoring scoring_of(const struct bb_moe_route *a, const float *x) {
	enum { LANES = 32 };
	struct scoring s = { .score = a->score, .max = -INFINITY };
	float sums[LANES] = { 0 };
	for (int i = 0; i < a->n_experts; i++) {
		s.max = x[i] > s.max ? x[i] : s.max;
	}
	if (a->score == MOE_SOFTMAX) {
		for (int i = 0; i < a->n_experts; i++) {
			sums[i % LANES] += exp_f32(x[i] - s.max);
		}
		for (int half = LANES / 2; half > 0; half /= 2) {
			for (int i = 0; i < half; i++) {
				sums[i] += sums[i + half];
			}
		}
		s.sum = sums[0];
	}
	return s;
}

/* A number that grows with x; 0, below all others, for NaN. */
static uint32_t order_of(float x) {
	uint32_t bits;
	x += 0.0f; /* -0 becomes 0: they are equals */
	memcpy(&bits, &x, sizeof(bits));
	return isnan(x) ? 0 : bits ^ (bits >> 31 != 0 ? 0xffffffffu : 0x80000000u);
}

/* Puts the first experts by falling key, equals by index, into chosen[n_used]. */
static void choose(int32_t *chosen, const uint32_t *keys, int n_experts, int n_used) {
	for (int slot = 0; slot < n_used; slot++) {
		const int last = slot > 0 ? chosen[slot - 1] : -1;
		int best = -1; /* of those after the last one */
		for (int i = 0; i < n_experts; i++) {
			const bool is_after = last < 0 || keys[i] < keys[last]
				|| (keys[i] == keys[last] && i > last);
			best = is_after && (best < 0 || keys[i] > keys[best]) ? i : best;
		}
		chosen[slot] = best;
	}
}

/* w / (their sum in order + least) */
static void divide_by_sum(float *w, int n, float least) {
	float sum = 0;
	for (int i = 0; i < n; i++) {
		sum += w[i];
	}
	sum += least;
	for (int i = 0; i < n; i++) {
		w[i] /= sum;
	}
}

static void route_rows(const void *arg, int begin, int end) {
	const struct bb_moe_route *a = arg;
	uint32_t keys[BB_MOE_EXPERTS];
	for (int r = begin; r < end; r++) {
		const float *x = a->logits + (size_t)r * a->ld;
		int32_t *chosen = a->experts + (size_t)r * a->n_used;
		float *w = a->weights + (size_t)r * a->n_used;
		const struct scoring s = scoring_of(a, x);
		for (int i = 0; i < a->n_experts; i++) {
			keys[i] = order_of(a->bias != NULL ? score_of(&s, x[i]) + a->bias[i] : x[i]);
		}
		choose(chosen, keys, a->n_experts, a->n_used);
		for (int slot = 0; slot < a->n_used; slot++) {
			w[slot] = score_of(&s, x[chosen[slot]]);
		}
		if (a->score == MOE_SOFTMAX_CHOSEN) {
			divide_by_sum(w, a->n_used, 0);
		}
		if (a->is_normalised) {
			divide_by_sum(w, a->n_used, 1e-20f);
		}
		for (int slot = 0; slot < a->n_used; slot++) {
			w[slot] *= a->scale;
		}
	}
}

/* Counts, then deals out: pairs are met in rising order. */
static void list_pairs(const struct bb_moe_route *a) {
	const int n_pairs = a->n_rows * a->n_used;
	int32_t next[BB_MOE_EXPERTS] = { 0 };
	for (int i = 0; i < n_pairs; i++) {
		next[a->experts[i]]++;
	}
	int32_t sum = 0;
	for (int e = 0; e < a->n_experts; e++) {
		a->offsets[e] = sum;
		sum += next[e];
		next[e] = a->offsets[e];
	}
	a->offsets[a->n_experts] = sum;
	for (int i = 0; i < n_pairs; i++) {
		a->pairs[next[a->experts[i]]++] = i;
	}
}

void moe_route_c(bb_queue *q, const struct bb_moe_route *a) {
	assert(a->n_experts > 0 && a->n_experts <= BB_MOE_EXPERTS);
	assert(a->n_used > 0 && a->n_used <= BB_MOE_USED && a->n_used <= a->n_experts);
	assert(a->bias == NULL || a->score != MOE_SOFTMAX_CHOSEN);
	queue_run(q, route_rows, a, a->n_rows, 8);
	list_pairs(a);
}

/* ---- matmul_grouped ---- */

/* Rows of one call of the plain product: its weights are read once for so many. */
enum { MOST_ROWS = 256 };

static size_t aligned(size_t bytes) {
	return (bytes + 63) / 64 * 64;
}

/* A row uses an expert once, so no expert has more rows than there are. */
static int most_rows(const struct bb_grouped *a) {
	return a->n_rows < MOST_ROWS ? a->n_rows : MOST_ROWS;
}

size_t matmul_grouped_scratch_bytes(const struct bb_grouped *a) {
	const size_t n = (size_t)most_rows(a);
	const int n_x = a->has_x_of_pairs ? a->n_rows * a->n_used : a->n_rows;
	/* rows stand apart there; alone, for of many at once cuBLASLt wants another form */
	const size_t on_device = (size_t)n_x * a->layout->prep_bytes(a->type, 1, a->k);
	const size_t on_cpu = aligned(n * (size_t)a->k * sizeof(float))
		+ aligned(n * (size_t)a->n * sizeof(float))
		+ a->layout->prep_bytes(a->type, (int)n, a->k);
	return on_device > on_cpu ? on_device : on_cpu;
}

/* Some rows of one expert, and where they are gathered. */
struct gathering {
	const struct bb_grouped *a;
	const int32_t *pairs; /* [n rows] */
	float *x, *y;         /* [n rows, k], [n rows, n] */
};

static const float *x_of_pair(const struct bb_grouped *a, int pair) {
	return a->x + (size_t)(a->has_x_of_pairs ? pair : pair / a->n_used) * a->ld_x;
}

static void gather_rows(const void *arg, int begin, int end) {
	const struct gathering *g = arg;
	for (int i = begin; i < end; i++) {
		memcpy(g->x + (size_t)i * g->a->k, x_of_pair(g->a, g->pairs[i]),
			(size_t)g->a->k * sizeof(float));
	}
}

static void deal_out_rows(const void *arg, int begin, int end) {
	const struct gathering *g = arg;
	for (int i = begin; i < end; i++) {
		memcpy(g->a->y + (size_t)g->pairs[i] * g->a->ld_y, g->y + (size_t)i * g->a->n,
			(size_t)g->a->n * sizeof(float));
	}
}

static void multiply(bb_queue *q, const struct bb_grouped *a, int expert, const int32_t *pairs,
	int n_rows) {
	uint8_t *scratch = a->scratch;
	const size_t x_bytes = aligned((size_t)most_rows(a) * (size_t)a->k * sizeof(float));
	const size_t y_bytes = aligned((size_t)most_rows(a) * (size_t)a->n * sizeof(float));
	const struct gathering g = { a, pairs, (float *)(void *)scratch,
		(float *)(void *)(scratch + x_bytes) };
	void *prepared = scratch + x_bytes + y_bytes;
	const void *w = (const uint8_t *)a->w
		+ (size_t)expert * a->layout->weight_bytes(a->type, a->n, a->k);
	const float *bias = a->bias != NULL ? a->bias + (size_t)expert * a->n : NULL;
	if (n_rows == 1) { /* nothing to gather */
		a->layout->prep(q, prepared, a->type, x_of_pair(a, pairs[0]), a->ld_x, 1, a->k);
		a->matmul(q, a->y + (size_t)pairs[0] * a->ld_y, a->ld_y, w, prepared, bias, 1, a->n, a->k,
			false);
		return;
	}
	queue_run(q, gather_rows, &g, n_rows, 16);
	a->layout->prep(q, prepared, a->type, g.x, a->k, n_rows, a->k);
	a->matmul(q, g.y, a->n, w, prepared, bias, n_rows, a->n, a->k, false);
	queue_run(q, deal_out_rows, &g, n_rows, 16);
}

void matmul_grouped_c(bb_queue *q, const struct bb_grouped *a) {
	assert(a->prepared == NULL);
	for (int e = 0; e < a->n_experts; e++) {
		for (int at = a->offsets[e]; at < a->offsets[e + 1]; at += MOST_ROWS) {
			const int left = a->offsets[e + 1] - at;
			multiply(q, a, e, a->pairs + at, left < MOST_ROWS ? left : MOST_ROWS);
		}
	}
}

/* ---- moe_combine ---- */

struct combine {
	float *y;
	const float *x, *weights;
	int ld_y, ld_x, n_used, dim;
	bool accumulate;
};

static void combine_rows(const void *arg, int begin, int end) {
	enum { PART = 256 }; /* columns whose sums stay in the nearest cache */
	const struct combine *c = arg;
	for (int r = begin; r < end; r++) {
		const float *x = c->x + (size_t)r * c->n_used * c->ld_x;
		const float *w = c->weights + (size_t)r * c->n_used;
		for (int first = 0; first < c->dim; first += PART) {
			const int n = c->dim - first < PART ? c->dim - first : PART;
			float *y = c->y + (size_t)r * c->ld_y + first, sums[PART];
			for (int i = 0; i < n; i++) {
				sums[i] = w[0] * x[first + i];
			}
			for (int s = 1; s < c->n_used; s++) {
				for (int i = 0; i < n; i++) {
					sums[i] += w[s] * x[(size_t)s * c->ld_x + first + i];
				}
			}
			for (int i = 0; i < n; i++) {
				y[i] = c->accumulate ? y[i] + sums[i] : sums[i];
			}
		}
	}
}

void moe_combine_c(bb_queue *q, float *y, int ld_y, const float *x, int ld_x, const float *weights,
	int n_rows, int n_used, int dim, bool accumulate) {
	assert(n_used > 0);
	const struct combine c = { y, x, weights, ld_y, ld_x, n_used, dim, accumulate };
	queue_run(q, combine_rows, &c, n_rows, 4);
}
