/* SPDX-License-Identifier: Apache-2.0
 *
 * bb_grammar_*: sources to grammars over an engine's vocabulary. */
#include "grammar.h"

#include "../engine.h"
#include "cache.h"
#include "sources.h"

#include <string.h>

enum {
	WARM_WORK = 1 << 17, /* that is done ahead, for masks: a few milliseconds */
	WARM_STATES = 1 << 12,
	CACHE_BYTES = 128 << 20, /* of grammars that nobody uses */
};

struct grammar_trees {
	pthread_mutex_t lock; /* of the tree */
	struct token_tree *tree;
	struct store *store;
	struct grammar_cache cache;
};

/* What requests with the same source share. Behind a pointer, for what it learns isn't a part of
 * what it means. */
struct shared {
	struct grammar_entry entry;
	struct grammar_cache *cache;
	pthread_mutex_t lock;
	struct rules rules;
	struct heads heads;
	const struct token_tree *tree;
};

struct bb_grammar {
	struct shared *shared;
};

bool grammar_trees_create(struct grammar_trees **out, struct bb_error *err) {
	*out = base_alloc(1, sizeof(**out));
	if (*out == NULL || !store_create(&(*out)->store, err)) {
		base_free(*out);
		*out = NULL;
		return base_no_memory(err, "engine", sizeof(**out));
	}
	pthread_mutex_init(&(*out)->lock, NULL);
	grammar_cache_init(&(*out)->cache, CACHE_BYTES);
	return true;
}

static void destroy_shared(struct shared *s) {
	heads_finish(&s->heads);
	rules_destroy(&s->rules);
	pthread_mutex_destroy(&s->lock);
	grammar_entry_finish(&s->entry);
	base_free(s);
}

static void destroy_entries(struct grammar_entry *e) {
	for (struct grammar_entry *next; e != NULL; e = next) {
		next = e->older;
		destroy_shared((struct shared *)e);
	}
}

void grammar_trees_destroy(struct grammar_trees *t) {
	if (t != NULL) {
		destroy_entries(grammar_cache_clear(&t->cache));
		grammar_cache_finish(&t->cache);
		store_destroy(t->store);
		token_tree_destroy(t->tree);
		pthread_mutex_destroy(&t->lock);
		base_free(t);
	}
}

static const struct token_tree *tree_of(const struct bb_engine *e, struct bb_error *err) {
	struct grammar_trees *t = e->grammar_trees;
	pthread_mutex_lock(&t->lock);
	if (t->tree == NULL && tokenizer_is_vocabless(e->tokenizer)) {
		base_fail(err, BB_ERR_UNSUPPORTED, "a grammar needs a vocabulary, the model has none");
	} else if (t->tree == NULL) {
		token_tree_create(&t->tree, e->tokenizer, engine_n_vocab(e), err);
	}
	const struct token_tree *tree = t->tree;
	pthread_mutex_unlock(&t->lock);
	return tree;
}

/* Adds an expression to the list unless it has a mask by now. */
static void note(struct shared *s, uint32_t *list, uint32_t *n, uint32_t expr) {
	const struct exprs *x = &s->rules.x;
	if (expr > EXPR_EMPTY && *n < WARM_STATES && (x->all[expr].flags & EXPR_SEEN) == 0) {
		s->rules.x.all[expr].flags |= EXPR_SEEN;
		list[(*n)++] = expr;
	}
}

/* Masks of the first states of all leaves, as many as a few milliseconds allow. */
static bool warm(struct shared *s, struct bb_error *err) {
	struct exprs *const x = &s->rules.x;
	uint32_t *list = base_alloc(WARM_STATES, sizeof(*list)), n = 0;
	if (list == NULL) {
		return base_no_memory(err, "grammar", WARM_STATES * sizeof(*list));
	}
	for (uint32_t i = 0; i < s->rules.n; i++) {
		if (s->rules.nodes[i].op == NODE_TERM) {
			note(s, list, &n, s->rules.nodes[i].a);
		}
	}
	exprs_begin(x);
	for (uint32_t i = 0; i < n && x->work < WARM_WORK; i++) {
		if (heads_find(&s->heads, list[i]) == NULL) {
			break;
		}
		for (int class = 0; class < x->n_classes && x->trouble.code == BB_OK; class++) {
			note(s, list, &n, expr_step(x, list[i], class));
		}
	}
	for (uint32_t i = 0; i < n; i++) {
		x->all[list[i]].flags &= (uint8_t)~EXPR_SEEN;
	}
	base_free(list);
	const struct bb_error trouble = x->trouble;
	x->trouble = (struct bb_error){ 0 };
	return trouble.code == BB_OK || base_fail(err, trouble.code, "%s", trouble.text);
}

static struct shared *create_shared(enum bb_grammar_kind kind, const char *source, size_t bytes,
	int indent) {
	struct shared *s = base_alloc(1, sizeof(*s));
	if (s != NULL && !grammar_entry_init(&s->entry, kind, source, bytes)) {
		base_free(s);
		return NULL;
	}
	if (s != NULL) {
		s->entry.indent = indent;
		pthread_mutex_init(&s->lock, NULL);
	}
	return s;
}

