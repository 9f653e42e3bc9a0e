/* SPDX-License-Identifier: Apache-2.0
 *
 * Checks of convolution and of the scans of state-space models. */
#include "check_states.h"

#include <math.h>

RUN(conv)
RUN(scan)
RUN(ssd)
#undef RUN

/* ---- conv ---- */

CHECK(conv) {
	const struct tol tol = { .rel = 4e-6f, .abs = 4e-6f };
	for (int i = 0; i < n_cases(c); i++) {
		const bool is_bench = check_is_bench(c);
		const int dim = is_bench ? 1792 : check_rand(c, 1, 150);
		const int width = is_bench ? 4 : check_rand(c, 2, BB_CONV_WIDTH);
		struct scene s;
		make_scene(c, &s, (size_t)(width - 1) * dim, is_bench ? 1 : check_rand(c, 1, MAX_SEQS),
			is_bench ? (i == 0 ? 1 : 512) : 0, (struct tol){ 0 });
		struct conv_run run = { fn, {
			.ld_y = dim + check_rand(c, 0, 5), .ld_x = dim + check_rand(c, 0, 5), .dim = dim,
			.width = width, .silu = check_rand(c, 0, 1), .seqs = s.seqs, .n_seqs = s.n_seqs,
			.state_at = s.state_at,
		} };
		struct bb_conv *a = &run.a;
		a->x = check_in(c, (size_t)s.n_rows * a->ld_x);
		a->w = check_in(c, (size_t)width * dim);
		a->bias = check_rand(c, 0, 2) > 0 ? check_in(c, dim) : NULL;
		a->y = check_out(c, "y", (size_t)s.n_rows * a->ld_y, tol);
		const double least = 4.0 * dim * (2.0 * s.n_rows + 2.0 * (width - 1) * s.n_seqs + width +
			(a->bias != NULL));
		while (check_next(c, least, "rows=%d seqs=%d dim=%d width=%d%s%s", s.n_rows, s.n_seqs,
			dim, width, a->silu ? " silu" : "", a->bias != NULL ? " bias" : "")) {
			fn(check_queue(c), a);
		}
		if (!is_bench) {
			run_again(c, &s, run_conv, &run, a->y, a->ld_y, dim);
		}
	}
}

/* ---- scan ---- */

/* What decays, at rates from slow to nearly at once. */
static float *decay_rates(struct check *c, size_t n) {
	float *a = check_in(c, n);
	for (size_t i = 0; i < n; i++) {
		a[i] = -expf(1.5f * a[i] - 1);
	}
	return a;
}

CHECK(scan) {
	const struct tol tol = { .rel = 1e-5f, .abs = 1e-4f };
	for (int i = 0; i < n_cases(c); i++) {
		const bool is_bench = check_is_bench(c);
		const int dim = is_bench ? 1536 : check_rand(c, 1, 100);
		const int n_state = is_bench ? 16 : check_rand(c, 1, 20);
		struct scene s;
		make_scene(c, &s, (size_t)n_state * dim, is_bench ? 1 : check_rand(c, 1, MAX_SEQS),
			is_bench ? (i == 0 ? 1 : 512) : 0, tol);
		struct scan_run run = { fn, {
			.ld_y = dim + check_rand(c, 0, 5), .ld_x = dim + check_rand(c, 0, 5),
			.ld_dt = dim + check_rand(c, 0, 5), .ld_bc = 2 * n_state + check_rand(c, 0, 5),
			.dim = dim, .n_state = n_state, .seqs = s.seqs, .n_seqs = s.n_seqs,
			.state_at = s.state_at,
		} };
		struct bb_scan *a = &run.a;
		a->x = check_in(c, (size_t)s.n_rows * a->ld_x);
		a->dt = check_in(c, (size_t)s.n_rows * a->ld_dt);
		a->b = check_in(c, (size_t)s.n_rows * a->ld_bc);
		a->c = a->b + n_state;
		a->a = decay_rates(c, (size_t)n_state * dim);
		a->dt_bias = check_rand(c, 0, 2) > 0 ? check_in(c, dim) : NULL;
		a->skip = check_rand(c, 0, 2) > 0 ? check_in(c, dim) : NULL;
		a->y = check_out(c, "y", (size_t)s.n_rows * a->ld_y, tol);
		check_ops(c, 6.0 * dim * n_state * s.n_rows);
		while (check_next(c, 4.0 * dim * (3.0 * s.n_rows + 3 * n_state * s.n_seqs), "rows=%d "
			"seqs=%d dim=%d state=%d", s.n_rows, s.n_seqs, dim, n_state)) {
			fn(check_queue(c), a);
		}
		if (!is_bench) {
			run_again(c, &s, run_scan, &run, a->y, a->ld_y, dim);
		}
	}
}

