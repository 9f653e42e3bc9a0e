/* SPDX-License-Identifier: Apache-2.0
 *
 * Reading requests of Anthropic's messages API. */
#ifndef ANTHROPIC_H
#define ANTHROPIC_H

#include "exchange.h"

/* Makes x->in a chat completion that asks for the same. needs_length: max_tokens must be there.
 * *shows_thinking: the client wants to see it. False: replied. */
bool anthropic_read(struct exchange *x, bool needs_length, bool *shows_thinking);

#endif
