/* SPDX-License-Identifier: Apache-2.0
 *
 * Checks of the matrix products, one body for all weight types. Block types must have the bits of
 * the reference on every variant; and every variant is held against a product in double here,
 * which takes the weights from dtype_decode. Only large products by cuBLASLt are other: they round
 * x and weights to bf16, every row is held against the product of those, and the reference, which
 * rounds x to int8, says nothing of them where weights are of a block type. */
#include "check_weights.h"

#include <math.h>
#include <string.h>

enum { MOST_K = 17 * 256 }; /* of a shape that is checked */

struct shape {
	int n_rows, n, k;
	bool has_bias, accumulates;
	int ld_y;
};

static bool is_float(enum bb_dtype type) {
	return dtype_block_elems(type) == 1;
}

static bool has_min(enum bb_dtype type) {
	return type == BB_Q4_1 || type == BB_Q5_1 || type == BB_Q4_K || type == BB_Q5_K;
}

/* Large products of this variant go through cuBLASLt. */
static bool is_lt(struct check *c) {
	return strcmp(check_layout(c)->name, "panels_lt") == 0;
}

static bool is_by_lt(struct check *c, const struct shape *s) {
	return is_lt(c) && s->n_rows >= BB_LT_ROWS;
}

/* Products of fewer rows are another variant's. */
static int fewest_rows(struct check *c) {
	return is_lt(c) ? BB_LT_ROWS
		: strncmp(check_layout(c)->name, "panels_wgmma", 12) == 0 ? BB_WGMMA_ROWS : 1;
}

/* ---- inputs ---- */

static void store_f16(uint8_t *p, float f) {
	const uint16_t h = f32_to_f16(f);
	memcpy(p, &h, sizeof(h));
}

/* A scale: mostly ordinary, some zero, denormal or large. */
static float draw_scale(struct check *c) {
	switch (check_rand(c, 0, 30)) {
	case 0:
		return 0.0f;
	case 1:
		return 0x1p-23f;
	case 2:
		return 8.0f;
	default:
		return 0.02f * check_normal(c);
	}
}

/* Scales as above. */
uint8_t *check_weights(struct check *c, enum bb_dtype type, int n, int k, bool is_extreme) {
	const size_t bytes = dtype_row_bytes(type, k) * (size_t)n;
	const size_t block_bytes = (size_t)dtype_block_bytes(type);
	uint8_t *w = check_in_bytes(c, bytes, 4);
	if (is_extreme) {
		memset(w, type == BB_Q8_0 ? (check_rand(c, 0, 1) ? 0x80 : 0x7f) : 0xff, bytes);
	}
	/* To be timed, so many are as good as all, and drawn in far less time. */
	const size_t pool = block_bytes << 16;
	const size_t n_drawn = check_is_bench(c) && bytes > pool ? pool : bytes;
	for (size_t i = 0; i < n_drawn; i += block_bytes) {
		if (type == BB_F32) {
			const float f = check_normal(c);
			memcpy(w + i, &f, sizeof(f));
		} else if (type == BB_BF16) {
			const uint16_t h = f32_to_bf16(check_normal(c));
			memcpy(w + i, &h, sizeof(h));
		} else if (type == BB_F16) {
			store_f16(w + i, check_normal(c));
		} else {
			store_f16(w + i + (type == BB_Q6_K ? 208 : 0), draw_scale(c));
			if (has_min(type)) {
				store_f16(w + i + 2, draw_scale(c));
			}
		}
	}
	for (size_t i = n_drawn; i < bytes; i += n_drawn) {
		memcpy(w + i, w, bytes - i < n_drawn ? bytes - i : n_drawn);
	}
	return w;
}

float *check_x(struct check *c, int n_rows, int ld_x, bool is_extreme) {
	float *x = check_in(c, (size_t)n_rows * (size_t)ld_x);
	for (int i = 0; i < n_rows * ld_x; i += 32) {
		const int kind = check_rand(c, 0, is_extreme ? 3 : 24);
		for (int j = i; j < i + 32 && j < n_rows * ld_x; j++) {
			x[j] = is_extreme && kind != 0 ? (j % 7 < kind ? 1.0f : -1.0f) : kind == 1 ? 0.0f :
				kind == 2 ? x[j] * 0x1p-140f : kind == 3 ? x[j] * 1e4f : x[j];
		}
	}
	return x;
}

