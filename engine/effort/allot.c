/* SPDX-License-Identifier: Apache-2.0
 *
 * allot: an elastic request takes from the scheduler's compute what is worth its price: answers
 * beyond the first, and thinking beyond the minimum. What it has begun and isn't worth it any more
 * is given up. The price is that of units which others wait for; while nobody waits it is 0, and
 * all is taken. */
#include "effort.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

/* A branch that has begun is given up for less than so much of the price, so that a price that
 * wavers doesn't begin and drop it in turns; thinking is closed within a sentence for less than
 * that of it. */
static const double GIVES_UP = 0.5, WITHIN_SENTENCE = 0.25;
/* Tokens that an answer may always be about to have. */
static const double LEAST_LEFT = 16;

static bool is_wanted(const struct bb_effort *p) {
	return p->is_elastic;
}

/* Other policies say how many answers are begun; here it is seen which of them go on. */
static bool others_begin(const struct effort *f) {
	return f->params.consensus > 0 || f->params.n_warmup > 0;
}

static int first(const struct effort *f) {
	return others_begin(f) ? f->n : 1;
}

static bool is_done(const struct effort_branch *b) {
	return b->finish == BB_FINISH_STOP || b->finish == BB_FINISH_LENGTH ||
		b->finish == BB_FINISH_CONTEXT;
}

/* Answers that are there; *tokens: what one has on average. */
static int n_done(const struct effort *f, double *tokens) {
	double sum = 0;
	int n = 0;
	for (int i = 0; i < f->n; i++) {
		n += is_done(&f->branches[i]);
		sum += is_done(&f->branches[i]) ? f->branches[i].n_output : 0;
	}
	*tokens = n > 0 ? sum / n : f->market.answer_tokens;
	return n;
}

static int n_ended(const struct effort *f) {
	int n = 0;
	for (int i = 0; i < f->n_begun; i++) {
		n += f->branches[i].finish != BB_FINISH_NONE;
	}
	return n;
}

/* Of one more answer beside n_flying that are being drawn. */
static double worth_of_answer(const struct effort *f, int n_flying) {
	double tokens;
	if (f->ballot.votes == NULL || f->params.choice == BB_CHOICE_CERTAINTY) {
		return f->market.weight * worth_best(n_done(f, &tokens) + n_flying);
	}
	const struct vote_count v = ballot_result(f, false);
	const int n_counted = f->ballot.n_counted, n_uncounted = n_ended(f) - n_counted;
	return f->market.weight * worth_vote(v.n, v.n_second, n_flying + n_uncounted,
		f->n - n_counted);
}

static void say(struct effort_wish *wish, const char *what, double value, double cost,
	const struct effort *f) {
	wish->value = value / cost;
	wish->bar = f->market.price;
	snprintf(wish->why, sizeof(wish->why), "%s is worth %.3g for each unit, the price is %.3g",
		what, wish->value, wish->bar);
}

/* Those that are worth it beside n_flying. */
static void begin(const struct effort *f, int n_flying, struct effort_wish *wish) {
	const struct effort_market *m = &f->market;
	double tokens;
	const int done = n_done(f, &tokens), most = f->n - f->n_begun;
	const double cost = fmax(tokens, LEAST_LEFT) * m->row_cost;
	int n = 0;
	/* one has to come, whatever it costs */
	while (n < most && ((done == 0 && n_flying + n == 0) ||
		worth_goes(worth_of_answer(f, n_flying + n), cost, m->price))) {
		n++;
	}
	wish->n_start = n;
	if (n > 0) {
		say(wish, "one more answer", worth_of_answer(f, n_flying + n - 1), cost, f);
	}
}

/* ---- thinking ---- */

