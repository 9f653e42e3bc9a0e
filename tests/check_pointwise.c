/* SPDX-License-Identifier: Apache-2.0
 *
 * Checks of pointwise kernels and of the embedding lookup. */
#include "check.h"

#include <math.h>
#include <string.h>

CHECK(embed) {
	static const enum bb_dtype types[] = { BB_F32, BB_F16, BB_BF16, BB_Q8_0, BB_Q4_0, BB_Q4_1,
		BB_Q5_0, BB_Q5_1, BB_Q4_K, BB_Q5_K, BB_Q6_K };
	const bool is_bench = check_is_bench(c);
	for (size_t t = 0; t < COUNT(types); t++) {
		const int elems = dtype_block_elems(types[t]);
		const int n_cols = is_bench ? 1024 : elems * check_rand(c, 1, elems == 1 ? 99 : 5);
		const int n_vocab = is_bench ? 5000 : check_rand(c, 1, 9);
		const int n_rows = is_bench ? 512 : check_rand(c, 0, 20);
		const size_t row_bytes = dtype_row_bytes(types[t], n_cols);
		const void *w = check_in_bytes(c, row_bytes * n_vocab, 1);
		int32_t *ids = check_in_bytes(c, sizeof(*ids) * n_rows, 4);
		for (int r = 0; r < n_rows; r++) {
			ids[r] = check_rand(c, 0, n_vocab - 1);
		}
		const float scale = check_rand(c, 0, 1) ? 1.0f : 25.25f;
		float *y = check_out(c, "y", (size_t)n_rows * n_cols, (struct tol){ 0 });
		while (check_next(c, (double)n_rows * (row_bytes + sizeof(*y) * n_cols),
			"%s rows=%d cols=%d scale=%g", dtype_name(types[t]), n_rows, n_cols, (double)scale)) {
			fn(check_queue(c), y, w, types[t], ids, n_rows, n_cols, scale);
		}
	}
}

/* SwiGLU, GeGLU and others share their shape. Gates reach far into both tails, where e^-g
 * overflows. */
static void check_gated(struct check *c, silu_mul_fn *fn, struct tol tol) {
	static const int dims[] = { 1, 3, 8, 15, 16, 17, 32, 33, 63, 100, 1000, 1536, 4864 };
	static const float extremes[] = { 0.0f, -0.0f, 1e-40f, 88.8f, -88.8f, 104.0f, -104.0f, 1e4f,
		-1e4f, -3e38f, 3e38f, -20.0f, -10.0f, 5.0f, -5.0f };
	const bool is_bench = check_is_bench(c);
	for (size_t d = 0; d < (is_bench ? 2 : COUNT(dims)); d++) {
		const int dim = is_bench ? 1536 : dims[d];
		const int n_rows = is_bench ? (d == 0 ? 1 : 512) : check_rand(c, 0, 20);
		const int ld = is_bench ? 2 * dim : dim + check_rand(c, 0, 5);
		const int ld_y = dim + (is_bench ? 0 : check_rand(c, 0, 5));
		float *gate = check_in(c, (size_t)n_rows * ld);
		float *up = check_in(c, (size_t)n_rows * ld);
		for (int i = 0; i < n_rows * ld; i++) {
			gate[i] *= 3;
			if (!is_bench && check_rand(c, 0, 5) == 0) {
				gate[i] = extremes[check_rand(c, 0, (int)COUNT(extremes) - 1)];
				up[i] *= 0.125f;
			}
		}
		float *y = check_out(c, "y", (size_t)n_rows * ld_y, tol);
		while (check_next(c, 12.0 * n_rows * dim, "rows=%d dim=%d", n_rows, dim)) {
			fn(check_queue(c), y, ld_y, gate, up, ld, n_rows, dim);
		}
		if (n_rows > 0 && !is_bench) {
			const int r = check_rand(c, 0, n_rows - 1);
			float *alone = check_scratch(c, sizeof(float) * dim, 4);
			fn(check_queue(c), alone, dim, gate + (size_t)r * ld, up + (size_t)r * ld, ld, 1, dim);
			check_same(c, "a row by itself", alone, y + (size_t)r * ld_y, sizeof(float) * dim);
		}
	}
}

CHECK(silu_mul) {
	check_gated(c, fn, (struct tol){ .rel = 1e-6f, .abs = 1e-37f });
}

/* 1 + tanh cancels for negative gates: the absolute term covers what f32 can't tell there. */
CHECK(gelu_mul) {
	check_gated(c, fn, (struct tol){ .rel = 1e-6f, .abs = 1e-9f });
}

/* Of gates below -5 there is less left than f32 tells of their squares. */
CHECK(gelu_erf_mul) {
	check_gated(c, fn, (struct tol){ .rel = 1e-6f, .abs = 1e-9f });
}

CHECK(sigmoid_mul) {
	check_gated(c, fn, (struct tol){ .rel = 1e-6f, .abs = 1e-37f });
}

CHECK(mul) {
	check_gated(c, fn, (struct tol){ 0 });
}

