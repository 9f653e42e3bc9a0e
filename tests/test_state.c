/* SPDX-License-Identifier: Apache-2.0
 *
 * Fixed states of recurrent layers: what a rewind computes again and what it doesn't, checkpoints
 * within their budget, memory that doesn't grow with the context, room that was reserved, and
 * nothing lost when something fails. */
#include "models.h"

#include "engine.h"

#include <math.h>

static struct bb_engine *open_typed(const char *name, const char *device,
	enum bb_kv_type cache_type, size_t cache_bytes) {
	const struct bb_engine_params params = { .path = tiny_path(name), .device = device,
		.n_threads = 1, .state_cache_bytes = cache_bytes, .state_cache_type = cache_type,
		.max_model_len = 1 << 20 };
	struct bb_engine *e;
	struct bb_error err = { 0 };
	if (!bb_engine_open(&e, bb_models, &params, &err)) {
		cr_skip_test("%s", err.text);
	}
	return e;
}

static struct bb_engine *open_cached(const char *name, size_t cache_bytes) {
	return open_typed(name, "cpu", BB_KV_AUTO, cache_bytes);
}

static uint64_t rows_of(const struct bb_engine *e) {
	struct bb_engine_stats stats;
	bb_engine_stats(e, &stats);
	return stats.n_rows;
}

/* Reads n tokens and returns the logits behind them. */
static float *read_all(struct bb_context *c, struct bb_engine *e, const int32_t *ids, int n) {
	struct bb_error err = { 0 };
	float *logits = malloc((size_t)vocab_of(e) * sizeof(float));
	cr_assert(bb_prefill(c, ids, (size_t)n, logits, NULL, NULL, &err), "%s", err.text);
	return logits;
}

static void rewind_to(struct bb_context *c, int n_tokens) {
	struct bb_error err = { 0 };
	cr_assert(bb_context_rewind(c, n_tokens, &err), "%s", err.text);
	cr_assert_eq(bb_context_length(c), n_tokens);
}

/* Goes on with other tokens behind the first `at`, in a fork that is rewound there; the logits must
 * be those of a context that never knew of anything else. Returns how many tokens it computed. */
static uint64_t diverge(struct bb_context *c, int at, const int32_t *other, int n_other) {
	struct bb_engine *e = c->engine;
	struct bb_error err = { 0 };
	struct bb_context *fork, *fresh = new_context(e);
	int32_t *all = malloc((size_t)(at + n_other) * sizeof(*all));
	memcpy(all, bb_context_tokens(c), (size_t)at * sizeof(*all));
	memcpy(all + at, other, (size_t)n_other * sizeof(*all));
	const uint64_t before = rows_of(e);
	cr_assert(bb_context_fork(&fork, c, &err), "%s", err.text);
	rewind_to(fork, at);
	float *got = read_all(fork, e, other, n_other);
	const uint64_t computed = rows_of(e) - before;
	float *want = read_all(fresh, e, all, at + n_other);
	cr_assert_eq(memcmp(got, want, (size_t)vocab_of(e) * sizeof(float)), 0);
	cr_assert_eq(memcmp(bb_context_tokens(fork), all, (size_t)(at + n_other) * sizeof(*all)), 0);
	free(want);
	free(got);
	free(all);
	bb_context_destroy(fresh);
	bb_context_destroy(fork);
	return computed;
}

/* Of 1200 tokens with a message boundary at 1000 the first 1000 are shared, then 200 differ. */
static void check_divergence(const char *name) {
	struct bb_engine *e = open_cached(name, 0);
	struct bb_context *c = new_context(e);
	struct bb_error err = { 0 };
	int32_t ids[1200], other[200];
	make_ids(ids, 1200, vocab_of(e), 1);
	make_ids(other, 200, vocab_of(e), 2);
	free(read_all(c, e, ids, 1000));
	cr_assert(bb_context_begin_segment(c, 1000, BB_ROLE_USER, &err), "%s", err.text);
	free(read_all(c, e, ids + 1000, 200));
	cr_assert_leq(diverge(c, 1000, other, 200), 264);
	const uint64_t unseen = diverge(c, 993, other, 200);
	cr_assert_gt(unseen, 264);
	cr_assert_leq(unseen, 776);
	/* the fork is gone, but the point that it came back to stays */
	cr_assert_leq(diverge(c, 993, other, 200), 264);
	rewind_to(c, 993);
	cr_assert_leq(diverge(c, 993, other, 200), 264);
	free(read_all(c, e, ids + 993, 207));
	cr_assert_leq(diverge(c, 993, other, 200), 264);
	bb_context_destroy(c);
	bb_engine_destroy(e);
}