static void close_thinking(struct effort_branch *b, struct effort_wish *wish) {
	const struct effort *f = b->effort;
	const struct effort_market *m = &f->market;
	if (!effort_is_thinking(b) || b->n_thinking < 1 || b->n_thinking < b->min_thinking) {
		return;
	}
	/* each of several answers has a part in what is given */
	const double value = m->weight / f->n_begun * worth_thought(m->curve, b->n_thinking,
		b->n_probed > 0 ? b->probes.n_equal : -1);
	const double bar = b->may_pause ? m->price : WITHIN_SENTENCE * m->price;
	wish->close = !worth_goes(value, m->row_cost, bar);
	if (wish->close) {
		say(wish, "further thought", value, m->row_cost, f);
	}
}

/* What the last probes have shown, now that it's known what thinking led to. */
static void learn(struct effort_branch *b) {
	const struct effort *f = b->effort;
	const struct certaindex *c = &b->probes;
	const int every = f->params.probe_every, n = b->n_probed, n_run = c->n_equal;
	struct bb_text found = { 0 };
	struct bb_error ignored = { 0 }; /* without memory nothing is learnt */
	if (n == 0 || c->answer.bytes == 0 || !is_done(b) || f->ballot.pattern == NULL) {
		return;
	}
	if (answer_find(f->ballot.pattern, b->answer.data, b->answer.bytes, 0, &found, &ignored)) {
		const bool is_right = found.data != NULL && strcmp(found.data, c->answer.data) == 0;
		for (int i = 0; i < (n_run > 0 ? n_run : 1) && i < n; i++) {
			worth_curve_learn(f->market.curve, (double)(n - i) * every, is_right);
		}
		if (is_right && n_run > 0 && n > n_run) { /* the one before said something else */
			worth_curve_learn(f->market.curve, (double)(n - n_run) * every, false);
		}
	}
	bb_text_finish(&found);
}

/* ---- answers ---- */

/* Whether of the branches that draw it has come least far. */
static bool is_youngest(const struct effort_branch *b) {
	const struct effort *f = b->effort;
	for (int i = 0; i < f->n_begun; i++) {
		const struct effort_branch *o = &f->branches[i];
		if (o != b && o->finish == BB_FINISH_NONE && o->n_output <= b->n_output &&
			(o->n_output < b->n_output || i > b->index)) {
			return false;
		}
	}
	return true;
}

/* Where an answer is there, the youngest goes when what it still needs isn't worth it. */
static void give_up(struct effort_branch *b, int n_flying, struct effort_wish *wish) {
	const struct effort *f = b->effort;
	const struct effort_market *m = &f->market;
	double tokens;
	if (n_done(f, &tokens) == 0 || !is_youngest(b)) {
		return;
	}
	const double cost = fmax(tokens - b->n_output, LEAST_LEFT) * m->row_cost;
	const double value = worth_of_answer(f, n_flying - 1);
	wish->drop = !worth_goes(value, cost, GIVES_UP * m->price);
	if (wish->drop) {
		say(wish, "this answer", value, cost, f);
	}
}

static void look(struct effort_branch *b, double now, struct effort_wish *wish) {
	const struct effort *f = b->effort;
	const int n_flying = f->n_begun - n_ended(f);
	(void)now;
	close_thinking(b, wish);
	if (!wish->close && f->n > 1) {
		give_up(b, n_flying, wish);
	}
	if (!wish->close && !wish->drop && !others_begin(f)) {
		begin(f, n_flying, wish);
	}
}

static void ended(struct effort_branch *b, struct effort_wish *wish) {
	const struct effort *f = b->effort;
	const int n_flying = f->n_begun - n_ended(f), n_left = f->n - f->n_begun;
	double tokens;
	learn(b);
	if (!others_begin(f)) {
		begin(f, n_flying, wish);
	} else if (n_flying == 0 && n_left > 0 && n_done(f, &tokens) > 0) {
		const double cost = fmax(tokens, LEAST_LEFT) * f->market.row_cost;
		const double value = worth_of_answer(f, 0);
		wish->finish = !worth_goes(value, cost, f->market.price);
		if (wish->finish) {
			say(wish, "one more answer", value, cost, f);
		}
	}
}

const struct effort_policy effort_allot = {
	.name = "allot", .is_load_dependent = true, .is_wanted = is_wanted, .first = first,
	.clock = look, .ended = ended,
};
