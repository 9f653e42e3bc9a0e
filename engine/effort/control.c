/* SPDX-License-Identifier: Apache-2.0
 *
 * What other threads ask of a request that runs, and what they see of its branches: as the last
 * step left it. What is asked for waits for the next one. */
#include "requests.h"

#include <assert.h>
#include <string.h>

static const char *const verbs[] = {
	[BB_CONTROL_CLOSE] = "close the thinking of", [BB_CONTROL_BUDGET] = "set the budget of",
	[BB_CONTROL_EXTEND] = "extend the thinking of", [BB_CONTROL_DROP] = "drop",
	[BB_CONTROL_FINISH] = "finish",
};

/* It has begun, or does with the prompt; others may never begin. */
static bool has_come(const struct bb_request *r, int i) {
	return i < r->n_first || r->views[i].info.is_live ||
		r->views[i].info.finish != BB_FINISH_NONE;
}

/* Of the branches that haven't ended how many may yet think; a budget is of those to come, too. */
static int n_thinking(const struct bb_request *r, bool is_budget) {
	int n = 0;
	for (int i = 0; i < r->params.n; i++) {
		n += r->views[i].info.finish == BB_FINISH_NONE && r->views[i].may_think &&
			(is_budget || has_come(r, i));
	}
	return n;
}

/* Branches that haven't ended; *n_whole: those of the others that came to an end of their own. */
static int n_open(const struct bb_request *r, int *n_whole) {
	int n = 0;
	*n_whole = 0;
	for (int i = 0; i < r->params.n; i++) {
		const enum bb_finish finish = r->views[i].info.finish;
		n += finish == BB_FINISH_NONE;
		*n_whole += finish != BB_FINISH_NONE && finish != BB_FINISH_DROPPED;
	}
	return n;
}

static bool check_branches(const struct bb_request *r, const struct bb_control *c,
	struct bb_error *err) {
	const bool is_drop = c->kind == BB_CONTROL_DROP, is_finish = c->kind == BB_CONTROL_FINISH;
	const bool thinks = !is_drop && !is_finish;
	int n_whole;
	const int n = n_open(r, &n_whole);
	if (c->branch >= 0 && !has_come(r, c->branch)) {
		return base_fail(err, BB_ERR_USAGE, "branch %d hasn't begun, it is too early to %s it",
			c->branch, verbs[c->kind]);
	}
	if (c->branch >= 0 && r->views[c->branch].info.finish != BB_FINISH_NONE) {
		return base_fail(err, BB_ERR_USAGE, "branch %d has ended, it is too late to %s it",
			c->branch, verbs[c->kind]);
	}
	if (c->branch >= 0 && thinks && !r->views[c->branch].may_think) {
		return base_fail(err, BB_ERR_USAGE, "branch %d doesn't think any more, it is too late to "
			"%s it", c->branch, verbs[c->kind]);
	}
	if (c->branch < 0 && thinks && n_thinking(r, c->kind == BB_CONTROL_BUDGET) == 0) {
		return base_fail(err, BB_ERR_USAGE, "no branch thinks any more, it is too late to %s one",
			verbs[c->kind]);
	}
	if (is_drop && n == 1) {
		return base_fail(err, BB_ERR_USAGE, "branch %d is the last one, which can't be dropped",
			c->branch);
	}
	if (is_finish && n_whole == 0) {
		return base_fail(err, BB_ERR_USAGE, "no answer is whole yet, expected one to finish with");
	}
	return true;
}

static bool check(const struct bb_request *r, const struct bb_control *c, struct bb_error *err) {
	const bool counts = c->kind == BB_CONTROL_BUDGET || c->kind == BB_CONTROL_EXTEND;
	const bool thinks = counts || c->kind == BB_CONTROL_CLOSE;
	const int least = c->kind == BB_CONTROL_EXTEND;
	if (c->branch < -1 || c->branch >= r->params.n || (c->kind == BB_CONTROL_DROP &&
		c->branch < 0)) {
		return base_fail(err, BB_ERR_USAGE, "there is no branch %d, expected %d to %d", c->branch,
			c->kind == BB_CONTROL_DROP ? 0 : -1, r->params.n - 1);
	}
	if (counts && c->n_tokens < least) {
		return base_fail(err, BB_ERR_USAGE, "%d tokens, expected %d or more", c->n_tokens, least);
	}
	if (thinks && (r->effort == NULL || !effort_has_thinking(r->effort))) {
		return base_fail(err, BB_ERR_USAGE, "the request's thinking isn't told apart");
	}
	if (c->kind == BB_CONTROL_EXTEND && r->effort->extension.n == 0) {
		return base_fail(err, BB_ERR_USAGE, "there is no text to extend thinking with");
	}
	if (r->effort != NULL && r->effort->params.replays) {
		return base_fail(err, BB_ERR_USAGE, "the request does what was decided before");
	}
	return check_branches(r, c, err);
}

bool bb_request_control(struct bb_request *r, const struct bb_control *control,
	struct bb_error *err) {
	if (atomic_load(&r->has_ended)) {
		return base_fail(err, BB_ERR_USAGE, "the request has ended");
	}
	struct bb_scheduler *s = r->scheduler;
	pthread_mutex_lock(&s->lock);
	const int n = atomic_load(&r->n_controls);
	bool ok = check(r, control, err);
	if (ok && n == MAX_CONTROLS) {
		ok = base_fail(err, BB_ERR_BUSY, "%d controls wait for the next step already", n);
	}
	if (ok) {
		r->controls[n] = *control;
		atomic_store(&r->n_controls, n + 1);
	}
	pthread_mutex_unlock(&s->lock);
	if (ok) {
		bb_scheduler_wake(s);
	}
	return ok;
}

const char *bb_request_answer(const struct bb_request *r, int branch, double *weight) {
	assert(branch >= 0 && branch < r->params.n);
	*weight = 0;
	if (r->effort == NULL || branch >= r->effort->ballot.n_counted) {
		return NULL;
	}
	const struct vote *v = &r->effort->ballot.votes[branch];
	*weight = v->is_given ? v->weight : 0;
	return v->answer != NULL && v->answer[0] != '\0' ? v->answer : NULL;
}

int bb_request_branches(struct bb_request *r, struct bb_branch_info *out, int most) {
	int n = 0;
	if (atomic_load(&r->has_ended)) {
		return 0;
	}
	pthread_mutex_lock(&r->scheduler->lock);
	for (int i = 0; i < r->params.n; i++) {
		if (r->views[i].has_begun) {
			if (n < most) {
				out[n] = r->views[i].info;
			}
			n++;
		}
	}
	pthread_mutex_unlock(&r->scheduler->lock);
	return n;
}
