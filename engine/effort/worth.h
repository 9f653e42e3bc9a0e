/* SPDX-License-Identifier: Apache-2.0
 *
 * What a request's next thought is worth, and what it costs the others: each is the change of a
 * probability, that of giving the right answer. Compute is poured where it is worth most, as water
 * finds its level: a request goes on while its next piece is worth the price, one price for all. As
 * long as each request's pieces are worth less and less that is the best division there is of what
 * all of them take (arXiv:2410.04707). */
#ifndef WORTH_H
#define WORTH_H

#include <stdbool.h>

/* Whether a piece that costs so many units is worth the price of a unit. */
bool worth_goes(double value, double cost, double price);

/* A further answer to a vote in which the leader has a votes and the next one b: how much likelier
 * it makes that the leader is what most answers would say, by the Beta rule (arXiv:2305.11860) and
 * its own prediction of what comes; n_flying are drawn already, n_left can come at most, those
 * included. One answer seldom turns a vote where some do: each counts for what those that turn it
 * are worth together, so that a further one is never worth more. 0 where none may come. */
double worth_vote(int a, int b, int n_flying, int n_left);
/* A further answer where the best of all is given and n are there or being drawn: what the best of
 * numbers that are alike rises by, if nothing else is known. */
double worth_best(int n);

/* How likely the answer that a probe behind t tokens of thought finds is the one that thinking ends
 * with: 1 / (1 + exp(-(at + slope * log(t / 512)))). At most 1, the slope lets each token be worth
 * less than the one before. */
struct worth_curve {
	double at, slope; /* slope 0: nothing is known, see worth_curve_prior */
};
struct worth_curve worth_curve_prior(void);
double worth_curve_right(const struct worth_curve *c, double t);
/* One request's probe behind t > 0 tokens: whether it was right, as its end has shown. */
void worth_curve_learn(struct worth_curve *c, double t, bool was_right);
/* A token of thought behind t of them. n_equal: how many of its last probes agreed with the one
 * before; -1: it had none. */
double worth_thought(const struct worth_curve *c, double t, int n_equal);

/* The price of a unit: what it costs the requests that wait for it. (Where work waits demand
 * exceeds what there is, and the price rises until it doesn't; the queue as a price is Neely's,
 * doi:10.2200/S00271ED1V01Y201006CNT007.) */
struct worth_price { /* zeroed = nothing waits */
	double waiting, at; /* the sum of weights of those that wait, smoothed; on the clock */
	double price;       /* value per unit */
};
/* Now so much waits, at a pace of `rate` units per second; 0: not known. Where nothing waits the
 * price is 0. */
void worth_price_set(struct worth_price *p, double waiting, double rate, double now);

#endif
