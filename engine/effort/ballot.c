/* SPDX-License-Identifier: Apache-2.0
 *
 * Counting the answers of a request's branches. */
#include "ballot.h"

#include "effort.h"

#include <string.h>

bool ballot_init(struct ballot *ballot, const struct effort *f, struct bb_error *err) {
	const struct bb_effort *p = &f->params;
	if (p->answer_pattern != NULL &&
		!answer_pattern_create(&ballot->pattern, p->answer_pattern, err)) {
		return false;
	}
	if (p->choice == BB_CHOICE_ALL && p->consensus == 0 && p->n_warmup == 0) {
		return true;
	}
	ballot->votes = base_alloc((size_t)f->n, sizeof(*ballot->votes));
	return ballot->votes != NULL ||
		base_no_memory(err, "votes", (size_t)f->n * sizeof(*ballot->votes));
}

void ballot_finish(struct ballot *ballot, int n) {
	for (int i = 0; ballot->votes != NULL && i < n; i++) {
		base_free((void *)(uintptr_t)ballot->votes[i].answer);
	}
	base_free(ballot->votes);
	answer_pattern_destroy(ballot->pattern);
	*ballot = (struct ballot){ 0 };
}

/* Confidence is what votes weigh where they are weighted, and what deepconf goes by. */
static double weight_of(const struct effort_branch *b) {
	const struct bb_effort *p = &b->effort->params;
	return p->choice == BB_CHOICE_WEIGHTED || p->n_warmup > 0 ? confidence_lowest(&b->group) : 1;
}

static bool count_one(struct ballot *ballot, const struct effort_branch *b, struct bb_error *err) {
	struct bb_text found = { 0 };
	if (ballot->pattern != NULL && b->answer.bytes > 0 &&
		!answer_find(ballot->pattern, b->answer.data, b->answer.bytes, 0, &found, err)) {
		bb_text_finish(&found);
		return false;
	}
	ballot->votes[b->index] = (struct vote){
		.is_given = b->finish == BB_FINISH_STOP || b->finish == BB_FINISH_LENGTH ||
			b->finish == BB_FINISH_CONTEXT,
		.is_whole = b->finish == BB_FINISH_STOP, .answer = found.data,
		.certainty = b->n_output > 0 ? b->certainty / b->n_output : 0, .weight = weight_of(b),
	};
	return true;
}

/* deepconf: warm-up ends with this branch; what confidence its answers kept. Those that didn't
 * have no vote. */
static bool set_bar(struct effort *f, struct bb_error *err) {
	struct ballot *ballot = &f->ballot;
	const int n_warmup = f->params.n_warmup;
	double *values = base_alloc((size_t)n_warmup, sizeof(*values));
	if (values == NULL) {
		return base_no_memory(err, "confidences", (size_t)n_warmup * sizeof(*values));
	}
	int n = 0;
	for (int i = 0; i < n_warmup; i++) {
		if (ballot->votes[i].is_given) {
			values[n++] = ballot->votes[i].weight;
		}
	}
	ballot->has_bar = n > 0;
	ballot->bar = n > 0 ? confidence_bar(values, n, f->params.keep) : 0;
	base_free(values);
	for (int i = 0; i < n_warmup && ballot->has_bar; i++) {
		struct vote *v = &ballot->votes[i];
		v->weight = v->weight < ballot->bar ? 0 : v->weight;
	}
	return true;
}

bool ballot_count(struct effort *f, struct bb_error *err) {
	struct ballot *ballot = &f->ballot;
	while (ballot->votes != NULL && ballot->n_counted < f->n &&
		f->branches[ballot->n_counted].finish != BB_FINISH_NONE) {
		const int i = ballot->n_counted;
		if (ballot->votes[i].answer == NULL && !count_one(ballot, &f->branches[i], err)) {
			return false;
		}
		if (i + 1 == f->params.n_warmup && !set_bar(f, err)) {
			return false;
		}
		ballot->n_counted++;
	}
	return true;
}

bool ballot_is_full(const struct effort *f) {
	return f->ballot.n_counted >= f->n_begun;
}

struct vote_count ballot_result(const struct effort *f, bool by_weight) {
	return vote_count(f->ballot.votes, f->ballot.n_counted, by_weight);
}

const char *ballot_show(const struct effort *f, int i, char buf[BASE_SHOWN]) {
	const char *answer = i >= 0 ? f->ballot.votes[i].answer : NULL;
	return base_show(answer, answer != NULL ? strlen(answer) : 0, buf, BASE_SHOWN);
}
