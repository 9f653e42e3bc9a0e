/* SPDX-License-Identifier: Apache-2.0
 *
 * Effort: how much thought a request gets. The part of bobbin.h, which includes it, that says how
 * long a request may and must think, how many answers it draws, when it stops drawing, and which
 * one it gives. Policies decide at single tokens; each decision is told, with its reason. */
#ifndef BOBBIN_EFFORT_H
#define BOBBIN_EFFORT_H

#include "bobbin.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Where an answer's thinking begins and ends, as texts of what is generated. Thinking tokens are
 * those behind the begin and before the first one of the end, but for what is written to close it.
 * Where the end is no single token it is looked for in the text, across tokens. */
struct bb_thinking {
	bool starts_inside;      /* the prompt has begun it, or there is no begin: the answer begins in
	                          * it */
	const char *begin, *end; /* "<think>", "</think>", or any text that a model was asked to write
	                          * before its answer, as "Final answer:". end NULL: no thinking is told
	                          * apart */
	const char *closing;     /* what is written to end it, with the end in it; NULL: end with a
	                          * line's end before it and two behind it. Of an end that has begun
	                          * already the rest is written */
	const char *extension;   /* what is written in place of an end that comes too early; NULL:
	                          * "Wait" */
};

/* How the answers of a request become those that it gives. */
enum bb_choice {
	BB_CHOICE_ALL,       /* all n, as they were drawn */
	BB_CHOICE_CERTAINTY, /* those with the highest self-certainty, KL(uniform || p) averaged over
	                      * tokens (arXiv:2502.18581), of those with an answer where any has one */
	BB_CHOICE_VOTE,      /* the first one of the answer that most have, equals by first come */
	BB_CHOICE_WEIGHTED,  /* the same, each vote weighing its lowest group confidence
	                      * (arXiv:2508.15260) */
};

/* Zeroed = no policy: a request that draws its n answers and gives them all. Each part is a policy
 * of its own (engine/effort/), and all can be combined, but for what bb_effort_check refuses. */
struct bb_effort {
	struct bb_thinking thinking;

	/* budget: at most so many thinking tokens. From soft_from of them on (a share; 0: 0.8; 1:
	 * never) the end becomes likelier where a sentence or line has ended; at max_thinking what
	 * closes it is written. */
	bool has_budget;
	int max_thinking; /* >= 0 */
	double soft_from;
	/* minimum: before so many an end of thinking, or of the text in it, is replaced by the
	 * extension, at most max_extensions times (0: 8) (arXiv:2501.19393). Behind an end of several
	 * tokens it is written instead. */
	int min_thinking, max_extensions;
	/* deadline, load-dependent: thinking is closed when what is left of the time is what the answer
	 * needs at the present pace, answer_tokens of it (0: 64) and a quarter more, so that it comes
	 * before then; not beyond the request's deadline_ms. 0: none */
	double answer_by_ms;
	int answer_tokens;

	/* What the answer is, for votes and probes: a regular expression (PCRE2; ^ and $ are ends of
	 * lines) of which the last match in the last 16 KiB behind the thinking counts, its first group
	 * that took part or all of it; "number", "boxed" (\boxed{...}), "choice" (a letter A to J) and
	 * "line" (the last line) are known by these names. Answers are compared without case, blanks at
	 * their ends, separators and needless zeros of numbers. What matches nowhere, or takes too long
	 * to match, has no vote; where nobody has one the first answer that came to its own end is
	 * given. NULL: none */
	const char *answer_pattern;
	enum bb_choice choice;
	int n_given;      /* of BB_CHOICE_CERTAINTY: how many, the best first; 0: 1 */
	/* consensus: answers are drawn only until the vote is settled: the probability that the leading
	 * answer has the majority of two, by the Beta rule (arXiv:2305.11860), is this or more. As many
	 * are drawn at once as it takes at least, the next ones when all of those have ended. 0: all */
	double consensus; /* (0.5, 1), or 0 */
	/* deepconf: behind the first n_warmup answers (0: none of this) one is dropped as soon as its
	 * group confidence, of `group` tokens (0: 2048), falls below what `keep` of them stayed above
	 * (0: 0.9; 0.1 is strict); of the first ones those that did have no vote. n_warmup are drawn at
	 * once, until the leading answer has conf_share of all weights (0: 0.95). With consensus too no
	 * more are drawn at once than either asks for, and either stops it. */
	int n_warmup, group;
	double keep, conf_share;
	/* probe (Certaindex, arXiv:2412.20993): every probe_every thinking tokens a fork is asked for
	 * its answer by probe_text and at most probe_tokens more (0: 20); after probe_stable equal ones
	 * in a row (0: 3), none of which doubts, thinking is closed. Forks leave nothing behind. 0: no
	 * probes */
	int probe_every, probe_tokens, probe_stable;
	const char *probe_text; /* NULL: one that fits the answer pattern's kind */
	/* allot: the request takes from the scheduler's compute budget what is worth it (see
	 * compute_budget there): further answers, and thinking beyond min_thinking. */
	bool is_elastic;

