/* SPDX-License-Identifier: Apache-2.0
 *
 * Masks of grammars against the plain way to make one: each token of a small vocabulary is followed
 * by itself, byte by byte. */
#include "grammar/match.h"
#include "grammar/sources.h"
#include "vocab_builder.h"

#include <criterion/criterion.h>
#include <string.h>

/* Of one to three of these tokens are made: what expressions tell apart, and half characters. */
static const char *const pieces[] = { "a", "b", "1", "ab", "z", "12", "-", " ", "\"", "\\", "\\n",
	"\\u00", "\xC3", "\xA9", "\xE6\x97\xA5", "[", "]", ",", "\",", "aaaa", "zz1" };

/* As the vocabulary's files write them. */
static void put_byte(char *text, int byte) {
	sprintf(text + strlen(text), byte < 32 || byte >= 127 ? "\\x%02x"
		: byte == '\\' ? "\\\\" : "%c", byte);
}

static void put_piece(char *text, size_t i) {
	for (const char *byte = i < COUNT(pieces) ? pieces[i] : ""; *byte != '\0'; byte++) {
		put_byte(text, (uint8_t)*byte);
	}
}

static struct tokenizer *make_vocabulary(void) {
	vocab_begin("rwkv", NULL);
	vocab_add("<s>", VOCAB_CONTROL);
	for (int i = 0; i < 256; i++) {
		char text[8] = "";
		put_byte(text, i);
		vocab_add(text, VOCAB_NORMAL);
	}
	for (size_t i = 0; i < COUNT(pieces); i++) {
		for (size_t j = 0; j <= COUNT(pieces); j++) {
			for (size_t k = j < 5 ? 0 : COUNT(pieces); k <= COUNT(pieces); k++) {
				char text[100] = "";
				put_piece(text, i);
				put_piece(text, j);
				put_piece(text, k);
				if (strlen(text) < sizeof(vocab.texts[0]) && !vocab_has(text)) {
					vocab_add(text, VOCAB_NORMAL);
				}
			}
		}
	}
	return vocab_end();
}

/* A grammar twice: with a vocabulary, and as the text's judge. */
struct game {
	struct rules rules, judges_rules;
	struct heads heads;
	struct matcher m, judge;
	char text[2000];
	size_t bytes;
};

static void begin(struct game *g, const struct token_tree *tree, struct store *store,
	enum bb_grammar_kind kind, const char *source) {
	struct bb_error err = { 0 };
	memset(g, 0, sizeof(*g));
	cr_assert(rules_init(&g->rules, &err) && rules_init(&g->judges_rules, &err) &&
		source_compile(&g->rules, kind, source, strlen(source), &err) &&
		source_compile(&g->judges_rules, kind, source, strlen(source), &err) &&
		heads_init(&g->heads, &g->rules.x, tree, store, &err) &&
		matcher_init(&g->m, &g->rules, &g->heads, &err) &&
		matcher_init(&g->judge, &g->judges_rules, NULL, &err), "%s: %s", source, err.text);
}

static void finish(struct game *g) {
	matcher_finish(&g->judge);
	matcher_finish(&g->m);
	heads_finish(&g->heads);
	rules_destroy(&g->rules);
	rules_destroy(&g->judges_rules);
}

static bool judged(struct game *g, const char *text, size_t bytes) {
	struct bb_error err = { 0 };
	bool fits = false;
	const uint32_t now = g->judge.now;
	cr_assert(matcher_accept(&g->judge, text, bytes, &fits, &err), "%s", err.text);
	cr_assert_lt(g->judge.n_sets, 4096, "the sets were numbered anew");
	g->judge.now = now;
	return fits;
}

static void check_mask(struct game *g, const struct tokenizer *t, const uint32_t *mask,
	const char *source) {
	for (int32_t id = 1; id < tokenizer_n_vocab(t); id++) {
		const struct gguf_string piece = tokenizer_piece(t, id, false);
		const bool fits = judged(g, piece.data, piece.bytes);
		cr_assert_eq((mask[id >> 5] >> (id & 31) & 1) != 0, fits, "%s: behind '%.*s' '%.*s' %s",
			source, (int)g->bytes, g->text, (int)piece.bytes, piece.data,
			fits ? "isn't in the mask" : "doesn't fit");
	}
}

