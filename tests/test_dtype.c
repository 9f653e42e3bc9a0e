/* SPDX-License-Identifier: Apache-2.0
 *
 * Element types: the values of stored blocks against gguf-py's, and conversions of 16-bit floats.
 * The goldens are made by goldens/make_dtypes.py. */
#include "kernels.h"
#include "npy.h"

#include <criterion/criterion.h>
#include <math.h>
#include <string.h>

enum { N = 512, N_TYPES = 11 };

static const enum bb_dtype types[N_TYPES] = { BB_F32, BB_F16, BB_Q4_0, BB_Q4_1, BB_Q5_0, BB_Q5_1,
	BB_Q8_0, BB_Q4_K, BB_Q5_K, BB_Q6_K, BB_BF16 };

Test(dtype, blocks_have_the_values_of_gguf_py) {
	struct npy stored, values;
	npy_init(&stored, GOLDENS_DIR "/dtype_bytes.npy");
	npy_init(&values, GOLDENS_DIR "/dtype_values.npy");
	cr_assert(stored.rows == N_TYPES && stored.cols == 4 * N);
	cr_assert(values.rows == N_TYPES && values.cols == N);
	for (size_t t = 0; t < N_TYPES; t++) {
		uint8_t row[4 * N];
		float got[N];
		for (size_t i = 0; i < sizeof(row); i++) {
			row[i] = (uint8_t)stored.data[t * stored.cols + i];
		}
		dtype_decode(got, row, types[t], N);
		for (size_t i = 0; i < N; i++) {
			const float want = values.data[t * N + i];
			cr_assert(memcmp(&got[i], &want, sizeof(want)) == 0,
				"%s element %zu is %.9g, want %.9g", dtype_name(types[t]), i, (double)got[i],
				(double)want);
		}
	}
	npy_finish(&stored);
	npy_finish(&values);
}

Test(dtype, rows_have_whole_blocks) {
	for (size_t t = 0; t < N_TYPES; t++) {
		const int elems = dtype_block_elems(types[t]), bytes = dtype_block_bytes(types[t]);
		cr_assert(dtype_row_bytes(types[t], 3 * elems) == (size_t)(3 * bytes));
	}
	cr_assert(dtype_name((enum bb_dtype)40) == NULL);
	cr_assert(dtype_block_elems((enum bb_dtype)BB_DTYPE_LIMIT) == 0);
	cr_assert(dtype_block_bytes((enum bb_dtype)-1) == 0);
}

/* Between two neighbours a and b, everything nearer to one rounds to it, and the middle to the
 * even. */
static void check_neighbours(uint16_t low, uint16_t (*narrow)(float), float (*widen)(uint16_t)) {
	const float a = widen(low), b = widen((uint16_t)(low + 1)), middle = a + (b - a) / 2;
	const uint16_t even = (low & 1) == 0 ? low : (uint16_t)(low + 1);
	cr_assert(narrow(a) == low, "0x%04x comes back as 0x%04x", low, narrow(a));
	cr_assert(narrow(middle) == even, "above 0x%04x: the middle becomes 0x%04x", low,
		narrow(middle));
	cr_assert(narrow(nextafterf(middle, a)) == low, "below the middle above 0x%04x", low);
	cr_assert(narrow(nextafterf(middle, b)) == (uint16_t)(low + 1), "above the middle above 0x%04x",
		low);
	cr_assert(narrow(-a) == (low | 0x8000), "sign of 0x%04x", low);
}

Test(dtype, f16_rounds_to_nearest_even) {
	for (unsigned h = 0; h < 0x7bff; h++) {
		check_neighbours((uint16_t)h, f32_to_f16, f16_to_f32);
	}
	cr_assert(f16_to_f32(0x3c00) == 1.0f && f16_to_f32(1) == 0x1p-24f);
	cr_assert(f32_to_f16(65519.0f) == 0x7bff && f32_to_f16(65520.0f) == 0x7c00);
	cr_assert(f32_to_f16(INFINITY) == 0x7c00 && f16_to_f32(0xfc00) == -INFINITY);
	cr_assert(isnan(f16_to_f32(0x7c01)) && (f32_to_f16(NAN) & 0x7fff) > 0x7c00);
}

Test(dtype, bf16_rounds_to_nearest_even) {
	for (unsigned h = 0x80; h < 0x7f7f; h++) {
		check_neighbours((uint16_t)h, f32_to_bf16, bf16_to_f32);
	}
	cr_assert(bf16_to_f32(0x3f80) == 1.0f);
	cr_assert(f32_to_bf16(INFINITY) == 0x7f80 && (f32_to_bf16(NAN) & 0x7fff) > 0x7f80);
}
