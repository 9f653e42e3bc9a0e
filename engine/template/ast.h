/* SPDX-License-Identifier: Apache-2.0
 *
 * The syntax tree of a template, and the parser that makes it. Immutable once made: any number of
 * renderings may share it. */
#ifndef TEMPLATE_AST_H
#define TEMPLATE_AST_H

#include "template/lex.h"
#include "template/value.h"

enum node_kind {
	/* Expressions: the members each one uses. */
	NODE_CONST,      /* constant */
	NODE_NAME,       /* name */
	NODE_LIST,       /* items */
	NODE_TUPLE,      /* items */
	NODE_DICT,       /* items: key, value, key, value, … */
	NODE_ATTRIBUTE,  /* a . name */
	NODE_ITEM,       /* a [b] */
	NODE_SLICE,      /* a : b : c, each or NULL; only as b of NODE_ITEM */
	NODE_CALL,       /* a (args) */
	NODE_FILTER,     /* a | name (args); a == NULL: the text of the block around it */
	NODE_TEST,       /* a is name (args) */
	NODE_NOT,        /* a */
	NODE_NEGATE,     /* - a */
	NODE_PLUS,       /* + a */
	NODE_BINARY,     /* a op b */
	NODE_CONCAT,     /* items, joined as text */
	NODE_COMPARE,    /* a, then items: NODE_OPERANDs, chained */
	NODE_OPERAND,    /* op a, where op is one of TOKEN_EQ …, OP_IN, OP_NOT_IN */
	NODE_AND,        /* a, b */
	NODE_OR,         /* a, b */
	NODE_CONDITION,  /* b if a else c (or NULL) */
	NODE_MEMBER,     /* namespace `name`, attribute in constant; only as a target of set */
	/* Statements. */
	NODE_TEXT,       /* constant */
	NODE_OUTPUT,     /* a */
	NODE_IF,         /* items: condition, body, condition, body, …; c: else or NULL */
	NODE_FOR,        /* for a in b if d, body, c: else or NULL, recursive */
	NODE_SET,        /* set a = b */
	NODE_SET_BLOCK,  /* set a, d: filters or NULL, body */
	NODE_MACRO,      /* name, params, body */
	NODE_CALL_BLOCK, /* params, a: the call, body */
	NODE_FILTER_BLOCK, /* a: filters, body */
	NODE_WITH,       /* items: target, value, target, value, …; body */
	NODE_SCOPE,      /* body, with names of its own: {% generation %} */
	NODE_BREAK,
	NODE_CONTINUE,
	NODE_BODY,       /* items: statements */
};

enum { OP_IN = 1000, OP_NOT_IN }; /* beside the token kinds of operators */

struct node;
struct builtin;

struct call_args {
	struct node **positional; /* [n] */
	size_t n;
	const struct string **names; /* [n_named] */
	struct node **named;         /* [n_named] */
	size_t n_named;
	struct node *star, *star_star; /* *x and **x, or NULL */
};

struct params {
	const struct string **names; /* [n] */
	struct node **defaults;      /* [n], NULL where there is none */
	size_t n;
	bool takes_varargs, takes_kwargs, takes_caller; /* the body speaks of them */
	struct params *outer; /* of the macro around this one, or NULL */
};

struct node {
	enum node_kind kind;
	int op;   /* a token kind, or OP_IN … */
	int line;
	bool recursive;
	const struct string *name;
	struct value constant;
	struct node *a, *b, *c, *d, *body;
	struct node **items; /* [n_items] */
	size_t n_items;
	struct call_args *args;
	struct params *params;
	const struct builtin *builtin; /* of a filter or test; NULL: there is none of that name */
};

/* What both halves of the parser need. */
struct parser {
	struct job *job;
	const struct token *at;
	struct params *macro; /* whose body is being parsed, or NULL */
	int n_loops;          /* around this place: where break and continue may stand */
	bool is_conditional;  /* an unknown filter or test only fails when it is reached */
};

struct node *parse_template(struct job *j, const char *source, size_t bytes);

/* ---- between parse.c and parse_expr.c ---- */

struct node *parse_new(struct parser *p, enum node_kind kind);
void parse_add(struct parser *p, struct node *to, struct node *item);
bool parse_skip(struct parser *p, enum token_kind kind);
void parse_expect(struct parser *p, enum token_kind kind);
bool parse_at_name(const struct parser *p, const char *name);
bool parse_skip_name(struct parser *p, const char *name);
const struct string *parse_name(struct parser *p);
_Noreturn void parse_fail(struct parser *p, const char *expected);

struct node *parse_expression(struct parser *p, bool with_condition);
/* Expressions with commas between them. */
struct node *parse_tuple(struct parser *p, bool with_condition);
/* Names (and namespace members, if wanted) that can be assigned to. */
struct node *parse_target(struct parser *p, bool with_members);
struct node *parse_primary(struct parser *p);
/* Filters after `input`; at a name when `inline_first`, else at a pipe. */
struct node *parse_filters(struct parser *p, struct node *input, bool inline_first);

#endif
