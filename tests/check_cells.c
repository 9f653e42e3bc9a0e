/* SPDX-License-Identifier: Apache-2.0
 *
 * Checks of recurrent cells with gates of their own. */
#include "check_states.h"

#include <math.h>

RUN(mlstm)
RUN(rg_lru)
RUN(delta)
#undef RUN

/* ---- mLSTM ---- */

static void mlstm_shape(struct check *c, struct bb_mlstm *a) {
	static const int dims[] = { 1, 3, 8, 16, 20, 31, 32, 48, 64, 130 };
	const bool is_bench = check_is_bench(c), is_small = check_is_small(c);
	a->n_heads = is_bench ? 4 : check_rand(c, 1, 3);
	a->dim_k = is_bench ? 128 : is_small ? check_rand(c, 1, 40)
		: check_rand(c, 1, check_rand(c, 0, 5) > 0 ? 70 : BB_MLSTM_KEYS);
	a->dim_v = is_bench ? 256 : dims[check_rand(c, 0, (int)COUNT(dims) - (is_small ? 2 : 1))];
	a->cap = check_rand(c, 0, 2) > 0 ? 2.5f : 0;
	a->eps = check_rand(c, 0, 1) ? 0.25f : 1e-6f;
	a->ld_y = a->n_heads * a->dim_v + check_rand(c, 0, 5);
	a->ld_v = a->n_heads * a->dim_v + check_rand(c, 0, 5);
	a->ld_qk = 2 * a->n_heads * a->dim_k + check_rand(c, 0, 5);
	a->ld_gate = 2 * a->n_heads + check_rand(c, 0, 5);
}

/* Input gates of mean 0, where n q, which may cancel, isn't all that y is divided by; forget gates
 * that mostly keep. */
static void mlstm_gates(struct check *c, struct bb_mlstm *a, int n_rows) {
	float *gates = check_in(c, (size_t)n_rows * a->ld_gate);
	for (int r = 0; r < n_rows; r++) {
		for (int h = 0; h < a->n_heads; h++) {
			gates[(size_t)r * a->ld_gate + a->n_heads + h] += 2;
		}
	}
	a->gate_i = gates;
	a->gate_f = gates + a->n_heads;
}

CHECK(mlstm) {
	const struct tol tol = { .rel = 3e-5f, .abs = 1e-4f };
	for (int i = 0; i < n_cases(c); i++) {
		const bool is_bench = check_is_bench(c);
		struct mlstm_run run = { .fn = fn };
		struct bb_mlstm *a = &run.a;
		struct scene s;
		mlstm_shape(c, a);
		const int width = a->n_heads * a->dim_v;
		const size_t matrices = (size_t)a->dim_k * width, n_keys = (size_t)a->n_heads * a->dim_k;
		make_scene(c, &s, matrices + n_keys + a->n_heads, is_bench ? 1 : check_rand(c, 1, MAX_SEQS),
			is_bench ? (i == 0 ? 1 : 512) : 0, tol);
		a->seqs = s.seqs;
		a->n_seqs = s.n_seqs;
		a->state_at = s.state_at;
		a->q = check_in(c, (size_t)s.n_rows * a->ld_qk);
		a->k = a->q + n_keys;
		a->v = check_in(c, (size_t)s.n_rows * a->ld_v);
		mlstm_gates(c, a, s.n_rows);
		a->y = check_out(c, "y", (size_t)s.n_rows * a->ld_y, tol);
		check_ops(c, 5.0 * matrices * s.n_rows);
		while (check_next(c, 4.0 * (2.0 * width * s.n_rows + 2.0 * n_keys * s.n_rows +
			2.0 * (matrices + n_keys) * s.n_seqs), "rows=%d seqs=%d heads=%d dim_k=%d dim_v=%d%s",
			s.n_rows, s.n_seqs, a->n_heads, a->dim_k, a->dim_v, a->cap > 0 ? " cap" : "")) {
			fn(check_queue(c), a);
		}
		if (!is_bench) {
			run_again(c, &s, run_mlstm, &run, a->y, a->ld_y, width);
		}
	}
}

/* Below zero: what decays, from slowly to nearly at once. */
static float *decays(struct check *c, int n, float shift) {
	float *a = check_in(c, n);
	for (int i = 0; i < n; i++) {
		a[i] = -expf(1.5f * a[i] + shift);
	}
	return a;
}

/* ---- RG-LRU ---- */

