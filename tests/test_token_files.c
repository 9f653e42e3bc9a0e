/* SPDX-License-Identifier: Apache-2.0
 *
 * Vocabularies that can't be used, memory that runs out, and the real models where they are
 * ($BOBBIN_MODELS, else ~/.cache/bobbin/models) against llama.cpp's ids (data/tokens/make.py). */
#include "vocab_builder.h"

#include <criterion/criterion.h>
#include <jansson.h>

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

/* Creation fails with this code and one sentence that has `word` in it. */
static void refuse(enum bb_code code, const char *word) {
	struct bb_error err = { .code = BB_OK };
	struct tokenizer *t;
	cr_assert_not(vocab_try(&t, &err), "expected to be refused over %s", word);
	gguf_builder_finish(&vocab.gguf);
	cr_assert_null(t);
	cr_assert_eq(err.code, code, "%s", err.text);
	cr_assert_not_null(strstr(err.text, word), "%s", err.text);
	cr_assert_null(strchr(err.text, '\n'), "%s", err.text);
}

static void begin_bpe(void) {
	vocab_begin("gpt2", "qwen2");
	vocab_add_bytes();
}

static void begin_spm(void) {
	vocab_begin("llama", NULL);
	vocab_add("<unk>", VOCAB_UNKNOWN);
	vocab_add_scored("a", -1);
	vocab_add_scored("b", -1);
	vocab_add_scored("ab", 0);
}

static void put_two_tokens(void) {
	gguf_builder_strs(&vocab.gguf, "tokenizer.ggml.tokens", 2, (const char *const[]){ "a", "b" });
}

/* ---- hostile vocabularies ---- */

Test(hostile, unknown_models_and_splits_are_named) {
	vocab_begin("bert", NULL);
	refuse(BB_ERR_UNSUPPORTED, "\"bert\"");
	vocab_begin("gpt2", "tekken\n\x01");
	refuse(BB_ERR_UNSUPPORTED, "\"tekken??\"");
	vocab_begin("gpt2", NULL);
	refuse(BB_ERR_UNSUPPORTED, "tokenizer.ggml.pre");
	gguf_builder_init(&vocab.gguf);
	refuse(BB_ERR_UNSUPPORTED, "tokenizer.ggml.model");
	gguf_builder_init(&vocab.gguf);
	gguf_builder_int(&vocab.gguf, "tokenizer.ggml.model", GGUF_U32, 1);
	refuse(BB_ERR_FORMAT, "tokenizer.ggml.model");
}

Test(hostile, no_tokens) {
	vocab_begin("gpt2", "gpt2");
	refuse(BB_ERR_FORMAT, "tokenizer.ggml.tokens");
	vocab_begin("gpt2", "gpt2");
	vocab_put();
	refuse(BB_ERR_FORMAT, "tokenizer.ggml.tokens");
	vocab_begin("llama", NULL);
	gguf_builder_array(&vocab.gguf, "tokenizer.ggml.tokens", GGUF_I32, 1, (int32_t[]){ 1 });
	refuse(BB_ERR_FORMAT, "tokenizer.ggml.tokens");
}

Test(hostile, arrays_of_other_lengths) {
	static const char *const keys[] = { "tokenizer.ggml.scores", "tokenizer.ggml.token_type" };
	for (size_t k = 0; k < 2; k++) {
		for (size_t n = 0; n < 6; n += 5) {
			begin_spm();
			put_two_tokens();
			gguf_builder_array(&vocab.gguf, keys[k], GGUF_I32, n, (int32_t[5]){ 1, 1, 1, 1, 1 });
			refuse(BB_ERR_FORMAT, keys[k]);
		}
		begin_spm();
		put_two_tokens();
		gguf_builder_strs(&vocab.gguf, keys[k], 2, (const char *const[]){ "1", "1" });
		refuse(BB_ERR_FORMAT, keys[k]);
	}
}

Test(hostile, types_that_are_none) {
	begin_spm();
	vocab.types[1] = 7;
	vocab_put();
	refuse(BB_ERR_FORMAT, "token_type");
	begin_spm();
	vocab.types[1] = -1;
	vocab_put();
	refuse(BB_ERR_FORMAT, "token 1");
}

Test(hostile, scores_that_are_none) {
	begin_spm();
	vocab.scores[3] = nanf("");
	vocab_put();
	refuse(BB_ERR_FORMAT, "token 3");
	vocab_begin("llama", NULL);
	put_two_tokens();
	refuse(BB_ERR_FORMAT, "tokenizer.ggml.scores");
}

