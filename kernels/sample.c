/* SPDX-License-Identifier: Apache-2.0
 *
 * Reductions over a row of logits and drawing a token from it, the references. */
#include "kernels.h"

#include <assert.h>
#include <float.h>
#include <math.h>
#include <string.h>

/* ---- reductions ---- */

void argmax_c(bb_queue *q, int32_t *index, const float *x, int n) {
	int best = -1;
	for (int i = 0; i < n; i++) {
		if (!isnan(x[i]) && (best < 0 || x[i] > x[best])) {
			best = i;
		}
	}
	*index = best < 0 ? 0 : best;
}

void softmax_c(bb_queue *q, float *p, float *log_sum, const float *x, int n, float scale) {
	float max = -INFINITY;
	for (int i = 0; i < n; i++) {
		max = x[i] > max ? x[i] : max;
	}
	double sum = 0;
	for (int i = 0; i < n; i++) {
		sum += exp((double)scale * ((double)x[i] - max));
	}
	*log_sum = (float)log(sum);
	for (int i = 0; p != NULL && i < n; i++) {
		p[i] = (float)(exp((double)scale * ((double)x[i] - max)) / sum);
	}
}

/* ---- randomness ---- */

void philox(const uint32_t counter[4], const uint32_t key[2], uint32_t out[4]) {
	uint32_t c[4] = { counter[0], counter[1], counter[2], counter[3] };
	uint32_t k[2] = { key[0], key[1] };
	for (int round = 0; round < 10; round++) {
		const uint64_t a = (uint64_t)0xD2511F53u * c[0], b = (uint64_t)0xCD9E8D57u * c[2];
		const uint32_t next[4] = {
			(uint32_t)(b >> 32) ^ c[1] ^ k[0], (uint32_t)b,
			(uint32_t)(a >> 32) ^ c[3] ^ k[1], (uint32_t)a,
		};
		memcpy(c, next, sizeof(c));
		k[0] += 0x9E3779B9u;
		k[1] += 0xBB67AE85u;
	}
	memcpy(out, c, sizeof(c));
}

double philox_unit(uint64_t key, uint32_t index) {
	const uint32_t counter[4] = { index };
	const uint32_t halves[2] = { (uint32_t)key, (uint32_t)(key >> 32) };
	uint32_t words[4];
	philox(counter, halves, words);
	return (double)(((uint64_t)words[0] << 21) ^ (words[1] >> 11)) * 0x1p-53;
}

/* ---- sample ---- */

/* A row's stride there: what the device reads is 16-byte aligned. */
static size_t scratch_stride(int n_vocab) {
	return ((size_t)n_vocab + 3) / 4 * 4;
}

/* The device needs a row of adjusted logits for each, the reference one and room for an order. */
size_t sample_scratch_bytes(int n_rows, int n_vocab) {
	return ((size_t)n_rows + 1) * scratch_stride(n_vocab) * sizeof(float);
}

void sample_adjust(float *y, const float *x, int n, const struct bb_sample_params *p) {
	memcpy(y, x, (size_t)n * sizeof(*y));
	for (int i = 0; i < p->n_counts; i++) {
		const struct bb_token_count *t = &p->counts[i];
		y[t->id] = y[t->id] > 0 ? y[t->id] / p->repetition_penalty
			: y[t->id] * p->repetition_penalty;
		if (t->n_output > 0) {
			y[t->id] -= p->presence_penalty + p->frequency_penalty * (float)t->n_output;
		}
	}
	for (int i = 0; i < p->n_bias; i++) {
		const struct bb_token_bias *b = &p->bias[i];
		y[b->id] = b->bias == -INFINITY ? -INFINITY : y[b->id] + b->bias;
	}
	for (int i = 0; p->mask != NULL && i < n; i++) {
		y[i] = (p->mask[i >> 5] >> (i & 31) & 1) != 0 ? y[i] : -INFINITY;
	}
}

/* Is a before b in the order of falling x, equals by id? */
static bool comes_first(const float *x, int32_t a, int32_t b) {
	return x[a] > x[b] || (x[a] == x[b] && a < b);
}

/* Restores the heap below `i` whose root is the one that comes last. */
static void sift_down(int32_t *heap, int n, int i, const float *x) {
	for (;;) {
		int last = i;
		for (int child = 2 * i + 1; child <= 2 * i + 2 && child < n; child++) {
			last = comes_first(x, heap[last], heap[child]) ? child : last;
		}
		if (last == i) {
			return;
		}
		const int32_t moved = heap[i];
		heap[i] = heap[last];
		heap[last] = moved;
		i = last;
	}
}

int sample_top(int32_t *order, int n, int k, const float *x) {
	k = k < n ? k : n;
	for (int i = k / 2; i-- > 0;) {
		sift_down(order, k, i, x);
	}
	for (int i = k; i < n; i++) {
		if (comes_first(x, order[i], order[0])) {
			order[0] = order[i];
			sift_down(order, k, 0, x);
		}
	}
	for (int end = k; end-- > 1;) {
		const int32_t moved = order[0];
		order[0] = order[end];
		order[end] = moved;
		sift_down(order, end, 0, x);
	}
	return k;
}

