/* SPDX-License-Identifier: Apache-2.0
 *
 * Tokenizers of Hugging Face folders against the official library (data/folders/make.py), what else
 * a folder says of text, and tokenizers that are wrong or unknown. */
#include "made_folder.h"
#include "models.h"

#include <jansson.h>

static const char *golden_folder(const char *name) {
	static char path[1024];
	snprintf(path, sizeof(path), "%s/data/folders/%s", BOBBIN_TESTS, name);
	return path;
}

static struct bb_engine *open_tokens(const char *path) {
	return open_with(&(struct bb_engine_params){ .path = path, .vocab_only = true });
}

static void expect_ids(const struct bb_engine *e, const char *text, const json_t *want,
	bool add_special) {
	struct bb_tokens ids = { 0 };
	struct bb_error err = { 0 };
	cr_assert(bb_tokenize(e, text, strlen(text), add_special, true, &ids, &err), "%s", err.text);
	cr_assert_eq(ids.n, json_array_size(want), "%zu ids of '%s', want %zu", ids.n, text,
		json_array_size(want));
	for (size_t i = 0; i < ids.n; i++) {
		cr_assert_eq(ids.ids[i], json_integer_value(json_array_get(want, i)), "'%s', id %zu is %d",
			text, i, ids.ids[i]);
	}
	struct bb_text back = { 0 };
	cr_assert(bb_detokenize(e, ids.ids, ids.n, &back, &err), "%s", err.text);
	if (!add_special) {
		cr_assert_eq(back.bytes, strlen(text));
		cr_assert_eq(memcmp(back.bytes > 0 ? back.data : "", text, back.bytes), 0);
	}
	bb_text_finish(&back);
	bb_tokens_finish(&ids);
}

static void play(const char *name) {
	struct bb_engine *e = open_tokens(golden_folder(name));
	json_t *cases = json_load_file(golden_folder("cases.json"), 0, NULL);
	const json_t *list = json_object_get(cases, name);
	cr_assert_geq(json_array_size(list), 10);
	for (size_t i = 0; i < json_array_size(list); i++) {
		const json_t *c = json_array_get(list, i);
		const char *text = json_string_value(json_object_get(c, "text"));
		expect_ids(e, text, json_object_get(c, "ids"), true);
		expect_ids(e, text, json_object_get(c, "plain"), false);
	}
	json_decref(cases);
	bb_engine_destroy(e);
}

Test(folder_tokens, gpt2) { play("gpt2"); }
Test(folder_tokens, smollm) { play("smollm"); }
Test(folder_tokens, qwen2) { play("qwen2"); }
Test(folder_tokens, llama3) { play("llama3"); }

/* A list of ends in generation_config.json; what is put before a text in tokenizer.json. */
Test(folder_tokens, roles) {
	struct bb_engine *e = open_tokens(golden_folder("llama3"));
	cr_assert_eq(bb_token_bos(e), 0);
	cr_assert_eq(bb_token_eos(e), 1);
	cr_assert(bb_token_adds_bos(e) && bb_has_vocab(e));
	cr_assert(bb_token_is_end(e, 1) && bb_token_is_end(e, 2) && !bb_token_is_end(e, 0));
	bb_engine_destroy(e);
	e = open_tokens(golden_folder("gpt2"));
	cr_assert_eq(bb_token_bos(e), 0);
	cr_assert_not(bb_token_adds_bos(e));
	bb_engine_destroy(e);
}

Test(folder_tokens, recommended_sampling) {
	struct bb_engine *e = open_tokens(golden_folder("smollm"));
	struct bb_sampling s;
	bb_sampling_default(e, &s);
	cr_assert_eq(s.temperature, 0.25f);
	cr_assert_eq(s.top_k, 7);
	cr_assert_eq(s.top_p, 1);
	struct bb_engine_info info;
	bb_engine_info(e, &info);
	cr_assert_str_eq(info.name, "smollm");
	bb_engine_destroy(e);
}

/* A file of its own, or in tokenizer_config.json. */
Test(folder_tokens, chat_template) {
	static const char *const names[] = { "gpt2", "qwen2" };
	static const char vars[] = "{\"messages\": [{\"role\": \"user\", \"content\": \"wind\"}]}";
	for (size_t i = 0; i < 2; i++) {
		struct bb_engine *e = open_tokens(golden_folder(names[i]));
		struct bb_text text = { 0 };
		struct bb_error err = { 0 };
		cr_assert(bb_template_render(e, NULL, vars, strlen(vars), &text, &err), "%s", err.text);
		cr_assert_str_eq(text.data, "<|user|>wind<|end|>");
		bb_text_finish(&text);
		bb_engine_destroy(e);
	}
}

/* ---- tokenizers that are wrong, or of another kind ---- */

static json_t *root; /* of tokenizer.json */

static void start(void) {
	char path[1024];
	root = json_load_file(golden_folder("smollm/tokenizer.json"), 0, NULL);
	cr_assert_not_null(root);
	snprintf(made, sizeof(made), "/tmp/bobbin-test-tokens-%d", (int)getpid());
	cr_assert_eq(mkdir(made, 0700), 0);
	snprintf(path, sizeof(path), "%s/config.json", made);
	FILE *f = fopen(path, "wb");
	cr_assert_not_null(f);
	cr_assert_gt(fputs("{\"architectures\": [\"LlamaForCausalLM\"], \"vocab_size\": 9}\n", f), 0);
	cr_assert_eq(fclose(f), 0);
}