Test(state, conversations_that_diverge_share_what_they_can) {
	check_divergence("mamba");
	check_divergence("mamba2");
	check_divergence("falcon-h1");
	check_divergence("lfm2");
	check_divergence("rwkv7");
	check_divergence("granitehybrid");
	check_divergence("qwen3next");
	check_divergence("nemotron_h");
	check_divergence("recurrent_gemma");
	check_divergence("zamba2");
}

/* Beside attention a state depends on how keys and values are stored: what one context computed
 * again is nothing to one that stores them in another way. */
Test(state, contexts_of_another_kv_type_share_nothing) {
	struct bb_engine *e = open_cached("falcon-h1", 0);
	struct bb_error err = { 0 };
	const struct bb_context_params params = { .kv_type = BB_KV_INT8 };
	struct bb_context *c = new_context(e), *other, *fresh;
	int32_t ids[1200];
	make_ids(ids, 1200, vocab_of(e), 3);
	cr_assert(bb_context_create(&other, e, &params, &err), "%s", err.text);
	cr_assert(bb_context_create(&fresh, e, &params, &err), "%s", err.text);
	free(read_all(c, e, ids, 1200));
	free(read_all(other, e, ids, 1200));
	rewind_to(c, 993);
	rewind_to(other, 993);
	float *got = read_all(other, e, ids + 993, 7), *want = read_all(fresh, e, ids, 1000);
	cr_assert_eq(memcmp(got, want, (size_t)vocab_of(e) * sizeof(float)), 0);
	free(got);
	free(want);
	bb_context_destroy(c);
	bb_context_destroy(other);
	bb_context_destroy(fresh);
	bb_engine_destroy(e);
}

/* Whatever the cache holds, a rewind gives the bits of a fresh context. */
Test(state, a_small_cache_costs_time_only) {
	int32_t ids[2300], other[20];
	for (int n_states = 0; n_states < 7; n_states++) {
		struct bb_engine *e = open_cached("mamba2", BB_STATE_CACHE_NONE);
		const size_t bytes = e->states.bytes;
		bb_engine_destroy(e);
		e = open_cached("mamba2", n_states == 0 ? BB_STATE_CACHE_NONE : (size_t)n_states * bytes);
		struct bb_context *c = new_context(e);
		make_ids(ids, 2300, vocab_of(e), 4);
		make_ids(other, 20, vocab_of(e), 5);
		free(read_all(c, e, ids, 2300));
		cr_assert_leq(e->states.n_kept, n_states);
		const int from[] = { 2290, 2048, 1100, 513, 7 };
		for (size_t i = 0; i < COUNT(from); i++) {
			diverge(c, from[i], other, 20);
			cr_assert_leq(e->states.n_kept, n_states);
		}
		rewind_to(c, 1100);
		diverge(c, 1100, other, 20);
		bb_context_destroy(c);
		cr_assert_eq(e->states.n_kept, 0);
		bb_engine_destroy(e);
	}
}

/* 64 states for 60000 tokens: every 512 over the newest part, then fewer and fewer; the boundary
 * stays. */
Test(state, old_checkpoints_are_thinned_out) {
	enum { N = 60000, N_STATES = 64, AT = 1500 };
	struct bb_engine *e = open_cached("mamba2", BB_STATE_CACHE_NONE);
	const size_t bytes = e->states.bytes;
	bb_engine_destroy(e);
	e = open_cached("mamba2", N_STATES * bytes);
	struct bb_context *c = new_context(e);
	struct bb_error err = { 0 };
	int32_t *ids = malloc(N * sizeof(*ids));
	make_ids(ids, N, vocab_of(e), 6);
	free(read_all(c, e, ids, AT));
	cr_assert(bb_context_begin_segment(c, AT, BB_ROLE_USER, &err), "%s", err.text);
	free(read_all(c, e, ids + AT, N - AT));
	free(ids);
	const struct checkpoints *k = &c->checkpoints;
	cr_assert_eq(k->n, N_STATES);
	int n_dense = 0, n_boundaries = 0;
	for (int i = k->n - 1; i > 0; i--) {
		n_dense += n_dense == k->n - 1 - i &&
			k->items[i].n_tokens - k->items[i - 1].n_tokens == STATE_EVERY;
		n_boundaries += k->items[i].n_tokens == AT;
		const int gap = k->items[i].n_tokens - k->items[i - 1].n_tokens;
		cr_assert_leq(gap, 2 * (N - k->items[i].n_tokens) + 2 * STATE_EVERY, "%d before %d", gap,
			k->items[i].n_tokens);
	}
	cr_assert_eq(n_boundaries + (k->items[0].n_tokens == AT), 1);
	cr_assert_gt(n_dense, N_STATES - 12);
	cr_assert(k->items[0].kind == CHECKPOINT_GRID && k->items[0].n_tokens == STATE_EVERY,
		"nothing is left of what is older");
	int reach;
	cr_assert(checkpoints_reach(N_STATES, N, &reach, &err), "%s", err.text);
	cr_assert_leq(abs(reach / STATE_EVERY - n_dense), 2, "%d and %d", reach, n_dense);
	bb_context_destroy(c);
	bb_engine_destroy(e);
}

