/* SPDX-License-Identifier: Apache-2.0
 *
 * Decisions on how much thought a request gets. Policies, controls and decisions of before say what
 * they want; here it is done, in one order, and told. */
#include "requests.h"

#include <string.h>

/* Where a decision comes from. */
struct source {
	const char *policy;
	bool is_load_dependent;
};

static void tell(struct branch *b, enum bb_decision_kind kind, const struct source *from,
	const struct effort_wish *wish) {
	struct bb_decision decision = {
		.kind = kind, .branch = b->index, .token = b->n_output, .policy = from->policy,
		.is_load_dependent = from->is_load_dependent, .value = wish->value, .bar = wish->bar,
	};
	snprintf(decision.why, sizeof(decision.why), "%s", wish->why);
	struct bb_event event = { .kind = BB_EVENT_DECISION, .branch = b->index, .text = "",
		.index = b->n_output, .decision = &decision };
	run_tell(b->request, &event);
}

/* ---- what is done ---- */

/* Tokens, of ids, with which the end is complete behind what there is of it. */
static size_t n_to_end(const struct effort_branch *b, const struct bb_tokens *ids) {
	const struct effort *f = b->effort;
	const size_t all = f->end_at + f->end.bytes;
	size_t bytes = b->place.n > 0 ? f->end_at + b->place.n : 0, n = 0;
	while (bytes < all && n < ids->n) {
		char room[16];
		bytes += effort_piece(f->engine, ids->ids[n++], room).bytes;
	}
	return n;
}

/* Thinking that hasn't begun has no room then. */
static bool close_thinking(struct branch *b, const struct source *from,
	const struct effort_wish *wish, struct bb_error *err) {
	struct effort_branch *eb = b->effort;
	struct bb_tokens ids = { 0 };
	if (!effort_may_think(eb)) {
		return true;
	}
	if (effort_is_thinking(eb)) {
		const bool ok = effort_closing(eb, &ids, err) &&
			generation_force(b->generation, ids.ids, ids.n, n_to_end(eb, &ids), err);
		bb_tokens_finish(&ids);
		if (!ok) {
			return false;
		}
		eb->is_closing = true;
		eb->n_cot_tail = 0;
	} else {
		eb->max_thinking = 0;
	}
	tell(b, BB_DECISION_CLOSE, from, wish);
	return true;
}

/* The branch as policies left it. */
static void count(struct branch *b, int n_thinking, int n_cot_steps) {
	b->request->usage.n_thinking += b->effort->n_thinking - n_thinking;
	b->request->usage.n_cot_steps += b->effort->n_cot_steps - n_cot_steps;
}

/* Behind an end of several tokens, which is thinking from now on. */
static bool extend(struct branch *b, const struct source *from, const struct effort_wish *wish,
	struct bb_error *err) {
	struct effort_branch *eb = b->effort;
	const struct bb_tokens *ids = &eb->effort->extension;
	const int n_thinking = eb->n_thinking, n_cot_steps = eb->n_cot_steps;
	if (!generation_force(b->generation, ids->ids, ids->n, 0, err)) {
		return false;
	}
	eb->n_extended++;
	effort_go_on(eb);
	count(b, n_thinking, n_cot_steps);
	tell(b, BB_DECISION_EXTEND, from, wish);
	return true;
}

static bool start(struct bb_request *r, int n, const struct source *from,
	const struct effort_wish *wish, struct bb_error *err) {
	for (int i = 1; i < r->params.n && n > 0; i++) {
		struct branch *o = &r->branches[i];
		if (o->finish == BB_FINISH_NONE && !o->is_live && !r->branches[0].has_to_part) {
			if (!turns_begin_late(o, err)) {
				return false;
			}
			r->effort->n_begun++;
			tell(o, BB_DECISION_START, from, wish);
			n--;
		}
	}
	return true;
}

/* Those that haven't ended are dropped when it can be done. */
static void finish(struct branch *b, const struct source *from, const struct effort_wish *wish) {
	struct bb_request *r = b->request;
	if (r->ends_rest) {
		return;
	}
	r->ends_rest = true;
	r->ending = (struct bb_decision){ .kind = BB_DECISION_DROP, .policy = from->policy,
		.is_load_dependent = from->is_load_dependent, .value = wish->value, .bar = wish->bar };
	snprintf(r->ending.why, sizeof(r->ending.why), "%s", wish->why);
	struct bb_decision decision = r->ending;
	decision.kind = BB_DECISION_FINISH;
	decision.branch = -1;
	struct bb_event event = { .kind = BB_EVENT_DECISION, .branch = b->index, .text = "",
		.index = b->n_output, .decision = &decision };
	run_tell(r, &event);
}

