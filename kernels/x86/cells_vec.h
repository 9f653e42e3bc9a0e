/* SPDX-License-Identifier: Apache-2.0
 *
 * Recurrent cells with gates of their own, over vectors of a state's columns: sums over its rows go
 * from row 0 up, by fma. */
#include "../kernels.h"
#include "vec_math.h"

#include <math.h>
#include <string.h>

/* ---- mLSTM ---- */

/* Rows that pass over a matrix together: it's read and written once for all of them, and what they
 * keep in registers fits. */
enum { TOGETHER = VEC / 2 };

/* What n rows do to a head as a whole. */
struct mlstm_rows {
	float keep[VEC], u[VEC], factor[VEC]; /* factor: of sums over C q */
	const float *q[TOGETHER], *k[TOGETHER]; /* [dim_k] of each row */
};

static inline vec mlstm_gate(const struct bb_mlstm *a, const float *g) {
	return a->cap > 0 ? vec_softcap(vec_load(g), a->cap) : vec_load(g);
}

/* Factors of n rows from r on, of head h; *m goes from before them to behind them. exp(-m) of each
 * to floor[]. */
static void mlstm_gates(struct mlstm_rows *rows, const struct bb_mlstm *a, int h, int r, int n,
	float *m, float floor[VEC]) {
	float i[VEC] = { 0 }, f[VEC] = { 0 }, shift[VEC] = { 0 };
	const vec zero = vec_set(0);
	for (int t = 0; t < n; t++) {
		i[t] = a->gate_i[(size_t)(r + t) * a->ld_gate + h];
		f[t] = a->gate_f[(size_t)(r + t) * a->ld_gate + h];
		rows->q[t] = a->q + (size_t)(r + t) * a->ld_qk + (size_t)h * a->dim_k;
		rows->k[t] = a->k + (size_t)(r + t) * a->ld_qk + (size_t)h * a->dim_k;
	}
	vec_store(i, mlstm_gate(a, i));
	vec_store(f, vec_sub(zero, vec_softplus(vec_sub(zero, mlstm_gate(a, f)))));
	for (int t = 0; t < n; t++) {
		f[t] += *m;
		shift[t] = *m = f[t] > i[t] ? f[t] : i[t];
	}
	const vec s = vec_load(shift);
	vec_store(rows->keep, vec_exp(vec_sub(vec_load(f), s)));
	vec_store(rows->u, vec_exp(vec_sub(vec_load(i), s)));
	vec_store(floor, vec_exp(vec_sub(zero, s)));
}

/* Row t of the normaliser n[dim_k], which was `from` before; returns n q. */
static float mlstm_normaliser(const struct mlstm_rows *rows, int t, const float *from, float *n,
	int dim_k) {
	const vec keep = vec_set(rows->keep[t]), u = vec_set(rows->u[t]);
	vec sum = vec_set(0);
	for (int j = 0; j < dim_k; j += VEC) {
		const int n_lanes = dim_k - j < VEC ? dim_k - j : VEC;
		const vec before = from != NULL ? load_n(from + j, n_lanes) : vec_set(0);
		const vec now = vec_fma(u, load_n(rows->k[t] + j, n_lanes), vec_mul(keep, before));
		store_n(n + j, now, n_lanes);
		sum = vec_fma(now, load_n(rows->q[t] + j, n_lanes), sum);
	}
	return vec_sum(sum);
}

/* Rows t0 to t0 + n of `rows`, which begin at row r, of columns p of head h of a matrix; n is a
 * constant where this is inlined. */
