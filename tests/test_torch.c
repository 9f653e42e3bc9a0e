/* SPDX-License-Identifier: Apache-2.0
 *
 * Files of torch.save: those of tests/data/tensors, which torch wrote, and what is wrong with them
 * wherever a byte is another or missing. */
#include "base64.h"
#include "torch.h"

#include <criterion/criterion.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MOST = 8192, N = 4, WIDTH = 48 };

static size_t load(const char *name, uint8_t *bytes) {
	char path[1024];
	snprintf(path, sizeof(path), "%s/data/tensors/%s.pt", BOBBIN_TESTS, name);
	FILE *f = fopen(path, "rb");
	cr_assert(f != NULL, "%s is missing", path);
	const size_t n = fread(bytes, 1, MOST, f);
	cr_assert_lt(n, MOST);
	fclose(f);
	return n;
}

Test(torch, is_what_torch_wrote) {
	static const char *const names[] = { "f32", "f16", "bf16", "batch", "grad", "parameter", "view",
		"turned" };
	static uint8_t file[MOST];
	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		struct bb_error err = { 0 };
		struct torch_tensor t;
		const size_t n = load(names[i], file);
		cr_assert(torch_read(&t, file, n, &err), "%s: %s", names[i], err.text);
		cr_assert_eq(t.n_dims, i == 3 ? 3 : 2);
		cr_assert_eq(t.shape[t.n_dims - 2], N);
		cr_assert_eq(t.shape[t.n_dims - 1], WIDTH);
		for (int r = 0; r < N; r++) {
			for (int c = 0; c < WIDTH; c++) {
				cr_assert_eq(torch_at(&t, r, c), (float)r + (float)c / 64, "%s: [%d, %d] is %g",
					names[i], r, c, (double)torch_at(&t, r, c));
			}
		}
	}
}

Test(torch, of_another_form_is_refused_in_a_sentence) {
	static const struct {
		const char *name, *says;
	} all[] = {
		{ "f64", "float32, float16 or bfloat16" }, { "list", "expected one dense tensor" },
		{ "old", "expected a file of torch.save" }, { "expanded", "reaches beyond the" },
	};
	static uint8_t file[MOST];
	for (size_t i = 0; i < sizeof(all) / sizeof(all[0]); i++) {
		struct bb_error err = { 0 };
		struct torch_tensor t;
		cr_assert(!torch_read(&t, file, load(all[i].name, file), &err), "%s", all[i].name);
		cr_assert_eq(err.code, BB_ERR_INPUT);
		cr_assert(strstr(err.text, all[i].says) != NULL, "%s: %s", all[i].name, err.text);
	}
}

/* A copy that ends where its memory does, so that a sanitizer sees who reads on. */
static bool try(const uint8_t *file, size_t n) {
	uint8_t *copy = malloc(n > 0 ? n : 1);
	struct bb_error err = { 0 };
	struct torch_tensor t;
	memcpy(copy, file, n);
	const bool ok = torch_read(&t, copy, n, &err);
	cr_assert(ok || (err.code == BB_ERR_INPUT && err.text[0] != '\0'));
	if (ok) {
		int64_t rows = 1;
		for (int k = 0; k + 1 < t.n_dims; k++) {
			rows *= t.shape[k];
		}
		for (int64_t r = 0; r < rows; r++) {
			for (int64_t c = 0; c < t.shape[t.n_dims - 1]; c++) {
				const volatile float seen = torch_at(&t, r, c);
				(void)seen;
			}
		}
	}
	free(copy);
	return ok;
}

Test(torch, that_is_cut_or_damaged_does_no_harm) {
	static const char *const names[] = { "bf16", "parameter", "batch", "view" };
	static uint8_t file[MOST];
	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		const size_t n = load(names[i], file);
		for (size_t k = 0; k < n; k++) {
			cr_assert(!try(file, k), "%s: the first %zu of %zu bytes are taken", names[i], k, n);
		}
		int n_refused = 0;
		for (size_t k = 0; k < n; k++) {
			static const uint8_t bits[] = { 0xFF, 0x01, 0x80, 0x40 };
			for (size_t b = 0; b < sizeof(bits); b++) {
				file[k] ^= bits[b];
				n_refused += !try(file, n);
				file[k] ^= bits[b];
			}
		}
		cr_assert_gt(n_refused, 300, "%s: %d are refused", names[i], n_refused);
		cr_assert(try(file, n));
	}
}

/* Half precision, all of it, beside its definition. */
Test(torch, of_half_precision_has_every_value) {
	static uint8_t file[MOST];
	const size_t n = load("f16", file);
	struct bb_error err = { 0 };
	struct torch_tensor t;
	cr_assert(torch_read(&t, file, n, &err), "%s", err.text);
	uint8_t *data = file + (t.data - file);
	for (uint32_t h = 0; h < 0x10000; h++) {
		data[0] = (uint8_t)h;
		data[1] = (uint8_t)(h >> 8);
		const int exponent = (int)(h >> 10 & 31);
		double want = (double)(h & 0x3FF);
		want = exponent == 0 ? __builtin_ldexp(want, -24)
			: __builtin_ldexp(want + 1024, exponent - 25);
		want = exponent == 31 ? ((h & 0x3FF) == 0 ? __builtin_inf() : __builtin_nan("")) : want;
		const float got = torch_at(&t, 0, 0);
		cr_assert(want != want ? got != got : (double)got == ((h & 0x8000) != 0 ? -want : want),
			"%04x: %g, expected %g", h, (double)got, want);
		cr_assert_eq(__builtin_signbit(got) != 0, (h & 0x8000) != 0);
	}
}

Test(torch, base64_goes_there_and_back) {
	uint8_t bytes[100];
	for (size_t i = 0; i < sizeof(bytes); i++) {
		bytes[i] = (uint8_t)(i * 37);
	}
	for (size_t n = 0; n <= sizeof(bytes); n++) {
		struct buf text = { 0 }, back = { 0 };
		base64_encode(&text, bytes, n);
		cr_assert_eq(text.bytes, (n + 2) / 3 * 4);
		cr_assert(base64_decode(&back, buf_string(&text), text.bytes));
		cr_assert_eq(back.bytes, n);
		cr_assert(n == 0 || memcmp(back.data, bytes, n) == 0);
		buf_finish(&text);
		buf_finish(&back);
	}
	static const char *const bad[] = { "A", "AA", "AAA", "A===", "AA=A", "A A=", "AAA\n",
		"AA==AAAA", "AAA*", "====", "\303\251AA" };
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		struct buf out = { 0 };
		cr_assert(!base64_decode(&out, bad[i], strlen(bad[i])), "%s", bad[i]);
		buf_finish(&out);
	}
}
