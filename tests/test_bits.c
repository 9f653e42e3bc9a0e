/* SPDX-License-Identifier: Apache-2.0
 *
 * The same request gives the same bits: alone or beside others, however the prompt is cut, token by
 * token, on one thread or two, after forks and rewinds. Tiny models of every architecture with
 * every KV type and ISA level, some on a device, then the real models. */
#include "models.h"

#ifdef __has_feature /* clang's way of asking; gcc defines the macro below itself */
#if __has_feature(address_sanitizer)
#define __SANITIZE_ADDRESS__ 1
#endif
#endif

/* Beyond two splits of attention on the best ISA level and beyond one in the real models; less
 * where the sanitizer makes each token many times dearer. */
#ifdef __SANITIZE_ADDRESS__
enum { N_TOKENS = 270, N_LOWER = 70, N_DEVICE = 70, N_BLOCKS = 70, N_REAL = 70, N_TAIL = 4 };
#else
enum { N_TOKENS = 520, N_LOWER = 150, N_DEVICE = 270, N_BLOCKS = 120, N_REAL = 300, N_TAIL = 12 };
#endif

/* The ids and their logits in one step on one thread: what everything else must equal. */
struct expected {
	struct bb_engine_params params;
	int n_tokens, n_vocab;
	int32_t *ids;  /* [n_tokens] */
	float *logits; /* [n_tokens, n_vocab] */
};

static void compare(const struct expected *x, const float *got, int first, int n, const char *how) {
	for (int t = 0; t < n; t++) {
		const size_t row_bytes = (size_t)x->n_vocab * sizeof(float);
		const float *want = x->logits + (size_t)(first + t) * (size_t)x->n_vocab;
		const float *have = got + (size_t)t * (size_t)x->n_vocab;
		for (int i = 0; memcmp(want, have, row_bytes) != 0 && i < x->n_vocab; i++) {
			cr_assert(memcmp(&want[i], &have[i], sizeof(float)) == 0,
				"%s, isa %s, kv %s: token %d, logit %d is %.9g, want %.9g", how,
				x->params.isa != NULL ? x->params.isa : "best", bb_kv_type_name(x->params.kv_type),
				first + t, i, (double)have[i], (double)want[i]);
		}
	}
}

static float *logits_for(const struct expected *x, int n) {
	float *logits = malloc((size_t)n * (size_t)x->n_vocab * sizeof(float));
	cr_assert_not_null(logits);
	return logits;
}

static void expect_one_step(struct expected *x, int n_tokens) {
	x->params.n_threads = 1;
	x->params.max_batch_tokens = n_tokens;
	struct bb_engine *e = open_with(&x->params);
	struct bb_context *c = new_context(e);
	x->n_tokens = n_tokens;
	x->n_vocab = vocab_of(e);
	x->ids = malloc((size_t)n_tokens * sizeof(int32_t));
	x->logits = logits_for(x, n_tokens);
	make_ids(x->ids, n_tokens, x->n_vocab, 1);
	feed(c, e, x->ids, n_tokens, x->logits);
	bb_context_destroy(c);
	bb_engine_destroy(e);
}

/* Steps of `chunk` tokens; 1 = as decoding does. */
static void check_chunks(const struct expected *x, struct bb_engine *e, int chunk) {
	struct bb_context *c = new_context(e);
	float *logits = logits_for(x, chunk);
	for (int i = 0; i < x->n_tokens; i += chunk) {
		const int n = x->n_tokens - i < chunk ? x->n_tokens - i : chunk;
		feed(c, e, x->ids + i, n, logits);
		compare(x, logits, i, n, "in chunks");
	}
	free(logits);
	bb_context_destroy(c);
}

/* Everything but the last tokens at once, those one by one. */
static void check_tail(const struct expected *x, struct bb_engine *e) {
	struct bb_context *c = new_context(e);
	float *logits = logits_for(x, 1);
	feed(c, e, x->ids, x->n_tokens - N_TAIL, NULL);
	for (int i = x->n_tokens - N_TAIL; i < x->n_tokens; i++) {
		feed(c, e, x->ids + i, 1, logits);
		compare(x, logits, i, 1, "decoded");
	}
	free(logits);
	bb_context_destroy(c);
}

/* Our tokens a few at a time, in one step with three strangers of other lengths before and
 * after. */
