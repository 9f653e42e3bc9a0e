/* SPDX-License-Identifier: Apache-2.0
 *
 * A compiled grammar as samplers use it. What it learns on the way, states and masks, is shared by
 * all of them behind a lock; where a text stands is each sampler's own. */
#ifndef GRAMMAR_H
#define GRAMMAR_H

#include "match.h"

struct grammar_trees; /* an engine's vocabulary as a trie, made when somebody asks */

bool grammar_trees_create(struct grammar_trees **out, struct bb_error *err);
void grammar_trees_destroy(struct grammar_trees *t);

/* Of an engine since its start: grammars that were compiled, and those that were there already. */
void grammar_counts(const struct bb_engine *e, uint64_t *n_compiled, uint64_t *n_shared);

/* Drops all compiled grammars that nobody uses. */
void grammar_forget(const struct bb_engine *e);

enum bb_grammar_kind grammar_kind(const struct bb_grammar *g);
const struct token_tree *grammar_tree(const struct bb_grammar *g);
/* At the beginning of a text. */
bool grammar_begin(const struct bb_grammar *g, struct matcher *m, struct bb_error *err);
/* Behind a token that the last mask had. */
bool grammar_accept(const struct bb_grammar *g, struct matcher *m, const char *text, size_t bytes,
	struct bb_error *err);
size_t grammar_forced(const struct bb_grammar *g, struct matcher *m, char *out, size_t most);
/* bits: [tree's n_words]. */
bool grammar_mask(const struct bb_grammar *g, struct matcher *m, uint32_t *bits,
	struct bb_error *err);

#endif