/* -1: nothing can follow. */
static int32_t draw(const uint32_t *mask, int32_t n_vocab) {
	int32_t n = 0, ids[VOCAB_MAX];
	for (int32_t id = 1; id < n_vocab; id++) {
		ids[n] = id;
		n += (int32_t)(mask[id >> 5] >> (id & 31) & 1);
	}
	return n == 0 ? -1 : ids[vocab_draw((uint32_t)n)];
}

/* Follows a drawn text; returns how many families were walked for. */
static uint32_t play(const struct tokenizer *t, const struct token_tree *tree,
	struct store *store, enum bb_grammar_kind kind, const char *source) {
	static struct game g;
	uint32_t mask[VOCAB_MAX / 32];
	struct bb_error err = { 0 };
	begin(&g, tree, store, kind, source);
	for (int i = 0; i < 25; i++) {
		bool fits = false;
		cr_assert(matcher_mask(&g.m, mask, &err), "%s: %s", source, err.text);
		check_mask(&g, t, mask, source);
		const int32_t id = draw(mask, tokenizer_n_vocab(t));
		if (id < 0) {
			break;
		}
		const struct gguf_string piece = tokenizer_piece(t, id, false);
		cr_assert(matcher_accept(&g.m, piece.data, piece.bytes, &fits, &err) && fits &&
			matcher_accept(&g.judge, piece.data, piece.bytes, &fits, &err) && fits, "%s", err.text);
		memcpy(g.text + g.bytes, piece.data, piece.bytes);
		g.bytes += piece.bytes;
	}
	const uint32_t n = g.heads.n_families;
	finish(&g);
	return n;
}

Test(masks, have_each_token_that_fits_and_no_other) {
	static const struct {
		enum bb_grammar_kind kind;
		const char *source;
		bool counts; /* families are expected */
	} cases[] = {
		{ BB_GRAMMAR_JSON_SCHEMA, "{\"type\":\"string\",\"maxLength\":12}", true },
		{ BB_GRAMMAR_JSON_SCHEMA, "{\"type\":\"string\",\"maxLength\":200}", true },
		{ BB_GRAMMAR_JSON_SCHEMA, "{\"type\":\"string\",\"minLength\":9}", true },
		{ BB_GRAMMAR_JSON_SCHEMA, "{\"type\":\"string\",\"minLength\":5,\"maxLength\":7}", true },
		{ BB_GRAMMAR_JSON_SCHEMA, "{\"type\":\"string\",\"minLength\":6,\"maxLength\":6}", true },
		{ BB_GRAMMAR_JSON_SCHEMA, "{\"type\":\"array\",\"items\":{\"type\":\"string\","
			"\"maxLength\":5},\"maxItems\":3,\"minItems\":2}", true },
		{ BB_GRAMMAR_JSON_SCHEMA, "{\"type\":\"string\",\"pattern\":\"[a-z]1\",\"minLength\":4,"
			"\"maxLength\":11}", true },
		{ BB_GRAMMAR_JSON_SCHEMA, "{\"type\":\"string\",\"pattern\":\"^(aa)*$\",\"minLength\":3,"
			"\"maxLength\":5}", false },
		{ BB_GRAMMAR_JSON_SCHEMA, "{\"type\":\"string\",\"pattern\":\"^[a-z]{2,9}$\","
			"\"maxLength\":6}", true },
		{ BB_GRAMMAR_JSON_SCHEMA, "{\"type\":\"string\",\"pattern\":\"^[a-z]{2,9}1{2,3}$\","
			"\"maxLength\":8}", true },
		{ BB_GRAMMAR_JSON_SCHEMA, "{\"type\":\"string\",\"pattern\":\"^.*z$\",\"maxLength\":9}",
			true },
		{ BB_GRAMMAR_JSON_SCHEMA, "{\"allOf\":[{\"type\":\"string\",\"pattern\":\"a\","
			"\"maxLength\":14},{\"pattern\":\"z.*1\",\"maxLength\":12,\"minLength\":7}]}", true },
		{ BB_GRAMMAR_REGEX, "[a-z]{3,20}-[a-z]{3,20}", true },
		{ BB_GRAMMAR_REGEX, "[a-z]{3,20}", true },
		{ BB_GRAMMAR_REGEX, "[ab]{0,9}a{0,9}[ab1]{2,40}", false },
		{ BB_GRAMMAR_REGEX, "(a|aa){0,40}b", false },
		{ BB_GRAMMAR_REGEX, ".{0,10}a.{2,12}", false },
		{ BB_GRAMMAR_REGEX, "(ab{2,5}-?){1,10}", false },
		{ BB_GRAMMAR_REGEX, "([a-z]{1,5}|[a-b1]{1,9}){2,3}", false },
		{ BB_GRAMMAR_REGEX, "((a|b)?[a-z]?){3,8}1", false },
		{ BB_GRAMMAR_STRUCTURE, "{\"seq\":[{\"until\":\"aab\",\"not_first\":\"1\"},"
			"{\"schema\":{\"type\":\"string\",\"maxLength\":4}},{\"without\":\"aab\"}]}", false },
		{ BB_GRAMMAR_GBNF, "root ::= \"[\" x{2,4} \"]\" | \"-\" x{3}\nx ::= [a-z]{1,9} \",\"?",
			false },
	};
	struct tokenizer *t = make_vocabulary();
	struct token_tree *tree;
	struct store *store;
	struct bb_error err = { 0 };
	cr_assert(token_tree_create(&tree, t, VOCAB_MAX, &err) && store_create(&store, &err), "%s",
		err.text);
	for (size_t i = 0; i < COUNT(cases); i++) {
		uint32_t n_families = 0;
		for (int j = 0; j < 20; j++) {
			/* half of the games share what they walk for with all before them */
			n_families += play(t, tree, j % 2 == 0 ? NULL : store, cases[i].kind, cases[i].source);
		}
		cr_assert(n_families > 0 || !cases[i].counts, "%s: nothing was counted", cases[i].source);
	}
	cr_assert_gt(store->n, 10);
	store_destroy(store);
	token_tree_destroy(tree);
	tokenizer_destroy(t);
}