static void check_beside(const struct expected *x, struct bb_engine *e) {
	struct bb_context *c[4];
	int32_t noise[4][8];
	for (int i = 0; i < 4; i++) {
		c[i] = new_context(e);
		make_ids(noise[i], 8, x->n_vocab, 10 + i);
	}
	feed(c[1], e, noise[3], 7, NULL);
	const int chunk = 11;
	float *logits = logits_for(x, chunk), *other = logits_for(x, 1);
	for (int i = 0; i < x->n_tokens; i += chunk) {
		const int n = x->n_tokens - i < chunk ? x->n_tokens - i : chunk;
		const struct bb_step_item items[4] = {
			{ c[0], noise[0], 1 + i % 8, NULL, false }, { c[1], noise[1], 1, other, false },
			{ c[2], x->ids + i, n, logits, true }, { c[3], noise[2], 3, NULL, false },
		};
		struct bb_error err = { 0 };
		cr_assert(bb_step(e, items, 4, &err), "%s", err.text);
		compare(x, logits, i, n, "beside others");
	}
	free(logits);
	free(other);
	for (int i = 0; i < 4; i++) {
		bb_context_destroy(c[i]);
	}
}

/* Fork at odd places, let the fork go astray, go on in the original; then rewind and repeat. */
static void check_fork_and_rewind(const struct expected *x, struct bb_engine *e) {
	struct bb_context *c = new_context(e), *fork;
	struct bb_error err = { 0 };
	float *logits = logits_for(x, x->n_tokens);
	int32_t noise[9];
	make_ids(noise, 9, x->n_vocab, 3);
	const int at = x->n_tokens / 2 + 7;
	feed(c, e, x->ids, at, NULL);
	cr_assert(bb_context_fork(&fork, c, &err), "%s", err.text);
	feed(fork, e, noise, 9, NULL);
	feed(c, e, x->ids + at, x->n_tokens - at, logits);
	compare(x, logits, at, x->n_tokens - at, "original after a fork");
	cr_assert(bb_context_rewind(fork, at, &err), "%s", err.text);
	feed(fork, e, x->ids + at, x->n_tokens - at, logits);
	compare(x, logits, at, x->n_tokens - at, "fork after a rewind");
	bb_context_destroy(c);
	cr_assert(bb_context_rewind(fork, 0, &err), "%s", err.text);
	feed(fork, e, x->ids, x->n_tokens, logits);
	compare(x, logits, 0, x->n_tokens, "fork rewound to nothing");
	free(logits);
	bb_context_destroy(fork);
}

static void check_all(struct expected *x, const int *chunks, int n_chunks) {
	const int most_threads = x->params.device == NULL ? 2 : 1; /* which are the host's */
	for (x->params.n_threads = 1; x->params.n_threads <= most_threads; x->params.n_threads++) {
		struct bb_engine *e = open_with(&x->params);
		for (int i = 0; i < n_chunks; i++) {
			check_chunks(x, e, chunks[i]);
		}
		check_tail(x, e);
		check_beside(x, e);
		check_fork_and_rewind(x, e);
		bb_engine_destroy(e);
	}
	free(x->ids);
	free(x->logits);
}

/* No later level runs here. */
static bool is_best(const char *const *isa) {
	for (isa++; *isa != NULL; isa++) {
		if (bb_isa_is_available(*isa)) {
			return false;
		}
	}
	return true;
}

static void check_tiny(const char *name, enum bb_kv_type kv_type) {
	const int chunks[] = { 1, 7, 64, 100 };
	for (const char *const *isa = bb_isa_names(); *isa != NULL; isa++) {
		if (bb_isa_is_available(*isa)) {
			struct expected x = { .params = { .path = tiny_path(name), .isa = *isa,
				.kv_type = kv_type,
				.max_model_len = 1024 } };
			expect_one_step(&x, is_best(isa) ? N_TOKENS : N_LOWER);
			check_all(&x, chunks, 4);
		}
	}
}

#define TINY(suite, name) \
	Test(suite, f32) { \
		check_tiny(name, BB_KV_F32); \
	} \
	Test(suite, f16) { \
		check_tiny(name, BB_KV_F16); \
	} \
	Test(suite, bf16) { \
		check_tiny(name, BB_KV_BF16); \
	} \
	Test(suite, int8) { \
		check_tiny(name, BB_KV_INT8); \
	}

/* On the emulator of CUDA or the device that is named; which threads run when is
 * test_on_device's. */
