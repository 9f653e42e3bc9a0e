/* SPDX-License-Identifier: Apache-2.0
 *
 * Which of its stop strings ended an answer. The engine cuts a text before the string and doesn't
 * say, so the last bytes of the tokens are kept, stop strings and all. */
#ifndef STOPS_H
#define STOPS_H

#include "asked.h"

struct stops { /* the request's own are gone when the answer ends */
	char *v[ASKED_STOPS]; /* [n], own */
	int n;
	size_t tail_bytes;    /* that may matter: of the longest, and of the token that ends with it */
};
/* False: there was no memory. */
bool stops_copy(struct stops *s, const struct bb_generation_params *g);
void stops_finish(struct stops *s);
/* The bytes of one more token of an answer. */
void stops_add(const struct stops *s, const struct bb_engine *e, int32_t id, struct buf *tail);
/* Of an answer that has ended, with the token last_id: the string, or NULL. */
const char *stops_found(const struct stops *s, const struct bb_engine *e, enum bb_finish finish,
	int32_t last_id, const struct buf *tail);
/* The same as vLLM says it: the string, the one of the ids, or null. */
json_t *stops_reason(const struct stops *s, const struct bb_engine *e, const struct bb_tokens *ids,
	enum bb_finish finish, int32_t last_id, const struct buf *tail);

#endif
