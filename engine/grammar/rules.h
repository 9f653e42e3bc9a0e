/* SPDX-License-Identifier: Apache-2.0
 *
 * What a text may be, as rules that may name each other: what schemas and GBNF are turned into. The
 * leaves are regular expressions. */
#ifndef RULES_H
#define RULES_H

#include "expr.h"

enum { RULES_NOTHING, RULES_EMPTY }; /* nodes: no text; the empty text */

enum node_op { NODE_NOTHING, NODE_EMPTY, NODE_TERM, NODE_SEQ, NODE_EITHER, NODE_REPEAT, NODE_RULE };

struct node {
	uint8_t op;
	bool is_nullable, is_productive; /* may it be empty; has it any text (rules_finish) */
	uint32_t a, b;    /* TERM: an expression; RULE: which; SEQ, EITHER: two nodes; REPEAT: one */
	int32_t min, max; /* REPEAT; max -1: no bound */
};

struct rule {
	char *name; /* for errors; owned */
	uint32_t body;
	bool is_nullable, is_productive;
	uint8_t state; /* of a search */
	double size;   /* of its text as one expression; < 0: not known yet */
	int height;    /* how deep rules and groups go in each other in it, where size is known */
};

struct rules {
	struct exprs x;
	struct node *nodes; /* [n] */
	uint32_t n, cap;
	struct rule *rules; /* [n_rules] */
	uint32_t n_rules, cap_rules;
	uint32_t root;      /* a node */
};

bool rules_init(struct rules *r, struct bb_error *err);
void rules_destroy(struct rules *r); /* what it holds; zeroed is fine */
size_t rules_bytes(const struct rules *r); /* that it takes */

/* Trouble is in r->x.trouble; then the node is RULES_NOTHING. */
uint32_t rules_term(struct rules *r, uint32_t expr);
uint32_t rules_text(struct rules *r, const char *text);
uint32_t rules_seq(struct rules *r, uint32_t a, uint32_t b);
uint32_t rules_either(struct rules *r, uint32_t a, uint32_t b);
uint32_t rules_repeat(struct rules *r, uint32_t a, int min, int max);
/* A rule whose body comes later. name: [bytes]. */
uint32_t rules_rule(struct rules *r, const char *name, size_t bytes);
uint32_t rules_call(struct rules *r, uint32_t rule);
/* Rules that are regular, and small, become one expression each. */
void rules_flatten(struct rules *r);
/* Refuses rules that begin with themselves, and a root without any text, as `hopeless` says; takes
 * out what has none. */
bool rules_finish(struct rules *r, const char *hopeless, struct bb_error *err);

#endif
