/* SPDX-License-Identifier: Apache-2.0
 *
 * Hugging Face folders against the GGUF files of the same weights, and configurations that share a
 * folder's weights against transformers. The folders are those of goldens/make.py; test_golden
 * plays them against the goldens too. */
#include "made_folder.h"
#include "models.h"
#include "npy.h"

#include <math.h>

enum { VOCAB = 199, LENGTH = 257 };

/* The formula of make.py's prompt(). */
static void make_prompt(int32_t *ids, int n_tokens) {
	for (int i = 0; i < n_tokens; i++) {
		ids[i] = (17 + 31 * i + 7 * i * i + i / 5) % VOCAB;
	}
}

/* [LENGTH, VOCAB], freed by the caller. */
static float *logits_of(const char *path, const char *isa) {
	struct bb_engine *e = open_with(&(struct bb_engine_params){ .path = path, .isa = isa,
		.n_threads = 2, .kv_type = BB_KV_F32 });
	struct bb_context *c = new_context(e);
	int32_t ids[LENGTH];
	make_prompt(ids, LENGTH);
	float *logits = malloc((size_t)LENGTH * VOCAB * sizeof(*logits));
	feed(c, e, ids, LENGTH, logits);
	bb_context_destroy(c);
	bb_engine_destroy(e);
	return logits;
}

static double range(const float *x, size_t n) {
	float low = x[0], high = x[0];
	for (size_t i = 1; i < n; i++) {
		low = fminf(low, x[i]);
		high = fmaxf(high, x[i]);
	}
	return (double)high - (double)low;
}

/* Largest difference, as a share of b's range; a NaN's is infinite. */
static double off(const float *a, const float *b, size_t n) {
	double worst = 0;
	for (size_t i = 0; i < n; i++) {
		const double d = fabs((double)a[i] - (double)b[i]);
		worst = fmax(worst, isnan(d) ? (double)INFINITY : d);
	}
	return worst / range(b, n);
}

static void play(const char *name, bool is_equal) {
	char folder[1024], file[1024];
	snprintf(folder, sizeof(folder), "%s/hf/%s", GOLDENS_DIR, name);
	snprintf(file, sizeof(file), "%s/%s.gguf", GOLDENS_DIR, name);
	const size_t n = (size_t)LENGTH * VOCAB;
	for (const char *const *isa = bb_isa_names(); *isa != NULL; isa++) {
		if (bb_isa_is_available(*isa)) {
			float *a = logits_of(folder, *isa), *b = logits_of(file, *isa);
			if (is_equal) {
				cr_assert(memcmp(a, b, n * sizeof(*a)) == 0, "%s, %s: off by %.2e of the range",
					name, *isa, off(a, b, n));
			} else {
				cr_assert(off(a, b, n) < 1e-5, "%s, %s: off by %.2e of the range", name, *isa,
					off(a, b, n));
			}
			free(a);
			free(b);
		}
	}
}

/* The same numbers in both: three shards; one file, whose norms are stored without their 1. */
Test(folder, llama_has_the_bits_of_gguf) { play("llama", true); }
Test(folder, gemma3_has_the_bits_of_gguf) { play("gemma3-linear", true); }

/* The GGUF files hold A as NumPy rounds exp; here it is the nearest float. */
Test(folder, falcon_mamba_is_close_to_gguf) { play("falcon-mamba", false); }
Test(folder, mamba2_is_close_to_gguf) { play("mamba2", false); }
Test(folder, nemotron_h_is_close_to_gguf) { play("nemotron_h", false); }

/* ---- configurations ---- */

/* Both ways in which transformers has written the configuration. */
static void play_variant(const char *name, const char *weights) {
	static const char *const configs[] = { "config.json", "config-4.json" };
	char path[1024];
	struct npy want;
	snprintf(path, sizeof(path), "%s/hf/%s/%d.npy", GOLDENS_DIR, name, LENGTH);
	npy_init(&want, path);
	cr_assert_eq(want.cols, VOCAB);
	make_folder(weights);
	for (size_t i = 0; i < 2; i++) {
		link_to(name, configs[i], "config.json");
		float *got = logits_of(made, NULL);
		const double share = off(got + (LENGTH - want.rows) * VOCAB, want.data,
			want.rows * want.cols);
		cr_assert(share < 1e-4, "%s, %s: off by %.2e of the range", name, configs[i], share);
		free(got);
	}
	remove_made();
	npy_finish(&want);
}

