/* SPDX-License-Identifier: Apache-2.0
 *
 * The engine with --gemm fast, on the emulator and its stand-in of cuBLASLt, or on the device that
 * is named: close to the exact products, exact for few rows, and what happens when the library
 * fails. The products themselves are with checkkernels. */
#include "models.h"

#include "engine.h"

#include <math.h>

enum { N_ROWS = 100 };

static struct bb_engine *open_gemm(const char *path, const char *device, const char *gemm) {
	const struct bb_engine_params params = { .path = path, .device = device, .gemm = gemm,
		.n_threads = 1, .max_model_len = 512, .max_batch_tokens = 128 };
	return open_with(&params);
}

static const struct bb_module *module_of(const struct bb_engine *e) {
	return e->memory.device.module;
}

/* Without cuBLASLt on a GPU's machine there is nothing to test. */
static struct bb_engine *open_fast(const char *path) {
	struct bb_engine_params params = { .path = path, .device = test_device(), .gemm = "fast",
		.n_threads = 1, .max_model_len = 512, .max_batch_tokens = 128 };
	struct bb_engine *e = NULL;
	struct bb_error err = { 0 };
	if (!bb_engine_open(&e, bb_models, &params, &err)) {
		cr_assert_not_null(strstr(err.text, "can't be opened"), "%s", err.text);
		cr_skip_test("%s", err.text);
	}
	return e;
}

/* A prompt of n tokens in one step: logits [n, n_vocab], or [n_vocab] of the last. */
static float *read_prompt(struct bb_engine *e, int n, bool all_logits) {
	int32_t ids[N_ROWS];
	struct bb_error err = { 0 };
	struct bb_context *c = new_context(e);
	const size_t n_out = all_logits ? (size_t)n : 1;
	float *logits = malloc(n_out * (size_t)vocab_of(e) * sizeof(*logits));
	make_ids(ids, n, vocab_of(e), 3);
	const struct bb_step_item item = { c, ids, n, logits, all_logits };
	cr_assert(bb_step(e, &item, 1, &err), "%s", err.text);
	bb_context_destroy(c);
	return logits;
}

/* Of the first launches since the last call, those of cuBLASLt's stand-in; -1: a GPU doesn't
 * count. */
static int n_fast_products(const struct bb_engine *e) {
	enum { MOST = 4096 };
	static struct bb_launch launches[MOST];
	int n_fast = 0;
	if (module_of(e)->launches == NULL) {
		return -1;
	}
	const int n = module_of(e)->launches(launches, MOST);
	for (int i = 0; i < n && i < MOST; i++) {
		n_fast += strstr(launches[i].kernel, "lt_product") != NULL;
	}
	return n_fast;
}

/* ---- results ---- */

/* The largest over the rows of the root of the mean square of the differences, as a share of the
 * row's range. */
static double distance(const float *a, const float *b, int n_rows, int n) {
	double worst = 0;
	for (int r = 0; r < n_rows; r++, a += n, b += n) {
		double sum = 0, low = a[0], high = a[0];
		for (int i = 0; i < n; i++) {
			sum += ((double)a[i] - (double)b[i]) * ((double)a[i] - (double)b[i]);
			low = fmin(low, a[i]);
			high = fmax(high, a[i]);
		}
		worst = fmax(worst, sqrt(sum / n) / (high - low));
	}
	return worst;
}

static void check_close(const char *path, bool all_logits, double allowed) {
	struct bb_engine *exact = open_gemm(path, test_device(), NULL), *fast = open_fast(path);
	const int n_vocab = vocab_of(exact), n_rows = all_logits ? N_ROWS : 1;
	n_fast_products(fast);
	float *want = read_prompt(exact, N_ROWS, all_logits);
	cr_assert_leq(n_fast_products(exact), 0, "the default is exact");
	float *got = read_prompt(fast, N_ROWS, all_logits);
	cr_assert_neq(n_fast_products(fast), 0, "all was exact");
	const double off = distance(want, got, n_rows, n_vocab);
	cr_assert(off <= allowed, "%s: the logits are %.2e of their range apart", path, off);
	cr_assert_neq(memcmp(want, got, (size_t)n_vocab * sizeof(*got)), 0);
	free(want);
	free(got);
	bb_engine_destroy(exact);
	bb_engine_destroy(fast);
}

/* Weights and activations in bf16, of f32 models: 2^-9 each, some layers on. */
Test(gemm_fast, a_long_prompt_is_close_to_exact) {
	static const char *const names[] = { "llama", "qwen2", "gemma3", "llama-window" };
	for (size_t i = 0; i < COUNT(names); i++) {
		check_close(tiny_path(names[i]), true, 0.01);
	}
}

