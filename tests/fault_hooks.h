/* SPDX-License-Identifier: Apache-2.0
 *
 * Faults made on purpose, without a hook in what is tested: an engine's table of kernels is made to
 * point to ones that go wrong in one way, the state of a context is changed between two steps, or
 * the model's file is written with something else in it. */
#ifndef TESTS_FAULT_HOOKS_H
#define TESTS_FAULT_HOOKS_H

#include "engine.h"
#include "handset_harness.h"

enum fault_kind {
	FAULT_NONE,
	/* What attention sees; sequence 0 of a step is the victim, from row `at` on. */
	FAULT_OWN_LOOP,       /* nothing is wrong, but this file's attention computes */
	FAULT_NEWEST_LOST,    /* token at - 1 isn't seen */
	FAULT_OLDEST_LOST,    /* of all tokens the older half isn't */
	FAULT_LAST_TWICE,     /* token at - 1 counts twice */
	FAULT_OTHERS_VALUE,   /* V of token at - 1 is sequence 1's */
	FAULT_SLOT_TOO_MANY,  /* a slot behind the last one, of zeros, is seen */
	FAULT_SEES_NEXT,      /* each row sees one row ahead, if the step has it */
	FAULT_OTHERS_PAGE,    /* the page of token at - 1 is sequence 1's */
	FAULT_PAGE_TWICE,     /* page 1 is page 0 */
	FAULT_WINDOW,         /* of `amount` tokens, 0: none, whatever the model says */
	FAULT_SCALE,          /* scores times `amount` */
	/* Rotary embedding. */
	FAULT_POSITION_RESET, /* positions begin anew at token `at` of sequence 0 */
	FAULT_POSITION_MOVED, /* by `amount` from token `at` on */
	FAULT_NO_ROPE,
	FAULT_PAIRS,          /* neighbours are turned instead of halves */
	FAULT_ANGLES_BF16,
	FAULT_FREQ_BASE,      /* 10000 becomes `amount` */
	FAULT_FREQ_SCALE,     /* frequencies times `amount` */
	/* States, before token `at` is read. */
	FAULT_STATE_LOST,     /* layer `amount` */
	FAULT_STATE_OTHERS,   /* layer `amount` has sequence 1's */
	FAULT_CONV_LOST,      /* the last tokens of every convolution */
	FAULT_SHIFT_LOST,     /* the last row of every token shift */
	FAULT_STATE_BF16,     /* rounded once */
	FAULT_STATE_FLUSHED,  /* subnormal numbers become 0 behind every step */
	FAULT_READ_TWICE,     /* token at - 1 is read once more: who plays does it */
	/* The file. */
	FAULT_EPSILON,        /* `amount` */
	FAULT_ROPE_HALF,      /* rope.dimension_count is halved */
	FAULT_GATE_UP,        /* tensors change places */
	FAULT_HEADS_SWAPPED,  /* V of heads 0 and 1 */
	FAULT_HEADS_SHARED,   /* head 1 has the V of head 0 */
	FAULT_ROWS_INT8,      /* each row of each matrix is rounded to int8 with one scale */
	FAULT_RATES_END,      /* iclr_scale 1 */
};

struct fault {
	enum fault_kind kind;
	int at;
	double amount;
};

/* Writes the fault into a model's file, before it is opened. Other faults leave it alone. */
bool fault_write(const struct hand_model *m, const struct fault *f, struct bb_error *err);
/* Steps of e, which is on the CPU, go wrong from now on; one engine at a time. e->kernels is the
 * engine's own, so closing it ends it. */
void fault_install(struct bb_engine *e, const struct fault *f);
/* Between two steps: the victim has n tokens now and `other` as many. */
void fault_between(struct bb_context *victim, const struct bb_context *other,
	const struct fault *f);

#endif
