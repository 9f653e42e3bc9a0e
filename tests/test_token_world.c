/* SPDX-License-Identifier: Apache-2.0
 *
 * RWKV's World tokenizer: against the official one on an excerpt of its vocabulary
 * (data/tokens/make_world.py), against a plain search on small ones made here, and files that are
 * none. */
#include "vocab_builder.h"

#include <criterion/criterion.h>
#include <jansson.h>

#include <stdlib.h>
#include <string.h>
#include <time.h>

/* ---- the official vocabulary ---- */

/* Its first token is a control token. */
static struct tokenizer *official(const json_t *tokens) {
	const size_t n = json_array_size(tokens);
	const char **texts = calloc(n, sizeof(*texts));
	int32_t *types = calloc(n, sizeof(*types));
	for (size_t i = 0; i < n; i++) {
		texts[i] = json_string_value(json_array_get(tokens, i));
		types[i] = i == 0 ? VOCAB_CONTROL : VOCAB_NORMAL;
	}
	vocab_begin("rwkv", NULL);
	gguf_builder_strs(&vocab.gguf, "tokenizer.ggml.tokens", n, texts);
	gguf_builder_array(&vocab.gguf, "tokenizer.ggml.token_type", GGUF_I32, n, types);
	free(texts);
	free(types);
	return vocab_create();
}

Test(world, equals_the_official_tokenizer) {
	json_error_t why;
	json_t *file = json_load_file(TOKENS_DIR "/world.json", JSON_ALLOW_NUL, &why);
	cr_assert_not_null(file, "%s", why.text);
	struct tokenizer *t = official(json_object_get(file, "tokens"));
	const json_t *cases = json_object_get(file, "cases");
	cr_assert_gt(json_array_size(cases), 100);
	for (size_t i = 0; i < json_array_size(cases); i++) {
		const json_t *row = json_array_get(cases, i), *want = json_object_get(row, "ids");
		const json_t *text = json_object_get(row, "text");
		struct bb_tokens ids = vocab_encode(t, json_string_value(text), json_string_length(text),
			VOCAB_ADD);
		bool same = ids.n == json_array_size(want);
		for (size_t k = 0; same && k < ids.n; k++) {
			same = ids.ids[k] == json_integer_value(json_array_get(want, k));
		}
		cr_assert(same, "\"%s\": got %s", json_string_value(text), vocab_print(&ids));
		bb_tokens_finish(&ids);
		vocab_round_trip(t, json_string_value(text), json_string_length(text));
	}
	json_decref(file);
	tokenizer_destroy(t);
}

/* ---- small vocabularies ---- */

/* "<s>", and every byte as Python writes it; id 1 + byte. */
static void begin(void) {
	vocab_begin("rwkv", NULL);
	vocab_add("<s>", VOCAB_CONTROL);
	for (int i = 0; i < 256; i++) {
		char text[8];
		snprintf(text, sizeof(text), i == '\\' ? "\\\\" : i == '\t' ? "\\t" : i == '\n' ? "\\n"
			: i == '\r' ? "\\r" : i >= 32 && i < 127 ? "%c" : "\\x%02x", i);
		vocab_add(text, VOCAB_NORMAL);
	}
}

Test(world, the_longest_token_wins_each_time) {
	begin();
	vocab_add("ab", VOCAB_NORMAL); /* 257 */
	vocab_add("abcd", VOCAB_NORMAL);
	vocab_add("bc", VOCAB_NORMAL); /* 259 */
	vocab_add("\\xe3\\x81\\x82", VOCAB_NORMAL);
	vocab_add("a\\'\"\\\\", VOCAB_NORMAL); /* 261 */
	vocab_add("\\n\\n", VOCAB_NORMAL);
	vocab_add("[PAD263]", VOCAB_UNUSED); /* fills up, means nothing */
	struct tokenizer *t = vocab_end();
	cr_assert_str_eq(tokenizer_model_name(t), "rwkv");
	cr_assert_str_eq(vocab_ids(t, "abcd", 0), "258");
	cr_assert_str_eq(vocab_ids(t, "abc", 0), "257 100"); /* not "a" and "bc" */
	cr_assert_str_eq(vocab_ids(t, "bcab", 0), "259 257");
	cr_assert_str_eq(vocab_ids(t, "\xE3\x81\x82\xE3\x81", 0), "260 228 130");
	cr_assert_str_eq(vocab_ids(t, "a'\"\\\n\n", 0), "261 262");
	cr_assert_str_eq(vocab_ids(t, "[PAD263]", 0), "92 81 66 69 51 55 52 94");
	cr_assert_str_eq(vocab_ids(t, "<s>", 0), "61 116 63");
	cr_assert_str_eq(vocab_ids(t, "<s>", VOCAB_PARSE), "0");
	cr_assert_str_eq(vocab_ids(t, "", VOCAB_ADD), ""); /* no BOS unless the file says so */
	cr_assert_eq(tokenizer_bos(t), -1);
	tokenizer_destroy(t);
}