static void stop(void) {
	char path[128];
	snprintf(path, sizeof(path), "%s/tokenizer.json", made);
	unlink(path);
	remove_made();
	json_decref(root);
}

TestSuite(folder_tokens_refused, .init = start, .fini = stop, .timeout = 60);

static void write_tokenizer(void) {
	char path[128];
	snprintf(path, sizeof(path), "%s/tokenizer.json", made);
	cr_assert_eq(json_dump_file(root, path, 0), 0);
}

static void expect_refused(const char *part) {
	write_tokenizer();
	const struct bb_engine_params params = { .path = made, .vocab_only = true };
	struct bb_engine *e = NULL;
	struct bb_error err = { 0 };
	cr_assert_not(bb_engine_open(&e, bb_models, &params, &err));
	cr_assert_not_null(strstr(err.text, part), "'%s' doesn't say '%s'", err.text, part);
	cr_assert_eq(err.code, BB_ERR_FORMAT);
}

/* The folder opens, text means ids, and other text says why. */
static void expect_ids_only(const char *part) {
	struct bb_engine *e = open_tokens(made);
	struct bb_tokens ids = { 0 };
	struct bb_error err = { 0 };
	cr_assert_not(bb_has_vocab(e));
	cr_assert(bb_tokenize(e, "8 1", 3, true, true, &ids, &err), "%s", err.text);
	cr_assert_eq(ids.n, 2);
	cr_assert_not(bb_tokenize(e, "hello", 5, true, true, &ids, &err));
	cr_assert_eq(err.code, BB_ERR_INPUT);
	cr_assert_not_null(strstr(err.text, part), "'%s' doesn't say '%s'", err.text, part);
	cr_assert_not_null(strstr(err.text, ", so text means token ids: expected decimal token ids"));
	bb_tokens_finish(&ids);
	bb_engine_destroy(e);
}

static json_t *model(void) {
	return json_object_get(root, "model");
}

Test(folder_tokens_refused, no_tokenizer) {
	expect_ids_only("the folder has no tokenizer.json");
}

Test(folder_tokens_refused, other_model) {
	json_object_set_new(model(), "type", json_string("Unigram"));
	write_tokenizer();
	expect_ids_only("tokenizer.json of the folder isn't byte-level BPE");
}

Test(folder_tokens_refused, byte_fallback) {
	json_object_set_new(model(), "byte_fallback", json_true());
	write_tokenizer();
	expect_ids_only("tokenizer.json of the folder isn't byte-level BPE");
}

Test(folder_tokens_refused, other_split) {
	json_object_set_new(root, "pre_tokenizer", json_pack("{s:s}", "type", "Whitespace"));
	write_tokenizer();
	expect_ids_only("splits text in a way that this build doesn't know");
}

Test(folder_tokens_refused, other_normalizer) {
	json_object_set_new(root, "normalizer", json_pack("{s:s}", "type", "Lowercase"));
	write_tokenizer();
	expect_ids_only("splits text in a way that this build doesn't know");
}

Test(folder_tokens_refused, id_out_of_range) {
	json_object_set_new(json_object_get(model(), "vocab"), "!", json_integer(1 << 24));
	expect_refused("tokenizer.json has a token without an id from 0 to 16777215");
}

Test(folder_tokens_refused, id_twice) {
	json_object_set_new(json_object_get(model(), "vocab"), "!", json_integer(9));
	expect_refused("tokenizer.json has two tokens of id 9");
}

Test(folder_tokens_refused, added_token_with_another_text) {
	json_t *added = json_array_get(json_object_get(root, "added_tokens"), 0);
	json_object_set_new(added, "content", json_string("x"));
	expect_refused("tokenizer.json has an added token of id 0 without a text, or with another");
}

Test(folder_tokens_refused, no_tokens) {
	json_object_set_new(model(), "vocab", json_object());
	json_object_set_new(root, "added_tokens", json_array());
	expect_refused("tokenizer.json has no tokens");
}

Test(folder_tokens_refused, merge_of_one_piece) {
	json_array_set_new(json_object_get(model(), "merges"), 2, json_pack("[s]", "t"));
	expect_refused("tokenizer.json has something else than two pieces as merge 2");
}

Test(folder_tokens_refused, merge_of_unknown_pieces) {
	json_array_set_new(json_object_get(model(), "merges"), 2, json_string("zzz qqq"));
	expect_refused("tokenizer.json, as GGUF metadata: tokenizer.ggml.merges: expected pieces of "
		"the vocabulary that join to another for merge 2");
}

Test(folder_tokens_refused, sampling_out_of_range) {
	char path[128];
	snprintf(path, sizeof(path), "%s/generation_config.json", made);
	FILE *f = fopen(path, "wb");
	cr_assert_not_null(f);
	cr_assert_gt(fputs("{\"temperature\": -1.0}\n", f), 0);
	cr_assert_eq(fclose(f), 0);
	expect_refused("generation_config.json, as GGUF metadata: metadata key 'general.sampling.temp' "
		"is -1, expected 0 to");
	unlink(path);
}