CHECK(rg_lru) {
	const struct tol tol = { .rel = 1e-5f, .abs = 2e-6f };
	for (int i = 0; i < n_cases(c); i++) {
		const bool is_bench = check_is_bench(c);
		const int dim = is_bench ? 2560 : check_rand(c, 1, 150);
		struct scene s;
		make_scene(c, &s, dim, is_bench ? 1 : check_rand(c, 1, MAX_SEQS),
			is_bench ? (i == 0 ? 1 : 512) : 0, tol);
		struct rg_lru_run run = { fn, {
			.ld_y = dim + check_rand(c, 0, 5), .ld_x = dim + check_rand(c, 0, 5),
			.ld_gate = 2 * dim + check_rand(c, 0, 5), .dim = dim, .seqs = s.seqs,
			.n_seqs = s.n_seqs, .state_at = s.state_at,
		} };
		struct bb_rg_lru *a = &run.a;
		a->x = check_in(c, (size_t)s.n_rows * a->ld_x);
		a->gate_r = check_in(c, (size_t)s.n_rows * a->ld_gate);
		a->gate_i = a->gate_r + dim;
		a->log_a = decays(c, dim, -3);
		a->y = check_out(c, "y", (size_t)s.n_rows * a->ld_y, tol);
		while (check_next(c, 4.0 * dim * (4.0 * s.n_rows + 2 * s.n_seqs), "rows=%d seqs=%d dim=%d",
			s.n_rows, s.n_seqs, dim)) {
			fn(check_queue(c), a);
		}
		if (!is_bench) {
			run_again(c, &s, run_rg_lru, &run, a->y, a->ld_y, dim);
		}
	}
}

/* ---- gated delta rule ---- */

static void delta_shape(struct check *c, struct bb_delta *a) {
	static const int dims[] = { 1, 3, 8, 16, 20, 31, 32, 48, 64, 130 };
	const bool is_bench = check_is_bench(c), is_small = check_is_small(c);
	a->n_key_heads = is_bench ? 4 : check_rand(c, 1, 2);
	a->n_heads = a->n_key_heads * (is_bench ? 2 : check_rand(c, 1, 2));
	a->dim_k = is_bench ? 128 : is_small ? check_rand(c, 1, 40)
		: check_rand(c, 1, check_rand(c, 0, 5) > 0 ? 70 : BB_DELTA_KEYS);
	a->dim_v = is_bench ? 128 : dims[check_rand(c, 0, (int)COUNT(dims) - (is_small ? 2 : 1))];
	a->ld_y = a->n_heads * a->dim_v + check_rand(c, 0, 5);
	a->ld_v = a->n_heads * a->dim_v + check_rand(c, 0, 5);
	a->ld_qk = 2 * a->n_key_heads * a->dim_k + check_rand(c, 0, 5);
	a->ld_gate = 2 * a->n_heads + check_rand(c, 0, 5);
}

CHECK(delta) {
	const struct tol tol = { .rel = 1e-5f, .abs = 1e-5f };
	for (int i = 0; i < n_cases(c); i++) {
		const bool is_bench = check_is_bench(c);
		struct delta_run run = { .fn = fn };
		struct bb_delta *a = &run.a;
		struct scene s;
		delta_shape(c, a);
		const int width = a->n_heads * a->dim_v;
		const size_t floats = (size_t)a->dim_k * width;
		make_scene(c, &s, floats, is_bench ? 1 : check_rand(c, 1, MAX_SEQS),
			is_bench ? (i == 0 ? 1 : 512) : 0, tol);
		a->seqs = s.seqs;
		a->n_seqs = s.n_seqs;
		a->state_at = s.state_at;
		a->q = check_in(c, (size_t)s.n_rows * a->ld_qk);
		a->k = a->q + a->n_key_heads * a->dim_k;
		a->v = check_in(c, (size_t)s.n_rows * a->ld_v);
		a->dt = check_in(c, (size_t)s.n_rows * a->ld_gate);
		a->gate_b = a->dt + a->n_heads;
		a->a = decays(c, a->n_heads, -2);
		a->dt_bias = check_rand(c, 0, 2) > 0 ? check_in(c, a->n_heads) : NULL;
		a->y = check_out(c, "y", (size_t)s.n_rows * a->ld_y, tol);
		check_ops(c, 7.0 * floats * s.n_rows);
		while (check_next(c, 4.0 * (2.0 * width * s.n_rows + 2.0 * a->n_key_heads * a->dim_k *
			s.n_rows + 2.0 * floats * s.n_seqs), "rows=%d seqs=%d heads=%d/%d dim_k=%d dim_v=%d",
			s.n_rows, s.n_seqs, a->n_heads, a->n_key_heads, a->dim_k, a->dim_v)) {
			fn(check_queue(c), a);
		}
		if (!is_bench) {
			run_again(c, &s, run_delta, &run, a->y, a->ld_y, width);
		}
	}
}
