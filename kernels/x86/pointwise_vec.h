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

static inline vec gelu_erf(vec g) {
	return vec_mul(g, vec_normal(g));
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
GATED_ROWS(gelu_erf)
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

void TAG(gelu_erf_mul)(bb_queue *q, float *y, int ld_y, const float *gate, const float *up, int ld,
	int n_rows, int dim) {
	const struct gated_job job = { y, gate, up, ld_y, ld, dim };
	queue_run(q, gelu_erf_rows, &job, n_rows, vec_grain((size_t)dim));
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

/* ---- y = y + scale x, y = cap tanh(y / cap) ---- */

enum { BLOCK = 4096 }; /* elements of a unit of work */

struct flat_job {
	float *y;       /* [n] */
	const float *x; /* [n] */
	size_t n;
	float cap, scale;
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
	const vec scale = vec_set(job->scale);
	size_t i = (size_t)begin * BLOCK;
	for (; i + VEC <= last; i += VEC) {
		const vec x = vec_mul(scale, vec_load(job->x + i));
		vec_store(job->y + i, vec_add(vec_load(job->y + i), x));
	}
	const int n = (int)(last - i);
	if (n > 0) {
		const vec x = vec_mul(scale, vec_load_part(job->x + i, n));
		vec_store_part(job->y + i, vec_add(vec_load_part(job->y + i, n), x), n);
	}
}

void TAG(add)(bb_queue *q, float *y, const float *x, size_t n, float scale) {
	const struct flat_job job = { .y = y, .x = x, .n = n, .scale = scale };
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

/* ---- y = f(x) ---- */

struct map_job {
	float *y;          /* [n_rows, ld_y] */
	const float *x;    /* [n_rows, ld_x] */
	int ld_y, ld_x, dim;
	enum bb_map f;
};

static inline vec map_one(enum bb_map f, vec x) {
	const vec one = vec_set(1.0f);
	if (f == BB_MAP_TANH) { /* 2 sigmoid(2 x) - 1 */
		return vec_sub(vec_mul(vec_set(2.0f), vec_sigmoid(vec_add(x, x))), one);
	}
	if (f == BB_MAP_SIGMOID) {
		return vec_sigmoid(x);
	}
	if (f == BB_MAP_RELU2) {
		const vec above = vec_max(vec_set(0), x); /* a NaN stays one */
		return vec_mul(above, above);
	}
	if (f == BB_MAP_SILU) {
		return vec_mul(x, vec_sigmoid(x));
	}
	if (f == BB_MAP_HALF) {
		return vec_mul(x, vec_set(0.5f));
	}
	if (f == BB_MAP_DECAY6) { /* 0 from 5 on, and e^x of much more isn't defined */
		return vec_exp(vec_sub(vec_set(0), vec_exp(vec_min(vec_set(5.0f), x))));
	}
	if (f == BB_MAP_DECAY7) {
		return vec_exp(vec_mul(vec_set(-0.60653066f), vec_sigmoid(x)));
	}
	return x;
}

/* One row; f is a constant where this is inlined. */
static inline void map_row(const struct map_job *job, int r, enum bb_map f) {
	float *y = job->y + (size_t)r * job->ld_y;
	const float *x = job->x + (size_t)r * job->ld_x;
	for (int i = 0; i < job->dim; i += VEC) {
		store_n(y + i, map_one(f, load_n(x + i, job->dim - i)), job->dim - i);
	}
}

static void map_rows(const void *arg, int begin, int end) {
	const struct map_job *job = arg;
	for (int r = begin; r < end; r++) {
		switch (job->f) {
		case BB_MAP_TANH:
			map_row(job, r, BB_MAP_TANH);
			break;
		case BB_MAP_SIGMOID:
			map_row(job, r, BB_MAP_SIGMOID);
			break;
		case BB_MAP_RELU2:
			map_row(job, r, BB_MAP_RELU2);
			break;
		case BB_MAP_SILU:
			map_row(job, r, BB_MAP_SILU);
			break;
		case BB_MAP_HALF:
			map_row(job, r, BB_MAP_HALF);
			break;
		case BB_MAP_DECAY6:
			map_row(job, r, BB_MAP_DECAY6);
			break;
		case BB_MAP_DECAY7:
			map_row(job, r, BB_MAP_DECAY7);
			break;
		case BB_MAP_COPY:
		case BB_N_MAPS:
			map_row(job, r, BB_MAP_COPY);
		}
	}
}

void TAG(map)(bb_queue *q, float *y, int ld_y, const float *x, int ld_x, int n_rows, int dim,
	enum bb_map f) {
	const struct map_job job = { y, x, ld_y, ld_x, dim, f };
	queue_run(q, map_rows, &job, n_rows, vec_grain((size_t)dim));
}

/* ---- y = from + (to - from) by ---- */

struct lerp_job {
	float *y;                      /* [n_rows, ld_y] */
	const float *from, *to, *by;   /* [n_rows, ld_from], [n_rows, ld_to], [n_rows, ld_by] */
	int ld_y, ld_from, ld_to, ld_by, dim;
};

static void lerp_rows(const void *arg, int begin, int end) {
	const struct lerp_job *job = arg;
	for (int r = begin; r < end; r++) {
		float *y = job->y + (size_t)r * job->ld_y;
		const float *from = job->from + (size_t)r * job->ld_from;
		const float *to = job->to + (size_t)r * job->ld_to;
		const float *by = job->by + (size_t)r * job->ld_by;
		for (int i = 0; i < job->dim; i += VEC) {
			const int n = job->dim - i;
			const vec at = load_n(from + i, n);
			store_n(y + i, vec_fma(vec_sub(load_n(to + i, n), at), load_n(by + i, n), at), n);
		}
	}
}

void TAG(lerp)(bb_queue *q, float *y, int ld_y, const float *from, int ld_from, const float *to,
	int ld_to, const float *by, int ld_by, int n_rows, int dim) {
	const struct lerp_job job = { y, from, to, by, ld_y, ld_from, ld_to, ld_by, dim };
	queue_run(q, lerp_rows, &job, n_rows, vec_grain((size_t)dim));
}