void decide_tell_rest(struct branch *b) {
	struct bb_decision decision = b->request->ending;
	decision.branch = b->index;
	decision.token = b->n_output;
	struct bb_event event = { .kind = BB_EVENT_DECISION, .branch = b->index, .text = "",
		.index = b->n_output, .decision = &decision };
	if (b->is_live) { /* of one that never began there is nothing to drop */
		run_tell(b->request, &event);
	}
}

static void drop(struct bb_scheduler *s, struct branch *b, const struct source *from,
	const struct effort_wish *wish) {
	tell(b, BB_DECISION_DROP, from, wish);
	run_end_branch(s, b, BB_FINISH_DROPPED);
}

/* Where its context has no room for one the branch goes on without. */
static bool probe(struct bb_scheduler *s, struct branch *b, struct bb_error *err) {
	const struct effort *f = b->effort->effort;
	const int n_tokens = f->params.probe_tokens;
	return f->probe.n == 0 || !probes_fit(s, b, f->probe.n, n_tokens) ||
		probes_begin(s, b, f->probe.ids, f->probe.n, n_tokens, err);
}

/* What a policy wants of a branch that goes on. */
static bool carry_out(struct bb_scheduler *s, struct branch *b, const struct source *from,
	const struct effort_wish *wish, struct bb_error *err) {
	if ((wish->close && !close_thinking(b, from, wish, err)) ||
		(wish->n_start > 0 && !start(b->request, wish->n_start, from, wish, err)) ||
		(wish->probe && !probe(s, b, err))) {
		return false;
	}
	if (wish->finish) {
		finish(b, from, wish);
		run_end_rest(s, b->request);
	} else if (wish->drop) {
		drop(s, b, from, wish);
	}
	return true;
}

/* ---- asking ---- */

/* The next draw, as the branch stands. */
static bool aim(struct branch *b, struct bb_error *err) {
	struct effort_branch *eb = b->effort;
	const struct effort *f = eb->effort;
	double most = 0;
	for (int i = 0; effort_policies[i] != NULL; i++) {
		const double lean = f->is_wanted[i] && effort_policies[i]->lean != NULL
			? effort_policies[i]->lean(eb) : 0;
		most = lean > most ? lean : most;
	}
	if (f->end_token >= 0) {
		generation_lean(b->generation, f->end_token, (float)most);
	}
	return generation_keep_row(b->generation, effort_may_extend(eb), err);
}

enum hook { HOOK_TOKEN, HOOK_CHANGED, HOOK_CLOCK };

static void ask(const struct effort_policy *p, enum hook hook, struct effort_branch *b, bool ends,
	double now, struct effort_wish *wish) {
	if (hook == HOOK_TOKEN && p->token != NULL) {
		p->token(b, ends, wish);
	} else if (hook == HOOK_CHANGED && p->changed != NULL) {
		p->changed(b, wish);
	} else if (hook == HOOK_CLOCK && p->clock != NULL) {
		p->clock(b, now, wish);
	}
}

/* All policies in their order, until the branch has ended. *ends: as effort_follow says, until it
 * was extended. */
static bool ask_all(struct bb_scheduler *s, struct branch *b, enum hook hook, bool *ends,
	double now, struct bb_error *err) {
	const struct effort *f = b->effort->effort;
	for (int i = 0; effort_policies[i] != NULL; i++) {
		const struct effort_policy *p = effort_policies[i];
		const struct source from = { p->name, p->is_load_dependent };
		struct effort_wish wish = { 0 };
		if (!f->is_wanted[i] || b->finish != BB_FINISH_NONE) {
			continue;
		}
		ask(p, hook, b->effort, *ends, now, &wish);
		if (wish.extend && *ends) {
			*ends = false;
			if (!extend(b, &from, &wish, err)) {
				return false;
			}
		}
		if (!carry_out(s, b, &from, &wish, err)) {
			return false;
		}
	}
	return true;
}

