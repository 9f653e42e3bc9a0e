/* SPDX-License-Identifier: Apache-2.0
 *
 * Checks of what is done to the rows of a step: normalisation and rotary embedding. */
#include "check.h"

#include <math.h>

/* Rows that sums get wrong: a large mean, one huge element, nothing but zeros, denormals. */
static void make_hard(struct check *c, float *row, int n) {
	const int kind = check_rand(c, 0, 4);
	for (int i = 0; i < n; i++) {
		switch (kind) {
		case 0:
			row[i] += 1e4f;
			break;
		case 1:
			row[i] = 0;
			break;
		case 2:
			row[i] *= 1e-39f;
			break;
		default:
			break;
		}
	}
	if (kind == 3 && n > 0) {
		row[check_rand(c, 0, n - 1)] = 3e15f;
	}
}

CHECK(rmsnorm) {
	static const int dims[] = { 1, 2, 7, 8, 15, 16, 17, 31, 33, 64, 100, 128, 255, 576, 1000,
		4096 };
	static const int bench_dims[] = { 576, 640, 896 };
	const bool is_bench = check_is_bench(c);
	const struct tol tol = { .rel = 3e-6f, .abs = 1e-30f };
	for (size_t d = 0; d < (is_bench ? COUNT(bench_dims) * 2 : COUNT(dims)); d++) {
		const int dim = is_bench ? bench_dims[d / 2] : dims[d];
		const int n_rows = is_bench ? (d % 2 == 0 ? 1 : 512)
			: check_rand(c, 0, check_is_least(c) ? 9 : 40);
		const int n_groups = is_bench ? 1 : check_rand(c, 1, 3);
		const int n_cols = n_groups * dim;
		const int ld_x = n_cols + (is_bench ? 0 : check_rand(c, 0, 5));
		const int ld_y = n_cols + (is_bench ? 0 : check_rand(c, 0, 5));
		float *x = check_in(c, (size_t)n_rows * ld_x);
		for (int i = 0; !is_bench && i < n_rows; i++) {
			make_hard(c, x + (size_t)i * ld_x, n_cols);
		}
		const float *w = check_rand(c, 0, 3) > 0 || is_bench ? check_in(c, dim) : NULL;
		const float eps = check_rand(c, 0, 1) ? 1e-5f : 1e-6f;
		float *y = check_out(c, "y", (size_t)n_rows * ld_y, tol);
		while (check_next(c, 8.0 * n_rows * n_cols, "rows=%d groups=%d dim=%d", n_rows, n_groups,
			dim)) {
			fn(check_queue(c), y, ld_y, x, ld_x, w, n_rows, n_groups, dim, eps);
		}
		if (n_rows > 0 && !is_bench) {
			const int r = check_rand(c, 0, n_rows - 1);
			float *alone = check_scratch(c, sizeof(float) * n_cols, 4);
			fn(check_queue(c), alone, n_cols, x + (size_t)r * ld_x, ld_x, w, 1, n_groups, dim, eps);
			check_same(c, "a row by itself", alone, y + (size_t)r * ld_y, sizeof(float) * n_cols);
			fn(check_queue(c), x, ld_x, x, ld_x, w, n_rows, n_groups, dim, eps);
			check_same(c, "in place", x + (size_t)r * ld_x, alone, sizeof(float) * n_cols);
		}
	}
}

/* One row of a case by itself, and all in place. */
static void layernorm_again(struct check *c, layernorm_fn *fn, const float *y, int ld_y, float *x,
	int ld_x, const float *w, const float *b, int n_rows, int n_groups, int dim) {
	const size_t bytes = sizeof(float) * (size_t)(n_groups * dim);
	const int r = check_rand(c, 0, n_rows - 1);
	float *alone = check_scratch(c, bytes, 4);
	fn(check_queue(c), alone, n_groups * dim, x + (size_t)r * ld_x, ld_x, w, b, 1, n_groups, dim,
		1e-5f);
	check_same(c, "a row by itself", alone, y + (size_t)r * ld_y, bytes);
	fn(check_queue(c), x, ld_x, x, ld_x, w, b, n_rows, n_groups, dim, 1e-5f);
	for (int i = 0; i < n_rows; i++) {
		check_same(c, "in place", x + (size_t)i * ld_x, y + (size_t)i * ld_y, bytes);
	}
}

