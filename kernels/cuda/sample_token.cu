/* SPDX-License-Identifier: Apache-2.0
 *
 * Drawing a token from a row of logits, one block a row. What it means is said above struct
 * bb_sample; how places and sums are found, in sample_select.cuh.
 *
 * Most rows need few tokens: as many as top_k, or those that top_p or min_p leave, and these are
 * sorted in shared memory. Where more than that survive, each filter and the draw are a radix
 * select of their own over the whole row. Both ways give the same bits, being sums of whole
 * numbers. */
#include "sample_select.cuh"

#include <assert.h>

enum { MANY = 512 }; /* asked for where their number isn't known; THREADS would overflow the list */

/* ---- randomness ---- */

/* philox_unit as a whole number of 53 bits. */
DEVICE uint64_t philox_bits(uint64_t key, uint32_t index) {
	uint32_t c0 = index, c1 = 0, c2 = 0, c3 = 0, k0 = (uint32_t)key, k1 = (uint32_t)(key >> 32);
	for (int round = 0; round < 10; round++) {
		const uint32_t a = 0xD2511F53u * c0, b = 0xCD9E8D57u * c2;
		const uint32_t high_a = __umulhi(0xD2511F53u, c0), high_b = __umulhi(0xCD9E8D57u, c2);
		c0 = high_b ^ c1 ^ k0;
		c2 = high_a ^ c3 ^ k1;
		c1 = b;
		c3 = a;
		k0 += 0x9E3779B9u;
		k1 += 0xBB67AE85u;
	}
	return (uint64_t)c0 << 21 ^ c1 >> 11;
}

/* floor(total * u), u of 53 bits, below total. */
DEVICE uint64_t share_of_total(uint64_t total, uint64_t u) {
	const uint64_t v = u << 11;
	const uint64_t a = total >> 32, b = (uint32_t)total, c = v >> 32, d = (uint32_t)v;
	const uint64_t middle = (b * d >> 32) + (uint32_t)(a * d) + (uint32_t)(b * c);
	return a * c + (a * d >> 32) + (b * c >> 32) + (middle >> 32);
}

/* The least sum that reaches top_p of the total. */
DEVICE uint64_t nucleus_of(uint64_t total, float top_p) {
	const uint64_t need = (uint64_t)ceil((double)top_p * (double)total);
	return need < 1 ? 1 : min(need, total);
}

/* ---- the row as it is drawn from ---- */

/* The best place; *own: of this thread's elements, 0 when it has none. A row that may hold what is
 * no number is `refused` where it does: then the best place is all ones. */
DEVICE uint64_t best_of(const struct row *r, bool is_refused, uint64_t *own, struct room *m) {
	uint64_t best = 0;
	bool is_wrong = false;
#pragma unroll 1
	for (int i = first_of(r); i < r->end; i += QUAD) {
		float x[4];
		load_four(x, r, i);
		for (int j = 0; j < 4; j++) {
			const uint64_t place = place_of(x[j], i + j);
			if (i + j < r->end) {
				is_wrong = is_wrong || !(fabsf(x[j]) <= FLT_MAX);
				best = place > best ? place : best;
			}
		}
	}
	*own = best;
	return block_largest(is_refused && is_wrong ? UINT64_MAX : best, m);
}

/* What the mask lacks of four elements from i on, a multiple of 4, is -INFINITY: what is done to it
 * by penalties and bias leaves it that. */
DEVICE float4 masked(float4 v, const uint32_t *mask, int i) {
	const uint32_t bits = mask[i >> 5] >> (i & 31);
	v.x = (bits & 1) != 0 ? v.x : -INFINITY;
	v.y = (bits & 2) != 0 ? v.y : -INFINITY;
	v.z = (bits & 4) != 0 ? v.z : -INFINITY;
	v.w = (bits & 8) != 0 ? v.w : -INFINITY;
	return v;
}