Test(world, a_missing_byte_is_left_out_or_unknown) {
	for (int k = 0; k < 2; k++) {
		vocab_begin("rwkv", NULL);
		vocab_add("<u>", VOCAB_UNKNOWN);
		vocab_add("a", VOCAB_NORMAL);
		vocab_add("abc", VOCAB_NORMAL);
		if (k == 1) {
			gguf_builder_int(&vocab.gguf, "tokenizer.ggml.unknown_token_id", GGUF_U32, 0);
		}
		struct tokenizer *t = vocab_end();
		cr_assert_str_eq(vocab_ids(t, "abba", 0), k == 0 ? "1 1" : "1 0 0 1");
		cr_assert_str_eq(vocab_ids(t, "abc", 0), "2");
		cr_assert_eq(vocab_lost(t, "abba"), k == 0 ? 2 : 0);
		tokenizer_destroy(t);
	}
}

/* The longest of all tokens at each place. */
static size_t search_slowly(const char *text, size_t n, int32_t *ids) {
	size_t n_ids = 0;
	for (size_t i = 0; i < n;) {
		size_t longest = 0;
		for (size_t id = 1; id < vocab.n_texts; id++) {
			const char *token = vocab.texts[id];
			const size_t bytes = strlen(token);
			if (bytes > longest && bytes <= n - i && memcmp(text + i, token, bytes) == 0) {
				ids[n_ids] = (int32_t)id;
				longest = bytes;
			}
		}
		n_ids++;
		i += longest;
	}
	return n_ids;
}

Test(world, equals_the_plain_search) {
	for (int round = 0; round < 30; round++) {
		begin();
		for (int i = 0; i < 40; i++) {
			char text[8] = { 0 };
			for (uint32_t k = 0, n = 2 + vocab_draw(5); k < n; k++) {
				text[k] = (char)('a' + vocab_draw(3));
			}
			if (!vocab_has(text)) {
				vocab_add(text, VOCAB_NORMAL);
			}
		}
		struct tokenizer *t = vocab_end();
		for (int i = 0; i < 50; i++) {
			char text[60];
			int32_t want[60];
			for (size_t k = 0; k < sizeof(text); k++) {
				text[k] = (char)('a' + vocab_draw(3));
			}
			const size_t n = search_slowly(text, sizeof(text), want);
			struct bb_tokens ids = vocab_encode(t, text, sizeof(text), 0);
			cr_assert_eq(ids.n, n);
			cr_assert_eq(memcmp(ids.ids, want, n * sizeof(int32_t)), 0);
			bb_tokens_finish(&ids);
		}
		tokenizer_destroy(t);
	}
}

Test(world, any_bytes_come_back) {
	begin();
	vocab_add("\\xff\\x00", VOCAB_NORMAL);
	vocab_add("\\xe3\\x81", VOCAB_NORMAL);
	vocab_add("  a", VOCAB_NORMAL);
	struct tokenizer *t = vocab_end();
	for (int round = 0; round < 300; round++) {
		uint8_t text[100];
		for (size_t i = 0; i < sizeof(text); i++) {
			text[i] = (uint8_t)(vocab_draw(2) == 0 ? vocab_draw(256)
				: (uint8_t)" a\xFF\x00\xE3\x81"[vocab_draw(6)]);
		}
		vocab_round_trip(t, text, sizeof(text));
	}
	tokenizer_destroy(t);
}

