/* SPDX-License-Identifier: Apache-2.0
 *
 * Sequences and states for checks of recurrent kernels, and the checks of packed states. */
#include "check_states.h"

#include <math.h>
#include <string.h>

static int rows_of_seq(struct check *c, int i) {
	if (check_is_bench(c)) {
		return i == 0 ? 512 : 1;
	}
	return check_is_small(c) ? check_rand(c, 1, 11) : check_rand(c, 1, 40);
}

enum { MAX_SAVES = 3 };

/* Up to MAX_SAVES states to keep on the way through n rows; returns how many. */
static int make_saves(struct check *c, struct bb_state_save *saves, int n, float *to,
	size_t total) {
	const int most = check_rand(c, 0, MAX_SAVES);
	int n_saves = 0;
	for (int at = 0; n_saves < most && at + 1 < n; n_saves++) {
		at = check_rand(c, at + 1, n - 1);
		saves[n_saves] = (struct bb_state_save){ at, to + total * (size_t)n_saves };
	}
	return n_saves;
}

void make_scene(struct check *c, struct scene *s, size_t floats, int n_seqs, int n_rows,
	struct tol tol) {
	s->n_seqs = n_seqs;
	s->floats = floats;
	s->state_at = check_is_bench(c) ? 0 : BB_STATE_ALIGN * (size_t)check_rand(c, 0, 3);
	s->total = s->state_at + floats + (check_is_bench(c) ? 0 : (size_t)check_rand(c, 0, 50));
	s->total = (s->total + BB_STATE_ALIGN - 1) / BB_STATE_ALIGN * BB_STATE_ALIGN;
	s->seqs = check_scratch(c, sizeof(*s->seqs) * (size_t)n_seqs, 8);
	s->start = check_in(c, s->total * (size_t)n_seqs);
	float *to = check_inout(c, "state", s->total * (size_t)n_seqs, tol);
	float *kept = check_inout(c, "kept states", s->total * (size_t)(n_seqs * MAX_SAVES), tol);
	struct bb_state_save *saves = check_scratch(c, sizeof(*saves) * (size_t)(n_seqs * MAX_SAVES),
		8);
	s->n_rows = 0;
	for (int i = 0; i < n_seqs; i++) {
		const int kind = check_is_bench(c) ? 2 : check_rand(c, 0, 2);
		const int n = n_rows > 0 ? n_rows : rows_of_seq(c, i);
		float *mine = to + s->total * (size_t)i;
		s->is_empty[i] = kind == 0;
		memcpy(mine, s->start + s->total * (size_t)i, sizeof(float) * s->total);
		const int n_saves = make_saves(c, saves + i * MAX_SAVES, n_rows > 0 ? 1 : n,
			kept + s->total * (size_t)(i * MAX_SAVES), s->total);
		s->seqs[i] = (struct bb_state_seq){
			.from = kind == 0 ? NULL : kind == 1 ? s->start + s->total * (size_t)i : mine,
			.to = mine, .saves = saves + i * MAX_SAVES, .n_saves = n_saves,
			.row0 = s->n_rows, .n_rows = n,
		};
		s->n_rows += n;
	}
}

void run_again(struct check *c, const struct scene *s, run_fn *run, void *args, const float *y,
	int ld_y, int n_cols) {
	float *again = check_scratch(c, sizeof(float) * (size_t)s->n_rows * ld_y, 4);
	float *state = check_scratch(c, sizeof(float) * s->total, 64);
	struct bb_state_seq *part = check_scratch(c, sizeof(*part) * 2, 8);
	for (int i = 0; i < s->n_seqs; i++) {
		const struct bb_state_seq *seq = &s->seqs[i];
		const int cut = check_rand(c, 0, seq->n_rows - 1);
		const float *from = s->is_empty[i] ? NULL : s->start + s->total * (size_t)i;
		part[0] = (struct bb_state_seq){ from, state, NULL, 0, seq->row0, cut };
		part[1] = (struct bb_state_seq){ cut > 0 ? state : from, state, NULL, 0, seq->row0 + cut,
			seq->n_rows - cut };
		for (int k = cut > 0 ? 0 : 1; k < 2; k++) {
			run(c, args, &part[k], again);
			check_wait(c);
		}
		for (int r = seq->row0; r < seq->row0 + seq->n_rows; r++) {
			check_same(c, "a row in two steps", again + (size_t)r * ld_y, y + (size_t)r * ld_y,
				sizeof(float) * (size_t)n_cols);
		}
		check_same(c, "the state in two steps", state + s->state_at, seq->to + s->state_at,
			sizeof(float) * s->floats);
	}
}

