/* SPDX-License-Identifier: Apache-2.0
 *
 * How much thought one request gets: what its branches have said so far, cut into thinking and
 * answer, and the policies that decide on it. Knows no scheduler: what a policy wishes is carried
 * out by decide.c. */
#ifndef EFFORT_H
#define EFFORT_H

#include "ballot.h"
#include "certaindex.h"
#include "confidence.h"
#include "generate.h"
#include "marks.h"
#include "worth.h"

enum effort_phase { EFFORT_BEFORE, EFFORT_THINKING, EFFORT_ANSWER };

/* What is known of one branch. */
struct effort_branch {
	struct effort *effort;
	int index;
	bool has_begun;             /* it draws, or did */
	enum bb_finish finish;      /* NONE: it hasn't ended */
	enum effort_phase phase;
	struct mark_place place;    /* in the begin, then in the end */
	int n_output;               /* tokens given out */
	int first_thinking;         /* of them, the first one behind the begin */
	int n_thinking;             /* without those at the tail that the end may begin with */
	int n_cot_steps, i_cot_step; /* that have thinking, or, where that isn't told apart, all; the
	                             * last one of them, or -1 */
	int n_cot_tail;             /* those that only tokens of that tail have */
	int max_thinking;           /* -1: no budget */
	int to_come;                /* the budget that was asked for before it began, or -1 */
	int min_thinking, n_extended, max_extended;
	bool is_closing;            /* what closes it is being written, or was: that isn't thinking */
	bool may_pause;             /* the last token ended a sentence or a line */
	double logprob, confidence, certainty; /* sums over its tokens */
	struct confidence group;    /* of its last tokens */
	struct bb_text answer;      /* what isn't thinking: behind it, or before it where none came */
	struct certaindex probes;   /* what they said */
	int n_probed;               /* in how many times probe_every thinking tokens */
	double last, pace;          /* when the last token came; seconds a token takes */
};

/* What an elastic request sees of others, as it was before this step. */
struct effort_market {
	double price;               /* of a unit of compute */
	double row_cost;            /* units that one of its tokens takes */
	double weight;              /* what its value counts for */
	double answer_tokens;       /* that an answer has, on average */
	struct worth_curve *curve;  /* what thoughts of all requests were worth */
};

/* Of a request. */
struct effort {
	const struct bb_engine *engine;
	struct bb_effort params;    /* with copies of all that it points to, and defaults filled in */
	int n, n_begun;             /* branches; those that begin with the prompt, or did later */
	struct effort_branch *branches; /* [n] */
	struct ballot ballot;       /* their answers */
	struct bb_tokens probe;     /* what a probe is asked */
	struct mark begin, end;     /* in the bytes of effort_piece */
	char *closing;              /* the same */
	size_t end_at;              /* where the end begins in it */
	int n_closing;              /* its tokens */
	int32_t end_token;          /* with which the end begins, or -1 */
	struct bb_tokens extension; /* none: the vocabulary has none, and the caller gave none */
	struct effort_market market; /* where params.is_elastic */
	bool is_wanted[16];         /* by policy */
	double answer_by;           /* on the scheduler's clock */
};

/* What a policy wants. Zeroed = nothing. */
struct effort_wish {
	bool close;                 /* the end of the branch's thinking is written */
	bool extend;                /* drawn: the extension is written in place of the token; token:
	                             * behind it, where that completed the end */
	bool drop;                  /* the branch ends */
	bool probe;                 /* it is asked for its answer, and waits meanwhile */
	bool finish;                /* no further branches, and those that run end */
	int n_start;                /* so many further branches begin */
	double value, bar;          /* of the decision, with `why` */
	char why[96];
};

/* One file each. Hooks may be NULL; they see what is known and say what they wish. What isn't
 * load-dependent depends on the request's own tokens alone. */