Test(hostile, infinite_scores_still_order) {
	begin_spm();
	vocab.scores[3] = INFINITY;
	vocab_add_scored("ba", -INFINITY);
	struct tokenizer *t = vocab_end();
	gguf_builder_init(&vocab.gguf);
	struct bb_tokens ids = vocab_encode(t, "bab", 3, 0);
	cr_assert_eq(ids.ids[ids.n - 1], 3, "%s", vocab_print(&ids));
	bb_tokens_finish(&ids);
	tokenizer_destroy(t);
}

Test(hostile, merges_of_unknown_pieces) {
	static const char *const bad[] = { "a zz", "zz a", "a b", "a", "a ", " a", "",
		"\xC3\xA9\xE3\x81\x82 b" };
	for (size_t i = 0; i < COUNT(bad); i++) {
		begin_bpe();
		snprintf(vocab.merges[vocab.n_merges++], sizeof(vocab.merges[0]), "%s", bad[i]);
		vocab_put();
		refuse(BB_ERR_FORMAT, "merge 0");
	}
	vocab_begin("gpt2", "qwen2");
	put_two_tokens();
	refuse(BB_ERR_FORMAT, "tokenizer.ggml.merges");
}

Test(hostile, tokens_of_the_same_text) {
	begin_bpe();
	vocab_add("a", VOCAB_NORMAL);
	vocab_put();
	refuse(BB_ERR_FORMAT, "tokens 97 and 256");
	begin_bpe();
	vocab_add("<c>", VOCAB_CONTROL);
	vocab_add("<c>", VOCAB_USER_DEFINED);
	vocab_put();
	refuse(BB_ERR_FORMAT, "tokens 256 and 257");
	begin_spm();
	vocab_add("<0x0A>", VOCAB_BYTE);
	vocab_add("<0x0a>", VOCAB_BYTE);
	vocab_put();
	refuse(BB_ERR_FORMAT, "token 5");
}

Test(hostile, an_added_token_does_not_hide_an_ordinary_one) {
	vocab_begin("gpt2", "qwen2");
	vocab_add("ab", VOCAB_USER_DEFINED);
	vocab_add("a", VOCAB_NORMAL);
	vocab_add("b", VOCAB_NORMAL);
	vocab_add_merge("a", "b");
	struct tokenizer *t = vocab_end();
	cr_assert_str_eq(vocab_ids(t, "ab", 0), "0");
	cr_assert_eq(vocab_find(t, "ab", 2), 3);
	tokenizer_destroy(t);
}

Test(hostile, tokens_of_no_length) {
	begin_bpe();
	vocab_add("", VOCAB_NORMAL);
	vocab_add("", VOCAB_CONTROL);
	vocab_add("", VOCAB_USER_DEFINED);
	struct tokenizer *t = vocab_end();
	cr_assert_str_eq(vocab_ids(t, "a", VOCAB_PARSE), "97");
	cr_assert_eq(tokenizer_piece(t, 256, true).bytes, 0);
	cr_assert_eq(tokenizer_piece(t, 257, true).bytes, 0);
	tokenizer_destroy(t);
}

Test(hostile, byte_tokens_that_are_none) {
	static const char *const bad[] = { "a", "<0x0>", "<0xGG>", "0x00", "<0x000>", "" };
	for (size_t i = 0; i < COUNT(bad); i++) {
		begin_spm();
		vocab_add(bad[i], VOCAB_BYTE);
		vocab_put();
		refuse(BB_ERR_FORMAT, "token 4");
	}
}

Test(hostile, ids_out_of_range) {
	static const char *const keys[] = { "bos", "eos", "unknown", "eot", "eom" };
	for (size_t i = 0; i < COUNT(keys); i++) {
		char key[64];
		snprintf(key, sizeof(key), "tokenizer.ggml.%s_token_id", keys[i]);
		begin_spm();
		gguf_builder_int(&vocab.gguf, key, GGUF_U32, 4);
		vocab_put();
		refuse(BB_ERR_FORMAT, key);
		begin_spm();
		gguf_builder_int(&vocab.gguf, key, GGUF_I32, -1);
		vocab_put();
		refuse(BB_ERR_FORMAT, key);
		begin_spm();
		gguf_builder_str(&vocab.gguf, key, "1");
		vocab_put();
		refuse(BB_ERR_FORMAT, key);
	}
}

