/* SPDX-License-Identifier: Apache-2.0
 *
 * Reading tokenizer.json (the format of the library huggingface/tokenizers) as far as it is
 * byte-level BPE. The file's ids and kinds of tokens are checked here, its pieces and merges by
 * those who read the metadata. */
#include "folder_tokens.h"

#include "token/vocab.h"

#include <string.h>

enum { MAX_TOKENS = 1 << 24 };

static const char not_bpe[] = "tokenizer.json of the folder isn't byte-level BPE";
static const char not_known[] =
	"tokenizer.json of the folder splits text in a way that this build doesn't know";

static bool is_text(const json_t *value, const char *text) {
	const char *s = json_string_value(value);
	return s != NULL && strcmp(s, text) == 0;
}

static bool is_type(const json_t *object, const char *type) {
	return is_text(json_object_get(object, "type"), type);
}

/* Absent, null, false or empty. */
static bool is_off(const json_t *object, const char *key) {
	const json_t *value = json_object_get(object, key);
	return value == NULL || json_is_null(value) || json_is_false(value) || is_text(value, "");
}

/* ---- how a text is split ---- */

#define CONTRACTIONS "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|"
#define REST "| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+"

/* Expressions of pre-tokenizers, and the families that have them in engine/token. */
static const struct {
	const char *regex, *family;
} splits[] = {
	{ CONTRACTIONS "\\p{N}" REST, "qwen2" },
	{ CONTRACTIONS "\\p{N}{1,3}" REST, "llama-bpe" },
};

/* A stage that turns bytes to symbols, and before that splits as GPT-2 does, or not. */
static bool is_byte_level(const json_t *stage, bool splits_too) {
	const json_t *use_regex = json_object_get(stage, "use_regex");
	return is_type(stage, "ByteLevel") && is_off(stage, "add_prefix_space") &&
		(use_regex == NULL || json_is_true(use_regex)) == splits_too;
}

static const char *family_of_split(const json_t *stage) {
	const char *regex =
		json_string_value(json_object_get(json_object_get(stage, "pattern"), "Regex"));
	if (!is_type(stage, "Split") || regex == NULL || !is_off(stage, "invert") ||
		!is_text(json_object_get(stage, "behavior"), "Isolated")) {
		return NULL;
	}
	for (size_t i = 0; i < COUNT(splits); i++) {
		if (strcmp(regex, splits[i].regex) == 0) {
			return splits[i].family;
		}
	}
	return NULL;
}

/* The family of engine/token that splits as this pre-tokenizer; NULL: none. */
static const char *family_of(const json_t *pre_tokenizer) {
	if (is_byte_level(pre_tokenizer, true)) {
		return "gpt-2";
	}
	const json_t *stages = json_object_get(pre_tokenizer, "pretokenizers");
	const json_t *first = json_array_get(stages, 0), *second = json_array_get(stages, 1);
	if (!is_type(pre_tokenizer, "Sequence") || json_array_size(stages) != 2) {
		return NULL;
	}
	if (is_type(first, "Digits") && json_is_true(json_object_get(first, "individual_digits")) &&
		is_byte_level(second, true)) {
		return "smollm";
	}
	return is_byte_level(second, false) ? family_of_split(first) : NULL;
}

/* Why this tokenizer can't be read; NULL: it can. */
static const char *refuse(const json_t *root, const char **family) {
	const json_t *model = json_object_get(root, "model");
	const json_t *normalizer = json_object_get(root, "normalizer");
	*family = family_of(json_object_get(root, "pre_tokenizer"));
	if (!is_type(model, "BPE") || !is_off(model, "byte_fallback") || !is_off(model, "dropout") ||
		!is_off(model, "continuing_subword_prefix") || !is_off(model, "end_of_word_suffix")) {
		return not_bpe;
	}
	/* NFC is left out, as it is with GGUF files, which don't say that there was one */
	const bool is_plain = is_off(root, "normalizer") || is_type(normalizer, "NFC");
	if (*family == NULL || !is_plain ||
		is_off(model, "ignore_merges") != (strcmp(*family, "llama-bpe") != 0)) {
		return not_known;
	}
	return NULL;
}