/* ---- hostile files ---- */

/* A token of these bytes is refused with `word`. */
static void refuse(const char *text, size_t bytes, enum bb_code code, const char *word) {
	const struct gguf_string views[] = { { "a", 1 }, { text, bytes } };
	struct bb_error err = { .code = BB_OK };
	struct tokenizer *t;
	vocab_begin("rwkv", NULL);
	gguf_builder_views(&vocab.gguf, "tokenizer.ggml.tokens", 2, views);
	cr_assert_not(vocab_try(&t, &err), "%s", text);
	cr_assert_eq(err.code, code, "%s", err.text);
	cr_assert_not_null(strstr(err.text, word), "%s", err.text);
	gguf_builder_finish(&vocab.gguf);
}

Test(world, escapes_that_are_none_are_refused) {
	static const char *const bad[] = { "\\", "b\\", "\\x", "\\x4", "\\x4G", "\\xG4", "\\x4A", "\\q",
		"\\u0041", "b\\0" };
	for (size_t i = 0; i < COUNT(bad); i++) {
		refuse(bad[i], strlen(bad[i]), BB_ERR_FORMAT, "as Python writes them");
	}
	refuse("b\\\0", 3, BB_ERR_FORMAT, "as Python writes them");
}

Test(world, tokens_of_the_same_bytes_are_refused) {
	refuse("\\x61", 4, BB_ERR_FORMAT, "tokens 0 and 1 have the same");
}

Test(world, tokens_that_are_too_long_are_refused) {
	char *text = malloc(WORLD_MAX + 1);
	memset(text, 'b', WORLD_MAX + 1);
	refuse(text, WORLD_MAX + 1, BB_ERR_UNSUPPORTED, "at most 1024 bytes, token 1 has 1025");
	free(text);
}

/* Every place looks ahead in vain for a token of the longest that may be. */
Test(world, a_megabyte_of_anything_takes_linear_time) {
	enum { N = 1000000 };
	char *text = malloc(N);
	memset(text, 'a', N);
	text[WORLD_MAX - 1] = 'b';
	const struct gguf_string views[] = { { "a", 1 }, { text, WORLD_MAX } };
	vocab_begin("rwkv", NULL);
	gguf_builder_views(&vocab.gguf, "tokenizer.ggml.tokens", 2, views);
	struct tokenizer *t = vocab_create();
	text[WORLD_MAX - 1] = 'a';
	const clock_t start = clock();
	struct bb_tokens ids = vocab_encode(t, text, N, 0);
	cr_assert_eq(ids.n, N);
	cr_assert_lt(clock() - start, 30 * CLOCKS_PER_SEC);
	bb_tokens_finish(&ids);
	tokenizer_destroy(t);
	free(text);
}

Test(world, memory_that_runs_out) {
	begin();
	vocab_add("ab", VOCAB_NORMAL);
	vocab_put();
	int n_failed = 0;
	struct tokenizer *t = NULL;
	for (long i = 1; t == NULL; i++) {
		struct bb_error err = { .code = BB_OK };
		base_fail_alloc_at(i);
		const bool ok = vocab_try(&t, &err);
		base_fail_alloc_at(0);
		cr_assert(ok || (err.code == BB_ERR_MEMORY && t == NULL), "%ld: %s", i, err.text);
		n_failed += !ok;
	}
	cr_assert_gt(n_failed, 7);
	for (long i = 1;; i++) {
		struct bb_tokens ids = { 0 };
		struct bb_error err = { .code = BB_OK };
		base_fail_alloc_at(i);
		const bool ok = tokenizer_encode(t, "ab<s>ab", 7, true, true, &ids, &err);
		base_fail_alloc_at(0);
		cr_assert(ok || (err.code == BB_ERR_MEMORY && ids.n == 0), "%ld: %s", i, err.text);
		bb_tokens_finish(&ids);
		if (ok) {
			cr_assert_gt(i, 2);
			break;
		}
	}
	gguf_builder_finish(&vocab.gguf);
	tokenizer_destroy(t);
}
