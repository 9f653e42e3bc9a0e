/* SPDX-License-Identifier: Apache-2.0
 *
 * The Responses API: its requests, its objects, its streams; a file each. */
#ifndef RESPONSES_H
#define RESPONSES_H

#include "talk.h"

struct response { /* what a talk owns for it */
	json_t *echo;      /* fields that the response repeats */
	json_t *messages;  /* the conversation without instructions, to be kept */
	json_t *input;     /* the request's items as they are listed, to be kept */
	bool is_kept;
	json_t *output;    /* items that are whole */

	/* of a stream */
	int sequence;
	bool is_open;
	enum part_kind kind; /* of the open item */
	char item[48];       /* its id */
	struct buf text;     /* what it has so far */
	json_t *logprobs;    /* the same */
	json_t *pending;     /* log-probabilities of tokens whose text is no part of an item yet */
};
void response_free(struct response *r);
/* The output so far is dropped. */
void response_forget(struct response *r);

/* Makes x->in a chat completion that asks for the same, and fills *r. False: replied. */
bool response_read(struct exchange *x, struct response *r);

/* Items of the output; text [bytes]. A message that is "in_progress" has no text yet; where the
 * answer ended before its time, the one that was being written is "incomplete". */
json_t *response_message(const char *id, const char *text, size_t bytes, json_t *logprobs,
	const char *status);
json_t *response_reasoning(const char *id, const char *text, size_t bytes);
json_t *response_call(const char *id, const json_t *call, bool is_whole);
/* The object. status: "in_progress", "completed", "incomplete", "failed". */
json_t *response_object(const struct talk *t, const char *status, const struct bb_error *err);
const char *response_status(const struct talk *t);
/* Keeps it for previous_response_id. */
void response_keep(struct talk *t, const json_t *object);

/* Items of a request's input, as clients get them when they list them; NULL: no memory. */
json_t *response_input_items(const json_t *input);

/* The events. */
void response_begin(struct talk *t, struct buf *out);
void response_part(struct talk *t, int i, const struct part *part, struct buf *out);
void response_token(struct talk *t, int i, struct buf *out);
void response_end(struct talk *t, struct buf *out);
void response_fail(struct talk *t, const struct bb_error *err, struct buf *out);
void response_idle(struct talk *t, struct buf *out);

#endif
