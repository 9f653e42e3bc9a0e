/* SPDX-License-Identifier: Apache-2.0
 *
 * A call of bb_generation_next that lacked memory can be repeated: whichever allocation of a
 * generation fails, the text is the undisturbed one. On ids as text, and on SmolLM2 where it is. */
#include "engine.h"
#include "models.h"

enum { N_TOKENS = 120, MAX_TEXT = 4096 };

struct written {
	char text[MAX_TEXT];
	char steps[MAX_TEXT]; /* the texts of CoT steps */
	int32_t ids[N_TOKENS];
	int n, n_failed;
};

/* One more token; false: memory was short. */
static bool take(struct bb_generation *g, struct written *w, enum bb_finish *finish) {
	struct bb_sampled token;
	struct bb_cot_step cot;
	struct bb_error err = { 0 };
	const char *text;
	size_t bytes;
	if (!bb_generation_next(g, &token, &text, &bytes, finish, &err)) {
		cr_assert_eq(err.code, BB_ERR_MEMORY, "%s", err.text);
		w->n_failed++;
		*finish = BB_FINISH_NONE;
		return false;
	}
	cr_assert_lt(w->n, N_TOKENS);
	cr_assert_lt(strlen(w->text) + bytes, sizeof(w->text));
	w->ids[w->n++] = token.id;
	strncat(w->text, text, bytes);
	if (bb_generation_cot_step(g, &cot)) {
		cr_assert_lt(strlen(w->steps) + cot.bytes, sizeof(w->steps));
		strncat(w->steps, cot.text, cot.bytes);
	}
	return true;
}

/* The n_th allocation behind the creation fails; 0: none. Whether any was left to fail. */
static bool write_with_failure(struct bb_engine *e, long n_th, struct written *w) {
	static const int32_t prompt[] = { 5, 17, 23, 99 };
	static const char *const stops[] = { "never to be seen", " 1 2 3 4 5", "\n\n\n\n\n\n" };
	struct bb_generation_params p = { .max_tokens = N_TOKENS, .stop = stops, .n_stop = 3 };
	struct bb_context *c = new_context(e);
	struct bb_generation *g;
	struct bb_error err = { 0 };
	enum bb_finish finish = BB_FINISH_NONE;
	memset(w, 0, sizeof(*w));
	bb_sampling_default(e, &p.sampling);
	p.sampling.temperature = 2;
	p.sampling.ignore_eos = true;
	cr_assert(bb_generation_create(&g, c, &p, prompt, 4, NULL, NULL, &err), "%s", err.text);
	const long before = base_count_allocs();
	base_fail_alloc_at(n_th);
	while (finish == BB_FINISH_NONE && w->n_failed < 2) {
		take(g, w, &finish);
	}
	base_fail_alloc_at(0);
	const bool has_failed = n_th > 0 && base_count_allocs() - before >= n_th;
	bb_generation_destroy(g);
	bb_context_destroy(c);
	return has_failed;
}

static void check(const char *path) {
	static struct written whole, got;
	const struct bb_engine_params params = { .path = path, .n_threads = 1, .max_model_len = 256 };
	struct bb_engine *e = open_with(&params);
	write_with_failure(e, 0, &whole);
	cr_assert_eq(whole.n, N_TOKENS);
	int n_failed = 0;
	bool has_failed = true;
	for (long n_th = 1; has_failed; n_th++) {
		has_failed = write_with_failure(e, n_th, &got);
		n_failed += got.n_failed;
		cr_assert_eq(got.n, whole.n, "allocation %ld: %d tokens", n_th, got.n);
		cr_assert_eq(memcmp(got.ids, whole.ids, sizeof(got.ids)), 0, "allocation %ld", n_th);
		cr_assert_str_eq(got.text, whole.text, "allocation %ld", n_th);
		cr_assert_str_eq(got.steps, whole.steps, "allocation %ld", n_th);
	}
	cr_assert_gt(n_failed, 3);
	bb_engine_destroy(e);
}

Test(repeat, text_of_ids) {
	check(tiny_path("llama"));
}

Test(repeat, smollm2, .timeout = 200) {
	check(real_path("smollm2"));
}
