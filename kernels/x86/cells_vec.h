/* SPDX-License-Identifier: Apache-2.0
 *
 * Recurrent cells with gates of their own, over vectors of a state's columns: sums over its rows go
 * from row 0 up, by fma. */
#include "../kernels.h"
#include "vec_math.h"

#include <assert.h>
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

/* ---- sLSTM ---- */

enum { SLSTM_ROWS = 4 }; /* of w, added together: sums are read and written once for them */

/* sums[width] += sum over j < n of H[j] w[j, width], n <= SLSTM_ROWS; n is a constant where this is
 * inlined. */
static inline void slstm_add(float *sums, const float *H, const float *w, int width, int n) {
	vec by[SLSTM_ROWS];
	for (int j = 0; j < n; j++) {
		by[j] = vec_set(H[j]);
	}
	for (int p = 0; p < width; p += VEC) {
		const int n_lanes = width - p < VEC ? width - p : VEC;
		vec sum = load_n(sums + p, n_lanes);
		for (int j = 0; j < n; j++) {
			sum = vec_fma(by[j], load_n(w + (size_t)j * width + p, n_lanes), sum);
		}
		store_n(sums + p, sum, n_lanes);
	}
}

/* The gates' rows of head h to sums[4, head_dim]. */
static void slstm_gates(const struct bb_slstm *a, float *sums, const float *H, int r, int h) {
	const float *gates[4] = { a->gate_i, a->gate_f, a->gate_z, a->gate_o };
	const int dim = a->head_dim, width = 4 * dim;
	const size_t at = (size_t)h * dim;
	const float *w = a->w + at * width;
	for (int g = 0; g < 4; g++) {
		const float *x = gates[g] + (size_t)r * a->ld_gate + at;
		const float *bias = a->bias != NULL ? a->bias + (size_t)g * a->n_heads * dim + at : NULL;
		for (int p = 0; p < dim; p += VEC) {
			const int n = dim - p < VEC ? dim - p : VEC;
			const vec sum = load_n(x + p, n);
			store_n(sums + g * dim + p, bias != NULL ? vec_add(sum, load_n(bias + p, n)) : sum, n);
		}
	}
	int j = 0;
	for (; j + SLSTM_ROWS <= dim; j += SLSTM_ROWS) {
		slstm_add(sums, H + j, w + (size_t)j * width, width, SLSTM_ROWS);
	}
	for (; j < dim; j++) {
		slstm_add(sums, H + j, w + (size_t)j * width, width, 1);
	}
}

/* n channels, of whose state S is H, C `width` behind it, and so on; sums are `dim` apart. Returns
 * the new H. */
static vec slstm_lanes(float *S, size_t width, const float *sums, int dim, int n) {
	const vec zero = vec_set(0), i = load_n(sums, n), before = load_n(S + 2 * width, n);
	const vec forget = vec_softplus(vec_sub(zero, load_n(sums + dim, n)));
	const vec f = vec_sub(load_n(S + 3 * width, n), forget);
	const vec is_old = vec_sub(zero, before); /* below zero where something has come */
	const vec shift = vec_if_below_zero(is_old, vec_max(f, i), i);
	const vec keep = vec_if_below_zero(is_old, vec_exp(vec_sub(f, shift)), zero);
	const vec u = vec_exp(vec_sub(i, shift)), z = vec_softcap(load_n(sums + 2 * dim, n), 1);
	const vec C = vec_fma(keep, load_n(S + width, n), vec_mul(u, z));
	const vec now = vec_fma(keep, before, u);
	const vec H = vec_div(vec_mul(vec_sigmoid(load_n(sums + 3 * dim, n)), C), now);
	store_n(S, H, n);
	store_n(S + width, C, n);
	store_n(S + 2 * width, now, n);
	store_n(S + 3 * width, shift, n);
	return H;
}

/* Head h of a stretch. */
static void slstm_head(const struct bb_slstm *a, const struct bb_stretch *s, int h) {
	const size_t width = (size_t)a->n_heads * a->head_dim, at = (size_t)h * a->head_dim;
	const int dim = a->head_dim;
	float sums[4 * BB_SLSTM_HEAD], *S = s->to + at;
	for (int part = 0; part < 4 && s->from != s->to; part++) {
		if (s->from != NULL) {
			memcpy(S + part * width, s->from + part * width + at, sizeof(*S) * (size_t)dim);
		} else {
			memset(S + part * width, 0, sizeof(*S) * (size_t)dim);
		}
	}
	for (int r = s->row0; r < s->row0 + s->n_rows; r++) {
		slstm_gates(a, sums, S, r, h);
		for (int p = 0; p < dim; p += VEC) {
			const int n = dim - p < VEC ? dim - p : VEC;
			const vec H = slstm_lanes(S + p, width, sums + p, dim, n);
			store_n(a->y + (size_t)r * a->ld_y + at + p, H, n);
		}
	}
}

