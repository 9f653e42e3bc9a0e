/* SPDX-License-Identifier: Apache-2.0
 *
 * Contexts that lie in the same pages read these together, whatever order a step has them in and
 * whatever else is in it, with the bits that each has by itself. */
#include "models.h"

#include "engine.h"

enum { N_SIBLINGS = 5, N_COUSINS = 3, N_BEGUN = 1100, N_COMMON = 300, N_PROMPT = 40 };
enum { N_ALL = N_SIBLINGS + N_COUSINS + 2 };

/* Siblings that go on from 1100 tokens; cousins that share 300 of them, 256 in whole splits, with
 * page tables of their own; one that shares nothing, and an empty one. Nobody stands beside one
 * that is like it. */
static void make_contexts(struct bb_engine *e, struct bb_context *c[N_ALL]) {
	struct bb_context *base = new_context(e);
	int n = 0;
	append_made(base, e, N_COMMON, 1);
	struct bb_context *branch = fork_of(base);
	append_made(base, e, N_BEGUN - N_COMMON, 2);
	append_made(branch, e, N_BEGUN - N_COMMON, 3);
	for (int i = 0; i < N_SIBLINGS; i++) {
		c[n++] = fork_of(base);
		append_made(c[n - 1], e, 1 + 9 * i, 10 + i);
		if (i < N_COUSINS) {
			c[n++] = fork_of(branch);
			append_made(c[n - 1], e, 1 + 50 * i, 20 + i);
		}
	}
	c[n++] = new_context(e);
	append_made(c[n - 1], e, N_BEGUN, 4);
	c[n++] = new_context(e);
	bb_context_destroy(base);
	bb_context_destroy(branch);
}

/* A step of n items, together, and each in a fork by itself. */
static void check_step(struct bb_engine *e, struct bb_context **c, int n, const int32_t *ids) {
	const size_t n_vocab = (size_t)vocab_of(e);
	float *together = calloc(n_vocab * (size_t)n, sizeof(float)),
		*alone = calloc(n_vocab, sizeof(float));
	struct bb_step_item items[N_ALL] = { { 0 } };
	struct bb_context *forks[N_ALL];
	struct bb_error err = { 0 };
	for (int i = 0; i < n; i++) {
		forks[i] = fork_of(c[i]);
		items[i] = (struct bb_step_item){ .context = c[i], .tokens = ids + i,
			.n_tokens = bb_context_length(c[i]) > 0 ? 1 : N_PROMPT,
			.logits = together + (size_t)i * n_vocab };
	}
	cr_assert(bb_step(e, items, n, &err), "%s", err.text);
	const int n_shares = e->batch.n_shares, n_shared_rows = e->batch.n_shared_rows;
	for (int i = 0; i < n; i++) {
		struct bb_step_item item = items[i];
		item.context = forks[i];
		item.logits = alone;
		cr_assert(bb_step(e, &item, 1, &err), "%s", err.text);
		cr_assert_eq(memcmp(alone, items[i].logits, n_vocab * sizeof(float)), 0, "context %d", i);
		bb_context_destroy(forks[i]);
	}
	bool sees_all = false;
	for (int i = 0; i < e->plan.n_paged; i++) {
		sees_all = sees_all || e->plan.kinds[i].window == 0;
	}
	cr_assert_eq(n_shares, sees_all ? 2 : 0);
	cr_assert_eq(n_shared_rows, sees_all ? N_SIBLINGS + N_COUSINS : 0);
	free(together);
	free(alone);
}

static void play(const char *model, enum bb_kv_type type, int n_threads) {
	const struct bb_engine_params params = { .path = tiny_path(model), .n_threads = n_threads,
		.kv_type = type, .max_model_len = 4096 };
	struct bb_engine *e = open_with(&params);
	struct bb_context *c[N_ALL];
	int32_t ids[N_ALL + N_PROMPT];
	make_contexts(e, c);
	make_ids(ids, N_ALL + N_PROMPT, vocab_of(e), 5);
	check_step(e, c, N_ALL - 1, ids);
	check_step(e, c, N_ALL, ids + 1); /* the last one reads a prompt */
	check_step(e, c, N_ALL, ids + 2);
	for (int i = 0; i < N_ALL; i++) {
		bb_context_destroy(c[i]);
	}
	bb_engine_destroy(e);
}

Test(shares, have_the_bits_of_contexts_by_themselves) {
	static const char *const models[] = { "llama", "gemma3", "qwen2", "falcon-h1", "lfm2" };
	for (size_t i = 0; i < COUNT(models); i++) {
		play(models[i], BB_KV_AUTO, 2);
	}
}

Test(shares, of_every_kv_type) {
	for (enum bb_kv_type type = BB_KV_F32; type <= BB_KV_INT8; type++) {
		play("llama", type, 1);
		play("llama", type, 2);
	}
}

Test(shares, windows_share_nothing) {
	play("llama-window", BB_KV_AUTO, 2);
}

Test(shares, order_of_items_does_not_matter) {
	struct bb_engine *e = open_with(&(struct bb_engine_params){ .path = tiny_path("llama"),
		.n_threads = 1, .max_model_len = 4096 });
	struct bb_context *c[N_ALL];
	struct bb_error err = { 0 };
	const int32_t id = 7;
	make_contexts(e, c);
	for (int turn = 0; turn < N_ALL - 1; turn++) {
		struct bb_step_item items[N_ALL - 1];
		for (int i = 0; i < N_ALL - 1; i++) {
			items[i] = (struct bb_step_item){ .context = c[(4 * i + turn) % (N_ALL - 1)],
				.tokens = &id, .n_tokens = 1 };
		}
		cr_assert(bb_step(e, items, N_ALL - 1, &err), "%s", err.text);
		cr_assert_eq(e->batch.n_shares, 2);
		cr_assert_eq(e->batch.n_shared_rows, N_SIBLINGS + N_COUSINS);
	}
	for (int i = 0; i < N_ALL; i++) {
		bb_context_destroy(c[i]);
	}
	bb_engine_destroy(e);
}