/* A context of 20000 tokens takes the states that one of 2000 does, and not an allocation more
 * where its tokens had room. */
static void grow(const char *name) {
	struct bb_engine *e = open_cached(name, BB_STATE_CACHE_NONE);
	struct bb_context *c = new_context(e);
	struct bb_error err = { 0 };
	int32_t ids[2000];
	make_ids(ids, 2000, vocab_of(e), 7);
	free(read_all(c, e, ids, 2000));
	const int n_all = e->states.n_all;
	cr_assert_eq(n_all, 1);
	cr_assert(bb_context_reserve(c, 18000, &err), "%s", err.text);
	const int reserved = e->states.n_all;
	const long n_allocs = base_count_allocs();
	for (int i = 0; i < 9; i++) {
		free(read_all(c, e, ids, 2000));
	}
	cr_assert_eq(base_count_allocs(), n_allocs, "%s", name);
	cr_assert_eq(e->states.n_all, reserved);
	cr_assert_leq(reserved, 2);
	cr_assert_eq(bb_context_kv_bytes(c), 0);
	bb_context_destroy(c);
	bb_engine_destroy(e);
}

Test(state, memory_is_flat) {
	static const char *const names[] = { "mamba", "mamba2", "rwkv6", "rwkv7", "xlstm" };
	for (size_t i = 0; i < COUNT(names); i++) {
		grow(names[i]);
	}
}

/* Steps that were reserved for allocate nothing, at a checkpoint neither. */
static void step_in_reserved_room(enum bb_kv_type cache_type) {
	struct bb_engine *e = open_typed("mamba2", "cpu", cache_type, 0);
	struct bb_context *c = new_context(e);
	struct bb_error err = { 0 };
	int32_t ids[1100];
	make_ids(ids, 1100, vocab_of(e), 8);
	feed(c, e, ids, 10, NULL);
	cr_assert(bb_context_begin_segment(c, 10, BB_ROLE_USER, &err), "%s", err.text);
	cr_assert(bb_context_reserve(c, 1090, &err), "%s", err.text);
	base_fail_alloc_at(1);
	feed(c, e, ids + 10, 500, NULL);
	feed(c, e, ids + 510, 2, NULL);
	for (int i = 512; i < 600; i++) {
		feed(c, e, ids + i, 1, NULL);
	}
	base_fail_alloc_at(0);
	cr_assert(bb_context_begin_segment(c, 600, BB_ROLE_USER, &err), "%s", err.text);
	base_fail_alloc_at(1);
	feed(c, e, ids + 600, 500, NULL);
	base_fail_alloc_at(0);
	cr_assert_eq(c->checkpoints.n, 4); /* 10, 512, 600, 1024 */
	bb_context_destroy(c);
	bb_engine_destroy(e);
}

Test(state, steps_allocate_nothing_that_was_reserved) {
	step_in_reserved_room(BB_KV_F32);
	step_in_reserved_room(BB_KV_INT8);
}

/* A rewind that has to compute fails at each of its allocations in turn; the context stays. */
static void fail_rewinds(enum bb_kv_type cache_type) {
	struct bb_engine *e = open_typed("mamba2", "cpu", cache_type, 0);
	struct bb_context *c = new_context(e);
	int32_t ids[700];
	make_ids(ids, 700, vocab_of(e), 9);
	free(read_all(c, e, ids, 700));
	bool ok = false;
	int n_failed = 0;
	for (long n = 1; !ok; n++) {
		struct bb_error err = { 0 };
		base_fail_alloc_at(n);
		ok = bb_context_rewind(c, 600, &err);
		base_fail_alloc_at(0);
		if (!ok) {
			cr_assert_eq(err.code, BB_ERR_MEMORY, "%s", err.text);
			cr_assert_eq(bb_context_length(c), 700);
			n_failed++;
		}
	}
	cr_assert_gt(n_failed, 2);
	struct bb_context *fresh = new_context(e);
	float *want = read_all(fresh, e, ids, 700), *got = read_all(c, e, ids + 600, 100);
	cr_assert_eq(memcmp(got, want, (size_t)vocab_of(e) * sizeof(float)) == 0,
		cache_type == BB_KV_F32);
	free(want);
	free(got);
	bb_context_destroy(fresh);
	bb_context_destroy(c);
	bb_engine_destroy(e);
}

