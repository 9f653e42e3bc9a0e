/* SPDX-License-Identifier: Apache-2.0
 *
 * Sequences and states for checks of recurrent kernels. */
#include "check_states.h"

#include <string.h>

static int rows_of_seq(struct check *c, int i) {
	if (check_is_bench(c)) {
		return i == 0 ? 512 : 1;
	}
	return check_is_small(c) ? check_rand(c, 1, 11) : check_rand(c, 1, 40);
}

void make_scene(struct check *c, struct scene *s, size_t floats, int n_seqs, int n_rows,
	struct tol tol) {
	s->n_seqs = n_seqs;
	s->state_at = check_is_bench(c) ? 0 : BB_STATE_ALIGN * (size_t)check_rand(c, 0, 3);
	s->total = s->state_at + floats + (check_is_bench(c) ? 0 : (size_t)check_rand(c, 0, 50));
	s->total = (s->total + BB_STATE_ALIGN - 1) / BB_STATE_ALIGN * BB_STATE_ALIGN;
	s->seqs = check_scratch(c, sizeof(*s->seqs) * (size_t)n_seqs, 8);
	s->start = check_in(c, s->total * (size_t)n_seqs);
	float *to = check_inout(c, "state", s->total * (size_t)n_seqs, tol);
	float *kept = check_inout(c, "kept state", s->total * (size_t)n_seqs, tol);
	struct bb_state_save *saves = check_scratch(c, sizeof(*saves) * (size_t)n_seqs, 8);
	s->n_rows = 0;
	for (int i = 0; i < n_seqs; i++) {
		const int kind = check_is_bench(c) ? 2 : check_rand(c, 0, 2);
		const int n = n_rows > 0 ? n_rows : rows_of_seq(c, i);
		float *mine = to + s->total * (size_t)i;
		s->is_empty[i] = kind == 0;
		memcpy(mine, s->start + s->total * (size_t)i, sizeof(float) * s->total);
		saves[i] = (struct bb_state_save){ check_rand(c, 1, n), kept + s->total * (size_t)i };
		s->seqs[i] = (struct bb_state_seq){
			.from = kind == 0 ? NULL : kind == 1 ? s->start + s->total * (size_t)i : mine,
			.to = mine, .saves = &saves[i], .n_saves = saves[i].n_rows < n && n_rows == 0,
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
	}
}

int n_cases(struct check *c) {
	return check_is_bench(c) ? 2 : check_is_small(c) ? 6 : 24;
}
