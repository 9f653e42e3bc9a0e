/* SPDX-License-Identifier: Apache-2.0
 *
 * Source text to tokens: the split between text and tags with Jinja's white-space rules
 * (trim_blocks and lstrip_blocks on), and the tokens inside tags. */
#ifndef TEMPLATE_LEX_H
#define TEMPLATE_LEX_H

#include "template/text.h"

enum token_kind {
	TOKEN_END, /* of the source */
	TOKEN_DATA,
	TOKEN_PRINT_BEGIN,
	TOKEN_PRINT_END,
	TOKEN_TAG_BEGIN,
	TOKEN_TAG_END,
	TOKEN_NAME,
	TOKEN_STRING,
	TOKEN_INT,
	TOKEN_FLOAT,
	TOKEN_ADD, TOKEN_SUB, TOKEN_DIV, TOKEN_FLOORDIV, TOKEN_MUL, TOKEN_POW, TOKEN_MOD, TOKEN_TILDE,
	TOKEN_LBRACKET, TOKEN_RBRACKET, TOKEN_LPAREN, TOKEN_RPAREN, TOKEN_LBRACE, TOKEN_RBRACE,
	TOKEN_EQ, TOKEN_NE, TOKEN_GT, TOKEN_GE, TOKEN_LT, TOKEN_LE,
	TOKEN_ASSIGN, TOKEN_DOT, TOKEN_COLON, TOKEN_PIPE, TOKEN_COMMA, TOKEN_SEMICOLON,
};

struct token {
	enum token_kind kind;
	int line;
	const struct string *text; /* DATA, NAME, STRING (unescaped) */
	union {
		int64_t integer;
		double real;
	};
};

/* The tokens of source[bytes], TOKEN_END last. */
const struct token *lex_source(struct job *j, const char *source, size_t bytes);
/* How a message calls the token: "end of tag", "'foo'". */
const char *lex_describe(struct job *j, const struct token *t);

#endif
