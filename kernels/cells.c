/* SPDX-License-Identifier: Apache-2.0
 *
 * Recurrent cells with gates of their own, the references: states are rounded to f32 after each
 * row, all else is double. */
#include "kernels.h"

#include <assert.h>
#include <math.h>

static double softplus(double x) {
	return fmax(x, 0) + log1p(exp(-fabs(x)));
}

static void copy_state(float *to, const float *from, size_t n) {
	for (size_t i = 0; i < n; i++) {
		to[i] = from != NULL ? from[i] : 0;
	}
}

static double capped(double x, double cap) {
	return cap > 0 ? cap * tanh(x / cap) : x;
}

/* Head h of one row, whose state is C[dim_k, dim_v], n[dim_k] and *m. */
static void mlstm_row(const struct bb_mlstm *a, float *C, float *n, float *m, int r, int h) {
	const float *q = a->q + (size_t)r * a->ld_qk + (size_t)h * a->dim_k;
	const float *k = a->k + (size_t)r * a->ld_qk + (size_t)h * a->dim_k;
	const double i = capped(a->gate_i[(size_t)r * a->ld_gate + h], a->cap);
	const double f = -softplus(-capped(a->gate_f[(size_t)r * a->ld_gate + h], a->cap));
	const double shift = fmax(f + *m, i), keep = exp(f + *m - shift), u = exp(i - shift);
	const double scale = 1 / sqrt(a->dim_k);
	double nq = 0;
	*m = (float)shift;
	for (int j = 0; j < a->dim_k; j++) {
		n[j] = (float)(keep * n[j] + u * k[j]);
		nq += (double)n[j] * q[j];
	}
	const double norm = fmax(fabs(scale * nq), exp(-shift)) + a->eps;
	for (int p = 0; p < a->dim_v; p++) {
		const size_t at = (size_t)h * a->dim_v + p;
		const double v = a->v[(size_t)r * a->ld_v + at];
		double y = 0;
		for (int j = 0; j < a->dim_k; j++) {
			float *c = &C[(size_t)j * a->dim_v + p];
			*c = (float)(keep * *c + u * k[j] * v);
			y += (double)*c * q[j];
		}
		a->y[(size_t)r * a->ld_y + at] = (float)(scale * y / norm);
	}
}

void mlstm_c(bb_queue *q, const struct bb_mlstm *a) {
	const size_t n_heads = (size_t)a->n_heads, n_keys = n_heads * (size_t)a->dim_k;
	const size_t head = (size_t)a->dim_k * a->dim_v;
	for (int i = 0; i < a->n_seqs; i++) {
		for (int k = 0; k <= a->seqs[i].n_saves; k++) {
			const struct bb_stretch s = state_stretch(&a->seqs[i], k, a->state_at);
			float *n = s.to + n_heads * head, *m = n + n_keys;
			copy_state(s.to, s.from, n_heads * head + n_keys + n_heads);
			for (int r = s.row0; r < s.row0 + s.n_rows; r++) {
				for (int h = 0; h < a->n_heads; h++) {
					mlstm_row(a, s.to + (size_t)h * head, n + (size_t)h * a->dim_k, m + h, r, h);
				}
			}
		}
	}
}

static double sigmoid(double x) {
	return 1 / (1 + exp(-x));
}

/* G of row r in head h; H [head_dim] is the head's before it. */
static void slstm_gates(const struct bb_slstm *a, double G[4 * BB_SLSTM_HEAD], const float *H,
	int r, int h) {
	const float *gates[4] = { a->gate_i, a->gate_f, a->gate_z, a->gate_o };
	const int dim = a->head_dim, width = 4 * dim;
	for (int i = 0; i < width; i++) {
		const size_t g = (size_t)(i / dim), at = (size_t)h * dim + i % dim;
		G[i] = gates[g][(size_t)r * a->ld_gate + at];
		G[i] += a->bias != NULL ? a->bias[g * a->n_heads * dim + at] : 0;
	}
	for (int j = 0; j < dim; j++) {
		const float *w = a->w + ((size_t)h * dim + j) * width;
		for (int i = 0; i < width; i++) {
			G[i] += (double)H[j] * w[i];
		}
	}
}

/* Head h of one row, whose state's parts are `width` apart from S on. */
static void slstm_row(const struct bb_slstm *a, float *S, size_t width, int r, int h) {
	const int dim = a->head_dim;
	double G[4 * BB_SLSTM_HEAD];
	slstm_gates(a, G, S, r, h);
	for (int j = 0; j < dim; j++) {
		float *C = S + width + j, *n = C + width, *m = n + width;
		const double i = G[j], f = *m - softplus(-G[dim + j]);
		const double z = tanh(G[2 * dim + j]), o = sigmoid(G[3 * dim + j]);
		const double shift = *n == 0 ? i : fmax(f, i);
		const double keep = *n == 0 ? 0 : exp(f - shift), u = exp(i - shift);
		*C = (float)(keep * *C + u * z);
		*n = (float)(keep * *n + u);
		*m = (float)shift;
		S[j] = (float)(o * *C / *n);
		a->y[(size_t)r * a->ld_y + (size_t)h * dim + j] = S[j];
	}
}