/* Sequences of a head are neighbours, which find its matrix in a cache. */
static void slstm_units(const void *arg, int begin, int end) {
	const struct bb_slstm *a = arg;
	for (int i = begin; i < end; i++) {
		const struct bb_state_seq *seq = &a->seqs[i % a->n_seqs];
		for (int k = 0; k <= seq->n_saves; k++) {
			const struct bb_stretch s = state_stretch(seq, k, a->state_at);
			slstm_head(a, &s, i / a->n_seqs);
		}
	}
}

void TAG(slstm)(bb_queue *q, const struct bb_slstm *a) {
	const size_t rows = state_mean_rows(a->seqs, a->n_seqs);
	assert(a->head_dim <= BB_SLSTM_HEAD);
	queue_run(q, slstm_units, a, a->n_seqs * a->n_heads,
		vec_grain(4 * rows * (size_t)a->head_dim * (size_t)a->head_dim));
}

/* ---- RG-LRU ---- */

/* n channels from c on, n <= VEC. */
static void rg_lru_lanes(const struct bb_rg_lru *a, const struct bb_stretch *s, int c, int n) {
	const vec log_a = load_n(a->log_a + c, n);
	vec S = s->from != NULL ? load_n(s->from + c, n) : vec_set(0);
	for (int r = s->row0; r < s->row0 + s->n_rows; r++) {
		const size_t at = (size_t)r * a->ld_gate + c;
		const vec x = load_n(a->x + (size_t)r * a->ld_x + c, n);
		const vec l = vec_mul(vec_sigmoid(load_n(a->gate_r + at, n)), log_a);
		const vec size = vec_sub(vec_set(0), vec_add(l, l));
		const vec scale = s->from == NULL && r == s->row0 ? vec_set(1.0f)
			: vec_sqrt(vec_one_less_exp(size));
		const vec u = vec_mul(scale, vec_mul(vec_sigmoid(load_n(a->gate_i + at, n)), x));
		S = vec_fma(vec_exp(l), S, u);
		store_n(a->y + (size_t)r * a->ld_y + c, S, n);
	}
	store_n(s->to + c, S, n);
}

static void rg_lru_units(const void *arg, int begin, int end) {
	const struct bb_rg_lru *a = arg;
	const int per_seq = (a->dim + VEC - 1) / VEC;
	for (int i = begin; i < end; i++) {
		const struct bb_state_seq *seq = &a->seqs[i / per_seq];
		const int c = i % per_seq * VEC, n = a->dim - c < VEC ? a->dim - c : VEC;
		for (int k = 0; k <= seq->n_saves; k++) {
			const struct bb_stretch s = state_stretch(seq, k, a->state_at);
			rg_lru_lanes(a, &s, c, n);
		}
	}
}

void TAG(rg_lru)(bb_queue *q, const struct bb_rg_lru *a) {
	const size_t rows = state_mean_rows(a->seqs, a->n_seqs);
	queue_run(q, rg_lru_units, a, a->n_seqs * ((a->dim + VEC - 1) / VEC),
		vec_grain(8 * rows * VEC));
}

/* ---- gated delta rule ---- */

/* What n <= VEC rows do to a head as a whole: of_k is 1 / |k|, of_q 1 / (|q| sqrt(dim_k)). */
struct delta_rows {
	float keep[VEC], beta[VEC], of_q[VEC], of_k[VEC];
	const float *q[VEC], *k[VEC]; /* [dim_k] of each row */
};

static float squares(const float *x, int n) {
	vec sum = vec_set(0);
	for (int i = 0; i < n; i += VEC) {
		const vec v = load_n(x + i, n - i < VEC ? n - i : VEC);
		sum = vec_fma(v, v, sum);
	}
	return vec_sum(sum);
}

static vec inverse_norms(const float sums[VEC], float scale) {
	return vec_div(vec_set(scale), vec_sqrt(vec_add(vec_load(sums), vec_set(1e-6f))));
}