Test(gemm_fast, a_real_model_is_close_to_exact, .timeout = 500) {
	check_close(real_path("smollm2"), false, 0.02);
}

Test(gemm_fast, few_rows_have_the_exact_bits) {
	struct bb_engine *exact = open_gemm(tiny_path("qwen2"), test_device(), "exact");
	struct bb_engine *fast = open_fast(tiny_path("qwen2"));
	enum { N = BB_LT_ROWS - 1 };
	float *want = read_prompt(exact, N, true), *got = read_prompt(fast, N, true);
	cr_assert_eq(memcmp(want, got, N * (size_t)vocab_of(fast) * sizeof(*got)), 0);
	free(want);
	free(got);
	bb_engine_destroy(exact);
	bb_engine_destroy(fast);
}

/* 64 contexts that decode a token each: captured with the library's calls in it. */
Test(gemm_fast, a_captured_step_has_its_own_bits) {
	struct bb_engine *e = open_fast(tiny_path("llama"));
	struct bb_step_item items[BB_LT_ROWS];
	const size_t n_vocab = (size_t)vocab_of(e), bytes = BB_LT_ROWS * n_vocab * sizeof(float);
	float *logits = malloc(bytes), *first = malloc(bytes);
	int32_t ids[BB_LT_ROWS];
	struct bb_error err = { 0 };
	make_ids(ids, BB_LT_ROWS, (int)n_vocab, 4);
	for (int i = 0; i < BB_LT_ROWS; i++) {
		items[i] = (struct bb_step_item){ new_context(e), &ids[i], 1,
			logits + (size_t)i * n_vocab, false };
	}
	n_fast_products(e);
	for (int i = 0; i < 2; i++) {
		cr_assert(bb_step(e, items, BB_LT_ROWS, &err), "%s", err.text);
		cr_assert_not_null(e->captures.entries[0].graph);
		cr_assert_neq(n_fast_products(e), 0);
		if (i == 0) {
			memcpy(first, logits, bytes);
		}
		for (int j = 0; j < BB_LT_ROWS; j++) {
			cr_assert(bb_context_rewind(items[j].context, 0, &err), "%s", err.text);
		}
	}
	cr_assert_eq(memcmp(first, logits, bytes), 0);
	for (int i = 0; i < BB_LT_ROWS; i++) {
		bb_context_destroy(items[i].context);
	}
	free(first);
	free(logits);
	bb_engine_destroy(e);
}

/* Races, bounds, values that nobody wrote. */
Test(gemm_fast, the_checker_finds_nothing, .timeout = 300) {
	char text[400];
	if (strcmp(test_device(), "simt") != 0) {
		cr_skip_test("only the emulator has a checker");
	}
	struct bb_engine *e = open_gemm(tiny_path("qwen2"), "simt_check", "fast");
	free(read_prompt(e, BB_LT_ROWS, true));
	cr_assert_eq(module_of(e)->findings(text, sizeof(text)), 0, "%s", text);
	bb_engine_destroy(e);
}

/* ---- what it says, and what it takes ---- */

Test(gemm_fast, the_engine_says_which_it_is) {
	struct bb_engine_info info;
	struct bb_engine *e = open_fast(tiny_path("llama"));
	bb_engine_info(e, &info);
	cr_assert_str_eq(info.gemm, "fast");
	bb_engine_destroy(e);
	e = open_gemm(tiny_path("llama"), test_device(), "exact");
	bb_engine_info(e, &info);
	cr_assert_str_eq(info.gemm, "exact");
	bb_engine_destroy(e);
	e = open_gemm(tiny_path("llama"), "cpu", "fast");
	bb_engine_info(e, &info);
	cr_assert_str_eq(info.gemm, "exact", "nothing changes on the CPU");
	bb_engine_destroy(e);
}

Test(gemm_fast, a_step_takes_no_memory) {
	struct bb_engine *e = open_fast(tiny_path("llama"));
	struct bb_context *c = new_context(e);
	struct bb_error err = { 0 };
	int32_t ids[N_ROWS];
	size_t before, after;
	make_ids(ids, N_ROWS, vocab_of(e), 3);
	cr_assert(bb_context_reserve(c, N_ROWS, &err), "%s", err.text);
	module_of(e)->arena_bytes(e->memory.device.d, &before);
	base_forbid_alloc(true);
	const struct bb_step_item item = { c, ids, N_ROWS, NULL, false };
	cr_assert(bb_step(e, &item, 1, &err), "%s", err.text);
	base_forbid_alloc(false);
	module_of(e)->arena_bytes(e->memory.device.d, &after);
	cr_assert_eq(before, after);
	bb_context_destroy(c);
	bb_engine_destroy(e);
}