/* A mask, an accepted text and another mask; false: an error. */
static bool play_once(struct game *g, const struct token_tree *tree, struct store *store,
	const char *source, const char *text, struct bb_error *err) {
	uint32_t mask[VOCAB_MAX / 32];
	bool fits = false;
	memset(g, 0, sizeof(*g));
	return rules_init(&g->rules, err) &&
		source_compile(&g->rules, BB_GRAMMAR_JSON_SCHEMA, source, strlen(source), err) &&
		heads_init(&g->heads, &g->rules.x, tree, store, err) &&
		matcher_init(&g->m, &g->rules, &g->heads, err) &&
		matcher_mask(&g->m, mask, err) && matcher_accept(&g->m, text, strlen(text), &fits, err) &&
		matcher_mask(&g->m, mask, err) && (fits || base_fail(err, BB_ERR_INPUT, "doesn't fit"));
}

Test(masks, allocations_may_fail) {
	static const char *const sources[] = { "{\"type\":\"string\",\"maxLength\":12}",
		"{\"type\":\"string\",\"minLength\":4,\"pattern\":\"[a-z]\",\"maxLength\":12}",
		"{\"type\":\"string\"}" };
	struct tokenizer *t = make_vocabulary();
	struct token_tree *tree;
	struct bb_error err = { 0 };
	cr_assert(token_tree_create(&tree, t, VOCAB_MAX, &err), "%s", err.text);
	for (size_t i = 0; i < COUNT(sources); i++) {
		bool done = false;
		for (long n = 1; !done; n++) {
			static struct game g;
			struct store *store;
			err = (struct bb_error){ 0 };
			cr_assert(n < 10000 && store_create(&store, &err));
			base_fail_alloc_at(n);
			/* the store does without memory: who wins is who had no failure at all */
			const long before = base_count_allocs();
			const bool ok = play_once(&g, tree, store, sources[i], "\"a1z", &err);
			done = ok && base_count_allocs() - before < n;
			base_fail_alloc_at(0);
			cr_assert(ok || err.code == BB_ERR_MEMORY, "%s, %ld: %s", sources[i], n, err.text);
			finish(&g);
			store_destroy(store);
		}
	}
	token_tree_destroy(tree);
	tokenizer_destroy(t);
}