static inline void mlstm_lanes(const struct bb_mlstm *a, const struct mlstm_rows *rows, int t0,
	const float *from, float *to, int h, int p, int n_lanes, int r, int n) {
	vec u[TOGETHER], keep[TOGETHER], y[TOGETHER];
	const size_t at = (size_t)h * a->dim_v + p;
	for (int t = 0; t < n; t++) {
		u[t] = vec_mul(vec_set(rows->u[t0 + t]),
			load_n(a->v + (size_t)(r + t0 + t) * a->ld_v + at, n_lanes));
		keep[t] = vec_set(rows->keep[t0 + t]);
		y[t] = vec_set(0);
	}
	for (int j = 0; j < a->dim_k; j++) {
		const size_t row = (size_t)j * a->dim_v;
		vec C = from != NULL ? load_n(from + row, n_lanes) : vec_set(0);
		for (int t = 0; t < n; t++) {
			C = vec_fma(u[t], vec_set(rows->k[t0 + t][j]), vec_mul(keep[t], C));
			y[t] = vec_fma(C, vec_set(rows->q[t0 + t][j]), y[t]);
		}
		store_n(to + row, C, n_lanes);
	}
	for (int t = 0; t < n; t++) {
		store_n(a->y + (size_t)(r + t0 + t) * a->ld_y + at,
			vec_mul(y[t], vec_set(rows->factor[t0 + t])), n_lanes);
	}
}

/* n rows from r on of head h, whose matrix is C and was `from` before. */
static void mlstm_matrix(const struct bb_mlstm *a, const struct mlstm_rows *rows, const float *from,
	float *C, int h, int r, int n) {
	for (int p = 0; p < a->dim_v; p += VEC) {
		const int n_lanes = a->dim_v - p < VEC ? a->dim_v - p : VEC;
		const float *before = from != NULL ? from + p : NULL;
		if (n == TOGETHER && n_lanes == VEC) {
			mlstm_lanes(a, rows, 0, before, C + p, h, p, VEC, r, TOGETHER);
			continue;
		}
		for (int t = 0; t < n; t++) {
			mlstm_lanes(a, rows, t, t > 0 ? C + p : before, C + p, h, p, n_lanes, r, 1);
		}
	}
}

/* Head h of a stretch. */
static void mlstm_head(const struct bb_mlstm *a, const struct bb_stretch *s, int h) {
	const size_t head = (size_t)a->dim_k * a->dim_v, C = (size_t)h * head;
	const size_t n = (size_t)a->n_heads * head + (size_t)h * a->dim_k;
	const size_t m = (size_t)a->n_heads * (head + a->dim_k) + (size_t)h;
	const float scale = 1 / sqrtf((float)a->dim_k), *from = s->from;
	float shift = from != NULL ? from[m] : 0;
	for (int i = 0, n_rows; i < s->n_rows; i += n_rows) {
		struct mlstm_rows rows;
		float floor[VEC], norm[VEC] = { 0 };
		n_rows = s->n_rows - i < TOGETHER ? s->n_rows - i : TOGETHER;
		mlstm_gates(&rows, a, h, s->row0 + i, n_rows, &shift, floor);
		for (int t = 0; t < n_rows; t++) {
			const float *before = t > 0 ? s->to + n : from != NULL ? from + n : NULL;
			norm[t] = scale * mlstm_normaliser(&rows, t, before, s->to + n, a->dim_k);
		}
		const vec size = vec_sub(vec_set(0), vec_negative(vec_load(norm)));
		vec_store(rows.factor, vec_div(vec_set(scale),
			vec_add(vec_max(size, vec_load(floor)), vec_set(a->eps))));
		mlstm_matrix(a, &rows, from != NULL ? from + C : NULL, s->to + C, h, s->row0 + i, n_rows);
		from = s->to;
	}
	s->to[m] = shift;
}

static void mlstm_units(const void *arg, int begin, int end) {
	const struct bb_mlstm *a = arg;
	for (int i = begin; i < end; i++) {
		const struct bb_state_seq *seq = &a->seqs[i / a->n_heads];
		for (int k = 0; k <= seq->n_saves; k++) {
			const struct bb_stretch s = state_stretch(seq, k, a->state_at);
			mlstm_head(a, &s, i % a->n_heads);
		}
	}
}

void TAG(mlstm)(bb_queue *q, const struct bb_mlstm *a) {
	const size_t rows = state_mean_rows(a->seqs, a->n_seqs);
	queue_run(q, mlstm_units, a, a->n_seqs * a->n_heads,
		vec_grain(rows * (size_t)a->dim_k * (size_t)a->dim_v));
}
