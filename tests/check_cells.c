/* SPDX-License-Identifier: Apache-2.0
 *
 * Checks of recurrent cells with gates of their own. */
#include "check_states.h"

#include <math.h>
#include <string.h>

RUN(mlstm)
RUN(slstm)
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

/* ---- sLSTM ---- */

/* Gates, or copies of them, n_heads head_dim apart. */
static void slstm_gates_at(struct bb_slstm *a, const float *gates) {
	const size_t width = (size_t)a->n_heads * a->head_dim;
	a->gate_i = gates;
	a->gate_f = gates + width;
	a->gate_z = gates + 2 * width;
	a->gate_o = gates + 3 * width;
}

/* Heads whose feedback is about half of what they were, and forget gates that mostly keep. y
 * replaces the gates of z at times; returns a copy of all gates. */
static const float *slstm_operands(struct check *c, struct bb_slstm *a, int n_rows,
	struct tol tol) {
	const bool is_inside = !check_is_bench(c) && check_rand(c, 0, 3) == 0;
	const int dim = a->head_dim, width = a->n_heads * dim;
	a->ld_gate = 4 * width + check_rand(c, 0, 5);
	a->ld_y = is_inside ? a->ld_gate : width + check_rand(c, 0, 5);
	const size_t n_w = 4 * (size_t)width * dim, n_gates = (size_t)n_rows * a->ld_gate;
	float *w = check_in(c, n_w), *before = check_scratch(c, sizeof(*before) * n_gates, 4);
	for (size_t i = 0; i < n_w; i++) {
		w[i] *= 0.5f / sqrtf((float)dim);
	}
	float *gates = is_inside ? check_inout(c, "y", n_gates, tol) : check_in(c, n_gates);
	for (int r = 0; r < n_rows; r++) {
		for (int i = width; i < 2 * width; i++) {
			gates[(size_t)r * a->ld_gate + i] += 2;
		}
	}
	memcpy(before, gates, sizeof(*before) * n_gates);
	slstm_gates_at(a, gates);
	a->w = w;
	a->bias = check_rand(c, 0, 2) > 0 ? check_in(c, 4 * (size_t)width) : NULL;
	a->y = is_inside ? gates + 2 * width : check_out(c, "y", (size_t)n_rows * a->ld_y, tol);
	return before;
}

/* States as rows leave them, n at least 1, and channels to which nothing has come. */
static void slstm_states(struct check *c, const struct scene *s, size_t width) {
	for (int i = 0; i < s->n_seqs; i++) {
		float *start = s->start + s->total * (size_t)i;
		for (size_t j = s->state_at + 2 * width; j < s->state_at + 3 * width; j++) {
			start[j] = check_rand(c, 0, 9) > 0 ? 1 + fabsf(start[j]) : 0;
		}
		memcpy(s->seqs[i].to, start, sizeof(*start) * s->total);
	}
}

CHECK(slstm) {
	static const int dims[] = { 1, 3, 8, 16, 20, 31, 32, 33, 47, 64, 65, 100, 257 };
	const int last = (int)COUNT(dims) - (check_is_small(c) ? 3 : 1);
	const struct tol tol = { .rel = 1e-5f, .abs = 1e-5f };
	for (int i = 0; i < n_cases(c); i++) {
		const bool is_bench = check_is_bench(c);
		struct slstm_run run = { .fn = fn };
		struct bb_slstm *a = &run.a;
		struct scene s;
		a->n_heads = is_bench ? 4 : check_rand(c, 1, 3);
		a->head_dim = is_bench ? 256 : dims[check_rand(c, 0, last)];
		const int width = a->n_heads * a->head_dim;
		/* one row each at times, as where contexts decode */
		const int n_rows = !is_bench ? check_rand(c, 0, 3) == 0 : i > 0 ? check_shrunk(c, 512) : 1;
		make_scene(c, &s, 4 * (size_t)width, is_bench ? 1 : check_rand(c, 1, MAX_SEQS), n_rows,
			tol);
		slstm_states(c, &s, (size_t)width);
		a->seqs = s.seqs;
		a->n_seqs = s.n_seqs;
		a->state_at = s.state_at;
		const float *before = slstm_operands(c, a, s.n_rows, tol);
		const double n_w = 4.0 * width * a->head_dim;
		check_ops(c, 2.0 * n_w * s.n_rows);
		while (check_next(c, 4.0 * (n_w + 5.0 * width * s.n_rows + 8.0 * width * s.n_seqs),
			"rows=%d seqs=%d heads=%d head_dim=%d", s.n_rows, s.n_seqs, a->n_heads, a->head_dim)) {
			fn(check_queue(c), a);
		}
		if (!is_bench) {
			slstm_gates_at(a, before);
			run_again(c, &s, run_slstm, &run, a->y, a->ld_y, width);
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
		while (check_next(c, 4.0 * dim * (4.0 * s.n_rows + 2 * s.n_seqs + 1),
			"rows=%d seqs=%d dim=%d",
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
