/* SPDX-License-Identifier: Apache-2.0
 *
 * What is RWKV's own, over vectors of channels. */
#include "../kernels.h"
#include "vec_math.h"

#include <math.h>

/* ---- token shift ---- */

static void shift_lanes(const struct bb_shift *a, const struct bb_stretch *s, int c, int n) {
	vec before = s->from != NULL ? load_n(s->from + c, n) : vec_set(0);
	for (int r = s->row0; r < s->row0 + s->n_rows; r++) {
		const vec x = load_n(a->x + (size_t)r * a->ld_x + c, n), way = vec_sub(before, x);
		for (int m = 0; m < a->n_mixes; m++) {
			const size_t at = (size_t)m * a->dim + c;
			store_n(a->y + (size_t)r * a->ld_y + at, a->mix == NULL ? before
				: vec_fma(way, load_n(a->mix + at, n), x), n);
		}
		before = x;
	}
	store_n(s->to + c, before, n);
}

static void shift_units(const void *arg, int begin, int end) {
	const struct bb_shift *a = arg;
	const int per_seq = (a->dim + VEC - 1) / VEC;
	for (int u = begin; u < end; u++) {
		const struct bb_state_seq *seq = &a->seqs[u / per_seq];
		const int c = u % per_seq * VEC;
		for (int k = 0; k <= seq->n_saves; k++) {
			const struct bb_stretch s = state_stretch(seq, k, a->state_at);
			shift_lanes(a, &s, c, a->dim - c);
		}
	}
}

void TAG(shift)(bb_queue *q, const struct bb_shift *a) {
	const size_t rows = state_mean_rows(a->seqs, a->n_seqs);
	queue_run(q, shift_units, a, a->n_seqs * ((a->dim + VEC - 1) / VEC),
		vec_grain(rows * VEC * (size_t)a->n_mixes));
}

/* ---- RWKV-7 ----
 *
 * Lanes are value channels, so every sum over keys goes from j = 0 up. A row's update also gives
 * the sums u of the row behind it: the state is passed over once a row. */

/* Vectors that go over the keys together, to hide how long an fma takes. */
enum { WKV_VECTORS = 2 };

/* Operands of head h in row r. */
static size_t wkv7_row(const struct bb_wkv7 *a, int h, int r) {
	return (size_t)r * a->ld + (size_t)h * a->head_dim;
}

/* n value channels from i on, in n_vec vectors, of a stretch of head h, whose states are from and
 * to; n_vec is a constant where this is inlined. */
static inline void wkv7_lanes(const struct bb_wkv7 *a, const struct bb_stretch *s, int h, int i,
	int n, int n_vec) {
	const size_t head = (size_t)h * a->head_dim * a->head_dim + i;
	const float *from = s->from != NULL ? s->from + head : NULL;
	float *to = s->to + head;
	vec u[WKV_VECTORS], next[WKV_VECTORS], y[WKV_VECTORS], v[WKV_VECTORS];
	const float *first = a->a + wkv7_row(a, h, s->row0);
	for (int e = 0; e < n_vec; e++) {
		u[e] = vec_set(0);
	}
	for (int j = 0; from != NULL && j < a->head_dim; j++) {
		for (int e = 0; e < n_vec; e++) {
			u[e] = vec_fma(load_n(from + (size_t)j * a->head_dim + e * VEC, n - e * VEC),
				vec_set(first[j]), u[e]);
		}
	}
	for (int r = s->row0; r < s->row0 + s->n_rows; r++) {
		const size_t at = wkv7_row(a, h, r);
		const float *after = a->a + wkv7_row(a, h, r + 1 < s->row0 + s->n_rows ? r + 1 : r);
		for (int e = 0; e < n_vec; e++) {
			v[e] = load_n(a->v + at + i + e * VEC, n - e * VEC);
			y[e] = next[e] = vec_set(0);
		}
		for (int j = 0; j < a->head_dim; j++) {
			const size_t row = (size_t)j * a->head_dim;
			const vec w = vec_set(a->w[at + j]), b = vec_set(a->b[at + j]);
			const vec k = vec_set(a->k[at + j]), R = vec_set(a->r[at + j]);
			for (int e = 0; e < n_vec; e++) {
				vec S = from != NULL ? load_n(from + row + e * VEC, n - e * VEC) : vec_set(0);
				S = vec_fma(v[e], k, vec_fma(u[e], b, vec_mul(w, S)));
				store_n(to + row + e * VEC, S, n - e * VEC);
				y[e] = vec_fma(S, R, y[e]);
				next[e] = vec_fma(S, vec_set(after[j]), next[e]);
			}
		}
		for (int e = 0; e < n_vec; e++) {
			store_n(a->y + (size_t)r * a->ld_y + (size_t)h * a->head_dim + i + e * VEC, y[e],
				n - e * VEC);
			u[e] = next[e];
		}
		from = to;
	}
}

/* Units for queue_run that are a head of a sequence each, all its stretches. */
#define WKV_UNITS(name) \
	static void name##_units(const void *arg, int begin, int end) { \
		const struct bb_##name *a = arg; \
		const int both = WKV_VECTORS * VEC; \
		for (int t = begin; t < end; t++) { \
			const struct bb_state_seq *seq = &a->seqs[t / a->n_heads]; \
			const int h = t % a->n_heads; \
			for (int k = 0; k <= seq->n_saves; k++) { \
				const struct bb_stretch s = state_stretch(seq, k, a->state_at); \
				int i = 0; \
				for (; i + both <= a->head_dim; i += both) { \
					name##_lanes(a, &s, h, i, both, WKV_VECTORS); \
				} \
				for (; i < a->head_dim; i += VEC) { \
					name##_lanes(a, &s, h, i, a->head_dim - i < VEC ? a->head_dim - i : VEC, 1); \
				} \
			} \
		} \
	}
