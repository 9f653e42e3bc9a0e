/* SPDX-License-Identifier: Apache-2.0
 *
 * Every architecture against the official implementation: tiny random models and their float64
 * logits, made by goldens/make.py. Each test is one model at one length, on every ISA level of this
 * machine and on the emulator of CUDA, or on the one device that is named: fed in one step, and
 * again in uneven steps with the last tokens one by one. */
#include "golden.h"
#include "models.h"

#include "graph.h"

#include <math.h>
#include <stdint.h>

enum { MAX_LENGTH = 500 };

/* got: [rows, GOLDEN_VOCAB], the logits after the last `rows` tokens. */
static void compare(const float *got, const struct npy *want, const char *where, const char *how) {
	size_t at;
	const double share = golden_off(got, want, &at);
	cr_assert(share <= GOLDEN_TOLERANCE,
		"%s, %s: logit %zu of row %zu of %zu is %g, want %g: off by %.2e of the range", where,
		how, at % want->cols, at / want->cols, want->rows, (double)got[at],
		(double)want->data[at], share);
}

/* The whole prompt in one step. */
static void at_once(struct bb_engine *e, const int32_t *ids, int n_tokens, const struct npy *want,
	const char *where) {
	struct bb_context *c = new_context(e);
	struct bb_error err = { 0 };
	float *logits = calloc((size_t)n_tokens * GOLDEN_VOCAB, sizeof(float));
	const struct bb_step_item item = { .context = c, .tokens = ids, .n_tokens = n_tokens,
		.logits = logits, .all_logits = true };
	cr_assert(bb_step(e, &item, 1, &err), "%s", err.text);
	compare(logits + ((size_t)n_tokens - want->rows) * GOLDEN_VOCAB, want, where, "one step");
	free(logits);
	bb_context_destroy(c);
}

/* All but the last rows as a prompt, in steps that no page or window divides; then decoding. */
static void in_pieces(struct bb_engine *e, const int32_t *ids, int n_tokens, const struct npy *want,
	const char *where) {
	struct bb_context *c = new_context(e);
	struct bb_error err = { 0 };
	float *logits = calloc(want->rows * GOLDEN_VOCAB, sizeof(float)); /* [rows, GOLDEN_VOCAB] */
	const int n_prompt = n_tokens - (int)want->rows;
	for (int done = 0, n = 0; done < n_prompt; done += n) {
		n = n_prompt - done < 29 ? n_prompt - done : 29;
		cr_assert(bb_prefill(c, ids + done, (size_t)n, NULL, NULL, NULL, &err), "%s", err.text);
	}
	for (size_t i = 0; i < want->rows; i++) {
		const struct bb_step_item item = { .context = c, .tokens = ids + n_prompt + i,
			.n_tokens = 1, .logits = logits + i * GOLDEN_VOCAB };
		cr_assert(bb_step(e, &item, 1, &err), "%s", err.text);
	}
	compare(logits, want, where, "in pieces");
	free(logits);
	bb_context_destroy(c);
}

static void play_on(const char *device, const char *isa, const char *path, const int32_t *ids,
	int n_tokens, const struct npy *want) {
	const struct bb_engine_params params = { .path = path, .device = device, .isa = isa,
		.n_threads = 2, .kv_type = BB_KV_F32 };
	struct bb_engine *e = NULL;
	struct bb_error err = { 0 };
	cr_assert(bb_engine_open(&e, bb_models, &params, &err), "%s", err.text);
	at_once(e, ids, n_tokens, want, isa != NULL ? isa : device);
	in_pieces(e, ids, n_tokens, want, isa != NULL ? isa : device);
	bb_engine_destroy(e);
}

/* On every ISA level and on the emulator, or on the device that is named. */
static void play_everywhere(const char *path, const int32_t *ids, int n_tokens,
	const struct npy *want) {
	for (const char *const *isa = bb_isa_names(); *isa; isa++) {
		if (bb_isa_is_available(*isa) && named_device() == NULL) {
			play_on("cpu", *isa, path, ids, n_tokens, want);
		}
	}
	if (HAS_SIMT || named_device() != NULL) {
		play_on(test_device(), NULL, path, ids, n_tokens, want);
	}
}