/* y = the row after penalties, bias and mask. */
DEVICE void adjust(float *y, const struct row *r, const struct bb_sample_params *p) {
	const int t = (int)threadIdx.x;
#pragma unroll 1
	for (int i = first_of(r); i < r->end; i += QUAD) {
		const float4 v = load4(r->x + i, r->end - i, r->wide);
		store4(y + i, p->mask != NULL ? masked(v, p->mask, i) : v, r->end - i, true);
	}
	__syncthreads();
	for (int i = t; i < p->n_counts; i += THREADS) {
		const int id = p->counts[i].id, n_output = p->counts[i].n_output;
		float x = y[id];
		x = x > 0.0f ? x / p->repetition_penalty : x * p->repetition_penalty;
		if (n_output > 0) {
			x -= p->presence_penalty + p->frequency_penalty * (float)n_output;
		}
		y[id] = x;
	}
	__syncthreads();
	for (int i = t; i < p->n_bias; i += THREADS) {
		const int id = p->bias[i].id;
		if (i > 0 && p->bias[i - 1].id == id) {
			continue; /* the thread of the id's first bias adds all of them, in order */
		}
		float x = y[id];
		for (int j = i; j < p->n_bias && p->bias[j].id == id; j++) {
			const float bias = p->bias[j].bias;
			x = bias == -INFINITY ? -INFINITY : x + bias;
		}
		y[id] = x;
	}
	__syncthreads();
}

/* This thread's weights of tokens from place `least` on. */
DEVICE uint64_t weigh(const struct row *r, uint64_t least) {
	uint64_t sum = 0;
#pragma unroll 1
	for (int i = first_of(r); i < r->end; i += QUAD) {
		float x[4];
		load_four(x, r, i);
		for (int j = 0; j < 4; j++) {
			if (i + j < r->end && place_of(x[j], i + j) >= least) {
				sum += weight_of(r, x[j]);
			}
		}
	}
	return sum;
}

/* ---- choosing ---- */

struct filters {
	int top_k; /* n_vocab: none */
	float top_p;
	bool has_cut, has_any; /* top_k or min_p; one of the three */
};

/* Among the first n_listed of the falling order, of which place is this thread's; -1: these aren't
 * enough to tell. */
DEVICE int choose_listed(const struct row *r, const struct filters *f, uint64_t place, int n_listed,
	uint64_t u, struct room *m) {
	const int t = (int)threadIdx.x;
	const bool counts = t < n_listed && t < f->top_k;
	const uint64_t own = counts ? weight_of(r, logit_of(place)) : 0;
	const uint64_t sum = block_scan(own, m);
	const struct found last = of_one(t == n_listed - 1, place, sum, m);
	/* exp_f32 may fall back by a last bit where it should rise: a token just below min_p doesn't
	 * prove that all after it are. */
	const bool has_all = f->top_k <= n_listed || n_listed == r->n
		|| share_of(r, logit_of(last.place)) < r->min_p * 0.999999f;
	if (!has_all && f->has_cut) {
		return -1;
	}
	uint64_t kept = has_all ? last.sum : block_sum(weigh(r, 0), m);
	if (f->top_p < 1.0f) {
		const uint64_t need = nucleus_of(kept, f->top_p);
		if (need > last.sum) {
			return -1;
		}
		kept = of_one(sum >= need && sum - own < need, place, sum, m).sum;
	}
	const uint64_t need = share_of_total(kept, u) + 1;
	return id_of(of_one(sum >= need && sum - own < need, place, sum, m).place);
}

/* Over the whole row, whatever survives: what top_k keeps is selected by number, what top_p keeps
 * of it and the token by weight. */
DEVICE int choose_by_select(const struct row *r, const struct filters *f, uint64_t u,
	struct room *m) {
	enum { TOP_K, TOP_P, DRAW };
	struct found at = { 0, 0 };
#pragma unroll 1
	for (int step = f->top_k < r->n ? TOP_K : TOP_P; step <= DRAW; step++) {
		if (step == TOP_P) {
			at.sum = block_sum(weigh(r, at.place), m);
		}
		if (step != TOP_P || f->top_p < 1.0f) {
			const uint64_t need = step == TOP_K ? (uint64_t)f->top_k
				: step == TOP_P ? nucleus_of(at.sum, f->top_p) : share_of_total(at.sum, u) + 1;
			at = first_reaching(r, step != TOP_K, need, m);
		}
	}
	return id_of(at.place);
}

