/* SPDX-License-Identifier: Apache-2.0
 *
 * Values of answers and thoughts, and the price of a unit. */
#include "worth.h"

#include "vote.h"

#include <assert.h>
#include <math.h>

bool worth_goes(double value, double cost, double price) {
	assert(cost > 0);
	return value >= price * cost;
}

/* ---- answers ---- */

/* Further answers that are looked ahead at. */
enum { MAX_AHEAD = 64 };

/* The probability that the first one of two has the majority, of which so many votes are known. */
static double majority(int a, int b) {
	return a >= b ? vote_beta(a, b) : 1 - vote_beta(b, a);
}

/* gain[k], k <= n: how much likelier it gets to name the majority behind k further votes, which
 * come as from Polya's urn with what was counted, and one more of each, in it. */
static void gains(int a, int b, int n, double *gain) {
	double p[MAX_AHEAD + 1] = { 1 }; /* that x of k are for the first */
	for (int k = 0; k <= n; k++) {
		gain[k] = -majority(a, b);
		for (int x = 0; x <= k; x++) {
			const double m = majority(a + x, b + k - x);
			gain[k] += p[x] * fmax(m, 1 - m);
		}
		for (int x = k + 1; x > 0 && k < n; x--) {
			const double n_urn = a + b + 2 + k;
			p[x] = (x <= k ? p[x] * (b + 1 + k - x) : 0) / n_urn + p[x - 1] * (a + x) / n_urn;
		}
		p[0] *= (b + 1 + k) / (double)(a + b + 2 + k);
	}
}

/* How fast the least concave curve above the gains rises behind n. */
static double slope_at(const double *gain, int n, int n_left) {
	double slope = INFINITY;
	for (int from = 0; from <= n; from++) {
		double most = 0;
		for (int to = n + 1; to <= n_left; to++) {
			most = fmax(most, (gain[to] - gain[from]) / (to - from));
		}
		slope = fmin(slope, most);
	}
	return slope;
}

double worth_vote(int a, int b, int n_flying, int n_left) {
	double gain[MAX_AHEAD + 1];
	assert(a >= b && b >= 0 && n_flying >= 0);
	const int n = n_left < MAX_AHEAD ? n_left : MAX_AHEAD;
	if (n_flying >= n) {
		return 0;
	}
	gains(a, b, n, gain);
	return slope_at(gain, n_flying, n);
}

/* The largest of n uniform numbers is n / (n + 1) on average. */
double worth_best(int n) {
	return 1 / ((n + 1.0) * (n + 2.0));
}

/* ---- thoughts ---- */

/* Half of the answers stand behind so many tokens, if nothing is known. */
static const double MEDIAN = 512;
/* How far one probe moves the curve; between what. */
static const double RATE = 0.02, MIN_SLOPE = 0.25, MAX_AT = 4;

struct worth_curve worth_curve_prior(void) {
	return (struct worth_curve){ .slope = 1 };
}

double worth_curve_right(const struct worth_curve *c, double t) {
	return t > 0 ? 1 / (1 + exp(-(c->at + c->slope * log(t / MEDIAN)))) : 0;
}

/* A step up the gradient of the observation's log-likelihood. */
void worth_curve_learn(struct worth_curve *c, double t, bool was_right) {
	assert(t > 0);
	const double miss = was_right - worth_curve_right(c, t);
	c->at = fmin(fmax(c->at + RATE * miss, -MAX_AT), MAX_AT);
	c->slope = fmin(fmax(c->slope + RATE * miss * log(t / MEDIAN), MIN_SLOPE), 1);
}

/* The curve's derivative. Probes that agreed so often make a change less likely: by Laplace's rule
 * of succession 1 / (n + 2), of which the curve knows the 1/2 that nothing is known by. */
double worth_thought(const struct worth_curve *c, double t, int n_equal) {
	const double at = fmax(t, 1), p = worth_curve_right(c, at);
	const double value = c->slope * p * (1 - p) / at;
	return n_equal < 0 ? value : value * 2 / (n_equal + 2.0);
}

/* ---- the price ---- */

/* What an answer loses of its worth in each second that it waits. */
static const double LOSS_PER_S = 0.05;
/* Seconds in which the price follows. */
static const double SMOOTH_S = 0.5;

void worth_price_set(struct worth_price *p, double waiting, double rate, double now) {
	const double s = fmax(0, now - p->at);
	p->waiting += (1 - exp(-s / SMOOTH_S)) * (waiting - p->waiting);
	p->at = now;
	p->price = waiting > 0 && rate > 0 ? p->waiting * LOSS_PER_S / rate : 0;
}