/* ---- ssd ---- */

static void ssd_shape(struct check *c, struct bb_ssd *a) {
	static const int dims[] = { 1, 3, 8, 16, 20, 31, 32, 48, 64 };
	const bool is_bench = check_is_bench(c);
	a->n_groups = is_bench ? 1 : check_rand(c, 1, 2);
	a->n_heads = is_bench ? 24 : a->n_groups * check_rand(c, 1, 3);
	a->head_dim = is_bench ? 64 : dims[check_rand(c, 0, COUNT(dims) - 1)];
	a->n_state = is_bench ? 128 : check_rand(c, 1, 40);
	a->dt_min = check_rand(c, 0, 1) ? 0.1f : 0;
	a->dt_max = check_rand(c, 0, 1) ? 1.5f : INFINITY;
	const int width = a->n_heads * a->head_dim;
	a->ld_y = width + check_rand(c, 0, 5);
	a->ld_x = width + check_rand(c, 0, 5);
	a->ld_dt = a->n_heads + check_rand(c, 0, 5);
	a->ld_bc = 2 * a->n_groups * a->n_state + check_rand(c, 0, 5);
}

CHECK(ssd) {
	const struct tol tol = { .rel = 1e-5f, .abs = 3e-4f };
	for (int i = 0; i < n_cases(c); i++) {
		const bool is_bench = check_is_bench(c);
		struct ssd_run run = { .fn = fn };
		struct bb_ssd *a = &run.a;
		struct scene s;
		ssd_shape(c, a);
		const int width = a->n_heads * a->head_dim;
		make_scene(c, &s, (size_t)a->n_state * width, is_bench ? 1 : check_rand(c, 1, MAX_SEQS),
			is_bench ? (i == 0 ? 1 : 512) : 0, tol);
		a->seqs = s.seqs;
		a->n_seqs = s.n_seqs;
		a->state_at = s.state_at;
		a->x = check_in(c, (size_t)s.n_rows * a->ld_x);
		a->dt = check_in(c, (size_t)s.n_rows * a->ld_dt);
		a->b = check_in(c, (size_t)s.n_rows * a->ld_bc);
		a->c = a->b + a->n_groups * a->n_state;
		a->a = decay_rates(c, a->n_heads);
		a->dt_bias = check_rand(c, 0, 2) > 0 ? check_in(c, a->n_heads) : NULL;
		a->skip = check_rand(c, 0, 2) > 0 ? check_in(c, a->n_heads) : NULL;
		a->y = check_out(c, "y", (size_t)s.n_rows * a->ld_y, tol);
		check_ops(c, 5.0 * width * a->n_state * s.n_rows);
		while (check_next(c, 4.0 * width * (2.0 * s.n_rows + 2.0 * a->n_state * s.n_seqs),
			"rows=%d seqs=%d heads=%d dim=%d groups=%d state=%d", s.n_rows, s.n_seqs, a->n_heads,
			a->head_dim, a->n_groups, a->n_state)) {
			fn(check_queue(c), a);
		}
		if (!is_bench) {
			run_again(c, &s, run_ssd, &run, a->y, a->ld_y, width);
		}
	}
}