static void check_device(const char *name, enum bb_kv_type kv_type, int n_tokens,
	const int *chunks, int n_chunks) {
	struct expected x = { .params = { .path = tiny_path(name), .device = test_device(),
		.kv_type = kv_type, .max_model_len = 1024 } };
	if (!HAS_SIMT && named_device() == NULL) {
		cr_skip_test("this build has no emulator");
	}
	expect_one_step(&x, n_tokens);
	check_all(&x, chunks, n_chunks);
}

#define DEVICE(name, model, kv_type) \
	Test(bits_device, name) { \
		check_device(model, kv_type, N_DEVICE, (const int[]){ 7, 100 }, 2); \
	}

DEVICE(llama_f32, "llama", BB_KV_F32)
DEVICE(llama_window_bf16, "llama-window", BB_KV_BF16)
DEVICE(qwen2_int8, "qwen2", BB_KV_INT8)
DEVICE(gemma3_f16, "gemma3", BB_KV_F16)
DEVICE(rwkv6, "rwkv6", BB_KV_AUTO)
DEVICE(rwkv7, "rwkv7", BB_KV_AUTO)

/* Block types take other ways than floats, and another one for one row than for several: norms and
 * gates go with the products, and x is quantised. */
Test(bits_device, llama_quantised_f16, .timeout = 300) {
	check_device("llama-quantised", BB_KV_F16, N_BLOCKS, (const int[]){ 1, 7, 100 }, 3);
}

TINY(bits_llama, "llama")
TINY(bits_llama_window, "llama-window")
TINY(bits_qwen2, "qwen2")
TINY(bits_gemma3, "gemma3")

Test(bits_llama_quantised, f16) {
	check_tiny("llama-quantised", BB_KV_F16);
}

Test(bits_llama_quantised, int8) {
	check_tiny("llama-quantised", BB_KV_INT8);
}

/* They have no keys and values. */
Test(bits_recurrent, mamba) {
	check_tiny("mamba", BB_KV_AUTO);
}
Test(bits_recurrent, falcon_mamba) {
	check_tiny("falcon-mamba", BB_KV_AUTO);
}
Test(bits_recurrent, mamba2) {
	check_tiny("mamba2", BB_KV_AUTO);
}
Test(bits_recurrent, xlstm) {
	check_tiny("xlstm", BB_KV_AUTO);
}
Test(bits_recurrent, rwkv6) {
	check_tiny("rwkv6", BB_KV_AUTO);
}
Test(bits_recurrent, rwkv7) {
	check_tiny("rwkv7", BB_KV_AUTO);
}
/* Both. */
Test(bits_hybrid, falcon_h1) {
	check_tiny("falcon-h1", BB_KV_F16);
}
Test(bits_hybrid, falcon_h1_int8) {
	check_tiny("falcon-h1", BB_KV_INT8);
}
/* Some layers attend, others convolve. */
Test(bits_hybrid, lfm2) {
	check_tiny("lfm2", BB_KV_F16);
}
/* Rows that share a step choose experts of their own. */
Test(bits_hybrid, granite) {
	check_tiny("granitehybrid", BB_KV_F16);
}
Test(bits_hybrid, granite_int8) {
	check_tiny("granitehybrid-rope", BB_KV_INT8);
}
Test(bits_hybrid, jamba) {
	check_tiny("jamba", BB_KV_F16);
}
Test(bits_hybrid, qwen3_next) {
	check_tiny("qwen3next", BB_KV_F16);
}
Test(bits_hybrid, recurrent_gemma) {
	check_tiny("recurrent_gemma", BB_KV_F16);
}
Test(bits_hybrid, zamba2) {
	check_tiny("zamba2", BB_KV_F16);
}
/* Some attend, some scan, some do neither. */
Test(bits_hybrid, nemotron_h) {
	check_tiny("nemotron_h", BB_KV_F16);
}

static void check_real(const char *name, enum bb_kv_type kv_type) {
	const int chunks[] = { 65 };
	struct expected x = { .params = { .path = real_path(name), .kv_type = kv_type } };
	expect_one_step(&x, N_REAL);
	check_all(&x, chunks, 1);
}

#define REAL(suite, name) \
	Test(suite, f16, .timeout = 300) { \
		check_real(name, BB_KV_F16); \
	} \
	Test(suite, int8, .timeout = 300) { \
		check_real(name, BB_KV_INT8); \
	}

REAL(bits_real_smollm2, "smollm2")
REAL(bits_real_gemma, "gemma")
REAL(bits_real_qwen, "qwen")