CHECK(layernorm) {
	static const int dims[] = { 1, 2, 7, 8, 15, 16, 17, 31, 33, 64, 100, 128, 255, 256, 260, 576,
		1000, 4096 };
	static const int bench_dims[] = { 576, 768, 4096 };
	const bool is_bench = check_is_bench(c);
	/* a mean of 10^4 leaves 2^-11 of a deviation of 1 in x; what y loses is far below */
	const struct tol tol = { .rel = 4e-6f, .abs = 4e-6f };
	for (size_t d = 0; d < (is_bench ? COUNT(bench_dims) * 2 : COUNT(dims)); d++) {
		const int dim = is_bench ? bench_dims[d / 2] : dims[d];
		const int n_rows = is_bench ? (d % 2 == 0 ? 1 : 512)
			: check_rand(c, 0, check_is_least(c) ? 9 : 40);
		const int n_groups = is_bench ? 1 : check_rand(c, 1, 3), n_cols = n_groups * dim;
		const int ld_x = n_cols + (is_bench ? 0 : check_rand(c, 0, 5));
		const int ld_y = n_cols + (is_bench ? 0 : check_rand(c, 0, 5));
		float *x = check_in(c, (size_t)n_rows * ld_x);
		for (int i = 0; !is_bench && i < n_rows; i++) {
			make_hard(c, x + (size_t)i * ld_x, n_cols);
		}
		const float *w = check_rand(c, 0, 3) > 0 || is_bench ? check_in(c, dim) : NULL;
		const float *b = check_rand(c, 0, 3) > 0 || is_bench ? check_in(c, dim) : NULL;
		float *y = check_out(c, "y", (size_t)n_rows * ld_y, tol);
		while (check_next(c, 8.0 * n_rows * n_cols, "rows=%d groups=%d dim=%d%s%s", n_rows,
			n_groups, dim, w != NULL ? " w" : "", b != NULL ? " b" : "")) {
			fn(check_queue(c), y, ld_y, x, ld_x, w, b, n_rows, n_groups, dim, 1e-5f);
		}
		if (n_rows > 0 && !is_bench) {
			layernorm_again(c, fn, y, ld_y, x, ld_x, w, b, n_rows, n_groups, dim);
		}
	}
}

CHECK(rope_table) {
	static const int pairs[] = { 1, 3, 8, 16, 32, 37, 64, 128 };
	const bool is_bench = check_is_bench(c);
	for (size_t d = 0; d < (is_bench ? 2 : COUNT(pairs)); d++) {
		const int n_pairs = is_bench ? 32 : pairs[d];
		const int n_rows = is_bench ? (d == 0 ? 1 : 512) : check_rand(c, 0, 20);
		int32_t *pos = check_in_bytes(c, sizeof(*pos) * n_rows, 4);
		for (int r = 0; r < n_rows; r++) {
			pos[r] = (int32_t)((uint32_t)pos[r] >> check_rand(c, 1, 31));
		}
		double *inv_freq = check_in_bytes(c, sizeof(*inv_freq) * n_pairs, 8);
		for (int i = 0; i < n_pairs; i++) {
			inv_freq[i] = pow(1e5, -(double)i / n_pairs);
		}
		float *cs = check_out(c, "cs", (size_t)n_rows * n_pairs * 2, (struct tol){ .abs = 4e-7f });
		while (check_next(c, 8.0 * n_rows * n_pairs, "rows=%d pairs=%d", n_rows, n_pairs)) {
			fn(check_queue(c), cs, pos, inv_freq, n_rows, n_pairs, is_bench ? 1.0f : 1.25f);
		}
	}
}

CHECK(rope) {
	static const int pairs[] = { 1, 2, 7, 8, 9, 16, 20, 32, 37, 64, 128 };
	const bool is_bench = check_is_bench(c);
	const struct tol tol = { .rel = 1e-6f, .abs = 1e-6f };
	for (size_t d = 0; d < (is_bench ? 2 : COUNT(pairs)); d++) {
		const int n_pairs = is_bench ? 32 : pairs[d];
		const int n_rows = is_bench ? (d == 0 ? 1 : 512) : check_rand(c, 0, 40);
		const int head_dim = 2 * n_pairs + (is_bench ? 0 : check_rand(c, 0, 3) * 4);
		const int n_heads = is_bench ? 12 : check_rand(c, 1, 5);
		const int ld = n_heads * head_dim + (is_bench ? 0 : check_rand(c, 0, 9));
		float *cs = check_in(c, (size_t)n_rows * n_pairs * 2);
		for (int i = 0; i < n_rows * n_pairs; i++) {
			const float angle = cs[2 * i];
			cs[2 * i] = cosf(angle);
			cs[2 * i + 1] = sinf(angle);
		}
		float *x = check_inout(c, "x", (size_t)n_rows * ld, tol);
		while (check_next(c, 8.0 * n_rows * n_heads * n_pairs * 2,
			"rows=%d heads=%d dim=%d pairs=%d", n_rows, n_heads, head_dim, n_pairs)) {
			fn(check_queue(c), x, ld, cs, n_rows, n_heads, head_dim, n_pairs);
		}
	}
}
