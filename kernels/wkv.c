/* SPDX-License-Identifier: Apache-2.0
 *
 * What is RWKV's own, the references: states are rounded to f32 after each row, all else is
 * double. */
#include "kernels.h"

#include <math.h>

/* Value channel i of one head in one row, whose state is S[j * head_dim] and whose operands begin
 * at `at`. */
static double wkv7_channel(const struct bb_wkv7 *a, float *S, size_t at, int i) {
	double u = 0, y = 0;
	for (int j = 0; j < a->head_dim; j++) {
		u += (double)S[(size_t)j * a->head_dim] * a->a[at + j];
	}
	for (int j = 0; j < a->head_dim; j++) {
		float *s = &S[(size_t)j * a->head_dim];
		*s = (float)((double)a->w[at + j] * *s + u * a->b[at + j] +
			(double)a->v[at + i] * a->k[at + j]);
		y += (double)*s * a->r[at + j];
	}
	return y;
}

void wkv7_c(bb_queue *q, const struct bb_wkv7 *a) {
	const size_t dim = (size_t)a->head_dim, head = dim * dim;
	for (int i = 0; i < a->n_seqs; i++) {
		for (int k = 0; k <= a->seqs[i].n_saves; k++) {
			const struct bb_stretch s = state_stretch(&a->seqs[i], k, a->state_at);
			for (size_t e = 0; e < head * a->n_heads; e++) {
				s.to[e] = s.from != NULL ? s.from[e] : 0;
			}
			for (int r = s.row0; r < s.row0 + s.n_rows; r++) {
				for (size_t c = 0; c < dim * a->n_heads; c++) {
					const size_t h = c / dim, p = c % dim;
					a->y[(size_t)r * a->ld_y + c] = (float)wkv7_channel(a,
						s.to + h * head + p, (size_t)r * a->ld + h * dim, (int)p);
				}
			}
		}
	}
}

/* As wkv7_channel. */
static double wkv6_channel(const struct bb_wkv6 *a, float *S, size_t at, size_t head, int i) {
	double y = 0;
	for (int j = 0; j < a->head_dim; j++) {
		float *s = &S[(size_t)j * a->head_dim];
		const double kv = (double)a->k[at + j] * a->v[at + i];
		y += (*s + a->u[head + j] * kv) * a->r[at + j];
		*s = (float)((double)a->w[at + j] * *s + kv);
	}
	return y;
}

void wkv6_c(bb_queue *q, const struct bb_wkv6 *a) {
	const size_t dim = (size_t)a->head_dim, head = dim * dim;
	for (int i = 0; i < a->n_seqs; i++) {
		for (int k = 0; k <= a->seqs[i].n_saves; k++) {
			const struct bb_stretch s = state_stretch(&a->seqs[i], k, a->state_at);
			for (size_t e = 0; e < head * a->n_heads; e++) {
				s.to[e] = s.from != NULL ? s.from[e] : 0;
			}
			for (int r = s.row0; r < s.row0 + s.n_rows; r++) {
				for (size_t c = 0; c < dim * a->n_heads; c++) {
					const size_t h = c / dim, p = c % dim;
					a->y[(size_t)r * a->ld_y + c] = (float)wkv6_channel(a,
						s.to + h * head + p, (size_t)r * a->ld + h * dim, h * dim, (int)p);
				}
			}
		}
	}
}

void shift_c(bb_queue *q, const struct bb_shift *a) {
	for (int i = 0; i < a->n_seqs; i++) {
		for (int k = 0; k <= a->seqs[i].n_saves; k++) {
			const struct bb_stretch s = state_stretch(&a->seqs[i], k, a->state_at);
			for (int c = 0; c < a->dim; c++) {
				float before = s.from != NULL ? s.from[c] : 0;
				for (int r = s.row0; r < s.row0 + s.n_rows; r++) {
					const float x = a->x[(size_t)r * a->ld_x + c];
					for (int m = 0; m < a->n_mixes; m++) {
						const size_t at = (size_t)m * a->dim + c;
						a->y[(size_t)r * a->ld_y + at] = a->mix == NULL ? before
							: (float)(x + ((double)before - x) * a->mix[at]);
					}
					before = x;
				}
				s.to[c] = before;
			}
		}
	}
}

void wkv7_keys_c(bb_queue *q, const struct bb_wkv7_keys *a) {
	for (int r = 0; r < a->n_rows; r++) {
		for (int h = 0; h < a->n_heads; h++) {
			const size_t first = (size_t)h * a->head_dim, row = (size_t)r * a->ld;
			double sum = 0;
			for (size_t i = first; i < first + a->head_dim; i++) {
				const double z = (double)a->k[row + i] * a->k_k[i];
				sum += z * z;
			}
			const double length = fmax(sqrt(sum), 1e-12);
			for (size_t i = first; i < first + a->head_dim; i++) {
				const double k = a->k[row + i], rate = (double)a->scale * a->a[row + i];
				const double z = k * a->k_k[i] / length;
				a->down[row + i] = (float)-z;
				a->k[row + i] = (float)(k * (1 + (rate - 1) * a->k_a[i]));
				a->a[row + i] = (float)(z * rate);
			}
		}
	}
}

void wkv_out_c(bb_queue *q, const struct bb_wkv_out *a) {
	for (int r = 0; r < a->n_rows; r++) {
		for (int h = 0; h < a->n_heads; h++) {
			const size_t first = (size_t)h * a->head_dim, row = (size_t)r * a->ld;
			double sum = 0;
			for (size_t i = first; a->r_k != NULL && i < first + a->head_dim; i++) {
				sum += (double)a->r[row + i] * a->k[row + i] * a->r_k[i];
			}
			for (size_t i = first; i < first + a->head_dim; i++) {
				const double y = (double)a->y[row + i] * a->w[i] + a->bias[i];
				const double bonus = a->r_k != NULL ? sum * a->v[row + i] : 0;
				a->y[row + i] = (float)((y + bonus) * a->gate[row + i]);
			}
		}
	}
}