Test(gemm_fast, loading_says_what_does_not_fit) {
	struct bb_engine_params params = { .path = tiny_path("llama"), .device = test_device(),
		.gemm = "fast", .n_threads = 1, .max_batch_tokens = 64 };
	size_t used;
	struct bb_engine *e = open_fast(params.path);
	bb_engine_destroy(e);
	e = open_with(&params);
	const size_t of_fast = e->plan.gemm_bytes;
	module_of(e)->arena_bytes(e->memory.device.d, &used);
	bb_engine_destroy(e);
	cr_assert_gt(of_fast, 0);
	struct bb_error err = { 0 };
	params.max_device_bytes = used - 256;
	cr_assert_not(bb_engine_open(&e, bb_models, &params, &err));
	cr_assert_eq(err.code, BB_ERR_MEMORY, "%s", err.text);
	cr_assert_not_null(strstr(err.text, "gemm fast: "), "%s", err.text);
	cr_assert_not_null(strstr(err.text, "of device memory can't be had"), "%s", err.text);
	params.max_device_bytes = used;
	bb_engine_destroy(open_with(&params));
}

/* ---- failures ---- */

/* Every call of the library that loading makes fails once, the first of them opening it. */
Test(gemm_fast, loading_names_the_call_that_failed) {
	const struct bb_engine_params params = { .path = tiny_path("llama"), .device = test_device(),
		.gemm = "fast", .n_threads = 1, .max_batch_tokens = 64 };
	struct bb_engine *e = open_fast(params.path);
	const struct bb_module *m = module_of(e);
	int n = 1, n_heuristics = 0;
	bb_engine_destroy(e);
	if (m->fail == NULL) {
		cr_skip_test("%s can't be made to fail", m->name);
	}
	for (e = NULL; e == NULL; n++) {
		struct bb_error err = { 0 };
		m->fail(BB_FAIL_GEMM, n);
		if (bb_engine_open(&e, bb_models, &params, &err)) {
			break;
		}
		cr_assert_eq(err.code, BB_ERR_UNSUPPORTED, "call %d: %s", n, err.text);
		cr_assert_not_null(strstr(err.text, n == 1 ? "libcublasLt.so.13 can't be opened; install "
			: " gave CUBLAS_STATUS_"), "call %d: %s", n, err.text);
		n_heuristics += strstr(err.text, "AlgoGetHeuristic gave CUBLAS_STATUS_NOT_SUPPORTED for a "
			"product of 64 x ") != NULL;
	}
	m->fail(BB_FAIL_GEMM, 0);
	cr_assert_gt(n, 10);
	cr_assert_geq(n_heuristics, 5, "one for each shape of a layer and the head: %d", n_heuristics);
	bb_engine_destroy(e);
}

/* A failed call of a step is said, and the step isn't appended; the next one works. Algorithms were
 * chosen before. */
Test(gemm_fast, a_failed_product_is_said_and_forgotten) {
	struct bb_engine *e = open_fast(tiny_path("llama"));
	const struct bb_module *m = module_of(e);
	float *want = read_prompt(e, N_ROWS, true), *got = malloc((size_t)vocab_of(e) * sizeof(*got));
	const size_t n_vocab = (size_t)vocab_of(e);
	int32_t ids[N_ROWS];
	int n = 1;
	if (m->fail == NULL) {
		cr_skip_test("%s can't be made to fail", m->name);
	}
	make_ids(ids, N_ROWS, vocab_of(e), 3);
	struct bb_context *c = new_context(e);
	const struct bb_step_item item = { c, ids, N_ROWS, got, false };
	for (bool ok = false; !ok; n++) {
		struct bb_error err = { 0 };
		m->fail(BB_FAIL_GEMM, n);
		ok = bb_step(e, &item, 1, &err);
		cr_assert(ok || err.code == BB_ERR_DEVICE, "%s", err.text);
		cr_assert(ok || strstr(err.text, "cuBLASLt: cublasLtMat") != NULL, "%s", err.text);
		cr_assert(ok || strstr(err.text, "Heuristic") == NULL, "%s", err.text);
		cr_assert_eq(bb_context_length(c), ok ? N_ROWS : 0);
	}
	m->fail(BB_FAIL_GEMM, 0);
	cr_assert_gt(n, 40);
	bb_context_destroy(c);
	float *again = read_prompt(e, N_ROWS, true);
	cr_assert_eq(memcmp(want, again, N_ROWS * n_vocab * sizeof(*again)), 0);
	free(again);
	free(want);
	free(got);
	bb_engine_destroy(e);
}
