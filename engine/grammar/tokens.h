/* SPDX-License-Identifier: Apache-2.0
 *
 * A vocabulary as a trie over the bytes of its tokens, in preorder, so that whoever walks it skips
 * what lies below a node in one step. */
#ifndef TOKENS_H
#define TOKENS_H

#include "../token/token.h"

/* Control tokens have no text of their own, so that none is drawn where their name is meant. Here
 * their name stands behind a byte that UTF-8 doesn't have: only sources that ask for it know it. */
#define TOKENS_MARK "\xFF"

struct token_tree {
	uint32_t n_nodes;   /* the root is node 0 */
	uint8_t *byte;      /* [n_nodes] that leads there */
	uint16_t *depth;    /* [n_nodes] bytes from the root */
	uint32_t *end;      /* [n_nodes] the node behind all that lie below */
	uint32_t *first;    /* [n_nodes + 1]: at node i end the tokens ids[first[i]..first[i + 1]) */
	int32_t *ids;       /* [n_ids] */
	uint32_t n_ids;
	int max_depth;
	int n_vocab, n_words; /* ids are below n_vocab; 32-bit words of a mask */
	int32_t *ends;      /* [n_ends]: tokens that end a text */
	int n_ends;
};

/* n_vocab: rows of logits, which may be more than the tokenizer has tokens. */
bool token_tree_create(struct token_tree **out, const struct tokenizer *t, int n_vocab,
	struct bb_error *err);
void token_tree_destroy(struct token_tree *t);
/* What a grammar knows a token by; *is_mark: behind TOKENS_MARK. */
struct gguf_string token_tree_text(const struct tokenizer *t, int32_t id, bool *is_mark);

#endif
