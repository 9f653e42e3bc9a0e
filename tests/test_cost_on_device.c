/* SPDX-License-Identifier: Apache-2.0
 *
 * Forks on a device: what is counted of their steps, held against the sectors that the emulator's
 * checker sees attention touch; and their bits while others read prompts. */
#include "models.h"

#include "engine.h"

enum { MAX_PROMPT = 4200, MAX_FORKS = 16, MAX_LAUNCHES = 512 };

static struct bb_engine *open_checked(const char *model, enum bb_kv_type type) {
	return open_with(&(struct bb_engine_params){ .path = tiny_path(model), .device = "simt_check",
		.n_threads = 1, .kv_type = type, .max_model_len = 8192, .max_batch_tokens = 64 });
}

/* A context of tokens that nobody computed, in pages of zeros: that doesn't change what is read. */
static struct bb_context *filled_context(struct bb_engine *e, int n) {
	static const int32_t ids[MAX_PROMPT];
	struct bb_context *c = new_context(e);
	struct bb_error err = { 0 };
	cr_assert(context_reserve(c, n, 0, &err), "%s", err.text);
	context_commit(c, ids, n, (struct ahead){ 0 });
	for (int kind = 0; kind < e->plan.n_paged; kind++) {
		const struct kv_table *t = &c->tables[kind];
		for (int i = t->first_page; i < t->n_pages; i++) {
			e->memory.device.module->fill(e->memory.queue, kv_page(t, i), 0, t->pool->page_bytes);
		}
	}
	return c;
}

struct moved {
	double touched; /* bytes of sectors that launches of attention read and nothing had touched */
	double counted; /* bytes of keys and values, as statistics say */
};

/* A step of n forks of a prompt. */
static struct moved step_forks(struct bb_engine *e, struct bb_context *prompt, int n) {
	static struct bb_launch launches[MAX_LAUNCHES];
	const struct bb_module *m = e->memory.device.module;
	struct bb_step_item items[MAX_FORKS];
	struct bb_engine_stats before, after;
	struct bb_error err = { 0 };
	struct moved moved = { 0 };
	const int32_t id = 3;
	char text[400];
	for (int i = 0; i < n; i++) {
		items[i] = (struct bb_step_item){ .tokens = &id, .n_tokens = 1 };
		cr_assert(bb_context_fork(&items[i].context, prompt, &err), "%s", err.text);
	}
	bb_engine_stats(e, &before);
	m->launches(launches, 0); /* forget what came before */
	cr_assert(bb_step(e, items, n, &err), "%s", err.text);
	bb_engine_stats(e, &after);
	cr_assert_eq(e->batch.n_shares, n > 1);
	const int n_launches = m->launches(launches, MAX_LAUNCHES);
	cr_assert_leq(n_launches, MAX_LAUNCHES);
	for (int i = 0; i < n_launches; i++) {
		if (strstr(launches[i].kernel, "attention") != NULL) {
			moved.touched += (double)launches[i].new_read_bytes;
		}
	}
	moved.counted = (double)(after.kv_bytes - before.kv_bytes);
	cr_assert_eq(m->findings(text, sizeof(text)), 0, "%s", text);
	for (int i = 0; i < n; i++) {
		bb_context_destroy(items[i].context);
	}
	return moved;
}

/* Queries, and partials with their m and l, which a block reads that joins them. */
static double other_bytes(const struct bb_engine *e, int n_prompt, int n) {
	const struct bb_hparams *hp = &e->plan.hp;
	const double head = hp->v[H_HEAD], n_splits = n_prompt / BB_SPLIT + 1.0;
	return n * e->plan.n_layers * hp->v[H_HEADS] * sizeof(float) *
		(head + n_splits * (head + 2));
}

/* Every byte that is counted is touched, and little else: page tables, and sectors that are no
 * whole rows. */
static void check_moved(const struct bb_engine *e, const struct moved *m, int n_prompt, int n,
	const char *what) {
	const double most = 1.08 * m->counted + other_bytes(e, n_prompt, n);
	cr_assert(m->touched >= m->counted && m->touched <= most, "%s, %d forks of %d tokens: %.0f "
		"bytes are touched, %.0f counted, at most %.0f expected", what, n, n_prompt, m->touched,
		m->counted, most);
}