/* Compiled, by whoever asked first. */
static void compile(struct shared *s, const struct token_tree *tree, struct store *store) {
	const struct grammar_entry *const e = &s->entry;
	struct bb_error err = { 0 };
	s->tree = tree;
	if (rules_init(&s->rules, &err) &&
		source_compile_indented(&s->rules, e->kind, e->source, e->n_source, e->indent, &err) &&
		heads_init(&s->heads, &s->rules.x, tree, store, &err)) {
		warm(s, &err);
	}
	grammar_cache_made(s->cache, &s->entry, &err);
}

static size_t bytes_of(struct shared *s) {
	pthread_mutex_lock(&s->lock);
	const size_t bytes = sizeof(*s) + s->entry.n_source + rules_bytes(&s->rules) +
		heads_bytes(&s->heads);
	pthread_mutex_unlock(&s->lock);
	return bytes;
}

static bool create(struct bb_grammar **out, const struct bb_engine *e, enum bb_grammar_kind kind,
	const char *source, size_t bytes, int indent, struct bb_error *err) {
	*out = NULL;
	const struct token_tree *tree = tree_of(e, err);
	if (tree == NULL) {
		return false;
	}
	if (tree->n_ends == 0) {
		return base_fail(err, BB_ERR_UNSUPPORTED,
			"a grammar needs a token that ends a text, the model has none");
	}
	struct bb_grammar *g = base_alloc(1, sizeof(*g));
	struct shared *s = create_shared(kind, source, bytes, indent);
	if (g == NULL || s == NULL) {
		base_free(g);
		if (s != NULL) {
			destroy_shared(s);
		}
		return base_no_memory(err, "grammar", sizeof(*s) + bytes);
	}
	s->cache = &e->grammar_trees->cache;
	g->shared = (struct shared *)grammar_cache_take(s->cache, &s->entry);
	if (g->shared == s) {
		compile(s, tree, e->grammar_trees->store);
	} else {
		destroy_shared(s);
	}
	const struct bb_error failed = g->shared->entry.err;
	if (failed.code != BB_OK) {
		bb_grammar_destroy(g);
		return base_fail(err, failed.code, "%s", failed.text);
	}
	*out = g;
	return true;
}

bool bb_grammar_create(struct bb_grammar **out, const struct bb_engine *e,
	enum bb_grammar_kind kind, const char *source, size_t bytes, struct bb_error *err) {
	return create(out, e, kind, source, bytes, SOURCE_ONE_LINE, err);
}

bool bb_grammar_create_indented(struct bb_grammar **out, const struct bb_engine *e,
	enum bb_grammar_kind kind, const char *source, size_t bytes, int indent,
	struct bb_error *err) {
	*out = NULL;
	if (kind != BB_GRAMMAR_JSON_SCHEMA && kind != BB_GRAMMAR_JSON_OBJECT) {
		return base_fail(err, BB_ERR_USAGE, "only JSON can be indented");
	}
	if (indent < 0 || indent > BB_MAX_INDENT) {
		return base_fail(err, BB_ERR_USAGE, "the indentation is %d, expected 0 to %d", indent,
			BB_MAX_INDENT);
	}
	return create(out, e, kind, source, bytes, indent, err);
}

void bb_grammar_destroy(struct bb_grammar *g) {
	if (g != NULL) {
		struct shared *const s = g->shared;
		destroy_entries(grammar_cache_leave(s->cache, &s->entry, bytes_of(s)));
		base_free(g);
	}
}

void grammar_counts(const struct bb_engine *e, uint64_t *n_compiled, uint64_t *n_shared) {
	struct grammar_cache *const c = &e->grammar_trees->cache;
	pthread_mutex_lock(&c->lock);
	*n_compiled = c->n_compiled;
	*n_shared = c->n_shared;
	pthread_mutex_unlock(&c->lock);
}

void grammar_forget(const struct bb_engine *e) {
	destroy_entries(grammar_cache_clear(&e->grammar_trees->cache));
}

enum bb_grammar_kind grammar_kind(const struct bb_grammar *g) {
	return g->shared->entry.kind;
}

const struct token_tree *grammar_tree(const struct bb_grammar *g) {
	return g->shared->tree;
}

bool grammar_begin(const struct bb_grammar *g, struct matcher *m, struct bb_error *err) {
	pthread_mutex_lock(&g->shared->lock);
	const bool ok = matcher_init(m, &g->shared->rules, &g->shared->heads, err);
	pthread_mutex_unlock(&g->shared->lock);
	return ok;
}

bool grammar_accept(const struct bb_grammar *g, struct matcher *m, const char *text, size_t bytes,
	struct bb_error *err) {
	bool fits = false;
	pthread_mutex_lock(&g->shared->lock);
	const bool ok = matcher_accept(m, text, bytes, &fits, err);
	pthread_mutex_unlock(&g->shared->lock);
	return ok && (fits || base_fail(err, BB_ERR_INPUT, "a token doesn't fit the grammar"));
}

size_t grammar_forced(const struct bb_grammar *g, struct matcher *m, char *out, size_t most) {
	pthread_mutex_lock(&g->shared->lock);
	const size_t n = matcher_forced(m, out, most);
	pthread_mutex_unlock(&g->shared->lock);
	return n;
}

bool grammar_mask(const struct bb_grammar *g, struct matcher *m, uint32_t *bits,
	struct bb_error *err) {
	pthread_mutex_lock(&g->shared->lock);
	const bool ok = matcher_mask(m, bits, err);
	pthread_mutex_unlock(&g->shared->lock);
	return ok;
}
