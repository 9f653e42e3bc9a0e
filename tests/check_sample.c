/* SPDX-License-Identifier: Apache-2.0
 *
 * Checks of reductions over a row of logits, and of drawing tokens. */
#include "check.h"

#include <math.h>
#include <string.h>

static const int sizes[] = { 1, 2, 7, 15, 16, 17, 31, 64, 65, 1000, 4095, 4096, 4099, 40001 };
/* above 256 chunks of 4096, where the chunks of the vector variants grow */
static const int huge_size = 1100003;
static const int bench_sizes[] = { 49152, 151936, 262144 };

/* Of so many kinds of each size, and a huge one; a device's block goes round once 4096 are done. */
static size_t n_cases(struct check *c, size_t n_kinds) {
	return check_is_bench(c) ? COUNT(bench_sizes)
		: check_is_least(c) ? (COUNT(sizes) - 1) * n_kinds : COUNT(sizes) * n_kinds + 1;
}

CHECK(argmax) {
	const bool is_bench = check_is_bench(c);
	for (size_t s = 0; s < n_cases(c, 6); s++) {
		const bool is_huge = s == COUNT(sizes) * 6;
		const int n = is_bench ? bench_sizes[s] : is_huge ? huge_size : sizes[s / 6];
		const int kind = is_bench ? 0 : (int)(s % 6);
		float *x = check_in(c, n);
		for (int i = 0; i < n; i++) {
			switch (kind) {
			case 1: /* many equal ones: the lowest index wins */
				x[i] = (float)check_rand(c, 0, 2);
				break;
			case 2:
				x[i] = NAN;
				break;
			case 3:
				x[i] = check_rand(c, 0, 99) < 90 ? NAN : x[i];
				break;
			case 4:
				x[i] = -INFINITY;
				break;
			case 5: /* +0 and -0 are equal */
				x[i] = check_rand(c, 0, 1) ? 0.0f : -0.0f;
				break;
			default:
				break;
			}
		}
		if (kind == 4 && check_rand(c, 0, 1)) {
			x[check_rand(c, 0, n - 1)] = NAN;
			x[check_rand(c, 0, n - 1)] = -3e38f;
		}
		int32_t *index = check_out_i32(c, "index", 1);
		while (check_next(c, 4.0 * n, "n=%d kind=%d", n, kind)) {
			fn(check_queue(c), index, x, n);
		}
	}
}

CHECK(softmax) {
	const bool is_bench = check_is_bench(c);
	for (size_t s = 0; s < n_cases(c, 4); s++) {
		const bool is_huge = s == COUNT(sizes) * 4;
		const int n = is_bench ? bench_sizes[s] : is_huge ? huge_size : sizes[s / 4];
		const int kind = is_bench ? 0 : (int)(s % 4);
		float *x = check_in(c, n);
		for (int i = 0; i < n; i++) {
			x[i] = x[i] * 5 + (kind == 1 ? 1e4f : 0);
			if (kind == 2 && check_rand(c, 0, 1)) {
				x[i] = i == n / 2 ? 0 : -INFINITY; /* masked tokens */
			}
		}
		if (kind == 3) {
			x[check_rand(c, 0, n - 1)] = 1e30f;
		}
		if (kind == 2) {
			x[n / 2] = 0;
		}
		const float scale = check_rand(c, 0, 1) ? 1.0f : 1.4f;
		const bool has_p = is_bench || check_rand(c, 0, 3) > 0;
		float *p = check_out(c, "p", n, (struct tol){ .rel = 8e-6f, .abs = 1e-37f });
		float *log_sum = check_out(c, "log_sum", 1, (struct tol){ .rel = 1e-6f, .abs = 1e-6f });
		while (check_next(c, (has_p ? 8.0 : 4.0) * n, "n=%d kind=%d p=%d", n, kind, has_p)) {
			fn(check_queue(c), has_p ? p : NULL, log_sum, x, n, scale);
		}
		if (has_p && !is_bench) {
			float *sum_again = check_scratch(c, sizeof(*sum_again), 4);
			fn(check_queue(c), x, sum_again, x, n, scale);
			check_same(c, "in place", x, p, sizeof(float) * n);
			check_same(c, "log_sum in place", sum_again, log_sum, sizeof(float));
		}
	}
}

/* ---- sample ---- */

