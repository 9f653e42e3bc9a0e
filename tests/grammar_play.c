/* SPDX-License-Identifier: Apache-2.0
 *
 * Plays grammars over a model's vocabulary for tests/random_schemas and bench/grammar. A line of
 * stdin is {"kind": "json_schema", "source": "...", "seed": 1}; a line of stdout says what came of
 * it when each token was drawn evenly from all that the mask had, in bytes of `text` and in times.
 *
 * Usage: grammar_play MODEL MAX_TOKENS */
#include "engine.h"
#include "grammar/grammar.h"

#include <jansson.h>
#include <stdlib.h>
#include <string.h>

enum { N_CLOSING = 3 };

struct play {
	const struct bb_engine *engine;
	const struct token_tree *tree;
	uint32_t *mask;  /* [n_words] */
	uint32_t *closing; /* [N_CLOSING, n_words]: tokens that begin with '"', with '}', with ']' */
	double *us;     /* [max_tokens] of each mask with what was accepted before it */
	int max_tokens;
};

static uint64_t next_random(uint64_t *state) {
	uint64_t z = (*state += 0x9E3779B97F4A7C15u);
	z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9u;
	z = (z ^ (z >> 27)) * 0x94D049BB133111EBu;
	return z ^ (z >> 31);
}

/* Sometimes leaves in the mask only what one of them begins, if any of that is there: among
 * thousands of others chance alone would hardly find the quote that ends a text. */
static void lean_to_closing(const struct play *p, uint64_t *random) {
	const size_t n_words = (size_t)p->tree->n_words, which = next_random(random) % 8;
	const uint32_t *const closing = p->closing + (which < N_CLOSING ? which : 0) * n_words;
	uint32_t any = 0;
	for (size_t i = 0; i < n_words; i++) {
		any |= p->mask[i] & closing[i];
	}
	for (size_t i = 0; which < N_CLOSING && any != 0 && i < n_words; i++) {
		p->mask[i] &= closing[i];
	}
}

/* The n-th token of the mask, n random; -1: it has none. Where an end is allowed, it comes half of
 * the time. */
static int32_t draw(const struct play *p, uint64_t *random, bool *is_end) {
	uint64_t n = 0;
	lean_to_closing(p, random);
	for (int i = 0; i < p->tree->n_words; i++) {
		n += (uint64_t)__builtin_popcount(p->mask[i]);
	}
	const int32_t end = p->tree->ends[0];
	*is_end = (p->mask[end >> 5] >> (end & 31) & 1) != 0 &&
		(n == (uint64_t)p->tree->n_ends || next_random(random) % 2 == 0);
	if (n == 0 || *is_end) {
		return *is_end ? end : -1;
	}
	uint64_t left = next_random(random) % n;
	for (int i = 0; i < p->tree->n_words; i++) {
		const uint64_t here = (uint64_t)__builtin_popcount(p->mask[i]);
		if (left >= here) {
			left -= here;
			continue;
		}
		uint32_t bits = p->mask[i];
		for (; left > 0; left--) {
			bits &= bits - 1;
		}
		return 32 * i + __builtin_ctz(bits);
	}
	return -1;
}

/* Tokens until the end; false: an error. */
static bool generate(const struct play *p, const struct bb_grammar *g, uint64_t seed,
	struct bb_text *text, int *n_tokens, bool *is_end, struct bb_error *err) {
	struct matcher m;
	uint64_t random = seed;
	bool ok = grammar_begin(g, &m, err);
	*is_end = false;
	int32_t id = -1;
	for (*n_tokens = 0; ok && !*is_end && *n_tokens < p->max_tokens; ++*n_tokens) {
		const double start = base_seconds();
		const struct gguf_string piece = tokenizer_piece(p->engine->tokenizer, id, false);
		ok = (id < 0 || grammar_accept(g, &m, piece.data, piece.bytes, err)) &&
			grammar_mask(g, &m, p->mask, err);
		p->us[*n_tokens] = 1e6 * (base_seconds() - start);
		if (ok) {
			id = draw(p, &random, is_end);
			ok = id >= 0 || base_fail(err, BB_ERR_INPUT, "no token can follow");
		}
		if (ok && !*is_end && id >= 0) {
			const struct gguf_string next = tokenizer_piece(p->engine->tokenizer, id, false);
			ok = base_append(text, next.data, next.bytes, err);
		}
	}
	matcher_finish(&m);
	return ok;
}

/* Ends count as all of them. */
static void mark_closing(struct play *p) {
	for (int k = 0; k < N_CLOSING; k++) {
		uint32_t *const closing = p->closing + (size_t)k * (size_t)p->tree->n_words;
		for (int32_t id = 0; id < p->tree->n_vocab; id++) {
			const struct gguf_string text = tokenizer_piece(p->engine->tokenizer, id, false);
			const bool closes = text.bytes > 0 && text.data[0] == "\"}]"[k];
			closing[id >> 5] |= (uint32_t)closes << (id & 31);
		}
		for (int i = 0; i < p->tree->n_ends; i++) {
			closing[p->tree->ends[i] >> 5] |= 1u << (p->tree->ends[i] & 31);
		}
	}
}