static void check_forks(const char *model, enum bb_kv_type type, int n_prompt, int n) {
	struct bb_engine *e = open_checked(model, type);
	struct bb_context *prompt = filled_context(e, n_prompt);
	const struct moved one = step_forks(e, prompt, 1), all = step_forks(e, prompt, n);
	check_moved(e, &one, n_prompt, 1, model);
	check_moved(e, &all, n_prompt, n, model);
	/* what forks have of their own: a page that was partly filled, and a token */
	bool sees_all = true;
	for (int i = 0; i < e->plan.n_paged; i++) {
		sees_all = sees_all && e->plan.kinds[i].window == 0;
	}
	const double own = one.counted / (n_prompt + 1) * (n_prompt % BB_PAGE + 1);
	const double want = sees_all ? one.counted + (n - 1) * own : all.counted;
	cr_assert_float_eq(all.counted, want, 1, "%s: %.0f bytes counted, %.0f wanted", model,
		all.counted, want);
	bb_context_destroy(prompt);
	bb_engine_destroy(e);
}

Test(cost_on_device, forks_touch_what_is_counted, .timeout = 300) {
	check_forks("llama", BB_KV_F16, 512, 12);
	check_forks("llama", BB_KV_F16, 600, 5);
	check_forks("llama", BB_KV_INT8, 600, 12);
	check_forks("llama", BB_KV_BF16, 4095, 16);
	check_forks("qwen2", BB_KV_F32, 600, 12);
	check_forks("gemma3", BB_KV_F16, 1000, 6);
}

/* ---- beside prompts ---- */

enum { N_SIBLINGS = 5, N_BEGUN = 300, MOST_READ = 150, N_SEQS = N_SIBLINGS + 2 };

/* Siblings, a stranger and one that reads n_read tokens of a prompt, in a step, and each by
 * itself. */
static void check_beside(struct bb_engine *e, struct bb_context **c, int n_read) {
	const size_t n_vocab = (size_t)vocab_of(e);
	float *together = calloc(n_vocab * N_SEQS, sizeof(float)), *alone = calloc(n_vocab,
		sizeof(float));
	struct bb_context *forks[N_SEQS];
	struct bb_step_item items[N_SEQS];
	struct bb_error err = { 0 };
	int32_t ids[MOST_READ + N_SEQS];
	make_ids(ids, MOST_READ + N_SEQS, vocab_of(e), 50 + n_read);
	for (int i = 0; i < N_SEQS; i++) {
		forks[i] = fork_of(c[i]);
		items[i] = (struct bb_step_item){ .context = c[i], .tokens = ids + i,
			.n_tokens = i == 2 ? n_read : 1, .logits = together + (size_t)i * n_vocab };
	}
	cr_assert(bb_step(e, items, N_SEQS, &err), "%s", err.text);
	cr_assert_eq(e->batch.n_shares, 1);
	cr_assert_eq(e->batch.n_shared_rows, N_SIBLINGS);
	for (int i = 0; i < N_SEQS; i++) {
		struct bb_step_item item = items[i];
		item.context = forks[i];
		item.logits = alone;
		cr_assert(bb_step(e, &item, 1, &err), "%s", err.text);
		cr_assert_eq(memcmp(alone, items[i].logits, n_vocab * sizeof(float)), 0,
			"%d rows of a prompt: context %d has other bits", n_read, i);
		bb_context_destroy(forks[i]);
	}
	free(together);
	free(alone);
}

static void play_beside(const char *model, enum bb_kv_type type) {
	struct bb_engine *e = open_with(&(struct bb_engine_params){ .path = tiny_path(model),
		.device = test_device(), .n_threads = 1, .kv_type = type, .max_model_len = 2048 });
	struct bb_context *base = new_context(e), *c[N_SEQS];
	append_made(base, e, N_BEGUN, 1);
	for (int i = 0; i < N_SEQS; i++) {
		const bool is_sibling = i != 2 && i != 4; /* a reader, a stranger */
		c[i] = is_sibling ? fork_of(base) : new_context(e);
		append_made(c[i], e, is_sibling ? 1 + 3 * i : 100, 10 + i);
	}
	bb_context_destroy(base);
	check_beside(e, c, 12);
	check_beside(e, c, MOST_READ);
	for (int i = 0; i < N_SEQS; i++) {
		bb_context_destroy(c[i]);
	}
	bb_engine_destroy(e);
}

Test(cost_on_device, forks_beside_prompts_have_their_own_bits, .timeout = 300) {
	play_beside("llama", BB_KV_F16);
	play_beside("llama-quantised", BB_KV_INT8);
	play_beside("gemma3", BB_KV_BF16);
	play_beside("qwen2", BB_KV_F32);
}