/* ---- the product in double ---- */

/* x as the product takes it: rounded to bf16, or to int8 per 32, or as it is. */
static void round_x(double *out, const float *x, enum bb_dtype type, bool to_bf16, int k) {
	for (int i = 0; i < k; i++) {
		out[i] = (double)(to_bf16 ? bf16_to_f32(f32_to_bf16(x[i])) : x[i]);
	}
	for (int b = 0; !is_float(type) && b < k; b += 32) {
		float max = 0.0f;
		for (int i = b; i < b + 32; i++) {
			max = fmaxf(max, fabsf(x[i]));
		}
		const float s = max / 127.0f;
		for (int i = b; i < b + 32; i++) {
			const double q = s > 0.0f ? (double)rintf(x[i] / s) : 0.0;
			out[i] = fmin(127.0, fmax(-127.0, q)) * (double)s;
		}
	}
}

/* y [n] of one row against the product in double. */
static void check_row(struct check *c, enum bb_dtype type, const struct shape *s, const uint8_t *w,
	const float *x, const float *bias, const float *y0, const float *y) {
	float weights[MOST_K];
	double rounded[MOST_K];
	const bool by_lt = is_by_lt(c, s);
	const bool to_bf16 = by_lt || strstr(check_layout(c)->name, "pairs") != NULL ||
		(is_lt(c) && type == BB_BF16);
	round_x(rounded, x, by_lt ? BB_BF16 : type, to_bf16, s->k);
	for (int col = 0; col < s->n; col++) {
		dtype_decode(weights, w + (size_t)col * dtype_row_bytes(type, s->k), type, s->k);
		double want = s->has_bias ? (double)bias[col] : 0.0, size = fabs(want);
		want += s->accumulates ? (double)y0[col] : 0.0;
		size += s->accumulates ? fabs((double)y0[col]) : 0.0;
		for (int i = 0; i < s->k; i++) {
			weights[i] = by_lt ? bf16_to_f32(f32_to_bf16(weights[i])) : weights[i];
			const double term = (double)weights[i] * rounded[i];
			want += term;
			/* Codes and minima of opposite signs cancel inside a block. */
			size += fabs(term) + (is_float(type) ? 0.0 : fabs(rounded[i]) * 0.5);
		}
		/* cuBLASLt's tensor cores cut off what they add: on an H100 errors reach 7e-6. */
		if (!(fabs((double)y[col] - want) <= (by_lt ? 2e-5 : 4e-6) * size + 1e-30)) {
			check_fail(c, "column %d is %g, the product in double %g", col, (double)y[col], want);
			return;
		}
	}
}

/* ---- the body ---- */

/* Packs w as two sources, one below the other, the second through a map, and takes it out again. */
static void *pack_weights(struct check *c, enum bb_dtype type, int n, int k, const uint8_t *w) {
	const struct bb_layout *layout = check_layout(c);
	const size_t row_bytes = dtype_row_bytes(type, k);
	void *packed = check_scratch(c, layout->weight_bytes(type, n, k), 64);
	if (check_is_bench(c)) {
		layout->pack(check_queue_alone(c), packed, type, n, k, w, 0, n, NULL);
		return packed;
	}
	const int n_first = n > 40 ? 32 : n / 2, n_second = n - n_first;
	int32_t *map = check_scratch(c, sizeof(*map) * (size_t)n_second, 4);
	uint8_t *turned = check_scratch(c, row_bytes * (size_t)n_second, 1);
	uint8_t *row = check_scratch(c, row_bytes, 1);
	for (int i = 0; i < n_second; i++) {
		map[i] = n_second - 1 - i;
		memcpy(turned + row_bytes * (size_t)map[i], w + row_bytes * (size_t)(n_first + i),
			row_bytes);
	}
	layout->pack(check_queue(c), packed, type, n, k, w, 0, n_first, NULL);
	layout->pack(check_queue(c), packed, type, n, k, turned, n_first, n_second, map);
	check_wait(c);
	for (int i = 0; i < n; i++) {
		memset(row, 0x5a, row_bytes);
		layout->unpack_row(row, packed, type, n, k, i);
		check_same(c, "unpacked row", row, w + row_bytes * (size_t)i, row_bytes);
	}
	return packed;
}