/* Whether it was decided before, and not by a policy that decides it again, that no branches begin
 * but these. */
static bool was_finished(const struct effort *f) {
	bool is_finished = false;
	int n = effort_n_first(f);
	for (int i = 0; i < f->params.n_replay; i++) {
		const struct bb_decision *d = &f->params.replay[i];
		is_finished = is_finished || (d->kind == BB_DECISION_FINISH && d->is_load_dependent);
		n = d->kind == BB_DECISION_START && d->branch >= n ? d->branch + 1 : n;
	}
	return is_finished && f->n_begun >= n;
}

/* Behind the end of a branch: whether others begin, and how many. */
static bool ask_for_others(struct branch *b, struct bb_error *err) {
	const struct effort *f = b->effort->effort;
	if (was_finished(f)) {
		return true;
	}
	struct effort_wish least = { 0 };
	struct source of_least = { 0 };
	for (int i = 0; effort_policies[i] != NULL; i++) {
		const struct effort_policy *p = effort_policies[i];
		const struct source from = { p->name, p->is_load_dependent };
		struct effort_wish wish = { 0 };
		if (f->is_wanted[i] && p->ended != NULL) {
			p->ended(b->effort, &wish);
		}
		if (wish.finish) { /* done once the event of this one is told */
			finish(b, &from, &wish);
			return true;
		}
		if (wish.n_start > 0 && (least.n_start == 0 || wish.n_start < least.n_start)) {
			least = wish;
			of_least = from;
		}
	}
	return least.n_start == 0 || start(b->request, least.n_start, &of_least, &least, err);
}

/* ---- what was decided before, and what is asked for ---- */

static bool change(struct bb_scheduler *s, struct branch *b, enum bb_decision_kind kind, int n,
	const struct source *from, const struct effort_wish *wish, struct bb_error *err) {
	bool ends = false;
	if (b->effort == NULL || !effort_may_think(b->effort)) {
		return true;
	}
	effort_change(b->effort, kind == BB_DECISION_EXTEND, n);
	tell(b, kind, from, wish);
	return ask_all(s, b, HOOK_CHANGED, &ends, 0, err);
}

/* Of controls and of replays; n is what `value` of the decision says. */
static bool obey(struct bb_scheduler *s, struct branch *b, enum bb_decision_kind kind, int n,
	const struct source *from, const struct effort_wish *wish, struct bb_error *err) {
	switch (kind) {
	case BB_DECISION_CLOSE:
		return b->effort == NULL || close_thinking(b, from, wish, err);
	case BB_DECISION_BUDGET:
	case BB_DECISION_EXTEND:
		return change(s, b, kind, n, from, wish, err);
	case BB_DECISION_DROP:
		drop(s, b, from, wish);
		return true;
	default: /* branches that began later begin at once; what finishes a request drops each one */
		return true;
	}
}

/* Decisions that can't be taken again, for this token of the branch. */
static bool replay(struct bb_scheduler *s, struct branch *b, struct bb_error *err) {
	const struct bb_effort *p = &b->effort->effort->params;
	for (int i = 0; i < p->n_replay && b->finish == BB_FINISH_NONE; i++) {
		const struct bb_decision *d = &p->replay[i];
		if (!d->is_load_dependent || d->branch != b->index || d->token != b->n_output) {
			continue;
		}
		const struct source from = { d->policy, true };
		struct effort_wish wish = { .value = d->value, .bar = d->bar };
		snprintf(wish.why, sizeof(wish.why), "%s", d->why);
		if (!obey(s, b, d->kind, (int)d->value, &from, &wish, err)) {
			return false;
		}
	}
	return true;
}

static const enum bb_decision_kind kind_of_control[] = {
	[BB_CONTROL_CLOSE] = BB_DECISION_CLOSE, [BB_CONTROL_BUDGET] = BB_DECISION_BUDGET,
	[BB_CONTROL_EXTEND] = BB_DECISION_EXTEND, [BB_CONTROL_DROP] = BB_DECISION_DROP,
	[BB_CONTROL_FINISH] = BB_DECISION_FINISH,
};

