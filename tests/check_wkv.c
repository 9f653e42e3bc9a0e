/* SPDX-License-Identifier: Apache-2.0
 *
 * Checks of what is RWKV's own. */
#include "check_states.h"

#include <math.h>

RUN(wkv6)
RUN(wkv7)
RUN(shift)

/* ---- wkv7 ---- */

/* As the model makes them: decays in (exp(-exp(-0.5)), 1), and directions a of length 1 in each
 * head, of which b takes a part back. Others would let the state grow without bound. */
static void wkv7_operands(struct check *c, struct bb_wkv7 *a, int n_rows) {
	const size_t n = (size_t)n_rows * a->ld;
	float *w = check_in(c, n), *k = check_in(c, n), *dir = check_in(c, n), *b = check_in(c, n);
	for (size_t i = 0; i < n; i++) {
		w[i] = expf(-0.60653066f / (1 + expf(-2 * w[i])));
		k[i] *= 0.5f;
	}
	for (int r = 0; r < n_rows; r++) {
		for (int h = 0; h < a->n_heads; h++) {
			const size_t at = (size_t)r * a->ld + (size_t)h * a->head_dim;
			float sum = 0;
			for (int j = 0; j < a->head_dim; j++) {
				sum += dir[at + j] * dir[at + j];
			}
			for (int j = 0; j < a->head_dim; j++) {
				dir[at + j] /= sqrtf(sum) + 1e-12f;
				b[at + j] = -dir[at + j] / (1 + expf(-b[at + j]));
			}
		}
	}
	a->r = check_in(c, n);
	a->v = check_in(c, n);
	a->w = w;
	a->k = k;
	a->a = dir;
	a->b = b;
}

/* Of the i-th case: the first ones take every path of a device, whose threads keep 2, 4 or 8
 * rows. */
static int wkv_dim(struct check *c, int i) {
	static const int dims[] = { 68, 20, 64, BB_WKV_HEAD, 1, 3, 8, 16, 31, 32, 48, 65, 100 };
	return i < 4 && (i < 3 || !check_is_small(c)) ? dims[i]
		: dims[check_rand(c, check_is_small(c) ? 4 : 0, check_is_small(c) ? 10 : 12)];
}

CHECK(wkv7) {
	const struct tol tol = { .rel = 1e-5f, .abs = 3e-5f };
	for (int i = 0; i < n_cases(c); i++) {
		const bool is_bench = check_is_bench(c);
		struct wkv7_run run = { .fn = fn };
		struct bb_wkv7 *a = &run.a;
		struct scene s;
		a->n_heads = is_bench ? 32 : check_rand(c, 1, 3);
		a->head_dim = is_bench ? 64 : wkv_dim(c, i);
		const int width = a->n_heads * a->head_dim;
		a->ld_y = width + check_rand(c, 0, 5);
		a->ld = width + check_rand(c, 0, 5);
		make_scene(c, &s, (size_t)a->head_dim * width, is_bench ? 1 : check_rand(c, 1, MAX_SEQS),
			is_bench ? (i == 0 ? 1 : 512) : 0, tol);
		a->seqs = s.seqs;
		a->n_seqs = s.n_seqs;
		a->state_at = s.state_at;
		wkv7_operands(c, a, s.n_rows);
		a->y = check_out(c, "y", (size_t)s.n_rows * a->ld_y, tol);
		check_ops(c, 9.0 * width * a->head_dim * s.n_rows);
		while (check_next(c, 4.0 * width * (7.0 * s.n_rows + 2.0 * a->head_dim * s.n_seqs),
			"rows=%d seqs=%d heads=%d dim=%d", s.n_rows, s.n_seqs, a->n_heads, a->head_dim)) {
			fn(check_queue(c), a);
		}
		if (!is_bench) {
			run_again(c, &s, run_wkv7, &run, a->y, a->ld_y, width);
		}
	}
}

/* ---- wkv6 ---- */

static void wkv6_operands(struct check *c, struct bb_wkv6 *a, int n_rows) {
	const size_t n = (size_t)n_rows * a->ld;
	float *w = check_in(c, n);
	for (size_t i = 0; i < n; i++) {
		w[i] = expf(-expf(2 * w[i] - 2));
	}
	a->r = check_in(c, n);
	a->v = check_in(c, n);
	a->k = check_in(c, n);
	a->u = check_in(c, (size_t)a->n_heads * a->head_dim);
	a->w = w;
}

CHECK(wkv6) {
	const struct tol tol = { .rel = 1e-5f, .abs = 3e-5f };
	for (int i = 0; i < n_cases(c); i++) {
		const bool is_bench = check_is_bench(c);
		struct wkv6_run run = { .fn = fn };
		struct bb_wkv6 *a = &run.a;
		struct scene s;
		a->n_heads = is_bench ? 32 : check_rand(c, 1, 3);
		a->head_dim = is_bench ? 64 : wkv_dim(c, i);
		const int width = a->n_heads * a->head_dim;
		a->ld_y = width + check_rand(c, 0, 5);
		a->ld = width + check_rand(c, 0, 5);
		make_scene(c, &s, (size_t)a->head_dim * width, is_bench ? 1 : check_rand(c, 1, MAX_SEQS),
			is_bench ? (i == 0 ? 1 : 512) : 0, tol);
		a->seqs = s.seqs;
		a->n_seqs = s.n_seqs;
		a->state_at = s.state_at;
		wkv6_operands(c, a, s.n_rows);
		a->y = check_out(c, "y", (size_t)s.n_rows * a->ld_y, tol);
		check_ops(c, 7.0 * width * a->head_dim * s.n_rows);
		while (check_next(c, 4.0 * width * (5.0 * s.n_rows + 2.0 * a->head_dim * s.n_seqs),
			"rows=%d seqs=%d heads=%d dim=%d", s.n_rows, s.n_seqs, a->n_heads, a->head_dim)) {
			fn(check_queue(c), a);
		}
		if (!is_bench) {
			run_again(c, &s, run_wkv6, &run, a->y, a->ld_y, width);
		}
	}
}

