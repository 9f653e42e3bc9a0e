/* SPDX-License-Identifier: Apache-2.0
 *
 * States as checkpoints keep them in int8. Op by op: what an op says may be rounded, then the rest
 * of its part as it is. */
#include "engine.h"

typedef void visit_fn(const struct bb_engine *e, const struct plan_op *o, uint8_t *packed,
	float *state);

/* Bytes of an op's part: each begins at a multiple of 64. */
static size_t part_bytes(const struct plan_op *o) {
	const size_t exact = (o->state_floats - o->state_rounds) * sizeof(float);
	return state_packed_bytes(o->state_rounds) + (exact + 63) / 64 * 64;
}

/* Returns the bytes of all parts; `visit` may be NULL. */
static size_t walk(const struct bb_engine *e, visit_fn *visit, uint8_t *packed, float *state) {
	size_t at = 0;
	for (int i = 0; i < e->plan.n_layers; i++) {
		const struct plan_ops *list = &e->plan.layers[i];
		for (int j = 0; j < list->n; j++) {
			const struct plan_op *o = &list->ops[j];
			if (o->state_floats > 0 && visit != NULL) {
				visit(e, o, packed + at, state + o->state_at);
			}
			at += o->state_floats > 0 ? part_bytes(o) : 0;
		}
	}
	return at;
}

size_t engine_packed_state_bytes(const struct bb_engine *e) {
	return walk(e, NULL, NULL, NULL);
}

static void pack_part(const struct bb_engine *e, const struct plan_op *o, uint8_t *packed,
	float *state) {
	const size_t n = o->state_rounds;
	if (n > 0) {
		e->kernels.state_pack(e->memory.queue, packed, state, n);
	}
	if (n < o->state_floats) {
		memory_copy(&e->memory, packed + state_packed_bytes(n), state + n,
			(o->state_floats - n) * sizeof(float));
	}
}

static void unpack_part(const struct bb_engine *e, const struct plan_op *o, uint8_t *packed,
	float *state) {
	const size_t n = o->state_rounds;
	if (n > 0) {
		e->kernels.state_unpack(e->memory.queue, state, packed, n);
	}
	if (n < o->state_floats) {
		memory_copy(&e->memory, state + n, packed + state_packed_bytes(n),
			(o->state_floats - n) * sizeof(float));
	}
}

void engine_pack_state(const struct bb_engine *e, struct state *packed, struct state *s) {
	walk(e, pack_part, (uint8_t *)packed->data, s->data);
}

void engine_unpack_state(const struct bb_engine *e, struct state *s, struct state *packed) {
	walk(e, unpack_part, (uint8_t *)packed->data, s->data);
}