/* Of the whole row, in the order of ids. */
DEVICE int choose_of_all(const struct row *r, uint64_t u, struct room *m) {
	const uint64_t sum = warp_sum(weigh(r, 0));
	const uint64_t total = warp_sum(of_warps(sum, m));
	return first_id_reaching(r, sum, share_of_total(total, u) + 1, m);
}

/* ---- what is said of the unmodified distribution ---- */

/* How far an element lies under the best, in multiples of 2^-20: 2^19 of them fit 63 bits. */
DEVICE uint64_t depth_of(float below) {
	return (uint64_t)llrintf(fminf(below, (float)BB_SAMPLE_BELOW) * 0x1p20f);
}
static_assert(BB_SAMPLE_BELOW == 1 << 24, "depths in 63 bits");

/* log sum e^l; thread 0 stores entropy and certainty. */
DEVICE double measure(const struct row *r, const struct bb_sample *a, struct room *m) {
	uint64_t sum = 0, moment = 0, depths = 0;
#pragma unroll 1
	for (int i = first_of(r); i < r->end; i += QUAD) {
		float x[4];
		load_four(x, r, i);
		for (int j = 0; j < 4; j++) {
			const float below = r->best - x[j], w = exp_f32(-below);
			depths += i + j < r->end ? depth_of(below) : 0;
			if (i + j < r->end && w > 0.0f) { /* w * below is at most 1 / e */
				sum += whole_of(w);
				moment += whole_of(w * below);
			}
		}
	}
	sum = block_sum(sum, m);
	moment = block_sum(moment, m);
	depths = block_sum(depths, m);
	const double log_sum = log((double)sum * 0x1p-44);
	if (threadIdx.x == 0) {
		const int row = (int)blockIdx.x;
		const double mean = (double)depths * 0x1p-20 / (double)r->n;
		const double certainty = fmax(mean + log_sum - log((double)r->n), 0.0);
		a->entropies[row] = (float)(log_sum + (double)moment / (double)sum);
		a->certainties[row] = a->params[row].n_confidence > 0 ? (float)certainty : 0.0f;
	}
	return (double)r->best + log_sum;
}

/* base: log sum e^l. */
DEVICE float log_probability(float logit, double base) {
	const double log_p = (double)logit - base;
	return (float)(log_p < -(double)FLT_MAX ? -(double)FLT_MAX : log_p);
}

/* The alternatives, of which place is this thread's. */
DEVICE void report(const struct bb_sample *a, double base, uint64_t place, int n_listed) {
	const int t = (int)threadIdx.x, row = (int)blockIdx.x;
	const int n_top = min(a->params[row].n_top, n_listed);
	const int n_mean = min(a->params[row].n_confidence, n_listed);
	const float log_p = log_probability(logit_of(place), base);
	if (t < BB_SAMPLE_TOP) {
		const size_t at = (size_t)row * BB_SAMPLE_TOP + (size_t)t;
		a->top_ids[at] = t < n_top ? id_of(place) : -1;
		a->top_logprobs[at] = t < n_top ? log_p : 0.0f;
	}
	if (t < WARP) {
		double sum = 0.0; /* in order, by every lane */
		for (int j = 0; j < n_mean; j++) {
			sum -= (double)__shfl_sync(ALL_LANES, log_p, j);
		}
		if (t == 0) {
			a->confidences[row] = n_mean > 0 ? (float)(sum / n_mean) : 0.0f;
		}
	}
}

DEVICE void refuse(const struct bb_sample *a) {
	const int t = (int)threadIdx.x, row = (int)blockIdx.x;
	if (t < BB_SAMPLE_TOP) {
		const size_t at = (size_t)row * BB_SAMPLE_TOP + (size_t)t;
		a->top_ids[at] = -1;
		a->top_logprobs[at] = 0.0f;
	}
	if (t == 0) {
		a->ids[row] = BB_SAMPLE_ID_NONE;
		a->logprobs[row] = a->entropies[row] = 0.0f;
		a->confidences[row] = a->certainties[row] = 0.0f;
	}
}

