/* SPDX-License-Identifier: Apache-2.0
 *
 * Convolution and scans over vectors of channels. A state lies with its channels side by side, so
 * sums over n need no sum across a vector: they go from n = 0 up, by fma. */
#include "../kernels.h"
#include "vec_math.h"

#include <string.h>

static int n_blocks(int dim) {
	return (dim + VEC - 1) / VEC;
}

/* Units for queue_run that are a vector of channels of a sequence each, all its stretches. */
#define CHANNEL_UNITS(name) \
	static void name##_units(const void *arg, int begin, int end) { \
		const struct bb_##name *a = arg; \
		const int per_seq = n_blocks(a->dim); \
		for (int u = begin; u < end; u++) { \
			const struct bb_state_seq *seq = &a->seqs[u / per_seq]; \
			const int c = u % per_seq * VEC, n = a->dim - c < VEC ? a->dim - c : VEC; \
			for (int k = 0; k <= seq->n_saves; k++) { \
				const struct bb_stretch s = state_stretch(seq, k, a->state_at); \
				name##_lanes(a, &s, c, n); \
			} \
		} \
	}

/* ---- convolution ---- */

/* n channels from c on, n <= VEC. */
static void conv_lanes(const struct bb_conv *a, const struct bb_stretch *s, int c, int n) {
	const int n_past = a->width - 1;
	const vec bias = a->bias != NULL ? load_n(a->bias + c, n) : vec_set(0);
	vec past[BB_CONV_WIDTH - 1], w[BB_CONV_WIDTH];
	for (int j = 0; j < n_past; j++) {
		past[j] = s->from != NULL ? load_n(s->from + (size_t)j * a->dim + c, n) : vec_set(0);
	}
	for (int j = 0; j <= n_past; j++) {
		w[j] = load_n(a->w + (size_t)j * a->dim + c, n);
	}
	for (int r = s->row0; r < s->row0 + s->n_rows; r++) {
		const vec x = load_n(a->x + (size_t)r * a->ld_x + c, n);
		vec y = bias;
		for (int j = 0; j < n_past; j++) {
			y = vec_fma(w[j], past[j], y);
		}
		y = vec_fma(w[n_past], x, y);
		store_n(a->y + (size_t)r * a->ld_y + c, a->silu ? vec_mul(y, vec_sigmoid(y)) : y, n);
		for (int j = 0; j + 1 < n_past; j++) {
			past[j] = past[j + 1];
		}
		past[n_past - 1] = x;
	}
	for (int j = 0; j < n_past; j++) {
		store_n(s->to + (size_t)j * a->dim + c, past[j], n);
	}
}

CHANNEL_UNITS(conv)

void TAG(conv)(bb_queue *q, const struct bb_conv *a) {
	const size_t rows = state_mean_rows(a->seqs, a->n_seqs);
	queue_run(q, conv_units, a, a->n_seqs * n_blocks(a->dim),
		vec_grain(rows * VEC * (size_t)a->width));
}

/* ---- Mamba ---- */

static void scan_lanes(const struct bb_scan *a, const struct bb_stretch *s, int c, int n) {
	const vec bias = a->dt_bias != NULL ? load_n(a->dt_bias + c, n) : vec_set(0);
	const vec skip = a->skip != NULL ? load_n(a->skip + c, n) : vec_set(0);
	const float *from = s->from;
	for (int r = s->row0; r < s->row0 + s->n_rows; r++) {
		const float *B = a->b + (size_t)r * a->ld_bc, *C = a->c + (size_t)r * a->ld_bc;
		const vec x = load_n(a->x + (size_t)r * a->ld_x + c, n);
		const vec d = vec_softplus(vec_add(load_n(a->dt + (size_t)r * a->ld_dt + c, n), bias));
		const vec u = vec_mul(d, x);
		vec y = vec_set(0);
		for (int i = 0; i < a->n_state; i++) {
			const size_t at = (size_t)i * a->dim + c;
			const vec keep = vec_exp(vec_mul(d, load_n(a->a + at, n)));
			const vec S = vec_fma(u, vec_set(B[i]),
				vec_mul(keep, from != NULL ? load_n(from + at, n) : vec_set(0)));
			store_n(s->to + at, S, n);
			y = vec_fma(S, vec_set(C[i]), y);
		}
		store_n(a->y + (size_t)r * a->ld_y + c, vec_fma(skip, x, y), n);
		from = s->to;
	}
}

CHANNEL_UNITS(scan)
#undef CHANNEL_UNITS

void TAG(scan)(bb_queue *q, const struct bb_scan *a) {
	const size_t rows = state_mean_rows(a->seqs, a->n_seqs);
	queue_run(q, scan_units, a, a->n_seqs * n_blocks(a->dim),
		vec_grain(4 * rows * VEC * (size_t)a->n_state));
}

/* ---- Mamba-2 ---- */

/* Rows that pass over a state together: it's read and written once for all of them, and what they
 * keep in registers fits. */
