/* SPDX-License-Identifier: Apache-2.0
 *
 * bb_grammar_*: sources to grammars over an engine's vocabulary. */
#include "grammar.h"

#include "../engine.h"
#include "sources.h"

#include <pthread.h>
#include <string.h>

enum {
	WARM_WORK = 1 << 17, /* that is done ahead, for masks: a few milliseconds */
	WARM_STATES = 1 << 12,
};

struct grammar_trees {
	pthread_mutex_t lock;
	struct token_tree *tree;
};

/* Behind a pointer, for what it learns isn't a part of what it means. */
struct shared {
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
	if (*out == NULL) {
		return base_no_memory(err, "engine", sizeof(**out));
	}
	pthread_mutex_init(&(*out)->lock, NULL);
	return true;
}

void grammar_trees_destroy(struct grammar_trees *t) {
	if (t != NULL) {
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

bool bb_grammar_create(struct bb_grammar **out, const struct bb_engine *e,
	enum bb_grammar_kind kind, const char *source, size_t bytes, struct bb_error *err) {
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
	struct shared *s = base_alloc(1, sizeof(*s));
	if (g == NULL || s == NULL) {
		base_free(g);
		base_free(s);
		return base_no_memory(err, "grammar", sizeof(*s));
	}
	g->shared = s;
	s->tree = tree;
	pthread_mutex_init(&s->lock, NULL);
	if (!rules_init(&s->rules, err) || !source_compile(&s->rules, kind, source, bytes, err) ||
		!heads_init(&s->heads, &s->rules.x, tree, err) || !warm(s, err)) {
		bb_grammar_destroy(g);
		return false;
	}
	*out = g;
	return true;
}

void bb_grammar_destroy(struct bb_grammar *g) {
	if (g != NULL) {
		heads_finish(&g->shared->heads);
		rules_destroy(&g->shared->rules);
		pthread_mutex_destroy(&g->shared->lock);
		base_free(g->shared);
		base_free(g);
	}
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

bool grammar_mask(const struct bb_grammar *g, struct matcher *m, uint32_t *bits,
	struct bb_error *err) {
	pthread_mutex_lock(&g->shared->lock);
	const bool ok = matcher_mask(m, bits, err);
	pthread_mutex_unlock(&g->shared->lock);
	return ok;
}