/* ---- the kernel ---- */

DEVICE struct filters filters_of(const struct bb_sample_params *p, int n_vocab) {
	struct filters f;
	f.top_k = p->top_k > 0 && p->top_k < n_vocab ? p->top_k : n_vocab;
	f.top_p = p->top_p;
	f.has_cut = f.top_k < n_vocab || p->min_p > 0.0f;
	f.has_any = f.has_cut || f.top_p < 1.0f;
	return f;
}

/* How many of the first choose_listed asks for. */
DEVICE int n_listed_for(struct filters f) {
	return f.has_any ? min(f.top_k, (int)MANY) : 0;
}

DEVICE bool is_finite(float x) {
	return fabsf(x) <= FLT_MAX;
}

/* place, n_listed: of the list that list_first made of r, 0 when it wasn't asked to. */
DEVICE int choose(const struct row *r, const struct filters *f, uint64_t best, uint64_t place,
	int n_listed, uint64_t u, struct room *m) {
	if (!is_finite(r->best) || !is_finite(r->scale) || !is_finite(r->scale * r->best)) {
		return id_of(best);
	}
	if (!f->has_any) {
		return choose_of_all(r, u, m);
	}
	const int id = choose_listed(r, f, place, n_listed, u, m);
	return id >= 0 ? id : choose_by_select(r, f, u, m);
}

__global__ void __launch_bounds__(THREADS) sample_kernel(struct bb_sample a, size_t ld_scratch,
	bool wide) {
	SHARED(struct room, rooms, [1]);
	struct room *const m = rooms;
	const int i = (int)blockIdx.x;
	const struct bb_sample_params *const p = a.params + i;
	struct row r = row_of(a.logits + (size_t)i * (size_t)a.ld, a.n_vocab, wide);
	uint64_t own, place = 0, best = best_of(&r, true, &own, m);
	if (best == UINT64_MAX) {
		refuse(&a);
		return;
	}
	r.best = logit_of(best);
	const double base = measure(&r, &a, m);

	const float scale = 1.0f / p->temperature;
	const bool is_adjusted = p->n_counts > 0 || p->n_bias > 0 || p->mask != NULL;
	const int n_draw = is_finite(scale) ? n_listed_for(filters_of(p, a.n_vocab)) : 0;
	const int n_report = min(max(p->n_top, p->n_confidence), a.n_vocab);
	int n_wanted = is_adjusted ? n_report : max(n_report, n_draw), n_listed;
#pragma unroll 1
	for (bool is_raw = true;; is_raw = false) {
		n_listed = n_wanted > 0 ? list_first(&place, &r, own, n_wanted, m) : 0;
		if (is_raw) {
			report(&a, base, place, n_listed);
		}
		if (!is_raw || !is_adjusted) {
			break;
		}
		float *const adjusted = a.scratch + (size_t)i * ld_scratch;
		adjust(adjusted, &r, p);
		r = row_of(adjusted, a.n_vocab, true);
		best = best_of(&r, false, &own, m);
		r.best = logit_of(best);
		n_wanted = n_draw;
	}
	r.scale = scale;
	r.min_p = p->min_p;
	const uint64_t u = philox_bits(p->key, p->token_index);
	const struct filters f = filters_of(p, a.n_vocab); /* anew: kept until here, it would spill */
	const int id = choose(&r, &f, best, place, n_listed, u, m);
	if (threadIdx.x == 0) {
		a.ids[i] = id;
		a.logprobs[i] = log_probability(a.logits[(size_t)i * (size_t)a.ld + (size_t)id], base);
	}
}

extern "C" void sample_sm80(bb_queue *q, const struct bb_sample *a) {
	assert(a->n_vocab > 0 && a->n_vocab <= BB_SAMPLE_VOCAB);
	const size_t ld_scratch = ((size_t)a->n_vocab + 3) / 4 * 4;
	if (a->n_rows > 0) {
		LAUNCH(sample_kernel, (unsigned)a->n_rows, THREADS, 0, q->stream, *a, ld_scratch,
			is_wide(a->logits, a->ld));
		queue_launched(q, "sample");
	}
}
