/* SPDX-License-Identifier: Apache-2.0
 *
 * What checks of recurrent kernels share: sequences alone and among others, in one step and in two,
 * with states that begin empty, lie elsewhere or are written in place, and with states kept on the
 * way. */
#ifndef CHECK_STATES_H
#define CHECK_STATES_H

#include "check.h"

enum { MAX_SEQS = 3 };

/* Sequences and their states. Parts before and behind the layer's are there to be left alone. */
struct scene {
	struct bb_state_seq *seqs; /* [n_seqs] */
	int n_seqs, n_rows;
	size_t state_at, floats, total; /* floats: where the layer's part begins, of it, of a state */
	float *start;              /* [n_seqs, total] */
	bool is_empty[MAX_SEQS];
};

/* n_rows > 0: of every sequence, which keeps no state on the way then. */
void make_scene(struct check *c, struct scene *s, size_t floats, int n_seqs, int n_rows,
	struct tol tol);

/* The same again, sequence by sequence in two steps, with no state kept on the way: `run` computes
 * seqs with rows as they are numbered there, into y. */
typedef void run_fn(struct check *c, void *args, const struct bb_state_seq *seqs, float *y);
void run_again(struct check *c, const struct scene *s, run_fn *run, void *args, const float *y,
	int ld_y, int n_cols);
int n_cases(struct check *c);

/* What run_again runs: the case's call of a kernel, with these sequences and this y. */
#define RUN(name) \
	struct name##_run { \
		name##_fn *fn; \
		struct bb_##name a; \
	}; \
	static void run_##name(struct check *c, void *args, const struct bb_state_seq *seqs, \
			float *y) { \
		const struct name##_run *r = args; \
		struct bb_##name a = r->a; \
		a.y = y; \
		a.seqs = seqs; \
		a.n_seqs = 1; \
		r->fn(check_queue(c), &a); \
	}

#endif