enum { TOGETHER = VEC / 2 };

/* What n rows from r on do to head h as a whole. */
struct ssd_rows {
	float d[VEC], keep[VEC];
	const float *b[TOGETHER], *c[TOGETHER]; /* [n_state] of each row */
};

static void ssd_rows_read(struct ssd_rows *rows, const struct bb_ssd *a, int h, int r, int n) {
	const size_t g = (size_t)(h / (a->n_heads / a->n_groups)) * a->n_state;
	memset(rows->d, 0, sizeof(rows->d));
	for (int t = 0; t < n; t++) {
		rows->d[t] = a->dt[(size_t)(r + t) * a->ld_dt + h];
		rows->b[t] = a->b + (size_t)(r + t) * a->ld_bc + g;
		rows->c[t] = a->c + (size_t)(r + t) * a->ld_bc + g;
	}
	vec d = vec_load(rows->d);
	d = vec_softplus(a->dt_bias != NULL ? vec_add(d, vec_set(a->dt_bias[h])) : d);
	d = vec_max(vec_set(a->dt_min), d);
	d = vec_min(vec_set(a->dt_max), d);
	vec_store(rows->d, d);
	vec_store(rows->keep, vec_exp(vec_mul(d, vec_set(a->a[h]))));
}

/* n rows from r on of lanes p of head h; n_rows is a constant where this is inlined. */
static inline void ssd_lanes(const struct bb_ssd *a, const struct ssd_rows *rows, const float *from,
	float *to, int h, int p, int n_lanes, int r, int n_rows) {
	vec u[TOGETHER], keep[TOGETHER], y[TOGETHER];
	const size_t at = (size_t)h * a->head_dim + p;
	for (int t = 0; t < n_rows; t++) {
		u[t] = vec_mul(vec_set(rows->d[t]),
			load_n(a->x + (size_t)(r + t) * a->ld_x + at, n_lanes));
		keep[t] = vec_set(rows->keep[t]);
		y[t] = vec_set(0);
	}
	for (int i = 0; i < a->n_state; i++) {
		const size_t row = (size_t)i * a->head_dim;
		vec S = from != NULL ? load_n(from + row, n_lanes) : vec_set(0);
		for (int t = 0; t < n_rows; t++) {
			S = vec_fma(u[t], vec_set(rows->b[t][i]), vec_mul(keep[t], S));
			y[t] = vec_fma(S, vec_set(rows->c[t][i]), y[t]);
		}
		store_n(to + row, S, n_lanes);
	}
	const vec skip = vec_set(a->skip != NULL ? a->skip[h] : 0);
	for (int t = 0; t < n_rows; t++) {
		const vec x = load_n(a->x + (size_t)(r + t) * a->ld_x + at, n_lanes);
		store_n(a->y + (size_t)(r + t) * a->ld_y + at, vec_fma(skip, x, y[t]), n_lanes);
	}
}

/* Head h of a stretch. */
static void ssd_head(const struct bb_ssd *a, const struct bb_stretch *s, int h) {
	const size_t head = (size_t)h * a->n_state * a->head_dim;
	struct ssd_rows rows;
	for (int t = 0, n; t < s->n_rows; t += n) {
		n = s->n_rows - t >= TOGETHER ? TOGETHER : 1;
		ssd_rows_read(&rows, a, h, s->row0 + t, n);
		const float *from = t > 0 ? s->to : s->from;
		for (int p = 0; p < a->head_dim; p += VEC) {
			const int n_lanes = a->head_dim - p < VEC ? a->head_dim - p : VEC;
			const float *before = from != NULL ? from + head + p : NULL;
			if (n == TOGETHER && n_lanes == VEC) {
				ssd_lanes(a, &rows, before, s->to + head + p, h, p, VEC, s->row0 + t, TOGETHER);
			} else {
				for (int i = 0; i < n; i++) {
					const struct ssd_rows one = { { rows.d[i] }, { rows.keep[i] }, { rows.b[i] },
						{ rows.c[i] } };
					ssd_lanes(a, &one, i > 0 ? s->to + head + p : before, s->to + head + p, h, p,
						n_lanes, s->row0 + t + i, 1);
				}
			}
		}
	}
}

static void ssd_units(const void *arg, int begin, int end) {
	const struct bb_ssd *a = arg;
	for (int u = begin; u < end; u++) {
		const struct bb_state_seq *seq = &a->seqs[u / a->n_heads];
		for (int k = 0; k <= seq->n_saves; k++) {
			const struct bb_stretch s = state_stretch(seq, k, a->state_at);
			ssd_head(a, &s, u % a->n_heads);
		}
	}
}

void TAG(ssd)(bb_queue *q, const struct bb_ssd *a) {
	const size_t rows = state_mean_rows(a->seqs, a->n_seqs);
	queue_run(q, ssd_units, a, a->n_seqs * a->n_heads,
		vec_grain(rows * (size_t)a->n_state * (size_t)a->head_dim));
}