/* A golden folder's own configuration, as transformers wrote it before 5: the same bits. Among them
 * a pattern where now layers have a list, and an Infinity that JSON hasn't. */
static void play_older(const char *name) {
	char folder[1024];
	snprintf(folder, sizeof(folder), "%s/hf/%s", GOLDENS_DIR, name);
	make_folder(name);
	link_to(name, "config-4.json", "config.json");
	float *a = logits_of(folder, NULL), *b = logits_of(made, NULL);
	cr_assert(memcmp(a, b, (size_t)LENGTH * VOCAB * sizeof(*a)) == 0, "%s", name);
	free(a);
	free(b);
	remove_made();
}

/* The weights of a golden folder in the one that is made here, with the names of tensors changed;
 * `from` and `to` are of one length. */
static void make_renamed(const char *golden, const char *from, const char *to) {
	static char bytes[1 << 20];
	char path[1024];
	const size_t n_name = strlen(from);
	cr_assert_eq(strlen(to), n_name);
	snprintf(path, sizeof(path), "%s/hf/%s/model.safetensors", GOLDENS_DIR, golden);
	FILE *f = fopen(path, "rb");
	cr_assert_not_null(f);
	const size_t n = fread(bytes, 1, sizeof(bytes), f);
	fclose(f);
	int n_changed = 0;
	for (size_t i = 0; i + n_name <= n; i++) {
		if (memcmp(bytes + i, from, n_name) == 0) {
			memcpy(bytes + i, to, n_name);
			n_changed++;
		}
	}
	cr_assert_gt(n_changed, 0);
	make_folder(golden);
	snprintf(path, sizeof(path), "%s/model.safetensors", made);
	unlink(path);
	f = fopen(path, "wb");
	cr_assert_not_null(f);
	cr_assert_eq(fwrite(bytes, 1, n, f), n);
	cr_assert_eq(fclose(f), 0);
}

/* Layers 2 and 6 share a block; transformers has saved it under the name of either. */
Test(folder, shared_block_under_the_name_of_a_later_layer) {
	char folder[1024];
	snprintf(folder, sizeof(folder), "%s/hf/zamba2", GOLDENS_DIR);
	make_renamed("zamba2", "layers.2.shared_transformer", "layers.6.shared_transformer");
	link_to("zamba2", "config.json", "config.json");
	float *a = logits_of(folder, NULL), *b = logits_of(made, NULL);
	cr_assert_eq(memcmp(a, b, (size_t)LENGTH * VOCAB * sizeof(*a)), 0);
	free(a);
	free(b);
	remove_made();
}

Test(folder, older_llama) { play_older("llama"); }
Test(folder, older_gemma3) { play_older("gemma3-linear"); }
Test(folder, older_falcon_mamba) { play_older("falcon-mamba"); }
Test(folder, older_mamba2) { play_older("mamba2"); }
Test(folder, older_lfm2) { play_older("lfm2"); }
Test(folder, older_falcon_h1) { play_older("falcon-h1"); }
Test(folder, older_xlstm) { play_older("xlstm"); }
Test(folder, older_granite) { play_older("granitehybrid-rope"); }
Test(folder, older_bamba) { play_older("bamba"); }
Test(folder, older_jamba) { play_older("jamba"); }
Test(folder, older_qwen3_next) { play_older("qwen3next"); }
Test(folder, older_recurrent_gemma) { play_older("recurrent_gemma"); }
Test(folder, older_zamba2) { play_older("zamba2"); }
Test(folder, published_nemotron_h) { play_older("nemotron_h"); }

Test(folder, llama3_rope) { play_variant("llama-llama3", "llama"); }
Test(folder, linear_rope) { play_variant("llama-longer", "llama"); }
Test(folder, mistral_window) { play_variant("llama-mistral", "llama"); }
/* An attention factor and a ramp that aren't the defaults. */
Test(folder, yarn_rope) { play_variant("llama-yarn", "llama"); }
/* An epsilon of its own for dt, B and C. */
Test(folder, falcon_mamba_epsilon) { play_variant("falcon-mamba-eps", "falcon-mamba"); }
/* Steps limited from both sides. */
Test(folder, mamba2_limits) { play_variant("mamba2-limits", "mamba2"); }
