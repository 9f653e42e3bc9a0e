/* SPDX-License-Identifier: Apache-2.0
 *
 * Checks of reductions over a row of logits. */
#include "check.h"

#include <math.h>
#include <string.h>

static const int sizes[] = { 1, 2, 7, 15, 16, 17, 31, 64, 65, 1000, 4095, 4096, 4099, 40001 };
/* above 256 chunks of 4096, where the chunks of the vector variants grow */
static const int huge_size = 1100003;
static const int bench_sizes[] = { 49152, 151936, 262144 };

CHECK(argmax) {
	const bool is_bench = check_is_bench(c);
	for (size_t s = 0; s < (is_bench ? COUNT(bench_sizes) : COUNT(sizes) * 6 + 1); s++) {
		const bool is_huge = s == COUNT(sizes) * 6;
		const int n = is_bench ? bench_sizes[s] : is_huge ? huge_size : sizes[s / 6];
		const int kind = is_bench ? 0 : (int)(s % 6);
		float *x = check_in(c, n);
		for (int i = 0; i < n; i++) {
			switch (kind) {
			case 1: /* many equal ones: the lowest index wins */
				x[i] = (float)check_rand(c, 0, 2);
				break;
			case 2:
				x[i] = NAN;
				break;
			case 3:
				x[i] = check_rand(c, 0, 99) < 90 ? NAN : x[i];
				break;
			case 4:
				x[i] = -INFINITY;
				break;
			case 5: /* +0 and -0 are equal */
				x[i] = check_rand(c, 0, 1) ? 0.0f : -0.0f;
				break;
			default:
				break;
			}
		}
		if (kind == 4 && check_rand(c, 0, 1)) {
			x[check_rand(c, 0, n - 1)] = NAN;
			x[check_rand(c, 0, n - 1)] = -3e38f;
		}
		int32_t *index = check_out_i32(c, "index", 1);
		while (check_next(c, 4.0 * n, "n=%d kind=%d", n, kind)) {
			fn(check_queue(c), index, x, n);
		}
	}
}

CHECK(softmax) {
	const bool is_bench = check_is_bench(c);
	for (size_t s = 0; s < (is_bench ? COUNT(bench_sizes) : COUNT(sizes) * 4 + 1); s++) {
		const bool is_huge = s == COUNT(sizes) * 4;
		const int n = is_bench ? bench_sizes[s] : is_huge ? huge_size : sizes[s / 4];
		const int kind = is_bench ? 0 : (int)(s % 4);
		float *x = check_in(c, n);
		for (int i = 0; i < n; i++) {
			x[i] = x[i] * 5 + (kind == 1 ? 1e4f : 0);
			if (kind == 2 && check_rand(c, 0, 1)) {
				x[i] = i == n / 2 ? 0 : -INFINITY; /* masked tokens */
			}
		}
		if (kind == 3) {
			x[check_rand(c, 0, n - 1)] = 1e30f;
		}
		if (kind == 2) {
			x[n / 2] = 0;
		}
		const float scale = check_rand(c, 0, 1) ? 1.0f : 1.4f;
		const bool has_p = is_bench || check_rand(c, 0, 3) > 0;
		float *p = check_out(c, "p", n, (struct tol){ .rel = 8e-6f, .abs = 1e-37f });
		float *log_sum = check_out(c, "log_sum", 1, (struct tol){ .rel = 1e-6f, .abs = 1e-6f });
		while (check_next(c, (has_p ? 8.0 : 4.0) * n, "n=%d kind=%d p=%d", n, kind, has_p)) {
			fn(check_queue(c), has_p ? p : NULL, log_sum, x, n, scale);
		}
		if (has_p && !is_bench) {
			float *sum_again = check_scratch(c, sizeof(*sum_again), 4);
			fn(check_queue(c), x, sum_again, x, n, scale);
			check_same(c, "in place", x, p, sizeof(float) * n);
			check_same(c, "log_sum in place", sum_again, log_sum, sizeof(float));
		}
	}
}
