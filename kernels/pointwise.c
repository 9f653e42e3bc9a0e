/* SPDX-License-Identifier: Apache-2.0
 *
 * What happens to each element or each row by itself: gated activations, sums, embedding rows. The
 * references. */
#include "kernels.h"

#include <math.h>

struct embed_job {
	float *y;           /* [n_rows, n_cols] */
	const uint8_t *w;   /* [n_vocab] rows in the file format */
	enum bb_dtype type;
	const int32_t *ids; /* [n_rows] */
	int n_cols;
	float scale;
};

static void embed_rows(const void *arg, int begin, int end) {
	const struct embed_job *job = arg;
	const size_t row_bytes = dtype_row_bytes(job->type, job->n_cols);
	for (int r = begin; r < end; r++) {
		float *y = job->y + (size_t)r * job->n_cols;
		dtype_decode(y, job->w + (size_t)job->ids[r] * row_bytes, job->type, job->n_cols);
		for (int i = 0; i < job->n_cols; i++) {
			y[i] *= job->scale;
		}
	}
}

void embed_c(bb_queue *q, float *y, const void *w, enum bb_dtype type, const int32_t *ids,
	int n_rows, int n_cols, float scale) {
	const struct embed_job job = { y, w, type, ids, n_cols, scale };
	queue_run(q, embed_rows, &job, n_rows, 4);
}

void silu_mul_c(bb_queue *q, float *y, int ld_y, const float *gate, const float *up, int ld,
	int n_rows, int dim) {
	for (int r = 0; r < n_rows; r++) {
		for (int i = 0; i < dim; i++) {
			const double g = gate[(size_t)r * ld + i], u = up[(size_t)r * ld + i];
			y[(size_t)r * ld_y + i] = (float)(g / (1 + exp(-g)) * u);
		}
	}
}

void gelu_mul_c(bb_queue *q, float *y, int ld_y, const float *gate, const float *up, int ld,
	int n_rows, int dim) {
	const double sqrt_2_pi = 0.79788456080286535588; /* sqrt(2 / pi) */
	for (int r = 0; r < n_rows; r++) {
		for (int i = 0; i < dim; i++) {
			const double g = gate[(size_t)r * ld + i], u = up[(size_t)r * ld + i];
			const double t = tanh(sqrt_2_pi * (g + 0.044715 * g * g * g));
			y[(size_t)r * ld_y + i] = (float)(0.5 * g * (1 + t) * u);
		}
	}
}

void gelu_erf_mul_c(bb_queue *q, float *y, int ld_y, const float *gate, const float *up, int ld,
	int n_rows, int dim) {
	const double sqrt_half = 0.70710678118654752440;
	for (int r = 0; r < n_rows; r++) {
		for (int i = 0; i < dim; i++) {
			const double g = gate[(size_t)r * ld + i], u = up[(size_t)r * ld + i];
			y[(size_t)r * ld_y + i] = (float)(0.5 * g * erfc(-g * sqrt_half) * u);
		}
	}
}

void sigmoid_mul_c(bb_queue *q, float *y, int ld_y, const float *gate, const float *up, int ld,
	int n_rows, int dim) {
	for (int r = 0; r < n_rows; r++) {
		for (int i = 0; i < dim; i++) {
			const double g = gate[(size_t)r * ld + i], u = up[(size_t)r * ld + i];
			y[(size_t)r * ld_y + i] = (float)(u / (1 + exp(-g)));
		}
	}
}

void mul_c(bb_queue *q, float *y, int ld_y, const float *a, const float *b, int ld, int n_rows,
	int dim) {
	for (int r = 0; r < n_rows; r++) {
		for (int i = 0; i < dim; i++) {
			y[(size_t)r * ld_y + i] = a[(size_t)r * ld + i] * b[(size_t)r * ld + i];
		}
	}
}

void softcap_c(bb_queue *q, float *y, size_t n, float cap) {
	for (size_t i = 0; i < n; i++) {
		y[i] = (float)(cap * tanh((double)y[i] / cap));
	}
}

void add_c(bb_queue *q, float *y, const float *x, size_t n, float scale) {
	for (size_t i = 0; i < n; i++) {
		y[i] += scale * x[i];
	}
}

static double map_one(enum bb_map f, double x) {
	switch (f) {
	case BB_MAP_TANH:
		return tanh(x);
	case BB_MAP_SIGMOID:
		return 1 / (1 + exp(-x));
	case BB_MAP_RELU2:
		return x <= 0 ? 0 : x * x; /* a NaN stays one */
	case BB_MAP_SILU:
		return x / (1 + exp(-x));
	case BB_MAP_HALF:
		return x / 2;
	case BB_MAP_DECAY6:
		return exp(-exp(x));
	case BB_MAP_DECAY7:
		return exp(-exp(-0.5) / (1 + exp(-x)));
	case BB_MAP_COPY:
	case BB_N_MAPS:
		break;
	}
	return x;
}

void map_c(bb_queue *q, float *y, int ld_y, const float *x, int ld_x, int n_rows, int dim,
	enum bb_map f) {
	for (int r = 0; r < n_rows; r++) {
		for (int i = 0; i < dim; i++) {
			y[(size_t)r * ld_y + i] = (float)map_one(f, x[(size_t)r * ld_x + i]);
		}
	}
}

void lerp_c(bb_queue *q, float *y, int ld_y, const float *from, int ld_from, const float *to,
	int ld_to, const float *by, int ld_by, int n_rows, int dim) {
	for (int r = 0; r < n_rows; r++) {
		for (int i = 0; i < dim; i++) {
			const double at = from[(size_t)r * ld_from + i];
			const double way = (double)to[(size_t)r * ld_to + i] - at;
			y[(size_t)r * ld_y + i] = (float)(at + way * by[(size_t)r * ld_by + i]);
		}
	}
}