/* ---- tokens ---- */

struct tokens {
	const char **text; /* [n] borrowed from the JSON; NULL: no token has this id */
	int32_t *type;     /* [n] enum vocab_type */
	size_t n;
	struct bb_error *err;
};

static bool check_id(const json_t *id, struct bb_error *err) {
	return (json_is_integer(id) && json_integer_value(id) >= 0 &&
		json_integer_value(id) < MAX_TOKENS) || base_fail(err, BB_ERR_FORMAT,
		"tokenizer.json has a token without an id from 0 to %d", MAX_TOKENS - 1);
}

/* One more than the largest id. */
static bool count_tokens(struct tokens *t, const json_t *vocab, const json_t *added) {
	const char *text;
	json_t *value;
	json_int_t most = -1;
	json_object_foreach((json_t *)(uintptr_t)vocab, text, value) {
		if (!check_id(value, t->err)) {
			return false;
		}
		most = json_integer_value(value) > most ? json_integer_value(value) : most;
	}
	for (size_t i = 0; i < json_array_size(added); i++) {
		const json_t *id = json_object_get(json_array_get(added, i), "id");
		if (!check_id(id, t->err)) {
			return false;
		}
		most = json_integer_value(id) > most ? json_integer_value(id) : most;
	}
	t->n = (size_t)(most + 1);
	return t->n > 0 || base_fail(t->err, BB_ERR_FORMAT, "tokenizer.json has no tokens");
}

static bool place_vocab(struct tokens *t, const json_t *vocab) {
	const char *text;
	json_t *value;
	json_object_foreach((json_t *)(uintptr_t)vocab, text, value) {
		const size_t id = (size_t)json_integer_value(value);
		if (t->text[id] != NULL) {
			return base_fail(t->err, BB_ERR_FORMAT, "tokenizer.json has two tokens of id %zu", id);
		}
		t->text[id] = text;
		t->type[id] = VOCAB_NORMAL;
	}
	return true;
}

/* Added tokens may repeat one of the vocabulary. */
static bool place_added(struct tokens *t, const json_t *added) {
	for (size_t i = 0; i < json_array_size(added); i++) {
		const json_t *token = json_array_get(added, i);
		const size_t id = (size_t)json_integer_value(json_object_get(token, "id"));
		const char *text = json_string_value(json_object_get(token, "content"));
		if (text == NULL || (t->text[id] != NULL && strcmp(t->text[id], text) != 0)) {
			return base_fail(t->err, BB_ERR_FORMAT, "tokenizer.json has an added token of id %zu "
				"without a text, or with another than its vocabulary's", id);
		}
		t->text[id] = text;
		t->type[id] = json_is_true(json_object_get(token, "special")) ? VOCAB_CONTROL
			: VOCAB_USER_DEFINED;
	}
	return true;
}

static void write_tokens(struct metadata *m, const struct tokens *t) {
	metadata_strings(m, "tokenizer.ggml.tokens", t->n);
	for (size_t i = 0; i < t->n; i++) {
		char pad[32]; /* what llama.cpp's converter calls an id without a token */
		snprintf(pad, sizeof(pad), "[PAD%zu]", i);
		const char *text = t->text[i] != NULL ? t->text[i] : pad;
		metadata_element(m, text, strlen(text));
	}
	metadata_ints(m, "tokenizer.ggml.token_type", t->type, t->n);
}