/* Each row alone must have the bits that it has among others. */
static void check_alone(struct check *c, matmul_fn *fn, enum bb_dtype type, const struct shape *s,
	const void *packed, const float *x, int ld_x, const float *bias, const float *y0,
	const float *y) {
	const struct bb_layout *layout = check_layout(c);
	void *prepared = check_scratch(c, layout->prep_bytes(type, 1, s->k), 4);
	float *alone = check_scratch(c, sizeof(float) * (size_t)s->n, 4);
	for (int r = 0; r < s->n_rows; r++) {
		check_wait(c);
		memcpy(alone, y0 + (size_t)r * s->ld_y, sizeof(float) * (size_t)s->n);
		layout->prep(check_queue_alone(c), prepared, type, x + (size_t)r * ld_x, ld_x, 1, s->k);
		fn(check_queue_alone(c), alone, s->n, packed, prepared, bias, 1, s->n, s->k,
			s->accumulates);
		check_same_row(c, "row alone", alone, y + (size_t)r * s->ld_y,
			sizeof(float) * (size_t)s->n);
	}
}

/* A layout's product with the norm before it and with the gate behind it has the bits of its parts
 * one after the other. */
static void check_fused(struct check *c, matmul_fn *fn, enum bb_dtype type, const struct shape *s,
	const void *packed, const float *x, int ld_x, const float *bias, const float *y0) {
	const struct bb_layout *layout = check_layout(c);
	bb_queue *q = check_queue(c);
	const int half = s->n / 2;
	const size_t y_bytes = sizeof(float) * (size_t)s->n_rows * (size_t)s->ld_y;
	const size_t gated_bytes = layout->prep_bytes(type, s->n_rows, half / 32 * 32);
	void *prepared = check_scratch(c, layout->prep_bytes(type, s->n_rows, s->k), 16);
	void *gated = check_scratch(c, gated_bytes, 16);
	void *want_gated = check_scratch(c, gated_bytes, 16);
	float *y = check_scratch(c, y_bytes, 4), *want = check_scratch(c, y_bytes, 4);
	float *norm = check_scratch(c, (size_t)s->k * sizeof(float), 16);
	for (int i = 0; i < s->k; i++) {
		norm[i] = 0.5f + 0.25f * (float)(i % 7);
	}
	struct bb_fused_product p = { .type = type, .w = packed, .bias = bias, .y = y,
		.ld_y = s->ld_y, .n_rows = s->n_rows, .n = s->n, .k = s->k, .accumulate = s->accumulates,
		.x = { BB_FUSE_RMSNORM, x, NULL, ld_x, norm, 1e-5f },
		.prepared = prepared };
	check_wait(c);
	memcpy(y, y0, y_bytes);
	memcpy(want, y0, y_bytes);
	layout->prep_fused(q, prepared, type, &p.x, s->n_rows, s->k);
	fn(q, want, s->ld_y, packed, prepared, bias, s->n_rows, s->n, s->k, s->accumulates);
	layout->product(q, &p);
	check_same(c, "normalised product", y, want, y_bytes);
	memcpy(y, y0, y_bytes);
	p.is_prepared = true;
	layout->product(q, &p);
	check_same(c, "normalised product of the same x", y, want, y_bytes);
	p.is_prepared = false;
	for (int i = 0; i < 2 && s->n % 64 == 0; i++) {
		p.gate = i == 0 ? BB_FUSE_SILU_MUL : BB_FUSE_GELU_MUL;
		p.gated = i == 0 ? gated : prepared;
		p.accumulate = false;
		const struct bb_fused_x gate = { p.gate, want, want + half, s->ld_y, NULL, 0 };
		layout->prep_fused(q, prepared, type, &p.x, s->n_rows, s->k);
		fn(q, want, s->ld_y, packed, prepared, bias, s->n_rows, s->n, s->k, false);
		layout->prep_fused(q, want_gated, type, &gate, s->n_rows, half);
		layout->product(q, &p);
		check_same(c, "gated product", p.gated, want_gated, gated_bytes);
	}
}