enum kind {
	GREEDY,
	ALL,          /* no filter: in the order of ids */
	FEW,          /* every filter, and few tokens survive */
	NUCLEUS,      /* top_p alone, of a sharp distribution */
	WIDE_NUCLEUS, /* ... of one so flat that thousands survive */
	WIDE_TOP_K,   /* more than are sorted in one go */
	WIDE_MIN_P,
	TIED,         /* few different logits */
	SIGNED_ZEROS, /* +0 and -0 are equal */
	LISTED,       /* penalties and bias */
	LISTED_FEW,
	OVERFLOWING,  /* penalties make tokens infinite, of which one is banned */
	BANNED,       /* every token */
	WRONG,        /* a logit is NaN or infinite */
	EXTREME,      /* differences that f32 can't hold */
	N_KINDS,
};

struct sample_case {
	struct bb_sample a;
	struct bb_sample_params *params; /* [n_rows] */
	float *logits;
};

static float between(struct check *c, float lowest, float highest) {
	return lowest + (highest - lowest) * (float)check_rand(c, 0, 1000) / 1000;
}

static void make_filters(struct check *c, struct bb_sample_params *p, enum kind kind, int n) {
	const bool is_few = kind == FEW || kind == LISTED_FEW;
	/* at the third 1 / temperature is finite, and 2 / temperature isn't */
	static const float tiny[] = { 0, 1e-45f, 4e-39f, 1e-37f, 1e-6f };
	const bool is_tiny = kind == GREEDY || (kind == TIED && check_rand(c, 0, 1));
	p->temperature = is_tiny ? tiny[check_rand(c, 0, 4)] : between(c, 0.5f, 1.5f);
	p->top_p = p->repetition_penalty = 1;
	if (is_few || kind == TIED || kind == SIGNED_ZEROS || kind == EXTREME) {
		p->top_k = check_rand(c, -1, n < 100 ? n + 1 : 100);
		p->top_p = check_rand(c, 0, 2) > 0 ? between(c, 0.1f, 0.99f) : 1;
		p->min_p = check_rand(c, 0, 2) > 0 ? between(c, 0, 0.2f) : 0;
	} else if (kind == NUCLEUS || kind == WIDE_NUCLEUS) {
		p->top_p = between(c, 0.5f, 0.99f);
	} else if (kind == WIDE_TOP_K) {
		p->top_k = n / 2 + 1;
		p->top_p = check_rand(c, 0, 1) ? 0.9f : 1;
	} else if (kind == WIDE_MIN_P) {
		p->min_p = 0.01f;
		p->top_p = check_rand(c, 0, 1) ? 0.9f : 1;
	}
}

static void make_logits(struct check *c, float *x, enum kind kind, int n) {
	const bool is_flat = kind == WIDE_NUCLEUS || kind == WIDE_TOP_K || kind == WIDE_MIN_P;
	for (int i = 0; i < n; i++) {
		x[i] = kind == TIED ? (float)check_rand(c, 0, 2) : kind == SIGNED_ZEROS
			? (check_rand(c, 0, 1) ? 0.0f : -0.0f) : x[i] * (is_flat ? 0.5f : 4.0f);
	}
	if (kind == OVERFLOWING) {
		x[0] = x[n / 3] = x[n / 2] = 1e36f;
	} else if (kind == EXTREME) {
		x[n / 3] = 3e38f;
		x[n / 2] = -3e38f;
	} else if (kind == WRONG) {
		const float wrong[] = { NAN, INFINITY, -INFINITY };
		x[check_rand(c, 0, n - 1)] = wrong[check_rand(c, 0, 2)];
	}
}

/* Lists for some tokens, of which some have several biases. */
static void make_lists(struct check *c, struct bb_sample_params *p, enum kind kind, int n) {
	p->n_counts = kind == OVERFLOWING ? n : check_rand(c, 1, n < 99 ? n : 99);
	p->n_bias = kind == BANNED ? n : check_rand(c, 1, n < 50 ? n : 50);
	p->repetition_penalty = kind == OVERFLOWING ? 1e-6f : between(c, 0.8f, 2);
	p->presence_penalty = between(c, -2, 2);
	p->frequency_penalty = between(c, -1, 1);
	struct bb_token_count *counts =
		check_in_bytes(c, (size_t)p->n_counts * sizeof(*counts), _Alignof(int32_t));
	for (int i = 0; i < p->n_counts; i++) {
		counts[i].id = (int32_t)((int64_t)i * n / p->n_counts);
		counts[i].n_output = check_rand(c, 0, 3);
	}
	p->counts = counts;
	struct bb_token_bias *bias =
		check_in_bytes(c, (size_t)p->n_bias * sizeof(*bias), _Alignof(int32_t));
	for (int i = 0; i < p->n_bias; i++) {
		const int distinct = kind == BANNED ? i : i / 2;
		bias[i].id = (int32_t)((int64_t)distinct * n / p->n_bias);
		const bool is_ban = kind == BANNED || (kind == OVERFLOWING && i == 0) ||
			check_rand(c, 0, 7) == 0;
		bias[i].bias = is_ban ? -INFINITY : check_normal(c) * 3;
	}
	p->bias = bias;
}