static bool obey_control(struct bb_scheduler *s, struct bb_request *r, const struct bb_control *c,
	struct bb_error *err) {
	const struct source from = { effort_control, true };
	const enum bb_decision_kind kind = kind_of_control[c->kind];
	struct effort_wish wish = { .value = c->n_tokens, .why = "asked for" };
	for (int i = 0; i < r->params.n; i++) {
		struct branch *b = &r->branches[i];
		if (c->branch < 0 && kind == BB_DECISION_BUDGET && !b->is_live && b->effort != NULL) {
			b->effort->to_come = c->n_tokens;
		}
		if (!b->is_live || (c->branch >= 0 && c->branch != i)) {
			continue;
		}
		if (b->generation == NULL && !run_begin_generation(s, b, err)) {
			return false;
		}
		if (kind == BB_DECISION_FINISH) {
			finish(b, &from, &wish);
			run_end_rest(s, r);
			return true;
		}
		if ((kind != BB_DECISION_DROP || r->n_live > 1) &&
			!obey(s, b, kind, c->n_tokens, &from, &wish, err)) {
			return false;
		}
	}
	return true;
}

/* Those that came since the last time. While branch 0 stands for others they wait: what is asked of
 * one of them can't be done yet. */
static int take_controls(struct bb_request *r, struct bb_control *out) {
	if (atomic_load(&r->n_controls) == 0 || !r->is_started || r->branches[0].has_to_part) {
		return 0;
	}
	pthread_mutex_lock(&r->scheduler->lock);
	const int n = atomic_exchange(&r->n_controls, 0);
	memcpy(out, r->controls, (size_t)n * sizeof(*out));
	pthread_mutex_unlock(&r->scheduler->lock);
	return n;
}

static bool obey_controls(struct bb_scheduler *s, struct bb_request *r, struct bb_error *err) {
	struct bb_control controls[MAX_CONTROLS];
	const int n = take_controls(r, controls);
	bool ok = true;
	for (int i = 0; i < n && ok && !atomic_load(&r->has_ended); i++) {
		ok = obey_control(s, r, &controls[i], err);
	}
	return ok;
}

/* ---- when it is asked ---- */

/* What was asked for before, then or now, comes first: policies see it. */
bool decide_begin(struct bb_scheduler *s, struct branch *b, struct bb_error *err) {
	const struct source asked = { effort_control, true };
	struct effort_wish wish = { .why = "asked for" };
	bool ends = false;
	if (!obey_controls(s, b->request, err)) {
		return false;
	}
	if (b->effort == NULL || b->finish != BB_FINISH_NONE) {
		return true;
	}
	b->effort->has_begun = true;
	b->effort->pace = schedule_meter_cost(&s->meter).step_s; /* until it has one of its own */
	spend_show(b->request);
	wish.value = b->effort->to_come;
	if (b->effort->to_come >= 0 && !change(s, b, BB_DECISION_BUDGET, b->effort->to_come, &asked,
		&wish, err)) {
		return false;
	}
	b->effort->to_come = -1;
	return replay(s, b, err) && ask_all(s, b, HOOK_TOKEN, &ends, 0, err) &&
		ask_all(s, b, HOOK_CLOCK, &ends, requests_now(s), err) &&
		(b->finish != BB_FINISH_NONE || aim(b, err));
}

bool decide_drawn(struct branch *b, struct bb_error *err) {
	struct effort_branch *eb = b->effort;
	const struct bb_tokens *ids = &eb->effort->extension;
	struct bb_generation *g = b->generation;
	if (!effort_may_extend(eb) || generation_is_forced(g) ||
		!sampler_allows(&g->sampler, ids->ids[0])) {
		return true;
	}
	for (int i = 0; effort_policies[i] != NULL; i++) {
		const struct effort_policy *p = effort_policies[i];
		const struct source from = { p->name, p->is_load_dependent };
		struct effort_wish wish = { 0 };
		if (eb->effort->is_wanted[i] && p->drawn != NULL) {
			p->drawn(eb, g->next.id, &wish);
		}
		if (wish.extend) {
			if (!generation_replace(g, ids->ids, ids->n, err)) {
				return false;
			}
			eb->n_extended++;
			tell(b, BB_DECISION_EXTEND, &from, &wish);
			return true;
		}
	}
	return true;
}

