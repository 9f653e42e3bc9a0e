/* SPDX-License-Identifier: Apache-2.0
 *
 * Probes: forks of branches that are asked for their answer while they think. A probe is a branch
 * to the plan and to the step, but has no events, and what it computes and draws is gone with
 * it. */
#include "requests.h"

#include <assert.h>

/* What a probe draws with: a function of its branch's seed, and of where it asks. */
static uint64_t seed_of(const struct branch *b) {
	const uint64_t seed = bb_branch_seed(b->request->params.generation.sampling.seed, b->index);
	return sampler_key(seed ^ ((uint64_t)b->n_output << 32)) >> 11;
}

/* As its branch draws, but anything, and not to be told. */
static bool begin_generation(struct bb_scheduler *s, struct branch *b, struct branch *probe,
	int n_tokens, struct bb_error *err) {
	struct bb_generation_params p = b->request->params.generation;
	p.sampling.seed = seed_of(b);
	p.sampling.grammar = NULL;
	p.sampling.n_logprobs = 0;
	p.sampling.wants_confidence = false;
	p.n_stop = p.n_stop_token_ids = p.min_tokens = 0;
	p.max_tokens = n_tokens;
	if (!generation_create(&probe->generation, s->engine, &p, s->max_len, err)) {
		return false;
	}
	generation_prompt(probe->generation, probe->ids.ids, probe->ids.n);
	return true;
}

bool probes_fit(const struct bb_scheduler *s, const struct branch *b, size_t n, int n_tokens) {
	return b->ids.n + n + (size_t)n_tokens <= (size_t)s->max_len;
}

bool probes_begin(struct bb_scheduler *s, struct branch *b, const int32_t *ids, size_t n,
	int n_tokens, struct bb_error *err) {
	struct branch *probe = &b->request->branches[b->request->params.n + b->index];
	assert(probes_fit(s, b, n, n_tokens));
	if (!turns_begin_probe(b, ids, n, err)) {
		return false;
	}
	probe->n_probe = n_tokens;
	if (!begin_generation(s, b, probe, n_tokens, err)) {
		turns_end_probe(s, probe);
		return false;
	}
	return true;
}

bool probes_take(struct bb_scheduler *s, struct branch *probe, bool *is_over,
	struct bb_error *err) {
	struct bb_sampled token;
	const char *text;
	size_t bytes;
	enum bb_finish finish;
	if (!generation_take(probe->generation, &token, &text, &bytes, &finish, err) ||
		!base_append(&probe->said, text, bytes, err) ||
		!bb_tokens_push(&probe->ids, token.id, err)) {
		return false;
	}
	probe->n_output++;
	probe->request->usage.n_probe_tokens++;
	*is_over = finish != BB_FINISH_NONE;
	return true;
}
