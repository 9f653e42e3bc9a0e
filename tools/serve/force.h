/* SPDX-License-Identifier: Apache-2.0
 *
 * Answers that must be a call of a tool: what the prompt ends with, what the text must be, and what
 * ends it. */
#ifndef FORCE_H
#define FORCE_H

#include "messages.h"

/* Fills forced, closing and grammar of a conversation whose choice is TOOLS_REQUIRED. False:
 * replied, a schema can't be enforced. */
bool force_call(struct exchange *x, struct conversation *c);

#endif
