/* SPDX-License-Identifier: Apache-2.0
 *
 * Checks of the matrix products, one body for all weight types. */
#include "check.h"

#include <math.h>

/* Random blocks whose scales are small finite numbers. */
static uint8_t *make_weights(struct check *c, enum bb_dtype type, int n, int k) {
	const size_t row_bytes = dtype_row_bytes(type, k), block_bytes = dtype_block_bytes(type);
	uint8_t *w = check_in_bytes(c, row_bytes * n, 2);
	for (size_t i = 0; i < row_bytes * n; i += block_bytes) {
		uint8_t *scale = w + i + (type == BB_Q6_K ? 208 : 0);
		if (type == BB_F32) {
			*(float *)(void *)scale = check_normal(c);
		} else if (type == BB_BF16) {
			*(uint16_t *)(void *)scale = f32_to_bf16(check_normal(c));
		} else {
			*(uint16_t *)(void *)scale = f32_to_f16(check_normal(c));
		}
		if (type == BB_Q4_1 || type == BB_Q5_1 || type == BB_Q4_K || type == BB_Q5_K) {
			*(uint16_t *)(void *)(scale + 2) = f32_to_f16(check_normal(c));
		}
	}
	return w;
}

static void check_matmul(struct check *c, matmul_fn *fn, enum bb_dtype type) {
	const struct bb_layout *layout = check_layout(c);
	for (int i = 0; i < 12; i++) {
		const int n = check_rand(c, 1, 50), n_rows = check_rand(c, 1, 20);
		const int k = 256 * check_rand(c, 1, 3);
		const uint8_t *w = make_weights(c, type, n, k);
		const float *x = check_in(c, (size_t)n_rows * k);
		const float *bias = check_rand(c, 0, 1) ? check_in(c, n) : NULL;
		const bool accumulate = check_rand(c, 0, 1);
		float *y = check_inout(c, "y", (size_t)n_rows * n, (struct tol){ .rel = 1e-4f, .abs = 0.5f });
		void *packed = check_scratch(c, layout->weight_bytes(type, n, k), 64);
		layout->pack(NULL, packed, type, n, k, w, 0, n, NULL);
		void *prepared = check_scratch(c, layout->prep_bytes(type, n_rows, k), 64);
		layout->prep(NULL, prepared, type, x, k, n_rows, k);
		while (check_next(c, 0, "rows=%d n=%d k=%d", n_rows, n, k)) {
			fn(check_queue(c), y, n, packed, prepared, bias, n_rows, n, k, accumulate);
		}
	}
}

#define CHECK_MATMUL(suffix, type) \
	CHECK(matmul_##suffix) { \
		check_matmul(c, fn, type); \
	}
CHECK_MATMUL(f32, BB_F32)
CHECK_MATMUL(f16, BB_F16)
CHECK_MATMUL(bf16, BB_BF16)
CHECK_MATMUL(q8_0, BB_Q8_0)
CHECK_MATMUL(q4_0, BB_Q4_0)
CHECK_MATMUL(q4_1, BB_Q4_1)
CHECK_MATMUL(q5_0, BB_Q5_0)
CHECK_MATMUL(q5_1, BB_Q5_1)
CHECK_MATMUL(q4_k, BB_Q4_K)
CHECK_MATMUL(q5_k, BB_Q5_K)
CHECK_MATMUL(q6_k, BB_Q6_K)
#undef CHECK_MATMUL