/* Small x cancel: the error is a share of the cap. */
CHECK(softcap) {
	static const int sizes[] = { 1, 3, 8, 15, 16, 17, 64, 1000, 4095, 4096, 4097, 40001 };
	const bool is_bench = check_is_bench(c);
	for (size_t s = 0; s < (is_bench ? 2 : COUNT(sizes)); s++) {
		const int n = is_bench ? (s == 0 ? 50304 : 50304 * 16) : sizes[s];
		const float cap = check_rand(c, 0, 1) ? 30.0f : 1.5f;
		float *y = check_inout(c, "y", n, (struct tol){ .rel = 1e-6f, .abs = 3e-7f * cap });
		for (int i = 0; i < n; i++) {
			y[i] *= check_rand(c, 0, 9) == 0 ? 1e30f : 3.0f * cap;
		}
		while (check_next(c, 8.0 * n, "n=%d cap=%g", n, (double)cap)) {
			fn(check_queue(c), y, n, cap);
		}
	}
}

CHECK(add) {
	static const int sizes[] = { 1, 3, 8, 15, 16, 17, 64, 1000, 4095, 4096, 4097, 40001 };
	const bool is_bench = check_is_bench(c);
	for (size_t s = 0; s < (is_bench ? 2 : COUNT(sizes)); s++) {
		const int n = is_bench ? (s == 0 ? 576 : 576 * 512) : sizes[s];
		const float *x = check_in(c, n);
		float *y = check_inout(c, "y", n, (struct tol){ 0 });
		while (check_next(c, 12.0 * n, "n=%d", n)) {
			fn(check_queue(c), y, x, n, s % 3 == 0 ? 1 : 0.22f);
		}
	}
}

/* tanh cancels near zero, where the absolute term covers it. */
CHECK(map) {
	const struct tol tol = { .rel = 2e-6f, .abs = 3e-7f };
	for (int i = 0; i < (check_is_bench(c) ? BB_N_MAPS : 6 * BB_N_MAPS); i++) {
		const int n_rows = check_is_bench(c) ? 512 : check_rand(c, 1, 5);
		const int dim = check_is_bench(c) ? 2048 : check_rand(c, 1, 100);
		const int ld_y = dim + check_rand(c, 0, 5), ld_x = dim + check_rand(c, 0, 5);
		const enum bb_map f = (enum bb_map)(i % BB_N_MAPS);
		float *x = check_in(c, (size_t)n_rows * ld_x);
		for (int j = 0; j < n_rows * ld_x; j++) {
			x[j] *= i / BB_N_MAPS % 2 == 0 ? 1 : 40;
		}
		x[check_rand(c, 0, dim - 1)] = i / BB_N_MAPS == 1 ? NAN : 1; /* which must be seen in y */
		const bool in_place = !check_is_bench(c) && i / BB_N_MAPS % 3 == 2;
		float *y = in_place ? check_inout(c, "y", (size_t)n_rows * ld_x, tol)
			: check_out(c, "y", (size_t)n_rows * ld_y, tol);
		while (check_next(c, 8.0 * n_rows * dim, "f=%d rows=%d dim=%d%s", (int)f, n_rows, dim,
			in_place ? " in place" : "")) {
			fn(check_queue(c), y, in_place ? ld_x : ld_y, in_place ? y : x, ld_x, n_rows, dim, f);
		}
	}
}

/* By numbers of each row, which y may stand in for, or by one row of them. */
CHECK(lerp) {
	const struct tol tol = { .rel = 1e-6f, .abs = 1e-6f };
	for (int i = 0; i < (check_is_bench(c) ? 1 : 12); i++) {
		const int n_rows = check_is_bench(c) ? 512 : check_rand(c, 1, 5);
		const int dim = check_is_bench(c) ? 2048 : check_rand(c, 1, 100);
		const int ld_y = dim + check_rand(c, 0, 5), ld_from = dim + check_rand(c, 0, 5);
		const int ld_to = dim + check_rand(c, 0, 5), ld_by = i % 3 == 0 ? ld_y : i % 3 == 1 ? 0
			: dim + check_rand(c, 0, 5);
		const float *from = check_in(c, (size_t)n_rows * ld_from);
		const float *to = check_in(c, (size_t)n_rows * ld_to);
		float *y = check_inout(c, "y", (size_t)n_rows * ld_y, tol);
		const float *by = i % 3 == 0 ? y : check_in(c, (size_t)(ld_by > 0 ? n_rows * ld_by : dim));
		/* y may be any of the three */
		const bool is_from = i % 6 == 1, is_to = i % 6 == 2;
		while (check_next(c, 16.0 * n_rows * dim, "rows=%d dim=%d ld_by=%d%s", n_rows, dim, ld_by,
			is_from ? " y=from" : is_to ? " y=to" : "")) {
			fn(check_queue(c), y, ld_y, is_from ? y : from, is_from ? ld_y : ld_from,
				is_to ? y : to, is_to ? ld_y : ld_to, by, ld_by, n_rows, dim);
		}
	}
}
