/* SPDX-License-Identifier: Apache-2.0
 *
 * Calls of tools: answers that must be one, what the prompt ends with, what the text must be, and
 * what ends it; answers that may have some, which follow the tools' schemas. */
#ifndef FORCE_H
#define FORCE_H

#include "messages.h"

/* Fills forced, closing and grammar of a conversation whose choice is TOOLS_REQUIRED. False:
 * replied, a schema can't be enforced. */
bool force_call(struct exchange *x, struct conversation *c);
/* Fills the grammar of one whose choice is TOOLS_AUTO where a tool is strict, or where what isn't a
 * call must follow a schema, else NULL. False: replied, as above. */
bool force_strict(struct exchange *x, struct conversation *c, const json_t *schema);

#endif
