/* SPDX-License-Identifier: Apache-2.0
 *
 * Checks of the product of each head with a matrix of its own. */
#include "check.h"

CHECK(heads_matmul) {
	static const int dims[] = { 1, 3, 8, 15, 16, 17, 31, 32, 33, 64, 70, 129 };
	const bool is_bench = check_is_bench(c), is_small = check_is_small(c);
	for (size_t d = 0; d < (is_bench ? 2 : COUNT(dims)); d++) {
		const int dim = is_bench ? 256 : dims[d];
		const int n_rows = is_bench ? (d == 0 ? 1 : 512) : check_rand(c, 0, is_small ? 9 : 40);
		const int n_heads = is_bench ? 10 : check_rand(c, 1, 3), width = n_heads * dim;
		const int ld_x = width + (is_bench ? 0 : check_rand(c, 0, 5));
		const int ld_y = width + (is_bench ? 0 : check_rand(c, 0, 5));
		const float *x = check_in(c, (size_t)n_rows * ld_x);
		const float *w = check_in(c, (size_t)width * dim);
		const float *bias = check_rand(c, 0, 3) > 0 ? check_in(c, width) : NULL;
		float *y = check_out(c, "y", (size_t)n_rows * ld_y,
			(struct tol){ .rel = 1e-6f, .abs = 1e-6f * (float)(dim + 4) });
		check_ops(c, 2.0 * n_rows * width * dim);
		while (check_next(c, 4.0 * (2.0 * n_rows * width + (double)width * dim),
			"rows=%d heads=%d dim=%d%s", n_rows, n_heads, dim, bias != NULL ? " bias" : "")) {
			fn(check_queue(c), y, ld_y, x, ld_x, w, bias, n_rows, n_heads, dim);
		}
		if (n_rows > 0 && !is_bench) {
			const int r = check_rand(c, 0, n_rows - 1);
			float *alone = check_scratch(c, sizeof(float) * width, 4);
			fn(check_queue(c), alone, width, x + (size_t)r * ld_x, ld_x, w, bias, 1, n_heads, dim);
			check_same_row(c, "a row by itself", alone, y + (size_t)r * ld_y,
				sizeof(float) * width);
		}
	}
}