WKV_UNITS(wkv7)

void TAG(wkv7)(bb_queue *q, const struct bb_wkv7 *a) {
	const size_t rows = state_mean_rows(a->seqs, a->n_seqs);
	queue_run(q, wkv7_units, a, a->n_seqs * a->n_heads,
		vec_grain(rows * (size_t)a->head_dim * (size_t)a->head_dim));
}

/* ---- RWKV-6: the same lanes ---- */

static inline void wkv6_lanes(const struct bb_wkv6 *a, const struct bb_stretch *s, int h, int i,
	int n, int n_vec) {
	const size_t first = (size_t)h * a->head_dim, head = first * a->head_dim + i;
	const float *from = s->from != NULL ? s->from + head : NULL, *u = a->u + first;
	float *to = s->to + head;
	vec y[WKV_VECTORS], v[WKV_VECTORS];
	for (int r = s->row0; r < s->row0 + s->n_rows; r++) {
		const size_t at = (size_t)r * a->ld + first;
		for (int e = 0; e < n_vec; e++) {
			v[e] = load_n(a->v + at + i + e * VEC, n - e * VEC);
			y[e] = vec_set(0);
		}
		for (int j = 0; j < a->head_dim; j++) {
			const size_t row = (size_t)j * a->head_dim;
			const vec w = vec_set(a->w[at + j]), k = vec_set(a->k[at + j]);
			const vec R = vec_set(a->r[at + j]), U = vec_set(u[j]);
			for (int e = 0; e < n_vec; e++) {
				const vec S = from != NULL ? load_n(from + row + e * VEC, n - e * VEC) : vec_set(0);
				const vec kv = vec_mul(k, v[e]);
				y[e] = vec_fma(R, vec_fma(U, kv, S), y[e]);
				store_n(to + row + e * VEC, vec_fma(w, S, kv), n - e * VEC);
			}
		}
		for (int e = 0; e < n_vec; e++) {
			store_n(a->y + (size_t)r * a->ld_y + first + i + e * VEC, y[e], n - e * VEC);
		}
		from = to;
	}
}

WKV_UNITS(wkv6)

void TAG(wkv6)(bb_queue *q, const struct bb_wkv6 *a) {
	const size_t rows = state_mean_rows(a->seqs, a->n_seqs);
	queue_run(q, wkv6_units, a, a->n_seqs * a->n_heads,
		vec_grain(rows * (size_t)a->head_dim * (size_t)a->head_dim));
}

/* ---- before and behind them ---- */

static void wkv7_keys_rows(const void *arg, int begin, int end) {
	const struct bb_wkv7_keys *a = arg;
	for (int t = begin; t < end; t++) {
		const size_t first = (size_t)(t % a->n_heads) * a->head_dim;
		const size_t row = (size_t)(t / a->n_heads) * a->ld + first;
		float *down = a->down + row, *k = a->k + row, *rate = a->a + row;
		vec sum = vec_set(0);
		for (int i = 0; i < a->head_dim; i += VEC) {
			const int n = a->head_dim - i;
			const vec z = vec_mul(load_n(k + i, n), load_n(a->k_k + first + i, n));
			sum = vec_fma(z, z, sum);
		}
		const float length = sqrtf(vec_sum(sum));
		const vec inverse = vec_set(1.0f / (length > 1e-12f ? length : 1e-12f));
		for (int i = 0; i < a->head_dim; i += VEC) {
			const int n = a->head_dim - i;
			const vec x = load_n(k + i, n), A = vec_mul(load_n(rate + i, n), vec_set(a->scale));
			const vec z = vec_mul(vec_mul(x, load_n(a->k_k + first + i, n)), inverse);
			const vec less = vec_mul(vec_sub(A, vec_set(1.0f)), load_n(a->k_a + first + i, n));
			store_n(down + i, vec_sub(vec_set(0), z), n);
			store_n(k + i, vec_fma(x, less, x), n);
			store_n(rate + i, vec_mul(z, A), n);
		}
	}
}

void TAG(wkv7_keys)(bb_queue *q, const struct bb_wkv7_keys *a) {
	queue_run(q, wkv7_keys_rows, a, a->n_rows * a->n_heads, vec_grain(4 * (size_t)a->head_dim));
}

static void wkv_out_rows(const void *arg, int begin, int end) {
	const struct bb_wkv_out *a = arg;
	for (int t = begin; t < end; t++) {
		const size_t first = (size_t)(t % a->n_heads) * a->head_dim;
		const size_t row = (size_t)(t / a->n_heads) * a->ld + first;
		vec sum = vec_set(0);
		for (int i = 0; a->r_k != NULL && i < a->head_dim; i += VEC) {
			const int n = a->head_dim - i;
			sum = vec_fma(vec_mul(load_n(a->r + row + i, n), load_n(a->k + row + i, n)),
				load_n(a->r_k + first + i, n), sum);
		}
		const vec bonus = vec_set(vec_sum(sum));
		for (int i = 0; i < a->head_dim; i += VEC) {
			const int n = a->head_dim - i;
			const vec y = vec_fma(load_n(a->y + row + i, n), load_n(a->w + first + i, n),
				load_n(a->bias + first + i, n));
			const vec sums = a->r_k != NULL ? vec_fma(bonus, load_n(a->v + row + i, n), y) : y;
			store_n(a->y + row + i, vec_mul(sums, load_n(a->gate + row + i, n)), n);
		}
	}
}

void TAG(wkv_out)(bb_queue *q, const struct bb_wkv_out *a) {
	queue_run(q, wkv_out_rows, a, a->n_rows * a->n_heads, vec_grain(4 * (size_t)a->head_dim));
}