static bool tokens_of(struct metadata *m, const json_t *root, struct bb_error *err) {
	const json_t *vocab = json_object_get(json_object_get(root, "model"), "vocab");
	const json_t *added = json_object_get(root, "added_tokens");
	struct tokens t = { .err = err };
	if (!count_tokens(&t, vocab, added)) {
		return false;
	}
	t.text = base_alloc(t.n, sizeof(*t.text));
	t.type = base_alloc(t.n, sizeof(*t.type));
	bool ok = (t.text != NULL && t.type != NULL) ||
		base_no_memory(err, "vocabulary", t.n * (sizeof(*t.text) + sizeof(*t.type)));
	for (size_t i = 0; ok && i < t.n; i++) {
		t.type[i] = VOCAB_UNUSED;
	}
	ok = ok && place_vocab(&t, vocab) && place_added(&t, added);
	if (ok) {
		write_tokens(m, &t);
	}
	base_free(t.text);
	base_free(t.type);
	return ok;
}

/* "left right", or since tokenizers 0.20 ["left", "right"]. */
static bool merges_of(struct metadata *m, const json_t *merges, struct bb_error *err) {
	const size_t n = json_array_size(merges);
	struct bb_text both = { 0 };
	bool ok = true;
	metadata_strings(m, "tokenizer.ggml.merges", n);
	for (size_t i = 0; ok && i < n; i++) {
		const json_t *merge = json_array_get(merges, i);
		const json_t *left = json_array_get(merge, 0), *right = json_array_get(merge, 1);
		if (json_is_string(merge)) {
			metadata_element(m, json_string_value(merge), json_string_length(merge));
			continue;
		}
		ok = (json_is_string(left) && json_is_string(right)) || base_fail(err, BB_ERR_FORMAT,
			"tokenizer.json has something else than two pieces as merge %zu", i);
		both.bytes = 0;
		ok = ok && base_append(&both, json_string_value(left), json_string_length(left), err) &&
			base_append(&both, " ", 1, err) &&
			base_append(&both, json_string_value(right), json_string_length(right), err);
		if (ok) {
			metadata_element(m, both.data, both.bytes);
		}
	}
	bb_text_finish(&both);
	return ok;
}

/* ---- what is put before and behind a text ---- */

/* The id that a place of a template stands for; -1: that of the text. */
static int32_t template_id(const json_t *processor, const json_t *place) {
	const json_t *name = json_object_get(json_object_get(place, "SpecialToken"), "id");
	if (!json_is_string(name)) {
		return -1;
	}
	const json_t *token = json_object_get(json_object_get(processor, "special_tokens"),
		json_string_value(name));
	const json_t *id = json_array_get(json_object_get(token, "ids"), 0);
	return json_is_integer(id) && json_integer_value(id) < MAX_TOKENS
		? (int32_t)json_integer_value(id) : -1;
}

static int32_t put_around(struct metadata *m, const json_t *processor) {
	int32_t bos = -1, eos = -1;
	const json_t *stages = json_object_get(processor, "processors");
	for (size_t i = 0; i < json_array_size(stages); i++) {
		const json_t *stage = json_array_get(stages, i);
		processor = is_type(stage, "TemplateProcessing") ? stage : processor;
	}
	if (is_type(processor, "TemplateProcessing")) {
		const json_t *single = json_object_get(processor, "single");
		const size_t n = json_array_size(single);
		bos = template_id(processor, json_array_get(single, 0));
		eos = n > 1 ? template_id(processor, json_array_get(single, n - 1)) : -1;
	}
	metadata_bool(m, "tokenizer.ggml.add_bos_token", bos >= 0);
	metadata_bool(m, "tokenizer.ggml.add_eos_token", eos >= 0);
	return bos;
}

bool folder_tokens(struct metadata *m, const json_t *root, int32_t *bos, const char **why,
	struct bb_error *err) {
	const char *family;
	*bos = -1;
	*why = root != NULL ? refuse(root, &family) : "the folder has no tokenizer.json";
	if (*why != NULL) {
		return true;
	}
	metadata_string(m, "tokenizer.ggml.model", "gpt2");
	metadata_string(m, "tokenizer.ggml.pre", family);
	if (!tokens_of(m, root, err) ||
		!merges_of(m, json_object_get(json_object_get(root, "model"), "merges"), err)) {
		return false;
	}
	*bos = put_around(m, json_object_get(root, "post_processor"));
	return true;
}
