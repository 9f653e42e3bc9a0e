/* SPDX-License-Identifier: Apache-2.0
 *
 * Does a token cost the same, however much a context has read? At positions that are spread evenly
 * from FROM to TO, steps of one long context and of a fresh one take turns, so that a noisy machine
 * is fair to both; medians are compared.
 *
 * flat_decode MODEL [FROM TO [POSITIONS [STEPS]]]      10000 100000 10 64 */
#include "bobbin.h"

#include <stdio.h>
#include <stdlib.h>
#include <time.h>

struct run {
	struct bb_engine *engine;
	struct bb_context *old, *fresh;
	int n_vocab, n_steps;
	double *ms_old, *ms_fresh; /* [n_steps] */
	float *logits;             /* [n_vocab] */
	uint32_t random;
};

static bool fail(const struct bb_error *err) {
	fprintf(stderr, "flat_decode: %s\n", err->text);
	return false;
}

static int32_t next_id(struct run *r) {
	r->random = r->random * 1664525u + 1013904223u;
	return (int32_t)((r->random >> 8) % (uint32_t)r->n_vocab);
}

static double now_ms(void) {
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec * 1e3 + (double)t.tv_nsec * 1e-6;
}

static int by_value(const void *a, const void *b) {
	const double x = *(const double *)a, y = *(const double *)b;
	return (x > y) - (x < y);
}

static double median(double *v, int n) {
	qsort(v, (size_t)n, sizeof(*v), by_value);
	return n % 2 == 1 ? v[n / 2] : (v[n / 2 - 1] + v[n / 2]) / 2;
}

static bool read_to(struct run *r, int n_tokens, struct bb_error *err) {
	enum { PIECE = 512 };
	int32_t ids[PIECE];
	while (bb_context_length(r->old) < n_tokens) {
		const int left = n_tokens - bb_context_length(r->old), n = left < PIECE ? left : PIECE;
		for (int i = 0; i < n; i++) {
			ids[i] = next_id(r);
		}
		if (!bb_prefill(r->old, ids, (size_t)n, NULL, NULL, NULL, err)) {
			return false;
		}
		fprintf(stderr, "\rflat_decode: %d of %d tokens read", bb_context_length(r->old), n_tokens);
	}
	fprintf(stderr, "\n");
	return true;
}

static bool time_step(struct run *r, struct bb_context *c, int32_t id, double *ms,
	struct bb_error *err) {
	const struct bb_step_item item = { .context = c, .tokens = &id, .n_tokens = 1,
		.logits = r->logits };
	const double before = now_ms();
	if (!bb_step(r->engine, &item, 1, err)) {
		return false;
	}
	*ms = now_ms() - before;
	return true;
}

/* Prints the medians of one position; *ratio: old by fresh. */
static bool compare_at(struct run *r, int position, double *ratio, struct bb_error *err) {
	bool ok = read_to(r, position, err) && bb_context_create(&r->fresh, r->engine, NULL, err);
	for (int i = 0; ok && i < r->n_steps; i++) {
		const int32_t id = next_id(r);
		ok = i % 2 == 0 ? time_step(r, r->old, id, &r->ms_old[i], err) &&
				time_step(r, r->fresh, id, &r->ms_fresh[i], err)
			: time_step(r, r->fresh, id, &r->ms_fresh[i], err) &&
				time_step(r, r->old, id, &r->ms_old[i], err);
	}
	bb_context_destroy(r->fresh);
	r->fresh = NULL;
	if (ok) {
		const double old = median(r->ms_old, r->n_steps);
		const double fresh = median(r->ms_fresh, r->n_steps);
		*ratio = old / fresh;
		printf("| %d | %.3f | %.3f | %.3f |\n", position, old, fresh, *ratio);
		fflush(stdout);
	}
	return ok;
}

static bool work(struct run *r, int from, int to, int n_positions, struct bb_error *err) {
	double *ratios = calloc((size_t)n_positions, sizeof(*ratios));
	bool ok = ratios != NULL && bb_context_create(&r->old, r->engine, NULL, err);
	printf("| position | ms per token | ms, fresh context | ratio |\n|---:|---:|---:|---:|\n");
	for (int i = 0; ok && i < n_positions; i++) {
		const int position = n_positions > 1
			? from + (int)((int64_t)(to - from) * i / (n_positions - 1)) : from;
		ok = compare_at(r, position, &ratios[i], err);
	}
	if (ok) {
		const double last = ratios[n_positions - 1];
		printf("\nmedian of the ratios: %.3f; at the last position: %.3f\n",
			median(ratios, n_positions), last);
	}
	free(ratios);
	bb_context_destroy(r->old);
	return ok;
}

static int number(int n_args, char **args, int i, int fallback) {
	const long n = i < n_args ? strtol(args[i], NULL, 10) : fallback;
	return n > 0 && n < 1 << 30 ? (int)n : 0;
}

int main(int n_args, char **args) {
	const int from = number(n_args, args, 2, 10000), to = number(n_args, args, 3, 100000);
	const int n_positions = number(n_args, args, 4, 10), n_steps = number(n_args, args, 5, 64);
	if (n_args < 2 || n_args > 6 || from == 0 || to < from || n_positions == 0 || n_steps == 0) {
		fprintf(stderr, "usage: flat_decode MODEL [FROM TO [POSITIONS [STEPS]]]\n");
		return 2;
	}
	if (n_positions > 1 && (to - from) / (n_positions - 1) < n_steps) {
		fprintf(stderr, "flat_decode: positions stand %d tokens apart; expected at least STEPS, "
			"%d\n", (to - from) / (n_positions - 1), n_steps);
		return 2;
	}
	struct run r = { .n_steps = n_steps, .random = 1 };
	struct bb_error err = { 0 };
	struct bb_engine_info info;
	const struct bb_engine_params params = { .path = args[1], .max_model_len = to + n_steps };
	if (!bb_engine_open(&r.engine, bb_models, &params, &err)) {
		fail(&err);
		return 1;
	}
	bb_engine_info(r.engine, &info);
	r.n_vocab = info.n_vocab;
	r.ms_old = calloc((size_t)n_steps, sizeof(*r.ms_old));
	r.ms_fresh = calloc((size_t)n_steps, sizeof(*r.ms_fresh));
	r.logits = calloc((size_t)r.n_vocab, sizeof(*r.logits));
	printf("%s %s, %s, %d threads; steps of both in turns, %d a position\n\n", info.arch,
		info.weight_type, info.cpu, info.n_threads, n_steps);
	const bool ok = (r.ms_old != NULL && r.ms_fresh != NULL && r.logits != NULL &&
			work(&r, from, to, n_positions, &err))
		|| fail(&err);
	free(r.ms_old);
	free(r.ms_fresh);
	free(r.logits);
	bb_engine_destroy(r.engine);
	return ok ? 0 : 1;
}