struct effort_policy {
	const char *name;
	bool is_load_dependent;
	bool (*is_wanted)(const struct bb_effort *p);
	/* Of what was asked for; n branches of max_tokens, -1: to the end of the context. */
	bool (*check)(const struct bb_effort *p, int n, int max_tokens, struct bb_error *err);
	/* Of n branches how many begin at once; others by n_start. NULL: all. */
	int (*first)(const struct effort *f);
	/* Before a token that was drawn is given out: extend. */
	void (*drawn)(struct effort_branch *b, int32_t id, struct effort_wish *wish);
	/* Before the first token and behind each: all but extend, which is for the one token that
	 * completed the end: `ends` says so, and that the thinking hasn't ended yet. */
	void (*token)(struct effort_branch *b, bool ends, struct effort_wish *wish);
	/* As token, again, when a budget has been changed behind it. */
	void (*changed)(struct effort_branch *b, struct effort_wish *wish);
	/* Before each step, and before the first token: close, drop, finish, n_start. May be asked more
	 * than once at a token. */
	void (*clock)(struct effort_branch *b, double now, struct effort_wish *wish);
	/* What makes the end of thinking likelier: added to the logit of its first token. */
	double (*lean)(const struct effort_branch *b);
	/* A branch has ended by itself, or was dropped, and votes are counted: finish, n_start. Of
	 * several policies that want others to begin the one with the fewest has its way. */
	void (*ended)(struct effort_branch *b, struct effort_wish *wish);
	/* What a probe said, text [bytes] with a NUL: close. BB_ERR_MEMORY. */
	bool (*probed)(struct effort_branch *b, const char *text, size_t bytes,
		struct effort_wish *wish, struct bb_error *err);
	/* All have ended: which branch is given as the rank-th answer, from 0 on, until there is none.
	 * NULL: all that weren't dropped, in their order, without a decision. */
	bool (*choose)(struct effort *f, int rank, int *branch, struct effort_wish *wish);
};
extern const struct effort_policy *const effort_policies[]; /* NULL-terminated, in their order */
const struct effort_policy *effort_policy_find(const char *name); /* or NULL */
/* The policy of decisions that were asked for while the request ran; it has no file. */
extern const char effort_control[]; /* "control" */

bool effort_create(struct effort **out, const struct bb_engine *e, const struct bb_effort *params,
	int n, struct bb_error *err);
void effort_destroy(struct effort *f);
int effort_n_first(const struct effort *f);

/* The bytes of a token in which marks are looked for: of a control token its text, without a
 * vocabulary "<17>". */
struct gguf_string effort_piece(const struct bb_engine *e, int32_t id, char room[16]);
/* Thinking is told apart. */
bool effort_has_thinking(const struct effort *f);
bool effort_is_thinking(const struct effort_branch *b);
/* It may yet think: it's before its thinking, or in it and nothing is closing it. */
bool effort_may_think(const struct effort_branch *b);
/* Tokens that count against a budget: those of thinking, and those that may be its end's. */
int effort_n_spent(const struct effort_branch *b);
/* An end that came now would be put off. */
bool effort_may_extend(const struct effort_branch *b);
/* Asked for while it runs: n more tokens of thinking at least, or n at most. */
void effort_change(struct effort_branch *b, bool extends, int n);
/* Whether this token alone is the end of thinking. */
bool effort_is_end(const struct effort_branch *b, int32_t id);

/* The branch has given out one more token, and its generation has cut it into CoT steps. *ends: it
 * completes the end of the thinking, which goes on until effort_end. */
bool effort_follow(struct effort_branch *b, const struct bb_sampled *token, const struct cot *cot,
	double now, bool *ends, struct bb_error *err);
void effort_end(struct effort_branch *b); /* of thinking */
void effort_go_on(struct effort_branch *b); /* the end that was completed is none */
/* Appends the tokens to write so that thinking ends, behind what there is of the end already. */
bool effort_closing(const struct effort_branch *b, struct bb_tokens *out, struct bb_error *err);
/* It has ended: what the end may begin with at its tail was thinking. */
void effort_finish(struct effort_branch *b, enum bb_finish finish);

#endif