/* Plays <model>.gguf, the Hugging Face folder hf/<model>, or both. */
static void play(const char *model, int n_tokens) {
	char path[1024];
	struct npy want;
	snprintf(path, sizeof(path), "%s/%s-%d.npy", GOLDENS_DIR, model, n_tokens);
	npy_init(&want, path);
	cr_assert(want.cols == GOLDEN_VOCAB && want.rows >= 1 && (int)want.rows <= n_tokens);
	int32_t ids[MAX_LENGTH];
	golden_prompt(ids, n_tokens);

	snprintf(path, sizeof(path), "%s/%s.gguf", GOLDENS_DIR, model);
	const bool has_file = access(path, R_OK) == 0;
	if (has_file) {
		play_everywhere(path, ids, n_tokens, &want);
	}
	snprintf(path, sizeof(path), "%s/hf/%s", GOLDENS_DIR, model);
	const bool has_folder = access(path, R_OK) == 0;
	if (has_file && has_folder) { /* the same weights: what differs is read, not computed */
		play_on(named_device() != NULL ? named_device() : "cpu", NULL, path, ids, n_tokens, &want);
	} else if (has_folder) {
		play_everywhere(path, ids, n_tokens, &want);
	}
	cr_assert(has_file || has_folder);
	npy_finish(&want);
}

Test(golden, every_architecture_has_one) {
	for (const struct bb_model *const *m = bb_models; *m; m++) {
		char path[1024], folder[1024];
		snprintf(path, sizeof(path), "%s/%s.gguf", GOLDENS_DIR, (*m)->name);
		snprintf(folder, sizeof(folder), "%s/hf/%s", GOLDENS_DIR, (*m)->name);
		cr_assert(access(path, R_OK) == 0 || access(folder, R_OK) == 0,
			"%s has no golden: %s is missing", (*m)->name, path);
	}
}

/* Grouped-query attention, an output matrix of its own. */
Test(golden, llama_1) { play("llama", 1); }
Test(golden, llama_7) { play("llama", 7); }
Test(golden, llama_64) { play("llama", 64); }
Test(golden, llama_257) { play("llama", 257); }

/* The embedding as output matrix; heads of 10. */
Test(golden, llama_tied_1) { play("llama-tied", 1); }
Test(golden, llama_tied_7) { play("llama-tied", 7); }
Test(golden, llama_tied_64) { play("llama-tied", 64); }
Test(golden, llama_tied_257) { play("llama-tied", 257); }

/* Llama 3's RoPE scaling, as rope_freqs.weight. */
Test(golden, llama3_rope_1) { play("llama3-rope", 1); }
Test(golden, llama3_rope_7) { play("llama3-rope", 7); }
Test(golden, llama3_rope_64) { play("llama3-rope", 64); }
Test(golden, llama3_rope_257) { play("llama3-rope", 257); }

/* Linear RoPE scaling; as many KV heads as query heads. */
Test(golden, llama_linear_1) { play("llama-linear", 1); }
Test(golden, llama_linear_7) { play("llama-linear", 7); }
Test(golden, llama_linear_64) { play("llama-linear", 64); }
Test(golden, llama_linear_257) { play("llama-linear", 257); }

/* Mistral: every layer sees the last 50 tokens. */
Test(golden, llama_window_1) { play("llama-window", 1); }
Test(golden, llama_window_7) { play("llama-window", 7); }
Test(golden, llama_window_64) { play("llama-window", 64); }
Test(golden, llama_window_257) { play("llama-window", 257); }

/* Biases on Q, K and V. */
Test(golden, qwen2_1) { play("qwen2", 1); }
Test(golden, qwen2_7) { play("qwen2", 7); }
Test(golden, qwen2_64) { play("qwen2", 64); }
Test(golden, qwen2_257) { play("qwen2", 257); }

/* YaRN with its default ramp and attention factor. */
Test(golden, qwen2_yarn_1) { play("qwen2-yarn", 1); }
Test(golden, qwen2_yarn_7) { play("qwen2-yarn", 7); }
Test(golden, qwen2_yarn_64) { play("qwen2-yarn", 64); }
Test(golden, qwen2_yarn_257) { play("qwen2-yarn", 257); }

/* Sliding and full layers with a RoPE base each; window of 37; keys of the 270M's file. */
Test(golden, gemma3_1) { play("gemma3", 1); }
Test(golden, gemma3_7) { play("gemma3", 7); }
Test(golden, gemma3_64) { play("gemma3", 64); }
Test(golden, gemma3_257) { play("gemma3", 257); }