void slstm_c(bb_queue *q, const struct bb_slstm *a) {
	const size_t width = (size_t)a->n_heads * a->head_dim;
	assert(a->head_dim <= BB_SLSTM_HEAD);
	for (int i = 0; i < a->n_seqs; i++) {
		for (int k = 0; k <= a->seqs[i].n_saves; k++) {
			const struct bb_stretch s = state_stretch(&a->seqs[i], k, a->state_at);
			copy_state(s.to, s.from, 4 * width);
			for (int r = s.row0; r < s.row0 + s.n_rows; r++) {
				for (int h = 0; h < a->n_heads; h++) {
					slstm_row(a, s.to + (size_t)h * a->head_dim, width, r, h);
				}
			}
		}
	}
}

/* is_first: nothing came before. */
static void rg_lru_row(const struct bb_rg_lru *a, float *S, int r, bool is_first) {
	for (int c = 0; c < a->dim; c++) {
		const double x = a->x[(size_t)r * a->ld_x + c];
		const double log_a = sigmoid(a->gate_r[(size_t)r * a->ld_gate + c]) * a->log_a[c];
		const double u = sigmoid(a->gate_i[(size_t)r * a->ld_gate + c]) * x;
		const double scale = is_first ? 1 : sqrt(-expm1(2 * log_a));
		S[c] = (float)(exp(log_a) * S[c] + scale * u);
		a->y[(size_t)r * a->ld_y + c] = S[c];
	}
}

void rg_lru_c(bb_queue *q, const struct bb_rg_lru *a) {
	for (int i = 0; i < a->n_seqs; i++) {
		for (int k = 0; k <= a->seqs[i].n_saves; k++) {
			const struct bb_stretch s = state_stretch(&a->seqs[i], k, a->state_at);
			copy_state(s.to, s.from, (size_t)a->dim);
			for (int r = s.row0; r < s.row0 + s.n_rows; r++) {
				rg_lru_row(a, s.to, r, s.from == NULL && r == s.row0);
			}
		}
	}
}

static double inverse_norm(const float *x, int n) {
	double sum = 1e-6;
	for (int i = 0; i < n; i++) {
		sum += (double)x[i] * x[i];
	}
	return 1 / sqrt(sum);
}

/* Head h of one row, whose state is S[dim_k, dim_v]. */
static void delta_row(const struct bb_delta *a, float *S, int r, int h) {
	const int g = h / (a->n_heads / a->n_key_heads);
	const float *q = a->q + (size_t)r * a->ld_qk + (size_t)g * a->dim_k;
	const float *k = a->k + (size_t)r * a->ld_qk + (size_t)g * a->dim_k;
	const double of_q = inverse_norm(q, a->dim_k) / sqrt(a->dim_k);
	const double of_k = inverse_norm(k, a->dim_k);
	const double bias = a->dt_bias != NULL ? a->dt_bias[h] : 0;
	const double keep = exp(a->a[h] * softplus(a->dt[(size_t)r * a->ld_gate + h] + bias));
	const double beta = sigmoid(a->gate_b[(size_t)r * a->ld_gate + h]);
	for (int p = 0; p < a->dim_v; p++) {
		const size_t at = (size_t)h * a->dim_v + p;
		double known = 0, y = 0;
		for (int j = 0; j < a->dim_k; j++) {
			known += (double)S[(size_t)j * a->dim_v + p] * k[j];
		}
		const double e = beta * (a->v[(size_t)r * a->ld_v + at] - keep * of_k * known);
		for (int j = 0; j < a->dim_k; j++) {
			float *s = &S[(size_t)j * a->dim_v + p];
			*s = (float)(keep * *s + of_k * k[j] * e);
			y += (double)*s * q[j];
		}
		a->y[(size_t)r * a->ld_y + at] = (float)(of_q * y);
	}
}

void delta_c(bb_queue *q, const struct bb_delta *a) {
	const size_t head = (size_t)a->dim_k * a->dim_v;
	for (int i = 0; i < a->n_seqs; i++) {
		for (int k = 0; k <= a->seqs[i].n_saves; k++) {
			const struct bb_stretch s = state_stretch(&a->seqs[i], k, a->state_at);
			copy_state(s.to, s.from, head * a->n_heads);
			for (int r = s.row0; r < s.row0 + s.n_rows; r++) {
				for (int h = 0; h < a->n_heads; h++) {
					delta_row(a, s.to + (size_t)h * head, r, h);
				}
			}
		}
	}
}