/* From one token to all of them. */
static void make_mask(struct check *c, struct bb_sample_params *p, int n) {
	const size_t n_words = ((size_t)n + 31) / 32;
	uint32_t *mask = check_in_bytes(c, n_words * sizeof(*mask), _Alignof(uint32_t));
	const int density = check_rand(c, 0, 3);
	for (size_t i = 0; i < n_words; i++) {
		const uint32_t bits = (uint32_t)check_rand(c, 0, INT32_MAX) * 2u +
			(uint32_t)check_rand(c, 0, 1);
		mask[i] = density == 0 ? 0 : density == 1 ? bits & bits >> 7 & bits >> 13
			: density == 2 ? bits : UINT32_MAX;
	}
	const int one = check_rand(c, 0, n - 1);
	mask[one >> 5] |= 1u << (one & 31);
	p->mask = mask;
}

/* Whether the choice stands when u, top_p and min_p move a little: then it doesn't depend on how
 * sums are rounded. */
static bool is_sure(const float *x, int n, const struct bb_sample_params *p, int32_t *order) {
	const double move = 1e-6, u = philox_unit(p->key, p->token_index);
	const int32_t id = sample_choose(x, n, p, u, order);
	for (int i = 0; i < 8; i++) {
		struct bb_sample_params moved = *p;
		const double v = u + (i & 1 ? move : -move);
		if (p->top_p < 1) {
			const float top_p = p->top_p * (float)(1 + (i & 2 ? move : -move));
			moved.top_p = top_p < 1 ? top_p : 0.9999999f;
		} else if ((i & 2) != 0) {
			continue;
		}
		if (p->min_p == 0 && (i & 4) != 0) {
			continue;
		}
		moved.min_p *= (float)(1 + (i & 4 ? move : -move));
		if (v < 0 || v >= 1 || sample_choose(x, n, &moved, v, order) != id) {
			return false;
		}
	}
	return true;
}

/* Moves on to a token whose draw is sure. */
static void make_sure(struct check *c, const float *logits, int n, struct bb_sample_params *p) {
	float *x = check_scratch(c, sizeof(*x) * n, 4);
	int32_t *order = check_scratch(c, sizeof(*order) * n, 4);
	sample_adjust(x, logits, n, p);
	for (int i = 0; i < 200; i++, p->token_index++) {
		if (is_sure(x, n, p, order)) {
			return;
		}
	}
	check_fail(c, "no draw of 200 is sure");
}

static void make_row(struct check *c, struct sample_case *s, int row, enum kind kind) {
	const int n = s->a.n_vocab;
	float *x = s->logits + (size_t)row * s->a.ld;
	struct bb_sample_params *p = &s->params[row];
	memset(p, 0, sizeof(*p));
	p->key = (uint64_t)check_rand(c, 0, INT32_MAX) << 32 | (uint64_t)check_rand(c, 0, INT32_MAX);
	p->token_index = (uint32_t)check_rand(c, 0, INT32_MAX);
	p->n_top = check_rand(c, 0, 3) > 0 ? check_rand(c, 0, BB_SAMPLE_TOP) : 0;
	p->n_confidence = check_rand(c, 0, 3) > 0 ? BB_SAMPLE_TOP : 0;
	make_filters(c, p, kind, n);
	make_logits(c, x, kind, n);
	if (kind >= LISTED && kind <= BANNED) {
		make_lists(c, p, kind, n);
	}
	if (check_rand(c, 0, 2) == 0) {
		make_mask(c, p, n);
	}
	if (kind != WRONG) {
		make_sure(c, x, n, p);
	}
}