Test(hostile, sizes_of_a_missing_vocabulary) {
	static const int64_t sizes[] = { 0, -5, (int64_t)1 << 40 };
	for (size_t i = 0; i < COUNT(sizes); i++) {
		vocab_begin("no_vocab", NULL);
		gguf_builder_str(&vocab.gguf, "general.architecture", "x");
		gguf_builder_int(&vocab.gguf, "x.vocab_size", GGUF_I64, sizes[i]);
		refuse(BB_ERR_FORMAT, "x.vocab_size");
	}
	vocab_begin("no_vocab", NULL);
	refuse(BB_ERR_FORMAT, "vocab_size");
}

Test(hostile, strings_of_any_bytes) {
	for (int round = 0; round < 300; round++) {
		vocab_begin(round % 2 == 0 ? "llama" : "gpt2", "gpt2");
		for (int i = 0; i < 30; i++) {
			char text[12] = "";
			for (uint32_t k = 0, n = vocab_draw(10); k < n; k++) {
				const char common = "ab<> \xE2\x96\x81"[vocab_draw(8)];
				text[k] = vocab_draw(4) == 0 ? (char)(1 + vocab_draw(255)) : common;
			}
			vocab_add(text, (enum vocab_type)vocab_draw(6));
		}
		vocab_put();
		struct tokenizer *t;
		struct bb_error err = { .code = BB_OK };
		if (vocab_try(&t, &err)) {
			char text[64];
			for (size_t i = 0; i < sizeof(text); i++) {
				text[i] = "ab<> \xE2\x96\x81\xFF"[vocab_draw(9)];
			}
			struct bb_tokens ids = vocab_encode(t, text, sizeof(text), VOCAB_PARSE | VOCAB_ADD);
			struct bb_text back = vocab_bytes(t, &ids);
			bb_text_finish(&back);
			bb_tokens_finish(&ids);
			tokenizer_destroy(t);
		} else {
			cr_assert(err.code == BB_ERR_FORMAT && strchr(err.text, '\n') == NULL, "%s", err.text);
		}
		gguf_builder_finish(&vocab.gguf);
	}
}

/* ---- memory ---- */

/* Every allocation of creation fails once. PCRE2 does without its compiler when that one fails. */
static void fail_creations(void) {
	struct tokenizer *t;
	struct bb_error err = { .code = BB_OK };
	const long before = base_count_allocs();
	cr_assert(vocab_try(&t, &err), "%s", err.text);
	tokenizer_destroy(t);
	const long n = base_count_allocs() - before;
	int n_failed = 0;
	for (long i = 1; i <= n; i++) {
		err = (struct bb_error){ .code = BB_OK };
		base_fail_alloc_at(i);
		const bool ok = vocab_try(&t, &err);
		base_fail_alloc_at(0);
		cr_assert(ok || (err.code == BB_ERR_MEMORY && t == NULL), "%ld: %s", i, err.text);
		n_failed += !ok;
		tokenizer_destroy(t);
	}
	cr_assert_gt(n_failed, 5);
	gguf_builder_finish(&vocab.gguf);
}

Test(memory, creation_of_bpe) {
	begin_bpe();
	vocab_add_merge("a", "b");
	vocab_add("<c>", VOCAB_CONTROL);
	vocab_put();
	fail_creations();
}

Test(memory, creation_of_spm) {
	begin_spm();
	vocab_put();
	fail_creations();
}

static void fail_encodings(struct tokenizer *t, const char *text) {
	for (long i = 1;; i++) {
		struct bb_tokens ids = { 0 };
		struct bb_error err = { .code = BB_OK };
		cr_assert_lt(i, 100);
		base_fail_alloc_at(i);
		const bool ok = tokenizer_encode(t, text, strlen(text), true, true, &ids, &err);
		base_fail_alloc_at(0);
		cr_assert(ok || (err.code == BB_ERR_MEMORY && ids.n == 0), "%ld: %s", i, err.text);
		bb_tokens_finish(&ids);
		if (ok) {
			cr_assert_gt(i, 3);
			break;
		}
	}
	tokenizer_destroy(t);
}

Test(memory, encoding_with_bpe) {
	begin_bpe();
	vocab_add_merge("a", "b");
	vocab_add("<c>", VOCAB_CONTROL);
	fail_encodings(vocab_end(), "abab<c>\xFF ab<c>abab");
}

Test(memory, encoding_with_spm) {
	begin_spm();
	vocab_add("<c>", VOCAB_CONTROL);
	fail_encodings(vocab_end(), "abab<c> \xE2\x96\x81 ab<c>abab");
}

/* ---- real models ---- */

