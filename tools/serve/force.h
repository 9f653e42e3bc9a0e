/* SPDX-License-Identifier: Apache-2.0
 *
 * Answers that must be a call of a tool: what the prompt ends with, what the text must be, and what
 * ends it. */
#ifndef FORCE_H
#define FORCE_H

#include "messages.h"

/* Fills forced, closing and grammar of a conversation whose choice is TOOLS_REQUIRED. */
void force_call(const struct exchange *x, struct conversation *c);

#endif