/* ---- token shift ---- */

CHECK(shift) {
	const struct tol tol = { .rel = 1e-6f, .abs = 2e-6f };
	for (int i = 0; i < n_cases(c); i++) {
		const bool is_bench = check_is_bench(c);
		struct shift_run run = { .fn = fn };
		struct bb_shift *a = &run.a;
		struct scene s;
		a->dim = is_bench ? 2048 : check_rand(c, 1, 150);
		a->n_mixes = is_bench ? 6 : i % 4 == 1 ? 1 : check_rand(c, 1, 6);
		const int width = a->dim * a->n_mixes;
		a->ld_y = width + check_rand(c, 0, 5);
		a->ld_x = a->dim + check_rand(c, 0, 5);
		make_scene(c, &s, (size_t)a->dim, is_bench ? 1 : check_rand(c, 1, MAX_SEQS),
			is_bench ? (i == 0 ? 1 : 512) : 0, (struct tol){ 0 });
		a->seqs = s.seqs;
		a->n_seqs = s.n_seqs;
		a->state_at = s.state_at;
		a->x = check_in(c, (size_t)s.n_rows * a->ld_x);
		a->mix = a->n_mixes > 1 || i % 2 == 0 ? check_in(c, width) : NULL;
		a->y = check_out(c, "y", (size_t)s.n_rows * a->ld_y, tol);
		while (check_next(c, 4.0 * a->dim * (s.n_rows * (1.0 + a->n_mixes) + a->n_mixes +
			2.0 * s.n_seqs),
			"rows=%d seqs=%d dim=%d mixes=%d", s.n_rows, s.n_seqs, a->dim, a->n_mixes)) {
			fn(check_queue(c), a);
		}
		if (!is_bench) {
			run_again(c, &s, run_shift, &run, a->y, a->ld_y, width);
		}
	}
}

/* ---- before and behind wkv7 ---- */

/* Sizes of a case. */
static void heads_shape(struct check *c, int *ld, int *n_rows, int *n_heads, int *head_dim) {
	const bool is_bench = check_is_bench(c);
	*n_rows = is_bench ? 512 : check_rand(c, 1, 6);
	*n_heads = is_bench ? 32 : check_rand(c, 1, 4);
	*head_dim = is_bench ? 64 : check_rand(c, 1, 80);
	*ld = *n_heads * *head_dim + check_rand(c, 0, 5);
}

CHECK(wkv7_keys) {
	const struct tol tol = { .rel = 3e-6f, .abs = 1e-6f };
	for (int i = 0; i < (check_is_bench(c) ? 1 : 16); i++) {
		struct bb_wkv7_keys a = { .scale = i % 3 == 2 ? 2 : 1 };
		heads_shape(c, &a.ld, &a.n_rows, &a.n_heads, &a.head_dim);
		const size_t n = (size_t)a.n_rows * a.ld, width = (size_t)a.n_heads * a.head_dim;
		a.k_k = check_in(c, width);
		a.k_a = check_in(c, width);
		a.down = check_out(c, "down", n, tol);
		a.k = check_inout(c, "k", n, tol);
		a.a = check_inout(c, "a", n, tol);
		if (i == 1) { /* keys without a length */
			for (size_t j = 0; j < n; j++) {
				a.k[j] = 0;
			}
		}
		while (check_next(c, 20.0 * n, "rows=%d heads=%d dim=%d", a.n_rows, a.n_heads,
			a.head_dim)) {
			fn(check_queue(c), &a);
		}
	}
}

CHECK(wkv_out) {
	const struct tol tol = { .rel = 1e-5f, .abs = 1e-5f };
	for (int i = 0; i < (check_is_bench(c) ? 1 : 16); i++) {
		struct bb_wkv_out a;
		heads_shape(c, &a.ld, &a.n_rows, &a.n_heads, &a.head_dim);
		const size_t n = (size_t)a.n_rows * a.ld, width = (size_t)a.n_heads * a.head_dim;
		a.r = check_in(c, n);
		a.k = check_in(c, n);
		a.v = check_in(c, n);
		a.gate = check_in(c, n);
		a.w = check_in(c, width);
		a.bias = check_in(c, width);
		a.r_k = i % 4 != 3 ? check_in(c, width) : NULL;
		a.y = check_inout(c, "y", n, tol);
		while (check_next(c, 24.0 * n, "rows=%d heads=%d dim=%d", a.n_rows, a.n_heads,
			a.head_dim)) {
			fn(check_queue(c), &a);
		}
	}
}
