/* SPDX-License-Identifier: Apache-2.0
 *
 * Embedding rows out of a table in its file format, whose blocks lie at any byte: a tile of a row
 * is brought into shared memory by 16-byte loads, and taken apart there. Values are those of
 * dtype.c, operation by operation. */
#include "math.cuh"
#include "module.h"

enum { THREADS = 256, TILE = 4 * THREADS, MAX_TILE_BYTES = 4 * TILE };

DEVICE float f16_at(const uint8_t *p) {
	return f32_of_f16((uint16_t)(p[0] | p[1] << 8));
}

/* Element i of 32 in 16 bytes: the low nibbles first, then the high ones. */
DEVICE int nibble(const uint8_t *q, int i) {
	return i < 16 ? q[i] & 15 : q[i - 16] >> 4;
}

/* Bit i of 32, as the fifth bit of a number. */
DEVICE int fifth(const uint8_t *q, int i) {
	return (q[i / 8] >> i % 8 & 1) << 4;
}

/* The header of Q4_K and Q5_K for a group of 32; v: the code of an element. */
DEVICE float k_value(const uint8_t *b, int group, int v) {
	const uint8_t *s = b + 4;
	const float d = f16_at(b), dmin = f16_at(b + 2);
	const int scale = group < 4 ? s[group] & 63 : (s[group + 4] & 15) | s[group - 4] >> 6 << 4;
	const int min = group < 4 ? s[group + 4] & 63 : s[group + 4] >> 4 | s[group] >> 6 << 4;
	return d * (float)scale * (float)v - dmin * (float)min;
}

DEVICE float q6_value(const uint8_t *b, int i) {
	const int half = i / 128, j = i % 128 / 32, e = i % 32;
	const int low = b[half * 64 + j % 2 * 32 + e] >> j / 2 * 4 & 15;
	const int high = b[128 + half * 32 + e] >> 2 * j & 3;
	return f16_at(b + 208) * (float)(int8_t)b[192 + i / 16] * (float)((low | high << 4) - 32);
}

/* Element i of block b. */
DEVICE float value_of(int type, const uint8_t *b, int i) {
	const int group = i / 32, e = i % 32;
	switch (type) {
	case BB_F32:
		return __uint_as_float((uint32_t)b[0] | (uint32_t)b[1] << 8 | (uint32_t)b[2] << 16
			| (uint32_t)b[3] << 24);
	case BB_F16:
		return f16_at(b);
	case BB_BF16:
		return f32_of_bf16((uint16_t)(b[0] | b[1] << 8));
	case BB_Q8_0:
		return (float)(int8_t)b[2 + i] * f16_at(b);
	case BB_Q4_0:
		return (float)(nibble(b + 2, i) - 8) * f16_at(b);
	case BB_Q4_1:
		return (float)nibble(b + 4, i) * f16_at(b) + f16_at(b + 2);
	case BB_Q5_0:
		return (float)((nibble(b + 6, i) | fifth(b + 2, i)) - 16) * f16_at(b);
	case BB_Q5_1:
		return (float)(nibble(b + 8, i) | fifth(b + 4, i)) * f16_at(b) + f16_at(b + 2);
	case BB_Q4_K:
		return k_value(b, group, b[16 + group / 2 * 32 + e] >> group % 2 * 4 & 15);
	case BB_Q5_K:
		return k_value(b, group, (b[48 + group / 2 * 32 + e] >> group % 2 * 4 & 15)
			| (b[16 + e] >> group & 1) << 4);
	default:
		return q6_value(b, i);
	}
}

/* n bytes into shared memory at the same distance from a multiple of 16 as in global memory;
 * returns where they begin. Followed by a barrier. */
DEVICE const uint8_t *stage(uint8_t *shared, const uint8_t *from, int n) {
	const int t = (int)threadIdx.x, shift = (int)((uintptr_t)from & 15);
	const int head = shift == 0 ? 0 : 16 - shift < n ? 16 - shift : n, body = (n - head) & ~15;
	uint8_t *to = shared + shift;
	for (int i = head + 16 * t; i < head + body; i += 16 * THREADS) {
		st_vec((uint4 *)(to + i), ld_nc((const uint4 *)(from + i)));
	}
	if (t < head) {
		to[t] = from[t];
	}
	if (t < n - head - body) {
		to[head + body + t] = from[head + body + t];
	}
	return to;
}

struct embed_args {
	float *y;           /* [n_rows, n_cols] */
	const uint8_t *w;   /* [n_vocab] rows of row_bytes */
	const int32_t *ids; /* [n_rows] */
	size_t row_bytes;
	int type, block_elems, block_bytes, n_cols;
	float scale;
	bool wide;
};

/* Five blocks: for six, unasked, the compiler would spill. */
__global__ void __launch_bounds__(THREADS, 5) embed_kernel(struct embed_args a) {
	SHARED(uint8_t, bytes, [MAX_TILE_BYTES + 16]);
	const size_t row = blockIdx.y;
	const int first = (int)blockIdx.x * TILE, n = min(a.n_cols - first, (int)TILE);
	const uint8_t *from = a.w + (size_t)a.ids[row] * a.row_bytes
		+ (size_t)(first / a.block_elems) * a.block_bytes;
	const uint8_t *tile = stage(bytes, from, n / a.block_elems * a.block_bytes);
	__syncthreads();
	const int i = 4 * (int)threadIdx.x;
	if (i >= n) {
		return;
	}
	float v[4] = { 0.0f, 0.0f, 0.0f, 0.0f };
	for (int j = 0; j < 4 && i + j < n; j++) {
		const int b = (i + j) / a.block_elems, e = (i + j) % a.block_elems;
		v[j] = value_of(a.type, tile + b * a.block_bytes, e) * a.scale;
	}
	store4(a.y + row * a.n_cols + first + i, make_float4(v[0], v[1], v[2], v[3]), n - i, a.wide);
}

extern "C" void embed_sm80(bb_queue *q, float *y, const void *w, enum bb_dtype type,
	const int32_t *ids, int n_rows, int n_cols, float scale) {
	enum { MAX_GRID_ROWS = 65535 }; /* rows are the grid's second dimension */
	struct embed_args a = { y, (const uint8_t *)w, ids, dtype_row_bytes(type, n_cols), type,
		dtype_block_elems(type), dtype_block_bytes(type), n_cols, scale, is_wide(y, n_cols) };
	for (int row = 0; row < n_rows; row += MAX_GRID_ROWS) {
		const int n = n_rows - row < MAX_GRID_ROWS ? n_rows - row : MAX_GRID_ROWS;
		a.y = y + (size_t)row * n_cols;
		a.ids = ids + row;
		LAUNCH(embed_kernel, dim3(blocks_for(n_cols, TILE), n), THREADS, 0, q->stream, a);
		queue_launched(q, "embed");
	}
}
