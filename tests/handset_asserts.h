/* SPDX-License-Identifier: Apache-2.0
 *
 * The harness of hand-set models under criterion: what goes wrong ends the test with a sentence. */
#ifndef TESTS_HANDSET_ASSERTS_H
#define TESTS_HANDSET_ASSERTS_H

#include "handset_harness.h"
#include "models.h"

/* A model and an engine for it; of params n_threads is 1. */
struct hand_case {
	struct hand_spec spec;
	struct bb_engine_params params;
};

static inline void open_case(struct hand_model *m, const struct hand_case *c) {
	struct bb_engine_params params = c->params;
	struct bb_error err = { 0 };
	params.n_threads = 1;
	cr_assert(hand_write(m, &c->spec, &err) && hand_load(m, &params, &err), "%s: %s",
		c->spec.kind, err.text);
}

/* Reads ids[n] in steps of `chunk`; every row that is defined must be right. Returns how many. */
static inline int expect_rows(struct hand_model *m, struct bb_context *c, const int32_t *ids, int n,
	int chunk) {
	const int n_defined = hand_play(m, c, ids, n, chunk, NULL);
	cr_assert_geq(n_defined, 0, "%s", m->failure);
	return n_defined;
}

/* The model on its own, from the token `next` on. Returns how many tokens it wrote. */
static inline int expect_written(struct hand_model *m, struct bb_context *c, int32_t next, int n,
	int eos) {
	const int n_written = hand_generate(m, c, next, n, eos, NULL);
	cr_assert_geq(n_written, 0, "%s", m->failure);
	return n_written;
}

static inline void expect_row(struct hand_model *m, const float *row, int at, int32_t id,
	int32_t want) {
	const struct hand_place place = { at, id, want, NULL };
	cr_assert(want < 0 || hand_is_right(m, row, &place, ""), "%s", m->failure);
}

#endif