Test(state, a_failed_rewind_changes_nothing) {
	fail_rewinds(BB_KV_F32);
	fail_rewinds(BB_KV_INT8);
}

/* Largest difference of logits behind a rewind to a checkpoint, of the largest logit. */
static float rounding_error(const char *name, const char *device) {
	struct bb_engine *e = open_typed(name, device, BB_KV_INT8, 0);
	struct bb_context *c = new_context(e), *fresh = new_context(e);
	const int n_vocab = vocab_of(e);
	int32_t ids[540];
	float most = 0, range = 0;
	make_ids(ids, 540, n_vocab, 10);
	free(read_all(c, e, ids, 530));
	const uint64_t before = rows_of(e);
	rewind_to(c, 512);
	cr_assert_eq(rows_of(e), before);
	float *got = malloc((size_t)(28 * n_vocab) * sizeof(*got));
	float *want = malloc((size_t)(28 * n_vocab) * sizeof(*want));
	free(read_all(fresh, e, ids, 512)); /* whose checkpoints change nothing */
	feed(c, e, ids + 512, 28, got);
	feed(fresh, e, ids + 512, 28, want);
	for (int i = 0; i < 28 * n_vocab; i++) {
		range = fabsf(want[i]) > range ? fabsf(want[i]) : range;
		most = fabsf(got[i] - want[i]) > most ? fabsf(got[i] - want[i]) : most;
	}
	struct bb_engine *exact = open_typed(name, device, BB_KV_F32, 0);
	struct bb_context *other = new_context(exact);
	free(read_all(other, exact, ids, 512));
	feed(other, exact, ids + 512, 28, got);
	cr_assert_eq(memcmp(got, want, (size_t)(28 * n_vocab) * sizeof(*got)), 0);
	free(want);
	free(got);
	bb_context_destroy(other);
	bb_engine_destroy(exact);
	bb_context_destroy(fresh);
	bb_context_destroy(c);
	bb_engine_destroy(e);
	return most / range;
}

/* What is rounded is seen, and small. */
Test(state, checkpoints_of_int8_round_matrices) {
	static const char *const names[] = { "mamba", "mamba2", "falcon-h1", "xlstm", "rwkv6",
		"rwkv7" };
	for (size_t i = 0; i < COUNT(names); i++) {
		const float error = rounding_error(names[i], "cpu");
		cr_log_info("%s: %g of the largest logit", names[i], (double)error);
		cr_assert(error > 0 && error < 0.06f, "%s: %g", names[i], (double)error);
	}
	cr_assert_eq(rounding_error("lfm2", "cpu"), 0); /* it keeps only inputs of convolutions */
}

Test(state, checkpoints_of_int8_round_matrices_on_the_emulator, .timeout = 200) {
	const float error = rounding_error("mamba2", test_device());
	cr_assert(error > 0 && error < 0.06f, "%g", (double)error);
}

Test(state, checkpoints_of_int8_are_small) {
	struct bb_engine *e = open_typed("mamba2", "cpu", BB_KV_INT8, 1 << 20);
	struct bb_engine *exact = open_typed("mamba2", "cpu", BB_KV_F32, 1 << 20);
	struct bb_engine_info info, exact_info;
	bb_engine_info(e, &info);
	bb_engine_info(exact, &exact_info);
	cr_assert_gt(4 * info.max_checkpoints, 9 * exact_info.max_checkpoints);
	cr_assert_eq(info.state_bytes, exact_info.state_bytes);
	bb_engine_destroy(exact);
	bb_engine_destroy(e);
}

static bool stop(void *user, const char *what, double done, double total) {
	return false;
}

/* A prompt that is given up leaves the context where it was. */
Test(state, a_prompt_that_is_stopped_leaves_what_was_there) {
	struct bb_engine *e = open_cached("mamba2", 0);
	struct bb_context *c = new_context(e), *fresh = new_context(e);
	struct bb_error err = { 0 };
	int32_t ids[2000];
	make_ids(ids, 2000, vocab_of(e), 10);
	free(read_all(c, e, ids, 100));
	cr_assert_not(bb_prefill(c, ids + 100, 1900, NULL, stop, NULL, &err));
	cr_assert_eq(err.code, BB_ERR_CANCELLED);
	cr_assert_eq(bb_context_length(c), 100);
	float *want = read_all(fresh, e, ids, 200), *got = read_all(c, e, ids + 100, 100);
	cr_assert_eq(memcmp(got, want, (size_t)vocab_of(e) * sizeof(float)), 0);
	free(want);
	free(got);
	bb_context_destroy(fresh);
	bb_context_destroy(c);
	bb_engine_destroy(e);
}