static struct bb_sample make_outputs(struct check *c, const struct sample_case *s) {
	struct bb_sample a = s->a;
	const size_t n = (size_t)a.n_rows;
	const struct tol tol = { .rel = 1e-6f, .abs = 1e-6f };
	a.ids = check_out_i32(c, "ids", n);
	a.logprobs = check_out(c, "logprobs", n, tol);
	a.entropies = check_out(c, "entropies", n, (struct tol){ .rel = 1e-6f, .abs = 1e-6f });
	a.confidences = check_out(c, "confidences", n, tol);
	a.certainties = check_out(c, "certainties", n, tol);
	a.top_ids = check_out_i32(c, "top_ids", n * BB_SAMPLE_TOP);
	a.top_logprobs = check_out(c, "top_logprobs", n * BB_SAMPLE_TOP, tol);
	a.scratch = check_scratch(c, sample_scratch_bytes(a.n_rows, a.n_vocab), 16);
	return a;
}

/* A row among others has the bits that it has alone. */
static void check_row_alone(struct check *c, sample_fn *fn, const struct bb_sample *a, int row) {
	struct bb_sample one = *a;
	one.n_rows = 1;
	one.logits += (size_t)row * a->ld;
	one.params += row;
	one.ids = check_scratch(c, sizeof(*one.ids), 4);
	one.logprobs = check_scratch(c, sizeof(*one.logprobs), 4);
	one.entropies = check_scratch(c, sizeof(*one.entropies), 4);
	one.confidences = check_scratch(c, sizeof(*one.confidences), 4);
	one.certainties = check_scratch(c, sizeof(*one.certainties), 4);
	one.top_ids = check_scratch(c, sizeof(*one.top_ids) * BB_SAMPLE_TOP, 4);
	one.top_logprobs = check_scratch(c, sizeof(*one.top_logprobs) * BB_SAMPLE_TOP, 4);
	fn(check_queue(c), &one);
	const size_t top = (size_t)row * BB_SAMPLE_TOP, bytes = sizeof(float);
	check_same(c, "id alone", one.ids, a->ids + row, bytes);
	check_same(c, "logprob alone", one.logprobs, a->logprobs + row, bytes);
	check_same(c, "entropy alone", one.entropies, a->entropies + row, bytes);
	check_same(c, "confidence alone", one.confidences, a->confidences + row, bytes);
	check_same(c, "certainty alone", one.certainties, a->certainties + row, bytes);
	check_same(c, "top_ids alone", one.top_ids, a->top_ids + top, bytes * BB_SAMPLE_TOP);
	check_same(c, "top_logprobs alone", one.top_logprobs, a->top_logprobs + top,
		bytes * BB_SAMPLE_TOP);
}

/* Rows of kinds first_kind, first_kind + 1, ... */
static void check_rows(struct check *c, sample_fn *fn, int n, int n_rows, enum kind first_kind) {
	struct sample_case s = { .a = { .n_vocab = n, .n_rows = n_rows } };
	s.a.ld = check_is_bench(c) ? n : n + check_rand(c, 0, 5);
	s.logits = check_in(c, (size_t)n_rows * s.a.ld);
	s.params = check_in_bytes(c, (size_t)n_rows * sizeof(*s.params), _Alignof(uint64_t));
	s.a.logits = s.logits;
	s.a.params = s.params;
	for (int row = 0; row < n_rows; row++) {
		make_row(c, &s, row, check_is_bench(c) ? first_kind : (first_kind + row) % N_KINDS);
	}
	const struct bb_sample a = make_outputs(c, &s);
	while (check_next(c, 4.0 * n * n_rows, "n=%d rows=%d kind=%d", n, n_rows, (int)first_kind)) {
		fn(check_queue(c), &a);
	}
	if (!check_is_bench(c) && n < 5000) {
		check_row_alone(c, fn, &a, check_rand(c, 0, n_rows - 1));
	}
}

CHECK(sample) {
	if (check_is_bench(c)) {
		static const enum kind kinds[] = { GREEDY, ALL, FEW, NUCLEUS, WIDE_NUCLEUS };
		for (size_t s = 0; s < COUNT(bench_sizes); s++) {
			for (size_t k = 0; k < COUNT(kinds); k++) {
				check_rows(c, fn, bench_sizes[s], 1, kinds[k]);
			}
			check_rows(c, fn, bench_sizes[s], 8, FEW);
		}
		return;
	}
	static const int vocabs[] = { 1, 2, 7, 33, 64, 129, 1000, 1023, 1025, 4099 };
	for (size_t s = 0; s < COUNT(vocabs); s++) {
		check_rows(c, fn, vocabs[s], N_KINDS, 0);
	}
	check_rows(c, fn, 40001, check_is_least(c) ? 1 : 7, check_rand(c, 0, N_KINDS - 1));
	if (!check_is_least(c)) {
		check_rows(c, fn, 262144, 1, check_rand(c, 0, N_KINDS - 1));
	}
}