int n_cases(struct check *c) {
	return check_is_bench(c) ? 2 : check_is_small(c) ? 6 : 24;
}

/* ---- states of checkpoints in int8 ---- */

/* Small numbers, and blocks that are zero, damaged or too small for a scale. */
static float *state_values(struct check *c, size_t n) {
	float *x = check_in(c, n);
	for (size_t b = 0; b * BB_STATE_BLOCK < n; b++) {
		const int what = check_rand(c, 0, 9);
		const float by = what == 0 ? 0.0f : what == 1 ? 0x1p-120f : what == 2 ? 1e30f : 1e-3f;
		const size_t end = (b + 1) * BB_STATE_BLOCK < n ? (b + 1) * BB_STATE_BLOCK : n;
		for (size_t i = b * BB_STATE_BLOCK; i < end; i++) {
			x[i] *= by;
		}
		if (what == 3) {
			x[end - 1] = check_rand(c, 0, 1) ? NAN : INFINITY;
		}
	}
	return x;
}

static const size_t state_sizes[] = { 16, 32, 48, 1024, 1040, 4096, 40016 };

static size_t state_size(struct check *c, size_t i) {
	return check_is_bench(c) ? (size_t)1536 * 128 * 24 : state_sizes[i];
}

/* Element i of n packed ones. */
static float packed_value(const uint8_t *packed, size_t n, size_t i) {
	float scale;
	const size_t n_blocks = (n + BB_STATE_BLOCK - 1) / BB_STATE_BLOCK;
	memcpy(&scale, packed + n_blocks * BB_STATE_BLOCK + i / BB_STATE_BLOCK * sizeof(scale),
		sizeof(scale));
	return (float)(int8_t)packed[i] * scale;
}

CHECK(state_pack) {
	for (size_t s = 0; s < (check_is_bench(c) ? 1 : COUNT(state_sizes)); s++) {
		const size_t n = state_size(c, s);
		const float *x = state_values(c, n);
		uint8_t *packed = check_out_bytes(c, "packed", state_packed_bytes(n), 64);
		while (check_next(c, 4.0 * n + 36.0 * n / BB_STATE_BLOCK, "n=%zu", n)) {
			fn(check_queue(c), packed, x, n);
		}
		for (size_t i = 0; i < n && !check_is_bench(c); i++) {
			float most = 0x1p-100f;
			const size_t first = i / BB_STATE_BLOCK * BB_STATE_BLOCK;
			for (size_t j = first; j < n && j < first + BB_STATE_BLOCK; j++) {
				most = !(fabsf(x[j]) < most) ? fabsf(x[j]) : most; /* a NaN stays one */
			}
			const float error = fabsf(packed_value(packed, n, i) - x[i]);
			if (most < INFINITY ? !(error <= most / 253) : !isnan(error)) {
				check_fail(c, "element %zu of %zu: %g packed as %g", i, n, (double)x[i],
					(double)packed_value(packed, n, i));
			}
		}
	}
}

CHECK(state_unpack) {
	for (size_t s = 0; s < (check_is_bench(c) ? 1 : COUNT(state_sizes)); s++) {
		const size_t n = state_size(c, s), n_blocks = (n + BB_STATE_BLOCK - 1) / BB_STATE_BLOCK;
		uint8_t *packed = check_in_bytes(c, state_packed_bytes(n), 64);
		float *scales = (float *)(void *)(packed + n_blocks * BB_STATE_BLOCK);
		for (size_t b = 0; b < n_blocks; b++) {
			scales[b] = check_rand(c, 0, 99) == 0 ? NAN : fabsf(check_normal(c));
		}
		float *x = check_out(c, "x", n, (struct tol){ 0 });
		while (check_next(c, 4.0 * n + 36.0 * n / BB_STATE_BLOCK, "n=%zu", n)) {
			fn(check_queue(c), x, packed, n);
		}
	}
}
