/* SPDX-License-Identifier: Apache-2.0
 *
 * The C references of the matrix products, and the layouts `rows` (weights as in the file, x as
 * it comes) and `rows_q8` (weights as in the file, x in int8).
 *
 * The arithmetic of block types, which every CPU variant follows bit for bit. A row of x is cut
 * in blocks of 32: s = max|x| / 127, q = rint(x / s). With c the codes and a block's scale,
 * offset and min as in quant.h, one output is, over the blocks in order,
 *     acc = fmaf((float)sum (c - offset) q, scale * s, acc)    Q6_K: one such step per 16 elements
 *     acc = fmaf(min, s * (float)sum q, acc)                     types with a min
 * with the sums exact integers; then + bias, then + the old y. */
#include "kernels.h"
#include "quant.h"

#include <assert.h>
#include <math.h>
#include <string.h>

struct product {
	enum bb_dtype type;
	float *y;
	int ld_y;
	const uint8_t *w; /* [n] rows in the file format */
	const void *x;    /* [n_rows] prepared rows */
	const float *bias;
	int n_rows, n, k;
	bool accumulate;
};

/* A prepared block of x in rows_q8. */
struct x_block {
	int8_t q[32];
	float s;
};

static void finish_output(const struct product *p, int row, int col, float acc) {
	float *y = &p->y[(size_t)row * p->ld_y + col];
	acc = p->bias != NULL ? acc + p->bias[col] : acc;
	*y = p->accumulate ? *y + acc : acc;
}

/* ---- block types ---- */

/* A block of weights as numbers: (code - offset) as w, and the two scales and the min. */
struct w_block {
	int w[32];
	float scale[2], min;
};

static void decode_block(struct w_block *out, enum bb_dtype type, const uint8_t *row, int i_block) {
	struct quant_block b = { 0 };
	quant_get(&b, type, row, i_block);
	for (int i = 0; i < 32; i++) {
		out->w[i] = (int)(b.codes[i / 4] >> i % 4 * 8 & 255) - quant_offset(type);
	}
	const float d = f16_to_f32(b.d), m = f16_to_f32(b.m);
	out->scale[0] = out->scale[1] = d;
	out->min = m;
	if (type == BB_Q6_K) {
		out->scale[0] = d * (float)(int8_t)b.scales[0];
		out->scale[1] = d * (float)(int8_t)b.scales[1];
	} else if (quant_is_k(type)) {
		out->scale[0] = out->scale[1] = d * (float)b.scales[0];
		out->min = -(m * (float)b.min);
	}
}

static float add_block(enum bb_dtype type, const struct w_block *w, const struct x_block *x,
	float acc) {
	int32_t dot[2] = { 0 }, sum = 0;
	for (int i = 0; i < 32; i++) {
		dot[i / 16] += w->w[i] * x->q[i];
		sum += x->q[i];
	}
	if (type == BB_Q6_K) {
		acc = fmaf((float)dot[0], w->scale[0] * x->s, acc);
		return fmaf((float)dot[1], w->scale[1] * x->s, acc);
	}
	acc = fmaf((float)(dot[0] + dot[1]), w->scale[0] * x->s, acc);
	return quant_has_min(type) ? fmaf(w->min, x->s * (float)sum, acc) : acc;
}

enum { CHUNK = 32 }; /* rows of x for which a block is decoded once */

static void quant_columns(const void *arg, int begin, int end) {
	const struct product *p = arg;
	const int n_blocks = p->k / 32;
	const size_t row_bytes = dtype_row_bytes(p->type, p->k);
	for (int col = begin; col < end; col++) {
		const uint8_t *row = p->w + (size_t)col * row_bytes;
		for (int r0 = 0; r0 < p->n_rows; r0 += CHUNK) {
			const int n_rows = p->n_rows - r0 < CHUNK ? p->n_rows - r0 : CHUNK;
			float acc[CHUNK] = { 0 };
			for (int b = 0; b < n_blocks; b++) {
				struct w_block w;
				decode_block(&w, p->type, row, b);
				for (int r = 0; r < n_rows; r++) {
					const struct x_block *x = p->x;
					acc[r] = add_block(p->type, &w, &x[(size_t)(r0 + r) * n_blocks + b], acc[r]);
				}
			}
			for (int r = 0; r < n_rows; r++) {
				finish_output(p, r0 + r, col, acc[r]);
			}
		}
	}
}

/* ---- float types: sums in double ---- */

static float load_element(enum bb_dtype type, const uint8_t *row, int i) {
	if (type == BB_F32) {
		float f;
		memcpy(&f, row + 4 * (size_t)i, sizeof(f));
		return f;
	}
	uint16_t h;
	memcpy(&h, row + 2 * (size_t)i, sizeof(h));
	return type == BB_F16 ? f16_to_f32(h) : bf16_to_f32(h);
}

static void float_columns(const void *arg, int begin, int end) {
	const struct product *p = arg;
	const size_t row_bytes = dtype_row_bytes(p->type, p->k);
	for (int col = begin; col < end; col++) {
		const uint8_t *w = p->w + (size_t)col * row_bytes;
		for (int r = 0; r < p->n_rows; r++) {
			const float *x = (const float *)p->x + (size_t)r * p->k;
			double sum = 0.0;
			for (int i = 0; i < p->k; i++) {
				sum += (double)load_element(p->type, w, i) * (double)x[i];
			}
			finish_output(p, r, col, (float)sum);
		}
	}
}