static void check_shape(struct check *c, matmul_fn *fn, enum bb_dtype type, struct shape s,
	bool is_extreme) {
	const struct bb_layout *layout = check_layout(c);
	/* rows that can be read 16 bytes at a time, and rows that can't */
	const int ld_x = s.k + (check_is_bench(c) ? 0 : s.n % 64 == 0 ? 4 : 3);
	const size_t n_y = (size_t)s.n_rows * (size_t)s.ld_y;
	const uint8_t *w = check_weights(c, type, s.n, s.k, is_extreme);
	const float *x = check_x(c, s.n_rows, ld_x, is_extreme);
	const float *bias = s.has_bias ? check_in(c, (size_t)s.n) : NULL;
	/* Chains of f32, and x in bf16 on one level; see check_row for what is exact. */
	const bool by_lt = is_by_lt(c, &s), is_exact = !is_float(type) && !by_lt;
	const float rounding = type == BB_BF16 || by_lt ? 0.02f : 1e-5f;
	const struct tol tol = { .rel = is_exact ? 0.0f : rounding,
		.abs = is_exact ? 0.0f : !is_float(type) ? INFINITY
			: rounding * 1e4f * sqrtf((float)s.k) };
	float *y = check_inout(c, "y", n_y, tol);
	float *y0 = check_scratch(c, n_y * sizeof(float), 4);
	memcpy(y0, y, n_y * sizeof(float));
	const void *packed = pack_weights(c, type, s.n, s.k, w);
	void *prepared = check_scratch(c, layout->prep_bytes(type, s.n_rows, s.k), 4);
	layout->prep(check_queue(c), prepared, type, x, ld_x, s.n_rows, s.k);
	check_ops(c, 2.0 * s.n_rows * s.n * s.k);
	const double bytes = (double)layout->weight_bytes(type, s.n, s.k);
	while (check_next(c, bytes, "rows=%d n=%d k=%d%s%s", s.n_rows, s.n, s.k,
		s.has_bias ? " bias" : "", s.accumulates ? " accumulate" : "")) {
		fn(check_queue(c), y, s.ld_y, packed, prepared, bias, s.n_rows, s.n, s.k, s.accumulates);
	}
	if (!check_is_bench(c)) {
		const int last = s.n_rows - 1;
		for (int r = 0; r <= last; r += by_lt || last == 0 ? 1 : last) {
			check_row(c, type, &s, w, x + (size_t)r * ld_x, bias, y0 + (size_t)r * s.ld_y,
				y + (size_t)r * s.ld_y);
		}
		if (!by_lt) {
			check_alone(c, fn, type, &s, packed, x, ld_x, bias, y0, y);
		}
		if (layout->product != NULL && layout->fuses(type)) {
			check_fused(c, fn, type, &s, packed, x, ld_x, bias, y0);
		}
	}
}

/* The products of Llama 3 8B: Q, K and V at once, the output of attention, gate and up at once,
 * down, the head. Some for more rows than one. */
static void bench_device(struct check *c, matmul_fn *fn, enum bb_dtype type) {
	enum { N_ROWS = 5 };
	const int fewest = fewest_rows(c);
	static const struct {
		int n, k, n_counts;
	} products[] = { { 6144, 4096, N_ROWS }, { 4096, 4096, 1 }, { 28672, 4096, 4 },
		{ 4096, 14336, 1 }, { 128256, 4096, 1 } };
	static const int counts[N_ROWS] = { 1, 8, 64, 512, 2048 };
	for (size_t i = 0; i < COUNT(products); i++) {
		const int n = check_shrunk(c, products[i].n);
		const int k = (check_shrunk(c, products[i].k) + 255) / 256 * 256; /* whole blocks */
		for (int j = 0; j < products[i].n_counts; j++) {
			int n_rows = check_shrunk(c, counts[j]);
			if (counts[j] >= fewest) { /* the other variant is timed by itself */
				n_rows = n_rows < fewest ? fewest : n_rows;
				check_shape(c, fn, type, (struct shape){ n_rows, n, k, .ld_y = n }, false);
			}
		}
	}
}