static void delta_rows_read(struct delta_rows *rows, const struct bb_delta *a, int h, int r,
	int n) {
	const size_t g = (size_t)(h / (a->n_heads / a->n_key_heads)) * a->dim_k;
	memset(rows, 0, sizeof(*rows));
	for (int t = 0; t < n; t++) {
		const size_t gate = (size_t)(r + t) * a->ld_gate + h;
		rows->q[t] = a->q + (size_t)(r + t) * a->ld_qk + g;
		rows->k[t] = a->k + (size_t)(r + t) * a->ld_qk + g;
		rows->keep[t] = a->dt[gate] + (a->dt_bias != NULL ? a->dt_bias[h] : 0);
		rows->beta[t] = a->gate_b[gate];
		rows->of_q[t] = squares(rows->q[t], a->dim_k);
		rows->of_k[t] = squares(rows->k[t], a->dim_k);
	}
	const vec d = vec_softplus(vec_load(rows->keep));
	vec_store(rows->keep, vec_exp(vec_mul(d, vec_set(a->a[h]))));
	vec_store(rows->beta, vec_sigmoid(vec_load(rows->beta)));
	vec_store(rows->of_q, inverse_norms(rows->of_q, 1 / sqrtf((float)a->dim_k)));
	vec_store(rows->of_k, inverse_norms(rows->of_k, 1));
}

/* Row t of `rows`, of columns of a state; y may be v. */
static inline void delta_lanes(const struct bb_delta *a, const struct delta_rows *rows, int t,
	const float *from, float *to, const float *v, float *y, int n) {
	const vec keep = vec_set(rows->keep[t]);
	const float *k = rows->k[t], *q = rows->q[t];
	vec known = vec_set(0), sum = vec_set(0);
	for (int j = 0; from != NULL && j < a->dim_k; j++) {
		known = vec_fma(load_n(from + (size_t)j * a->dim_v, n), vec_set(k[j]), known);
	}
	known = vec_mul(known, vec_set(rows->keep[t] * rows->of_k[t]));
	const vec e = vec_mul(vec_set(rows->beta[t] * rows->of_k[t]), vec_sub(load_n(v, n), known));
	for (int j = 0; j < a->dim_k; j++) {
		const size_t row = (size_t)j * a->dim_v;
		const vec before = from != NULL ? load_n(from + row, n) : vec_set(0);
		const vec S = vec_fma(e, vec_set(k[j]), vec_mul(keep, before));
		store_n(to + row, S, n);
		sum = vec_fma(S, vec_set(q[j]), sum);
	}
	store_n(y, vec_mul(sum, vec_set(rows->of_q[t])), n);
}

/* Head h of a stretch: columns of a state stay in the nearest cache while rows pass. */
static void delta_head(const struct bb_delta *a, const struct bb_stretch *s, int h) {
	const size_t head = (size_t)h * a->dim_k * a->dim_v;
	struct delta_rows rows;
	for (int i = 0, n_rows; i < s->n_rows; i += n_rows) {
		n_rows = s->n_rows - i < VEC ? s->n_rows - i : VEC;
		delta_rows_read(&rows, a, h, s->row0 + i, n_rows);
		for (int p = 0; p < a->dim_v; p += VEC) {
			const int n = a->dim_v - p < VEC ? a->dim_v - p : VEC;
			const size_t at = (size_t)h * a->dim_v + p;
			for (int t = 0; t < n_rows; t++) {
				const size_t r = (size_t)(s->row0 + i + t);
				const float *from = i + t > 0 ? s->to : s->from;
				const float *v = a->v + r * a->ld_v + at;
				float *y = a->y + r * a->ld_y + at, *to = s->to + head + p;
				from = from != NULL ? from + head + p : NULL;
				if (n == VEC) {
					delta_lanes(a, &rows, t, from, to, v, y, VEC);
				} else {
					delta_lanes(a, &rows, t, from, to, v, y, n);
				}
			}
		}
	}
}

static void delta_units(const void *arg, int begin, int end) {
	const struct bb_delta *a = arg;
	for (int i = begin; i < end; i++) {
		const struct bb_state_seq *seq = &a->seqs[i / a->n_heads];
		for (int k = 0; k <= seq->n_saves; k++) {
			const struct bb_stretch s = state_stretch(seq, k, a->state_at);
			delta_head(a, &s, i % a->n_heads);
		}
	}
}

void TAG(delta)(bb_queue *q, const struct bb_delta *a) {
	const size_t rows = state_mean_rows(a->seqs, a->n_seqs);
	queue_run(q, delta_units, a, a->n_seqs * a->n_heads,
		vec_grain(2 * rows * (size_t)a->dim_k * (size_t)a->dim_v));
}
