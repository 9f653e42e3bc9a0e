/* SPDX-License-Identifier: Apache-2.0
 *
 * Prompts continued as other servers' own endpoints do it: what both of them share. An endpoint
 * says its request in our fields, and how an answer looks. */
#ifndef PEERS_H
#define PEERS_H

#include "asked.h"
#include "stops.h"
#include "turn.h"

struct peer_answer { /* one of n for each prompt */
	struct buf text, tail;  /* tail: for stops */
	json_t *ids, *entries;  /* of all tokens; {token, logprob, bytes, top_logprobs} each, or NULL */
	size_t text_told, ids_told; /* what a stream has given out */
	int32_t last_id;
	bool has_ended;
	enum bb_finish finish;
};

struct peer_job;
struct peer_shape {
	/* Of an answer that goes on, with what is new, or has ended. */
	json_t *(*object)(const struct peer_job *j, int i);
	bool ends_with_done;    /* the stream, as OpenAI's do */
	bool tells_tokens_text; /* beside log-probabilities, where object has a choice */
};

struct peer_job {
	struct exchange *x;
	const struct peer_shape *shape;
	struct asked asked;
	int n_top;                  /* log-probabilities of so many; -1: none */
	bool is_list;               /* several prompts were asked for, be it one */
	int n_prompts;
	struct bb_tokens *prompts;  /* [n_prompts] */
	struct bb_usage *usages;    /* [n_prompts], once they have ended */
	struct peer_answer *answers; /* [n_prompts, n] */
	struct stops stops;
	struct turn *turn;
	char id[48];
};

/* Answers `in`, whose fields are ours: `prompt` beside those of asked_read. max_tokens < 0: as many
 * as there is room for; gives_way: fewer where there is less room. Takes in, which becomes x->in;
 * NULL: there was no memory. */
void peer_run(struct exchange *x, json_t *in, const struct peer_shape *shape, int max_tokens,
	bool gives_way, int n_top);
/* The stop string that ended an answer, or NULL. */
const char *peer_stop(const struct peer_job *j, int i);
/* Adds what was decided about an answer that has ended, if there was anything. */
void peer_decisions(const struct peer_job *j, int i, json_t *object);

#endif
