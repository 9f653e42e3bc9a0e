/* SPDX-License-Identifier: Apache-2.0
 *
 * Keys and values on their way into pages: the plain layout (each token a row, as files, taps and
 * copies between devices have it), int8 quantisation, and the loop over the rows of a step. */
#include "kv_slab.h"

#include <assert.h>
#include <math.h>
#include <string.h>

/* rows a thread takes at once: the tokens that share lines in kv_lanes */
enum { APPEND_GRAIN = 16 };

float kv_quantise(int8_t *y, const float *x, int n) {
	uint32_t largest = 0; /* bits of |x|; above those of infinity for a NaN */
	for (int i = 0; i < n; i++) {
		uint32_t u;
		memcpy(&u, &x[i], sizeof(u));
		u &= 0x7fffffffu;
		largest = u > largest ? u : largest;
	}
	float max;
	memcpy(&max, &largest, sizeof(max));
	if (!(max >= 0x1p-100f && max < INFINITY)) { /* below, 127 / max could overflow */
		for (int i = 0; i < n; i++) {
			y[i] = 0;
		}
		return max < 1 ? 0.0f : NAN;
	}
	const float inverse = 127.0f / max;
	for (int i = 0; i < n; i++) {
		/* adding 1.5 * 2^23 rounds to the nearest even integer */
		const float rounded = x[i] * inverse + 0x1.8p23f;
		int32_t u;
		memcpy(&u, &rounded, sizeof(u));
		y[i] = (int8_t)(u & 255);
	}
	return max / 127.0f;
}

/* ---- kv_rows ---- */

static size_t rows_slab_bytes(enum bb_kv_dtype type, int head_dim, int group) {
	return kv_plane(type, head_dim, kv_n_groups(head_dim, group)).bytes
		+ kv_plane(type, head_dim, 1).bytes;
}

static void store_row(uint8_t *plane, enum bb_kv_dtype type, int head_dim, int group, int slot,
	const float *x) {
	const int n_groups = kv_n_groups(head_dim, group), width = kv_group_width(head_dim, group);
	uint8_t *row = plane + (size_t)slot * head_dim * kv_elem_bytes(type);
	if (type == KV_F32) {
		memcpy(row, x, (size_t)head_dim * sizeof(*x));
	} else if (type == KV_INT8) {
		float *scales = (float *)(void *)(plane + kv_plane(type, head_dim, n_groups).scales);
		for (int g = 0; g < n_groups; g++) {
			const int first = g * width, rest = head_dim - first;
			scales[slot * n_groups + g] = kv_quantise((int8_t *)row + first, x + first,
				rest < width ? rest : width);
		}
	} else {
		for (int d = 0; d < head_dim; d++) {
			const uint16_t h = type == KV_F16 ? f32_to_f16(x[d]) : f32_to_bf16(x[d]);
			memcpy(row + 2 * d, &h, sizeof(h));
		}
	}
}

static void load_row(float *x, const uint8_t *plane, enum bb_kv_dtype type, int head_dim, int group,
	int slot) {
	const int n_groups = kv_n_groups(head_dim, group), width = kv_group_width(head_dim, group);
	const uint8_t *row = plane + (size_t)slot * head_dim * kv_elem_bytes(type);
	if (type == KV_F32) {
		memcpy(x, row, (size_t)head_dim * sizeof(*x));
	} else if (type == KV_INT8) {
		const float *scales = (const float *)(const void *)(plane
			+ kv_plane(type, head_dim, n_groups).scales);
		for (int d = 0; d < head_dim; d++) {
			x[d] = (float)(int8_t)row[d] * scales[slot * n_groups + d / width];
		}
	} else {
		for (int d = 0; d < head_dim; d++) {
			uint16_t h;
			memcpy(&h, row + 2 * d, sizeof(h));
			x[d] = type == KV_F16 ? f16_to_f32(h) : bf16_to_f32(h);
		}
	}
}

static void rows_append(void *slab, enum bb_kv_dtype type, int head_dim, int group, int slot,
	const float *k, const float *v) {
	const size_t plane_bytes = kv_plane(type, head_dim, kv_n_groups(head_dim, group)).bytes;
	store_row(slab, type, head_dim, group, slot, k);
	store_row((uint8_t *)slab + plane_bytes, type, head_dim, 0, slot, v);
}

static void rows_read(const void *slab, enum bb_kv_dtype type, int head_dim, int group, int slot,
	float *k, float *v) {
	const size_t plane_bytes = kv_plane(type, head_dim, kv_n_groups(head_dim, group)).bytes;
	load_row(k, slab, type, head_dim, group, slot);
	load_row(v, (const uint8_t *)slab + plane_bytes, type, head_dim, 0, slot);
}

const struct bb_kv_layout layout_kv_rows = {
	"kv_rows", rows_slab_bytes, rows_append, rows_read,
};

/* ---- a step's rows ---- */

static void append_rows(const void *arg, int begin, int end) {
	const struct bb_kv_append *a = arg;
	const struct bb_attention_seq *seq = a->seqs;
	int first = 0; /* of this sequence, counting the rows of the sequences in order */
	for (int i = begin; i < end; i++) {
		while (i - first >= seq->n_rows) {
			first += seq->n_rows;
			seq++;
		}
		const int row = seq->row0 + i - first;
		for (int h = 0; h < a->n_kv_heads; h++) {
			const struct bb_kept *kept = &seq->groups[a->kv_heads[h].i_group];
			const int t = kept->n_before + i - first;
			uint8_t *slab = (uint8_t *)kept_page(kept, t / BB_PAGE) + a->kv_heads[h].slab_offset;
			const size_t x = (size_t)row * a->ld + (size_t)h * a->head_dim;
			a->layout->append(slab, a->type, a->head_dim, a->kv_group, t % BB_PAGE, a->k + x, a->v + x);
		}
	}
}

void kv_append(bb_queue *q, const struct bb_kv_append *a) {
	if (a->layout->append_rows != NULL) {
		a->layout->append_rows(q, a);
		return;
	}
	int n_rows = 0;
	for (int i = 0; i < a->n_seqs; i++) {
		n_rows += a->seqs[i].n_rows;
	}
	assert(a->kv_group % 4 == 0);
	queue_run(q, append_rows, a, n_rows, APPEND_GRAIN);
}