bool decide_token(struct bb_scheduler *s, struct branch *b, const struct bb_sampled *token,
	enum bb_finish finish, struct bb_error *err) {
	struct effort_branch *eb = b->effort;
	const int n_thinking = eb->n_thinking, n_cot_steps = eb->n_cot_steps;
	bool ends;
	if (!effort_follow(eb, token, &b->generation->cot, requests_now(s), &ends, err)) {
		return false;
	}
	if (finish != BB_FINISH_NONE) {
		if (ends) {
			effort_end(eb);
		}
		effort_finish(eb, finish);
	}
	count(b, n_thinking, n_cot_steps);
	if (finish != BB_FINISH_NONE) {
		return true;
	}
	if (!ask_all(s, b, HOOK_TOKEN, &ends, 0, err)) {
		return false;
	}
	if (ends) {
		effort_end(eb);
	}
	return b->finish != BB_FINISH_NONE || (replay(s, b, err) &&
		(b->finish != BB_FINISH_NONE || aim(b, err)));
}

bool decide_probed(struct branch *b, const struct bb_text *said, struct bb_error *err) {
	const char *text = said->data != NULL ? said->data : "";
	for (int i = 0; effort_policies[i] != NULL; i++) {
		const struct effort_policy *p = effort_policies[i];
		const struct source from = { p->name, p->is_load_dependent };
		struct effort_wish wish = { 0 };
		if (!b->effort->effort->is_wanted[i] || p->probed == NULL) {
			continue;
		}
		if (!p->probed(b->effort, text, said->bytes, &wish, err)) {
			return false;
		}
		tell(b, BB_DECISION_PROBE, &from, &wish);
		if (wish.close && !close_thinking(b, &from, &wish, err)) {
			return false;
		}
	}
	return aim(b, err);
}

bool decide_ended(struct branch *b, struct bb_error *err) {
	struct bb_request *r = b->request;
	const int n_thinking = b->effort->n_thinking, n_cot_steps = b->effort->n_cot_steps;
	effort_finish(b->effort, b->finish);
	count(b, n_thinking, n_cot_steps);
	spend_show(r);
	if (!ballot_count(r->effort, err)) {
		return false;
	}
	if (b->finish == BB_FINISH_DEADLINE) {
		return true; /* as all that haven't ended do */
	}
	if (!r->ends_rest && !ask_for_others(b, err)) {
		return false;
	}
	int n_live = 0;
	for (int i = 0; i < r->params.n; i++) {
		n_live += r->branches[i].is_live;
	}
	r->ends_rest = r->ends_rest || n_live == 0; /* nobody wants those that haven't begun */
	return true;
}

void decide_choice(struct bb_request *r) {
	struct effort *f = r->effort;
	for (int i = 0; effort_policies[i] != NULL; i++) {
		const struct effort_policy *p = effort_policies[i];
		const struct source from = { p->name, p->is_load_dependent };
		if (!f->is_wanted[i] || p->choose == NULL) {
			continue;
		}
		for (int rank = 0, i_branch;; rank++) {
			struct effort_wish wish = { 0 };
			if (!p->choose(f, rank, &i_branch, &wish)) {
				break;
			}
			tell(&r->branches[i_branch], BB_DECISION_CHOOSE, &from, &wish);
		}
	}
}

/* ---- between steps ---- */

static bool step_request(struct bb_scheduler *s, struct bb_request *r, double now,
	struct bb_error *err) {
	bool ends = false;
	if (!obey_controls(s, r, err)) {
		return false;
	}
	spend_show(r);
	for (int i = 0; i < r->params.n && r->effort != NULL; i++) {
		struct branch *b = &r->branches[i];
		if (b->is_live && b->has_begun && (!ask_all(s, b, HOOK_CLOCK, &ends, now, err) ||
			(b->finish == BB_FINISH_NONE && !aim(b, err)))) {
			return false;
		}
	}
	return true;
}

void decide_step(struct bb_scheduler *s, double now) {
	for (struct bb_request *r = s->requests, *next; r != NULL; r = next) {
		struct bb_error err = { 0 };
		next = r->next;
		atomic_fetch_add(&r->n_refs, 1);
		if ((r->effort != NULL || atomic_load(&r->n_controls) > 0) &&
			!step_request(s, r, now, &err)) {
			run_fail(s, r, &err);
		}
		requests_unref(r);
	}
}