static void check_matmul(struct check *c, matmul_fn *fn, enum bb_dtype type) {
	if (check_is_device_bench(c)) {
		bench_device(c, fn, type);
		return;
	}
	if (check_is_bench(c)) {
		check_shape(c, fn, type, (struct shape){ 1, 12288, 1536, .ld_y = 12288 }, false);
		check_shape(c, fn, type, (struct shape){ 256, 256, 1536, .ld_y = 256 }, false);
		return;
	}
	const int unit = is_float(type) ? 1 : dtype_block_elems(type);
	if (check_is_small(c)) {
		/* Each kernel and tile: products of 1, 2, 4, 8, 16, 32 rows and more, ragged ones too. The
		 * first is the one that cuBLASLt's variant plays. */
		static const int n_rows[] = { 65, 1, 2, 3, 8, 9, 17 };
		for (size_t i = 0; i < COUNT(n_rows); i++) {
			/* more of wgmma's steps than it has stages, and half of one */
			if (i == 1 && unit == 1 && type != BB_F32) {
				check_shape(c, fn, type, (struct shape){ 70, 35, 416, true, true, 36 }, false);
			}
			const int k = is_float(type) ? 45 : unit == 32 ? 288 : 512;
			const int n = n_rows[i] <= 2 ? 64 : 35;
			check_shape(c, fn, type, (struct shape){ n_rows[i], n, k, i % 2 == 0, i % 3 == 0, 66 },
				i % 5 == 4);
		}
		return;
	}
	/* Larger tiles, which want enough blocks for the emulator's 8 processors. */
	check_shape(c, fn, type, (struct shape){ 60, 1000, 2 * unit, true, false, 1000 }, false);
	check_shape(c, fn, type, (struct shape){ 61, 2000, 3 * unit, false, true, 2001 }, false);
	check_shape(c, fn, type, (struct shape){ 250, 1000, 5 * unit, false, false, 1000 }, false);
	if (is_float(type)) {
		check_shape(c, fn, type, (struct shape){ 130, 700, 352, true, true, 701 }, false);
	}
	const int max_units = is_float(type) ? 300 : unit == 32 ? 40 : 7;
	for (int n_rows = 1; n_rows <= 40; n_rows += n_rows < 18 ? 1 : 11) {
		const int n = check_rand(c, 1, 50);
		struct shape s = { n_rows, n, unit * check_rand(c, 1, max_units),
			.has_bias = check_rand(c, 0, 1), .accumulates = check_rand(c, 0, 1),
			.ld_y = n + check_rand(c, 0, 3) };
		check_shape(c, fn, type, s, n_rows % 5 == 4);
	}
	/* Across the limits of row blocks and pieces. */
	check_shape(c, fn, type, (struct shape){ 141, 33, 1536, true, true, 35 }, false);
	check_shape(c, fn, type, (struct shape){ 3, 16, 2048, false, false, 16 }, true);
	check_shape(c, fn, type, (struct shape){ 64, 70, 512, true, false, 70 }, false);
	/* With whole blocks in each half, and more panels than a device has processors. */
	for (int n_rows = 1; n_rows <= 3; n_rows++) {
		check_shape(c, fn, type, (struct shape){ n_rows, 192, 1280, true, false, 195 }, false);
	}
	check_shape(c, fn, type, (struct shape){ 1, 32 * 513, 256, true, true, 32 * 513 }, false);
	/* Q8_0 comes close to what a launch may have of shared memory. */
	if (unit > 1) { /* more columns than the threads of a block keep of a row */
		check_shape(c, fn, type, (struct shape){ 1, 64, MOST_K, .ld_y = 64 }, false);
	}
	check_shape(c, fn, type, (struct shape){ 2, 64, type == BB_F32 || unit < 256 ? 576 : 1536,
		.ld_y = 64 }, false);
	check_shape(c, fn, type, (struct shape){ 65, 128, 768, false, false, 130 }, false);
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
