/* SPDX-License-Identifier: Apache-2.0
 *
 * Between check.c, which plays a body, and checkkernels.c, which says what is played and
 * reports. */
#ifndef CHECK_HARNESS_H
#define CHECK_HARNESS_H

#include "check.h"
#include "device.h"

#include <setjmp.h>

enum place { AT_END, AT_START }; /* which side of a buffer touches a guard page */

enum buffer_kind { BUFFER_IN, BUFFER_OUT, BUFFER_INOUT, BUFFER_SCRATCH };

struct buffer {
	const char *name;
	enum buffer_kind kind;
	bool is_float;
	struct tol tol;
	uint8_t *map;      /* [map_bytes], guard page first and last */
	size_t map_bytes;
	uint8_t *data;     /* [bytes] */
	size_t bytes;
	uint8_t *initial;  /* [bytes] contents at the start of the loop; BUFFER_INOUT only */
	bool is_past;      /* of the case before */
	bool is_both;      /* both_alloc of the device gave map */
};

/* One output of one case. */
struct record {
	char label[128];
	const char *name;
	uint8_t *data; /* [bytes] */
	size_t bytes;
};

struct records {
	struct record *items; /* [n] */
	size_t n, capacity;
};

struct sample {
	char label[128];
	double seconds, spread; /* median of a run; interquartile range / median */
	double bytes, ops;
	int n_runs;
};

struct samples {
	struct sample *items; /* [n] */
	size_t n, capacity;
};

typedef void body_fn(struct check *c, void (*fn)(void));

/* One play of one body by one variant. */
struct check {
	/* set by the caller */
	body_fn *body;
	const struct bb_variant *variant;
	bb_queue *queue;
	const struct device *device;     /* NULL: the CPU */
	uint64_t seed;
	enum place place;
	const struct records *want;      /* of the reference, compared within tolerance; or NULL */
	const struct records *want_bits; /* of this variant's first play, compared by bits; or NULL */
	bool is_bench, is_small, is_least;
	int max_cases;                   /* the play ends after so many; 0: with the body */

	/* results */
	struct records records;
	struct samples samples;
	int n_cases, n_failures;
	int n_rows, n_other_rows;        /* that check_same_row saw, and that differed */
	char failure[512];               /* the first one */
	double worst;                    /* largest error as a share of its tolerance */

	/* while playing */
	uint64_t numbers, garbage;       /* states of the two random sequences */
	char label[128];
	struct buffer *buffers;          /* [n_buffers] */
	size_t n_buffers, buffers_capacity;
	bool is_in_loop;
	double ops;
	double *times;                   /* [n_times] of the case */
	int n_times, n_warm;             /* n_warm: runs before those that count */
	void *flushed;                   /* [FLUSH_BYTES] of a GPU, written between runs; or NULL */
	double started, budget;
	sigjmp_buf crashed;
};

/* Plays once; a crash in the caller's thread becomes a failure. */
void check_play(struct check *c);
void check_finish(struct check *c);
/* Called once, before the first play. on_fatal is called after a crash in another thread than the
 * caller's, with the message, and has to end the program. */
void check_catch_signals(void (*on_fatal)(const char *message));
double check_seconds(void);

#endif