#define MATMUL(suffix, dtype, columns) \
	void matmul_##suffix##_c(bb_queue *q, float *y, int ld_y, const void *w, const void *x, \
		const float *bias, int n_rows, int n, int k, bool accumulate) { \
		const struct product p = { dtype, y, ld_y, w, x, bias, n_rows, n, k, accumulate }; \
		queue_run(q, columns, &p, n, 16); \
	}
MATMUL(f32, BB_F32, float_columns)
MATMUL(f16, BB_F16, float_columns)
MATMUL(bf16, BB_BF16, float_columns)
MATMUL(q8_0, BB_Q8_0, quant_columns)
MATMUL(q4_0, BB_Q4_0, quant_columns)
MATMUL(q4_1, BB_Q4_1, quant_columns)
MATMUL(q5_0, BB_Q5_0, quant_columns)
MATMUL(q5_1, BB_Q5_1, quant_columns)
MATMUL(q4_k, BB_Q4_K, quant_columns)
MATMUL(q5_k, BB_Q5_K, quant_columns)
MATMUL(q6_k, BB_Q6_K, quant_columns)
#undef MATMUL

/* ---- layouts: weights ---- */

static size_t rows_weight_bytes(enum bb_dtype type, int n, int k) {
	return (size_t)n * dtype_row_bytes(type, k);
}

struct copy {
	uint8_t *dst;
	const uint8_t *src;
	size_t row_bytes;
	const int32_t *map;
};

static void copy_rows(const void *arg, int begin, int end) {
	const struct copy *c = arg;
	for (int r = begin; r < end; r++) {
		const size_t from = (size_t)(c->map != NULL ? c->map[r] : r);
		memcpy(c->dst + (size_t)r * c->row_bytes, c->src + from * c->row_bytes, c->row_bytes);
	}
}

static void rows_pack(bb_queue *q, void *dst, enum bb_dtype type, int n, int k, const void *src,
	int first, int n_rows, const int32_t *map) {
	assert(first >= 0 && n_rows >= 0 && first + n_rows <= n);
	const size_t row_bytes = dtype_row_bytes(type, k);
	const struct copy c = { (uint8_t *)dst + (size_t)first * row_bytes, src, row_bytes, map };
	queue_run(q, copy_rows, &c, n_rows, 64);
}

static void rows_unpack_row(void *dst, const void *packed, enum bb_dtype type, int n, int k,
	int row) {
	const size_t row_bytes = dtype_row_bytes(type, k);
	memcpy(dst, (const uint8_t *)packed + (size_t)row * row_bytes, row_bytes);
}

/* ---- layouts: x ---- */

struct prep {
	void *dst;
	const float *x;
	int ld_x, k;
};

static size_t rows_prep_bytes(enum bb_dtype type, int n_rows, int k) {
	return (size_t)n_rows * (size_t)k * sizeof(float);
}

static void prep_rows(const void *arg, int begin, int end) {
	const struct prep *p = arg;
	for (int r = begin; r < end; r++) {
		memcpy((float *)p->dst + (size_t)r * p->k, p->x + (size_t)r * p->ld_x,
			(size_t)p->k * sizeof(float));
	}
}

static void rows_prep(bb_queue *q, void *dst, enum bb_dtype type, const float *x, int ld_x,
	int n_rows, int k) {
	const struct prep p = { dst, x, ld_x, k };
	queue_run(q, prep_rows, &p, n_rows, 16);
}

static size_t rows_q8_prep_bytes(enum bb_dtype type, int n_rows, int k) {
	return (size_t)n_rows * (size_t)(k / 32) * sizeof(struct x_block);
}

static void prep_rows_q8(const void *arg, int begin, int end) {
	const struct prep *p = arg;
	const int n_blocks = p->k / 32;
	for (int r = begin; r < end; r++) {
		struct x_block *row = (struct x_block *)p->dst + (size_t)r * n_blocks;
		for (int b = 0; b < n_blocks; b++) {
			int32_t sum[2];
			row[b].s = quant_x(row[b].q, sum, p->x + (size_t)r * p->ld_x + b * 32);
		}
	}
}

static void rows_q8_prep(bb_queue *q, void *dst, enum bb_dtype type, const float *x, int ld_x,
	int n_rows, int k) {
	assert(k % 32 == 0);
	const struct prep p = { dst, x, ld_x, k };
	queue_run(q, prep_rows_q8, &p, n_rows, 16);
}

const struct bb_layout layout_rows = {
	.name = "rows",
	.weight_bytes = rows_weight_bytes,
	.pack = rows_pack,
	.unpack_row = rows_unpack_row,
	.prep_bytes = rows_prep_bytes,
	.prep = rows_prep,
};

const struct bb_layout layout_rows_q8 = {
	.name = "rows_q8",
	.weight_bytes = rows_weight_bytes,
	.pack = rows_pack,
	.unpack_row = rows_unpack_row,
	.prep_bytes = rows_q8_prep_bytes,
	.prep = rows_q8_prep,
};