static bool kind_of(const char *name, enum bb_grammar_kind *kind) {
	static const char *const names[] = { "json_schema", "json_object", "regex", "choice", "gbnf",
		"structure" };
	for (size_t i = 0; i < COUNT(names); i++) {
		if (name != NULL && strcmp(names[i], name) == 0) {
			*kind = (enum bb_grammar_kind)i;
			return true;
		}
	}
	return false;
}

static json_t *times_of(const struct play *p, int n) {
	json_t *all = json_array();
	for (int i = 0; i < n; i++) {
		json_array_append_new(all, json_real(p->us[i]));
	}
	return all;
}

static void play_line(struct play *p, const char *line) {
	json_t *in = json_loads(line, 0, NULL), *out = json_object();
	const json_t *source = json_object_get(in, "source");
	struct bb_error err = { 0 };
	struct bb_grammar *g = NULL;
	struct bb_text text = { 0 };
	enum bb_grammar_kind kind;
	int n_tokens = 0;
	bool is_end = false;
	if (!kind_of(json_string_value(json_object_get(in, "kind")), &kind) || source == NULL) {
		base_fail(&err, BB_ERR_USAGE, "expected a kind and a source");
	} else {
		grammar_forget(p->engine); /* each line compiles anew */
		const double start = base_seconds();
		const json_t *indent = json_object_get(in, "indent");
		const char *data = json_string_value(source);
		const size_t bytes = json_string_length(source);
		const bool ok = json_is_integer(indent) ? bb_grammar_create_indented(&g, p->engine, kind,
			data, bytes, (int)json_integer_value(indent), &err)
			: bb_grammar_create(&g, p->engine, kind, data, bytes, &err);
		json_object_set_new(out, "compile_ms", json_real(1e3 * (base_seconds() - start)));
		if (ok) {
			generate(p, g, (uint64_t)json_integer_value(json_object_get(in, "seed")), &text,
				&n_tokens, &is_end, &err);
		}
	}
	json_object_set_new(out, "compiled", json_boolean(g != NULL));
	json_object_set_new(out, "finished", json_boolean(is_end));
	json_object_set_new(out, "error", json_string(err.text));
	json_object_set_new(out, "us", times_of(p, n_tokens));
	json_t *bytes = json_stringn(text.data, text.bytes); /* NULL where it isn't UTF-8 */
	json_object_set_new(out, "text", bytes != NULL || text.bytes > 0 ? bytes : json_string(""));
	json_dumpf(out, stdout, JSON_COMPACT);
	putchar('\n');
	fflush(stdout);
	bb_grammar_destroy(g);
	bb_text_finish(&text);
	json_decref(in);
	json_decref(out);
}

int main(int argc, char **argv) {
	struct bb_error err = { 0 };
	struct bb_engine *e;
	struct bb_grammar *g;
	if (argc != 3 || atoi(argv[2]) < 1) {
		fprintf(stderr, "usage: grammar_play MODEL MAX_TOKENS\n");
		return 2;
	}
	const struct bb_engine_params params = { .path = argv[1], .vocab_only = true };
	const double start = base_seconds();
	if (!bb_engine_open(&e, bb_models, &params, &err)) {
		fprintf(stderr, "%s\n", err.text);
		return 1;
	}
	const double opened = base_seconds();
	if (!bb_grammar_create(&g, e, BB_GRAMMAR_CHOICE, "[\"a\"]", 5, &err)) {
		fprintf(stderr, "%s\n", err.text);
		return 1;
	}
	fprintf(stderr, "opened in %.0f ms, vocabulary sorted in %.0f ms\n", 1e3 * (opened - start),
		1e3 * (base_seconds() - opened));
	struct play p = { .engine = e, .tree = grammar_tree(g), .max_tokens = atoi(argv[2]) };
	p.mask = calloc((size_t)p.tree->n_words, sizeof(*p.mask));
	p.closing = calloc((size_t)p.tree->n_words * N_CLOSING, sizeof(*p.closing));
	p.us = calloc((size_t)p.max_tokens, sizeof(*p.us));
	char *line = NULL;
	size_t cap = 0;
	if (p.closing != NULL) {
		mark_closing(&p);
	}
	while (p.mask != NULL && p.closing != NULL && p.us != NULL && getline(&line, &cap, stdin) > 0) {
		play_line(&p, line);
	}
	free(line);
	free(p.mask);
	free(p.closing);
	free(p.us);
	bb_grammar_destroy(g);
	bb_engine_destroy(e);
	return 0;
}
