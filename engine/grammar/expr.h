/* SPDX-License-Identifier: Apache-2.0
 *
 * Regular expressions over bytes, which are states of their own automaton: the state behind a byte
 * is the expression's derivative (Brzozowski, 1964; Owens, Reppy and Turon, 2009). Equal
 * expressions are one number, so that states are found again, and they are made when somebody goes
 * there: a bounded repeat costs what of it is visited. */
#ifndef EXPR_H
#define EXPR_H

#include "../base.h"

enum {
	EXPR_NONE, /* no text */
	EXPR_EMPTY, /* the empty text */
	EXPR_HORIZON = 32, /* bytes; see expr_clip */
	EXPR_WORK = 1 << 24, /* pieces at a time: a second or two; common masks take a thousandth */
	EXPR_MARK = 1 << 30, /* beyond any bound that a source may have; see counts.c */
};

enum expr_op { EXPR_OP_NONE, EXPR_OP_EMPTY, EXPR_OP_SET, EXPR_OP_SEQ, EXPR_OP_OR, EXPR_OP_AND,
	EXPR_OP_NOT, EXPR_OP_REPEAT };

enum {
	EXPR_NULLABLE = 1,  /* the empty text is one of it */
	EXPR_TRICKY = 2,    /* AND or NOT inside: may have no text without looking like it */
	EXPR_COUNTS = 4,    /* a bound of a repeat is beyond the horizon */
	EXPR_LIVE = 8, EXPR_DEAD = 16, /* of tricky ones, where known: has it any text */
	EXPR_SEEN = 32,     /* by a search that goes on */
	EXPR_BOUNDED = 64,  /* a repeat with a bound, but not inside another */
	EXPR_MARKED = 128,  /* ... whose end is beyond EXPR_MARK */
	EXPR_PASSED_ON = EXPR_TRICKY | EXPR_COUNTS | EXPR_BOUNDED | EXPR_MARKED, /* to what it's in */
};

struct expr {
	uint8_t op, flags;
	int32_t min, max; /* of REPEAT; max -1: no bound */
	uint32_t a, b;    /* SET: a is which set; b only of SEQ, OR and AND */
	uint32_t clipped; /* 0: not asked yet */
	uint32_t row;     /* 1 + which row of transitions, 0: none yet */
	/* heads.c's: 1 + which mask, exact and within the horizon; of one with marks, the second is
	 * 1 + which family. 0: none yet */
	uint32_t heads[2];
};

struct byte_set {
	uint64_t bits[4];
};

struct exprs {
	struct expr *all;      /* [n] */
	uint32_t n, cap;
	uint32_t *slots;       /* [mask + 1]: 1 + an expression, 0: free */
	uint32_t mask;
	struct byte_set *sets; /* [n_sets] */
	uint32_t n_sets, cap_sets;
	/* Bytes that no set tells apart are one class. */
	bool has_classes;
	uint8_t class_of[256], byte_of[256];
	int n_classes;
	uint8_t search_order[256]; /* [n_classes]: those first that lately led to the end of a text */
	uint32_t *rows;        /* [n_rows, n_classes]: 1 + where a byte leads, 0: not asked yet */
	uint32_t n_rows, cap_rows;
	uint32_t max_states;
	/* What was done since exprs_begin: states derived, elements joined, eighths of nodes walked.
	 * Beyond the limit is trouble. */
	uint64_t work, max_work;
	struct bb_error trouble; /* the first thing that went wrong; results can't be used then */
};

bool exprs_init(struct exprs *x, struct bb_error *err);
void exprs_finish(struct exprs *x); /* zeroed is fine */
size_t exprs_bytes(const struct exprs *x); /* that they take */

/* From here on at most EXPR_WORK pieces; what compiles has more from the start. */
void exprs_begin(struct exprs *x);
/* Counts n more pieces of work; false after trouble. */
bool exprs_work_over(struct exprs *x);
static inline bool exprs_work(struct exprs *x, size_t n) {
	x->work += n;
	return x->work <= x->max_work ? x->trouble.code == BB_OK : exprs_work_over(x);
}

/* Makes a growing array of n elements, of so many bytes each, have room for one more; false:
 * trouble. For all that works on expressions. */
bool exprs_room(struct exprs *x, void **array, uint32_t n, uint32_t *cap, size_t bytes);

/* All give EXPR_NONE after trouble. */
uint32_t expr_set(struct exprs *x, const struct byte_set *set);
uint32_t expr_range(struct exprs *x, int first, int last); /* one byte */
uint32_t expr_text(struct exprs *x, const char *text, size_t bytes);
uint32_t expr_seq(struct exprs *x, uint32_t a, uint32_t b);
uint32_t expr_or(struct exprs *x, uint32_t a, uint32_t b);
uint32_t expr_and(struct exprs *x, uint32_t a, uint32_t b);
uint32_t expr_not(struct exprs *x, uint32_t a);
uint32_t expr_repeat(struct exprs *x, uint32_t a, int min, int max);
/* Any of n texts, in any order, some maybe twice. The array is sorted. */
struct expr_text {
	const char *data;
	size_t bytes;
};
uint32_t expr_texts(struct exprs *x, struct expr_text *texts, size_t n);

/* Behind one byte of a class; EXPR_NONE where nothing can follow. After classes were made. */
uint32_t expr_step(struct exprs *x, uint32_t a, int class);
/* The same where nobody asks whether an intersection has any text: that may not be EXPR_NONE. */
uint32_t expr_step_any(struct exprs *x, uint32_t a, int class);
/* The partition of bytes by the sets so far; more sets may not come behind. */
void exprs_make_classes(struct exprs *x);
static inline bool expr_is_nullable(const struct exprs *x, uint32_t a) {
	return (x->all[a].flags & EXPR_NULLABLE) != 0;
}
/* Has it any text? */
bool expr_is_live(struct exprs *x, uint32_t a);
bool expr_matches(struct exprs *x, uint32_t a, const char *text, size_t bytes);
/* An expression which for texts of up to EXPR_HORIZON bytes has the same beginnings, with bounds
 * beyond that moved there: states with far bounds become one. */
uint32_t expr_clip(struct exprs *x, uint32_t a);

#endif
