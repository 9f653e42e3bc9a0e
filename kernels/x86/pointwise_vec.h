/* SPDX-License-Identifier: Apache-2.0
 *
 * Gated activations and sums over vectors. */
#include "../kernels.h"
#include "vec_math.h"

/* ---- y = act(gate) up ---- */

struct gated_job {
	float *y;                /* [n_rows, ld_y] */
	const float *gate, *up;  /* [n_rows, ld] */
	int ld_y, ld, dim;
};

static inline vec silu(vec g) {
	return vec_mul(g, vec_sigmoid(g));
}

/* 0.5 (1 + tanh(z)) is sigmoid(2 z). */
static inline vec gelu(vec g) {
	const float twice = 2 * 0.797884561f; /* 2 sqrt(2 / pi) */
	const vec factor = vec_fma(vec_mul(g, g), vec_set(twice * 0.044715f), vec_set(twice));
	return vec_mul(g, vec_sigmoid(vec_mul(g, factor)));
}

static inline vec plain(vec g) {
	return g;
}

#define GATED_ROWS(act) \
	static void act##_rows(const void *arg, int begin, int end) { \
		const struct gated_job *job = arg; \
		for (int r = begin; r < end; r++) { \
			const float *gate = job->gate + (size_t)r * job->ld; \
			const float *up = job->up + (size_t)r * job->ld; \
			float *y = job->y + (size_t)r * job->ld_y; \
			int i = 0; \
			for (; i + VEC <= job->dim; i += VEC) { \
				vec_store(y + i, vec_mul(act(vec_load(gate + i)), vec_load(up + i))); \
			} \
			if (i < job->dim) { \
				const int n = job->dim - i; \
				const vec g = vec_load_part(gate + i, n), u = vec_load_part(up + i, n); \
				vec_store_part(y + i, vec_mul(act(g), u), n); \
			} \
		} \
	}
GATED_ROWS(silu)
GATED_ROWS(gelu)
GATED_ROWS(vec_sigmoid)
GATED_ROWS(plain)
#undef GATED_ROWS

void TAG(silu_mul)(bb_queue *q, float *y, int ld_y, const float *gate, const float *up, int ld,
	int n_rows, int dim) {
	const struct gated_job job = { y, gate, up, ld_y, ld, dim };
	queue_run(q, silu_rows, &job, n_rows, vec_grain((size_t)dim));
}

void TAG(gelu_mul)(bb_queue *q, float *y, int ld_y, const float *gate, const float *up, int ld,
	int n_rows, int dim) {
	const struct gated_job job = { y, gate, up, ld_y, ld, dim };
	queue_run(q, gelu_rows, &job, n_rows, vec_grain((size_t)dim));
}

void TAG(sigmoid_mul)(bb_queue *q, float *y, int ld_y, const float *gate, const float *up, int ld,
	int n_rows, int dim) {
	const struct gated_job job = { y, gate, up, ld_y, ld, dim };
	queue_run(q, vec_sigmoid_rows, &job, n_rows, vec_grain((size_t)dim));
}

void TAG(mul)(bb_queue *q, float *y, int ld_y, const float *a, const float *b, int ld, int n_rows,
	int dim) {
	const struct gated_job job = { y, a, b, ld_y, ld, dim };
	queue_run(q, plain_rows, &job, n_rows, vec_grain((size_t)dim));
}

/* ---- y = y + x, y = cap tanh(y / cap) ---- */

enum { BLOCK = 4096 }; /* elements of a unit of work */

struct flat_job {
	float *y;       /* [n] */
	const float *x; /* [n] */
	size_t n;
	float cap;
};

static int blocks(size_t n) {
	return (int)((n + BLOCK - 1) / BLOCK);
}

static size_t flat_end(const struct flat_job *job, int end) {
	const size_t at = (size_t)end * BLOCK;
	return at < job->n ? at : job->n;
}

static void add_blocks(const void *arg, int begin, int end) {
	const struct flat_job *job = arg;
	const size_t last = flat_end(job, end);
	size_t i = (size_t)begin * BLOCK;
	for (; i + VEC <= last; i += VEC) {
		vec_store(job->y + i, vec_add(vec_load(job->y + i), vec_load(job->x + i)));
	}
	const int n = (int)(last - i);
	if (n > 0) {
		const vec sum = vec_add(vec_load_part(job->y + i, n), vec_load_part(job->x + i, n));
		vec_store_part(job->y + i, sum, n);
	}
}

void TAG(add)(bb_queue *q, float *y, const float *x, size_t n) {
	const struct flat_job job = { .y = y, .x = x, .n = n };
	queue_run(q, add_blocks, &job, blocks(n), vec_grain(BLOCK));
}

static void softcap_blocks(const void *arg, int begin, int end) {
	const struct flat_job *job = arg;
	const size_t last = flat_end(job, end);
	for (size_t i = (size_t)begin * BLOCK; i < last; i += VEC) {
		const int n = last - i < VEC ? (int)(last - i) : VEC;
		store_n(job->y + i, vec_softcap(load_n(job->y + i, n), job->cap), n);
	}
}

void TAG(softcap)(bb_queue *q, float *y, size_t n, float cap) {
	const struct flat_job job = { .y = y, .n = n, .cap = cap };
	queue_run(q, softcap_blocks, &job, blocks(n), vec_grain(BLOCK));
}