/* How much a token weighs that is `below` the best. */
static double weight(double below, float scale, float min_p) {
	const double w = exp(-(double)scale * below);
	return w >= (double)min_p ? w : 0;
}

int32_t sample_choose(const float *x, int n, const struct bb_sample_params *p, double u,
	int32_t *order) {
	int32_t best;
	argmax_c(NULL, &best, x, n);
	const float scale = 1 / p->temperature;
	if (!isfinite(scale) || !isfinite(x[best]) || !isfinite(scale * x[best])) {
		return best;
	}
	const bool has_top_k = p->top_k > 0 && p->top_k < n;
	for (int i = 0; i < n; i++) {
		order[i] = i;
	}
	if (has_top_k || p->top_p < 1 || p->min_p > 0) {
		sample_top(order, n, n, x);
	}
	int n_kept = has_top_k ? p->top_k : n;
	double total = 0, sum = 0;
	for (int i = 0; i < n_kept; i++) {
		total += weight((double)x[best] - x[order[i]], scale, p->min_p);
	}
	for (int i = 0; p->top_p < 1 && i < n_kept; i++) {
		sum += weight((double)x[best] - x[order[i]], scale, p->min_p);
		if (sum >= (double)p->top_p * total) {
			n_kept = i + 1;
			total = sum;
		}
	}
	double left = u * total;
	int32_t last = best;
	for (int i = 0; i < n_kept && left >= 0; i++) {
		const double w = weight((double)x[best] - x[order[i]], scale, p->min_p);
		last = w > 0 ? order[i] : last;
		left -= w;
	}
	return last;
}

static bool all_finite(const float *x, int n) {
	for (int i = 0; i < n; i++) {
		if (!isfinite(x[i])) {
			return false;
		}
	}
	return true;
}

static float clamped(double log_p) {
	return (float)fmax(log_p, -(double)FLT_MAX);
}

/* What a row of `a` says of the unmodified distribution. */
static void report(const struct bb_sample *a, int row, const float *x) {
	const struct bb_sample_params *p = &a->params[row];
	int32_t best;
	argmax_c(NULL, &best, x, a->n_vocab);
	double sum = 0, moment = 0, all_below = 0, confidence = 0;
	for (int i = 0; i < a->n_vocab; i++) {
		const double below = (double)x[best] - x[i], w = exp(-below);
		sum += w;
		moment += w > 0 ? w * below : 0;
		all_below += fmin(below, BB_SAMPLE_BELOW);
	}
	const double base = (double)x[best] + log(sum);
	a->logprobs[row] = clamped(x[a->ids[row]] - base);
	a->entropies[row] = (float)(log(sum) + moment / sum);
	const double certainty = all_below / a->n_vocab + log(sum) - log(a->n_vocab);
	a->certainties[row] = p->n_confidence > 0 ? (float)fmax(certainty, 0) : 0;
	const int n_report = p->n_top > p->n_confidence ? p->n_top : p->n_confidence;
	int n_mean = 0;
	for (int j = 0, last = -1; j < n_report && j < a->n_vocab; j++) {
		int next = -1; /* the first of those after the last one */
		for (int i = 0; i < a->n_vocab; i++) {
			if ((last < 0 || comes_first(x, last, i)) && (next < 0 || comes_first(x, i, next))) {
				next = i;
			}
		}
		if (j < p->n_top) {
			a->top_ids[row * BB_SAMPLE_TOP + j] = next;
			a->top_logprobs[row * BB_SAMPLE_TOP + j] = clamped(x[next] - base);
		}
		if (j < p->n_confidence) {
			confidence -= (double)clamped(x[next] - base);
			n_mean++;
		}
		last = next;
	}
	a->confidences[row] = n_mean > 0 ? (float)(confidence / n_mean) : 0;
}

void sample_c(bb_queue *q, const struct bb_sample *a) {
	assert(a->n_vocab > 0 && a->n_vocab <= BB_SAMPLE_VOCAB);
	float *adjusted = a->scratch;
	int32_t *order = (int32_t *)(void *)(a->scratch + scratch_stride(a->n_vocab));
	for (int row = 0; row < a->n_rows; row++) {
		const struct bb_sample_params *p = &a->params[row];
		const float *x = a->logits + (size_t)row * a->ld;
		for (int j = 0; j < BB_SAMPLE_TOP; j++) {
			a->top_ids[row * BB_SAMPLE_TOP + j] = -1;
			a->top_logprobs[row * BB_SAMPLE_TOP + j] = 0;
		}
		a->ids[row] = BB_SAMPLE_ID_NONE;
		a->logprobs[row] = a->entropies[row] = a->confidences[row] = a->certainties[row] = 0;
		if (all_finite(x, a->n_vocab)) {
			sample_adjust(adjusted, x, a->n_vocab, p);
			const double u = philox_unit(p->key, p->token_index);
			a->ids[row] = sample_choose(adjusted, a->n_vocab, p, u, order);
			report(a, row, x);
		}
	}
}