/* Linear scaling on the full layers only, a pattern of 3, scores not scaled by 1/sqrt(head_dim). */
Test(golden, gemma3_linear_1) { play("gemma3-linear", 1); }
Test(golden, gemma3_linear_7) { play("gemma3-linear", 7); }
Test(golden, gemma3_linear_64) { play("gemma3-linear", 64); }
Test(golden, gemma3_linear_257) { play("gemma3-linear", 257); }

/* Mamba: widths that no vector divides. */
#define RECURRENT(name, model) \
	Test(golden, name##_1) { play(model, 1); } \
	Test(golden, name##_63) { play(model, 63); } \
	Test(golden, name##_64) { play(model, 64); } \
	Test(golden, name##_65) { play(model, 65); } \
	Test(golden, name##_500) { play(model, 500); }
RECURRENT(mamba, "mamba")
/* A convolution of 3 without a bias. */
RECURRENT(mamba_plain_conv, "mamba-plain-conv")
/* dt, B and C are normalised. */
RECURRENT(falcon_mamba, "falcon-mamba")
RECURRENT(mamba2, "mamba2")
/* Heads of 8, an output matrix of its own. */
RECURRENT(mamba2_heads, "mamba2-heads")
/* Heads of 16; ranks that no vector divides. */
RECURRENT(rwkv6, "rwkv6")
/* Heads of 20; halved behind every second layer. */
RECURRENT(rwkv6_halved, "rwkv6-halved")
/* A folder, whose ranks and inner width follow from its width; it asks for halving in vain. */
RECURRENT(rwkv6_folder, "rwkv6-folder")
/* As rwkv6. */
RECURRENT(rwkv7, "rwkv7")
/* Heads of 20, ranks of whole vectors. */
RECURRENT(rwkv7_heads, "rwkv7-heads")
/* A head of 64, where files and folders mean the same epsilon. */
RECURRENT(rwkv7_folder, "rwkv7-folder")
/* Attention beside Mamba-2; 5 heads on one, groups, a norm behind the scan. */
RECURRENT(falcon_h1, "falcon-h1")
/* Without that norm, and without the convolution's bias. */
RECURRENT(falcon_h1_plain, "falcon-h1-plain")
/* Heads of 9 keys and 18 values; caps that bend little. */
RECURRENT(xlstm, "xlstm")
/* Heads of 36 keys and 72 values; caps that bend much, an epsilon that shows. */
RECURRENT(xlstm_caps, "xlstm-caps")
/* Convolutions of 3 between layers that attend; a folder whose width is to be adjusted. */
RECURRENT(lfm2, "lfm2")
/* Attention first, convolutions of 4, an output matrix of its own. */
RECURRENT(lfm2_plain, "lfm2-plain")
/* Mamba-2 and attention without RoPE before 3 of 7 experts and one that all rows share; odd
 * widths, four multipliers. */
RECURRENT(granite_hybrid, "granitehybrid")
/* RoPE, attention first, every expert used, an output matrix of its own. */
RECURRENT(granite_hybrid_rope, "granitehybrid-rope")
/* No experts. */
RECURRENT(granite_hybrid_dense, "granitehybrid-dense")
/* Half of each head turns, by positions halved; a GGUF file whose rows pair whole heads. */
RECURRENT(bamba, "bamba")
/* Mamba with norms of dt, B and C, attention in two layers, experts in every second. */
RECURRENT(jamba, "jamba")
/* No experts; heads side by side. */
RECURRENT(jamba_dense, "jamba-dense")
/* The gated delta rule, three value heads to a key head; gated attention over a quarter turned. */
RECURRENT(qwen3_next, "qwen3next")
/* Every second layer attends, told by the interval; as many key heads, one expert used. */
RECURRENT(qwen3_next_interval, "qwen3next-interval")
/* One of Mamba-2, attention without RoPE and a squared ReLU in each layer. */
RECURRENT(nemotron_h, "nemotron_h")
/* With biases, another epsilon under another key, and no bias of the convolution. */
RECURRENT(nemotron_h_bias, "nemotron_h-bias")
/* Griffin: gates of 5 heads of 12, a window of 37 tokens beside the newest, one KV head. */
RECURRENT(recurrent_gemma, "recurrent_gemma")
/* Attention first, biases of its products, a window of 100, a cap that bends much. */
RECURRENT(recurrent_gemma_bias, "recurrent_gemma-bias")
/* Two blocks take three turns, with low-rank matrices of each; two groups. */
RECURRENT(zamba2, "zamba2")
/* A block in each such layer, no RoPE, low-rank matrices in its feed-forward alone. */
RECURRENT(zamba2_plain, "zamba2-plain")