static struct tokenizer *open_real(const char *name) {
	char path[4096];
	const char *folder = getenv("BOBBIN_MODELS");
	if (folder != NULL) {
		snprintf(path, sizeof(path), "%s/%s.gguf", folder, name);
	} else {
		snprintf(path, sizeof(path), "%s/.cache/bobbin/models/%s.gguf", getenv("HOME"), name);
	}
	if (access(path, R_OK) != 0) {
		cr_skip_test("%s is not there (tools/fetch-models %s gets it)", path, name);
	}
	struct gguf g;
	struct bb_error err = { .code = BB_OK };
	struct tokenizer *t;
	cr_assert(gguf_open(&g, path, &err), "%s", err.text);
	cr_assert(tokenizer_create(&t, &g, &err), "%s", err.text);
	gguf_finish(&g);
	return t;
}

static void compare_case(const struct tokenizer *t, const json_t *row, const char *name) {
	const json_t *text = json_object_get(row, "text"), *want = json_object_get(row, name);
	const int how = (json_is_true(json_object_get(row, "parse_special")) ? VOCAB_PARSE : 0)
		| (json_is_true(json_object_get(row, "add_special")) ? VOCAB_ADD : 0);
	struct bb_tokens ids = vocab_encode(t, json_string_value(text), json_string_length(text), how);
	bool same = ids.n == json_array_size(want);
	for (size_t i = 0; same && i < ids.n; i++) {
		same = ids.ids[i] == json_integer_value(json_array_get(want, i));
	}
	if (!same) {
		char *listed = json_dumps(want, JSON_COMPACT);
		cr_assert_fail("\"%s\" (%d): got %s, want %s", json_string_value(text), how,
			vocab_print(&ids), listed);
	}
	bb_tokens_finish(&ids);
}

static void compare_real(const char *name) {
	struct tokenizer *t = open_real(name);
	json_error_t why;
	json_t *cases = json_load_file(TOKENS_DIR "/cases.json", JSON_ALLOW_NUL, &why);
	cr_assert_not_null(cases, "%s", why.text);
	cr_assert_gt(json_array_size(cases), 200);
	for (size_t i = 0; i < json_array_size(cases); i++) {
		compare_case(t, json_array_get(cases, i), name);
	}
	json_decref(cases);
	tokenizer_destroy(t);
}

Test(real, smollm2_equals_llama_cpp) {
	compare_real("smollm2");
}

Test(real, gemma_equals_llama_cpp) {
	compare_real("gemma");
}

Test(real, qwen_equals_llama_cpp) {
	compare_real("qwen");
}

Test(real, qwen_gives_any_bytes_back) {
	struct tokenizer *t = open_real("qwen");
	for (int round = 0; round < 500; round++) {
		uint8_t text[200];
		const size_t n = vocab_draw(sizeof(text));
		for (size_t i = 0; i < n; i++) {
			text[i] = (uint8_t)(vocab_draw(2) == 0 ? vocab_draw(256) : 32 + vocab_draw(96));
		}
		vocab_round_trip(t, text, n);
	}
	tokenizer_destroy(t);
}

Test(real, ends_of_generation) {
	struct tokenizer *t = open_real("qwen");
	cr_assert(tokenizer_is_eog(t, 151643) && tokenizer_is_eog(t, 151645));
	cr_assert_not(tokenizer_is_eog(t, 151644) || tokenizer_is_eog(t, 128247)); /* "</s>", a word */
	tokenizer_destroy(t);
	t = open_real("gemma");
	cr_assert(tokenizer_is_eog(t, 1) && tokenizer_is_eog(t, 106) && !tokenizer_is_eog(t, 212));
	cr_assert(tokenizer_adds_bos(t) && tokenizer_bos(t) == 2);
	tokenizer_destroy(t);
}

/* Whole books pass at more than 5 MB/s; the limit leaves room for slow machines. */
Test(real, megabytes_pass_quickly) {
	static const char *const names[] = { "smollm2", "gemma", "qwen" };
	static const char words[] = "It was the best of times, it was the worst of times; 1859 --\n";
	enum { N = 1 << 20 };
	char *text = malloc(N);
	for (size_t i = 0; i < N; i++) {
		text[i] = words[i % (sizeof(words) - 1)];
	}
	for (size_t k = 0; k < COUNT(names); k++) {
		struct tokenizer *t = open_real(names[k]);
		const clock_t start = clock();
		struct bb_tokens ids = vocab_encode(t, text, N, 0);
		cr_assert_lt(clock() - start, 2 * CLOCKS_PER_SEC);
		cr_assert_gt(ids.n, N / 6);
		bb_tokens_finish(&ids);
		tokenizer_destroy(t);
	}
	free(text);
}
