/* SPDX-License-Identifier: Apache-2.0
 *
 * Reductions over a row of logits, over vectors. A row is cut in at most MAX_CHUNKS chunks whose
 * length depends on n alone; each is reduced by itself and the results are joined in order, so that
 * the bits don't depend on who computed which. */
#include "../kernels.h"
#include "vec_math.h"

#include <math.h>

enum { MAX_CHUNKS = 256, MIN_CHUNK = 4096 };

struct row_job {
	const float *x; /* [n] */
	float *p;       /* [n] or NULL */
	int n, chunk;
	float *maxima;  /* [n_chunks] */
	double *sums;   /* [n_chunks] */
	float max, scale, inverse;
};

static int chunk_of(int n) {
	const int even = n / MAX_CHUNKS + 1;
	return even <= MIN_CHUNK ? MIN_CHUNK : (even + 63) / 64 * 64;
}

static int chunks(const struct row_job *job) {
	return job->n / job->chunk + (job->n % job->chunk != 0);
}

static int chunk_end(const struct row_job *job, int i) {
	return job->n - i * job->chunk < job->chunk ? job->n : (i + 1) * job->chunk;
}

/* The largest element that is no NaN, -inf when there is none. */
static float largest(const float *x, int n) {
	vec m0 = vec_set(-INFINITY), m1 = m0, m2 = m0, m3 = m0;
	int i = 0;
	for (; i + 4 * VEC <= n; i += 4 * VEC) {
		m0 = vec_max(vec_load(x + i), m0);
		m1 = vec_max(vec_load(x + i + VEC), m1);
		m2 = vec_max(vec_load(x + i + 2 * VEC), m2);
		m3 = vec_max(vec_load(x + i + 3 * VEC), m3);
	}
	for (; i < n; i += VEC) {
		const int part = n - i < VEC ? n - i : VEC;
		m0 = vec_max(vec_keep_part(vec_load_part(x + i, part), m0, part), m0);
	}
	return vec_largest(vec_max(vec_max(m0, m1), vec_max(m2, m3)));
}

static void max_chunks(const void *arg, int begin, int end) {
	const struct row_job *job = arg;
	for (int i = begin; i < end; i++) {
		const int at = i * job->chunk;
		job->maxima[i] = largest(job->x + at, chunk_end(job, i) - at);
	}
}

/* Index of the first element that equals value, n when none does. */
static int find(const float *x, int n, float value) {
	const vec wanted = vec_set(value);
	for (int i = 0; i < n; i += VEC) {
		const int part = n - i < VEC ? n - i : VEC;
		const unsigned hits = vec_equal(vec_load_part(x + i, part), wanted) & ((1u << part) - 1);
		if (hits != 0) {
			return i + __builtin_ctz(hits);
		}
	}
	return n;
}

void TAG(argmax)(bb_queue *q, int32_t *index, const float *x, int n) {
	float maxima[MAX_CHUNKS];
	const struct row_job job = { .x = x, .n = n, .chunk = chunk_of(n), .maxima = maxima };
	const int n_chunks = chunks(&job);
	queue_run(q, max_chunks, &job, n_chunks, 4);
	int best = 0;
	for (int i = 1; i < n_chunks; i++) {
		best = maxima[i] > maxima[best] ? i : best;
	}
	/* The first chunk may hold nothing but NaNs while another has -inf: look on until it is
	 * found. */
	*index = 0;
	for (int i = best; i < n_chunks; i++) {
		const int at = i * job.chunk, end = chunk_end(&job, i);
		const int found = at + find(x + at, end - at, maxima[best]);
		if (found < end) {
			*index = found;
			return;
		}
	}
}

/* sum of exp(scale (x - max)) of each chunk, the terms stored in p. */
static void exp_chunks(const void *arg, int begin, int end) {
	const struct row_job *job = arg;
	const vec max = vec_set(job->max), scale = vec_set(job->scale);
	for (int c = begin; c < end; c++) {
		const int last = chunk_end(job, c);
		vec s0 = vec_set(0), s1 = s0;
		int i = c * job->chunk;
		for (; i + 2 * VEC <= last; i += 2 * VEC) {
			const vec e0 = vec_exp(vec_mul(scale, vec_sub(vec_load(job->x + i), max)));
			const vec e1 = vec_exp(vec_mul(scale, vec_sub(vec_load(job->x + i + VEC), max)));
			s0 = vec_add(s0, e0);
			s1 = vec_add(s1, e1);
			if (job->p != NULL) {
				vec_store(job->p + i, e0);
				vec_store(job->p + i + VEC, e1);
			}
		}
		for (; i < last; i += VEC) {
			const int n = last - i < VEC ? last - i : VEC;
			const vec x = vec_sub(vec_load_part(job->x + i, n), max);
			const vec e = vec_keep_part(vec_exp(vec_mul(scale, x)), vec_set(0), n);
			s0 = vec_add(s0, e);
			if (job->p != NULL) {
				vec_store_part(job->p + i, e, n);
			}
		}
		job->sums[c] = (double)vec_sum(vec_add(s0, s1));
	}
}

static void divide_chunks(const void *arg, int begin, int end) {
	const struct row_job *job = arg;
	const vec inverse = vec_set(job->inverse);
	const int last = chunk_end(job, end - 1);
	int i = begin * job->chunk;
	for (; i + VEC <= last; i += VEC) {
		vec_store(job->p + i, vec_mul(vec_load(job->p + i), inverse));
	}
	if (i < last) {
		const int n = last - i;
		vec_store_part(job->p + i, vec_mul(vec_load_part(job->p + i, n), inverse), n);
	}
}

void TAG(softmax)(bb_queue *q, float *p, float *log_sum, const float *x, int n, float scale) {
	float maxima[MAX_CHUNKS];
	double sums[MAX_CHUNKS], sum = 0;
	struct row_job job = { .x = x, .p = p, .n = n, .chunk = chunk_of(n), .maxima = maxima,
		.sums = sums, .scale = scale, .max = -INFINITY };
	const int n_chunks = chunks(&job);
	queue_run(q, max_chunks, &job, n_chunks, 4);
	for (int i = 0; i < n_chunks; i++) {
		job.max = maxima[i] > job.max ? maxima[i] : job.max;
	}
	queue_run(q, exp_chunks, &job, n_chunks, 2);
	for (int i = 0; i < n_chunks; i++) {
		sum += sums[i];
	}
	*log_sum = (float)log(sum);
	if (p != NULL) {
		job.inverse = (float)(1 / sum);
		queue_run(q, divide_chunks, &job, n_chunks, 4);
	}
}
