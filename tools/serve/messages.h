/* SPDX-License-Identifier: Apache-2.0
 *
 * Conversations: what clients send as messages and tools, made into what chat templates take, and
 * the ids of the prompt. */
#ifndef MESSAGES_H
#define MESSAGES_H

#include "exchange.h"

/* Of messages in a prompt. */
enum { MOST_MARKS = 64 };

enum tool_choice { TOOLS_NONE, TOOLS_AUTO, TOOLS_REQUIRED };

struct conversation { /* zeroed; conversation_finish */
	json_t *messages;          /* as chat completions have them; checked by conversation_check */
	json_t *tools;             /* the same; NULL: none */
	json_t *strict;            /* whether each of them is; NULL: none is */
	json_t *variables;         /* for the template besides these; NULL: none */
	const char *source;        /* of the template, instead of the server's; of x->in */
	enum tool_choice choice;
	const char *tool;          /* that must be called; of `tools` */
	bool one_call;             /* of tools at most: what comes behind the first is left out */
	bool continues;            /* the last message goes on */
	bool is_constrained;       /* the answer's text follows a grammar */
	bool no_answer;            /* the prompt ends behind the last message */
	bool takes_vectors;        /* parts of messages may be embeddings */
	struct bb_thinking thinking; /* its marks, borrowed; conversation_prompt finds whether the
	                            * answer starts inside, or that there is none */

	/* what conversation_prompt finds */
	struct bb_text rendered;   /* by the template; */
	struct buf lines;          /* ... or, where there is none, the contents */
	struct bb_vectors **vectors; /* [n_vectors], own: of parts that are embeddings. In texts their
	                            * place is `mark`, their number and a dot */
	int n_vectors;
	struct server *server;     /* whose they are */
	char mark[32];             /* that nobody can know who writes messages; of letters */
	struct bb_tokens prompt;
	struct bb_segment_mark marks[MOST_MARKS]; /* [n_marks] */
	int n_marks;
	struct buf forced;         /* of the answer: that the prompt ends with */
	struct buf closing;        /* the same: what is known to follow a whole text of the grammar */
	struct bb_grammar *grammar; /* of the answer behind `forced`, or NULL; own */
	bool may_think;            /* ... what is generated; else thinking is over, or never begins */
};
void conversation_finish(struct conversation *c);
/* messages, tools, tool_choice and the fields of templates of a chat completion. False: replied, as
 * with all that follow. */
bool conversation_read(struct exchange *x, struct conversation *c);
/* Checks messages and tools and puts them into the form that templates expect. */
bool conversation_check(struct exchange *x, struct conversation *c);
bool conversation_prompt(struct exchange *x, struct conversation *c);
/* The prompt's text, once it is found; places of embeddings are marks in it. */
void conversation_text(const struct conversation *c, struct buf *out);
/* What the template makes of some messages. */
bool conversation_render(struct exchange *x, const struct conversation *c, json_t *messages,
	bool for_answer, struct bb_text *out, struct bb_error *err);

#endif
