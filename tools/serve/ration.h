/* SPDX-License-Identifier: Apache-2.0
 *
 * What requests and answers in the making hold, in sum: bodies, JSON, texts, and the events that
 * wait for a slow reader. Each connection has a thread, and may always have a part of its own; what
 * goes beyond comes from a pool for all. Whoever finds it empty is refused, and whoever asks for
 * little never has to look. */
#ifndef RATION_H
#define RATION_H

#include "bobbin.h"

#include <stdbool.h>
#include <stddef.h>

/* Before there are threads: so many bytes for so many connections, half of them as the pool, a
 * quarter as parts, a quarter for events. jansson's memory counts from now on. */
void ration_limit(size_t bytes, int connections);
/* Events of one request may hold so much. */
size_t ration_of_events(void);

/* This thread is about to have so many bytes; false: it can't, and what it makes is incomplete. */
bool ration_take(size_t bytes);
void ration_give(size_t bytes);
/* This thread couldn't have something, by its ration or since there is no memory at all: what it
 * makes has a gap, and is no answer. Where a ration was short a few more bytes are left to say
 * so. */
void ration_lose(void);
/* The same, if that is what went wrong. */
void ration_lose_by(const struct bb_error *err);
bool ration_has_gap(void);
bool ration_is_short(void);
#define RATION_LOST "no memory for this request"
#define RATION_SHORT "no memory for this request: all that are in the making hold as much as " \
	"--request-memory-bytes allows"
/* One of them, as it is. */
const char *ration_why(void);
/* This thread's exchange is over, and all that it held is free. */
void ration_forget(void);
/* Of the pool, in use. */
size_t ration_pooled(void);
/* What json_dumps has given. */
void ration_free_text(char *text);

#endif
