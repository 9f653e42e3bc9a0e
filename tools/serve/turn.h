/* SPDX-License-Identifier: Apache-2.0
 *
 * What an exchange has the scheduler do: one request or several, and their events, which come from
 * the engine's thread and wait here for the exchange's. */
#ifndef TURN_H
#define TURN_H

#include "decisions.h"
#include "exchange.h"

struct turn_event { /* any but DECISION: those are in turn_decisions */
	struct turn_event *next;
	enum bb_event_kind kind;
	int slot, branch, index;
	struct bb_sampled token; /* of TOKEN and PROMPT */
	enum bb_finish finish;
	bool has_usage;          /* the last event of its request */
	struct bb_usage usage;
	struct bb_error *error;  /* of FAILED */
	size_t bytes;
	char text[];             /* [bytes], a NUL behind; of HIDDEN the floats */
};

void turn_event_free(struct turn_event *e);

struct turn;
/* id: of the reply, by which others may look at its requests. NULL: there was no memory. */
struct turn *turn_create(struct exchange *x, const char *id);
/* Keeps the grammar, which is taken from *g, for as long as a request may use it. */
void turn_take_grammar(struct turn *t, struct bb_grammar **g);
/* Submits one more request; its events carry the slot. False: replied, and nothing was begun. */
bool turn_add(struct turn *t, int slot, const struct bb_request_params *params,
	struct exchange *x);
/* The next event, for turn_event_free; FAILED, the last one, when one had no memory. NULL with
 * *is_gone: the client has left, or the server cuts it off; NULL without: most_ms have passed. */
struct turn_event *turn_next(struct turn *t, int most_ms, bool *is_gone);
/* What was decided so far about the request of a slot; NULL: there is none. */
struct decisions *turn_decisions(struct turn *t, int slot);
/* [{branch, answer, weight}...]: how the branches of a slot's request, which has ended, have voted;
 * empty where nobody counted. */
json_t *turn_votes(struct turn *t, int slot);
/* Replies which of the two it is; always false. */
bool turn_reply_gone(struct exchange *x);

/* Who makes an answer of the events of all requests that were added. */
struct turn_listener {
	void (*take)(void *user, const struct turn_event *e, struct buf *out); /* out: of the stream, or
	                                                                        * NULL */
	/* The rest is for streams, and adds to them. */
	void (*end)(void *user, struct buf *out);  /* behind the last event */
	void (*fail)(void *user, const struct bb_error *err, struct buf *out); /* instead */
	void (*idle)(void *user, struct buf *out); /* for a while there was nothing to tell */
};
/* What a listener may say while nothing comes: a comment, which keeps the connection open. */
void turn_idle(void *user, struct buf *out);
/* Waits for all events. False: replied. */
bool turn_take_all(struct turn *t, const struct turn_listener *l, void *user);
/* Waits for events until there is something to tell. False: there will be no more. */
bool turn_tell(struct turn *t, const struct turn_listener *l, void *user, struct buf *out);
/* Between steps of the engine's thread, and when there will be none: a request's last event comes
 * before the engine is done with the grammar that it borrowed. */
void turn_free_ended(struct server *s);
/* Cancels what hasn't ended. The rest of the events goes unseen. */
void turn_end(struct turn *t);

#endif
