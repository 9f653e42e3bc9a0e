/* SPDX-License-Identifier: Apache-2.0
 *
 * Answering a conversation, whichever API asked: the prompt, the request, and what its tokens say,
 * read apart into thinking, content and calls. An API gives the shape: it writes events of a
 * stream, or the body once all is there. */
#ifndef TALK_H
#define TALK_H

#include "asked.h"
#include "messages.h"
#include "reader.h"
#include "stops.h"
#include "turn.h"

#include <time.h>

struct answer_text { /* one of n */
	int branch;              /* of the request; others stand in this place once it's chosen */
	struct reader reader;
	struct buf content, reasoning;
	struct buf tail;         /* the last bytes of the tokens, stop strings and all */
	json_t *calls;           /* [{id, name, arguments}], the last a text */
	json_t *logprobs;        /* entries of all tokens, or NULL */
	json_t *ids;             /* of all tokens, or NULL */
	int n_tokens, n_thinking;
	int32_t last_id;
	bool has_ended;
	enum bb_finish finish;
};

struct talk;
/* How an API streams; all of them add events to `out`, and may be NULL. */
struct talk_shape {
	void (*begin)(struct talk *t, struct buf *out);
	void (*part)(struct talk *t, int i, const struct part *part, struct buf *out);
	void (*token)(struct talk *t, int i, struct buf *out); /* behind its parts */
	void (*finish)(struct talk *t, int i, struct buf *out);
	void (*end)(struct talk *t, struct buf *out);
	void (*fail)(struct talk *t, const struct bb_error *err, struct buf *out);
	void (*idle)(struct talk *t, struct buf *out);
	json_t *(*body)(struct talk *t); /* when it isn't streamed */
	void (*drop)(struct talk *t);    /* what `own` holds */
};

struct talk {
	struct exchange *x;
	const struct talk_shape *shape;
	struct server *server;
	struct asked asked;
	struct conversation conversation;
	bool wants_logprobs;
	int n_top;
	bool hides_reasoning;
	struct stops stops;
	char id[48];
	long created;
	struct turn *turn;
	struct answer_text *answers; /* [asked.n]; those that are given come first */
	int n_answers;               /* that are given: asked.n_given, or fewer once all have ended */
	int n_open;                  /* of asked.n */
	int n_prompt, n_output;
	struct bb_usage usage;       /* when all have ended */
	bool has_usage;
	json_t *prompt_logprobs;     /* or NULL */
	json_t *entry, *token_id;    /* of the token that is being read; may be taken by the shape */
	bool has_begun;
	struct buf *out;             /* of the stream, while an event is read */
	void *own;                   /* the shape's */
};

/* Zeroed but for the exchange; `prefix` of the id. NULL: replied. */
struct talk *talk_create(struct exchange *x, const struct talk_shape *shape, const char *prefix);
/* With `asked` and `conversation` filled: makes the prompt, submits, and replies, now or as a
 * stream. Takes t. */
void talk_run(struct talk *t);
void talk_destroy(struct talk *t);
/* An answer's calls of tools as a message of the chat completions has them; NULL: no memory. */
json_t *talk_tool_calls(const struct answer_text *a);
/* The fields of a chat completion, in x->in. False: replied. */
bool chat_read(struct talk *t);

/* "stop", "length", "tool_calls" or "abort". */
const char *talk_reason(const struct talk *t, int i);
/* The stop string that ended it, or NULL. */
const char *talk_stop_string(const struct talk *t, int i);
/* The usage object of the OpenAI API, of what there is so far. */
json_t *talk_usage(const struct talk *t);
/* Thinking tokens so far, of all that was drawn. */
int talk_thinking(const struct talk *t);
/* Adds `decisions` and the `seed` that they belong to, and the `votes`, where there are any. */
void talk_decisions(const struct talk *t, json_t *object);
/* llama-server's timings. */
json_t *talk_timings(const struct talk *t);
json_t *talk_timings_of(const struct bb_usage *u);
/* An id of its own, as call_0123456789abcdef. */
void talk_new_id(char *out, size_t bytes, const char *prefix);

#endif