	/* Decisions of the same request from before: load-dependent policies and controls decide
	 * nothing by themselves then, these are done instead, which gives the same bits. */
	bool replays;
	const struct bb_decision *replay; /* [n_replay], by token */
	int n_replay;
};

enum bb_decision_kind {
	BB_DECISION_CLOSE,  /* the end of thinking is written */
	BB_DECISION_EXTEND, /* an end is replaced by the extension */
	BB_DECISION_BUDGET, /* max_thinking is `value` from now on */
	BB_DECISION_START,  /* a further branch begins */
	BB_DECISION_DROP,   /* the branch ends, and takes no part in the choice */
	BB_DECISION_PROBE,  /* a probe of the branch was read */
	BB_DECISION_FINISH, /* no further branches; those that run are dropped */
	BB_DECISION_CHOOSE, /* the branch is given as an answer */
};
/* "close", "extend", ... */
const char *bb_decision_name(enum bb_decision_kind kind);
bool bb_decision_parse(const char *name, enum bb_decision_kind *out);

struct bb_decision {
	enum bb_decision_kind kind;
	int branch;           /* -1: the request as a whole */
	int token;            /* of the branch's output: what it has when this takes effect */
	const char *policy;   /* "budget", "consensus", ...; "control": asked for while it ran */
	bool is_load_dependent;
	double value, bar;    /* what was compared with what: tokens, probabilities, confidences */
	char why[96];         /* in words */
};

/* BB_ERR_USAGE for what is out of range or contradicts itself, BB_ERR_INPUT for a pattern that is
 * none. n: branches of the request; max_tokens as a generation has it. */
bool bb_effort_check(const struct bb_engine *e, const struct bb_effort *effort, int n,
	int max_tokens, struct bb_error *err);
/* Levels of effort as users know them: "none", "minimal", "low", "medium", "high", "xhigh", "max".
 * Sets has_budget and max_thinking: 0, 128, 512, 2048, 8192, 32768 and none, each at most what is
 * left of `room` tokens of the context when a quarter of it, up to 1024, is kept for the answer.
 * False: there is no such level. */
bool bb_effort_level(struct bb_effort *effort, const char *level, int room);
const char *bb_effort_level_names(void); /* joined by commas */

/* What a caller may have done to a request that runs. */
enum bb_control_kind {
	BB_CONTROL_CLOSE,  /* thinking ends now */
	BB_CONTROL_BUDGET, /* max_thinking is n_tokens from now on: more or less than it was */
	BB_CONTROL_EXTEND, /* n_tokens more at least */
	BB_CONTROL_DROP,   /* the branch ends */
	BB_CONTROL_FINISH, /* of several answers no more are begun or gone on with */
};
struct bb_control {
	enum bb_control_kind kind;
	int branch; /* -1: all that have begun; a budget is that of those to come, too */
	int n_tokens;
};
/* From any thread, before the release. It takes effect in the next step, and is told as a decision
 * there; while the prompt is read it waits for the first token. BB_ERR_USAGE: there is no such
 * branch, it hasn't begun, has ended or thinks no more, the number is out of range, it's the last
 * one that could be dropped, or there is no whole answer to finish with, or the request replays.
 * BB_ERR_BUSY: 16 wait for the next step already. */
bool bb_request_control(struct bb_request *r, const struct bb_control *control,
	struct bb_error *err);

/* A branch of a request that hasn't ended, for a live view. */
struct bb_branch_info {
	int index;
	bool is_live, is_thinking;
	int n_output, n_thinking, n_cot_steps;
	int max_thinking;     /* -1: no budget */
	double mean_logprob, confidence; /* of its tokens; of its last group */
	enum bb_finish finish;
};
/* The first `most` branches; how many there are. From any thread, before the release. */
int bb_request_branches(struct bb_request *r, struct bb_branch_info *out, int most);
/* Of a request that has ended, from its last event to its release: a branch's answer as votes
 * compare it, and what its vote weighed. NULL: it has none, or nothing counted them. */
const char *bb_request_answer(const struct bb_request *r, int branch, double *weight);

/* ---- speculation ---- */

/* Guesses at what comes next are computed in the same step as the token that is sure; what is drawn
 * says which were right. How many is decided step by step, by how often those of a kind were right
 * and what a row more was measured to cost. Answers are the same, bit by bit. */
struct bb_speculation { /* zeroed = defaults */
	bool is_off;
	unsigned sources;        /* bits 1 << enum bb_spec_source; 0: all that there are */
	struct bb_engine *draft; /* a smaller model of the same vocabulary, the scheduler's alone while
	                          * it lives; NULL: none */
	int max_drafts;          /* of a branch in a step, 1 to 64; 0: 16 */
	int min_match;           /* tokens that have to agree before a guess; 0: 2 */
	int max_match;           /* that are compared, at most 64; 0: 64 */
	size_t history_bytes;    /* of what was written before, of all salts; 0: 32 MiB */
	bool is_fixed;           /* as many as may be, whatever they cost: for tests and benchmarks */
};
/* "ngram", "suffix", "draft_model", "grammar" */
const char *bb_spec_source_name(enum bb_spec_source source);
bool bb_spec_source_parse(const char *name, enum bb_spec_source *out);

#ifdef __cplusplus
}
#endif

#endif
